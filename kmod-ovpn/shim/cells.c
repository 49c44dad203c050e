// SPDX-License-Identifier: GPL-2.0
/*
 * The last queue on the way in: packets of one CPU wait here for its NAPI poll,
 * which merges them (GRO) and hands them to the stack. The kernel's GRO cells
 * do the same, but do not tell how full they are, and whoever has a place for
 * its packets, a TCP stream or an engine's lane, must stop before any is lost.
 */

#include <linux/netdevice.h>
#include <linux/percpu.h>
#include <linux/skbuff.h>

#include "compat.h"
#include "internal.h"

/* Packets of a CPU: as net.core.netdev_max_backlog has it by default. */
#define CELL_PACKETS	1024
/* Who can wait does so from here on; the rest is for what is on its way. */
#define CELL_ROOM	(CELL_PACKETS / 2)

struct ovpn_cell {
	struct sk_buff_head queue;
	struct napi_struct napi;
};

static int cell_poll(struct napi_struct *napi, int budget)
{
	struct ovpn_cell *cell = container_of(napi, struct ovpn_cell, napi);
	struct sk_buff *skb;
	int done = 0;

	while (done < budget && (skb = __skb_dequeue(&cell->queue))) {
		napi_gro_receive(napi, skb);
		done++;
	}
	if (done < budget)
		napi_complete_done(napi, done);
	return done;
}

int ovpn_cells_start(struct ovpn_dev *dev)
{
	int cpu;

	dev->cells = alloc_percpu(struct ovpn_cell);
	if (!dev->cells)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		struct ovpn_cell *cell = per_cpu_ptr(dev->cells, cpu);

		__skb_queue_head_init(&cell->queue);
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
		__skb_queue_purge(&cell->queue);
	}
}

bool ovpn_cells_have_room(const struct ovpn_dev *dev)
{
	return skb_queue_len(&this_cpu_ptr(dev->cells)->queue) < CELL_ROOM;
}

bool ovpn_cells_receive(struct ovpn_dev *dev, struct sk_buff *skb)
{
	struct ovpn_cell *cell = this_cpu_ptr(dev->cells);

	/* As uninit() closes the cells, IFF_UP has been gone for a grace period. */
	if (unlikely(!(READ_ONCE(dev->net->flags) & IFF_UP) ||
		     skb_queue_len(&cell->queue) >= CELL_PACKETS)) {
		kfree_skb(skb);
		return false;
	}
	if (unlikely(skb_cloned(skb) || netif_elide_gro(dev->net)))
		return netif_rx(skb) == NET_RX_SUCCESS;
	__skb_queue_tail(&cell->queue, skb);
	if (skb_queue_len(&cell->queue) == 1)
		napi_schedule(&cell->napi);
	return true;
}
