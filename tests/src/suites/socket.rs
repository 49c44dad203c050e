// SPDX-License-Identifier: GPL-2.0-only
//! Transport sockets: whose packets come by them, what their process may still do with them, what they carry.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::lab::{
    Cipher, DropReasons, Hub, Ns, Outer, Pair, Server, StreamTunnel, Tunnel, TunnelSpec, framed,
    patience, poll, tcp_pair, wait_for,
};
use crate::nl::ovpn::{Event, PRIMARY, Reason, cmd, peer, top};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::{self, DATA_V2, Header};
use crate::{Ctx, check, check_eq};

const SOON: Duration = Duration::from_secs(5);

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> std::io::Result<()> {
    // SAFETY: the value is as long as is said, and outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    match ret {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A server with peer 100 on UDP, and its packets made here.
struct Forger {
    hub: Hub,
    reasons: DropReasons,
}

impl Forger {
    fn new() -> Outcome<Self> {
        let hub = Hub::new(Cipher::ChaCha, Outer::V4, 1)?;
        let reasons = DropReasons::open(&hub.server.ns, "mp")?;
        Ok(Self { hub, reasons })
    }

    /// Sends an authentic packet of a peer to a port of the server, by a socket of its own.
    fn send(&self, id: u32, key: u8, packet_id: u32, src: [u8; 4], port: u16) -> Outcome {
        let soft = self
            .hub
            .soft
            .first()
            .ok_or_else(|| Failure::new("no peer"))?;
        let plain = wire::ipv4_udp(src, [10, 8, 0, 1], 4000, 4000, b"strange");
        let header = Header {
            opcode: DATA_V2,
            key_id: key & 7,
            peer_id: id,
            packet_id,
        };
        let packet = wire::seal(
            Cipher::ChaCha,
            &Cipher::ChaCha.dir(key, false),
            header,
            &plain,
        )?;
        let sock = soft.ns.udp(false, 0)?;
        sock.send_to(&packet, SocketAddr::new(Pair::outer(false, 1), port))?;
        Ok(())
    }

    /// Demands that such a packet is refused as one of an unknown peer, and moves no peer.
    fn refused(&mut self, id: u32, send: impl FnOnce(&Self) -> Outcome) -> Outcome {
        let server = &self.hub.server;
        let events = server.nl.listen(&server.ns)?;
        let place = || -> Outcome<_> {
            let attrs = server.nl.peer_get(server.ifindex, id)??;
            Ok((
                crate::nl::ovpn::remote_of(&attrs),
                server.nl.stats(server.ifindex, id)?,
            ))
        };
        let (before, drops) = (place()?, self.reasons.read()?);
        send(self)?;
        wait_for("the packet to be refused", SOON, || {
            let lost = self.reasons.since(&drops)?;
            Ok((!lost.is_empty()).then_some(lost))
        })
        .and_then(|lost| {
            check_eq!(lost, [("rx_unknown_peer".to_owned(), 1)], "drops");
            Ok(())
        })?;
        // Longer than the pause between two notifications.
        let told = events.next(Duration::from_millis(200))?;
        check_eq!(told, None, "notification");
        check_eq!(place()?, before, "where the peer is, and its counters");
        Ok(())
    }
}

/// A peer on TCP is not moved by an authentic packet that comes by the device's UDP socket, nor does it get through.
fn tcp_peer_by_udp(_: &Ctx) -> Outcome {
    let mut lab = Forger::new()?;
    let server = &lab.hub.server;
    let far: &Ns = &lab
        .hub
        .soft
        .first()
        .ok_or_else(|| Failure::new("no peer"))?
        .ns;
    let (near, _far) = tcp_pair(&server.ns, far, false)?;
    let mut msg = server.nl.msg(cmd::PEER_NEW, server.ifindex);
    msg.nest(top::PEER, |m| {
        m.u32(peer::ID, 7)
            .u32(peer::SOCKET, near.as_raw_fd() as u32)
            .put(peer::VPN_IPV4, &[10, 8, 0, 70]);
    });
    server.nl.request(&msg)??;
    let key = Cipher::ChaCha.key(7, true);
    server.nl.key_new(server.ifindex, 7, PRIMARY, &key)?;
    lab.refused(7, |lab| lab.send(7, 7, 1, [10, 8, 0, 70], 1194))
}

/// A peer on one UDP socket of a device is not taken for one on another socket, of another port: answers would come from
/// where the packet was not sent to.
fn another_port(_: &Ctx) -> Outcome {
    let mut lab = Forger::new()?;
    let server = &mut lab.hub.server;
    let second = server.ns.udp(false, 1195)?;
    let first = server.sock.replace(second);
    let remote = SocketAddr::new(Pair::outer(false, 2), 2500);
    server.peer_new(8, remote, (Some([10, 8, 0, 80].into()), None))??;
    let key = Cipher::ChaCha.key(7, true);
    server.nl.key_new(server.ifindex, 8, PRIMARY, &key)?;
    let _second = std::mem::replace(&mut server.sock, first);
    lab.refused(8, |lab| lab.send(8, 7, 1, [10, 8, 0, 80], 1194))?;
    // Through its own it is heard, and moves.
    let server = &lab.hub.server;
    let events = server.nl.listen(&server.ns)?;
    lab.send(8, 7, 2, [10, 8, 0, 80], 1195)?;
    lab.hub.expect(false, b"strange")?;
    let told = events.next(SOON)?;
    check!(
        matches!(told, Some(Event::Float { id: 8, .. })),
        "notification {told:?}"
    );
    Ok(())
}

/// Sockets that share a port (SO_REUSEPORT): the kernel chooses by the source, so a peer that moves comes by another one.
fn shared_port(_: &Ctx) -> Outcome {
    let Pair { a, b } = Pair::new()?;
    let mut server = Server::within(a, false)?;
    server.sock = None;
    let socket = |server: &Server| -> Outcome<UdpSocket> {
        server.ns.enter(|| {
            // SAFETY: plain numbers; the descriptor is checked before it is owned.
            let fd =
                unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
            check!(fd >= 0, "socket");
            // SAFETY: a fresh descriptor that nothing else owns.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            set_option(
                &fd,
                libc::SOL_SOCKET,
                libc::SO_REUSEPORT,
                &1i32.to_ne_bytes(),
            )?;
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 1194u16.to_be(),
                sin_addr: libc::in_addr { s_addr: 0 },
                sin_zero: [0; 8],
            };
            // SAFETY: an address of the length given, which outlives the call.
            let ret = unsafe {
                libc::bind(
                    fd.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of_val(&address) as libc::socklen_t,
                )
            };
            check_eq!(ret, 0, "bind");
            Ok(fd.into())
        })
    };
    let sockets = [socket(&server)?, socket(&server)?];
    server
        .ns
        .ip("link set mp up\naddr add 10.8.0.1/24 dev mp")?;
    let inner = server
        .ns
        .enter(|| Ok(UdpSocket::bind((Tunnel::inner(false, 1), 4000))?))?;
    inner.set_read_timeout(Some(SOON * patience()))?;
    for (id, sock) in (1u32..).zip(&sockets) {
        server.sock = Some(sock.try_clone()?);
        let remote = SocketAddr::new(Pair::outer(false, 2), 2000 + id as u16);
        server.peer_new(id, remote, (Some([10, 8, 0, id as u8 + 10].into()), None))??;
        let key = Cipher::ChaCha.key(id as u8, true);
        server.nl.key_new(server.ifindex, id, PRIMARY, &key)?;
    }
    for packet_id in 1..=32 {
        for id in [1u8, 2] {
            let header = Header {
                opcode: DATA_V2,
                key_id: id,
                peer_id: id.into(),
                packet_id,
            };
            let text = [id, packet_id as u8];
            let plain = wire::ipv4_udp([10, 8, 0, 10 + id], [10, 8, 0, 1], 4000, 4000, &text);
            let dir = Cipher::ChaCha.dir(id, false);
            let packet = wire::seal(Cipher::ChaCha, &dir, header, &plain)?;
            b.udp(false, 0)?
                .send_to(&packet, SocketAddr::new(Pair::outer(false, 1), 1194))?;
            let mut buffer = [0; 16];
            let n = inner
                .recv(&mut buffer)
                .during(format!("packet {packet_id} of {id}"))?;
            check_eq!(buffer.get(..n), Some(&text[..]), "packet");
        }
    }
    Ok(())
}

