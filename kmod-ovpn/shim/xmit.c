// SPDX-License-Identifier: GPL-2.0
/*
 * Sending by UDP. A packet leaves alone, or the packets that were cut from one
 * super-packet leave as one UDP GSO packet, so that routing, netfilter and the
 * queueing discipline see one where they saw dozens. They hang in the frag_list
 * of the first, each with its own headers and not copied; a link that does not
 * take them so has the kernel take them apart again (__udp_gso_segment_list).
 */

#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>

#include "compat.h"
#include "internal.h"

/* Tunnels in tunnels from which on packets leave one by one: those functions of
 * the kernel end what is endless.
 */
#define OVPN_DEPTH	2

/* Values that the packets of a batch have in common. */
struct ovpn_out {
	struct ovpn_dev *dev;
	struct sock *sk;
	struct ovpn_endpoint ends;
	struct ovpn_route_key key;
	struct ovpn_route route;
	/* Bytes of the longest OpenVPN packet that need not be fragmented. */
	u32 limit;
	bool v4;
	/* To another namespace than the inner packets'. */
	bool away;
	/* Never to be fragmented. */
	bool whole;
	/* Without a UDP checksum. */
	bool no_sum;
	/* The route's device makes the checksum. */
	bool sums;
};

/* --- one by one ---------------------------------------------------------------- */

/* Send one packet; consumes it and a reference to the route. */
static void out_one(const struct ovpn_out *out, struct ovpn_pkt *pkt)
{
	struct sk_buff *skb = ovpn_pkt_skb(pkt);
	__be16 dport = (__force __be16)out->ends.port;
	bool whole = out->whole && skb->len <= out->limit;
	u8 ecn = pkt->ecn;

	/* The tunnel for IPv6 does not do it itself. */
	skb_scrub_packet(skb, out->away);
	skb->mark = out->key.mark;
	if (out->v4) {
		__be32 daddr;

		memcpy(&daddr, out->ends.remote, sizeof(daddr));
		udp_tunnel_xmit_skb(dst_rtable(out->route.dst), out->sk, skb,
				    out->route.saddr4, daddr, ecn,
				    ip4_dst_hoplimit(out->route.dst),
				    whole ? htons(IP_DF) : 0, out->key.sport,
				    dport, false,
				    out->no_sum OVPN_TUNNEL_FLAGS);
	} else {
#if IS_ENABLED(CONFIG_IPV6)
		struct in6_addr daddr;

		memcpy(&daddr, out->ends.remote, sizeof(daddr));
		/* We are the datagram's origin: fragment it where it must be. */
		skb->ignore_df = !whole;
		udp_tunnel6_xmit_skb(out->route.dst, out->sk, skb,
				     out->dev->net,
				     (struct in6_addr *)&out->route.saddr6,
				     &daddr, ecn,
				     ip6_dst_hoplimit(out->route.dst), 0,
				     out->key.sport, dport,
				     out->no_sum OVPN_TUNNEL_FLAGS);
#endif
	}
}

/* --- many as one ----------------------------------------------------------------- */

