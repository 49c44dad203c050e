// SPDX-License-Identifier: GPL-2.0-only
//! MP mode: what only a device with many peers may be asked, and refuses.

use std::net::Ipv4Addr;

use super::Fixture;
use crate::lab::{Server, VpnIps};
use crate::nl::errno_name;
use crate::nl::link::MODE_MP;
use crate::nl::ovpn::{cmd, peer};
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

fn four(a: u8, b: u8, c: u8, d: u8) -> VpnIps {
    (Some(Ipv4Addr::new(a, b, c, d)), None)
}

fn six(text: &str) -> VpnIps {
    (None, text.parse().ok())
}

fn addresses(_: &Ctx) -> Outcome {
    let server = Server::new()?;
    server
        .peer_new(1, Fixture::REMOTE, four(10, 8, 0, 2))?
        .during("first peer")?;
    server
        .peer_new(2, Fixture::REMOTE, six("fd00::2"))?
        .during("second peer")?;
    let rows: [(&str, u8, u32, VpnIps, i32); 16] = [
        ("no VPN IP", cmd::PEER_NEW, 3, (None, None), libc::EINVAL),
        (
            "multicast",
            cmd::PEER_NEW,
            3,
            four(224, 0, 0, 1),
            libc::EADDRNOTAVAIL,
        ),
        (
            "broadcast",
            cmd::PEER_NEW,
            3,
            four(255, 255, 255, 255),
            libc::EADDRNOTAVAIL,
        ),
        (
            "loopback",
            cmd::PEER_NEW,
            3,
            four(127, 0, 0, 1),
            libc::EADDRNOTAVAIL,
        ),
        ("any", cmd::PEER_NEW, 3, four(0, 0, 0, 0), libc::EINVAL),
        (
            "IPv6 multicast",
            cmd::PEER_NEW,
            3,
            six("ff02::1"),
            libc::EADDRNOTAVAIL,
        ),
        (
            "IPv6 loopback",
            cmd::PEER_NEW,
            3,
            six("::1"),
            libc::EADDRNOTAVAIL,
        ),
        ("IPv6 any", cmd::PEER_NEW, 3, six("::"), libc::EINVAL),
        (
            "duplicate id",
            cmd::PEER_NEW,
            1,
            four(10, 8, 0, 9),
            libc::EEXIST,
        ),
        (
            "VPN IPv4 of another",
            cmd::PEER_NEW,
            3,
            four(10, 8, 0, 2),
            libc::EADDRINUSE,
        ),
        (
            "VPN IPv6 of another",
            cmd::PEER_NEW,
            3,
            six("fd00::2"),
            libc::EADDRINUSE,
        ),
        (
            "set: VPN IPv4 of another",
            cmd::PEER_SET,
            2,
            four(10, 8, 0, 2),
            libc::EADDRINUSE,
        ),
        (
            "set: VPN IPv6 of another",
            cmd::PEER_SET,
            1,
            six("fd00::2"),
            libc::EADDRINUSE,
        ),
        (
            "set: multicast",
            cmd::PEER_SET,
            1,
            four(224, 0, 0, 1),
            libc::EADDRNOTAVAIL,
        ),
        (
            "set: the only one away",
            cmd::PEER_SET,
            1,
            four(0, 0, 0, 0),
            libc::EINVAL,
        ),
        (
            "set: unknown peer",
            cmd::PEER_SET,
            9,
            four(10, 8, 0, 9),
            libc::ENOENT,
        ),
    ];
    // A dump's order is the driver's own business.
    let state = || -> Outcome<_> {
        let mut peers = server.nl.peer_dump(server.ifindex)?;
        peers.sort_by_key(|p| p.u32(peer::ID));
        Ok(peers)
    };
    let before = state()?;
    for (what, command, id, vpn, errno) in rows {
        let remote = (command == cmd::PEER_NEW).then_some(Fixture::REMOTE);
        let refusal = server.peer(command, id, remote, vpn)?.err();
        let got = refusal.as_ref().map_or(0, |r| r.errno);
        check!(
            got == errno,
            "{what}: {}, expected {}",
            errno_name(got),
            errno_name(errno)
        );
        let text = refusal.and_then(|r| r.text).unwrap_or_default();
        check!(
            text.starts_with("ovpn: "),
            "{what}: extended acknowledgement \"{text}\""
        );
        check_eq!(state()?, before, "state after {what}");
    }
    Ok(())
}

fn link(_: &Ctx) -> Outcome {
    let server = Server::new()?;
    let link = server.links.get(server.ifindex)?;
    check_eq!(link.mode(), Some(vec![MODE_MP]), "IFLA_OVPN_MODE");
    server.ns.ip("link set mp up")?;
    check_eq!(
        server.links.get(server.ifindex)?.attrs.get(33),
        Some(&[1][..]),
        "carrier without peer"
    );
    Ok(())
}

/// More peers than one message of a dump holds: each must come exactly once.
fn long_dump(_: &Ctx) -> Outcome {
    let server = Server::new()?;
    let ids: Vec<u32> = (0..120).collect();
    for id in &ids {
        let [_, _, c, d] = id.to_be_bytes();
        server
            .peer_new(*id, Fixture::REMOTE, four(10, 9, c, d))?
            .during(format!("peer {id}"))?;
    }
    let mut dumped: Vec<u32> = server
        .nl
        .peer_dump(server.ifindex)?
        .iter()
        .filter_map(|p| p.u32(peer::ID))
        .collect();
    dumped.sort_unstable();
    check_eq!(dumped, ids, "ids of the dump");
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("link in MP mode", link),
        Case::new("VPN addresses", addresses),
        Case::new("dump of 120 peers", long_dump),
    ]
}
