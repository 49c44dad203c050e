// SPDX-License-Identifier: GPL-2.0-only
//! Streams that lie about their lengths, stop half way, or carry what no peer would send, while a good stream works
//! through the same device.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::tcp::{Listener, StreamEnd, peer_new};
use super::{Random, figure, pinged_while, rounds};
use crate::lab::{Cipher, Echo, Module, Ns, Pair, Server, Tunnel, wait_for};
use crate::nl::ovpn::{Event, PRIMARY, Reason, Stats};
use crate::tap::{During, Failure, Outcome};
use crate::wire::{self, DATA_V1, DATA_V2, Header, KEEPALIVE};
use crate::{Ctx, check_eq};

const SEED: u64 = 0x7c9_5eed;
const STREAMS: usize = 120;
/// Peer id, key number and last byte of the inner address of the peer that must not notice.
const GOOD: u8 = 60;
const HOSTILE: u32 = 100;
const CIPHER: Cipher = Cipher::Aes256;

/// Behaviour of a hostile stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A length that no packet has.
    Length(u16),
    /// A packet of a kind that the driver cannot follow.
    OldOpcode,
    /// Half a packet and the end.
    HalfThenEnd,
    /// Half a packet and a reset.
    HalfThenReset,
    /// Bytes without any order.
    Noise,
    /// Good, forged and replayed data packets and control packets, cut anywhere.
    Mixed,
    /// Garbage that is there before the peer is.
    Early,
}

const KINDS: [Kind; 9] = [
    Kind::Length(0),
    Kind::Length(3),
    Kind::OldOpcode,
    Kind::HalfThenEnd,
    Kind::HalfThenReset,
    Kind::Noise,
    Kind::Mixed,
    Kind::Mixed,
    Kind::Early,
];

/// Puts the length in front.
fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes(), packet].concat()
}

/// Content of a mixed stream, and how many of its packets are data, delivered, for userspace.
fn mixed(random: &Random) -> Outcome<(Vec<u8>, [u64; 3])> {
    let dir = CIPHER.dir(1, false);
    let (mut stream, mut next_id, mut last) = (Vec::new(), 1, None);
    let [mut packets, mut delivered, mut control] = [0; 3];
    let mut seal = |plain: &[u8]| {
        let header = Header {
            opcode: DATA_V2,
            key_id: 1,
            peer_id: HOSTILE,
            packet_id: next_id,
        };
        next_id += 1;
        wire::seal(CIPHER, &dir, header, plain)
    };
    for _ in 0..200 {
        let text = random.bytes(random.below(1300));
        let plain = wire::ipv4_udp([10, 8, 0, 10], [10, 8, 0, 1], 4000, 4000, &text);
        let mut packet = seal(&plain)?;
        match random.below(6) {
            0 => {
                let at = 8 + random.below(packet.len() - 8);
                packet.iter_mut().skip(at).take(1).for_each(|b| *b ^= 4);
            }
            1 if last.is_some() => packet = last.clone().unwrap_or(packet),
            2 => packet.truncate(4 + random.below(20)),
            3 => packet = seal(&KEEPALIVE)?,
            4 => {
                packet = random.bytes(4 + random.below(600));
                packet.iter_mut().take(1).for_each(|b| *b = 4 << 3 | *b & 7);
                control += 1;
            }
            _ => {
                delivered += 1;
                last = Some(packet.clone());
            }
        }
        packets += 1;
        stream.extend(framed(&packet));
    }
    Ok((stream, [packets - control, delivered, control]))
}

/// Writes in pieces of any size. The other side may have given up in between.
fn pieces(sock: &mut TcpStream, bytes: &[u8], random: &Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((1 + random.below(3000)).min(rest.len()));
        if sock.write_all(piece).is_err() {
            return;
        }
        rest = more;
    }
}

