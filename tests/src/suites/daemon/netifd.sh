#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Stands in for netifd, procd and OpenWrt's shell libraries around one of the package's files:
#   netifd.sh handler|hotplug|init FILE UBUS_SOCKET CONFIG_DIR [STEP INTERFACE]
# What the file asks netifd or procd for is printed, one request a line; ubus is the real one.
what="$1" file="$2" socket="$3" dir="$4" step="$5" interface="$6"

ubus() {
	local args="$*" offset
	offset="${args##*\"offset\":}"
	case "$args" in
		*wait_for*) ubus-client -s "$socket" call ovpnd status >/dev/null ;;
		"call network.interface"*) echo "$args" >&9 ;;
		"call ovpnd reload"*)
			[ "$what" = handler ] || echo "$args" >&9
			ubus-client -s "$socket" "$@"
			;;
		# An answer of the test's own, part by part.
		"call ovpnd peers "*) cat "$dir/peers-${offset%%,*}" 2>/dev/null || ubus-client -s "$socket" "$@" ;;
		*) ubus-client -s "$socket" "$@" ;;
	esac
}
# The paths in use are jq's, but for the root and for all elements of an array.
jsonfilter() {
	jq -r "$(printf '%s\n' "$@" | sed -n 's/^@//; s/\[\*\]/[]/g; s/^\..*/(& \/\/ empty),/p') empty"
}
logger() { shift 2; echo "log $*" >&9; }
# Nobody waits, but it is written down; what the test has for later is there then.
sleep() {
	echo "sleep $*" >&9
	[ ! -e "$dir/later" ] || mv "$dir/later" "$dir/peers-0"
}

# /lib/functions.sh, on a file with one option or list a line and quoted values.
config_load() { CONFIG="$dir/$1"; }
sections() { sed -n "s/^config $1 '\(.*\)'/\1/p" "$CONFIG"; }
lines() { sed -n "/^config [a-z_0-9]* '$1'/,\$p" "$CONFIG" | sed '1!{/^config/,$d}'; }
values() { lines "$1" | sed -n "s/^\t[a-z]* $2 '\(.*\)'/\1/p"; }
config_foreach() { for section in $(sections "$2"); do "$1" "$section"; done; }
config_get() { eval "$1=\"\$(values \"$2\" \"$3\")\""; }
json_get_vars() { :; }

# What is asked of netifd and procd.
for request in proto_init_update proto_add_ipv4_address proto_add_ipv6_address proto_add_ipv4_route proto_add_ipv6_route \
	proto_send_update proto_add_host_dependency proto_notify_error proto_setup_failed proto_config_add_string \
	proto_config_add_int proto_config_add_boolean proto_config_add_array procd_set_param procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_add_reload_trigger; do
	eval "$request() { echo \"$request \$*\" >&9; }"
done
procd_open_instance() { :; }
procd_close_instance() { :; }
modprobe() { :; }
mkdir() { :; }
network_flush_cache() { :; }
# A router with two WANs, of which network_find_wan would name one, and a third for IPv6 alone.
network_find_wan() { eval "$1=wan"; }
network_find_wan6() { eval "$1=wan6"; }
network_get_gateway() { case "$2" in wan | wanb) eval "$1=192.0.2.1" ;; *) return 1 ;; esac; }
network_get_gateway6() { [ "$2" = wan6 ] && eval "$1=fe80::1"; }

exec 9>&1
case "$what" in
	handler)
		INCLUDE_ONLY=1
		. "$file"
		"proto_openvpn_dco_$step" "$interface"
		[ "$step" != init_config ] || echo "renew_handler=$renew_handler" >&9
		;;
	init)
		. "$file"
		if [ "$step" = reload ]; then
			start() { echo start >&9; }
			restart() { echo restart >&9; }
			reload_service
		else
			start_service
			service_triggers
		fi
		;;
	hotplug)
		ACTION="$step" INTERFACE="$interface"
		# Its own libraries are those above.
		eval "$(grep -v '^\. /lib' "$file")"
		;;
esac
