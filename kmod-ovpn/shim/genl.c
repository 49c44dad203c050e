// SPDX-License-Identifier: GPL-2.0
/*
 * Generic netlink family "ovpn": policies and flattening of requests.
 * Rust decides the meaning of a request and whether it is allowed.
 */

#include <linux/module.h>
#include <net/sock.h>

#include "genl.h"

#define MAX_PEER_ID	0xffffff
#define MAX_KEEPALIVE	86400
#define MAX_KEY_LEN	256
#define TAIL_LEN	8

/* --- policies --------------------------------------------------------------- */

static const struct netlink_range_validation id_range = { .max = MAX_PEER_ID };
static const struct netlink_range_validation time_range = { .max = MAX_KEEPALIVE };

#define POLICY_ID	NLA_POLICY_FULL_RANGE(NLA_U32, &id_range)
#define POLICY_TIME	NLA_POLICY_FULL_RANGE(NLA_U32, &time_range)
#define POLICY_ADDR4	{ .type = NLA_BE32 }
#define POLICY_ADDR6	NLA_POLICY_EXACT_LEN(16)

static const struct nla_policy peer_policy[P_MAX + 1] = {
	[P_ID]		 = POLICY_ID,
	[P_REMOTE_IPV4]	 = POLICY_ADDR4,
	[P_REMOTE_IPV6]	 = POLICY_ADDR6,
	[P_REMOTE_SCOPE] = { .type = NLA_U32 },
	[P_REMOTE_PORT]	 = NLA_POLICY_MIN(NLA_BE16, 1),
	[P_SOCKET]	 = { .type = NLA_U32 },
	[P_VPN_IPV4]	 = POLICY_ADDR4,
	[P_VPN_IPV6]	 = POLICY_ADDR6,
	[P_LOCAL_IPV4]	 = POLICY_ADDR4,
	[P_LOCAL_IPV6]	 = POLICY_ADDR6,
	[P_INTERVAL]	 = POLICY_TIME,
	[P_TIMEOUT]	 = POLICY_TIME,
	[P_TX_ID]	 = POLICY_ID,
};

/* PEER_SET: all of the above but the socket. */
static const struct nla_policy peer_set_policy[P_MAX + 1] = {
	[P_ID]		 = POLICY_ID,
	[P_REMOTE_IPV4]	 = POLICY_ADDR4,
	[P_REMOTE_IPV6]	 = POLICY_ADDR6,
	[P_REMOTE_SCOPE] = { .type = NLA_U32 },
	[P_REMOTE_PORT]	 = NLA_POLICY_MIN(NLA_BE16, 1),
	[P_VPN_IPV4]	 = POLICY_ADDR4,
	[P_VPN_IPV6]	 = POLICY_ADDR6,
	[P_LOCAL_IPV4]	 = POLICY_ADDR4,
	[P_LOCAL_IPV6]	 = POLICY_ADDR6,
	[P_INTERVAL]	 = POLICY_TIME,
	[P_TIMEOUT]	 = POLICY_TIME,
	[P_TX_ID]	 = POLICY_ID,
};

/* GET and DEL name the peer and nothing else. */
static const struct nla_policy peer_id_policy[P_ID + 1] = {
	[P_ID] = POLICY_ID,
};

static const struct nla_policy keydir_policy[D_MAX + 1] = {
	[D_KEY]	 = NLA_POLICY_MAX(NLA_BINARY, MAX_KEY_LEN),
	[D_TAIL] = NLA_POLICY_EXACT_LEN(TAIL_LEN),
};

static const struct nla_policy key_policy[K_MAX + 1] = {
	[K_PEER_ID] = POLICY_ID,
	[K_SLOT]    = NLA_POLICY_MAX(NLA_U32, 1),
	[K_KEY_ID]  = NLA_POLICY_MAX(NLA_U32, 7),
	[K_CIPHER]  = NLA_POLICY_MAX(NLA_U32, 2),
	[K_ENCRYPT] = NLA_POLICY_NESTED(keydir_policy),
	[K_DECRYPT] = NLA_POLICY_NESTED(keydir_policy),
};

static const struct nla_policy key_slot_policy[K_SLOT + 1] = {
	[K_PEER_ID] = POLICY_ID,
	[K_SLOT]    = NLA_POLICY_MAX(NLA_U32, 1),
};

static const struct nla_policy key_peer_policy[K_PEER_ID + 1] = {
	[K_PEER_ID] = POLICY_ID,
};

