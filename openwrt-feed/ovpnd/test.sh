#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# $1 package, $2 version.

case "$1" in
	ovpnd | ovpnd-mini)
		ovpnd --version | grep -F "$2" || exit 1
		ovpnctl --version | grep -F "$2" || exit 1
		for script in /etc/init.d/ovpnd /lib/netifd/proto/openvpn_dco.sh /etc/hotplug.d/iface/70-ovpnd; do
			sh -n "$script" || exit 1
		done
		# No file of the package: its script makes it, and where scripts do not run, /etc/init.d/ovpnd does.
		if [ -e /etc/ovpn ]; then
			stat -c '%a %n' /etc/ovpn | grep '^700 ' || exit 1
		else
			grep 'mkdir -p -m 0700 /etc/ovpn' /etc/init.d/ovpnd || exit 1
		fi
		;;
esac
