// SPDX-License-Identifier: GPL-2.0-only
//! Answers to accepted requests, and their notifications.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::Fixture;
use super::tree::{Node, key_new, key_slot, key_swap, peer_new, peer_set};
use crate::lab::{Cipher, Ns};
use crate::nl::ovpn::{Event, Ovpn, PRIMARY, Reason, SECONDARY, cmd, keyconf, peer, top};
use crate::nl::{Attrs, Msg};
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

/// Notifications precede the acknowledgement, so they are there when a request returns.
const AT_ONCE: Duration = Duration::from_millis(1);
const PEER: [u16; 1] = [top::PEER];

fn get(fx: &Fixture, id: u32) -> Outcome<Attrs> {
    fx.nl.peer_get(fx.ifindex, id)?.during("PEER_GET")
}

fn accepted(fx: &Fixture, request: &super::Request) -> Outcome {
    fx.nl
        .request(&request.build(&fx.nl).0)?
        .during(format!("command {}", request.command))
        .map(drop)
}

/// Attributes that PEER_GET must hold, sorted: `common` and the eight counters.
fn expected_kinds(transport: &[u16]) -> Vec<u16> {
    let mut kinds = vec![
        peer::ID,
        peer::TX_ID,
        peer::KEEPALIVE_INTERVAL,
        peer::KEEPALIVE_TIMEOUT,
        peer::LOCAL_PORT,
    ];
    kinds.extend(transport);
    kinds.extend(peer::VPN_RX_BYTES..=peer::LINK_TX_PACKETS);
    kinds.sort_unstable();
    kinds
}

fn peer_get_v4(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let attrs = get(&fx, Fixture::ID)?;
    check_eq!(
        attrs.kinds(),
        expected_kinds(&[peer::REMOTE_IPV4, peer::REMOTE_PORT, peer::LOCAL_IPV4]),
        "attributes"
    );
    check_eq!(attrs.u32(peer::ID), Some(Fixture::ID), "ID");
    check_eq!(
        attrs.u32(peer::TX_ID),
        Some(Fixture::ID),
        "TX_ID defaults to ID"
    );
    check_eq!(
        attrs.get(peer::REMOTE_IPV4),
        Some(&[10, 99, 0, 2][..]),
        "REMOTE_IPV4"
    );
    check_eq!(
        attrs.get(peer::REMOTE_PORT),
        Some(&1194u16.to_be_bytes()[..]),
        "REMOTE_PORT"
    );
    check_eq!(attrs.get(peer::LOCAL_IPV4), Some(&[0; 4][..]), "LOCAL_IPV4");
    check_eq!(
        attrs.get(peer::LOCAL_PORT),
        Some(&1194u16.to_be_bytes()[..]),
        "LOCAL_PORT"
    );
    check_eq!(
        attrs.u32(peer::KEEPALIVE_INTERVAL),
        Some(0),
        "KEEPALIVE_INTERVAL"
    );
    check_eq!(
        attrs.u32(peer::KEEPALIVE_TIMEOUT),
        Some(0),
        "KEEPALIVE_TIMEOUT"
    );
    for counter in peer::VPN_RX_BYTES..=peer::LINK_TX_PACKETS {
        check_eq!(attrs.uint(counter), Some(0), "counter {counter}");
    }
    // One PEER nest and nothing else, neither as an answer nor in a dump.
    let mut msg = fx.nl.msg(cmd::PEER_GET, fx.ifindex);
    msg.nest(top::PEER, |m| {
        m.u32(peer::ID, Fixture::ID);
    });
    let mut dump: Msg = fx.nl.bare(cmd::PEER_GET, libc::NLM_F_DUMP);
    dump.u32(top::IFINDEX, fx.ifindex);
    for msg in [msg, dump] {
        let answers = fx.nl.request(&msg)??;
        check_eq!(
            answers.iter().map(Attrs::kinds).collect::<Vec<_>>(),
            vec![vec![top::PEER]],
            "top level"
        );
        check_eq!(answers[0].nested(top::PEER), attrs, "PEER nest");
    }
    Ok(())
}

fn peer_get_v6(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let sock = fx.ns.udp(true, 1200)?;
    let ip = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 2);
    fx.nl.peer_new(
        fx.ifindex,
        0,
        sock.as_raw_fd(),
        SocketAddr::new(ip.into(), 7),
        Some(0xff_ffff),
    )?;
    let attrs = get(&fx, 0)?;
    let transport = [
        peer::REMOTE_IPV6,
        peer::REMOTE_IPV6_SCOPE_ID,
        peer::REMOTE_PORT,
        peer::LOCAL_IPV6,
    ];
    check_eq!(attrs.kinds(), expected_kinds(&transport), "attributes");
    check_eq!(attrs.u32(peer::TX_ID), Some(0xff_ffff), "TX_ID");
    check_eq!(
        attrs.get(peer::REMOTE_IPV6),
        Some(&ip.octets()[..]),
        "REMOTE_IPV6"
    );
    check_eq!(
        attrs.u32(peer::REMOTE_IPV6_SCOPE_ID),
        Some(0),
        "REMOTE_IPV6_SCOPE_ID"
    );
    check_eq!(
        attrs.get(peer::LOCAL_IPV6),
        Some(&[0; 16][..]),
        "LOCAL_IPV6"
    );
    Ok(())
}

