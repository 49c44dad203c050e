/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the C files alone. */
#ifndef OVPN_INTERNAL_H
#define OVPN_INTERNAL_H

#include <linux/in6.h>
#include <linux/netdevice.h>
#include <linux/scatterlist.h>
#include <linux/skbuff.h>
#include <linux/unaligned.h>
#include <linux/workqueue.h>
#include <net/inet_ecn.h>

#include "rust.h"
#include "shim.h"

/* Data packet version 2: opcode, key id and peer id; packet id; tag. */
#define OVPN_OP_LEN	4
#define OVPN_AAD_LEN	8
#define OVPN_TAG_LEN	16
#define OVPN_HEAD_LEN	(OVPN_AAD_LEN + OVPN_TAG_LEN)

/* UAPI of the link kind (include/uapi/linux/if_link.h from 6.16 on). */
#define OVPN_MODE_P2P	0
#define OVPN_MODE_MP	1

/* Outer headers of the largest transport, and our own: 84 bytes of outer
 * IPv6, UDP and OpenVPN header, rounded as the mainline driver announces it.
 */
#define OVPN_HEADROOM	84

/* Whose end takes the interface along; see hold.c. */
struct ovpn_hold {
	/* Empty when no process holds the interface. */
	struct list_head list;
	struct net *net;
	u32 portid;
	/* The holder has gone. */
	bool released;
	/* The interface is going, and takes no holder any more. */
	bool closed;
};

/* Where an interface is configured from; see home.c. */
struct ovpn_home {
	struct list_head list;
	/* The namespace's, which no other ever has. */
	u64 cookie;
	u32 ifindex;
};

struct ovpn_cell;

/* The driver's part of a net_device. */
struct ovpn_dev {
	struct net_device *net;
	/* From ovpn_rs_dev_new(); lives until the net_device is freed. */
	void *rs;
	u8 mode;
	/* Lives as long, too; see cells.c. */
	struct ovpn_cell __percpu *cells;
	u32 cell_bytes;
	/* CPU whose cell has a peer's datagrams, by the low bits of its id. */
	u16 cell_cpu[64];
	struct delayed_work tick;
	/* Sends notifications that wait, and when it last ran, in jiffies. */
	struct delayed_work tell;
	unsigned long told;
	struct ovpn_drops __percpu *drops;
	/* Next hops that packets asked for; of an MP interface, under RCU. */
	struct ovpn_hops *hops;
	/* Private flags "mss-clamp", "udp-gso" and "rx-spread" of ethtool. */
	bool mss_clamp;
	bool udp_gso;
	bool rx_spread;
	struct ovpn_hold hold;
	struct ovpn_home home;
};

/* Packets lost on one CPU, by reason, and datagrams that came to it and were
 * opened by another.
 */
struct ovpn_drops {
	u32 count[OVPN_DROP_SLOTS];
	u32 spread;
};

struct aead_request;
struct ovpn_tcp;

/* A transport socket that a device has taken over. Freed after a grace period
 * behind the last reference, so that a packet that found it may go on using it.
 */
struct ovpn_sock {
	struct sock *sk;
	struct ovpn_dev *dev;
	netdevice_tracker tracker;
	/* Peers that use it; the last takes it out of sk_user_data. Under the
	 * socket lock.
	 */
	u32 users;
	/* All users together hold one. */
	refcount_t refs;
	/* enum ovpn_end. Set before the peers that use the socket are deleted,
	 * for those that are still on their way into the table.
	 */
	u8 end;
	/* NULL for UDP. */
	struct ovpn_tcp *tcp;
	struct rcu_work free_work;
};

/* sock.c. The object behind a socket, with a reference, or NULL. */
struct ovpn_sock *ovpn_sock_find(struct sock *sk);
void ovpn_sock_put(struct ovpn_sock *os);

/* udp.c, tcp.c. Attaching and detaching happen under the socket lock. */
int ovpn_udp_attach(struct ovpn_sock *os, struct socket *sock);
void ovpn_udp_detach(struct ovpn_sock *os);
int ovpn_tcp_attach(struct ovpn_sock *os, struct socket *sock, u32 peer_id);
void ovpn_tcp_detach(struct ovpn_sock *os);
void ovpn_tcp_free(struct ovpn_tcp *tcp);
/* As ovpn_sock_send(). */
void ovpn_tcp_send(struct ovpn_sock *os, struct ovpn_batch *batch);

