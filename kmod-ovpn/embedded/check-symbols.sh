#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# check-symbols.sh OUT MODULE_SYMVERS [CROSS_COMPILE]
#
# Writes OUT/undefined-symbols.txt, one symbol a line, and fails unless the
# kernel and its modules export every one of them. Prints count and text size.
set -eu
out=$1 symvers=$2 cross=${3-}

if [ ! -e "$symvers" ]; then
	echo "$symvers is missing: build the kernel's modules first" >&2
	exit 1
fi
"${cross}readelf" -sW "$out/ovpn.ko" |
	awk '$5 ~ /GLOBAL|WEAK/ && $7 == "UND" { print $8 }' | sort -u \
	>"$out/undefined-symbols.txt"
cut -f2 "$symvers" | sort -u >"$out/.exported"
missing=$(comm -23 "$out/undefined-symbols.txt" "$out/.exported")
if [ -n "$missing" ]; then
	echo "ovpn.ko needs symbols which the kernel does not export:" >&2
	echo "$missing" | sed 's/^/  /' >&2
	exit 1
fi
text=$("${cross}size" -A "$out/ovpn.ko" |
	awk '$1 ~ /^\.(text|init\.text|exit\.text)/ { n += $2 } END { print n }')
echo "ovpn.ko: $text bytes of text, $(wc -c <"$out/ovpn.ko") bytes in all," \
	"$(wc -l <"$out/undefined-symbols.txt") kernel symbols used, each exported"
