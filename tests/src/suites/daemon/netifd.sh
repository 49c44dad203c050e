#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Stands in for netifd, procd and OpenWrt's shell libraries around one of the package's files:
#   netifd.sh handler|hotplug|init FILE UBUS_SOCKET CONFIG_DIR [STEP INTERFACE]
# Its requests to netifd and procd are printed, one request a line, in order; ubus is the real one.
#
# It imitates these interfaces, as netifd's scripts/netifd-proto.sh, proto-ext.c and interface-ip.c of July 2026, jshn.sh and
# procd.sh have them:
#  - an update holds what was added since proto_init_update, and replaces the one before; entries of both stay as they are;
#  - before the first update for a device that is not external, it loses its addresses and routes (system_if_clear_state);
#  - addresses come before routes, and a route takes the place of one to the same destination (NLM_F_REPLACE), which is
#    not set again;
#  - proto_add_host_dependency and add_host_route leave an endpoint alone that is on a link of its own;
#  - the handler's step has the section's options in jshn's place (json_get_vars), until it loads something else there; netifd
#    leaves out those that init_config has not declared, its own among them.
# netifd itself (e97e36f of July 2026, with ubusd, ovpnd and this handler in a guest) was seen to do so: two renewals with the
# same offer made no event of `ip monitor`, and none of 150 pings was lost in three of them; after ifdown of a tunnel with
# 0.0.0.0/0 the WAN's default route was missing, with two halves it was there.
# With the file `apply` in CONFIG_DIR an update is carried out, by `ip`, in this network namespace.
what="$1" file="$2" socket="$3" dir="$4" step="$5" interface="$6"

ubus() {
	[ "$1" != -t ] || shift 2
	case "$*" in
		*wait_for*) ubus-client -s "$socket" call ovpnd status >/dev/null ;;
		"call network"*) echo "$*" >&9 ;;
		"call ovpnd reload"*)
			echo "$*" >&9
			ubus-client -s "$socket" "$@"
			;;
		# An answer of the test's own.
		"call ovpnd up "*) cat "$dir/answer" 2>/dev/null || ubus-client -s "$socket" "$@" ;;
		*) ubus-client -s "$socket" "$@" ;;
	esac
}
logger() { shift 2; echo "log $*" >&9; }
# A pause is written down and not made.
sleep() { echo "sleep $*" >&9; }

# jshn.sh, for what the handler does with an object.
json_load() { JSON="$1" AT=. && printf '%s' "$JSON" | jq -e . >/dev/null; }
json_select() {
	case "$1" in
		[0-9]*) AT="$AT | .[$(($1 - 1))]" ;;
		*) AT="$AT | .$1" ;;
	esac
	printf '%s' "$JSON" | jq -e "$AT" >/dev/null
}
json_get() { printf '%s' "$JSON" | jq -r "$AT | .$1 | $2"; }
json_get_var() {
	eval "$1=\"\$(json_get \"$2\" 'if . == true then 1 elif . == false then 0 else . // empty end')\""
}
# Of what is not there jshn says nothing, and sets nothing.
json_get_values() { eval "$1=\"\$(json_get \"$2\" '. // [] | join(\" \")')\""; }
json_get_vars() {
	for option in "$@"; do
		eval "$option="
		case "$DECLARED" in *" $option "*) config_get "$option" "$interface" "$option" ;; esac
	done
}

# /lib/functions.sh, on a file with one option or list a line and quoted values.
CONFIG="$dir/network"
config_load() { CONFIG="$dir/$1"; }
sections() { sed -n "s/^config $1 '\(.*\)'/\1/p" "$CONFIG"; }
lines() { sed -n "/^config [a-z_0-9]* '$1'/,\$p" "$CONFIG" | sed '1!{/^config/,$d}'; }
values() { lines "$1" | sed -n "s/^\t[a-z]* $2 '\(.*\)'/\1/p"; }
config_foreach() { for section in $(sections "$2"); do "$1" "$section"; done; }
config_get() { eval "$1=\"\$(values \"$2\" \"$3\")\""; }

