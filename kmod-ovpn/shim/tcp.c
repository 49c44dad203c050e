// SPDX-License-Identifier: GPL-2.0
/*
 * TCP transport. Packets travel in the stream behind a 16-bit length. The
 * kernel keeps the data packets; the others are for userspace, which goes on
 * using its socket as if nothing had happened, but gets whole packets.
 *
 * Receiving: in the caller's context when the socket is free, else in a work.
 * Rust decides the meaning of the bytes, under the socket lock.
 * Sending: always by a work, which may sleep, and which writes as many packets
 * at once as have come together since it last ran. A queued packet stays
 * charged to the inner socket it came from, so that one slows down instead of
 * losing packets.
 */

#include <linux/mm.h>
#include <linux/skbuff.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "compat.h"
#include "internal.h"

#define OVPN_LEN_LEN		2
/* Bytes of data packets waiting to be written. Packets of a local socket are
 * charged to it, which slows it down, so many such sockets may have theirs here
 * together. A forwarded packet is charged to no socket, and a longer queue would
 * only delay it.
 */
#define OVPN_OUT_MAX		(512 * 1024)
#define OVPN_OUT_OWNED_MAX	(8 * OVPN_OUT_MAX)
/* Forwarded packets: the smallest take twenty times their bytes. */
#define OVPN_OUT_PACKETS	2048
/* The queues of all streams together take one part in so many of the memory,
 * beside the first bytes of each.
 */
#define OVPN_OUT_SHARE		32
#define OVPN_OUT_LEAST		(32 * 1024)
/* Packets from userspace waiting to be written. */
#define OVPN_CONTROL_MAX	64
/* Packets in one call of the socket. */
#define OVPN_WRITE_PACKETS	32
#define OVPN_WRITE_BYTES	(64 * 1024)
/* Bytes that are read before the room behind is looked at again: of the
 * smallest packets, 46 bytes and their length, 170.
 */
#define OVPN_READ_BYTES		(8 * 1024)

struct ovpn_tcp {
	struct ovpn_sock *os;
	/* Receiving side, in Rust; NULL once detached. Socket lock. */
	void *stream;
	/* Complete packets with their length in front, for userspace. */
	struct sk_buff_head to_user;
	/* The same, from userspace; go out first. */
	struct sk_buff_head control;
	/* Data packets, and their bytes, under the queue's lock. */
	struct sk_buff_head out;
	u32 out_bytes;
	/* Somebody was told that the queue of control packets is full. */
	bool wanted;
	/* Being written, the first one from byte sent on. Socket lock. */
	struct sk_buff_head writing;
	u32 sent;
	struct work_struct rx_work;
	struct work_struct tx_work;
	struct work_struct broken_work;

	/* The socket's own callbacks. */
	void (*data_ready)(struct sock *sk);
	void (*write_space)(struct sock *sk);
	struct proto *prot;
	const struct proto_ops *ops;
};

/* The socket functions with ours in them, for IPv4 and IPv6; made of those of
 * the first socket of each kind, because 6.12 does not export them all.
 */
static struct ovpn_tcp_kind {
	struct proto prot;
	struct proto_ops ops;
	bool ready;
} kinds[2];
static DEFINE_MUTEX(kinds_lock);

/* Bytes in the queues of data packets of all streams. */
static atomic_long_t out_all = ATOMIC_LONG_INIT(0);

/* Under RCU: the stream of a socket whose callback runs. */
static struct ovpn_tcp *stream_of(struct sock *sk)
{
	struct ovpn_sock *os = rcu_dereference_sk_user_data(sk);

	return os && os->sk == sk ? os->tcp : NULL;
}

/* --- receiving --------------------------------------------------------------- */

struct sk_buff *ovpn_frame_new(u32 len)
{
	struct sk_buff *frame = alloc_skb(NET_SKB_PAD + NET_IP_ALIGN + len,
					  GFP_ATOMIC);

	if (frame)
		/* Also puts the inner header where the CPU likes it: 24 bytes
		 * of ours keep the alignment.
		 */
		skb_reserve(frame, NET_SKB_PAD);
	return frame;
}

void ovpn_frame_add(struct sk_buff *frame, const u8 *data, u32 len)
{
	if (len <= skb_tailroom(frame))
		skb_put_data(frame, data, len);
}

const u8 *ovpn_frame_data(const struct sk_buff *frame, u32 *len)
{
	*len = frame->len;
	return frame->data;
}

