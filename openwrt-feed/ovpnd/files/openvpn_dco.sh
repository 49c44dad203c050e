#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# netifd's handler for interfaces of proto openvpn_dco: /lib/netifd/proto/openvpn_dco.sh
#
# ovpnd makes the interface and its peers from the same section of /etc/config/network, when it is told to from here; netifd
# sets the addresses and routes that ovpnd offers, with its own options (metric, ip4table, ip6table, defaultroute), and
# takes them away. When the offer changes, ovpnd asks netifd for a renewal, which ends here as well.
# Faults of the section are told by ovpnd.

[ -n "$INCLUDE_ONLY" ] || {
	. /lib/functions.sh
	. ../netifd-proto.sh
	init_proto "$@"
}

# Where ovpnd finds which interfaces are to be up.
OVPND_STATE=/var/run/ovpnd

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
	proto_config_add_string 'tunlink'
	# netifd's own options, which it keeps to itself otherwise.
	proto_config_add_defaults
	proto_config_add_string 'ip4table'
	proto_config_add_string 'ip6table'
}

# Starts INTERFACE, or finds it started: $addresses, $routes, $endpoints, $servers and $domains are ovpnd's offer, or $error
# tells why there is none.
ovpn_start() {
	local answer ok

	addresses= routes= endpoints= servers= domains= error=
	answer="$(ubus -t 10 call ovpnd up "{\"interface\":\"$1\"}" 2>/dev/null)"
	[ -n "$answer" ] && json_load "$answer" && json_get_var ok ok
	if [ "$ok" = 1 ]; then
		json_get_values addresses addresses
		json_get_values routes routes
		json_get_values endpoints endpoints
		json_get_values servers dns
		json_get_values domains dns_search
		return 0
	fi
	answer="$(ubus -t 10 call ovpnd interfaces "{\"interface\":\"$1\"}" 2>/dev/null)"
	[ -n "$answer" ] && json_load "$answer" && json_select interfaces && json_select 1 && json_get_var error error
	return 1
}

# Hands the offer to netifd. A route is a network, or NETWORK via ADDRESS. The section's $metric, $defaultroute, $ip4table and
# $ip6table are set.
ovpn_update() {
	local word network=

	proto_init_update "$1" 1
	for word in $addresses; do
		case "$word" in
			*:*) proto_add_ipv6_address "${word%/*}" "${word#*/}" ;;
			*) proto_add_ipv4_address "${word%/*}" "${word#*/}" ;;
		esac
	done
	# A network waits for the word after it, which may say by which address it is reached.
	for word in $routes ''; do
		case "$word" in
			via) continue ;;
			*/* | '') [ -z "$network" ] || ovpn_route "$network" '' ;;
			*)
				ovpn_route "$network" "$word"
				word=
				;;
		esac
		network="$word"
	done
	# netifd drops these with "option peerdns '0'".
	for word in $servers; do
		proto_add_dns_server "$word"
	done
	for word in $domains; do
		proto_add_dns_search "$word"
	done
	proto_send_update "$1"
}

# netifd sets a route to everything in the place of another one with its metric in its table (NLM_F_REPLACE), which is the
# WAN's, and does not set that again: the WAN's next renewal would take the traffic out of the tunnel, and ifdown would leave
# no default route. Two halves stand beside it. With a metric or a table of its own the route has no rival, and with
# "option defaultroute '0'", which knows no halves, netifd drops it.
ovpn_route() {
	[ "$defaultroute" = 0 ] || case "$1,${metric:-0},$ip4table,$ip6table" in
		0.0.0.0/0,0,,*)
			proto_add_ipv4_route 0.0.0.0 1 "$2"
			proto_add_ipv4_route 128.0.0.0 1 "$2"
			return
			;;
		::/0,0,*,)
			proto_add_ipv6_route :: 1 "$2"
			proto_add_ipv6_route 8000:: 1 "$2"
			return
			;;
	esac
	case "$1" in
		*:*) proto_add_ipv6_route "${1%/*}" "${1#*/}" "$2" ;;
		*) proto_add_ipv4_route "${1%/*}" "${1#*/}" "$2" ;;
	esac
}

# netifd sets up again as soon as it hears of a failure: what stays broken must not keep the router busy.
ovpn_fail() {
	proto_notify_error "$1" "$2"
	sleep 15
	proto_setup_failed "$1"
}

proto_openvpn_dco_setup() {
	local config="$1" nohostroute tunlink metric defaultroute ip4table ip6table
	local addresses routes endpoints servers domains error word

	json_get_vars nohostroute tunlink metric defaultroute ip4table ip6table
	ubus -t 10 wait_for ovpnd 2>/dev/null || {
		ovpn_fail "$config" OVPND_MISSING
		return 1
	}
	ovpn_start "$config" || {
		logger -t netifd "openvpn_dco $config: ${error:-unknown to ovpnd}"
		# No proto_block_restart: netifd would not start it again when the section is mended, only by ifup.
		ovpn_fail "$config" SETUP_FAILED
		return 1
	}
	# Before the routes: netifd looks for the way to an endpoint among all routes it knows, and would find the tunnel's. It
	# takes the interface down when that way goes, and sets it up again when it is back.
	[ "$nohostroute" = 1 ] || for word in $endpoints; do
		proto_add_host_dependency "$config" "$word" "$tunlink"
	done
	ovpn_update "$config"
}

# Endpoints may be elsewhere now, or known at last, and networks others. The way to each is looked for outside of the tunnel.
proto_openvpn_dco_renew() {
	local config="$1" nohostroute tunlink metric defaultroute ip4table ip6table
	local addresses routes endpoints servers domains error word v6 where

	json_get_vars nohostroute tunlink metric defaultroute ip4table ip6table
	ovpn_start "$config" || {
		logger -t netifd "openvpn_dco $config: ${error:-unknown to ovpnd}"
		return 1
	}
	where="\"interface\":\"$config\",\"exclude\":true"
	[ -n "$tunlink" ] && where="\"interface\":\"$tunlink\""
	[ "$nohostroute" = 1 ] || for word in $endpoints; do
		case "$word" in
			*:*) v6=true ;;
			*) v6=false ;;
		esac
		ubus call network add_host_route "{\"target\":\"$word\",\"v6\":$v6,$where}" >/dev/null 2>&1
	done
	ovpn_update "$config"
}

proto_openvpn_dco_teardown() {
	local config="$1" reason='netifd took it down'

	# Within the five seconds after which netifd kills this.
	ubus -t 3 call ovpnd down "{\"interface\":\"$config\",\"reason\":\"$reason\"}" >/dev/null 2>&1 && return 0
	# ovpnd is away or hangs: it shall find the interface down when it comes back.
	mkdir -p "$OVPND_STATE"
	echo "down $reason" >"$OVPND_STATE/$config"
	ip link del dev "$config" 2>/dev/null
	return 0
}

[ -n "$INCLUDE_ONLY" ] || add_protocol openvpn_dco
