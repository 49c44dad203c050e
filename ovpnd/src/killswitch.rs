// SPDX-License-Identifier: GPL-2.0-or-later
//! The kill switch: rules for nftables under which forwarded traffic has no other way than the tunnel.
//!
//! They are in a table of their own, which OpenWrt's firewall does not touch, and stay while ovpnd is away: the init script
//! loads them before the network starts. An interface with `option killswitch '1'` wants this: a packet that comes from a
//! zone with a forwarding to the interface's zone leaves through the tunnel or to a local network, and nowhere else. Local
//! is a network of proto `static` without a gateway. When only some networks are routed to its peers, this goes for packets
//! to these networks; with a default route, or without any, for all, of both families.
//!
//! Packets of the router's own are not forwarded and go on as they were: it must reach its peers and the name server.

use std::collections::BTreeSet;
use std::fmt::Write;

use ovpn_netlink::IpPrefix;

use crate::config::PROTO;
use crate::uci::{File, Section, Value};

/// The table.
pub const TABLE: &str = "inet ovpnd_killswitch";

/// Longest name of an interface in bytes.
const MAX_NAME: usize = ovpn_netlink::MAX_NAME;

/// The rules for these configuration files, as a text for `nft -f` that replaces the table as a whole, or removes it when no
/// interface has a kill switch.
pub fn rules(network: &File, firewall: &File) -> String {
    let tunnels: Vec<&Section> = interfaces(network)
        .filter(|section| one(section, "proto") == Some(PROTO) && on(section, "killswitch"))
        .filter(|section| !on(section, "disabled"))
        .collect();
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\n");
    if tunnels.is_empty() {
        return text;
    }
    let names = tunnels.iter().filter_map(|section| section.name.clone());
    let mut ways: BTreeSet<String> = names.filter(|name| is_device(name)).collect();
    ways.extend(local_devices(network));
    let ways = set(&ways);
    let mut line = |text_of: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{text_of}");
    };
    line(format_args!("table {TABLE} {{"));
    line(format_args!("\tchain forward {{"));
    // Before the firewall's own rules, which may hand a flow over to the hardware.
    line(format_args!(
        "\t\ttype filter hook forward priority filter - 10; policy accept;"
    ));
    for tunnel in tunnels {
        let name = tunnel.name.as_deref().unwrap_or_default();
        let from = match sources(network, firewall, name) {
            Some(devices) => format!("iifname {} ", set(&devices)),
            None => String::new(),
        };
        for to in destinations(network, name) {
            line(format_args!(
                "\t\t{from}oifname != {ways} {to}counter drop comment \"kill switch of {name}\""
            ));
        }
    }
    line(format_args!("\t}}"));
    line(format_args!("}}"));
    text
}

/// The matches of a packet's destination, each for a rule of its own; empty for every destination.
fn destinations(network: &File, tunnel: &str) -> Vec<String> {
    let kind = format!("{PROTO}_{tunnel}");
    let peers = network.sections.iter().filter(|peer| peer.kind == kind);
    let routed = peers.filter(|peer| on(peer, "route_allowed_ips") && !on(peer, "disabled"));
    let networks: BTreeSet<IpPrefix> = routed
        .flat_map(|peer| words(peer, "allowed_ips"))
        .filter_map(|text| text.parse::<IpPrefix>().ok())
        .map(IpPrefix::network)
        .collect();
    // Halves of everything are everything: OpenVPN's redirect-gateway def1.
    if networks.is_empty() || networks.iter().any(|network| network.prefix_len() <= 1) {
        return vec![String::new()];
    }
    let matched = |network: &IpPrefix| match network.addr().is_ipv4() {
        true => format!("ip daddr {network} "),
        false => format!("ip6 daddr {network} "),
    };
    networks.iter().map(matched).collect()
}

/// The devices of the zones with a forwarding to the tunnel's zone. None when they cannot be told, which is every device.
fn sources(network: &File, firewall: &File, tunnel: &str) -> Option<BTreeSet<String>> {
    let active = |section: &&Section| one(section, "enabled").is_none_or(is_on);
    let sections = firewall.sections.iter().filter(active);
    let zones: Vec<&Section> = sections.clone().filter(|s| s.kind == "zone").collect();
    let own = zones.iter().filter(|zone| {
        let members = words(zone, "network").chain(words(zone, "device"));
        members.into_iter().any(|member| member == tunnel)
    });
    let own: BTreeSet<&str> = own.filter_map(|zone| one(zone, "name")).collect();
    let mut devices = BTreeSet::new();
    let forwardings = sections.filter(|section| section.kind == "forwarding");
    let leads_here = |section: &&Section| {
        one(section, "dest").is_some_and(|dest| dest == "*" || own.contains(dest))
    };
    for forwarding in forwardings.filter(leads_here) {
        let source = one(forwarding, "src")?;
        let zone = zones.iter().find(|zone| one(zone, "name") == Some(source));
        // `*` is any zone, and has no section.
        let zone = zone?;
        let mut members = BTreeSet::new();
        members.extend(words(zone, "device").map(str::to_owned));
        for name in words(zone, "network") {
            members.extend(devices_of(network, name));
        }
        // A pattern or an address match is not a name that can be looked for.
        if members.is_empty() || !members.iter().all(|name| is_device(name)) {
            return None;
        }
        devices.extend(members);
    }
    Some(devices).filter(|devices| !devices.is_empty())
}

