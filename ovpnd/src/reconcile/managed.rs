// SPDX-License-Identifier: GPL-2.0-or-later
//! One managed interface: its wanted state, its known state, its errors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ovpn_netlink::{DelReason, KeyInfo, Mode, PeerId, PeerInfo, PeerParams};

use super::netifd::Told;
use super::news;
use super::routes::{Way, plan};
use crate::config::{Endpoint, Interface, Peer, Problem};
use crate::kernel::{Failure, Gone};
use crate::keys::KeyMark;
use crate::keys::{KeySource, StaticSource};
use crate::resolver::Lookup;
use crate::retry::Retry;
use crate::state::{Op, PeerState, Route, State};
use crate::tunnel::{self, Control, InterfaceView, News, Notice, PeerView, Tunnel, Wanted};

/// Longest wait before an interface or a lookup is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A peer that lived this long, or four keepalive timeouts, is no sign of a fault when it is lost.
const STABLE: Duration = Duration::from_secs(300);

/// An interface.
#[derive(Debug)]
pub struct Managed {
    /// The last faultless configuration; none when it never had one or is to be removed.
    pub wanted: Option<Interface>,
    /// Its known state, as far as we made it.
    pub state: Option<State>,
    /// The last error.
    pub error: Option<String>,
    /// Faults of its section.
    pub problems: Vec<Problem>,
    /// Faults of its peers' sections.
    pub broken_peers: BTreeMap<String, Vec<Problem>>,
    /// Warnings without consequence.
    pub warnings: Vec<Problem>,
    /// Its peers that are switched off.
    pub disabled: Vec<String>,
    /// Its peers by section.
    pub peers: BTreeMap<String, PeerRun>,
    /// Why it is to be down, whatever is wanted of it.
    pub stopped: Option<String>,
    /// The routes that lead to its peers, set by netifd or by us.
    pub(super) routes: BTreeSet<Route>,
    /// netifd's knowledge of it.
    pub(super) told: Told,
    /// Whether only what netifd made is to be left.
    pub(super) leaving: bool,
    pub(super) retry: Retry,
}

/// A peer.
#[derive(Debug)]
pub struct PeerRun {
    /// Its number.
    pub id: PeerId,
    /// Its keys.
    pub keys: Box<dyn KeySource>,
    /// Where it is, once known.
    pub remote: Option<SocketAddr>,
    /// Where it was heard from or looked up last, also when it is gone.
    pub place: Option<IpAddr>,
    /// Whether it is to be looked up again before it is added.
    pub(super) stale: bool,
    /// Whether a lookup is on its way.
    pub resolving: bool,
    /// The last error.
    pub error: Option<String>,
    /// How often the kernel deleted it.
    pub losses: u32,
    /// Why none of its networks is routed to it.
    pub route_error: Option<String>,
    /// When it came into the kernel.
    pub added: Option<Instant>,
    /// When which keys came into the kernel.
    pub keyed: Option<(Instant, KeyMark)>,
    /// How the kernel describes the key, once asked: it stays as it is.
    pub(super) key_info: Option<KeyInfo>,
    pub(super) retry: Retry,
    pub(super) lookup: Retry,
    pub(super) routing: Retry,
}

impl Default for Managed {
    fn default() -> Self {
        Self {
            wanted: None,
            state: None,
            error: None,
            problems: Vec::new(),
            broken_peers: BTreeMap::new(),
            warnings: Vec::new(),
            disabled: Vec::new(),
            peers: BTreeMap::new(),
            stopped: None,
            routes: BTreeSet::new(),
            told: Told::default(),
            leaving: false,
            retry: Retry::new(LONGEST_WAIT),
        }
    }
}

impl PeerRun {
    fn new(peer: &Peer, interface: &Interface) -> Self {
        // Two routers with static keys that lose each other can go on rejecting the other's packets as
        // replays until one is silent for the other's whole timeout: the waits must grow past it.
        let longest = LONGEST_WAIT.max(Duration::from_secs(u64::from(peer.keepalive.timeout) * 2));
        let literal = peer.endpoint.as_ref().and_then(Endpoint::literal);
        Self {
            id: peer.id,
            keys: Box::new(StaticSource::new(
                peer.key.clone(),
                peer.direction,
                interface.cipher,
            )),
            // A TCP peer is somewhere when it is connected.
            remote: literal.filter(|_| !interface.socket.transport.is_tcp()),
            place: literal.map(|address| address.ip()),
            stale: false,
            resolving: false,
            error: None,
            losses: 0,
            route_error: None,
            added: None,
            keyed: None,
            key_info: None,
            retry: Retry::new(longest),
            lookup: Retry::new(LONGEST_WAIT),
            routing: Retry::new(LONGEST_WAIT),
        }
    }

