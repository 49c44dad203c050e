// SPDX-License-Identifier: GPL-2.0
/* Next hops of inner packets: which peer a packet is for, or may come from. */

#include <linux/jhash.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#include <net/ip.h>
#include <net/ipv6.h>
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

void ovpn_tx_hop(const struct sk_buff *skb, struct ovpn_addr *hop)
{
	memset(hop, 0, sizeof(*hop));
	if (skb->protocol == htons(ETH_P_IP)) {
		const struct rtable *rt = skb_rtable(skb);

		if (rt && rt->rt_uses_gateway && rt->rt_gw_family == AF_INET)
			set_hop4(hop, rt->rt_gw4);
		else if (rt && rt->rt_uses_gateway)
			set_hop6(hop, &rt->rt_gw6);
		else
			set_hop4(hop, ip_hdr(skb)->daddr);
	} else {
		const struct rt6_info *rt = skb_rt6_info(skb);

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
	/* Nobody outside shall know which addresses share a slot. */
	u32 seed;
	struct ovpn_hop __rcu *slot[OVPN_HOP_SLOTS];
	struct rcu_head rcu;
};

struct ovpn_hops *ovpn_hops_new(void)
{
	struct ovpn_hops *hops = kzalloc(sizeof(*hops), GFP_KERNEL);

	if (hops)
		hops->seed = get_random_u32();
	return hops;
}

static void hop_free(struct rcu_head *rcu)
{
	struct ovpn_hop *hop = container_of(rcu, struct ovpn_hop, rcu);

	dst_release(hop->dst);
	kfree(hop);
}

static void hops_free(struct rcu_head *rcu)
{
	struct ovpn_hops *hops = container_of(rcu, struct ovpn_hops, rcu);
	int i;

	for (i = 0; i < OVPN_HOP_SLOTS; i++) {
		struct ovpn_hop *hop = rcu_dereference_raw(hops->slot[i]);

		if (hop)
			hop_free(&hop->rcu);
	}
	kfree(hops);
}

void ovpn_hops_free(struct ovpn_hops *hops)
{
	if (hops)
		call_rcu(&hops->rcu, hops_free);
}

static struct ovpn_hop __rcu **slot_of(struct ovpn_hops *hops,
				       const struct ovpn_addr *dest)
{
	u32 hash = jhash2((const u32 *)dest->ip, sizeof(dest->ip) / 4, hops->seed);

	return &hops->slot[hash % OVPN_HOP_SLOTS];
}

/* What an earlier packet found, if no route has changed since. */
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

/* Gateway towards an address, or the address itself; the route, if there is one,
 * with a reference.
 */
static struct dst_entry *look4(const struct ovpn_dev *dev, __be32 dest,
			       struct ovpn_addr *hop)
{
	struct flowi4 fl = { .daddr = dest };
	struct rtable *rt = ip_route_output_key(dev_net(dev->net), &fl);

	set_hop4(hop, dest);
	if (IS_ERR(rt))
		return NULL;
	if (rt->rt_uses_gateway && rt->rt_gw_family == AF_INET)
		set_hop4(hop, rt->rt_gw4);
	else if (rt->rt_uses_gateway)
		set_hop6(hop, &rt->rt_gw6);
	return &rt->dst;
}

static struct dst_entry *look6(const struct ovpn_dev *dev,
			       const struct in6_addr *dest,
			       struct ovpn_addr *hop, u32 *cookie)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl = { .daddr = *dest };
	const struct rt6_info *rt;
	struct dst_entry *dst;

	set_hop6(hop, dest);
	/* Booted with ipv6.disable=1 the kernel has no tables to look into. */
	if (!ipv6_mod_enabled())
		return NULL;
	dst = ip6_route_output(dev_net(dev->net), NULL, &fl);
	rt = dst_rt6_info(dst);
	if (dst->error) {
		dst_release(dst);
		return NULL;
	}
	*cookie = rt6_get_cookie(rt);
	if (rt->rt6i_flags & RTF_GATEWAY)
		set_hop6(hop, &rt->rt6i_gateway);
	return dst;
#else
	set_hop6(hop, dest);
	return NULL;
#endif
}

bool ovpn_route_leads(const struct ovpn_dev *dev, struct ovpn_addrs *addrs,
		      const struct ovpn_addr *dest, u32 id)
{
	const struct in6_addr *addr = (const struct in6_addr *)dest->ip;
	struct ovpn_hops *hops = READ_ONCE(dev->hops);
	struct ovpn_addr hop = { };
	struct dst_entry *dst;
	u32 cookie = 0, found;

	if (hops && hop_recall(hops, dest, &hop))
		return ovpn_addrs_find(addrs, &hop, &found) && found == id;

	dst = ipv6_addr_v4mapped(addr) ?
	      look4(dev, addr->s6_addr32[3], &hop) :
	      look6(dev, addr, &hop, &cookie);
	if (!ovpn_addrs_find(addrs, &hop, &found) || found != id) {
		dst_release(dst);
		return false;
	}
	/* Only what was right is worth a place, so that forged addresses do not
	 * push it out.
	 */
	if (hops && dst)
		hop_remember(hops, dest, &hop, dst, cookie);
	else
		dst_release(dst);
	return true;
}
