// SPDX-License-Identifier: GPL-2.0
/* Generic netlink family "ovpn": what userspace is told without having asked. */

#include <linux/module.h>
#include <net/sock.h>

#include "genl.h"

static bool final_counters = true;
module_param(final_counters, bool, 0644);
MODULE_PARM_DESC(final_counters, "peer-del-ntf has the peer's counters (default Y), which mainline's has not");

/* Bytes of the longest notification: the end of a peer. A listener is charged
 * for the room of a message, not for its content, in powers of two: all are
 * within the same, 512 bytes with the kernel's own share.
 */
#define NEWS_LEN	(2 * nla_total_size(0) + 3 * nla_total_size(4) +	\
			 OVPN_STAT_COUNT * nla_total_size(8))

/* A notification about a peer. */
struct news {
	u8 cmd;
	u32 peer_id;
	/* Deletion reason or key id. */
	u32 value;
	const struct ovpn_endpoint *to;
	/* The peer's last, in the order of the attributes. */
	const u64 *stats;
};

static bool put_stats(struct sk_buff *msg, const u64 *stats)
{
	int n;

	for (n = 0; n < OVPN_STAT_COUNT; n++)
		if (nla_put_uint(msg, P_STATS + n, stats[n]))
			return false;
	return true;
}

static bool put_news(struct sk_buff *msg, const struct news *news)
{
	switch (news->cmd) {
	case CMD_PEER_DEL_NTF:
		return !nla_put_u32(msg, P_DEL_REASON, news->value) &&
		       !nla_put_u32(msg, P_ID, news->peer_id) &&
		       (!READ_ONCE(final_counters) ||
			put_stats(msg, news->stats));
	case CMD_PEER_FLOAT_NTF:
		return !nla_put_u32(msg, P_ID, news->peer_id) &&
		       ovpn_put_remote(msg, news->to);
	default:
		/* 16 bits, as the mainline driver writes it and OpenVPN reads it. */
		return !nla_put_u32(msg, K_PEER_ID, news->peer_id) &&
		       !nla_put_u16(msg, K_KEY_ID, news->value);
	}
}

/* Tell the peers group of the namespace that the peer's socket is in. */
static void tell(const struct ovpn_dev *dev, const struct ovpn_sock *sock,
		 const struct news *news)
{
	struct sk_buff *msg = genlmsg_new(NEWS_LEN, GFP_ATOMIC);
	struct nlattr *nest;
	void *head;

	if (!msg)
		return;
	head = genlmsg_put(msg, 0, 0, &ovpn_family, 0, news->cmd);
	if (!head ||
	    nla_put_u32(msg, A_IFINDEX,
			ovpn_home_ifindex(dev, sock_net(sock->sk))))
		goto free;
	nest = nla_nest_start(msg, news->cmd == CMD_KEY_SWAP_NTF ? A_KEYCONF :
								   A_PEER);
	if (!nest || !put_news(msg, news))
		goto free;
	nla_nest_end(msg, nest);
	genlmsg_end(msg, head);
	genlmsg_multicast_netns(&ovpn_family, sock_net(sock->sk), msg, 0, 0,
				GFP_ATOMIC);
	return;
free:
	nlmsg_free(msg);
}

void ovpn_genl_notify_del(const struct ovpn_dev *dev,
			  const struct ovpn_sock *sock, u32 peer_id, u32 reason,
			  const u64 stats[OVPN_STAT_COUNT])
{
	tell(dev, sock, &(struct news) {
		.cmd = CMD_PEER_DEL_NTF, .peer_id = peer_id, .value = reason,
		.stats = stats,
	});
}

void ovpn_genl_notify_float(const struct ovpn_dev *dev,
			    const struct ovpn_sock *sock, u32 peer_id,
			    const struct ovpn_endpoint *to)
{
	tell(dev, sock, &(struct news) {
		.cmd = CMD_PEER_FLOAT_NTF, .peer_id = peer_id, .to = to,
	});
}

void ovpn_genl_notify_swap(const struct ovpn_dev *dev,
			   const struct ovpn_sock *sock, u32 peer_id, u32 key_id)
{
	tell(dev, sock, &(struct news) {
		.cmd = CMD_KEY_SWAP_NTF, .peer_id = peer_id, .value = key_id,
	});
}