fn reset(sock: TcpStream) -> Outcome {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the value is readable for its size during the call.
    let ret = unsafe {
        libc::setsockopt(
            sock.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    check_eq!(ret, 0, "SO_LINGER");
    Ok(())
}

struct Lab<'a> {
    server: &'a Server,
    listener: &'a Listener,
    far: &'a Ns,
    random: &'a Random,
}

impl Lab<'_> {
    fn stats(&self) -> Outcome<Stats> {
        self.server.nl.stats(self.server.ifindex, HOSTILE)
    }

    fn add(&self, sock: &TcpStream) -> Outcome {
        let (nl, ifindex) = (&self.server.nl, self.server.ifindex);
        peer_new(nl, ifindex, (HOSTILE, HOSTILE), sock, 10)
    }

    fn add_key(&self) -> Outcome {
        let (nl, ifindex) = (&self.server.nl, self.server.ifindex);
        nl.key_new(ifindex, HOSTILE, PRIMARY, &CIPHER.key(1, true))
    }

    /// One stream from its start to the end of its peer; says why that went.
    fn run(&self, kind: Kind) -> Outcome {
        let events = self.server.nl.listen(&self.server.ns)?;
        let (mut near, mut far) = self.listener.connect(self.far)?;
        if kind == Kind::Early {
            far.write_all(&[0, 1])?;
            far.write_all(&self.random.bytes(300))?;
        }
        self.add(&near)?;
        if kind != Kind::Early {
            self.add_key()?;
        }
        match kind {
            Kind::Length(n) => far.write_all(&framed(&vec![0; n.into()]))?,
            Kind::OldOpcode => far.write_all(&framed(&[DATA_V1 << 3; 40]))?,
            Kind::HalfThenEnd => {
                far.write_all(&[4, 0, 9])?;
                far.shutdown(Shutdown::Write)?;
            }
            Kind::HalfThenReset => {
                far.write_all(&[4, 0, 9, 9])?;
                reset(far.try_clone()?)?;
                drop(far);
                return self.closed_by_us(near, &events, kind);
            }
            Kind::Noise => {
                pieces(&mut far, &self.random.bytes(40_000), self.random);
                return self.closed_by_us(near, &events, kind);
            }
            Kind::Mixed => {
                self.mixed(&mut near, &mut far)?;
                return self.closed_by_us(near, &events, kind);
            }
            Kind::Early => (),
        }
        match kind {
            // Mainline's stops reading at a length below 2, and leaves the peer to userspace, which reads an error.
            Kind::Length(0) | Kind::Early if !Module::ours() => {
                near.set_read_timeout(Some(Duration::from_secs(20)))?;
                let read = near.read(&mut [0; 100]).map_err(|e| e.raw_os_error());
                check_eq!(read, Err(Some(libc::EINVAL)), "{kind:?}: read");
                self.closed_by_us(near, &events, kind)
            }
            Kind::HalfThenEnd => {
                near.set_read_timeout(Some(Duration::from_secs(20)))?;
                check_eq!(
                    near.read(&mut [0; 100])?,
                    0,
                    "bytes at the end of the stream"
                );
                self.closed_by_us(near, &events, kind)
            }
            _ => self.gone(&events, &[Reason::TransportError], kind),
        }
    }

    /// Userspace closes the socket, as it does when the stream ends.
    fn closed_by_us(
        &self,
        near: TcpStream,
        events: &crate::nl::ovpn::Events,
        kind: Kind,
    ) -> Outcome {
        drop(near);
        // Noise may have broken the stream before.
        let reasons = [Reason::TransportDisconnect, Reason::TransportError];
        let certain = matches!(kind, Kind::HalfThenEnd | Kind::Mixed);
        self.gone(events, if certain { &reasons[..1] } else { &reasons }, kind)
    }

    fn gone(&self, events: &crate::nl::ovpn::Events, reasons: &[Reason], kind: Kind) -> Outcome {
        match events.next(Duration::from_secs(10))? {
            Some(Event::PeerDel {
                id: HOSTILE,
                reason,
                ..
            }) if reasons.contains(&reason) => (),
            other => {
                return Err(Failure::new(format!(
                    "{kind:?}: {other:?} instead of the peer's end for one of {reasons:?}"
                )));
            }
        }
        let left = self.server.nl.peer_get(self.server.ifindex, HOSTILE)?;
        check_eq!(
            left.err().map(|r| r.errno),
            Some(libc::ENOENT),
            "{kind:?}: PEER_GET"
        );
        Ok(())
    }

    /// Every packet of the stream ends where it must.
    fn mixed(&self, near: &mut TcpStream, far: &mut TcpStream) -> Outcome {
        let (stream, [data, delivered, control]) = mixed(self.random)?;
        near.set_read_timeout(Some(Duration::from_secs(20)))?;
        std::thread::scope(|scope| -> Outcome {
            let mut reader = near.try_clone()?;
            let read = scope.spawn(move || {
                let mut buffer = [0; 2048];
                // Each read gives one packet with its length.
                (0..control)
                    .filter(|_| matches!(reader.read(&mut buffer), Ok(n) if n > 2
                        && buffer.first_chunk::<2>().is_some_and(|l| usize::from(u16::from_be_bytes(*l)) == n - 2)))
                    .count()
            });
            pieces(far, &stream, self.random);
            let read = read
                .join()
                .map_err(|_| Failure::new("the reader panicked"))?;
            check_eq!(read as u64, control, "whole control packets read");
            Ok(())
        })?;
        wait_for("the stream to be read", Duration::from_secs(10), || {
            let now = self.stats()?;
            Ok((now.link_rx_packets == data && now.vpn_rx_packets == delivered).then_some(()))
        })
        .during(format!(
            "{:?}, expected {data} received, {delivered} delivered",
            self.stats()?
        ))
    }
}

