// SPDX-License-Identifier: GPL-2.0-only
//! The data channel in user space: DATA_V2 packets made and read without the driver.
//!
//! Layout (OpenVPN's doc/doxygen "data channel", read from drivers/net/ovpn/proto.h): be32 of opcode 9 (5 bits), key id
//! (3 bits), peer id (24 bits); be32 packet id; 16 bytes of tag; ciphertext. The first eight bytes are authenticated.

use std::net::IpAddr;

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInPlace, KeyInit, Nonce, Tag};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, aes::Aes192};
use chacha20poly1305::ChaCha20Poly1305;

use crate::lab::Cipher;
use crate::nl::ovpn::KeyDir;
use crate::tap::{Failure, Outcome};

/// Bytes that the data channel adds to a packet.
pub const OVERHEAD: usize = 24;
/// Opcode of a data packet with peer id.
pub const DATA_V2: u8 = 9;
/// Opcode of a data packet without peer id, refused by the driver.
pub const DATA_V1: u8 = 6;
/// Peer id of senders that do not know theirs: the receiver goes by the source address.
pub const PEER_ID_UNDEF: u32 = 0xff_ffff;
/// The keepalive message of OpenVPN (src/openvpn/ping.c).
pub const KEEPALIVE: [u8; 16] = [
    0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48,
];

/// The clear part of a data packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 5 bits.
    pub opcode: u8,
    /// 3 bits.
    pub key_id: u8,
    /// 24 bits.
    pub peer_id: u32,
    /// Counts from 1.
    pub packet_id: u32,
}