void ovpn_frame_to_batch(struct sk_buff *frame, struct ovpn_batch *batch)
{
	ovpn_batch_add(batch, frame);
}

static void frame_uncharge(struct sk_buff *skb)
{
	atomic_sub(skb->truesize, &skb->sk->sk_rmem_alloc);
}

/* A frame fills the socket's receive buffer, but does not touch its budget of
 * memory as skb_set_owner_r() would: that belongs to the holder of the socket
 * lock, and frames are freed without it.
 */
static void frame_charge(struct sk_buff *skb, struct sock *sk)
{
	skb->sk = sk;
	skb->destructor = frame_uncharge;
	atomic_add(skb->truesize, &sk->sk_rmem_alloc);
}

bool ovpn_frame_to_user(struct ovpn_sock *os, struct sk_buff *frame)
{
	struct sock *sk = os->sk;
	u16 len = frame->len;

	if (atomic_read(&sk->sk_rmem_alloc) > READ_ONCE(sk->sk_rcvbuf)) {
		kfree_skb(frame);
		return false;
	}
	put_unaligned_be16(len, __skb_push(frame, OVPN_LEN_LEN));
	memset(frame->cb, 0, sizeof(frame->cb));
	frame_charge(frame, sk);
	skb_queue_tail(&os->tcp->to_user, frame);
	os->tcp->data_ready(sk);
	return true;
}

static void stream_broken(struct ovpn_tcp *tcp)
{
	/* The reference goes with the work. */
	if (refcount_inc_not_zero(&tcp->os->refs) &&
	    !queue_work(ovpn_wq, &tcp->broken_work))
		ovpn_sock_put(tcp->os);
}

static void broken_work(struct work_struct *work)
{
	struct ovpn_tcp *tcp = container_of(work, struct ovpn_tcp, broken_work);
	struct ovpn_sock *os = tcp->os;

	WRITE_ONCE(os->end, OVPN_END_BROKEN);
	ovpn_rs_tcp_broken(os->dev->rs, os);
	ovpn_sock_put(os);
}

static int stream_actor(read_descriptor_t *desc, struct sk_buff *skb,
		     unsigned int offset, size_t len)
{
	struct ovpn_tcp *tcp = desc->arg.data;
	struct ovpn_sock *os = tcp->os;
	struct skb_seq_state state;
	unsigned int done = 0;
	const u8 *data;
	u32 n;

	skb_prepare_seq_read(skb, offset, offset + len, &state);
	while ((n = skb_seq_read(done, &data, &state))) {
		if (!ovpn_cells_have_room(os->dev)) {
			/* Bytes that stay in the socket slow the sender down. */
			skb_abort_seq_read(&state);
			queue_work(ovpn_wq, &tcp->rx_work);
			desc->count = 0;
			return done;
		}
		n = min_t(u32, n, OVPN_READ_BYTES);
		if (!ovpn_rs_tcp_bytes(os->dev->rs, os, tcp->stream, data, n)) {
			skb_abort_seq_read(&state);
			desc->error = -EPROTO;
			desc->count = 0;
			break;
		}
		done += n;
	}
	/* A broken stream is not read on: all of it counts as read. */
	return len;
}

/* Under RCU and the socket lock, bottom halves off. */
static void stream_receive(struct ovpn_tcp *tcp)
{
	read_descriptor_t desc = { .arg.data = tcp, .count = 1 };

	if (!tcp->stream)
		return;
	tcp_read_sock(tcp->os->sk, &desc, stream_actor);
	ovpn_rs_tcp_flush(tcp->os->dev->rs, tcp->os, tcp->stream);
	if (unlikely(desc.error == -EPROTO)) {
		ovpn_rs_tcp_free(tcp->stream);
		tcp->stream = NULL;
		stream_broken(tcp);
	}
}

static void rx_work(struct work_struct *work)
{
	struct ovpn_tcp *tcp = container_of(work, struct ovpn_tcp, rx_work);

	lock_sock(tcp->os->sk);
	local_bh_disable();
	rcu_read_lock();
	stream_receive(tcp);
	rcu_read_unlock();
	local_bh_enable();
	release_sock(tcp->os->sk);
}

