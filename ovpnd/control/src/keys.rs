// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data channel keys: 256 bytes from the TLS session, and the pieces of them that the kernel is given.
//!
//! The layout is `[cipher 64][HMAC 64][cipher 64][HMAC 64]`; the first pair protects packets from the client to the
//! server, the second the other way. (tls-crypt counts its directions the other way round.) An AEAD takes the first
//! bytes of a cipher key and, as the tail of its nonces, the first 8 bytes of the HMAC key.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::prf::prf;
use crate::tls::{Tls, TlsError};

/// Bytes of key material of a TLS session.
pub const MATERIAL_LEN: usize = 256;
/// Bytes of a nonce that come with the key.
pub const NONCE_TAIL_LEN: usize = 8;
const SET_LEN: usize = 128;
const HMAC_AT: usize = 64;
const MASTER_LEN: usize = 48;
/// The exporter's label for data keys.
pub const EXPORT_LABEL: &str = "EXPORTER-OpenVPN-datakeys";

/// The side of a session that a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that sent the first reset, and TLS's client.
    Client,
    /// The one that answered it.
    Server,
}

/// A cipher of the data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// `AES-128-GCM`
    Aes128Gcm,
    /// `AES-192-GCM`
    Aes192Gcm,
    /// `AES-256-GCM`
    Aes256Gcm,
    /// `CHACHA20-POLY1305`
    ChaCha20Poly1305,
}

impl Cipher {
    /// All of them, in the order of OpenVPN's default `data-ciphers` and AES-192-GCM last.
    pub const ALL: [Self; 4] = [
        Self::Aes256Gcm,
        Self::Aes128Gcm,
        Self::ChaCha20Poly1305,
        Self::Aes192Gcm,
    ];

    /// OpenVPN's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }

    /// The cipher of this name; OpenVPN ignores the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|cipher| cipher.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of its key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The secrets of one direction. Wiped when dropped; never printed.
pub struct DirectionKey {
    /// As long as the cipher says.
    pub cipher_key: Zeroizing<Vec<u8>>,
    /// The part of the nonce that packets do not carry.
    pub nonce_tail: Zeroizing<[u8; NONCE_TAIL_LEN]>,
}

impl fmt::Debug for DirectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectionKey({} bytes)", self.cipher_key.len())
    }
}

/// The random numbers of one side of key method 2. Wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Randoms {
    /// Goes into the master secret.
    pub random1: Zeroizing<[u8; 32]>,
    /// Goes into the expansion of keys.
    pub random2: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Randoms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randoms")
    }
}

/// Key material of a TLS session, both directions. Wiped when dropped; never printed.
pub struct KeyMaterial(Zeroizing<[u8; MATERIAL_LEN]>);

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial")
    }
}

impl KeyMaterial {
    /// Takes it from TLS's exporter, as both sides do that announce `tls-ekm`.
    ///
    /// # Errors
    /// The handshake is not done.
    pub fn export<T: Tls + ?Sized>(tls: &T) -> Result<Self, TlsError> {
        let mut material = Zeroizing::new([0; MATERIAL_LEN]);
        tls.export(EXPORT_LABEL, material.as_mut_slice())?;
        Ok(Self(material))
    }

    /// Derives it from the secrets of key method 2, as OpenVPN up to 2.5 does. `client_sid` and `server_sid` are
    /// the session ids of the control channel.
    pub fn derive(
        pre_master: &[u8; 48],
        client: &Randoms,
        server: &Randoms,
        client_sid: &[u8; 8],
        server_sid: &[u8; 8],
    ) -> Self {
        let mut master = Zeroizing::new([0; MASTER_LEN]);
        prf(
            pre_master,
            b"OpenVPN master secret",
            &[client.random1.as_slice(), server.random1.as_slice()],
            master.as_mut_slice(),
        );
        let mut material = Zeroizing::new([0; MATERIAL_LEN]);
        prf(
            master.as_slice(),
            b"OpenVPN key expansion",
            &[
                client.random2.as_slice(),
                server.random2.as_slice(),
                client_sid,
                server_sid,
            ],
            material.as_mut_slice(),
        );
        Self(material)
    }

    /// Takes 256 bytes as they are, and wipes the caller's copy.
    pub fn from_bytes(bytes: &mut [u8; MATERIAL_LEN]) -> Self {
        let material = Zeroizing::new(*bytes);
        bytes.zeroize();
        Self(material)
    }

    /// The keys to (encrypt, decrypt) with in `role`.
    pub fn directions(&self, role: Role, cipher: Cipher) -> (DirectionKey, DirectionKey) {
        let (send, receive) = match role {
            Role::Client => (0, SET_LEN),
            Role::Server => (SET_LEN, 0),
        };
        (self.set(send, cipher), self.set(receive, cipher))
    }

