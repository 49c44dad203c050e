// SPDX-License-Identifier: GPL-2.0
/* Where a peer is reached by UDP: both ends, the route there, sending. */

#include <linux/inetdevice.h>
#include <linux/seqlock.h>
#include <linux/udp.h>
#include <net/addrconf.h>
#include <net/dst_cache.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>

#include "compat.h"
#include "internal.h"

/* What of the socket a route depends on. */
struct ovpn_route_key {
	u32 mark;
	int oif;
	__be16 sport;
};

struct ovpn_path {
	/* Guards ends and key, and that what is in the cache was looked up for
	 * them.
	 */
	seqlock_t lock;
	struct ovpn_endpoint ends;
	struct ovpn_route_key key;
	struct dst_cache cache;
};

struct ovpn_path *ovpn_path_new(void)
{
	struct ovpn_path *path = kzalloc(sizeof(*path), GFP_KERNEL);

	if (!path)
		return NULL;
	if (dst_cache_init(&path->cache, GFP_KERNEL)) {
		kfree(path);
		return NULL;
	}
	seqlock_init(&path->lock);
	return path;
}

void ovpn_path_free(struct ovpn_path *path)
{
	dst_cache_destroy(&path->cache);
	kfree(path);
}

void ovpn_path_set(struct ovpn_path *path, const struct ovpn_endpoint *ends)
{
	write_seqlock_bh(&path->lock);
	path->ends = *ends;
	dst_cache_reset(&path->cache);
	write_sequnlock_bh(&path->lock);
}

void ovpn_path_get(const struct ovpn_path *path, struct ovpn_endpoint *ends)
{
	unsigned int seq;

	do {
		seq = read_seqbegin(&path->lock);
		*ends = path->ends;
	} while (read_seqretry(&path->lock, seq));
}

/* Ends of the datagram that skb was received in: its network and transport
 * headers stay where they are when data is pulled.
 */
static void ovpn_ends_of(const struct sk_buff *skb, struct ovpn_endpoint *ends)
{
	memset(ends, 0, sizeof(*ends));
	ends->port = (__force u16)udp_hdr(skb)->source;
	if (skb->protocol == htons(ETH_P_IP)) {
		ends->family = OVPN_AF_INET;
		memcpy(ends->remote, &ip_hdr(skb)->saddr, 4);
		memcpy(ends->local, &ip_hdr(skb)->daddr, 4);
	} else if (skb->protocol == htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip6 = ipv6_hdr(skb);

		ends->family = OVPN_AF_INET6;
		ends->scope = ipv6_iface_scope_id(&ip6->saddr, skb->skb_iif);
		memcpy(ends->remote, &ip6->saddr, 16);
		memcpy(ends->local, &ip6->daddr, 16);
	}
}

static bool ovpn_same_remote(const struct ovpn_endpoint *a,
			     const struct ovpn_endpoint *b)
{
	return a->family == b->family && a->port == b->port &&
	       a->scope == b->scope &&
	       !memcmp(a->remote, b->remote, sizeof(a->remote));
}

bool ovpn_path_is_source(const struct ovpn_path *path,
			 const struct sk_buff *skb)
{
	struct ovpn_endpoint ends, seen;

	ovpn_path_get(path, &ends);
	ovpn_ends_of(skb, &seen);
	return ovpn_same_remote(&ends, &seen);
}

void ovpn_skb_source(const struct sk_buff *skb, struct ovpn_addr *source)
{
	struct ovpn_endpoint ends;

	ovpn_ends_of(skb, &ends);
	memset(source, 0, sizeof(*source));
	source->port = ends.port;
	source->scope = ends.scope;
	if (ends.family == OVPN_AF_INET)
		ipv6_addr_set_v4mapped(ip_hdr(skb)->saddr,
				       (struct in6_addr *)source->ip);
	else
		memcpy(source->ip, ends.remote, sizeof(source->ip));
}

enum ovpn_learnt ovpn_path_learn(struct ovpn_path *path,
				 const struct ovpn_pkt *pkt,
				 struct ovpn_endpoint *from,
				 struct ovpn_endpoint *to)
{
	struct ovpn_endpoint now;

	ovpn_ends_of(ovpn_pkt_skb((struct ovpn_pkt *)pkt), to);
	if (to->family == OVPN_AF_NONE)
		return OVPN_LEARNT_NOTHING;
	ovpn_path_get(path, &now);
	if (likely(ovpn_same_remote(&now, to) &&
		   !memcmp(now.local, to->local, sizeof(to->local))))
		return OVPN_LEARNT_NOTHING;