/// Inner packets that a stream's 16 bits of length cannot tell, whole and as segments of a super-packet: refused, and
/// the tunnel lives on. The largest that can be told gets through.
fn too_big(outer: Outer) -> Outcome {
    const MOST: u16 = 0xffff - 24;
    let tunnel = Tunnel::new(TunnelSpec {
        outer,
        ..TunnelSpec::default()
    })?;
    tunnel.works(3)?;
    let reasons = DropReasons::open(&tunnel.a.ns, "tun")?;
    // Bytes of the TCP segments that the packet of 65535 bytes is to be cut into, and whether they may pass.
    let rows = [
        (65_495, false),
        (MOST - 40 + 1, false),
        (MOST - 40, outer.is_tcp()),
    ];
    for (payload, passes) in rows {
        let before = reasons.read()?;
        let received = tunnel.b.stats()?.vpn_rx_packets;
        inject_large(&tunnel.a.ns, "tun", [10, 8, 0, 2], payload).during(payload)?;
        if passes {
            wait_for("both segments", SOON, || {
                Ok((tunnel.b.stats()?.vpn_rx_packets == received + 2).then_some(()))
            })
            .during(payload)?;
        }
        let expected = match passes {
            true => Vec::new(),
            false => vec![("tx_too_big".to_owned(), 1)],
        };
        check_eq!(
            reasons.since(&before)?,
            expected,
            "drops, segments of {payload}"
        );
        tunnel.works(3).during(payload)?;
    }
    check_eq!(tunnel.a.nl.peer_dump(tunnel.a.ifindex)?.len(), 1, "peers");
    Ok(())
}

