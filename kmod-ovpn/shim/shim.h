/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What Rust may call. bindgen reads this header, so it names no kernel type
 * but by opaque pointer and includes nothing when it is bindgen that reads.
 *
 * Every function here does the work of a packet, of a batch of packets or of
 * one configuration request; none is a primitive. Those marked [any] may be
 * called from any context but NMI, [rcu] need the RCU read lock, [sleep] need
 * a context that may sleep.
 */
#ifndef OVPN_SHIM_H
#define OVPN_SHIM_H

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
struct ovpn_lanes;
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

/* Room for drop reasons; the Rust side asserts that its list fits. */
#define OVPN_DROP_SLOTS	32
/* Reasons that C counts itself; the Rust side asserts the numbers. */
#define OVPN_DROP_RX_NO_MEMORY		9
#define OVPN_DROP_RX_GONE		11
#define OVPN_DROP_TX_BAD_PROTOCOL	15
#define OVPN_DROP_RX_QUEUE_FULL		22

/* What C itself recognises: opcode and peer id of data packets that can be told
 * apart by their first word alone; the Rust side asserts the numbers.
 */
#define OVPN_OPCODE_DATA	9
#define OVPN_PEER_ID_NONE	0xffffff

/* --- rcu.c: deferred release --------------------------------------------- */

/* [sleep] Bring up and tear down the workqueue every deferral runs on. The
 * exit side returns only when no callback of ours is left anywhere.
 */
int ovpn_defer_init(void);
void ovpn_defer_exit(void);

/* [sleep] A ticket for one later call; NULL without memory. */
struct ovpn_retire *ovpn_retire_new(void);
/* [any] Return a ticket that was never used. */
void ovpn_retire_free(struct ovpn_retire *ticket);
/* [any] After a grace period, call drop(ptr) from a context that may sleep,
 * then free the ticket. Consumes the ticket.
 */
void ovpn_retire_after_grace(struct ovpn_retire *ticket,
			     void (*drop)(void *ptr), void *ptr);
/* [rcu] Put off the drop until a matching put: ptr stays. Before the ticket is
 * used, or in a read section that began before.
 */
void ovpn_retire_hold(struct ovpn_retire *ticket);
/* [any] */
void ovpn_retire_put(struct ovpn_retire *ticket);
/* [sleep] Wait until all readers are through that are reading now. */
void ovpn_rcu_wait(void);
/* Lock for readers that no packet path brought under RCU already. */
void ovpn_rcu_read_lock(void);
void ovpn_rcu_read_unlock(void);

/* --- stats.c: per-CPU counters ------------------------------------------- */

struct ovpn_stats *ovpn_stats_new(void);
void ovpn_stats_free(struct ovpn_stats *stats);
/* [any] Add to a bytes counter and to the packets counter that belongs to it. */
void ovpn_stats_add(struct ovpn_stats *stats, enum ovpn_stat bytes_of,
		    u32 packets, u32 bytes);
void ovpn_stats_read(const struct ovpn_stats *stats, u64 out[OVPN_STAT_COUNT]);
/* Seconds of CLOCK_BOOTTIME, truncated to 32 bits. */
u32 ovpn_now(void);

/* --- skb.c: packets and batches ------------------------------------------ */

void ovpn_skb_free(struct sk_buff *skb);
/* [any] Cut an outgoing packet into what will be sent: segments of a GSO
 * packet, or itself. Each result is contiguous, exclusively owned, has its
 * checksums filled in and headroom for every outer header. Consumes skb. What
 * memory ran out for is missing from the batch and counted in *lost.
 * -EMSGSIZE or -ENOMEM when nothing could be made of it.
 */
int ovpn_tx_split(struct sk_buff *skb, struct ovpn_batch *out, u32 *lost);
/* [any] A batch of one packet with the given content. */
int ovpn_tx_message(struct ovpn_dev *dev, const u8 *data, u32 len,
		    struct ovpn_batch *out);
/* [any] Turn a received datagram into a batch: strip bytes of transport
 * header are removed, the rest is made contiguous and writable. Consumes skb.
 */
int ovpn_rx_take(struct sk_buff *skb, u32 strip, struct ovpn_batch *out);
/* [any] Free a list of packets: as dropped, or as delivered to their end. */
void ovpn_pkts_free(struct ovpn_pkt *head, bool consumed);

/* --- chachapoly.c, aead.c: crypto over a batch ---------------------------- */

/*
 * seal: prepend op, the packet id (counted up from first_id) and the tag, and
 * encrypt the packet behind them. open: check and decrypt packets whose id is
 * set and whose err is 0, and leave the inner packet in them. Nonce, header
 * and tag are laid out as OpenVPN's data packet version 2. A failure is noted
 * in the packet's err and does not stop the batch. [any]
 */
void ovpn_chachapoly_seal(const u32 key[8], const u8 tail[8],
			  struct ovpn_batch *batch, u32 op, u32 first_id);
void ovpn_chachapoly_open(const u32 key[8], const u8 tail[8],
			  struct ovpn_batch *batch);

