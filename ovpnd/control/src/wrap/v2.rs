// SPDX-License-Identifier: MIT OR Apache-2.0
//! tls-crypt-v2: each client has a tls-crypt key of its own, and brings it, wrapped by a key of the server.
//!
//! A wrapped key (WKc) is tag (32), AES-256-CTR of client key (256) and metadata, length of all of it (2). Source:
//! OpenVPN's `doc/tls-crypt-v2.txt`.

use zeroize::Zeroizing;

use super::crypt::{Half, TAG_LEN};
use super::{PART, Reject, STATIC_KEY_LEN, StaticKey, tags_match};
use crate::packet::Malformed;

/// Bytes of the server's key.
pub const SERVER_KEY_LEN: usize = 128;
/// Bytes of the shortest wrapped key, which has no metadata.
pub const MIN_WRAPPED: usize = TAG_LEN + STATIC_KEY_LEN + LENGTH_LEN;
/// Bytes of the longest wrapped key.
pub const MAX_WRAPPED: usize = 1024;
const LENGTH_LEN: usize = 2;

/// A wrapped key in clear text of its length, as the client holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// Takes a wrapped key, whose last 2 bytes have to be its length.
    ///
    /// # Errors
    /// The length is another one, or out of bounds.
    pub fn new(bytes: &[u8]) -> Result<Self, Malformed> {
        let (rest, key) = split(bytes)?;
        match rest.is_empty() {
            true => Ok(key),
            false => Err(Malformed("wrapped key of another length")),
        }
    }

    /// The bytes that follow an opcode 10 or 11.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Cuts a packet of opcode 10 or 11 into the packet proper and the wrapped key at its end.
///
/// # Errors
/// The length in its last 2 bytes is longer than the packet, or out of bounds.
pub fn split(packet: &[u8]) -> Result<(&[u8], WrappedKey), Malformed> {
    let short = Malformed("wrapped key longer than its packet");
    let (_, len) = packet.split_last_chunk::<LENGTH_LEN>().ok_or(short)?;
    let len = usize::from(u16::from_be_bytes(*len));
    if !(MIN_WRAPPED..=MAX_WRAPPED).contains(&len) {
        return Err(Malformed("wrapped key of an impossible length"));
    }
    let at = packet.len().checked_sub(len).ok_or(short)?;
    let (packet, key) = packet.split_at_checked(at).ok_or(short)?;
    Ok((packet, WrappedKey(key.to_vec())))
}

/// The client's half: its key, in clear and wrapped.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// The key that packets are wrapped with.
    pub key: StaticKey,
    /// The key that goes to the server.
    pub wrapped: WrappedKey,
}

impl ClientKey {
    /// Takes the content of a client key file, decoded: key (256) and wrapped key.
    ///
    /// # Errors
    /// It is too short, or the wrapped key has another length than it says.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (key, wrapped) = bytes
            .split_first_chunk()
            .ok_or(Malformed("shorter than a client key"))?;
        Ok(Self {
            key: StaticKey::new(key),
            wrapped: WrappedKey::new(wrapped)?,
        })
    }
}

/// The server's key, which opens wrapped keys.
#[derive(Clone)]
pub struct ServerKey(Half);

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("v2::ServerKey")
    }
}

/// A client's key and what its maker noted about it (first byte: 0 text, 1 time of making; at most 734 bytes).
#[derive(Debug, Clone)]
pub struct Unwrapped {
    /// The key that packets are wrapped with.
    pub key: StaticKey,
    /// The note; empty without one.
    pub metadata: Vec<u8>,
}

impl ServerKey {
    /// Takes the content of a server key file, decoded.
    pub fn new(bytes: &[u8; SERVER_KEY_LEN]) -> Self {
        let part = |at: usize| {
            let mut part = Zeroizing::new([0; PART]);
            for (to, from) in part.iter_mut().zip(bytes.iter().skip(at)) {
                *to = *from;
            }
            part
        };
        Self(Half::new(&part(0), &part(PART)))
    }

