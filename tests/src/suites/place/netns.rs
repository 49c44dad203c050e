// SPDX-License-Identifier: GPL-2.0-only
//! Interface and transport socket in different namespaces, which end in either order; interfaces that move.

use std::time::Duration;

use crate::lab::{End, Ns, Outer, Pair, Ping, Proc, Tunnel, TunnelSpec, tcp_pair, wait_for};
use crate::nl::ovpn::{Event, Events, Ovpn, PRIMARY, Reason, peer};
use crate::tap::{Case, Failure, Outcome};
use crate::{check, check_eq};

const SOON: Duration = Duration::from_secs(5);

/// A tunnel whose first end has its interface in a namespace of its own: `outer` has the socket and the way to `b`.
struct Apart {
    a: End,
    outer: Ns,
    b: End,
}

impl Apart {
    fn new(transport: Outer) -> Outcome<Self> {
        let Pair { a: outer, b } = Pair::new()?;
        let (v6, cipher) = (transport.is_v6(), TunnelSpec::default().cipher);
        let inner = Ns::new()?;
        // Tells when the namespace is really gone: its end of the pair takes the other one along.
        inner.ip(&format!(
            "link add probe index 12 type veth peer name probe index 22 netns {}",
            b.path()
        ))?;
        // The interface's end opens sockets in its own namespace, where they are of no use.
        let mut a = End::new(inner, true, transport)?;
        let mut b = End::new(b, false, transport)?;
        if transport.is_tcp() {
            let (near, far) = tcp_pair(&outer, &b.ns, v6)?;
            (a.stream, b.stream) = (Some(near), Some(far));
        } else {
            a.sock = Some(outer.udp(v6, 1194)?);
        }
        for end in [&a, &b] {
            end.add_peer()?;
            end.add_key(PRIMARY, cipher, 1)?;
            end.up(None)?;
        }
        Ok(Self { a, outer, b })
    }

    /// Traffic that does not end by itself soon.
    fn busy(&self) -> Outcome<Proc> {
        let before = self.a.stats()?.vpn_rx_packets;
        let ping = Ping::new(Tunnel::inner(false, 1), 100_000)
            .interval(1)
            .spawn(&self.b.ns)?;
        wait_for("traffic", SOON, || {
            Ok((self.a.stats()?.vpn_rx_packets > before + 100).then_some(()))
        })?;
        Ok(ping)
    }
}

fn gone(end: &End, reason: Reason) -> Event {
    Event::PeerDel {
        ifindex: end.ifindex,
        id: end.id,
        reason,
    }
}

/// Demands that a namespace ends: its end of the pair `device` is gone from here.
fn ends(ns: &Ns, device: &str) -> Outcome {
    wait_for(
        &format!("the other namespace of {device} to end"),
        Duration::from_secs(10),
        || Ok(ns.ifindex(device)?.is_none().then_some(())),
    )
}

/// Traffic; notifications where the socket is; the namespace's id in PEER_GET.
fn apart(outer: Outer) -> Outcome {
    let mut lab = Apart::new(outer)?;
    let (there, here) = (lab.a.nl.listen(&lab.outer)?, lab.a.nl.listen(&lab.a.ns)?);
    for v6 in [false, true] {
        Ping::new(Tunnel::inner(v6, 2), 30).lossless(&lab.a.ns)?;
    }
    let attrs = lab.a.nl.peer_get(lab.a.ifindex, lab.a.id)??;
    check!(
        attrs.get(peer::SOCKET_NETNSID).is_some(),
        "PEER_GET without the namespace of the socket"
    );
    let event = gone(&lab.a, Reason::TransportDisconnect);
    lab.a.close();
    there.expect(&event, SOON)?;
    here.expect_none()
}

/// The interface's namespace ends first, under traffic; then the socket is free and its namespace can end, too.
fn interface_first(outer: Outer) -> Outcome {
    let lab = Apart::new(outer)?;
    let events = lab.a.nl.listen(&lab.outer)?;
    let traffic = lab.busy()?;
    let event = gone(&lab.a, Reason::Teardown);
    let Apart { a, outer, b } = lab;
    let End {
        ns,
        nl,
        links,
        sock,
        stream,
        ..
    } = a;
    drop((ns, nl, links));
    events.expect(&event, SOON)?;
    ends(&b.ns, "probe")?;
    drop((sock, stream, events, outer, traffic));
    ends(&b.ns, "veth")
}