	write_seqlock_bh(&path->lock);
	*from = path->ends;
	path->ends = *to;
	dst_cache_reset(&path->cache);
	write_sequnlock_bh(&path->lock);
	return ovpn_same_remote(from, to) ? OVPN_LEARNT_LOCAL :
					    OVPN_LEARNT_REMOTE;
}

/* Read both ends, after making sure that the cache belongs to the socket as it
 * is now: mark, interface and port can change under a live peer.
 */
static unsigned int ovpn_path_begin(struct ovpn_path *path,
				    const struct sock *sk,
				    struct ovpn_endpoint *ends,
				    struct ovpn_route_key *key)
{
	struct ovpn_route_key seen;
	unsigned int seq;

	key->mark = READ_ONCE(sk->sk_mark);
	key->oif = READ_ONCE(sk->sk_bound_dev_if);
	key->sport = inet_sk(sk)->inet_sport;
again:
	do {
		seq = read_seqbegin(&path->lock);
		*ends = path->ends;
		seen = path->key;
	} while (read_seqretry(&path->lock, seq));

	if (likely(seen.mark == key->mark && seen.oif == key->oif &&
		   seen.sport == key->sport))
		return seq;

	write_seqlock_bh(&path->lock);
	path->key = *key;
	dst_cache_reset(&path->cache);
	write_sequnlock_bh(&path->lock);
	goto again;
}

static struct rtable *ovpn_route4(struct ovpn_path *path, struct sock *sk,
				  const struct ovpn_endpoint *ends,
				  const struct ovpn_route_key *key,
				  unsigned int seq, __be32 *saddr)
{
	struct flowi4 fl = {
		.flowi4_proto = IPPROTO_UDP,
		.flowi4_mark = key->mark,
		.flowi4_oif = key->oif,
		.fl4_sport = key->sport,
		.fl4_dport = (__force __be16)ends->port,
	};
	struct rtable *rt = dst_cache_get_ip4(&path->cache, saddr);

	if (likely(rt))
		return rt;

	memcpy(&fl.daddr, ends->remote, sizeof(fl.daddr));
	memcpy(&fl.saddr, ends->local, sizeof(fl.saddr));
	/* The address may have left this machine since it was set. */
	if (fl.saddr && !inet_confirm_addr(sock_net(sk), NULL, 0, fl.saddr,
					   RT_SCOPE_HOST))
		fl.saddr = 0;
	if (!fl.saddr)
		fl.saddr = inet_sk(sk)->inet_saddr;
	rt = ip_route_output_flow(sock_net(sk), &fl, sk);
	if (IS_ERR(rt))
		return rt;

	write_seqlock_bh(&path->lock);
	/* +1: our own write section made the count odd. */
	if (likely(raw_read_seqcount(&path->lock.seqcount) == seq + 1))
		dst_cache_set_ip4(&path->cache, &rt->dst, fl.saddr);
	write_sequnlock_bh(&path->lock);
	*saddr = fl.saddr;
	return rt;
}

static int ovpn_send4(struct ovpn_dev *dev, struct sock *sk,
		      struct ovpn_path *path, const struct ovpn_endpoint *ends,
		      const struct ovpn_route_key *key, unsigned int seq,
		      struct ovpn_pkt *pkt)
{
	__be32 saddr, daddr;
	struct rtable *rt = ovpn_route4(path, sk, ends, key, seq, &saddr);

	if (IS_ERR(rt))
		return PTR_ERR(rt);
	if (unlikely(rt->dst.dev == dev->net)) {
		ip_rt_put(rt);
		return -ELOOP;
	}
	memcpy(&daddr, ends->remote, sizeof(daddr));
	while (pkt) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);

		pkt = pkt->next;
		/* Each datagram consumes a reference; ours goes with the last. */
		if (pkt)
			dst_hold(&rt->dst);
		skb->mark = key->mark;
		udp_tunnel_xmit_skb(rt, sk, skb, saddr, daddr, 0,
				    ip4_dst_hoplimit(&rt->dst), 0, key->sport,
				    (__force __be16)ends->port, false,
				    sk->sk_no_check_tx OVPN_TUNNEL_FLAGS);
	}
	return 0;
}