#define TOP_POLICY(name, attr, nested)					\
	static const struct nla_policy name[attr + 1] = {		\
		[A_IFINDEX] = { .type = NLA_U32 },			\
		[attr] = NLA_POLICY_NESTED(nested),			\
	}

TOP_POLICY(top_peer_policy, A_PEER, peer_policy);
TOP_POLICY(top_peer_set_policy, A_PEER, peer_set_policy);
TOP_POLICY(top_peer_id_policy, A_PEER, peer_id_policy);
TOP_POLICY(top_key_policy, A_KEYCONF, key_policy);
TOP_POLICY(top_key_slot_policy, A_KEYCONF, key_slot_policy);
TOP_POLICY(top_key_peer_policy, A_KEYCONF, key_peer_policy);

static const struct nla_policy top_dev_policy[A_IFINDEX + 1] = {
	[A_IFINDEX] = { .type = NLA_U32 },
};

/* --- requests ---------------------------------------------------------------- */

void ovpn_genl_refuse(struct ovpn_req *req, const char *text,
		      enum ovpn_nest nest, u32 attr)
{
	struct netlink_ext_ack *extack = req->info->extack;

	if (!extack)
		return;
	extack->_msg = text;
	if (!attr)
		return;
	if (attr <= req->level[nest].max && req->level[nest].attrs &&
	    req->level[nest].attrs[attr]) {
		NL_SET_BAD_ATTR(extack, req->level[nest].attrs[attr]);
	} else {
		extack->miss_type = attr;
		extack->miss_nest = req->level[nest].nest;
	}
}

/* Resolve IFINDEX in the namespace of the asking socket: an interface that is
 * there, else one that has moved away from there.
 */
static struct net_device *find_device(struct net *net, struct genl_info *info,
				      netdevice_tracker *tracker)
{
	struct net_device *dev;
	u32 ifindex;

	if (GENL_REQ_ATTR_CHECK(info, A_IFINDEX))
		return ERR_PTR(-EINVAL);
	ifindex = nla_get_u32(info->attrs[A_IFINDEX]);
	dev = netdev_get_by_index(net, ifindex, tracker, GFP_KERNEL);
	if (!dev)
		dev = ovpn_home_find(net, ifindex, tracker);
	if (!dev) {
		NL_SET_ERR_MSG_MOD(info->extack, "no interface has this index");
		NL_SET_BAD_ATTR(info->extack, info->attrs[A_IFINDEX]);
		return ERR_PTR(-ENODEV);
	}
	if (!ovpn_netdev_is_ours(dev)) {
		netdev_put(dev, tracker);
		NL_SET_ERR_MSG_MOD(info->extack,
				   "the interface is not of kind ovpn");
		NL_SET_BAD_ATTR(info->extack, info->attrs[A_IFINDEX]);
		return ERR_PTR(-EINVAL);
	}
	return dev;
}

static u32 get_u32(struct nlattr *attr)
{
	return attr ? nla_get_u32(attr) : 0;
}

static void get_bytes(u8 *to, struct nlattr *attr, u32 len)
{
	if (attr)
		nla_memcpy(to, attr, len);
}

/* Bit n for each attribute n that is there. */
static u32 present(struct nlattr **attrs, u32 max)
{
	u32 bits = 0, n;

	for (n = 1; n <= max; n++)
		if (attrs[n])
			bits |= BIT(n);
	return bits;
}

static void flatten_peer(struct ovpn_req *req, struct ovpn_peer_attrs *out)
{
	struct nlattr **a = req->peer;

	out->present = present(a, P_MAX);
	out->id = get_u32(a[P_ID]);
	out->tx_id = get_u32(a[P_TX_ID]);
	out->scope = get_u32(a[P_REMOTE_SCOPE]);
	out->fd = get_u32(a[P_SOCKET]);
	out->interval = get_u32(a[P_INTERVAL]);
	out->timeout = get_u32(a[P_TIMEOUT]);
	if (a[P_REMOTE_PORT])
		out->port = (__force u16)nla_get_be16(a[P_REMOTE_PORT]);
	get_bytes(out->remote4, a[P_REMOTE_IPV4], sizeof(out->remote4));
	get_bytes(out->remote6, a[P_REMOTE_IPV6], sizeof(out->remote6));
	get_bytes(out->vpn4, a[P_VPN_IPV4], sizeof(out->vpn4));
	get_bytes(out->vpn6, a[P_VPN_IPV6], sizeof(out->vpn6));
	get_bytes(out->local4, a[P_LOCAL_IPV4], sizeof(out->local4));
	get_bytes(out->local6, a[P_LOCAL_IPV6], sizeof(out->local6));
}

