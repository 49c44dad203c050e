// SPDX-License-Identifier: GPL-2.0
/* UDP transport: receiving from a socket that was taken over. */

#include <linux/net.h>
#include <linux/udp.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>

#include "compat.h"
#include "internal.h"

/* Bytes behind the UDP header that the first look at a datagram needs. */
#define OVPN_LOOK_LEN	OVPN_AAD_LEN

/* 0: consumed. 1: hand it to userspace, as UDP does without us. */
static int udp_rcv_one(struct ovpn_sock *os, struct sk_buff *skb)
{
	u32 len = skb->len - sizeof(struct udphdr);
	u32 look = min_t(u32, len, OVPN_LOOK_LEN);

	if (unlikely(!pskb_may_pull(skb, sizeof(struct udphdr) + look))) {
		ovpn_netdev_drop(os->dev, OVPN_DROP_RX,
				 OVPN_DROP_RX_NO_MEMORY, 1);
		kfree_skb(skb);
		return 0;
	}
	if (likely(look >= OVPN_OP_LEN &&
		   skb->data[sizeof(struct udphdr)] >> 3 == OVPN_OPCODE_DATA)) {
		struct sk_buff_head one;

		__skb_queue_head_init(&one);
		__skb_queue_tail(&one, skb);
		if (likely(ovpn_cells_queue(os, &one)))
			return 0;
		__skb_unlink(skb, &one);
	}
	return ovpn_rs_udp_rx(os->dev->rs, os, skb,
			      skb->data + sizeof(struct udphdr), look, len);
}

/* Take data packets that came as one. */
static void udp_rcv_list(struct ovpn_sock *os, struct sk_buff *skb)
{
	struct sk_buff_head list;
	u32 lost;

	__skb_queue_head_init(&list);
	lost = ovpn_gro_unroll(skb, &list);
	if (unlikely(lost))
		ovpn_netdev_drop(os->dev, OVPN_DROP_RX,
				 OVPN_DROP_RX_NO_MEMORY, lost);
	if (likely(!skb_queue_empty(&list) && ovpn_cells_queue(os, &list)))
		return;
	while ((skb = __skb_dequeue(&list)))
		if (udp_rcv_one(os, skb))
			kfree_skb(skb);
}

static int ovpn_udp_rcv(struct sock *sk, struct sk_buff *skb)
{
	bool list = ovpn_gro_is_list(skb);
	struct ovpn_sock *os;

	/* Under RCU, as all of receive. The socket may be in other hands since
	 * UDP read our pointer from it.
	 */
	if (unlikely(READ_ONCE(udp_sk(sk)->encap_type) != UDP_ENCAP_OVPNINUDP))
		goto others;
	os = rcu_dereference_sk_user_data(sk);
	if (unlikely(!os || os->sk != sk))
		goto others;
	if (!list)
		return udp_rcv_one(os, skb);
	udp_rcv_list(os, skb);
	return 0;
others:
	/* A list is no datagram that userspace could read. */
	if (!list)
		return 1;
	kfree_skb(skb);
	return 0;
}

/* Process context, after the last descriptor of the socket was closed. */
static void ovpn_udp_destroy(struct sock *sk)
{
	struct ovpn_sock *os = ovpn_sock_find(sk);

	if (!os)
		return;
	/* Before UDP forgets the pointer, too. */
	ovpn_gro_stop(sk);
	WRITE_ONCE(os->end, OVPN_END_CLOSED);
	ovpn_rs_sock_gone(os->dev->rs, os);
	ovpn_sock_put(os);
}

int ovpn_udp_attach(struct ovpn_sock *os, struct socket *sock)
{
	struct udp_tunnel_sock_cfg cfg = {
		.sk_user_data = os,
		.encap_type = UDP_ENCAP_OVPNINUDP,
		.encap_rcv = ovpn_udp_rcv,
		.encap_destroy = ovpn_udp_destroy,
		.gro_receive = ovpn_gro_receive,
	};
	int ret = ovpn_xmit_get(sock_net(os->sk));

	if (ret)
		return ret;
	ovpn_compat_udp_setup(sock_net(os->sk), sock, &cfg);
	udp_allow_gso(os->sk);
	return 0;
}

/* Undo what setup_udp_tunnel_sock() did, so that userspace has a plain socket
 * again.
 */
void ovpn_udp_detach(struct ovpn_sock *os)
{
	struct sock *sk = os->sk;

	ovpn_gro_stop(sk);
	inet_set_bit(MC_LOOP, sk);
	inet_dec_convert_csum(sk);
	WRITE_ONCE(udp_sk(sk)->encap_type, 0);
	WRITE_ONCE(udp_sk(sk)->encap_rcv, NULL);
	WRITE_ONCE(udp_sk(sk)->encap_destroy, NULL);
	rcu_assign_sk_user_data(sk, NULL);
	ovpn_xmit_put(sock_net(sk));
}
