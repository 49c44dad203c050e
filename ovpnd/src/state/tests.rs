// SPDX-License-Identifier: GPL-2.0-or-later
use super::*;
use crate::config::Transport;
use ovpn_netlink::Keepalive;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

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
        peer: id(1),
    }
}

const SOCKET: SocketSpec = SocketSpec {
    transport: Transport::Udp,
    port: 1194,
    mark: 0,
    local: None,
    both: false,
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

/// A server's peers with these addresses, by number.
fn server(hosts: &[u8]) -> State {
    let peer = |host: u8| PeerState {
        params: PeerParams {
            vpn_ipv4: Some([10, 8, 0, host].into()),
            ..params("192.0.2.1:1194")
        },
        keys: Some(mark("k")),
    };
    State {
        mode: Mode::Mp,
        peers: (1..).map(id).zip(hosts.iter().copied().map(peer)).collect(),
        ..base()
    }
}

#[test]
fn an_address_is_left_before_another_peer_gets_it() {
    let set = |peer, host: u8| {
        let vpn_ipv4 = Some([10, 8, 0, host].into());
        let change = PeerParams {
            vpn_ipv4,
            ..Default::default()
        };
        Op::SetPeer(id(peer), change)
    };
    let anew = |to: &State, peer| {
        let new = Op::NewPeer(id(peer), to.peers[&id(peer)].params.clone());
        [new, Op::InstallKeys(id(peer), mark("k"))]
    };
    // A peer that waits for an address comes after the peer that leaves it.
    let steps = diff(Some(&server(&[1, 2, 3])), Some(&server(&[2, 3, 4])));
    assert_eq!(steps, [set(3, 4), set(2, 3), set(1, 2)]);
    // Two swap: one of them has to go.
    let to = server(&[2, 1, 3]);
    let mut expected = vec![Op::DelPeer(id(1)), set(2, 1)];
    expected.extend(anew(&to, 1));
    assert_eq!(diff(Some(&server(&[1, 2, 3])), Some(&to)), expected);
    // A new peer has the address of one that stays.
    let mut from = server(&[1, 2]);
    from.peers.remove(&id(1));
    let to = server(&[2, 3]);
    let mut expected = vec![set(2, 3)];
    expected.extend(anew(&to, 1));
    assert_eq!(diff(Some(&from), Some(&to)), expected);
}

/// Does a step as the kernel does it, which gives no address to two peers; whether it did.
fn done(state: &mut Option<State>, op: &Op) -> bool {
    if let (Some(now), Op::NewPeer(id, new) | Op::SetPeer(id, new)) = (&state, op) {
        let mut others = now.peers.iter().filter(|(other, _)| *other != id);
        let taken = others.any(|(_, PeerState { params: old, .. })| {
            new.vpn_ipv4.is_some() && new.vpn_ipv4 == old.vpn_ipv4
                || new.vpn_ipv6.is_some() && new.vpn_ipv6 == old.vpn_ipv6
        });
        if taken && now.mode == Mode::Mp {
            return false;
        }
    }
    State::apply(state, op);
    true
}

fn peers(mode: Mode) -> impl Strategy<Value = BTreeMap<PeerId, PeerState>> {
    let peer = (
        0u8..3,
        any::<bool>(),
        any::<bool>(),
        prop::option::of(0u8..2),
        1u32..3,
    )
        .prop_map(|(host, v4, v6, key, interval)| PeerState {
            params: PeerParams {
                // Whose is which comes below.
                vpn_ipv4: v4.then_some(Ipv4Addr::UNSPECIFIED),
                vpn_ipv6: v6.then_some(Ipv6Addr::UNSPECIFIED),
                keepalive: Some(Keepalive {
                    interval,
                    timeout: 60,
                }),
                ..params(&format!("192.0.2.{host}:1194"))
            },
            keys: key.map(|key| mark(&key.to_string())),
        });
    let most = if mode == Mode::P2p { 1 } else { 4 };
    let peers = prop::collection::btree_map((0u32..4).prop_map(id), peer, 0..=most);
    let hosts = || Just([1u8, 2, 3, 4, 5]).prop_shuffle();
    (peers, hosts(), hosts()).prop_map(|(mut peers, v4, v6)| {
        for ((peer, v4), v6) in peers.values_mut().zip(v4).zip(v6) {
            let params = &mut peer.params;
            params.vpn_ipv4 = params.vpn_ipv4.map(|_| [10, 8, 0, v4].into());
            params.vpn_ipv6 = params
                .vpn_ipv6
                .map(|_| [0, 0, 0, 0, 0, 0, 0, v6.into()].into());
        }
        peers
    })
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
                    .map(|dst| Route {
                        dst,
                        via: None,
                        peer: id(1),
                    })
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
            prop_assert!(done(&mut state, op), "{op:?} of {ops:?}");
        }
        prop_assert_eq!(&state, &to);
        prop_assert_eq!(diff(state.as_ref(), to.as_ref()), []);
    }

    #[test]
    fn a_server_s_peers_get_each_other_s_addresses(from in peers(Mode::Mp), to in peers(Mode::Mp)) {
        let server = |peers| State { mode: Mode::Mp, peers, ..base() };
        let (mut state, to) = (Some(server(from)), Some(server(to)));
        let ops = diff(state.as_ref(), to.as_ref());
        for op in &ops {
            prop_assert!(done(&mut state, op), "{op:?} of {ops:?}");
        }
        prop_assert_eq!(state, to);
    }

    #[test]
    fn after_any_failed_step_the_next_diff_leads_there(from in states(), to in states(), failed in 0usize..20) {
        let mut state = from;
        for (index, op) in diff(state.as_ref(), to.as_ref()).iter().enumerate() {
            if index != failed {
                done(&mut state, op);
            }
        }
        for op in diff(state.as_ref(), to.as_ref()) {
            prop_assert!(done(&mut state, &op), "{op:?}");
        }
        prop_assert_eq!(state, to);
    }
}
