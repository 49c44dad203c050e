// SPDX-License-Identifier: GPL-2.0-or-later
//! A tunnel to a server, from its configuration to the kernel's peer.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use openvpn_control::client::{ClientConfig, End, Event, State as Step};
use openvpn_control::exchange::options_string;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::keystate::Failure;
use openvpn_control::push::Options;
use openvpn_control::session::KeyChange;
use ovpn_netlink::{Mode, PeerId, PeerParams};

use super::options::{addresses, keepalive, names, routes};
use super::outlet::Outlet;
use super::stream::{Broken, Connection};
use super::worker::{Attempt, Start, Worker, sentence};
use super::{ABILITIES, BURST, DEFAULT_MTU, MAX_PACKET, key_event};
use crate::config::vpn::{ClientEntry, ClientSpec, Remote};
use crate::config::{Endpoint, Problem, SocketSpec};
use crate::kernel::Kernel;
use crate::reconcile::{Ask, Offer, Told};
use crate::resolver::{Answer, Found, Lookup};
use crate::retry::Retry;
use crate::state::{PeerState, Route, State, diff};

mod pushed;
mod questions;
mod view;

use questions::{Needs, Questions};

/// Name of a client's only peer.
pub const PEER: &str = "server";
/// Longest wait between two attempts, as stock OpenVPN's.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For the next attempt.
    Waiting,
    /// For the user's answer to a question.
    Asking,
    Resolving,
    Session(Step),
    /// No further attempt without a change of the configuration.
    Stopped,
}

/// An attempt to connect, or the session that came of it.
#[derive(Debug)]
struct Live {
    attempt: Attempt,
    spec: SocketSpec,
    link: Link,
    remote: SocketAddr,
    up: Option<Up>,
    /// Events that wait until the connection is between two packets, where the kernel can have it.
    held: Vec<Event>,
}

/// The way to the server.
#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(Connection),
    /// The server closed it; the control channel has what came before.
    Closed,
}

impl Live {
    /// Whether an event has to wait because the connection is in the middle of a packet.
    fn has_to_wait(&self) -> bool {
        let between = match &self.link {
            Link::Tcp(connection) => connection.is_between(),
            Link::Udp(_) | Link::Closed => true,
        };
        self.up.is_none() && !between
    }
}

/// A session with its options.
#[derive(Debug)]
struct Up {
    peer: PeerId,
    options: Options,
    cipher: Cipher,
    since: Instant,
    keyed: Option<Instant>,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// None when it is to go.
    pub(super) spec: Option<Box<ClientSpec>>,
    pub(super) problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The interface as the kernel has it.
    pub(super) state: Option<State>,
    phase: Phase,
    since: Instant,
    /// The last failure.
    failure: Option<String>,
    /// Which server is next.
    remote: usize,
    retry: Retry,
    /// A question to the resolver has to be given out.
    ask: bool,
    live: Option<Live>,
    losses: u32,
    login: Questions,
    /// Why it is down, although it is configured.
    stopped: Option<String>,
    /// Whether netifd sets addresses and routes.
    netifd: bool,
    /// netifd's knowledge of it.
    told: Told,
}

impl Client {
    pub(super) fn new(netifd: bool, now: Instant) -> Self {
        Self {
            spec: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            state: None,
            phase: Phase::Waiting,
            since: now,
            failure: None,
            remote: 0,
            retry: Retry::new(LONGEST_WAIT),
            ask: false,
            live: None,
            losses: 0,
            login: Questions::default(),
            stopped: None,
            netifd,
            told: Told::default(),
        }
    }

    /// Takes over a configuration. True when it is another one, and the session has to begin anew.
    pub(super) fn want(&mut self, entry: ClientEntry) -> bool {
        self.problems = entry.problems;
        self.warnings = entry.warnings;
        let switched = self.stopped.is_some() != entry.stopped.is_some();
        self.stopped = entry.stopped;
        let Some(mut spec) = entry.spec else {
            return switched;
        };
        if spec.random {
            // Nothing secret depends on the order: the hasher's random keys make it.
            let order = RandomState::new();
            spec.remotes
                .sort_by_cached_key(|remote| order.hash_one(remote.endpoint.to_string()));
        }
        let same = self.spec.as_ref().is_some_and(|old| old.mark == spec.mark);
        if !same {
            self.spec = Some(spec);
            self.login = Questions::default();
        }
        !same || switched
    }

