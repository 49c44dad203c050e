// SPDX-License-Identifier: GPL-2.0-only
//! Duties of every client: connect, answer, carry iperf3, be counted.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::control::{Management, fresh_client_file, fresh_status_file};
use super::net::{self, Site};
use super::table::{Client, Spec};
use super::vpn::{Shared, Vpn, device};
use crate::lab::{Echo, Flow, Ns, wait_for};
use crate::nl::ovpn::{Ovpn, Stats, peer};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{check, check_eq, note};

/// iperf3 of all clients.
struct Load {
    name: &'static str,
    /// Column of the table at the end.
    column: &'static str,
    v6: bool,
    /// The other end sends.
    reverse: bool,
    /// To the next client instead of the server.
    between: bool,
    udp: bool,
}

const LOADS: [Load; 4] = [
    Load {
        name: "TCP/IPv4 to the server",
        column: "up",
        v6: false,
        reverse: false,
        between: false,
        udp: false,
    },
    Load {
        name: "TCP/IPv6 from the server",
        column: "down",
        v6: true,
        reverse: true,
        between: false,
        udp: false,
    },
    Load {
        name: "TCP/IPv4 to the next client",
        column: "to next",
        v6: false,
        reverse: false,
        between: true,
        udp: false,
    },
    Load {
        name: "UDP/IPv6 to the next client",
        column: "UDP6 next",
        v6: true,
        reverse: false,
        between: true,
        udp: true,
    },
];

/// Mbit/s that each client asks for: all together they must fit through one emulated processor.
const ASKED: u32 = 2;
const SECONDS: u32 = 4;

/// Bytes of the control channel of one session: what OpenVPN counts itself beside what the driver counts.
const CONTROL: RangeInclusive<u64> = 0..=200_000;
/// Bytes of the control channel that may come between two readings: a few renegotiations.
const RENEGOTIATIONS: u64 = 20_000;

/// The cases of this file for one network.
pub fn cases(shared: &Shared, spec: &'static Spec) -> Vec<Case> {
    let mut cases: Vec<Case> = spec
        .clients
        .iter()
        .map(|client| shared.case(format!("session: {client}"), |vpn| session(vpn, client)))
        .collect();
    cases.push(shared.case("pings from every client to every other", between));
    for load in &LOADS {
        let name = format!("iperf3 of all clients: {}", load.name);
        cases.push(shared.case(name, |vpn| loaded(vpn, load)));
    }
    if spec.offload {
        cases.push(shared.case(
            "server's management and status file agree with PEER_GET",
            server_counters,
        ));
    }
    cases.push(shared.case(
        "clients' management and status file agree with PEER_GET",
        client_counters,
    ));
    cases
}

fn session(vpn: &mut Vpn, client: &'static Client) -> Outcome {
    let site = vpn.site(client.n)?;
    let result = vpn
        .connected(client, site)
        .and_then(|()| vpn.reachable(client, Duration::from_secs(10)))
        .and_then(|()| vpn.pings(client, site, 20));
    if let Err(failure) = result {
        note!("{}", vpn.daemon(client.n)?.tail(40));
        return Err(failure);
    }
    vpn.note(client.n, "pings", "80/80");
    Ok(())
}

/// The client after this one.
fn next(vpn: &Vpn, client: &Client) -> &'static Client {
    let clients = vpn.spec.clients;
    let at = clients.iter().position(|c| c.n == client.n).unwrap_or(0);
    &clients[(at + 1) % clients.len()]
}

fn between(vpn: &mut Vpn) -> Outcome {
    const COUNT: u16 = 3;
    vpn.all_connected()?;
    let sums = vpn.each(vpn.running(), |client, site| {
        let mut received = 0;
        for other in vpn.running().iter().filter(|c| c.n != client.n) {
            for v6 in [false, true] {
                Echo::new(net::inner(v6, other.n), COUNT)
                    .lossless(&site.ns)
                    .during(format!("to {other}"))?;
                received += COUNT;
            }
        }
        Ok(received)
    })?;
    for (n, received) in sums {
        vpn.note(n, "others", received.to_string());
    }
    Ok(())
}

