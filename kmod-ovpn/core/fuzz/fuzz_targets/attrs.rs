// SPDX-License-Identifier: GPL-2.0
//! Any combination of netlink attributes: what passes keeps the promises of its type, what is
//! refused blames an attribute that is really there, or really missing.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ovpn_core::attrs::*;
use ovpn_core::refusal::*;

#[derive(Arbitrary, Debug)]
struct Peer {
    id: Option<u32>,
    remote_ipv4: Option<[u8; 4]>,
    remote_ipv6: Option<Ipv6>,
    remote_ipv6_scope_id: Option<u32>,
    remote_port: Option<u16>,
    socket: Option<u32>,
    vpn_ipv4: Option<[u8; 4]>,
    vpn_ipv6: Option<Ipv6>,
    local_ipv4: Option<[u8; 4]>,
    local_ipv6: Option<Ipv6>,
    keepalive_interval: Option<u32>,
    keepalive_timeout: Option<u32>,
    tx_id: Option<u32>,
}

/// Mapped and other special addresses are too rare among 16 random bytes.
#[derive(Arbitrary, Debug)]
enum Ipv6 {
    Any([u8; 16]),
    Mapped([u8; 4]),
    Low([u8; 4]),
}

impl Ipv6 {
    fn bytes(self) -> [u8; 16] {
        let with = |x, [a, b, c, d]: [u8; 4]| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, x, x, a, b, c, d];
        match self {
            Ipv6::Any(bytes) => bytes,
            Ipv6::Mapped(v4) => with(255, v4),
            Ipv6::Low(v4) => with(0, v4),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct KeyDir {
    cipher_key: Option<Vec<u8>>,
    nonce_tail: Option<Vec<u8>>,
}

#[derive(Arbitrary, Debug)]
struct Key {
    peer_id: Option<u32>,
    slot: Option<u32>,
    key_id: Option<u32>,
    cipher_alg: Option<u32>,
    encrypt_dir: Option<KeyDir>,
    decrypt_dir: Option<KeyDir>,
}

fn peer_has(r: &PeerRequest, attr: PeerAttr) -> bool {
    match attr {
        PeerAttr::Id => r.id.is_some(),
        PeerAttr::RemoteIpv4 => r.remote_ipv4.is_some(),
        PeerAttr::RemoteIpv6 => r.remote_ipv6.is_some(),
        PeerAttr::RemoteIpv6ScopeId => r.remote_ipv6_scope_id.is_some(),
        PeerAttr::RemotePort => r.remote_port.is_some(),
        PeerAttr::Socket => r.socket.is_some(),
        PeerAttr::VpnIpv4 => r.vpn_ipv4.is_some(),
        PeerAttr::VpnIpv6 => r.vpn_ipv6.is_some(),
        PeerAttr::LocalIpv4 => r.local_ipv4.is_some(),
        PeerAttr::LocalIpv6 => r.local_ipv6.is_some(),
        PeerAttr::KeepaliveInterval => r.keepalive_interval.is_some(),
        PeerAttr::KeepaliveTimeout => r.keepalive_timeout.is_some(),
        PeerAttr::TxId => r.tx_id.is_some(),
    }
}

fn dir_has(dir: Option<KeyDirRequest<'_>>, attr: KeyDirAttr) -> bool {
    match attr {
        KeyDirAttr::CipherKey => dir.unwrap().cipher_key.is_some(),
        KeyDirAttr::NonceTail => dir.unwrap().nonce_tail.is_some(),
    }
}

fn check_blame(refusal: Refusal, has: impl Fn(Attr) -> bool) {
    match refusal.blame() {
        Blame::Bad(attr) => assert!(has(attr), "{refusal:?} blames {attr:?}, which is missing"),
        Blame::Missing(attr) => assert!(!has(attr), "{refusal:?} misses {attr:?}"),
        Blame::Nothing => {}
    }
}

fn check_peer(request: &PeerRequest, mode: Mode, result: Result<ValidPeer, Refusal>) {
    let peer = match result {
        Ok(peer) => peer,
        Err(refusal) => {
            return check_blame(refusal, |attr| match attr {
                Attr::Peer(attr) => peer_has(request, attr),
                _ => panic!("{refusal:?} is not about a peer"),
            })
        }
    };
    assert_eq!(Some(peer.id.get()), request.id);
    assert_eq!(peer.tx_id.map(|id| id.get()), request.tx_id);
    assert_eq!(peer.endpoint.is_some(), request.remote_port.is_some());
    let (port, family) = match peer.endpoint {
        Some(Endpoint::V4 { port, .. }) => (port, 4),
        Some(Endpoint::V6 {
            port,
            remote,
            local,
            ..
        }) => {
            let mapped = |a: [u8; 16]| a.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
            assert!(!mapped(remote) && !local.is_some_and(mapped));
            (port, 6)
        }
        None => (1, 0),
    };
    assert!(port != 0 && (family == 6 || request.remote_ipv6_scope_id.is_none()));
    assert!(mode == Mode::Mp || peer.vpn_ipv4.is_none() && peer.vpn_ipv6.is_none());
    if let Some((interval, timeout)) = peer.keepalive {
        assert!(interval <= 86_400 && timeout <= 86_400);
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        let fits = peer.fits(PeerOp::New, transport).is_ok();
        assert_eq!(
            fits,
            peer.endpoint.is_some() == (transport == Transport::Udp)
        );
    }
}

fn check_key(request: &KeyRequest<'_>, allow_none: bool) {
    match request.validate_new(allow_none) {
        Ok(key) => {
            assert!(key.peer_id.get() <= 0xFF_FFFF && key.key_id.get() <= 7);
            assert_eq!(Some(key.alg as u32), request.cipher_alg);
            assert_eq!(Some(key.role as u32), request.slot);
            for dir in [key.encrypt, key.decrypt] {
                let len = dir.cipher_key.len();
                assert!(match key.alg as u32 {
                    0 => allow_none && len == 0,
                    1 => matches!(len, 16 | 24 | 32),
                    _ => len == 32,
                });
            }
            assert_eq!(request.peer_and_role().ok(), Some((key.peer_id, key.role)));
        }
        Err(refusal) => check_blame(refusal, |attr| match attr {
            Attr::Key(KeyAttr::PeerId) => request.peer_id.is_some(),
            Attr::Key(KeyAttr::Slot) => request.slot.is_some(),
            Attr::Key(KeyAttr::KeyId) => request.key_id.is_some(),
            Attr::Key(KeyAttr::CipherAlg) => request.cipher_alg.is_some(),
            Attr::Key(KeyAttr::EncryptDir) => request.encrypt_dir.is_some(),
            Attr::Key(KeyAttr::DecryptDir) => request.decrypt_dir.is_some(),
            Attr::EncryptDir(attr) => dir_has(request.encrypt_dir, attr),
            Attr::DecryptDir(attr) => dir_has(request.decrypt_dir, attr),
            Attr::Top(_) | Attr::Peer(_) => panic!("{refusal:?} is not about a key"),
        }),
    }
}

fuzz_target!(|input: (Peer, Key)| {
    let (p, k) = input;
    let request = PeerRequest {
        id: p.id,
        remote_ipv4: p.remote_ipv4,
        remote_ipv6: p.remote_ipv6.map(Ipv6::bytes),
        remote_ipv6_scope_id: p.remote_ipv6_scope_id,
        remote_port: p.remote_port,
        socket: p.socket,
        vpn_ipv4: p.vpn_ipv4,
        vpn_ipv6: p.vpn_ipv6.map(Ipv6::bytes),
        local_ipv4: p.local_ipv4,
        local_ipv6: p.local_ipv6.map(Ipv6::bytes),
        keepalive_interval: p.keepalive_interval,
        keepalive_timeout: p.keepalive_timeout,
        tx_id: p.tx_id,
    };
    for mode in [Mode::P2p, Mode::Mp] {
        let new = request.validate_new(mode);
        check_peer(&request, mode, new.map(|(peer, _)| peer));
        check_peer(&request, mode, request.validate_set(mode));
    }

    let request = KeyRequest {
        peer_id: k.peer_id,
        slot: k.slot,
        key_id: k.key_id,
        cipher_alg: k.cipher_alg,
        encrypt_dir: k.encrypt_dir.as_ref().map(borrow),
        decrypt_dir: k.decrypt_dir.as_ref().map(borrow),
    };
    for allow_none in [false, true] {
        check_key(&request, allow_none);
    }
});

fn borrow(dir: &KeyDir) -> KeyDirRequest<'_> {
    KeyDirRequest {
        cipher_key: dir.cipher_key.as_deref(),
        nonce_tail: dir.nonce_tail.as_deref(),
    }
}
