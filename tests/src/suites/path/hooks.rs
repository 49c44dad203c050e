// SPDX-License-Identifier: GPL-2.0-only
//! Outer packets on their way through the firewall of the driver's end: each hook sees them, with the mark of the transport
//! socket, one by one or many as one, and what its rules do to them counts.

use std::time::Duration;

use super::set_int;
use crate::check_eq;
use crate::lab::{Cipher, Outer, PORT, Sniffer, SoftTunnel, wait_for};
use crate::tap::{Case, During, Failure, Outcome};

const SOON: Duration = Duration::from_secs(5);
/// A mark of which a rule drops the packets.
const DROPPED: i32 = 9;

/// The driver's end counts its outer packets in both hooks, and drops those with one mark in the last.
fn lab(outer: Outer) -> Outcome<SoftTunnel> {
    let lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    let rules = format!(
        "table inet t {{\n\
         counter out {{ }}\ncounter post {{ }}\n\
         chain out {{ type filter hook output priority 0; udp sport {PORT} counter name out; }}\n\
         chain post {{ type filter hook postrouting priority 0;\n\
         udp sport {PORT} meta mark {DROPPED} drop\n\
         udp sport {PORT} counter name post; }}\n}}\n"
    );
    lab.a.ns.cmd("nft -f -").input(rules).ok()?;
    Ok(lab)
}

/// Packets that a counter of the firewall has seen.
fn seen(lab: &SoftTunnel, counter: &str) -> Outcome<u64> {
    let line = format!("nft list counter inet t {counter}");
    let text = lab.a.ns.cmd(&line).ok()?;
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    let number = words.nth(1).and_then(|n| n.parse().ok());
    number.ok_or_else(|| Failure::new(format!("nft says {text}")))
}

fn mark(lab: &SoftTunnel, value: i32) -> Outcome {
    let sock = lab.a.sock.as_ref();
    let sock = sock.ok_or_else(|| Failure::new("no transport socket"))?;
    set_int(sock, libc::SOL_SOCKET, libc::SO_MARK, value)
}

/// Each packet is seen once by each hook, and a rule that knows the socket's mark drops it.
fn seen_and_dropped(outer: Outer) -> Outcome {
    let lab = lab(outer)?;
    for n in 1..=3 {
        lab.push(b"counted")?;
        check_eq!(lab.soft.recv(1)?.0.packet_id, n, "packet id");
    }
    check_eq!((seen(&lab, "out")?, seen(&lab, "post")?), (3, 3), "packets");
    mark(&lab, DROPPED)?;
    lab.push(b"dropped")?;
    wait_for("the marked packet to be seen", SOON, || {
        Ok((seen(&lab, "out")? == 4).then_some(()))
    })?;
    mark(&lab, 0)?;
    lab.push(b"counted")?;
    check_eq!(
        lab.soft.recv(1)?.0.packet_id,
        5,
        "id of the packet after the one that a rule dropped"
    );
    check_eq!((seen(&lab, "out")?, seen(&lab, "post")?), (5, 4), "packets");
    Ok(())
}

/// A rule changes the class of traffic of one packet and of many as one: each that leaves has it, and the two bits for
/// congestion of the inner packet (RFC 6040, 4.1).
fn class(outer: Outer) -> Outcome {
    const PACKETS: usize = 8;
    const AF41: u8 = 0x88;
    let lab = lab(outer)?;
    let family = if outer.is_v6() { "ip6" } else { "ip" };
    let rule = format!("add rule inet t post udp sport {PORT} {family} dscp set af41");
    lab.a.ns.cmd("nft -f -").input(rule).ok()?;
    // Each packet alone on the wire.
    let apart = "ethtool -K veth tx-udp-segmentation off tx-gso-list off";
    lab.a.ns.cmd(apart).ok()?;
    let wire = Sniffer::open(&lab.soft.ns, "veth")?;
    let class_of = |packet: &[u8]| match packet {
        [first, second, ..] if outer.is_v6() => Some(first << 4 | second >> 4),
        [_, second, ..] => Some(*second),
        _ => None,
    };
    set_int(&lab.inner, libc::IPPROTO_IP, libc::IP_TOS, 0b10)?;
    let text = [7_u8; 500];
    lab.push(&text)?;
    set_int(&lab.inner, libc::SOL_UDP, libc::UDP_SEGMENT, 500)?;
    lab.push(&text.repeat(PACKETS))?;
    for n in 0..=PACKETS {
        lab.soft.recv(1).during(format!("packet {n}"))?;
    }
    let mut packets = wire.packets()?;
    packets.retain(|(out, packet)| !*out && packet.len() > 500);
    check_eq!(packets.len(), PACKETS + 1, "packets on the wire");
    for (n, (_, packet)) in packets.iter().enumerate() {
        check_eq!(
            class_of(packet),
            Some(AF41 | 0b10),
            "class of packet {n}, {} bytes",
            packet.len()
        );
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for outer in Outer::BOTH {
        let name =
            format!("firewall: outer packets over {outer:?} are seen, and dropped by their mark");
        cases.push(Case::new(name, move |_| seen_and_dropped(outer)));
        let name = format!("firewall: a rule changes the class of traffic, {outer:?}");
        cases.push(Case::new(name, move |_| class(outer)));
    }
    cases
}