/// A raw packet socket of a namespace.
fn packet_socket(ns: &Ns, protocol: u16) -> Outcome<OwnedFd> {
    ns.enter(|| {
        // SAFETY: plain numbers; the descriptor is checked before it is owned.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol.to_be()),
            )
        };
        check!(
            fd >= 0,
            "packet socket: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: a fresh descriptor that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    })
}

/// Sends bytes by a packet socket as a packet of this protocol; 0 names none.
fn send_packet(fd: &OwnedFd, ifindex: u32, protocol: u16, bytes: &[u8]) -> Outcome {
    // SAFETY: all-zero is a valid address, whose fields are set below.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = protocol.to_be();
    to.sll_ifindex = ifindex as i32;
    // SAFETY: buffer and address have the lengths given and outlive the call.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// Index of a device that must be there.
fn index_of(ns: &Ns, device: &str) -> Outcome<u32> {
    let index = ns.ifindex(device)?;
    index.ok_or_else(|| Failure::new(format!("no device {device}")))
}

/// Sends bytes as they are through a device.
pub fn inject_raw(ns: &Ns, device: &str, protocol: u16, bytes: &[u8]) -> Outcome {
    send_packet(
        &packet_socket(ns, protocol)?,
        index_of(ns, device)?,
        protocol,
        bytes,
    )
}

/// Sends an IPv4 TCP packet of 65535 bytes through a device, as a super-packet of segments with so much payload. A packet
/// socket may do that whatever the MTU (PACKET_VNET_HDR, include/uapi/linux/virtio_net.h).
pub fn inject_large(ns: &Ns, device: &str, to: [u8; 4], payload: u16) -> Outcome {
    const PACKET_VNET_HDR: i32 = 15;
    const NEEDS_CSUM: u8 = 1;
    const GSO_TCPV4: u8 = 1;
    const TCP: u8 = 6;
    // A datagram's headers, of which a TCP segment is made.
    let mut packet = wire::ipv4_udp([10, 8, 0, 1], to, 0, 0, &[0; 65_535 - 28]);
    packet.splice(9..12, [TCP, 0, 0]);
    let sum: u32 = packet
        .chunks_exact(2)
        .take(10)
        .map(|w| w.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet.splice(10..12, sum.to_be_bytes());
    packet.splice(20..40, [0; 20]);
    packet.splice(32..34, [5 << 4, 0x10]);
    let mut bytes = vec![NEEDS_CSUM, GSO_TCPV4];
    for field in [40, payload, 20, 16] {
        bytes.extend(u16::to_ne_bytes(field));
    }
    bytes.extend(packet);
    let protocol = libc::ETH_P_IP as u16;
    let fd = packet_socket(ns, protocol)?;
    set_option(&fd, libc::SOL_PACKET, PACKET_VNET_HDR, &1i32.to_ne_bytes())?;
    let room = (1i32 << 20).to_ne_bytes();
    set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &room)?;
    send_packet(&fd, index_of(ns, device)?, protocol, &bytes)
}

/// A raw packet socket that names no protocol: the interface reads it from the packet, as tun devices do.
fn packet_without_protocol(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let inner = tunnel
        .b
        .ns
        .enter(|| Ok(UdpSocket::bind((Tunnel::inner(false, 2), 4000))?))?;
    inner.set_read_timeout(Some(SOON))?;
    let packet = wire::ipv4_udp([10, 8, 0, 1], [10, 8, 0, 2], 4000, 4000, b"raw");
    inject_raw(&tunnel.a.ns, "tun", 0, &packet)?;
    let mut buffer = [0; 16];
    let n = inner
        .recv(&mut buffer)
        .during("a packet without a protocol")?;
    check_eq!(buffer.get(..n), Some(&b"raw"[..]), "packet");
    Ok(())
}

/// The process of a stream may wait for a time and ask for errors, but not put another protocol on top.
fn options(outer: Outer) -> Outcome {
    const TCP_ULP: i32 = 31;
    let mut lab = StreamTunnel::new(Cipher::Aes256, outer)?;
    lab.works()?;
    let user: &TcpStream = lab.user()?;
    user.set_read_timeout(Some(Duration::from_millis(50)))?;
    let start = Instant::now();
    let nothing = (&mut &*user).read(&mut [0; 10]);
    let nothing = nothing.err().map(|e| e.kind());
    check_eq!(nothing, Some(ErrorKind::WouldBlock), "read of nothing");
    let waited = start.elapsed();
    check!(waited >= Duration::from_millis(50), "it waited {waited:?}");
    // A control packet is no error: it waits for those who read, whatever is asked of the error queue.
    let packet = [&[4u8 << 3][..], b"control packet"].concat();
    lab.soft.write(&framed(&packet))?;
    let ready = poll(lab.user()?.as_fd(), libc::POLLIN, SOON)?;
    check_eq!(ready, libc::POLLIN, "poll");
    let mut buffer = [0u8; 10];
    // SAFETY: the buffer is as long as is said.
    let ret = unsafe {
        libc::recv(
            lab.user()?.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    let why = std::io::Error::last_os_error();
    check_eq!(
        (ret, why.kind()),
        (-1, ErrorKind::WouldBlock),
        "empty error queue"
    );
    let mut buffer = [0; 64];
    let mut user = lab.user()?;
    let n = user.read(&mut buffer)?;
    check_eq!(
        buffer.get(..n),
        Some(&framed(&packet)[..]),
        "control packet"
    );
    let refused = set_option(lab.user()?, libc::IPPROTO_TCP, TCP_ULP, b"tls");
    check_eq!(
        refused.err().and_then(|e| e.raw_os_error()),
        Some(libc::EBUSY),
        "TCP_ULP on a stream of ours"
    );
    set_option(
        lab.user()?,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
        &0i32.to_ne_bytes(),
    )?;
    lab.works()
}

/// Bytes that a process wrote before it deletes the peer still go out: they may say why.
fn last_words(outer: Outer) -> Outcome {
    for round in 0..20u8 {
        let mut lab = StreamTunnel::new(Cipher::Aes256, outer)?;
        lab.works()?;
        let words: Vec<Vec<u8>> = (0..10u8)
            .map(|n| [&[5u8 << 3, round, n][..], &[n; 500]].concat())
            .collect();
        for word in &words {
            lab.user()?.write_all(&framed(word))?;
        }
        lab.a.nl.peer_del(lab.a.ifindex, lab.a.id)?;
        for (n, word) in words.iter().enumerate() {
            let got = lab
                .soft
                .packet()
                .during(format!("round {round}, packet {n}"))?;
            check_eq!(got.as_ref(), Some(word), "control packet {n}");
        }
    }
    Ok(())
}

/// Packets that a stream's queue refuses have not been sent: neither link.tx nor the keepalive's clock counts it.
fn refused_by_the_queue(_: &Ctx) -> Outcome {
    let lab = StreamTunnel::new(Cipher::ChaCha, Outer::Tcp4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    // A sender with many sockets is not held back.
    let socks: Vec<UdpSocket> = (0..200)
        .map(|n| lab.a.ns.udp(false, 20_000 + n))
        .collect::<Outcome<_>>()?;
    let to = SocketAddr::new(Tunnel::inner(false, 2), 4000);
    let text = [7; 1300];
    wait_for("the queue to be full", Duration::from_secs(20), || {
        for sock in &socks {
            sock.set_nonblocking(true)?;
            // A full send buffer is what this is about.
            let _ = sock.send_to(&text, to);
        }
        let lost = reasons.read()?;
        Ok(lost
            .iter()
            .any(|(name, n)| name == "tx_queue_full" && *n > 0)
            .then_some(()))
    })?;
    drop(socks);
    let lost = |name: &str| -> Outcome<u64> {
        let all = reasons.read()?;
        Ok(all.iter().find(|(n, _)| n == name).map_or(0, |(_, n)| *n))
    };
    let stats = lab.a.stats()?;
    check_eq!(
        stats.link_tx_packets + lost("tx_queue_full")?,
        stats.vpn_tx_packets,
        "packets queued and refused"
    );
    let overhead = 24 * stats.link_tx_packets;
    let each = (stats.vpn_tx_bytes / stats.vpn_tx_packets) * stats.link_tx_packets;
    check_eq!(stats.link_tx_bytes, each + overhead, "bytes queued");
    Ok(())
}

/// The end of a peer is told with its counters after its last packet, under traffic both ways.
fn totals(outer: Outer) -> Outcome {
    for round in 0..10 {
        let tunnel = Tunnel::new(TunnelSpec {
            outer,
            ..TunnelSpec::default()
        })?;
        let end = &tunnel.a;
        let events = end.nl.listen(&end.ns)?;
        let floods: Vec<_> = [(&tunnel.a, 2), (&tunnel.b, 1)]
            .map(|(from, to)| {
                crate::lab::Ping::new(Tunnel::inner(false, to), 100_000)
                    .interval(0)
                    .spawn(&from.ns)
            })
            .into_iter()
            .collect::<Outcome<_>>()?;
        wait_for("traffic", SOON, || {
            Ok((end.stats()?.vpn_rx_packets > 300).then_some(()))
        })?;
        end.nl.peer_del(end.ifindex, end.id)?;
        let (event, nest) = events
            .next_with(SOON)?
            .ok_or_else(|| Failure::new("nothing was told"))?;
        let gone = Event::PeerDel {
            ifindex: end.ifindex,
            id: end.id,
            reason: Reason::Userspace,
        };
        check_eq!(event, gone, "notification");
        let told = crate::nl::ovpn::Stats::of(&nest)?;
        // Nothing comes any more, so these are the last.
        let dev = end.dev()?;
        check_eq!(
            (told.vpn_rx_packets, told.vpn_rx_bytes),
            (dev.rx_packets, dev.rx_bytes),
            "round {round}: received by the peer, and by the interface"
        );
        check!(
            told.link_rx_packets >= told.vpn_rx_packets && told.link_tx_packets > 0,
            "odd counters {told:?}"
        );
        drop(floods);
    }
    Ok(())
}

/// Packets that the stack does not take are in the interface's total as well.
fn refused_is_dropped(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    tunnel.works(3)?;
    let end = &tunnel.b;
    let reasons = DropReasons::open(&end.ns, "tun")?;
    end.ns.ip("link set tun down")?;
    let (before, dropped) = (reasons.read()?, end.dev()?.rx_dropped);
    let sock = tunnel.a.ns.udp(false, 0)?;
    for _ in 0..5 {
        sock.send_to(b"down", SocketAddr::new(Tunnel::inner(false, 2), 4000))?;
    }
    wait_for("five packets to be refused", SOON, || {
        let lost = reasons.since(&before)?;
        Ok((lost == [("rx_refused".to_owned(), 5)]).then_some(()))
    })?;
    check_eq!(end.dev()?.rx_dropped - dropped, 5, "rx_dropped");
    Ok(())
}

/// A case for each transport.
type Body = fn(Outer) -> Outcome;

/// Cases of the suite `tcp`, which are about streams or streams beside datagrams.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("a peer on TCP is not moved by UDP", tcp_peer_by_udp),
        Case::new(
            "a peer is not heard by a socket of another port",
            another_port,
        ),
        Case::new("peers on sockets that share a port", shared_port),
        Case::new("packet socket without a protocol", packet_without_protocol),
        Case::new(
            "link.tx without what the queue refused",
            refused_by_the_queue,
        ),
        Case::new("rx_dropped with what the stack refused", refused_is_dropped),
    ];
    let bodies: [(&str, &[Outer], Body); 4] = [
        (
            "inner packets over 16 bits of length",
            &[Outer::Tcp4, Outer::V4, Outer::V6],
            too_big,
        ),
        ("socket options", &Outer::TCP, options),
        ("control packets before the end", &Outer::TCP, last_words),
        ("counters at the end", &[Outer::V4, Outer::Tcp4], totals),
    ];
    for (name, outers, body) in bodies {
        cases.extend(
            outers
                .iter()
                .map(|&outer| Case::new(format!("{name}, {outer:?}"), move |_| body(outer))),
        );
    }
    cases
}
