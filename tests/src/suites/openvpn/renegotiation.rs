// SPDX-License-Identifier: GPL-2.0-only
//! All clients renegotiate every 10 s for 5 minutes, and no ping is lost, neither on the way there nor back.

use std::thread;
use std::time::{Duration, Instant};

use super::daemon::DEVICE;
use super::net;
use super::vpn::{Shared, Vpn};
use crate::lab::{DropReasons, Echo, Ns};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{check, check_eq, note};

const SECONDS: u32 = 300;
/// Milliseconds between the pings of each client and family.
const INTERVAL: u32 = 200;
/// A handshake takes its time, so that there are fewer than one in 10 s.
const WANTED: usize = 20;

/// Pings of one client, one in a hundred, that may be lost on a machine so busy that a process installs its key later than
/// the driver has packets wait for it (`early::SECONDS`).
const FORGIVEN: u32 = 2 * SECONDS * 1000 / INTERVAL / 100;

/// Packets that a namespace's driver dropped because it had no key for them (yet).
fn no_key(ns: &Ns) -> Outcome<u64> {
    let counters = DropReasons::open(ns, DEVICE)?.read()?;
    let found = counters.iter().find(|(name, _)| name == "rx_no_key");
    Ok(found.map_or(0, |(_, count)| *count))
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
    let done = vpn.each(vpn.running(), |client, site| {
        let daemon = vpn.daemon(client.n)?;
        let before = daemon.handshakes();
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
        // With the driver below it, OpenVPN reads its control channel beside the data: when its process has to wait for
        // a processor, the other end's first packets with a new key come before the key, and wait for it. Those that
        // waited for too long are counted, and nothing else may be missing.
        let early = match vpn.spec.offload {
            true => no_key(&vpn.net.server)? + if client.offload { no_key(&site.ns)? } else { 0 },
            false => 0,
        };
        check!(
            lost == 0 || (u64::from(lost) <= early && lost <= FORGIVEN),
            "{lost} pings lost over {rounds} renegotiations, {early} packets waited too long for their key"
        );
        check!(
            rounds >= WANTED,
            "only {rounds} renegotiations in {SECONDS} s"
        );
        check_eq!(daemon.connections(), 1, "connections");
        daemon.content().during("log")?;
        Ok((rounds, lost))
    })?;
    vpn.server.content()?;
    let rounds: usize = done.iter().map(|(_, (rounds, _))| rounds).sum();
    let lost: u32 = done.iter().map(|(_, (_, lost))| lost).sum();
    note!(
        "{} clients, {rounds} renegotiations, {} pings in {:.0} s, {lost} lost because their key came too late",
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
