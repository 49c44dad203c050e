// SPDX-License-Identifier: GPL-2.0-only
//! The clients of a server, as data: the tests make their cases of these tables.

use std::fmt;

use crate::lab::Cipher;

/// Transport of a client's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp4,
    Udp6,
    Tcp4,
    Tcp6,
}

impl Transport {
    /// All of them; a server has one socket for each.
    pub const ALL: [Self; 4] = [Self::Udp4, Self::Udp6, Self::Tcp4, Self::Tcp6];

    /// Whether the outer packets are IPv6.
    pub fn v6(self) -> bool {
        matches!(self, Self::Udp6 | Self::Tcp6)
    }

    /// Whether it is a stream.
    pub fn tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }

    /// OpenVPN's name of the protocol at the end that listens, or at the one that connects.
    pub fn proto(self, listens: bool) -> &'static str {
        match (self, listens) {
            (Self::Udp4, _) => "udp4",
            (Self::Udp6, _) => "udp6",
            (Self::Tcp4, true) => "tcp4-server",
            (Self::Tcp4, false) => "tcp4-client",
            (Self::Tcp6, true) => "tcp6-server",
            (Self::Tcp6, false) => "tcp6-client",
        }
    }
}

/// Events in the life of a client, beside carrying packets like all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Stays,
    /// It has a network behind it, which the server reaches by iroutes.
    Lan,
    /// It moves to another address under its running session.
    Roams,
    /// It is behind a NAT, which forgets its port.
    Nat,
    /// It is killed: no word of good-bye.
    Dies,
    /// It is told to end, and says so.
    Leaves,
}

/// A client.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// From 1 on; its addresses derive from it.
    pub n: u8,
    pub transport: Transport,
    pub cipher: Cipher,
    /// Whether it may use the driver.
    pub offload: bool,
    pub role: Role,
}

impl Client {
    const fn new(n: u8, transport: Transport, cipher: Cipher, offload: bool, role: Role) -> Self {
        Self {
            n,
            transport,
            cipher,
            offload,
            role,
        }
    }

    /// Name of its certificate, its files and its place in the server's configuration.
    pub fn name(&self) -> String {
        format!("client-{}", self.n)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "client {:2}, {} {}{}",
            self.n,
            match self.transport {
                Transport::Udp4 => "UDP/IPv4",
                Transport::Udp6 => "UDP/IPv6",
                Transport::Tcp4 => "TCP/IPv4",
                Transport::Tcp6 => "TCP/IPv6",
            },
            self.cipher.name(),
            if self.offload { "" } else { ", no offload" }
        )
    }
}

/// A server and its clients.
#[derive(Debug)]
pub struct Spec {
    /// Whether the server may use the driver.
    pub offload: bool,
    pub clients: &'static [Client],
    /// Seconds between keepalives, and until a client takes silence for death; the server waits twice as long.
    pub keepalive: (u32, u32),
    /// Seconds between renegotiations, asked for by every client.
    pub reneg: u32,
    /// Whether each client waits for the one before it, so that they do not all renegotiate in the same moment.
    pub in_turn: bool,
    /// How many clients load the tunnel at a time: each packet of a server in user space is its process's work.
    pub at_once: usize,
    /// Mbit/s that each of them gets at least: less is no matter of speed any more.
    pub floor: f64,
}

use Cipher::{Aes128, Aes192, Aes256, ChaCha};
use Role::{Dies, Lan, Leaves, Nat, Roams, Stays};
use Transport::{Tcp4, Tcp6, Udp4, Udp6};

/// Everything mixed; every second client does without the driver.
const TWENTY: [Client; 20] = [
    Client::new(1, Udp4, Aes128, true, Stays),
    Client::new(2, Udp6, Aes192, false, Stays),
    Client::new(3, Udp6, Aes192, true, Lan),
    Client::new(4, Tcp4, Aes256, false, Lan),
    Client::new(5, Tcp4, Aes256, true, Leaves),
    Client::new(6, Tcp6, ChaCha, false, Stays),
    Client::new(7, Tcp6, ChaCha, true, Dies),
    Client::new(8, Udp4, Aes128, false, Dies),
    Client::new(9, Udp4, ChaCha, true, Roams),
    Client::new(10, Udp6, Aes256, false, Roams),
    Client::new(11, Udp6, Aes256, true, Roams),
    Client::new(12, Udp4, ChaCha, false, Nat),
    Client::new(13, Udp4, Aes192, true, Nat),
    Client::new(14, Tcp6, Aes192, false, Leaves),
    Client::new(15, Udp6, ChaCha, true, Nat),
    Client::new(16, Udp4, Aes256, false, Roams),
    Client::new(17, Udp4, Aes256, true, Dies),
    Client::new(18, Tcp4, Aes128, false, Dies),
    Client::new(19, Udp6, Aes128, true, Leaves),
    Client::new(20, Udp4, Aes192, false, Leaves),
];

/// Clients with the driver of a server without: each transport, each cipher.
const CLIENT_MODE: [Client; 8] = [
    Client::new(1, Udp4, Aes128, true, Roams),
    Client::new(2, Udp6, Aes192, true, Roams),
    Client::new(3, Tcp4, Aes256, true, Lan),
    Client::new(4, Tcp6, ChaCha, true, Stays),
    Client::new(5, Udp4, Aes256, true, Nat),
    Client::new(6, Udp6, ChaCha, true, Lan),
    Client::new(7, Tcp4, Aes128, true, Leaves),
    Client::new(8, Tcp6, Aes192, true, Dies),
];

/// The matrix: short timers, because what ends without a word must be noticed.
pub const MATRIX: Spec = Spec {
    offload: true,
    clients: &TWENTY,
    keepalive: (2, 8),
    reneg: 3600,
    in_turn: false,
    at_once: 20,
    floor: 0.2,
};

/// Client mode against a server in user space.
pub const CLIENTS: Spec = Spec {
    offload: false,
    clients: &CLIENT_MODE,
    keepalive: (2, 8),
    reneg: 3600,
    in_turn: false,
    at_once: 2,
    floor: 0.02,
};

/// The matrix once more, renegotiating all the time. No client is to be taken for dead here.
pub const RENEGOTIATING: Spec = Spec {
    offload: true,
    clients: &TWENTY,
    keepalive: (10, 60),
    reneg: 10,
    in_turn: true,
    at_once: 20,
    floor: 0.2,
};
