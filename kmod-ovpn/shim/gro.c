// SPDX-License-Identifier: GPL-2.0
/*
 * Many datagrams as one, up to the transport socket. GRO hangs the data packets
 * of one peer and key that a link receives in a row behind the first, so that
 * the IP layer, netfilter and UDP see one packet where they saw dozens. A list
 * that a peer on the same machine sent (xmit.c) comes the same way. Nothing is
 * copied, and each datagram keeps its headers.
 *
 * The socket that GRO finds need not be the one that gets the packet: a rule may
 * have it forwarded. So the list has the type of the kernel's own lists, which
 * the kernel can take apart again anywhere (__udp_gso_segment_list). The bit of
 * a tunnel, which says nothing without skb->encapsulation, is there for
 * udp_unexpected_gso(), which has every list without it taken apart.
 */

#include <linux/inetdevice.h>
#include <linux/mutex.h>
#include <linux/stop_machine.h>
#include <linux/udp.h>
#include <net/addrconf.h>
#include <net/gro.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/udp.h>

#include "compat.h"
#include "internal.h"

/* As many as the kernel's own GRO of UDP makes one of. */
#define GRO_MAX		64

/* First word of a data packet that says by itself whose it is. */
static bool gro_is_data(u32 op)
{
	return op >> 27 == OVPN_OPCODE_DATA &&
	       (op & OVPN_PEER_ID_NONE) != OVPN_PEER_ID_NONE;
}

/* Whether the IP headers say the same of both, but for length and identification. */
static bool gro_same_network(const struct sk_buff *p, const struct sk_buff *skb)
{
	const void *a = p->data + NAPI_GRO_CB(p)->network_offset;
	const void *b = skb->data + NAPI_GRO_CB(skb)->network_offset;

	/* Class of traffic, time to live and flow label: a rule may change them
	 * in the first packet for all.
	 */
	if (p->protocol == htons(ETH_P_IP)) {
		const struct iphdr *x = a, *y = b;

		return x->tos == y->tos && x->ttl == y->ttl;
	}
	return *(const __be32 *)a == *(const __be32 *)b &&
	       ((const struct ipv6hdr *)a)->hop_limit ==
	       ((const struct ipv6hdr *)b)->hop_limit;
}

/* Whether a packet is for this host, as far as can be told before it is routed. */
static bool gro_is_local(const struct sk_buff *skb)
{
	const void *network = skb->data + NAPI_GRO_CB(skb)->network_offset;
	struct net *net = dev_net(skb->dev);

	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *iph = network;

		return __ip_dev_find(net, iph->daddr, false);
	}
#if IS_ENABLED(CONFIG_IPV6)
	return ipv6_chk_addr(net, &((const struct ipv6hdr *)network)->daddr,
			     NULL, 0);
#else
	return false;
#endif
}

/* Hang skb behind p; off is where its UDP payload begins. */
static void gro_append(struct sk_buff *p, struct sk_buff *skb, unsigned int off)
{
	/* GRO has seen to it that one socket sent both, if it was one of ours:
	 * the first takes over its charge.
	 */
	if (p->destructor && p->destructor == skb->destructor) {
		skb->destructor = NULL;
		skb->sk = NULL;
	}
	skb_orphan(skb);
	skb_set_network_header(skb, NAPI_GRO_CB(skb)->network_offset);
	skb_set_transport_header(skb, off - sizeof(struct udphdr));
	__skb_pull(skb, off);

	if (NAPI_GRO_CB(p)->last == p)
		skb_shinfo(p)->frag_list = skb;
	else
		NAPI_GRO_CB(p)->last->next = skb;
	NAPI_GRO_CB(p)->last = skb;
	NAPI_GRO_CB(p)->count++;
	p->len += skb->len;
	p->data_len += skb->len;
	p->truesize += skb->truesize;
	skb_shinfo(p)->flags |= skb_shinfo(skb)->flags & SKBFL_SHARED_FRAG;
	/* GRO adds the other bits when the list is complete. */
	skb_shinfo(p)->gso_type = SKB_GSO_UDP_TUNNEL;
	NAPI_GRO_CB(skb)->same_flow = 1;
}

struct sk_buff *ovpn_gro_receive(struct sock *sk, struct list_head *head,
				 struct sk_buff *skb)
{
	unsigned int off = skb_gro_offset(skb), len = skb_gro_len(skb);
	const struct udphdr *uh;
	struct sk_buff *p;
	u32 op = 0;