impl Header {
    fn bytes(self) -> [u8; 8] {
        let first = u32::from(self.opcode) << 27
            | u32::from(self.key_id & 7) << 24
            | self.peer_id & 0xff_ffff;
        let ([a, b, c, d], [e, f, g, h]) = (first.to_be_bytes(), self.packet_id.to_be_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// Reads the first eight bytes.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = *packet.first_chunk::<8>()?;
        Some(Self {
            opcode: a >> 3,
            key_id: a & 7,
            peer_id: u32::from_be_bytes([0, b, c, d]),
            packet_id: u32::from_be_bytes([e, f, g, h]),
        })
    }
}

fn nonce(header: &[u8; 8], tail: [u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (id, rest) = nonce.split_at_mut(4);
    id.copy_from_slice(header.last_chunk::<4>().unwrap_or(&[0; 4]));
    rest.copy_from_slice(&tail);
    nonce
}

fn with<A: KeyInit + AeadInPlace, T>(
    key: &[u8],
    run: impl FnOnce(A) -> Result<T, aes_gcm::Error>,
) -> Outcome<T> {
    let aead = A::new_from_slice(key).map_err(Failure::new)?;
    run(aead).map_err(|_| Failure::new("the tag does not authenticate the packet"))
}

fn seal_with<A: KeyInit + AeadInPlace>(
    key: &[u8],
    nonce: [u8; 12],
    aad: &[u8],
    text: &mut [u8],
) -> Outcome<Vec<u8>> {
    with::<A, _>(key, |aead| {
        let nonce = Nonce::<A>::from_iter(nonce);
        aead.encrypt_in_place_detached(&nonce, aad, text)
            .map(|tag| tag.to_vec())
    })
}

fn open_with<A: KeyInit + AeadInPlace>(
    key: &[u8],
    nonce: [u8; 12],
    aad: &[u8],
    text: &mut [u8],
    tag: [u8; 16],
) -> Outcome {
    with::<A, _>(key, |aead| {
        let (nonce, tag) = (Nonce::<A>::from_iter(nonce), Tag::<A>::from_iter(tag));
        aead.decrypt_in_place_detached(&nonce, aad, text, &tag)
    })
}

type Aes192Gcm = AesGcm<Aes192, U12>;

/// Encrypts `plain` into a whole UDP payload.
pub fn seal(cipher: Cipher, dir: &KeyDir, header: Header, plain: &[u8]) -> Outcome<Vec<u8>> {
    let head = header.bytes();
    let iv = nonce(&head, dir.tail);
    let mut text = plain.to_vec();
    let tag = match cipher {
        Cipher::Aes128 => seal_with::<Aes128Gcm>(&dir.key, iv, &head, &mut text),
        Cipher::Aes192 => seal_with::<Aes192Gcm>(&dir.key, iv, &head, &mut text),
        Cipher::Aes256 => seal_with::<Aes256Gcm>(&dir.key, iv, &head, &mut text),
        Cipher::ChaCha => seal_with::<ChaCha20Poly1305>(&dir.key, iv, &head, &mut text),
    }?;
    Ok([head.as_slice(), &tag, &text].concat())
}

/// Authenticates and decrypts a UDP payload.
pub fn open(cipher: Cipher, dir: &KeyDir, packet: &[u8]) -> Outcome<(Header, Vec<u8>)> {
    let short = || {
        Failure::new(format!(
            "a data packet of {} bytes is too short",
            packet.len()
        ))
    };
    let (head, rest) = packet.split_first_chunk::<8>().ok_or_else(short)?;
    let (tag, text) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let header = Header::parse(packet).ok_or_else(short)?;
    let iv = nonce(head, dir.tail);
    let mut text = text.to_vec();
    match cipher {
        Cipher::Aes128 => open_with::<Aes128Gcm>(&dir.key, iv, head, &mut text, *tag),
        Cipher::Aes192 => open_with::<Aes192Gcm>(&dir.key, iv, head, &mut text, *tag),
        Cipher::Aes256 => open_with::<Aes256Gcm>(&dir.key, iv, head, &mut text, *tag),
        Cipher::ChaCha => open_with::<ChaCha20Poly1305>(&dir.key, iv, head, &mut text, *tag),
    }?;
    Ok((header, text))
}

fn sum(words: &[u8]) -> u32 {
    words
        .chunks(2)
        .map(|w| u32::from(*w.first().unwrap_or(&0)) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet with a UDP datagram, checksums filled in.
pub fn ipv4_udp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
    let udp_len = (8 + data.len()) as u16;
    let mut ip = [
        &[0x45, 0][..],
        &(20 + udp_len).to_be_bytes(),
        &[0, 0, 0, 0, 64, 17, 0, 0],
        &src,
        &dst,
    ]
    .concat();
    let header_sum = fold(sum(&ip)).to_be_bytes();
    ip.splice(10..12, header_sum);
    let mut udp = [
        &sport.to_be_bytes()[..],
        &dport.to_be_bytes(),
        &udp_len.to_be_bytes(),
        &[0, 0],
        data,
    ]
    .concat();
    let pseudo = sum(&src) + sum(&dst) + 17 + u32::from(udp_len);
    let checksum = fold(pseudo + sum(&udp)).to_be_bytes();
    udp.splice(6..8, checksum);
    [ip, udp].concat()
}

/// An IPv6 packet with a UDP datagram, checksum filled in.
pub fn ipv6_udp(src: [u8; 16], dst: [u8; 16], sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
    let len = (8 + data.len()) as u16;
    let mut udp = [
        &sport.to_be_bytes()[..],
        &dport.to_be_bytes(),
        &len.to_be_bytes(),
        &[0, 0],
        data,
    ]
    .concat();
    let pseudo = sum(&src) + sum(&dst) + 17 + u32::from(len);
    let checksum = fold(pseudo + sum(&udp)).to_be_bytes();
    udp.splice(6..8, checksum);
    let head = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[17, 64]].concat();
    [&head[..], &src, &dst, &udp].concat()
}

/// A packet with a UDP datagram of the family of its addresses.
pub fn ip_udp(src: IpAddr, dst: IpAddr, sport: u16, dport: u16, data: &[u8]) -> Outcome<Vec<u8>> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            Ok(ipv4_udp(src.octets(), dst.octets(), sport, dport, data))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            Ok(ipv6_udp(src.octets(), dst.octets(), sport, dport, data))
        }
        _ => Err(Failure::new("a packet has addresses of one family")),
    }
}

/// Bytes of the addresses that checksums of the packet's payload cover, and where the payload starts.
fn addresses(packet: &[u8]) -> Option<(&[u8], usize)> {
    match packet.first()? >> 4 {
        4 => Some((packet.get(12..20)?, usize::from(packet.first()? & 15) * 4)),
        6 => Some((packet.get(8..40)?, 40)),
        _ => None,
    }
}

