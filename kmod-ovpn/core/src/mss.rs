// SPDX-License-Identifier: GPL-2.0
//! Clamping of the TCP maximum segment size (MSS) to what fits through the tunnel in one piece.
//!
//! The ends of a connection agree on it by an option of their SYN segments (RFC 9293, 3.7.1) and
//! know nothing of the tunnel between them. Lowering the option on its way keeps them from sending
//! packets that would have to be fragmented, also where "packet too big" messages get lost.

use super::wire::{inner_protocol, InnerProtocol};

/// Bytes of the fixed TCP header.
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;
const SYN: u8 = 0x02;

/// IPv6 extension headers that are followed; a packet with more is left alone.
const MAX_EXTENSIONS: usize = 8;

/// Never clamped below this: a smaller value makes senders use this one.
/// Source: Linux, `include/net/tcp.h`, `TCP_MIN_SND_MSS`.
const FLOOR: u16 = 48;

/// A SYN segment, by the place of its TCP header in its IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    tcp: usize,
    protocol: InnerProtocol,
}

impl Syn {
    /// Finds the TCP header of a SYN or SYN-ACK segment in an IP packet.
    ///
    /// `None` for anything else, for later fragments, and for what is cut short before the flags.
    #[inline]
    pub fn find(packet: &[u8]) -> Option<Syn> {
        let protocol = inner_protocol(packet, packet.len())?;
        let tcp = match protocol {
            InnerProtocol::V4 => tcp_in_ipv4(packet)?,
            InnerProtocol::V6 => tcp_in_ipv6(packet)?,
        };
        let flags = *packet.get(tcp.checked_add(13)?)?;
        (flags & SYN != 0).then_some(Syn { tcp, protocol })
    }

    /// Lowers the MSS option of the packet that [`find`](Self::find) was given so that segments of
    /// the connection make IP packets of at most `room` bytes, and updates the checksum. True if
    /// there was anything to lower; a segment without the option is left without.
    pub fn clamp(self, packet: &mut [u8], room: u32) -> bool {
        let limit = limit(self.protocol, room);
        let Some(segment) = packet.get_mut(self.tcp..) else {
            return false;
        };
        let Some(words) = segment.get(12) else {
            return false;
        };
        let header = usize::from(words >> 4).saturating_mul(4);
        let mut lowered = false;
        let mut at = TCP_HEADER;
        // Twice or more is wrong, and receivers differ in which one they believe.
        while let Some(value) = next_mss(segment, header, &mut at) {
            lowered |= lower(segment, value, limit);
        }
        lowered
    }
}

/// The largest MSS whose segments, with the fixed headers, make packets of `room` bytes.
fn limit(protocol: InnerProtocol, room: u32) -> u16 {
    let headers = match protocol {
        InnerProtocol::V4 => 40,
        InnerProtocol::V6 => 60,
    };
    let limit = room.saturating_sub(headers);
    u16::try_from(limit).unwrap_or(u16::MAX).max(FLOOR)
}

fn tcp_in_ipv4(packet: &[u8]) -> Option<usize> {
    let &[version, _, _, _, _, _, fragment_hi, fragment_lo, _, protocol, ..] =
        packet.first_chunk::<20>()?;
    let later_fragment = u16::from_be_bytes([fragment_hi, fragment_lo]) & 0x1FFF != 0;
    let header = usize::from(version & 0xF).saturating_mul(4);
    (protocol == TCP && !later_fragment && header >= 20).then_some(header)
}

/// Extension headers as in RFC 8200, 4; numbers of the rarer ones from IANA's list.
fn tcp_in_ipv6(packet: &[u8]) -> Option<usize> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;
    const HIP: u8 = 139;
    const SHIM6: u8 = 140;

    let mut next = *packet.get(6)?;
    let mut at = 40usize;
    for _ in 0..=MAX_EXTENSIONS {
        if next == TCP {
            return Some(at);
        }
        let &[following, len, fragment_hi, fragment_lo] = packet.get(at..)?.first_chunk()?;
        let len = usize::from(len);
        let bytes = match next {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                len.saturating_add(1).saturating_mul(8)
            }
            AUTHENTICATION => len.saturating_add(2).saturating_mul(4),
            FRAGMENT if u16::from_be_bytes([fragment_hi, fragment_lo]) & 0xFFF8 == 0 => 8,
            _ => return None,
        };
        next = following;
        at = at.checked_add(bytes)?;
    }
    None
}

/// Place of the value of the next MSS option from `at` on, which moves behind it. Options end at
/// `header`.
fn next_mss(segment: &[u8], header: usize, at: &mut usize) -> Option<usize> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const MSS: u8 = 2;

    let options = segment.get(..header)?;
    loop {
        let here = *at;
        let step = match *options.get(here)? {
            END => return None,
            NOTHING => 1,
            kind => {
                let len = usize::from(*options.get(here.checked_add(1)?)?);
                if len < 2 {
                    return None;
                }
                if kind == MSS && len == 4 {
                    *at = here.checked_add(4)?;
                    // Only if the value lies in the header too.
                    options.get(here..*at)?;
                    return here.checked_add(2);
                }
                len
            }
        };
        *at = here.checked_add(step)?;
    }
}

/// Lowers the value at `place` and makes up for it in the checksum (RFC 1624, equation 3).
fn lower(segment: &mut [u8], place: usize, limit: u16) -> bool {
    const CHECKSUM: usize = 16;

    let Some(&old) = segment.get(place..).and_then(|rest| rest.first_chunk()) else {
        return false;
    };
    if u16::from_be_bytes(old) <= limit {
        return false;
    }
    let new = limit.to_be_bytes();
    if let Some(bytes) = segment
        .get_mut(place..)
        .and_then(|rest| rest.first_chunk_mut())
    {
        *bytes = new;
    }
    let field = segment.get_mut(CHECKSUM..);
    if let Some(checksum) = field.and_then(|rest| rest.first_chunk_mut()) {
        // The sum goes over words; a value across two of them counts with its bytes exchanged.
        let word = |[a, b]: [u8; 2]| match place & 1 {
            0 => u16::from_be_bytes([a, b]),
            _ => u16::from_be_bytes([b, a]),
        };
        let sum = u32::from(!u16::from_be_bytes(*checksum))
            .wrapping_add(u32::from(!word(old)))
            .wrapping_add(u32::from(word(new)));
        *checksum = (!fold(sum)).to_be_bytes();
    }
    true
}

/// Adds the carries of a sum of three words back in.
const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xFFFF).wrapping_add(sum >> 16);
    (once & 0xFFFF).wrapping_add(once >> 16) as u16
}
