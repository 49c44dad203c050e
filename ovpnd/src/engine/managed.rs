// SPDX-License-Identifier: GPL-2.0-only
//! What is known of one interface: what is wanted of it, what it is, what went wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ovpn_netlink::{DelReason, IpPrefix, Mode, PeerId, PeerParams};

use super::news;
use crate::config::{Interface, Peer};
use crate::kernel::Gone;
use crate::keys::{KeySource, StaticSource};
use crate::resolver::Lookup;
use crate::retry::Retry;
use crate::state::{Op, PeerState, Route, State};

/// Longest wait before an interface or a lookup is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A peer that lived this long, or four keepalive timeouts, is no sign of a fault when it is lost.
const STABLE: Duration = Duration::from_secs(300);

/// An interface.
#[derive(Debug)]
pub struct Managed {
    /// The last faultless configuration; none when it never had one or is to be removed.
    pub wanted: Option<Interface>,
    /// What it is, as far as we made it.
    pub state: Option<State>,
    /// What went wrong last.
    pub error: Option<String>,
    /// Faults of its section.
    pub problems: Vec<String>,
    /// Faults of its peers' sections.
    pub broken_peers: BTreeMap<String, Vec<String>>,
    /// What has no consequence.
    pub warnings: Vec<String>,
    /// Its peers by section.
    pub peers: BTreeMap<String, PeerRun>,
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
    /// Whether it is to be looked up again before it is added.
    pub(super) stale: bool,
    /// Whether a lookup is on its way.
    pub resolving: bool,
    /// What went wrong last.
    pub error: Option<String>,
    /// How often the kernel deleted it.
    pub losses: u32,
    /// Why it is not routed to, or only in part.
    pub route_error: Option<String>,
    added: Option<Instant>,
    pub(super) retry: Retry,
    pub(super) lookup: Retry,
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
            peers: BTreeMap::new(),
            retry: Retry::new(LONGEST_WAIT),
        }
    }
}

impl PeerRun {
    fn new(peer: &Peer, interface: &Interface) -> Self {
        // Two routers with static keys that lose each other can go on rejecting the other's packets as
        // replays until one is silent for the other's whole timeout: the waits must grow past it.
        let longest = LONGEST_WAIT.max(Duration::from_secs(u64::from(peer.keepalive.timeout) * 2));
        Self {
            id: peer.id,
            keys: Box::new(StaticSource::new(
                peer.key.clone(),
                peer.direction,
                interface.cipher,
            )),
            remote: peer.endpoint.literal(),
            stale: false,
            resolving: false,
            error: None,
            losses: 0,
            route_error: None,
            added: None,
            retry: Retry::new(longest),
            lookup: Retry::new(LONGEST_WAIT),
        }
    }
}

impl Managed {
    /// Takes over a new configuration. What is known of a peer is kept while its endpoint is the same.
    pub(super) fn want(&mut self, wanted: Interface) {
        let old = self.wanted.take();
        let mut known = std::mem::take(&mut self.peers);
        for peer in &wanted.peers {
            let mut run = PeerRun::new(peer, &wanted);
            let before = old
                .as_ref()
                .filter(|old| old.socket.transport == wanted.socket.transport);
            let before = before.and_then(|old| old.peers.iter().find(|old| old.name == peer.name));
            let same_place = before
                .is_some_and(|before| before.endpoint == peer.endpoint && before.id == peer.id);
            if let Some(known) = known.remove(&peer.name).filter(|_| same_place) {
                run.remote = known.remote;
                run.stale = known.stale;
                run.resolving = known.resolving;
                run.losses = known.losses;
                run.added = known.added;
            }
            self.peers.insert(peer.name.clone(), run);
        }
        // Whoever reloads wants to see the result now.
        self.retry.succeeded();
        self.wanted = Some(wanted);
    }

    /// The peer with this number.
    pub(super) fn by_id(&mut self, id: PeerId) -> Option<(&String, &mut PeerRun)> {
        self.peers.iter_mut().find(|(_, run)| run.id == id)
    }

    /// Lookups to start now.
    pub(super) fn lookups(&mut self, name: &str, now: Instant) -> Vec<Lookup> {
        let Some(wanted) = &self.wanted else {
            return Vec::new();
        };
        let mut lookups = Vec::new();
        for peer in &wanted.peers {
            let Some(run) = self.peers.get_mut(&peer.name) else {
                continue;
            };
            let unknown = run.remote.is_none() || run.stale;
            if unknown && !run.resolving && run.lookup.is_due(now) && run.retry.is_due(now) {
                run.resolving = true;
                lookups.push(Lookup {
                    interface: name.to_owned(),
                    peer: peer.name.clone(),
                    endpoint: peer.endpoint.clone(),
                    transport: wanted.socket.transport,
                });
            }
        }
        lookups
    }

