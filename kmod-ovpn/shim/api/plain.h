/* SPDX-License-Identifier: GPL-2.0 */
/* plain.c: no cipher. */
#ifndef OVPN_API_PLAIN_H
#define OVPN_API_PLAIN_H

#include "types.h"

/* As ovpn_chachapoly_seal() and ovpn_chachapoly_open(), without cipher and tag:
 * only op and packet id come in front.
 */
void ovpn_plain_seal(struct ovpn_batch *batch, u32 op, u32 first_id);
void ovpn_plain_open(struct ovpn_batch *batch);

#endif /* OVPN_API_PLAIN_H */
