// SPDX-License-Identifier: GPL-2.0-or-later
//! A server, from its configuration to the kernel's peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use openvpn_control::exchange::options_string;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::listener::ResetLimits;
use openvpn_control::negotiate::choose_cipher;
use openvpn_control::peerinfo::PeerInfo as ClientInfo;
use openvpn_control::server::{Admission, Authenticate, Event, Handle, ServerConfig};
use openvpn_control::session::KeyChange;
use openvpn_control::verify::Revoked;
use ovpn_netlink::{IpPrefix, Mode, PeerId, PeerParams};

use super::pool::{Lease, Pool, next_id};
use super::serving::{Decision, Serve};
use super::worker::{Attempt, Worker, sentence};
use super::{ABILITIES, BURST, MAX_PACKET, admit, is_control, key_event};
use crate::config::Problem;
use crate::config::vpn::server::{ServerEntry, ServerSpec};
use crate::kernel::Kernel;
use crate::reconcile::{Ask, Offer, Told, news};
use crate::retry::Retry;
use crate::state::{Op, PeerState, Route, State, diff};
use crate::tunnel::{Control, News, Notice};

mod view;

/// Longest wait for a port that is taken.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Sessions without keys: a handshake takes half a second on a slow router, and each holds some 50 KiB.
const MAX_PENDING: usize = 64;
/// Failures of clients that were never let in are told no faster than this.
const REFUSAL_PAUSE: Duration = Duration::from_secs(2);

/// A client that is let in.
#[derive(Debug)]
struct Session {
    name: String,
    id: PeerId,
    lease: Lease,
    remote: SocketAddr,
    cipher: Option<Cipher>,
    serial: Vec<u8>,
    since: Instant,
    /// When its last key came; none before the first one.
    keyed: Option<Instant>,
    /// Why a network behind it is not routed to it.
    route_error: Option<String>,
}

/// A server that listens.
#[derive(Debug)]
struct Live {
    attempt: Attempt,
    socket: UdpSocket,
    sessions: BTreeMap<Handle, Session>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// None when it is to go.
    spec: Option<Box<ServerSpec>>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The interface as the kernel has it.
    state: Option<State>,
    failure: Option<String>,
    retry: Retry,
    live: Option<Live>,
    pool: Pool,
    last_id: Option<PeerId>,
    /// Why it is down, although it is configured.
    stopped: Option<String>,
    /// Whether netifd sets addresses and routes.
    netifd: bool,
    /// netifd's knowledge of it.
    told: Told,
    /// When the failure of a client that was not let in was told last, and how many were not told since.
    refusals: (Option<Instant>, u32),
    notices: Vec<Notice>,
}

/// The parts of the daemon that a server works with.
pub(super) type World<'a, K> = (&'a mut K, &'a Worker);

impl Server {
    pub(super) fn new(netifd: bool) -> Self {
        Self {
            spec: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            state: None,
            failure: None,
            retry: Retry::new(LONGEST_WAIT),
            live: None,
            pool: Pool::default(),
            last_id: None,
            stopped: None,
            netifd,
            told: Told::default(),
            refusals: (None, 0),
            notices: Vec::new(),
        }
    }

