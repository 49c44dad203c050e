#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Two namespaces on one machine and a tunnel between them, made with ovpnctl alone:
#
#   ns a: ovpn0 10.8.0.1 -- veth 192.0.2.1 === 192.0.2.2 veth -- ovpn0 10.8.0.2 :ns b
#
# Needs root, iproute2, ping, ovpnctl in PATH and the module; ends non-zero when the ping through the tunnel fails.
set -eu
key=$(mktemp)
cleanup() {
    for ns in "tunnel-a-$$" "tunnel-b-$$"; do
        # The process that holds the peer's socket ends with the interface; until then it holds the namespace too.
        ip netns exec "$ns" ovpnctl del-iface ovpn0 || :
        ip netns del "$ns" || :
    done
    rm -f "$key"
}
trap cleanup EXIT
ovpnctl genkey >"$key" # mktemp made it 0600

side() { # namespace, own number, the other's number, key direction
    ip -n "$1" link set lo up
    ip -n "$1" link set "$1" name wire up
    ip -n "$1" addr add "192.0.2.$2/24" dev wire
    ip netns exec "$1" ovpnctl new-iface ovpn0
    ip -n "$1" addr add "10.8.0.$2/24" dev ovpn0
    ip -n "$1" link set ovpn0 up
    ip netns exec "$1" ovpnctl new-peer ovpn0 id 1 remote "192.0.2.$3:1194" local-port 1194
    ip netns exec "$1" ovpnctl new-key ovpn0 peer 1 cipher aes-256-gcm key-file "$key" key-direction "$4"
}
ip netns add "tunnel-a-$$"
ip netns add "tunnel-b-$$"
ip link add "tunnel-a-$$" netns "tunnel-a-$$" type veth peer name "tunnel-b-$$" netns "tunnel-b-$$"
side "tunnel-a-$$" 1 2 0
side "tunnel-b-$$" 2 1 1
ip netns exec "tunnel-a-$$" ping -c 3 -i 0.2 -W 5 10.8.0.2
ip netns exec "tunnel-b-$$" ovpnctl show ovpn0
