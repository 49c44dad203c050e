// SPDX-License-Identifier: GPL-2.0-or-later
//! The known and the wanted state of an interface, and the steps from one to the other.
//!
//! [`diff`] is a pure function; carrying out its steps one by one, each by [`State::apply`], turns the one
//! state into the other. When a step fails in the kernel the state stays as it is, and the next diff begins
//! from there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ovpn_netlink::{IpPrefix, Mode, PeerId, PeerParams};

use crate::config::SocketSpec;
use crate::keys::KeyMark;

/// An interface that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// One peer or many.
    pub mode: Mode,
    /// Largest packet in bytes; none before it was set.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: BTreeSet<IpPrefix>,
    /// Whether it is set up.
    pub up: bool,
    /// Its socket, if open.
    pub socket: Option<SocketSpec>,
    /// Its peers.
    pub peers: BTreeMap<PeerId, PeerState>,
    /// Its routes.
    pub routes: BTreeSet<Route>,
}

/// A peer in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Values that the kernel was given.
    pub params: PeerParams,
    /// Its keys, if it has any.
    pub keys: Option<KeyMark>,
}

/// A route into the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination.
    pub dst: IpPrefix,
    /// Address of the peer behind which it is, in MP mode.
    pub via: Option<IpAddr>,
    /// That peer.
    pub peer: PeerId,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is one request to the kernel and says so by its name"
)]
pub enum Op {
    CreateLink(Mode),
    DeleteLink,
    SetMtu(u32),
    AddAddress(IpPrefix),
    DelAddress(IpPrefix),
    SetUp,
    OpenSocket(SocketSpec),
    CloseSocket,
    NewPeer(PeerId, PeerParams),
    /// With what changes alone.
    SetPeer(PeerId, PeerParams),
    DelPeer(PeerId),
    InstallKeys(PeerId, KeyMark),
    AddRoute(Route),
    DelRoute(Route),
}

impl State {
    /// An interface just made.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            mtu: None,
            addresses: BTreeSet::new(),
            up: false,
            socket: None,
            peers: BTreeMap::new(),
            routes: BTreeSet::new(),
        }
    }

    /// What `state` is after the step `op` was done.
    pub fn apply(state: &mut Option<Self>, op: &Op) {
        let Some(current) = state else {
            if let Op::CreateLink(mode) = op {
                *state = Some(Self::new(*mode));
            }
            return;
        };
        match op {
            Op::CreateLink(_) => {}
            Op::DeleteLink => *state = None,
            Op::SetMtu(mtu) => current.mtu = Some(*mtu),
            Op::AddAddress(address) => drop(current.addresses.insert(*address)),
            Op::DelAddress(address) => drop(current.addresses.remove(address)),
            Op::SetUp => current.up = true,
            Op::OpenSocket(socket) => current.socket = Some(*socket),
            Op::CloseSocket => current.socket = None,
            Op::NewPeer(id, params) => {
                // In P2P the kernel replaces the peer there is.
                if current.mode == Mode::P2p {
                    current.peers.clear();
                }
                current.peers.insert(
                    *id,
                    PeerState {
                        params: params.clone(),
                        keys: None,
                    },
                );
            }
            Op::SetPeer(id, change) => {
                if let Some(peer) = current.peers.get_mut(id) {
                    alter(&mut peer.params, change);
                }
            }
            Op::DelPeer(id) => drop(current.peers.remove(id)),
            Op::InstallKeys(id, mark) => {
                if let Some(peer) = current.peers.get_mut(id) {
                    peer.keys = Some(mark.clone());
                }
            }
            Op::AddRoute(route) => drop(current.routes.insert(*route)),
            Op::DelRoute(route) => drop(current.routes.remove(route)),
        }
    }
}

/// The steps from `from` to `to`. Nothing that is the same on both sides is touched.
pub fn diff(from: Option<&State>, to: Option<&State>) -> Vec<Op> {
    let mut ops = Vec::new();
    let Some(to) = to else {
        if let Some(from) = from {
            remove(from, &mut ops);
        }
        return ops;
    };
    let fresh = State::new(to.mode);
    let from = match from {
        Some(from) if from.mode == to.mode => from,
        other => {
            if let Some(from) = other {
                remove(from, &mut ops);
            }
            ops.push(Op::CreateLink(to.mode));
            &fresh
        }
    };
    // The kernel drops an interface's IPv4 routes with its last address, so routes go first and come last.
    let readdressed = from.addresses != to.addresses;
    let stays = |route: &&Route| !readdressed && to.routes.contains(route);
    ops.extend(
        from.routes
            .iter()
            .filter(|route| !stays(route))
            .map(|route| Op::DelRoute(*route)),
    );
    // Old addresses go before new ones come: a network's first address takes its later ones along.
    ops.extend(
        from.addresses
            .difference(&to.addresses)
            .map(|address| Op::DelAddress(*address)),
    );
    if let Some(mtu) = to.mtu.filter(|_| from.mtu != to.mtu) {
        ops.push(Op::SetMtu(mtu));
    }
    ops.extend(
        to.addresses
            .difference(&from.addresses)
            .map(|address| Op::AddAddress(*address)),
    );
    let rehomed = from.socket != to.socket;
    let mut kept: BTreeMap<PeerId, &PeerState> =
        from.peers.iter().map(|(id, p)| (*id, p)).collect();
    kept.retain(|id, peer| {
        let wanted = to.peers.get(id).filter(|_| !rehomed);
        wanted.is_some_and(|wanted| can_become(peer, wanted))
    });
    let order = order(&mut kept, &to.peers);
    let gone = from.peers.keys().filter(|id| !kept.contains_key(id));
    ops.extend(gone.map(|id| Op::DelPeer(*id)));
    if rehomed {
        ops.extend(from.socket.map(|_| Op::CloseSocket));
        ops.extend(to.socket.map(Op::OpenSocket));
    }
    for (id, wanted) in order.iter().filter_map(|id| to.peers.get_key_value(id)) {
        let kept = kept.get(id).copied();
        match kept {
            None => ops.push(Op::NewPeer(*id, wanted.params.clone())),
            Some(peer) if peer.params != wanted.params => {
                ops.push(Op::SetPeer(*id, change(&peer.params, &wanted.params)))
            }
            Some(_) => {}
        }
        if let Some(mark) = wanted
            .keys
            .as_ref()
            .filter(|mark| kept.and_then(|peer| peer.keys.as_ref()) != Some(*mark))
        {
            ops.push(Op::InstallKeys(*id, mark.clone()));
        }
    }
    if to.up && !from.up {
        ops.push(Op::SetUp);
    }
    ops.extend(
        to.routes
            .iter()
            .filter(|route| readdressed || !from.routes.contains(route))
            .map(|route| Op::AddRoute(*route)),
    );
    ops
}