fn peer_set_all(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let request = peer_set(&fx)
        .with(&PEER, Node::bytes(peer::LOCAL_IPV4, &[10, 99, 0, 1]))
        .with(&PEER, Node::u32(peer::KEEPALIVE_INTERVAL, 86400))
        .with(&PEER, Node::u32(peer::KEEPALIVE_TIMEOUT, 86400))
        .with(&PEER, Node::u32(peer::TX_ID, 77));
    accepted(&fx, &request)?;
    let attrs = get(&fx, Fixture::ID)?;
    check_eq!(
        attrs.get(peer::REMOTE_IPV4),
        Some(&[10, 99, 0, 3][..]),
        "REMOTE_IPV4"
    );
    check_eq!(
        attrs.get(peer::REMOTE_PORT),
        Some(&1195u16.to_be_bytes()[..]),
        "REMOTE_PORT"
    );
    check_eq!(
        attrs.get(peer::LOCAL_IPV4),
        Some(&[10, 99, 0, 1][..]),
        "LOCAL_IPV4"
    );
    check_eq!(
        attrs.u32(peer::KEEPALIVE_INTERVAL),
        Some(86400),
        "KEEPALIVE_INTERVAL"
    );
    check_eq!(
        attrs.u32(peer::KEEPALIVE_TIMEOUT),
        Some(86400),
        "KEEPALIVE_TIMEOUT"
    );
    check_eq!(attrs.u32(peer::TX_ID), Some(77), "TX_ID");
    // A request without addresses leaves them; OpenVPN sets a keepalive of 0 this way.
    fx.nl.keepalive(fx.ifindex, Fixture::ID, 0, 0)?;
    let attrs = get(&fx, Fixture::ID)?;
    check_eq!(
        attrs.get(peer::REMOTE_IPV4),
        Some(&[10, 99, 0, 3][..]),
        "REMOTE_IPV4 after keepalive"
    );
    check_eq!(
        attrs.u32(peer::KEEPALIVE_TIMEOUT),
        Some(0),
        "KEEPALIVE_TIMEOUT"
    );
    check_eq!(attrs.u32(peer::TX_ID), Some(77), "TX_ID after keepalive");
    Ok(())
}

fn mapped_remote(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let sock = fx.ns.udp(true, 1200)?;
    let mapped = std::net::Ipv4Addr::new(10, 99, 0, 9).to_ipv6_mapped();
    fx.nl.peer_new(
        fx.ifindex,
        1,
        sock.as_raw_fd(),
        SocketAddr::new(mapped.into(), 7),
        None,
    )?;
    let attrs = get(&fx, 1)?;
    check_eq!(
        attrs.get(peer::REMOTE_IPV4),
        Some(&[10, 99, 0, 9][..]),
        "REMOTE_IPV4"
    );
    check_eq!(attrs.get(peer::REMOTE_IPV6), None, "REMOTE_IPV6");
    Ok(())
}

