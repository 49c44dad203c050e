// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary of the `ovpn` family: numbers are those of `include/uapi/linux/ovpn.h` and
//! `include/uapi/linux/if_link.h`.

use std::fmt;
use std::str::FromStr;

/// A number outside of what the kernel takes, or a word it has no meaning for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(pub String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// Number of a peer within its interface, and the one its packets carry: 0 to 16,777,215 (24 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u32);

impl PeerId {
    /// Largest id, 2^24 - 1.
    pub const MAX: u32 = 0xFF_FFFF;

    /// Checks the range.
    pub fn new(id: u32) -> Option<Self> {
        (id <= Self::MAX).then_some(Self(id))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PeerId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| {
            ValueError(format!(
                "\"{}\" is no peer id (a number from 0 to {})",
                text.escape_debug(),
                Self::MAX
            ))
        })
    }
}

/// Number a packet names its key by: 0 to 7 (3 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyId(u8);

impl KeyId {
    /// Largest id.
    pub const MAX: u8 = 7;

    /// Checks the range.
    pub fn new(id: u8) -> Option<Self> {
        (id <= Self::MAX).then_some(Self(id))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for KeyId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| {
            ValueError(format!(
                "\"{}\" is no key id (a number from 0 to {})",
                text.escape_debug(),
                Self::MAX
            ))
        })
    }
}

/// Seconds, at most one day: the kernel's limit for both keepalive values.
pub const KEEPALIVE_MAX: u32 = 86_400;

/// When to send keepalives and when to give a peer up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Seconds without sent packets after which a keepalive is sent; 0 is never.
    pub interval: u32,
    /// Seconds without received packets after which the kernel deletes the peer; 0 is never.
    pub timeout: u32,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident as $raw:ty, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $value:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $value,)+
        }

        impl $name {
            /// The kernel's number.
            pub fn raw(self) -> $raw {
                self as $raw
            }

            /// The value of the kernel's number.
            pub fn from_raw(raw: $raw) -> Option<Self> {
                match raw {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(ValueError(format!(
                        concat!("\"{}\" is no ", $what, " ({})"), text.escape_debug(), [$($text),+].join(", ")
                    ))),
                }
            }
        }
    };
}

words! {
    /// Shape of an interface, `IFLA_OVPN_MODE`.
    Mode as u8, "mode" {
        /// One peer.
        P2p = 0 "p2p",
        /// Many peers, told apart by their VPN addresses.
        Mp = 1 "mp",
    }
}

words! {
    /// `enum ovpn_cipher_alg`. The kernel takes the AES variant from the length of the key.
    CipherAlg as u32, "cipher family" {
        /// No cipher; the kernel refuses it in a key.
        None = 0 "none",
        /// AES in GCM, 16, 24 or 32 byte keys.
        AesGcm = 1 "aes-gcm",
        /// ChaCha20-Poly1305, 32 byte keys.
        Chacha20Poly1305 = 2 "chacha20-poly1305",
    }
}

words! {
    /// A cipher with its key length, by OpenVPN's names in lower case.
    Cipher as u8, "cipher" {
        /// 16 byte key.
        Aes128Gcm = 0 "aes-128-gcm",
        /// 24 byte key.
        Aes192Gcm = 1 "aes-192-gcm",
        /// 32 byte key.
        Aes256Gcm = 2 "aes-256-gcm",
        /// 32 byte key.
        Chacha20Poly1305 = 3 "chacha20-poly1305",
    }
}

impl Cipher {
    /// Length of its key in bytes.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::Chacha20Poly1305 => 32,
        }
    }

    /// The kernel's name for it.
    pub fn alg(self) -> CipherAlg {
        match self {
            Self::Chacha20Poly1305 => CipherAlg::Chacha20Poly1305,
            _ => CipherAlg::AesGcm,
        }
    }
}

words! {
    /// Place of a key, `enum ovpn_key_slot`.
    Slot as u32, "key slot" {
        /// Encrypts, and decrypts.
        Primary = 0 "primary",
        /// Only decrypts.
        Secondary = 1 "secondary",
    }
}

words! {
    /// Why the kernel deleted a peer, `enum ovpn_del_peer_reason`.
    DelReason as u32, "reason" {
        /// The interface goes away, or the peer was replaced.
        Teardown = 0 "teardown",
        /// A program asked for it.
        Userspace = 1 "userspace",
        /// Nothing was heard for the keepalive timeout.
        Expired = 2 "expired",
        /// The TCP stream is out of step or failed.
        TransportError = 3 "transport-error",
        /// The socket was closed.
        TransportDisconnect = 4 "transport-disconnect",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stop_at_their_largest_value() {
        assert!(PeerId::new(0xFF_FFFF).is_some() && PeerId::new(0x100_0000).is_none());
        assert!(KeyId::new(7).is_some() && KeyId::new(8).is_none());
        assert!("16777216".parse::<PeerId>().is_err() && "-1".parse::<PeerId>().is_err());
    }

    #[test]
    fn words_and_numbers_belong_together() {
        for reason in (0..5).map(|raw| DelReason::from_raw(raw).unwrap()) {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        assert_eq!(DelReason::from_raw(5), None);
        let error = "tap".parse::<Mode>().unwrap_err().to_string();
        assert_eq!(error, "\"tap\" is no mode (p2p, mp)");
    }
}