/* Type of the packets that stand for many, in a list; see gro.c. */
#define OVPN_GSO_LIST	(SKB_GSO_UDP_L4 | SKB_GSO_FRAGLIST | SKB_GSO_UDP_TUNNEL)

/* gro.c. [bottom halves off] GRO's look at a datagram for a socket of ours. */
struct sk_buff *ovpn_gro_receive(struct sock *sk, struct list_head *head,
				 struct sk_buff *skb);
/* [any] Whether a received packet is such a list. */
bool ovpn_gro_is_list(const struct sk_buff *skb);
/* [any] Puts the datagrams of a list behind each other, and says how many were
 * lost for want of memory. The first word of each is in the linear area.
 */
u32 ovpn_gro_unroll(struct sk_buff *head, struct sk_buff_head *list);
/* [sleep] Undo what setup_udp_tunnel_sock() did with the pointer; more than once,
 * if need be.
 */
void ovpn_gro_stop(struct sock *sk);

/* xmit.c. [any, bottom halves off or on] As ovpn_sock_send(). */
int ovpn_udp_send(struct ovpn_dev *dev, struct ovpn_sock *os,
		  struct ovpn_path *path, struct ovpn_batch *batch);
/* [sleep] Of the namespace of each UDP socket: watch what netfilter does to the
 * packets sent as one.
 */
int ovpn_xmit_get(struct net *net);
void ovpn_xmit_put(struct net *net);

/* path.c. The socket's part in the choice of a route. */
struct ovpn_route_key {
	u32 mark;
	int oif;
	__be16 sport;
};

/* A route to the remote end, and the local address that packets leave from. */
struct ovpn_route {
	struct dst_entry *dst;
	union {
		__be32 saddr4;
		struct in6_addr saddr6;
	};
};

/* Both ends of the path and the socket's key; the result goes to
 * ovpn_path_route().
 */
unsigned int ovpn_path_begin(struct ovpn_path *path, const struct sock *sk,
			     struct ovpn_endpoint *ends,
			     struct ovpn_route_key *key);
/* [bottom halves off] The route to the remote end, with a reference. */
int ovpn_path_route(struct ovpn_dev *dev, struct sock *sk,
		    struct ovpn_path *path, const struct ovpn_endpoint *ends,
		    const struct ovpn_route_key *key, unsigned int seq,
		    struct ovpn_route *route);
/* Bytes of the largest inner packet that need not be fragmented, as of the last
 * look at the route.
 */
u32 ovpn_path_room(const struct ovpn_path *path);
/* Whether outer packets must not be fragmented on any hop: OpenVPN's --mtu-disc
 * yes.
 */
bool ovpn_keep_whole(const struct sock *sk, bool v4);

/* route.c. Under RTNL, when an interface has come to a network namespace, and
 * before it leaves one: it takes no route along.
 */
void ovpn_hops_open(struct ovpn_dev *dev);
void ovpn_hops_close(struct ovpn_dev *dev);

/* home.c. The namespace of those who configure an interface, and its index there:
 * where it was made, then where the last PEER_NEW came from. It stays when the
 * interface moves, and so does their socket.
 */
void ovpn_home_init(struct ovpn_dev *dev);
void ovpn_home_set(struct ovpn_dev *dev, const struct net *net, u32 ifindex);
/* Under RTNL, when the interface goes. */
void ovpn_home_close(struct ovpn_dev *dev);
/* An interface that has moved away, by the index that it had in net; NULL when
 * there is none, or more than one.
 */
struct net_device *ovpn_home_find(const struct net *net, u32 ifindex,
				  netdevice_tracker *tracker);
/* [any] By which index net knows the interface. */
u32 ovpn_home_ifindex(const struct ovpn_dev *dev, const struct net *net);
int ovpn_homes_start(void);
void ovpn_homes_stop(void);

/* aead.c. A request for one contiguous packet, header first, of which len bytes
 * are text; the parts of the request that must live as long as it.
 */
struct ovpn_aead_part {
	u8 iv[12];
	struct scatterlist sg[3];
};
void ovpn_aead_prepare(struct ovpn_aead *aead, struct aead_request *req,
		       struct ovpn_aead_part *part, const u8 tail[8], u8 *head,
		       u32 len, bool encrypt);
