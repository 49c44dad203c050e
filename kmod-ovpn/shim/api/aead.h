/* SPDX-License-Identifier: GPL-2.0 */
/* aead.c: ciphers of the crypto API over a batch. */
#ifndef OVPN_API_AEAD_H
#define OVPN_API_AEAD_H

#include "types.h"

/* Kinds of implementations to avoid. */
#define OVPN_NOT_ASYNC	1
#define OVPN_NOT_HARDWARE 2

/* [sleep] One direction of an AEAD key. name selects the implementation, by
 * the crypto API's name of the algorithm or of a driver; alg is the algorithm that
 * it must implement; avoid is a sum of the above. NULL and *err on failure.
 */
struct ovpn_aead *ovpn_aead_new(const u8 *name, u32 name_len, const char *alg,
				u32 avoid, const u8 *key, u32 len, s32 *err);
void ovpn_aead_free(struct ovpn_aead *aead);
/* CRYPTO_MAX_ALG_NAME */
#define OVPN_DRIVER_LEN	128
/* Name of the driver, with a NUL. */
void ovpn_aead_driver(const struct ovpn_aead *aead, u8 out[OVPN_DRIVER_LEN]);
/* Whether requests may come back later. Then only jobs may use it. */
bool ovpn_aead_is_async(const struct ovpn_aead *aead);
/* As ovpn_chachapoly_seal() and ovpn_chachapoly_open(). */
void ovpn_aead_seal(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch, u32 op, u32 first_id);
void ovpn_aead_open(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch);

#endif /* OVPN_API_AEAD_H */
