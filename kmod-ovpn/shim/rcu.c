// SPDX-License-Identifier: GPL-2.0
/*
 * Deferred release: what readers under RCU may still hold is dropped after a
 * grace period, from a context that may sleep (freeing a cipher may).
 */

#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "internal.h"

struct ovpn_retire {
	struct rcu_work work;
	void (*drop)(void *ptr);
	void *ptr;
};

struct workqueue_struct *ovpn_wq;

int ovpn_defer_init(void)
{
	ovpn_wq = alloc_workqueue("ovpn", WQ_PERCPU, 0);
	return ovpn_wq ? 0 : -ENOMEM;
}

void ovpn_defer_exit(void)
{
	int round;

	/* Dropping one object may retire another: a peer its keys and its
	 * socket. No chain is longer than two.
	 */
	for (round = 0; round < 3; round++) {
		rcu_barrier();
		flush_workqueue(ovpn_wq);
	}
	destroy_workqueue(ovpn_wq);
}

static void ovpn_retire_run(struct work_struct *work)
{
	struct ovpn_retire *ticket = container_of(to_rcu_work(work),
						  struct ovpn_retire, work);

	ticket->drop(ticket->ptr);
	kfree(ticket);
}

struct ovpn_retire *ovpn_retire_new(void)
{
	struct ovpn_retire *ticket = kzalloc(sizeof(*ticket), GFP_KERNEL);

	if (ticket)
		INIT_RCU_WORK(&ticket->work, ovpn_retire_run);
	return ticket;
}

void ovpn_retire_free(struct ovpn_retire *ticket)
{
	kfree(ticket);
}

void ovpn_retire_after_grace(struct ovpn_retire *ticket,
			     void (*drop)(void *ptr), void *ptr)
{
	ticket->drop = drop;
	ticket->ptr = ptr;
	queue_rcu_work(ovpn_wq, &ticket->work);
}

void ovpn_rcu_read_lock(void)
{
	rcu_read_lock();
}

void ovpn_rcu_read_unlock(void)
{
	rcu_read_unlock();
}
