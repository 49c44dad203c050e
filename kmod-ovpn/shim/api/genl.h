/* SPDX-License-Identifier: GPL-2.0 */
/* genl.c: requests of the generic netlink family. */
#ifndef OVPN_API_GENL_H
#define OVPN_API_GENL_H

#include "types.h"

/* Version in the header of a request whose sender knows the attributes of
 * uapi/ovpn-ext.yaml. Far from mainline's 1, so that it can grow.
 */
#define OVPN_EXT_VERSION	0x80

/* Attributes of a PEER nest; bit n of present stands for attribute n. */
struct ovpn_peer_attrs {
	u32 present;
	u32 id;
	u32 tx_id;
	u32 scope;
	u32 fd;
	u32 interval;
	u32 timeout;
	/* Network byte order. */
	u16 port;
	u16 pad;
	u8 remote4[4];
	u8 remote6[16];
	u8 vpn4[4];
	u8 vpn6[16];
	u8 local4[4];
	u8 local6[16];
};

/* Attributes of a KEYDIR nest. */
struct ovpn_keydir_attrs {
	u32 present;
	/* Points into the request; len bytes, at most 256. */
	const u8 *key;
	u32 len;
	u8 tail[8];
};

/* Attributes of a KEYCONF nest. */
struct ovpn_key_attrs {
	u32 present;
	u32 peer_id;
	u32 slot;
	u32 key_id;
	u32 cipher;
	struct ovpn_keydir_attrs enc;
	struct ovpn_keydir_attrs dec;
};

int ovpn_genl_init(void);
void ovpn_genl_exit(void);

/* Which nest an attribute number given to ovpn_genl_refuse() belongs to. */
enum ovpn_nest {
	OVPN_NEST_TOP,
	OVPN_NEST_INNER,
	OVPN_NEST_ENC,
	OVPN_NEST_DEC,
	OVPN_NEST_COUNT,
};

/* Put text, a string that outlives the request, into the request's extended
 * ACK, and when attr is not 0 the attribute at fault: where it is, if it is
 * there, else that it is missing.
 */
void ovpn_genl_refuse(struct ovpn_req *req, const char *text,
		      enum ovpn_nest nest, u32 attr);

#endif /* OVPN_API_GENL_H */
