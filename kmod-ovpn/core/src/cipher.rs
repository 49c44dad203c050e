// SPDX-License-Identifier: GPL-2.0
//! The ciphers: numbers, key lengths, what they add to a packet, and how much one key may seal.

use super::wire::{PacketId, HEADER_LEN, OVERHEAD};

/// Cipher of a key (`enum ovpn_cipher_alg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CipherAlg {
    /// No cipher and no authentication, for laboratories: OpenVPN's `--cipher none --auth none`.
    None = 0,
    /// AES-GCM with a key of 128, 192 or 256 bits.
    AesGcm = 1,
    /// ChaCha20-Poly1305, RFC 8439.
    ChaCha20Poly1305 = 2,
}

/// Longest key of any cipher, bytes.
pub const MAX_KEY_LEN: usize = 32;

impl CipherAlg {
    /// `None` above 2.
    #[inline]
    pub const fn new(alg: u32) -> Option<CipherAlg> {
        match alg {
            0 => Some(CipherAlg::None),
            1 => Some(CipherAlg::AesGcm),
            2 => Some(CipherAlg::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Whether a key of `len` bytes fits the cipher.
    #[inline]
    pub const fn takes_key_len(self, len: usize) -> bool {
        match self {
            CipherAlg::None => len == 0,
            CipherAlg::AesGcm => matches!(len, 16 | 24 | 32),
            CipherAlg::ChaCha20Poly1305 => len == 32,
        }
    }

    /// Bytes that the cipher's packets have in front of the payload: without a tag if there is
    /// none.
    #[inline]
    pub const fn overhead(self) -> usize {
        match self {
            CipherAlg::None => HEADER_LEN,
            CipherAlg::AesGcm | CipherAlg::ChaCha20Poly1305 => OVERHEAD,
        }
    }

    /// Packet id at which userspace should be asked for a new key, if no payload is above
    /// `max_payload` bytes.
    ///
    /// AES-GCM: messages plus 16-byte blocks under one key stay at or below 7/8 of 2^36, which
    /// keeps an attacker's advantage below 2^-57 (draft-irtf-cfrg-aead-limits, section 5.1;
    /// OpenVPN, `src/openvpn/crypto.c`, uses the same bound and the same margin). The driver
    /// counts no blocks: it takes every packet for one of `max_payload` bytes, so the mark comes
    /// early rather than late. ChaCha20-Poly1305 has no such bound; there the mark is where
    /// OpenVPN starts over, 2^24 packets before the ids end.
    pub const fn rekey_mark(self, max_payload: u32) -> PacketId {
        let mark = match self {
            CipherAlg::AesGcm => {
                let blocks = max_payload.div_ceil(16);
                // The message counts as one block more. 7/8 of 2^36 is 14 times 2^32.
                let per_packet = blocks.saturating_add(1);
                match u32::MAX.checked_div(per_packet) {
                    Some(n) => n.saturating_mul(14),
                    None => WRAP_MARK,
                }
            }
            CipherAlg::None | CipherAlg::ChaCha20Poly1305 => WRAP_MARK,
        };
        match PacketId::new(if mark < WRAP_MARK { mark } else { WRAP_MARK }) {
            Some(id) => id,
            None => PacketId::FIRST,
        }
    }
}

/// OpenVPN, `src/openvpn/packet_id.h`: `PACKET_ID_WRAP_TRIGGER`.
const WRAP_MARK: u32 = 0xFF00_0000;
