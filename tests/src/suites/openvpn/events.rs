// SPDX-License-Identifier: GPL-2.0-only
//! Events in the life of running sessions: other addresses, other ports, ends with and without a word, servers that go.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::control::status_file;
use super::daemon::{DEVICE, Daemon, HANDSHAKE};
use super::net;
use super::table::{Client, Role, Spec};
use super::vpn::{EVENT, Shared, Vpn};
use crate::lab::{Echo, Module, Ns, Ping, patience, wait_for};
use crate::nl::ovpn::remote_of;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

/// Until a server without keepalives from a client gives it up: twice the client's own time, and a margin.
const EXPIRY: Duration = Duration::from_secs(25);
/// Until the driver and OpenVPN have taken notice of what they were told.
const SOON: Duration = Duration::from_secs(8);

/// The cases of this file for one network, in an order in which each finds all clients running.
pub fn cases(shared: &Shared, spec: &'static Spec) -> Vec<Case> {
    let has = |role| spec.clients.iter().any(|c| c.role == role);
    let mut cases = Vec::new();
    if has(Role::Lan) {
        cases.push(shared.case("iroute: the network behind a client", lan));
    }
    if spec.offload {
        cases.push(shared.case("reverse path: other people's addresses", spoofed));
    }
    if has(Role::Roams) || has(Role::Nat) {
        cases.push(shared.case("float: another address, another port of a NAT", float));
    }
    if has(Role::Leaves) {
        cases.push(
            shared.case("clients leave with a word and come back", |vpn| {
                gone(vpn, Role::Leaves)
            }),
        );
    }
    if has(Role::Dies) {
        cases.push(
            shared.case("clients are killed, expire and come back", |vpn| {
                gone(vpn, Role::Dies)
            }),
        );
    }
    cases.push(
        shared.case("server is ended, comes back, and all clients", |vpn| {
            server_back(vpn, libc::SIGTERM)
        }),
    );
    cases.push(
        shared.case("server is killed, comes back, and all clients", |vpn| {
            server_back(vpn, libc::SIGKILL)
        }),
    );
    cases
}

/// The case that ends a network.
pub fn last(shared: &Shared) -> Case {
    shared.last_case(
        "everybody leaves, the module unloads, nothing is left",
        finish,
    )
}

/// A host behind a client reaches the server and the other clients, and they reach it.
fn lan(vpn: &mut Vpn) -> Outcome {
    vpn.all_connected()?;
    let lans = vpn.of(Role::Lan);
    vpn.each(lans.iter().copied(), |client, site| {
        let host = site.lan.as_ref().ok_or_else(|| Failure::new("no host"))?;
        for v6 in [false, true] {
            let there = net::lan(v6, client.n, 2);
            Echo::new(there, 30)
                .lossless(&vpn.net.server)
                .during("from the server")?;
            Echo::new(net::inner(v6, 0), 30)
                .lossless(host)
                .during("to the server")?;
            Echo::new(there, 10)
                .size(1200)
                .lossless(&vpn.net.server)
                .during("large, from the server")?;
            // Through the server, from clients that are no part of it and from the other network.
            for other in vpn.running().iter().filter(|c| c.n != client.n).take(6) {
                Echo::new(there, 5)
                    .lossless(&vpn.site(other.n)?.ns)
                    .during(format!("from {other}"))?;
            }
            if let Some(other) = lans.iter().find(|c| c.n != client.n) {
                Echo::new(net::lan(v6, other.n, 2), 10)
                    .lossless(host)
                    .during("from network to network")?;
            }
        }
        Ok(())
    })?;
    for client in lans {
        vpn.note(client.n, EVENT, "LAN reached");
    }
    Ok(())
}

