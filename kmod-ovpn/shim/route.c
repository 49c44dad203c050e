// SPDX-License-Identifier: GPL-2.0
/* Next hops of inner packets: which peer a packet is for, or may come from. */

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

static void route4(const struct ovpn_dev *dev, __be32 dest, struct ovpn_addr *hop)
{
	struct flowi4 fl = { .daddr = dest };
	struct rtable *rt = ip_route_output_key(dev_net(dev->net), &fl);

	set_hop4(hop, dest);
	if (IS_ERR(rt))
		return;
	if (rt->rt_uses_gateway && rt->rt_gw_family == AF_INET)
		set_hop4(hop, rt->rt_gw4);
	else if (rt->rt_uses_gateway)
		set_hop6(hop, &rt->rt_gw6);
	ip_rt_put(rt);
}

static void route6(const struct ovpn_dev *dev, const struct in6_addr *dest,
		   struct ovpn_addr *hop)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl = { .daddr = *dest };
	struct dst_entry *dst = ip6_route_output(dev_net(dev->net), NULL, &fl);

	set_hop6(hop, dest);
	if (!dst->error) {
		const struct rt6_info *rt = dst_rt6_info(dst);

		if (rt->rt6i_flags & RTF_GATEWAY)
			set_hop6(hop, &rt->rt6i_gateway);
	}
	dst_release(dst);
#else
	set_hop6(hop, dest);
#endif
}

void ovpn_route_hop(const struct ovpn_dev *dev, const struct ovpn_addr *dest,
		    struct ovpn_addr *hop)
{
	const struct in6_addr *addr = (const struct in6_addr *)dest->ip;

	memset(hop, 0, sizeof(*hop));
	if (ipv6_addr_v4mapped(addr))
		route4(dev, addr->s6_addr32[3], hop);
	else
		route6(dev, addr, hop);
}
