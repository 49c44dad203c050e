// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protection of control packets: none, tls-auth or tls-crypt, the latter also with keys of tls-crypt-v2 or of a
//! session ("dynamic").
//!
//! [`Keys`] protect without a memory, as a server does for clients that it does not know. [`Wrap`] adds the counter
//! and the window against replays.

use std::time::Instant;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::packet::{Header, Malformed};
use crate::replay::{Counter, Stamp, Window};

pub mod auth;
pub mod crypt;
pub mod dynamic;
pub mod none;
pub mod text;
pub mod v2;

/// Bytes of a static key: two sets of [cipher key 64][HMAC key 64].
pub const STATIC_KEY_LEN: usize = 256;
const PART: usize = 64;

/// The four parts of OpenVPN's static key, wiped when dropped and never printed.
#[derive(Clone)]
pub struct StaticKey(Zeroizing<[u8; STATIC_KEY_LEN]>);

impl std::fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StaticKey")
    }
}

impl StaticKey {
    /// Takes the key's bytes.
    pub fn new(bytes: &[u8; STATIC_KEY_LEN]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; STATIC_KEY_LEN] {
        &self.0
    }

    /// The HMAC key of set 0 or 1.
    fn hmac(&self, set: Set) -> Part {
        self.part(2 * usize::from(set == Set::One) + 1)
    }

    /// The cipher key of set 0 or 1.
    fn cipher(&self, set: Set) -> Part {
        self.part(2 * usize::from(set == Set::One))
    }

    fn part(&self, number: usize) -> Part {
        let mut part = Zeroizing::new([0; PART]);
        for (to, from) in part.iter_mut().zip(self.0.iter().skip(number * PART)) {
            *to = *from;
        }
        part
    }

    /// Both keys, byte by byte.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (to, from) in sum.0.iter_mut().zip(other.0.iter()) {
            *to ^= from;
        }
        sum
    }
}

type Part = Zeroizing<[u8; PART]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Zero,
    One,
}

/// Why a packet was dropped. Counted, never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reject {
    /// It does not follow the format.
    Malformed(&'static str),
    /// Its tag is wrong: another key, or tampered with.
    Authentication,
    /// It came before, or is too old.
    Replay,
    /// It belongs to another session, or to a negotiation that is not there.
    Stranger,
    /// Its message is beyond the receive window.
    Beyond,
    /// A limit of the server was reached.
    Limit,
}

impl From<Malformed> for Reject {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why.0)
    }
}

/// Keys of a wrap, for both directions.
#[derive(Debug, Clone)]
pub enum Keys {
    /// No protection.
    None,
    /// tls-auth.
    Auth(auth::Keys),
    /// tls-crypt.
    Crypt(crypt::Keys),
}

/// A packet without its wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The header.
    pub header: Header,
    /// Number and start time; `None` without a wrap.
    pub stamp: Option<Stamp>,
    /// The body, to be read by [`crate::packet::Body::parse`].
    pub body: Vec<u8>,
}

impl Keys {
    /// Bytes that the wrap adds to a packet.
    pub fn overhead(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Auth(keys) => keys.overhead(),
            Self::Crypt(_) => crypt::OVERHEAD,
        }
    }

    /// Whether packets carry a stamp.
    pub fn has_stamps(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Wraps a body.
    pub fn seal(&self, stamp: Stamp, header: &Header, body: &[u8]) -> Vec<u8> {
        match self {
            Self::None => none::seal(header, body),
            Self::Auth(keys) => keys.seal(stamp, header, body),
            Self::Crypt(keys) => keys.seal(stamp, header, body),
        }
    }

    /// Checks a packet and takes its wrap off. A wrapped client key has to be cut off before.
    ///
    /// # Errors
    /// The packet is malformed or its tag is wrong.
    pub fn open(&self, packet: &[u8]) -> Result<Opened, Reject> {
        match self {
            Self::None => none::open(packet),
            Self::Auth(keys) => keys.open(packet),
            Self::Crypt(keys) => keys.open(packet),
        }
    }
}

/// Keys with the counter and the window of one session.
#[derive(Debug)]
pub struct Wrap {
    keys: Keys,
    counter: Counter,
    window: Window,
}