fn loaded(vpn: &mut Vpn, load: &'static Load) -> Outcome {
    vpn.all_connected()?;
    let one = |client: &'static Client, site: &Site| {
        let to = match load.between {
            true => next(vpn, client).n,
            false => 0,
        };
        let server: &Ns = match load.between {
            true => &vpn.site(to)?.ns,
            false => &vpn.net.server,
        };
        let flow = Flow {
            port: 5200 + u16::from(client.n),
            mbit: ASKED,
            reverse: load.reverse,
            udp: load.udp.then_some(1),
            ..Flow::tcp(net::inner(load.v6, to), SECONDS)
        };
        let (_listener, running) = flow.start(server, &site.ns)?;
        let rate = flow.result(running)?;
        Flow::at_least(&rate, vpn.spec.floor)?;
        Ok(rate.mbit)
    };
    let mut rates = Vec::new();
    for group in vpn.running().chunks(vpn.spec.at_once) {
        rates.extend(vpn.each(group.iter().copied(), one)?);
    }
    let sum: f64 = rates.iter().map(|(_, mbit)| mbit).sum();
    note!("{}: {sum:.1} Mbit/s in all", load.name);
    for (n, mbit) in rates {
        vpn.note(n, load.column, format!("{mbit:.1}"));
    }
    Ok(())
}

/// A count by OpenVPN and the driver's before and after it.
struct Reading {
    told: u64,
    before: u64,
    after: u64,
}

impl Reading {
    /// What OpenVPN counted itself: bounds, because the driver goes on counting.
    fn own(&self) -> RangeInclusive<u64> {
        self.told.saturating_sub(self.after)..=self.told.saturating_sub(self.before)
    }
}

/// Both readings tell of the same bytes beside the driver's, and of no more than a control channel takes; between them
/// were enough for a mistake to show.
fn agree(what: &str, first: &Reading, second: &Reading) -> Outcome {
    const BETWEEN: u64 = 100_000;
    let (a, b) = (first.own(), second.own());
    check!(
        first.told >= first.before && second.told >= second.before,
        "{what}: fewer than the driver's"
    );
    check!(
        second.before >= first.after + BETWEEN,
        "{what}: only {} bytes between two readings",
        second.before.saturating_sub(first.after)
    );
    check!(
        b.end() >= a.start() && *b.start() <= a.end() + RENEGOTIATIONS,
        "{what}: OpenVPN's own bytes were {a:?}, then {b:?}"
    );
    check!(
        CONTROL.contains(a.start()),
        "{what}: {} bytes more than the driver's",
        a.start()
    );
    Ok(())
}

