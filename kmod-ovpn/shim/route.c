// SPDX-License-Identifier: GPL-2.0
/* Next hops of inner packets: which peer a packet is for, or may come from. */

#include <linux/jhash.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <net/dst_metadata.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#include <net/ip.h>
#include <net/ip_fib.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/nexthop.h>
#include <net/route.h>

#include "internal.h"

static void set_hop4(struct ovpn_addr *hop, __be32 addr)
{
	ipv6_addr_set_v4mapped(addr, (struct in6_addr *)hop->ip);
}

static void set_hop6(struct ovpn_addr *hop, const struct in6_addr *addr)
{
	memcpy(hop->ip, addr, sizeof(hop->ip));
}

/* Whether a packet's dst is a route of its own family. A tunnel's metadata may
 * stand in its place (act_tunnel_key, BPF), or a route of the other family
 * (light-weight tunnels).
 */
static bool has_route(const struct sk_buff *skb, int family)
{
	return skb_valid_dst(skb) && skb_dst(skb)->ops->family == family;
}

void ovpn_tx_hop(const struct sk_buff *skb, struct ovpn_addr *hop)
{
	memset(hop, 0, sizeof(*hop));
	if (skb->protocol == htons(ETH_P_IP)) {
		const struct rtable *rt = has_route(skb, AF_INET) ?
					  skb_rtable(skb) : NULL;

		if (rt && rt->rt_uses_gateway && rt->rt_gw_family == AF_INET)
			set_hop4(hop, rt->rt_gw4);
		else if (rt && rt->rt_uses_gateway)
			set_hop6(hop, &rt->rt_gw6);
		else
			set_hop4(hop, ip_hdr(skb)->daddr);
	} else {
		const struct rt6_info *rt = has_route(skb, AF_INET6) ?
					    skb_rt6_info(skb) : NULL;

		if (rt && rt->rt6i_flags & RTF_GATEWAY)
			set_hop6(hop, &rt->rt6i_gateway);
		else
			set_hop6(hop, &ipv6_hdr(skb)->daddr);
	}
}

/* --- the way back ------------------------------------------------------------ */

/* Behind a client may be whole networks, whose hosts are found by a route. What
 * the routes said for one packet is kept for the next; a power of two.
 */
#define OVPN_HOP_SLOTS	256

struct ovpn_hop {
	struct ovpn_addr dest;
	struct ovpn_addr hop;
	/* The route that said so: as long as it is valid, so is the answer. */
	struct dst_entry *dst;
	u32 cookie;
	struct rcu_head rcu;
};

struct ovpn_hops {
	/* A host outside must not know which addresses share a slot. */
	u32 seed;
	struct ovpn_hop __rcu *slot[OVPN_HOP_SLOTS];
};

static void hop_free(struct rcu_head *rcu)
{
	struct ovpn_hop *hop = container_of(rcu, struct ovpn_hop, rcu);

	dst_release(hop->dst);
	kfree(hop);
}

void ovpn_hops_open(struct ovpn_dev *dev)
{
	struct ovpn_hops *hops;

	if (dev->mode != OVPN_MODE_MP || dev->hops)
		return;
	/* A server does without, at the price of a look at the routes for each
	 * packet from behind a client.
	 */
	hops = kzalloc(sizeof(*hops), GFP_KERNEL);
	if (!hops)
		return;
	hops->seed = get_random_u32();
	/* A packet that sees it sees the interface's namespace of now, too. */
	smp_store_release(&dev->hops, hops);
}

/* A route must not outlive its namespace: even to release an IPv6 one means to
 * look into that (dst->ops).
 */
void ovpn_hops_close(struct ovpn_dev *dev)
{
	struct ovpn_hops *hops = xchg(&dev->hops, NULL);
	int i;

	if (!hops)
		return;
	synchronize_net();
	for (i = 0; i < OVPN_HOP_SLOTS; i++) {
		struct ovpn_hop *hop = rcu_dereference_raw(hops->slot[i]);

		if (hop)
			hop_free(&hop->rcu);
	}
	kfree(hops);
	/* Those whose place another has taken are on their way. */
	rcu_barrier();
}