    /// See [`Clients::start`](super::Clients::start).
    pub(super) fn start<K: Kernel>(
        &mut self,
        name: &str,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) -> Result<Offer, String> {
        // The configuration has begun a session already, unless that failed for good.
        if self.stopped.take().is_some() || matches!(self.phase, Phase::Stopped) {
            self.restart(name, kernel, worker, now);
        }
        if self.state.is_none() {
            // netifd tries again by itself, after a pause: it is not asked to.
            self.reconcile(name, kernel)
                .inspect_err(|_| self.told = Told::default())?;
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
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        if self.stopped.is_none() {
            log::info!("{name}: down: {reason}");
        }
        self.stopped = Some(reason.to_owned());
        self.told = Told::default();
        self.failure = None;
        self.close(name, kernel, worker, now);
        self.retry = Retry::new(LONGEST_WAIT);
    }

    /// The request to netifd that is due.
    pub(super) fn ask_netifd(&mut self) -> Option<Ask> {
        if self.stopped.is_some() || self.state.is_none() {
            return None;
        }
        let offer = self.offer();
        self.told.ask(offer)
    }

    /// Addresses and routes of the session for netifd, and the server's address, as far as they are known.
    fn offer(&self) -> Option<Offer> {
        let spec = self.spec.as_ref()?;
        let live = self.live.as_ref();
        let up = live.and_then(|live| Some((live, live.up.as_ref()?)));
        let (addresses, routes) = up.map_or_else(Default::default, |(live, up)| {
            (
                addresses(&up.options),
                self.routes(spec, up, live.remote.ip()).0,
            )
        });
        let (dns, search) = up.map_or_else(Default::default, |(_, up)| names(&up.options).0);
        // A server by its address is known before there is a session: netifd waits for a way to it, and takes the interface
        // down with that way. Of several, one that cannot be reached must not keep the others from being tried.
        let place = live.map(|live| live.remote.ip());
        let only = match spec.remotes.as_slice() {
            [only] => only.endpoint.literal().map(|address| address.ip()),
            _ => None,
        };
        Some(Offer {
            addresses: addresses.into_iter().collect(),
            routes,
            endpoints: place.or(only).into_iter().collect(),
            dns,
            search,
        })
    }

    /// Routes into the tunnel, and sentences about those that are not made.
    fn routes(&self, spec: &ClientSpec, up: &Up, server: IpAddr) -> (BTreeSet<Route>, Vec<String>) {
        let pinned = self.netifd && spec.interface.routing.pinned;
        routes(&up.options, up.peer, (!pinned).then_some(server))
    }

    fn go(&mut self, phase: Phase, now: Instant) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
    }

