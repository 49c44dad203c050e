// SPDX-License-Identifier: GPL-2.0
/*
 * The way in. Each interface has a cell on each CPU: two queues and a NAPI poll
 * that empties them. The datagrams of a burst wait in the first until the poll
 * opens them, those of one peer and key together, and gives them to the stack
 * by GRO. In the second wait packets that were opened elsewhere: out of TCP
 * streams and by engines.
 *
 * The queues have a lock, because only they are tied to a CPU. The poll may be
 * a thread's that runs on another one, or be moved when the CPU goes offline;
 * NAPI sees to it that there is one poll of a cell at a time.
 *
 * The order of a queue is the order of its poll, but two polls know no order. So
 * a peer's datagrams go to the cell that has had them until there is nothing
 * left in it, and only then to another: that of the CPU they came to, or of one
 * that has more time (load.c), whose poll an interrupt starts there.
 *
 * The kernel's GRO cells do the second half, but do not tell how full they are,
 * and a TCP stream or the ordered queue of an engine, which has a place for its
 * packets, must stop before any is lost.
 */

#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/percpu.h>
#include <linux/skbuff.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/udp.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "internal.h"

/* Opened packets of a CPU: as net.core.netdev_max_backlog has it by default. */
#define CELL_OPENED	1024
/* Those who can wait do so from here on; the rest is for what is on its way. */
#define CELL_ROOM	(CELL_OPENED / 2)
/* Datagrams of a CPU, and their memory: a 64th of the machine's, in bytes. */
#define CELL_SEALED	8192
#define CELL_BYTES_MIN	(512 * 1024)
#define CELL_BYTES_MAX	(16 * 1024 * 1024)

struct ovpn_cell {
	/* Guards the queues, the bytes in the first, and active. */
	spinlock_t lock;
	/* The poll has something to do, is at it, or will be soon; or has not
	 * yet given the stack all that it opened.
	 */
	bool active;
	struct sk_buff_head sealed;
	u32 sealed_bytes;
	struct sk_buff_head opened;
	struct napi_struct napi;
	struct ovpn_dev *dev;
	/* The CPU that it is of, and the call or work that starts the poll there. */
	int cpu;
#ifdef CONFIG_PREEMPT_RT
	struct work_struct start;
#else
	call_single_data_t start;
#endif
	/* Packets that the poll has opened and not yet given to the stack. */
	struct sk_buff_head fresh;
	/* The task that the poll runs in, while cell_opening is this cell. */
	struct task_struct *opener;
};

/* The cell whose datagrams are being opened by this CPU. Between the two writes
 * no packet goes to the stack, so that no other cell's poll nor a second round
 * of the same comes in between. Bottom halves off. With PREEMPT_RT another task
 * may come in between, and is none of the poll: the opener tells. A poll that
 * finds its cell gone then gives its packets to the queue, in the same order.
 */
static DEFINE_PER_CPU(struct ovpn_cell *, cell_opening);

/* Memory that datagrams may take in one cell, in bytes of truesize. */
static u32 cell_bytes(void)
{
	unsigned long pages = totalram_pages() / 64;

	return clamp_t(unsigned long, min(pages, CELL_BYTES_MAX >> PAGE_SHIFT) <<
		       PAGE_SHIFT, CELL_BYTES_MIN, CELL_BYTES_MAX);
}

/* --- the poll ------------------------------------------------------------------- */

/* Of a datagram in the queue: the socket that received it. It lives as long as
 * the datagram is there, and as the read section in which it is taken out.
 */
static struct ovpn_sock **cell_sock(struct sk_buff *skb)
{
	return (struct ovpn_sock **)skb->cb;
}

/* Have datagrams of one socket and first word opened, and pass on what they hold. */
static void cell_open(struct ovpn_cell *cell, struct ovpn_sock *os, u32 op,
		      const struct ovpn_batch *batch, u32 lost)
{
	struct sk_buff *skb;

	cell->opener = current;
	this_cpu_write(cell_opening, cell);
	ovpn_rs_udp_batch(cell->dev->rs, os, op, batch, lost);
	this_cpu_write(cell_opening, NULL);
	while ((skb = __skb_dequeue(&cell->fresh)))
		napi_gro_receive(&cell->napi, skb);
}

static u32 cell_op(const struct sk_buff *skb)
{
	return get_unaligned_be32(skb->data + sizeof(struct udphdr));
}