static void stream_data_ready(struct sock *sk)
{
	struct ovpn_tcp *tcp;

	rcu_read_lock();
	tcp = stream_of(sk);
	if (tcp && sock_owned_by_user_nocheck(sk)) {
		queue_work(ovpn_wq, &tcp->rx_work);
	} else if (tcp) {
		local_bh_disable();
		stream_receive(tcp);
		local_bh_enable();
	}
	/* The end of the stream is for userspace. */
	if (tcp && sk->sk_shutdown & RCV_SHUTDOWN)
		tcp->data_ready(sk);
	rcu_read_unlock();
}

/* --- sending ----------------------------------------------------------------- */

/* Take the next packet to write: userspace's first. */
static struct sk_buff *stream_next(struct ovpn_tcp *tcp)
{
	struct sk_buff *skb = skb_dequeue(&tcp->control);

	if (skb)
		return skb;
	spin_lock_bh(&tcp->out.lock);
	skb = __skb_dequeue(&tcp->out);
	if (skb) {
		tcp->out_bytes -= skb->len;
		atomic_long_sub(skb->len, &out_all);
	}
	spin_unlock_bh(&tcp->out.lock);
	return skb;
}

/* Drop the data packets that wait. */
static void out_purge(struct ovpn_tcp *tcp)
{
	spin_lock_bh(&tcp->out.lock);
	atomic_long_sub(tcp->out_bytes, &out_all);
	tcp->out_bytes = 0;
	__skb_queue_purge(&tcp->out);
	spin_unlock_bh(&tcp->out.lock);
}

/* Whether a queue may grow beyond its first bytes. */
static bool out_has_room(const struct ovpn_tcp *tcp)
{
	unsigned long all = atomic_long_read(&out_all);

	return tcp->out_bytes < OVPN_OUT_LEAST ||
	       all / PAGE_SIZE < totalram_pages() / OVPN_OUT_SHARE;
}

/* Gather what one call of the socket takes. */
static u32 stream_gather(struct ovpn_tcp *tcp, struct kvec *vec, u32 *bytes)
{
	struct sk_buff *skb;
	u32 n = 0;

	skb_queue_walk(&tcp->writing, skb)
		*bytes += skb->len;
	*bytes -= tcp->sent;
	while (*bytes < OVPN_WRITE_BYTES &&
	       skb_queue_len(&tcp->writing) < OVPN_WRITE_PACKETS &&
	       (skb = stream_next(tcp))) {
		__skb_queue_tail(&tcp->writing, skb);
		*bytes += skb->len;
	}
	skb_queue_walk(&tcp->writing, skb) {
		u32 from = n ? 0 : tcp->sent;

		vec[n].iov_base = skb->data + from;
		vec[n].iov_len = skb->len - from;
		n++;
	}
	return n;
}

/* Free what was written completely. */
static void stream_written(struct ovpn_tcp *tcp, u32 bytes)
{
	struct sk_buff *skb;

	tcp->sent += bytes;
	while ((skb = skb_peek(&tcp->writing)) && tcp->sent >= skb->len) {
		tcp->sent -= skb->len;
		__skb_unlink(skb, &tcp->writing);
		consume_skb(skb);
	}
}

/* Under the socket lock. False when the stream is broken. */
static bool stream_write(struct ovpn_tcp *tcp)
{
	struct kvec vec[OVPN_WRITE_PACKETS];

	for (;;) {
		struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
		u32 bytes = 0, n = stream_gather(tcp, vec, &bytes);
		int ret;

		if (!n)
			return true;
		iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, vec, n, bytes);
		ret = tcp_sendmsg_locked(tcp->os->sk, &msg, bytes);
		if (ret == -EAGAIN)
			/* write_space() comes back to this. */
			return true;
		if (ret < 0)
			return false;
		stream_written(tcp, ret);
	}
}

static bool control_full(const struct ovpn_tcp *tcp)
{
	return skb_queue_len_lockless(&tcp->control) >= OVPN_CONTROL_MAX;
}

/* For who wants to add to the queue: asked for a wake-up before the answer is
 * final, so that room made meanwhile is not missed.
 */
static bool control_stays_full(struct ovpn_tcp *tcp)
{
	if (!control_full(tcp))
		return false;
	WRITE_ONCE(tcp->wanted, true);
	/* Pairs with the one in tx_work(). */
	smp_mb();
	return control_full(tcp);
}