static struct ovpn_hop __rcu **slot_of(struct ovpn_hops *hops,
				       const struct ovpn_addr *dest)
{
	u32 hash = jhash2((const u32 *)dest->ip, sizeof(dest->ip) / 4, hops->seed);

	return &hops->slot[hash % OVPN_HOP_SLOTS];
}

/* The hop that an earlier packet found, if no route has changed since. */
static bool hop_recall(struct ovpn_hops *hops, const struct ovpn_addr *dest,
		       struct ovpn_addr *hop)
{
	const struct ovpn_hop *known = rcu_dereference(*slot_of(hops, dest));

	if (!known || memcmp(&known->dest, dest, sizeof(*dest)) ||
	    !known->dst->ops->check(known->dst, known->cookie))
		return false;
	*hop = known->hop;
	return true;
}

/* Takes over the reference to dst. */
static void hop_remember(struct ovpn_hops *hops, const struct ovpn_addr *dest,
			 const struct ovpn_addr *hop, struct dst_entry *dst,
			 u32 cookie)
{
	struct ovpn_hop *new = kmalloc(sizeof(*new), GFP_ATOMIC);
	struct ovpn_hop *old;

	if (!new) {
		dst_release(dst);
		return;
	}
	new->dest = *dest;
	new->hop = *hop;
	new->dst = dst;
	new->cookie = cookie;
	old = unrcu_pointer(xchg(slot_of(hops, dest), RCU_INITIALIZER(new)));
	if (old)
		call_rcu(&old->rcu, hop_free);
}

/* The table that answers are looked up in, if the interface is in a VRF. */
static int table_of(const struct ovpn_dev *dev)
{
	return l3mdev_master_ifindex_rcu(dev->net);
}

static bool leads_to(struct ovpn_addrs *addrs, const struct ovpn_addr *hop,
		     u32 id)
{
	u32 found;

	return ovpn_addrs_find(addrs, hop, &found) && found == id;
}

/* The route that a host of ours would send an answer by, with a reference, if it
 * leaves through the interface; and the next hop on it.
 */
static struct dst_entry *look4(const struct ovpn_dev *dev, __be32 dest,
			       struct ovpn_addr *hop)
{
	struct flowi4 fl = { .daddr = dest, .flowi4_l3mdev = table_of(dev) };
	struct rtable *rt = ip_route_output_key(dev_net(dev->net), &fl);

	if (IS_ERR(rt))
		return NULL;
	if (rt->dst.dev != dev->net) {
		dst_release(&rt->dst);
		return NULL;
	}
	if (rt->rt_uses_gateway && rt->rt_gw_family == AF_INET)
		set_hop4(hop, rt->rt_gw4);
	else if (rt->rt_uses_gateway)
		set_hop6(hop, &rt->rt_gw6);
	else
		set_hop4(hop, dest);
	return &rt->dst;
}

/* The same for a forwarded answer from addr: it meets the policy rules that name
 * the interface where it comes in, which is that where a packet for addr goes
 * out. Each path of the route will do.
 */
static bool answers4(const struct ovpn_dev *dev, struct ovpn_addrs *addrs,
		     __be32 dest, __be32 addr, u32 id)
{
	struct flowi4 there = {
		.daddr = addr, .saddr = dest,
		.flowi4_iif = dev->net->ifindex,
	};
	struct flowi4 back = {
		.daddr = dest, .saddr = addr,
		.flowi4_iif = LOOPBACK_IFINDEX, .flowi4_l3mdev = table_of(dev),
	};
	struct net *net = dev_net(dev->net);
	struct fib_result res = { };
	unsigned int n;

	if (fib_lookup(net, &there, &res, 0))
		return false;
	if (res.type == RTN_UNICAST) {
		back.flowi4_iif = FIB_RES_OIF(res);
		back.flowi4_l3mdev = 0;
	}
	if (fib_lookup(net, &back, &res, 0) || res.type != RTN_UNICAST)
		return false;
	for (n = 0; n < fib_info_num_path(res.fi); n++) {
		const struct fib_nh_common *nhc = fib_info_nhc(res.fi, n);
		struct ovpn_addr hop = { };

		if (nhc->nhc_dev != dev->net)
			continue;
		if (nhc->nhc_gw_family == AF_INET)
			set_hop4(&hop, nhc->nhc_gw.ipv4);
		else if (nhc->nhc_gw_family)
			set_hop6(&hop, &nhc->nhc_gw.ipv6);
		else
			set_hop4(&hop, dest);
		if (leads_to(addrs, &hop, id))
			return true;
	}
	return false;
}

