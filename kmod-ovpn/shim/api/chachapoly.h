/* SPDX-License-Identifier: GPL-2.0 */
/* chachapoly.c: the library's ChaCha20-Poly1305 over a batch. */
#ifndef OVPN_API_CHACHAPOLY_H
#define OVPN_API_CHACHAPOLY_H

#include "types.h"

/*
 * seal: prepend op, the packet id (counted up from first_id) and the tag, and
 * encrypt the packet behind them. open: check and decrypt packets whose id is
 * set and whose err is 0, and leave the inner packet in them. Nonce, header
 * and tag are laid out as OpenVPN's data packet version 2. A failure is noted
 * in the packet's err and does not stop the batch. [any]
 */
void ovpn_chachapoly_seal(const u32 key[8], const u8 tail[8],
			  struct ovpn_batch *batch, u32 op, u32 first_id);
void ovpn_chachapoly_open(const u32 key[8], const u8 tail[8],
			  struct ovpn_batch *batch);

#endif /* OVPN_API_CHACHAPOLY_H */