unsigned int ovpn_aead_reqsize(const struct ovpn_aead *aead);

/* Workqueue of everything that the module defers. */
extern struct workqueue_struct *ovpn_wq;

static inline struct ovpn_pkt *ovpn_pkt(struct sk_buff *skb)
{
	return (struct ovpn_pkt *)skb->cb;
}

static inline struct sk_buff *ovpn_pkt_skb(struct ovpn_pkt *pkt)
{
	return container_of((void *)pkt, struct sk_buff, cb);
}

/* Append a packet whose data is contiguous. */
static inline void ovpn_batch_add(struct ovpn_batch *batch, struct sk_buff *skb)
{
	struct ovpn_pkt *pkt = ovpn_pkt(skb);

	*pkt = (struct ovpn_pkt) { .data = skb->data, .len = skb->len };
	if (batch->tail)
		batch->tail->next = pkt;
	else
		batch->head = pkt;
	batch->tail = pkt;
	batch->count++;
	batch->bytes += skb->len;
}

/* The two ECN bits of a packet's IP header, which is in the linear area; 0 for
 * anything else.
 */
static inline u8 ovpn_ecn_of(const struct sk_buff *skb)
{
	switch (skb->protocol) {
	case htons(ETH_P_IP):
		return ip_hdr(skb)->tos & INET_ECN_MASK;
	case htons(ETH_P_IPV6):
		return ipv6_get_dsfield(ipv6_hdr(skb)) & INET_ECN_MASK;
	}
	return INET_ECN_NOT_ECT;
}

/* Open a header of size bytes in front of an outgoing packet and fill in what
 * stands before the tag. Returns the packet's new first byte.
 */
static inline u8 *ovpn_pkt_head(struct ovpn_pkt *pkt, u32 op, u32 id, u16 size)
{
	struct sk_buff *skb = ovpn_pkt_skb(pkt);
	u8 *head = __skb_push(skb, size);

	put_unaligned_be32(op, head);
	put_unaligned_be32(id, head + OVPN_OP_LEN);
	pkt->data = head;
	pkt->len = skb->len;
	pkt->head = size;
	pkt->id = id;
	return head;
}

/* Take the header off an opened packet. */
static inline void ovpn_pkt_strip(struct ovpn_batch *batch, struct ovpn_pkt *pkt,
				  u16 size)
{
	struct sk_buff *skb = ovpn_pkt_skb(pkt);

	pkt->data = __skb_pull(skb, size);
	pkt->len = skb->len;
	batch->bytes -= size;
}

static inline struct ovpn_dev *ovpn_of(struct net_device *net)
{
	return netdev_priv(net);
}

/* hold.c. Ties an interface to a netlink socket: -EBUSY when another has it,
 * -ENODEV when it is going.
 */
int ovpn_hold(struct ovpn_dev *dev, struct net *net, u32 portid);
void ovpn_hold_init(struct ovpn_dev *dev);
/* Under RTNL, when the interface goes. */
void ovpn_hold_close(struct ovpn_dev *dev);
int ovpn_holds_start(void);
void ovpn_holds_stop(void);

/* cells.c. [any, bottom halves off] The queues of the way in, one pair per CPU.
 * Memory is freed with the interface.
 */
int ovpn_cells_start(struct ovpn_dev *dev);
/* [sleep] No packet is on its way into the cells any more. */
void ovpn_cells_stop(struct ovpn_dev *dev);
/* [rcu] Takes datagrams that the socket received, one at least, UDP headers in
 * front, that begin with the same first word of a data packet in the linear area;
 * false, and untouched, when they must be looked at right away.
 */
bool ovpn_cells_queue(struct ovpn_sock *os, struct sk_buff_head *list);
/* [sleep] Drop what the socket received, a grace period after it received its
 * last.
 */
void ovpn_cells_forget(struct ovpn_sock *os);
/* load.c. [any, bottom halves off] The CPU that is to open a peer's packets, which
 * come to this one; last did so before.
 */
int ovpn_load_pick(int last);
/* Whether a few batches of opened packets fit. */
bool ovpn_cells_have_room(const struct ovpn_dev *dev);

bool ovpn_netdev_is_ours(const struct net_device *net);

#endif /* OVPN_INTERNAL_H */