    /// Takes over a configuration. Another one ends all sessions; one with other sections of clients, or other lists of
    /// revoked certificates, ends those whose clients may not stay.
    pub(super) fn want<K: Kernel>(
        &mut self,
        name: &str,
        entry: ServerEntry,
        world: World<'_, K>,
        attempt: Attempt,
        now: Instant,
    ) {
        self.problems = entry.problems;
        self.warnings = entry.warnings;
        let switched = self.stopped.is_some() != entry.stopped.is_some();
        self.stopped = entry.stopped;
        let same = match (&self.spec, &entry.spec) {
            (Some(old), Some(new)) => old.mark == new.mark,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if let Some(spec) = entry.spec {
            self.spec = Some(spec);
        }
        match same && !switched {
            true => self.review(name, world),
            false => self.restart(name, world, attempt, now),
        }
    }

    /// See [`Clients::start`](super::Clients::start).
    pub(super) fn start<K: Kernel>(
        &mut self,
        name: &str,
        world: World<'_, K>,
        attempt: Attempt,
        now: Instant,
    ) -> Result<Offer, String> {
        if self.stopped.take().is_some() || self.live.is_none() {
            self.restart(name, world, attempt, now);
        }
        if self.live.is_none() {
            let fault = self.problems.first().map(ToString::to_string);
            let why = self.failure.clone().or(fault);
            return Err(why.unwrap_or_else(|| "it is not configured".into()));
        }
        let offer = self.offer().ok_or("it is not configured")?;
        self.told = Told::fetched(offer.clone());
        Ok(offer)
    }

    /// See [`Clients::stop`](super::Clients::stop).
    pub(super) fn stop<K: Kernel>(
        &mut self,
        name: &str,
        reason: &str,
        (kernel, worker): World<'_, K>,
    ) {
        if self.stopped.is_none() {
            log::info!("{name}: down: {reason}");
        }
        self.stopped = Some(reason.to_owned());
        self.told = Told::default();
        self.failure = None;
        self.close(name, worker);
        self.retry = Retry::new(LONGEST_WAIT);
        self.reconcile(name, (kernel, worker));
    }

    /// The request to netifd that is due.
    pub(super) fn ask_netifd(&mut self) -> Option<Ask> {
        if self.stopped.is_some() || self.state.is_none() {
            return None;
        }
        let offer = self.offer();
        self.told.ask(offer)
    }

    fn offer(&self) -> Option<Offer> {
        let spec = self.spec.as_ref()?;
        Some(Offer {
            addresses: spec.interface.addresses.clone(),
            routes: self.routes(),
            ..Offer::default()
        })
    }

    fn ready(&self) -> impl Iterator<Item = &Session> {
        let sessions = self.live.iter().flat_map(|live| live.sessions.values());
        sessions.filter(|session| session.keyed.is_some())
    }

    /// Routes to the networks behind the clients that are there.
    fn routes(&self) -> BTreeSet<Route> {
        let route = |session: &Session| {
            let section = self.spec.as_ref()?.clients.get(&session.name)?;
            let (lease, peer) = (session.lease, session.id);
            let route = move |network: &IpPrefix| {
                let via = match network.addr() {
                    IpAddr::V4(_) => lease.v4.map(IpAddr::from),
                    IpAddr::V6(_) => lease.v6.map(IpAddr::from),
                };
                Some(Route {
                    dst: *network,
                    via: Some(via?),
                    peer,
                })
            };
            Some(section.iroutes.iter().filter_map(route).collect::<Vec<_>>())
        };
        self.ready().filter_map(route).flatten().collect()
    }

    /// Ends all sessions and listens anew.
    fn restart<K: Kernel>(
        &mut self,
        name: &str,
        (kernel, worker): World<'_, K>,
        attempt: Attempt,
        now: Instant,
    ) {
        self.close(name, worker);
        self.reconcile(name, (kernel, worker));
        self.retry = Retry::new(LONGEST_WAIT);
        self.listen(name, (kernel, worker), attempt, now);
    }

    fn listen<K: Kernel>(
        &mut self,
        name: &str,
        (kernel, worker): World<'_, K>,
        attempt: Attempt,
        now: Instant,
    ) {
        let Some(spec) = self.spec.as_ref().filter(|_| self.stopped.is_none()) else {
            return;
        };
        let config = config(spec);
        let opened = self.carry_out(name, kernel, worker).and_then(|()| {
            let socket = kernel.socket(name).ok_or("the socket is not open")?;
            let socket = UdpSocket::from(socket);
            let other = socket.try_clone().map_err(|error| error.to_string())?;
            Ok((socket, other))
        });
        match opened {
            Ok((socket, other)) => {
                worker.serve(Serve {
                    attempt,
                    config,
                    socket: other,
                });
                self.live = Some(Live {
                    attempt,
                    socket,
                    sessions: BTreeMap::new(),
                });
                self.failure = None;
                self.retry.succeeded();
                log::info!("{name}: waits for clients");
            }
            Err(why) => {
                log::log!(news(self.failure.as_ref(), &why), "{name}: {why}");
                self.failure = Some(why);
                self.retry.failed(now);
            }
        }
    }

    /// Ends all sessions and the server; its socket stays.
    fn close(&mut self, name: &str, worker: &Worker) {
        if let Some(live) = self.live.take() {
            worker.end(live.attempt);
            for session in live.sessions.values() {
                self.pool.give_back(&session.lease);
                if session.keyed.is_some() {
                    let notice = notice(name, session, News::Down("the server ends".into()));
                    self.notices.push(notice);
                }
            }
        }
    }

    /// Removes the interface.
    pub(super) fn forget<K: Kernel>(&mut self, name: &str, (kernel, worker): World<'_, K>) {
        self.close(name, worker);
        self.spec = None;
        self.reconcile(name, (kernel, worker));
    }

    pub(super) fn wake<K: Kernel>(
        &mut self,
        name: &str,
        world: World<'_, K>,
        attempt: Attempt,
        now: Instant,
    ) {
        if self.next_wait().is_some_and(|at| at <= now) {
            self.retry.end_wait();
            self.listen(name, world, attempt, now);
        }
    }

    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.retry.at().filter(|_| self.live.is_none())
    }

