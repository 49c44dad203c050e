// SPDX-License-Identifier: GPL-2.0-only
//! Packets that must not get through: each kind is sent by a peer that knows the keys, and accounted for exactly.

use std::net::UdpSocket;

use crate::lab::{Cipher, DropReasons, Module, Outer, Soft, SoftTunnel};
use crate::nl::ovpn::{Stats, peer};
use crate::tap::{Case, During, Outcome};
use crate::wire::{DATA_V1, DATA_V2, Header, KEEPALIVE, OVERHEAD, PEER_ID_UNDEF};
use crate::{Ctx, check, check_eq};

/// Where a packet must end. Drops name the counter that a driver with counters by reason must use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Dropped before a peer is found: in the device's drops only.
    NoPeer(&'static str),
    /// Dropped after a peer is found: in the device's drops and in the peer's link counters.
    Refused(&'static str),
    /// Consumed by the driver, and no drop.
    Consumed,
    /// Through the tunnel.
    Delivered,
}

const SHORT: Fate = Fate::NoPeer("rx_short");
const OLD_OPCODE: Fate = Fate::NoPeer("rx_data_v1");
const UNKNOWN: Fate = Fate::NoPeer("rx_unknown_peer");
const RUNT: Fate = Fate::Refused("rx_runt");
const NO_KEY: Fate = Fate::Refused("rx_no_key");
const FORGED: Fate = Fate::Refused("rx_auth_failed");
const REPLAYED: Fate = Fate::Refused("rx_replay");
const NOT_IP: Fate = Fate::Refused("rx_bad_protocol");

/// A packet, where it comes from, where it must end.
struct Row {
    name: String,
    packet: Vec<u8>,
    /// Sent from another port than the peer's.
    stranger: bool,
    fate: Fate,
}

fn row(name: impl Into<String>, packet: Vec<u8>, fate: Fate) -> Row {
    Row {
        name: name.into(),
        packet,
        stranger: false,
        fate,
    }
}

/// The table's packets are made first and sent later in this order, so their ids rise.
fn rows(soft: &mut Soft) -> Outcome<Vec<Row>> {
    use Fate::{Consumed, Delivered};
    let plain = Soft::datagram(b"hostile");
    let mut rows = Vec::new();
    let good = |soft: &mut Soft| {
        let header = soft.header();
        soft.seal(header, &plain)
    };
    let spoiled = |soft: &mut Soft, spoil: &dyn Fn(&mut Vec<u8>)| -> Outcome<Vec<u8>> {
        let mut packet = good(soft)?;
        spoil(&mut packet);
        Ok(packet)
    };
    for len in 0..4 {
        rows.push(row(format!("{len} bytes"), vec![DATA_V2 << 3; len], SHORT));
    }
    for len in [4, 5, 7, 8, 9, 12, 20, 23] {
        rows.push(row(
            format!("{len} bytes of a data packet"),
            spoiled(soft, &|p| p.truncate(len))?,
            RUNT,
        ));
    }
    let header = Header {
        opcode: DATA_V1,
        ..soft.header()
    };
    rows.push(row("DATA_V1", soft.seal(header, &plain)?, OLD_OPCODE));
    rows.push(row(
        "DATA_V1, 4 bytes",
        vec![DATA_V1 << 3, 0, 0, 0],
        OLD_OPCODE,
    ));
    // Packets of the next id, 2, wait: see `early`.
    for key_id in [0, 3, 7] {
        let header = Header {
            key_id,
            ..soft.header()
        };
        rows.push(row(
            format!("key id {key_id}, of no key"),
            soft.seal(header, &plain)?,
            NO_KEY,
        ));
    }
    for peer_id in [0, soft.peer_id + 1, 0xff_fffe] {
        let header = Header {
            peer_id,
            ..soft.header()
        };
        rows.push(row(
            format!("peer id {peer_id}, of no peer"),
            soft.seal(header, &plain)?,
            UNKNOWN,
        ));
    }
    for at in [4, 7, 8, 23, 24, OVERHEAD + plain.len() - 1] {
        let name = format!("bit flipped in byte {at}");
        let flip = |p: &mut Vec<u8>| p.iter_mut().skip(at).take(1).for_each(|b| *b ^= 0x80);
        rows.push(row(name, spoiled(soft, &flip)?, FORGED));
    }
    rows.push(row(
        "a byte short",
        spoiled(soft, &|p| p.truncate(p.len() - 1))?,
        FORGED,
    ));
    rows.push(row(
        "a byte too many",
        spoiled(soft, &|p| p.push(0))?,
        FORGED,
    ));
    let header = Header {
        packet_id: 0,
        ..soft.header()
    };
    rows.push(row("packet id 0", soft.seal(header, &plain)?, REPLAYED));
    let packet = good(soft)?;
    rows.push(row("a good packet", packet.clone(), Delivered));
    rows.push(row("the same again", packet.clone(), REPLAYED));
    // Refused by its id, before the cipher is asked.
    let mut broken = packet.clone();
    broken.iter_mut().skip(8).for_each(|b| *b ^= 1);
    rows.push(row("the same again, with a broken tag", broken, REPLAYED));
    rows.push(Row {
        stranger: true,
        ..row("the same again, from elsewhere", packet, REPLAYED)
    });
    let header = Header {
        peer_id: PEER_ID_UNDEF,
        ..soft.header()
    };
    let undefined = soft.seal(header, &plain)?;
    rows.push(Row {
        stranger: true,
        ..row("no peer id, from nowhere", undefined.clone(), UNKNOWN)
    });
    rows.push(row(
        "no peer id, from the peer's address",
        undefined,
        Delivered,
    ));
    let forged = spoiled(soft, &|p| p.iter_mut().skip(30).for_each(|b| *b ^= 1))?;
    rows.push(Row {
        stranger: true,
        ..row("broken tag, from elsewhere", forged, FORGED)
    });
    let mut authentic = |name: &str, plain: &[u8], fate| -> Outcome {
        let header = soft.header();
        rows.push(row(name, soft.seal(header, plain)?, fate));
        Ok(())
    };
    authentic("keepalive", &KEEPALIVE, Consumed)?;
    authentic(
        "keepalive, a byte short",
        KEEPALIVE.split_last().map_or(&[][..], |(_, k)| k),
        NOT_IP,
    )?;
    authentic(
        "keepalive, a byte too many",
        &[&KEEPALIVE[..], &[0]].concat(),
        NOT_IP,
    )?;
    authentic("empty inner packet", &[], NOT_IP)?;
    authentic("inner packet of one byte", &[0x45], NOT_IP)?;
    authentic(
        "inner IPv4 header cut",
        plain.get(..19).unwrap_or_default(),
        NOT_IP,
    )?;
    authentic("inner IPv6 header cut", &[0x60; 39], NOT_IP)?;
    for version in [0, 3, 5, 7, 15] {
        let mut odd = plain.clone();
        odd.splice(..1, [version << 4 | 5]);
        authentic(&format!("inner IP version {version}"), &odd, NOT_IP)?;
    }
    Ok(rows)
}

/// The peer's own drops by number of the reason; mainline has none.
fn at_peer(lab: &SoftTunnel) -> Outcome<Vec<(u16, u32)>> {
    lab.a.nl.peer_drops(lab.a.ifindex, lab.a.id)
}

/// A peer's drops by the names that the device's counters have, which are in the order of the numbers.
fn by_name(names: &[(String, u64)], drops: &[(u16, u32)]) -> Vec<(String, u32)> {
    let of = |number| drops.iter().find(|(n, _)| usize::from(*n) == number);
    let named = names.iter().enumerate();
    named
        .map(|(number, (name, _))| (name.clone(), of(number).map_or(0, |(_, n)| *n)))
        .collect()
}

fn table(cipher: Cipher, outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(cipher, outer)?;
    let v6 = outer.is_v6();
    let stranger: UdpSocket = lab.soft.ns.udp(v6, 1195)?;
    let remote = |lab: &SoftTunnel| -> Outcome<_> {
        let attrs = lab
            .a
            .nl
            .peer_get(lab.a.ifindex, lab.a.id)?
            .during("PEER_GET")?;
        Ok([peer::REMOTE_IPV4, peer::REMOTE_IPV6, peer::REMOTE_PORT]
            .map(|kind| attrs.get(kind).map(<[u8]>::to_vec)))
    };
    let at_first = remote(&lab)?;
    let extension = |lab: &SoftTunnel| -> Outcome<_> {
        let asked = lab.a.nl.peer_get_extended(lab.a.ifindex, lab.a.id)?;
        Ok((asked.get(peer::DROPS).is_some(), asked.u32(peer::LAST_SEEN)))
    };
    check_eq!(
        extension(&lab)?,
        (Module::ours(), None),
        "extension before the first packet"
    );
    let rows = rows(&mut lab.soft)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    check!(
        reasons.known() || !Module::ours(),
        "this driver must count drops by reason"
    );
    let mut wrong = Vec::new();
    for Row {
        name,
        packet,
        stranger: from_elsewhere,
        fate,
    } in &rows
    {
        let before = (lab.a.stats()?, lab.a.dev()?.rx_dropped);
        let reasons_before = reasons.read()?;
        let at_peer_before = at_peer(&lab)?;
        let sock = if *from_elsewhere {
            &stranger
        } else {
            &lab.soft.sock
        };
        sock.send_to(packet, lab.soft.to)?;
        if *fate == Fate::Delivered {
            lab.expect(b"hostile").during(name)?;
        }
        lab.fence().during(name)?;
        let after = (lab.a.stats()?, lab.a.dev()?.rx_dropped);
        let change = |count: fn(&Stats) -> u64| count(&after.0) - count(&before.0);
        // The fence is one good packet.
        let counted = (
            after.1 - before.1,
            change(|s| s.link_rx_packets) - 1,
            change(|s| s.vpn_rx_packets) - 1,
            change(|s| s.link_tx_packets),
        );
        let expected = match fate {
            Fate::NoPeer(_) => (1, 0, 0, 0),
            Fate::Refused(_) => (1, 1, 0, 0),
            Fate::Consumed => (0, 1, 0, 0),
            Fate::Delivered => (0, 1, 1, 0),
        };
        if counted != expected {
            wrong.push(format!(
                "{name}: (dropped, link_rx, vpn_rx, link_tx) {counted:?}, expected {expected:?}"
            ));
        }
        let reason = match fate {
            Fate::NoPeer(reason) | Fate::Refused(reason) => vec![((*reason).to_owned(), 1)],
            Fate::Consumed | Fate::Delivered => Vec::new(),
        };
        let counted = reasons.since(&reasons_before)?;
        if reasons.known() && counted != reason {
            wrong.push(format!(
                "{name}: counted as {counted:?}, expected {reason:?}"
            ));
        }
        // A packet lost before a peer is found counts for no peer.
        let mut peers_share = by_name(&reasons_before, &at_peer_before);
        if let Fate::Refused(reason) = fate {
            peers_share
                .iter_mut()
                .filter(|(n, _)| n == reason)
                .for_each(|(_, n)| *n += 1);
        }
        let now = by_name(&reasons_before, &at_peer(&lab)?);
        if Module::ours() && now != peers_share {
            wrong.push(format!(
                "{name}: the peer's drops are {now:?}, expected {peers_share:?}"
            ));
        }
        check_eq!(remote(&lab)?, at_first, "remote address after {name}");
    }
    let (_, seen) = extension(&lab)?;
    check_eq!(seen.is_some(), Module::ours(), "LAST_SEEN after packets");
    let plain = lab
        .a
        .nl
        .peer_get(lab.a.ifindex, lab.a.id)?
        .during("PEER_GET")?;
    let last = plain.kinds().last().copied();
    check_eq!(
        last,
        Some(peer::TX_ID),
        "last attribute for who does not know more"
    );
    crate::note!("{} rows", rows.len());
    check!(
        wrong.is_empty(),
        "{} rows\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// Packets that are not data belong to the process that owns the socket, byte for byte, and it can answer.
fn control_packets(outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::Aes256, outer)?;
    let before = (lab.a.stats()?, lab.a.dev()?);
    for opcode in (0..32u8).filter(|o| ![DATA_V1, DATA_V2].contains(o)) {
        for len in [4, 14, 1400] {
            let mut packet: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(7)).collect();
            packet.splice(..1, [opcode << 3 | 5]);
            lab.soft.send_raw(&packet)?;
            let sock = lab
                .a
                .sock
                .as_ref()
                .ok_or_else(|| crate::tap::Failure::new("no socket"))?;
            let mut buffer = [0; 2048];
            let (n, from) = sock
                .recv_from(&mut buffer)
                .during(format!("opcode {opcode}"))?;
            check_eq!(buffer.get(..n), Some(packet.as_slice()), "opcode {opcode}");
            check_eq!(
                from,
                lab.soft
                    .sock
                    .local_addr()
                    .map(|a| std::net::SocketAddr::new(lab.a.remote.ip(), a.port()))?,
                "source"
            );
            sock.send_to(&packet, from)?;
            check_eq!(
                lab.soft.recv_raw()?.0,
                packet,
                "answer with opcode {opcode}"
            );
        }
    }
    check_eq!((lab.a.stats()?, lab.a.dev()?), before, "counters");
    lab.fence()
}

/// Random bytes, half of them behind a good first word. Seeded, so that a failure can be had again.
fn noise(_: &Ctx) -> Outcome {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    lab.a
        .sock
        .as_ref()
        .map(|s| s.set_nonblocking(true))
        .transpose()?;
    let mut state = SEED;
    let mut random = || {
        // xorshift64 (G. Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let before = lab.a.stats()?;
    let mut fences = 0;
    for round in 0..4000u32 {
        let len = random() as usize % if round % 4 == 0 { 1400 } else { 80 };
        let mut packet: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        if round % 2 == 0 && len >= 4 {
            let [_, b, c, d] = lab.a.id.to_be_bytes();
            packet.splice(..4, [DATA_V2 << 3 | 1, b, c, d]);
        }
        lab.soft.send_raw(&packet)?;
        if round % 100 == 0 {
            lab.fence().during(format!("round {round}"))?;
            fences += 1;
            let mut buffer = [0; 2048];
            while lab
                .a
                .sock
                .as_ref()
                .is_some_and(|s| s.recv(&mut buffer).is_ok())
            {}
        }
    }
    lab.fence()?;
    check_eq!(
        lab.a.stats()?.vpn_rx_packets - before.vpn_rx_packets,
        fences + 1,
        "packets let through"
    );
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [(Cipher::Aes256, Outer::V4), (Cipher::ChaCha, Outer::V6)]
        .map(|(cipher, outer)| {
            Case::new(
                format!("hostile packets: {} over {outer:?}", cipher.name()),
                move |_| table(cipher, outer),
            )
        })
        .into();
    cases.extend(Outer::BOTH.map(|o| {
        Case::new(format!("control packets over {o:?}"), move |_| {
            control_packets(o)
        })
    }));
    cases.push(Case::new("hostile packets: noise", noise));
    cases
}
