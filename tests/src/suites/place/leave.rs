// SPDX-License-Identifier: GPL-2.0-only
//! Interfaces that leave a namespace: no route of it goes along, and those who stay still reach theirs.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::{Cipher, Hub, Module, Ns, Outer, Server, Tunnel, TunnelSpec, wait_for};
use crate::nl::ovpn::{Event, PRIMARY, Reason, SECONDARY, cmd, peer, top};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

const SOON: Duration = Duration::from_secs(5);

/// A server's interface in a namespace, with a network behind peer 1 for both families. The namespace also has an end of
/// a veth pair, whose other end tells when the namespace is gone.
fn settle(hub: &mut Hub, at: &Ns) -> Outcome {
    at.ip("link set mp addrgenmode none\nlink set mp up\n\
         addr add 10.8.0.1/24 dev mp\naddr add fd00:8::1/64 dev mp nodad\n\
         route add 192.168.1.0/24 via 10.8.0.11 dev mp\nroute add fd00:c1::/64 via fd00:8::b dev mp")?;
    hub.inner = [
        at.enter(|| Ok(std::net::UdpSocket::bind((Tunnel::inner(false, 1), 4000))?))?,
        at.enter(|| Ok(std::net::UdpSocket::bind((Tunnel::inner(true, 1), 4000))?))?,
    ];
    for sock in &hub.inner {
        sock.set_read_timeout(Some(SOON))?;
    }
    Ok(())
}

/// Packets of hosts behind peer 1 get through, again and again, so that their routes are in use.
fn behind(hub: &mut Hub, text: &str) -> Outcome {
    for round in 0..3 {
        for (v6, host) in [(false, "192.168.1.5"), (true, "fd00:c1::5")] {
            let (src, text): (IpAddr, _) = (host.parse()?, format!("{text} {round} {host}"));
            hub.send(1, src, Tunnel::inner(v6, 1), text.as_bytes())?;
            hub.expect(v6, text.as_bytes()).during(&text)?;
        }
    }
    Ok(())
}

/// Makes namespaces and ends them, so that the memory of one that has ended is written to.
fn reuse(watcher: &Ns) -> Outcome {
    for _ in 0..4 {
        let brief = Ns::new()?;
        brief.ip(&format!(
            "link add brief index 60 type veth peer name brief index 61 netns {}",
            watcher.path()
        ))?;
        drop(brief);
        wait_for("a brief namespace to end", Duration::from_secs(10), || {
            Ok(watcher.ifindex("brief")?.is_none().then_some(()))
        })?;
    }
    Ok(())
}

/// The fault class "cached dst outlives its netns": an interface learns next hops in one namespace, moves on, and the
/// namespace ends, for which KASAN is the judge, and its end itself. The transport socket stays in a third.
fn routes_stay(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    let watcher = Ns::new()?;
    let mut from: Option<Ns> = None;
    for (n, name) in ["first", "second", "third"].into_iter().enumerate() {
        let to = Ns::new()?;
        to.ip(&format!(
            "link add probe index {} type veth peer name probe{n} index {} netns {}",
            40 + n,
            50 + n,
            watcher.path()
        ))?;
        from.as_ref()
            .unwrap_or(&hub.server.ns)
            .ip(&format!("link set mp netns {}", to.path()))?;
        settle(&mut hub, &to).during(name)?;
        // The former one goes before a packet asks for a route in the new one, so what was learnt there is not replaced.
        if let Some(old) = from.replace(to) {
            drop(old);
            let probe = format!("probe{}", n - 1);
            wait_for("the namespace to end", Duration::from_secs(10), || {
                Ok(watcher.ifindex(&probe)?.is_none().then_some(()))
            })?;
            reuse(&watcher)?;
        }
        behind(&mut hub, name)?;
    }
    // With the last namespace goes the interface, with its hops in use. The sockets would keep it.
    hub.inner = [watcher.udp(false, 0)?, watcher.udp(false, 0)?];
    drop(from);
    wait_for("the interface to go", Duration::from_secs(10), || {
        Ok(watcher.ifindex("probe2")?.is_none().then_some(()))
    })
}

