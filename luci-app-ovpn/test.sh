#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# $1 package, $2 version.

case "$1" in
	luci-app-ovpn)
		. /usr/share/libubox/jshn.sh
		for file in /usr/share/luci/menu.d/luci-app-ovpn.json /usr/share/rpcd/acl.d/luci-app-ovpn.json; do
			json_init
			json_load_file "$file" || exit 1
			json_get_keys keys
			echo "$file: $keys"
			[ -n "$keys" ] || exit 1
		done
		;;
esac
