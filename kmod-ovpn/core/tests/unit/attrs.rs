// SPDX-License-Identifier: GPL-2.0
//! Peer requests. A case changes a good request in one way and names what must come of it.

use ovpn_core::attrs::*;
use ovpn_core::refusal::{Errno, Refusal};
use ovpn_core::wire::PeerId;

const V4: [u8; 4] = [192, 0, 2, 1];
const OUR_V4: [u8; 4] = [192, 0, 2, 9];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const OUR_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const LOCALHOST6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d]
}

/// A request over IPv4 that passes as PEER_NEW in P2P mode.
fn good() -> PeerRequest {
    PeerRequest {
        id: Some(5),
        socket: Some(3),
        remote_ipv4: Some(V4),
        remote_port: Some(1194),
        ..PeerRequest::default()
    }
}

/// The same over IPv6.
fn good6() -> PeerRequest {
    PeerRequest {
        remote_ipv4: None,
        remote_ipv6: Some(V6),
        ..good()
    }
}

fn change(mut request: PeerRequest, by: impl FnOnce(&mut PeerRequest)) -> PeerRequest {
    by(&mut request);
    request
}

/// Faults that do not depend on the command: request, refusal.
fn common_faults() -> Vec<(PeerRequest, Refusal)> {
    use Refusal::*;
    vec![
        (change(good(), |r| r.id = None), NoPeerId),
        (change(good(), |r| r.id = Some(0x100_0000)), PeerIdRange),
        (change(good(), |r| r.id = Some(u32::MAX)), PeerIdRange),
        (change(good(), |r| r.tx_id = Some(0x100_0000)), TxIdRange),
        (change(good(), |r| r.remote_ipv6 = Some(V6)), TwoRemotes),
        (change(good(), |r| r.remote_ipv4 = None), PortWithoutRemote),
        (change(good(), |r| r.remote_port = None), RemoteWithoutPort),
        (change(good6(), |r| r.remote_port = None), RemoteWithoutPort),
        (change(good(), |r| r.remote_port = Some(0)), PortZero),
        (
            change(good6(), |r| r.local_ipv4 = Some(OUR_V4)),
            Local4WithoutRemote,
        ),
        (
            change(good(), |r| r.local_ipv6 = Some(OUR_V6)),
            Local6WithoutRemote,
        ),
        (
            change(good(), |r| r.local_ipv6 = Some(mapped(OUR_V4))),
            Local6WithoutRemote,
        ),
        (
            change(good6(), |r| r.local_ipv6 = Some(mapped(OUR_V4))),
            FamiliesDiffer,
        ),
        (
            change(good6(), |r| {
                r.remote_ipv6 = Some(mapped(V4));
                r.local_ipv6 = Some(OUR_V6);
            }),
            FamiliesDiffer,
        ),
        (
            change(good(), |r| r.remote_ipv6_scope_id = Some(2)),
            ScopeWithoutRemote6,
        ),
        (
            change(good6(), |r| {
                r.remote_ipv6 = Some(mapped(V4));
                r.remote_ipv6_scope_id = Some(2);
            }),
            ScopeWithoutRemote6,
        ),
        (
            change(good(), |r| {
                r.remote_ipv4 = None;
                r.remote_port = None;
                r.remote_ipv6_scope_id = Some(0);
            }),
            ScopeWithoutRemote6,
        ),
        (
            change(good(), |r| r.keepalive_interval = Some(1)),
            IntervalWithoutTimeout,
        ),
        (
            change(good(), |r| r.keepalive_timeout = Some(1)),
            TimeoutWithoutInterval,
        ),
        (
            change(good(), |r| {
                r.keepalive_interval = Some(86_401);
                r.keepalive_timeout = Some(1);
            }),
            IntervalRange,
        ),
        (
            change(good(), |r| {
                r.keepalive_interval = Some(1);
                r.keepalive_timeout = Some(86_401);
            }),
            TimeoutRange,
        ),
    ]
}

#[test]
fn contradictions_are_refused_by_both_commands() {
    for (request, refusal) in common_faults() {
        assert_eq!(request.validate_new(Mode::P2p), Err(refusal), "{request:?}");
        let set = change(request, |r| r.socket = None);
        assert_eq!(set.validate_set(Mode::P2p), Err(refusal), "{set:?}");
        // In MP mode a VPN address does not hide the fault.
        let mp = change(request, |r| r.vpn_ipv4 = Some([10, 0, 0, 1]));
        assert_eq!(mp.validate_new(Mode::Mp), Err(refusal), "{mp:?}");
        let want = match refusal {
            Refusal::PeerIdRange
            | Refusal::TxIdRange
            | Refusal::PortZero
            | Refusal::IntervalRange
            | Refusal::TimeoutRange => Errno::Range,
            _ => Errno::Inval,
        };
        assert_eq!(refusal.errno(), want);
    }
}

