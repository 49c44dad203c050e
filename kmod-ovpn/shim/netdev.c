// SPDX-License-Identifier: GPL-2.0
/* The network interface: link kind "ovpn", transmit entry, delivery, counters. */

#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/inetdevice.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <net/dst_metadata.h>
#include <net/ip.h>
#include <net/ip_tunnels.h>
#include <net/ipv6.h>
#include <net/rtnetlink.h>

#include "compat.h"
#include "internal.h"

/* UAPI of the link kind, as its modes in internal.h. */
#define OVPN_IFLA_MODE	1
#define OVPN_IFLA_MAX	OVPN_IFLA_MODE

/* Milliseconds between two rounds of notifications that no request caused.
 * With at most 64 of them in a round (src/device.rs) a listener with the default
 * buffer of 208 KiB may sleep for a fifth of a second.
 */
#define OVPN_TELL_MS	50

/* Bytes of the largest super-packet. */
#define OVPN_TSO_MAX	61440

/* Room the mainline driver leaves behind a packet. */
#define OVPN_TAILROOM	16

MODULE_ALIAS_RTNL_LINK("ovpn");
MODULE_VERSION(OVPN_VERSION);

/* Defaults of a new interface. ethtool changes them for one interface, which
 * few routers have installed.
 */
static bool mss_clamp = true;
module_param(mss_clamp, bool, 0644);
MODULE_PARM_DESC(mss_clamp, "new interfaces clamp the TCP MSS to the path (default Y)");

/* --- transmit -------------------------------------------------------------- */

/* Whether the packet is what its ethertype says, with its header in reach. */
static bool ovpn_is_ip(struct sk_buff *skb)
{
	switch (skb->protocol) {
	case htons(ETH_P_IP):
		return pskb_network_may_pull(skb, sizeof(struct iphdr)) &&
		       ip_hdr(skb)->version == 4;
	case htons(ETH_P_IPV6):
		return pskb_network_may_pull(skb, sizeof(struct ipv6hdr)) &&
		       ipv6_hdr(skb)->version == 6;
	}
	return false;
}