/* Open datagrams in the order in which they came. */
static void cell_open_all(struct ovpn_cell *cell, struct sk_buff_head *sealed)
{
	struct sk_buff *skb;

	while ((skb = __skb_dequeue(sealed))) {
		struct ovpn_sock *os = *cell_sock(skb);
		struct ovpn_batch batch = { };
		u32 op = cell_op(skb), lost = 0;

		for (;;) {
			lost += !!ovpn_rx_take(skb, sizeof(struct udphdr),
					       &batch);
			skb = skb_peek(sealed);
			if (!skb || cell_op(skb) != op || *cell_sock(skb) != os)
				break;
			__skb_unlink(skb, sealed);
		}
		cell_open(cell, os, op, &batch, lost);
	}
}

static bool cell_is_empty(const struct ovpn_cell *cell)
{
	return skb_queue_empty(&cell->sealed) && skb_queue_empty(&cell->opened);
}

/* Move up to budget packets; says how many. */
static int cell_take(struct sk_buff_head *from, struct sk_buff_head *to,
		     int budget)
{
	struct sk_buff *skb;
	int n = skb_queue_len(from);

	if (n <= budget) {
		skb_queue_splice_tail_init(from, to);
		return n;
	}
	for (n = 0; n < budget && (skb = __skb_dequeue(from)); n++)
		__skb_queue_tail(to, skb);
	return n;
}

/* End a poll that found nothing more. Packets that it opened may wait in NAPI
 * until here: only then may another cell have the peers' next datagrams.
 */
static void cell_end(struct ovpn_cell *cell, int done)
{
	napi_complete_done(&cell->napi, done);
	spin_lock(&cell->lock);
	if (!cell_is_empty(cell))
		/* Those who brought more have left it to this poll. */
		napi_schedule(&cell->napi);
	else if (!napi_is_scheduled(&cell->napi))
		cell->active = false;
	spin_unlock(&cell->lock);
}

static int cell_poll(struct napi_struct *napi, int budget)
{
	struct ovpn_cell *cell = container_of(napi, struct ovpn_cell, napi);
	struct sk_buff_head sealed, opened;
	struct sk_buff *skb;
	int n, done = 0;

	__skb_queue_head_init(&sealed);
	__skb_queue_head_init(&opened);
	/* The read section that a softirq is, and a thread is not. */
	rcu_read_lock();
	while (done < budget) {
		spin_lock(&cell->lock);
		n = cell_take(&cell->opened, &opened, budget - done);
		n += cell_take(&cell->sealed, &sealed, budget - done - n);
		skb_queue_walk(&sealed, skb)
			cell->sealed_bytes -= skb->truesize;
		spin_unlock(&cell->lock);
		if (!n) {
			cell_end(cell, done);
			break;
		}
		while ((skb = __skb_dequeue(&opened)))
			napi_gro_receive(napi, skb);
		cell_open_all(cell, &sealed);
		done += n;
	}
	rcu_read_unlock();
	return done;
}

/* --- into the queues -------------------------------------------------------------- */

/* As uninit() closes the cells, IFF_UP has been gone for a grace period. */
static bool cell_closed(const struct ovpn_dev *dev)
{
	return !(READ_ONCE(dev->net->flags) & IFF_UP);
}

/* The cell for a peer's datagram, locked. */
static struct ovpn_cell *cell_of_peer(struct ovpn_dev *dev, u32 peer_id)
{
	u16 *cpu = &dev->cell_cpu[peer_id % ARRAY_SIZE(dev->cell_cpu)];
	int there = READ_ONCE(*cpu), here = smp_processor_id(), to;
	struct ovpn_cell *cell = per_cpu_ptr(dev->cells, there);

	spin_lock(&cell->lock);
	if (cell->active)
		return cell;
	to = READ_ONCE(dev->rx_spread) ? ovpn_load_pick(there) : here;
	if (likely(to == there))
		return cell;
	spin_unlock(&cell->lock);
	WRITE_ONCE(*cpu, to);
	cell = per_cpu_ptr(dev->cells, to);
	spin_lock(&cell->lock);
	return cell;
}

/* The poll is this caller's to start: NAPI has no other until it ran, and waits
 * for it when it is disabled.
 */
static void cell_start(void *cell)
{
	__napi_schedule(&((struct ovpn_cell *)cell)->napi);
}

#ifdef CONFIG_PREEMPT_RT

/* The kernel warns of softirqs that another CPU's interrupt raised: there a worker
 * raises this one. Its queue is empty before the module goes.
 */
