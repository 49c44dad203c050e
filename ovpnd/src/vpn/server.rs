// SPDX-License-Identifier: GPL-2.0-or-later
//! A server, from its configuration to the kernel's peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use openvpn_control::exchange::options_string;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::listener::ResetLimits;
use openvpn_control::server::{Event, Handle, Path, ServerConfig};
use ovpn_netlink::{IpPrefix, Mode, PeerId, PeerParams, Totals};

use super::logins::Login;
use super::pool::{Lease, Pool};
use super::serving::{Decision, SOCKET, Serve};
use super::worker::{Attempt, Worker};
use super::{ABILITIES, BURST, MAX_PACKET, admit, is_control};
use crate::config::Problem;
use crate::config::vpn::server::{ServerEntry, ServerSpec};
use crate::kernel::Kernel;
use crate::reconcile::{Ask, Offer, Told, news};
use crate::retry::Retry;
use crate::state::{Op, PeerState, Route, State, diff};
use crate::tunnel::{Control, News, Notice, Past, plus};

mod clients;
mod connections;
mod updates;
mod view;

use connections::{Connections, Ended};
pub use updates::Updated;

/// Longest wait for a port that is taken.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Sessions without keys: a handshake takes half a second on a slow router, and each holds some 50 KiB.
const MAX_PENDING: usize = 64;
/// Clients that are gone and whose counters did not come.
const MAX_DEPARTED: usize = 1024;
/// Failures of clients that were never let in are told no faster than this.
const REFUSAL_PAUSE: Duration = Duration::from_secs(2);

/// A client that is let in.
#[derive(Debug)]
struct Session {
    name: String,
    id: PeerId,
    lease: Lease,
    path: Path,
    cipher: Option<Cipher>,
    serial: Vec<u8>,
    /// Its user, when it logged in by a password.
    user: Option<String>,
    since: Instant,
    /// When its last key came; none before the first one.
    keyed: Option<Instant>,
    /// Whether it takes changes of its options.
    updates: bool,
    /// Why a network behind it is not routed to it.
    route_error: Option<String>,
}

impl Session {
    /// Its address, as people know it.
    fn remote(&self) -> SocketAddr {
        canonical(self.path.remote)
    }
}

