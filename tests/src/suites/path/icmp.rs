// SPDX-License-Identifier: GPL-2.0-only
//! Errors that senders inside the tunnel get: a packet is too big for the path, an address has no peer.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::{forbid_fragments, hear_errors, path_mtu};
use crate::lab::{
    Cipher, DropReasons, Hub, Module, Ns, Outer, Sniffer, SoftTunnel, Tunnel, patience, wait_for,
};
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

const SOON: Duration = Duration::from_secs(2);
/// Payload of a datagram that makes an inner packet of 1500 bytes.
fn full(v6: bool) -> Vec<u8> {
    vec![0x5a; 1500 - if v6 { 48 } else { 28 }]
}

/// A socket inside, connected to a host of the tunnel, that fragments nothing.
fn connected(ns: &Ns, to: SocketAddr, whole: bool) -> Outcome<UdpSocket> {
    let v6 = to.is_ipv6();
    let sock = ns.udp(v6, 0)?;
    sock.connect(to)?;
    sock.set_read_timeout(Some(SOON * patience()))?;
    if whole {
        forbid_fragments(&sock, v6)?;
    }
    Ok(sock)
}

/// A packet that has to be fragmented outside gets through, and its sender learns to send smaller ones.
fn too_big(outer: Outer) -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    lab.a.ns.ip("link set tun mtu 1500")?;
    let room = if outer.is_v6() { 1428 } else { 1448 };
    for v6 in [false, true] {
        let to = SocketAddr::new(Tunnel::inner(v6, 2), 9);
        let sock = connected(&lab.a.ns, to, true)?;
        check_eq!(path_mtu(&sock, v6)?, 1500, "path MTU before");
        sock.send(&full(v6))?;
        let (_, plain) = lab.soft.recv(1).during("fragmented packet")?;
        check_eq!(plain.len(), 1500, "length of the packet that came through");
        if !Module::ours() {
            check_eq!(path_mtu(&sock, v6)?, 1500, "path MTU by mainline");
            continue;
        }
        wait_for("the sender to be told", SOON, || {
            Ok((path_mtu(&sock, v6)? == room).then_some(()))
        })
        .during(format!("IPv6 {v6}: path MTU {}", path_mtu(&sock, v6)?))?;
        // A packet that fits causes no error.
        let fitting = full(v6).split_off(1500 - room as usize);
        wait_for("the socket to send again", SOON, || {
            Ok(sock.send(&fitting).is_ok().then_some(()))
        })?;
        check_eq!(
            lab.soft.recv(1)?.1.len(),
            room as usize,
            "length of the next"
        );
    }
    Ok(())
}

/// With a transport socket that forbids fragments (OpenVPN's --mtu-disc yes) the packet is dropped.
fn too_big_for_good(outer: Outer) -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    lab.a.ns.ip("link set tun mtu 1500")?;
    let transport = lab.a.sock.iter();
    transport
        .clone()
        .try_for_each(|s| forbid_fragments(s, outer.is_v6()))?;
    let (reasons, wire) = (
        DropReasons::open(&lab.a.ns, "tun")?,
        Sniffer::open(&lab.a.ns, "veth")?,
    );
    let before = reasons.read()?;
    for v6 in [false, true] {
        let to = SocketAddr::new(Tunnel::inner(v6, 2), 9);
        let sock = connected(&lab.a.ns, to, true)?;
        sock.send(&full(v6))?;
        if !Module::ours() {
            // Mainline does not look at the option.
            check_eq!(lab.soft.recv(1)?.1.len(), 1500, "length of the packet");
            continue;
        }
        wait_for("the sender to be told", SOON, || {
            Ok((path_mtu(&sock, v6)? < 1500).then_some(()))
        })?;
    }
    if !Module::ours() {
        return Ok(());
    }
    check_eq!(
        reasons.since(&before)?,
        [("tx_too_big".to_owned(), 2)],
        "drops"
    );
    let drops = lab.a.nl.peer_drops(lab.a.ifindex, lab.a.id)?;
    check_eq!(drops.len(), 1, "reasons of drops of the peer");
    // Small packets go, marked as not to be fragmented by others.
    wire.packets()?;
    lab.push(b"small")?;
    check!(lab.soft.recv(1)?.1.ends_with(b"small"), "not the small one");
    let marked = |(out, packet): &(bool, Vec<u8>)| {
        let start = |byte| packet.first().is_some_and(|b| b >> 4 == byte);
        // IPv4 with DF, or UDP next to the IPv6 header, where else a fragment header is.
        *out && match outer.is_v6() {
            false => start(4) && packet.get(6) == Some(&0x40),
            true => start(6) && packet.get(6) == Some(&17),
        }
    };
    check!(wire.packets()?.iter().any(marked), "no packet with DF");
    Ok(())
}

/// A packet to an address without a peer: its sender gets an error instead of silence.
fn nobody(_: &Ctx) -> Outcome {
    let hub = Hub::new(Cipher::Aes256, Outer::V4, 1)?;
    for v6 in [false, true] {
        let to = SocketAddr::new(Tunnel::inner(v6, 200), 9);
        let sock = connected(&hub.server.ns, to, false)?;
        hear_errors(&sock, v6)?;
        if !Module::ours() {
            sock.set_read_timeout(Some(Duration::from_millis(300)))?;
        }
        sock.send(b"anybody?")?;
        let error = sock.recv(&mut [0; 16]).map_err(|e| e.kind());
        let expected = if Module::ours() {
            ErrorKind::HostUnreachable
        } else {
            ErrorKind::WouldBlock
        };
        check_eq!(error, Err(expected), "IPv6 {v6}: what the sender is told");
    }
    Ok(())
}

/// Something that is no IP at all is counted for what it is.
fn no_ip(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    let (reasons, dropped) = (
        DropReasons::open(&lab.a.ns, "tun")?,
        lab.a.dev()?.tx_dropped,
    );
    let (before, tun) = (reasons.read()?, Sniffer::open(&lab.a.ns, "tun")?);
    // Local experimental ethertype 1 (IEEE 802), an IPv4 header in an IPv6 frame, half a header.
    let odd: [(u16, &[u8]); 3] = [
        (0x88b5, &[0; 60]),
        (0x86dd, &[0x45; 60]),
        (0x0800, &[0x45; 10]),
    ];
    for (ethertype, packet) in odd {
        tun.send(&lab.a.ns, "tun", ethertype, packet)?;
    }
    check_eq!(lab.a.dev()?.tx_dropped - dropped, 3, "packets dropped");
    if reasons.known() {
        let expected = [("tx_bad_protocol".to_owned(), 3)];
        check_eq!(reasons.since(&before)?, expected, "drops");
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for outer in Outer::BOTH {
        cases.push(Case::new(
            format!("ICMP: packet too big over {outer:?}"),
            move |_| too_big(outer),
        ));
        cases.push(Case::new(
            format!("ICMP: packet too big and no fragments over {outer:?}"),
            move |_| too_big_for_good(outer),
        ));
    }
    cases.push(Case::new("ICMP: nobody there", nobody));
    cases.push(Case::new("no IP", no_ip));
    cases
}