static u32 out_headers(const struct ovpn_out *out)
{
	return sizeof(struct udphdr) +
	       (out->v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
}

/* Whether packets may leave as one by this route at all. */
static bool out_gathers(const struct ovpn_out *out)
{
	const struct dst_entry *dst = out->route.dst;

	return READ_ONCE(out->dev->udp_gso) &&
	       /* IPsec and the like want to see each packet. */
	       !dst_xfrm(dst) && !dst->header_len && !dst->lwtstate &&
	       dev_recursion_level() <= OVPN_DEPTH;
}

/* Whether the device makes the checksums of packets that are taken apart for it.
 * A device that takes the list as it is may pass it on to one that does not:
 * only the function that takes it apart asks for the features of its own device,
 * and the packets are not looked at again.
 */
static bool out_device_sums(const struct ovpn_out *out)
{
	netdev_features_t able = NETIF_F_HW_CSUM |
		(out->v4 ? NETIF_F_IP_CSUM : NETIF_F_IPV6_CSUM);
	netdev_features_t features = out->route.dst->dev->features;

	return features & able && !(features & NETIF_F_GSO_FRAGLIST);
}

/* Whether the first n packets fit: lengths were looked at before, when the path
 * was not known.
 */
static bool out_fits(const struct ovpn_out *out, const struct ovpn_pkt *pkt,
		     u32 n)
{
	u32 room = out_headers(out) + LL_RESERVED_SPACE(out->route.dst->dev);

	/* The others are not longer. */
	if (pkt->len > out->limit)
		return false;
	for (; n; n--, pkt = pkt->next) {
		const struct sk_buff *skb = ovpn_pkt_skb((struct ovpn_pkt *)pkt);

		/* The link's header is copied in front of each without a look
		 * at the room that is there.
		 */
		if (skb_headroom(skb) < room || skb_is_nonlinear(skb) ||
		    skb_cloned(skb))
			return false;
	}
	return true;
}

static __sum16 out_pseudo(const struct ovpn_out *out, u32 len, __wsum sum)
{
	if (out->v4) {
		__be32 daddr;

		memcpy(&daddr, out->ends.remote, sizeof(daddr));
		return udp_v4_check(len, out->route.saddr4, daddr, sum);
	}
#if IS_ENABLED(CONFIG_IPV6)
	return udp_v6_check(len, &out->route.saddr6,
			    (const struct in6_addr *)out->ends.remote, sum);
#else
	return 0;
#endif
}

static void out_add_udp(const struct ovpn_out *out, struct sk_buff *skb)
{
	struct udphdr *uh = __skb_push(skb, sizeof(*uh));
	u32 len = skb->len;

	skb_reset_transport_header(skb);
	uh->source = out->key.sport;
	uh->dest = (__force __be16)out->ends.port;
	uh->len = htons(len);
	uh->check = 0;
	/* Of a GSO packet only "partial" and "unnecessary" are accepted. */
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	if (out->no_sum)
		return;
	if (out->sums) {
		skb->ip_summed = CHECKSUM_PARTIAL;
		skb->csum_start = skb_transport_header(skb) - skb->head;
		skb->csum_offset = offsetof(struct udphdr, check);
		uh->check = ~out_pseudo(out, len, 0);
	} else {
		uh->check = out_pseudo(out, len, csum_partial(uh, len, 0)) ?:
			    CSUM_MANGLED_0;
	}
}

static void out_add_ip(const struct ovpn_out *out, struct sk_buff *skb, u8 ecn)
{
	const struct dst_entry *dst = out->route.dst;

	if (out->v4) {
		struct iphdr *iph = __skb_push(skb, sizeof(*iph));

		memset(iph, 0, sizeof(*iph));
		iph->version = 4;
		iph->ihl = sizeof(*iph) / 4;
		iph->tos = ecn;
		iph->tot_len = htons(skb->len);
		iph->frag_off = out->whole && !ip_mtu_locked(dst) ?
				htons(IP_DF) : 0;
		iph->ttl = ip4_dst_hoplimit(dst);
		iph->protocol = IPPROTO_UDP;
		iph->saddr = out->route.saddr4;
		memcpy(&iph->daddr, out->ends.remote, sizeof(iph->daddr));
		skb->protocol = htons(ETH_P_IP);
	} else {
#if IS_ENABLED(CONFIG_IPV6)
		struct ipv6hdr *ip6 = __skb_push(skb, sizeof(*ip6));

		ip6_flow_hdr(ip6, ecn, 0);
		ip6->payload_len = htons(skb->len - sizeof(*ip6));
		ip6->nexthdr = IPPROTO_UDP;
		ip6->hop_limit = ip6_dst_hoplimit((struct dst_entry *)dst);
		ip6->saddr = out->route.saddr6;
		memcpy(&ip6->daddr, out->ends.remote, sizeof(ip6->daddr));
		skb->protocol = htons(ETH_P_IPV6);
#endif
	}
	skb_reset_network_header(skb);
}

/* Have the first packet answer for the memory of another to their socket. */
static void out_move_charge(struct sk_buff *head, struct sk_buff *skb)
{
	if (OVPN_LIST_KEEPS_CHARGE && skb->destructor && skb->sk &&
	    skb->destructor == head->destructor && skb->sk == head->sk) {
		skb->destructor = NULL;
		skb->sk = NULL;
		head->truesize += skb->truesize;
		return;
	}
	skb_orphan(skb);
}

/* Hang packets behind the first, whose headers come last and count for all. */
static u32 out_chain(const struct ovpn_out *out, struct sk_buff *head,
		     struct ovpn_pkt *pkt, u32 n)
{
	struct sk_buff **link = &skb_shinfo(head)->frag_list;
	u32 i, bytes = 0;

	for (i = 1; i < n; i++) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);
		u32 len = skb->len;
		u8 ecn = pkt->ecn;

		pkt = pkt->next;
		out_add_udp(out, skb);
		out_add_ip(out, skb, ecn);
		if (out->v4) {
			ip_hdr(skb)->id = htons(ntohs(ip_hdr(head)->id) + i);
			ip_send_check(ip_hdr(skb));
		}
		__skb_pull(skb, out_headers(out));
		skb_dst_drop(skb);
		out_move_charge(head, skb);
		skb->next = NULL;
		skb->prev = NULL;
		*link = skb;
		link = &skb->next;
		bytes += len;
	}
	return bytes;
}

