/* SPDX-License-Identifier: GPL-2.0 */
/* notify.c: notifications. */
#ifndef OVPN_API_NOTIFY_H
#define OVPN_API_NOTIFY_H

#include "types.h"
#include "stats.h"

/* Tell the peers group, in the namespace of the peer's socket, which lives. */
void ovpn_genl_notify_del(const struct ovpn_dev *dev,
			  const struct ovpn_sock *sock, u32 peer_id, u32 reason,
			  const u64 stats[OVPN_STAT_COUNT]);
void ovpn_genl_notify_float(const struct ovpn_dev *dev,
			    const struct ovpn_sock *sock, u32 peer_id,
			    const struct ovpn_endpoint *to);
void ovpn_genl_notify_swap(const struct ovpn_dev *dev,
			   const struct ovpn_sock *sock, u32 peer_id,
			   u32 key_id);

#endif /* OVPN_API_NOTIFY_H */
