// SPDX-License-Identifier: GPL-2.0-only
//! Datagrams that the receiving link's GRO makes one of, on the way to the transport socket.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::set_int;
use crate::lab::{
    Cipher, DropReasons, Module, Outer, PORT, Pair, Sniffer, Soft, SoftTunnel, before_polls,
    receive_buffer, threaded, wait_for,
};
use crate::nl::ovpn::{SECONDARY, remote_of};
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

/// A data packet of another peer between those of one: they are three packets, and it is lost alone.
fn other_peer() -> Outcome {
    let mut lab = lab(Outer::V4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    let before = reasons.read()?;
    let mut packets = Vec::new();
    for n in 0..7 {
        let mut header = lab.soft.header();
        header.peer_id ^= u32::from(n == 3);
        packets.push(lab.soft.seal(header, &Soft::datagram(&text(n, TEXT)))?);
    }
    let sniffer = Sniffer::open(&lab.a.ns, "veth")?;
    send(&lab.soft, lab.soft.to, &packets)?;
    for n in (0..7).filter(|n| *n != 3) {
        lab.expect(&text(n, TEXT)).during(format!("datagram {n}"))?;
    }
    if Module::ours() {
        let size = packets[0].len();
        check_eq!(
            received(&sniffer, 28)?,
            vec![3 * size, size, 3 * size],
            "packets of GRO"
        );
        check_eq!(
            reasons.since(&before)?,
            vec![("rx_unknown_peer".to_owned(), 1)],
            "drops"
        );
    }
    Ok(())
}

/// More datagrams than GRO makes one of.
fn bound() -> Outcome {
    const LEN: usize = 560;
    let mut lab = lab(Outer::V4)?;
    receive_buffer(lab.inner.as_raw_fd(), 1 << 20)?;
    let mut packets = Vec::new();
    for n in 0..100 {
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(&text(n, LEN)))?);
    }
    let sniffer = Sniffer::open(&lab.a.ns, "veth")?;
    send(&lab.soft, lab.soft.to, &packets)?;
    for n in 0..100 {
        lab.expect(&text(n, LEN)).during(format!("datagram {n}"))?;
    }
    if Module::ours() {
        let size = packets[0].len();
        check_eq!(
            received(&sniffer, 28)?,
            vec![64 * size, 36 * size],
            "packets of GRO"
        );
    }
    Ok(())
}

/// Where the driver takes the peer to be.
fn address(lab: &SoftTunnel) -> Outcome<Option<SocketAddr>> {
    let peer = lab.a.nl.peer_get(lab.a.ifindex, lab.a.id)?;
    Ok(remote_of(&peer.during("PEER_GET")?))
}

/// A rule of the firewall changes address and port of the sender, of which it sees the first packet of a list: all
/// packets have come from there.
fn rewritten(outer: Outer) -> Outcome {
    let mut lab = lab(outer)?;
    let (family, there) = match outer.is_v6() {
        false => ("ip", "10.10.0.77"),
        true => ("ip6", "fd00:10::77"),
    };
    let rule = format!("udp dport {PORT} {family} saddr set {there} udp sport set 4321");
    let rules = format!(
        "table inet t {{ chain c {{ type filter hook prerouting priority 0; {rule}; }}\n}}\n"
    );
    lab.a.ns.cmd("nft -f -").input(rules).ok()?;
    let there = SocketAddr::new(there.parse()?, 4321);
    data(&mut lab, &[1; 12], TEXT)?;
    check_eq!(address(&lab)?, Some(there), "address of the peer");
    Ok(())
}

/// Packets that one poll of the link finds, each by its length: sent one by one while the poll cannot run.
fn together(lab: &SoftTunnel, send: impl FnOnce() -> Outcome + Send) -> Outcome<Vec<usize>> {
    threaded(&lab.a.ns, "veth", true)?;
    let sniffer = Sniffer::open(&lab.a.ns, "veth")?;
    before_polls("veth", send)?;
    let mut sizes = Vec::new();
    wait_for("the packets", SOON, || {
        sizes.extend(received(&sniffer, 28)?);
        Ok((!sizes.is_empty()).then_some(()))
    })?;
    Ok(sizes)
}

/// Sealed packets, numbered, with texts of these lengths.
fn sealed(lab: &mut SoftTunnel, lens: &[usize]) -> Outcome<Vec<Vec<u8>>> {
    let one = |(n, len): (usize, &usize)| {
        let header = lab.soft.header();
        lab.soft.seal(header, &Soft::datagram(&text(n, *len)))
    };
    lens.iter().enumerate().map(one).collect()
}