    /// Notes why it has no route.
    pub(super) fn not_routed(&mut self, interface: &str, name: &str, why: String, now: Instant) {
        let level = news(self.route_error.as_ref(), &why);
        log::log!(level, "{interface}: peer {name}: {why}");
        self.route_error = Some(why);
        self.routing.failed(now);
    }
}

impl Managed {
    /// Takes over a new configuration. The known state of a peer is kept while its endpoint is the same.
    pub(super) fn want(&mut self, wanted: Interface) {
        let old = self.wanted.take();
        let mut known = std::mem::take(&mut self.peers);
        // A connection belongs to its socket.
        let alike = |old: &&Interface| {
            let (old, new) = (old.socket, wanted.socket);
            old == new || old.transport == new.transport && !new.transport.is_tcp()
        };
        let before = old.iter().filter(alike);
        let before = before.flat_map(|old| &old.peers);
        let before: BTreeMap<&str, &Peer> = before.map(|peer| (peer.name.as_str(), peer)).collect();
        for peer in &wanted.peers {
            let mut run = PeerRun::new(peer, &wanted);
            let before = before.get(peer.name.as_str());
            let same_place = before
                .is_some_and(|before| before.endpoint == peer.endpoint && before.id == peer.id);
            if let Some(known) = known.remove(&peer.name).filter(|_| same_place) {
                run.remote = known.remote;
                run.place = known.place;
                run.stale = known.stale;
                run.resolving = known.resolving;
                run.losses = known.losses;
                run.added = known.added;
                run.keyed = known.keyed;
            }
            self.peers.insert(peer.name.clone(), run);
        }
        // A user who reloads wants to see the result now.
        self.retry.succeeded();
        self.wanted = Some(wanted);
    }

