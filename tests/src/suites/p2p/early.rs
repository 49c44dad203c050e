// SPDX-License-Identifier: GPL-2.0-only
//! Data packets that come before their key: those of the next key id wait for KEY_NEW, a few of them and not for long.

use std::time::Duration;

use crate::lab::{Cipher, DropReasons, Ns, Outer, Soft, SoftTunnel, StreamTunnel, wait_for};
use crate::nl::ovpn::SECONDARY;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

/// Packets of a peer that wait (`proto::early::PACKETS`).
const PACKETS: u32 = 64;
/// Longer than any packet waits.
const LATER: Duration = Duration::from_secs(10);

/// The driver's end with key 1, the other end with key 2 already.
struct Lab {
    tunnel: SoftTunnel,
    reasons: DropReasons,
    before: Vec<(String, u64)>,
    /// Packets that were sent and belong to the peer.
    sent: u64,
}

impl Lab {
    fn new(outer: Outer) -> Outcome<Self> {
        let mut tunnel = SoftTunnel::new(Cipher::ChaCha, outer)?;
        let reasons = DropReasons::open(&tunnel.a.ns, "tun")?;
        if !reasons.known() {
            return Err(Failure::Skipped("no packet waits for its key".into()));
        }
        tunnel.soft.key = 2;
        let before = reasons.read()?;
        Ok(Self {
            tunnel,
            reasons,
            before,
            sent: 0,
        })
    }

    /// Sends packets with these texts, and waits until the driver has all.
    fn send(&mut self, texts: impl Iterator<Item = Vec<u8>>) -> Outcome {
        for text in texts {
            self.tunnel.soft.send(&Soft::datagram(&text))?;
            self.sent += 1;
            // One by one: the backlog of a CPU has room for a thousand small ones only.
            self.arrived()?;
        }
        Ok(())
    }

    fn arrived(&self) -> Outcome {
        wait_for("the packets to arrive", LATER, || {
            Ok((self.tunnel.a.stats()?.link_rx_packets >= self.sent).then_some(()))
        })
    }

    /// Packets dropped for want of their key; there must be no other.
    fn dropped(&self) -> Outcome<u64> {
        let lost = self.reasons.since(&self.before)?;
        match lost.as_slice() {
            [] => Ok(0),
            [(name, n)] if name == "rx_no_key" => {
                let total = self.tunnel.a.dev()?.rx_dropped;
                check_eq!(total, *n, "rx_dropped");
                Ok(*n)
            }
            other => Err(Failure::new(format!("dropped: {other:?}"))),
        }
    }

    fn key(&self, n: u8) -> Outcome {
        let tunnel = &self.tunnel;
        tunnel.a.add_key(SECONDARY, tunnel.soft.cipher, n)
    }

    fn expect(&self, texts: impl Iterator<Item = Vec<u8>>) -> Outcome {
        for (n, text) in texts.enumerate() {
            let next = self.tunnel.expect(&text);
            next.during(format!("packet {n} that came before its key"))?;
        }
        Ok(())
    }
}

fn text(n: u32) -> Vec<u8> {
    format!("early {n}").into_bytes()
}

fn in_order(outer: Outer) -> Outcome {
    let mut lab = Lab::new(outer)?;
    lab.send((0..PACKETS).map(text))?;
    check_eq!(lab.dropped()?, 0, "packets dropped");
    check_eq!(lab.tunnel.a.stats()?.vpn_rx_packets, 0, "packets opened");
    lab.key(2)?;
    lab.expect((0..PACKETS).map(text))?;
    lab.tunnel.fence()?;
    check_eq!(lab.dropped()?, 0, "packets dropped");
    let stats = lab.tunnel.a.stats()?;
    check_eq!(
        (stats.link_rx_packets, stats.vpn_rx_packets),
        (lab.sent + 1, lab.sent + 1),
        "packets of link and tunnel"
    );
    Ok(())
}

fn over_tcp(_: &Ctx) -> Outcome {
    let mut lab = StreamTunnel::new(Cipher::ChaCha, Outer::Tcp4)?;
    lab.works()?;
    let (dropped, before) = (lab.a.dev()?.rx_dropped, lab.a.stats()?);
    lab.soft.key = 2;
    let texts: Vec<_> = (0..20).map(text).collect();
    for text in &texts {
        let packet = lab.soft.data(&Soft::datagram(text))?;
        lab.soft.write(&packet)?;
    }
    wait_for("the packets to arrive", LATER, || {
        let arrived = lab.a.stats()?.link_rx_packets - before.link_rx_packets;
        Ok((arrived == 20).then_some(()))
    })?;
    lab.a.add_key(SECONDARY, Cipher::ChaCha, 2)?;
    for text in &texts {
        lab.expect(text)?;
    }
    check_eq!(lab.a.dev()?.rx_dropped, dropped, "packets dropped");
    Ok(())
}