/* What an implementation must not be. */
#define OVPN_NOT_ASYNC	1
#define OVPN_NOT_HARDWARE 2

/* [sleep] One direction of an AEAD key. name selects the implementation, by
 * the crypto API's name of the algorithm or of a driver; alg is what it must
 * implement; avoid is a sum of the above. NULL and *err on failure.
 */
struct ovpn_aead *ovpn_aead_new(const u8 *name, u32 name_len, const char *alg,
				u32 avoid, const u8 *key, u32 len, s32 *err);
void ovpn_aead_free(struct ovpn_aead *aead);
/* CRYPTO_MAX_ALG_NAME */
#define OVPN_DRIVER_LEN	128
/* Name of the driver, with a NUL. */
void ovpn_aead_driver(const struct ovpn_aead *aead, u8 out[OVPN_DRIVER_LEN]);
/* Whether requests may come back later. Then only jobs may use it. */
bool ovpn_aead_is_async(const struct ovpn_aead *aead);
void ovpn_aead_seal(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch, u32 op, u32 first_id);
void ovpn_aead_open(struct ovpn_aead *aead, const u8 tail[8],
		    struct ovpn_batch *batch);

/* The same without cipher and tag: only op and packet id come in front. */
void ovpn_plain_seal(struct ovpn_batch *batch, u32 op, u32 first_id);
void ovpn_plain_open(struct ovpn_batch *batch);

/* --- engine.c: crypto that comes back later -------------------------------- */

/*
 * A lane keeps the order of one peer and direction: jobs come out of it as they
 * went in, whenever an engine is done with them. A job is a batch on its way.
 */
#define OVPN_LANE_OUT	0
#define OVPN_LANE_IN	1
#define OVPN_LANES	2

/* Whose job it is: values that stay with it until it is done. */
struct ovpn_job_owner {
	struct ovpn_dev *dev;
	void *peer;
	void *key;
	struct ovpn_retire *peer_ticket;
	struct ovpn_retire *key_ticket;
	/* For the Rust side alone. */
	u32 what;
};

/* [sleep] */
struct ovpn_lanes *ovpn_lanes_new(void);
/* [sleep] No job is left: each holds the owner of the lanes. */
void ovpn_lanes_free(struct ovpn_lanes *lanes);
/* [any] Whether a job is on its way. */
bool ovpn_lanes_busy(const struct ovpn_lanes *lanes, u32 lane);

/* [rcu] A job for so many packets. It holds what it belongs to. NULL and *err:
 * -ENOMEM, or -ENOBUFS when the lane is full.
 */
struct ovpn_job *ovpn_job_new(struct ovpn_lanes *lanes, u32 lane,
			      const struct ovpn_job_owner *owner, u32 packets,
			      s32 *err);
/* [rcu] Take the job's turn: it comes out behind all that entered before.
 * Nobody else enters the lane until ovpn_job_entered().
 */
void ovpn_job_enter(struct ovpn_job *job);
void ovpn_job_entered(struct ovpn_job *job);
/* [rcu] Give the job its packets, and put them through the cipher as seal and
 * open above do, or, for ovpn_job_finish(), not at all. The job is consumed;
 * the packets come out by ovpn_rs_job_done(), perhaps before this returns.
 */
void ovpn_job_seal(struct ovpn_job *job, struct ovpn_aead *aead,
		   const u8 tail[8], const struct ovpn_batch *batch, u32 op,
		   u32 first_id);
void ovpn_job_open(struct ovpn_job *job, struct ovpn_aead *aead,
		   const u8 tail[8], const struct ovpn_batch *batch);
void ovpn_job_finish(struct ovpn_job *job, const struct ovpn_batch *batch);

/* --- params.c: module parameters ------------------------------------------- */

/* Longest preference of a cipher, without a NUL. */
#define OVPN_PREFERENCE_LEN	255

/* [sleep] Which implementation of a cipher (enum ovpn_cipher_alg) is wished
 * for: its length, and the text in out.
 */
u32 ovpn_params_preference(u32 cipher, u8 out[OVPN_PREFERENCE_LEN]);
/* Whether keys of cipher none are accepted. */
bool ovpn_params_allow_none(void);
/* Packet id that a new key sends first; 0 is none. */
u32 ovpn_params_first_packet_id(void);

/* --- table.c: peers by id and by address ----------------------------------- */

/* Pointers by number. Inserting and removing need a lock of the caller. */
struct ovpn_ids *ovpn_ids_new(void);
void ovpn_ids_free(struct ovpn_ids *ids);
/* [sleep] -EEXIST or -ENOMEM. */
int ovpn_ids_insert(struct ovpn_ids *ids, u32 id, void *value);
/* [any] What was there, or NULL. */
void *ovpn_ids_remove(struct ovpn_ids *ids, u32 id);
/* [rcu] */
void *ovpn_ids_find(struct ovpn_ids *ids, u32 id);
/* [rcu] The value with the smallest number not below *id, which is set to it. */
void *ovpn_ids_next(struct ovpn_ids *ids, u32 *id);

