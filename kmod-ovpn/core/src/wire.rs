// SPDX-License-Identifier: GPL-2.0
//! OpenVPN data packets, version 2, and what else arrives on the same UDP port.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------+-----+-----------------------------------------------+
//! | opcode  | key |                    peer id                    |
//! +---------+-----+-----------------------------------------------+
//! |                           packet id                           |
//! +---------------------------------------------------------------+
//! |                     AEAD tag, 16 bytes                        |
//! +---------------------------------------------------------------+
//! |                     ciphertext, 0 or more                     |
//! ```
//!
//! All fields are big-endian. The first 8 bytes are the AEAD's additional data. Without cipher
//! and authentication the payload follows these 8 bytes, as it is.
//! Source: OpenVPN, `doc/doxygen/doc_protocol_overview.h` and `src/openvpn/crypto.c`.

use core::num::NonZeroU32;

use super::counters::DropReason;

/// Bytes of opcode, key id, peer id and packet id; these are the AEAD's additional data.
pub const HEADER_LEN: usize = 8;

/// Bytes of the AEAD tag, which stands before the ciphertext.
pub const TAG_LEN: usize = 16;

/// Bytes an AEAD's data packet adds to its payload, and the shortest valid length of one.
pub const OVERHEAD: usize = 24;

/// Bytes that must be there before opcode, key id and peer id can be read.
pub const OPCODE_LEN: usize = 4;

/// Payload of a keepalive ("ping"). Source: OpenVPN, `src/openvpn/ping.c`.
pub const KEEPALIVE: [u8; 16] = [
    0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48,
];

const DATA_V1: u32 = 6;
/// Opcode of a data packet, version 2: the first 5 bits.
pub const DATA_V2: u32 = 9;

/// Peer id, 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(u32);

impl PeerId {
    /// On the wire: the sender was given no peer id, its address identifies it.
    pub const UNDEF: PeerId = PeerId(0xFF_FFFF);

    /// `None` above 24 bits.
    #[inline]
    pub const fn new(id: u32) -> Option<PeerId> {
        if id <= Self::UNDEF.0 {
            Some(PeerId(id))
        } else {
            None
        }
    }

    /// The number, at most 0xFFFFFF.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether the packet must be matched by its source address instead.
    #[inline]
    pub const fn is_undef(self) -> bool {
        self.0 == Self::UNDEF.0
    }
}

/// Key id, 3 bits: which of the peer's keys sealed the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(u8);

impl KeyId {
    /// `None` above 7.
    #[inline]
    pub const fn new(id: u32) -> Option<KeyId> {
        if id <= 7 {
            Some(KeyId(id as u8))
        } else {
            None
        }
    }

    /// The number, at most 7.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The id of the key that follows: 0 is a session's first, then come 1 to 7, round and round.
    /// Source: OpenVPN, `src/openvpn/ssl.c`, `key_state_init`.
    #[inline]
    pub const fn successor(self) -> KeyId {
        match self.0 {
            7 => KeyId(1),
            id => KeyId(id.wrapping_add(1)),
        }
    }

    /// That of a data packet, of which `head` is the beginning; `None` if it is too short.
    #[inline]
    pub fn of(head: &[u8]) -> Option<KeyId> {
        let word = u32::from_be_bytes(*head.first_chunk::<OPCODE_LEN>()?);
        Some(key_id(word))
    }
}

/// Packet id: 1 to 0xFFFFFFFF, never used twice with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketId(NonZeroU32);

impl PacketId {
    /// The first id a key sends.
    pub const FIRST: PacketId = PacketId(NonZeroU32::MIN);

    /// `None` for 0.
    #[inline]
    pub const fn new(id: u32) -> Option<PacketId> {
        match NonZeroU32::new(id) {
            Some(id) => Some(PacketId(id)),
            None => None,
        }
    }

    /// The number, at least 1.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// First 8 bytes of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which key sealed the packet.
    pub key_id: KeyId,
    /// The receiver's name for the sender.
    pub peer_id: PeerId,
    /// Sequence number and part of the nonce.
    pub packet_id: PacketId,
}

impl Header {
    /// Reads the header of a data packet `len` bytes long, of which `head` is the beginning, and
    /// of which `overhead` bytes are not payload.
    ///
    /// # Errors
    /// [`DropReason::Runt`] if `len` is under `overhead`, or `head` does not hold a DATA_V2
    /// header; [`DropReason::Replay`] for packet id 0, which no sender uses.
    #[inline]
    pub fn parse(head: &[u8], len: usize, overhead: usize) -> Result<Header, DropReason> {
        let Some((&[a, b, c, d, rest @ ..], _)) = head.split_first_chunk::<HEADER_LEN>() else {
            return Err(DropReason::Runt);
        };
        let word = u32::from_be_bytes([a, b, c, d]);
        if len < overhead || opcode(word) != DATA_V2 {
            return Err(DropReason::Runt);
        }
        let packet_id = PacketId::new(u32::from_be_bytes(rest)).ok_or(DropReason::Replay)?;
        Ok(Header {
            key_id: key_id(word),
            peer_id: peer_id(word),
            packet_id,
        })
    }

