// SPDX-License-Identifier: GPL-2.0-or-later
//! A tunnel, independent of the program that speaks its control channel.
//!
//! Two kinds are here: [`Control::Static`], configured by UCI with keys from files, is
//! [`crate::reconcile::Managed`]; [`Control::Observed`], made by stock OpenVPN on the same driver, is
//! [`crate::reconcile::Observed`]. The third, a TLS control channel of ovpnd's own, will be a `Managed` tunnel too:
//! its peers come from UCI as well, and its keys from another [`crate::keys::KeySource`], whose
//! [`crate::keys::KeyStatus`] says which kind it is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ovpn_netlink::{Counters, IpPrefix, Keepalive, Mode, PeerId, PeerInfo, Totals};

use crate::config::{Problem, Transport};

/// The speaker of a tunnel's control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Another program, which owns the tunnel: it is shown and not changed.
    Observed,
    /// None: keys come from files.
    Static,
    /// ovpnd, with TLS.
    Tls,
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observed => "observed",
            Self::Static => "static",
            Self::Tls => "tls",
        })
    }
}

/// Facts about any tunnel.
pub trait Tunnel {
    /// The speaker of its control channel.
    fn control(&self) -> Control;

    /// The interface.
    fn interface(&self) -> InterfaceView;

    /// How many peers it should have, and how many the kernel has.
    fn count(&self) -> (usize, usize);

    /// Those of its peers that are wanted by name and number, also those that are not in the kernel, whose peers
    /// `there` describes. All are asked about, in a stable order.
    fn peers(&self, there: &[PeerInfo], now: Instant, wanted: &mut Wanted<'_>) -> Vec<PeerView>;
}

/// Whether a peer of this name and number is to be described: of a thousand, few are.
pub type Wanted<'a> = dyn FnMut(&str, Option<PeerId>) -> bool + 'a;

/// An interface for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields are described in API.md")]
pub struct InterfaceView {
    pub up: bool,
    pub stopped: Option<String>,
    pub error: Option<String>,
    pub mode: Option<Mode>,
    pub transport: Option<Transport>,
    pub local_port: u16,
    pub fwmark: u32,
    pub mtu: Option<u32>,
    pub mssfix: Option<String>,
    pub hwcrypto: Option<String>,
    pub cipher: Option<String>,
    pub addresses: Vec<IpPrefix>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub past: Option<Past>,
    pub last_refusal: Option<LastRefusal>,
}

/// Sessions of a server's clients that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    /// How many of them the kernel told the counters of.
    pub sessions: u64,
    /// The sum of these.
    pub totals: Totals,
}

/// The last client that a server did not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRefusal {
    /// Where it came from.
    pub remote: SocketAddr,
    /// The sentence.
    pub why: String,
    /// How long ago.
    pub age: Duration,
}

/// A question to a client's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its words: the server's, or those of the configuration.
    pub text: String,
    /// Whether the answer may be shown while it is typed.
    pub echo: bool,
    /// Whether the name of a user goes with the answer.
    pub user: bool,
}

/// A peer for people, without what the kernel tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are described in API.md")]
pub struct PeerView {
    pub name: String,
    pub description: Option<String>,
    /// None for one whose section is too faulty to tell.
    pub id: Option<PeerId>,
    /// Why it is not in the kernel; `up` when it is there.
    pub state: PeerState,
    /// Since when it is in this state, where that is kept.
    pub since: Option<Duration>,
    pub error: Option<String>,
    /// The question that its user is asked.
    pub question: Option<Question>,
    /// Why none of its networks is routed to it.
    pub route_error: Option<String>,
    pub problems: Vec<Problem>,
    pub endpoint: Option<String>,
    pub remote: Option<SocketAddr>,
    pub vpn_ips: Vec<IpAddr>,
    pub allowed_ips: Vec<IpPrefix>,
    pub keepalive: Option<Keepalive>,
    /// Since when it is in the kernel.
    pub connected: Option<Duration>,
    pub losses: Option<u32>,
    pub key_source: Option<&'static str>,
    pub key_fingerprint: Option<String>,
    pub key_age: Option<Duration>,
    pub cipher: Option<String>,
}

/// The state of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum PeerState {
    Up,
    Resolving,
    Connecting,
    Tls,
    Authenticating,
    Pushing,
    Waiting,
    Asking,
    Disabled,
    Stopped,
    Error,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Resolving => "resolving",
            Self::Connecting => "connecting",
            Self::Tls => "tls",
            Self::Authenticating => "authenticating",
            Self::Pushing => "pushing",
            Self::Waiting => "waiting",
            Self::Asking => "asking",
            Self::Disabled => "disabled",
            Self::Stopped => "stopped",
            Self::Error => "error",
        })
    }
}

/// Something that subscribers and listeners are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The interface.
    pub interface: String,
    /// The peer's section, or its number.
    pub peer: String,
    /// Its number.
    pub id: PeerId,
    /// The speaker of the control channel.
    pub control: Control,
    /// The event.
    pub what: News,
}

/// An event of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is in the kernel, and there.
    Up(Option<SocketAddr>),
    /// It is not in the kernel any more, for this reason.
    Down(String),
    /// It is elsewhere.
    Float(SocketAddr),
    /// The key with this number is used up.
    KeySwap(u8),
    /// Its session is over, and these are all of its packets.
    Total(Totals),
}

/// The sum of counters.
pub(crate) fn plus(sum: Counters, one: Counters) -> Counters {
    Counters {
        rx_bytes: sum.rx_bytes.saturating_add(one.rx_bytes),
        tx_bytes: sum.tx_bytes.saturating_add(one.tx_bytes),
        rx_packets: sum.rx_packets.saturating_add(one.rx_packets),
        tx_packets: sum.tx_packets.saturating_add(one.tx_packets),
    }
}
