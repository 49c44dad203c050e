// SPDX-License-Identifier: GPL-2.0-only
//! Traffic between two ends of the driver.

use std::net::{Ipv6Addr, SocketAddrV6};

use crate::lab::{
    Cipher, End, Flow, Module, Outer, Pair, Ping, Tunnel, TunnelSpec, iperf, patience,
};
use crate::nl::ovpn::{PRIMARY, Stats, peer};
use crate::tap::{Case, During, Outcome};
use crate::wire::OVERHEAD;
use crate::{Ctx, check, check_eq, note};

/// The largest echo payload that fits a packet of this MTU: without IPv4 and ICMP headers.
fn fitting(mtu: u32) -> u32 {
    mtu - 28
}

fn pings(cipher: Cipher, outer: Outer) -> Outcome {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        outer,
        mtu: None,
    })?;
    for (v6, from, to) in [
        (false, &tunnel.a, 2),
        (true, &tunnel.a, 2),
        (false, &tunnel.b, 1),
        (true, &tunnel.b, 1),
    ] {
        let ping = Ping::new(Tunnel::inner(v6, to), 30).interval(2);
        ping.lossless(&from.ns)
            .during(format!("inner IPv{}", if v6 { 6 } else { 4 }))?;
    }
    for size in [0, 1, fitting(1416) - 1, fitting(1416)] {
        Ping::new(Tunnel::inner(false, 2), 5)
            .size(size)
            .lossless(&tunnel.a.ns)?;
    }
    Ok(())
}

/// Packets larger than the tunnel's MTU, and tunnels with an MTU larger than the link's.
fn large(outer: Outer) -> Outcome {
    for (mtu, sizes) in [
        (1416, [3000, 20000]),
        (1500, [fitting(1500), 3000]),
        (9000, [fitting(9000), 30000]),
    ] {
        let tunnel = Tunnel::new(TunnelSpec {
            mtu: Some(mtu),
            outer,
            ..TunnelSpec::default()
        })?;
        for size in sizes {
            let before = tunnel.a.ns.fragmented()?;
            if Module::ours() {
                // This driver tells the sender, once, of a packet that had to be fragmented outside although it was
                // marked not to be; who hears it has lost a call of send() by that.
                for v6 in [false, true] {
                    Ping::new(Tunnel::inner(v6, 2), 2)
                        .size(size - if v6 { 20 } else { 0 })
                        .run(&tunnel.a.ns)?;
                }
            }
            Ping::new(Tunnel::inner(false, 2), 10)
                .size(size)
                .echo()?
                .one_by_one()
                .lossless(&tunnel.a.ns)
                .during(format!("MTU {mtu}"))?;
            check!(
                tunnel.a.ns.fragmented()? > before,
                "MTU {mtu}, {size} bytes: nothing was fragmented"
            );
            Ping::new(Tunnel::inner(true, 2), 10)
                .size(size - 20)
                .echo()?
                .one_by_one()
                .lossless(&tunnel.a.ns)
                .during(format!("MTU {mtu}"))?;
        }
    }
    Ok(())
}

fn flows(cipher: Cipher, outer: Outer) -> Outcome {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        outer,
        mtu: None,
    })?;
    let to_b = Tunnel::inner(false, 2);
    let tcp = Flow::tcp(to_b, 1);
    for (what, flow) in [
        ("TCP", tcp),
        (
            "TCP, reverse",
            Flow {
                reverse: true,
                ..tcp
            },
        ),
        (
            "TCP over IPv6, 4 streams of page cache",
            Flow {
                streams: 4,
                zerocopy: true,
                dst: Tunnel::inner(true, 2),
                ..tcp
            },
        ),
        // Loss is to be the driver's, not that of a machine which cannot send that fast.
        ("UDP", Flow::udp(to_b, 1, (20 / patience()).max(2))),
    ] {
        let rate = iperf(&flow, &tunnel.b.ns, &tunnel.a.ns).during(what)?;
        note!(
            "{} {what}: {:.0} Mbit/s, {:.2} % lost",
            cipher.name(),
            rate.mbit,
            rate.lost_percent
        );
        Flow::at_least(&rate, 5.0).during(what)?;
        check!(
            rate.lost_percent < 1.0,
            "{what}: {} % lost",
            rate.lost_percent
        );
    }
    tunnel.works(20)
}

