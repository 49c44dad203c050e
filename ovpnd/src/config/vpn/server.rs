// SPDX-License-Identifier: GPL-2.0-or-later
//! Servers, and the sections of their clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openvpn_control::listener::ServerWrap;
use openvpn_control::messages::push_replies;
use openvpn_control::passwords::Users;

use super::refused::{SERVER_NEEDLESS, SERVER_REFUSED};
use super::*;
use ovpn_netlink::IpPrefix;

/// OpenVPN's example of `keepalive`, used when the section has none: without it, clients that vanish are never noticed.
const KEEPALIVE: Keepalive = Keepalive {
    interval: 10,
    timeout: 60,
};
/// OpenVPN's default of `max-clients`.
const MAX_CLIENTS: u32 = 1024;
/// OpenVPN's default of `tun-mtu`.
const MTU: u32 = 1500;
/// The number of the first client in an IPv6 pool, as stock OpenVPN counts.
const FIRST_V6: u128 = 0x1000;
/// Options of a push reply that ovpnd makes itself.
const OWN_PUSHES: [&str; 9] = [
    "ifconfig",
    "ifconfig-ipv6",
    "peer-id",
    "cipher",
    "protocol-flags",
    "key-derivation",
    "auth-token",
    "topology",
    "tun-mtu",
];

/// The networks that clients get their addresses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Networks {
    /// `server`: the network with our address, its first one.
    pub v4: Option<IpPrefix>,
    /// `server_ipv6`: the same.
    pub v6: Option<IpPrefix>,
}

impl Networks {
    /// The address of client number `index` in the IPv4 network; none when that is too small.
    pub fn v4_of(&self, index: u32) -> Option<Ipv4Addr> {
        let IpAddr::V4(own) = self.v4?.addr() else {
            return None;
        };
        let address = u32::from(own).checked_add(index)?.checked_add(1)?;
        // The last one is the broadcast address.
        let IpAddr::V4(last) = self.v4?.last() else {
            return None;
        };
        (address < u32::from(last)).then(|| address.into())
    }

    /// The address of client number `index` in the IPv6 network; none when that is too small.
    pub fn v6_of(&self, index: u32) -> Option<Ipv6Addr> {
        let IpAddr::V6(network) = self.v6?.network().addr() else {
            return None;
        };
        let address = u128::from(network)
            .checked_add(FIRST_V6)?
            .checked_add(index.into())?;
        let address = Ipv6Addr::from(address);
        self.v6?.contains(address.into()).then_some(address)
    }

    /// Whether a client can have number `index`.
    pub fn has(&self, index: u32) -> bool {
        (self.v4.is_none() || self.v4_of(index).is_some())
            && (self.v6.is_none() || self.v6_of(index).is_some())
    }
}

/// The rules for user names and passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSpec {
    /// `user_file`: names and hashes, read for each login.
    pub file: PathBuf,
    /// `auth_user_pass_optional`: a client with a certificate may come without.
    pub optional: bool,
    /// `username_as_common_name`
    pub by_user: bool,
    /// `verify_client_cert` `none` or `optional`: a client may come without a certificate.
    pub certless: bool,
    /// `auth_gen_token`: how long a token holds, or for ever.
    pub tokens: Option<Option<Duration>>,
}

impl LoginSpec {
    /// Reads the users.
    ///
    /// # Errors
    /// A sentence about the file, without its name.
    pub fn users(&self) -> Result<Users, String> {
        Users::parse(&load(&self.file, true)?)
    }
}

/// The sockets that a server listens on: one at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sockets {
    /// For UDP.
    pub udp: Option<SocketSpec>,
    /// For TCP.
    pub tcp: Option<SocketSpec>,
}

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Its interface, without peers.
    pub interface: Interface,
    /// Where it listens; the interface has one of them.
    pub sockets: Sockets,
    /// Where clients get addresses from.
    pub networks: Networks,
    /// Makes TLS connections.
    pub tls: Arc<Factory>,
    /// Protection of control packets.
    pub wrap: ServerWrap,
    /// Times of renegotiations.
    pub timing: Timing,
    /// Ciphers of the data channel, best first.
    pub ciphers: Vec<Cipher>,
    /// The clients' timers; ours waits twice as long, as stock OpenVPN's does.
    pub keepalive: Keepalive,
    /// MTU of the interface.
    pub mtu: u32,
    /// Most clients at a time.
    pub max_clients: usize,
    /// Whether several clients may have one name.
    pub duplicate_cn: bool,
    /// Whether clients without a section are refused.
    pub exclusive: bool,
    /// Options for all clients.
    pub push: Vec<String>,
    /// File with the lists of revoked certificates.
    pub crl: Option<PathBuf>,
    /// User names and passwords, where clients have them.
    pub logins: Option<LoginSpec>,
    /// Clients with a section, by their common names.
    pub clients: BTreeMap<String, ClientSection>,
    /// The same for the same options and files, sections of clients apart.
    pub mark: [u8; 32],
}