# Requests to netifd and procd.
for request in proto_add_host_dependency proto_notify_error proto_setup_failed proto_config_add_string \
	proto_config_add_int proto_config_add_boolean proto_config_add_array procd_set_param procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_add_reload_trigger; do
	eval "$request() { echo \"$request \$*\" >&9; }"
done
proto_config_add_defaults() {
	for option in defaultroute peerdns renew metric; do echo "proto_config_add_string $option" >&9; done
}
# Requests of an update, and what netifd does for each.
apply() {
	# By its path: busybox's shell would take its own ip, which knows less.
	/sbin/ip "$@" || echo "ip $* failed" >&9
}
proto_init_update() {
	echo "proto_init_update $*" >&9
	DEV="$1" HAS="$dir/has.$1" index=
	[ -e "$dir/apply" ] || return 0
	index="$(/sbin/ip -o link show dev "$DEV" | cut -d : -f 1)"
	: >"$HAS.old"
	if [ "$(head -n 1 "$HAS" 2>/dev/null)" = "$index" ]; then
		mv "$HAS" "$HAS.old"
	else
		apply addr flush dev "$DEV"
		apply -4 route flush dev "$DEV"
		apply link set "$DEV" up
	fi
	echo "$index" >"$HAS"
}
# own FAMILY address|route DESTINATION [MORE]
own() {
	[ -e "$dir/apply" ] || return 0
	echo "$*" >>"$HAS"
	grep -qxF -e "$*" "$HAS.old" || change "$@"
}
change() {
	family="$1" kind="$2"
	shift 2
	case "$kind" in
		address) apply "$family" address add "$@" dev "$DEV" ;;
		route) apply "$family" route replace "$@" dev "$DEV" ;;
	esac
}
proto_add_ipv4_address() { echo "proto_add_ipv4_address $*" >&9 && own -4 address "$1/$2"; }
proto_add_ipv6_address() { echo "proto_add_ipv6_address $*" >&9 && own -6 address "$1/$2" nodad; }
proto_add_ipv4_route() { echo "proto_add_ipv4_route $*" >&9 && own -4 route "$1/$2" ${3:+via "$3"}; }
proto_add_ipv6_route() { echo "proto_add_ipv6_route $*" >&9 && own -6 route "$1/$2" ${3:+via "$3"}; }
proto_add_dns_server() { echo "proto_add_dns_server $*" >&9; }
proto_add_dns_search() { echo "proto_add_dns_search $*" >&9; }
proto_send_update() {
	echo "proto_send_update $*" >&9
	[ -e "$dir/apply" ] || return 0
	grep -vxF -f "$HAS" "$HAS.old" | while read -r family kind destination more; do
		apply "$family" "$kind" del "$destination" dev "$DEV"
	done
}

procd_open_instance() { :; }
procd_close_instance() { :; }
modprobe() { :; }
mkdir() { [ "$what" = init ] || command mkdir "$@"; }
# The program itself is the guest's.
nft() { echo "nft $*: $(grep -c drop)" >&9; }
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
		OVPND_STATE="$dir/state"
		DECLARED=" $(proto_openvpn_dco_init_config 9>&1 | sed -n 's/^proto_config_add_[a-z]* //p' | cut -d : -f 1 | tr '\n' ' ')"
		"proto_openvpn_dco_$step" "$interface"
		[ "$step" != init_config ] || echo "renew_handler=$renew_handler" >&9
		;;
	init)
		. "$file"
		STATE="${interface:-$STATE}"
		case "$step" in
			killswitch)
				# The program, with this test's configuration.
				program() { ovpnd --config-dir "$dir" "$@" 2>/dev/null; }
				PROG=program
				killswitch
				;;
			reload)
				start() { echo start >&9; }
				restart() { echo restart >&9; }
				reload_service
				;;
			stop) stop_service ;;
			started) service_started ;;
			*)
				killswitch() { :; }
				start_service
				service_triggers
				;;
		esac
		;;
	hotplug)
		ACTION="$step" INTERFACE="$interface"
		# Its own libraries are those above.
		eval "$(grep -v '^\. /lib' "$file")"
		;;
esac