    /// Whether the kernel has the peer with this number.
    pub(super) fn has(&self, id: PeerId) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.peers.contains_key(&id))
    }

    /// The peer with this number.
    pub(super) fn by_id(&mut self, id: PeerId) -> Option<(&String, &mut PeerRun)> {
        self.peers.iter_mut().find(|(_, run)| run.id == id)
    }

    /// Lookups to start now.
    pub(super) fn lookups(&mut self, name: &str, now: Instant) -> Vec<Lookup> {
        let Some(wanted) = self.wanted.as_ref().filter(|_| self.stopped.is_none()) else {
            return Vec::new();
        };
        let mut lookups = Vec::new();
        for peer in &wanted.peers {
            let Some(run) = self.peers.get_mut(&peer.name) else {
                continue;
            };
            let unknown = run.remote.is_none() || run.stale;
            let Some(endpoint) = &peer.endpoint else {
                continue;
            };
            if unknown && !run.resolving && run.lookup.is_due(now) && run.retry.is_due(now) {
                run.resolving = true;
                lookups.push(Lookup {
                    interface: name.to_owned(),
                    peer: peer.name.clone(),
                    endpoint: endpoint.clone(),
                    socket: wanted.socket,
                });
            }
        }
        lookups
    }

    /// Has the names of the endpoints looked up anew. A TCP connection tells by itself when it is broken.
    pub(super) fn look_up_again(&mut self) {
        let wanted = self.wanted.iter();
        let wanted = wanted.filter(|wanted| !wanted.socket.transport.is_tcp());
        for peer in wanted.flat_map(|wanted| &wanted.peers) {
            let named = peer.endpoint.as_ref().filter(|e| e.literal().is_none());
            if let (Some(_), Some(run)) = (named, self.peers.get_mut(&peer.name)) {
                run.stale = true;
                run.lookup.succeeded();
            }
        }
    }

    /// The state that the interface should have now: peers that wait, or whose address is unknown, are left out. `way` tells how the
    /// kernel reaches an address; with `netifd` addresses and routes are that one's.
    pub(super) fn goal(
        &mut self,
        name: &str,
        now: Instant,
        netifd: bool,
        way: &mut dyn FnMut(IpAddr) -> Option<Way>,
    ) -> Option<State> {
        if self.leaving {
            let left = self.state.clone()?;
            return Some(State {
                peers: BTreeMap::new(),
                socket: None,
                ..left
            });
        }
        if self.stopped.is_some() {
            return None;
        }
        self.plan_routes(name, now, way);
        let wanted = self.wanted.as_ref()?;
        let mut goal = State {
            mtu: Some(wanted.mtu),
            up: true,
            socket: Some(wanted.socket),
            ..State::new(wanted.mode)
        };
        if !netifd {
            goal.addresses = wanted.addresses.iter().copied().collect();
            goal.routes = self.routes.clone();
        }
        for peer in &wanted.peers {
            let Some(run) = self.peers.get_mut(&peer.name) else {
                continue;
            };
            let Some(remote) = run.remote else { continue };
            let there = self
                .state
                .as_ref()
                .is_some_and(|state| state.peers.contains_key(&peer.id));
            if there || !run.stale && run.retry.is_due(now) {
                let vpn_ip = |v4: bool| {
                    peer.vpn_ips
                        .iter()
                        .find(|ip| ip.is_ipv4() == v4 && wanted.mode == Mode::Mp)
                };
                let params = PeerParams {
                    // Over TCP the socket knows.
                    remote: Some(remote).filter(|_| !wanted.socket.transport.is_tcp()),
                    vpn_ipv4: vpn_ip(true).and_then(|ip| {
                        if let IpAddr::V4(ip) = ip {
                            Some(*ip)
                        } else {
                            None
                        }
                    }),
                    vpn_ipv6: vpn_ip(false).and_then(|ip| {
                        if let IpAddr::V6(ip) = ip {
                            Some(*ip)
                        } else {
                            None
                        }
                    }),
                    keepalive: Some(peer.keepalive),
                    ..PeerParams::default()
                };
                goal.peers.insert(
                    peer.id,
                    PeerState {
                        params,
                        keys: run.keys.mark(),
                    },
                );
            }
        }
        Some(goal)
    }

    /// Plans the routes anew, but those of peers that failed just now. They stay while a peer is away, so that its traffic
    /// takes no other way.
    fn plan_routes(
        &mut self,
        name: &str,
        now: Instant,
        way: &mut dyn FnMut(IpAddr) -> Option<Way>,
    ) {
        self.routes.clear();
        let places = self.peers.iter();
        let places: BTreeMap<IpAddr, String> = places
            .filter_map(|(peer, run)| Some((run.place?, peer.clone())))
            .collect();
        let Some(wanted) = &self.wanted else { return };
        for peer in &wanted.peers {
            let run = self.peers.get_mut(&peer.name);
            let ready = |run: &&mut PeerRun| run.place.is_some() && run.routing.is_due(now);
            let Some(run) = run.filter(ready) else {
                continue;
            };
            match plan(wanted, peer, &places, way) {
                Ok(routes) => self.routes.extend(routes),
                Err(why) => run.not_routed(name, &peer.name, why, now),
            }
        }
    }

    /// The steps to the routes are done: those that did not fail are as wanted.
    pub(super) fn routed(&mut self) {
        for run in self.peers.values_mut() {
            if run.routing.at().is_none() {
                run.route_error = None;
                run.routing.succeeded();
            }
        }
    }

    /// A step succeeded.
    pub(super) fn done(&mut self, name: &str, op: &Op, now: Instant, notices: &mut Vec<Notice>) {
        match op {
            Op::NewPeer(id, _) => {
                if let Some((peer, run)) = self.by_id(*id) {
                    let remote = run
                        .remote
                        .map(|remote| remote.to_string())
                        .unwrap_or_default();
                    log::info!("{name}: peer {peer} ({id}) added, at {remote}");
                    run.added = Some(now);
                    run.place = run.remote.map(|remote| remote.ip()).or(run.place);
                    run.error = None;
                    run.retry.end_wait();
                    let up = News::Up(run.remote);
                    notices.push(self.notice(name, *id, up));
                }
            }
            Op::InstallKeys(id, mark) => {
                if let Some((_, run)) = self.by_id(*id) {
                    run.error = None;
                    run.keyed = Some((now, mark.clone()));
                    run.key_info = None;
                    run.retry.end_wait();
                }
            }
            Op::DelPeer(id) => notices.push(self.notice(name, *id, News::Down("removed".into()))),
            Op::CreateLink(mode) => log::info!("{name}: interface made, mode {mode}"),
            Op::DeleteLink => log::info!("{name}: interface removed"),
            _ => {}
        }
    }

    /// The view of a peer.
    pub(super) fn notice(&self, name: &str, id: PeerId, what: News) -> Notice {
        let peer = self.peers.iter().find(|(_, run)| run.id == id);
        Notice {
            interface: name.to_owned(),
            peer: peer.map_or_else(|| id.to_string(), |(peer, _)| peer.clone()),
            id,
            control: self.control(),
            what,
        }
    }

    /// A step that concerns a peer failed.
    pub(super) fn peer_failed(
        &mut self,
        name: &str,
        id: PeerId,
        op: &Op,
        Failure { message, gone }: Failure,
        now: Instant,
        notices: &mut Vec<Notice>,
    ) {
        if gone == Some(Gone::Peer) && !matches!(op, Op::NewPeer(..)) {
            // Its notification is on its way; what it says is what happened.
            self.lost_peer(name, id, None, now, notices);
            return;
        }
        let tcp = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.socket.transport.is_tcp());
        if let Some((peer, run)) = self.by_id(id) {
            if tcp && matches!(op, Op::NewPeer(..)) {
                // The connection is of no use: another one is needed.
                run.remote = None;
            }
            let level = news(run.error.as_ref(), &message);
            log::log!(level, "{name}: peer {peer}: {message}");
            run.error = Some(message);
            run.retry.failed(now);
        }
    }

    /// The kernel deleted a peer.
    pub(super) fn lost_peer(
        &mut self,
        name: &str,
        id: PeerId,
        reason: Option<DelReason>,
        now: Instant,
        notices: &mut Vec<Notice>,
    ) {
        if let Some(state) = &mut self.state {
            state.peers.remove(&id);
        }
        let down = reason.map_or("lost".into(), |reason| reason.to_string());
        notices.push(self.notice(name, id, News::Down(down)));
        let wanted = self
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.peers.iter().find(|peer| peer.id == id));
        let Some(timeout) = wanted.map(|peer| peer.keepalive.timeout) else {
            return;
        };
        let named = wanted.is_some_and(|peer| {
            let literal = peer.endpoint.as_ref().and_then(Endpoint::literal);
            peer.endpoint.is_some() && literal.is_none()
        });
        let tcp = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.socket.transport.is_tcp());
        let Some((peer, run)) = self.by_id(id) else {
            return;
        };
        let error = match reason {
            Some(DelReason::Expired) => format!("nothing was heard from it for {timeout} s"),
            Some(DelReason::TransportDisconnect) => "its socket was closed".into(),
            Some(DelReason::TransportError) => "its transport failed".into(),
            Some(DelReason::Userspace) => "it was deleted by someone else".into(),
            Some(DelReason::Teardown) => "it was replaced or its interface went away".into(),
            None => "the kernel deleted it".into(),
        };
        log::warn!("{name}: peer {peer}: {error}; trying again");
        run.error = Some(error);
        run.losses = run.losses.saturating_add(1);
        run.keyed = None;
        run.key_info = None;
        if tcp {
            // The connection is gone with it.
            run.remote = None;
        }
        let stable = STABLE.max(Duration::from_secs(u64::from(timeout) * 4));
        if run
            .added
            .take()
            .is_some_and(|added| now.saturating_duration_since(added) >= stable)
        {
            run.retry.succeeded();
        }
        run.retry.failed(now);
        // A name may lead elsewhere by now.
        run.stale = named;
    }

    /// When something is to be tried again.
    pub(super) fn next_wait(&self) -> Option<Instant> {
        let peers = self
            .peers
            .values()
            .flat_map(|run| [run.retry.at(), run.lookup.at(), run.routing.at()]);
        peers.chain([self.retry.at()]).flatten().min()
    }

    /// Ends the waits that are over; whether there was one.
    pub(super) fn end_waits(&mut self, now: Instant) -> bool {
        let peers = self
            .peers
            .values_mut()
            .flat_map(|run| [&mut run.retry, &mut run.lookup, &mut run.routing]);
        let mut any = false;
        for retry in peers.chain([&mut self.retry]) {
            if retry.at().is_some() && retry.is_due(now) {
                retry.end_wait();
                any = true;
            }
        }
        any
    }
}