    /// Opens a wrapped key.
    ///
    /// # Errors
    /// It was wrapped by another key, or tampered with.
    pub fn unwrap(&self, wrapped: &WrappedKey) -> Result<Unwrapped, Reject> {
        let short = Malformed("shorter than a wrapped key");
        let (rest, len) = wrapped.0.split_last_chunk::<LENGTH_LEN>().ok_or(short)?;
        let (tag, text) = rest.split_first_chunk::<TAG_LEN>().ok_or(short)?;
        let mut clear = Zeroizing::new(text.to_vec());
        self.0.apply(tag, &mut clear);
        tags_match(tag, &self.0.tag(&[len, &clear]))?;
        let (key, metadata) = clear.split_first_chunk().ok_or(short)?;
        Ok(Unwrapped {
            key: StaticKey::new(key),
            metadata: metadata.to_vec(),
        })
    }

    /// Wraps a client's key with a note of at most 734 bytes, as `openvpn --genkey tls-crypt-v2-client` does.
    ///
    /// # Errors
    /// The note is too long.
    pub fn wrap(&self, key: &StaticKey, metadata: &[u8]) -> Result<WrappedKey, Malformed> {
        let long = Malformed("metadata over 734 bytes");
        let len = MIN_WRAPPED.checked_add(metadata.len()).ok_or(long)?;
        let len = u16::try_from(len)
            .ok()
            .filter(|len| usize::from(*len) <= MAX_WRAPPED)
            .ok_or(long)?
            .to_be_bytes();
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_WRAPPED));
        text.extend_from_slice(key.bytes());
        text.extend_from_slice(metadata);
        let tag = self.0.tag(&[&len, &text]);
        self.0.apply(&tag, &mut text);
        Ok(WrappedKey([&tag, &text[..], &len].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::static_key;
    use super::*;
    use proptest::prelude::*;

    fn server(seed: u8) -> ServerKey {
        ServerKey::new(&std::array::from_fn(|at| seed ^ at as u8))
    }

    #[test]
    fn a_wrapped_key_comes_back_with_its_note() {
        for note in [&b""[..], b"\0client 7", &[1; 734]] {
            let wrapped = server(1).wrap(&static_key(5), note).unwrap();
            assert_eq!(wrapped.bytes().len(), MIN_WRAPPED + note.len());
            let open = server(1).unwrap(&wrapped).unwrap();
            assert_eq!(open.key.bytes(), static_key(5).bytes());
            assert_eq!(open.metadata, note);
            assert_eq!(
                server(2).unwrap(&wrapped).unwrap_err(),
                Reject::Authentication
            );
        }
        assert!(server(1).wrap(&static_key(5), &[1; 735]).is_err());
    }

    #[test]
    fn every_byte_of_a_wrapped_key_counts() {
        let wrapped = server(1).wrap(&static_key(5), b"\0note").unwrap();
        for at in 0..wrapped.0.len() {
            let mut bad = wrapped.clone();
            bad.0[at] ^= 1;
            assert!(server(1).unwrap(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn both_edges_of_the_length() {
        let with_length = |total: usize, len: u16| {
            let mut packet = vec![1; total - 2];
            packet.extend(len.to_be_bytes());
            packet
        };
        assert!(split(&[]).is_err() && split(&[1]).is_err());
        assert!(split(&with_length(400, 289)).is_err());
        assert_eq!(split(&with_length(400, 290)).unwrap().0.len(), 110);
        assert_eq!(split(&with_length(290, 290)).unwrap().0.len(), 0);
        assert!(split(&with_length(289, 290)).is_err());
        assert_eq!(split(&with_length(1100, 1024)).unwrap().0.len(), 76);
        assert!(split(&with_length(1100, 1025)).is_err());
        assert!(WrappedKey::new(&with_length(300, 299)).is_err());
        assert!(WrappedKey::new(&with_length(300, 300)).is_ok());
    }

    #[test]
    fn a_client_key_is_the_key_and_its_wrapped_form() {
        let wrapped = server(1).wrap(&static_key(5), b"").unwrap();
        let file = [static_key(5).bytes(), wrapped.bytes()].concat();
        let client = ClientKey::parse(&file).unwrap();
        assert_eq!(client.key.bytes(), static_key(5).bytes());
        assert_eq!(client.wrapped, wrapped);
        assert!(ClientKey::parse(&file[..255]).is_err());
        assert!(ClientKey::parse(&file[..500]).is_err());
    }

    proptest! {
        #[test]
        fn no_packet_makes_the_split_panic(packet in proptest::collection::vec(any::<u8>(), 0..1200)) {
            if let Ok((rest, key)) = split(&packet) {
                prop_assert_eq!(rest.len() + key.bytes().len(), packet.len());
                prop_assert!(server(1).unwrap(&key).is_err());
            }
        }
    }
}
