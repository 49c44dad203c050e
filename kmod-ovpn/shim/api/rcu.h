/* SPDX-License-Identifier: GPL-2.0 */
/* rcu.c: deferred release. */
#ifndef OVPN_API_RCU_H
#define OVPN_API_RCU_H

#include "types.h"

/* [sleep] Bring up and tear down the workqueue every deferral runs on. The
 * exit side returns only when no callback of ours is left anywhere.
 */
int ovpn_defer_init(void);
void ovpn_defer_exit(void);

/* [sleep] A ticket for one later call; NULL without memory. */
struct ovpn_retire *ovpn_retire_new(void);
/* [any] Return a ticket that was never used. */
void ovpn_retire_free(struct ovpn_retire *ticket);
/* [any] After a grace period, call drop(ptr) from a context that may sleep,
 * then free the ticket. Consumes the ticket.
 */
void ovpn_retire_after_grace(struct ovpn_retire *ticket,
			     void (*drop)(void *ptr), void *ptr);
/* [rcu] Put off the drop until a matching put: ptr stays. Before the ticket is
 * used, or in a read section that began before.
 */
void ovpn_retire_hold(struct ovpn_retire *ticket);
/* [any] */
void ovpn_retire_put(struct ovpn_retire *ticket);
/* [sleep] Wait until all readers are through that are reading now. */
void ovpn_rcu_wait(void);
/* Lock for readers that no packet path brought under RCU already. */
void ovpn_rcu_read_lock(void);
void ovpn_rcu_read_unlock(void);
/* The same with bottom halves off, as the receive path has it around it: for a
 * process that does that path's work or takes its locks.
 */
void ovpn_rx_begin(void);
void ovpn_rx_end(void);

#endif /* OVPN_API_RCU_H */