    /// The interface as it should be now.
    fn goal(&self) -> Option<State> {
        let spec = self.spec.as_ref().filter(|_| self.stopped.is_none())?;
        let mut goal = State::new(Mode::Mp);
        goal.mtu = Some(spec.mtu);
        goal.socket = Some(spec.interface.socket);
        goal.up = true;
        if !self.netifd {
            goal.addresses = spec.interface.addresses.iter().copied().collect();
            goal.routes = self.routes();
        }
        let keepalive = admit::keepalive(spec);
        let peers = self.ready().map(|session| {
            let params = PeerParams {
                remote: Some(canonical(session.remote)),
                vpn_ipv4: session.lease.v4,
                vpn_ipv6: session.lease.v6,
                keepalive: Some(keepalive),
                ..PeerParams::default()
            };
            (session.id, PeerState { params, keys: None })
        });
        goal.peers = peers.collect();
        Some(goal)
    }

    /// Brings the interface to where it should be. A failure that concerns one client ends that one alone.
    fn reconcile<K: Kernel>(&mut self, name: &str, (kernel, worker): World<'_, K>) {
        if let Err(why) = self.carry_out(name, kernel, worker) {
            log::warn!("{name}: {why}");
        }
    }

    fn carry_out<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        worker: &Worker,
    ) -> Result<(), String> {
        let goal = self.goal();
        if let Some(spec) = &self.spec {
            kernel.prefer(name, &spec.interface);
        }
        let mut failed = BTreeMap::new();
        for op in diff(self.state.as_ref(), goal.as_ref()) {
            if matches!(&op, Op::AddRoute(route) if failed.contains_key(&route.peer)) {
                continue;
            }
            match (kernel.run(name, &op, None), &op) {
                (Ok(()), _) => State::apply(&mut self.state, &op),
                (Err(why), Op::NewPeer(id, _) | Op::SetPeer(id, _)) => {
                    failed.insert(*id, why.message);
                }
                (Err(why), Op::AddRoute(route)) => self.not_routed(name, route.peer, why.message),
                (Err(why), _) => return Err(why.message),
            }
        }
        for (id, why) in failed {
            let why = format!("the kernel refuses its peer: {why}");
            self.end_by_id(name, id, &why, worker);
        }
        Ok(())
    }

    fn not_routed(&mut self, name: &str, id: PeerId, why: String) {
        if let Some((_, session)) = self.by_id_mut(id) {
            if session.route_error.as_ref() != Some(&why) {
                log::warn!("{name}: client {}: {why}", session.name);
                session.route_error = Some(why);
            }
        }
    }

    fn by_id(&self, id: PeerId) -> Option<(Handle, &Session)> {
        let mut sessions = self.live.as_ref()?.sessions.iter();
        let found = sessions.find(|(_, session)| session.id == id);
        found.map(|(handle, session)| (*handle, session))
    }

    fn by_id_mut(&mut self, id: PeerId) -> Option<(Handle, &mut Session)> {
        let mut sessions = self.live.as_mut()?.sessions.iter_mut();
        let found = sessions.find(|(_, session)| session.id == id);
        found.map(|(handle, session)| (*handle, session))
    }

    /// Ends the session of a peer, without a word to the client.
    fn end_by_id(&mut self, name: &str, id: PeerId, why: &str, worker: &Worker) {
        let Some((handle, _)) = self.by_id(id) else {
            return;
        };
        if let Some(live) = &self.live {
            worker.decide(live.attempt, Decision::End(handle, why.to_owned()));
        }
        self.gone(name, handle, why);
    }

    /// Forgets a session. Its peer goes with the next step of the kernel.
    fn gone(&mut self, name: &str, handle: Handle, why: &str) {
        let removed = self.live.as_mut().and_then(|l| l.sessions.remove(&handle));
        let Some(session) = removed else { return };
        self.pool.give_back(&session.lease);
        if session.keyed.is_some() {
            log::info!("{name}: client {}: down: {why}", session.name);
            self.notices
                .push(notice(name, &session, News::Down(why.to_owned())));
        }
    }

    /// Whether this attempt is the one that goes on.
    pub(super) fn has(&self, attempt: Attempt) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.attempt == attempt)
    }

    /// Takes an event of the control channel.
    pub(super) fn event<K: Kernel>(
        &mut self,
        name: &str,
        event: Event,
        (kernel, worker): World<'_, K>,
        now: Instant,
    ) {
        match event {
            Event::Authenticate(client) => {
                if let Some(decision) = self.judge(name, &client, worker, now) {
                    self.decide(worker, decision);
                }
                self.reconcile(name, (kernel, worker));
            }
            Event::Keys(handle, change) => {
                if let Err(why) = self.keys(name, handle, change, (kernel, worker), now) {
                    log::warn!("{name}: {why}");
                    self.decide(worker, Decision::End(handle, why.clone()));
                    self.gone(name, handle, &why);
                    self.reconcile(name, (kernel, worker));
                }
            }
            Event::RenegotiationFailed(handle, why) => {
                let live = self.live.as_ref();
                if let Some(session) = live.and_then(|live| live.sessions.get(&handle)) {
                    let why = sentence(&why);
                    log::warn!("{name}: client {}: renegotiation: {why}", session.name);
                }
            }
            Event::Response(..) => {}
            Event::Closed(handle, path, why) => {
                let live = self.live.as_ref();
                let known = live.is_some_and(|live| live.sessions.contains_key(&handle));
                let why = sentence(&why);
                match known {
                    true => {
                        self.gone(name, handle, &why);
                        self.reconcile(name, (kernel, worker));
                    }
                    false => self.refused(name, path.remote, &why, now),
                }
            }
        }
    }

    fn decide(&self, worker: &Worker, decision: Decision) {
        if let Some(live) = &self.live {
            worker.decide(live.attempt, decision);
        }
    }

    /// Tells why a client was not let in: strangers must not fill the log.
    fn refused(&mut self, name: &str, remote: SocketAddr, why: &str, now: Instant) {
        let (last, silent) = &mut self.refusals;
        if last.is_some_and(|last| now.saturating_duration_since(last) < REFUSAL_PAUSE) {
            *silent = silent.saturating_add(1);
            return;
        }
        let more = match std::mem::take(silent) {
            0 => String::new(),
            count => format!(" ({count} more before it)"),
        };
        *last = Some(now);
        log::info!("{name}: {} was not let in: {why}{more}", canonical(remote));
    }

    /// Decides about a client whose TLS handshake is done.
    fn judge(
        &mut self,
        name: &str,
        client: &Authenticate,
        worker: &Worker,
        now: Instant,
    ) -> Option<Decision> {
        let handle = client.handle;
        let spec = self.spec.clone()?;
        let Some(who) = admit::name(&client.hello) else {
            return Some(Decision::Refuse(handle, "there is no certificate".into()));
        };
        let live = self.live.as_ref()?;
        let is_older = |session: &Session| !spec.duplicate_cn && session.name == who;
        let older: Vec<Handle> = live
            .sessions
            .iter()
            .filter(|(other, session)| **other != handle && is_older(session))
            .map(|(other, _)| *other)
            .collect();
        let others = live.sessions.len().saturating_sub(older.len());
        let others = others.saturating_sub(usize::from(client.again));
        let section = match admit::judge(&spec, &who, others) {
            Ok(section) => section,
            Err(why) => {
                log::info!("{name}: client {who}: refused: {why}");
                return Some(Decision::Refuse(handle, why));
            }
        };
        if client.again {
            return Some(Decision::AdmitAgain(handle, client.hello.key_id));
        }
        for other in older {
            let why = "the client began a new session";
            self.decide(worker, Decision::End(other, why.into()));
            self.gone(name, other, why);
        }
        let used = |id| self.by_id(id).is_some();
        let id = next_id(self.last_id, used);
        let lease = match self.pool.take(&spec, &who, section) {
            Ok(lease) => lease,
            Err(why) => {
                log::warn!("{name}: client {who}: {why}");
                return Some(Decision::Refuse(handle, format!("TEMP:{why}")));
            }
        };
        let id = id?;
        self.last_id = Some(id);
        let info = ClientInfo::parse(&client.hello.peer_info);
        let session = Session {
            name: who,
            id,
            lease,
            remote: client.path.remote,
            cipher: choose_cipher(&spec.ciphers, &info).ok(),
            serial: client
                .hello
                .identity
                .as_ref()
                .map_or_else(Vec::new, |identity| identity.serial.clone()),
            since: now,
            keyed: None,
            route_error: None,
        };
        let admission = Admission {
            peer_id: id.get(),
            options: admit::options(&spec, section, &lease),
        };
        self.live.as_mut()?.sessions.insert(handle, session);
        Some(Decision::Admit(handle, admission))
    }

    fn keys<K: Kernel>(
        &mut self,
        name: &str,
        handle: Handle,
        change: KeyChange,
        (kernel, worker): World<'_, K>,
        now: Instant,
    ) -> Result<(), String> {
        let live = self.live.as_mut();
        let session = live.and_then(|live| live.sessions.get_mut(&handle));
        // Its end was decided before the worker knew.
        let Some(session) = session else {
            return Ok(());
        };
        let first = session.keyed.is_none();
        if let KeyChange::Install(_) = change {
            session.keyed = Some(now);
        }
        let id = session.id;
        let who = session.name.clone();
        if first {
            self.carry_out(name, kernel, worker)?;
            if self.by_id(id).is_none() {
                return Ok(());
            }
        }
        let event = key_event(id, change, Role::Server)?;
        kernel.key_event(name, id, &event).map_err(|failure| {
            let why = failure.message;
            format!("client {who}: the kernel refuses a key: {why}")
        })?;
        if first {
            self.decide(worker, Decision::Installed(handle));
            if let Some((_, session)) = self.by_id(id) {
                let remote = canonical(session.remote);
                log::info!("{name}: client {who}: up from {remote}");
                let up = notice(name, session, News::Up(Some(remote)));
                self.notices.push(up);
            }
        }
        Ok(())
    }

    /// Ends the sessions of clients that may not stay, after a change of the configuration.
    fn review<K: Kernel>(&mut self, name: &str, (kernel, worker): World<'_, K>) {
        let (Some(spec), Some(live)) = (&self.spec, &self.live) else {
            return;
        };
        let revoked = revoked(spec);
        let judged = live.sessions.iter().filter_map(|(handle, session)| {
            let why = match &revoked {
                Some(Err(why)) => Some(format!("the list of revoked certificates: {why}")),
                Some(Ok(lists)) if lists.has(&session.serial) => {
                    Some("its certificate was revoked".to_owned())
                }
                _ => admit::judge(spec, &session.name, 0).err(),
            };
            Some((*handle, why?))
        });
        for (handle, why) in judged.collect::<Vec<_>>() {
            self.decide(worker, Decision::Refuse(handle, why.clone()));
            self.gone(name, handle, &why);
        }
        self.reconcile(name, (kernel, worker));
    }

    pub(super) fn socket(&self) -> Option<&UdpSocket> {
        self.live.as_ref().map(|live| &live.socket)
    }

    /// Peers that the kernel should have.
    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.ready().map(|session| session.id).collect()
    }

    /// The kernel deleted a peer by itself.
    pub(super) fn lost<K: Kernel>(
        &mut self,
        name: &str,
        id: PeerId,
        why: &str,
        (kernel, worker): World<'_, K>,
    ) {
        if let Some(state) = self.state.as_mut() {
            state.peers.remove(&id);
        }
        self.end_by_id(name, id, why, worker);
        self.reconcile(name, (kernel, worker));
    }

    /// A client's data comes from another address.
    pub(super) fn floated(&mut self, name: &str, id: PeerId, to: SocketAddr, worker: &Worker) {
        let both = self.spec.as_ref().is_some_and(|s| s.interface.socket.both);
        if let Some(peer) = self.state.as_mut().and_then(|s| s.peers.get_mut(&id)) {
            // The kernel has done it.
            peer.params.remote = Some(canonical(to));
        }
        let Some((handle, session)) = self.by_id_mut(id) else {
            return;
        };
        session.remote = to;
        log::info!("{name}: client {}: now at {to}", session.name);
        let float = notice(name, session, News::Float(to));
        self.notices.push(float);
        self.decide(worker, Decision::Rebind(handle, mapped(to, both)));
    }

    /// A key of a peer is used up.
    pub(super) fn key_exhausted(&self, id: PeerId, worker: &Worker) {
        if let Some((handle, _)) = self.by_id(id) {
            self.decide(worker, Decision::Renegotiate(handle));
        }
    }

    /// Ends the sessions of a client by its name, or by the number of its peer. Whether there are any.
    pub(super) fn disconnect<K: Kernel>(
        &mut self,
        name: &str,
        who: &str,
        (kernel, worker): World<'_, K>,
    ) -> bool {
        let number = who.parse().ok().and_then(PeerId::new);
        let sessions = self.live.iter().flat_map(|live| &live.sessions);
        let found: Vec<Handle> = sessions
            .filter(|(_, session)| session.name == who || Some(session.id) == number)
            .map(|(handle, _)| *handle)
            .collect();
        for handle in &found {
            let why = "it was disconnected by a call";
            self.decide(worker, Decision::End(*handle, why.into()));
            self.gone(name, *handle, why);
        }
        self.reconcile(name, (kernel, worker));
        !found.is_empty()
    }

    /// Somebody deleted the interface.
    pub(super) fn link_deleted(&mut self, name: &str, worker: &Worker, now: Instant) {
        self.close(name, worker);
        self.state = None;
        let why = "the interface was deleted by someone else";
        log::warn!("{name}: {why}");
        self.failure = Some(why.into());
        self.retry.failed(now);
    }

    /// Reads the socket.
    pub(super) fn receive(&self, worker: &Worker) {
        let Some(live) = &self.live else { return };
        let mut buffer = [0; MAX_PACKET];
        for _ in 0..BURST {
            match live.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let packet = buffer.get(..len).unwrap_or_default();
                    if is_control(packet) {
                        worker.packet(live.attempt, from, packet);
                    }
                }
                Err(_) => return,
            }
        }
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }
}

