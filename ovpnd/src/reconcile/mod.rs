// SPDX-License-Identifier: GPL-2.0-or-later
//! Keeps the kernel as the configuration wants it.
//!
//! Everything that happens - a new configuration, an answer from the resolver, a notification, a wait that is
//! over - changes what is known and ends in [`Reconciler::reconcile`], which takes the difference between what
//! should be and what is and carries out its steps. Time is an argument everywhere, and the kernel is behind
//! a trait, so that all of it is tested without either.

mod managed;
mod netifd;
mod observed;
pub mod routes;
mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use ovpn_netlink::{DelReason, KeyId, KeyInfo, PeerId};

use crate::config::{Config, Endpoint, Interface, InterfaceConfig, Peer, Problem};
use crate::kernel::{Failure, Gone, Kernel};
use crate::resolver::{Answer, Lookup};
use crate::state::{Op, State, diff};
use crate::tunnel::{Control, News, Notice, Tunnel};
pub use managed::{Managed, PeerRun};
#[cfg(feature = "tls")]
pub(crate) use netifd::Told;
pub use netifd::{Ask, Offer};
pub use observed::Observed;
pub use sample::{Rate, Samples};

/// The daemon's interfaces and what is known of them.
#[derive(Debug)]
pub struct Reconciler<K> {
    /// The kernel.
    pub kernel: K,
    /// By name.
    pub interfaces: BTreeMap<String, Managed>,
    /// Clients and servers with a control channel of their own.
    #[cfg(feature = "tls")]
    pub clients: crate::vpn::Clients,
    /// Interfaces of the driver that are none of ours, by name; see [`Self::survey`].
    pub observed: BTreeMap<String, Observed>,
    /// Faults of the configuration that belong to no interface.
    pub problems: Vec<Problem>,
    /// Notices to be sent, in order.
    pub notices: Vec<Notice>,
    /// The last looks at the peers' counters.
    pub samples: Samples,
    /// Whether netifd sets addresses and routes, and says which interfaces are to be up.
    pub netifd: bool,
}

impl<K: Kernel> Reconciler<K> {
    /// No interfaces so far.
    pub fn new(kernel: K) -> Self {
        Self {
            kernel,
            interfaces: BTreeMap::new(),
            #[cfg(feature = "tls")]
            clients: crate::vpn::Clients::default(),
            observed: BTreeMap::new(),
            problems: Vec::new(),
            notices: Vec::new(),
            samples: Samples::default(),
            netifd: false,
        }
    }

    /// Takes over a configuration and does what follows from it. A section with a fault goes on as it was
    /// configured before, if it was.
    pub fn configure(&mut self, config: Config, now: Instant) {
        self.problems = config.problems;
        let gone: Vec<String> = self
            .interfaces
            .keys()
            .filter(|name| !config.interfaces.contains_key(*name))
            .cloned()
            .collect();
        // Deletions come first: they may free a port that is wanted elsewhere.
        for name in gone {
            self.remove(&name, now);
        }
        #[cfg(feature = "tls")]
        self.clients.configure(
            config.clients,
            config.servers,
            self.netifd,
            &mut self.kernel,
            now,
        );
        for (name, entry) in config.interfaces {
            let managed = self.interfaces.entry(name).or_default();
            managed.problems = entry.problems.clone();
            managed.warnings = entry.warnings.clone();
            managed.broken_peers = entry.broken_peers.clone();
            managed.disabled = entry.disabled_peers.clone();
            managed.stopped = entry.stopped.clone();
            if let Some(wanted) = merge(managed.wanted.as_ref(), entry) {
                managed.want(wanted);
            }
        }
        let names: Vec<String> = self.interfaces.keys().cloned().collect();
        for name in names {
            self.reconcile(&name, now);
        }
    }

    /// Whether there is an interface of this name, with static keys or with a control channel.
    pub fn has(&self, name: &str) -> bool {
        #[cfg(feature = "tls")]
        if self.clients.has(name) {
            return true;
        }
        self.interfaces.contains_key(name)
    }

