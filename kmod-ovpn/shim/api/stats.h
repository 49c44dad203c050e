/* SPDX-License-Identifier: GPL-2.0 */
/* stats.c: per-CPU counters of a peer. */
#ifndef OVPN_API_STATS_H
#define OVPN_API_STATS_H

#include "types.h"

/* The eight counters of a peer, in the order of the UAPI attributes 16 to 23. */
enum ovpn_stat {
	OVPN_STAT_VPN_RX_BYTES,
	OVPN_STAT_VPN_TX_BYTES,
	OVPN_STAT_VPN_RX_PACKETS,
	OVPN_STAT_VPN_TX_PACKETS,
	OVPN_STAT_LINK_RX_BYTES,
	OVPN_STAT_LINK_TX_BYTES,
	OVPN_STAT_LINK_RX_PACKETS,
	OVPN_STAT_LINK_TX_PACKETS,
	OVPN_STAT_COUNT,
};

struct ovpn_stats *ovpn_stats_new(void);
void ovpn_stats_free(struct ovpn_stats *stats);
/* [any] Add to a bytes counter and to the packets counter that belongs to it. */
void ovpn_stats_add(struct ovpn_stats *stats, enum ovpn_stat bytes_of,
		    u32 packets, u32 bytes);
void ovpn_stats_read(const struct ovpn_stats *stats, u64 out[OVPN_STAT_COUNT]);
/* Seconds of CLOCK_BOOTTIME, truncated to 32 bits. */
u32 ovpn_now(void);

#endif /* OVPN_API_STATS_H */
