// SPDX-License-Identifier: GPL-2.0-only
//! A device with many peers, alone or with peers in user space that know their keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use crate::lab::soft::{INNER_PORT, LIMIT};
use crate::lab::tunnel::PORT;
use crate::lab::{Cipher, Ns, Outer, Pair, Soft, Tunnel, patience};
use crate::nl::Refusal;
use crate::nl::link::{IFLA_OVPN_MODE, Links, MODE_MP};
use crate::nl::ovpn::{Ovpn, PRIMARY, cmd, peer, put_remote, top};
use crate::tap::{During, Failure, Outcome};
use crate::wire;

/// A peer's inner addresses.
pub type VpnIps = (Option<Ipv4Addr>, Option<Ipv6Addr>);

/// A device `mp` in MP mode and a UDP socket for all its peers.
pub struct Server {
    /// The driver's netlink family.
    pub nl: Ovpn,
    /// rtnetlink.
    pub links: Links,
    /// Index of the device.
    pub ifindex: u32,
    /// The transport socket; taken out to close it.
    pub sock: Option<UdpSocket>,
    /// Where it lives.
    pub ns: Ns,
}

impl Server {
    /// In a namespace of its own.
    pub fn new() -> Outcome<Self> {
        Self::within(Ns::new()?, false)
    }

    /// In this namespace, over IPv4 or IPv6.
    pub fn within(ns: Ns, v6: bool) -> Outcome<Self> {
        let links = Links::open(&ns)?;
        links
            .create("mp", Some((IFLA_OVPN_MODE, &[MODE_MP])))?
            .during("RTM_NEWLINK in MP mode")?;
        let ifindex = ns
            .ifindex("mp")?
            .ok_or_else(|| Failure::new("the new link is not there"))?;
        Ok(Self {
            nl: Ovpn::open(&ns)?,
            links,
            ifindex,
            sock: Some(ns.udp(v6, PORT)?),
            ns,
        })
    }

    /// PEER_NEW with a remote, or PEER_SET.
    pub fn peer(
        &self,
        command: u8,
        id: u32,
        remote: Option<SocketAddr>,
        vpn: VpnIps,
    ) -> Outcome<Result<(), Refusal>> {
        let mut msg = self.nl.msg(command, self.ifindex);
        let fd = self.sock.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, id);
            if let Some(remote) = remote {
                m.u32(peer::SOCKET, fd as u32);
                put_remote(m, remote);
            }
            if let Some(ip) = vpn.0 {
                m.put(peer::VPN_IPV4, &ip.octets());
            }
            if let Some(ip) = vpn.1 {
                m.put(peer::VPN_IPV6, &ip.octets());
            }
        });
        Ok(self.nl.request(&msg)?.map(drop))
    }

    /// PEER_NEW.
    pub fn peer_new(
        &self,
        id: u32,
        remote: SocketAddr,
        vpn: VpnIps,
    ) -> Outcome<Result<(), Refusal>> {
        self.peer(cmd::PEER_NEW, id, Some(remote), vpn)
    }

    /// Adds peers without keys that are nowhere, with inner addresses in 10.64.0.0/10 by their id.
    pub fn crowd(&self, ids: impl IntoIterator<Item = u32>) -> Outcome {
        for id in ids {
            let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 1).to_bits() + id);
            let remote = SocketAddr::new(Ipv4Addr::from_bits(0x0b00_0001 + id).into(), PORT);
            self.peer_new(id, remote, (Some(ip), None))?
                .during(format!("peer {id}"))?;
        }
        Ok(())
    }

    /// Ids of all peers, in the order of the dump.
    pub fn ids(&self) -> Outcome<Vec<u32>> {
        let peers = self.nl.peer_dump(self.ifindex)?;
        Ok(peers.iter().filter_map(|p| p.u32(peer::ID)).collect())
    }
}

/// A server on which peers in user space hang. Inside, the server is host 1 and peer `n` (from 0) host `10 + n`.
pub struct Hub {
    /// The driver's side.
    pub server: Server,
    /// The peers, in one namespace with a port for each.
    pub soft: Vec<Soft>,
    /// Sockets on the server's inner addresses, IPv4 and IPv6.
    pub inner: [UdpSocket; 2],
}

