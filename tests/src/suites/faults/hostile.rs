// SPDX-License-Identifier: GPL-2.0-only
//! A peer that knows its keys sends whatever comes to mind, as fast as it can, while another one works through the same
//! socket: that one loses nothing, and every packet is accounted for.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Random, figure, pinged_while, rounds};
use crate::lab::{
    Cipher, DropReasons, Echo, Flow, Hub, Module, Ns, Outer, Pair, Soft, Tunnel, burst,
    receive_buffer, wait_for,
};
use crate::nl::link::Links;
use crate::nl::ovpn::{Ovpn, PRIMARY, Stats};
use crate::tap::{During, Failure, Outcome};
use crate::wire::{self, DATA_V1, DATA_V2, Header, KEEPALIVE, OVERHEAD, PEER_ID_UNDEF};
use crate::{Ctx, check_eq, note};

const SEED: u64 = 0x5eed_0fb0;
/// Packets of the attack.
const PACKETS: usize = 30_000;
/// Packets handed to the kernel in one call.
const BURST: usize = 64;
/// Peer id, key number and last byte of the inner address of the peer that must not notice.
const GOOD: u8 = 60;
/// Datagrams that may wait at one CPU before it drops them: what is lost there the driver never sees.
const BACKLOG: &str = "200000";

/// Where a packet must end: delivered, consumed, read by userspace, or counted under this name.
type Fates = BTreeMap<&'static str, u64>;

const DELIVERED: &str = "delivered";
const CONSUMED: &str = "consumed";
const CONTROL: &str = "control";
/// A bit in the first byte of packet ids that no peer reaches here.
const NEVER_USED: u8 = 0x40;

/// A packet of the attack, and whether it comes from an address without a host.
struct Shot {
    packet: Vec<u8>,
    stranger: bool,
}

/// The good peer's end: a device in the namespace of the hostile one.
struct Good {
    nl: Ovpn,
    ifindex: u32,
    /// Keeps the transport open.
    _sock: UdpSocket,
}

impl Good {
    fn new(hub: &Hub, far: &Ns, cipher: Cipher) -> Outcome<Self> {
        let id = u32::from(GOOD);
        let sock = far.udp(false, 3000)?;
        let server = &hub.server;
        let remote = SocketAddr::new(Pair::outer(false, 2), 3000);
        let vpn = Some(std::net::Ipv4Addr::new(10, 8, 0, GOOD));
        server
            .peer_new(id, remote, (vpn, None))?
            .during("PEER_NEW")?;
        let key = |is_a| cipher.key(GOOD, is_a);
        server.nl.key_new(server.ifindex, id, PRIMARY, &key(true))?;
        Links::open(far)?
            .create("good", None)?
            .during("RTM_NEWLINK")?;
        let ifindex = far
            .ifindex("good")?
            .ok_or_else(|| Failure::new("the new link is not there"))?;
        let nl = Ovpn::open(far)?;
        let to = SocketAddr::new(Pair::outer(false, 1), 1194);
        nl.peer_new(ifindex, id, sock.as_raw_fd(), Some(to), None)?;
        nl.key_new(ifindex, id, PRIMARY, &key(false))?;
        far.ip(&format!(
            "link set good addrgenmode none\nlink set good up\naddr add 10.8.0.{GOOD}/24 dev good"
        ))?;
        Ok(Self {
            nl,
            ifindex,
            _sock: sock,
        })
    }

    fn stats(&self) -> Outcome<Stats> {
        self.nl.stats(self.ifindex, GOOD.into())
    }
}

/// The fate of bytes that no key vouches for, and the peer whose link counters count them.
fn fate_of(packet: &[u8], hostile: &Soft) -> (&'static str, Option<u32>) {
    let Some(&[first, b, c, d]) = packet.first_chunk::<4>() else {
        return ("rx_short", None);
    };
    match first >> 3 {
        DATA_V1 => return ("rx_data_v1", None),
        DATA_V2 => (),
        _ => return (CONTROL, None),
    }
    let id = u32::from_be_bytes([0, b, c, d]);
    let key = match id {
        PEER_ID_UNDEF => hostile.key,
        id if id == hostile.peer_id => hostile.key,
        id if id == u32::from(GOOD) => GOOD,
        _ => return ("rx_unknown_peer", None),
    };
    let peer = if id == u32::from(GOOD) {
        id
    } else {
        hostile.peer_id
    };
    let name = if first & 7 != key & 7 {
        "rx_no_key"
    } else if packet.len() < OVERHEAD {
        "rx_runt"
    } else {
        "rx_auth_failed"
    };
    (name, Some(peer))
}

