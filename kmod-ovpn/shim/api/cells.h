/* SPDX-License-Identifier: GPL-2.0 */
/* cells.c: the way of received packets to the stack. */
#ifndef OVPN_API_CELLS_H
#define OVPN_API_CELLS_H

#include "types.h"

/* [any] Hand inner packets, ethertype set, to the stack. Consumes them and says
 * how many, and how many bytes, it took.
 */
void ovpn_cells_deliver(struct ovpn_dev *dev, struct ovpn_batch *batch,
			u32 *packets, u32 *bytes);

#endif /* OVPN_API_CELLS_H */
