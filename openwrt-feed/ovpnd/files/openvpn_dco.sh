#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# netifd's handler for interfaces of proto openvpn_dco: /lib/netifd/proto/openvpn_dco.sh
#
# ovpnd makes the interface from the same section of /etc/config/network; netifd learns from here that it is up, which
# addresses and routes it has, and pins the way to each endpoint. What is wrong with the section, ovpnd says.

[ -n "$INCLUDE_ONLY" ] || {
	. /lib/functions.sh
	. ../netifd-proto.sh
	init_proto "$@"
}

proto_openvpn_dco_init_config() {
	available=1
	no_device=1
	lasterror=1

	proto_config_add_string 'mode'
	proto_config_add_string 'transport'
	proto_config_add_int 'local_port'
	proto_config_add_array 'addresses:list(string)'
	proto_config_add_int 'mtu'
	proto_config_add_string 'mssfix'
	proto_config_add_string 'cipher'
	proto_config_add_string 'hwcrypto'
	proto_config_add_string 'fwmark'
	proto_config_add_array 'dns:list(string)'
	proto_config_add_array 'dns_search:list(string)'
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

# Routes of a peer's section: ovpnd sets them too; netifd must know them to show and to reflect them.
ovpn_peer_routes() {
	local section="$1" disabled route
	config_get_bool disabled "$section" disabled 0
	config_get_bool route "$section" route_allowed_ips 0
	[ "$disabled" = 1 ] || [ "$route" = 0 ] && return
	config_list_foreach "$section" allowed_ips ovpn_add_route
}

ovpn_add_route() {
	case "$1" in
		*:*/*) proto_add_ipv6_route "${1%%/*}" "${1##*/}" ;;
		*.*/*) proto_add_ipv4_route "${1%%/*}" "${1##*/}" ;;
	esac
}

proto_openvpn_dco_setup() {
	local config="$1" state error value nohostroute

	json_get_vars nohostroute
	ubus -t 10 wait_for ovpnd 2>/dev/null || {
		proto_notify_error "$config" OVPND_MISSING
		proto_setup_failed "$config"
		return 1
	}
	ubus call ovpnd reload >/dev/null 2>&1
	state="$(ovpnd_ask interfaces "$config" '@.interfaces[0].state')"
	[ "$state" = up ] || {
		error="$(ovpnd_ask interfaces "$config" '@.interfaces[0].error')"
		logger -t netifd "openvpn_dco $config: ${error:-unknown to ovpnd}"
		proto_notify_error "$config" SETUP_FAILED
		# ovpnd tries again by itself and tells by the hotplug script below when it is up.
		proto_setup_failed "$config"
		return 1
	}

	proto_init_update "$config" 1
	for value in $(ovpnd_ask interfaces "$config" '@.interfaces[0].addresses[*]'); do
		ovpn_add_address "$value"
	done
	json_for_each_item proto_add_dns_server dns
	json_for_each_item proto_add_dns_search dns_search
	config_load network
	config_foreach ovpn_peer_routes "openvpn_dco_$config"
	proto_send_update "$config"

	[ "$nohostroute" = 1 ] || for value in $(ovpnd_ask peers "$config" '@.peers[*].remote'); do
		value="${value%:*}"
		value="${value#[}"
		# netifd takes it away with the interface, and sets it anew when the WAN changes.
		proto_add_host_dependency "$config" "${value%]}"
	done
}

proto_openvpn_dco_teardown() {
	# ovpnd goes by the configuration: what is not there or disabled it takes away.
	ubus call ovpnd reload >/dev/null 2>&1
	return 0
}

[ -n "$INCLUDE_ONLY" ] || add_protocol openvpn_dco
