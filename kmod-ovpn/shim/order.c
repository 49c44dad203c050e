// SPDX-License-Identifier: GPL-2.0
/*
 * Asynchronous crypto. A batch enters the queue of its peer and direction as a
 * job, its packets go to the engine, which may answer in any order and on any
 * CPU, and the job leaves the queue when all of them are back and all jobs
 * before it are out. All jobs of a queue leave it on one CPU: transmit queues,
 * virtual links and cells keep the order of one CPU only.
 *
 * A job holds its interface, its peer and its key. The queue belongs to the
 * peer: it lives as long as there is a job, and a grace period more, which
 * covers the read sections below.
 */

#include <crypto/aead.h>
#include <linux/cpumask.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/dst.h>

#include "internal.h"

/* Packets of a queue in the engine at a time. Packets beyond that are lost: a
 * sender with congestion control slows down, and one without it must not fill
 * the memory.
 */
#define ORDER_PACKETS	2048
/* Jobs taken out in one go; then others get the CPU, the stack behind the
 * interface among them.
 */
#define DRAIN_BUDGET	64

struct order_queue {
	spinlock_t lock;
	/* In the order in which they entered. */
	struct list_head jobs;
	/* Entered and not done with; more than the list while one leaves it. */
	u32 count;
	u32 packets;
	bool draining;
	/* Jobs leave the queue here. */
	int cpu;
	struct work_struct work;
};

struct ovpn_order {
	struct order_queue queue[OVPN_ORDER_QUEUES];
};

/* A packet in the engine; the driver's own request context follows. */
struct job_part {
	struct job_part *next;
	struct ovpn_job *job;
	struct ovpn_pkt *pkt;
	struct ovpn_aead_part part;
	struct aead_request req;
};

struct ovpn_job {
	struct list_head link;
	struct order_queue *queue;
	struct ovpn_job_owner owner;
	netdevice_tracker tracker;
	u32 packets;
	bool inbound;
	/* Headers are still in front of what was opened. */
	bool strip;
	/* Packets in the engine, and one for the caller that hands them over. */
	atomic_t pending;
	struct ovpn_batch batch;
	struct job_part *parts;
};

/* Jobs of the whole module. */
static atomic_t jobs;
static DECLARE_WAIT_QUEUE_HEAD(jobs_gone);

void ovpn_jobs_wait(void)
{
	wait_event(jobs_gone, !atomic_read(&jobs));
	/* The last one has left its queue, but not yet this code. */
	synchronize_rcu();
}

/* --- coming out ---------------------------------------------------------------- */

static void job_free(struct ovpn_job *job)
{
	struct job_part *part, *next;

	for (part = job->parts; part; part = next) {
		next = part->next;
		kfree_sensitive(part);
	}
	netdev_put(job->owner.dev->net, &job->tracker);
	ovpn_retire_put(job->owner.key_ticket);
	ovpn_retire_put(job->owner.peer_ticket);
	kfree(job);
	if (atomic_dec_and_test(&jobs))
		wake_up(&jobs_gone);
}

static void job_done(struct ovpn_job *job)
{
	struct ovpn_pkt *pkt;

	for (pkt = job->strip ? job->batch.head : NULL; pkt; pkt = pkt->next)
		if (likely(!pkt->err))
			ovpn_pkt_strip(&job->batch, pkt, OVPN_HEAD_LEN);
	ovpn_rs_job_done(job->owner.dev->rs, &job->owner, &job->batch);
}

/* In a read section, on the queue's CPU. */
static void order_drain(struct order_queue *queue)
{
	int budget = DRAIN_BUDGET;
	struct ovpn_job *job;
	u32 packets;

	spin_lock_bh(&queue->lock);
	if (queue->draining)
		/* The CPU that drains looks again before it stops. */
		goto out;
	queue->draining = true;
	while ((job = list_first_entry_or_null(&queue->jobs, struct ovpn_job, link)) &&
	       !atomic_read_acquire(&job->pending)) {
		if (!budget-- || (job->inbound &&
				  !ovpn_cells_have_room(job->owner.dev))) {
			queue_work_on(queue->cpu, ovpn_wq, &queue->work);
			break;
		}
		list_del(&job->link);
		spin_unlock(&queue->lock);
		job_done(job);
		packets = job->packets;
		job_free(job);
		spin_lock(&queue->lock);
		queue->count--;
		queue->packets -= packets;
	}
	queue->draining = false;
out:
	spin_unlock_bh(&queue->lock);
}

static void order_work(struct work_struct *work)
{
	rcu_read_lock();
	order_drain(container_of(work, struct order_queue, work));
	rcu_read_unlock();
}

/* One packet less in the engine, or all handed over. */
static void job_put(struct ovpn_job *job)
{
	struct order_queue *queue = job->queue;

	rcu_read_lock();
	local_bh_disable();
	if (!atomic_dec_and_test(&job->pending))
		goto out;
	if (smp_processor_id() == queue->cpu)
		order_drain(queue);
	else
		queue_work_on(queue->cpu, ovpn_wq, &queue->work);
out:
	local_bh_enable();
	rcu_read_unlock();
}

/* Called by the engine, in any context. */
static void job_part_done(void *data, int err)
{
	struct job_part *part = data;

	/* Only out of the backlog and into the engine. */
	if (err == -EINPROGRESS)
		return;
	part->pkt->err = err;
	job_put(part->job);
}

/* --- queues ---------------------------------------------------------------------- */

/* Spread over the CPUs, whichever of them userspace asks from. */
static int order_cpu(void)
{
	static atomic_t next;

	unsigned int cpu = cpumask_nth((u32)atomic_inc_return(&next) %
				       num_online_cpus(), cpu_online_mask);

	/* One may have gone between the count and the search. */
	return cpu < nr_cpu_ids ? cpu : cpumask_first(cpu_online_mask);
}

