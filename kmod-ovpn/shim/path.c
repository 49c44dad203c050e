// SPDX-License-Identifier: GPL-2.0
/* Where a peer is reached by UDP: both ends, and the route there. */

#include <linux/icmpv6.h>
#include <linux/inetdevice.h>
#include <linux/seqlock.h>
#include <linux/udp.h>
#include <net/addrconf.h>
#include <net/dst_cache.h>
#include <net/gso.h>
#include <net/icmp.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>

#include "compat.h"
#include "internal.h"

struct ovpn_path {
	/* Guards ends and key, and that what is in the cache was looked up for
	 * them.
	 */
	seqlock_t lock;
	struct ovpn_endpoint ends;
	struct ovpn_route_key key;
	/* Bytes of the largest inner packet that need not be fragmented, as of
	 * the last look at the route; 0 before the first.
	 */
	u32 room;
	struct dst_cache cache;
	/* Keeps the namespace of the cached routes: an engine may hold the peer
	 * for longer than the peer holds its socket.
	 */
	struct sock *sk;
};

struct ovpn_path *ovpn_path_new(const struct ovpn_sock *os)
{
	struct ovpn_path *path = kzalloc(sizeof(*path), GFP_KERNEL);

	if (!path)
		return NULL;
	if (dst_cache_init(&path->cache, GFP_KERNEL)) {
		kfree(path);
		return NULL;
	}
	seqlock_init(&path->lock);
	sock_hold(os->sk);
	path->sk = os->sk;
	return path;
}

