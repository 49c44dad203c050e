// SPDX-License-Identifier: GPL-2.0-only
//! How peers, sockets, devices and namespaces come to their ends, idle and under traffic.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{
    Cipher, Echo, End, Flow, Module, Outer, Ping, Proc, Tunnel, TunnelSpec, patience, wait_for,
};
use crate::nl::ovpn::{Event, Ovpn, PRIMARY, Reason, SECONDARY};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

const SOON: Duration = Duration::from_secs(2);
const IFF_RUNNING: u32 = libc::IFF_RUNNING as u32;

fn gone(end: &End, reason: Reason) -> Event {
    Event::PeerDel {
        ifindex: end.ifindex,
        id: end.id,
        reason,
    }
}

/// After its peer an end has neither peer nor carrier.
fn lonely(end: &End) -> Outcome {
    check_eq!(end.nl.peer_dump(end.ifindex)?.len(), 0, "peers left");
    wait_for("the carrier to go", SOON, || {
        Ok((end.links.get(end.ifindex)?.flags & IFF_RUNNING == 0).then_some(()))
    })
}

/// Two idle ends keep each other alive; the tunnel's own counters do not see it.
fn keepalive_both_ways(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let events = (
        tunnel.a.nl.listen(&tunnel.a.ns)?,
        tunnel.b.nl.listen(&tunnel.b.ns)?,
    );
    let start = Instant::now();
    for end in [&tunnel.a, &tunnel.b] {
        end.nl.keepalive(end.ifindex, end.id, 1, 2)?;
    }
    wait_for("three keepalives each way", Duration::from_secs(8), || {
        let received = (
            tunnel.a.stats()?.link_rx_packets,
            tunnel.b.stats()?.link_rx_packets,
        );
        Ok((received.0 >= 3 && received.1 >= 3).then_some(()))
    })?;
    check!(
        start.elapsed() >= Duration::from_secs(2),
        "three keepalives within {:?}",
        start.elapsed()
    );
    for end in [&tunnel.a, &tunnel.b] {
        let stats = end.stats()?;
        check_eq!(
            (stats.vpn_rx_packets, stats.vpn_tx_packets),
            (0, 0),
            "vpn counters"
        );
        check_eq!(end.dev()?.rx_dropped, 0, "rx_dropped");
    }
    events.0.expect_none()?;
    events.1.expect_none()
}

/// A silent peer is deleted after its timeout, not before, and data counts as a sign of life.
fn expiry(_: &Ctx) -> Outcome {
    const TIMEOUT: u32 = 2;
    let tunnel = Tunnel::simple()?;
    let (a, b) = (&tunnel.a, &tunnel.b);
    let events = (a.nl.listen(&a.ns)?, b.nl.listen(&b.ns)?);
    a.nl.keepalive(a.ifindex, a.id, 60, TIMEOUT)?;
    // Replies to these pings are all that a hears.
    Ping::new(Tunnel::inner(false, 2), 30)
        .interval(100)
        .lossless(&a.ns)?;
    events.0.expect_none().during("while pings were answered")?;
    // The last sign of life falls between these two moments.
    let before = Instant::now();
    Ping::new(Tunnel::inner(false, 2), 1).lossless(&a.ns)?;
    let after = Instant::now();
    events
        .0
        .expect(&gone(a, Reason::Expired), Duration::from_secs(6))?;
    let (most, least) = (
        before.elapsed().as_secs_f64(),
        after.elapsed().as_secs_f64(),
    );
    // Time is kept in whole seconds, and looked at once a second: mainline counts the second that has begun as over.
    let early = f64::from(TIMEOUT) - if Module::ours() { 0.0 } else { 1.0 };
    let late = f64::from(TIMEOUT) + 2.0 + 0.3 * f64::from(patience());
    check!(
        most >= early && least <= late,
        "timeout of {TIMEOUT} s came {least:.2} to {most:.2} s after the last packet"
    );
    lonely(a)?;
    if Module::ours() {
        late_key(a, tunnel.spec.cipher)?;
    }
    check_eq!(
        b.nl.peer_dump(b.ifindex)?.len(),
        1,
        "peers of the other end"
    );
    events.1.expect_none()?;
    // It can be added again, and works again.
    a.add_peer()?;
    a.add_key(PRIMARY, tunnel.spec.cipher, 2)?;
    b.add_key(PRIMARY, tunnel.spec.cipher, 2)?;
    tunnel.works(20)
}

