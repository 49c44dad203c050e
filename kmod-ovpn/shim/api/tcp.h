/* SPDX-License-Identifier: GPL-2.0 */
/* tcp.c: packets of a TCP stream. */
#ifndef OVPN_API_TCP_H
#define OVPN_API_TCP_H

#include "types.h"

/* [any] Make room for a TCP packet of len bytes; NULL without memory. */
struct sk_buff *ovpn_frame_new(u32 len);
/* [any] Append received bytes, which must fit. */
void ovpn_frame_add(struct sk_buff *frame, const u8 *data, u32 len);
/* [any] The frame's bytes so far. */
const u8 *ovpn_frame_data(const struct sk_buff *frame, u32 *len);
/* [any] Queue a complete frame for userspace to receive. Consumes it; false
 * when userspace has not fetched what it has.
 */
bool ovpn_frame_to_user(struct ovpn_sock *sock, struct sk_buff *frame);
/* [any] Append a complete frame to a batch. Consumes it. */
void ovpn_frame_to_batch(struct sk_buff *frame, struct ovpn_batch *batch);

#endif /* OVPN_API_TCP_H */