/// The settings of the control channel.
fn config(spec: &ServerSpec) -> ServerConfig<openvpn_control::tls::ring::Factory> {
    let protocol = match spec.interface.socket.transport.is_v6() {
        true => "UDPv6",
        false => "UDPv4",
    };
    ServerConfig {
        tls: spec.tls.clone(),
        timing: spec.timing,
        wrap: spec.wrap.clone(),
        options: options_string(Role::Server, protocol, spec.mtu),
        abilities: ABILITIES,
        ciphers: spec.ciphers.clone(),
        max_sessions: spec.max_clients.saturating_add(MAX_PENDING),
        max_pending: MAX_PENDING,
        resets: ResetLimits::default(),
    }
}

/// The server's lists of revoked certificates; none without a file.
fn revoked(spec: &ServerSpec) -> Option<Result<Revoked, String>> {
    let path = spec.crl.as_ref()?;
    let text = std::fs::read(path).map_err(|error| error.to_string());
    Some(text.and_then(|text| Revoked::read(&text).map_err(|why| why.to_string())))
}

/// An address as the kernel's driver and people know it: IPv4 is not mapped into IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// An address as a socket for `both` families tells it.
fn mapped(address: SocketAddr, both: bool) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if both => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

fn notice(interface: &str, session: &Session, what: News) -> Notice {
    Notice {
        interface: interface.to_owned(),
        peer: session.name.clone(),
        id: session.id,
        control: Control::Tls,
        what,
    }
}