pub fn tcp(_: &Ctx) -> Outcome {
    let Pair { a, b } = Pair::new()?;
    let listener = Listener::new(&a, false)?;
    let (near, far) = listener.connect(&b)?;
    let server = Server::within(a, false)?;
    server
        .ns
        .ip("link set mp addrgenmode none\nlink set mp up\naddr add 10.8.0.1/24 dev mp")?;
    let id = u32::from(GOOD);
    peer_new(&server.nl, server.ifindex, (id, id), &near, GOOD)?;
    server
        .nl
        .key_new(server.ifindex, id, PRIMARY, &CIPHER.key(GOOD, true))?;
    // Whatever reaches it has been delivered.
    let _sink = server
        .ns
        .enter(|| Ok(std::net::UdpSocket::bind("10.8.0.1:4000")?))?;
    let good = StreamEnd::new(&b, GOOD, far, CIPHER, GOOD)?;
    let inner = Tunnel::inner(false, 1);
    Echo::new(inner, 20).lossless(&b)?;
    let before = good.nl.stats(good.ifindex, id)?;

    let random = Random::new(SEED);
    let lab = Lab {
        server: &server,
        listener: &listener,
        far: &b,
        random: &random,
    };
    let streams = rounds(STREAMS);
    let (outcome, pinged) = pinged_while(inner, &b, || {
        let mut kinds = (0..streams).zip(KINDS.iter().cycle());
        kinds.try_for_each(|(n, kind)| lab.run(*kind).during(format!("stream {n}, {kind:?}")))
    })?;
    figure(
        "hostile peers, TCP: pings of the good peer, answered",
        format!("{} of {}", pinged.received, pinged.sent),
    );
    outcome?;
    figure(
        "hostile peers, TCP: streams",
        format!("{streams} (seed {SEED:#x})"),
    );
    check_eq!(pinged.received, pinged.sent, "pings of the good peer");
    wait_for("both ends to agree", Duration::from_secs(5), || {
        let (near, far) = (
            server.nl.stats(server.ifindex, id)?,
            good.nl.stats(good.ifindex, id)?,
        );
        let sent = far.vpn_tx_packets - before.vpn_tx_packets;
        crate::check!(
            sent >= pinged.sent.into(),
            "the good peer sent {sent} packets only"
        );
        Ok(
            (near.vpn_rx_packets == far.vpn_tx_packets
                && far.vpn_rx_packets == near.vpn_tx_packets)
                .then_some(()),
        )
    })?;
    drop(good.sock);
    Ok(())
}
