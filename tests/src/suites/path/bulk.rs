// SPDX-License-Identifier: GPL-2.0-only
//! Packets that leave as one and must be what they were when they arrive; what inner headers are believed.

use std::time::Duration;

use super::set_int;
use crate::lab::{Cipher, DropReasons, Module, Outer, Sniffer, Soft, SoftTunnel, wait_for};
use crate::tap::{Case, During, Outcome};
use crate::wire::{self, udp_is_right};
use crate::{check, check_eq};

const SOON: Duration = Duration::from_secs(5);
/// Bytes of the inner datagrams but the last, which is shorter.
const PIECE: usize = 1000;
const LAST: usize = 333;
const PIECES: usize = 11;

/// Has the driver's end send one super-packet, and demands every datagram of it in order at the soft end.
fn through(lab: &SoftTunnel) -> Outcome {
    let text: Vec<u8> = (0..(PIECES - 1) * PIECE + LAST)
        .map(|n| (n % 251) as u8)
        .collect();
    set_int(&lab.inner, libc::SOL_UDP, libc::UDP_SEGMENT, PIECE as i32)?;
    let sent = lab.push(&text);
    set_int(&lab.inner, libc::SOL_UDP, libc::UDP_SEGMENT, 0)?;
    sent?;
    for piece in text.chunks(PIECE) {
        let (_, inner) = lab.soft.recv(1)?;
        check!(udp_is_right(&inner), "inner packet has wrong checksums");
        check!(inner.ends_with(piece), "datagrams are not what was sent");
        check_eq!(inner.len(), 28 + piece.len(), "length of an inner packet");
    }
    Ok(())
}

/// Outer packets with data that left by the link.
fn left(sniffer: &Sniffer) -> Outcome<Vec<Vec<u8>>> {
    let mut packets = sniffer.packets()?;
    packets.retain(|(out, packet)| *out && packet.len() > 300);
    Ok(packets.into_iter().map(|(_, packet)| packet).collect())
}

fn bulk(outer: Outer) -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    let headers = if outer.is_v6() { 48 } else { 28 };
    let sniffer = Sniffer::open(&lab.a.ns, "veth")?;
    let before = (lab.a.stats()?, lab.a.dev()?);

    through(&lab).during("a link that takes many as one")?;
    let packets = left(&sniffer)?;
    if Module::ours() {
        check_eq!(packets.len(), 1, "packets on a link that takes many as one");
        lab.a
            .ns
            .cmd("ethtool --set-priv-flags tun udp-gso off")
            .ok()?;
        through(&lab).during("switched off")?;
        check_eq!(left(&sniffer)?.len(), PIECES, "packets with udp-gso off");
        lab.a
            .ns
            .cmd("ethtool --set-priv-flags tun udp-gso on")
            .ok()?;
    }
    for link in [
        "ip link set veth gso_max_segs 1",
        "ethtool -K veth tx-udp-segmentation off",
        "ethtool -K veth tx-gso-list off tx-checksum-ip-generic off",
    ] {
        lab.a.ns.cmd(link).ok()?;
        through(&lab).during(link)?;
        let packets = left(&sniffer)?;
        check_eq!(packets.len(), PIECES, "packets on the wire: {link}");
        let mut id = None;
        for (n, packet) in packets.iter().enumerate() {
            let inner = if n == PIECES - 1 { LAST } else { PIECE } + 28;
            check_eq!(
                packet.len(),
                inner + 24 + headers,
                "length of packet {n}: {link}"
            );
            check!(
                udp_is_right(packet),
                "packet {n} is wrong on the wire: {link}"
            );
            if let (false, Some(now)) = (outer.is_v6(), packet.get(4..6)) {
                let now = u16::from_be_bytes([now[0], now[1]]);
                check!(
                    id.is_none_or(|id: u16| id.wrapping_add(1) == now),
                    "id of packet {n}"
                );
                id = Some(now);
            }
        }
    }
    let after = (lab.a.stats()?, lab.a.dev()?);
    let rounds = if Module::ours() { 5 } else { 4 };
    check_eq!(
        (
            after.0.link_tx_packets - before.0.link_tx_packets,
            after.0.vpn_tx_packets - before.0.vpn_tx_packets,
            after.1.tx_packets - before.1.tx_packets,
            after.1.tx_bytes - before.1.tx_bytes,
        ),
        (
            rounds * PIECES as u64,
            rounds * PIECES as u64,
            rounds * PIECES as u64,
            rounds * ((PIECES - 1) * PIECE + LAST + 28 * PIECES) as u64,
        ),
        "counters: link, inside, device's packets and bytes"
    );
    Ok(())
}

/// A path with less room than the packets need: they leave one by one, as fragments.
fn narrow() -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    lab.a.ns.ip("link set veth mtu 800")?;
    through(&lab)?;
    if Module::ours() {
        check!(
            lab.a.ns.fragmented()? >= PIECES as u64 - 1,
            "nothing was fragmented"
        );
    }
    Ok(())
}

/// A peer that received a wrong packet from elsewhere fails the case, too.
fn inner_checksum() -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let mut spoiled = Soft::datagram(b"spoiled");
    if let Some(last) = spoiled.last_mut() {
        *last ^= 1;
    }
    lab.soft.send(&spoiled)?;
    // The fence demands that its own text is the next that arrives.
    lab.fence()
}

/// A mark of congestion on the outer header gets to the inner one, or ends the packet (RFC 6040, figure 4).
fn congestion() -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    let sniffer = Sniffer::open(&lab.a.ns, "tun")?;
    let mark = |lab: &SoftTunnel, ecn| set_int(&lab.soft.sock, libc::IPPROTO_IP, libc::IP_TOS, ecn);
    let before = reasons.read()?;
    mark(&lab, 3)?;
    lab.soft.send(&Soft::datagram(b"cannot carry it"))?;
    mark(&lab, 0)?;
    lab.fence()?;
    if Module::ours() {
        check_eq!(
            reasons.since(&before)?,
            vec![("rx_ecn".to_owned(), 1)],
            "drops"
        );
    }
    sniffer.packets()?;
    mark(&lab, 3)?;
    lab.soft
        .send(&wire::with_tos(Soft::datagram(b"can carry it"), 2))?;
    lab.expect(b"can carry it")?;
    if Module::ours() {
        let tos = wait_for("the packet", SOON, || {
            Ok(sniffer
                .packets()?
                .first()
                .and_then(|(_, packet)| packet.get(1).copied()))
        })?;
        check_eq!(tos, 3, "TOS of the inner packet");
        let link = Sniffer::open(&lab.a.ns, "veth")?;
        set_int(&lab.inner, libc::IPPROTO_IP, libc::IP_TOS, 2)?;
        lab.push(b"out")?;
        lab.soft.recv(1)?;
        let outer = link.packets()?;
        let tos: Vec<_> = outer
            .iter()
            .filter_map(|(out, p)| out.then_some(p.get(1)?))
            .collect();
        check_eq!(tos, vec![&2], "TOS of the outer packet");
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Outer::BOTH
        .map(|outer| Case::new(format!("many as one over {outer:?}"), move |_| bulk(outer)))
        .into();
    cases.push(Case::new("many as one: a narrow path", |_| narrow()));
    cases.push(Case::new("inner checksum", |_| inner_checksum()));
    cases.push(Case::new("congestion", |_| congestion()));
    cases
}