/// A key on its way to a peer while that expires must not be refused, because OpenVPN would exit (ovpn-dco#50); mainline
/// refuses it. Once userspace has deleted the peer itself, the key is a mistake again.
fn late_key(end: &End, cipher: Cipher) -> Outcome {
    end.add_key(PRIMARY, cipher, 2)
        .during("key for an expired peer")?;
    check!(
        end.nl.peer_del(end.ifindex, end.id).is_err(),
        "an expired peer was deleted once more"
    );
    check!(
        end.add_key(PRIMARY, cipher, 2).is_err(),
        "key for a deleted peer was taken"
    );
    Ok(())
}

/// A keepalive that is switched off again expires no peer.
fn keepalive_off(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let events = tunnel.a.nl.listen(&tunnel.a.ns)?;
    tunnel.a.nl.keepalive(tunnel.a.ifindex, tunnel.a.id, 1, 1)?;
    tunnel.a.nl.keepalive(tunnel.a.ifindex, tunnel.a.id, 0, 0)?;
    if let Some(event) = events.next(Duration::from_millis(2500))? {
        return Err(Failure::new(format!("{event:?}")));
    }
    tunnel.works(5)
}

/// Closing the transport socket deletes its peer.
fn socket_closed(_: &Ctx) -> Outcome {
    let mut tunnel = Tunnel::simple()?;
    let events = tunnel.b.nl.listen(&tunnel.b.ns)?;
    tunnel.b.close();
    events.expect(&gone(&tunnel.b, Reason::TransportDisconnect), SOON)?;
    lonely(&tunnel.b)?;
    events.expect_none()
}

/// Traffic from a to b and back that does not end by itself soon.
pub fn busy(tunnel: &Tunnel) -> Outcome<Vec<Proc>> {
    let flow = Flow::tcp(Tunnel::inner(false, 2), 30);
    let (server, client) = flow.start(&tunnel.b.ns, &tunnel.a.ns)?;
    let ping = Ping::new(Tunnel::inner(true, 1), 100_000)
        .interval(1)
        .spawn(&tunnel.b.ns)?;
    wait_for("traffic", Duration::from_secs(5), || {
        Ok((tunnel.b.stats()?.vpn_rx_packets > 500).then_some(()))
    })?;
    Ok(vec![server, client, ping])
}

/// Where a kernel with CPU hotplug has the second processor.
const SECOND: &str = "/sys/devices/system/cpu/cpu1/online";

/// The second processor goes and comes back, with whatever waits in its queues; no ping is lost.
fn offline(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let _traffic = busy(&tunnel)?;
    let echo = Echo::new(Tunnel::inner(false, 2), 600).interval(5);
    let switches = thread::scope(|scope| {
        let pings = scope.spawn(|| echo.lossless(&tunnel.a.ns));
        let mut switches = 0;
        let switched = loop {
            if pings.is_finished() {
                break Ok(());
            }
            let on = (switches % 2).to_string();
            if let Err(err) = fs::write(SECOND, &on).during(SECOND) {
                break Err(err);
            }
            switches += 1;
        };
        // The other cases want both.
        if fs::read_to_string(SECOND)?.trim() == "0" {
            fs::write(SECOND, "1").during(SECOND)?;
        }
        switched?;
        let panic = |_| Err(Failure::new("panic"));
        pings.join().unwrap_or_else(panic)?;
        Ok::<_, Failure>(switches)
    })?;
    note!("switched {switches} times");
    check!(switches > 4, "the pings were over before");
    tunnel.works(20)
}

/// Changes of an end while packets are under way.
type Blow = fn(&mut Tunnel) -> Outcome;

fn under_traffic(outer: Outer, reason: Reason, blow: Blow) -> Outcome {
    let spec = TunnelSpec {
        outer,
        ..TunnelSpec::default()
    };
    for _ in 0..3 {
        let mut tunnel = Tunnel::new(spec)?;
        let events = tunnel.b.nl.listen(&tunnel.b.ns)?;
        let _traffic = busy(&tunnel)?;
        blow(&mut tunnel)?;
        events.expect(&gone(&tunnel.b, reason), SOON)?;
    }
    // The driver as a whole is none the worse.
    Tunnel::new(spec)?.works(20)
}

fn delete_peer(tunnel: &mut Tunnel) -> Outcome {
    tunnel.b.nl.peer_del(tunnel.b.ifindex, tunnel.b.id)
}

fn replace_peer(tunnel: &mut Tunnel) -> Outcome {
    tunnel.b.add_peer()
}

fn close_socket(tunnel: &mut Tunnel) -> Outcome {
    tunnel.b.close();
    Ok(())
}

fn delete_link(tunnel: &mut Tunnel) -> Outcome {
    tunnel
        .b
        .links
        .delete(tunnel.b.ifindex)?
        .during("RTM_DELLINK")
}

