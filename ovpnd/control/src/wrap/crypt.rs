// SPDX-License-Identifier: MIT OR Apache-2.0
//! tls-crypt: control packets encrypted and authenticated by a static key.
//!
//! On the wire: header, stamp, tag (32), ciphertext of the body. The tag is HMAC-SHA256 over header, stamp and the
//! body in clear; its first half is the IV of AES-256-CTR. Source: OpenVPN's `src/openvpn/tls_crypt.h`.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Opened, Part, Reject, Set, StaticKey, tags_match};
use crate::keys::Role;
use crate::packet::{HEADER_LEN, Header, Malformed};
use crate::replay::Stamp;

/// Bytes of a tag.
pub const TAG_LEN: usize = 32;
/// Bytes that the wrap adds.
pub const OVERHEAD: usize = Stamp::LEN + TAG_LEN;

/// Keys of one direction.
#[derive(Clone)]
pub(super) struct Half {
    cipher: Zeroizing<[u8; 32]>,
    hmac: Zeroizing<[u8; 32]>,
}

impl Half {
    pub(super) fn new(cipher: &Part, hmac: &Part) -> Self {
        let half = |part: &Part| {
            let mut key = Zeroizing::new([0; 32]);
            for (to, from) in key.iter_mut().zip(part.iter()) {
                *to = *from;
            }
            key
        };
        Self {
            cipher: half(cipher),
            hmac: half(hmac),
        }
    }

    /// HMAC-SHA256. The key filled up with zeros to a block is the same key, and no length can be wrong.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut block = Zeroizing::new([0; 64]);
        for (to, from) in block.iter_mut().zip(self.hmac.iter()) {
            *to = *from;
        }
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Encrypts or decrypts in place, with the IV that the tag begins with.
    pub(super) fn apply(&self, tag: &[u8; TAG_LEN], bytes: &mut [u8]) {
        let mut iv = [0; 16];
        for (to, from) in iv.iter_mut().zip(tag) {
            *to = *from;
        }
        Ctr128BE::<Aes256>::new((&*self.cipher).into(), &iv.into()).apply_keystream(bytes);
    }
}

/// Keys of both directions.
#[derive(Clone)]
pub struct Keys {
    seal: Half,
    open: Half,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("crypt::Keys")
    }
}

impl Keys {
    /// The server seals with set 0 and the client with set 1: the other way round than the data channel.
    pub fn new(key: &StaticKey, role: Role) -> Self {
        let half = |set| Half::new(&key.cipher(set), &key.hmac(set));
        let (seal, open) = match role {
            Role::Server => (Set::Zero, Set::One),
            Role::Client => (Set::One, Set::Zero),
        };
        Self {
            seal: half(seal),
            open: half(open),
        }
    }

    pub(super) fn seal(&self, stamp: Stamp, header: &Header, body: &[u8]) -> Vec<u8> {
        let (header, stamp) = (header.bytes(), stamp.bytes());
        let tag = self.seal.tag(&[&header, &stamp, body]);
        let mut packet = Vec::with_capacity(HEADER_LEN + OVERHEAD + body.len());
        packet.extend(header);
        packet.extend(stamp);
        packet.extend(tag);
        let at = packet.len();
        packet.extend_from_slice(body);
        if let Some(text) = packet.get_mut(at..) {
            self.seal.apply(&tag, text);
        }
        packet
    }

    pub(super) fn open(&self, packet: &[u8]) -> Result<Opened, Reject> {
        let (header, rest) = Header::parse(packet)?;
        let short = Malformed("shorter than its tag");
        let (stamp, rest) = rest.split_first_chunk::<{ Stamp::LEN }>().ok_or(short)?;
        let (tag, text) = rest.split_first_chunk::<TAG_LEN>().ok_or(short)?;
        let mut body = text.to_vec();
        self.open.apply(tag, &mut body);
        tags_match(tag, &self.open.tag(&[&header.bytes(), stamp, &body]))?;
        Ok(Opened {
            header,
            stamp: Some(Stamp::parse(*stamp)),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, stamp, static_key};
    use super::*;

    #[test]
    fn the_keystream_is_that_of_sp_800_38a() {
        // F.5.5 CTR-AES256.Encrypt, first block.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
                .collect()
        };
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let half = Half {
            cipher: Zeroizing::new(key.try_into().unwrap()),
            hmac: Zeroizing::new([0; 32]),
        };
        let mut tag = [0; TAG_LEN];
        tag[..16].copy_from_slice(&hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"));
        let mut text = hex("6bc1bee22e409f96e93d7e117393172a");
        half.apply(&tag, &mut text);
        assert_eq!(text, hex("601ec313775789a5b7a7f504bbf3d228"));
    }

    #[test]
    fn stamp_and_tag_stand_in_clear() {
        let keys = Keys::new(&static_key(1), Role::Client);
        let packet = keys.seal(stamp(0x0f00_0001), &header(), b"body");
        assert_eq!(packet[..9], header().bytes());
        assert_eq!(packet[9..17], stamp(0x0f00_0001).bytes());
        assert_eq!(packet.len(), 17 + 32 + 4);
        assert_ne!(packet[49..], *b"body");
    }
}
