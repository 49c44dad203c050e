// SPDX-License-Identifier: MIT OR Apache-2.0
//! A data channel that knows one message: OpenVPN's ping.

use openvpn_control::keys::{Cipher, DirectionKey, Role};
use openvpn_control::session::{KeyChange, KeySlot};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

const DATA_V2: u8 = 9 << 3;
/// OpenVPN's `ping_string`.
const PING: [u8; 16] = [
    0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48,
];
const TAG: usize = 16;

struct Half {
    key: LessSafeKey,
    tail: [u8; 8],
}

impl Half {
    fn new(cipher: Cipher, key: &DirectionKey) -> Self {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            _ => &AES_256_GCM,
        };
        Self {
            key: LessSafeKey::new(
                UnboundKey::new(algorithm, &key.cipher_key).expect("a key of the cipher's size"),
            ),
            tail: *key.nonce_tail,
        }
    }

    fn nonce(&self, id: [u8; 4]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&id);
        nonce[4..].copy_from_slice(&self.tail);
        Nonce::assume_unique_for_key(nonce)
    }
}

struct Key {
    id: u8,
    send: Half,
    receive: Half,
    next: u32,
}

pub(crate) struct Data {
    role: Role,
    pub(crate) peer_id: u32,
    primary: Option<Key>,
    secondary: Option<Key>,
    installs: usize,
    swaps: usize,
    pings: usize,
    unreadable: usize,
    /// Bits of the key ids that pings came with.
    seen: u8,
}

impl Data {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            peer_id: 0,
            primary: None,
            secondary: None,
            installs: 0,
            swaps: 0,
            pings: 0,
            unreadable: 0,
            seen: 0,
        }
    }

    pub(crate) fn apply(&mut self, change: KeyChange) {
        match change {
            KeyChange::Install(key) => {
                let (send, receive) = key.material.directions(self.role, key.cipher);
                let new = Key {
                    id: key.key_id.get(),
                    send: Half::new(key.cipher, &send),
                    receive: Half::new(key.cipher, &receive),
                    next: 1,
                };
                println!("key {} {:?} {}", new.id, key.slot, key.cipher);
                self.installs += 1;
                match key.slot {
                    KeySlot::Primary => self.primary = Some(new),
                    KeySlot::Secondary => self.secondary = Some(new),
                }
            }
            KeyChange::Swap => {
                println!("swap");
                self.swaps += 1;
                std::mem::swap(&mut self.primary, &mut self.secondary);
            }
            KeyChange::DropSecondary => self.secondary = None,
        }
    }

    pub(crate) fn ping(&mut self) -> Option<Vec<u8>> {
        let key = self.primary.as_mut()?;
        let id = key.next.to_be_bytes();
        key.next += 1;
        let [_, peer @ ..] = self.peer_id.to_be_bytes();
        let mut packet = vec![DATA_V2 | key.id];
        packet.extend(peer);
        packet.extend(id);
        let mut text = PING.to_vec();
        let aad = Aad::from(packet.clone());
        let tag = key
            .send
            .key
            .seal_in_place_separate_tag(key.send.nonce(id), aad, &mut text)
            .ok()?;
        packet.extend(tag.as_ref());
        packet.extend(text);
        Some(packet)
    }

    /// Takes a data packet for this peer; false for a control packet and for another peer's.
    pub(crate) fn receive(&mut self, packet: &[u8]) -> bool {
        let Some((head, rest)) = packet.split_first_chunk::<8>() else {
            return false;
        };
        if head[0] & 0xf8 != DATA_V2 {
            return false;
        }
        let id = [head[4], head[5], head[6], head[7]];
        let keys = [&self.primary, &self.secondary].into_iter().flatten();
        let opened = keys.filter(|key| key.id == head[0] & 7).any(|key| {
            let Some((tag, text)) = rest.split_at_checked(TAG) else {
                return false;
            };
            let mut bytes = [text, tag].concat();
            key.receive
                .key
                .open_in_place(key.receive.nonce(id), Aad::from(head), &mut bytes)
                .is_ok()
        });
        match opened {
            true => {
                self.pings += 1;
                self.seen |= 1 << (head[0] & 7);
            }
            false => self.unreadable += 1,
        }
        true
    }

    pub(crate) fn counts(&self) -> String {
        format!(
            "installs={} swaps={} read={} unreadable={} key_ids={}",
            self.installs,
            self.swaps,
            self.pings,
            self.unreadable,
            self.seen.count_ones()
        )
    }
}
