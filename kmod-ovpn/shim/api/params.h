/* SPDX-License-Identifier: GPL-2.0 */
/* params.c: module parameters. */
#ifndef OVPN_API_PARAMS_H
#define OVPN_API_PARAMS_H

#include "types.h"

/* Longest preference of a cipher, without a NUL. */
#define OVPN_PREFERENCE_LEN	255

/* [sleep] The preferred implementations of a cipher (enum ovpn_cipher_alg) as
 * text: its length, and the text in out.
 */
u32 ovpn_params_preference(u32 cipher, u8 out[OVPN_PREFERENCE_LEN]);
/* Whether keys of cipher none are accepted. */
bool ovpn_params_allow_none(void);
/* Packet id that a new key sends first; 0 is none. */
u32 ovpn_params_first_packet_id(void);

#endif /* OVPN_API_PARAMS_H */
