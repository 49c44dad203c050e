#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# $1 package, $2 version.

case "$1" in
	"ovpnd")
		ovpnd --version | grep -F "$2" || exit 1
		ovpnctl --version | grep -F "$2" || exit 1
		for script in /etc/init.d/ovpnd /lib/netifd/proto/openvpn_dco.sh /etc/hotplug.d/iface/70-ovpnd; do
			sh -n "$script" || exit 1
		done
		[ "$(stat -c %a /etc/ovpn)" = 700 ]
		;;
esac