    fn remove(&mut self, name: &str, now: Instant) {
        if let Some(managed) = self.interfaces.get_mut(name) {
            managed.wanted = None;
        }
        self.reconcile(name, now);
        // Their names were wanted for the last time.
        if let Some(managed) = self.interfaces.get_mut(name) {
            managed.peers.clear();
        }
        // A link that could not be deleted stays on the list, to be tried again.
        if self
            .interfaces
            .get(name)
            .is_some_and(|managed| managed.state.is_none())
        {
            self.interfaces.remove(name);
            self.samples.forget(name);
        }
    }

    /// Removes all that was made. With netifd the interfaces stay, without peers: their addresses and routes are not ours to
    /// take away, and what the routes catch is dropped until the next daemon takes them over.
    pub fn shut_down(&mut self, now: Instant) {
        let names: Vec<String> = self.interfaces.keys().cloned().collect();
        for name in names {
            match self.interfaces.get_mut(&name).filter(|_| self.netifd) {
                None => self.remove(&name, now),
                Some(managed) => {
                    managed.leaving = true;
                    managed.retry.succeeded();
                    self.reconcile(&name, now);
                }
            }
        }
        #[cfg(feature = "tls")]
        self.clients.shut_down(&mut self.kernel);
    }

    /// Lookups that are to be started now; each is given out once.
    pub fn lookups(&mut self, now: Instant) -> Vec<Lookup> {
        let lookups = self
            .interfaces
            .iter_mut()
            .flat_map(|(name, managed)| managed.lookups(name, now));
        #[cfg(feature = "tls")]
        let lookups = lookups.chain(self.clients.lookups());
        lookups.collect()
    }

    /// Has the names of all endpoints looked up anew. Peers stay where they are until an answer says otherwise.
    pub fn look_up_again(&mut self) {
        for managed in self.interfaces.values_mut() {
            managed.look_up_again();
        }
    }

    /// Takes an answer of the resolver.
    pub fn resolved(&mut self, answer: Answer, now: Instant) {
        #[cfg(feature = "tls")]
        if self.clients.has(&answer.lookup.interface) {
            return self.clients.resolved(answer, &mut self.kernel, now);
        }
        let Lookup {
            interface,
            peer,
            endpoint,
            socket,
        } = answer.lookup;
        let Some(managed) = self.interfaces.get_mut(&interface) else {
            return;
        };
        let wanted = managed.wanted.as_ref();
        let asked = wanted.and_then(|wanted| {
            wanted
                .peers
                .iter()
                .find(|p| p.name == peer && p.endpoint.as_ref() == Some(&endpoint))
        });
        let same_socket = wanted.is_some_and(|wanted| wanted.socket == socket);
        let gone = asked.is_some_and(|peer| !managed.has(peer.id));
        let asked = asked.is_some() && (same_socket || !socket.transport.is_tcp());
        // An answer to a question of an older configuration is no answer.
        let Some(run) = managed
            .peers
            .get_mut(&peer)
            .filter(|run| asked && run.resolving)
        else {
            return;
        };
        run.resolving = false;
        let may_return = gone && run.remote.is_some() && !socket.transport.is_tcp();
        match answer.result {
            Ok(found) => {
                if let Some(stream) = found.stream {
                    self.kernel.connected(&interface, run.id, stream);
                }
                run.remote = Some(found.remote);
                run.place = Some(found.remote.ip());
                run.stale = false;
                run.error = None;
                run.lookup.succeeded();
                self.reconcile(&interface, now);
            }
            Err(error) => {
                let level = news(run.error.as_ref(), &error);
                log::log!(level, "{interface}: peer {peer}: {error}");
                run.error = Some(error);
                if may_return {
                    // Where it was last is better than nowhere: the way to the name server may lead through this
                    // very tunnel. Its next loss has the name looked up again.
                    run.stale = false;
                    run.lookup.succeeded();
                    self.reconcile(&interface, now);
                } else {
                    run.lookup.failed(now);
                }
            }
        }
    }

