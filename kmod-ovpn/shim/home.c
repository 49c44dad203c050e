// SPDX-License-Identifier: GPL-2.0
/*
 * Interfaces that move to another network namespace while those who configure
 * them stay: OpenVPN whose script hands the interface to a container, say. They
 * go on naming it by the index that it had with them.
 */

#include <linux/netdevice.h>
#include <linux/notifier.h>
#include <net/net_namespace.h>

#include "internal.h"

/* Guards the list and the home of every interface. */
static DEFINE_SPINLOCK(homes_lock);
static LIST_HEAD(homes);

void ovpn_home_init(struct ovpn_dev *dev)
{
	INIT_LIST_HEAD(&dev->home.list);
}

void ovpn_home_set(struct ovpn_dev *dev, const struct net *net, u32 ifindex)
{
	spin_lock_bh(&homes_lock);
	dev->home.cookie = net->net_cookie;
	dev->home.ifindex = ifindex;
	spin_unlock_bh(&homes_lock);
}

void ovpn_home_close(struct ovpn_dev *dev)
{
	spin_lock_bh(&homes_lock);
	list_del_init(&dev->home.list);
	spin_unlock_bh(&homes_lock);
}

struct net_device *ovpn_home_find(const struct net *net, u32 ifindex,
				  netdevice_tracker *tracker)
{
	struct net_device *found = NULL;
	struct ovpn_dev *dev;
	u32 count = 0;

	spin_lock_bh(&homes_lock);
	list_for_each_entry(dev, &homes, home.list) {
		if (dev->home.cookie != net->net_cookie ||
		    dev->home.ifindex != ifindex)
			continue;
		found = dev->net;
		count++;
	}
	/* An index is free again when its interface has moved away. */
	if (count > 1)
		found = NULL;
	/* While it is in the list, its deletion waits for this lock. */
	if (found)
		netdev_hold(found, tracker, GFP_ATOMIC);
	spin_unlock_bh(&homes_lock);
	return found;
}

u32 ovpn_home_ifindex(const struct ovpn_dev *dev, const struct net *net)
{
	u32 ifindex = ovpn_netdev_ifindex(dev);

	spin_lock_bh(&homes_lock);
	if (!net_eq(dev_net(dev->net), net) &&
	    dev->home.cookie == net->net_cookie)
		ifindex = dev->home.ifindex;
	spin_unlock_bh(&homes_lock);
	return ifindex;
}

/* The interface has come to a namespace, perhaps back to its home. */
static void arrived(struct ovpn_dev *dev)
{
	const struct net *net = dev_net(dev->net);

	spin_lock_bh(&homes_lock);
	if (list_empty(&dev->home.list)) {
		list_add(&dev->home.list, &homes);
		dev->home.cookie = net->net_cookie;
	}
	if (dev->home.cookie == net->net_cookie)
		dev->home.ifindex = dev->net->ifindex;
	spin_unlock_bh(&homes_lock);
}

static int home_event(struct notifier_block *nb, unsigned long event, void *info)
{
	struct net_device *net = netdev_notifier_info_to_dev(info);

	if (!ovpn_netdev_is_ours(net))
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_REGISTER:
		ovpn_hops_open(ovpn_of(net));
		arrived(ovpn_of(net));
		break;
	case NETDEV_UNREGISTER:
		ovpn_hops_close(ovpn_of(net));
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block home_notifier = {
	.notifier_call = home_event,
};

int ovpn_homes_start(void)
{
	return register_netdevice_notifier(&home_notifier);
}

void ovpn_homes_stop(void)
{
	unregister_netdevice_notifier(&home_notifier);
}
