#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# $1 package, $2 version. The container this runs in has another kernel: nothing can be loaded.

case "$1" in
	kmod-ovpn)
		grep '^ovpn\( \|$\)' /etc/modules.d/30-ovpn || exit 1
		for module in /lib/modules/*/ovpn.ko; do
			# Counts lines, which a module without the alias has none of.
			grep -ac 'alias=rtnl-link-ovpn' "$module" || exit 1
		done
		;;
esac