    /// The kernel says that a peer is gone.
    pub fn peer_deleted(
        &mut self,
        name: &str,
        id: PeerId,
        reason: Option<DelReason>,
        now: Instant,
    ) {
        #[cfg(feature = "tls")]
        self.clients
            .peer_deleted(name, id, reason, &mut self.kernel, now);
        if let Some(observed) = self.observed.get_mut(name) {
            if observed.peers.remove(&id).is_some() {
                let down = reason.map_or("lost".into(), |reason| reason.to_string());
                self.tell(name, id, News::Down(down));
            }
            return;
        }
        let Some(managed) = self.interfaces.get_mut(name) else {
            return;
        };
        if !managed.has(id) {
            return;
        }
        // It may be the end of one that we replaced since.
        if self.kernel.peer(name, id).is_some() {
            return;
        }
        managed.lost_peer(name, id, reason, now, &mut self.notices);
        self.reconcile(name, now);
    }

    /// Deletes a peer in the kernel, once: it comes back after its wait.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn disconnect(&mut self, name: &str, id: PeerId, now: Instant) -> Result<(), Failure> {
        let Some(managed) = self.interfaces.get_mut(name) else {
            return self.kernel.disconnect(name, id);
        };
        self.kernel.run(name, &Op::DelPeer(id), None)?;
        if managed.has(id) {
            let reason = Some(DelReason::Userspace);
            managed.lost_peer(name, id, reason, now, &mut self.notices);
        }
        Ok(())
    }

    /// A peer of a TCP interface came to us. It is taken when it is the one that is waited for.
    pub fn came(&mut self, name: &str, stream: OwnedFd, remote: SocketAddr, now: Instant) {
        let Some(managed) = self.interfaces.get_mut(name) else {
            return;
        };
        let waiting = managed.wanted.iter().flat_map(|wanted| &wanted.peers);
        let waiting = waiting
            .filter(|peer| peer.endpoint.is_none())
            .map(|peer| peer.id);
        let there = |id: &PeerId| {
            let state = managed.state.as_ref();
            state.is_some_and(|state| state.peers.contains_key(id))
        };
        // The present peer stays until its keepalive says that it is gone: anyone can connect.
        let Some(id) = waiting.into_iter().find(|id| !there(id)) else {
            log::debug!("{name}: {remote} is not waited for");
            return;
        };
        if let Some((_, run)) = managed.by_id(id) {
            run.remote = Some(remote);
            run.place = Some(remote.ip());
            run.retry.end_wait();
            self.kernel.connected(name, id, stream);
        }
        self.reconcile(name, now);
    }

    /// A key of a peer has no packet ids left.
    pub fn key_exhausted(&mut self, name: &str, id: PeerId, key: KeyId) {
        self.tell(name, id, News::KeySwap(key.get()));
        #[cfg(feature = "tls")]
        self.clients.key_exhausted(name, id);
        let Some((peer, run)) = self
            .interfaces
            .get_mut(name)
            .and_then(|managed| managed.by_id(id))
        else {
            return;
        };
        let done = run.keys.exhausted(id, key).and_then(|events| {
            let mut run_event = |event| {
                self.kernel
                    .key_event(name, id, event)
                    .map_err(|failure| failure.message)
            };
            events.iter().try_for_each(&mut run_event)
        });
        if let Err(error) = done {
            log::error!("{name}: peer {peer}: {error}");
            run.error = Some(error);
        }
    }

    /// A peer is at a new address.
    pub fn floated(&mut self, name: &str, id: PeerId, remote: SocketAddr, now: Instant) {
        #[cfg(feature = "tls")]
        if self.clients.has(name) {
            return self.clients.floated(name, id, remote);
        }
        self.tell(name, id, News::Float(remote));
        if let Some((peer, run)) = self
            .interfaces
            .get_mut(name)
            .and_then(|managed| managed.by_id(id))
        {
            log::info!("{name}: peer {peer}: now at {remote}");
            // Its routes may catch the new place.
            run.place = Some(remote.ip());
            self.reconcile(name, now);
        }
    }

    /// Notes what is to be told of a peer of any tunnel.
    fn tell(&mut self, name: &str, id: PeerId, what: News) {
        let notice = match self.interfaces.get(name) {
            Some(managed) => managed.notice(name, id, what),
            None => Notice {
                interface: name.to_owned(),
                peer: id.to_string(),
                id,
                control: Control::Observed,
                what,
            },
        };
        self.notices.push(notice);
    }

    /// The key that a peer of any tunnel, of this name and number, encrypts with, without its secrets.
    pub fn key(&mut self, name: &str, peer: &str, id: PeerId) -> Option<KeyInfo> {
        let managed = self.interfaces.get_mut(name);
        let run = managed.and_then(|managed| managed.peers.get_mut(peer));
        let Some(run) = run.filter(|run| run.id == id) else {
            return self.kernel.key(name, id);
        };
        if run.key_info.is_none() {
            run.key_info = self.kernel.key(name, id);
        }
        run.key_info.clone()
    }

    /// The keys of an interface's peers that are there, by section.
    pub fn keys(&mut self, name: &str) -> Vec<(String, KeyInfo)> {
        let Some(managed) = self.interfaces.get(name) else {
            return Vec::new();
        };
        let there = managed.state.as_ref();
        let there = |id: &PeerId| there.is_some_and(|state| state.peers.contains_key(id));
        let peers = managed.peers.iter().filter(|(_, run)| there(&run.id));
        let peers: Vec<_> = peers.map(|(peer, run)| (peer.clone(), run.id)).collect();
        let key = |(peer, id): (String, _)| self.key(name, &peer, id).map(|key| (peer, key));
        peers.into_iter().filter_map(key).collect()
    }

    /// Looks which interfaces of the driver others have made, and at their peers.
    pub fn survey(&mut self, now: Instant) {
        let ours = self
            .tunnels()
            .filter(|(_, tunnel)| tunnel.control() != Control::Observed);
        let ours = ours.map(|(name, _)| name.clone()).collect();
        let mut before = std::mem::take(&mut self.observed);
        for (link, addresses) in self.kernel.strangers(&ours) {
            let name = link.name.clone();
            let there = self.kernel.peers(&name).unwrap_or_default();
            let old = before
                .remove(&name)
                .filter(|old| old.link.index == link.index);
            let mut peers = BTreeMap::new();
            for peer in &there {
                let since = match &old {
                    Some(old) => old.peers.get(&peer.id).copied().unwrap_or(Some(now)),
                    None => None,
                };
                if old
                    .as_ref()
                    .is_none_or(|old| !old.peers.contains_key(&peer.id))
                {
                    self.tell(&name, peer.id, News::Up(peer.remote));
                }
                peers.insert(peer.id, since);
            }
            let gone = old.iter().flat_map(|old| old.peers.keys());
            for id in gone.filter(|id| !peers.contains_key(id)) {
                self.tell(&name, *id, News::Down("lost".into()));
            }
            let socket = there.iter().find_map(observed::transport);
            self.observed.insert(
                name,
                Observed {
                    link,
                    addresses,
                    peers,
                    socket,
                },
            );
        }
        for (name, old) in before {
            for id in old.peers.keys() {
                self.tell(&name, *id, News::Down("lost".into()));
            }
            self.samples.forget(&name);
        }
    }

    /// All tunnels by name, ours first.
    pub fn tunnels(&self) -> impl Iterator<Item = (&String, &dyn Tunnel)> {
        let ours = self.interfaces.iter();
        let ours = ours.map(|(name, managed)| (name, managed as &dyn Tunnel));
        #[cfg(feature = "tls")]
        let ours = ours.chain(self.clients.iter());
        let others = self.observed.iter();
        ours.chain(others.map(|(name, observed)| (name, observed as &dyn Tunnel)))
    }

    /// Somebody deleted an interface.
    pub fn link_deleted(&mut self, name: &str, now: Instant) {
        self.kernel.forget(name);
        #[cfg(feature = "tls")]
        self.clients.link_deleted(name, &mut self.kernel, now);
        let Some(managed) = self.interfaces.get_mut(name) else {
            return;
        };
        if let Some(state) = managed.state.take() {
            for id in state.peers.keys() {
                let down = News::Down(DelReason::Teardown.to_string());
                self.notices.push(managed.notice(name, *id, down));
            }
            let error = "the interface was deleted by someone else";
            log::warn!("{name}: {error}");
            managed.error = Some(error.into());
            managed.retry.failed(now);
        }
    }

    /// Notifications were lost: compare all peers with the kernel's.
    pub fn verify(&mut self, now: Instant) {
        #[cfg(feature = "tls")]
        self.clients.verify(&mut self.kernel, now);
        let names: Vec<String> = self.interfaces.keys().cloned().collect();
        for name in names {
            match self.kernel.peers(&name) {
                Ok(there) => {
                    let there: BTreeSet<PeerId> = there.iter().map(|peer| peer.id).collect();
                    let state = self
                        .interfaces
                        .get(&name)
                        .and_then(|managed| managed.state.as_ref());
                    let ours: Vec<PeerId> = state
                        .iter()
                        .flat_map(|state| state.peers.keys().copied())
                        .collect();
                    for id in ours.into_iter().filter(|id| !there.contains(id)) {
                        self.peer_deleted(&name, id, None, now);
                    }
                }
                Err(failure) if failure.gone == Some(Gone::Link) => self.link_deleted(&name, now),
                Err(failure) => log::warn!("{name}: {}", failure.message),
            }
        }
    }

    /// When something is to be tried again.
    pub fn next_wait(&self) -> Option<Instant> {
        let waits = self.interfaces.values().filter_map(Managed::next_wait);
        #[cfg(feature = "tls")]
        let waits = waits.chain(self.clients.next_wait());
        waits.min()
    }

    /// Tries again what is due.
    pub fn wake(&mut self, now: Instant) {
        #[cfg(feature = "tls")]
        self.clients.wake(&mut self.kernel, now);
        let due: Vec<String> = self
            .interfaces
            .iter_mut()
            .filter_map(|(name, managed)| managed.end_waits(now).then(|| name.clone()))
            .collect();
        for name in due {
            self.reconcile(&name, now);
            if self
                .interfaces
                .get(&name)
                .is_some_and(|managed| managed.wanted.is_none() && managed.state.is_none())
            {
                self.interfaces.remove(&name);
            }
        }
    }

    /// Brings one interface to what it should be, as far as that is possible now.
    pub fn reconcile(&mut self, name: &str, now: Instant) {
        let Some(managed) = self.interfaces.get_mut(name) else {
            return;
        };
        if !managed.retry.is_due(now) {
            return;
        }
        let kernel = &mut self.kernel;
        let goal = managed.goal(name, now, self.netifd, &mut |ip| kernel.way(name, ip));
        if let Some(wanted) = &managed.wanted {
            self.kernel.prefer(name, wanted);
        }
        let mut fault = None;
        let mut failed_peers = BTreeSet::new();
        let mut unrouted = BTreeSet::new();
        for op in diff(managed.state.as_ref(), goal.as_ref()) {
            let peer = peer_of(&op);
            let needs_socket = peer.is_some() && !matches!(op, Op::DelPeer(_));
            let no_socket = managed
                .state
                .as_ref()
                .is_none_or(|state| state.socket.is_none());
            if peer.is_some_and(|peer| failed_peers.contains(&peer)) || needs_socket && no_socket {
                continue;
            }
            if matches!(&op, Op::AddRoute(route) if unrouted.contains(&route.peer)) {
                continue;
            }
            let keys = peer
                .and_then(|peer| managed.by_id(peer))
                .map(|(_, run)| &*run.keys);
            log::debug!("{name}: {op:?}");
            match self.kernel.run(name, &op, keys) {
                Ok(()) => {
                    let left = managed.state.as_ref().filter(|_| op == Op::DeleteLink);
                    for id in left.iter().flat_map(|state| state.peers.keys()) {
                        let down = News::Down("removed".into());
                        self.notices.push(managed.notice(name, *id, down));
                    }
                    State::apply(&mut managed.state, &op);
                    managed.told.follows(&op, self.kernel.adopted(name));
                    managed.done(name, &op, now, &mut self.notices);
                }
                Err(Failure {
                    gone: Some(Gone::Link),
                    message,
                }) => {
                    self.kernel.forget(name);
                    managed.state = None;
                    fault = Some(message);
                    break;
                }
                Err(Failure { message, gone }) => match (peer, &op) {
                    (None, Op::AddRoute(route)) => {
                        unrouted.insert(route.peer);
                        unroute(&mut self.kernel, name, managed, route.peer);
                        let why = format!("{message}; none of its routes is set");
                        if let Some((peer, run)) = managed.by_id(route.peer) {
                            let peer = peer.clone();
                            run.not_routed(name, &peer, why, now);
                        }
                    }
                    (Some(peer), _) => {
                        failed_peers.insert(peer);
                        let failure = Failure { message, gone };
                        managed.peer_failed(name, peer, &op, failure, now, &mut self.notices);
                    }
                    (None, _) => {
                        fault.get_or_insert(message);
                        if matches!(op, Op::CreateLink(_) | Op::DeleteLink) {
                            break;
                        }
                    }
                },
            }
        }
        managed.routed();
        match fault {
            Some(error) => {
                let level = news(managed.error.as_ref(), &error);
                log::log!(level, "{name}: {error}");
                managed.error = Some(error);
                managed.retry.failed(now);
            }
            None => {
                managed.error = None;
                managed.retry.succeeded();
            }
        }
    }
}

