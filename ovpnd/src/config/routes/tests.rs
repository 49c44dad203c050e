// SPDX-License-Identifier: GPL-2.0-or-later
use std::path::Path;

use crate::config::Config;
use crate::keyfile::StaticKey;
use crate::uci;

fn load_key(path: &Path) -> Result<StaticKey, String> {
    let path = path.display().to_string();
    let hex = format!("{:02x}", path.bytes().fold(0u8, u8::wrapping_add)).repeat(256);
    let text = format!(
        "-----BEGIN OpenVPN Static key V1-----\n{hex}\n-----END OpenVPN Static key V1-----"
    );
    StaticKey::parse(text.as_bytes())
}

fn read(text: &str, netifd: bool) -> Config {
    let mut config = Config {
        netifd,
        ..Config::default()
    };
    config.read_network("network", &uci::File::parse(text.as_bytes()), &load_key);
    config
}

/// An interface in mode mp with the network 10.8.N.0/24; `more` are options of its own.
fn interface(number: u8, more: &str) -> String {
    format!(
        "config interface 'vpn{number}'\noption proto openvpn_dco\noption mode mp\nlist addresses '10.8.{number}.1/24'\n\
         list addresses 'fd00:{number}::1/64'\n{more}\n"
    )
}

/// Peer `id` of an interface, with these networks, of which it is routed all.
fn peer(interface: u8, id: u8, networks: &str) -> String {
    let networks: String = networks
        .split(' ')
        .map(|network| format!("list allowed_ips '{network}'\n"))
        .collect();
    format!(
        "config openvpn_dco_vpn{interface} 'p{interface}{id}'\noption peer_id {id}\noption endpoint_host 192.0.2.{id}\n\
         list vpn_ip '10.8.{interface}.{id}'\nlist vpn_ip 'fd00:{interface}::{id}'\noption key_file '/{interface}{id}'\n\
         option key_direction 0\noption insecure_static_key 1\noption route_allowed_ips 1\n{networks}"
    )
}

/// The faults' sections, options and messages.
fn faults(text: &str, netifd: bool) -> Vec<(String, String, String)> {
    let config = read(text, netifd);
    let (faults, _) = config.all_problems();
    let texts = |text: &Option<String>| text.clone().unwrap_or_default();
    faults
        .iter()
        .map(|fault| {
            (
                texts(&fault.section),
                texts(&fault.option),
                fault.message.clone(),
            )
        })
        .collect()
}

fn of_networks(peer: &str, message: &str) -> (String, String, String) {
    (peer.into(), "allowed_ips".into(), message.into())
}

#[test]
fn no_network_is_routed_to_two_peers() {
    for (first, second, said) in [
        ("192.168.9.0/24", "192.168.9.0/24", "192.168.9.0/24"),
        ("10.0.0.1/24", "10.0.0.0/24", "10.0.0.0/24"),
        ("fd00:9::1/64", "fd00:9::/64", "fd00:9::/64"),
        ("0.0.0.0/0", "192.0.2.0/24 1.2.3.4/0", "0.0.0.0/0"),
        ("10.9.9.9", "10.9.9.9/32", "10.9.9.9/32"),
    ] {
        let text = interface(0, "") + &peer(0, 2, first) + &peer(0, 3, second);
        let said = format!("{said} is routed to peer 'p02' already");
        assert_eq!(faults(&text, false), [of_networks("p03", &said)]);
        let unrouted = text.replacen("route_allowed_ips 1", "route_allowed_ips 0", 1);
        assert_eq!(faults(&unrouted, false), [], "{first} is not routed");
    }
    // A longer prefix inside another's is another network, and one peer may say the same twice.
    let text = interface(0, "")
        + &peer(0, 2, "10.0.0.0/8 0.0.0.0/1 128.0.0.0/1 0.0.0.0/0")
        + &peer(0, 3, "10.0.0.0/24 10.0.0.7/24 ::/0");
    assert_eq!(faults(&text, false), []);
}

#[test]
fn no_network_is_routed_through_two_interfaces_in_one_place() {
    let with = |more: [&str; 2]| {
        interface(0, more[0])
            + &peer(0, 2, "192.168.9.0/24")
            + &interface(1, more[1])
            + &peer(1, 2, "192.168.9.7/24 10.8.1.0/25")
    };
    let said = "192.168.9.0/24 is routed to peer 'p02' of interface 'vpn0' already";
    let fault = [of_networks("p12", said)];
    assert_eq!(faults(&with(["", ""]), false), fault);
    assert_eq!(faults(&with(["", ""]), true), fault);
    for apart in [["option metric 10", ""], ["", "option ip4table vpn"]] {
        assert_eq!(faults(&with(apart), true), [], "{apart:?} with netifd");
        assert_eq!(faults(&with(apart), false), fault, "{apart:?} without");
    }
    for same in [["option metric 0", ""], ["", "option ip4table main"]] {
        assert_eq!(faults(&with(same), true), fault, "{same:?}");
    }
    // The order of the file counts, not that of the names.
    let text = interface(1, "") + &peer(1, 2, "192.168.9.0/24") + &interface(0, "");
    let text = text + &peer(0, 2, "192.168.9.0/24");
    let said = "192.168.9.0/24 is routed to peer 'p12' of interface 'vpn1' already";
    assert_eq!(faults(&text, false), [of_networks("p02", said)]);
    let text = interface(0, "") + &peer(0, 2, "10.8.1.0/24") + &interface(1, "");
    let said = "10.8.1.0/24 is the network of interface 'vpn1'";
    assert_eq!(faults(&text, false), [of_networks("p02", said)]);
}