static netdev_tx_t ovpn_ndo_xmit(struct sk_buff *skb, struct net_device *net)
{
	if (unlikely(!ovpn_is_ip(skb))) {
		ovpn_netdev_drop(ovpn_of(net), OVPN_DROP_TX,
				 OVPN_DROP_TX_BAD_PROTOCOL, 1);
		skb_tx_error(skb);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	ovpn_rs_xmit(ovpn_of(net)->rs, skb);
	return NETDEV_TX_OK;
}

/* --- counters -------------------------------------------------------------- */

void ovpn_netdev_drop(struct ovpn_dev *dev, enum ovpn_drop_total total,
		      u32 reason, u32 packets)
{
	this_cpu_add(dev->drops->count[reason % OVPN_DROP_SLOTS], packets);
	for (; packets; packets--) {
		if (total == OVPN_DROP_RX)
			dev_core_stats_rx_dropped_inc(dev->net);
		else
			dev_core_stats_tx_dropped_inc(dev->net);
	}
}

/* Private flags: --show-priv-flags and --set-priv-flags of ethtool. */
static const char ovpn_flags[][ETH_GSTRING_LEN] = {
	"mss-clamp", "udp-gso", "rx-spread",
};
#define OVPN_FLAG_MSS_CLAMP	BIT(0)
#define OVPN_FLAG_UDP_GSO	BIT(1)
#define OVPN_FLAG_RX_SPREAD	BIT(2)

static u32 ovpn_get_flags(struct net_device *net)
{
	struct ovpn_dev *dev = ovpn_of(net);

	return (READ_ONCE(dev->mss_clamp) ? OVPN_FLAG_MSS_CLAMP : 0) |
	       (READ_ONCE(dev->udp_gso) ? OVPN_FLAG_UDP_GSO : 0) |
	       (READ_ONCE(dev->rx_spread) ? OVPN_FLAG_RX_SPREAD : 0);
}

static int ovpn_set_flags(struct net_device *net, u32 flags)
{
	struct ovpn_dev *dev = ovpn_of(net);

	WRITE_ONCE(dev->mss_clamp, flags & OVPN_FLAG_MSS_CLAMP);
	WRITE_ONCE(dev->udp_gso, flags & OVPN_FLAG_UDP_GSO);
	WRITE_ONCE(dev->rx_spread, flags & OVPN_FLAG_RX_SPREAD);
	return 0;
}

/* Counters of --statistics: the reasons for drops, and one more. */
static int ovpn_drop_reasons(void)
{
	const char *name;
	int n = 0;

	while (n < OVPN_DROP_SLOTS && ovpn_rs_drop_name(n, &name))
		n++;
	return n;
}

static int ovpn_get_sset_count(struct net_device *net, int set)
{
	switch (set) {
	case ETH_SS_PRIV_FLAGS:
		return ARRAY_SIZE(ovpn_flags);
	case ETH_SS_STATS:
		return ovpn_drop_reasons() + 1;
	default:
		return -EOPNOTSUPP;
	}
}

static void ovpn_get_strings(struct net_device *net, u32 set, u8 *data)
{
	const char *name;
	u32 len, n;

	if (set == ETH_SS_PRIV_FLAGS)
		memcpy(data, ovpn_flags, sizeof(ovpn_flags));
	if (set != ETH_SS_STATS)
		return;
	for (n = 0; n < OVPN_DROP_SLOTS; n++) {
		len = ovpn_rs_drop_name(n, &name);
		if (len)
			ethtool_sprintf(&data, "%.*s", len, name);
	}
	ethtool_puts(&data, "spread");
}

static void ovpn_get_stats(struct net_device *net, struct ethtool_stats *stats,
			   u64 *data)
{
	struct ovpn_dev *dev = ovpn_of(net);
	int count = ovpn_drop_reasons();
	int cpu, n;

	memset(data, 0, (count + 1) * sizeof(*data));
	for_each_possible_cpu(cpu) {
		const struct ovpn_drops *drops = per_cpu_ptr(dev->drops, cpu);

		for (n = 0; n < count; n++)
			data[n] += READ_ONCE(drops->count[n]);
		data[count] += READ_ONCE(drops->spread);
	}
}

static void ovpn_get_drvinfo(struct net_device *net, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, "ovpn", sizeof(info->driver));
	strscpy(info->version, OVPN_VERSION, sizeof(info->version));
	strscpy(info->bus_info, "ovpn", sizeof(info->bus_info));
}

static const struct ethtool_ops ovpn_ethtool_ops = {
	.get_drvinfo		= ovpn_get_drvinfo,
	.get_link		= ethtool_op_get_link,
	.get_ts_info		= ethtool_op_get_ts_info,
	.get_sset_count		= ovpn_get_sset_count,
	.get_strings		= ovpn_get_strings,
	.get_ethtool_stats	= ovpn_get_stats,
	.get_priv_flags		= ovpn_get_flags,
	.set_priv_flags		= ovpn_set_flags,
};

/* --- small services for the Rust side ------------------------------------- */

void ovpn_netdev_carrier(struct ovpn_dev *dev, bool on)
{
	if (on)
		netif_carrier_on(dev->net);
	else
		netif_carrier_off(dev->net);
}

u32 ovpn_netdev_ifindex(const struct ovpn_dev *dev)
{
	return READ_ONCE(dev->net->ifindex);
}

void ovpn_netdev_tick_in(struct ovpn_dev *dev, u32 seconds)
{
	unsigned long at = jiffies + (unsigned long)seconds * HZ;

	/* Only ever earlier: a peer that may wait must not delay another. */
	if (!delayed_work_pending(&dev->tick) ||
	    time_before(at, dev->tick.timer.expires))
		mod_delayed_work(ovpn_wq, &dev->tick, seconds * HZ);
}

void ovpn_netdev_tick_again(struct ovpn_dev *dev)
{
	mod_delayed_work(ovpn_wq, &dev->tick, msecs_to_jiffies(OVPN_TELL_MS));
}

