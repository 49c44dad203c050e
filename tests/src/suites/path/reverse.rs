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

/// Networks behind peer 1, for both families.
const BEHIND: [(&str, &str, &str); 2] = [
    ("192.168.1.5", "192.168.1.0/24", "10.8.0.11"),
    ("fd00:c1::5", "fd00:c1::/64", "fd00:8::b"),
];

/// A route that leads out of another interface is no way back, though its gateway is a peer's address.
fn other_device(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    hub.server.ns.ip(
        "link add other type dummy\nlink set other up\naddr add 10.77.0.1/24 dev other\n\
             addr add fd00:77::1/64 dev other nodad",
    )?;
    for (host, net, gateway) in BEHIND {
        let route = |dev: &str| format!("route replace {net} via {gateway} dev {dev} onlink");
        hub.server.ns.ip(&route("mp"))?;
        may(&mut hub, 1, host.parse()?, true)?;
        hub.server.ns.ip(&route("other"))?;
        may(&mut hub, 1, host.parse()?, false).during("route by another interface")?;
        hub.server.ns.ip(&route("mp"))?;
        may(&mut hub, 1, host.parse()?, true)?;
    }
    Ok(())
}

/// In a VRF the way back is in the VRF's table.
fn vrf(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    hub.server.ns.ip(
        "link add vr type vrf table 77\nlink set vr up\nlink set mp master vr\n\
             addr replace fd00:8::1/64 dev mp nodad",
    )?;
    let name = [b'v', b'r'];
    for sock in &hub.inner {
        super::bind_to_device(sock, &name)?;
    }
    for (host, net, gateway) in BEHIND {
        let src: IpAddr = host.parse()?;
        may(&mut hub, 1, src, false).during("no route in the VRF")?;
        hub.server
            .ns
            .ip(&format!("route add {net} via {gateway} dev mp table 77"))?;
        may(&mut hub, 1, src, true).during("route in the VRF")?;
        may(&mut hub, 0, src, false).during("another peer")?;
    }
    Ok(())
}

/// Of what peers 0 and 1 send to beyond the server, so much of peer 1's gets through and nothing of the other's.
fn forwarded(hub: &mut Hub, src: IpAddr, dst: IpAddr, accepted: u64) -> Outcome {
    for (n, accepted) in [(0, 0), (1, accepted)] {
        let id = 100 + u32::from(n);
        let before = hub.server.nl.stats(hub.server.ifindex, id)?;
        hub.send(n, src, dst, b"forwarded")?;
        hub.fence(n)?;
        let after = hub.server.nl.stats(hub.server.ifindex, id)?;
        check_eq!(
            after.vpn_rx_packets - before.vpn_rx_packets,
            1 + accepted,
            "packets of {n} to {dst}, with a good one"
        );
    }
    Ok(())
}

/// A policy rule for answers that come in by one interface: a packet for what is behind that may come from where they
/// would go.
fn rule_for_interface(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    hub.server.ns.enable_forwarding()?;
    hub.server.ns.ip(
        "link add lan type dummy\nlink set lan addrgenmode none\nlink set lan up\n\
         addr add 172.16.0.1/24 dev lan\naddr add fd00:16::1/64 dev lan nodad",
    )?;
    for (family, (host, net, gateway), beyond) in [
        ("-4", BEHIND[0], "172.16.0.9"),
        ("-6", BEHIND[1], "fd00:16::9"),
    ] {
        let (src, dst): (IpAddr, IpAddr) = (host.parse()?, beyond.parse()?);
        hub.server
            .ns
            .ip(&format!("route add {net} via {gateway} dev mp table 100"))?;
        forwarded(&mut hub, src, dst, 0).during("without the rule")?;
        let rule = |verb: &str| format!("ip {family} rule {verb} iif lan lookup 100");
        hub.server.ns.cmd(&rule("add")).ok()?;
        forwarded(&mut hub, src, dst, 1).during("with the rule")?;
        // An answer of our own comes in nowhere.
        may(&mut hub, 1, src, false).during("to ourselves")?;
        hub.server.ns.cmd(&rule("del")).ok()?;
    }
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
    cases.push(Case::new("reverse path: another interface", other_device));
    cases.push(Case::new("reverse path: VRF", vrf));
    cases.push(Case::new(
        "reverse path: rule for an interface",
        rule_for_interface,
    ));
    cases.push(Case::new(
        "reverse path: gateway changes hands",
        gateway_changes_hands,
    ));
    cases
}