static void tx_work(struct work_struct *work)
{
	struct ovpn_tcp *tcp = container_of(work, struct ovpn_tcp, tx_work);
	struct sock *sk = tcp->os->sk;
	struct socket_wq *wq;

	lock_sock(sk);
	if (tcp->stream && !stream_write(tcp))
		stream_broken(tcp);
	release_sock(sk);
	/* Pairs with the one in control_stays_full(). */
	smp_mb();
	if (!READ_ONCE(tcp->wanted) || control_full(tcp))
		return;
	WRITE_ONCE(tcp->wanted, false);
	/* The socket itself wakes only those whom its own buffer stopped. A
	 * closed one has no queue any more.
	 */
	rcu_read_lock();
	wq = rcu_dereference(sk->sk_wq);
	if (skwq_has_sleeper(wq))
		wake_up_interruptible_poll(&wq->wait, EPOLLOUT | EPOLLWRNORM |
						      EPOLLWRBAND);
	rcu_read_unlock();
}

void ovpn_tcp_send(struct ovpn_sock *os, struct ovpn_batch *batch)
{
	struct ovpn_pkt *pkt = batch->head, *over = NULL;
	struct ovpn_tcp *tcp = os->tcp;
	/* Of a UDP super-packet only the last segment has an owner. */
	u32 most = ovpn_pkt_skb(batch->tail)->destructor ? OVPN_OUT_OWNED_MAX :
							   OVPN_OUT_MAX;

	spin_lock_bh(&tcp->out.lock);
	while (pkt) {
		struct sk_buff *skb = ovpn_pkt_skb(pkt);
		struct ovpn_pkt *next = pkt->next;
		u16 len = skb->len;

		if (tcp->out_bytes > most || !out_has_room(tcp) ||
		    skb->len > U16_MAX ||
		    (!skb->destructor &&
		     skb_queue_len(&tcp->out) >= OVPN_OUT_PACKETS)) {
			batch->count--;
			batch->bytes -= pkt->len;
			pkt->next = over;
			over = pkt;
		} else {
			dev_sw_netstats_tx_add(os->dev->net, 1,
					       len - pkt->head);
			put_unaligned_be16(len, __skb_push(skb, OVPN_LEN_LEN));
			tcp->out_bytes += skb->len;
			atomic_long_add(skb->len, &out_all);
			__skb_queue_tail(&tcp->out, skb);
		}
		pkt = next;
	}
	spin_unlock_bh(&tcp->out.lock);
	ovpn_pkts_free(over, false);
	queue_work(ovpn_wq, &tcp->tx_work);
}

static void stream_write_space(struct sock *sk)
{
	struct ovpn_tcp *tcp;

	rcu_read_lock();
	tcp = stream_of(sk);
	if (tcp) {
		queue_work(ovpn_wq, &tcp->tx_work);
		tcp->write_space(sk);
	}
	rcu_read_unlock();
}

/* --- what userspace calls ----------------------------------------------------- */

/* Whether a receiver need not wait any longer. */
static bool stream_readable(const struct ovpn_tcp *tcp)
{
	const struct sock *sk = tcp->os->sk;

	return !skb_queue_empty_lockless(&tcp->to_user) ||
	       READ_ONCE(sk->sk_err) || sk->sk_shutdown & RCV_SHUTDOWN ||
	       !READ_ONCE(tcp->stream);
}

/* One packet, or as much of it as fits. */
static int stream_receive_one(struct ovpn_tcp *tcp, struct msghdr *msg, size_t len,
			   int flags)
{
	struct sock *sk = tcp->os->sk;
	long left = sock_rcvtimeo(sk, flags & MSG_DONTWAIT);
	struct sk_buff *skb;
	int ret, err, off;
	size_t copied;

	for (;;) {
		off = 0;
		skb = __skb_recv_datagram(sk, &tcp->to_user,
					  flags | MSG_DONTWAIT, &off, &err);
		if (skb)
			break;
		if (err != -EAGAIN || sk->sk_shutdown & RCV_SHUTDOWN)
			return err == -EAGAIN ? 0 : err;
		if (!READ_ONCE(tcp->stream))
			return -ENOTCONN;
		if (!left)
			return -EAGAIN;
		left = wait_event_interruptible_timeout(*sk_sleep(sk),
							stream_readable(tcp),
							left);
		if (left < 0)
			return sock_intr_errno(READ_ONCE(sk->sk_rcvtimeo));
	}
	copied = min_t(size_t, len, skb->len);
	if (copied < skb->len)
		msg->msg_flags |= MSG_TRUNC;
	ret = skb_copy_datagram_msg(skb, 0, msg, copied);
	if (!ret)
		ret = flags & MSG_TRUNC ? skb->len : copied;
	consume_skb(skb);
	return ret;
}