/// A server that listens.
#[derive(Debug)]
struct Live {
    attempt: Attempt,
    socket: Option<UdpSocket>,
    connections: Option<Connections>,
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
    /// Clients whose sessions are over and whose final counters are to come.
    departed: BTreeMap<PeerId, String>,
    past: Past,
    /// The last client that was not let in: where it was, why, and when.
    last_refusal: Option<(SocketAddr, String, Instant)>,
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
            departed: BTreeMap::new(),
            past: Past::default(),
            last_refusal: None,
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
            // netifd tries again by itself, after a pause: it is not asked to.
            self.told = Told::default();
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
        let sockets = spec.sockets;
        let logins = spec.logins.clone();
        let handshake = spec.timing.hand_window;
        let opened = self.carry_out(name, kernel, worker).and_then(|()| {
            let udp = sockets.udp.map(|_| {
                let socket = kernel.socket(name).ok_or("the socket is not open")?;
                let socket = UdpSocket::from(socket);
                let other = socket.try_clone().map_err(|error| error.to_string())?;
                Ok::<_, String>((socket, other))
            });
            let tcp = sockets.tcp.map(|spec| Connections::open(spec, handshake));
            Ok((udp.transpose()?.unzip(), tcp.transpose()?))
        });
        match opened {
            Ok(((socket, other), connections)) => {
                worker.serve(Serve {
                    attempt,
                    config,
                    socket: other,
                    logins,
                });
                self.live = Some(Live {
                    attempt,
                    socket,
                    connections,
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
                    self.departed.insert(session.id, session.name.clone());
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
        if self.live.is_none() && self.next_wait().is_some_and(|at| at <= now) {
            self.retry.end_wait();
            self.listen(name, world, attempt, now);
        } else if let Some(connections) = self.connections() {
            let ended = connections.expire(now);
            self.hang_up(name, ended, world.1, now);
        }
    }

    pub(super) fn next_wait(&self) -> Option<Instant> {
        match &self.live {
            None => self.retry.at(),
            Some(live) => live.connections.as_ref()?.deadline(),
        }
    }

    fn connections(&mut self) -> Option<&mut Connections> {
        self.live.as_mut()?.connections.as_mut()
    }

    /// Tells the control channel of connections that ended; their sessions' ends follow as events.
    fn hang_up(&mut self, name: &str, ended: Vec<Ended>, worker: &Worker, now: Instant) {
        for Ended { path, why, over } in ended {
            let sessions = self.live.iter().flat_map(|live| live.sessions.values());
            if !over && !sessions.into_iter().any(|session| session.path == path) {
                self.refused(name, path.remote, &why, now);
            }
            if let Some(live) = &self.live {
                worker.hung_up(live.attempt, path, why);
            }
        }
    }

    /// The interface as it should be now.
    fn goal(&self) -> Option<State> {
        let spec = self.spec.as_ref().filter(|_| self.stopped.is_none())?;
        let mut goal = State::new(Mode::Mp);
        goal.mtu = Some(spec.mtu);
        goal.socket = spec.sockets.udp;
        goal.up = true;
        if !self.netifd {
            goal.addresses = spec.interface.addresses.iter().copied().collect();
            goal.routes = self.routes();
        }
        let keepalive = admit::keepalive(spec);
        let peers = self.ready().map(|session| {
            let params = PeerParams {
                remote: (!session.path.stream).then(|| session.remote()),
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
                (Ok(()), _) => {
                    State::apply(&mut self.state, &op);
                    self.told.follows(&op, kernel.adopted(name));
                }
                (Err(why), Op::NewPeer(id, _) | Op::SetPeer(id, _)) => {
                    failed.insert(*id, why.message);
                    // Its connection must not stay open for a peer that is not there.
                    let _ = kernel.run(name, &Op::DelPeer(*id), None);
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
        self.release(session.path);
        if session.keyed.is_some() {
            log::info!("{name}: client {}: down: {why}", session.name);
            self.notices
                .push(notice(name, &session, News::Down(why.to_owned())));
            if self.departed.len() >= MAX_DEPARTED {
                // A driver that tells no final counters.
                self.departed.clear();
            }
            self.departed.insert(session.id, session.name);
        }
    }

    /// The final counters of a peer.
    pub(super) fn counted(&mut self, name: &str, id: PeerId, totals: Totals) {
        let Some(peer) = self.departed.remove(&id) else {
            return;
        };
        let (vpn, link) = (totals.vpn, totals.link);
        log::info!(
            "{name}: client {peer}: in all {} bytes in {} packets in, {} in {} out",
            vpn.rx_bytes,
            vpn.rx_packets,
            vpn.tx_bytes,
            vpn.tx_packets
        );
        self.past.sessions = self.past.sessions.saturating_add(1);
        self.past.totals = Totals {
            vpn: plus(self.past.totals.vpn, vpn),
            link: plus(self.past.totals.link, link),
        };
        self.notices.push(Notice {
            interface: name.to_owned(),
            peer,
            id,
            control: Control::Tls,
            what: News::Total(totals),
        });
    }

    /// The session at this path is over: a connection is closed after a while.
    fn release(&mut self, path: Path) {
        if let Some(connections) = self.connections().filter(|_| path.stream) {
            connections.release(path.socket, Instant::now());
        }
    }

    /// Whether this attempt is the one that goes on.
    pub(super) fn has(&self, attempt: Attempt) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.attempt == attempt)
    }

    /// Descriptors to poll for readability.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let live = self.live.iter();
        live.flat_map(|live| {
            let udp = live.socket.iter().map(AsFd::as_fd);
            udp.chain(live.connections.iter().flat_map(Connections::fds))
        })
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
        self.end_by_id(name, id, why, worker);
        self.reconcile(name, (kernel, worker));
    }

    /// A client's data comes from another address.
    pub(super) fn floated(&mut self, name: &str, id: PeerId, to: SocketAddr, worker: &Worker) {
        let udp = self.spec.as_ref().and_then(|spec| spec.sockets.udp);
        if let Some(peer) = self.state.as_mut().and_then(|s| s.peers.get_mut(&id)) {
            // The kernel has done it.
            peer.params.remote = Some(canonical(to));
        }
        let Some((handle, session)) = self.by_id_mut(id) else {
            return;
        };
        session.path.remote = to;
        log::info!("{name}: client {}: now at {to}", session.name);
        let float = notice(name, session, News::Float(to));
        self.notices.push(float);
        self.decide(
            worker,
            Decision::Rebind(handle, mapped(to, udp.is_some_and(|udp| udp.both))),
        );
    }

    /// A key of a peer is used up.
    pub(super) fn key_exhausted(&self, id: PeerId, worker: &Worker) {
        if let Some((handle, _)) = self.by_id(id) {
            self.decide(worker, Decision::Renegotiate(handle));
        }
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

    /// Reads the sockets.
    pub(super) fn receive<K: Kernel>(
        &mut self,
        name: &str,
        (kernel, worker): World<'_, K>,
        now: Instant,
    ) {
        let Some(live) = &mut self.live else { return };
        let attempt = live.attempt;
        let mut buffer = [0; MAX_PACKET];
        for socket in live.socket.iter().flat_map(|socket| [socket; BURST]) {
            let Ok((len, remote)) = socket.recv_from(&mut buffer) else {
                break;
            };
            let packet = buffer.get(..len).unwrap_or_default();
            if is_control(packet) {
                let path = Path {
                    socket: SOCKET,
                    remote,
                    stream: false,
                };
                worker.packet(attempt, path, packet);
            }
        }
        let Some(connections) = &mut live.connections else {
            return;
        };
        for (number, writer) in connections.accept(now) {
            worker.called(attempt, number, writer);
        }
        let ended = connections.receive(|path, packet| worker.packet(attempt, path, packet));
        let ready = connections.ready();
        self.hang_up(name, ended, worker, now);
        for (handle, change) in ready {
            let event = Event::Keys(handle, change);
            self.event(name, event, Login::None, (kernel, worker), now);
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
    let string = |protocol| options_string(Role::Server, protocol, spec.mtu);
    ServerConfig {
        tls: spec.tls.clone(),
        timing: spec.timing,
        wrap: spec.wrap.clone(),
        options: string(protocol),
        // For both families, as stock OpenVPN says it.
        stream_options: string("TCPv4_SERVER"),
        abilities: ABILITIES,
        ciphers: spec.ciphers.clone(),
        max_sessions: spec.max_clients.saturating_add(MAX_PENDING),
        max_pending: MAX_PENDING,
        resets: ResetLimits::default(),
    }
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
