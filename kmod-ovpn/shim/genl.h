/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Generic netlink family "ovpn", as genl.c (requests), answer.c and notify.c
 * share it. Numbers as in include/uapi/linux/ovpn.h, which kernels before 6.16
 * lack; those from 0x80 on are this driver's own (uapi/ovpn-ext.yaml).
 */
#ifndef OVPN_GENL_H
#define OVPN_GENL_H

#include <net/genetlink.h>

#include "internal.h"

enum {
	CMD_PEER_NEW = 1, CMD_PEER_SET, CMD_PEER_GET, CMD_PEER_DEL,
	CMD_PEER_DEL_NTF, CMD_KEY_NEW, CMD_KEY_GET, CMD_KEY_SWAP,
	CMD_KEY_SWAP_NTF, CMD_KEY_DEL, CMD_PEER_FLOAT_NTF,
	CMD_DEV_HOLD = 0x80,
};

enum {
	A_IFINDEX = 1, A_PEER, A_KEYCONF, A_MAX = A_KEYCONF,
};

enum {
	P_ID = 1, P_REMOTE_IPV4, P_REMOTE_IPV6, P_REMOTE_SCOPE, P_REMOTE_PORT,
	P_SOCKET, P_SOCKET_NETNSID, P_VPN_IPV4, P_VPN_IPV6, P_LOCAL_IPV4,
	P_LOCAL_IPV6, P_LOCAL_PORT, P_INTERVAL, P_TIMEOUT, P_DEL_REASON,
	P_STATS, P_TX_ID = P_STATS + OVPN_STAT_COUNT, P_MAX = P_TX_ID,
	P_DROPS = 0x80, P_LAST_SEEN,
};

enum {
	K_PEER_ID = 1, K_SLOT, K_KEY_ID, K_CIPHER, K_ENCRYPT, K_DECRYPT,
	K_MAX = K_DECRYPT,
	K_DRIVER = 0x80, K_ASYNC,
};

enum {
	D_KEY = 1, D_TAIL, D_MAX = D_TAIL,
};

/* Payload of an answer's or notification's PEER nest: the remote end. */
bool ovpn_put_remote(struct sk_buff *msg, const struct ovpn_endpoint *ends);

/* Attributes of ours are only for those who know them: the kernel's own reader
 * of netlink answers (pyynl) gives up at the first it does not. They say so by
 * the version in their request's header, which no driver has looked at so far.
 */
static inline bool ovpn_genl_extended(const struct genl_info *info)
{
	return info->genlhdr->version >= OVPN_EXT_VERSION;
}

/* A dump in progress: where the next peer goes. */
struct ovpn_dump {
	struct sk_buff *msg;
	const struct genl_info *info;
	u32 portid;
};

/* A request with its nests taken apart; attribute tables indexed by number. */
struct ovpn_req {
	struct genl_info *info;
	struct {
		struct nlattr *nest;
		struct nlattr **attrs;
		u32 max;
	} level[OVPN_NEST_COUNT];
	union {
		struct nlattr *peer[P_MAX + 1];
		struct nlattr *key[K_MAX + 1];
	};
	struct nlattr *dir[2][D_MAX + 1];
};

extern struct genl_family ovpn_family;

#endif /* OVPN_GENL_H */