/// The settings for one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSection {
    /// Why it is not let in.
    pub refused: Option<String>,
    /// Its fixed address.
    pub v4: Option<Ipv4Addr>,
    /// Its fixed address.
    pub v6: Option<Ipv6Addr>,
    /// Networks behind it.
    pub iroutes: Vec<IpPrefix>,
    /// Further options for it.
    pub push: Vec<String>,
    /// Whether it gets none of the options for all.
    pub push_reset: bool,
}

/// The outcome of reading a server's section.
#[derive(Debug, Clone, Default)]
pub struct ServerEntry {
    /// The server, unless the section has a fault.
    pub spec: Option<Box<ServerSpec>>,
    /// Faults of it and of its clients.
    pub problems: Vec<Problem>,
    /// Remarks without a consequence.
    pub warnings: Vec<Problem>,
    /// Why it is to be down, although it is configured.
    pub stopped: Option<String>,
}

/// Reads a section; none when it is switched off.
pub(in crate::config) fn read(
    mut reader: Reader<'_>,
    netifd: bool,
) -> Option<(String, ServerEntry)> {
    if reader.boolean("disabled") == Some(true) {
        return None;
    }
    let name = reader.label.clone();
    let mut marks = begin(&mut reader, SERVER_REFUSED);
    if let Some(mode) = reader.text("mode").filter(|mode| *mode != "server") {
        let why = format!("a server's mode is OpenVPN's server, not {mode:?}; remove it");
        reader.fault(Some("mode"), why);
    }
    if let Some(topology) = reader.text("topology").filter(|t| *t != "subnet") {
        let why = format!("{topology:?} is not supported: use subnet");
        reader.fault(Some("topology"), why);
    }
    let networks = networks(&mut reader);
    let mtu = reader.number("tun_mtu", 576..=65_451).unwrap_or(MTU);
    let (sockets, socket) = sockets(&mut reader);
    let interface = Interface {
        file: reader.file.to_owned(),
        port_line: reader.line("port"),
        mode: Mode::Mp,
        socket,
        addresses: [networks.v4, networks.v6].into_iter().flatten().collect(),
        mtu,
        mssfix: reader.parsed("mssfix").unwrap_or_default(),
        hwcrypto: reader.parsed("hwcrypto").unwrap_or_default(),
        cipher: ovpn_netlink::Cipher::Aes256Gcm,
        peers: Vec::new(),
        routing: Routing::read(&mut reader, netifd),
        killswitch: reader.boolean("killswitch").unwrap_or(false),
    };
    let logins = logins(&mut reader);
    let optional = logins.as_ref().is_some_and(|logins| logins.certless);
    let crl = reader.text("crl_verify").map(PathBuf::from);
    let tls = tls(&mut reader, &mut marks, Role::Server, optional);
    let wrap = server_wrap(&mut reader, &mut marks);
    let timing = timing(&mut reader);
    let ciphers = ciphers(&mut reader);
    let keepalive = keepalive(&mut reader).unwrap_or(KEEPALIVE);
    let max_clients = reader
        .number("max_clients", 1..=65_534)
        .unwrap_or(MAX_CLIENTS);
    let duplicate_cn = reader.boolean("duplicate_cn") == Some(true);
    let exclusive = reader.boolean("ccd_exclusive") == Some(true);
    let push = pushes(&mut reader);
    let (problems, warnings) = reader.finish(&[NETIFD, NEEDLESS, SERVER_NEEDLESS].concat());
    let mut entry = ServerEntry {
        spec: None,
        problems,
        warnings,
        stopped: None,
    };
    if let (Some(tls), Some(wrap), true) = (tls, wrap, entry.problems.is_empty()) {
        entry.spec = Some(Box::new(ServerSpec {
            interface,
            sockets,
            networks,
            tls: Arc::new(tls),
            wrap,
            timing,
            ciphers,
            keepalive,
            mtu,
            max_clients: usize::try_from(max_clients).unwrap_or(usize::MAX),
            duplicate_cn,
            exclusive,
            push,
            crl,
            logins,
            clients: BTreeMap::new(),
            mark: marks.0.finalize().into(),
        }));
    }
    Some((name, entry))
}