    /// What the interface should be now: peers that wait, or whose address is unknown, are left out.
    pub(super) fn goal(&mut self, now: Instant) -> Option<State> {
        let wanted = self.wanted.as_ref()?;
        let mut goal = State {
            mtu: Some(wanted.mtu),
            addresses: wanted.addresses.iter().copied().collect(),
            up: true,
            socket: Some(wanted.socket),
            ..State::new(wanted.mode)
        };
        for peer in &wanted.peers {
            let Some(run) = self.peers.get_mut(&peer.name) else {
                continue;
            };
            let Some(remote) = run.remote else { continue };
            run.route_error = add_routes(&mut goal, wanted, peer, remote);
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
                    remote: Some(remote),
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

    /// A step succeeded.
    pub(super) fn done(&mut self, name: &str, op: &Op, now: Instant) {
        match op {
            Op::NewPeer(id, params) => {
                if let Some((peer, run)) = self.by_id(*id) {
                    let remote = params
                        .remote
                        .map(|remote| remote.to_string())
                        .unwrap_or_default();
                    log::info!("{name}: peer {peer} ({id}) added, at {remote}");
                    run.added = Some(now);
                    run.error = None;
                    run.retry.end_wait();
                }
            }
            Op::InstallKeys(id, _) => {
                if let Some((_, run)) = self.by_id(*id) {
                    run.error = None;
                    run.retry.end_wait();
                }
            }
            Op::CreateLink(mode) => log::info!("{name}: interface made, mode {mode}"),
            Op::DeleteLink => log::info!("{name}: interface removed"),
            _ => {}
        }
    }

    /// A step that concerns a peer failed.
    pub(super) fn peer_failed(
        &mut self,
        name: &str,
        id: PeerId,
        op: &Op,
        message: String,
        gone: Option<Gone>,
        now: Instant,
    ) {
        if gone == Some(Gone::Peer) && !matches!(op, Op::NewPeer(..)) {
            // Its notification is on its way; what it says is what happened.
            self.lost_peer(name, id, None, now);
            return;
        }
        if let Some((peer, run)) = self.by_id(id) {
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
    ) {
        if let Some(state) = &mut self.state {
            state.peers.remove(&id);
        }
        let wanted = self
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.peers.iter().find(|peer| peer.id == id));
        let Some(timeout) = wanted.map(|peer| peer.keepalive.timeout) else {
            return;
        };
        let named = wanted.is_some_and(|peer| peer.endpoint.literal().is_none());
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
            .flat_map(|run| [run.retry.at(), run.lookup.at()]);
        peers.chain([self.retry.at()]).flatten().min()
    }

    /// Ends the waits that are over; whether there was one.
    pub(super) fn end_waits(&mut self, now: Instant) -> bool {
        let peers = self
            .peers
            .values_mut()
            .flat_map(|run| [&mut run.retry, &mut run.lookup]);
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

/// Adds the routes to a peer; a sentence when not all of them.
fn add_routes(
    goal: &mut State,
    wanted: &Interface,
    peer: &Peer,
    remote: SocketAddr,
) -> Option<String> {
    let mut error = None;
    for prefix in peer.allowed_ips.iter().filter(|_| peer.route_allowed_ips) {
        match route(wanted, peer, *prefix, remote) {
            Ok(route) => drop(goal.routes.insert(route)),
            Err(why) => error = Some(format!("no route to {prefix}: {why}")),
        }
    }
    error
}

fn route(
    wanted: &Interface,
    peer: &Peer,
    prefix: IpPrefix,
    remote: SocketAddr,
) -> Result<Route, String> {
    // With a mark, the user's rules keep the transport out of the tunnel.
    if wanted.socket.mark == 0 && prefix.contains(remote.ip()) {
        return Err(format!(
            "the peer's own address {} would lead into the tunnel; set fwmark and a rule",
            remote.ip()
        ));
    }
    let via = match wanted.mode {
        Mode::P2p => None,
        Mode::Mp => {
            let via = peer
                .vpn_ips
                .iter()
                .find(|ip| ip.is_ipv4() == prefix.addr().is_ipv4());
            Some(*via.ok_or("the peer has no vpn_ip of this family")?)
        }
    };
    Ok(Route {
        dst: prefix.network(),
        via,
    })
}