static void flatten_dir(struct nlattr **a, struct ovpn_keydir_attrs *out)
{
	out->present = present(a, D_MAX);
	if (a[D_KEY]) {
		out->key = nla_data(a[D_KEY]);
		out->len = nla_len(a[D_KEY]);
	}
	get_bytes(out->tail, a[D_TAIL], sizeof(out->tail));
}

static void flatten_key(struct ovpn_req *req, struct ovpn_key_attrs *out)
{
	struct nlattr **a = req->key;

	out->present = present(a, K_MAX);
	out->peer_id = get_u32(a[K_PEER_ID]);
	out->slot = get_u32(a[K_SLOT]);
	out->key_id = get_u32(a[K_KEY_ID]);
	out->cipher = get_u32(a[K_CIPHER]);
	flatten_dir(req->dir[0], &out->enc);
	flatten_dir(req->dir[1], &out->dec);
}

static void set_level(struct ovpn_req *req, enum ovpn_nest at,
		      struct nlattr *nest, struct nlattr **attrs, u32 max)
{
	req->level[at].nest = nest;
	req->level[at].attrs = attrs;
	req->level[at].max = max;
}

/* Take the request apart. The top-level policy has validated the nests, with
 * the operation's own policy, down to the last attribute.
 */
static int open_req(struct ovpn_req *req, struct genl_info *info, u32 top)
{
	u32 max = top == A_PEER ? P_MAX : K_MAX;
	struct nlattr **attrs = top == A_PEER ? req->peer : req->key;
	struct nlattr *nest = info->attrs[top];
	int i, ret;

	memset(req, 0, sizeof(*req));
	req->info = info;
	if (GENL_REQ_ATTR_CHECK(info, top))
		return -EINVAL;
	ret = nla_parse_nested(attrs, max, nest, NULL, info->extack);
	if (ret)
		return ret;
	set_level(req, OVPN_NEST_TOP, NULL, info->attrs, top);
	set_level(req, OVPN_NEST_INNER, nest, attrs, max);
	for (i = 0; top == A_KEYCONF && i < 2; i++) {
		struct nlattr *dir = attrs[K_ENCRYPT + i];

		if (!dir)
			continue;
		ret = nla_parse_nested(req->dir[i], D_MAX, dir, NULL,
				       info->extack);
		if (ret)
			return ret;
		set_level(req, OVPN_NEST_ENC + i, dir, req->dir[i], D_MAX);
	}
	return 0;
}

/* Leave no key in the message, as WireGuard does. */
static void wipe_keys(struct ovpn_req *req)
{
	int i, n;

	for (i = 0; i < 2; i++)
		for (n = 1; n <= D_MAX; n++)
			if (req->dir[i][n])
				memzero_explicit(nla_data(req->dir[i][n]),
						 nla_len(req->dir[i][n]));
}

/* Find the interface, take the request apart, run the operation on both. */
static int do_req(struct genl_info *info, u32 top,
		  int (*run)(void *rs, struct ovpn_req *req))
{
	netdevice_tracker tracker;
	struct net_device *net;
	struct ovpn_req req;
	int ret;

	net = find_device(genl_info_net(info), info, &tracker);
	if (IS_ERR(net))
		return PTR_ERR(net);
	ret = open_req(&req, info, top);
	if (!ret)
		ret = run(ovpn_of(net)->rs, &req);
	if (top == A_KEYCONF)
		wipe_keys(&req);
	if (!ret && info->genlhdr->cmd == CMD_PEER_NEW)
		ovpn_home_set(ovpn_of(net), genl_info_net(info),
			      nla_get_u32(info->attrs[A_IFINDEX]));
	netdev_put(net, &tracker);
	return ret;
}