/// The attack, what must become of it, and the packets that the good peer is blamed for.
struct Plan {
    shots: Vec<Shot>,
    fates: Fates,
    /// Packets that count as received from the hostile peer, and from the good one.
    from_hostile: u64,
    from_good: u64,
}

impl Plan {
    fn new(soft: &mut Soft) -> Outcome<Self> {
        let (random, packets) = (Random::new(SEED), rounds(PACKETS));
        let mut plan = Self {
            shots: Vec::new(),
            fates: Fates::new(),
            from_hostile: 0,
            from_good: 0,
        };
        // Packets that have been through.
        let mut seen: Vec<Vec<u8>> = Vec::new();
        while plan.shots.len() < packets {
            let text = random.bytes(1 + random.below(300));
            let from = |host| wire::ipv4_udp([10, 8, 0, host], [10, 8, 0, 1], 4000, 4000, &text);
            let good = from(10);
            match random.below(11) {
                0 => {
                    let len = random.below(200);
                    plan.raw(soft, random.bytes(len), random.one_in(2));
                }
                1 => {
                    let mut packet = Self::seal(soft, &good)?;
                    packet.truncate(random.below(OVERHEAD));
                    plan.raw(soft, packet, false);
                }
                2 => {
                    if let Some(packet) = random.pick(&seen) {
                        let stranger = random.one_in(4);
                        plan.authentic(packet.clone(), "rx_replay", stranger);
                    }
                }
                3 => {
                    let mut packet = Self::seal(soft, &good)?;
                    // The driver asks the window before the cipher: an id that has come already would be a replay,
                    // and whether it has depends on the order of arrival.
                    let (at, bit) = match random.below(packet.len()) {
                        4..8 => (4, NEVER_USED),
                        at => (at, 1 << random.below(8)),
                    };
                    packet.iter_mut().skip(at).take(1).for_each(|b| *b ^= bit);
                    plan.raw(soft, packet, random.one_in(4));
                }
                4 => {
                    let own = soft.header();
                    let header = Header {
                        peer_id: GOOD.into(),
                        key_id: GOOD & 7,
                        // Ahead of all ids of the good peer.
                        packet_id: own.packet_id | u32::from(NEVER_USED) << 24,
                        ..own
                    };
                    plan.raw(soft, soft.seal(header, &good)?, random.one_in(2));
                }
                5 => {
                    let mut group = Vec::new();
                    for _ in 0..16 {
                        group.push(Self::seal(soft, &good)?);
                    }
                    // Fisher and Yates' shuffle.
                    for n in (1..group.len()).rev() {
                        group.swap(n, random.below(n + 1));
                    }
                    for packet in group {
                        seen.push(packet.clone());
                        plan.authentic(packet, DELIVERED, false);
                    }
                }
                6 => plan.authentic(Self::seal(soft, &KEEPALIVE)?, CONSUMED, false),
                7 => {
                    let mut odd = text.clone();
                    odd.iter_mut().take(1).for_each(|b| *b &= 0x3f);
                    plan.authentic(Self::seal(soft, &odd)?, "rx_bad_protocol", false);
                }
                8 => plan.authentic(Self::seal(soft, &from(GOOD))?, "rx_reverse_path", false),
                _ => {
                    let mut packet = random.bytes(14 + random.below(400));
                    let opcode = [1, 2, 3, 4, 5, 7, 8, 10, 11, 31];
                    let opcode = *random.pick(&opcode).unwrap_or(&1);
                    packet
                        .iter_mut()
                        .take(1)
                        .for_each(|b| *b = *b & 7 | opcode << 3);
                    plan.raw(soft, packet, random.one_in(2));
                }
            }
        }
        Ok(plan)
    }

