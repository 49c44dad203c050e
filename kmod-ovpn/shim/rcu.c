// SPDX-License-Identifier: GPL-2.0
/*
 * Deferred release: what readers under RCU may still hold is dropped after a
 * grace period, from a context that may sleep (freeing a cipher may). A job in an
 * engine holds its owners beyond that: the last one to let go starts another
 * grace period, because it still stands in the code that lets go.
 */

#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "internal.h"

struct ovpn_retire {
	struct rcu_work work;
	/* The readers' one, given back a grace period after the value left its
	 * place, and one for each job in an engine.
	 */
	refcount_t refs;
	bool unheld;
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

	if (!ticket->unheld && !refcount_dec_and_test(&ticket->refs))
		return;
	ticket->drop(ticket->ptr);
	kfree(ticket);
}

struct ovpn_retire *ovpn_retire_new(void)
{
	struct ovpn_retire *ticket = kzalloc(sizeof(*ticket), GFP_KERNEL);

	if (ticket) {
		INIT_RCU_WORK(&ticket->work, ovpn_retire_run);
		refcount_set(&ticket->refs, 1);
	}
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

void ovpn_retire_hold(struct ovpn_retire *ticket)
{
	refcount_inc(&ticket->refs);
}

void ovpn_retire_put(struct ovpn_retire *ticket)
{
	if (!refcount_dec_and_test(&ticket->refs))
		return;
	ticket->unheld = true;
	queue_rcu_work(ovpn_wq, &ticket->work);
}

/* Expedited: a request waits for it. */
void ovpn_rcu_wait(void)
{
	synchronize_rcu_expedited();
}

void ovpn_rcu_read_lock(void)
{
	rcu_read_lock();
}

void ovpn_rcu_read_unlock(void)
{
	rcu_read_unlock();
}

void ovpn_rx_begin(void)
{
	local_bh_disable();
	rcu_read_lock();
}

void ovpn_rx_end(void)
{
	rcu_read_unlock();
	local_bh_enable();
}
