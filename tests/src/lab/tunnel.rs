// SPDX-License-Identifier: GPL-2.0-only
//! A P2P tunnel between two namespaces, both ends in the driver, made by raw netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use crate::lab::{Echo, Netdev, Ns, Pair, tcp_pair};
use crate::nl::link::Links;
use crate::nl::ovpn::{AES_GCM, CHACHA20_POLY1305, KeyDir, KeySpec, Ovpn, PRIMARY, Stats};
use crate::tap::{During, Failure, Outcome};

/// The ciphers of the data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128,
    /// AES-192-GCM.
    Aes192,
    /// AES-256-GCM.
    Aes256,
    /// CHACHA20-POLY1305.
    ChaCha,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aes128, Self::Aes192, Self::Aes256, Self::ChaCha];

    /// OpenVPN's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "AES-128-GCM",
            Self::Aes192 => "AES-192-GCM",
            Self::Aes256 => "AES-256-GCM",
            Self::ChaCha => "CHACHA20-POLY1305",
        }
    }

    /// CIPHER_ALG.
    pub fn alg(self) -> u32 {
        match self {
            Self::ChaCha => CHACHA20_POLY1305,
            _ => AES_GCM,
        }
    }

    /// Length of a key in bytes.
    pub fn key_len(self) -> u8 {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 | Self::ChaCha => 32,
        }
    }

    /// Key material of one direction; `n` tells keys apart.
    pub fn dir(self, n: u8, from_a: bool) -> KeyDir {
        let seed = n
            .wrapping_mul(2)
            .wrapping_add(from_a.into())
            .wrapping_mul(37);
        KeyDir {
            key: (0..self.key_len())
                .map(|i| seed ^ i.wrapping_mul(11))
                .collect(),
            tail: std::array::from_fn(|i| seed.wrapping_add(i as u8)),
        }
    }

    /// Key number `n` as one end installs it; the key id is `n` modulo 8.
    pub fn key(self, n: u8, is_a: bool) -> KeySpec {
        KeySpec {
            key_id: u32::from(n & 7),
            alg: self.alg(),
            encrypt: self.dir(n, is_a),
            decrypt: self.dir(n, !is_a),
        }
    }
}

/// The transport under a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    /// UDP over IPv4.
    V4,
    /// UDP over IPv6.
    V6,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

impl Outer {
    /// UDP.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
    /// TCP.
    pub const TCP: [Self; 2] = [Self::Tcp4, Self::Tcp6];

    /// Whether it is over IPv6.
    pub fn is_v6(self) -> bool {
        matches!(self, Self::V6 | Self::Tcp6)
    }

    /// Whether it is TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }
}

/// Parts of a tunnel.
#[derive(Debug, Clone, Copy)]
pub struct TunnelSpec {
    /// Cipher of the first key.
    pub cipher: Cipher,
    /// Transport.
    pub outer: Outer,
    /// MTU of the tunnel devices; `None` leaves the driver's default.
    pub mtu: Option<u32>,
}

impl Default for TunnelSpec {
    fn default() -> Self {
        Self {
            cipher: Cipher::Aes256,
            outer: Outer::V4,
            mtu: None,
        }
    }
}

/// UDP port of both transport sockets.
pub const PORT: u16 = 1194;

/// One end: a namespace, a device `tun`, a peer.
pub struct End {
    /// Where it lives.
    pub ns: Ns,
    /// The driver's netlink family.
    pub nl: Ovpn,
    /// rtnetlink.
    pub links: Links,
    /// Index of `tun`.
    pub ifindex: u32,
    /// The transport socket over UDP; taken out to close it.
    pub sock: Option<UdpSocket>,
    /// The same over TCP.
    pub stream: Option<TcpStream>,
    /// Id of the peer here, which the other end writes into its packets.
    pub id: u32,
    /// The id written into packets to the other end.
    pub tx_id: u32,
    /// The other end's transport address.
    pub remote: SocketAddr,
    /// Which end it is.
    pub is_a: bool,
}