#[test]
fn a_network_that_no_route_can_lead_to_is_a_fault() {
    let text = interface(0, "") + &peer(0, 2, "192.168.9.0/24 fd00:9::/64");
    assert_eq!(faults(&text, false), []);
    let one_family = text.replace("list vpn_ip 'fd00:0::2'\n", "");
    let said = "fd00:9::/64 cannot be routed: mode mp routes by the peer's vpn_ip, of which it has none of this family";
    assert_eq!(faults(&one_family, true), [of_networks("p02", said)]);
    let elsewhere = text.replace("vpn_ip '10.8.0.2'", "vpn_ip '10.7.0.2'");
    let said = "192.168.9.0/24 cannot be routed: vpn_ip 10.7.0.2, by which it is reached, is in no network of the \
                interface's addresses";
    assert_eq!(faults(&elsewhere, true), [of_networks("p02", said)]);
    let own = interface(0, "") + &peer(0, 2, "10.8.0.0/24");
    let said = "10.8.0.0/24 cannot be routed: it is the interface's own, which has all its peers";
    assert_eq!(faults(&own, false), [of_networks("p02", said)]);
    // The one peer of a P2P interface is reached by its address already.
    let p2p = own.replace("mode mp", "mode p2p");
    let config = read(&p2p, false);
    let vpn0 = config.interfaces["vpn0"].interface.as_ref().unwrap();
    assert!(vpn0.networks(&vpn0.peers[0]).is_empty());
}

#[test]
fn ipv4_in_ipv6_form_is_refused() {
    let text = interface(0, "") + &peer(0, 2, "::ffff:192.168.9.0/120");
    let said =
        |ip: &str| format!("::ffff:{ip} is the IPv4 address {ip} in IPv6 form: write it as IPv4");
    let found = faults(&text, false);
    assert!(
        found.contains(&of_networks("p02", &said("192.168.9.0"))),
        "{found:?}"
    );
    let text = interface(0, "list addresses '::ffff:10.9.0.1/120'")
        + &peer(0, 2, "10.0.0.0/8").replace("vpn_ip 'fd00:0::2'", "vpn_ip '::ffff:10.8.0.2'");
    let options = |option: &str| {
        let found = faults(&text, false);
        found.into_iter().filter(|(_, o, _)| o == option).count()
    };
    assert_eq!((options("addresses"), options("vpn_ip")), (1, 1));
}

#[test]
fn default_routes_are_left_out_where_they_are_not_wanted() {
    let networks = |more: &str, netifd| {
        let text = interface(0, more) + &peer(0, 2, "0.0.0.0/0 ::/0 10.0.0.0/8");
        let config = read(&text, netifd);
        let vpn0 = config.interfaces["vpn0"].interface.clone().unwrap();
        vpn0.networks(&vpn0.peers[0]).len()
    };
    assert_eq!((networks("", true), networks("", false)), (3, 3));
    assert_eq!(networks("option defaultroute 0", true), 1);
    assert_eq!(networks("option defaultroute 0", false), 1);
}

#[test]
fn an_address_without_a_prefix_is_told() {
    let text = interface(0, "").replace("10.8.0.1/24", "10.8.0.1");
    let config = read(&text, false);
    let (faults, warnings) = config.all_problems();
    assert!(faults.is_empty(), "{faults:?}");
    let said: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let wanted = "network:4: section 'vpn0', option 'addresses': 10.8.0.1 has no prefix length and is taken for \
                  10.8.0.1/32, a network of this one address: write 10.8.0.1/24 or as long as the tunnel's network is";
    assert_eq!(said, [wanted]);
}

#[test]
fn options_of_netifd_and_luci_are_known() {
    let names = "multipath ip6assign ip6hint ip6class ip6ifaceid ip6weight tags renew carrier_loss_delay device jail \
                 jail_device host_device metric ip4table ip6table defaultroute peerdns dns dns_metric dns_search \
                 force_link auto disabled delegate nohostroute tunlink zone killswitch";
    let more: String = names
        .split_whitespace()
        .map(|name| format!("option {name} 0\n"))
        .collect();
    let (text, config) = (interface(0, &more), |text: &str| read(text, true));
    let config = config(&text);
    assert_eq!(config.all_problems(), (vec![], vec![]));
    let own = read(&text, false);
    let (_, warnings) = own.all_problems();
    let names: Vec<_> = warnings.iter().filter_map(|w| w.option.clone()).collect();
    assert_eq!(names, ["ip4table", "ip6table", "metric"]);
}