struct ovpn_order *ovpn_order_new(void)
{
	struct ovpn_order *order = kzalloc(sizeof(*order), GFP_KERNEL);
	int n;

	for (n = 0; order && n < OVPN_ORDER_QUEUES; n++) {
		spin_lock_init(&order->queue[n].lock);
		INIT_LIST_HEAD(&order->queue[n].jobs);
		INIT_WORK(&order->queue[n].work, order_work);
		order->queue[n].cpu = order_cpu();
	}
	return order;
}

/* Runs in a work of the same workqueue as the queues' own works, which do not
 * wait for it.
 */
void ovpn_order_free(struct ovpn_order *order)
{
	int n;

	for (n = 0; n < OVPN_ORDER_QUEUES; n++)
		cancel_work_sync(&order->queue[n].work);
	kfree(order);
}

bool ovpn_order_busy(const struct ovpn_order *order, u32 queue)
{
	/* A CPU that sends one packet after the other sees its own. */
	return READ_ONCE(order->queue[queue].count);
}

/* --- going in -------------------------------------------------------------------- */

struct ovpn_job *ovpn_job_new(struct ovpn_order *order, u32 number,
			      const struct ovpn_job_owner *owner, u32 packets,
			      s32 *err)
{
	struct order_queue *queue = &order->queue[number];
	struct ovpn_job *job;

	*err = -ENOBUFS;
	if (READ_ONCE(queue->packets) >= ORDER_PACKETS)
		return NULL;
	*err = -ENOMEM;
	job = kzalloc(sizeof(*job), GFP_ATOMIC);
	if (!job)
		return NULL;
	job->queue = queue;
	job->owner = *owner;
	job->packets = packets;
	job->inbound = number == OVPN_ORDER_IN;
	atomic_set(&job->pending, 1);
	atomic_inc(&jobs);
	netdev_hold(owner->dev->net, &job->tracker, GFP_ATOMIC);
	ovpn_retire_hold(owner->peer_ticket);
	ovpn_retire_hold(owner->key_ticket);
	return job;
}

void ovpn_job_enter(struct ovpn_job *job)
{
	struct order_queue *queue = job->queue;

	spin_lock_bh(&queue->lock);
	list_add_tail(&job->link, &queue->jobs);
	WRITE_ONCE(queue->count, queue->count + 1);
	WRITE_ONCE(queue->packets, queue->packets + job->packets);
}

void ovpn_job_entered(struct ovpn_job *job)
{
	spin_unlock_bh(&job->queue->lock);
}

/* Take the packets over, for longer than the read section of their sender. */
static void job_take(struct ovpn_job *job, const struct ovpn_batch *batch)
{
	struct ovpn_pkt *pkt;

	job->batch = *batch;
	for (pkt = job->inbound ? batch->head : NULL; pkt; pkt = pkt->next) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);

		skb_dst_drop(skb);
		skb->dev = job->owner.dev->net;
	}
}

/* Hand one packet, header first and len bytes of text, to the engine. */
static void job_submit(struct ovpn_job *job, struct ovpn_aead *aead,
		       const u8 tail[8], struct ovpn_pkt *pkt, u32 len,
		       bool encrypt)
{
	struct job_part *part = kmalloc(sizeof(*part) + ovpn_aead_reqsize(aead),
					GFP_ATOMIC);
	int ret;

	if (unlikely(!part)) {
		pkt->err = -ENOMEM;
		return;
	}
	part->job = job;
	part->pkt = pkt;
	part->next = job->parts;
	job->parts = part;
	ovpn_aead_prepare(aead, &part->req, &part->part, tail, pkt->data, len,
			  encrypt);
	/* A full engine may keep it waiting: the ordered queue bounds how
	 * much can wait.
	 */
	aead_request_set_callback(&part->req, CRYPTO_TFM_REQ_MAY_BACKLOG,
				  job_part_done, part);
	atomic_inc(&job->pending);
	ret = encrypt ? crypto_aead_encrypt(&part->req) :
			crypto_aead_decrypt(&part->req);
	if (ret == -EINPROGRESS || ret == -EBUSY)
		return;
	pkt->err = ret;
	/* Ours is still there. */
	atomic_dec(&job->pending);
}

void ovpn_job_seal(struct ovpn_job *job, struct ovpn_aead *aead,
		   const u8 tail[8], const struct ovpn_batch *batch, u32 op,
		   u32 first_id)
{
	struct ovpn_pkt *pkt;

	job_take(job, batch);
	job->batch.bytes += batch->count * OVPN_HEAD_LEN;
	for (pkt = batch->head; pkt; pkt = pkt->next) {
		u32 len = pkt->len;

		ovpn_pkt_head(pkt, op, first_id++, OVPN_HEAD_LEN);
		job_submit(job, aead, tail, pkt, len, true);
	}
	job_put(job);
}

void ovpn_job_open(struct ovpn_job *job, struct ovpn_aead *aead,
		   const u8 tail[8], const struct ovpn_batch *batch)
{
	struct ovpn_pkt *pkt;

	job_take(job, batch);
	job->strip = true;
	for (pkt = batch->head; pkt; pkt = pkt->next) {
		if (unlikely(pkt->len < OVPN_HEAD_LEN))
			pkt->err = -EINVAL;
		if (likely(!pkt->err))
			job_submit(job, aead, tail, pkt,
				   pkt->len - OVPN_HEAD_LEN, false);
	}
	job_put(job);
}

void ovpn_job_finish(struct ovpn_job *job, const struct ovpn_batch *batch)
{
	job_take(job, batch);
	job_put(job);
}
