/* SPDX-License-Identifier: GPL-2.0 */
/* table.c: peers by id and by address. */
#ifndef OVPN_API_TABLE_H
#define OVPN_API_TABLE_H

#include "types.h"

/* Pointers by number. Inserting and removing need a lock of the caller. */
struct ovpn_ids *ovpn_ids_new(void);
void ovpn_ids_free(struct ovpn_ids *ids);
/* [sleep] -EEXIST or -ENOMEM. */
int ovpn_ids_insert(struct ovpn_ids *ids, u32 id, void *value);
/* [any] The value that was there, or NULL. */
void *ovpn_ids_remove(struct ovpn_ids *ids, u32 id);
/* [rcu] */
void *ovpn_ids_find(struct ovpn_ids *ids, u32 id);
/* [rcu] The value with the smallest number not below *id, which is set to it. */
void *ovpn_ids_next(struct ovpn_ids *ids, u32 *id);

/* [any] Mark a number's value, if there is one. */
void ovpn_ids_mark(struct ovpn_ids *ids, u32 id);
/* [rcu] Some marked value, which is marked no more, or NULL. Needs the lock that
 * removing needs.
 */
void *ovpn_ids_unmark_next(struct ovpn_ids *ids);

/* Peer ids by address. */
struct ovpn_addrs *ovpn_addrs_new(void);
void ovpn_addrs_free(struct ovpn_addrs *addrs);
/* [any] -EEXIST when another id has the address and steal is false; -ENOMEM. */
int ovpn_addrs_add(struct ovpn_addrs *addrs, const struct ovpn_addr *key,
		   u32 id, bool steal);
/* [any] Does nothing when the address is not this id's. */
void ovpn_addrs_del(struct ovpn_addrs *addrs, const struct ovpn_addr *key, u32 id);
/* [rcu] */
bool ovpn_addrs_find(struct ovpn_addrs *addrs, const struct ovpn_addr *key,
		     u32 *id);

#endif /* OVPN_API_TABLE_H */
