// SPDX-License-Identifier: GPL-2.0
//! Key requests. A case changes a good request in one way and names what must come of it.

use ovpn_core::attrs::{KeyDirRequest, KeyRequest};
use ovpn_core::cipher::CipherAlg;
use ovpn_core::nonce::NonceTail;
use ovpn_core::refusal::{Errno, Refusal};
use ovpn_core::slots::Role;

static BYTES: [u8; 257] = [0xA5; 257];

fn dir(key_len: usize) -> Option<KeyDirRequest<'static>> {
    Some(KeyDirRequest {
        cipher_key: Some(&BYTES[..key_len]),
        nonce_tail: Some(&BYTES[..8]),
    })
}

fn good() -> KeyRequest<'static> {
    KeyRequest {
        peer_id: Some(5),
        slot: Some(0),
        key_id: Some(7),
        cipher_alg: Some(1),
        encrypt_dir: dir(32),
        decrypt_dir: dir(32),
    }
}

type Change = fn(&mut KeyRequest<'static>);

#[test]
fn faults() {
    use Refusal::*;
    // Refusal, its error number, and the change that leads to it.
    let cases: &[(Refusal, Errno, Change)] = &[
        (NoKeyPeerId, Errno::Inval, |r| r.peer_id = None),
        (KeyPeerIdRange, Errno::Range, |r| {
            r.peer_id = Some(0x100_0000)
        }),
        (NoSlot, Errno::Inval, |r| r.slot = None),
        (SlotRange, Errno::Range, |r| r.slot = Some(2)),
        (NoKeyId, Errno::Inval, |r| r.key_id = None),
        (NoCipher, Errno::Inval, |r| r.cipher_alg = None),
        (NoEncryptDir, Errno::Inval, |r| r.encrypt_dir = None),
        (NoDecryptDir, Errno::Inval, |r| r.decrypt_dir = None),
        (KeyIdRange, Errno::Range, |r| r.key_id = Some(8)),
        (NoneForbidden, Errno::Inval, |r| r.cipher_alg = Some(0)),
        (BadCipher, Errno::Inval, |r| r.cipher_alg = Some(3)),
        (NoEncryptKey, Errno::Inval, |r| {
            r.encrypt_dir.as_mut().unwrap().cipher_key = None;
        }),
        (NoEncryptTail, Errno::Inval, |r| {
            r.encrypt_dir.as_mut().unwrap().nonce_tail = None;
        }),
        (EncryptKeyLen, Errno::Inval, |r| r.encrypt_dir = dir(31)),
        (EncryptTailLen, Errno::Inval, |r| {
            r.encrypt_dir.as_mut().unwrap().nonce_tail = Some(&BYTES[..7]);
        }),
        (NoDecryptKey, Errno::Inval, |r| {
            r.decrypt_dir.as_mut().unwrap().cipher_key = None;
        }),
        (NoDecryptTail, Errno::Inval, |r| {
            r.decrypt_dir.as_mut().unwrap().nonce_tail = None;
        }),
        (DecryptKeyLen, Errno::Inval, |r| r.decrypt_dir = dir(0)),
        (DecryptTailLen, Errno::Inval, |r| {
            r.decrypt_dir.as_mut().unwrap().nonce_tail = Some(&BYTES[..9]);
        }),
    ];
    for (refusal, errno, change) in cases {
        let mut request = good();
        change(&mut request);
        assert_eq!(request.validate_new(false).err(), Some(*refusal));
        assert_eq!(refusal.errno(), *errno);
    }
}

/// A request with two faults is refused for the one that mainline checks first.
#[test]
fn order_of_checks() {
    use Refusal::*;
    let faults: &[(Refusal, Change)] = &[
        (NoKeyPeerId, |r| r.peer_id = None),
        (NoSlot, |r| r.slot = None),
        (NoKeyId, |r| r.key_id = None),
        (NoCipher, |r| r.cipher_alg = None),
        (NoDecryptDir, |r| r.decrypt_dir = None),
        (BadCipher, |r| r.cipher_alg = Some(3)),
        (EncryptKeyLen, |r| r.encrypt_dir = dir(31)),
    ];
    for (i, (refusal, change)) in faults.iter().enumerate() {
        for (_, change_later) in &faults[i..] {
            let mut request = good();
            change_later(&mut request);
            change(&mut request);
            assert_eq!(request.validate_new(false).err(), Some(*refusal));
        }
    }
}

#[test]
fn key_lengths_by_cipher() {
    for len in 0..=256 {
        for (alg, fits) in [(1, [16, 24, 32].contains(&len)), (2, len == 32)] {
            let request = KeyRequest {
                cipher_alg: Some(alg),
                encrypt_dir: dir(len),
                decrypt_dir: dir(len),
                ..good()
            };
            let got = request.validate_new(false).err();
            assert_eq!(
                got,
                (!fits).then_some(Refusal::EncryptKeyLen),
                "{alg}, {len} bytes"
            );
        }
    }
}

/// Values that cipher none does not need may be missing, but nothing may be wrong, and it must be allowed.
#[test]
fn cipher_none() {
    let bare = KeyRequest {
        cipher_alg: Some(0),
        encrypt_dir: None,
        decrypt_dir: None,
        ..good()
    };
    assert_eq!(
        bare.validate_new(false).err(),
        Some(Refusal::NoEncryptDir),
        "as before it was known"
    );
    for dirs in [None, dir(0)] {
        let request = KeyRequest {
            encrypt_dir: dirs,
            ..bare
        };
        let key = request.validate_new(true).ok().unwrap();
        assert_eq!(key.alg, CipherAlg::None);
        assert!(key.encrypt.cipher_key.is_empty() && key.decrypt.cipher_key.is_empty());
    }
    let keyed = KeyRequest {
        decrypt_dir: dir(16),
        ..bare
    };
    assert_eq!(keyed.validate_new(true).err(), Some(Refusal::DecryptKeyLen));
    // Leave to use it changes nothing for the others.
    let aes = KeyRequest {
        cipher_alg: Some(1),
        ..bare
    };
    assert_eq!(aes.validate_new(true).err(), Some(Refusal::NoEncryptDir));
}

#[test]
fn good_request_passes_with_its_values() {
    let mut request = good();
    request.slot = Some(1);
    request.cipher_alg = Some(2);
    let key = request.validate_new(false).ok().unwrap();
    assert_eq!(key.peer_id.get(), 5);
    assert_eq!(key.role, Role::Secondary);
    assert_eq!(key.key_id.get(), 7);
    assert_eq!(key.alg, CipherAlg::ChaCha20Poly1305);
    for dir in [key.encrypt, key.decrypt] {
        assert_eq!(dir.cipher_key, [0xA5; 32]);
        assert_eq!(dir.nonce_tail, NonceTail([0xA5; 8]));
    }
}

/// GET and DEL take peer and slot, SWAP the peer alone.
#[test]
fn short_requests() {
    let none = KeyRequest::default();
    assert_eq!(none.peer(), Err(Refusal::NoKeyPeerId));
    assert_eq!(none.peer_and_role(), Err(Refusal::NoKeyPeerId));
    let peer = KeyRequest {
        peer_id: Some(1),
        ..none
    };
    assert_eq!(peer.peer().map(|p| p.get()), Ok(1));
    assert_eq!(peer.peer_and_role(), Err(Refusal::NoSlot));
    let both = KeyRequest {
        slot: Some(1),
        ..peer
    };
    assert_eq!(both.peer_and_role().map(|(_, r)| r), Ok(Role::Secondary));
}