    /// The bytes on the wire, which are the additional data of the AEAD too.
    #[inline]
    pub const fn emit(self) -> [u8; HEADER_LEN] {
        let word = DATA_V2 << 27 | (self.key_id.0 as u32) << 24 | self.peer_id.0;
        let [a, b, c, d] = word.to_be_bytes();
        let [e, f, g, h] = self.packet_id.get().to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Verdict on a packet from the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counted and thrown away.
    Drop(DropReason),
    /// A data packet: the driver's. Its length past the first 4 bytes is not checked yet.
    Data(PeerId, KeyId),
    /// Anything else: left to the process that owns the socket.
    Userspace,
}

/// Sorts a packet `len` bytes long, of which `head` is the beginning (4 bytes are enough).
#[inline]
pub fn classify(head: &[u8], len: usize) -> Verdict {
    let Some(&first) = head.first_chunk::<OPCODE_LEN>() else {
        return Verdict::Drop(DropReason::Short);
    };
    if len < OPCODE_LEN {
        return Verdict::Drop(DropReason::Short);
    }
    let word = u32::from_be_bytes(first);
    match opcode(word) {
        DATA_V2 => Verdict::Data(peer_id(word), key_id(word)),
        DATA_V1 => Verdict::Drop(DropReason::DataV1),
        _ => Verdict::Userspace,
    }
}

/// Whether a decrypted payload is a keepalive.
#[inline]
pub fn is_keepalive(payload: &[u8]) -> bool {
    payload == KEEPALIVE
}

/// Protocol of the packet inside the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerProtocol {
    /// IPv4, with room for a header of 20 bytes.
    V4,
    /// IPv6, with room for a header of 40 bytes.
    V6,
}

/// Protocol of a payload `len` bytes long, of which `head` is the beginning (1 byte is enough).
///
/// `None` if it is neither IPv4 nor IPv6, or shorter than the protocol's fixed header.
#[inline]
pub fn inner_protocol(head: &[u8], len: usize) -> Option<InnerProtocol> {
    match head.first()? >> 4 {
        4 if len >= 20 => Some(InnerProtocol::V4),
        6 if len >= 40 => Some(InnerProtocol::V6),
        _ => None,
    }
}

/// An IPv4 address in the form in which addresses of both families are compared: mapped into
/// IPv6 (RFC 4291, 2.5.5.2).
#[inline]
pub const fn map_ipv4(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Source address of the packet inside the tunnel, IPv4 mapped into IPv6.
///
/// `None` if it is neither IPv4 nor IPv6, or shorter than the protocol's fixed header.
#[inline]
pub fn inner_source(packet: &[u8]) -> Option<[u8; 16]> {
    match inner_protocol(packet, packet.len())? {
        InnerProtocol::V4 => packet.get(12..)?.first_chunk().copied().map(map_ipv4),
        InnerProtocol::V6 => packet.get(8..)?.first_chunk().copied(),
    }
}

/// Destination address of the packet inside the tunnel, IPv4 mapped into IPv6.
///
/// `None` as for [`inner_source`].
pub fn inner_destination(packet: &[u8]) -> Option<[u8; 16]> {
    match inner_protocol(packet, packet.len())? {
        InnerProtocol::V4 => packet.get(16..)?.first_chunk().copied().map(map_ipv4),
        InnerProtocol::V6 => packet.get(24..)?.first_chunk().copied(),
    }
}

/// Whether the packet inside the tunnel comes from an address that means something on one link alone (RFC 4291, 2.5.6;
/// RFC 3927), or from none yet.
pub fn is_from_link(packet: &[u8]) -> bool {
    match inner_source(packet) {
        Some([0xfe, b, ..]) => b & 0xc0 == 0x80,
        Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4 @ ..]) => {
            matches!(v4, [169, 254, ..] | [0, 0, 0, 0])
        }
        Some(other) => other == [0; 16],
        None => false,
    }
}

#[inline]
const fn opcode(word: u32) -> u32 {
    word >> 27
}

#[inline]
const fn key_id(word: u32) -> KeyId {
    KeyId((word >> 24) as u8 & 7)
}

#[inline]
const fn peer_id(word: u32) -> PeerId {
    PeerId(word & PeerId::UNDEF.0)
}
