#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# netifd's handler for interfaces of proto openvpn_dco: /lib/netifd/proto/openvpn_dco.sh
#
# ovpnd makes the interface from the same section of /etc/config/network, with its addresses and routes; netifd learns from
# here that it is up and which addresses it has, for what it shows and for the firewall, and pins the way to each endpoint.
# Addresses are external to it, or it would clear the interface first; it learns of no routes, having no gateway for them.
# What is wrong with the section, ovpnd says.

[ -n "$INCLUDE_ONLY" ] || {
	. /lib/functions.sh
	. ../netifd-proto.sh
	init_proto "$@"
}

proto_openvpn_dco_init_config() {
	available=1
	no_device=1
	lasterror=1
	renew_handler=1

	proto_config_add_string 'mode'
	proto_config_add_string 'transport'
	proto_config_add_int 'local_port'
	proto_config_add_array 'addresses:list(string)'
	proto_config_add_int 'mtu'
	proto_config_add_string 'mssfix'
	proto_config_add_string 'cipher'
	proto_config_add_string 'hwcrypto'
	proto_config_add_string 'fwmark'
	proto_config_add_boolean 'nohostroute'
}

# A value of ovpnd's answer to METHOD about INTERFACE, by a jsonpath expression.
ovpnd_ask() {
	ubus call ovpnd "$1" "{\"interface\":\"$2\"}" 2>/dev/null | jsonfilter -q -e "$3"
}

ovpn_add_address() {
	case "$1" in
		*:*/*) proto_add_ipv6_address "${1%%/*}" "${1##*/}" ;;
		*.*/*) proto_add_ipv4_address "${1%%/*}" "${1##*/}" ;;
	esac
}

# netifd sets up again as soon as it hears of a failure: what stays broken must not keep the router busy.
ovpn_fail() {
	proto_notify_error "$1" "$2"
	sleep 15
	proto_setup_failed "$1"
}

# Pins the way to each endpoint; netifd takes it away with the interface, and sets it anew when the WAN changes. ovpnd
# answers before it has looked names up: they get ten seconds. With AGAIN all of these are waited for, because a peer that
# is up does not show that its name is looked up again. An answer has 500 peers at most, and where it goes on.
ovpn_pin() {
	local interface="$1" again="$2" known=' ' pause next part sought word

	for pause in 1 2 3 4 ''; do
		sought="$again"
		next=0
		while [ -n "$next" ]; do
			part="{\"interface\":\"$interface\",\"offset\":$next,\"limit\":500}"
			next=
			for word in $(ubus call ovpnd peers "$part" 2>/dev/null |
				jsonfilter -q -e '@.peers[*].state' -e '@.peers[*].remote' -e '@.next'); do
				case "$word" in
					resolving | connecting) sought=1 ;;
					*:*)
						word="${word%:*}"
						word="${word#[}"
						word="${word%]}"
						case "$known" in *" $word "*) continue ;; esac
						known="$known$word "
						proto_add_host_dependency "$interface" "$word"
						;;
					[0-9]*) next="$word" ;;
				esac
			done
		done
		[ -n "$sought" ] && [ -n "$pause" ] || return 0
		sleep "$pause"
	done
}

proto_openvpn_dco_setup() {
	local config="$1" again="$3" state error value nohostroute

	json_get_vars nohostroute
	ubus -t 10 wait_for ovpnd 2>/dev/null || {
		ovpn_fail "$config" OVPND_MISSING
		return 1
	}
	# Changes what changed, which may be nothing.
	ubus call ovpnd reload >/dev/null 2>&1
	state="$(ovpnd_ask interfaces "$config" '@.interfaces[0].state')"
	[ "$state" = up ] || {
		error="$(ovpnd_ask interfaces "$config" '@.interfaces[0].error')"
		logger -t netifd "openvpn_dco $config: ${error:-unknown to ovpnd}"
		# No proto_block_restart: netifd would not start it again when the section is mended, only by ifup.
		ovpn_fail "$config" SETUP_FAILED
		return 1
	}

	proto_init_update "$config" 1 1
	for value in $(ovpnd_ask interfaces "$config" '@.interfaces[0].addresses[*]'); do
		ovpn_add_address "$value"
	done
	proto_send_update "$config"

	[ "$nohostroute" = 1 ] || ovpn_pin "$config" "$again"
}

# Endpoints may be elsewhere now.
proto_openvpn_dco_renew() {
	proto_openvpn_dco_setup "$1" "$2" again
}

proto_openvpn_dco_teardown() {
	# ovpnd goes by the configuration: what is not there or disabled it takes away, and what netifd alone ends goes on.
	ubus call ovpnd reload >/dev/null 2>&1
	return 0
}

[ -n "$INCLUDE_ONLY" ] || add_protocol openvpn_dco
