#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# $1 package, $2 version.

case "$1" in
	"luci-app-ovpn")
		for file in /usr/share/luci/menu.d/luci-app-ovpn.json /usr/share/rpcd/acl.d/luci-app-ovpn.json; do
			jsonfilter -q -i "$file" -e '@' >/dev/null || exit 1
		done
		;;
esac
