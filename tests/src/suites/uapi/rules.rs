// SPDX-License-Identifier: GPL-2.0-only
//! Well-formed requests that the driver itself must refuse, written by hand from the table of refusals.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use super::tree::{
    Node, Request, dir, key_new, key_slot, key_swap, peer_del, peer_dump, peer_get, peer_new,
    peer_set,
};
use super::{Fixture, Report, Row};
use crate::lab::{Cipher, Module};
use crate::nl::errno_name;
use crate::nl::ovpn::{KeyDir, PRIMARY, SECONDARY, cmd, keyconf, peer, top};
use crate::tap::{During, Outcome};
use crate::{Ctx, check};

const PEER: [u16; 1] = [top::PEER];
const KEY: [u16; 1] = [top::KEYCONF];

fn v4(kind: u16, ip: [u8; 4]) -> Node {
    Node::bytes(kind, &ip)
}

fn v6(kind: u16, ip: Ipv6Addr) -> Node {
    Node::bytes(kind, &ip.octets())
}

fn port() -> Node {
    Node::bytes(peer::REMOTE_PORT, &1194u16.to_be_bytes())
}

/// PEER_NEW and PEER_SET with attributes that are each in order, but not together.
pub fn rows_addresses(fx: &Fixture) -> Vec<Row> {
    let six: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 2);
    let mapped = Ipv4Addr::new(10, 99, 0, 2).to_ipv6_mapped();
    let four = [10, 99, 0, 2];
    let combinations: [(&str, Vec<Node>); 16] = [
        (
            "two remote addresses",
            vec![
                v4(peer::REMOTE_IPV4, four),
                v6(peer::REMOTE_IPV6, six),
                port(),
            ],
        ),
        ("remote port without address", vec![port()]),
        (
            "remote IPv4 address without port",
            vec![v4(peer::REMOTE_IPV4, four)],
        ),
        (
            "remote IPv6 address without port",
            vec![v6(peer::REMOTE_IPV6, six)],
        ),
        (
            "local IPv4 address without remote",
            vec![v4(peer::LOCAL_IPV4, four)],
        ),
        (
            "local IPv6 address without remote",
            vec![v6(peer::LOCAL_IPV6, six)],
        ),
        (
            "local IPv4 with remote IPv6 address",
            vec![
                v6(peer::REMOTE_IPV6, six),
                port(),
                v4(peer::LOCAL_IPV4, four),
            ],
        ),
        (
            "local IPv6 with remote IPv4 address",
            vec![
                v4(peer::REMOTE_IPV4, four),
                port(),
                v6(peer::LOCAL_IPV6, six),
            ],
        ),
        (
            "local mapped with remote IPv6 address",
            vec![
                v6(peer::REMOTE_IPV6, six),
                port(),
                v6(peer::LOCAL_IPV6, mapped),
            ],
        ),
        (
            "local IPv6 with remote mapped address",
            vec![
                v6(peer::REMOTE_IPV6, mapped),
                port(),
                v6(peer::LOCAL_IPV6, six),
            ],
        ),
        (
            "scope without address",
            vec![Node::u32(peer::REMOTE_IPV6_SCOPE_ID, 1)],
        ),
        (
            "scope with remote IPv4 address",
            vec![
                v4(peer::REMOTE_IPV4, four),
                port(),
                Node::u32(peer::REMOTE_IPV6_SCOPE_ID, 1),
            ],
        ),
        (
            "scope with remote mapped address",
            vec![
                v6(peer::REMOTE_IPV6, mapped),
                port(),
                Node::u32(peer::REMOTE_IPV6_SCOPE_ID, 1),
            ],
        ),
        (
            "VPN address in P2P mode",
            vec![
                v4(peer::REMOTE_IPV4, four),
                port(),
                v4(peer::VPN_IPV4, [10, 8, 0, 2]),
            ],
        ),
        (
            "keepalive interval without timeout",
            vec![
                v4(peer::REMOTE_IPV4, four),
                port(),
                Node::u32(peer::KEEPALIVE_INTERVAL, 1),
            ],
        ),
        (
            "keepalive timeout without interval",
            vec![
                v4(peer::REMOTE_IPV4, four),
                port(),
                Node::u32(peer::KEEPALIVE_TIMEOUT, 1),
            ],
        ),
    ];
    let mut rows = Vec::new();
    for (command, good) in [("PEER_NEW", peer_new(fx)), ("PEER_SET", peer_set(fx))] {
        let bare = good
            .without(&PEER, peer::REMOTE_IPV4)
            .without(&PEER, peer::REMOTE_PORT);
        for (what, nodes) in &combinations {
            let request = nodes
                .iter()
                .fold(bare.clone(), |r, node| r.with(&PEER, node.clone()));
            rows.push(Row::new(
                format!("{command}: {what}"),
                request,
                libc::EINVAL,
                Report::Text,
            ));
        }
        let vpn6 = bare
            .with(&PEER, v4(peer::REMOTE_IPV4, four))
            .with(&PEER, port())
            .with(&PEER, v6(peer::VPN_IPV6, six));
        rows.push(Row::new(
            format!("{command}: VPN IPv6 address in P2P mode"),
            vpn6,
            libc::EINVAL,
            Report::Text,
        ));
    }
    rows
}