static void ovpn_tick(struct work_struct *work)
{
	ovpn_rs_tick(container_of(to_delayed_work(work), struct ovpn_dev, tick)->rs);
}

void ovpn_netdev_tell_soon(struct ovpn_dev *dev)
{
	unsigned long due = READ_ONCE(dev->told) + msecs_to_jiffies(OVPN_TELL_MS);
	long left = due - jiffies;

	/* Jiffies of 32 bits wrap: told long ago must not look like still to be. */
	if (left < 0 || left > msecs_to_jiffies(OVPN_TELL_MS))
		left = 0;
	queue_delayed_work(ovpn_wq, &dev->tell, left);
}

static void ovpn_tell(struct work_struct *work)
{
	struct ovpn_dev *dev = container_of(to_delayed_work(work),
					    struct ovpn_dev, tell);

	WRITE_ONCE(dev->told, jiffies);
	if (ovpn_rs_tell(dev->rs))
		ovpn_netdev_tell_soon(dev);
}

/* --- life of an interface -------------------------------------------------- */

/* Whatever of the interface's own parts is there. */
static void ovpn_priv_free(struct net_device *net)
{
	struct ovpn_dev *dev = ovpn_of(net);

	if (dev->rs)
		ovpn_rs_dev_free(dev->rs);
	dev->rs = NULL;
	free_percpu(dev->cells);
	dev->cells = NULL;
	free_percpu(dev->drops);
	dev->drops = NULL;
}

/* Here and not in newlink(): when the core refuses the interface before this
 * (its name, say), it does not call the destructor.
 */
static int ovpn_ndo_init(struct net_device *net)
{
	struct ovpn_dev *dev = ovpn_of(net);
	int ret = -ENOMEM;

	dev->drops = alloc_percpu(struct ovpn_drops);
	if (dev->drops)
		dev->rs = ovpn_rs_dev_new(dev, dev->mode);
	if (dev->rs)
		ret = ovpn_cells_start(dev);
	if (ret)
		ovpn_priv_free(net);
	return ret;
}

static void ovpn_ndo_uninit(struct net_device *net)
{
	struct ovpn_dev *dev = ovpn_of(net);

	ovpn_hold_close(dev);
	ovpn_home_close(dev);
	/* Peers first: the last of them may still arm the tick. */
	ovpn_rs_dev_down(dev->rs);
	disable_delayed_work_sync(&dev->tick);
	disable_delayed_work_sync(&dev->tell);
	/* None is left, unless the interface was refused when it came. */
	ovpn_hops_close(dev);
	ovpn_cells_stop(dev);
}

static int ovpn_ndo_open(struct net_device *net)
{
	struct in_device *in_dev = __in_dev_get_rtnl(net);

	/* Clients of one server share a subnet but no link: telling one to
	 * reach another directly would cut it off.
	 */
	if (in_dev && ovpn_rs_dev_mode(ovpn_of(net)->rs) == OVPN_MODE_MP) {
		IN_DEV_CONF_SET(in_dev, SEND_REDIRECTS, false);
		IPV4_DEVCONF_ALL(dev_net(net), SEND_REDIRECTS) = false;
	}
	return 0;
}

static const struct net_device_ops ovpn_netdev_ops = {
	.ndo_init	= ovpn_ndo_init,
	.ndo_uninit	= ovpn_ndo_uninit,
	.ndo_open	= ovpn_ndo_open,
	.ndo_start_xmit	= ovpn_ndo_xmit,
};

static const struct device_type ovpn_type = {
	.name = "ovpn",
};

bool ovpn_netdev_is_ours(const struct net_device *net)
{
	return net->netdev_ops == &ovpn_netdev_ops;
}

