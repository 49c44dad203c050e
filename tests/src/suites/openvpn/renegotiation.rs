// SPDX-License-Identifier: GPL-2.0-only
//! All clients renegotiate every 10 s for 5 minutes, and no ping is lost, neither on the way there nor back. The driver may
//! drop no packet for its key. A ping that this machine lost for want of a processor shows in the counter of a full queue,
//! and one that shows in none fails the case.

use std::thread;
use std::time::{Duration, Instant};

use super::daemon::DEVICE;
use super::net::{self, Site};
use super::table::Client;
use super::vpn::{Shared, Vpn};
use crate::lab::{DropReasons, Echo, Ns, backlog_full};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{check, check_eq, note};

const SECONDS: u32 = 300;
/// Milliseconds between the pings of each client and family.
const INTERVAL: u32 = 200;
/// A handshake takes its time, so that there are fewer than one in 10 s.
const WANTED: usize = 20;

/// Reasons for which the driver drops packets when a key is late, missing, or not the one it should be.
const KEYS: [&str; 6] = [
    "rx_no_key",
    "rx_auth_failed",
    "rx_replay",
    "tx_no_key",
    "tx_exhausted",
    "tx_crypto",
];

/// The drop counters of one end's driver, and what they were.
struct Drops {
    of: String,
    reasons: DropReasons,
    before: Vec<(String, u64)>,
}

impl Drops {
    fn open(of: String, ns: &Ns) -> Outcome<Self> {
        let reasons = DropReasons::open(ns, DEVICE)?;
        check!(reasons.known(), "the driver of {of} counts no reasons");
        let before = reasons.read()?;
        Ok(Self {
            of,
            reasons,
            before,
        })
    }

    /// Those of every end that has the driver.
    fn all(vpn: &Vpn) -> Outcome<Vec<Self>> {
        let mut all = Vec::new();
        if vpn.spec.offload {
            all.push(Self::open("the server".into(), &vpn.net.server)?);
        }
        for client in vpn.running().into_iter().filter(|c| c.offload) {
            all.push(Self::open(client.name(), &vpn.site(client.n)?.ns)?);
        }
        Ok(all)
    }

    /// Fails if one packet was dropped for its key.
    fn none_for_a_key(&self) -> Outcome {
        let mut lost = self.reasons.since(&self.before)?;
        lost.retain(|(name, _)| KEYS.contains(&name.as_str()));
        check!(lost.is_empty(), "{} dropped packets: {lost:?}", self.of);
        Ok(())
    }
}

/// Packets between the server and a client that this machine has lost so far for want of a processor: a socket, a tun
/// device or the backlog of a CPU was full before anyone emptied it. None of these is the driver's.
fn overflown(vpn: &Vpn, client: &Client, site: &Site) -> Outcome<u64> {
    let mut lost = vpn.net.server.unread()? + site.ns.unread()? + backlog_full()?;
    for (ns, offload) in [
        (&vpn.net.server, vpn.spec.offload),
        (&site.ns, client.offload),
    ] {
        if !offload {
            lost += ns.netdev(DEVICE)?.tx_dropped;
        }
    }
    Ok(lost)
}

/// The cases of this file.
pub fn cases(shared: &Shared) -> Vec<Case> {
    vec![shared.case(
        "20 clients renegotiate every 10 s for 5 minutes and lose no ping",
        five_minutes,
    )]
}

fn five_minutes(vpn: &mut Vpn) -> Outcome {
    vpn.all_connected()?;
    vpn.each(vpn.running(), |client, _| {
        vpn.reachable(client, Duration::from_secs(10))
    })?;
    let start = Instant::now();
    let count = (SECONDS * 1000 / INTERVAL) as u16;
    let drops = Drops::all(vpn)?;
    let done = vpn.each(vpn.running(), |client, site| {
        let daemon = vpn.daemon(client.n)?;
        let (before, full) = (daemon.handshakes(), overflown(vpn, client, site)?);
        let out = Echo::new(net::inner(false, 0), count).interval(INTERVAL);
        let back = Echo::new(net::inner(true, client.n), count).interval(INTERVAL);
        let stats = thread::scope(|scope| -> Outcome<_> {
            let returning = scope.spawn(|| back.run(&vpn.net.server));
            let there = out.run(&site.ns)?;
            let returning = returning.join();
            Ok([
                there,
                returning.unwrap_or_else(|_| Err(Failure::new("panic")))?,
            ])
        })?;
        let rounds = daemon.handshakes() - before;
        for ping in stats {
            check_eq!(ping.sent, u32::from(count), "pings sent");
        }
        let lost: u32 = stats.iter().map(|ping| ping.sent - ping.received).sum();
        let unread: u32 = stats.iter().map(|ping| ping.unread).sum();
        let full = overflown(vpn, client, site)? - full + u64::from(unread);
        check!(
            u64::from(lost) <= full,
            "{lost} pings lost over {rounds} renegotiations, {full} packets found a queue of this machine full"
        );
        check!(
            rounds >= WANTED,
            "only {rounds} renegotiations in {SECONDS} s"
        );
        check_eq!(daemon.connections(), 1, "connections");
        daemon.content().during("log")?;
        Ok((rounds, lost))
    })?;
    drops.iter().try_for_each(Drops::none_for_a_key)?;
    vpn.server.content()?;
    let rounds: usize = done.iter().map(|(_, (rounds, _))| rounds).sum();
    let lost: u32 = done.iter().map(|(_, (_, lost))| lost).sum();
    note!(
        "{} clients, {rounds} renegotiations, {} pings in {:.0} s, {lost} lost in full queues of this machine",
        done.len(),
        done.len() * usize::from(count) * 2,
        start.elapsed().as_secs_f64()
    );
    for (n, (rounds, lost)) in done {
        let all = 2 * u32::from(count);
        vpn.note(n, "rekeyed", rounds.to_string());
        vpn.note(n, "pings", format!("{}/{all}", all - lost));
    }
    Ok(())
}
