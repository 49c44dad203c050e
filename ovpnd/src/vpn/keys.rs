// SPDX-License-Identifier: GPL-2.0-or-later
//! Keys of the control channel as the kernel takes them.

use openvpn_control::keys::{Cipher, DirectionKey, Role};
use openvpn_control::session::{DataKey, KeyChange, KeySlot};
use ovpn_netlink::{CipherAlg, KeyDir, KeyId, NewKey, PeerId, Slot};

use crate::keys::KeyEvent;

/// A change of keys in the kernel's words.
pub(super) fn key_event(peer: PeerId, change: KeyChange, role: Role) -> Result<KeyEvent, String> {
    let DataKey {
        slot,
        key_id,
        cipher,
        material,
    } = match change {
        KeyChange::Install(key) => key,
        KeyChange::Swap => return Ok(KeyEvent::Swap),
        KeyChange::DropSecondary => return Ok(KeyEvent::Delete(Slot::Secondary)),
    };
    let (encrypt, decrypt) = material.directions(role, cipher);
    Ok(KeyEvent::Install(Box::new(NewKey {
        peer,
        slot: match slot {
            KeySlot::Primary => Slot::Primary,
            KeySlot::Secondary => Slot::Secondary,
        },
        key_id: KeyId::new(key_id.get()).ok_or("a key has an impossible number")?,
        cipher: match cipher {
            Cipher::ChaCha20Poly1305 => CipherAlg::Chacha20Poly1305,
            _ => CipherAlg::AesGcm,
        },
        encrypt: key_dir(encrypt),
        decrypt: key_dir(decrypt),
    })))
}

fn key_dir(key: DirectionKey) -> KeyDir {
    KeyDir {
        cipher_key: key.cipher_key,
        nonce_tail: key.nonce_tail,
    }
}