fn keys(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let slot = |slot| -> Outcome<Option<u32>> {
        match fx.nl.key_get(fx.ifindex, Fixture::ID, slot)? {
            Ok(attrs) => Ok(attrs.u32(keyconf::KEY_ID)),
            Err(refusal) if refusal.errno == libc::ENOENT => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    };
    let slots = || -> Outcome<_> { Ok((slot(PRIMARY)?, slot(SECONDARY)?)) };
    let attrs = fx
        .nl
        .key_get(fx.ifindex, Fixture::ID, PRIMARY)?
        .during("KEY_GET")?;
    let all = [
        keyconf::PEER_ID,
        keyconf::SLOT,
        keyconf::KEY_ID,
        keyconf::CIPHER_ALG,
    ];
    check_eq!(attrs.kinds(), all, "attributes of KEY_GET");
    check_eq!(attrs.u32(keyconf::PEER_ID), Some(Fixture::ID), "PEER_ID");
    check_eq!(attrs.u32(keyconf::SLOT), Some(PRIMARY), "SLOT");
    check_eq!(
        attrs.u32(keyconf::CIPHER_ALG),
        Some(Cipher::Aes256.alg()),
        "CIPHER_ALG"
    );
    check_eq!(slots()?, (Some(1), None), "at first");
    accepted(&fx, &key_swap(&fx))?;
    check_eq!(slots()?, (None, Some(1)), "swapped with an empty slot");
    accepted(&fx, &key_slot(&fx, cmd::KEY_DEL, PRIMARY))?;
    check_eq!(slots()?, (None, Some(1)), "empty slot deleted");
    accepted(&fx, &key_new(&fx, Cipher::ChaCha))?;
    check_eq!(slots()?, (None, Some(2)), "key replaced");
    let attrs = fx
        .nl
        .key_get(fx.ifindex, Fixture::ID, SECONDARY)?
        .during("KEY_GET")?;
    check_eq!(
        attrs.u32(keyconf::CIPHER_ALG),
        Some(Cipher::ChaCha.alg()),
        "CIPHER_ALG"
    );
    accepted(&fx, &key_swap(&fx))?;
    check_eq!(slots()?, (Some(2), None), "swapped back");
    for key_id in 0..8 {
        accepted(
            &fx,
            &key_new(&fx, Cipher::Aes128).with(&[top::KEYCONF], Node::u32(keyconf::KEY_ID, key_id)),
        )?;
        check_eq!(slots()?, (Some(2), Some(key_id)), "key id {key_id}");
    }
    for slot in [PRIMARY, SECONDARY, SECONDARY] {
        accepted(&fx, &key_slot(&fx, cmd::KEY_DEL, slot))?;
    }
    check_eq!(slots()?, (None, None), "both deleted");
    accepted(&fx, &key_swap(&fx)).during("two empty slots")
}

fn replaced(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let events = fx.nl.listen(&fx.ns)?;
    let gone = |id, reason| Event::PeerDel {
        ifindex: fx.ifindex,
        id,
        reason,
    };
    accepted(&fx, &peer_new(&fx))?;
    events.expect(&gone(Fixture::ID, Reason::Teardown), AT_ONCE)?;
    check_eq!(fx.nl.peer_dump(fx.ifindex)?.len(), 1, "peers");
    get(&fx, 6)?;
    // The same id and socket again: OpenVPN does this when it restarts without closing its socket.
    accepted(&fx, &peer_new(&fx))?;
    events.expect(&gone(6, Reason::Teardown), AT_ONCE)?;
    let key = fx.nl.key_get(fx.ifindex, 6, PRIMARY)?;
    check_eq!(
        key.err().map(|r| r.errno),
        Some(libc::ENOENT),
        "the new peer starts without key"
    );
    fx.nl.peer_del(fx.ifindex, 6)?;
    events.expect(&gone(6, Reason::Userspace), AT_ONCE)?;
    check_eq!(
        fx.nl.peer_dump(fx.ifindex)?.len(),
        0,
        "peers after PEER_DEL"
    );
    events.expect_none()
}

/// A socket of another namespace: PEER_GET names it, and notifications go there.
fn foreign_socket(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let other = Ns::new()?;
    let (here, there) = (fx.nl.listen(&fx.ns)?, Ovpn::open(&other)?.listen(&other)?);
    let sock = other.udp(false, 1194)?;
    fx.nl.peer_del(fx.ifindex, Fixture::ID)?;
    here.expect(
        &Event::PeerDel {
            ifindex: fx.ifindex,
            id: Fixture::ID,
            reason: Reason::Userspace,
        },
        AT_ONCE,
    )?;
    fx.nl
        .peer_new(fx.ifindex, 9, sock.as_raw_fd(), Fixture::REMOTE, None)?;
    let netnsid = get(&fx, 9)?.u32(peer::SOCKET_NETNSID);
    check!(
        netnsid.is_some_and(|id| (id as i32) >= 0),
        "SOCKET_NETNSID is {netnsid:?}"
    );
    fx.nl.peer_del(fx.ifindex, 9)?;
    there.expect(
        &Event::PeerDel {
            ifindex: fx.ifindex,
            id: 9,
            reason: Reason::Userspace,
        },
        AT_ONCE,
    )?;
    here.expect_none()
}

fn link_deleted(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let events = fx.nl.listen(&fx.ns)?;
    fx.links.delete(fx.ifindex)?.during("RTM_DELLINK")?;
    let gone = Event::PeerDel {
        ifindex: fx.ifindex,
        id: Fixture::ID,
        reason: Reason::Teardown,
    };
    events.expect(&gone, Duration::from_secs(2))?;
    let (msg, _) = peer_new(&fx).build(&fx.nl);
    let refusal = fx.nl.request(&msg)?.err();
    check_eq!(
        refusal.map(|r| r.errno),
        Some(libc::ENODEV),
        "PEER_NEW after RTM_DELLINK"
    );
    Ok(())
}

/// Cases about accepted requests.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("peer-get of an IPv4 peer", peer_get_v4),
        Case::new("peer-get of an IPv6 peer", peer_get_v6),
        Case::new("peer-set is read back", peer_set_all),
        Case::new("mapped remote address becomes IPv4", mapped_remote),
        Case::new("key slots", keys),
        Case::new(
            "peer-new replaces, peer-del deletes, both announced",
            replaced,
        ),
        Case::new("socket of another namespace", foreign_socket),
        Case::new("deleted link announces its peer", link_deleted),
    ]
}
