// SPDX-License-Identifier: GPL-2.0-or-later
//! Tunnels whose control channel is ovpnd's own: OpenVPN with TLS.
//!
//! | file | content |
//! |---|---|
//! | `worker` | the thread in which TLS and the protocol run |
//! | `serving` | a server in that thread |
//! | `client` | a tunnel to a server |
//! | `server` | a server |
//! | `admit` | decisions of a server about its clients |
//! | `pool` | addresses of a server's clients |
//! | `logins` | user names and passwords of a server's clients |
//! | `stream` | a TCP connection |
//! | `outlet` | where packets go to |
//! | `keys` | keys as the kernel takes them |
//! | `options` | the server's options as the kernel and netifd take them |

mod admit;
pub mod client;
mod keys;
mod logins;
mod options;
mod outlet;
mod pool;
pub mod server;
mod serving;
mod stream;
mod worker;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use openvpn_control::client::End;
use openvpn_control::negotiate::Abilities;
use ovpn_netlink::{DelReason, PeerId, Totals};

use crate::config::vpn::ClientEntry;
use crate::config::vpn::server::ServerEntry;
use crate::kernel::Kernel;
use crate::reconcile::{Ask, Offer};
use crate::resolver::{Answer, Lookup};
use crate::tunnel::{Notice, Tunnel};
pub use client::Client;
use keys::key_event;
pub use server::{Server, Updated};
use worker::{Attempt, Said, Worker};

/// The tunnel's MTU when neither side says one: OpenVPN's.
const DEFAULT_MTU: u32 = 1500;
/// Packets that one turn of the loop takes from a socket.
const BURST: usize = 32;
/// Longer control packets than this are no such.
const MAX_PACKET: usize = 2048;

/// Data packets (opcodes 6 and 9) are no business of the control channel.
fn is_control(packet: &[u8]) -> bool {
    packet
        .first()
        .is_some_and(|first| !matches!(first >> 3, 6 | 9))
}