/// Packets with a source that is not the client's never come out of the server's device; its own do.
fn spoofed(vpn: &mut Vpn) -> Outcome {
    const PORT: u16 = 4000;
    const EACH: usize = 3;
    vpn.all_connected()?;
    let Some(owner) = vpn.of(Role::Lan).first().copied() else {
        return Err(Failure::new("no client with a network"));
    };
    let stays = vpn.of(Role::Stays);
    for v6 in [false, true] {
        let catcher = vpn.net.server.udp(v6, PORT)?;
        for client in &stays {
            let site = vpn.site(client.n)?;
            let dropped = || -> Outcome<u64> { Ok(vpn.net.server.netdev(DEVICE)?.rx_dropped) };
            let before = dropped()?;
            let strange: IpAddr = match v6 {
                true => std::net::Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 6).into(),
                false => std::net::Ipv4Addr::new(172, 16, 6, 6).into(),
            };
            let theirs = [
                net::inner(v6, owner.n),
                net::lan(v6, owner.n, 2),
                net::inner(v6, 0),
                strange,
            ];
            for source in theirs {
                with_address(&site.ns, source, |socket| {
                    for _ in 0..EACH {
                        socket.send_to(b"spoofed", (net::inner(v6, 0), PORT))?;
                    }
                    Ok(())
                })
                .during(format!("{client} as {source}"))?;
            }
            let own = site.ns.udp(v6, 0)?;
            own.send_to(b"own", (net::inner(v6, 0), PORT))?;
            arrives(&catcher, net::inner(v6, client.n), b"own").during(client)?;
            let drops = dropped()? - before;
            // The server's own address as a source may be refused by its stack instead, after the device.
            let least = (EACH * (theirs.len() - 1)) as u64;
            check!(
                drops >= least,
                "{client}: {drops} drops, at least {least} were to be"
            );
        }
        // Traffic of the network behind its owner comes through from there.
        let host = vpn.site(owner.n)?.lan.as_ref();
        let host = host.ok_or_else(|| Failure::new("no host"))?.udp(v6, 0)?;
        host.send_to(b"own", (net::inner(v6, 0), PORT))?;
        arrives(&catcher, net::lan(v6, owner.n, 2), b"own").during("from the network")?;
    }
    Ok(())
}

/// Runs with a socket that sends from an address which the namespace has for that time only.
fn with_address(
    ns: &Ns,
    source: IpAddr,
    run: impl FnOnce(&UdpSocket) -> Outcome + Send,
) -> Outcome {
    let (address, nodad) = match source {
        IpAddr::V4(_) => (format!("{source}/32"), ""),
        IpAddr::V6(_) => (format!("{source}/128"), " nodad"),
    };
    ns.ip(&format!("addr add {address} dev {DEVICE}{nodad}"))?;
    let sent = ns
        .enter(|| Ok(UdpSocket::bind(SocketAddr::new(source, 0))?))
        .and_then(|socket| run(&socket));
    ns.ip(&format!("addr del {address} dev {DEVICE}"))?;
    sent
}

/// The next datagram is this one from there.
fn arrives(socket: &UdpSocket, from: IpAddr, text: &[u8]) -> Outcome {
    socket.set_read_timeout(Some(SOON * patience()))?;
    let mut packet = [0; 100];
    let (len, sender) = socket.recv_from(&mut packet).during("nothing arrived")?;
    check_eq!(
        (sender.ip(), packet.get(..len).unwrap_or_default()),
        (from, text),
        "datagram"
    );
    Ok(())
}

/// The server's view of a client's transport address has changed to this, in the driver and in OpenVPN.
fn seen_at(vpn: &Vpn, client: &Client, there: impl Fn(SocketAddr) -> bool) -> Outcome<SocketAddr> {
    let mut last = None;
    let seen = wait_for("the server to see the new address", SOON, || {
        if vpn.spec.offload {
            last = remote_of(&vpn.peer(client.n)?);
            if !last.is_some_and(&there) {
                return Ok(None);
            }
        }
        // "udp4:10.20.1.1:40000", "udp6:[fd00:20:1::1]:40000"
        let rows = status_file()?;
        let Some(row) = rows.get(&client.name()) else {
            return Ok(None);
        };
        let (_, address) = row
            .real_address
            .split_once(':')
            .ok_or_else(|| Failure::new(&row.real_address))?;
        let address: SocketAddr = address.parse().map_err(Failure::new).during(address)?;
        last = Some(address);
        Ok(there(address).then_some(address))
    });
    seen.map_err(|failure| failure.during(format!("last seen at {last:?}")))
}

fn float(vpn: &mut Vpn) -> Outcome {
    vpn.all_connected()?;
    let movers = || [vpn.of(Role::Roams), vpn.of(Role::Nat)].concat();
    let seen = vpn.each(movers(), |client, site| {
        let v6 = client.transport.v6();
        // Traffic of the client's, without which the server does not know where it is.
        let pings = Ping::new(net::inner(false, 0), 100_000)
            .interval(50)
            .spawn(&site.ns)?;
        let seen = match &site.nat {
            Some(nat) => {
                let port = nat.rebind(&vpn.net.hub)?;
                seen_at(vpn, client, |address| address.port() == port)?
            }
            None => {
                site.move_away()?;
                let address = net::outer(v6, client.n, 1);
                seen_at(vpn, client, |seen| seen.ip() == address)?
            }
        };
        drop(pings);
        vpn.pings(client, site, 20)?;
        // The control channel follows, or the next renegotiation fails.
        let daemon = vpn.daemon(client.n)?;
        let (handshakes, connections) = (daemon.handshakes(), daemon.connections());
        daemon.says(
            "Control Channel: TLS",
            handshakes + 1,
            Duration::from_secs(30),
        )?;
        vpn.pings(client, site, 20)
            .during("after the renegotiation")?;
        check_eq!(
            daemon.connections(),
            connections,
            "connections: this was to be the same one"
        );
        Ok(seen)
    })?;
    for (n, address) in seen {
        vpn.note(n, EVENT, format!("floated to {address}"));
    }
    Ok(())
}