static void cell_start_work(struct work_struct *work)
{
	local_bh_disable();
	cell_start(container_of(work, struct ovpn_cell, start));
	local_bh_enable();
}

static void cell_start_init(struct ovpn_cell *cell)
{
	INIT_WORK(&cell->start, cell_start_work);
}

static bool cell_start_there(struct ovpn_cell *cell)
{
	return queue_work_on(cell->cpu, ovpn_wq, &cell->start);
}

#else

static void cell_start_init(struct ovpn_cell *cell)
{
	INIT_CSD(&cell->start, cell_start, cell);
}

static bool cell_start_there(struct ovpn_cell *cell)
{
	return !smp_call_function_single_async(cell->cpu, &cell->start);
}

#endif

/* On the cell's CPU, or here when that one has just gone. */
static void cell_kick(struct ovpn_cell *cell)
{
	if (!napi_schedule_prep(&cell->napi))
		/* The poll is about to end, and begins anew instead. */
		return;
	if (cell->cpu == smp_processor_id() || !cell_start_there(cell))
		cell_start(cell);
}

/* Let go of the cell's lock, and see to it that the poll runs if it must. */
static void cell_unlock(struct ovpn_cell *cell)
{
	bool kick = !cell->active && !cell_is_empty(cell);

	cell->active |= kick;
	spin_unlock(&cell->lock);
	if (kick)
		cell_kick(cell);
}

bool ovpn_cells_queue(struct ovpn_sock *os, struct sk_buff_head *list)
{
	u32 peer_id = cell_op(skb_peek(list)) & OVPN_PEER_ID_NONE;
	struct ovpn_dev *dev = os->dev;
	struct ovpn_cell *cell;
	struct sk_buff *skb;
	u32 lost;

	/* Of packets without an id the sender's address decides, one by one. */
	if (unlikely(peer_id == OVPN_PEER_ID_NONE || cell_closed(dev)))
		return false;
	skb_queue_walk(list, skb) {
		/* The interface that it came by may be gone before the poll
		 * comes.
		 */
		skb_orphan(skb);
		skb_dst_drop(skb);
		skb->dev = dev->net;
		*cell_sock(skb) = os;
	}

	cell = cell_of_peer(dev, peer_id);
	if (cell->cpu != smp_processor_id())
		this_cpu_add(dev->drops->spread, skb_queue_len(list));
	while ((skb = skb_peek(list)) &&
	       likely(skb_queue_len(&cell->sealed) < CELL_SEALED &&
		      cell->sealed_bytes < dev->cell_bytes)) {
		__skb_unlink(skb, list);
		__skb_queue_tail(&cell->sealed, skb);
		cell->sealed_bytes += skb->truesize;
	}
	cell_unlock(cell);
	lost = skb_queue_len(list);
	if (unlikely(lost)) {
		ovpn_netdev_drop(dev, OVPN_DROP_RX, OVPN_DROP_RX_QUEUE_FULL,
				 lost);
		__skb_queue_purge(list);
	}
	return true;
}

void ovpn_cells_forget(struct ovpn_sock *os)
{
	struct ovpn_dev *dev = os->dev;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct ovpn_cell *cell = per_cpu_ptr(dev->cells, cpu);
		struct sk_buff_head gone;
		struct sk_buff *skb, *next;

		__skb_queue_head_init(&gone);
		spin_lock_bh(&cell->lock);
		skb_queue_walk_safe(&cell->sealed, skb, next) {
			if (*cell_sock(skb) != os)
				continue;
			__skb_unlink(skb, &cell->sealed);
			cell->sealed_bytes -= skb->truesize;
			__skb_queue_tail(&gone, skb);
		}
		spin_unlock_bh(&cell->lock);
		ovpn_netdev_drop(dev, OVPN_DROP_RX, OVPN_DROP_RX_GONE,
				 skb_queue_len(&gone));
		__skb_queue_purge(&gone);
	}
	/* A poll may be at those that it took out before. */
	synchronize_rcu();
}

bool ovpn_cells_have_room(const struct ovpn_dev *dev)
{
	return skb_queue_len_lockless(&this_cpu_ptr(dev->cells)->opened) <
	       CELL_ROOM;
}