OVPN_RECVMSG(stream_recvmsg)
{
	struct ovpn_sock *os = ovpn_sock_find(sk);
	int ret;

	if (!os)
		return -EBADF;
	/* Errors, time stamps: TCP's own business. */
	if (unlikely(flags & MSG_ERRQUEUE))
		ret = os->tcp->prot->recvmsg(sk, msg, len,
					     flags OVPN_RECVMSG_REST);
	else
		ret = stream_receive_one(os->tcp, msg, len, flags);
	ovpn_sock_put(os);
	return ret;
}

/* One packet with its length in front. */
static int stream_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
{
	struct ovpn_sock *os;
	struct sk_buff *skb;
	int ret = -EINVAL;

	if (msg->msg_flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL))
		return -EOPNOTSUPP;
	if (size <= OVPN_LEN_LEN || size > OVPN_LEN_LEN + U16_MAX)
		return -EMSGSIZE;
	os = ovpn_sock_find(sk);
	if (!os)
		return -EIO;

	skb = alloc_skb(size, GFP_KERNEL);
	if (!skb) {
		ret = -ENOMEM;
		goto put;
	}
	if (!copy_from_iter_full(skb_put(skb, size), size, &msg->msg_iter)) {
		ret = -EFAULT;
		goto free;
	}
	/* A length that does not fit would put the whole stream out of step. */
	if (get_unaligned_be16(skb->data) != size - OVPN_LEN_LEN)
		goto free;
	ret = -EAGAIN;
	if (control_stays_full(os->tcp))
		goto free;
	skb_queue_tail(&os->tcp->control, skb);
	queue_work(ovpn_wq, &os->tcp->tx_work);
	ovpn_sock_put(os);
	return size;
free:
	kfree_skb(skb);
put:
	ovpn_sock_put(os);
	return ret;
}

/* No other protocol on top while this one is: its functions would go where ours
 * are.
 */
static int stream_setsockopt(struct sock *sk, int level, int name,
			     sockptr_t value, unsigned int len)
{
	struct ovpn_sock *os = ovpn_sock_find(sk);
	int ret = -EBUSY;

	/* The socket has its own functions back by now. */
	if (!os)
		return READ_ONCE(sk->sk_prot)->setsockopt(sk, level, name,
							  value, len);
	if (level != SOL_TCP || name != TCP_ULP)
		ret = os->tcp->prot->setsockopt(sk, level, name, value, len);
	ovpn_sock_put(os);
	return ret;
}

static int stream_disconnect(struct sock *sk, int flags)
{
	return -EBUSY;
}

static void stream_close(struct sock *sk, long timeout)
{
	struct ovpn_sock *os = ovpn_sock_find(sk);

	if (os) {
		/* The last peer gives the socket its own functions back. */
		WRITE_ONCE(os->end, OVPN_END_CLOSED);
		ovpn_rs_sock_gone(os->dev->rs, os);
		ovpn_sock_put(os);
	}
	tcp_close(sk, timeout);
}

static __poll_t stream_poll(struct file *file, struct socket *sock,
			      poll_table *wait)
{
	struct sock *sk = sock->sk;
	struct ovpn_sock *os;
	__poll_t mask = 0;

	sock_poll_wait(file, sock, wait);
	os = ovpn_sock_find(sk);
	if (!os)
		return EPOLLERR;
	if (READ_ONCE(sk->sk_err) || !READ_ONCE(os->tcp->stream))
		mask |= EPOLLERR;
	if (sk->sk_shutdown & RCV_SHUTDOWN)
		mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
	if (sk->sk_shutdown == SHUTDOWN_MASK || sk->sk_state == TCP_CLOSE)
		mask |= EPOLLHUP;
	if (!skb_queue_empty_lockless(&os->tcp->to_user))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (!control_stays_full(os->tcp))
		mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
	ovpn_sock_put(os);
	return mask;
}

/* --- attaching and detaching --------------------------------------------------- */

static struct ovpn_tcp_kind *stream_kind(struct sock *sk, const struct socket *sock)
{
	struct ovpn_tcp_kind *kind = &kinds[sk->sk_family == AF_INET6];

