// SPDX-License-Identifier: GPL-2.0-or-later
//! Where a peer's data channel keys come from.
//!
//! A source says what is to happen to the kernel's key slots by [`KeyEvent`]s; the daemon carries them out
//! and knows nothing of where they come from. There is one source now, [`StaticSource`]. A TLS handshake
//! fits beside it: it has no keys when the peer is added, installs one in the secondary slot when a
//! handshake is done, swaps when the peer may be expected to have it, and deletes the old one later.

use std::fmt;

use ovpn_netlink::{Cipher, KeyId, NewKey, PeerId, Slot};

use crate::keyfile::{Direction, StaticKey};

/// A change of a peer's keys in the kernel.
#[derive(Debug)]
pub enum KeyEvent {
    /// Put a key into its slot.
    Install(Box<NewKey>),
    /// Let the secondary key become primary.
    Swap,
    /// Empty a slot.
    Delete(Slot),
}

/// Names a set of keys without giving it away: the same mark means the same secrets in the same places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMark(pub String);

/// Facts about its keys that a source can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// Kind of source, in one word.
    pub source: &'static str,
    /// Cipher of the present key.
    pub cipher: Option<Cipher>,
    /// SHA-256 of the present key material, in hexadecimal.
    pub fingerprint: Option<String>,
}

/// A peer's source of keys.
pub trait KeySource: fmt::Debug {
    /// The set of keys that belongs into the kernel as long as the peer is there; none while there is no key.
    fn mark(&self) -> Option<KeyMark>;

    /// Steps that bring a peer without keys, or with another mark's, to the present keys.
    fn install(&self, peer: PeerId) -> Vec<KeyEvent>;

    /// Steps when the kernel stops using `key` because its packet ids are used up: the next key, or a
    /// sentence why there is none.
    ///
    /// # Errors
    /// The sentence.
    fn exhausted(&mut self, peer: PeerId, key: KeyId) -> Result<Vec<KeyEvent>, String>;

    /// For people.
    fn status(&self) -> KeyStatus;
}

/// One key from a file, for ever. Its packet ids start again with every start of the daemon and every return
/// of the peer, so that nonces repeat: for tests only.
#[derive(Debug)]
pub struct StaticSource {
    key: StaticKey,
    direction: Direction,
    cipher: Cipher,
}

impl StaticSource {
    /// A source for one peer.
    pub fn new(key: StaticKey, direction: Direction, cipher: Cipher) -> Self {
        Self {
            key,
            direction,
            cipher,
        }
    }
}

impl KeySource for StaticSource {
    fn mark(&self) -> Option<KeyMark> {
        Some(KeyMark(format!(
            "{} {} {:?}",
            self.key.fingerprint(),
            self.cipher,
            self.direction
        )))
    }

    fn install(&self, peer: PeerId) -> Vec<KeyEvent> {
        let (encrypt, decrypt) = self.key.directions(self.cipher, self.direction);
        let key_id = KeyId::default();
        let key = NewKey {
            peer,
            slot: Slot::Primary,
            key_id,
            cipher: self.cipher.alg(),
            encrypt,
            decrypt,
        };
        vec![KeyEvent::Install(Box::new(key))]
    }

    fn exhausted(&mut self, _peer: PeerId, _key: KeyId) -> Result<Vec<KeyEvent>, String> {
        Err("its static key has used up all packet ids: put another one into the key file and reload".into())
    }

    fn status(&self) -> KeyStatus {
        KeyStatus {
            source: "static",
            cipher: Some(self.cipher),
            fingerprint: Some(self.key.fingerprint()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(direction: Direction, cipher: Cipher) -> StaticSource {
        StaticSource::new(StaticKey::generate().unwrap(), direction, cipher)
    }

    #[test]
    fn a_static_key_goes_into_the_primary_slot() {
        let peer = PeerId::new(5).unwrap();
        let events = source(Direction::Normal, Cipher::Aes256Gcm).install(peer);
        let [KeyEvent::Install(key)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(
            (
                key.peer,
                key.slot,
                key.key_id.get(),
                key.encrypt.cipher_key.len()
            ),
            (peer, Slot::Primary, 0, 32)
        );
    }

    #[test]
    fn the_mark_changes_with_key_direction_and_cipher_and_nothing_else() {
        let base = source(Direction::Normal, Cipher::Aes256Gcm);
        let again = StaticSource::new(base.key.clone(), Direction::Normal, Cipher::Aes256Gcm);
        assert_eq!(base.mark(), again.mark());
        for other in [
            source(Direction::Normal, Cipher::Aes256Gcm),
            StaticSource::new(base.key.clone(), Direction::Inverse, Cipher::Aes256Gcm),
            StaticSource::new(
                base.key.clone(),
                Direction::Normal,
                Cipher::Chacha20Poly1305,
            ),
        ] {
            assert_ne!(base.mark(), other.mark());
        }
    }
}