/// `user_file` and the options that need it.
fn logins(reader: &mut Reader<'_>) -> Option<LoginSpec> {
    let (certless, by_user) = match reader.text("verify_client_cert") {
        None | Some("require") => (false, false),
        Some("optional") => (true, false),
        Some("none") => (true, true),
        Some(_) => {
            let why = "must be require, optional or none";
            reader.fault(Some("verify_client_cert"), why);
            (false, false)
        }
    };
    let named = reader.boolean("username_as_common_name") == Some(true);
    let optional = reader.boolean("auth_user_pass_optional") == Some(true);
    let tokens = reader.number("auth_gen_token", 0..=31_536_000);
    if tokens.is_some_and(|seconds| (1..60).contains(&seconds)) {
        let why = "must be the seconds that a token holds: 0, for ever, or at least 60";
        reader.fault(Some("auth_gen_token"), why);
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let Some(file) = reader.text("user_file").map(PathBuf::from) else {
        for (is_set, option) in [
            (certless, "verify_client_cert"),
            (named, "username_as_common_name"),
            (optional, "auth_user_pass_optional"),
            (tokens.is_some(), "auth_gen_token"),
        ] {
            if is_set {
                let why = "needs user_file, a file with names and hashes of passwords";
                reader.fault(Some(option), why);
            }
        }
        return None;
    };
    if optional && certless {
        let why = "contradicts verify_client_cert: a client would need neither";
        reader.fault(Some("auth_user_pass_optional"), why);
    }
    let spec = LoginSpec {
        file,
        optional,
        by_user: named || by_user,
        certless,
        tokens: tokens.map(|time| (time != 0).then(|| seconds(time))),
    };
    if let Err(why) = spec.users() {
        let why = format!("{}: {why}", spec.file.display());
        reader.fault(Some("user_file"), why);
    }
    Some(spec)
}

/// `list ovpnproto 'udp6'` and `'tcp6'`, or one of them: a socket for each, and one of both.
fn sockets(reader: &mut Reader<'_>) -> (Sockets, SocketSpec) {
    let mut transports = Vec::new();
    for proto in reader.lines("ovpnproto") {
        match proto_of(proto, Role::Server) {
            Ok(found) => transports.push(found),
            Err(why) => reader.fault(Some("ovpnproto"), why),
        }
    }
    let port = reader.number("port", 1..=65_535);
    let port = port.or_else(|| reader.number("lport", 1..=65_535));
    let local = reader.parsed::<IpAddr>("local");
    let mark = reader.parsed::<super::super::interface::Mark>("fwmark");
    let spec = |transport: Transport| SocketSpec {
        transport,
        port: u16::try_from(port.unwrap_or(PORT)).unwrap_or(0),
        mark: mark.as_ref().map_or(0, |mark| mark.0),
        both: transport.is_v6() && local.is_none(),
        local,
    };
    let usual = [Transport::Udp];
    let transports = match &transports[..] {
        [] => &usual,
        some => some,
    };
    for transport in transports {
        if local.is_some_and(|local| local.is_ipv6() != transport.is_v6()) {
            let why = format!("is not of the family of {transport}: change it or ovpnproto");
            reader.fault(Some("local"), why);
        }
    }
    let mut of = |tcp: bool| {
        let mut found = transports.iter().filter(|t| t.is_tcp() == tcp);
        let first = found.next().copied();
        if let Some((first, second)) = first.zip(found.next()) {
            let all = Transport::new(tcp, true);
            let why = format!("{first} and {second}: use {all}, which takes both families");
            reader.fault(Some("ovpnproto"), why);
        }
        first.map(spec)
    };
    let sockets = Sockets {
        udp: of(false),
        tcp: of(true),
    };
    let first = sockets.udp.or(sockets.tcp);
    (sockets, first.unwrap_or_else(|| spec(Transport::Udp)))
}

/// `server '10.8.0.0 255.255.255.0'`, or with a length, and `server_ipv6 'fd00::/64'`.
fn networks(reader: &mut Reader<'_>) -> Networks {
    let v4 = reader.text("server").and_then(|text| {
        let network = network_v4(text).filter(|network| {
            let fits = (8..=29).contains(&network.prefix_len());
            network.addr().is_ipv4() && network.network() == *network && fits
        });
        if network.is_none() {
            let why = format!(
                "{text:?} must be a network and its mask of 8 to 29 bits, such as 10.8.0.0 255.255.255.0"
            );
            reader.fault(Some("server"), why);
        }
        first_of(network?)
    });
    let v6 = reader.text("server_ipv6").and_then(|text| {
        let network = text.parse::<IpPrefix>().ok().filter(|network| {
            let fits = (64..=112).contains(&network.prefix_len());
            network.addr().is_ipv6() && network.network() == *network && fits
        });
        if network.is_none() {
            let why =
                format!("{text:?} must be an IPv6 network of 64 to 112 bits, such as fd00:8::/64");
            reader.fault(Some("server_ipv6"), why);
        }
        first_of(network?)
    });
    if v4.is_none() && v6.is_none() && reader.problems.is_empty() {
        let why =
            "is missing: a server needs a network for its clients, such as 10.8.0.0 255.255.255.0";
        reader.fault(Some("server"), why);
    }
    Networks { v4, v6 }
}

/// The first address of a network, with the network's length.
fn first_of(network: IpPrefix) -> Option<IpPrefix> {
    let address = match network.addr() {
        IpAddr::V4(ip) => IpAddr::from(Ipv4Addr::from(u32::from(ip).checked_add(1)?)),
        IpAddr::V6(ip) => IpAddr::from(Ipv6Addr::from(u128::from(ip).checked_add(1)?)),
    };
    IpPrefix::new(address, network.prefix_len())
}

/// A network and its mask, a network with its length, or one address.
fn network_v4(text: &str) -> Option<IpPrefix> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words[..] {
        [network] => network.parse().ok(),
        [network, mask] => {
            let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
            let len = mask.leading_ones();
            // Ones, and behind them zeros alone.
            (mask.count_ones() == len).then_some(())?;
            IpPrefix::new(
                network.parse::<Ipv4Addr>().ok()?.into(),
                u8::try_from(len).ok()?,
            )
        }
        _ => None,
    }
}