/// PEER_NEW with descriptors that are no socket, or not one to be had.
pub fn rows_sockets(fx: &Fixture) -> Vec<Row> {
    // Leaked on purpose: the descriptors must be open when the rows run, and the process is short-lived.
    let keep = |fd: OwnedFd| Box::leak(Box::new(fd)).as_raw_fd() as u32;
    let inside = |make: &(dyn Fn() -> Outcome<OwnedFd> + Sync)| {
        fx.ns.enter(make).map(keep).unwrap_or(u32::MAX)
    };
    let file = inside(&|| Ok(File::open("/proc/self/status")?.into()));
    let unix = inside(&|| Ok(UnixDatagram::unbound()?.into()));
    let l2tp = inside(&|| {
        let sock = std::net::UdpSocket::bind("0.0.0.0:1701")?;
        // UDP_ENCAP (100) with UDP_ENCAP_L2TPINUDP (3): a socket that another encapsulation owns.
        let l2tp = 3i32;
        // SAFETY: the option value is an int that outlives the call.
        let ret = unsafe {
            libc::setsockopt(
                sock.as_raw_fd(),
                libc::SOL_UDP,
                100,
                (&raw const l2tp).cast(),
                4,
            )
        };
        crate::check_eq!(ret, 0, "UDP_ENCAP");
        Ok(sock.into())
    });
    let tcp = inside(&|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sock = TcpStream::connect(listener.local_addr()?)?;
        Box::leak(Box::new(listener));
        Ok(sock.into())
    });
    let raw = |protocol: i32| {
        inside(&|| {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: plain socket call; the result is checked before use.
            let fd = unsafe { libc::socket(libc::AF_INET, kind, protocol) };
            check!(fd >= 0, "raw socket");
            // SAFETY: `fd` is a fresh descriptor that nothing else owns.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        })
    };
    let good = peer_new(fx);
    let with_fd = |fd: u32| good.clone().with(&PEER, Node::u32(peer::SOCKET, fd));
    let no_remote = |r: Request| {
        r.without(&PEER, peer::REMOTE_IPV4)
            .without(&PEER, peer::REMOTE_PORT)
    };
    let taken = fx.taken.0.as_raw_fd() as u32;
    let mut rows: Vec<Row> = [
        ("closed descriptor", with_fd(9999), libc::ENOTSOCK),
        ("negative descriptor", with_fd(u32::MAX), libc::ENOTSOCK),
        ("a file", with_fd(file), libc::ENOTSOCK),
        ("a Unix socket", with_fd(unix), libc::ENOTSOCK),
        (
            "a raw ICMP socket",
            with_fd(raw(libc::IPPROTO_ICMP)),
            libc::ENOTSOCK,
        ),
        (
            "a UDP socket of another encapsulation",
            with_fd(l2tp),
            libc::ENOTSOCK,
        ),
        (
            "a UDP socket of another device",
            with_fd(taken),
            libc::ENOTSOCK,
        ),
        (
            "UDP without remote address",
            no_remote(good.clone()),
            libc::EINVAL,
        ),
        ("TCP with remote address", with_fd(tcp), libc::EINVAL),
    ]
    .map(|(what, request, errno)| Row::new(what, request, errno, Report::Text))
    .into();
    if Module::ours() {
        // Mainline goes by the protocol alone, takes this for a UDP socket, and writes behind its end.
        for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
            let request = with_fd(raw(protocol));
            let request = if protocol == libc::IPPROTO_TCP {
                no_remote(request)
            } else {
                request
            };
            let name = format!("a raw socket of protocol {protocol}");
            rows.push(Row::new(name, request, libc::ENOTSOCK, Report::Text));
        }
    }
    rows
}

