#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# toolchains/for-targets.sh SDKS OUT [RELEASE]: the packages of each release and target in openwrt-feed/targets, or of one
# release, by OpenWrt's SDKs.
#
# SDKS has them unpacked under the names they are published by, openwrt-sdk-RELEASE-TARGET-SUBTARGET[_...]. Packages go to
# OUT/RELEASE/TARGET/SUBTARGET, each with a signed packages.adb. An SDK that is not there is named at the end and makes the
# whole fail: no target is left out in silence.

set -eu

fail() { printf 'for-targets: %s\n' "$*" >&2; exit 1; }
[ $# = 2 ] || [ $# = 3 ] || fail "usage: toolchains/for-targets.sh SDKS OUT [RELEASE]"
here=$(cd "$(dirname "$0")" && pwd)
sdks=$(cd "$1" && pwd) || fail "$1 is no directory"
mkdir -p "$2"
out=$(cd "$2" && pwd)
only=${3:-}

missing= failed= done=
while read -r release target rest; do
	case "$release" in '' | '#'*) continue ;; esac
	[ -n "$target" ] && [ -z "$rest" ] || fail "openwrt-feed/targets: $release $target $rest?"
	[ -z "$only" ] || [ "$release" = "$only" ] || continue
	name="openwrt-sdk-$release-$(echo "$target" | tr / -)"
	sdk=
	for candidate in "$sdks/$name" "$sdks/$name"_*; do
		[ -x "$candidate/scripts/feeds" ] && sdk=$candidate && break
	done
	if [ -z "$sdk" ]; then
		missing="$missing $name"
		continue
	fi
	to="$out/$release/$target"
	rm -rf "$to"
	mkdir -p "$to"
	if "$here/with-openwrt.sh" "$sdk" >"$to/build.log" 2>&1 </dev/null &&
		find "$sdk/bin" \( -name 'kmod-ovpn-[0-9]*.apk' -o -name 'ovpnd-[0-9]*.apk' -o -name 'ovpnd-mini-[0-9]*.apk' \
			-o -name 'luci-app-ovpn-[0-9]*.apk' -o -name 'luci-i18n-ovpn-*.apk' \) -exec cp {} "$to/" \; &&
		(cd "$here/.." && cargo run --release -q -p lane -- index "$to") </dev/null; then
		done="$done $release/$target"
	else
		failed="$failed $release/$target"
		tail -n 5 "$to/build.log" >&2
	fi
done <"$here/../openwrt-feed/targets"

printf 'built:%s\nfailed:%s\nno SDK in %s:%s\n' "$done" "$failed" "$sdks" "$missing"
[ -n "$done" ] && [ -z "$failed$missing" ]