fn server_wrap(reader: &mut Reader<'_>, marks: &mut Marks) -> Option<ServerWrap> {
    Some(match wrapping(reader, marks)? {
        Wrapping::None => ServerWrap::None,
        Wrapping::Auth(key, direction, digest) => ServerWrap::Auth(key, direction, digest),
        Wrapping::Crypt(key) => ServerWrap::Crypt(key),
        Wrapping::CryptV2(content) => match text::server_key(&content) {
            Ok(key) => ServerWrap::CryptV2 {
                key,
                allow_noncookie: false,
            },
            Err(why) => {
                reader.fault(Some("tls_crypt_v2"), why);
                return None;
            }
        },
    })
}

/// `list push 'route 192.168.1.0 255.255.255.0'`
fn pushes(reader: &mut Reader<'_>) -> Vec<String> {
    let mut pushes = Vec::new();
    for line in reader.lines("push") {
        let line = line.trim().trim_matches(['"', '\'']);
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        let why = if word.is_empty() {
            Some("must be an option for the clients".to_owned())
        } else if OWN_PUSHES.contains(&word) {
            Some(format!("{word} is pushed by ovpnd itself: remove it"))
        } else if matches!(word, "comp-lzo" | "compress" | "fragment") {
            Some(format!("{word} is not supported: remove it"))
        } else {
            push_replies([line]).err().map(|why| why.0)
        };
        match why {
            Some(why) => reader.fault(Some("push"), why),
            None => pushes.push(line.to_owned()),
        }
    }
    pushes
}