	/* All that is looked at here and in the queue, in the linear area. */
	if (len > OVPN_OP_LEN && !skb->encapsulation && !NAPI_GRO_CB(skb)->flush &&
	    pskb_may_pull(skb, off + OVPN_OP_LEN))
		op = get_unaligned_be32(skb->data + off);
	if (!gro_is_data(op)) {
		NAPI_GRO_CB(skb)->flush = 1;
	} else {
		uh = (const struct udphdr *)(skb->data + off) - 1;
		/* Neither padding behind the datagram nor half of one. */
		if (ntohs(uh->len) != len + sizeof(*uh))
			NAPI_GRO_CB(skb)->flush = 1;
	}
	/* UDP has looked at the checksum. That of the link covers one datagram. */
	if (skb->ip_summed == CHECKSUM_COMPLETE) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		skb->csum_level = 0;
	}
	/* A list, and no tunnel's packet with one of another inside. */
	NAPI_GRO_CB(skb)->encap_mark = 0;
	NAPI_GRO_CB(skb)->is_flist = 1;

	list_for_each_entry(p, head, list) {
		if (!NAPI_GRO_CB(p)->same_flow)
			continue;
		/* Those that wait leave before one that cannot join them. */
		if (NAPI_GRO_CB(skb)->flush || !NAPI_GRO_CB(p)->is_flist ||
		    get_unaligned_be32(p->data + off) != op ||
		    len > skb_shinfo(p)->gso_size ||
		    p->len + len >= GRO_LEGACY_MAX_SIZE ||
		    p->ip_summed != skb->ip_summed ||
		    p->csum_level != skb->csum_level ||
		    !gro_same_network(p, skb))
			return p;
		gro_append(p, skb, off);
		/* Only the last of a list may be shorter. */
		if (len < skb_shinfo(p)->gso_size ||
		    NAPI_GRO_CB(p)->count >= GRO_MAX)
			return p;
		return NULL;
	}
	/* The members of a list keep their time to live where it is forwarded. */
	if (!NAPI_GRO_CB(skb)->flush && !gro_is_local(skb))
		NAPI_GRO_CB(skb)->flush = 1;
	return NULL;
}

bool ovpn_gro_is_list(const struct sk_buff *skb)
{
	return unlikely(skb_is_gso(skb)) && skb_has_frag_list(skb) &&
	       (skb_shinfo(skb)->gso_type & OVPN_GSO_LIST) == OVPN_GSO_LIST;
}

/* Give a datagram the addresses and ports of the first: NAT changes no others. */
static void gro_same_ends(const struct sk_buff *head, struct sk_buff *skb)
{
	const struct udphdr *from = udp_hdr(head);
	struct udphdr *to = udp_hdr(skb);

	to->source = from->source;
	to->dest = from->dest;
	if (head->protocol == htons(ETH_P_IP)) {
		/* Source and destination, one behind the other. */
		memcpy(&ip_hdr(skb)->saddr, &ip_hdr(head)->saddr,
		       2 * sizeof(__be32));
		ip_hdr(skb)->tos = ip_hdr(head)->tos;
	} else {
		memcpy(&ipv6_hdr(skb)->saddr, &ipv6_hdr(head)->saddr,
		       2 * sizeof(struct in6_addr));
	}
}

/* Make a member of a list a datagram like any other, its UDP header in front.
 * NULL, and the member freed, when memory runs out.
 */
static struct sk_buff *gro_single(const struct sk_buff *head,
				  struct sk_buff *skb)
{
	/* A clone of the list has the same members. */
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (unlikely(!skb))
		return NULL;
	skb_mark_not_on_list(skb);
	__skb_push(skb, sizeof(struct udphdr));
	if (unlikely(skb_unclone(skb, GFP_ATOMIC) ||
		     !pskb_may_pull(skb, sizeof(struct udphdr) + OVPN_OP_LEN))) {
		kfree_skb(skb);
		return NULL;
	}
	gro_same_ends(head, skb);
	return skb;
}

u32 ovpn_gro_unroll(struct sk_buff *head, struct sk_buff_head *list)
{
	u32 count = skb_shinfo(head)->gso_segs, bytes = 0, memory = 0;
	struct sk_buff *skb, *next;

	/* One who watches the link has a clone, with the same list. */
	if (unlikely(skb_unclone(head, GFP_ATOMIC))) {
		kfree_skb(head);
		return count;
	}
	skb_orphan(head);
	next = skb_shinfo(head)->frag_list;
	skb_shinfo(head)->frag_list = NULL;
	skb_gso_reset(head);
	__skb_queue_tail(list, head);
	while ((skb = next)) {
		next = skb->next;
		bytes += skb->len;
		memory += skb->truesize;
		skb = gro_single(head, skb);
		if (likely(skb))
			__skb_queue_tail(list, skb);
	}
	head->len -= bytes;
	head->data_len -= bytes;
	/* Unless the members answered for their memory themselves. */
	if (head->truesize > memory)
		head->truesize -= memory;
	return count - skb_queue_len(list);
}

/* --- the socket's part ------------------------------------------------------------ */

/* Guards the pointer of a socket against a second call. */
static DEFINE_MUTEX(gro_lock);

/* UDP looks at the pointer twice for a packet, without a second thought, and with
 * bottom halves off: no CPU is between the two looks while all are stopped.
 */
static int gro_forget(void *sk)
{
	WRITE_ONCE(udp_sk((struct sock *)sk)->gro_receive, NULL);
	return 0;
}

void ovpn_gro_stop(struct sock *sk)
{
	mutex_lock(&gro_lock);
	if (udp_sk(sk)->gro_receive == ovpn_gro_receive) {
		udp_clear_bit(ACCEPT_FRAGLIST, sk);
		if (!udp_test_bit(GRO_ENABLED, sk))
			udp_clear_bit(ACCEPT_L4, sk);
		ovpn_compat_udp_gro_stop(sk);
		stop_machine(gro_forget, sk, NULL);
	}
	mutex_unlock(&gro_lock);
}
