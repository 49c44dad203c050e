// SPDX-License-Identifier: GPL-2.0
/*
 * The crypto API's AEADs. A key direction owns one request for each CPU, so
 * that no packet allocates: 6.12 has no request on the stack. Requests are
 * reached by per-CPU pointers and not per-CPU memory themselves: ciphers map
 * parts of them by scatterlist, which vmalloc memory does not allow.
 */

#include <crypto/aead.h>
#include <linux/percpu.h>
#include <linux/scatterlist.h>

#include "internal.h"

/* What one packet needs while it is encrypted. req is followed by the
 * driver's own request context.
 */
struct ovpn_aead_slot {
	u8 iv[12];
	struct scatterlist sg[4];
	struct aead_request req;
};

struct ovpn_aead {
	struct crypto_aead *tfm;
	struct ovpn_aead_slot * __percpu *slots;
};

static bool ovpn_aead_alloc_slots(struct ovpn_aead *aead)
{
	size_t size = sizeof(struct ovpn_aead_slot) +
		      crypto_aead_reqsize(aead->tfm);
	int cpu;

	aead->slots = alloc_percpu(struct ovpn_aead_slot *);
	if (!aead->slots)
		return false;
	for_each_possible_cpu(cpu) {
		struct ovpn_aead_slot **slot = per_cpu_ptr(aead->slots, cpu);

		*slot = kzalloc_node(size, GFP_KERNEL, cpu_to_node(cpu));
		if (!*slot)
			return false;
	}
	return true;
}

struct ovpn_aead *ovpn_aead_new(const char *alg, const u8 *key, u32 len,
				bool allow_async, s32 *err)
{
	u32 mask = allow_async ? 0 : CRYPTO_ALG_ASYNC;
	struct ovpn_aead *aead;

	*err = -ENOMEM;
	aead = kzalloc(sizeof(*aead), GFP_KERNEL);
	if (!aead)
		return NULL;

	aead->tfm = crypto_alloc_aead(alg, 0, mask);
	if (IS_ERR(aead->tfm)) {
		*err = PTR_ERR(aead->tfm);
		kfree(aead);
		return NULL;
	}
	*err = crypto_aead_setkey(aead->tfm, key, len);
	if (!*err)
		*err = crypto_aead_setauthsize(aead->tfm, OVPN_TAG_LEN);
	if (!*err && crypto_aead_ivsize(aead->tfm) !=
		     sizeof_field(struct ovpn_aead_slot, iv))
		*err = -EINVAL;
	if (!*err && !ovpn_aead_alloc_slots(aead))
		*err = -ENOMEM;
	if (!*err)
		return aead;
	ovpn_aead_free(aead);
	return NULL;
}

void ovpn_aead_free(struct ovpn_aead *aead)
{
	int cpu;

	if (aead->slots)
		for_each_possible_cpu(cpu)
			/* What a cipher leaves behind depends on the key. */
			kfree_sensitive(*per_cpu_ptr(aead->slots, cpu));
	free_percpu(aead->slots);
	crypto_free_aead(aead->tfm);
	kfree(aead);
}

/* Run one contiguous packet, header first, through the cipher. len is what
 * lies behind the header.
 */
static int ovpn_aead_run(struct ovpn_aead *aead, struct ovpn_aead_slot *slot,
			 const u8 tail[8], u8 *head, u32 len, bool encrypt)
{
	struct aead_request *req = &slot->req;
	struct scatterlist *sg = slot->sg;
	int n = 0;

	memcpy(slot->iv, head + OVPN_OP_LEN, 4);
	memcpy(slot->iv + 4, tail, 8);

	/* The API wants header, text, tag; the wire has the tag in between. */
	sg_init_table(sg, len ? 3 : 2);
	sg_set_buf(&sg[n++], head, OVPN_AAD_LEN);
	if (len)
		sg_set_buf(&sg[n++], head + OVPN_HEAD_LEN, len);
	sg_set_buf(&sg[n], head + OVPN_AAD_LEN, OVPN_TAG_LEN);

	aead_request_set_tfm(req, aead->tfm);
	aead_request_set_callback(req, 0, NULL, NULL);
	aead_request_set_ad(req, OVPN_AAD_LEN);
	if (encrypt) {
		aead_request_set_crypt(req, sg, sg, len, slot->iv);
		return crypto_aead_encrypt(req);
	}
	aead_request_set_crypt(req, sg, sg, len + OVPN_TAG_LEN, slot->iv);
	return crypto_aead_decrypt(req);
}

void ovpn_aead_seal(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch, u32 op, u32 first_id)
{
	struct ovpn_aead_slot *slot;
	struct ovpn_pkt *pkt;

	/* Softirqs on this CPU must not find the slot in use. */
	local_bh_disable();
	slot = *this_cpu_ptr(aead->slots);
	for (pkt = batch->head; pkt; pkt = pkt->next) {
		u32 len = pkt->len;

		pkt->err = ovpn_aead_run(aead, slot, tail,
					 ovpn_pkt_head(pkt, op, first_id++),
					 len, true);
	}
	batch->bytes += batch->count * OVPN_HEAD_LEN;
	local_bh_enable();
}

void ovpn_aead_open(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch)
{
	struct ovpn_aead_slot *slot;
	struct ovpn_pkt *pkt;

	local_bh_disable();
	slot = *this_cpu_ptr(aead->slots);
	for (pkt = batch->head; pkt; pkt = pkt->next) {
		if (unlikely(pkt->err))
			continue;
		if (unlikely(pkt->len < OVPN_HEAD_LEN)) {
			pkt->err = -EINVAL;
			continue;
		}
		pkt->err = ovpn_aead_run(aead, slot, tail, pkt->data,
					 pkt->len - OVPN_HEAD_LEN, false);
		if (likely(!pkt->err))
			ovpn_pkt_strip(batch, pkt);
	}
	local_bh_enable();
}