/* Send the first n packets as one, which the receiver gets as n datagrams.
 * Consumes them and a reference to the route.
 */
static void out_many(const struct ovpn_out *out, struct ovpn_pkt *pkt, u32 n)
{
	struct sk_buff *head = ovpn_pkt_skb(pkt);
	struct net *net = dev_net(out->route.dst->dev);
	struct net_device *dev = out->dev->net;
	struct ovpn_pkt *next = pkt->next;
	u32 size = head->len, inner = 0, bytes, i;
	u8 ecn = pkt->ecn;
	int err;

	for (i = 0; i < n; i++, pkt = pkt->next)
		inner += pkt->len - pkt->head;

	skb_scrub_packet(head, out->away);
	skb_clear_hash_if_not_l4(head);
	head->mark = out->key.mark;
	head->next = NULL;
	head->prev = NULL;
	out_add_udp(out, head);
	out_add_ip(out, head, ecn);
	if (out->v4)
		__ip_select_ident(net, ip_hdr(head), n);
	bytes = out_chain(out, head, next, n);
	head->len += bytes;
	head->data_len += bytes;
	udp_hdr(head)->len = htons(head->len - out_headers(out) +
				   sizeof(struct udphdr));
	skb_shinfo(head)->gso_size = size;
	skb_shinfo(head)->gso_segs = n;
	skb_shinfo(head)->gso_type = OVPN_GSO_LIST;
	skb_dst_set(head, out->route.dst);

	if (out->v4) {
		memset(IPCB(head), 0, sizeof(*IPCB(head)));
		err = ip_local_out(net, out->sk, head);
	} else {
#if IS_ENABLED(CONFIG_IPV6)
		memset(IP6CB(head), 0, sizeof(*IP6CB(head)));
		head->ignore_df = !out->whole;
		err = ip6_local_out(net, out->sk, head);
#else
		err = 0;
#endif
	}
	if (likely(!net_xmit_eval(err)))
		dev_sw_netstats_tx_add(dev, n, inner);
	else
		DEV_STATS_ADD(dev, tx_errors, n);
}

/* --- all of it ---------------------------------------------------------------------- */

int ovpn_udp_send(struct ovpn_dev *dev, struct ovpn_sock *os,
		  struct ovpn_path *path, struct ovpn_batch *batch)
{
	struct ovpn_out out = { .dev = dev, .sk = os->sk };
	struct ovpn_pkt *pkt;
	bool gathers = false;
	unsigned int seq;
	int ret;

	for (pkt = batch->head; pkt; pkt = pkt->next) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);

		/* The socket that TCP's small queue accounting charges stays
		 * charged until the outer packet has left; an orphan keeps no
		 * stale pointer.
		 */
		if (!skb->destructor)
			skb->sk = NULL;
	}

	local_bh_disable();
	seq = ovpn_path_begin(path, out.sk, &out.ends, &out.key);
	ret = ovpn_path_route(dev, out.sk, path, &out.ends, &out.key, seq,
			      &out.route);
	if (unlikely(ret)) {
		local_bh_enable();
		ovpn_pkts_free(batch->head, false);
		return ret;
	}
	out.limit = ovpn_path_room(path) + OVPN_HEAD_LEN;
	out.v4 = out.ends.family == OVPN_AF_INET;
	out.away = !net_eq(dev_net(dev->net), sock_net(out.sk));
	out.whole = ovpn_keep_whole(out.sk, out.v4);
	out.no_sum = out.v4 ? out.sk->sk_no_check_tx :
			      udp_get_no_check6_tx(out.sk);
	if (batch->count > 1) {
		gathers = out_gathers(&out);
		out.sums = out_device_sums(&out);
	}
	for (pkt = batch->head; pkt; ) {
		struct ovpn_pkt *first = pkt;
		u32 i, n = first->run;

		if (!gathers || n < 2 || !out_fits(&out, first, n))
			n = 1;
		for (i = 0; i < n; i++)
			pkt = pkt->next;
		/* Each send consumes a reference; ours goes with the last. */
		if (pkt)
			dst_hold(out.route.dst);
		if (n > 1)
			out_many(&out, first, n);
		else
			out_one(&out, first);
	}
	local_bh_enable();
	return 0;
}