#define DOIT(name, top, kind)						\
	static int name##_run(void *rs, struct ovpn_req *req)		\
	{								\
		struct ovpn_##kind##_attrs attrs = { };			\
		int ret;						\
									\
		flatten_##kind(req, &attrs);				\
		ret = ovpn_rs_##name(rs, req, &attrs);			\
		memzero_explicit(&attrs, sizeof(attrs));		\
		return ret;						\
	}								\
									\
	static int name##_doit(struct sk_buff *skb, struct genl_info *info) \
	{								\
		return do_req(info, top, name##_run);			\
	}

DOIT(peer_new, A_PEER, peer)
DOIT(peer_set, A_PEER, peer)
DOIT(peer_get, A_PEER, peer)
DOIT(peer_del, A_PEER, peer)
DOIT(key_new, A_KEYCONF, key)
DOIT(key_get, A_KEYCONF, key)
DOIT(key_swap, A_KEYCONF, key)
DOIT(key_del, A_KEYCONF, key)

/* Ours: the interface goes when the asking socket closes. */
static int dev_hold_doit(struct sk_buff *skb, struct genl_info *info)
{
	netdevice_tracker tracker;
	struct net_device *net;
	int ret;

	net = find_device(genl_info_net(info), info, &tracker);
	if (IS_ERR(net))
		return PTR_ERR(net);
	ret = ovpn_hold(ovpn_of(net), genl_info_net(info), info->snd_portid);
	netdev_put(net, &tracker);
	if (ret == -EBUSY)
		NL_SET_ERR_MSG_MOD(info->extack,
				   "another socket holds the interface");
	else if (ret)
		NL_SET_ERR_MSG_MOD(info->extack,
				   "the interface is being deleted");
	return ret;
}

static int peer_get_dumpit(struct sk_buff *msg, struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);
	struct ovpn_dump dump = {
		.msg = msg,
		.info = info,
		.portid = NETLINK_CB(cb->skb).portid,
	};
	netdevice_tracker tracker;
	struct net_device *net;
	int ret;

	net = find_device(sock_net(cb->skb->sk), (struct genl_info *)info,
			  &tracker);
	if (IS_ERR(net))
		return PTR_ERR(net);
	ret = ovpn_rs_peer_dump(ovpn_of(net)->rs, &dump, &cb->args[0]);
	netdev_put(net, &tracker);
	/* A full message is no error: the next call goes on. */
	return ret && ret != -EMSGSIZE ? ret : msg->len;
}

/* --- the family -------------------------------------------------------------- */

#define DO_OP(number, func, table, top) {				\
	.cmd = number, .doit = func, .policy = table, .maxattr = top,	\
	.flags = GENL_ADMIN_PERM | GENL_CMD_CAP_DO,			\
}

static const struct genl_split_ops ovpn_ops[] = {
	DO_OP(CMD_PEER_NEW, peer_new_doit, top_peer_policy, A_PEER),
	DO_OP(CMD_PEER_SET, peer_set_doit, top_peer_set_policy, A_PEER),
	DO_OP(CMD_PEER_GET, peer_get_doit, top_peer_id_policy, A_PEER),
	{
		.cmd = CMD_PEER_GET,
		.dumpit = peer_get_dumpit,
		.policy = top_dev_policy,
		.maxattr = A_IFINDEX,
		.flags = GENL_ADMIN_PERM | GENL_CMD_CAP_DUMP,
	},
	DO_OP(CMD_PEER_DEL, peer_del_doit, top_peer_id_policy, A_PEER),
	DO_OP(CMD_KEY_NEW, key_new_doit, top_key_policy, A_KEYCONF),
	DO_OP(CMD_KEY_GET, key_get_doit, top_key_slot_policy, A_KEYCONF),
	DO_OP(CMD_KEY_SWAP, key_swap_doit, top_key_peer_policy, A_KEYCONF),
	DO_OP(CMD_KEY_DEL, key_del_doit, top_key_slot_policy, A_KEYCONF),
	DO_OP(CMD_DEV_HOLD, dev_hold_doit, top_dev_policy, A_IFINDEX),
};

/* Open to any process, as mainline's: OpenVPN may have given up its privileges
 * (--user without libcap-ng) when it joins again after a restart, and without its
 * notifications it would not hear the end of a peer. The group tells ids,
 * counters, and where peers are; never a key.
 */
static const struct genl_multicast_group ovpn_groups[] = {
	{ .name = "peers" },
};

struct genl_family ovpn_family __ro_after_init = {
	.name		= "ovpn",
	.version	= 1,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.split_ops	= ovpn_ops,
	.n_split_ops	= ARRAY_SIZE(ovpn_ops),
	.mcgrps		= ovpn_groups,
	.n_mcgrps	= ARRAY_SIZE(ovpn_groups),
};

MODULE_ALIAS_GENL_FAMILY("ovpn");

int ovpn_genl_init(void)
{
	return genl_register_family(&ovpn_family);
}

void ovpn_genl_exit(void)
{
	genl_unregister_family(&ovpn_family);
}
