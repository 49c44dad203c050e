/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions that Rust defines (src/sys/entry.rs) and C calls. Only C reads this header.
 * rs is the Rust side of a device, as ovpn_rs_dev_new() returned it.
 */
#ifndef OVPN_RUST_H
#define OVPN_RUST_H

#include "shim.h"

/* [sleep] The Rust side of a new device; NULL without memory. */
void *ovpn_rs_dev_new(struct ovpn_dev *dev, u8 mode);
/* [sleep] Delete the peers of a device that is being unregistered. */
void ovpn_rs_dev_down(void *rs);
/* [sleep] The device is gone: free what ovpn_rs_dev_new() made. */
void ovpn_rs_dev_free(void *rs);
u8 ovpn_rs_dev_mode(const void *rs);

/* [rcu, BH off] Send an inner packet whose IP header was checked. Consumes. */
void ovpn_rs_xmit(void *rs, struct sk_buff *skb);
/* [rcu, BH off] A datagram of len bytes behind its UDP header, of which the
 * first head_len are at head, received by sock. 0: consumed. 1: not for us,
 * untouched.
 */
int ovpn_rs_udp_rx(void *rs, struct ovpn_sock *sock, struct sk_buff *skb,
		   const u8 *head, u32 head_len, u32 len);
/* [rcu, BH off] Datagrams received by sock that begin with the word op, without
 * their UDP headers; lost more could not be read for want of memory.
 */
void ovpn_rs_udp_batch(void *rs, struct ovpn_sock *sock, u32 op,
		       const struct ovpn_batch *batch, u32 lost);
/* [sleep] Userspace closed a transport socket. */
void ovpn_rs_sock_gone(void *rs, const struct ovpn_sock *sock);
/* Receiving side of a TCP stream whose data packets are peer_id's; NULL without
 * memory.
 */
void *ovpn_rs_tcp_new(u32 peer_id);
void ovpn_rs_tcp_free(void *stream);
/* [rcu, BH off, socket lock] Bytes of the stream. False when it is no OpenVPN
 * stream, or not one for us.
 */
bool ovpn_rs_tcp_bytes(void *rs, struct ovpn_sock *sock, void *stream,
		       const u8 *data, u32 len);
/* [rcu, BH off, socket lock] No more bytes for now: deliver what is complete. */
void ovpn_rs_tcp_flush(void *rs, struct ovpn_sock *sock, void *stream);
/* [sleep] The stream cannot be used any more. */
void ovpn_rs_tcp_broken(void *rs, const struct ovpn_sock *sock);
/* [sleep] Time for keepalives and expiries. */
void ovpn_rs_tick(void *rs);
/* [sleep] Send notifications that wait; true when some still do. */
bool ovpn_rs_tell(void *rs);
/* [rcu, BH off] A job left its queue; its packets are given up. */
void ovpn_rs_job_done(void *rs, const struct ovpn_job_owner *owner,
		      const struct ovpn_batch *batch);
/* The fault of a preference as text; NULL when it has none. */
const char *ovpn_rs_check_preference(const char *text, u32 len);
/* Name of a drop reason, without a NUL: its length, 0 past the last reason. */
u32 ovpn_rs_drop_name(u32 reason, const char **name);

/* [sleep] Netlink requests, attributes within the policy's ranges. */
int ovpn_rs_peer_new(void *rs, struct ovpn_req *req,
		     const struct ovpn_peer_attrs *attrs);
int ovpn_rs_peer_set(void *rs, struct ovpn_req *req,
		     const struct ovpn_peer_attrs *attrs);
int ovpn_rs_peer_get(void *rs, struct ovpn_req *req,
		     const struct ovpn_peer_attrs *attrs);
int ovpn_rs_peer_del(void *rs, struct ovpn_req *req,
		     const struct ovpn_peer_attrs *attrs);
int ovpn_rs_key_new(void *rs, struct ovpn_req *req,
		    const struct ovpn_key_attrs *attrs);
int ovpn_rs_key_get(void *rs, struct ovpn_req *req,
		    const struct ovpn_key_attrs *attrs);
int ovpn_rs_key_swap(void *rs, struct ovpn_req *req,
		     const struct ovpn_key_attrs *attrs);
int ovpn_rs_key_del(void *rs, struct ovpn_req *req,
		    const struct ovpn_key_attrs *attrs);
/* [sleep] Continue a dump at *cursor (0 first) and move it; 0 or -errno. */
int ovpn_rs_peer_dump(void *rs, struct ovpn_dump *dump, unsigned long *cursor);

#endif /* OVPN_RUST_H */
