/* SPDX-License-Identifier: GPL-2.0 */
/* skb.c: packets and batches. */
#ifndef OVPN_API_SKB_H
#define OVPN_API_SKB_H

#include "types.h"

void ovpn_skb_free(struct sk_buff *skb);
/* [any] Cut an outgoing packet into what will be sent: segments of a GSO
 * packet, or itself. Each result is contiguous, exclusively owned, has its
 * checksums filled in and headroom for every outer header. Consumes skb. What
 * memory ran out for is missing from the batch and counted in *lost.
 * -EMSGSIZE or -ENOMEM when nothing could be made of it.
 */
int ovpn_tx_split(struct sk_buff *skb, struct ovpn_batch *out, u32 *lost);
/* [any] A batch of one packet with the given content. */
int ovpn_tx_message(struct ovpn_dev *dev, const u8 *data, u32 len,
		    struct ovpn_batch *out);
/* [any] Turn a received datagram into a batch: strip bytes of transport
 * header are removed, the rest is made contiguous and writable. Consumes skb.
 */
int ovpn_rx_take(struct sk_buff *skb, u32 strip, struct ovpn_batch *out);
/* [any] Cut a received packet loose from the route, the connection and the
 * interface that it came by, so that it may wait. Returns the bytes of memory
 * that are charged for it.
 */
u32 ovpn_rx_put_aside(struct ovpn_dev *dev, struct ovpn_pkt *pkt);
/* [any] Bytes of memory that are charged for a list of packets. */
u32 ovpn_pkts_memory(const struct ovpn_pkt *head);
/* [any] Free a list of packets: as dropped, or as delivered to their end. */
void ovpn_pkts_free(struct ovpn_pkt *head, bool consumed);

#endif /* OVPN_API_SKB_H */