/// Known pings, and every counter of both ends to the byte.
fn exact_counters(_: &Ctx) -> Outcome {
    const COUNT: u64 = 10;
    const SIZE: u64 = 100;
    let tunnel = Tunnel::simple()?;
    for (v6, headers) in [(false, 28), (true, 48)] {
        let before = (
            tunnel.a.stats()?,
            tunnel.b.stats()?,
            tunnel.a.dev()?,
            tunnel.b.dev()?,
        );
        Ping::new(Tunnel::inner(v6, 2), COUNT as u32)
            .size(SIZE as u32)
            .lossless(&tunnel.a.ns)?;
        let (vpn, link) = (
            COUNT * (SIZE + headers),
            COUNT * (SIZE + headers + OVERHEAD as u64),
        );
        for (name, end, stats, dev) in [
            ("a", &tunnel.a, before.0, before.2),
            ("b", &tunnel.b, before.1, before.3),
        ] {
            let expected = Stats {
                vpn_rx_bytes: stats.vpn_rx_bytes + vpn,
                vpn_tx_bytes: stats.vpn_tx_bytes + vpn,
                vpn_rx_packets: stats.vpn_rx_packets + COUNT,
                vpn_tx_packets: stats.vpn_tx_packets + COUNT,
                link_rx_bytes: stats.link_rx_bytes + link,
                link_tx_bytes: stats.link_tx_bytes + link,
                link_rx_packets: stats.link_rx_packets + COUNT,
                link_tx_packets: stats.link_tx_packets + COUNT,
            };
            check_eq!(end.stats()?, expected, "peer counters of {name}");
            let now = end.dev()?;
            check_eq!(
                now.rx_packets - dev.rx_packets,
                COUNT,
                "rx_packets of {name}"
            );
            check_eq!(now.rx_bytes - dev.rx_bytes, vpn, "rx_bytes of {name}");
            check_eq!(
                now.tx_packets - dev.tx_packets,
                COUNT,
                "tx_packets of {name}"
            );
            check!(
                now.tx_bytes - dev.tx_bytes >= vpn,
                "tx_bytes of {name}: {}",
                now.tx_bytes - dev.tx_bytes
            );
            let bad =
                |d: crate::lab::Netdev| (d.rx_dropped, d.rx_errors, d.tx_dropped, d.tx_errors);
            check_eq!(bad(now), bad(dev), "drops and errors of {name}");
        }
    }
    Ok(())
}

/// One end receives exactly the bytes that the other sent, also when segments leave in batches.
fn conservation(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let flow = Flow {
        mbit: 60,
        ..Flow::tcp(Tunnel::inner(false, 2), 1)
    };
    iperf(&flow, &tunnel.b.ns, &tunnel.a.ns)?;
    let (a, b) = (tunnel.a.stats()?, tunnel.b.stats()?);
    check!(
        a.link_tx_packets > 1000 / u64::from(patience()),
        "only {} packets were sent",
        a.link_tx_packets
    );
    for (what, sent, received) in [
        ("link packets, a to b", a.link_tx_packets, b.link_rx_packets),
        ("link packets, b to a", b.link_tx_packets, a.link_rx_packets),
        ("link bytes, a to b", a.link_tx_bytes, b.link_rx_bytes),
        ("link bytes, b to a", b.link_tx_bytes, a.link_rx_bytes),
        ("inner bytes, a to b", a.vpn_tx_bytes, b.vpn_rx_bytes),
        ("inner bytes, b to a", b.vpn_tx_bytes, a.vpn_rx_bytes),
        (
            "overhead, a to b",
            a.link_tx_bytes,
            a.vpn_tx_bytes + OVERHEAD as u64 * a.link_tx_packets,
        ),
        ("received packets, b", b.link_rx_packets, b.vpn_rx_packets),
    ] {
        check_eq!(received, sent, "{what}");
    }
    Ok(())
}

/// Over addresses that mean nothing without the device they belong to: REMOTE_IPV6_SCOPE_ID says which.
fn link_local(_: &Ctx) -> Outcome {
    let Pair { a, b } = Pair::new()?;
    let mut ends = [
        End::new(a, true, Outer::V6)?,
        End::new(b, false, Outer::V6)?,
    ];
    for (end, n) in ends.iter_mut().zip([1u16, 2]) {
        end.ns
            .ip(&format!("addr add fe80::{n}/64 dev veth nodad"))?;
        let scope = end.ns.ifindex("veth")?.unwrap_or_default();
        let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3 - n);
        end.remote = SocketAddrV6::new(other, end.remote.port(), 0, scope).into();
        end.add_peer()?;
        end.add_key(PRIMARY, Cipher::Aes128, 1)?;
        let attrs = end.nl.peer_get(end.ifindex, end.id)?.during("PEER_GET")?;
        check_eq!(attrs.u32(peer::REMOTE_IPV6_SCOPE_ID), Some(scope), "scope");
        end.up(None)?;
    }
    let [a, _b] = &ends;
    Ping::new(Tunnel::inner(true, 2), 30).lossless(&a.ns)
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cipher in Cipher::ALL {
        for outer in Outer::BOTH {
            let name = format!("ping: {} over {outer:?}", cipher.name());
            cases.push(Case::new(name, move |_| pings(cipher, outer)));
        }
    }
    cases.push(Case::new("ping: over link-local IPv6", link_local));
    for outer in Outer::BOTH {
        cases.push(Case::new(
            format!("large packets over {outer:?}"),
            move |_| large(outer),
        ));
    }
    for (cipher, outer) in [(Cipher::Aes256, Outer::V4), (Cipher::ChaCha, Outer::V6)] {
        let name = format!("iperf3: {} over {outer:?}", cipher.name());
        cases.push(Case::new(name, move |_| flows(cipher, outer)));
    }
    cases.push(Case::new("counters to the byte", exact_counters));
    cases.push(Case::new("counters of both ends agree", conservation));
    cases
}
