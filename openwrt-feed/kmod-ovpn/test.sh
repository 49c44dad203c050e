#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# $1 package, $2 version. The container this runs in has another kernel: nothing can be loaded.

case "$1" in
	"kmod-ovpn")
		grep -q '^ovpn\( \|$\)' /etc/modules.d/30-ovpn || exit 1
		for module in /lib/modules/*/ovpn.ko; do
			grep -aq 'alias=rtnl-link-ovpn' "$module" || exit 1
		done
		;;
esac