/// A peer without a key waits for its first, whichever id that has, and keeps the packets of others apart.
fn first_key(_: &Ctx) -> Outcome {
    let mut lab = Lab::new(Outer::V4)?;
    // In P2P mode a new peer takes the old one's place.
    lab.tunnel.a.add_peer()?;
    lab.tunnel.soft.key = 5;
    lab.send((0..3).map(text))?;
    lab.tunnel.soft.key = 6;
    lab.send((3..6).map(text))?;
    lab.key(5)?;
    lab.expect((0..3).map(text))?;
    lab.key(6)?;
    lab.expect((3..6).map(text))?;
    check_eq!(lab.dropped()?, 0, "packets dropped");
    Ok(())
}

fn refused(_: &Ctx) -> Outcome {
    let mut lab = Lab::new(Outer::V4)?;
    // Each of these is counted at once.
    for (n, key) in [0, 3, 7].into_iter().enumerate() {
        lab.tunnel.soft.key = key;
        lab.send([text(key.into())].into_iter())?;
        check_eq!(lab.dropped()?, n as u64 + 1, "packets of key id {key}");
    }
    lab.tunnel.soft.key = 2;
    let soft = &mut lab.tunnel.soft;
    let header = soft.header();
    let packet = soft.seal(header, &Soft::datagram(b"from elsewhere"))?;
    soft.ns.udp(false, 4444)?.send_to(&packet, soft.to)?;
    lab.sent += 1;
    lab.arrived()?;
    check_eq!(lab.dropped()?, 4, "packets with one from another address");
    lab.send((0..PACKETS + 6).map(text))?;
    check_eq!(lab.dropped()?, 10, "packets with six too many");
    lab.key(2)?;
    lab.expect((0..PACKETS).map(text))?;
    lab.tunnel.fence()?;
    check_eq!(lab.dropped()?, 10, "packets dropped");
    Ok(())
}

/// Large packets use up the interface's memory before the peer's number, and give it back.
fn memory(_: &Ctx) -> Outcome {
    let mut lab = Lab::new(Outer::V4)?;
    let big = |n: u32| vec![n as u8; 50_000];
    let mut fitted = Vec::new();
    for key in [2, 3] {
        let dropped = lab.dropped()?;
        lab.tunnel.soft.key = key;
        lab.tunnel.soft.next_id = 1;
        lab.send((0..30).map(big))?;
        let fit = 30 - (lab.dropped()? - dropped) as u32;
        lab.key(key)?;
        lab.tunnel
            .a
            .nl
            .key_swap(lab.tunnel.a.ifindex, lab.tunnel.a.id)?;
        // The socket inside has no room for so much, but the stack takes it.
        let opened = lab.tunnel.a.stats()?.vpn_rx_packets;
        fitted.push(fit);
        let all: u32 = fitted.iter().sum();
        check_eq!(opened, u64::from(all), "packets opened so far");
    }
    note!("{fitted:?} packets of 50,000 bytes fit");
    check!(
        matches!(fitted.as_slice(), [a @ 4..22, b] if a == b),
        "packets of 50,000 bytes that fit into 1 MiB: {fitted:?}"
    );
    Ok(())
}

fn too_old(_: &Ctx) -> Outcome {
    let mut lab = Lab::new(Outer::V4)?;
    lab.send((0..3).map(text))?;
    wait_for("the packets to be given up", LATER, || {
        Ok((lab.dropped()? == 3).then_some(()))
    })?;
    lab.key(2)?;
    // Nothing but this comes out of the tunnel.
    lab.tunnel.fence()?;
    check_eq!(lab.dropped()?, 3, "packets dropped");
    Ok(())
}

/// The peer and the interface that they wait at move, and go.
fn gone(_: &Ctx) -> Outcome {
    let mut lab = Lab::new(Outer::V4)?;
    lab.send((0..5).map(text))?;
    let a = &lab.tunnel.a;
    a.nl.peer_del(a.ifindex, a.id)?;
    check_eq!(lab.dropped()?, 5, "packets of the deleted peer");

    a.add_peer()?;
    lab.sent = 0;
    lab.send((0..5).map(text))?;
    let other = Ns::new()?;
    let a = &lab.tunnel.a;
    a.ns.ip(&format!("link set tun netns {}", other.path()))?;
    let reasons = DropReasons::open(&other, "tun")?;
    let before = reasons.read()?;
    a.add_key(SECONDARY, Cipher::ChaCha, 2)?;
    let lost = reasons.since(&before)?;
    // An interface that moved is down.
    check_eq!(
        lost,
        [("rx_refused".to_owned(), 5)],
        "packets after the move"
    );
    lab.tunnel.soft.key = 3;
    lab.send((0..5).map(text))?;
    other.ip("link del tun")
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Outer::BOTH
        .into_iter()
        .map(|outer| {
            Case::new(
                format!("before their key: packets wait and arrive in order, {outer:?}"),
                move |_| in_order(outer),
            )
        })
        .collect();
    cases.extend([
        Case::new("before their key: over TCP", over_tcp),
        Case::new("before their key: the first key of a peer", first_key),
        Case::new(
            "before their key: other ids, other addresses, too many",
            refused,
        ),
        Case::new(
            "before their key: the interface's memory is bounded",
            memory,
        ),
        Case::new("before their key: too old", too_old),
        Case::new("before their key: peer and interface move and go", gone),
    ]);
    cases
}