/// The devices of networks that lead to no other: proto `static`, without a gateway.
fn local_devices(network: &File) -> BTreeSet<String> {
    let default_by: BTreeSet<&str> = network
        .sections
        .iter()
        .filter(|section| matches!(section.kind.as_str(), "route" | "route6"))
        .filter(|route| {
            let target = one(route, "target").unwrap_or_default();
            target.is_empty() || target.starts_with("0.0.0.0") || target.starts_with("::")
        })
        .filter_map(|route| one(route, "interface"))
        .collect();
    let (mut local, mut other) = (BTreeSet::new(), BTreeSet::new());
    for section in interfaces(network) {
        let Some(name) = section.name.as_deref() else {
            continue;
        };
        let leads_on = one(section, "gateway").is_some()
            || one(section, "ip6gw").is_some()
            || default_by.contains(name);
        let own = match one(section, "proto") {
            Some("static") if !leads_on => &mut local,
            _ => &mut other,
        };
        own.extend(devices_of(network, name));
    }
    local.retain(|device| !other.contains(device) && is_device(device));
    local
}

/// The names that the device of a network can have: the one it is given, a bridge's, its own and, of protocols that make one,
/// both of netifd's forms.
fn devices_of(network: &File, name: &str) -> BTreeSet<String> {
    let mut devices = BTreeSet::new();
    let mut todo = vec![name];
    let mut seen = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if !seen.insert(name) {
            continue;
        }
        devices.insert(name.to_owned());
        let Some(section) = interfaces(network).find(|s| s.name.as_deref() == Some(name)) else {
            continue;
        };
        if let Some(proto) = one(section, "proto") {
            devices.insert(format!("{proto}-{name}"));
        }
        if one(section, "type") == Some("bridge") {
            devices.insert(format!("br-{name}"));
            continue;
        }
        for word in words(section, "device").chain(words(section, "ifname")) {
            match word.strip_prefix('@') {
                Some(other) => todo.push(other),
                None => drop(devices.insert(word.to_owned())),
            }
        }
    }
    // A name that is too long is none that a device has.
    devices.retain(|name| name.len() <= MAX_NAME);
    devices
}

fn interfaces(network: &File) -> impl Iterator<Item = &Section> {
    let sections = network.sections.iter();
    sections.filter(|section| section.kind == "interface")
}

/// A single value that is not empty.
fn one<'a>(section: &'a Section, name: &str) -> Option<&'a str> {
    match &section.option(name)?.value {
        Value::One(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
        Value::List(list) => list.first().map(String::as_str),
    }
}

/// All values of a list, and the words of an option.
fn words<'a>(section: &'a Section, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let list: Vec<&str> = match section.option(name).map(|option| &option.value) {
        Some(Value::One(text)) => text.split_whitespace().collect(),
        Some(Value::List(list)) => list.iter().map(String::as_str).collect(),
        None => Vec::new(),
    };
    list.into_iter()
}

fn on(section: &Section, name: &str) -> bool {
    one(section, name).is_some_and(is_on)
}

fn is_on(word: &str) -> bool {
    matches!(word, "1" | "on" | "true" | "yes" | "enabled")
}

/// Whether it can be an interface's name between quotes of nftables, without a pattern.
fn is_device(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fits)
}