/* --- netfilter ------------------------------------------------------------------------ */

#ifdef CONFIG_NETFILTER

/* A namespace with sockets of ours. */
struct out_net {
	struct list_head list;
	struct net *net;
	u32 users;
};

static LIST_HEAD(out_nets);
static DEFINE_MUTEX(out_nets_lock);

/* A rule that changed TOS, traffic class or TTL (of a table named mangle, say)
 * changed the first packet alone: the others get the same. The kernel
 * copies addresses and ports when it takes the list apart.
 */
static unsigned int out_hook(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state)
{
	const u32 type = SKB_GSO_UDP_L4 | SKB_GSO_FRAGLIST;
	struct sock *sk = state->sk;
	struct sk_buff *other;

	if (likely(!skb_is_gso(skb)) ||
	    (skb_shinfo(skb)->gso_type & type) != type)
		return NF_ACCEPT;
	/* Lists of others are not ours to write to. */
	if (!sk || !sk_fullsock(sk) || sk->sk_protocol != IPPROTO_UDP ||
	    READ_ONCE(udp_sk(sk)->encap_type) != UDP_ENCAP_OVPNINUDP)
		return NF_ACCEPT;
	skb_walk_frags(skb, other) {
		if (state->pf == NFPROTO_IPV4) {
			const struct iphdr *from = ip_hdr(skb);
			struct iphdr *to = ip_hdr(other);

			if (to->tos == from->tos && to->ttl == from->ttl)
				continue;
			to->tos = from->tos;
			to->ttl = from->ttl;
			ip_send_check(to);
		} else {
			const struct ipv6hdr *from = ipv6_hdr(skb);
			struct ipv6hdr *to = ipv6_hdr(other);

			/* Version, traffic class, flow label. */
			*(__be32 *)to = *(__be32 *)from;
			to->hop_limit = from->hop_limit;
		}
	}
	return NF_ACCEPT;
}

static const struct nf_hook_ops out_hooks[] = {
	{
		.hook		= out_hook,
		.pf		= NFPROTO_IPV4,
		.hooknum	= NF_INET_POST_ROUTING,
		.priority	= NF_IP_PRI_LAST,
	},
#if IS_ENABLED(CONFIG_IPV6)
	{
		.hook		= out_hook,
		.pf		= NFPROTO_IPV6,
		.hooknum	= NF_INET_POST_ROUTING,
		.priority	= NF_IP6_PRI_LAST,
	},
#endif
};

static struct out_net *out_net_find(const struct net *net)
{
	struct out_net *on;

	list_for_each_entry(on, &out_nets, list)
		if (on->net == net)
			return on;
	return NULL;
}

int ovpn_xmit_get(struct net *net)
{
	struct out_net *on;
	int ret = 0;

	mutex_lock(&out_nets_lock);
	on = out_net_find(net);
	if (on) {
		on->users++;
		goto out;
	}
	ret = -ENOMEM;
	on = kzalloc(sizeof(*on), GFP_KERNEL);
	if (!on)
		goto out;
	ret = nf_register_net_hooks(net, out_hooks, ARRAY_SIZE(out_hooks));
	if (ret) {
		kfree(on);
		goto out;
	}
	on->net = net;
	on->users = 1;
	list_add(&on->list, &out_nets);
out:
	mutex_unlock(&out_nets_lock);
	return ret;
}

void ovpn_xmit_put(struct net *net)
{
	struct out_net *on;

	mutex_lock(&out_nets_lock);
	on = out_net_find(net);
	if (on && !--on->users) {
		nf_unregister_net_hooks(net, out_hooks, ARRAY_SIZE(out_hooks));
		list_del(&on->list);
		kfree(on);
	}
	mutex_unlock(&out_nets_lock);
}

#else

int ovpn_xmit_get(struct net *net)
{
	return 0;
}

void ovpn_xmit_put(struct net *net)
{
}

#endif /* CONFIG_NETFILTER */