void ovpn_path_free(struct ovpn_path *path)
{
	dst_cache_destroy(&path->cache);
	sock_put(path->sk);
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

bool ovpn_path_is_sender(const struct ovpn_path *path,
			 const struct ovpn_pkt *pkt)
{
	return ovpn_path_is_source(path, ovpn_pkt_skb((struct ovpn_pkt *)pkt));
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

/* Mark, interface and port can change under a live peer: make sure that the
 * cache belongs to the socket as it is now.
 */
unsigned int ovpn_path_begin(struct ovpn_path *path, const struct sock *sk,
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

static int ovpn_lookup4(struct sock *sk, const struct ovpn_endpoint *ends,
			const struct ovpn_route_key *key,
			struct ovpn_route *route)
{
	struct flowi4 fl = {
		.flowi4_proto = IPPROTO_UDP,
		.flowi4_mark = key->mark,
		.flowi4_oif = key->oif,
		.fl4_sport = key->sport,
		.fl4_dport = (__force __be16)ends->port,
	};
	struct rtable *rt;

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
		return PTR_ERR(rt);
	route->dst = &rt->dst;
	route->saddr4 = fl.saddr;
	return 0;
}

static int ovpn_lookup6(struct sock *sk, const struct ovpn_endpoint *ends,
			const struct ovpn_route_key *key,
			struct ovpn_route *route)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl = {
		.flowi6_proto = IPPROTO_UDP,
		.flowi6_mark = key->mark,
		.flowi6_oif = ends->scope ?: key->oif,
		.fl6_sport = key->sport,
		.fl6_dport = (__force __be16)ends->port,
	};
	struct dst_entry *dst;

	/* Neither request nor float asks the socket's family. */
	if (unlikely(READ_ONCE(sk->sk_family) != AF_INET6))
		return -EAFNOSUPPORT;
	memcpy(&fl.daddr, ends->remote, sizeof(fl.daddr));
	memcpy(&fl.saddr, ends->local, sizeof(fl.saddr));
	if (!ipv6_addr_any(&fl.saddr) &&
	    !ipv6_chk_addr(sock_net(sk), &fl.saddr, NULL, 0))
		fl.saddr = in6addr_any;
	if (ipv6_addr_any(&fl.saddr))
		fl.saddr = inet6_sk(sk)->saddr;
	dst = ip6_dst_lookup_flow(sock_net(sk), sk, &fl, NULL);
	if (IS_ERR(dst))
		return PTR_ERR(dst);
	route->dst = dst;
	route->saddr6 = fl.saddr;
	return 0;
#else
	return -EAFNOSUPPORT;
#endif
}

/* From the cache, if it has a route that is still good. */
static struct dst_entry *ovpn_cached(struct ovpn_path *path, bool v4,
				     struct ovpn_route *route)
{
	struct rtable *rt;

#if IS_ENABLED(CONFIG_IPV6)
	if (!v4)
		return dst_cache_get_ip6(&path->cache, &route->saddr6);
#endif
	rt = dst_cache_get_ip4(&path->cache, &route->saddr4);
	return rt ? &rt->dst : NULL;
}

static void ovpn_cache(struct ovpn_path *path, bool v4, unsigned int seq,
		       struct ovpn_route *route)
{
	write_seqlock_bh(&path->lock);
	/* +1: our own write section made the count odd. The count itself is
	 * asked, as it is: with PREEMPT_RT a reader of an odd one waits for the
	 * lock that we hold.
	 */
	if (unlikely(path->lock.seqcount.seqcount.sequence != seq + 1))
		goto unlock;
	if (v4)
		dst_cache_set_ip4(&path->cache, route->dst, route->saddr4);
#if IS_ENABLED(CONFIG_IPV6)
	else
		dst_cache_set_ip6(&path->cache, route->dst, &route->saddr6);
#endif
unlock:
	write_sequnlock_bh(&path->lock);
}

/* Bytes of the largest inner packet that leaves by this route in one piece. */
static u32 ovpn_room(const struct dst_entry *dst, bool v4)
{
	u32 outer = sizeof(struct udphdr) + OVPN_HEAD_LEN +
		    (v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));

	return max(dst_mtu(dst), outer + 1) - outer;
}

int ovpn_path_route(struct ovpn_dev *dev, struct sock *sk,
		    struct ovpn_path *path, const struct ovpn_endpoint *ends,
		    const struct ovpn_route_key *key, unsigned int seq,
		    struct ovpn_route *route)
{
	bool v4 = ends->family == OVPN_AF_INET;
	u32 room;
	int ret;

	if (unlikely(!v4 && ends->family != OVPN_AF_INET6))
		return -EDESTADDRREQ;
	route->dst = ovpn_cached(path, v4, route);
	if (unlikely(!route->dst)) {
		ret = v4 ? ovpn_lookup4(sk, ends, key, route) :
			   ovpn_lookup6(sk, ends, key, route);
		if (ret)
			return ret;
		ovpn_cache(path, v4, seq, route);
	}
	if (unlikely(route->dst->dev == dev->net)) {
		dst_release(route->dst);
		return -ELOOP;
	}
	room = ovpn_room(route->dst, v4);
	if (unlikely(READ_ONCE(path->room) != room))
		WRITE_ONCE(path->room, room);
	return 0;
}

/* Otherwise outer packets may be fragmented, by us too, as the mainline driver
 * has it.
 */
bool ovpn_keep_whole(const struct sock *sk, bool v4)
{
#if IS_ENABLED(CONFIG_IPV6)
	if (!v4 && READ_ONCE(sk->sk_family) == AF_INET6)
		return READ_ONCE(inet6_sk(sk)->pmtudisc) == IPV6_PMTUDISC_DO;
#endif
	return READ_ONCE(inet_sk(sk)->pmtudisc) == IP_PMTUDISC_DO;
}

u32 ovpn_path_room(const struct ovpn_path *path)
{
	return READ_ONCE(path->room);
}

/* How much fits by the route that ovpn_path_route() finds. */
static u32 ovpn_look_room(struct ovpn_dev *dev, struct ovpn_sock *os,
			  struct ovpn_path *path)
{
	struct ovpn_route_key key;
	struct ovpn_endpoint ends;
	struct ovpn_route route;
	unsigned int seq;
	u32 room = 0;

	local_bh_disable();
	seq = ovpn_path_begin(path, os->sk, &ends, &key);
	if (!ovpn_path_route(dev, os->sk, path, &ends, &key, seq, &route)) {
		room = READ_ONCE(path->room);
		dst_release(route.dst);
	}
	local_bh_enable();
	return room;
}

u32 ovpn_sock_mss_room(struct ovpn_dev *dev, struct ovpn_sock *os,
		       struct ovpn_path *path)
{
	u32 mtu = READ_ONCE(dev->net->mtu), room;

	if (!READ_ONCE(dev->mss_clamp))
		return U32_MAX;
	if (os->tcp)
		return mtu;
	room = ovpn_look_room(dev, os, path);
	return room ? min(mtu, room) : mtu;
}

/* A packet may say IPv6 where there is none: booted with ipv6.disable=1 the
 * kernel has not even the tables that an answer would be looked up in.
 */
static void ovpn_icmp6(struct sk_buff *skb, u8 type, u8 code, u32 info)
{
	if (ipv6_mod_enabled())
		icmpv6_ndo_send(skb, type, code, info);
}

static bool ovpn_in_room(const struct sk_buff *skb, u32 room)
{
	return skb_is_gso(skb) ? skb_gso_validate_network_len(skb, room) :
				 skb->len <= room;
}

/* Bytes of the largest inner packet that a length of 16 bits can tell: that in
 * front of a packet in a stream (OpenVPN, socket.h: packet_size_type), or that in
 * an IPv4 header.
 */
static u32 ovpn_most(const struct ovpn_sock *os)
{
	u32 outer = os->tcp ? 0 : sizeof(struct iphdr) + sizeof(struct udphdr);

	return U16_MAX - OVPN_HEAD_LEN - outer;
}

bool ovpn_sock_admit(struct ovpn_dev *dev, struct ovpn_sock *os,
		     struct ovpn_path *path, struct sk_buff *skb)
{
	u32 room = READ_ONCE(path->room);
	bool v4;

	if (likely(!os->tcp && room && ovpn_in_room(skb, room)))
		return true;
	if (!ovpn_in_room(skb, ovpn_most(os)))
		return false;
	/* A stream has no packets. */
	if (os->tcp)
		return true;
	/* The route may be a better one by now, or not known yet. */
	room = ovpn_look_room(dev, os, path);
	if (!room || ovpn_in_room(skb, room))
		return true;

	if (skb->protocol == htons(ETH_P_IP)) {
		/* A sender that allows fragments is not told. */
		if (!(ip_hdr(skb)->frag_off & htons(IP_DF)))
			return true;
		icmp_ndo_send(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED,
			      htonl(room));
	} else {
		/* No IPv6 sender goes below that. */
		room = max_t(u32, room, IPV6_MIN_MTU);
		if (ovpn_in_room(skb, room))
			return true;
		ovpn_icmp6(skb, ICMPV6_PKT_TOOBIG, 0, room);
	}
	/* Unless fragments are forbidden the packet itself still gets through:
	 * the sender is asked to do better, not punished.
	 */
	v4 = READ_ONCE(path->ends.family) == OVPN_AF_INET;
	return !ovpn_keep_whole(os->sk, v4);
}

void ovpn_tx_unreachable(struct sk_buff *skb)
{
	if (skb->protocol == htons(ETH_P_IP))
		icmp_ndo_send(skb, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0);
	else
		ovpn_icmp6(skb, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0);
}
