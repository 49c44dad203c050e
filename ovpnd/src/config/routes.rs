// SPDX-License-Identifier: GPL-2.0-or-later
//! Networks that peers are routed, and those that two of them want.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ovpn_netlink::{IpPrefix, Mode};

use super::reader::Reader;
use super::{Interface, InterfaceConfig, Peer, Problem};

/// The options of netifd about an interface's routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Priority of the routes; 0 is the kernel's own.
    metric: u32,
    /// Tables of IPv4 and IPv6 routes; none is the main one.
    tables: [Option<String>; 2],
    /// Whether routes to everything (`0.0.0.0/0`, `::/0`) are wanted.
    defaultroute: bool,
    /// Whether somebody keeps the transport's packets out of the tunnel's routes.
    pub pinned: bool,
}

/// Options of netifd's for routes that ovpnd does not read when it sets the routes itself, and the routes it sets then.
const UNREAD: [(&str, &str); 3] = [
    ("ip4table", "in the main table"),
    ("ip6table", "in the main table"),
    ("metric", "with the kernel's own metric"),
];

impl Routing {
    /// Reads the options. netifd, if it is there, sets the routes, and heeds what ovpnd warns of otherwise.
    pub(super) fn read(reader: &mut Reader<'_>, netifd: bool) -> Self {
        let defaultroute = reader.boolean("defaultroute").unwrap_or(true);
        let nohostroute = reader.boolean("nohostroute").unwrap_or(false);
        if !netifd {
            for (option, made) in UNREAD {
                let why = format!("is not read: ovpnd makes the routes itself, {made}");
                reader.warn_of(option, why);
            }
            return Self {
                metric: 0,
                tables: [None, None],
                defaultroute,
                pinned: false,
            };
        }
        let mut table = |name| {
            let table = reader.text(name)?;
            Some(table.to_owned()).filter(|table| !matches!(table.as_str(), "main" | "254"))
        };
        Self {
            tables: [table("ip4table"), table("ip6table")],
            metric: reader.number("metric", 0..=u32::MAX).unwrap_or(0),
            defaultroute,
            pinned: !nohostroute,
        }
    }

    /// Where a route of this family stands: two of one destination in one place are one too many.
    fn place(&self, v4: bool) -> (u32, Option<&str>) {
        let [table4, table6] = &self.tables;
        (self.metric, if v4 { table4 } else { table6 }.as_deref())
    }
}

impl Interface {
    /// Whether `network` comes with one of the interface's addresses.
    fn has_network(&self, network: IpPrefix) -> bool {
        self.addresses.iter().any(|own| own.network() == network)
    }

    /// The networks that are to be routed to a peer, without those that lead there by the interface's address.
    pub fn networks(&self, peer: &Peer) -> BTreeSet<IpPrefix> {
        let wanted = peer.allowed_ips.iter().filter(|_| peer.route_allowed_ips);
        let everything = |network: &IpPrefix| network.prefix_len() == 0;
        wanted
            .map(|prefix| prefix.network())
            .filter(|network| self.routing.defaultroute || !everything(network))
            .filter(|network| self.mode == Mode::Mp || !self.has_network(*network))
            .collect()
    }

    /// By which of its addresses a peer is routed a network of this family; none in P2P mode, where it has no need of one.
    pub fn via(&self, peer: &Peer, network: IpPrefix) -> Option<IpAddr> {
        let v4 = network.addr().is_ipv4();
        let mut own = peer.vpn_ips.iter().filter(|_| self.mode == Mode::Mp);
        own.find(|ip| ip.is_ipv4() == v4).copied()
    }
}

/// Whether it is an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2), which no packet of a tunnel has.
pub(super) fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// A fault for each of the addresses that is an IPv4 one in IPv6 form.
pub(super) fn refuse_mapped(
    reader: &mut Reader<'_>,
    option: &'static str,
    addresses: impl Iterator<Item = IpAddr>,
) {
    for ip in addresses.filter(|ip| is_mapped(*ip)) {
        let v4 = ip.to_canonical();
        let why = format!("{ip} is the IPv4 address {v4} in IPv6 form: write it as IPv4");
        reader.fault(Some(option), why);
    }
}

/// Faults of a peer's networks that no route could be set for: with part of its routes a peer would lose the rest of its
/// traffic to another way.
pub(super) fn check(reader: &mut Reader<'_>, peer: &Peer, interface: &Interface) {
    if interface.mode == Mode::P2p {
        return;
    }
    for network in interface.networks(peer) {
        let why = match interface.via(peer, network) {
            None => {
                "mode mp routes by the peer's vpn_ip, of which it has none of this family".into()
            }
            Some(_) if interface.has_network(network) => {
                "it is the interface's own, which has all its peers".into()
            }
            Some(via) if !interface.addresses.iter().any(|own| own.contains(via)) => {
                format!(
                    "vpn_ip {via}, by which it is reached, is in no network of the interface's addresses"
                )
            }
            Some(_) => continue,
        };
        reader.fault(
            Some("allowed_ips"),
            format!("{network} cannot be routed: {why}"),
        );
    }
}

/// Takes out peers that want a network which an earlier interface has or routes to one of its peers. Within one
/// interface this is known when its peers are read.
pub(super) fn refuse_shared(interfaces: &mut BTreeMap<String, InterfaceConfig>) {
    // Those of ubus, which stand on no line, come last: they are the later ones.
    let order = |line: usize| if line == 0 { usize::MAX } else { line };
    let mut wanted = Vec::new();
    let mut owners: BTreeMap<_, (String, Option<String>)> = BTreeMap::new();
    let ready = |entry: &InterfaceConfig| entry.interface.clone();
    let all: Vec<(String, Interface)> = interfaces
        .iter()
        .filter_map(|(name, entry)| Some((name.clone(), ready(entry)?)))
        .collect();
    for (name, interface) in &all {
        for address in &interface.addresses {
            let network = address.network();
            let place = interface.routing.place(network.addr().is_ipv4());
            owners.insert((network, place), (name.clone(), None));
        }
        for peer in &interface.peers {
            for network in interface.networks(peer) {
                let place = interface.routing.place(network.addr().is_ipv4());
                let at = (order(peer.allowed_line), name, &peer.name);
                wanted.push((at, peer.allowed_line, (network, place)));
            }
        }
    }
    wanted.sort();
    for ((_, name, peer), line, want) in wanted {
        let owner = owners
            .entry(want)
            .or_insert_with(|| (name.clone(), Some(peer.clone())));
        let whose = match owner {
            (other, _) if other == name => continue,
            (other, None) => format!("is the network of interface '{other}'"),
            (other, Some(first)) => {
                format!("is routed to peer '{first}' of interface '{other}' already")
            }
        };
        let (network, _) = want;
        let Some(entry) = interfaces.get_mut(name) else {
            continue;
        };
        let Some(interface) = &mut entry.interface else {
            continue;
        };
        let file = if line == 0 { "ubus" } else { &interface.file };
        let problem = Problem {
            file: file.to_owned(),
            line,
            section: Some(peer.clone()),
            option: Some("allowed_ips".into()),
            message: format!("{network} {whose}"),
        };
        interface.peers.retain(|other| other.name != *peer);
        let faults = entry.broken_peers.entry(peer.clone()).or_default();
        faults.push(problem);
    }
}

#[cfg(test)]
mod tests;
