// SPDX-License-Identifier: GPL-2.0
/* Cipher none: opcode and packet id, then the inner packet as it is. */

#include "internal.h"

void ovpn_plain_seal(struct ovpn_batch *batch, u32 op, u32 first_id)
{
	struct ovpn_pkt *pkt;

	for (pkt = batch->head; pkt; pkt = pkt->next)
		ovpn_pkt_head(pkt, op, first_id++, OVPN_AAD_LEN);
	batch->bytes += batch->count * OVPN_AAD_LEN;
}

void ovpn_plain_open(struct ovpn_batch *batch)
{
	struct ovpn_pkt *pkt;

	for (pkt = batch->head; pkt; pkt = pkt->next) {
		if (unlikely(pkt->err))
			continue;
		if (unlikely(pkt->len < OVPN_AAD_LEN))
			pkt->err = -EINVAL;
		else
			ovpn_pkt_strip(batch, pkt, OVPN_AAD_LEN);
	}
}