    fn set(&self, at: usize, cipher: Cipher) -> DirectionKey {
        let mut nonce_tail = Zeroizing::new([0; NONCE_TAIL_LEN]);
        for (to, from) in nonce_tail.iter_mut().zip(self.0.iter().skip(at + HMAC_AT)) {
            *to = *from;
        }
        // `take` knows its length: the vector is allocated once, and no copy stays behind.
        let cipher_key = self.0.iter().skip(at).take(cipher.key_len()).copied();
        DirectionKey {
            cipher_key: Zeroizing::new(cipher_key.collect()),
            nonce_tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> KeyMaterial {
        let mut bytes = [0; MATERIAL_LEN];
        for (byte, value) in bytes.iter_mut().zip(0..=u8::MAX) {
            *byte = value;
        }
        KeyMaterial::from_bytes(&mut bytes)
    }

    #[test]
    fn each_role_takes_its_half() {
        for cipher in Cipher::ALL {
            let len = cipher.key_len();
            let ascending = |from: u8| (from..).take(len).collect::<Vec<u8>>();
            let (encrypt, decrypt) = counting().directions(Role::Client, cipher);
            assert_eq!(*encrypt.cipher_key, ascending(0));
            assert_eq!(*encrypt.nonce_tail, [64, 65, 66, 67, 68, 69, 70, 71]);
            assert_eq!(*decrypt.cipher_key, ascending(128));
            assert_eq!(
                *decrypt.nonce_tail,
                [192, 193, 194, 195, 196, 197, 198, 199]
            );
            let (server_encrypt, server_decrypt) = counting().directions(Role::Server, cipher);
            assert_eq!(*server_encrypt.cipher_key, *decrypt.cipher_key);
            assert_eq!(*server_encrypt.nonce_tail, *decrypt.nonce_tail);
            assert_eq!(*server_decrypt.cipher_key, *encrypt.cipher_key);
            assert_eq!(*server_decrypt.nonce_tail, *encrypt.nonce_tail);
        }
    }

    #[test]
    fn key_lengths_follow_the_cipher() {
        let lens = Cipher::ALL.map(|cipher| (cipher.name(), cipher.key_len()));
        let expected = [
            ("AES-256-GCM", 32),
            ("AES-128-GCM", 16),
            ("CHACHA20-POLY1305", 32),
            ("AES-192-GCM", 24),
        ];
        assert_eq!(lens, expected);
        assert_eq!(Cipher::from_name("aes-128-gcm"), Some(Cipher::Aes128Gcm));
        assert_eq!(Cipher::from_name("AES-128-CBC"), None);
    }

    #[test]
    fn every_input_of_the_derivation_counts_and_has_its_place() {
        let randoms = |a, b| Randoms {
            random1: Zeroizing::new([a; 32]),
            random2: Zeroizing::new([b; 32]),
        };
        let derive = |secret: u8, c: (u8, u8), s: (u8, u8), sids: (u8, u8)| {
            let (client, server) = (randoms(c.0, c.1), randoms(s.0, s.1));
            KeyMaterial::derive(&[secret; 48], &client, &server, &[sids.0; 8], &[sids.1; 8])
                .0
                .to_vec()
        };
        let keys = derive(1, (2, 3), (4, 5), (6, 7));
        for other in [
            derive(0, (2, 3), (4, 5), (6, 7)),
            derive(1, (0, 3), (4, 5), (6, 7)),
            derive(1, (2, 0), (4, 5), (6, 7)),
            derive(1, (2, 3), (0, 5), (6, 7)),
            derive(1, (2, 3), (4, 0), (6, 7)),
            derive(1, (2, 3), (4, 5), (0, 7)),
            derive(1, (2, 3), (4, 5), (6, 0)),
            // Swapped sides.
            derive(1, (4, 5), (2, 3), (7, 6)),
        ] {
            assert_ne!(keys, other);
        }
        // By the steps that OpenVPN's ssl.c describes.
        let mut master = [0; 48];
        let seed = [&[2; 32][..], &[4; 32]];
        prf(&[1; 48], b"OpenVPN master secret", &seed, &mut master);
        let mut expected = [0; 256];
        let seed = [&[3; 32][..], &[5; 32], &[6; 8], &[7; 8]];
        prf(&master, b"OpenVPN key expansion", &seed, &mut expected);
        assert_eq!(keys, expected);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let (encrypt, _) = counting().directions(Role::Client, Cipher::Aes256Gcm);
        let text = format!("{encrypt:?} {:?} {:?}", counting(), Randoms::default());
        assert_eq!(text, "DirectionKey(32 bytes) KeyMaterial Randoms");
    }
}
