// SPDX-License-Identifier: GPL-2.0
/* Generic netlink family "ovpn": building of answers. */

#include <net/sock.h>

#include "genl.h"

bool ovpn_put_remote(struct sk_buff *msg, const struct ovpn_endpoint *ends)
{
	__be16 port = (__force __be16)ends->port;

	switch (ends->family) {
	case OVPN_AF_INET:
		return !nla_put(msg, P_REMOTE_IPV4, 4, ends->remote) &&
		       !nla_put_net16(msg, P_REMOTE_PORT, port);
	case OVPN_AF_INET6:
		return !nla_put(msg, P_REMOTE_IPV6, 16, ends->remote) &&
		       !nla_put_u32(msg, P_REMOTE_SCOPE, ends->scope) &&
		       !nla_put_net16(msg, P_REMOTE_PORT, port);
	}
	return true;
}

static bool put_local(struct sk_buff *msg, const struct ovpn_endpoint *ends)
{
	switch (ends->family) {
	case OVPN_AF_INET:
		return !nla_put(msg, P_LOCAL_IPV4, 4, ends->local);
	case OVPN_AF_INET6:
		return !nla_put(msg, P_LOCAL_IPV6, 16, ends->local);
	}
	return true;
}

static bool put_socket(struct sk_buff *msg, struct net *asking,
		       const struct ovpn_sock *sock)
{
	struct net *net = sock_net(sock->sk);

	if (!net_eq(asking, net) &&
	    nla_put_s32(msg, P_SOCKET_NETNSID,
			peernet2id_alloc(asking, net, GFP_ATOMIC)))
		return false;
	return !nla_put_net16(msg, P_LOCAL_PORT,
			      (__force __be16)ovpn_sock_port(sock));
}

/* Attributes that mainline does not have. A reason without drops is left out. */
static bool put_peer_extended(struct sk_buff *msg,
			      const struct ovpn_peer_info *peer)
{
	struct nlattr *nest = nla_nest_start(msg, P_DROPS);
	int n;

	if (!nest)
		return false;
	for (n = 0; n < OVPN_DROP_SLOTS; n++)
		if (peer->drops[n] && nla_put_u32(msg, n + 1, peer->drops[n]))
			return false;
	nla_nest_end(msg, nest);
	return !peer->heard ||
	       !nla_put_u32(msg, P_LAST_SEEN, peer->last_seen);
}

static bool put_peer(struct sk_buff *msg, const struct genl_info *info,
		     const struct ovpn_sock *sock,
		     const struct ovpn_peer_info *peer)
{
	static const u8 none[16];
	struct nlattr *nest = nla_nest_start(msg, A_PEER);
	int n;

	if (!nest || (sock && !put_socket(msg, genl_info_net(info), sock)) ||
	    nla_put_u32(msg, P_ID, peer->id) ||
	    nla_put_u32(msg, P_TX_ID, peer->tx_id) ||
	    nla_put_u32(msg, P_INTERVAL, peer->interval) ||
	    nla_put_u32(msg, P_TIMEOUT, peer->timeout) ||
	    !ovpn_put_remote(msg, &peer->ends) || !put_local(msg, &peer->ends))
		return false;
	if (memcmp(peer->vpn4, none, sizeof(peer->vpn4)) &&
	    nla_put(msg, P_VPN_IPV4, sizeof(peer->vpn4), peer->vpn4))
		return false;
	if (memcmp(peer->vpn6, none, sizeof(peer->vpn6)) &&
	    nla_put(msg, P_VPN_IPV6, sizeof(peer->vpn6), peer->vpn6))
		return false;
	for (n = 0; n < OVPN_STAT_COUNT; n++)
		if (nla_put_uint(msg, P_STATS + n, peer->stats[n]))
			return false;
	if (ovpn_genl_extended(info) && !put_peer_extended(msg, peer))
		return false;
	nla_nest_end(msg, nest);
	return true;
}

static int put_peer_msg(struct sk_buff *msg, const struct genl_info *info,
			u32 portid, int flags, const struct ovpn_sock *sock,
			const struct ovpn_peer_info *peer)
{
	void *head = genlmsg_put(msg, portid, info->snd_seq, &ovpn_family,
				 flags, CMD_PEER_GET);

	if (!head)
		return -EMSGSIZE;
	if (!put_peer(msg, info, sock, peer)) {
		genlmsg_cancel(msg, head);
		return -EMSGSIZE;
	}
	genlmsg_end(msg, head);
	return 0;
}

int ovpn_genl_reply_peer(struct ovpn_req *req, const struct ovpn_sock *sock,
			 const struct ovpn_peer_info *peer)
{
	struct sk_buff *msg = genlmsg_new(NLMSG_DEFAULT_SIZE, GFP_ATOMIC);
	int ret;

	if (!msg)
		return -ENOMEM;
	ret = put_peer_msg(msg, req->info, req->info->snd_portid, 0, sock, peer);
	if (ret) {
		nlmsg_free(msg);
		return ret;
	}
	return genlmsg_reply(msg, req->info);
}

int ovpn_genl_dump_peer(struct ovpn_dump *dump, const struct ovpn_sock *sock,
			const struct ovpn_peer_info *peer)
{
	return put_peer_msg(dump->msg, dump->info, dump->portid, NLM_F_MULTI,
			    sock, peer);
}

static bool put_key_extended(struct sk_buff *msg,
			     const struct ovpn_key_info *key)
{
	return !nla_put_string(msg, K_DRIVER, (const char *)key->driver) &&
	       (!key->async || !nla_put_flag(msg, K_ASYNC));
}

int ovpn_genl_reply_key(struct ovpn_req *req, const struct ovpn_key_info *key)
{
	struct sk_buff *msg = genlmsg_new(NLMSG_DEFAULT_SIZE, GFP_KERNEL);
	struct nlattr *nest;
	void *head;

	if (!msg)
		return -ENOMEM;
	head = genlmsg_put_reply(msg, req->info, &ovpn_family, 0, CMD_KEY_GET);
	nest = head ? nla_nest_start(msg, A_KEYCONF) : NULL;
	if (!nest || nla_put_u32(msg, K_PEER_ID, key->peer_id) ||
	    nla_put_u32(msg, K_SLOT, key->slot) ||
	    nla_put_u32(msg, K_KEY_ID, key->key_id) ||
	    nla_put_u32(msg, K_CIPHER, key->cipher) ||
	    (ovpn_genl_extended(req->info) && !put_key_extended(msg, key))) {
		nlmsg_free(msg);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, nest);
	genlmsg_end(msg, head);
	return genlmsg_reply(msg, req->info);
}