/// Bytes both ways of all sources for one client.
type Readings = Vec<(&'static str, Reading)>;

fn pair(
    readings: &mut Readings,
    names: [&'static str; 2],
    told: (u64, u64),
    before: &Stats,
    after: &Stats,
) {
    let [rx, tx] = names;
    readings.push((
        rx,
        Reading {
            told: told.0,
            before: before.link_rx_bytes,
            after: after.link_rx_bytes,
        },
    ));
    readings.push((
        tx,
        Reading {
            told: told.1,
            before: before.link_tx_bytes,
            after: after.link_tx_bytes,
        },
    ));
}

/// The counters of every client's peer, by the client's number.
fn server_stats(vpn: &Vpn) -> Outcome<Vec<(&'static Client, Stats)>> {
    let (_, index) = device(&vpn.net.server)?;
    let nl = Ovpn::open(&vpn.net.server)?;
    let one = |client: &'static Client| {
        let id = vpn.peer(client.n)?.u32(peer::ID);
        let id = id.ok_or_else(|| Failure::new("a peer without id"))?;
        Ok((client, nl.stats(index, id)?))
    };
    vpn.running().into_iter().map(one).collect()
}

fn read_server(vpn: &Vpn) -> Outcome<Vec<(&'static Client, Readings)>> {
    let mut management = Management::open("server")?;
    let start = server_stats(vpn)?;
    let status = management.status()?;
    let after_status = server_stats(vpn)?;
    let ids: Vec<u64> = status.values().map(|row| row.client_id).collect();
    let counts = management.byte_counts(&ids)?;
    let after_counts = server_stats(vpn)?;
    let file = fresh_status_file()?;
    let end = server_stats(vpn)?;
    let mut all = Vec::new();
    for ((((client, start), (_, after_status)), (_, after_counts)), (_, end)) in
        start.iter().zip(&after_status).zip(&after_counts).zip(&end)
    {
        let name = client.name();
        let row = |rows: &std::collections::BTreeMap<String, super::control::Row>| {
            rows.get(&name)
                .cloned()
                .ok_or_else(|| Failure::new(format!("no {name} in a status")))
        };
        let (shown, written) = (row(&status)?, row(&file)?);
        check_eq!(
            Some(shown.peer_id),
            vpn.peer(client.n)?.u32(peer::ID),
            "peer id of {name} in the status"
        );
        check_eq!(shown.cipher, client.cipher.name(), "cipher of {name}");
        let counted = counts
            .get(&shown.client_id)
            .copied()
            .ok_or_else(|| Failure::new("no byte count"))?;
        let mut readings = Readings::new();
        pair(
            &mut readings,
            ["status, received", "status, sent"],
            (shown.received, shown.sent),
            start,
            after_status,
        );
        pair(
            &mut readings,
            ["bytecount, received", "bytecount, sent"],
            counted,
            after_status,
            after_counts,
        );
        pair(
            &mut readings,
            ["status file, received", "status file, sent"],
            (written.received, written.sent),
            after_counts,
            end,
        );
        all.push((*client, readings));
    }
    Ok(all)
}

/// Traffic that every counter must show.
fn some_traffic(vpn: &Vpn) -> Outcome {
    vpn.each(vpn.running(), |_, site| {
        Echo::new(net::inner(false, 0), 150)
            .size(1200)
            .lossless(&site.ns)
    })?;
    Ok(())
}

fn server_counters(vpn: &mut Vpn) -> Outcome {
    vpn.all_connected()?;
    let first = read_server(vpn)?;
    some_traffic(vpn)?;
    let second = read_server(vpn)?;
    for ((client, first), (_, second)) in first.iter().zip(&second) {
        for ((what, first), (_, second)) in first.iter().zip(second) {
            agree(&format!("{client}: {what}"), first, second)?;
        }
        vpn.note(client.n, "counters", "agree");
    }
    note!(
        "{} counters of {} clients",
        first.iter().map(|(_, r)| r.len()).sum::<usize>(),
        first.len()
    );
    Ok(())
}

fn client_stats(site: &Site) -> Outcome<Stats> {
    let (_, index) = device(&site.ns)?;
    let nl = Ovpn::open(&site.ns)?;
    let peers = nl.peer_dump(index)?;
    let id = peers.first().and_then(|p| p.u32(peer::ID));
    nl.stats(index, id.ok_or_else(|| Failure::new("no peer"))?)
}

fn read_client(client: &Client, site: &Site) -> Outcome<Readings> {
    let name = client.name();
    // The socket appears with the process, the interface answers a moment later.
    let mut management = wait_for("the management interface", Duration::from_secs(5), || {
        Ok(Management::open(&name).ok())
    })?;
    let start = client_stats(site)?;
    let counts = management.byte_counts(&[0])?;
    let middle = client_stats(site)?;
    let file = fresh_client_file(&name)?;
    let end = client_stats(site)?;
    let value = |name: &str| {
        file.get(name)
            .copied()
            .ok_or_else(|| Failure::new(format!("no \"{name}\" in {file:?}")))
    };
    let counted = counts
        .get(&0)
        .copied()
        .ok_or_else(|| Failure::new("no byte count"))?;
    let mut readings = Readings::new();
    pair(
        &mut readings,
        ["bytecount, received", "bytecount, sent"],
        counted,
        &start,
        &middle,
    );
    pair(
        &mut readings,
        ["status file, received", "status file, sent"],
        (value("TCP/UDP read bytes")?, value("TCP/UDP write bytes")?),
        &middle,
        &end,
    );
    // OpenVPN takes these two from the driver alone.
    for (what, now, before, after) in [
        (
            "TUN/TAP read bytes",
            value("TUN/TAP read bytes")?,
            middle.vpn_rx_bytes,
            end.vpn_rx_bytes,
        ),
        (
            "TUN/TAP write bytes",
            value("TUN/TAP write bytes")?,
            middle.vpn_tx_bytes,
            end.vpn_tx_bytes,
        ),
    ] {
        check!(
            (before..=after).contains(&now),
            "{what}: {now}, of the driver {before} to {after}"
        );
    }
    Ok(readings)
}

fn client_counters(vpn: &mut Vpn) -> Outcome {
    vpn.all_connected()?;
    let offloaded = || vpn.running().into_iter().filter(|c| c.offload);
    let first = vpn.each(offloaded(), read_client)?;
    some_traffic(vpn)?;
    let second = vpn.each(offloaded(), read_client)?;
    for ((n, first), (_, second)) in first.iter().zip(&second) {
        for ((what, first), (_, second)) in first.iter().zip(second) {
            agree(what, first, second).during(format!("client {n}"))?;
        }
    }
    Ok(())
}