    /// Ends what there is and begins anew at once.
    pub(super) fn restart<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        worker: &Worker,
        now: Instant,
    ) {
        self.close(name, kernel, worker, now);
        self.retry = Retry::new(LONGEST_WAIT);
        self.remote = 0;
        self.begin(now);
    }

    /// Ends the session, if there is one, and takes its peer out of the kernel.
    pub(super) fn close<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        worker: &Worker,
        now: Instant,
    ) {
        if let Some(live) = self.live.take() {
            worker.end(live.attempt);
        }
        self.ask = false;
        self.go(Phase::Waiting, now);
        if let Err(why) = self.reconcile(name, kernel) {
            log::warn!("{name}: {why}");
        }
    }

    /// Removes the interface.
    pub(super) fn forget<K: Kernel>(&mut self, name: &str, kernel: &mut K) {
        (self.live, self.spec) = (None, None);
        if let Err(why) = self.reconcile(name, kernel) {
            log::warn!("{name}: {why}");
        }
    }

    fn begin(&mut self, now: Instant) {
        let Some(spec) = self.spec.as_ref().filter(|_| self.stopped.is_none()) else {
            return;
        };
        if self.login.has_to_ask(Needs::of(spec)) {
            return self.go(Phase::Asking, now);
        }
        self.ask = true;
        self.go(Phase::Resolving, now);
    }

    pub(super) fn wake(&mut self, now: Instant) {
        if self.phase == Phase::Waiting && self.retry.is_due(now) {
            self.retry.end_wait();
            self.begin(now);
        }
    }

    pub(super) fn next_wait(&self) -> Option<Instant> {
        self.retry.at().filter(|_| self.phase == Phase::Waiting)
    }

    /// The server of this attempt.
    fn server(&self) -> Option<&Remote> {
        let remotes = &self.spec.as_ref()?.remotes;
        remotes.get(self.remote.checked_rem(remotes.len())?)
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.server().map(|server| &server.endpoint)
    }

    /// The socket to this attempt's server.
    fn socket_spec(&self) -> Option<SocketSpec> {
        Some(SocketSpec {
            transport: self.server()?.transport,
            ..self.spec.as_ref()?.interface.socket
        })
    }

    pub(super) fn lookup(&mut self, name: &str) -> Option<Lookup> {
        if !std::mem::take(&mut self.ask) {
            return None;
        }
        Some(Lookup {
            interface: name.to_owned(),
            peer: PEER.into(),
            endpoint: self.endpoint()?.clone(),
            socket: self.socket_spec()?,
        })
    }

    /// Takes the resolver's answer, over TCP with a connection, and begins a session.
    pub(super) fn resolved<K: Kernel>(
        &mut self,
        answer: Answer,
        attempt: Attempt,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        let Answer { lookup, result } = answer;
        let name = lookup.interface.as_str();
        let current = self.endpoint().zip(self.socket_spec());
        let asked = Some((&lookup.endpoint, lookup.socket));
        if self.phase != Phase::Resolving || current != asked {
            return;
        }
        let opened = result.and_then(|Found { remote, stream }| {
            let (link, outlet) = self.open(name, kernel, remote, stream)?;
            Ok((remote, link, outlet))
        });
        let (remote, link, outlet) = match opened {
            Ok(opened) => opened,
            Err(why) => return self.failed(name, &why, &End::Retry, (kernel, worker), now),
        };
        let Some(spec) = &self.spec else { return };
        let protocol = match (&link, remote.is_ipv6()) {
            (Link::Udp(_), true) => "UDPv6",
            (Link::Udp(_), false) => "UDPv4",
            // For both families, as stock OpenVPN says it.
            (Link::Tcp(_) | Link::Closed, _) => "TCPv4_CLIENT",
        };
        let mtu = spec.mtu.unwrap_or(DEFAULT_MTU);
        let config = ClientConfig {
            tls: spec.tls.clone(),
            timing: spec.timing,
            wrap: spec.wrap.clone(),
            options: options_string(Role::Client, protocol, mtu),
            credentials: self.login.credentials(spec.credentials.as_ref()),
            token: self.login.has_token(),
            version: format!("ovpnd-{}", env!("CARGO_PKG_VERSION")),
            mtu: mtu.max(1600),
            abilities: ABILITIES,
            ciphers: spec.ciphers.clone(),
            filter: spec.filter.clone(),
        };
        worker.connect(Start {
            attempt,
            config,
            outlet,
        });
        self.live = Some(Live {
            attempt,
            spec: lookup.socket,
            link,
            remote,
            up: None,
            held: Vec::new(),
        });
        log::info!(
            "{name}: connecting to {remote} ({})",
            lookup.socket.transport
        );
        self.go(Phase::Session(Step::Connecting), now);
    }

    /// A fresh socket of the interface, or the connection to the server: to read here, and to send from the worker.
    fn open<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        remote: SocketAddr,
        stream: Option<OwnedFd>,
    ) -> Result<(Link, Outlet), String> {
        let mut goal = self.goal().ok_or("it is not configured")?;
        goal.socket = self.socket_spec().filter(|spec| !spec.transport.is_tcp());
        self.carry_out(name, kernel, Some(&goal))?;
        if let Some(stream) = stream {
            let connection = Connection::new(stream, true);
            let outlet = Outlet::Tcp(connection.writer().clone());
            return Ok((Link::Tcp(connection), outlet));
        }
        let socket = kernel.socket(name).ok_or("the socket is not open")?;
        let socket = UdpSocket::from(socket);
        let other = socket.try_clone().map_err(|error| error.to_string())?;
        Ok((Link::Udp(socket), Outlet::Udp(other, remote)))
    }

    /// The interface as it should be now.
    fn goal(&self) -> Option<State> {
        let spec = self.spec.as_ref().filter(|_| self.stopped.is_none())?;
        let mut goal = State::new(Mode::P2p);
        goal.mtu = self.state.as_ref().and_then(|state| state.mtu);
        let live = self.live.as_ref();
        goal.socket = live
            .map(|live| live.spec)
            .filter(|spec| !spec.transport.is_tcp());
        let Some((live, up)) = live.and_then(|live| Some((live, live.up.as_ref()?))) else {
            return Some(goal);
        };
        let options = &up.options;
        goal.mtu = Some(spec.mtu.or(options.tun_mtu).unwrap_or(DEFAULT_MTU));
        goal.up = true;
        if !self.netifd {
            goal.addresses = addresses(options);
            goal.routes = self.routes(spec, up, live.remote.ip()).0;
        }
        let params = PeerParams {
            remote: (!live.spec.transport.is_tcp()).then_some(live.remote),
            keepalive: Some(keepalive(options, spec.keepalive)),
            ..PeerParams::default()
        };
        let peer = PeerState { params, keys: None };
        goal.peers = BTreeMap::from([(up.peer, peer)]);
        Some(goal)
    }

    fn reconcile<K: Kernel>(&mut self, name: &str, kernel: &mut K) -> Result<(), String> {
        let goal = self.goal();
        self.carry_out(name, kernel, goal.as_ref())
    }

    fn carry_out<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
        goal: Option<&State>,
    ) -> Result<(), String> {
        if let Some(spec) = &self.spec {
            kernel.prefer(name, &spec.interface);
        }
        for op in diff(self.state.as_ref(), goal) {
            kernel
                .run(name, &op, None)
                .map_err(|failure| failure.message)?;
            State::apply(&mut self.state, &op);
            self.told.follows(&op, kernel.adopted(name));
        }
        Ok(())
    }

    /// Notes a failure and what follows from it.
    pub(super) fn failed<K: Kernel>(
        &mut self,
        name: &str,
        why: &str,
        end: &End,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        log::log!(
            crate::reconcile::news(self.failure.as_ref(), why),
            "{name}: {why}"
        );
        // The server's question is no failure.
        if !matches!(end, End::Ask(_)) {
            self.failure = Some(why.to_owned());
        }
        self.close(name, kernel, worker, now);
        match end {
            End::Retry => {
                self.remote = self.remote.wrapping_add(1);
                self.retry.failed(now);
            }
            End::Wait { time, advance } => {
                self.remote = self.remote.wrapping_add((*advance).into());
                self.retry.failed_for(now, *time);
            }
            End::Password => {
                self.login.forget_token();
                self.retry.failed(now);
            }
            End::Stop => {
                let spec = self.spec.as_ref();
                // A wrong answer is one more try for the user, and none for a program.
                if self.login.refused() {
                    self.retry.failed(now);
                } else if spec.is_some_and(|spec| self.login.has_to_ask(Needs::of(spec))) {
                    self.go(Phase::Asking, now);
                } else {
                    self.go(Phase::Stopped, now);
                }
            }
            End::Ask(challenge) => {
                // The answer before was wrong: its user shall read that.
                if !self.login.ask(challenge.clone()) {
                    self.failure = None;
                }
                self.go(Phase::Asking, now);
            }
        }
    }

    /// Whether this attempt is the one that goes on.
    pub(super) fn has(&self, attempt: Attempt) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.attempt == attempt)
    }

    /// Takes an event of the session.
    pub(super) fn event<K: Kernel>(
        &mut self,
        name: &str,
        event: Event,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        if let Some(live) = &mut self.live {
            let failed = matches!(event, Event::Failed(..));
            if !failed && (live.has_to_wait() || !live.held.is_empty()) {
                return live.held.push(event);
            }
        }
        self.done(name, event, (kernel, worker), now);
    }

    /// Does what follows from an event.
    fn done<K: Kernel>(
        &mut self,
        name: &str,
        event: Event,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        let done = match event {
            Event::State(Step::Over) => Ok(()),
            Event::State(step) => {
                if step == Step::Authenticating {
                    self.login.sent();
                }
                if step == Step::Up {
                    self.failure = None;
                    self.retry = Retry::new(LONGEST_WAIT);
                    log::info!("{name}: up");
                }
                self.go(Phase::Session(step), now);
                Ok(())
            }
            Event::Pushed(options, agreed) => self.pushed(name, *options, agreed, kernel, now),
            Event::Updated(options) => self.updated(name, *options, kernel),
            Event::Keys(change) => self.keys(name, change, kernel, now),
            Event::RenegotiationFailed(why) => {
                log::warn!("{name}: renegotiation: {}", sentence(&why));
                Ok(())
            }
            Event::Token(credentials) => {
                self.login.take_token(credentials);
                Ok(())
            }
            Event::Info(text) => {
                log::info!("{name}: the server says: {text}");
                Ok(())
            }
            Event::Pending(time) => {
                log::info!(
                    "{name}: the server waits for an approval, {} s at most",
                    time.as_secs()
                );
                Ok(())
            }
            Event::Server(_) => Ok(()),
            Event::Failed(why, end) => {
                return self.failed(name, &sentence(&why), &end, (kernel, worker), now);
            }
        };
        if let Err(why) = done {
            self.failed(name, &why, &End::Retry, (kernel, worker), now);
        }
    }

    fn keys<K: Kernel>(
        &mut self,
        name: &str,
        change: KeyChange,
        kernel: &mut K,
        now: Instant,
    ) -> Result<(), String> {
        let up = self.live.as_mut().and_then(|live| live.up.as_mut());
        let up = up.ok_or("keys came before options")?;
        if let KeyChange::Install(_) = change {
            up.keyed = Some(now);
        }
        let event = key_event(up.peer, change, Role::Client)?;
        kernel
            .key_event(name, up.peer, &event)
            .map_err(|failure| format!("the kernel refuses a key: {}", failure.message))
    }

    pub(super) fn peer(&self) -> Option<PeerId> {
        Some(self.live.as_ref()?.up.as_ref()?.peer)
    }

    pub(super) fn attempt(&self) -> Option<Attempt> {
        self.live.as_ref().map(|live| live.attempt)
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.live.as_ref()?.link {
            Link::Udp(socket) => Some(socket.as_fd()),
            Link::Tcp(connection) => Some(connection.socket().as_fd()),
            Link::Closed => None,
        }
    }

    /// The kernel deleted the peer by itself.
    pub(super) fn lost<K: Kernel>(
        &mut self,
        name: &str,
        why: &str,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        self.losses = self.losses.saturating_add(1);
        self.failed(name, why, &End::Retry, (kernel, worker), now);
    }

    /// Reads the socket.
    pub(super) fn receive<K: Kernel>(
        &mut self,
        name: &str,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        for _ in 0..BURST {
            let Some(live) = &mut self.live else { return };
            match live.read(worker) {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    // The control channel may have read the server's reason by then.
                    live.link = Link::Closed;
                    return worker.broken(live.attempt, why.sentence("server"));
                }
            }
            if live.has_to_wait() {
                continue;
            }
            for event in std::mem::take(&mut live.held) {
                self.event(name, event, (kernel, worker), now);
            }
        }
    }
}

impl Live {
    /// Hands a packet to the worker; false when there is none.
    fn read(&mut self, worker: &Worker) -> Result<bool, Broken> {
        let mut buffer = [0; MAX_PACKET];
        match &mut self.link {
            Link::Closed => Ok(false),
            Link::Tcp(connection) => {
                let packet = connection.next()?;
                if let Some(packet) = packet {
                    worker.packet(self.attempt, None, packet);
                }
                Ok(packet.is_some())
            }
            Link::Udp(socket) => match socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    if from == self.remote {
                        let packet = buffer.get(..len).unwrap_or_default();
                        worker.packet(self.attempt, None, packet);
                    }
                    Ok(true)
                }
                Err(_) => Ok(false),
            },
        }
    }
}

/// A failure of the worker itself.
pub(super) fn no_worker(error: &std::io::Error) -> Failure {
    Failure::new(
        format!("there is no thread for the control channel: {error}"),
        "",
    )
}
