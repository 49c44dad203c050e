#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# check.sh KMOD_DIR KERNEL OUT MAKE [ARGUMENT]...
#
# Builds the module for a kernel and says in one line how far that goes. The
# exit status is 0 if there is a module.
set -u
kmod=$1 kernel=$2 out=$3
shift 3
log=$out/check.log
mkdir -p "$out"

if [ ! -e "$kernel/Makefile" ]; then
	echo "FAILS: $kernel is no kernel tree"
	exit 1
fi
if "$@" -C "$kmod" KERNEL_SRC="$kernel" OUT="$out" modules >"$log" 2>&1; then
	built=yes
else
	built=
fi
mode=$(sed -n '/^[a-z]* mode: /{p;q}' "$log")
if [ -z "$built" ]; then
	# The first error of a compiler, else of make.
	why=$(sed -n '/error[:[]/{p;q}' "$log")
	[ -n "$why" ] || why=$(sed -n '/\*\*\* /{s/^.*\*\*\* //;s/  Stop\.$//;p;q}' "$log")
	echo "FAILS: ${mode:+$mode; }${why:-make failed} (all of it: $log)"
	exit 1
fi
if [ ! -e "$kernel/Module.symvers" ]; then
	echo "BUILDS: $mode; its symbols cannot be checked: the kernel has no Module.symvers"
	exit 0
fi
if "$@" -C "$kmod" KERNEL_SRC="$kernel" OUT="$out" all >>"$log" 2>&1; then
	echo "OK: $mode; $(sed -n 's/^ovpn.ko: //p' "$log" | tail -1)"
else
	echo "FAILS: $mode; it builds, and $(tail -3 "$log" | head -1) (all of it: $log)"
	exit 1
fi