/// The socket's namespace ends first; the interface is left without a peer.
fn socket_first(outer: Outer) -> Outcome {
    let mut lab = Apart::new(outer)?;
    let traffic = lab.busy()?;
    lab.a.close();
    let Apart { a, outer, b } = lab;
    drop(outer);
    wait_for("the peer to go", SOON, || {
        Ok(a.nl.peer_dump(a.ifindex)?.is_empty().then_some(()))
    })?;
    drop(traffic);
    ends(&b.ns, "veth")?;
    // Packets sent now go nowhere, and do no harm.
    let lost = Ping::new(Tunnel::inner(false, 2), 3).run(&a.ns)?;
    check_eq!(lost.received, 0, "pings answered without a peer");
    drop(a);
    ends(&b.ns, "probe")
}

/// An interface with its peer moves to another namespace and back, under traffic, and works there.
fn moved(outer: Outer) -> Outcome {
    let spec = TunnelSpec {
        outer,
        ..TunnelSpec::default()
    };
    let tunnel = Tunnel::new(spec)?;
    let events = tunnel.a.nl.listen(&tunnel.a.ns)?;
    tunnel.works(10)?;
    let other = Ns::new()?;
    // Takes the index in the new namespace that the interface has here, so that it gets another.
    let taken = tunnel.a.ifindex;
    other.ip(&format!("link add other index {taken} type dummy"))?;
    let _traffic = Ping::new(Tunnel::inner(false, 1), 100_000)
        .interval(1)
        .spawn(&tunnel.b.ns)?;
    tunnel
        .a
        .ns
        .ip(&format!("link set tun netns {}", other.path()))?;
    check_eq!(tunnel.a.ns.ifindex("tun")?, None, "interface left behind");
    let index = other
        .ifindex("tun")?
        .ok_or_else(|| Failure::new("the interface did not arrive"))?;
    check!(index != taken, "the interface kept its index");
    other.ip("link set tun addrgenmode none\nlink set tun up\n\
         addr add 10.8.0.1/24 dev tun\naddr add fd00:8::1/64 dev tun nodad")?;
    for v6 in [false, true] {
        Ping::new(Tunnel::inner(v6, 2), 30).lossless(&other)?;
    }
    let nl = Ovpn::open(&other)?;
    let id = tunnel.a.id;
    check!(
        nl.peer_get(index, id)??.get(peer::SOCKET_NETNSID).is_some(),
        "PEER_GET without the namespace of the socket"
    );
    nl.key_new(index, id, PRIMARY, &spec.cipher.key(2, true))?;
    tunnel.b.add_key(PRIMARY, spec.cipher, 2)?;
    Ping::new(Tunnel::inner(false, 2), 10).lossless(&other)?;
    back(&tunnel, &other, &events)
}

fn back(tunnel: &Tunnel, other: &Ns, events: &Events) -> Outcome {
    other.ip(&format!("link set tun netns {}", tunnel.a.ns.path()))?;
    tunnel.a.up(None)?;
    tunnel.works(10)?;
    events.expect_none()?;
    let index = tunnel
        .a
        .ns
        .ifindex("tun")?
        .ok_or_else(|| Failure::new("the interface did not come back"))?;
    tunnel.a.nl.peer_del(index, tunnel.a.id)?;
    events.expect(
        &Event::PeerDel {
            ifindex: index,
            id: tunnel.a.id,
            reason: Reason::Userspace,
        },
        SOON,
    )
}

/// A case for each transport.
type Body = fn(Outer) -> Outcome;

/// All cases.
pub fn cases() -> Vec<Case> {
    let bodies: [(&str, Body); 4] = [
        ("socket in another namespace", apart),
        ("namespace of the interface ends first", interface_first),
        ("namespace of the socket ends first", socket_first),
        ("interface moves to another namespace", moved),
    ];
    let all = bodies.into_iter().flat_map(|(name, body)| {
        [Outer::V4, Outer::V6, Outer::Tcp4]
            .map(|outer| Case::new(format!("{name}, {outer:?}"), move |_| body(outer)))
    });
    all.collect()
}
