/* SPDX-License-Identifier: GPL-2.0 */
/* route.c: next hops of inner packets. */
#ifndef OVPN_API_ROUTE_H
#define OVPN_API_ROUTE_H

#include "types.h"

/* [any] Gateway of the packet's route, or its destination. */
void ovpn_tx_hop(const struct sk_buff *skb, struct ovpn_addr *hop);
/* [rcu] Whether an answer to a packet from src to dst would go out through the
 * interface, to a next hop that this id has.
 */
bool ovpn_route_leads(const struct ovpn_dev *dev, struct ovpn_addrs *addrs,
		      const struct ovpn_addr *src, const struct ovpn_addr *dst,
		      u32 id);

#endif /* OVPN_API_ROUTE_H */
