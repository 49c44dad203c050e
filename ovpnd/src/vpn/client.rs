// SPDX-License-Identifier: GPL-2.0-or-later
//! A tunnel to a server, from its configuration to the kernel's peer.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use openvpn_control::client::{ClientConfig, End, Event, State as Step};
use openvpn_control::exchange::options_string;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::keystate::Failure;
use openvpn_control::push::Options;
use openvpn_control::session::{KeyChange, Negotiated};
use ovpn_netlink::{Mode, PeerId, PeerInfo, PeerParams};

use super::options::{addresses, keepalive, names, routes};
use super::worker::{Attempt, Start, Worker, sentence};
use super::{ABILITIES, BURST, DEFAULT_MTU, MAX_PACKET, key_event};
use crate::config::vpn::{ClientEntry, ClientSpec};
use crate::config::{Endpoint, Problem};
use crate::kernel::Kernel;
use crate::reconcile::{Ask, Offer, Told};
use crate::resolver::Lookup;
use crate::retry::Retry;
use crate::state::{PeerState, Route, State, diff};
use crate::tunnel::{self, Control, InterfaceView, PeerView, Tunnel, Wanted};

/// Name of a client's only peer.
pub const PEER: &str = "server";
/// Longest wait between two attempts, as stock OpenVPN's.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For the next attempt.
    Waiting,
    Resolving,
    Session(Step),
    /// No further attempt without a change of the configuration.
    Stopped,
}