impl Wrap {
    /// Starts behind stamp id `last`; `unix` is the time in seconds since 1970.
    pub fn new(keys: Keys, last: u32, unix: u64) -> Self {
        Self {
            keys,
            counter: Counter::new(last, unix),
            window: Window::default(),
        }
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Wraps a body under the next stamp.
    pub fn seal(&mut self, header: &Header, body: &[u8], unix: u64) -> Vec<u8> {
        let stamp = self.counter.next(unix);
        self.keys.seal(stamp, header, body)
    }

    /// Checks a packet, takes its wrap off and its stamp into the window.
    ///
    /// # Errors
    /// The packet is malformed, its tag is wrong, or it is a replay.
    pub fn open(&mut self, packet: &[u8], now: Instant) -> Result<Opened, Reject> {
        let opened = self.keys.open(packet)?;
        self.admit(&opened, now)?;
        Ok(opened)
    }

    /// Takes the stamp of a packet that was opened by the keys alone into the window.
    ///
    /// # Errors
    /// It is a replay.
    pub fn admit(&mut self, opened: &Opened, now: Instant) -> Result<(), Reject> {
        match opened.stamp {
            Some(stamp) if !self.window.accept(stamp, now) => Err(Reject::Replay),
            _ => Ok(()),
        }
    }
}

/// Compares tags in constant time.
fn tags_match(a: &[u8], b: &[u8]) -> Result<(), Reject> {
    match bool::from(a.ct_eq(b)) {
        true => Ok(()),
        false => Err(Reject::Authentication),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keys::Role;
    use crate::packet::{KeyId, Opcode, SessionId};
    use crate::replay::ReplayId;
    use proptest::prelude::*;

    pub(crate) fn static_key(seed: u8) -> StaticKey {
        let mut bytes = [0; STATIC_KEY_LEN];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seed ^ (at as u8).wrapping_mul(37);
        }
        StaticKey::new(&bytes)
    }

    pub(crate) fn header() -> Header {
        Header {
            opcode: Opcode::ControlV1,
            key_id: KeyId::FIRST,
            sid: SessionId::new([9; 8]).unwrap(),
        }
    }

    pub(crate) fn stamp(id: u32) -> Stamp {
        Stamp {
            id: ReplayId(id),
            time: 1_700_000_000,
        }
    }

    fn pairs() -> Vec<(Keys, Keys)> {
        use auth::{Digest, Direction};
        let key = static_key(1);
        let mut pairs = vec![
            (Keys::None, Keys::None),
            (
                Keys::Crypt(crypt::Keys::new(&key, Role::Client)),
                Keys::Crypt(crypt::Keys::new(&key, Role::Server)),
            ),
        ];
        for digest in [Digest::Sha1, Digest::Sha256, Digest::Sha384, Digest::Sha512] {
            for (a, b) in [
                (Direction::Both, Direction::Both),
                (Direction::Normal, Direction::Inverse),
                (Direction::Inverse, Direction::Normal),
            ] {
                pairs.push((
                    Keys::Auth(auth::Keys::new(&key, a, digest)),
                    Keys::Auth(auth::Keys::new(&key, b, digest)),
                ));
            }
        }
        pairs
    }

    #[test]
    fn the_other_side_opens_a_packet_and_finds_its_overhead() {
        for (a, b) in pairs() {
            for body in [&b""[..], b"x", &[7; 1200]] {
                let packet = a.seal(stamp(3), &header(), body);
                assert_eq!(packet.len(), 9 + a.overhead() + body.len());
                let opened = b.open(&packet).unwrap();
                assert_eq!(opened.header, header());
                assert_eq!(opened.body, body);
                assert_eq!(opened.stamp, a.has_stamps().then(|| stamp(3)));
            }
        }
    }

    #[test]
    fn any_changed_or_missing_byte_is_refused() {
        for (a, b) in pairs().into_iter().filter(|(a, _)| a.has_stamps()) {
            let packet = a.seal(stamp(3), &header(), b"payload");
            for at in 0..packet.len() {
                let mut bad = packet.clone();
                bad[at] ^= 0x40;
                assert!(b.open(&bad).is_err(), "{a:?}: byte {at}");
                assert!(b.open(&packet[..at]).is_err(), "{a:?}: cut at {at}");
            }
            let mut longer = packet.clone();
            longer.push(0);
            assert_eq!(b.open(&longer), Err(Reject::Authentication));
        }
    }

    #[test]
    fn another_key_or_the_same_role_is_refused() {
        let mine = crypt::Keys::new(&static_key(1), Role::Client);
        let packet = mine.seal(stamp(3), &header(), b"payload");
        assert_eq!(mine.open(&packet), Err(Reject::Authentication));
        let other = crypt::Keys::new(&static_key(2), Role::Server);
        assert_eq!(other.open(&packet), Err(Reject::Authentication));
    }

    #[test]
    fn a_wrap_refuses_what_came_before_and_takes_nothing_unauthenticated_into_its_window() {
        let now = Instant::now();
        let (a, b) = pairs().remove(1);
        let (mut a, mut b) = (Wrap::new(a, 0, 5), Wrap::new(b, 0, 5));
        let first = a.seal(&header(), b"1", 5);
        let second = a.seal(&header(), b"2", 5);
        let mut forged = second.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(b.open(&forged, now), Err(Reject::Authentication));
        assert_eq!(b.open(&second, now).unwrap().body, b"2");
        assert_eq!(b.open(&first, now).unwrap().body, b"1");
        assert_eq!(b.open(&first, now), Err(Reject::Replay));
        assert_eq!(b.open(&second, now), Err(Reject::Replay));
    }

    #[test]
    fn keys_are_added_byte_by_byte_and_never_printed() {
        let sum = static_key(1).xor(&static_key(3));
        assert_eq!(sum.bytes(), &[2; STATIC_KEY_LEN]);
        assert_eq!(format!("{sum:?}"), "StaticKey");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_wrap_panic(packet in proptest::collection::vec(any::<u8>(), 0..120)) {
            for (a, _) in pairs() {
                let _ = a.open(&packet);
            }
        }
    }
}
