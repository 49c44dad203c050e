// SPDX-License-Identifier: GPL-2.0-only
//! Datagrams that the receiving link's GRO makes one of, on the way to the transport socket.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::set_int;
use crate::lab::{Cipher, Module, Outer, Pair, Sniffer, Soft, SoftTunnel, wait_for};
use crate::nl::ovpn::SECONDARY;
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::udp_is_right;
use crate::{check, check_eq};

const SOON: Duration = Duration::from_secs(5);
/// Bytes of text in each datagram, of which those sent by one call have one length.
const TEXT: usize = 700;

/// The soft end's link sends what one call made in one go, and the driver's link does GRO.
fn lab(outer: Outer) -> Outcome<SoftTunnel> {
    let lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    lab.a.ns.cmd("ethtool -K veth gro on").ok()?;
    lab.soft
        .ns
        .cmd("ethtool -K veth tx-udp-segmentation off tso off")
        .ok()?;
    Ok(lab)
}

/// Text number `n`.
fn text(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((n * 31 + at) % 251) as u8).collect()
}

/// Sends packets of one length, of which only the last may be shorter, back to back.
fn send(soft: &Soft, to: SocketAddr, packets: &[Vec<u8>]) -> Outcome {
    let size = packets.first().map_or(0, Vec::len);
    set_int(&soft.sock, libc::SOL_UDP, libc::UDP_SEGMENT, size as i32)?;
    let sent = soft.sock.send_to(&packets.concat(), to);
    set_int(&soft.sock, libc::SOL_UDP, libc::UDP_SEGMENT, 0)?;
    sent.during("many datagrams in one call")?;
    Ok(())
}

/// Sizes of the UDP payloads that the stack received from the driver's link, lists as one.
fn received(sniffer: &Sniffer, headers: usize) -> Outcome<Vec<usize>> {
    let mut packets = sniffer.packets()?;
    packets.retain(|(out, packet)| !*out && packet.len() > 600);
    Ok(packets.iter().map(|(_, p)| p.len() - headers).collect())
}

/// Sends texts by the keys given, and demands that they arrive in order.
fn data(lab: &mut SoftTunnel, keys: &[u8], last: usize) -> Outcome<usize> {
    let mut packets = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        lab.soft.key = *key;
        let len = if n + 1 == keys.len() { last } else { TEXT };
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(&text(n, len)))?);
    }
    send(&lab.soft, lab.soft.to, &packets)?;
    for n in 0..keys.len() {
        let len = if n + 1 == keys.len() { last } else { TEXT };
        if let Err(why) = lab.expect(&text(n, len)) {
            let stats = lab.a.stats()?;
            return Err(Failure::new(format!("datagram {n}: {why:?}; {stats:?}")));
        }
    }
    Ok(packets.first().map_or(0, Vec::len))
}

fn merged(outer: Outer) -> Outcome {
    let mut lab = lab(outer)?;
    let headers = if outer.is_v6() { 48 } else { 28 };
    lab.a.add_key(SECONDARY, Cipher::ChaCha, 2)?;
    let before = lab.a.stats()?;

    // One who watches the link shares the packets, so do it with and without.
    data(&mut lab, &[1; 20], TEXT).during("nobody watches")?;
    let sniffer = Sniffer::open(&lab.a.ns, "veth")?;
    let size = data(&mut lab, &[1; 20], 50).during("one key")?;
    if Module::ours() {
        let one = 19 * size + size - (TEXT - 50);
        check_eq!(received(&sniffer, headers)?, vec![one], "packets of GRO");
    }
    sniffer.packets()?;
    data(&mut lab, &[1, 1, 1, 2, 2, 2, 2], TEXT).during("two keys")?;
    if Module::ours() {
        check_eq!(
            received(&sniffer, headers)?,
            vec![3 * size, 4 * size],
            "packets of GRO: two keys"
        );
    }
    check_eq!(
        lab.a.stats()?.link_rx_packets - before.link_rx_packets,
        47,
        "datagrams that the peer sent"
    );
    Ok(())
}

/// A control packet between data packets: it goes to userspace alone and whole, they come in order.
fn control() -> Outcome {
    let mut lab = lab(Outer::V4)?;
    let mut packets = Vec::new();
    for n in 0..4 {
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(&text(n, TEXT)))?);
    }
    let mut message = text(9, packets[0].len());
    message[0] = 4 << 3;
    packets.insert(2, message.clone());
    send(&lab.soft, lab.soft.to, &packets)?;
    for n in 0..4 {
        lab.expect(&text(n, TEXT)).during(format!("datagram {n}"))?;
    }
    let mut buffer = [0; 4096];
    if let Some(sock) = &lab.a.sock {
        let got = sock.recv(&mut buffer).during("control packet")?;
        check!(
            buffer.get(..got) == Some(&message[..]),
            "the control packet"
        );
    }
    Ok(())
}

/// A host with a server forwards the packets of another's server on the same port: they leave as they came.
fn forwarded() -> Outcome {
    let mut lab = lab(Outer::V4)?;
    let away: IpAddr = [10, 77, 0, 1].into();
    lab.a.ns.enable_forwarding()?;
    lab.a
        .ns
        .cmd("ethtool -K veth tx-gso-list off tx-checksum-ip-generic off")
        .ok()?;
    for (ns, n) in [(&*lab.soft.ns, 1), (&lab.a.ns, 2)] {
        let next = Pair::outer(false, n);
        ns.ip(&format!("route add {away} via {next}"))?;
    }
    let sniffer = Sniffer::open(&lab.soft.ns, "veth")?;
    let seen = Sniffer::open(&lab.a.ns, "veth")?;

    let mut packets = Vec::new();
    for n in 0..12 {
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(&text(n, TEXT)))?);
    }
    send(
        &lab.soft,
        SocketAddr::new(away, lab.soft.to.port()),
        &packets,
    )?;
    let mut back = Vec::new();
    wait_for("the forwarded packets", SOON, || {
        let more = sniffer.packets()?.into_iter();
        back.extend(
            more.filter(|(out, p)| !*out && p.get(9) == Some(&17))
                .map(|(_, p)| p),
        );
        Ok((back.len() == packets.len()).then_some(()))
    })?;
    for (n, (packet, sent)) in back.iter().zip(&packets).enumerate() {
        check_eq!(packet.get(8), Some(&63), "time to live of packet {n}");
        check!(packet.ends_with(sent), "packet {n} is not the one sent");
        check!(udp_is_right(packet), "packet {n} is wrong on the wire");
    }
    check_eq!(received(&seen, 28)?.len(), 12, "packets, not merged");
    check_eq!(lab.a.stats()?.link_rx_packets, 0, "packets taken");
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Outer::BOTH
        .map(|outer| Case::new(format!("GRO over {outer:?}"), move |_| merged(outer)))
        .into();
    cases.push(Case::new("GRO: a control packet in between", |_| control()));
    cases.push(Case::new("GRO: packets for another host", |_| forwarded()));
    cases
}
