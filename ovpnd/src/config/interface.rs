// SPDX-License-Identifier: GPL-2.0-or-later
//! `config interface` sections with our protocol.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ovpn_netlink::{Cipher, IpPrefix, MAX_NAME, Mode, ValueError};

use super::reader::Reader;
use super::routes::refuse_mapped;
use super::{InterfaceConfig, Peer, Routing};

/// The driver's own default, in bytes.
const DEFAULT_MTU: u32 = 1416;
/// The driver's limits, in bytes.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_451;

/// The driver that carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6 alone.
    Udp6,
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6 alone.
    Tcp6,
}

impl Transport {
    /// The one with these qualities.
    pub fn new(tcp: bool, v6: bool) -> Self {
        match (tcp, v6) {
            (false, false) => Self::Udp,
            (false, true) => Self::Udp6,
            (true, false) => Self::Tcp,
            (true, true) => Self::Tcp6,
        }
    }

    /// Whether it is TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tcp6)
    }

    /// Whether it is over IPv6.
    pub fn is_v6(self) -> bool {
        matches!(self, Self::Udp6 | Self::Tcp6)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
        })
    }
}

impl FromStr for Transport {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "udp" => Ok(Self::Udp),
            "udp6" => Ok(Self::Udp6),
            "tcp" => Ok(Self::Tcp),
            "tcp6" => Ok(Self::Tcp6),
            _ => Err(ValueError(format!(
                "\"{}\" is no transport (udp, udp6, tcp, tcp6)",
                text.escape_debug()
            ))),
        }
    }
}

/// The socket under an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketSpec {
    /// Its address family and protocol.
    pub transport: Transport,
    /// Local port; 0 lets the kernel choose.
    pub port: u16,
    /// SO_MARK of its packets; 0 is none.
    pub mark: u32,
    /// Local address; none is the wildcard.
    pub local: Option<IpAddr>,
    /// Whether a socket for IPv6 takes IPv4, too.
    pub both: bool,
}

/// An interface as configured.
#[derive(Debug, Clone)]
pub struct Interface {
    /// File it is from.
    pub file: String,
    /// Line of its port, for messages.
    pub port_line: usize,
    /// One peer or many.
    pub mode: Mode,
    /// The socket its peers share.
    pub socket: SocketSpec,
    /// Addresses of its own inside the tunnel.
    pub addresses: Vec<IpPrefix>,
    /// Largest packet inside the tunnel, in bytes.
    pub mtu: u32,
    /// Treatment of the size of TCP segments.
    pub mssfix: MssFix,
    /// Which crypto drivers to take.
    pub hwcrypto: HwCrypto,
    /// Cipher of static keys, which cannot be negotiated.
    pub cipher: Cipher,
    /// netifd's options about its routes.
    pub routing: Routing,
    /// Whether forwarded traffic is to have no other way while the tunnel is away; see [`crate::killswitch`].
    pub killswitch: bool,
    /// Its faultless peers.
    pub peers: Vec<Peer>,
}

/// SO_MARK, decimal or hexadecimal.
pub(super) struct Mark(pub(super) u32);

impl FromStr for Mark {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let value = match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        };
        let wrong = |_| {
            ValueError(format!(
                "\"{}\" is no mark (a 32 bit number, decimal or 0x...)",
                text.escape_debug()
            ))
        };
        value.map(Mark).map_err(wrong)
    }
}

/// The largest TCP segment inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MssFix {
    /// The size that fits the path.
    #[default]
    Auto,
    /// As the ends say.
    Off,
    /// Bytes.
    Bytes(u16),
}

impl fmt::Display for MssFix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// Least segment every host takes (RFC 9293, section 3.7.1), and the most that fits into an IPv4 packet.
const MSS_RANGE: std::ops::RangeInclusive<u16> = 536..=65_495;

impl FromStr for MssFix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" | "0" => Ok(Self::Off),
            _ => {
                let bytes = text.parse().ok().filter(|bytes| MSS_RANGE.contains(bytes));
                bytes.map(Self::Bytes).ok_or_else(|| {
                    ValueError(format!(
                        "\"{}\" is no segment size (auto, off, {} to {})",
                        text.escape_debug(),
                        MSS_RANGE.start(),
                        MSS_RANGE.end()
                    ))
                })
            }
        }
    }
}

/// Which of the kernel's crypto drivers do the work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HwCrypto {
    /// Engines only where they are known to be faster.
    #[default]
    Auto,
    /// The processor alone.
    Off,
    /// Whatever the kernel thinks best, engines too.
    On,
    /// The one of this name.
    Driver(String),
}

impl fmt::Display for HwCrypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::On => "on",
            Self::Driver(name) => name,
        })
    }
}

/// CRYPTO_MAX_ALG_NAME of Linux, with its end.
const MAX_DRIVER: usize = 127;

