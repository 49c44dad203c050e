// SPDX-License-Identifier: GPL-2.0-only
//! A peer in user space: it knows the keys, so it can send what no driver would, and read what the driver really sends.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::lab::tunnel::PORT;
use crate::lab::{Cipher, End, Ns, Outer, Pair, Tunnel, TunnelSpec, patience};
use crate::nl::ovpn::PRIMARY;
use crate::tap::{During, Failure, Outcome};
use crate::wire::{self, DATA_V2, Header};

/// Port of the sockets inside the tunnel.
pub const INNER_PORT: u16 = 4000;
/// How long a packet may be under way.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The peer.
pub struct Soft {
    /// Its namespace.
    pub ns: Arc<Ns>,
    /// Its transport socket.
    pub sock: UdpSocket,
    /// Where the driver's end listens.
    pub to: SocketAddr,
    /// Cipher of the keys.
    pub cipher: Cipher,
    /// Number of the key it sends with.
    pub key: u8,
    /// Peer id that it writes into packets.
    pub peer_id: u32,
    /// Packet id of the next packet.
    pub next_id: u32,
}

/// The driver's end and the soft one, with a socket inside the tunnel.
pub struct SoftTunnel {
    /// The driver's end.
    pub a: End,
    /// The other end.
    pub soft: Soft,
    /// A UDP socket on the driver's inner address.
    pub inner: UdpSocket,
}

impl Soft {
    /// The clear part of the next packet.
    pub fn header(&mut self) -> Header {
        let packet_id = self.next_id;
        self.next_id += 1;
        Header {
            opcode: DATA_V2,
            key_id: self.key & 7,
            peer_id: self.peer_id,
            packet_id,
        }
    }

    /// Encrypts with the current key.
    pub fn seal(&self, header: Header, plain: &[u8]) -> Outcome<Vec<u8>> {
        wire::seal(
            self.cipher,
            &self.cipher.dir(self.key, false),
            header,
            plain,
        )
    }

    /// Sends bytes as they are.
    pub fn send_raw(&self, packet: &[u8]) -> Outcome {
        self.sock.send_to(packet, self.to)?;
        Ok(())
    }

    /// Sends a packet with the next packet id; returns what went over the wire.
    pub fn send(&mut self, plain: &[u8]) -> Outcome<Vec<u8>> {
        let header = self.header();
        let packet = self.seal(header, plain)?;
        self.send_raw(&packet)?;
        Ok(packet)
    }

    /// An inner packet for the driver's inner socket.
    pub fn datagram(text: &[u8]) -> Vec<u8> {
        wire::ipv4_udp([10, 8, 0, 2], [10, 8, 0, 1], INNER_PORT, INNER_PORT, text)
    }

    /// Receives whatever comes next.
    pub fn recv_raw(&self) -> Outcome<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 65536];
        let (n, from) = self
            .sock
            .recv_from(&mut buffer)
            .during("nothing reached the other end")?;
        buffer.truncate(n);
        Ok((buffer, from))
    }

    /// Receives a packet and decrypts it with key number `key`.
    pub fn recv(&self, key: u8) -> Outcome<(Header, Vec<u8>)> {
        let (packet, from) = self.recv_raw()?;
        crate::check_eq!(from, self.to, "source of a packet");
        wire::open(self.cipher, &self.cipher.dir(key, true), &packet)
    }
}

impl SoftTunnel {
    /// The driver's end is up, key number 1 in its primary slot.
    pub fn new(cipher: Cipher, outer: Outer) -> Outcome<Self> {
        let spec = TunnelSpec {
            cipher,
            outer,
            mtu: None,
        };
        let Pair { a, b: ns } = Pair::new()?;
        let a = End::new(a, true, outer)?;
        a.add_peer()?;
        a.add_key(PRIMARY, cipher, 1)?;
        a.up(spec.mtu)?;
        let v6 = outer.is_v6();
        let sock = ns.udp(v6, PORT)?;
        let address = SocketAddr::new(Tunnel::inner(false, 1), INNER_PORT);
        let inner =
            a.ns.enter(|| Ok(UdpSocket::bind(address)?))
                .during("inner socket")?;
        for sock in [&sock, &inner].into_iter().chain(&a.sock) {
            sock.set_read_timeout(Some(LIMIT * patience()))?;
        }
        let to = SocketAddr::new(Pair::outer(v6, 1), PORT);
        let soft = Soft {
            ns: Arc::new(ns),
            sock,
            to,
            cipher,
            key: 1,
            peer_id: a.id,
            next_id: 1,
        };
        Ok(Self { a, soft, inner })
    }

    /// Sends a datagram from inside the driver's end; returns its text.
    pub fn push(&self, text: &[u8]) -> Outcome {
        self.inner
            .send_to(text, SocketAddr::new(Tunnel::inner(false, 2), INNER_PORT))?;
        Ok(())
    }

    /// Demands that this text arrives next at the inner socket.
    pub fn expect(&self, text: &[u8]) -> Outcome {
        let mut buffer = [0; 2048];
        let n = self
            .inner
            .recv(&mut buffer)
            .during("nothing came out of the tunnel")?;
        let got = buffer.get(..n).unwrap_or_default();
        if got != text {
            let head = |text: &[u8]| text.get(..text.len().min(24)).map(<[u8]>::to_vec);
            return Err(Failure::new(format!(
                "the tunnel delivered {} bytes {:02x?}, expected {} bytes {:02x?}",
                got.len(),
                head(got).unwrap_or_default(),
                text.len(),
                head(text).unwrap_or_default()
            )));
        }
        Ok(())
    }

    /// Sends a good packet and waits until it is through: what was sent before it has been dealt with by then.
    pub fn fence(&mut self) -> Outcome {
        let text = self.soft.next_id.to_be_bytes();
        self.soft.send(&Soft::datagram(&text))?;
        self.expect(&text)
    }
}