/// Requests for a peer that does not exist, and for the key of an empty slot.
pub fn rows_absent(fx: &Fixture) -> Vec<Row> {
    let peer = |r: Request| r.with(&PEER, Node::u32(peer::ID, 6));
    let key = |r: Request| r.with(&KEY, Node::u32(keyconf::PEER_ID, 6));
    [
        ("PEER_SET", peer(peer_set(fx))),
        ("PEER_GET", peer(peer_get(fx))),
        ("PEER_DEL", peer(peer_del(fx))),
        ("KEY_NEW", key(key_new(fx, Cipher::Aes256))),
        ("KEY_GET", key(key_slot(fx, cmd::KEY_GET, PRIMARY))),
        ("KEY_DEL", key(key_slot(fx, cmd::KEY_DEL, PRIMARY))),
        ("KEY_SWAP", key(key_swap(fx))),
        (
            "KEY_GET of an empty slot",
            key_slot(fx, cmd::KEY_GET, SECONDARY),
        ),
    ]
    .map(|(what, request)| Row::new(what, request, libc::ENOENT, Report::Text))
    .into()
}

/// KEY_NEW with keys of a length that the cipher does not have, and without cipher.
pub fn rows_keys(fx: &Fixture) -> Vec<Row> {
    let mut rows = Vec::new();
    let aes: &[usize] = &[0, 1, 15, 17, 20, 23, 25, 31, 33, 64, 256];
    let chacha: &[usize] = &[0, 1, 16, 24, 31, 33, 64, 256];
    for (cipher, lengths) in [(Cipher::Aes256, aes), (Cipher::ChaCha, chacha)] {
        for (direction, len) in [keyconf::ENCRYPT_DIR, keyconf::DECRYPT_DIR]
            .iter()
            .flat_map(|d| lengths.iter().map(move |l| (d, l)))
        {
            let node = dir(
                *direction,
                &KeyDir {
                    key: vec![7; *len],
                    tail: [0; 8],
                },
            );
            rows.push(Row::new(
                format!(
                    "{}: key of {len} bytes in direction {direction}",
                    cipher.name()
                ),
                key_new(fx, cipher).with(&KEY, node),
                libc::EINVAL,
                Report::Text,
            ));
        }
    }
    for slot in [PRIMARY, SECONDARY] {
        let request = key_new(fx, Cipher::Aes256)
            .with(&KEY, Node::u32(keyconf::CIPHER_ALG, 0))
            .with(&KEY, Node::u32(keyconf::SLOT, slot));
        rows.push(Row::new(
            format!("no cipher, slot {slot}"),
            request,
            libc::EINVAL,
            Report::Text,
        ));
    }
    rows
}

/// Commands that the family does not have, or not this way.
pub fn rows_commands(fx: &Fixture) -> Vec<Row> {
    let unknown = [
        0,
        cmd::PEER_DEL_NTF,
        cmd::KEY_SWAP_NTF,
        cmd::PEER_FLOAT_NTF,
        12,
        255,
    ];
    let mut rows: Vec<Row> = unknown
        .into_iter()
        .map(|command| {
            let request = Request {
                command,
                ..peer_get(fx)
            };
            Row::new(
                format!("command {command}"),
                request,
                libc::EOPNOTSUPP,
                Report::Nothing,
            )
        })
        .collect();
    for command in [
        cmd::PEER_NEW,
        cmd::PEER_SET,
        cmd::PEER_DEL,
        cmd::KEY_NEW,
        cmd::KEY_GET,
        cmd::KEY_SWAP,
        cmd::KEY_DEL,
    ] {
        let request = Request {
            command,
            ..peer_dump(fx)
        };
        rows.push(Row::new(
            format!("command {command} as a dump"),
            request,
            libc::EOPNOTSUPP,
            Report::Nothing,
        ));
    }
    rows
}

/// Every command of a thread without capabilities is refused, and changes nothing.
pub fn unprivileged(_: &Ctx) -> Outcome {
    let fx = Fixture::new()?;
    let before = fx.state()?;
    let requests = [
        peer_new(&fx),
        peer_set(&fx),
        peer_get(&fx),
        peer_dump(&fx),
        peer_del(&fx),
        key_new(&fx, Cipher::Aes256),
        key_slot(&fx, cmd::KEY_GET, PRIMARY),
        key_slot(&fx, cmd::KEY_DEL, PRIMARY),
        key_swap(&fx),
    ];
    for request in requests {
        let (msg, _) = request.build(&fx.nl);
        let verdict = fx.ns.enter(|| {
            // capset(2), _LINUX_CAPABILITY_VERSION_3: no capability for the calling thread, which ends with this closure.
            let (header, data) = ([0x2008_0522u32, 0], [0u32; 6]);
            // SAFETY: header and data have the layout of version 3 and outlive the call.
            let ret = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
            check!(ret == 0, "capset: {}", std::io::Error::last_os_error());
            fx.nl.request(&msg)
        });
        let errno = verdict
            .during(request.command)?
            .err()
            .map_or(0, |refusal| refusal.errno);
        check!(
            errno == libc::EPERM,
            "command {}: {}, expected EPERM",
            request.command,
            errno_name(errno)
        );
    }
    let after = fx.state()?;
    crate::check_eq!(after, before, "state");
    Ok(())
}
