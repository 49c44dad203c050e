#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# toolchains/with-openwrt.sh DIR: has OpenWrt's own scripts read this feed, in a checkout of OpenWrt or an unpacked SDK.
#
# Reads and selects in any of both; compiles and verifies where DIR has a compiler, which an SDK has and a checkout after
# "make". Nothing of DIR is changed but feeds.conf (a line for this feed), .config (options of this feed's packages) and
# what its own scripts write. OVPN_CONFIG names lines for .config, for instance the target of a checkout.

set -eu

feed=$(cd "$(dirname "$0")/.." && pwd)
packages="kmod-ovpn ovpnd ovpnd-mini luci-app-ovpn"
# The recipe of each, which make compiles: one for both variants of the daemon.
recipe_of() { printf '%s\n' "${1%-mini}"; }
say() { printf '\n== %s\n' "$*"; }
fail() { printf 'with-openwrt: %s\n' "$*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: toolchains/with-openwrt.sh DIR, a checkout of OpenWrt or an unpacked SDK"
cd "$1" || fail "$1 is no directory"
[ -x scripts/feeds ] && [ -f rules.mk ] || fail "$1 has no scripts/feeds and rules.mk: neither a checkout nor an SDK"

say "feeds: the line for $feed"
[ -f feeds.conf ] || cp feeds.conf.default feeds.conf
grep "^src-[a-z-]* ovpn " feeds.conf || echo "src-link ovpn $feed" >>feeds.conf
./scripts/feeds update -a
for package in $packages; do
	grep "^Package: $package\$" feeds/ovpn.index || fail "$package: scripts/feeds cannot read its recipe, see logs/"
done
./scripts/feeds install -p ovpn $packages

say "make defconfig"
[ -z "${OVPN_CONFIG:-}" ] || cat "$OVPN_CONFIG" >>.config
for package in $packages; do
	echo "CONFIG_PACKAGE_$package=m" >>.config
done
make defconfig >defconfig.log 2>&1 || { cat defconfig.log; fail "make defconfig"; }
if grep -i 'recursive dependency' defconfig.log; then
	fail "Kconfig finds a recursion"
fi
selected=
for package in $packages; do
	if grep "^CONFIG_PACKAGE_$package=[my]" .config; then
		selected="$selected $package"
	else
		echo "$package is not offered for this target (kmod-ovpn: kernel 6.12 only)"
	fi
done
[ -n "$selected" ] || fail "no package can be selected"

if ! ls -d staging_dir/toolchain-* >/dev/null 2>&1; then
	say "read and selected:$selected; there is no compiler in $1, so nothing was compiled or verified"
	exit 0
fi

for recipe in $(for package in $selected; do recipe_of "$package"; done | sort -u); do
	say "make package/$recipe/compile"
	make "package/$recipe/compile" V=s
done

say "apk verify"
found=0
for package in $selected; do
	files=$(find bin -name "$package-[0-9]*.apk")
	[ -n "$files" ] || fail "no .apk of $package in bin/: it was not made, or this release makes no apk packages"
	for file in $files; do
		staging_dir/host/bin/apk verify --allow-untrusted "$file"
		staging_dir/host/bin/apk adbdump "$file" | sed -n '1,/^paths:/p'
		found=$((found + 1))
	done
done
say "read, selected, compiled and verified:$selected ($found packages)"
