// SPDX-License-Identifier: GPL-2.0-or-later
//! `config openvpn_dco_<interface>` sections.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ovpn_netlink::{IpPrefix, KEEPALIVE_MAX, Keepalive, Mode, PeerId, ValueError};

use super::InterfaceConfig;
use super::interface::{Interface, Transport};
use super::reader::Reader;
use super::routes::{self, refuse_mapped};
use crate::keyfile::{Direction, StaticKey};

/// OpenVPN's registered port.
const DEFAULT_PORT: u32 = 1194;
/// Seconds; OpenVPN's manual suggests these for `keepalive`.
const DEFAULT_KEEPALIVE: Keepalive = Keepalive {
    interval: 10,
    timeout: 60,
};
/// Longest host name in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        // RFC 3986, section 3.2.2: brackets keep an IPv6 address apart from its port.
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl Endpoint {
    /// The address, when the host is one and needs no resolver.
    pub fn literal(&self) -> Option<SocketAddr> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, self.port));
        }
        // An address with a zone needs the standard parser's bracket form.
        let v6: SocketAddrV6 = format!("[{}]:{}", self.host, self.port).parse().ok()?;
        Some(v6.into())
    }
}

/// A peer as configured.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its section.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Its number.
    pub id: PeerId,
    /// Where it is; none when it comes to us, which TCP can tell.
    pub endpoint: Option<Endpoint>,
    /// Its addresses inside the tunnel.
    pub vpn_ips: Vec<IpAddr>,
    /// Networks behind the peer.
    pub allowed_ips: Vec<IpPrefix>,
    /// Line of these, for messages.
    pub allowed_line: usize,
    /// Whether to route `allowed_ips` to it.
    pub route_allowed_ips: bool,
    /// When to send keepalives and when to give it up.
    pub keepalive: Keepalive,
    /// Where its key is from.
    pub key_file: PathBuf,
    /// Its key.
    pub key: StaticKey,
    /// Which half of the key we send with.
    pub direction: Direction,
}

struct Host(String);

impl FromStr for Host {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fits = text.len() <= MAX_HOST
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError(format!(
                "\"{}\" is no host name or address",
                text.escape_debug()
            )))
        }
    }
}

/// Reads a section into its interface's entry, among the peers or the broken peers.
pub(super) fn read(
    mut reader: Reader<'_>,
    entry: &mut InterfaceConfig,
    load_key: &dyn Fn(&Path) -> Result<StaticKey, String>,
) {
    if reader.boolean("disabled") == Some(true) {
        entry.disabled_peers.push(reader.label);
        return;
    }
    let peer = options(&mut reader, entry.interface.as_ref(), load_key);
    if let (Some(peer), Some(interface)) = (&peer, &entry.interface) {
        clashes(&mut reader, peer, interface, &entry.taken);
        routes::check(&mut reader, peer, interface);
    }
    let name = reader.label.clone();
    let (problems, warnings) = reader.finish(&[]);
    entry.warnings.extend(warnings);
    match (peer, &mut entry.interface) {
        (Some(peer), Some(interface)) if problems.is_empty() => {
            entry.taken.add(&peer, interface);
            interface.peers.push(peer);
        }
        (_, None) if problems.is_empty() => {}
        _ => drop(entry.broken_peers.insert(name, problems)),
    }
}

fn options(
    reader: &mut Reader<'_>,
    interface: Option<&Interface>,
    load_key: &dyn Fn(&Path) -> Result<StaticKey, String>,
) -> Option<Peer> {
    // Each is read before the first missing one ends it, so that all faults are named.
    let id = reader.required("peer_id");
    // A TCP peer without one is waited for.
    let listens = interface.is_some_and(|interface| interface.socket.transport.is_tcp());
    let host = match listens {
        true => Some(reader.parsed::<Host>("endpoint_host")),
        false => reader.required::<Host>("endpoint_host").map(Some),
    };
    let port = reader
        .number("endpoint_port", 1..=65_535)
        .unwrap_or(DEFAULT_PORT);
    let key = key(reader, load_key);
    let vpn_ips: Vec<IpAddr> = reader.list("vpn_ip");
    refuse_mapped(reader, "vpn_ip", vpn_ips.iter().copied());
    let allowed_ips: Vec<IpPrefix> = reader.list("allowed_ips");
    let networks = allowed_ips.iter().map(|prefix| prefix.addr());
    refuse_mapped(reader, "allowed_ips", networks);
    let keepalive = Keepalive {
        interval: reader
            .number("keepalive_interval", 0..=KEEPALIVE_MAX)
            .unwrap_or(DEFAULT_KEEPALIVE.interval),
        timeout: reader
            .number("keepalive_timeout", 0..=KEEPALIVE_MAX)
            .unwrap_or(DEFAULT_KEEPALIVE.timeout),
    };
    if keepalive.timeout != 0 && keepalive.timeout <= keepalive.interval {
        let Keepalive { interval, timeout } = keepalive;
        reader.fault(
            Some("keepalive_timeout"),
            format!("({timeout}) must be longer than keepalive_interval ({interval})"),
        );
    }
    let description = reader.text("description").map(str::to_owned);
    let route_allowed_ips = reader.boolean("route_allowed_ips").unwrap_or(false);
    let port = u16::try_from(port).ok()?;
    let endpoint = host?.map(|host| Endpoint { host: host.0, port });
    let literal = endpoint.as_ref().and_then(Endpoint::literal);
    if let (Some(interface), Some(address)) = (interface, literal) {
        let transport = interface.socket.transport;
        if address.is_ipv6() != transport.is_v6() {
            let wanted = Transport::new(transport.is_tcp(), address.is_ipv6());
            reader.fault(
                Some("endpoint_host"),
                format!(
                    "{} does not go with transport {transport}: use {wanted}",
                    address.ip()
                ),
            );
        }
    }
    if let (Some(interface), None) = (interface, &endpoint) {
        if interface.socket.port == 0 {
            reader.fault(
                Some("endpoint_host"),
                "is missing, so the peer is waited for, but the interface has no local_port to wait on",
            );
        }
    }
    let (key_file, key, direction) = key?;
    let (id, name) = (id?, reader.label.clone());
    Some(Peer {
        name,
        description,
        id,
        endpoint,
        vpn_ips,
        allowed_ips,
        allowed_line: reader.line("allowed_ips"),
        route_allowed_ips,
        keepalive,
        key_file,
        key,
        direction,
    })
}