/* [any] Mark a number's value, if there is one. */
void ovpn_ids_mark(struct ovpn_ids *ids, u32 id);
/* [rcu] Some marked value, which is marked no more, or NULL. Needs the lock that
 * removing needs.
 */
void *ovpn_ids_unmark_next(struct ovpn_ids *ids);

/* Peer ids by address. */
struct ovpn_addrs *ovpn_addrs_new(void);
void ovpn_addrs_free(struct ovpn_addrs *addrs);
/* [any] -EEXIST when another id has the address and steal is false; -ENOMEM. */
int ovpn_addrs_add(struct ovpn_addrs *addrs, const struct ovpn_addr *key,
		   u32 id, bool steal);
/* [any] Does nothing when the address is not this id's. */
void ovpn_addrs_del(struct ovpn_addrs *addrs, const struct ovpn_addr *key, u32 id);
/* [rcu] */
bool ovpn_addrs_find(struct ovpn_addrs *addrs, const struct ovpn_addr *key,
		     u32 *id);

/* --- route.c: next hops of inner packets ----------------------------------- */

/* [any] Gateway of the packet's route, or its destination. */
void ovpn_tx_hop(const struct sk_buff *skb, struct ovpn_addr *hop);
/* [rcu] Whether an answer to a packet from src to dst would go out through the
 * interface, to a next hop that this id has.
 */
bool ovpn_route_leads(const struct ovpn_dev *dev, struct ovpn_addrs *addrs,
		      const struct ovpn_addr *src, const struct ovpn_addr *dst,
		      u32 id);

/* --- sock.c, path.c, tcp.c: transport -------------------------------------- */

#define OVPN_PROTO_UDP	17
#define OVPN_PROTO_TCP	6

/* [sleep] Socket behind a file descriptor of the caller; NULL and *err. */
struct socket *ovpn_fd_get(u32 fd, s32 *err);
/* IP protocol of the socket, 0 when it is no IP socket. */
u32 ovpn_fd_proto(const struct socket *sock);
void ovpn_fd_put(struct socket *sock);

/* [sleep] Take a socket over for a device, or share a UDP socket that the
 * device has already; what comes by TCP is peer_id's. Each success is paid back
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
/* [rcu] Whether what one socket received is answered through another as if that
 * had received it: both are one, or UDP sockets of one namespace, family, port
 * and device (SO_REUSEPORT).
 */
bool ovpn_sock_stands_for(const struct ovpn_sock *sock,
			  const struct ovpn_sock *other);
/* What has become of a socket. */
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

/* [any] Make room for a TCP packet of len bytes; NULL without memory. */
struct sk_buff *ovpn_frame_new(u32 len);
/* [any] Append received bytes, which must fit. */
void ovpn_frame_add(struct sk_buff *frame, const u8 *data, u32 len);
/* [any] The frame's bytes so far. */
const u8 *ovpn_frame_data(const struct sk_buff *frame, u32 *len);
/* [any] Queue a complete frame for userspace to receive. Consumes it; false
 * when userspace has not fetched what it has.
 */
bool ovpn_frame_to_user(struct ovpn_sock *sock, struct sk_buff *frame);
/* [any] Append a complete frame to a batch. Consumes it. */
void ovpn_frame_to_batch(struct sk_buff *frame, struct ovpn_batch *batch);

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

/* [rcu] Send each packet of the batch, by UDP along path or in the TCP stream.
 * Consumes the packets; on a negative errno none was sent, else the batch's sums
 * are of those that fitted the queue.
 */
int ovpn_sock_send(struct ovpn_dev *dev, struct ovpn_sock *sock,
		   struct ovpn_path *path, struct ovpn_batch *batch);

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
/* [rcu] Tell the sender of an inner packet that nobody is there to get it. */
void ovpn_tx_unreachable(struct sk_buff *skb);

/* --- cells.c: the way in --------------------------------------------------- */

/* [any] Hand inner packets, ethertype set, to the stack. Consumes them and says
 * how many, and how many bytes, it took.
 */
void ovpn_cells_deliver(struct ovpn_dev *dev, struct ovpn_batch *batch,
			u32 *packets, u32 *bytes);

/* --- netdev.c: the network interface -------------------------------------- */

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

/* --- genl.c, answer.c, notify.c: generic netlink --------------------------- */

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

/* What PEER_GET tells. */
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

/* What KEY_GET tells. */
struct ovpn_key_info {
	u32 peer_id;
	u32 slot;
	u32 key_id;
	u32 cipher;
	/* Name of the implementation, NUL at its end. */
	u8 driver[OVPN_DRIVER_LEN];
	bool async;
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
/* [any] Answer the request. sock may be NULL. */
int ovpn_genl_reply_peer(struct ovpn_req *req, const struct ovpn_sock *sock,
			 const struct ovpn_peer_info *info);
/* [sleep] */
int ovpn_genl_reply_key(struct ovpn_req *req, const struct ovpn_key_info *info);
/* Add a peer to a dump; -EMSGSIZE when the message is full. */
int ovpn_genl_dump_peer(struct ovpn_dump *dump, const struct ovpn_sock *sock,
			const struct ovpn_peer_info *info);
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

#endif /* OVPN_SHIM_H */
