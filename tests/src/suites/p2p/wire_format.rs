// SPDX-License-Identifier: GPL-2.0-only
//! The driver's packets on the wire, read by code that shares nothing with it.

use crate::lab::{Cipher, Outer, Soft, SoftTunnel, patience, wait_for};
use crate::nl::ovpn::{PRIMARY, SECONDARY};
use crate::tap::{Case, During, Outcome};
use crate::wire::{DATA_V2, Header, KEEPALIVE, OVERHEAD};
use crate::{Ctx, check, check_eq};

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Both directions with an independent implementation of the cipher.
fn both_ways(cipher: Cipher, outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(cipher, outer)?;
    for packet_id in 1..=3u32 {
        let text = vec![packet_id as u8; 3usize.pow(packet_id * 2)];
        lab.push(&text)?;
        let (header, plain) = lab.soft.recv(1).during(format!("packet {packet_id}"))?;
        check_eq!(
            header,
            Header {
                opcode: DATA_V2,
                key_id: 1,
                peer_id: lab.a.tx_id,
                packet_id
            },
            "header"
        );
        // An IPv4 header of 20 bytes, a UDP header of 8, the text.
        check_eq!(
            plain.first().map(|b| b >> 4),
            Some(4),
            "IP version of the inner packet"
        );
        check_eq!(plain.get(28..), Some(text.as_slice()), "inner packet");
    }
    for len in [0, 1, 15, 16, 17, 1388] {
        let text = vec![0xa5; len];
        lab.soft.send(&Soft::datagram(&text))?;
        lab.expect(&text).during(format!("{len} bytes"))?;
    }
    Ok(())
}

/// The primary key sends, both receive, a swap changes the sender at once, packet ids start at 1 with each key.
fn two_keys(_: &Ctx) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    lab.a.add_key(SECONDARY, Cipher::Aes256, 2)?;
    lab.push(b"old")?;
    check_eq!(lab.soft.recv(1)?.0.packet_id, 1, "first packet id");
    lab.soft.key = 2;
    lab.fence().during("secondary key")?;
    lab.a.nl.key_swap(lab.a.ifindex, lab.a.id)?;
    lab.push(b"new")?;
    let (header, _) = lab.soft.recv(2).during("after the swap")?;
    check_eq!(
        (header.key_id, header.packet_id),
        (2, 1),
        "key id and packet id after the swap"
    );
    lab.soft.key = 1;
    lab.fence().during("former primary key")?;
    lab.a.nl.key_del(lab.a.ifindex, lab.a.id, SECONDARY)?;
    let before = lab.a.dev()?.rx_dropped;
    lab.soft.send(&Soft::datagram(b"late"))?;
    lab.soft.key = 2;
    lab.fence().during("the key that is left")?;
    check_eq!(
        lab.a.dev()?.rx_dropped - before,
        1,
        "packets of the deleted key that were dropped"
    );
    Ok(())
}

/// Without a key nothing leaves, and that is counted.
fn no_key(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    lab.a.nl.key_del(lab.a.ifindex, lab.a.id, PRIMARY)?;
    let before = lab.a.dev()?;
    for _ in 0..5 {
        lab.push(b"lost")?;
    }
    let after = lab.a.dev()?;
    check_eq!(after.tx_dropped - before.tx_dropped, 5, "tx_dropped");
    check_eq!(lab.a.stats()?.link_tx_packets, 0, "link_tx_packets");
    lab.a.add_key(PRIMARY, Cipher::Aes256, 1)?;
    lab.push(b"first")?;
    check_eq!(lab.soft.recv(1)?.0.packet_id, 1, "first packet id");
    Ok(())
}

/// Exactly OpenVPN's message, encrypted like data, when nothing else was sent for an interval.
fn keepalive(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let start = Instant::now();
    lab.a.nl.keepalive(lab.a.ifindex, lab.a.id, 1, 60)?;
    for packet_id in 1..=2 {
        let (header, plain) = lab.soft.recv(1).during(format!("keepalive {packet_id}"))?;
        check_eq!(header.packet_id, packet_id, "packet id");
        check_eq!(plain, KEEPALIVE, "keepalive");
    }
    // Granularity is a second, so the first may come early by as much.
    let took = start.elapsed().as_secs_f64();
    check!(
        (1.0..4.0 * f64::from(patience())).contains(&took),
        "two keepalives at an interval of 1 s took {took:.2} s"
    );
    let stats = lab.a.stats()?;
    let bytes = (KEEPALIVE.len() + OVERHEAD) as u64;
    check_eq!(
        (stats.link_tx_packets, stats.link_tx_bytes),
        (2, 2 * bytes),
        "link_tx of keepalives"
    );
    check_eq!(
        (stats.vpn_tx_packets, stats.vpn_tx_bytes),
        (0, 0),
        "vpn_tx of keepalives"
    );
    Ok(())
}

/// SO_MARK of the transport socket chooses the route of tunnel packets.
fn mark(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    lab.a
        .ns
        .ip("rule add fwmark 7 lookup 77\nroute add unreachable default table 77")?;
    let set = |mark: u32| -> Outcome {
        let fd = lab.a.sock.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: the option value is a u32 that outlives the call.
        let ret = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_MARK,
                (&raw const mark).cast(),
                4,
            )
        };
        check_eq!(ret, 0, "SO_MARK");
        Ok(())
    };
    lab.push(b"1")?;
    check_eq!(lab.soft.recv(1)?.0.packet_id, 1, "packet without mark");
    set(7)?;
    lab.push(b"2")?;
    wait_for(
        "the marked packet to be sent",
        Duration::from_secs(2),
        || Ok((lab.a.stats()?.vpn_tx_packets == 2).then_some(())),
    )?;
    set(0)?;
    lab.push(b"3")?;
    check_eq!(
        lab.soft.recv(1)?.0.packet_id,
        3,
        "the marked packet has no route, so the next one is"
    );
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Cipher::ALL
        .into_iter()
        .flat_map(|cipher| Outer::BOTH.map(|outer| (cipher, outer)))
        .map(|(cipher, outer)| {
            Case::new(
                format!("wire format: {} over {outer:?}", cipher.name()),
                move |_| both_ways(cipher, outer),
            )
        })
        .collect();
    cases.extend([
        Case::new("wire format: two keys", two_keys),
        Case::new("wire format: no key, no packet", no_key),
        Case::new("wire format: keepalive", keepalive),
        Case::new("wire format: firewall mark", mark),
    ]);
    cases
}