/// The kernel removes peers, addresses and routes together with the link.
fn remove(from: &State, ops: &mut Vec<Op>) {
    ops.push(Op::DeleteLink);
    ops.extend(from.socket.map(|_| Op::CloseSocket));
}

/// Whether PEER_SET and KEY_NEW lead from `peer` to `wanted`: they can change values and not take them away.
fn can_become(peer: &PeerState, wanted: &PeerState) -> bool {
    let (old, new) = (&peer.params, &wanted.params);
    let kept = [
        old.vpn_ipv4.is_none() || new.vpn_ipv4.is_some(),
        old.vpn_ipv6.is_none() || new.vpn_ipv6.is_some(),
        old.local.is_none() || new.local.is_some(),
        old.tx_id.is_none() || new.tx_id.is_some(),
        old.keepalive.is_none() || new.keepalive.is_some(),
        old.remote.is_none() || new.remote.is_some(),
        peer.keys.is_none() || wanted.keys.is_some(),
    ];
    kept.into_iter().all(|kept| kept)
}

/// The order in which peers can come to be as they are in `to`: the kernel gives no address to two, so who leaves one
/// comes before who gets it. Of those that wait for each other in a ring one is taken out of `kept`.
fn order(kept: &mut BTreeMap<PeerId, &PeerState>, to: &BTreeMap<PeerId, PeerState>) -> Vec<PeerId> {
    let addresses = |peer: &PeerState| {
        let v4 = peer.params.vpn_ipv4.map(IpAddr::from);
        [v4, peer.params.vpn_ipv6.map(IpAddr::from)]
    };
    let mut left: BTreeMap<IpAddr, PeerId> = BTreeMap::new();
    for (id, peer) in &*kept {
        let new = to.get(id).map(addresses).unwrap_or_default();
        let old = addresses(peer).into_iter().flatten();
        left.extend(
            old.filter(|ip| !new.contains(&Some(*ip)))
                .map(|ip| (ip, *id)),
        );
    }
    let mut order = Vec::new();
    let mut waiting: BTreeSet<PeerId> = to.keys().copied().collect();
    while let Some(first) = waiting.first().copied() {
        // Each waits for the next.
        let mut path = vec![first];
        while let Some(last) = path.last().copied() {
            let wants = to.get(&last).map(addresses).unwrap_or_default();
            let holder = wants.iter().flatten().find_map(|ip| left.get(ip).copied());
            let leaving = match holder {
                Some(holder) if !path.contains(&holder) => {
                    path.push(holder);
                    continue;
                }
                Some(holder) => kept.remove(&holder),
                None => {
                    path.pop();
                    waiting.remove(&last);
                    order.push(last);
                    kept.get(&last).copied()
                }
            };
            for ip in leaving.map(addresses).iter().flatten().flatten() {
                left.remove(ip);
            }
        }
    }
    order
}

/// The change from `old` to `new`. Equal values are left out: the kernel may know by now that a peer has moved, and
/// would send it back.
fn change(old: &PeerParams, new: &PeerParams) -> PeerParams {
    fn changed<T: PartialEq + Copy>(old: Option<T>, new: Option<T>) -> Option<T> {
        new.filter(|_| old != new)
    }
    // The kernel takes the two ends of a path together.
    let moves = (old.remote, old.local) != (new.remote, new.local);
    PeerParams {
        remote: new.remote.filter(|_| moves),
        local: new.local.filter(|_| moves),
        vpn_ipv4: changed(old.vpn_ipv4, new.vpn_ipv4),
        vpn_ipv6: changed(old.vpn_ipv6, new.vpn_ipv6),
        keepalive: changed(old.keepalive, new.keepalive),
        tx_id: changed(old.tx_id, new.tx_id),
    }
}

/// A peer's values after PEER_SET with `change`.
fn alter(params: &mut PeerParams, change: &PeerParams) {
    *params = PeerParams {
        remote: change.remote.or(params.remote),
        local: change.local.or(params.local),
        vpn_ipv4: change.vpn_ipv4.or(params.vpn_ipv4),
        vpn_ipv6: change.vpn_ipv6.or(params.vpn_ipv6),
        keepalive: change.keepalive.or(params.keepalive),
        tx_id: change.tx_id.or(params.tx_id),
    };
}

#[cfg(test)]
mod tests;
