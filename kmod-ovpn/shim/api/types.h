/* SPDX-License-Identifier: GPL-2.0 */
/* Types of more than one file, and those that Rust sees by pointer only. */
#ifndef OVPN_API_TYPES_H
#define OVPN_API_TYPES_H

#ifdef __BINDGEN__
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef _Bool bool;
#else
#include <linux/types.h>
#endif

struct sk_buff;
struct socket;
struct ovpn_dev;
struct ovpn_sock;
struct ovpn_path;
struct ovpn_aead;
struct ovpn_stats;
struct ovpn_order;
struct ovpn_job;
struct ovpn_retire;
struct ovpn_ids;
struct ovpn_addrs;
struct ovpn_req;
struct ovpn_dump;

/*
 * One packet of a batch; lives in skb->cb of the packet it describes, so a
 * batch costs no memory and no packet can be in two batches. shim/skb.c
 * asserts that it fits.
 */
struct ovpn_pkt {
	struct ovpn_pkt *next;
	/* The packet, contiguous and writable: [data, data + len). */
	u8 *data;
	u32 len;
	/* Packet id, host byte order. */
	u32 id;
	/* Outcome of the crypto step: 0 or a negative errno. */
	s32 err;
	/* Ethertype of the inner packet, host byte order; 0 until known. */
	u16 proto;
	/* Bytes in front of an outgoing packet's payload. */
	u16 head;
	/* Of the first packet of a run: packets that may leave as one. */
	u16 run;
	/* ECN bits of the other header: of a received packet the outer one, of an
	 * outgoing packet the inner one.
	 */
	u8 ecn;
	/* Of a packet that waits for its key: since when, as ovpn_now() tells it. */
	u32 at;
};

/* A list of packets with one owner; head == NULL exactly when count == 0. */
struct ovpn_batch {
	struct ovpn_pkt *head;
	struct ovpn_pkt *tail;
	u32 count;
	/* Sum of len over the packets. */
	u32 bytes;
};

#define OVPN_AF_NONE	0
#define OVPN_AF_INET	2
#define OVPN_AF_INET6	10

/*
 * Both ends of a UDP path. IPv4 addresses take the first four bytes; a local
 * address of zeros lets routing choose.
 */
struct ovpn_endpoint {
	u16 family;
	/* Remote port, network byte order. */
	u16 port;
	/* Interface index for link-local IPv6 remotes, else 0. */
	u32 scope;
	u8 remote[16];
	u8 local[16];
};

/*
 * Key of an address table. IPv4 is mapped into IPv6; fields that do not matter
 * to a table are 0. The first field is aligned as the struct, to 4 bytes.
 */
struct ovpn_addr {
	u8 ip[16];
	/* Interface index of a link-local address. */
	u32 scope;
	/* Network byte order. */
	u16 port;
	u16 pad;
};

/* Opcode and peer id of the data packets that C recognises, which the first word
 * alone tells apart; the Rust side asserts the numbers.
 */
#define OVPN_OPCODE_DATA	9
#define OVPN_PEER_ID_NONE	0xffffff

#endif /* OVPN_API_TYPES_H */