	mutex_lock(&kinds_lock);
	if (!kind->ready) {
		kind->prot = *sk->sk_prot;
		kind->prot.recvmsg = stream_recvmsg;
		kind->prot.sendmsg = stream_sendmsg;
		kind->prot.setsockopt = stream_setsockopt;
		kind->prot.disconnect = stream_disconnect;
		kind->prot.close = stream_close;
		kind->ops = *sock->ops;
		kind->ops.poll = stream_poll;
		kind->ready = true;
	}
	mutex_unlock(&kinds_lock);
	return kind;
}

int ovpn_tcp_attach(struct ovpn_sock *os, struct socket *sock, u32 peer_id)
{
	struct sock *sk = os->sk;
	struct ovpn_tcp_kind *kind;
	struct ovpn_tcp *tcp;

	if (sk->sk_state != TCP_ESTABLISHED)
		return -ENOTCONN;
	/* TLS, say: it has put its own functions where ours would go. */
	if (inet_csk_has_ulp(sk))
		return -EBUSY;
	kind = stream_kind(sk, sock);

	tcp = kzalloc(sizeof(*tcp), GFP_KERNEL);
	if (!tcp)
		return -ENOMEM;
	tcp->os = os;
	skb_queue_head_init(&tcp->to_user);
	skb_queue_head_init(&tcp->control);
	skb_queue_head_init(&tcp->out);
	__skb_queue_head_init(&tcp->writing);
	INIT_WORK(&tcp->rx_work, rx_work);
	INIT_WORK(&tcp->tx_work, tx_work);
	INIT_WORK(&tcp->broken_work, broken_work);
	tcp->stream = ovpn_rs_tcp_new(peer_id);
	if (!tcp->stream) {
		kfree(tcp);
		return -ENOMEM;
	}
	os->tcp = tcp;

	write_lock_bh(&sk->sk_callback_lock);
	tcp->data_ready = sk->sk_data_ready;
	tcp->write_space = sk->sk_write_space;
	tcp->prot = sk->sk_prot;
	tcp->ops = sock->ops;
	rcu_assign_sk_user_data(sk, os);
	sk->sk_data_ready = stream_data_ready;
	sk->sk_write_space = stream_write_space;
	WRITE_ONCE(sk->sk_prot, &kind->prot);
	WRITE_ONCE(sock->ops, &kind->ops);
	write_unlock_bh(&sk->sk_callback_lock);

	/* No later callback announces bytes that arrived before. */
	queue_work(ovpn_wq, &tcp->rx_work);
	return 0;
}

void ovpn_tcp_detach(struct ovpn_sock *os)
{
	struct ovpn_tcp *tcp = os->tcp;
	struct sock *sk = os->sk;

	/* Userspace was told that its packets are on their way, and the last of
	 * them may say why the peer ends. So are the rest of a packet that is
	 * half written, if the socket takes it.
	 */
	out_purge(tcp);
	if (tcp->stream && sk->sk_state != TCP_CLOSE)
		stream_write(tcp);

	write_lock_bh(&sk->sk_callback_lock);
	sk->sk_data_ready = tcp->data_ready;
	sk->sk_write_space = tcp->write_space;
	WRITE_ONCE(sk->sk_prot, tcp->prot);
	/* A closed socket has no file any more. */
	if (sk->sk_socket)
		WRITE_ONCE(sk->sk_socket->ops, tcp->ops);
	rcu_assign_sk_user_data(sk, NULL);
	write_unlock_bh(&sk->sk_callback_lock);

	if (tcp->stream)
		ovpn_rs_tcp_free(tcp->stream);
	WRITE_ONCE(tcp->stream, NULL);
	/* Charged to sockets that must not wait for a grace period. */
	skb_queue_purge(&tcp->to_user);
	out_purge(tcp);
	__skb_queue_purge(&tcp->writing);
	/* Wake who waits in our functions. */
	tcp->data_ready(sk);
}

/* In a work of the same queue as ours, none of which waits for it. */
void ovpn_tcp_free(struct ovpn_tcp *tcp)
{
	cancel_work_sync(&tcp->rx_work);
	cancel_work_sync(&tcp->tx_work);
	if (tcp->stream)
		ovpn_rs_tcp_free(tcp->stream);
	skb_queue_purge(&tcp->to_user);
	skb_queue_purge(&tcp->control);
	out_purge(tcp);
	__skb_queue_purge(&tcp->writing);
	kfree(tcp);
}
