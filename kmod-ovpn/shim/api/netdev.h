/* SPDX-License-Identifier: GPL-2.0 */
/* netdev.c: the network interface. */
#ifndef OVPN_API_NETDEV_H
#define OVPN_API_NETDEV_H

#include "types.h"

/* Room for drop reasons; the Rust side asserts that its list fits. */
#define OVPN_DROP_SLOTS	32
/* Reasons that C counts itself; the Rust side asserts the numbers. */
#define OVPN_DROP_RX_NO_MEMORY		9
#define OVPN_DROP_RX_GONE		11
#define OVPN_DROP_TX_BAD_PROTOCOL	15
#define OVPN_DROP_RX_QUEUE_FULL		22

int ovpn_netdev_init(void);
void ovpn_netdev_exit(void);
void ovpn_netdev_carrier(struct ovpn_dev *dev, bool on);
u32 ovpn_netdev_ifindex(const struct ovpn_dev *dev);
/* Which total of the interface a lost packet belongs to. */
enum ovpn_drop_total {
	OVPN_DROP_RX,
	OVPN_DROP_TX,
};

/* [any] Count packets lost for reason, below OVPN_DROP_SLOTS. */
void ovpn_netdev_drop(struct ovpn_dev *dev, enum ovpn_drop_total total,
		      u32 reason, u32 packets);
/* [any] Run ovpn_rs_tick() in this many seconds, or sooner if it was due. */
void ovpn_netdev_tick_in(struct ovpn_dev *dev, u32 seconds);
/* [any] Run ovpn_rs_tick() after a pause in which listeners can read. */
void ovpn_netdev_tick_again(struct ovpn_dev *dev);
/* [any] Run ovpn_rs_tell() soon: at once if it is long enough since it last
 * ran, else when it is.
 */
void ovpn_netdev_tell_soon(struct ovpn_dev *dev);

#endif /* OVPN_API_NETDEV_H */
