// SPDX-License-Identifier: GPL-2.0-only
//! What an interface is, what it should be, and the steps from one to the other.
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
    /// What the kernel was told of it.
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
    for (id, peer) in &from.peers {
        if rehomed
            || to
                .peers
                .get(id)
                .is_none_or(|wanted| !can_become(peer, wanted))
        {
            ops.push(Op::DelPeer(*id));
        }
    }
    if rehomed {
        ops.extend(from.socket.map(|_| Op::CloseSocket));
        ops.extend(to.socket.map(Op::OpenSocket));
    }
    for (id, wanted) in &to.peers {
        let kept = from
            .peers
            .get(id)
            .filter(|peer| !rehomed && can_become(peer, wanted));
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

/// What makes `old` into `new`. What is the same is left out: the kernel may know by now that a peer has moved, and
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

/// What the kernel does to a peer's values for PEER_SET with `change`.
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
mod tests {
    use super::*;
    use crate::config::Transport;
    use ovpn_netlink::Keepalive;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    fn id(id: u32) -> PeerId {
        PeerId::new(id).unwrap()
    }

    fn params(remote: &str) -> PeerParams {
        let keepalive = Some(Keepalive {
            interval: 10,
            timeout: 60,
        });
        PeerParams {
            remote: Some(remote.parse().unwrap()),
            keepalive,
            ..Default::default()
        }
    }

    fn mark(name: &str) -> KeyMark {
        KeyMark(name.into())
    }

    fn route(dst: &str) -> Route {
        Route {
            dst: ip(dst),
            via: None,
        }
    }

    const SOCKET: SocketSpec = SocketSpec {
        transport: Transport::Udp,
        port: 1194,
        mark: 0,
    };

    fn base() -> State {
        State {
            mode: Mode::P2p,
            mtu: Some(1416),
            addresses: [ip("10.8.0.1/24")].into(),
            up: true,
            socket: Some(SOCKET),
            peers: [(
                id(1),
                PeerState {
                    params: params("192.0.2.1:1194"),
                    keys: Some(mark("k")),
                },
            )]
            .into(),
            routes: [route("192.168.9.0/24")].into(),
        }
    }

    /// The base with one thing changed.
    fn with(change: impl FnOnce(&mut State)) -> State {
        let mut state = base();
        change(&mut state);
        state
    }

    fn to_base() -> Vec<Op> {
        vec![
            Op::CreateLink(Mode::P2p),
            Op::SetMtu(1416),
            Op::AddAddress(ip("10.8.0.1/24")),
            Op::OpenSocket(SOCKET),
            Op::NewPeer(id(1), params("192.0.2.1:1194")),
            Op::InstallKeys(id(1), mark("k")),
            Op::SetUp,
            Op::AddRoute(route("192.168.9.0/24")),
        ]
    }

    #[test]
    fn what_is_the_same_is_left_alone() {
        assert_eq!(diff(Some(&base()), Some(&base())), []);
        assert_eq!(diff(None, None), []);
    }

    #[test]
    fn an_interface_is_made_and_removed() {
        assert_eq!(diff(None, Some(&base())), to_base());
        assert_eq!(diff(Some(&base()), None), [Op::DeleteLink, Op::CloseSocket]);
    }

    #[test]
    fn each_change_takes_the_fewest_steps() {
        let other_port = SocketSpec {
            port: 1195,
            ..SOCKET
        };
        let peer = |change: fn(&mut PeerParams)| {
            with(|state| change(&mut state.peers.get_mut(&id(1)).unwrap().params))
        };
        let with_vpn_ip = peer(|params| params.vpn_ipv4 = Some([10, 8, 0, 2].into()));
        const SLOW: Option<Keepalive> = Some(Keepalive {
            interval: 20,
            timeout: 120,
        });
        let table: Vec<(State, State, Vec<Op>)> = vec![
            (base(), with(|s| s.mtu = Some(1300)), vec![Op::SetMtu(1300)]),
            (
                base(),
                peer(|params| params.remote = Some("192.0.2.2:1194".parse().unwrap())),
                vec![Op::SetPeer(
                    id(1),
                    PeerParams {
                        keepalive: None,
                        ..params("192.0.2.2:1194")
                    },
                )],
            ),
            // Where the peer is stays the kernel's business: it may have moved.
            (
                base(),
                peer(|params| params.keepalive = SLOW),
                vec![Op::SetPeer(
                    id(1),
                    PeerParams {
                        keepalive: SLOW,
                        ..Default::default()
                    },
                )],
            ),
            (
                base(),
                with(|s| s.peers.get_mut(&id(1)).unwrap().keys = Some(mark("l"))),
                vec![Op::InstallKeys(id(1), mark("l"))],
            ),
            (base(), with(|s| s.peers.clear()), vec![Op::DelPeer(id(1))]),
            (
                with(|s| s.peers.clear()),
                base(),
                vec![
                    Op::NewPeer(id(1), params("192.0.2.1:1194")),
                    Op::InstallKeys(id(1), mark("k")),
                ],
            ),
            // Only the key is missing: a peer whose KEY_NEW failed.
            (
                with(|s| s.peers.get_mut(&id(1)).unwrap().keys = None),
                base(),
                vec![Op::InstallKeys(id(1), mark("k"))],
            ),
            (
                base(),
                with(|s| {
                    s.routes = [route("10.0.0.0/8")].into();
                }),
                vec![
                    Op::DelRoute(route("192.168.9.0/24")),
                    Op::AddRoute(route("10.0.0.0/8")),
                ],
            ),
            (
                base(),
                with(|s| {
                    s.addresses = [ip("10.8.0.3/24")].into();
                }),
                vec![
                    Op::DelRoute(route("192.168.9.0/24")),
                    Op::DelAddress(ip("10.8.0.1/24")),
                    Op::AddAddress(ip("10.8.0.3/24")),
                    Op::AddRoute(route("192.168.9.0/24")),
                ],
            ),
            (
                base(),
                with(|s| s.socket = Some(other_port)),
                vec![
                    Op::DelPeer(id(1)),
                    Op::CloseSocket,
                    Op::OpenSocket(other_port),
                    Op::NewPeer(id(1), params("192.0.2.1:1194")),
                    Op::InstallKeys(id(1), mark("k")),
                ],
            ),
            // A value can be given by PEER_SET and only be taken away by a new peer.
            (
                base(),
                with_vpn_ip.clone(),
                vec![Op::SetPeer(
                    id(1),
                    PeerParams {
                        vpn_ipv4: Some([10, 8, 0, 2].into()),
                        ..Default::default()
                    },
                )],
            ),
            (
                with_vpn_ip,
                base(),
                vec![
                    Op::DelPeer(id(1)),
                    Op::NewPeer(id(1), params("192.0.2.1:1194")),
                    Op::InstallKeys(id(1), mark("k")),
                ],
            ),
            (
                with(|s| s.mode = Mode::Mp),
                base(),
                [vec![Op::DeleteLink, Op::CloseSocket], to_base()].concat(),
            ),
        ];
        for (from, to, ops) in table {
            assert_eq!(diff(Some(&from), Some(&to)), ops);
        }
    }

    fn peers(mode: Mode) -> impl Strategy<Value = BTreeMap<PeerId, PeerState>> {
        let peer = (
            0u8..3,
            any::<bool>(),
            any::<bool>(),
            prop::option::of(0u8..2),
        )
            .prop_map(|(host, v4, v6, key)| PeerState {
                params: PeerParams {
                    vpn_ipv4: v4.then(|| [10, 8, 0, host].into()),
                    vpn_ipv6: v6.then(|| [0, 0, 0, 0, 0, 0, 0, host.into()].into()),
                    ..params(&format!("192.0.2.{host}:1194"))
                },
                keys: key.map(|key| mark(&key.to_string())),
            });
        let most = if mode == Mode::P2p { 1 } else { 4 };
        prop::collection::btree_map((0u32..4).prop_map(id), peer, 0..=most)
    }

    fn states() -> impl Strategy<Value = Option<State>> {
        let prefix = (0u8..4, 20u8..30)
            .prop_map(|(host, len)| IpPrefix::new([10, 0, 0, host].into(), len).unwrap());
        let socket = (1194u16..1196, 0u32..2).prop_map(|(port, mark)| SocketSpec {
            port,
            mark,
            ..SOCKET
        });
        let mode = prop::sample::select(vec![Mode::P2p, Mode::Mp]);
        let state = mode.prop_flat_map(move |mode| {
            let lists = (
                prop::collection::btree_set(prefix.clone(), 0..4),
                prop::collection::btree_set(prefix.clone(), 0..4),
            );
            (
                Just(mode),
                1400u32..1402,
                lists,
                socket.clone(),
                peers(mode),
            )
                .prop_map(|(mode, mtu, (addresses, dsts), socket, peers)| State {
                    mode,
                    mtu: Some(mtu),
                    addresses,
                    up: true,
                    socket: Some(socket),
                    peers,
                    routes: dsts
                        .into_iter()
                        .map(|dst| Route { dst, via: None })
                        .collect(),
                })
        });
        prop::option::of(state)
    }

    proptest! {
        #[test]
        fn the_steps_lead_there(from in states(), to in states()) {
            let ops = diff(from.as_ref(), to.as_ref());
            let mut state = from;
            for op in &ops {
                State::apply(&mut state, op);
            }
            prop_assert_eq!(&state, &to);
            prop_assert_eq!(diff(state.as_ref(), to.as_ref()), []);
        }

        #[test]
        fn after_any_failed_step_the_next_diff_leads_there(from in states(), to in states(), failed in 0usize..20) {
            let mut state = from;
            for (index, op) in diff(state.as_ref(), to.as_ref()).iter().enumerate() {
                if index != failed {
                    State::apply(&mut state, op);
                }
            }
            for op in diff(state.as_ref(), to.as_ref()) {
                State::apply(&mut state, &op);
            }
            prop_assert_eq!(state, to);
        }
    }
}
