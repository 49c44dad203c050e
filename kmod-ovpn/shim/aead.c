// SPDX-License-Identifier: GPL-2.0
/*
 * The crypto API's AEADs. Synchronous ones share one request for each CPU among
 * all keys, so that no packet allocates: 6.12 has no request on the stack.
 * These requests are reached by per-CPU pointers and not per-CPU memory
 * themselves: ciphers map parts of them by scatterlist, which vmalloc memory
 * does not allow. Asynchronous ones get their requests from order.c.
 */

#include <crypto/aead.h>
#include <linux/local_lock.h>
#include <linux/percpu.h>
#include <linux/scatterlist.h>

#include "internal.h"

/* State of one packet while it is encrypted. req is followed by the driver's
 * own request context.
 */
struct ovpn_aead_slot {
	struct ovpn_aead_part part;
	struct aead_request req;
};

struct ovpn_aead {
	struct crypto_aead *tfm;
	bool async;
};

/* --- the slots --------------------------------------------------------------- */

struct ovpn_aead_cpu {
	/* Guards what is in the slot. It costs nothing where bottom halves that
	 * are off have their CPU to themselves, which with PREEMPT_RT they do not.
	 */
	local_lock_t bh_lock;
	/* Made for the largest request context of any key there is. */
	struct ovpn_aead_slot __rcu *slot;
};

static DEFINE_PER_CPU(struct ovpn_aead_cpu, aead_cpu) = {
	.bh_lock = INIT_LOCAL_LOCK(bh_lock),
};
static DEFINE_MUTEX(aead_slots_lock);
static unsigned int aead_slots_size;
static u32 aead_slots_users;

static void aead_slots_free(struct ovpn_aead_slot **slots)
{
	int cpu;

	for_each_possible_cpu(cpu)
		/* The contexts that a cipher leaves behind depend on the key. */
		kfree_sensitive(slots[cpu]);
	kfree(slots);
}

/* Put larger slots in the place of those there are. */
static void aead_slots_swap(struct ovpn_aead_slot **slots)
{
	int cpu;

	for_each_possible_cpu(cpu)
		slots[cpu] = rcu_replace_pointer(per_cpu(aead_cpu, cpu).slot,
						 slots[cpu],
						 lockdep_is_held(&aead_slots_lock));
	/* Users have bottom halves off. */
	if (aead_slots_users)
		synchronize_rcu();
	aead_slots_free(slots);
}

static int aead_slots_get(unsigned int size)
{
	struct ovpn_aead_slot **slots;
	int cpu, ret = -ENOMEM;

	mutex_lock(&aead_slots_lock);
	if (aead_slots_users && size <= aead_slots_size)
		goto ok;
	slots = kcalloc(nr_cpu_ids, sizeof(*slots), GFP_KERNEL);
	if (!slots)
		goto out;
	for_each_possible_cpu(cpu) {
		slots[cpu] = kzalloc_node(size, GFP_KERNEL, cpu_to_node(cpu));
		if (!slots[cpu]) {
			aead_slots_free(slots);
			goto out;
		}
	}
	aead_slots_swap(slots);
	aead_slots_size = size;
ok:
	aead_slots_users++;
	ret = 0;
out:
	mutex_unlock(&aead_slots_lock);
	return ret;
}

static void aead_slots_put(void)
{
	int cpu;

	mutex_lock(&aead_slots_lock);
	/* The last key is gone, and with it all its users. */
	if (!--aead_slots_users)
		for_each_possible_cpu(cpu) {
			struct ovpn_aead_slot *slot;

			slot = rcu_replace_pointer(per_cpu(aead_cpu, cpu).slot,
						   NULL,
						   lockdep_is_held(&aead_slots_lock));
			kfree_sensitive(slot);
		}
	mutex_unlock(&aead_slots_lock);
}

/* --- keys --------------------------------------------------------------------- */

static u32 aead_mask(u32 avoid)
{
	u32 mask = 0;

	if (avoid & OVPN_NOT_ASYNC)
		mask |= CRYPTO_ALG_ASYNC;
	if (avoid & OVPN_NOT_HARDWARE)
		mask |= CRYPTO_ALG_KERN_DRIVER_ONLY | CRYPTO_ALG_NEED_FALLBACK;
	return mask;
}

/* Whether it is what the key is for, with OpenVPN's nonce and tag. */
static int aead_setup(struct ovpn_aead *aead, const char *alg, const u8 *key,
		      u32 len)
{
	int ret;

	if (strcmp(crypto_tfm_alg_name(crypto_aead_tfm(aead->tfm)), alg) ||
	    crypto_aead_ivsize(aead->tfm) != sizeof_field(struct ovpn_aead_part, iv))
		return -ENOENT;
	ret = crypto_aead_setkey(aead->tfm, key, len);
	if (!ret)
		ret = crypto_aead_setauthsize(aead->tfm, OVPN_TAG_LEN);
	if (!ret && !aead->async)
		ret = aead_slots_get(sizeof(struct ovpn_aead_slot) +
				     crypto_aead_reqsize(aead->tfm));
	return ret;
}