impl FromStr for HwCrypto {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_name = text.len() <= MAX_DRIVER
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_(),.".contains(&b));
        match text {
            "auto" => Ok(Self::Auto),
            "off" | "0" => Ok(Self::Off),
            "on" | "1" => Ok(Self::On),
            _ if is_name => Ok(Self::Driver(text.to_owned())),
            _ => Err(ValueError(format!(
                "\"{}\" is no crypto driver (auto, off, on, or a name of /proc/crypto)",
                text.escape_debug()
            ))),
        }
    }
}

/// The cipher, where `auto` means what every router does well without AES instructions: with a static key
/// nothing is negotiated, so both sides must come to the same without talking.
struct CipherChoice(Cipher);

impl FromStr for CipherChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" {
            Ok(Self(Cipher::Chacha20Poly1305))
        } else {
            text.parse().map(Self)
        }
    }
}

/// Options that netifd and LuCI have for every protocol: netifd's interface.c (`iface_attrs`) and config.c of 2026, the
/// handler's own for the way to the endpoint, mwan3's and LuCI's.
pub(super) const NETIFD: &[&str] = &[
    "auto",
    "carrier_loss_delay",
    "defaultroute",
    "delegate",
    "device",
    "dns",
    "dns_metric",
    "dns_search",
    "force_link",
    "host_device",
    "ifname",
    "interface",
    "ip4table",
    "ip6assign",
    "ip6class",
    "ip6hint",
    "ip6ifaceid",
    "ip6table",
    "ip6weight",
    "jail",
    "jail_device",
    "jail_ifname",
    "metric",
    "multipath",
    "nohostroute",
    "peerdns",
    "proto",
    "renew",
    "tags",
    "tunlink",
    "zone",
];

/// Reads a section; none when it is switched off.
pub(super) fn read(mut reader: Reader<'_>, netifd: bool) -> Option<(String, InterfaceConfig)> {
    if reader.boolean("disabled") == Some(true) {
        return None;
    }
    let name = reader.label.clone();
    if reader.section.name.is_none() {
        reader.fault(None, "needs a name, which becomes the interface's");
    } else if name.len() > MAX_NAME {
        reader.fault(
            None,
            format!(
                "has a name too long for an interface ({} bytes, {MAX_NAME} at most)",
                name.len()
            ),
        );
    }
    let transport = reader.parsed("transport").unwrap_or(Transport::Udp);
    let port = reader
        .number("local_port", 1..=65_535)
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(0);
    let mark = reader.parsed::<Mark>("fwmark").map_or(0, |mark| mark.0);
    let interface = Interface {
        file: reader.file.to_owned(),
        port_line: reader.line("local_port"),
        mode: reader.parsed("mode").unwrap_or(Mode::P2p),
        socket: SocketSpec {
            transport,
            port,
            mark,
            local: None,
            both: false,
        },
        addresses: addresses(&mut reader),
        mtu: reader.number("mtu", MTU_RANGE).unwrap_or(DEFAULT_MTU),
        cipher: reader
            .parsed::<CipherChoice>("cipher")
            .map_or(Cipher::Chacha20Poly1305, |choice| choice.0),
        mssfix: reader.parsed("mssfix").unwrap_or_default(),
        hwcrypto: reader.parsed("hwcrypto").unwrap_or_default(),
        routing: Routing::read(&mut reader, netifd),
        killswitch: reader.boolean("killswitch").unwrap_or(false),
        peers: Vec::new(),
    };
    if interface.mode == Mode::Mp && transport.is_tcp() {
        reader.fault(
            Some("transport"),
            format!("{transport} with static keys takes mode p2p: only a TLS control channel tells the clients apart"),
        );
    }
    let (problems, warnings) = reader.finish(NETIFD);
    let interface = problems.is_empty().then_some(interface);
    Some((
        name,
        InterfaceConfig {
            interface,
            problems,
            warnings,
            ..Default::default()
        },
    ))
}

/// An address, and whether its network was written.
struct Address(IpPrefix, bool);

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(|prefix| Self(prefix, text.contains('/')))
    }
}

fn addresses(reader: &mut Reader<'_>) -> Vec<IpPrefix> {
    let written: Vec<Address> = reader.list("addresses");
    for Address(bare, _) in written.iter().filter(|Address(_, whole)| !whole) {
        let (ip, usual) = (bare.addr(), if bare.addr().is_ipv4() { 24 } else { 64 });
        let why = format!(
            "{ip} has no prefix length and is taken for {bare}, a network of this one address: write {ip}/{usual} or as \
             long as the tunnel's network is"
        );
        reader.warn_of("addresses", why);
    }
    let addresses: Vec<IpPrefix> = written
        .into_iter()
        .map(|Address(prefix, _)| prefix)
        .collect();
    refuse_mapped(reader, "addresses", addresses.iter().map(|own| own.addr()));
    for (index, address) in addresses.iter().enumerate() {
        if addresses
            .iter()
            .take(index)
            .any(|earlier| earlier.addr() == address.addr())
        {
            reader.fault(
                Some("addresses"),
                format!("{} is listed twice", address.addr()),
            );
        }
    }
    addresses
}
