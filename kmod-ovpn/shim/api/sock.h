/* SPDX-License-Identifier: GPL-2.0 */
/* sock.c: transport sockets. */
#ifndef OVPN_API_SOCK_H
#define OVPN_API_SOCK_H

#include "types.h"

#define OVPN_PROTO_UDP	17
#define OVPN_PROTO_TCP	6

/* [sleep] Socket behind a file descriptor of the caller; NULL and *err. */
struct socket *ovpn_fd_get(u32 fd, s32 *err);
/* IP protocol of the socket, 0 when it is no IP socket. */
u32 ovpn_fd_proto(const struct socket *sock);
void ovpn_fd_put(struct socket *sock);

/* [sleep] Take a socket over for a device, or share a UDP socket that the
 * device has already; data packets of a TCP stream are
 * peer_id's. Each success is paid back
 * by one ovpn_sock_release(). -EBUSY when the socket is somebody else's,
 * -ENOTCONN for TCP without a connection.
 */
struct ovpn_sock *ovpn_sock_attach(struct ovpn_dev *dev, struct socket *sock,
				   u32 peer_id, s32 *err);
/* [sleep] The last release gives the socket back to userspace. The object
 * stays readable under RCU until a grace period has passed.
 */
void ovpn_sock_release(struct ovpn_sock *sock);
u32 ovpn_sock_proto(const struct ovpn_sock *sock);
/* [rcu] Whether a peer is answered through one socket for a packet that the
 * other received: both are one, or UDP sockets of one namespace, family, port
 * and device (SO_REUSEPORT).
 */
bool ovpn_sock_stands_for(const struct ovpn_sock *sock,
			  const struct ovpn_sock *other);
/* The end of a socket. */
enum ovpn_end {
	OVPN_END_NONE,
	/* Userspace closed it. */
	OVPN_END_CLOSED,
	/* Its stream cannot be followed any longer. */
	OVPN_END_BROKEN,
};

/* [any] Once it is not NONE, the peers in the table that use the socket are
 * deleted, or have been.
 */
enum ovpn_end ovpn_sock_end(const struct ovpn_sock *sock);
/* Local port, network byte order. */
u16 ovpn_sock_port(const struct ovpn_sock *sock);

/* [rcu] Send each packet of the batch, by UDP along path or in the TCP stream.
 * Consumes the packets; on a negative errno none was sent, else the batch's sums
 * are of those that fitted the queue.
 */
int ovpn_sock_send(struct ovpn_dev *dev, struct ovpn_sock *sock,
		   struct ovpn_path *path, struct ovpn_batch *batch);

/* [sleep] Wait until no socket is ours and no caller is in our functions. No new
 * one may come.
 */
void ovpn_socks_wait(void);

#endif /* OVPN_API_SOCK_H */
