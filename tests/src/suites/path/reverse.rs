// SPDX-License-Identifier: GPL-2.0-only
//! Sources behind a peer: what the routes say now counts, whatever was found for earlier packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::lab::{Cipher, Hub, Outer, Tunnel};
use crate::nl::ovpn::cmd;
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check_eq};

/// A host behind a peer sends; it must or must not get through, and again, when the answer is known already.
fn may(hub: &mut Hub, n: u8, src: IpAddr, accepted: bool) -> Outcome {
    for round in 0..3 {
        let text = format!("from {src} by {n}, round {round}");
        let id = 100 + u32::from(n);
        let before = hub.server.nl.stats(hub.server.ifindex, id)?;
        hub.send(n, src, Tunnel::inner(src.is_ipv6(), 1), text.as_bytes())?;
        if accepted {
            hub.expect(src.is_ipv6(), text.as_bytes()).during(&text)?;
        }
        hub.fence(n).during(&text)?;
        let after = hub.server.nl.stats(hub.server.ifindex, id)?;
        let through = after.vpn_rx_packets - before.vpn_rx_packets;
        check_eq!(
            through,
            1 + u64::from(accepted),
            "{text}: packets, with a good one"
        );
    }
    Ok(())
}

/// Which of the first two peers the host may come from, after each change of a route.
fn routes_change(v6: bool) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    let (src, net, host): (IpAddr, _, _) = if v6 {
        ("fd00:c1::5".parse()?, "fd00:c1::/64", "fd00:c1::5/128")
    } else {
        ("192.168.1.5".parse()?, "192.168.1.0/24", "192.168.1.5/32")
    };
    let via = |n| Hub::inside(v6, n);
    let steps: [(String, Option<u8>); 8] = [
        (format!("route add {net} via {} dev mp", via(1)), Some(1)),
        (
            format!("route replace {net} via {} dev mp", via(0)),
            Some(0),
        ),
        (format!("route add {host} via {} dev mp", via(1)), Some(1)),
        (format!("route del {host} via {} dev mp", via(1)), Some(0)),
        (format!("route del {net} via {} dev mp", via(0)), None),
        (
            format!("route add {net} via {} dev mp table 100", via(1)),
            None,
        ),
        (
            format!(
                "{} rule add to {net} lookup 100",
                if v6 { "-6" } else { "-4" }
            ),
            Some(1),
        ),
        (
            format!(
                "{} rule del to {net} lookup 100",
                if v6 { "-6" } else { "-4" }
            ),
            None,
        ),
    ];
    for (change, owner) in steps {
        match change.strip_prefix(['-']) {
            None => hub.server.ns.ip(&change)?,
            Some(_) => hub.server.ns.cmd(&format!("ip {change}")).ok().map(drop)?,
        }
        for n in [0, 1] {
            may(&mut hub, n, src, owner == Some(n)).during(&change)?;
        }
    }
    Ok(())
}

/// The gateway stays and becomes another peer's address.
fn gateway_changes_hands(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    hub.server
        .ns
        .ip("route add 192.168.1.0/24 via 10.8.0.11 dev mp")?;
    let src: IpAddr = "192.168.1.5".parse()?;
    may(&mut hub, 1, src, true)?;
    for (id, n) in [(101, 7), (100, 1)] {
        hub.server.peer(cmd::PEER_SET, id, None, Hub::vpn(n))??;
    }
    let lost = hub.server.ns.netdev("mp")?.rx_dropped;
    hub.send(1, src, Tunnel::inner(false, 1), b"no more")?;
    hub.send(0, src, Tunnel::inner(false, 1), b"now mine")?;
    hub.expect(false, b"now mine")?;
    check_eq!(
        hub.server.ns.netdev("mp")?.rx_dropped - lost,
        1,
        "packets dropped"
    );
    Ok(())
}

/// A peer without an address of a family is not the one that sends from its address of zeros.
fn from_nobody(v6: bool) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 1)?;
    let (own4, own6) = Hub::vpn(0);
    let (nobody, vpn): (IpAddr, _) = if v6 {
        let none = Ipv6Addr::UNSPECIFIED;
        (none.into(), (own4, Some(none)))
    } else {
        let none = Ipv4Addr::UNSPECIFIED;
        (none.into(), (Some(none), own6))
    };
    hub.server.peer(cmd::PEER_SET, 100, None, vpn)??;
    let lost = hub.server.ns.netdev("mp")?.rx_dropped;
    hub.send(0, nobody, Tunnel::inner(v6, 1), b"from nobody")?;
    // Its other address is good.
    hub.send(0, Hub::inside(!v6, 0), Tunnel::inner(!v6, 1), b"good")?;
    hub.expect(!v6, b"good")?;
    let lost = hub.server.ns.netdev("mp")?.rx_dropped - lost;
    check_eq!(lost, 1, "packets from {nobody} dropped");
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [false, true]
        .map(|v6| {
            let name = format!(
                "reverse path after changes of routes, IPv{}",
                if v6 { 6 } else { 4 }
            );
            Case::new(name, move |_| routes_change(v6))
        })
        .into();
    cases.extend([false, true].map(|v6| {
        let name = format!("reverse path: IPv{} from nobody", if v6 { 6 } else { 4 });
        Case::new(name, move |_| from_nobody(v6))
    }));
    cases.push(Case::new(
        "reverse path: gateway changes hands",
        gateway_changes_hands,
    ));
    cases
}