/// The source of packets: an IPv4 address, or a network of 64 bits.
fn source(remote: SocketAddr) -> [u8; 8] {
    match remote.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0, 0, 0, 4, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

/// Abilities of this program.
const ABILITIES: Abilities = Abilities {
    request_push: true,
    tls_key_export: true,
    auth_pending: true,
    exit_notify: true,
    auth_fail_temp: true,
    dyn_tls_crypt: true,
    dns: true,
    push_update: true,
};

/// All clients and servers.
#[derive(Debug, Default)]
pub struct Clients {
    /// Runs from the first client or server on.
    worker: Option<Worker>,
    /// By the names of their interfaces.
    clients: BTreeMap<String, Client>,
    /// The same.
    servers: BTreeMap<String, Server>,
    last: Attempt,
}

impl Clients {
    /// Names and tunnels.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &dyn Tunnel)> {
        let clients = self.clients.iter();
        let servers = self.servers.iter();
        let clients = clients.map(|(name, client)| (name, client as &dyn Tunnel));
        clients.chain(servers.map(|(name, server)| (name, server as &dyn Tunnel)))
    }

    /// Whether this interface is a client's or a server's.
    pub fn has(&self, name: &str) -> bool {
        self.clients.contains_key(name) || self.servers.contains_key(name)
    }

    /// Takes over the configuration of all clients and servers.
    pub fn configure<K: Kernel>(
        &mut self,
        config: BTreeMap<String, ClientEntry>,
        servers: BTreeMap<String, ServerEntry>,
        netifd: bool,
        kernel: &mut K,
        now: Instant,
    ) {
        let gone = |has: &dyn Fn(&str) -> bool, names: &mut dyn Iterator<Item = &String>| {
            let gone = names.filter(|name| !has(name));
            gone.cloned().collect::<Vec<String>>()
        };
        for name in gone(&|name| config.contains_key(name), &mut self.clients.keys()) {
            self.remove(&name, kernel, now);
        }
        for name in gone(&|name| servers.contains_key(name), &mut self.servers.keys()) {
            let found = self.servers.remove(&name).zip(self.worker.as_ref());
            if let Some((mut server, worker)) = found {
                server.forget(&name, (kernel, worker));
            }
        }
        if config.is_empty() && servers.is_empty() {
            return;
        }
        if self.worker.is_none() {
            match Worker::start() {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => {
                    log::error!("{}", client::no_worker(&error));
                    return;
                }
            }
        }
        let Some(worker) = &self.worker else { return };
        for (name, entry) in config {
            let client = self
                .clients
                .entry(name.clone())
                .or_insert_with(|| Client::new(netifd, now));
            if client.want(entry) {
                client.restart(&name, kernel, worker, now);
            }
        }
        for (name, entry) in servers {
            self.last += 1;
            let server = self.servers.entry(name.clone());
            let server = server.or_insert_with(|| Server::new(netifd));
            server.want(&name, entry, (kernel, worker), self.last, now);
        }
    }

    fn remove<K: Kernel>(&mut self, name: &str, kernel: &mut K, now: Instant) {
        let Some((mut client, worker)) = self.clients.remove(name).zip(self.worker.as_ref()) else {
            return;
        };
        client.spec = None;
        client.close(name, kernel, worker, now);
    }

    /// Starts a client or a server, or finds it started, and offers netifd the addresses and routes that there are so far.
    /// None when there is none of this name.
    ///
    /// # Errors
    /// The reason why there is no interface.
    pub fn start<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        now: Instant,
    ) -> Option<Result<Offer, String>> {
        let worker = self.worker.as_ref()?;
        if let Some(server) = self.servers.get_mut(name) {
            self.last += 1;
            return Some(server.start(name, (kernel, worker), self.last, now));
        }
        let client = self.clients.get_mut(name)?;
        Some(client.start(name, (kernel, worker), now))
    }

    /// Ends a client's session or those of a server, and removes its interface. Whether there is one of this name.
    pub fn stop<K: Kernel>(
        &mut self,
        name: &str,
        reason: &str,
        kernel: &mut K,
        now: Instant,
    ) -> bool {
        let Some(worker) = &self.worker else {
            return false;
        };
        if let Some(server) = self.servers.get_mut(name) {
            server.stop(name, reason, (kernel, worker));
            return true;
        }
        let Some(client) = self.clients.get_mut(name) else {
            return false;
        };
        client.stop(name, reason, (kernel, worker), now);
        true
    }

    /// The requests to netifd that are due; each is given out once.
    pub fn asks(&mut self) -> Vec<(String, Ask)> {
        let clients = self.clients.iter_mut();
        let clients =
            clients.filter_map(|(name, client)| Some((name.clone(), client.ask_netifd()?)));
        let servers = self.servers.iter_mut();
        let servers =
            servers.filter_map(|(name, server)| Some((name.clone(), server.ask_netifd()?)));
        clients.chain(servers).collect()
    }

    /// Ends all sessions and removes their interfaces.
    pub fn shut_down<K: Kernel>(&mut self, kernel: &mut K) {
        if let Some(worker) = &self.worker {
            for (name, mut server) in std::mem::take(&mut self.servers) {
                server.forget(&name, (kernel, worker));
            }
        }
        // The worker tells all others before it ends.
        self.worker = None;
        for (name, mut client) in std::mem::take(&mut self.clients) {
            client.forget(&name, kernel);
        }
    }

    /// Descriptors to poll for readability.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let clients = self.clients.values().filter_map(Client::socket);
        let servers = self.servers.values().flat_map(Server::fds);
        let worker = self.worker.iter().map(Worker::as_fd);
        worker.chain(clients).chain(servers)
    }

    /// Reads sockets and the worker's events.
    pub fn serve<K: Kernel>(&mut self, kernel: &mut K, now: Instant) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        for (name, client) in &mut self.clients {
            client.receive(name, (kernel, worker), now);
        }
        for (name, server) in &mut self.servers {
            server.receive(name, (kernel, worker), now);
        }
        for (attempt, said) in worker.events() {
            match said {
                Said::Client(event) => {
                    let found = self.clients.iter_mut().find(|(_, c)| c.has(attempt));
                    if let Some((name, client)) = found {
                        client.event(name, event, (kernel, worker), now);
                    }
                }
                Said::Server(event, login) => {
                    let found = self.servers.iter_mut().find(|(_, s)| s.has(attempt));
                    if let Some((name, server)) = found {
                        server.event(name, event, login, (kernel, worker), now);
                    }
                }
            }
        }
    }

    /// Begins the attempts whose time has come.
    pub fn wake<K: Kernel>(&mut self, kernel: &mut K, now: Instant) {
        for client in self.clients.values_mut() {
            client.wake(now);
        }
        let Some(worker) = &self.worker else { return };
        for (name, server) in &mut self.servers {
            self.last += 1;
            server.wake(name, (kernel, worker), self.last, now);
        }
    }

    /// News of servers' clients, each given out once.
    pub fn notices(&mut self) -> Vec<Notice> {
        let servers = self.servers.values_mut();
        servers.flat_map(Server::take_notices).collect()
    }

    /// Ends the sessions of a server's client, by its name or the number of its peer. None when there is no such server.
    pub fn disconnect<K: Kernel>(&mut self, name: &str, who: &str, kernel: &mut K) -> Option<bool> {
        let (server, worker) = self.servers.get_mut(name).zip(self.worker.as_ref())?;
        Some(server.disconnect(name, who, (kernel, worker)))
    }

    /// Sends changes of options to a server's client, or to all of them without `who`. None when there is no such server.
    ///
    /// # Errors
    /// The sentence: a client could not take an option.
    pub fn push_update(
        &mut self,
        name: &str,
        who: Option<&str>,
        options: &[String],
    ) -> Option<Result<Updated, String>> {
        let (server, worker) = self.servers.get_mut(name).zip(self.worker.as_ref())?;
        Some(server.push_update(who, options, worker))
    }

    /// Takes the user's answer to a client's question, with a user's name where that is asked for. None when there is no such
    /// client; the argument that is wrong, and why, when there is no such question.
    pub fn answer(
        &mut self,
        name: &str,
        user: Option<&str>,
        text: &str,
        now: Instant,
    ) -> Option<Result<(), (&'static str, &'static str)>> {
        let client = self.clients.get_mut(name)?;
        Some(client.answer(user, text, now))
    }

    /// The final counters of a peer came; those of servers' clients are told and added up.
    pub fn counted(&mut self, name: &str, id: PeerId, totals: Totals) {
        if let Some(server) = self.servers.get_mut(name) {
            server.counted(name, id, totals);
        }
    }

    /// The data of a server's client come from another address.
    pub fn floated(&mut self, name: &str, id: PeerId, remote: SocketAddr) {
        let found = self.servers.get_mut(name).zip(self.worker.as_ref());
        if let Some((server, worker)) = found {
            server.floated(name, id, remote, worker);
        }
    }

    /// When the next attempt is due.
    pub fn next_wait(&self) -> Option<Instant> {
        let clients = self.clients.values().filter_map(Client::next_wait);
        let servers = self.servers.values().filter_map(Server::next_wait);
        clients.chain(servers).min()
    }

    /// Questions to the resolver, each given out once.
    pub fn lookups(&mut self) -> Vec<Lookup> {
        self.clients
            .iter_mut()
            .filter_map(|(name, client)| client.lookup(name))
            .collect()
    }

    /// Takes an answer of the resolver.
    pub fn resolved<K: Kernel>(&mut self, answer: Answer, kernel: &mut K, now: Instant) {
        let found = self.clients.get_mut(&answer.lookup.interface);
        let Some((client, worker)) = found.zip(self.worker.as_ref()) else {
            return;
        };
        self.last += 1;
        client.resolved(answer, self.last, (kernel, worker), now);
    }

    /// The kernel deleted a peer.
    pub fn peer_deleted<K: Kernel>(
        &mut self,
        name: &str,
        id: PeerId,
        reason: Option<DelReason>,
        kernel: &mut K,
        now: Instant,
    ) {
        let found = self.servers.get_mut(name);
        if let Some((server, worker)) = found.zip(self.worker.as_ref()) {
            // It may be the end of one that was replaced since.
            if kernel.peer(name, id).is_none() {
                let why = match reason {
                    Some(DelReason::Expired) => {
                        "it was not heard of for the time of ping-restart".into()
                    }
                    Some(reason) => format!("the kernel ended the session: {reason}"),
                    None => "the session is gone from the kernel".into(),
                };
                server.lost(name, id, &why, (kernel, worker));
            }
            return;
        }
        let found = self.clients.get_mut(name);
        let Some((client, worker)) = found.zip(self.worker.as_ref()) else {
            return;
        };
        if client.peer() != Some(id) || kernel.peer(name, id).is_some() {
            return;
        }
        let why = match reason {
            Some(DelReason::Expired) => {
                "the server was not heard of for the time of ping-restart".into()
            }
            Some(reason) => format!("the kernel ended the session: {reason}"),
            None => "the session is gone from the kernel".into(),
        };
        client.lost(name, &why, (kernel, worker), now);
    }

    /// Looks for sessions that are gone from the kernel, when notifications were lost.
    pub fn verify<K: Kernel>(&mut self, kernel: &mut K, now: Instant) {
        let known = self.clients.iter();
        let known: Vec<(String, PeerId)> = known
            .filter_map(|(name, client)| Some((name.clone(), client.peer()?)))
            .collect();
        let servers = self.servers.iter();
        let servers = servers.flat_map(|(name, server)| {
            let ids = server.ids().into_iter();
            ids.map(|id| (name.clone(), id))
        });
        for (name, id) in known.into_iter().chain(servers.collect::<Vec<_>>()) {
            self.peer_deleted(&name, id, None, kernel, now);
        }
    }

    /// A key is used up: the next one is negotiated at once.
    pub fn key_exhausted(&self, name: &str, id: PeerId) {
        let server = self.servers.get(name).zip(self.worker.as_ref());
        if let Some((server, worker)) = server {
            server.key_exhausted(id, worker);
        }
        let client = self.clients.get(name).filter(|c| c.peer() == Some(id));
        if let Some((attempt, worker)) = client.and_then(Client::attempt).zip(self.worker.as_ref())
        {
            worker.renegotiate(attempt);
        }
    }

    /// Somebody deleted the interface.
    pub fn link_deleted<K: Kernel>(&mut self, name: &str, kernel: &mut K, now: Instant) {
        let found = self.servers.get_mut(name);
        if let Some((server, worker)) = found.zip(self.worker.as_ref()) {
            return server.link_deleted(name, worker, now);
        }
        let found = self.clients.get_mut(name);
        let Some((client, worker)) = found.zip(self.worker.as_ref()) else {
            return;
        };
        client.state = None;
        let why = "the interface was deleted by someone else";
        client.failed(name, why, &End::Retry, (kernel, worker), now);
    }

    /// Packets that were lost because the worker had too much to do.
    pub fn lost_packets(&self) -> u64 {
        self.worker.as_ref().map_or(0, Worker::lost)
    }
}
