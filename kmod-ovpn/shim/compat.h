/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The only C file that asks for the kernel's version. Each entry names the
 * release that changed the interface.
 */
#ifndef OVPN_COMPAT_H
#define OVPN_COMPAT_H

#include <crypto/chacha.h>
#include <linux/version.h>
#include <net/rtnetlink.h>
#include <net/udp_tunnel.h>

/* 6.16: number reserved for the mainline driver; nothing else used it before. */
#ifndef UDP_ENCAP_OVPNINUDP
#define UDP_ENCAP_OVPNINUDP 8
#endif

/* 6.16: udp_tunnel{,6}_xmit_skb() take the flags for IPCB/IP6CB. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#define OVPN_TUNNEL_FLAGS , 0
#else
#define OVPN_TUNNEL_FLAGS
#endif

/* 7.2 (or before): setup_udp_tunnel_sock() takes the sock, not the socket. */
static inline void ovpn_compat_udp_setup(struct net *net, struct socket *sock,
					 struct udp_tunnel_sock_cfg *cfg)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
	setup_udp_tunnel_sock(net, sock->sk, cfg);
#else
	setup_udp_tunnel_sock(net, sock, cfg);
#endif
}

/* 6.16: UDP counts the functions that do GRO for tunnels. */
static inline void ovpn_compat_udp_gro_stop(struct sock *sk)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	udp_tunnel_cleanup_gro(sk);
#endif
}

/* 6.15: newlink gets its parameters in one struct. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define OVPN_NEWLINK(name)						\
	static int name(struct net_device *net,				\
			struct rtnl_newlink_params *params,		\
			struct netlink_ext_ack *extack)
#define OVPN_NEWLINK_DATA	(params->data)
#else
#define OVPN_NEWLINK(name)						\
	static int name(struct net *src, struct net_device *net,	\
			struct nlattr *tb[], struct nlattr *data[],	\
			struct netlink_ext_ack *extack)
#define OVPN_NEWLINK_DATA	data
#endif

/* 6.16: the ChaCha state became a struct. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
typedef struct chacha_state ovpn_chacha_state;
#define OVPN_CHACHA(state)	(&(state))
#else
typedef u32 ovpn_chacha_state[CHACHA_STATE_WORDS];
#define OVPN_CHACHA(state)	(state)
#endif

/* 7.1 (or before): proto->recvmsg lost the address length. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define OVPN_RECVMSG(name)						\
	static int name(struct sock *sk, struct msghdr *msg, size_t len,	\
			int flags)
#define OVPN_RECVMSG_REST
#else
#define OVPN_RECVMSG(name)						\
	static int name(struct sock *sk, struct msghdr *msg, size_t len,	\
			int flags, int *addr_len)
#define OVPN_RECVMSG_REST , addr_len
#endif

/* 6.17: workqueues say that they are per CPU; before, that was the default. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define WQ_PERCPU 0
#endif

/* 7.0, 6.12.107 (or before): skb_segment_list() leaves the charge of a GSO
 * packet's members with its head, where it was moved to; before, it took the
 * members' truesize off the head, whose socket then never got it back.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0) ||	\
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 107) &&	\
	 LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0))
#define OVPN_LIST_KEEPS_CHARGE	true
#else
#define OVPN_LIST_KEEPS_CHARGE	false
#endif

#endif /* OVPN_COMPAT_H */
