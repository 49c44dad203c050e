// SPDX-License-Identifier: GPL-2.0
/* Transport sockets: taken over from userspace, shared by peers, given back. */

#include <linux/net.h>
#include <linux/rcupdate.h>
#include <linux/udp.h>
#include <linux/wait.h>
#include <net/inet_sock.h>
#include <net/sock.h>

#include "compat.h"
#include "internal.h"

struct socket *ovpn_fd_get(u32 fd, s32 *err)
{
	return sockfd_lookup(fd, err);
}

u32 ovpn_fd_proto(const struct socket *sock)
{
	/* A raw socket may carry the same protocol number: ask for the type. */
	if (sk_is_udp(sock->sk))
		return OVPN_PROTO_UDP;
	if (sk_is_tcp(sock->sk))
		return OVPN_PROTO_TCP;
	return 0;
}

void ovpn_fd_put(struct socket *sock)
{
	sockfd_put(sock);
}

u16 ovpn_sock_port(const struct ovpn_sock *os)
{
	return (__force u16)inet_sk(os->sk)->inet_sport;
}

enum ovpn_end ovpn_sock_end(const struct ovpn_sock *os)
{
	return READ_ONCE(os->end);
}

u32 ovpn_sock_proto(const struct ovpn_sock *os)
{
	return os->tcp ? OVPN_PROTO_TCP : OVPN_PROTO_UDP;
}

bool ovpn_sock_stands_for(const struct ovpn_sock *os,
			  const struct ovpn_sock *other)
{
	const struct sock *a = os->sk, *b = other->sk;

	if (likely(os == other))
		return true;
	return !os->tcp && !other->tcp &&
	       inet_sk(a)->inet_sport == inet_sk(b)->inet_sport &&
	       net_eq(sock_net(a), sock_net(b)) &&
	       READ_ONCE(a->sk_family) == READ_ONCE(b->sk_family) &&
	       READ_ONCE(a->sk_bound_dev_if) == READ_ONCE(b->sk_bound_dev_if);
}

/* Sockets that somebody still refers to: a process in one of our functions, or a
 * peer.
 */
static atomic_t socks = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(socks_gone);

void ovpn_socks_wait(void)
{
	wait_event(socks_gone, !atomic_read(&socks));
	/* A process that came by the socket's functions may stand before the
	 * first or behind the last line that has to do with ours.
	 */
	synchronize_rcu_tasks();
}

static void ovpn_sock_free(struct work_struct *work)
{
	struct ovpn_sock *os = container_of(to_rcu_work(work), struct ovpn_sock,
					    free_work);

	if (os->tcp)
		ovpn_tcp_free(os->tcp);
	else
		ovpn_cells_forget(os);
	netdev_put(os->dev->net, &os->tracker);
	sock_put(os->sk);
	kfree(os);
	if (atomic_dec_and_test(&socks))
		wake_up(&socks_gone);
}

void ovpn_sock_put(struct ovpn_sock *os)
{
	if (refcount_dec_and_test(&os->refs))
		queue_rcu_work(ovpn_wq, &os->free_work);
}

struct ovpn_sock *ovpn_sock_find(struct sock *sk)
{
	struct ovpn_sock *os;

	rcu_read_lock();
	os = rcu_dereference_sk_user_data(sk);
	if (os && (os->sk != sk || !refcount_inc_not_zero(&os->refs)))
		os = NULL;
	rcu_read_unlock();
	return os;
}

/* The present owner of a socket: NULL and 0 when it has none, an error when that
 * is not this device. Under the socket lock.
 */
static struct ovpn_sock *ovpn_sock_owner(struct ovpn_dev *dev, struct sock *sk,
					 s32 *err)
{
	struct ovpn_sock *os;
	u8 type = 0;

	if (sk_is_udp(sk))
		type = READ_ONCE(udp_sk(sk)->encap_type);
	os = rcu_dereference_protected(__sk_user_data(sk), sock_owned_by_user(sk));
	*err = 0;
	if (!type && !os)
		return NULL;
	/* Only UDP is shared, and only by the peers of one device. */
	if (type == UDP_ENCAP_OVPNINUDP && os && os->sk == sk && os->dev == dev)
		return os;
	*err = -EBUSY;
	return NULL;
}

static struct ovpn_sock *ovpn_sock_new(struct ovpn_dev *dev, struct sock *sk)
{
	struct ovpn_sock *os = kzalloc(sizeof(*os), GFP_KERNEL);

	if (!os)
		return NULL;
	os->sk = sk;
	os->dev = dev;
	os->users = 1;
	refcount_set(&os->refs, 1);
	INIT_RCU_WORK(&os->free_work, ovpn_sock_free);
	sock_hold(sk);
	netdev_hold(dev->net, &os->tracker, GFP_KERNEL);
	atomic_inc(&socks);
	return os;
}

struct ovpn_sock *ovpn_sock_attach(struct ovpn_dev *dev, struct socket *sock,
				   u32 peer_id, s32 *err)
{
	struct sock *sk = sock->sk;
	struct ovpn_sock *os;

	lock_sock(sk);
	os = ovpn_sock_owner(dev, sk, err);
	if (os)
		os->users++;
	if (os || *err)
		goto out;

	*err = -ENOMEM;
	os = ovpn_sock_new(dev, sk);
	if (!os)
		goto out;
	if (sk_is_tcp(sk))
		*err = ovpn_tcp_attach(os, sock, peer_id);
	else
		*err = ovpn_udp_attach(os, sock);
	if (*err) {
		ovpn_sock_put(os);
		os = NULL;
	}
out:
	release_sock(sk);
	return os;
}

void ovpn_sock_release(struct ovpn_sock *os)
{
	struct sock *sk = os->sk;
	bool last;

	lock_sock(sk);
	last = !--os->users;
	if (last && os->tcp)
		ovpn_tcp_detach(os);
	else if (last)
		ovpn_udp_detach(os);
	release_sock(sk);
	if (last)
		ovpn_sock_put(os);
}

int ovpn_sock_send(struct ovpn_dev *dev, struct ovpn_sock *os,
		   struct ovpn_path *path, struct ovpn_batch *batch)
{
	if (!os->tcp)
		return ovpn_udp_send(dev, os, path, batch);
	ovpn_tcp_send(os, batch);
	return 0;
}