struct ovpn_aead *ovpn_aead_new(const u8 *name, u32 name_len, const char *alg,
				u32 avoid, const u8 *key, u32 len, s32 *err)
{
	char driver[CRYPTO_MAX_ALG_NAME];
	struct ovpn_aead *aead;

	*err = -ENOENT;
	if (name_len >= sizeof(driver))
		return NULL;
	memcpy(driver, name, name_len);
	driver[name_len] = 0;

	*err = -ENOMEM;
	aead = kzalloc(sizeof(*aead), GFP_KERNEL);
	if (!aead)
		return NULL;
	aead->tfm = crypto_alloc_aead(driver, 0, aead_mask(avoid));
	if (IS_ERR(aead->tfm)) {
		*err = PTR_ERR(aead->tfm);
		kfree(aead);
		return NULL;
	}
	aead->async = crypto_aead_alg(aead->tfm)->base.cra_flags &
		      CRYPTO_ALG_ASYNC;
	*err = aead_setup(aead, alg, key, len);
	if (!*err)
		return aead;
	crypto_free_aead(aead->tfm);
	kfree(aead);
	return NULL;
}

void ovpn_aead_free(struct ovpn_aead *aead)
{
	if (!aead->async)
		aead_slots_put();
	crypto_free_aead(aead->tfm);
	kfree(aead);
}

void ovpn_aead_driver(const struct ovpn_aead *aead, u8 out[OVPN_DRIVER_LEN])
{
	static_assert(OVPN_DRIVER_LEN >= CRYPTO_MAX_ALG_NAME);

	strscpy(out, crypto_tfm_alg_driver_name(crypto_aead_tfm(aead->tfm)),
		OVPN_DRIVER_LEN);
}

bool ovpn_aead_is_async(const struct ovpn_aead *aead)
{
	return aead->async;
}

unsigned int ovpn_aead_reqsize(const struct ovpn_aead *aead)
{
	return crypto_aead_reqsize(aead->tfm);
}

/* --- packets ------------------------------------------------------------------ */

void ovpn_aead_prepare(struct ovpn_aead *aead, struct aead_request *req,
		       struct ovpn_aead_part *part, const u8 tail[8], u8 *head,
		       u32 len, bool encrypt)
{
	struct scatterlist *sg = part->sg;
	int n = 0;

	memcpy(part->iv, head + OVPN_OP_LEN, 4);
	memcpy(part->iv + 4, tail, 8);

	/* The API wants header, text, tag; the wire has the tag in between. */
	sg_init_table(sg, len ? 3 : 2);
	sg_set_buf(&sg[n++], head, OVPN_AAD_LEN);
	if (len)
		sg_set_buf(&sg[n++], head + OVPN_HEAD_LEN, len);
	sg_set_buf(&sg[n], head + OVPN_AAD_LEN, OVPN_TAG_LEN);

	aead_request_set_tfm(req, aead->tfm);
	aead_request_set_callback(req, 0, NULL, NULL);
	aead_request_set_ad(req, OVPN_AAD_LEN);
	aead_request_set_crypt(req, sg, sg, len + (encrypt ? 0 : OVPN_TAG_LEN),
			       part->iv);
}

/* This CPU's slot, until it is put back: softirqs must not find it in use. */
static struct ovpn_aead_slot *aead_slot_take(void)
{
	local_bh_disable();
	local_lock_nested_bh(&aead_cpu.bh_lock);
	return rcu_dereference_bh(this_cpu_ptr(&aead_cpu)->slot);
}

static void aead_slot_put(void)
{
	local_unlock_nested_bh(&aead_cpu.bh_lock);
	local_bh_enable();
}

void ovpn_aead_seal(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch, u32 op, u32 first_id)
{
	struct ovpn_aead_slot *slot;
	struct ovpn_pkt *pkt;

	slot = aead_slot_take();
	for (pkt = batch->head; pkt; pkt = pkt->next) {
		u32 len = pkt->len;

		ovpn_aead_prepare(aead, &slot->req, &slot->part, tail,
				  ovpn_pkt_head(pkt, op, first_id++,
						OVPN_HEAD_LEN), len, true);
		pkt->err = crypto_aead_encrypt(&slot->req);
	}
	batch->bytes += batch->count * OVPN_HEAD_LEN;
	aead_slot_put();
}

void ovpn_aead_open(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch)
{
	struct ovpn_aead_slot *slot;
	struct ovpn_pkt *pkt;

	slot = aead_slot_take();
	for (pkt = batch->head; pkt; pkt = pkt->next) {
		if (unlikely(pkt->err))
			continue;
		if (unlikely(pkt->len < OVPN_HEAD_LEN)) {
			pkt->err = -EINVAL;
			continue;
		}
		ovpn_aead_prepare(aead, &slot->req, &slot->part, tail,
				  pkt->data, pkt->len - OVPN_HEAD_LEN, false);
		pkt->err = crypto_aead_decrypt(&slot->req);
		if (likely(!pkt->err))
			ovpn_pkt_strip(batch, pkt, OVPN_HEAD_LEN);
	}
	aead_slot_put();
}