/// An attempt to connect, or the session that came of it.
#[derive(Debug)]
struct Live {
    attempt: Attempt,
    socket: UdpSocket,
    remote: SocketAddr,
    up: Option<Up>,
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
                .sort_by_cached_key(|remote| order.hash_one(remote.to_string()));
        }
        let same = self.spec.as_ref().is_some_and(|old| old.mark == spec.mark);
        if !same {
            self.spec = Some(spec);
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
            self.reconcile(name, kernel)?;
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
        Some(Offer {
            addresses: addresses.into_iter().collect(),
            routes,
            endpoints: live.map(|live| live.remote.ip()).into_iter().collect(),
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
        if self.spec.is_some() && self.stopped.is_none() {
            self.ask = true;
            self.go(Phase::Resolving, now);
        }
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

    fn endpoint(&self) -> Option<&Endpoint> {
        let remotes = &self.spec.as_ref()?.remotes;
        remotes.get(self.remote.checked_rem(remotes.len())?)
    }

    pub(super) fn lookup(&mut self, name: &str) -> Option<Lookup> {
        if !std::mem::take(&mut self.ask) {
            return None;
        }
        Some(Lookup {
            interface: name.to_owned(),
            peer: PEER.into(),
            endpoint: self.endpoint()?.clone(),
            socket: self.spec.as_ref()?.interface.socket,
        })
    }

    /// Takes the resolver's answer and connects.
    pub(super) fn resolved<K: Kernel>(
        &mut self,
        name: &str,
        asked: &Endpoint,
        answer: Result<SocketAddr, String>,
        attempt: Attempt,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        if self.phase != Phase::Resolving || self.endpoint() != Some(asked) {
            return;
        }
        let started = answer.and_then(|remote| {
            let (socket, other) = self.open(name, kernel)?;
            Ok((remote, socket, other))
        });
        let (remote, socket, other) = match started {
            Ok(started) => started,
            Err(why) => return self.failed(name, &why, &End::Retry, (kernel, worker), now),
        };
        let Some(spec) = &self.spec else { return };
        let protocol = match remote.is_ipv6() {
            true => "UDPv6",
            false => "UDPv4",
        };
        let mtu = spec.mtu.unwrap_or(DEFAULT_MTU);
        let config = ClientConfig {
            tls: spec.tls.clone(),
            timing: spec.timing,
            wrap: spec.wrap.clone(),
            options: options_string(Role::Client, protocol, mtu),
            credentials: spec.credentials.clone(),
            version: format!("ovpnd-{}", env!("CARGO_PKG_VERSION")),
            mtu: mtu.max(1600),
            abilities: ABILITIES,
            ciphers: spec.ciphers.clone(),
            filter: spec.filter.clone(),
        };
        worker.connect(Start {
            attempt,
            config,
            socket: other,
            remote,
        });
        self.live = Some(Live {
            attempt,
            socket,
            remote,
            up: None,
        });
        log::info!("{name}: connecting to {remote}");
        self.go(Phase::Session(Step::Connecting), now);
    }

    /// A fresh socket of the interface, twice: to read here, and to send from the worker.
    fn open<K: Kernel>(
        &mut self,
        name: &str,
        kernel: &mut K,
    ) -> Result<(UdpSocket, UdpSocket), String> {
        let mut goal = self.goal().ok_or("it is not configured")?;
        goal.socket = self.spec.as_ref().map(|spec| spec.interface.socket);
        self.carry_out(name, kernel, Some(&goal))?;
        let socket = kernel.socket(name).ok_or("the socket is not open")?;
        let socket = UdpSocket::from(socket);
        let other = socket.try_clone().map_err(|error| error.to_string())?;
        Ok((socket, other))
    }

    /// The interface as it should be now.
    fn goal(&self) -> Option<State> {
        let spec = self.spec.as_ref().filter(|_| self.stopped.is_none())?;
        let mut goal = State::new(Mode::P2p);
        goal.mtu = self.state.as_ref().and_then(|state| state.mtu);
        let live = self.live.as_ref();
        goal.socket = live.map(|_| spec.interface.socket);
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
            remote: Some(live.remote),
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
        self.failure = Some(why.to_owned());
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
            End::Stop => self.go(Phase::Stopped, now),
            End::Ask(challenge) => {
                let text = &challenge.text;
                self.failure = Some(format!(
                    "{why}: \"{text}\" (answers cannot be given so far)"
                ));
                self.go(Phase::Stopped, now);
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
        let done = match event {
            Event::State(Step::Over) => Ok(()),
            Event::State(step) => {
                if step == Step::Up {
                    self.failure = None;
                    self.retry = Retry::new(LONGEST_WAIT);
                    log::info!("{name}: up");
                }
                self.go(Phase::Session(step), now);
                Ok(())
            }
            Event::Pushed(options, agreed) => self.pushed(name, *options, agreed, kernel, now),
            Event::Keys(change) => self.keys(name, change, kernel, now),
            Event::RenegotiationFailed(why) => {
                log::warn!("{name}: renegotiation: {}", sentence(&why));
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

    fn pushed<K: Kernel>(
        &mut self,
        name: &str,
        options: Options,
        agreed: Negotiated,
        kernel: &mut K,
        now: Instant,
    ) -> Result<(), String> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let peer = options.peer_id.and_then(PeerId::new);
        let peer = peer.ok_or(
            "the server pushes no peer-id: the driver needs packets of version 2, which OpenVPN has since 2.4",
        )?;
        for ignored in &options.ignored {
            log::info!("{name}: {ignored}");
        }
        let server = live.remote.ip();
        let up = Up {
            peer,
            options,
            cipher: agreed.cipher,
            since: now,
            keyed: None,
        };
        live.up = Some(up);
        let up = self.live.as_ref().and_then(|live| live.up.as_ref());
        let left_out = self.spec.as_ref().zip(up);
        let left_out = left_out.map(|(spec, up)| {
            let ((servers, _), split) = names(&up.options);
            let unset = (!self.netifd && !servers.is_empty())
                .then(|| "the server's DNS servers are not set: netifd does that".to_owned());
            let routes = self.routes(spec, up, server).1;
            routes.into_iter().chain(split).chain(unset)
        });
        for sentence in left_out.into_iter().flatten() {
            log::warn!("{name}: {sentence}");
        }
        self.reconcile(name, kernel)
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

    pub(super) fn socket(&self) -> Option<&UdpSocket> {
        self.live.as_ref().map(|live| &live.socket)
    }

    /// The kernel deleted the peer by itself.
    pub(super) fn lost<K: Kernel>(
        &mut self,
        name: &str,
        why: &str,
        (kernel, worker): (&mut K, &Worker),
        now: Instant,
    ) {
        if let Some((peer, state)) = self.peer().zip(self.state.as_mut()) {
            state.peers.remove(&peer);
        }
        self.losses = self.losses.saturating_add(1);
        self.failed(name, why, &End::Retry, (kernel, worker), now);
    }

    /// Reads the socket.
    pub(super) fn receive(&self, worker: &Worker) {
        let Some(live) = &self.live else { return };
        let mut buffer = [0; MAX_PACKET];
        for _ in 0..BURST {
            match live.socket.recv_from(&mut buffer) {
                Ok((len, from)) if from == live.remote => {
                    worker.packet(live.attempt, from, buffer.get(..len).unwrap_or_default());
                }
                Ok(_) => {}
                Err(_) => return,
            }
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

impl Tunnel for Client {
    fn control(&self) -> Control {
        Control::Tls
    }

    fn interface(&self) -> InterfaceView {
        let spec = self.spec.as_ref();
        let interface = spec.map(|spec| &spec.interface);
        let state = self.state.as_ref();
        let up = self.live.as_ref().and_then(|live| live.up.as_ref());
        InterfaceView {
            up: state.is_some_and(|state| state.up),
            error: self.failure.clone().filter(|_| up.is_none()),
            mode: Some(Mode::P2p),
            transport: interface.map(|interface| interface.socket.transport),
            local_port: interface.map_or(0, |interface| interface.socket.port),
            fwmark: interface.map_or(0, |interface| interface.socket.mark),
            mtu: state.and_then(|state| state.mtu),
            mssfix: interface.map(|interface| interface.mssfix.to_string()),
            hwcrypto: interface.map(|interface| interface.hwcrypto.to_string()),
            cipher: up.map(|up| up.cipher.to_string()),
            addresses: state.map_or(Vec::new(), |s| s.addresses.iter().copied().collect()),
            problems: self.problems.clone(),
            warnings: self.warnings.clone(),
            stopped: self.stopped.clone(),
        }
    }

    fn count(&self) -> (usize, usize) {
        (1, self.peer().map_or(0, |_| 1))
    }

    fn peers(&self, _: &[PeerInfo], now: Instant, wanted: &mut Wanted<'_>) -> Vec<PeerView> {
        if !wanted(PEER, self.peer()) {
            return Vec::new();
        }
        let up = self.live.as_ref().and_then(|live| live.up.as_ref());
        let age = |since: Instant| now.saturating_duration_since(since);
        vec![PeerView {
            name: PEER.into(),
            description: None,
            id: self.peer(),
            state: match self.phase {
                _ if self.stopped.is_some() => tunnel::PeerState::Stopped,
                Phase::Waiting => tunnel::PeerState::Waiting,
                Phase::Resolving => tunnel::PeerState::Resolving,
                Phase::Stopped => tunnel::PeerState::Error,
                Phase::Session(Step::Connecting) => tunnel::PeerState::Connecting,
                Phase::Session(Step::Tls) => tunnel::PeerState::Tls,
                Phase::Session(Step::Authenticating) => tunnel::PeerState::Authenticating,
                Phase::Session(Step::Pushing) => tunnel::PeerState::Pushing,
                Phase::Session(Step::Up | Step::Over) => tunnel::PeerState::Up,
            },
            since: Some(age(self.since)),
            error: self.failure.clone(),
            route_error: None,
            problems: Vec::new(),
            endpoint: self.endpoint().map(ToString::to_string),
            remote: self.live.as_ref().map(|live| live.remote),
            vpn_ips: Vec::new(),
            allowed_ips: Vec::new(),
            keepalive: None,
            connected: up.map(|up| age(up.since)),
            losses: Some(self.losses),
            key_source: Some("tls"),
            key_fingerprint: None,
            key_age: up.and_then(|up| up.keyed).map(age),
            cipher: up.map(|up| up.cipher.to_string()),
        }]
    }
}
