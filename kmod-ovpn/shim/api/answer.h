/* SPDX-License-Identifier: GPL-2.0 */
/* answer.c: answers to requests and dumps. */
#ifndef OVPN_API_ANSWER_H
#define OVPN_API_ANSWER_H

#include "types.h"
#include "aead.h"
#include "netdev.h"
#include "stats.h"

/* A peer in the answer to PEER_GET. */
struct ovpn_peer_info {
	u32 id;
	u32 tx_id;
	u32 interval;
	u32 timeout;
	struct ovpn_endpoint ends;
	u8 vpn4[4];
	u8 vpn6[16];
	u64 stats[OVPN_STAT_COUNT];
	/* By reason. */
	u32 drops[OVPN_DROP_SLOTS];
	/* Milliseconds since an authentic packet came, if ever one did. */
	u32 last_seen;
	bool heard;
};

/* A key in the answer to KEY_GET. */
struct ovpn_key_info {
	u32 peer_id;
	u32 slot;
	u32 key_id;
	u32 cipher;
	/* Name of the implementation, NUL at its end. */
	u8 driver[OVPN_DRIVER_LEN];
	bool async;
};

/* [any] Answer the request. sock may be NULL. */
int ovpn_genl_reply_peer(struct ovpn_req *req, const struct ovpn_sock *sock,
			 const struct ovpn_peer_info *info);
/* [sleep] */
int ovpn_genl_reply_key(struct ovpn_req *req, const struct ovpn_key_info *info);
/* Add a peer to a dump; -EMSGSIZE when the message is full. */
int ovpn_genl_dump_peer(struct ovpn_dump *dump, const struct ovpn_sock *sock,
			const struct ovpn_peer_info *info);

#endif /* OVPN_API_ANSWER_H */
