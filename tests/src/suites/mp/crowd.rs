// SPDX-License-Identifier: GPL-2.0-only
//! Thousands of peers: dumped while they come and go, expired in one moment, deleted with their device.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::lab::{Cipher, End, Hub, Module, Outer, Pair, Ping, Server, Tunnel, patience, wait_for};
use crate::nl::ovpn::{Event, Ovpn, PRIMARY, Reason};
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq, note};

/// Number of peers that the driver is made for on a machine of 64 bits.
const MANY: u32 = 10_000;

/// Peers that stay are in the dump once, peers that come or go at most once, whatever happens between its parts.
fn dump(_: &Ctx) -> Outcome {
    let server = Server::new()?;
    let stay: Vec<u32> = (0..MANY).map(|n| n * 2).collect();
    server.crowd(stay.iter().copied())?;
    // On a socket of its own: the requests in between have answers, too.
    let dumper = Ovpn::open(&server.ns)?;
    let (mut parts, mut passing) = (0u32, Vec::new());
    let dumped = dumper.peer_dump_with(server.ifindex, || {
        parts += 1;
        for id in passing.drain(..) {
            server.nl.peer_del(server.ifindex, id)?;
        }
        // All over the ids, so in front of the dump's position and behind it.
        passing.extend((0..8).map(|n| ((n * 1237 + parts * 331) % MANY) * 2 + 1));
        passing.sort_unstable();
        passing.dedup();
        server.crowd(passing.iter().copied())
    })?;
    let ids: Vec<u32> = dumped
        .iter()
        .filter_map(|p| p.u32(crate::nl::ovpn::peer::ID))
        .collect();
    let once: BTreeSet<u32> = ids.iter().copied().collect();
    note!("{} peers in {parts} parts", ids.len());
    check!(parts > 20, "the dump had {parts} parts only");
    check_eq!(once.len(), ids.len(), "different ids among those dumped");
    let missing: Vec<&u32> = stay.iter().filter(|id| !once.contains(id)).collect();
    check!(
        missing.is_empty(),
        "{} peers were skipped, first {:?}",
        missing.len(),
        missing.first()
    );
    Ok(())
}

/// A server with one real client, whose inner addresses are 10.8.0.1 and 10.8.0.2.
struct Pairing {
    server: Server,
    client: End,
}

impl Pairing {
    fn new(cipher: Cipher) -> Outcome<Self> {
        let Pair { a, b } = Pair::new()?;
        let server = Server::within(a, false)?;
        let mut client = End::new(b, false, Outer::V4)?;
        let id = 1_000_000;
        (client.id, client.tx_id) = (id, id);
        let remote = std::net::SocketAddr::new(Pair::outer(false, 2), 1194);
        let vpn = (Some(std::net::Ipv4Addr::new(10, 8, 0, 2)), None);
        server.peer_new(id, remote, vpn)?.during("PEER_NEW")?;
        let key = cipher.key(1, true);
        server.nl.key_new(server.ifindex, id, PRIMARY, &key)?;
        client.add_peer()?;
        client.add_key(PRIMARY, cipher, 1)?;
        server
            .ns
            .ip("link set mp addrgenmode none\nlink set mp up\naddr add 10.8.0.1/24 dev mp")?;
        client.up(None)?;
        Ok(Self { server, client })
    }
}

/// A thousand peers expire; a ping every 5 ms on another one loses nothing, and each is reported.
fn expiry(_: &Ctx) -> Outcome {
    const CROWD: u32 = 1000;
    let Pairing { server, client } = Pairing::new(Cipher::Aes256)?;
    server.crowd(0..CROWD)?;
    let idle = Ping::new(Tunnel::inner(false, 1), 200);
    let calm = Ping::slowest(&idle.spawn(&client.ns)?.finish(idle.limit())?)?;

    let events = server.nl.listen(&server.ns)?;
    let ping = Ping::new(Tunnel::inner(false, 1), 800);
    let running = ping.spawn(&client.ns)?;
    for id in 0..CROWD {
        server.nl.keepalive(server.ifindex, id, 60, 2)?;
    }
    let mut left: BTreeSet<u32> = (0..CROWD).collect();
    let mut first = None;
    while !left.is_empty() {
        let event = events.next(Duration::from_secs(10))?;
        first.get_or_insert_with(Instant::now);
        match event {
            Some(Event::PeerDel {
                id,
                reason: Reason::Expired,
                ..
            }) if left.remove(&id) => {}
            other => {
                check!(false, "{} left, notification {other:?}", left.len());
            }
        }
    }
    let took = first.map(|f| f.elapsed()).unwrap_or_default();
    let done = running.finish(ping.limit())?;
    let (stats, slowest) = (Ping::stats(&done)?, Ping::slowest(&done)?);
    note!(
        "{CROWD} peers expired within {} ms; slowest of {} pings {slowest:.1} ms, without expiry {calm:.1} ms",
        took.as_millis(),
        stats.sent
    );
    check_eq!(stats.received, stats.sent, "pings answered");
    // Set within a second or two, so they go within as many ticks; a grace period for each would take minutes.
    check!(
        took < Duration::from_secs(4) * patience(),
        "the expiry took {took:?}"
    );
    check!(
        slowest < 100.0 * f64::from(patience()) + calm,
        "a ping took {slowest:.1} ms during the expiry"
    );
    check_eq!(server.ids()?, [1_000_000], "peers left");
    Ok(())
}

/// A device with ten thousand peers that all have keys goes at once, and the module can be unloaded after it.
fn bulk_delete(ctx: &Ctx) -> Outcome {
    const KEYED: u32 = 1000;
    let server = Server::new()?;
    server.crowd(0..MANY)?;
    for id in 0..KEYED {
        let key = Cipher::Aes256.key(1, true);
        server.nl.key_new(server.ifindex, id, PRIMARY, &key)?;
    }
    let start = Instant::now();
    server.links.delete(server.ifindex)?.during("RTM_DELLINK")?;
    let deleted = start.elapsed();
    drop(server);
    Module::unload()?;
    let unloaded = start.elapsed();
    ctx.module.load()?;
    note!(
        "{MANY} peers deleted with their device in {} ms, module unloaded after {} ms",
        deleted.as_millis(),
        unloaded.as_millis()
    );
    check!(
        deleted < Duration::from_secs(2) * patience(),
        "deletion took {deleted:?}"
    );
    Ok(())
}

/// Ten thousand peers, and each packet still finds its own.
fn lookup_in_crowd(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    hub.server.crowd(1000..1000 + MANY)?;
    for n in [0, 1] {
        for v6 in [false, true] {
            hub.reaches(Hub::inside(v6, n), n)?;
        }
        hub.fence(n)?;
    }
    // Half of them go again while packets flow.
    for id in (1000..1000 + MANY).step_by(2) {
        hub.server.nl.peer_del(hub.server.ifindex, id)?;
        if id % 1000 == 0 {
            hub.reaches(Hub::inside(false, 1), 1)?;
        }
    }
    wait_for("the rest to be dumped", Duration::from_secs(1), || {
        Ok((hub.server.ids()?.len() == MANY as usize / 2 + 2).then_some(()))
    })
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("dump of 10000 peers that come and go", dump),
        Case::new("1000 peers expire at once", expiry),
        Case::new("10000 peers deleted with their device", bulk_delete),
        Case::new("lookup among 10000 peers", lookup_in_crowd),
    ]
}