impl End {
    /// A namespace's end with a device that is still down and has no peer.
    pub fn new(ns: Ns, is_a: bool, outer: Outer) -> Outcome<Self> {
        let links = Links::open(&ns)?;
        links
            .create("tun", None)?
            .during("creating a link of kind ovpn")?;
        let ifindex = ns
            .ifindex("tun")?
            .ok_or_else(|| Failure::new("the new link is not there"))?;
        let nl = Ovpn::open(&ns)?;
        let v6 = outer.is_v6();
        let sock = (!outer.is_tcp()).then(|| ns.udp(v6, PORT)).transpose()?;
        let (id, tx_id) = if is_a { (7, 0xabcdef) } else { (0xabcdef, 7) };
        let remote = SocketAddr::new(Pair::outer(v6, if is_a { 2 } else { 1 }), PORT);
        Ok(Self {
            ns,
            nl,
            links,
            ifindex,
            sock,
            stream: None,
            id,
            tx_id,
            remote,
            is_a,
        })
    }

    /// Adds the peer (again).
    pub fn add_peer(&self) -> Outcome {
        let (fd, remote) = self.transport();
        self.nl
            .peer_new(self.ifindex, self.id, fd, remote, Some(self.tx_id))
    }

    /// The transport socket, -1 when it is closed, and the remote that PEER_NEW wants with it.
    pub fn transport(&self) -> (i32, Option<SocketAddr>) {
        match (&self.stream, &self.sock) {
            (Some(stream), _) => (stream.as_raw_fd(), None),
            (None, Some(sock)) => (sock.as_raw_fd(), Some(self.remote)),
            (None, None) => (-1, Some(self.remote)),
        }
    }

    /// Closes the transport socket.
    pub fn close(&mut self) {
        drop((self.sock.take(), self.stream.take()));
    }

    /// Installs key number `n` in a slot.
    pub fn add_key(&self, slot: u32, cipher: Cipher, n: u8) -> Outcome {
        self.nl
            .key_new(self.ifindex, self.id, slot, &cipher.key(n, self.is_a))
    }

    /// Brings the device up with its addresses. No address is made by the kernel itself, so that counters are exact.
    pub fn up(&self, mtu: Option<u32>) -> Outcome {
        let n = if self.is_a { 1 } else { 2 };
        let mtu = mtu.map_or(String::new(), |m| format!("link set tun mtu {m}\n"));
        self.ns.ip(&format!(
            "{mtu}link set tun addrgenmode none\nlink set tun up\n\
             addr add 10.8.0.{n}/24 dev tun\naddr add fd00:8::{n}/64 dev tun nodad"
        ))
    }

    /// The peer's counters.
    pub fn stats(&self) -> Outcome<Stats> {
        self.nl.stats(self.ifindex, self.id)
    }

    /// The device's counters.
    pub fn dev(&self) -> Outcome<Netdev> {
        self.ns.netdev("tun")
    }
}

/// Two ends, joined.
pub struct Tunnel {
    /// The first end, 10.8.0.1 and fd00:8::1 inside.
    pub a: End,
    /// The second end, 10.8.0.2 and fd00:8::2 inside.
    pub b: End,
    /// Its parts.
    pub spec: TunnelSpec,
}

impl Tunnel {
    /// Both ends up, key number 1 in the primary slot.
    pub fn new(spec: TunnelSpec) -> Outcome<Self> {
        Self::between(Pair::new()?, spec)
    }

    /// The same between namespaces that are there.
    pub fn between(pair: Pair, spec: TunnelSpec) -> Outcome<Self> {
        let (mut a, mut b) = (
            End::new(pair.a, true, spec.outer)?,
            End::new(pair.b, false, spec.outer)?,
        );
        if spec.outer.is_tcp() {
            let (near, far) = tcp_pair(&a.ns, &b.ns, spec.outer.is_v6())?;
            (a.stream, b.stream) = (Some(near), Some(far));
        }
        for end in [&a, &b] {
            end.add_peer()?;
            end.add_key(PRIMARY, spec.cipher, 1)?;
        }
        for end in [&a, &b] {
            end.up(spec.mtu)?;
        }
        Ok(Self { a, b, spec })
    }

    /// The default tunnel: AES-256-GCM over IPv4.
    pub fn simple() -> Outcome<Self> {
        Self::new(TunnelSpec::default())
    }

    /// Inner address of an end.
    pub fn inner(v6: bool, n: u8) -> IpAddr {
        if v6 {
            Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, n.into()).into()
        } else {
            Ipv4Addr::new(10, 8, 0, n).into()
        }
    }

    /// Demands that `count` pings from `a` to `b` lose nothing.
    pub fn works(&self, count: u16) -> Outcome {
        Echo::new(Self::inner(false, 2), count).lossless(&self.a.ns)
    }
}