/// Whether lengths and checksums of an IP packet with a UDP datagram are right, of IPv4's header too.
pub fn udp_is_right(packet: &[u8]) -> bool {
    let right = || {
        let (addresses, at) = addresses(packet)?;
        let udp = packet.get(at..)?;
        let field = |of: &[u8], at: usize| Some(u16::from_be_bytes(*of.get(at..)?.first_chunk()?));
        let len = udp.len() as u16;
        let v4 = at < 40;
        let header = !v4 || fold(sum(packet.get(..at)?)) == 0;
        let total = if v4 {
            field(packet, 2)?
        } else {
            field(packet, 4)?.checked_add(40)?
        };
        let summed = fold(sum(addresses) + 17 + u32::from(len) + sum(udp)) == 0;
        let proto = packet.get(if v4 { 9 } else { 6 }) == Some(&17);
        Some(
            header
                && proto
                && usize::from(total) == packet.len()
                && field(udp, 4)? == len
                && field(udp, 6)? != 0
                && summed,
        )
    };
    right().unwrap_or(false)
}

/// An IPv4 packet with another TOS byte.
pub fn with_tos(mut packet: Vec<u8>, tos: u8) -> Vec<u8> {
    packet.splice(1..2, [tos]);
    packet.splice(10..12, [0, 0]);
    let checksum = fold(sum(packet.get(..20).unwrap_or_default())).to_be_bytes();
    packet.splice(10..12, checksum);
    packet
}

/// A TCP segment without data, checksum filled in.
pub fn ip_tcp(
    src: IpAddr,
    dst: IpAddr,
    ports: (u16, u16),
    flags: u8,
    options: &[u8],
) -> Outcome<Vec<u8>> {
    const TCP: u8 = 6;
    // Made of the headers of a datagram whose payload is the rest of the segment.
    let rest = [
        &[0; 4][..],
        &[
            ((20 + options.len()) as u8 / 4) << 4,
            flags,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
        ],
        options,
    ]
    .concat();
    let mut packet = ip_udp(src, dst, ports.0, ports.1, &rest)?;
    let v4 = src.is_ipv4();
    packet.splice(if v4 { 9..10 } else { 6..7 }, [TCP]);
    if v4 {
        packet.splice(10..12, [0, 0]);
        let header = fold(sum(packet.get(..20).unwrap_or_default()));
        packet.splice(10..12, header.to_be_bytes());
    }
    let start = if v4 { 20 } else { 40 };
    // Length and checksum of the datagram are the sequence number's place.
    packet.splice(start + 4..start + 8, [0, 0, 0, 1]);
    let checksum = tcp_checksum(&packet).ok_or_else(|| Failure::new("no TCP segment"))?;
    packet.splice(start + 16..start + 18, checksum.to_be_bytes());
    Ok(packet)
}

/// Checksum over a TCP segment as it stands: 0 if the one in it is right.
fn tcp_checksum(packet: &[u8]) -> Option<u16> {
    let (addresses, start) = addresses(packet)?;
    let segment = packet.get(start..)?;
    Some(fold(
        sum(addresses) + 6 + segment.len() as u32 + sum(segment),
    ))
}

/// The MSS that a segment with SYN offers; fails when its checksum is wrong.
pub fn offered_mss(packet: &[u8]) -> Outcome<Option<u16>> {
    const SYN: u8 = 2;
    let mss = || {
        let (_, start) = addresses(packet)?;
        let tcp = packet.get(start..)?;
        let protocol = packet.get(if start == 40 { 6 } else { 9 })?;
        // Linux puts the option first; so do the packets made here.
        let &[2, 4, hi, lo] = tcp.get(20..24)?.first_chunk()? else {
            return None;
        };
        (*protocol == 6 && tcp.get(13)? & SYN != 0).then_some(u16::from_be_bytes([hi, lo]))
    };
    let found = mss();
    if found.is_some() && tcp_checksum(packet) != Some(0) {
        return Err(Failure::new(format!("wrong TCP checksum in {packet:02x?}")));
    }
    Ok(found)
}