#[test]
fn good_requests_pass_with_their_values() {
    let (peer, fd) = good().validate_new(Mode::P2p).unwrap();
    assert_eq!(fd, SocketFd(3));
    assert_eq!(
        peer,
        ValidPeer {
            id: PeerId::new(5).unwrap(),
            tx_id: None,
            endpoint: Some(Endpoint::V4 {
                remote: V4,
                port: 1194,
                local: None
            }),
            vpn_ipv4: None,
            vpn_ipv6: None,
            keepalive: None,
        }
    );
    let full = change(good6(), |r| {
        r.id = Some(0xFF_FFFF);
        r.tx_id = Some(0xFF_FFFF);
        r.local_ipv6 = Some(OUR_V6);
        r.remote_ipv6_scope_id = Some(7);
        r.remote_port = Some(65_535);
        r.keepalive_interval = Some(0);
        r.keepalive_timeout = Some(86_400);
    });
    let (peer, _) = full.validate_new(Mode::P2p).unwrap();
    assert_eq!(peer.tx_id, Some(PeerId::UNDEF));
    assert_eq!(peer.keepalive, Some((0, 86_400)));
    assert_eq!(
        peer.endpoint,
        Some(Endpoint::V6 {
            remote: V6,
            port: 65_535,
            scope_id: 7,
            local: Some(OUR_V6)
        })
    );
}

/// Both edges of both timers.
#[test]
fn keepalive_from_off_to_a_day() {
    for pair in [(0, 0), (0, 86_400), (86_400, 0), (86_400, 86_400)] {
        let request = change(good(), |r| {
            (r.keepalive_interval, r.keepalive_timeout) = (Some(pair.0), Some(pair.1));
        });
        let (peer, _) = request.validate_new(Mode::P2p).unwrap();
        assert_eq!(peer.keepalive, Some(pair));
    }
}

#[test]
fn mapped_addresses_become_ipv4() {
    for local in [None, Some(OUR_V4)] {
        let request = change(good6(), |r| {
            r.remote_ipv6 = Some(mapped(V4));
            r.local_ipv6 = local.map(mapped);
        });
        assert_eq!(
            request.validate_new(Mode::P2p).unwrap().0.endpoint,
            Some(Endpoint::V4 {
                remote: V4,
                port: 1194,
                local
            })
        );
    }
}

#[test]
fn a_set_may_name_the_id_alone() {
    let request = PeerRequest {
        id: Some(0),
        ..PeerRequest::default()
    };
    for mode in [Mode::P2p, Mode::Mp] {
        let peer = request.validate_set(mode).unwrap();
        assert_eq!(
            (peer.endpoint, peer.keepalive, peer.tx_id),
            (None, None, None)
        );
    }
    assert_eq!(request.peer_id(), Ok(PeerId::new(0).unwrap()));
    assert_eq!(PeerRequest::default().peer_id(), Err(Refusal::NoPeerId));
}

#[test]
fn socket_belongs_to_new_only() {
    let without = change(good(), |r| r.socket = None);
    assert_eq!(without.validate_new(Mode::P2p), Err(Refusal::NoSocket));
    assert_eq!(good().validate_set(Mode::P2p), Err(Refusal::SocketFixed));
    assert_eq!(Refusal::SocketFixed.errno(), Errno::Inval);
}

#[test]
fn transport_and_remote() {
    let with = good().validate_new(Mode::P2p).unwrap().0;
    let without = change(good(), |r| {
        r.remote_ipv4 = None;
        r.remote_port = None;
    });
    let without = without.validate_new(Mode::P2p).unwrap().0;
    for (peer, op, transport, want) in [
        (with, PeerOp::New, Transport::Udp, Ok(())),
        (with, PeerOp::Set, Transport::Udp, Ok(())),
        (
            with,
            PeerOp::New,
            Transport::Tcp,
            Err(Refusal::TcpWithRemote),
        ),
        (
            with,
            PeerOp::Set,
            Transport::Tcp,
            Err(Refusal::TcpWithRemote),
        ),
        (
            without,
            PeerOp::New,
            Transport::Udp,
            Err(Refusal::UdpWithoutRemote),
        ),
        (without, PeerOp::Set, Transport::Udp, Ok(())),
        (without, PeerOp::New, Transport::Tcp, Ok(())),
        (without, PeerOp::Set, Transport::Tcp, Ok(())),
    ] {
        assert_eq!(peer.fits(op, transport), want, "{op:?} {transport:?}");
    }
}