fn key(
    reader: &mut Reader<'_>,
    load_key: &dyn Fn(&Path) -> Result<StaticKey, String>,
) -> Option<(PathBuf, StaticKey, Direction)> {
    let direction = reader.required("key_direction");
    let faults = reader.problems.len();
    let accepted = reader.boolean("insecure_static_key") == Some(true);
    let said = reader.problems.len() > faults;
    let file: PathBuf = reader.required("key_file")?;
    if !accepted && !said {
        reader.fault(
            Some("insecure_static_key"),
            "must be '1' to use a static key, whose nonces repeat after every restart so that recorded traffic can be \
             decrypted: for tests only",
        );
    }
    if !file.is_absolute() {
        reader.fault(
            Some("key_file"),
            format!("{} is no absolute path", file.display()),
        );
        return None;
    }
    match load_key(&file) {
        Ok(key) => Some((file, key, direction?)).filter(|_| accepted),
        Err(why) => {
            reader.fault(Some("key_file"), format!("{} {why}", file.display()));
            None
        }
    }
}

/// Which of the earlier peers has what no two may have: of a thousand, comparing each with each would take longer
/// than all the rest.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    ids: BTreeMap<PeerId, usize>,
    keys: BTreeMap<([u8; 32], Direction), usize>,
    vpn_ips: BTreeMap<IpAddr, usize>,
    networks: BTreeMap<IpPrefix, usize>,
}

impl Taken {
    /// Notes what the next peer of `interface` has.
    fn add(&mut self, peer: &Peer, interface: &Interface) {
        let at = interface.peers.len();
        self.ids.insert(peer.id, at);
        let key = (*peer.key.digest(), peer.direction);
        self.keys.insert(key, at);
        self.vpn_ips.extend(peer.vpn_ips.iter().map(|ip| (*ip, at)));
        let networks = interface.networks(peer).into_iter();
        self.networks.extend(networks.map(|network| (network, at)));
    }
}

/// Faults of a peer in the company of the earlier ones.
fn clashes(reader: &mut Reader<'_>, peer: &Peer, interface: &Interface, taken: &Taken) {
    let name = |at: Option<&usize>| Some(interface.peers.get(*at?)?.name.as_str());
    if let Some(other) = name(taken.ids.get(&peer.id)) {
        reader.fault(
            Some("peer_id"),
            format!("{} is taken by peer '{other}'", peer.id),
        );
    }
    if let Some(other) = name(taken.keys.get(&(*peer.key.digest(), peer.direction))) {
        reader.fault(
            Some("key_file"),
            format!("holds the key of peer '{other}': each peer needs its own"),
        );
    }
    for ip in &peer.vpn_ips {
        if let Some(other) = name(taken.vpn_ips.get(ip)) {
            reader.fault(Some("vpn_ip"), format!("{ip} is taken by peer '{other}'"));
        }
    }
    for network in interface.networks(peer) {
        if let Some(other) = name(taken.networks.get(&network)) {
            let why = format!("{network} is routed to peer '{other}' already");
            reader.fault(Some("allowed_ips"), why);
        }
    }
    match interface.mode {
        Mode::P2p => {
            if let Some(other) = interface.peers.first() {
                reader.fault(
                    None,
                    format!(
                        "is a second peer, but mode p2p takes one, which is '{}'",
                        other.name
                    ),
                );
            }
        }
        Mode::Mp => {
            let of_family = |v4: bool| {
                peer.vpn_ips
                    .iter()
                    .filter(move |ip| ip.is_ipv4() == v4)
                    .count()
            };
            if peer.vpn_ips.is_empty() {
                reader.fault(Some("vpn_ip"), "is missing: mode mp finds peers by it");
            } else if of_family(true) > 1 || of_family(false) > 1 {
                reader.fault(Some("vpn_ip"), "has more than one address of a family");
            }
        }
    }
}