fn link_down(tunnel: &mut Tunnel) -> Outcome {
    tunnel.b.ns.ip("link set tun down")?;
    check_eq!(
        tunnel.b.nl.peer_dump(tunnel.b.ifindex)?.len(),
        1,
        "peers of a device that is down"
    );
    tunnel.b.ns.ip("link set tun up")?;
    tunnel.b.nl.peer_del(tunnel.b.ifindex, tunnel.b.id)
}

fn delete_transport(tunnel: &mut Tunnel) -> Outcome {
    tunnel.b.ns.ip("link del veth")?;
    tunnel.b.nl.peer_del(tunnel.b.ifindex, tunnel.b.id)
}

/// A namespace that ends with a live device in it. Its descriptors are those of the tunnel.
fn namespace_gone(_: &Ctx) -> Outcome {
    for _ in 0..3 {
        let tunnel = Tunnel::simple()?;
        let traffic = busy(&tunnel)?;
        let Tunnel { a, b, .. } = tunnel;
        drop(b);
        drop(traffic);
        drop(a);
    }
    Tunnel::simple()?.works(20)
}

/// Requests of several processes to one end at once, over and over; the answer that the peer is gone is in order.
fn disturb(end: &End, what: usize, until: Instant) -> Outcome {
    let nl = Ovpn::open(&end.ns)?;
    let (index, id) = (end.ifindex, end.id);
    let (fd, remote) = end.transport();
    let mut round = 0u8;
    while Instant::now() < until {
        round = round.wrapping_add(1);
        let flag = u32::from(round & 1);
        let result = match what {
            0 => nl
                .key_new(index, id, SECONDARY, &Cipher::ChaCha.key(round, false))
                .and_then(|()| nl.key_swap(index, id)),
            1 => nl.key_del(index, id, flag),
            2 => nl
                .peer_new(index, id, fd, remote, Some(end.tx_id))
                .and_then(|()| nl.key_new(index, id, PRIMARY, &Cipher::Aes256.key(1, false))),
            3 => nl.peer_del(index, id),
            4 => nl.keepalive(index, id, flag, flag),
            _ => nl.peer_dump(index).map(drop),
        };
        match result {
            Err(Failure::Failed(why)) if !why.contains("ENOENT") => {
                return Err(Failure::Failed(why));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Requests that race each other and the packets; then the same end must work again.
fn races(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let traffic = busy(&tunnel)?;
    let until = Instant::now() + SOON;
    let (end, cipher) = (&tunnel.b, tunnel.spec.cipher);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|what| scope.spawn(move || disturb(end, what, until)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|_| Err(Failure::new("panic"))))
    })?;
    drop(traffic);
    for end in [&tunnel.a, &tunnel.b] {
        end.add_peer()?;
        end.add_key(PRIMARY, cipher, 9)?;
    }
    tunnel.works(50)
}

/// Name, reason that userspace is told, what is done, whether it can be done over TCP.
const BLOWS: [(&str, Reason, Blow, bool); 6] = [
    ("peer deleted", Reason::Userspace, delete_peer, true),
    // A stream has one peer.
    ("peer replaced", Reason::Teardown, replace_peer, false),
    (
        "socket closed",
        Reason::TransportDisconnect,
        close_socket,
        true,
    ),
    ("link deleted", Reason::Teardown, delete_link, true),
    (
        "link down and up, peer deleted",
        Reason::Userspace,
        link_down,
        true,
    ),
    (
        "transport device deleted",
        Reason::Userspace,
        delete_transport,
        true,
    ),
];

fn blows(outer: Outer) -> impl Iterator<Item = Case> {
    let fitting = BLOWS
        .into_iter()
        .filter(move |(_, _, _, tcp)| *tcp || !outer.is_tcp());
    fitting.map(move |(name, reason, blow, _)| {
        Case::new(format!("life: {name} under traffic"), move |_| {
            under_traffic(outer, reason, blow)
        })
    })
}

/// Events in the life of a tunnel over TCP.
pub fn tcp_cases() -> Vec<Case> {
    blows(Outer::Tcp4).collect()
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("life: keepalive both ways", keepalive_both_ways),
        Case::new("life: expiry", expiry),
        Case::new("life: keepalive switched off", keepalive_off),
        Case::new("life: socket closed", socket_closed),
    ];
    cases.extend(blows(Outer::V4));
    cases.push(Case::new(
        "life: namespace gone under traffic",
        namespace_gone,
    ));
    if Path::new(SECOND).exists() {
        cases.push(Case::new(
            "life: a processor goes offline under traffic",
            offline,
        ));
    }
    cases.push(Case::new(
        "life: requests that race each other and traffic",
        races,
    ));
    cases
}
