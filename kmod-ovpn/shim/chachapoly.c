// SPDX-License-Identifier: GPL-2.0
/*
 * ChaCha20-Poly1305 (RFC 8439) by the library's primitives. The library's own
 * AEAD takes a 64-bit nonce; OpenVPN's has 96 bits, so the composition is made
 * here. Works in place on contiguous packets.
 */

#include <crypto/algapi.h>
#include <crypto/chacha.h>
#include <crypto/poly1305.h>
#include <linux/unaligned.h>

#include "compat.h"
#include "internal.h"

static const u8 zeros[POLY1305_KEY_SIZE];

/* Feed the zero bytes that complete a block behind len bytes. */
static void pad_block(struct poly1305_desc_ctx *mac, u32 len)
{
	u32 rest = len % POLY1305_BLOCK_SIZE;

	if (rest)
		poly1305_update(mac, zeros, POLY1305_BLOCK_SIZE - rest);
}

/* Set the cipher to block 1 of the packet's stream, the authenticator to the
 * key that block 0 holds (RFC 8439, 2.6), and run the header through it.
 */
static void start(ovpn_chacha_state *cipher, struct poly1305_desc_ctx *mac,
		  const u32 key[8], const u8 tail[8], const u8 *head)
{
	u8 mac_key[POLY1305_KEY_SIZE];
	u8 iv[CHACHA_IV_SIZE] = { };

	/* 32-bit block counter, then the nonce: packet id as on the wire, and
	 * the tail.
	 */
	memcpy(iv + 4, head + OVPN_OP_LEN, 4);
	memcpy(iv + 8, tail, 8);
	chacha_init(OVPN_CHACHA(*cipher), key, iv);
	chacha20_crypt(OVPN_CHACHA(*cipher), mac_key, zeros, sizeof(mac_key));
	poly1305_init(mac, mac_key);
	memzero_explicit(mac_key, sizeof(mac_key));

	poly1305_update(mac, head, OVPN_AAD_LEN);
	pad_block(mac, OVPN_AAD_LEN);
}

static void finish(struct poly1305_desc_ctx *mac, const u8 *text, u32 len,
		   u8 tag[OVPN_TAG_LEN])
{
	u8 lengths[16];

	poly1305_update(mac, text, len);
	pad_block(mac, len);
	put_unaligned_le64(OVPN_AAD_LEN, lengths);
	put_unaligned_le64(len, lengths + 8);
	poly1305_update(mac, lengths, sizeof(lengths));
	poly1305_final(mac, tag);
}

void ovpn_chachapoly_seal(const u32 key[8], const u8 tail[8],
			  struct ovpn_batch *batch, u32 op, u32 first_id)
{
	struct poly1305_desc_ctx mac;
	ovpn_chacha_state cipher;
	struct ovpn_pkt *pkt;

	for (pkt = batch->head; pkt; pkt = pkt->next) {
		u8 *head = ovpn_pkt_head(pkt, op, first_id++,
					 OVPN_HEAD_LEN);
		u8 *text = head + OVPN_HEAD_LEN;
		u32 len = pkt->len - OVPN_HEAD_LEN;

		start(&cipher, &mac, key, tail, head);
		chacha20_crypt(OVPN_CHACHA(cipher), text, text, len);
		finish(&mac, text, len, head + OVPN_AAD_LEN);
	}
	batch->bytes += batch->count * OVPN_HEAD_LEN;
	memzero_explicit(&cipher, sizeof(cipher));
}

void ovpn_chachapoly_open(const u32 key[8], const u8 tail[8],
			  struct ovpn_batch *batch)
{
	struct poly1305_desc_ctx mac;
	ovpn_chacha_state cipher;
	u8 tag[OVPN_TAG_LEN];
	struct ovpn_pkt *pkt;

	for (pkt = batch->head; pkt; pkt = pkt->next) {
		u8 *text = pkt->data + OVPN_HEAD_LEN;
		u32 len = pkt->len - OVPN_HEAD_LEN;

		if (unlikely(pkt->err))
			continue;
		if (unlikely(pkt->len < OVPN_HEAD_LEN)) {
			pkt->err = -EINVAL;
			continue;
		}
		start(&cipher, &mac, key, tail, pkt->data);
		finish(&mac, text, len, tag);
		if (unlikely(crypto_memneq(tag, pkt->data + OVPN_AAD_LEN,
					   sizeof(tag)))) {
			pkt->err = -EBADMSG;
			continue;
		}
		chacha20_crypt(OVPN_CHACHA(cipher), text, text, len);
		ovpn_pkt_strip(batch, pkt, OVPN_HEAD_LEN);
	}
	memzero_explicit(&cipher, sizeof(cipher));
}
