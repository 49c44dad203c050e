// SPDX-License-Identifier: GPL-2.0-or-later
//! Tunnels whose control channel is ovpnd's own: OpenVPN with TLS.
//!
//! | file | content |
//! |---|---|
//! | `worker` | the thread in which TLS and the protocol run |
//! | `client` | a tunnel to a server |
//! | `options` | the server's options as the kernel and netifd take them |

pub mod client;
mod options;
mod worker;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use openvpn_control::client::End;
use ovpn_netlink::{DelReason, PeerId};

use crate::config::vpn::ClientEntry;
use crate::kernel::Kernel;
use crate::reconcile::{Ask, Offer};
use crate::resolver::{Answer, Lookup};
pub use client::Client;
use worker::{Attempt, Worker};

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// Runs from the first client on.
    worker: Option<Worker>,
    /// By the names of their interfaces.
    clients: BTreeMap<String, Client>,
    last: Attempt,
}

impl Clients {
    /// Names and clients.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Client)> {
        self.clients.iter()
    }

    /// Whether this interface is a client's.
    pub fn has(&self, name: &str) -> bool {
        self.clients.contains_key(name)
    }

    /// Takes over the configuration of all clients.
    pub fn configure<K: Kernel>(
        &mut self,
        config: BTreeMap<String, ClientEntry>,
        netifd: bool,
        kernel: &mut K,
        now: Instant,
    ) {
        let gone: Vec<String> = self
            .clients
            .keys()
            .filter(|name| !config.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.remove(&name, kernel, now);
        }
        if config.is_empty() {
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
    }

    fn remove<K: Kernel>(&mut self, name: &str, kernel: &mut K, now: Instant) {
        let Some((mut client, worker)) = self.clients.remove(name).zip(self.worker.as_ref()) else {
            return;
        };
        client.spec = None;
        client.close(name, kernel, worker, now);
    }

    /// Starts a client, or finds it started, and offers netifd the addresses and routes that there are so far. None when
    /// there is no such client.
    ///
    /// # Errors
    /// The reason why there is no interface.
    pub fn start<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        now: Instant,
    ) -> Option<Result<Offer, String>> {
        let (client, worker) = self.clients.get_mut(name).zip(self.worker.as_ref())?;
        Some(client.start(name, (kernel, worker), now))
    }

    /// Ends a client's session and removes its interface. Whether there is one of this name.
    pub fn stop<K: Kernel>(
        &mut self,
        name: &str,
        reason: &str,
        kernel: &mut K,
        now: Instant,
    ) -> bool {
        let found = self.clients.get_mut(name).zip(self.worker.as_ref());
        let Some((client, worker)) = found else {
            return false;
        };
        client.stop(name, reason, (kernel, worker), now);
        true
    }

    /// The requests to netifd that are due; each is given out once.
    pub fn asks(&mut self) -> Vec<(String, Ask)> {
        let clients = self.clients.iter_mut();
        clients
            .filter_map(|(name, client)| Some((name.clone(), client.ask_netifd()?)))
            .collect()
    }

    /// Ends all sessions and removes their interfaces.
    pub fn shut_down<K: Kernel>(&mut self, kernel: &mut K) {
        // The worker tells all servers before it ends.
        self.worker = None;
        for (name, mut client) in std::mem::take(&mut self.clients) {
            client.forget(&name, kernel);
        }
    }

    /// Descriptors to poll for readability.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sockets = self.clients.values().filter_map(Client::socket);
        let worker = self.worker.iter().map(Worker::as_fd);
        worker.chain(sockets.map(|socket| socket.as_fd()))
    }

    /// Reads sockets and the worker's events.
    pub fn serve<K: Kernel>(&mut self, kernel: &mut K, now: Instant) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        for client in self.clients.values() {
            client.receive(worker);
        }
        while let Some((attempt, event)) = worker.event() {
            let found = self.clients.iter_mut().find(|(_, c)| c.has(attempt));
            if let Some((name, client)) = found {
                client.event(name, event, (kernel, worker), now);
            }
        }
    }

    /// Begins the attempts whose time has come.
    pub fn wake(&mut self, now: Instant) {
        for client in self.clients.values_mut() {
            client.wake(now);
        }
    }

    /// When the next attempt is due.
    pub fn next_wait(&self) -> Option<Instant> {
        self.clients.values().filter_map(Client::next_wait).min()
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
        let Lookup {
            interface,
            endpoint,
            ..
        } = answer.lookup;
        let found = self.clients.get_mut(&interface);
        let Some((client, worker)) = found.zip(self.worker.as_ref()) else {
            return;
        };
        self.last += 1;
        let remote = answer.result.map(|found| found.remote);
        client.resolved(
            &interface,
            &endpoint,
            remote,
            self.last,
            (kernel, worker),
            now,
        );
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
        for (name, id) in known {
            self.peer_deleted(&name, id, None, kernel, now);
        }
    }

    /// A key is used up: the next one is negotiated at once.
    pub fn key_exhausted(&self, name: &str, id: PeerId) {
        let client = self.clients.get(name).filter(|c| c.peer() == Some(id));
        if let Some((attempt, worker)) = client.and_then(Client::attempt).zip(self.worker.as_ref())
        {
            worker.renegotiate(attempt);
        }
    }

    /// Somebody deleted the interface.
    pub fn link_deleted<K: Kernel>(&mut self, name: &str, kernel: &mut K, now: Instant) {
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