#[test]
fn vpn_addresses_and_modes() {
    let v4 = change(good(), |r| r.vpn_ipv4 = Some([10, 0, 0, 2]));
    let v6 = change(good(), |r| r.vpn_ipv6 = Some(V6));
    assert_eq!(v4.validate_new(Mode::P2p), Err(Refusal::Vpn4InP2p));
    assert_eq!(v6.validate_new(Mode::P2p), Err(Refusal::Vpn6InP2p));
    assert!(v4.validate_new(Mode::Mp).is_ok());
    assert!(v6.validate_new(Mode::Mp).is_ok());
    assert_eq!(good().validate_new(Mode::Mp), Err(Refusal::NoVpnAddress));
    let set = change(good(), |r| r.socket = None);
    assert!(
        set.validate_set(Mode::Mp).is_ok(),
        "the peer has its address already"
    );
    let bad = change(good(), |r| r.vpn_ipv4 = Some([127, 0, 0, 1]));
    assert_eq!(bad.validate_new(Mode::Mp), Err(Refusal::Vpn4NotUnicast));
}

#[test]
fn vpn_addresses_must_be_unicast_or_none() {
    use Refusal::{NoVpnAddress, Vpn4NotUnicast, Vpn6NotUnicast};
    let cases_v4 = [
        ([10, 0, 0, 1], Ok(())),
        ([126, 255, 255, 255], Ok(())),
        ([127, 0, 0, 0], Err(Vpn4NotUnicast)),
        ([127, 255, 255, 255], Err(Vpn4NotUnicast)),
        ([128, 0, 0, 0], Ok(())),
        ([223, 255, 255, 255], Ok(())),
        ([224, 0, 0, 1], Err(Vpn4NotUnicast)),
        ([239, 255, 255, 255], Err(Vpn4NotUnicast)),
        ([240, 0, 0, 1], Ok(())),
        ([255, 255, 255, 254], Ok(())),
        ([255, 255, 255, 255], Err(Vpn4NotUnicast)),
        ([0, 0, 0, 0], Err(NoVpnAddress)),
    ];
    for (addr, want) in cases_v4 {
        assert_eq!(check_vpn_addrs(addr, [0; 16]), want, "{addr:?}");
    }
    let link_local = change6(V6, &[0xfe, 0x80]);
    let unique_local = change6(V6, &[0xfd, 9]);
    let multicast = change6(V6, &[0xff, 2]);
    for (addr, want) in [
        (V6, Ok(())),
        (link_local, Ok(())),
        (unique_local, Ok(())),
        (multicast, Err(Vpn6NotUnicast)),
        (LOCALHOST6, Err(Vpn6NotUnicast)),
        (mapped(V4), Err(Vpn6NotUnicast)),
        (
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1],
            Err(Vpn6NotUnicast),
        ),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 10, 0, 0, 1], Ok(())),
    ] {
        assert_eq!(check_vpn_addrs([0; 4], addr), want, "{addr:?}");
        assert_eq!(
            check_vpn_addrs([10, 0, 0, 1], addr),
            want,
            "{addr:?} beside IPv4"
        );
    }
    assert_eq!(check_vpn_addrs([10, 0, 0, 1], [0; 16]), Ok(()));
    assert_eq!(NoVpnAddress.errno(), Errno::Inval);
    assert_eq!(Vpn4NotUnicast.errno(), Errno::AddrNotAvail);
    assert_eq!(Vpn6NotUnicast.errno(), Errno::AddrNotAvail);
}

fn change6(mut addr: [u8; 16], prefix: &[u8]) -> [u8; 16] {
    addr[..prefix.len()].copy_from_slice(prefix);
    addr
}

/// A request with two faults is refused for the one that mainline checks first.
#[test]
fn order_of_checks() {
    use Refusal::*;
    type Change = fn(&mut PeerRequest);
    let faults: [(Refusal, Change); 6] = [
        (NoPeerId, |r| r.id = None),
        (TwoRemotes, |r| r.remote_ipv6 = Some(V6)),
        (Local6WithoutRemote, |r| {
            if r.remote_ipv6.is_none() {
                r.local_ipv6 = Some(OUR_V6);
            }
        }),
        (ScopeWithoutRemote6, |r| r.remote_ipv6_scope_id = Some(1)),
        (Vpn4InP2p, |r| r.vpn_ipv4 = Some(V4)),
        (IntervalWithoutTimeout, |r| r.keepalive_interval = Some(1)),
    ];
    for (i, (first, change_first)) in faults.iter().enumerate() {
        for (_, change_later) in &faults[i..] {
            let request = change(good(), |r| {
                change_first(r);
                change_later(r);
                r.socket = None;
            });
            assert_eq!(request.validate_new(Mode::P2p), Err(*first), "{request:?}");
        }
    }
}
