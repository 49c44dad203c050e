// SPDX-License-Identifier: GPL-2.0
/*
 * Tables of an MP interface: peers by id, and peer ids by address. Both grow
 * and shrink with their content, are read under RCU and need no contiguous
 * allocation.
 */

#include <linux/rhashtable.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "internal.h"

/* --- by id ------------------------------------------------------------------- */

struct ovpn_ids {
	struct xarray xa;
};

struct ovpn_ids *ovpn_ids_new(void)
{
	struct ovpn_ids *ids = kzalloc(sizeof(*ids), GFP_KERNEL);

	if (ids)
		/* Marks are set in bottom halves. */
		xa_init_flags(&ids->xa, XA_FLAGS_LOCK_BH);
	return ids;
}

void ovpn_ids_free(struct ovpn_ids *ids)
{
	xa_destroy(&ids->xa);
	kfree(ids);
}

int ovpn_ids_insert(struct ovpn_ids *ids, u32 id, void *value)
{
	int ret = xa_insert_bh(&ids->xa, id, value, GFP_KERNEL);

	return ret == -EBUSY ? -EEXIST : ret;
}

void *ovpn_ids_remove(struct ovpn_ids *ids, u32 id)
{
	return xa_erase_bh(&ids->xa, id);
}

void *ovpn_ids_find(struct ovpn_ids *ids, u32 id)
{
	return xa_load(&ids->xa, id);
}

void *ovpn_ids_next(struct ovpn_ids *ids, u32 *id)
{
	unsigned long at = *id;
	void *value = xa_find(&ids->xa, &at, U32_MAX, XA_PRESENT);

	*id = at;
	return value;
}

/* Marks live in the table's nodes: no memory, and gone with their value. */
void ovpn_ids_mark(struct ovpn_ids *ids, u32 id)
{
	/* Packets do this, in bottom halves, as the lock's other users know. */
	xa_lock_bh(&ids->xa);
	__xa_set_mark(&ids->xa, id, XA_MARK_0);
	xa_unlock_bh(&ids->xa);
}

void *ovpn_ids_unmark_next(struct ovpn_ids *ids)
{
	unsigned long at = 0;
	void *value = xa_find(&ids->xa, &at, U32_MAX, XA_MARK_0);

	if (value) {
		xa_lock_bh(&ids->xa);
		__xa_clear_mark(&ids->xa, at, XA_MARK_0);
		xa_unlock_bh(&ids->xa);
	}
	return value;
}

/* --- by address -------------------------------------------------------------- */

struct ovpn_addrs {
	struct rhashtable ht;
	/* Makes look-and-change one step; readers do without. */
	spinlock_t lock;
};

struct ovpn_addr_node {
	struct rhash_head link;
	struct ovpn_addr key;
	u32 id;
	struct rcu_head rcu;
};

static const struct rhashtable_params ovpn_addr_params = {
	.key_len = sizeof(struct ovpn_addr),
	.key_offset = offsetof(struct ovpn_addr_node, key),
	.head_offset = offsetof(struct ovpn_addr_node, link),
	.automatic_shrinking = true,
};

/* Keys are hashed and compared as bytes. */
static_assert(sizeof(struct ovpn_addr) == 24);

struct ovpn_addrs *ovpn_addrs_new(void)
{
	struct ovpn_addrs *addrs = kzalloc(sizeof(*addrs), GFP_KERNEL);

	if (!addrs)
		return NULL;
	if (rhashtable_init(&addrs->ht, &ovpn_addr_params)) {
		kfree(addrs);
		return NULL;
	}
	spin_lock_init(&addrs->lock);
	return addrs;
}

static void ovpn_addr_free(void *node, void *unused)
{
	kfree(node);
}

void ovpn_addrs_free(struct ovpn_addrs *addrs)
{
	rhashtable_free_and_destroy(&addrs->ht, ovpn_addr_free, NULL);
	kfree(addrs);
}

int ovpn_addrs_add(struct ovpn_addrs *addrs, const struct ovpn_addr *key,
		   u32 id, bool steal)
{
	struct ovpn_addr_node *node = kzalloc(sizeof(*node), GFP_ATOMIC);
	struct ovpn_addr_node *other;
	int ret = 0;

	if (!node)
		return -ENOMEM;
	node->key = *key;
	node->id = id;

	spin_lock_bh(&addrs->lock);
	other = rhashtable_lookup_fast(&addrs->ht, key, ovpn_addr_params);
	if (!other)
		ret = rhashtable_insert_fast(&addrs->ht, &node->link,
					     ovpn_addr_params);
	else if (other->id == id)
		/* It is there already; drop the new node below. */
		ret = 1;
	else if (steal)
		ret = rhashtable_replace_fast(&addrs->ht, &other->link,
					      &node->link, ovpn_addr_params);
	else
		ret = -EEXIST;
	spin_unlock_bh(&addrs->lock);

	if (!ret && other)
		kfree_rcu(other, rcu);
	if (ret)
		kfree(node);
	return ret < 0 ? ret : 0;
}

void ovpn_addrs_del(struct ovpn_addrs *addrs, const struct ovpn_addr *key, u32 id)
{
	struct ovpn_addr_node *node;

	spin_lock_bh(&addrs->lock);
	node = rhashtable_lookup_fast(&addrs->ht, key, ovpn_addr_params);
	if (node && (node->id != id ||
		     rhashtable_remove_fast(&addrs->ht, &node->link,
					    ovpn_addr_params)))
		node = NULL;
	spin_unlock_bh(&addrs->lock);
	if (node)
		kfree_rcu(node, rcu);
}

bool ovpn_addrs_find(struct ovpn_addrs *addrs, const struct ovpn_addr *key, u32 *id)
{
	const struct ovpn_addr_node *node;

	node = rhashtable_lookup(&addrs->ht, key, ovpn_addr_params);
	if (node)
		*id = node->id;
	return node;
}
