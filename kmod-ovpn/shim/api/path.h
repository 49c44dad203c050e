/* SPDX-License-Identifier: GPL-2.0 */
/* path.c: the way to a peer by UDP. */
#ifndef OVPN_API_PATH_H
#define OVPN_API_PATH_H

#include "types.h"

/* [sleep] Where a peer is reached, with its route cache. It keeps the namespace of
 * the socket, to which its routes belong.
 */
struct ovpn_path *ovpn_path_new(const struct ovpn_sock *sock);
void ovpn_path_free(struct ovpn_path *path);
/* [any] */
void ovpn_path_set(struct ovpn_path *path, const struct ovpn_endpoint *ends);
void ovpn_path_get(const struct ovpn_path *path, struct ovpn_endpoint *ends);
/* [any] Whether a datagram, UDP header in front, came from the remote end. */
bool ovpn_path_is_source(const struct ovpn_path *path,
			 const struct sk_buff *skb);
/* [any] The same of a datagram that ovpn_rx_take() took. */
bool ovpn_path_is_sender(const struct ovpn_path *path,
			 const struct ovpn_pkt *pkt);

enum ovpn_learnt {
	OVPN_LEARNT_NOTHING,
	/* The peer now uses another address of ours. */
	OVPN_LEARNT_LOCAL,
	/* The peer itself has moved. */
	OVPN_LEARNT_REMOTE,
};

/* [any] Make the ends of an authentic packet's datagram those of the path.
 * When the remote end moved, say from where and to where.
 */
enum ovpn_learnt ovpn_path_learn(struct ovpn_path *path,
				 const struct ovpn_pkt *pkt,
				 struct ovpn_endpoint *from,
				 struct ovpn_endpoint *to);
/* [rcu] Remote end of a received datagram. */
void ovpn_skb_source(const struct sk_buff *skb, struct ovpn_addr *source);

/* [rcu] Bytes of the largest inner packet that gets to the peer in one piece,
 * as far as the route there and the interface's MTU tell; U32_MAX when the
 * interface does not want TCP's segment size clamped to it.
 */
u32 ovpn_sock_mss_room(struct ovpn_dev *dev, struct ovpn_sock *sock,
		       struct ovpn_path *path);
/* [rcu] Tell the sender of an inner packet, perhaps a GSO one, when it is too
 * big for the path and marked as not to be fragmented. False when it must be
 * dropped, because outer packets must not be fragmented either.
 */
bool ovpn_sock_admit(struct ovpn_dev *dev, struct ovpn_sock *sock,
		     struct ovpn_path *path, struct sk_buff *skb);
/* [rcu] Tell the sender of an inner packet that no peer has its destination. */
void ovpn_tx_unreachable(struct sk_buff *skb);

#endif /* OVPN_API_PATH_H */