impl Hub {
    /// Server and peers with their keys.
    pub fn new(cipher: Cipher, outer: Outer, peers: u8) -> Outcome<Self> {
        let Pair { a, b } = Pair::new()?;
        let v6 = outer.is_v6();
        let (server, far) = (Server::within(a, v6)?, Arc::new(b));
        server
            .ns
            .ip("link set mp addrgenmode none\nlink set mp up\n\
             addr add 10.8.0.1/24 dev mp\naddr add fd00:8::1/64 dev mp nodad")?;
        let to = SocketAddr::new(Pair::outer(v6, 1), PORT);
        let mut soft = Vec::new();
        for n in 0..peers {
            let (id, key) = (u32::from(n) + 100, n + 1);
            let sock = far.udp(v6, 2000 + u16::from(n))?;
            sock.set_read_timeout(Some(LIMIT * patience()))?;
            let remote = SocketAddr::new(Pair::outer(v6, 2), sock.local_addr()?.port());
            server
                .peer_new(id, remote, Self::vpn(n))?
                .during("PEER_NEW")?;
            server
                .nl
                .key_new(server.ifindex, id, PRIMARY, &cipher.key(key, true))?;
            soft.push(Soft {
                ns: Arc::clone(&far),
                sock,
                to,
                cipher,
                key,
                peer_id: id,
                next_id: 1,
            });
        }
        let inner = [false, true].map(|v6| -> Outcome<_> {
            let address = SocketAddr::new(Tunnel::inner(v6, 1), INNER_PORT);
            let sock = server
                .ns
                .enter(|| Ok(UdpSocket::bind(address)?))
                .during("inner socket")?;
            sock.set_read_timeout(Some(LIMIT * patience()))?;
            Ok(sock)
        });
        let [v4, v6] = inner;
        Ok(Self {
            server,
            soft,
            inner: [v4?, v6?],
        })
    }

    /// Inner addresses of peer `n`.
    pub fn vpn(n: u8) -> VpnIps {
        let v6 = Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 10 + u16::from(n));
        (Some(Ipv4Addr::new(10, 8, 0, 10 + n)), Some(v6))
    }

    /// One inner address of peer `n`.
    pub fn inside(v6: bool, n: u8) -> IpAddr {
        Tunnel::inner(v6, 10 + n)
    }

    fn socket(&self, v6: bool) -> &UdpSocket {
        let [four, six] = &self.inner;
        if v6 { six } else { four }
    }

    fn peer(&mut self, n: u8) -> Outcome<&mut Soft> {
        let peer = self.soft.get_mut(usize::from(n));
        peer.ok_or_else(|| Failure::new(format!("there is no peer {n}")))
    }

    /// Sends a datagram from the server's inner address to any address.
    pub fn push(&self, to: IpAddr, text: &[u8]) -> Outcome {
        let sock = self.socket(to.is_ipv6());
        sock.send_to(text, SocketAddr::new(to, INNER_PORT))?;
        Ok(())
    }

    /// Sends a datagram from the server and demands that peer `n` is the one that gets it.
    pub fn reaches(&mut self, to: IpAddr, n: u8) -> Outcome {
        let text = format!("to {to}");
        self.push(to, text.as_bytes())?;
        self.receives(n, text.as_bytes())
    }

    /// Demands that peer `n` gets a packet that ends in this text, and that no other peer got one.
    pub fn receives(&mut self, n: u8, text: &[u8]) -> Outcome {
        let peer = self.peer(n)?;
        let (header, plain) = peer.recv(peer.key).during(format!("peer {n}"))?;
        crate::check_eq!(header.peer_id, peer.peer_id, "peer id of the packet");
        crate::check!(
            plain.ends_with(text),
            "peer {n} got {plain:02x?}, expected {text:02x?}"
        );
        for other in &self.soft {
            other.sock.set_nonblocking(true)?;
            let surplus = other.recv_raw().is_ok();
            other.sock.set_nonblocking(false)?;
            crate::check!(!surplus, "peer {} got a packet too many", other.peer_id);
        }
        Ok(())
    }

    /// Sends an inner datagram as peer `n`.
    pub fn send(&mut self, n: u8, src: IpAddr, dst: IpAddr, text: &[u8]) -> Outcome {
        let plain = wire::ip_udp(src, dst, INNER_PORT, INNER_PORT, text)?;
        self.peer(n)?.send(&plain).map(drop)
    }

    /// Demands that this text comes next out of the server's inner socket.
    pub fn expect(&self, v6: bool, text: &[u8]) -> Outcome {
        let mut buffer = [0; 2048];
        let n = self
            .socket(v6)
            .recv(&mut buffer)
            .during("nothing came out of the tunnel")?;
        let got = buffer.get(..n).unwrap_or_default();
        crate::check_eq!(got, text, "text that came out of the tunnel");
        Ok(())
    }

    /// Sends a good packet as peer `n` and waits until it is through: what was sent before it is dealt with by then.
    pub fn fence(&mut self, n: u8) -> Outcome {
        let text = format!("fence {}", self.peer(n)?.next_id);
        let (src, dst) = (Self::inside(false, n), Tunnel::inner(false, 1));
        self.send(n, src, dst, text.as_bytes())?;
        self.expect(false, text.as_bytes())
    }
}
