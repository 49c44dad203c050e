// SPDX-License-Identifier: GPL-2.0
/*
 * Interfaces that somebody holds: each goes away when the netlink socket that
 * asked for it closes, however its process ends.
 *
 * The end of a socket is heard by netlink's own notifier: what generic netlink
 * keeps for a socket (sock_priv) is not exported to modules. It is no place to
 * take the RTNL lock in, so a work deletes the interfaces.
 */

#include <linux/netlink.h>
#include <linux/notifier.h>
#include <linux/rtnetlink.h>

#include "internal.h"

/* Guards the list and the hold of every interface. Taken within RTNL. */
static DEFINE_MUTEX(holds_lock);
static LIST_HEAD(holds);

int ovpn_hold(struct ovpn_dev *dev, struct net *net, u32 portid)
{
	struct ovpn_hold *hold = &dev->hold;
	int ret = 0;

	mutex_lock(&holds_lock);
	if (hold->closed) {
		ret = -ENODEV;
	} else if (list_empty(&hold->list)) {
		hold->net = net;
		hold->portid = portid;
		list_add(&hold->list, &holds);
	} else if (hold->net != net || hold->portid != portid) {
		ret = -EBUSY;
	}
	mutex_unlock(&holds_lock);
	return ret;
}

void ovpn_hold_init(struct ovpn_dev *dev)
{
	INIT_LIST_HEAD(&dev->hold.list);
}

void ovpn_hold_close(struct ovpn_dev *dev)
{
	mutex_lock(&holds_lock);
	dev->hold.closed = true;
	list_del_init(&dev->hold.list);
	mutex_unlock(&holds_lock);
}

static void reap(struct work_struct *work)
{
	struct ovpn_dev *dev;
	LIST_HEAD(kill);

	rtnl_lock();
	mutex_lock(&holds_lock);
	/* Interfaces in the list are registered: they leave it under RTNL. */
	list_for_each_entry(dev, &holds, hold.list)
		if (dev->hold.released)
			unregister_netdevice_queue(dev->net, &kill);
	mutex_unlock(&holds_lock);
	unregister_netdevice_many(&kill);
	rtnl_unlock();
}

static DECLARE_WORK(reap_work, reap);

/* Sockets have no other identity here than namespace and port, which no two
 * have at a time.
 */
static int hold_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	const struct netlink_notify *closed = data;
	struct ovpn_dev *dev;
	bool any = false;

	if (event != NETLINK_URELEASE || closed->protocol != NETLINK_GENERIC)
		return NOTIFY_DONE;
	mutex_lock(&holds_lock);
	list_for_each_entry(dev, &holds, hold.list) {
		if (dev->hold.net != closed->net ||
		    dev->hold.portid != closed->portid)
			continue;
		dev->hold.released = true;
		any = true;
	}
	mutex_unlock(&holds_lock);
	if (any)
		queue_work(ovpn_wq, &reap_work);
	return NOTIFY_DONE;
}

static struct notifier_block hold_notifier = {
	.notifier_call = hold_notify,
};

int ovpn_holds_start(void)
{
	return netlink_register_notifier(&hold_notifier);
}

void ovpn_holds_stop(void)
{
	netlink_unregister_notifier(&hold_notifier);
	cancel_work_sync(&reap_work);
}
