// SPDX-License-Identifier: GPL-2.0-only
//! All clients renegotiate every 10 s for 5 minutes, and no ping is lost, neither on the way there nor back.

use std::thread;
use std::time::{Duration, Instant};

use super::net;
use super::vpn::{Shared, Vpn};
use crate::lab::Echo;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{check, check_eq, note};

const SECONDS: u32 = 300;
/// Milliseconds between the pings of each client and family.
const INTERVAL: u32 = 200;
/// A handshake takes its time, so that there are fewer than one in 10 s.
const WANTED: usize = 25;

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
        // Packets that come before their key wait for it: none is lost by a process that has to wait for a processor.
        check_eq!(lost, 0, "pings lost over {rounds} renegotiations");
        check!(
            rounds >= WANTED,
            "only {rounds} renegotiations in {SECONDS} s"
        );
        check_eq!(daemon.connections(), 1, "connections");
        daemon.content().during("log")?;
        Ok(rounds)
    })?;
    vpn.server.content()?;
    let rounds: usize = done.iter().map(|(_, rounds)| rounds).sum();
    note!(
        "{} clients, {rounds} renegotiations, {} pings in {:.0} s, none lost",
        done.len(),
        done.len() * usize::from(count) * 2,
        start.elapsed().as_secs_f64()
    );
    for (n, rounds) in done {
        let all = 2 * u32::from(count);
        vpn.note(n, "rekeyed", rounds.to_string());
        vpn.note(n, "pings", format!("{all}/{all}"));
    }
    Ok(())
}
