// SPDX-License-Identifier: MIT OR Apache-2.0
//! tls-auth: an HMAC over each control packet, by the digest that `auth` names.
//!
//! On the wire: header, HMAC, stamp, body. The HMAC covers stamp, header and body, in this order.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{Opened, PART, Part, Reject, Set, StaticKey, tags_match};
use crate::packet::{HEADER_LEN, Header, Malformed};
use crate::replay::Stamp;

/// Block size of SHA-384 and SHA-512, the largest.
const BLOCK: usize = 128;

/// The digest of the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Digest {
    /// The default of OpenVPN.
    #[default]
    Sha1,
    /// `auth SHA256`.
    Sha256,
    /// `auth SHA384`.
    Sha384,
    /// `auth SHA512`.
    Sha512,
}

impl Digest {
    /// The digest of this name, as OpenVPN's `auth` spells it, in any case.
    pub fn named(name: &str) -> Option<Self> {
        [
            ("SHA1", Self::Sha1),
            ("SHA256", Self::Sha256),
            ("SHA384", Self::Sha384),
            ("SHA512", Self::Sha512),
        ]
        .into_iter()
        .find(|(spelling, _)| spelling.eq_ignore_ascii_case(name))
        .map(|(_, digest)| digest)
    }

    /// Bytes of its HMAC, and of the part of the key that it takes.
    pub fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Never.
    pub fn is_empty(self) -> bool {
        false
    }

    fn mac(self, key: &Part, parts: [&[u8]; 3]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, self.len(), parts),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, self.len(), parts),
            Self::Sha384 => mac::<Hmac<Sha384>>(key, self.len(), parts),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, self.len(), parts),
        }
    }
}

/// The HMAC takes a key of its digest's size. Filled up with zeros to a block it is the same key, and no length can
/// be wrong.
fn mac<M: Mac + KeyInit>(key: &Part, len: usize, parts: [&[u8]; 3]) -> Vec<u8> {
    let mut block = Zeroizing::new([0; BLOCK]);
    for (to, from) in block.iter_mut().zip(key.iter().take(len.min(PART))) {
        *to = *from;
    }
    let mut padded = hmac::digest::Key::<M>::default();
    for (to, from) in padded.iter_mut().zip(block.iter()) {
        *to = *from;
    }
    let mut mac = <M as KeyInit>::new(&padded);
    zeroize::Zeroize::zeroize(padded.as_mut_slice());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Which set of the static key a side sends with: the option `key-direction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// No direction: both sides send with set 0.
    #[default]
    Both,
    /// 0: sends with set 0.
    Normal,
    /// 1: sends with set 1.
    Inverse,
}

/// Keys of both directions.
#[derive(Clone)]
pub struct Keys {
    digest: Digest,
    seal: Part,
    open: Part,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "auth::Keys({:?})", self.digest)
    }
}

impl Keys {
    /// Takes the HMAC keys of a static key.
    pub fn new(key: &StaticKey, direction: Direction, digest: Digest) -> Self {
        let (seal, open) = match direction {
            Direction::Both => (Set::Zero, Set::Zero),
            Direction::Normal => (Set::Zero, Set::One),
            Direction::Inverse => (Set::One, Set::Zero),
        };
        Self {
            digest,
            seal: key.hmac(seal),
            open: key.hmac(open),
        }
    }

    pub(super) fn overhead(&self) -> usize {
        self.digest.len() + Stamp::LEN
    }

    pub(super) fn seal(&self, stamp: Stamp, header: &Header, body: &[u8]) -> Vec<u8> {
        let (header, stamp) = (header.bytes(), stamp.bytes());
        let mut packet = header.to_vec();
        packet.extend(self.digest.mac(&self.seal, [&stamp, &header, body]));
        packet.extend(stamp);
        packet.extend_from_slice(body);
        packet
    }

    pub(super) fn open(&self, packet: &[u8]) -> Result<Opened, Reject> {
        let (header, rest) = Header::parse(packet)?;
        let short = Malformed("shorter than its HMAC");
        let (tag, rest) = rest.split_at_checked(self.digest.len()).ok_or(short)?;
        let (stamp, body) = rest.split_first_chunk::<{ Stamp::LEN }>().ok_or(short)?;
        let head = packet.get(..HEADER_LEN).ok_or(short)?;
        tags_match(tag, &self.digest.mac(&self.open, [stamp, head, body]))?;
        Ok(Opened {
            header,
            stamp: Some(Stamp::parse(*stamp)),
            body: body.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, stamp, static_key};
    use super::*;

    #[test]
    fn hmacs_are_those_of_rfc_2202_and_4231() {
        let mut key = Zeroizing::new([0; PART]);
        key[..20].fill(0x0b);
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(Digest::Sha1.mac(&key, [b"Hi", b" ", b"There"])),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
        assert_eq!(
            hex(Digest::Sha256.mac(&key, [b"Hi", b" ", b"There"])),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(Digest::Sha384.mac(&key, [b"Hi", b" ", b"There"])),
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"
        );
        assert_eq!(
            hex(Digest::Sha512.mac(&key, [b"Hi", b" ", b"There"])),
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
        );
    }

    #[test]
    fn the_hmac_stands_between_header_and_stamp() {
        let keys = Keys::new(&static_key(1), Direction::Normal, Digest::Sha1);
        let packet = keys.seal(stamp(1), &header(), b"body");
        assert_eq!(packet[..9], header().bytes());
        assert_eq!(packet[29..37], stamp(1).bytes());
        assert_eq!(packet[37..], *b"body");
    }

    #[test]
    fn directions_have_to_be_opposite() {
        let key = static_key(1);
        let keys = |direction| Keys::new(&key, direction, Digest::Sha256);
        let packet = keys(Direction::Normal).seal(stamp(1), &header(), b"body");
        assert!(keys(Direction::Inverse).open(&packet).is_ok());
        assert_eq!(
            keys(Direction::Normal).open(&packet),
            Err(Reject::Authentication)
        );
        let packet = keys(Direction::Inverse).seal(stamp(1), &header(), b"body");
        assert_eq!(
            keys(Direction::Both).open(&packet),
            Err(Reject::Authentication)
        );
    }

    #[test]
    fn digests_have_the_names_of_openvpn() {
        assert_eq!(Digest::named("sha512"), Some(Digest::Sha512));
        assert_eq!(Digest::named("SHA1"), Some(Digest::Sha1));
        assert_eq!(Digest::named("MD5"), None);
    }
}