    fn seal(soft: &mut Soft, plain: &[u8]) -> Outcome<Vec<u8>> {
        let header = soft.header();
        soft.seal(header, plain)
    }

    fn raw(&mut self, soft: &Soft, packet: Vec<u8>, stranger: bool) {
        let (fate, peer) = fate_of(&packet, soft);
        *self.fates.entry(fate).or_default() += 1;
        self.from_hostile += u64::from(peer == Some(soft.peer_id));
        self.from_good += u64::from(peer == Some(GOOD.into()));
        self.shots.push(Shot { packet, stranger });
    }

    fn authentic(&mut self, packet: Vec<u8>, fate: &'static str, stranger: bool) {
        *self.fates.entry(fate).or_default() += 1;
        self.from_hostile += 1;
        self.shots.push(Shot { packet, stranger });
    }

    fn of(&self, fate: &str) -> u64 {
        self.fates.get(fate).copied().unwrap_or(0)
    }

    /// Drops by reason.
    fn drops(&self) -> Vec<(String, u64)> {
        let drops = self
            .fates
            .iter()
            .filter(|(name, _)| name.starts_with("rx_"));
        drops.map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }
}

fn attack(shots: &[Shot], known: &UdpSocket, stranger: &UdpSocket) -> Outcome<f64> {
    let start = Instant::now();
    for shots in shots.chunks(BURST) {
        for (sock, strange) in [(known, false), (stranger, true)] {
            let packets = shots.iter().filter(|s| s.stranger == strange);
            let packets: Vec<&[u8]> = packets.map(|s| s.packet.as_slice()).collect();
            burst::send(sock, &packets)?;
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Counts what arrives at a socket until told to stop.
fn drain(sock: &UdpSocket, stop: &AtomicBool, count: &AtomicU32) -> Outcome {
    let mut buffer = [0; 2048];
    sock.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !stop.load(Ordering::Relaxed) {
        if sock.recv(&mut buffer).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Datagrams that a UDP socket of the namespace lost because it was full (last column of /proc/net/udp).
fn overflowed(ns: &Ns, port: u16) -> Outcome<u64> {
    ns.enter(|| {
        let table = fs::read_to_string("/proc/thread-self/net/udp")?;
        let needle = format!(":{port:04X}");
        let lost = |line: &str| {
            let mut words = line.split_whitespace();
            let ours = words.nth(1)?.ends_with(&needle);
            ours.then(|| words.last()?.parse::<u64>().ok())?
        };
        Ok(table.lines().filter_map(lost).sum())
    })
}

pub fn udp(_: &Ctx) -> Outcome {
    let backlog = "/proc/sys/net/core/netdev_max_backlog";
    let usual = fs::read_to_string(backlog)?;
    fs::write(backlog, BACKLOG).during("netdev_max_backlog")?;
    let outcome = under_attack();
    fs::write(backlog, usual.trim())?;
    outcome
}

fn under_attack() -> Outcome {
    let cipher = Cipher::ChaCha;
    let mut hub = Hub::new(cipher, Outer::V4, 1)?;
    hub.fence(0)?;
    let mut soft = hub.soft.pop().ok_or_else(|| Failure::new("no peer"))?;
    let far = soft.ns.clone();
    let good = Good::new(&hub, &far, cipher)?;
    let inner = Tunnel::inner(false, 1);
    Echo::new(inner, 20).lossless(&far)?;

    let plan = Plan::new(&mut soft)?;
    let stranger = far.udp(false, 4444)?;
    for sock in [&soft.sock, &stranger] {
        sock.connect(soft.to)?;
    }
    let server = &hub.server;
    let [sink, _] = &hub.inner;
    let sock = server.sock.as_ref();
    let sock = sock.ok_or_else(|| Failure::new("no socket"))?;
    for sock in [sock, sink] {
        receive_buffer(sock.as_raw_fd(), 8 << 20)?;
    }
    let stats = |id: u32| server.nl.stats(server.ifindex, id);
    let reasons = DropReasons::open(&server.ns, "mp")?;
    let reasons_before = reasons.read()?;
    let dropped_before = server.ns.netdev("mp")?.rx_dropped;
    let before = (stats(soft.peer_id)?, stats(GOOD.into())?, good.stats()?);

    let (stop, control, arrived) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let flow = Flow {
        mbit: 5,
        ..Flow::tcp(inner, 3)
    };
    let (listener, client) = flow.start(&server.ns, &far)?;
    let attacked = || {
        std::thread::scope(|scope| -> Outcome<f64> {
            scope.spawn(|| drain(sock, &stop, &control));
            scope.spawn(|| drain(sink, &stop, &arrived));
            let seconds = attack(&plan.shots, &soft.sock, &stranger);
            let flowed = flow.result(client).during("iperf3 in the good tunnel");
            // All in: the packets that reached sockets have been read, or counted as too many.
            let quiet = || -> Outcome<u64> {
                let read = control.load(Ordering::Relaxed) + arrived.load(Ordering::Relaxed);
                Ok(u64::from(read) + overflowed(&server.ns, 1194)? + overflowed(&server.ns, 4000)?)
            };
            let expected = plan.of(CONTROL) + plan.of(DELIVERED);
            let all = wait_for("every packet to arrive", Duration::from_secs(10), || {
                Ok((quiet()? >= expected).then_some(()))
            });
            stop.store(true, Ordering::Relaxed);
            let rate = flowed?;
            note!(
                "iperf3 in the good tunnel meanwhile: {:.1} Mbit/s",
                rate.mbit
            );
            if all.is_err() {
                note!("{} of {expected} packets reached a socket", quiet()?);
            }
            seconds
        })
    };
    let (seconds, pinged) = pinged_while(inner, &far, attacked)?;
    drop(listener);
    let rate = plan.shots.len() as f64 / seconds?;
    figure(
        "hostile peer, UDP: packets",
        format!("{} ({rate:.0} a second, seed {SEED:#x})", plan.shots.len()),
    );
    figure(
        "hostile peer, UDP: pings of the good peer, answered",
        format!("{} of {}", pinged.received, pinged.sent),
    );
    check_eq!(pinged.received, pinged.sent, "pings of the good peer");

    // Both ends of the good tunnel agree on every packet, once the last has arrived.
    let change = |now: &Stats, then: &Stats| {
        (
            now.vpn_tx_packets - then.vpn_tx_packets,
            now.vpn_rx_packets - then.vpn_rx_packets,
            now.link_rx_packets - then.link_rx_packets,
        )
    };
    let agreed = wait_for("both ends to agree", Duration::from_secs(2), || {
        let (near, far) = (stats(GOOD.into())?, good.stats()?);
        let (near, far) = (change(&near, &before.1), change(&far, &before.2));
        let agree = near.0 == far.1 && far.0 == near.1 && near.2 == near.1 + plan.from_good;
        Ok(agree.then_some(near.1))
    });
    let agreed = agreed.during(format!(
        "server {:?}, client {:?}, blamed for {}",
        change(&stats(GOOD.into())?, &before.1),
        change(&good.stats()?, &before.2),
        plan.from_good
    ))?;
    figure(
        "hostile peer, UDP: good packets lost",
        format!("0 of {agreed}"),
    );

    let hostile = stats(soft.peer_id)?;
    check_eq!(
        (
            hostile.link_rx_packets - before.0.link_rx_packets,
            hostile.vpn_rx_packets - before.0.vpn_rx_packets,
        ),
        (plan.from_hostile, plan.of(DELIVERED)),
        "packets of the hostile peer: received, delivered"
    );
    let (read, lost) = (
        u64::from(control.load(Ordering::Relaxed)),
        overflowed(&server.ns, 1194)?,
    );
    check_eq!(
        read + lost,
        plan.of(CONTROL),
        "control packets, {lost} too many"
    );
    let dropped = server.ns.netdev("mp")?.rx_dropped - dropped_before;
    let expected: u64 = plan.drops().iter().map(|(_, n)| n).sum();
    check_eq!(dropped, expected, "packets dropped");
    if Module::ours() {
        let mut counted = reasons.since(&reasons_before)?;
        counted.sort();
        check_eq!(counted, plan.drops(), "packets dropped, by reason");
    }
    figure(
        "hostile peer, UDP: packets accounted for",
        format!("{} of {}", plan.shots.len(), plan.shots.len()),
    );
    Echo::new(inner, 20).lossless(&far)
}