impl Tunnel for Managed {
    fn control(&self) -> Control {
        Control::Static
    }

    fn interface(&self) -> InterfaceView {
        let up = self.state.as_ref().is_some_and(|state| state.up);
        let fault = self.error.clone();
        let fault = fault.or_else(|| self.problems.first().map(ToString::to_string));
        let error = fault.map(|fault| match up {
            true => format!("{fault}; goes on as it was"),
            false => fault,
        });
        let view = InterfaceView {
            up,
            stopped: self.stopped.clone(),
            error,
            problems: self.problems.clone(),
            warnings: self.warnings.clone(),
            ..InterfaceView::default()
        };
        let Some(wanted) = &self.wanted else {
            return view;
        };
        InterfaceView {
            mode: Some(wanted.mode),
            transport: Some(wanted.socket.transport),
            local_port: wanted.socket.port,
            fwmark: wanted.socket.mark,
            mtu: Some(wanted.mtu),
            mssfix: Some(wanted.mssfix.to_string()),
            hwcrypto: Some(wanted.hwcrypto.to_string()),
            cipher: Some(wanted.cipher.to_string()),
            addresses: wanted.addresses.clone(),
            ..view
        }
    }

    fn count(&self) -> (usize, usize) {
        let up = self.state.as_ref().map_or(0, |state| state.peers.len());
        let broken = self.broken_peers.keys();
        let broken = broken
            .filter(|name| !self.peers.contains_key(*name))
            .count();
        (self.peers.len() + broken + self.disabled.len(), up)
    }