static void ovpn_setup(struct net_device *net)
{
	/* HW_CSUM, because without it the core takes SG and GSO away again and
	 * cuts and sums every packet before we see it.
	 */
	netdev_features_t features = NETIF_F_SG | NETIF_F_FRAGLIST |
				     NETIF_F_HW_CSUM | NETIF_F_GSO |
				     NETIF_F_GSO_SOFTWARE | NETIF_F_HIGHDMA;

	net->netdev_ops = &ovpn_netdev_ops;
	net->ethtool_ops = &ovpn_ethtool_ops;
	/* Packet sockets learn the ethertype from the packet, as on a tun device. */
	net->header_ops = &ip_tunnel_header_ops;
	net->needs_free_netdev = true;
	net->priv_destructor = ovpn_priv_free;
	net->pcpu_stat_type = NETDEV_PCPU_STAT_TSTATS;

	net->type = ARPHRD_NONE;
	net->flags = IFF_POINTOPOINT | IFF_NOARP;
	net->priv_flags |= IFF_NO_QUEUE;
	net->lltx = true;
	/* The gateway of the inner route selects the peer of a subnet. */
	netif_keep_dst(net);

	net->mtu = ETH_DATA_LEN - OVPN_HEADROOM;
	net->min_mtu = IPV4_MIN_MTU;
	net->max_mtu = IP_MAX_MTU - OVPN_HEADROOM;
	net->needed_headroom = OVPN_HEADROOM;
	net->needed_tailroom = OVPN_TAILROOM;

	net->features |= features;
	net->hw_features |= features;
	net->hw_enc_features |= features;

	/* With headers and tags the packets of one super-packet fit one outer
	 * GSO packet, unless they are small.
	 */
	netif_set_tso_max_size(net, OVPN_TSO_MAX);

	SET_NETDEV_DEVTYPE(net, &ovpn_type);
}

OVPN_NEWLINK(ovpn_newlink)
{
	struct nlattr **attrs = OVPN_NEWLINK_DATA;
	struct ovpn_dev *dev = ovpn_of(net);
	u8 mode = OVPN_MODE_P2P;

	if (attrs && attrs[OVPN_IFLA_MODE])
		mode = nla_get_u8(attrs[OVPN_IFLA_MODE]);

	dev->net = net;
	dev->mode = mode;
	dev->mss_clamp = mss_clamp;
	dev->udp_gso = true;
	dev->rx_spread = true;
	ovpn_hold_init(dev);
	ovpn_home_init(dev);
	INIT_DELAYED_WORK(&dev->tick, ovpn_tick);
	INIT_DELAYED_WORK(&dev->tell, ovpn_tell);
	dev->told = jiffies - msecs_to_jiffies(OVPN_TELL_MS);

	/* A server is always reachable, a client when it has its peer. */
	ovpn_netdev_carrier(dev, mode == OVPN_MODE_MP);
	return register_netdevice(net);
}

static size_t ovpn_get_size(const struct net_device *net)
{
	return nla_total_size(sizeof(u8));
}

static int ovpn_fill_info(struct sk_buff *skb, const struct net_device *net)
{
	return nla_put_u8(skb, OVPN_IFLA_MODE,
			  ovpn_rs_dev_mode(ovpn_of((struct net_device *)net)->rs));
}

static const struct nla_policy ovpn_link_policy[OVPN_IFLA_MAX + 1] = {
	[OVPN_IFLA_MODE] = NLA_POLICY_RANGE(NLA_U8, OVPN_MODE_P2P, OVPN_MODE_MP),
};

static struct rtnl_link_ops ovpn_link_ops = {
	.kind		= "ovpn",
	.priv_size	= sizeof(struct ovpn_dev),
	.setup		= ovpn_setup,
	.policy		= ovpn_link_policy,
	.maxtype	= OVPN_IFLA_MAX,
	.newlink	= ovpn_newlink,
	.get_size	= ovpn_get_size,
	.fill_info	= ovpn_fill_info,
};

int ovpn_netdev_init(void)
{
	int ret = ovpn_holds_start();

	if (ret)
		return ret;
	ret = ovpn_homes_start();
	if (ret)
		goto no_homes;
	ret = rtnl_link_register(&ovpn_link_ops);
	if (!ret)
		return 0;
	ovpn_homes_stop();
no_homes:
	ovpn_holds_stop();
	return ret;
}

void ovpn_netdev_exit(void)
{
	ovpn_holds_stop();
	rtnl_link_unregister(&ovpn_link_ops);
	ovpn_homes_stop();
}