/// The driver and OpenVPN have forgotten a client.
fn forgotten(vpn: &Vpn, client: &Client) -> Outcome {
    wait_for("the server to forget the client", EXPIRY, || {
        if vpn.spec.offload && vpn.find_peer(client.n)?.is_some() {
            return Ok(None);
        }
        Ok((!status_file()?.contains_key(&client.name())).then_some(()))
    })
}

/// Clients of a role end, each in its way; the server notices; they come back.
fn gone(vpn: &mut Vpn, role: Role) -> Outcome {
    vpn.all_connected()?;
    let clients = vpn.of(role);
    let before = Instant::now();
    for client in &clients {
        let mut daemon = vpn.take(client.n)?;
        let ns = &vpn.site(client.n)?.ns;
        match role {
            Role::Dies => {
                daemon.kill()?;
                // A device of the driver outlives the process that made it; a tun does not.
                check_eq!(
                    ns.ifindex(DEVICE)?.is_some(),
                    client.offload,
                    "device after a kill"
                );
                if client.offload {
                    ns.ip(&format!("link del {DEVICE}"))?;
                }
            }
            _ => daemon.stop(ns)?,
        }
    }
    let took = vpn.each(clients.iter().copied(), |client, _| {
        forgotten(vpn, client)?;
        Ok(before.elapsed())
    });
    // No other client was lost with them.
    let others = vpn.each(vpn.running(), |client, site| vpn.pings(client, site, 5));
    for client in &clients {
        vpn.start_client(client.n)?;
    }
    let took = took?;
    others?;
    vpn.each(clients, |client, site| {
        vpn.connected(client, site)?;
        vpn.reachable(client, HANDSHAKE)?;
        vpn.pings(client, site, 20)
    })?;
    let word = if role == Role::Dies { "killed" } else { "left" };
    for (n, time) in took {
        let text = format!("{word}, gone after {:.1} s, back", time.as_secs_f64());
        vpn.note(n, EVENT, text);
    }
    Ok(())
}

/// The server goes, with or without a word, and all clients find the next one.
fn server_back(vpn: &mut Vpn, signal: i32) -> Outcome {
    vpn.all_connected()?;
    let before: Vec<(u8, usize)> = vpn
        .clients
        .iter()
        .map(|(n, daemon)| (*n, daemon.connections()))
        .collect();
    let start = Instant::now();
    if signal == libc::SIGKILL {
        vpn.server.kill()?;
        vpn.clients.values_mut().for_each(Daemon::may_expire);
        if vpn.spec.offload {
            // The kernel closes the sockets of the dead.
            wait_for("the driver to forget all peers", SOON, || {
                Ok(vpn.peers()?.is_empty().then_some(()))
            })?;
            // OpenVPN does not work on a device of the driver that it did not make: it never learns its index.
            vpn.net.server.ip(&format!("link del {DEVICE}"))?;
        }
    } else {
        vpn.server.stop(&vpn.net.server)?;
    }
    vpn.start_server()?;
    vpn.each(vpn.running(), |client, site| {
        let earlier = before.iter().find(|(n, _)| *n == client.n);
        let earlier = earlier.map_or(0, |(_, connections)| *connections);
        vpn.daemon(client.n)?.connected(earlier + 1)?;
        vpn.reachable(client, HANDSHAKE)?;
        vpn.pings(client, site, 10)
    })?;
    note!(
        "all {} clients are back after {:.1} s",
        vpn.clients.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Ends all, demands that nothing is left.
fn finish(ctx: &Ctx, mut vpn: Vpn) -> Outcome {
    for line in vpn.table() {
        note!("{line}");
    }
    for daemon in vpn.clients.values() {
        daemon.signal(libc::SIGTERM);
    }
    for client in vpn.spec.clients {
        vpn.take(client.n)?.stopped(&vpn.site(client.n)?.ns)?;
    }
    // It still has peers: most clients end without a word.
    vpn.server.stop(&vpn.net.server)?;
    drop(vpn);
    Module::unload()?;
    ctx.module.load()
}