    fn peers(&self, _: &[PeerInfo], now: Instant, wanted: &mut Wanted<'_>) -> Vec<PeerView> {
        let mut views = Vec::new();
        for peer in self.wanted.iter().flat_map(|wanted| &wanted.peers) {
            if wanted(&peer.name, Some(peer.id)) {
                views.extend(self.peer_view(peer, now));
            }
        }
        for (name, problems) in &self.broken_peers {
            if !self.peers.contains_key(name) && wanted(name, None) {
                views.push(PeerView {
                    state: tunnel::PeerState::Error,
                    error: problems.first().map(ToString::to_string),
                    problems: problems.clone(),
                    ..nothing_known(name)
                });
            }
        }
        for name in &self.disabled {
            if wanted(name, None) {
                views.push(PeerView {
                    state: tunnel::PeerState::Disabled,
                    ..nothing_known(name)
                });
            }
        }
        views
    }
}

impl Managed {
    fn peer_view(&self, peer: &Peer, now: Instant) -> Option<PeerView> {
        let run = self.peers.get(&peer.name)?;
        let tcp = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.socket.transport.is_tcp());
        let problems = self.broken_peers.get(&peer.name);
        let fault = run.error.clone().or_else(|| run.route_error.clone());
        let fault = fault.or_else(|| problems?.first().map(ToString::to_string));
        let there = self.has(peer.id);
        let state = match (there, &run.error, &peer.endpoint) {
            (true, ..) => tunnel::PeerState::Up,
            _ if self.stopped.is_some() => tunnel::PeerState::Stopped,
            (false, Some(_), _) => tunnel::PeerState::Error,
            (false, None, None) => tunnel::PeerState::Waiting,
            (false, None, Some(_)) if tcp => tunnel::PeerState::Connecting,
            (false, None, Some(_)) => tunnel::PeerState::Resolving,
        };
        let keys = run.keys.status();
        let age = |since| now.saturating_duration_since(since);
        Some(PeerView {
            name: peer.name.clone(),
            description: peer.description.clone(),
            id: Some(peer.id),
            state,
            since: None,
            error: fault,
            question: None,
            route_error: run.route_error.clone(),
            problems: problems.cloned().unwrap_or_default(),
            endpoint: peer.endpoint.as_ref().map(ToString::to_string),
            remote: run.remote,
            vpn_ips: peer.vpn_ips.clone(),
            allowed_ips: peer.allowed_ips.clone(),
            keepalive: Some(peer.keepalive),
            connected: run.added.filter(|_| there).map(age),
            losses: Some(run.losses),
            key_source: Some(keys.source),
            key_fingerprint: keys.fingerprint,
            key_age: run
                .keyed
                .as_ref()
                .filter(|_| there)
                .map(|(since, _)| age(*since)),
            cipher: keys.cipher.map(|cipher| cipher.to_string()),
        })
    }
}

fn nothing_known(name: &str) -> PeerView {
    PeerView {
        name: name.to_owned(),
        description: None,
        id: None,
        state: tunnel::PeerState::Error,
        since: None,
        error: None,
        question: None,
        route_error: None,
        problems: Vec::new(),
        endpoint: None,
        remote: None,
        vpn_ips: Vec::new(),
        allowed_ips: Vec::new(),
        keepalive: None,
        connected: None,
        losses: None,
        key_source: None,
        key_fingerprint: None,
        key_age: None,
        cipher: None,
    }
}