/// Demands that the texts of these packets arrive, in whatever order.
fn all_arrive(lab: &SoftTunnel, lens: &[usize]) -> Outcome {
    let texts = lens.iter().enumerate();
    let mut left: Vec<_> = texts.map(|(n, len)| text(n, *len)).collect();
    let mut buffer = [0; 2048];
    while !left.is_empty() {
        let len = lab.inner.recv(&mut buffer);
        let len = len.during(format!("{} texts are missing", left.len()))?;
        let at = left.iter().position(|text| buffer.get(..len) == Some(text));
        left.swap_remove(
            at.ok_or_else(|| Failure::new("a text that was not sent, or came twice"))?,
        );
    }
    Ok(())
}

/// Packets of one peer and key from two ports in turns, as they come while a NAT has forgotten its mapping: those of one
/// port become one, and the peer is where the newest came from.
fn two_senders() -> Outcome {
    let mut lab = lab(Outer::V4)?;
    let packets = sealed(&mut lab, &[TEXT; 12])?;
    let other = lab.soft.ns.udp(false, 4444)?;
    let sizes = together(&lab, || {
        for (n, packet) in packets.iter().enumerate() {
            let sock = if n % 2 == 0 { &lab.soft.sock } else { &other };
            sock.send_to(packet, lab.soft.to)?;
        }
        Ok(())
    })?;
    all_arrive(&lab, &[TEXT; 12])?;
    if Module::ours() {
        let size = packets[0].len();
        check_eq!(sizes, vec![6 * size, 6 * size], "packets of GRO");
    }
    let there = SocketAddr::new(Pair::outer(false, 2), 4444);
    check_eq!(address(&lab)?, Some(there), "address of the peer");
    Ok(())
}

/// Packets with a different class of traffic, or time to live, are not made one: what the first says would be said of all.
fn not_the_same(option: i32, value: i32) -> Outcome {
    let mut lab = lab(Outer::V4)?;
    let packets = sealed(&mut lab, &[TEXT; 8])?;
    let set = |value| set_int(&lab.soft.sock, libc::IPPROTO_IP, option, value);
    let usual = if option == libc::IP_TTL { 64 } else { 0 };
    let sizes = together(&lab, || {
        for (n, packet) in packets.iter().enumerate() {
            if n == 4 {
                set(value)?;
            }
            lab.soft.sock.send_to(packet, lab.soft.to)?;
        }
        set(usual)
    })?;
    all_arrive(&lab, &[TEXT; 8])?;
    if Module::ours() {
        let size = packets[0].len();
        check_eq!(sizes, vec![4 * size, 4 * size], "packets of GRO");
    }
    Ok(())
}

/// Of packets of unequal lengths only the last of a list may be shorter: such lists can be taken apart anywhere.
fn unequal() -> Outcome {
    const LENS: [usize; 8] = [TEXT, TEXT, 600, TEXT, 650, 600, TEXT, TEXT];
    let mut lab = lab(Outer::V4)?;
    let packets = sealed(&mut lab, &LENS)?;
    let sizes = together(&lab, || {
        for packet in &packets {
            lab.soft.sock.send_to(packet, lab.soft.to)?;
        }
        Ok(())
    })?;
    all_arrive(&lab, &LENS)?;
    if Module::ours() {
        let more = packets[0].len() - TEXT;
        let list = |lens: &[usize]| lens.iter().map(|len| len + more).sum();
        let lists: Vec<usize> = [&LENS[..3], &LENS[3..5], &LENS[5..6], &LENS[6..]]
            .map(list)
            .into();
        check_eq!(sizes, lists, "packets of GRO");
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Outer::BOTH
        .map(|outer| Case::new(format!("GRO over {outer:?}"), move |_| merged(outer)))
        .into();
    cases.push(Case::new("GRO: a control packet in between", |_| control()));
    cases.push(Case::new("GRO: packets for another host", |_| forwarded()));
    cases.push(Case::new(
        "GRO: a packet of another peer in between",
        |_| other_peer(),
    ));
    cases.push(Case::new("GRO: 100 datagrams", |_| bound()));
    for outer in Outer::BOTH {
        let name = format!("GRO: a rule changes the sender, {outer:?}");
        cases.push(Case::new(name, move |_| rewritten(outer)));
    }
    cases.push(Case::new("GRO: two senders", |_| two_senders()));
    cases.push(Case::new("GRO: unequal lengths", |_| unequal()));
    cases.push(Case::new("GRO: two classes of traffic", |_| {
        not_the_same(libc::IP_TOS, 0x88)
    }));
    cases.push(Case::new("GRO: two times to live", |_| {
        not_the_same(libc::IP_TTL, 33)
    }));
    cases
}