#if IS_ENABLED(CONFIG_IPV6)
static struct dst_entry *ovpn_route6(struct ovpn_path *path, struct sock *sk,
				     const struct ovpn_endpoint *ends,
				     const struct ovpn_route_key *key,
				     unsigned int seq, struct in6_addr *saddr)
{
	struct flowi6 fl = {
		.flowi6_proto = IPPROTO_UDP,
		.flowi6_mark = key->mark,
		.flowi6_oif = ends->scope ?: key->oif,
		.fl6_sport = key->sport,
		.fl6_dport = (__force __be16)ends->port,
	};
	struct dst_entry *dst = dst_cache_get_ip6(&path->cache, saddr);

	if (likely(dst))
		return dst;

	memcpy(&fl.daddr, ends->remote, sizeof(fl.daddr));
	memcpy(&fl.saddr, ends->local, sizeof(fl.saddr));
	if (!ipv6_addr_any(&fl.saddr) &&
	    !ipv6_chk_addr(sock_net(sk), &fl.saddr, NULL, 0))
		fl.saddr = in6addr_any;
	if (ipv6_addr_any(&fl.saddr))
		fl.saddr = inet6_sk(sk)->saddr;
	dst = ip6_dst_lookup_flow(sock_net(sk), sk, &fl, NULL);
	if (IS_ERR(dst))
		return dst;

	write_seqlock_bh(&path->lock);
	if (likely(raw_read_seqcount(&path->lock.seqcount) == seq + 1))
		dst_cache_set_ip6(&path->cache, dst, &fl.saddr);
	write_sequnlock_bh(&path->lock);
	*saddr = fl.saddr;
	return dst;
}

static int ovpn_send6(struct ovpn_dev *dev, struct sock *sk,
		      struct ovpn_path *path, const struct ovpn_endpoint *ends,
		      const struct ovpn_route_key *key, unsigned int seq,
		      struct ovpn_pkt *pkt)
{
	struct in6_addr saddr, daddr;
	struct dst_entry *dst = ovpn_route6(path, sk, ends, key, seq, &saddr);

	if (IS_ERR(dst))
		return PTR_ERR(dst);
	if (unlikely(dst->dev == dev->net)) {
		dst_release(dst);
		return -ELOOP;
	}
	memcpy(&daddr, ends->remote, sizeof(daddr));
	while (pkt) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);

		pkt = pkt->next;
		if (pkt)
			dst_hold(dst);
		skb->mark = key->mark;
		/* We are the datagram's origin: fragment it where it must be. */
		skb->ignore_df = 1;
		udp_tunnel6_xmit_skb(dst, sk, skb, dev->net, &saddr, &daddr, 0,
				     ip6_dst_hoplimit(dst), 0, key->sport,
				     (__force __be16)ends->port,
				     udp_get_no_check6_tx(sk) OVPN_TUNNEL_FLAGS);
	}
	return 0;
}
#else
static int ovpn_send6(struct ovpn_dev *dev, struct sock *sk,
		      struct ovpn_path *path, const struct ovpn_endpoint *ends,
		      const struct ovpn_route_key *key, unsigned int seq,
		      struct ovpn_pkt *pkt)
{
	return -EAFNOSUPPORT;
}
#endif

int ovpn_udp_send(struct ovpn_dev *dev, struct ovpn_sock *os,
		  struct ovpn_path *path, struct ovpn_batch *batch)
{
	struct ovpn_route_key key;
	struct ovpn_endpoint ends;
	struct sock *sk = os->sk;
	struct ovpn_pkt *pkt;
	unsigned int seq;
	int ret;

	for (pkt = batch->head; pkt; pkt = pkt->next) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);

		/* Whom TCP's small queue accounting charges stays charged until
		 * the outer packet has left; an orphan keeps no stale pointer.
		 */
		if (!skb->destructor)
			skb->sk = NULL;
	}

	local_bh_disable();
	seq = ovpn_path_begin(path, sk, &ends, &key);
	if (ends.family == OVPN_AF_INET)
		ret = ovpn_send4(dev, sk, path, &ends, &key, seq, batch->head);
	else if (ends.family == OVPN_AF_INET6)
		ret = ovpn_send6(dev, sk, path, &ends, &key, seq, batch->head);
	else
		ret = -EDESTADDRREQ;
	local_bh_enable();

	if (unlikely(ret))
		ovpn_pkts_free(batch->head, false);
	return ret;
}