/// Takes away the routes to a peer that are there: half of them would split a network's traffic.
fn unroute<K: Kernel>(kernel: &mut K, name: &str, managed: &mut Managed, peer: PeerId) {
    let there = managed.state.iter().flat_map(|state| &state.routes);
    let there: Vec<_> = there.filter(|route| route.peer == peer).copied().collect();
    for route in there {
        let op = Op::DelRoute(route);
        match kernel.run(name, &op, None) {
            Ok(()) => State::apply(&mut managed.state, &op),
            Err(failure) => log::error!("{name}: route to {}: {}", route.dst, failure.message),
        }
    }
}

/// The severity of an error: a repeated one is for the debug level.
pub(crate) fn news(before: Option<&String>, error: &str) -> log::Level {
    if before.is_some_and(|before| before == error) {
        log::Level::Debug
    } else {
        log::Level::Error
    }
}

/// The peer a step concerns.
fn peer_of(op: &Op) -> Option<PeerId> {
    match op {
        Op::NewPeer(id, _) | Op::SetPeer(id, _) | Op::DelPeer(id) | Op::InstallKeys(id, _) => {
            Some(*id)
        }
        _ => None,
    }
}

/// The wanted state of a new configuration: a section with a fault keeps its old one. `None` where that is all.
fn merge(old: Option<&Interface>, new: InterfaceConfig) -> Option<Interface> {
    let mut wanted = new.interface?;
    for peer in old
        .into_iter()
        .flat_map(|old| &old.peers)
        .filter(|peer| new.broken_peers.contains_key(&peer.name))
    {
        if !clashes(&wanted, peer) {
            wanted.peers.push(peer.clone());
        }
    }
    Some(wanted)
}

fn clashes(wanted: &Interface, old: &Peer) -> bool {
    let single = wanted.mode == ovpn_netlink::Mode::P2p && !wanted.peers.is_empty();
    let networks = wanted.networks(old);
    let same = |peer: &Peer| {
        peer.id == old.id
            || peer.vpn_ips.iter().any(|ip| old.vpn_ips.contains(ip))
            || !wanted.networks(peer).is_disjoint(&networks)
    };
    let family = |address: SocketAddr| address.is_ipv6() == wanted.socket.transport.is_v6();
    let literal = old.endpoint.as_ref().and_then(Endpoint::literal);
    single || wanted.peers.iter().any(same) || !literal.is_none_or(family)
}

#[cfg(test)]
mod tests;