fn set(names: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{{ {} }}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = "config interface lan\noption device br-lan\noption proto static\n\
        config interface guest\noption type bridge\noption proto static\n\
        config interface wan\noption device eth1\noption proto dhcp\n\
        config interface wan6\noption device @wan\noption proto dhcpv6\n\
        config interface vpn0\noption proto openvpn_dco\noption killswitch 1\n\
        config openvpn_dco_vpn0 p\noption route_allowed_ips 1\nlist allowed_ips 0.0.0.0/0\n";
    const FIREWALL: &str = "config zone\noption name lan\nlist network lan\n\
        config zone\noption name guest\nlist network guest\n\
        config zone\noption name wan\noption network 'wan wan6'\n\
        config zone\noption name vpn\nlist network vpn0\n\
        config forwarding\noption src lan\noption dest vpn\n\
        config forwarding\noption src lan\noption dest wan\n";

    /// The rules, without what is the same in all of them.
    fn of(network: &str, firewall: &str) -> Vec<String> {
        let text = rules(
            &File::parse(network.as_bytes()),
            &File::parse(firewall.as_bytes()),
        );
        let rules = text.lines().filter(|line| line.contains("drop"));
        let rules = rules.map(|line| {
            line.trim()
                .replace(" counter drop comment \"kill switch of vpn0\"", "")
        });
        rules.collect()
    }

    const WAYS: &str = r#"oifname != { "br-guest", "br-lan", "guest", "lan", "static-guest", "static-lan", "vpn0" }"#;
    const LAN: &str = r#"iifname { "br-lan", "lan", "static-lan" } "#;

    #[test]
    fn what_comes_from_a_zone_that_may_use_the_tunnel_has_no_other_way() {
        assert_eq!(of(NETWORK, FIREWALL), [format!("{LAN}{WAYS}")]);
        for halves in ["0.0.0.0/1\nlist allowed_ips 128.0.0.0/1", "::/0", "::/1"] {
            let network = NETWORK.replace("0.0.0.0/0", halves);
            assert_eq!(of(&network, FIREWALL), [format!("{LAN}{WAYS}")], "{halves}");
        }
        // Only towards the networks of the peers, where these are some.
        let some = NETWORK.replace("0.0.0.0/0", "10.1.2.3/16\nlist allowed_ips fd00:9::/64");
        let both = ["ip daddr 10.1.0.0/16", "ip6 daddr fd00:9::/64"];
        assert_eq!(
            of(&some, FIREWALL),
            both.map(|to| format!("{LAN}{WAYS} {to}"))
        );
        // The tunnel in the zone of the WAN does not make the WAN a way.
        let shared = FIREWALL.replace("'wan wan6'", "'wan wan6 vpn0'");
        assert_eq!(of(NETWORK, &shared), [format!("{LAN}{WAYS}")]);
    }

    #[test]
    fn what_cannot_be_told_is_every_device() {
        for (old, new) in [
            ("list network vpn0", "list network vpn9"),
            (
                "option src lan\noption dest vpn",
                "option src *\noption dest vpn",
            ),
            (
                "option name lan\nlist network lan",
                "option name lan\nlist device tun+",
            ),
            (
                "option name lan\nlist network lan",
                "option name lan\noption subnet 10.0.0.0/8",
            ),
            ("option dest vpn", "option dest vpn\noption enabled 0"),
        ] {
            assert!(FIREWALL.contains(old), "{old}");
            assert_eq!(of(NETWORK, &FIREWALL.replace(old, new)), [WAYS], "{new}");
        }
        assert_eq!(of(NETWORK, ""), [WAYS]);
    }

    #[test]
    fn a_network_with_a_way_to_the_world_is_not_local() {
        let guest = "option type bridge\noption proto static";
        let all = of(NETWORK, FIREWALL).remove(0);
        let without = all.replace("\"br-guest\", ", "").replace("\"guest\", ", "");
        let without = without.replace("\"static-guest\", ", "");
        for more in [
            format!("{guest}\noption gateway 10.0.0.1"),
            format!("{guest}\noption ip6gw fe80::1"),
            format!("{guest}\nconfig route\noption interface guest\noption target 0.0.0.0/0"),
            format!("{guest}\nconfig route6\noption interface guest\noption target ::/0"),
        ] {
            let network = NETWORK.replace(guest, &more);
            assert_eq!(
                of(&network, FIREWALL),
                std::slice::from_ref(&without),
                "{more}"
            );
        }
        // A device that another network leads to the world by.
        let shared = NETWORK.replace("option device br-lan", "option device eth1");
        assert!(!of(&shared, FIREWALL)[0].contains("!= { \"br-guest\", \"eth1\""));
    }

    #[test]
    fn without_a_kill_switch_the_table_goes() {
        let gone = format!("table {TABLE}\ndelete table {TABLE}\n");
        for (old, new) in [
            ("killswitch 1", "killswitch 0"),
            ("killswitch 1", "killswitch 1\noption disabled 1"),
            ("proto openvpn_dco", "proto wireguard"),
        ] {
            let network = File::parse(NETWORK.replace(old, new).as_bytes());
            assert_eq!(rules(&network, &File::default()), gone, "{new}");
        }
        // An interface that netifd does not start has its kill switch all the same.
        let network = NETWORK.replace("killswitch 1", "killswitch 1\noption auto 0");
        assert_eq!(of(&network, FIREWALL).len(), 1);
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let network = NETWORK.replace("option device br-lan", "option device 'x\" } accept #'");
        let text = rules(
            &File::parse(network.as_bytes()),
            &File::parse(FIREWALL.as_bytes()),
        );
        assert!(!text.contains("accept #"), "{text}");
    }
}