/* False, and the packet freed, when it is lost. */
static bool cell_receive(struct ovpn_cell *cell, struct sk_buff *skb)
{
	bool fits;

	spin_lock(&cell->lock);
	fits = skb_queue_len(&cell->opened) < CELL_OPENED;
	if (likely(fits))
		__skb_queue_tail(&cell->opened, skb);
	cell_unlock(cell);
	if (unlikely(!fits))
		kfree_skb(skb);
	return fits;
}

/* Make an inner packet of what was an outer one's payload. */
static struct sk_buff *cell_unwrap(struct ovpn_dev *dev, struct ovpn_pkt *pkt)
{
	struct sk_buff *skb = ovpn_pkt_skb(pkt);

	skb->protocol = htons(pkt->proto);
	/* The outer packet's GSO, hash, queue, mark and route say nothing of the
	 * inner one.
	 */
	skb_gso_reset(skb);
	skb_clear_hash(skb);
	skb->dev = dev->net;
	skb_set_queue_mapping(skb, 0);
	skb_scrub_packet(skb, true);
	/* The tag proves that every byte is as the peer sent it, not that the
	 * packet was right when the peer got it from elsewhere. An application
	 * here, or a host behind us, relies on the checksum for that.
	 */
	skb->ip_summed = CHECKSUM_NONE;
	skb->csum_valid = 0;
	skb->csum_level = 0;
	skb_reset_network_header(skb);
	skb_reset_mac_header(skb);
	skb_reset_transport_header(skb);
	skb_reset_inner_headers(skb);
	return skb;
}

void ovpn_cells_deliver(struct ovpn_dev *dev, struct ovpn_batch *batch,
			u32 *packets, u32 *bytes)
{
	struct ovpn_pkt *pkt = batch->head;
	struct pcpu_sw_netstats *stats;
	struct ovpn_cell *cell;
	bool fresh;

	*packets = 0;
	*bytes = 0;
	if (unlikely(cell_closed(dev))) {
		ovpn_pkts_free(pkt, false);
		return;
	}
	/* Cells are per CPU, and TCP may bring us here from a process. */
	local_bh_disable();
	cell = this_cpu_read(cell_opening);
	fresh = cell && cell->dev == dev && cell->opener == current;
	if (!fresh)
		cell = this_cpu_ptr(dev->cells);
	while (pkt) {
		struct ovpn_pkt *next = pkt->next;
		struct sk_buff *skb;
		u32 len = pkt->len;

		skb = cell_unwrap(dev, pkt);
		if (fresh)
			__skb_queue_tail(&cell->fresh, skb);
		if (fresh || likely(cell_receive(cell, skb))) {
			++*packets;
			*bytes += len;
		}
		pkt = next;
	}
	stats = this_cpu_ptr(dev->net->tstats);
	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->rx_bytes, *bytes);
	u64_stats_add(&stats->rx_packets, *packets);
	u64_stats_update_end(&stats->syncp);
	local_bh_enable();
}

/* --- life -------------------------------------------------------------------------- */

int ovpn_cells_start(struct ovpn_dev *dev)
{
	int cpu;

	dev->cells = alloc_percpu(struct ovpn_cell);
	if (!dev->cells)
		return -ENOMEM;
	dev->cell_bytes = cell_bytes();
	for_each_possible_cpu(cpu) {
		struct ovpn_cell *cell = per_cpu_ptr(dev->cells, cpu);

		spin_lock_init(&cell->lock);
		__skb_queue_head_init(&cell->sealed);
		__skb_queue_head_init(&cell->opened);
		__skb_queue_head_init(&cell->fresh);
		cell->dev = dev;
		cell->cpu = cpu;
		cell_start_init(cell);
		/* Nothing that a socket could poll for. */
		set_bit(NAPI_STATE_NO_BUSY_POLL, &cell->napi.state);
		netif_napi_add(dev->net, &cell->napi, cell_poll);
		napi_enable(&cell->napi);
	}
	return 0;
}

void ovpn_cells_stop(struct ovpn_dev *dev)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct ovpn_cell *cell = per_cpu_ptr(dev->cells, cpu);

		napi_disable(&cell->napi);
		/* The memory stays until the interface is freed, which is more
		 * than the grace period asked for here.
		 */
		__netif_napi_del(&cell->napi);
		ovpn_netdev_drop(dev, OVPN_DROP_RX, OVPN_DROP_RX_GONE,
				 skb_queue_len(&cell->sealed) +
				 skb_queue_len(&cell->opened));
		__skb_queue_purge(&cell->sealed);
		__skb_queue_purge(&cell->opened);
	}
}