#if IS_ENABLED(CONFIG_IPV6)
/* As above. Takes over the reference to dst if it is the answer. */
static struct dst_entry *via6(const struct ovpn_dev *dev, struct dst_entry *dst,
			      const struct in6_addr *dest, struct ovpn_addr *hop)
{
	const struct rt6_info *rt = dst_rt6_info(dst);

	if (dst->error || dst->dev != dev->net) {
		dst_release(dst);
		return NULL;
	}
	set_hop6(hop, rt->rt6i_flags & RTF_GATEWAY ? &rt->rt6i_gateway : dest);
	return dst;
}
#endif

static struct dst_entry *look6(const struct ovpn_dev *dev,
			       const struct in6_addr *dest,
			       struct ovpn_addr *hop, u32 *cookie)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl = { .daddr = *dest, .flowi6_l3mdev = table_of(dev) };
	struct dst_entry *dst;

	/* Booted with ipv6.disable=1 the kernel has no tables to look into. */
	if (!ipv6_mod_enabled())
		return NULL;
	dst = via6(dev, ip6_route_output(dev_net(dev->net), NULL, &fl), dest, hop);
	if (dst)
		*cookie = rt6_get_cookie(dst_rt6_info(dst));
	return dst;
#else
	return NULL;
#endif
}

static bool answers6(const struct ovpn_dev *dev, struct ovpn_addrs *addrs,
		     const struct in6_addr *dest, const struct in6_addr *addr,
		     u32 id)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 there = {
		.daddr = *addr, .saddr = *dest,
		.flowi6_iif = dev->net->ifindex,
	};
	struct flowi6 back = {
		.daddr = *dest, .saddr = *addr,
		.flowi6_iif = LOOPBACK_IFINDEX, .flowi6_l3mdev = table_of(dev),
	};
	struct net *net = dev_net(dev->net);
	struct ovpn_addr hop = { };
	struct dst_entry *dst;
	bool there_is;

	if (!ipv6_mod_enabled())
		return false;
	dst = ip6_route_lookup(net, &there, NULL, 0);
	there_is = !dst->error;
	if (there_is && !(dst_rt6_info(dst)->rt6i_flags & RTF_LOCAL)) {
		back.flowi6_iif = dst->dev->ifindex;
		back.flowi6_l3mdev = 0;
	}
	dst_release(dst);
	if (!there_is)
		return false;
	dst = via6(dev, ip6_route_lookup(net, &back, NULL, 0), dest, &hop);
	dst_release(dst);
	return dst && leads_to(addrs, &hop, id);
#else
	return false;
#endif
}

bool ovpn_route_leads(const struct ovpn_dev *dev, struct ovpn_addrs *addrs,
		      const struct ovpn_addr *src, const struct ovpn_addr *dst,
		      u32 id)
{
	const struct in6_addr *from = (const struct in6_addr *)src->ip;
	const struct in6_addr *to = (const struct in6_addr *)dst->ip;
	/* Pairs with the release in ovpn_hops_open(). */
	struct ovpn_hops *hops = smp_load_acquire(&dev->hops);
	bool v4 = ipv6_addr_v4mapped(from);
	struct ovpn_addr hop = { };
	struct dst_entry *route;
	u32 cookie = 0;

	if (hops && hop_recall(hops, src, &hop) && leads_to(addrs, &hop, id))
		return true;

	route = v4 ? look4(dev, from->s6_addr32[3], &hop) :
		     look6(dev, from, &hop, &cookie);
	if (!route || !leads_to(addrs, &hop, id)) {
		dst_release(route);
		return v4 ? answers4(dev, addrs, from->s6_addr32[3],
				     to->s6_addr32[3], id) :
			    answers6(dev, addrs, from, to, id);
	}
	/* Only a right answer is worth a place, so that forged addresses do not
	 * push it out.
	 */
	if (hops)
		hop_remember(hops, src, &hop, route, cookie);
	else
		dst_release(route);
	return true;
}