/// Those who made an interface and its peer go on naming it by the index it had with them, wherever it is and whatever
/// its index there; an interface that is with them goes first.
fn found_from_home(outer: Outer) -> Outcome {
    if !Module::ours() {
        return Err(Failure::Skipped("mainline does not find it".into()));
    }
    let spec = TunnelSpec {
        outer,
        ..TunnelSpec::default()
    };
    let tunnel = Tunnel::new(spec)?;
    let (a, index) = (&tunnel.a, tunnel.a.ifindex);
    let events = a.nl.listen(&a.ns)?;
    let other = Ns::new()?;
    other.ip(&format!("link add taken index {index} type dummy"))?;
    a.ns.ip(&format!("link set tun netns {}", other.path()))?;
    check!(
        other.ifindex("tun")?.is_some_and(|there| there != index),
        "the interface kept its index"
    );
    other.ip("link set tun addrgenmode none\nlink set tun up\naddr add 10.8.0.1/24 dev tun")?;
    // A renegotiation.
    for end in [&tunnel.a, &tunnel.b] {
        end.add_key(SECONDARY, spec.cipher, 2)?;
        end.nl.key_swap(end.ifindex, end.id)?;
        end.nl.key_del(end.ifindex, end.id, SECONDARY)?;
    }
    a.nl.keepalive(index, a.id, 10, 60)?;
    check_eq!(a.nl.peer_dump(index)?.len(), 1, "peers in the dump");
    crate::lab::Echo::new(Tunnel::inner(false, 2), 10).lossless(&other)?;
    // An index that means something here means nothing else.
    a.ns.ip(&format!("link add other index {index} type dummy"))?;
    let refused = a.nl.peer_get(index, a.id)?.err();
    check_eq!(
        refused.map(|r| r.errno),
        Some(libc::EINVAL),
        "PEER_GET by the index of another interface"
    );
    a.ns.ip("link del other")?;
    // A third namespace never had it.
    let third = Ns::new()?;
    let stranger = crate::nl::ovpn::Ovpn::open(&third)?;
    let refused = stranger.peer_get(index, a.id)?.err();
    check_eq!(
        refused.map(|r| r.errno),
        Some(libc::ENODEV),
        "PEER_GET from elsewhere"
    );
    a.nl.peer_del(index, a.id)?;
    let gone = Event::PeerDel {
        ifindex: index,
        id: a.id,
        reason: Reason::Userspace,
    };
    events.expect(&gone, SOON)?;
    // And a new peer, as after a restart of the connection.
    a.add_peer()?;
    a.add_key(PRIMARY, spec.cipher, 3)?;
    tunnel.b.nl.peer_del(tunnel.b.ifindex, tunnel.b.id)?;
    tunnel.b.add_peer()?;
    tunnel.b.add_key(PRIMARY, spec.cipher, 3)?;
    crate::lab::Echo::new(Tunnel::inner(false, 2), 10).lossless(&other)
}

/// Two interfaces that had the same index in turn are not told apart, so neither is taken for the other.
fn ambiguous(_: &Ctx) -> Outcome {
    if !Module::ours() {
        return Err(Failure::Skipped("mainline does not find it".into()));
    }
    let (home, away) = (Ns::new()?, Ns::new()?);
    let server = Server::within(home, false)?;
    let index = server.ifindex;
    server
        .ns
        .ip(&format!("link set mp netns {}", away.path()))?;
    let ask = || -> Outcome<Option<i32>> {
        let mut msg = server.nl.msg(cmd::PEER_GET, index);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, 1);
        });
        Ok(server.nl.request(&msg)?.err().map(|r| r.errno))
    };
    check_eq!(ask()?, Some(libc::ENOENT), "errno with one such interface");
    server
        .ns
        .ip(&format!("link add mp2 index {index} type ovpn"))
        .or_else(|_| {
            let made = server.links.create("mp2", None)?;
            made.during("a second interface").map(drop)
        })?;
    if server.ns.ifindex("mp2")? != Some(index) {
        return Err(Failure::Skipped("ip cannot choose the index".into()));
    }
    server
        .ns
        .ip(&format!("link set mp2 netns {}", away.path()))?;
    check_eq!(ask()?, Some(libc::ENODEV), "errno with two such interfaces");
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new(
        "cached dst outlives its netns: an interface moves on and its namespace ends",
        routes_stay,
    )];
    cases.extend([Outer::V4, Outer::Tcp6].map(|outer| {
        Case::new(
            format!("an interface that moved is found from home, {outer:?}"),
            move |_| found_from_home(outer),
        )
    }));
    cases.push(Case::new(
        "an interface that moved is not taken for another",
        ambiguous,
    ));
    cases
}
