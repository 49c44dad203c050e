/* SPDX-License-Identifier: GPL-2.0 */
/* order.c: asynchronous crypto, and the order of its packets. */
#ifndef OVPN_API_ORDER_H
#define OVPN_API_ORDER_H

#include "types.h"

/*
 * A peer has a queue for each direction. A job is a batch in such a queue: jobs
 * leave it in the order in which they entered, whenever the engine is done.
 */
#define OVPN_ORDER_OUT	0
#define OVPN_ORDER_IN	1
#define OVPN_ORDER_QUEUES	2

/* The owners of a job. It holds them until it is done. */
struct ovpn_job_owner {
	struct ovpn_dev *dev;
	void *peer;
	void *key;
	struct ovpn_retire *peer_ticket;
	struct ovpn_retire *key_ticket;
	/* For the Rust side alone. */
	u32 what;
};

/* [sleep] */
struct ovpn_order *ovpn_order_new(void);
/* [sleep] No job is left: each holds the peer that owns the queues. */
void ovpn_order_free(struct ovpn_order *order);
/* [any] Whether a job is in the queue. */
bool ovpn_order_busy(const struct ovpn_order *order, u32 queue);

/* [rcu] A job for so many packets. It holds its owners. NULL and *err:
 * -ENOMEM, or -ENOBUFS when the queue is full.
 */
struct ovpn_job *ovpn_job_new(struct ovpn_order *order, u32 queue,
			      const struct ovpn_job_owner *owner, u32 packets,
			      s32 *err);
/* [rcu] Take the job's turn: it comes out behind all that entered before.
 * No other job enters the queue before ovpn_job_entered().
 */
void ovpn_job_enter(struct ovpn_job *job);
void ovpn_job_entered(struct ovpn_job *job);
/* [rcu] Give the job its packets, and put them through the cipher as seal and
 * open above do, or, for ovpn_job_finish(), not at all. The job is consumed;
 * the packets come out by ovpn_rs_job_done(), perhaps before this returns.
 */
void ovpn_job_seal(struct ovpn_job *job, struct ovpn_aead *aead,
		   const u8 tail[8], const struct ovpn_batch *batch, u32 op,
		   u32 first_id);
void ovpn_job_open(struct ovpn_job *job, struct ovpn_aead *aead,
		   const u8 tail[8], const struct ovpn_batch *batch);
void ovpn_job_finish(struct ovpn_job *job, const struct ovpn_batch *batch);

/* [sleep] Wait until no job of any interface is in an engine and none comes back.
 * No new one may come.
 */
void ovpn_jobs_wait(void);

#endif /* OVPN_API_ORDER_H */