/// Reads a client's section into its server's entry. A client whose section has a fault is not let in.
pub(in crate::config) fn read_client(mut reader: Reader<'_>, entry: &mut ServerEntry) {
    let common_name = reader.text("common_name").unwrap_or(&reader.label);
    let common_name = common_name.to_owned();
    let mut off = false;
    for option in ["disable", "disabled"] {
        off |= reader.boolean(option) == Some(true);
    }
    let networks = entry.spec.as_ref().map(|spec| spec.networks);
    let own = |network: fn(&Networks) -> Option<IpPrefix>| networks.as_ref().and_then(network);
    // The mask behind the address is the network's.
    let v4 = reader.lines("ifconfig_push").into_iter().next();
    let v4 = v4.and_then(|line| {
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        let address = word.parse::<Ipv4Addr>().ok();
        fixed(
            &mut reader,
            "ifconfig_push",
            address.map(IpAddr::from),
            own(|n| n.v4),
        )?;
        address
    });
    let v6 = reader.lines("ifconfig_ipv6_push").into_iter().next();
    let v6 = v6.and_then(|line| {
        let word = line.split(['/', ' ']).next().unwrap_or_default();
        let address = word.parse::<Ipv6Addr>().ok();
        fixed(
            &mut reader,
            "ifconfig_ipv6_push",
            address.map(IpAddr::from),
            own(|n| n.v6),
        )?;
        address
    });
    let mut iroutes = Vec::new();
    for (option, is_v4) in [("iroute", true), ("iroute_ipv6", false)] {
        for line in reader.lines(option) {
            let network = network_v4(line).filter(|network| {
                network.addr().is_ipv4() == is_v4 && network.network() == *network
            });
            match network {
                Some(network) => iroutes.push(network),
                None => reader.fault(
                    Some(option),
                    format!("{line:?} must be a network with its mask or length"),
                ),
            }
        }
    }
    let push = pushes(&mut reader);
    let push_reset = reader.boolean("push_reset") == Some(true);
    reader.text("description");
    if let Some(spec) = &entry.spec {
        clashes(
            &mut reader,
            spec,
            &common_name,
            &ClientSection {
                v4,
                v6,
                iroutes: iroutes.clone(),
                ..ClientSection::default()
            },
        );
    }
    let (problems, warnings) = reader.finish(&[]);
    let refused = match (off, problems.is_empty()) {
        (true, _) => Some("this client is switched off".to_owned()),
        (_, false) => Some("the server's section for this client has a fault".to_owned()),
        _ => None,
    };
    entry.problems.extend(problems);
    entry.warnings.extend(warnings);
    if let Some(spec) = &mut entry.spec {
        let section = ClientSection {
            refused,
            v4,
            v6,
            iroutes,
            push,
            push_reset,
        };
        // The first section of a name stands, unless the second one keeps the client out.
        let known = spec.clients.entry(common_name).or_insert(section.clone());
        known.refused = known.refused.take().or(section.refused);
    }
}

/// Checks a fixed address against the server's network.
fn fixed(
    reader: &mut Reader<'_>,
    option: &'static str,
    address: Option<IpAddr>,
    own: Option<IpPrefix>,
) -> Option<()> {
    let why = match (address, own) {
        (None, _) => "must begin with an address".to_owned(),
        (Some(_), None) => "has no network: the server has none of this family".to_owned(),
        (Some(address), Some(own)) if !own.contains(address) => {
            format!("{address} is not in the server's network {}", own.network())
        }
        (Some(address), Some(own)) if address == own.addr() => {
            format!("{address} is the server's own address")
        }
        (Some(address), Some(own))
            if address == own.network().addr() || (address.is_ipv4() && address == own.last()) =>
        {
            format!("{address} is the address of the network itself")
        }
        _ => return Some(()),
    };
    reader.fault(Some(option), why);
    None
}

/// Names, addresses and networks of which another client's section has one already.
fn clashes(reader: &mut Reader<'_>, spec: &ServerSpec, name: &str, section: &ClientSection) {
    if spec.clients.contains_key(name) {
        let why = format!("{name:?} has another section already");
        reader.fault(Some("common_name"), why);
    }
    for (other, known) in &spec.clients {
        if section.v4.is_some() && section.v4 == known.v4 {
            reader.fault(Some("ifconfig_push"), format!("is that of {other:?}, too"));
        }
        if section.v6.is_some() && section.v6 == known.v6 {
            let why = format!("is that of {other:?}, too");
            reader.fault(Some("ifconfig_ipv6_push"), why);
        }
        for network in section.iroutes.iter().filter(|n| known.iroutes.contains(n)) {
            let option = match network.addr().is_ipv4() {
                true => "iroute",
                false => "iroute_ipv6",
            };
            reader.fault(Some(option), format!("{network} is behind {other:?}, too"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
