// SPDX-License-Identifier: GPL-2.0
//! Explicit congestion notification through a tunnel (RFC 6040).
//!
//! On the way out the outer header gets the two bits of the inner one (4.1, normal mode). On the way in a mark that
//! a router made on the outer header goes to the inner one (4.2).

use super::wire::{inner_protocol, InnerProtocol};

/// The two bits of a TOS or traffic class byte.
pub const MASK: u8 = 3;
/// The sender does not know of ECN.
pub const NOT_ECT: u8 = 0;
/// The sender knows, second of two code points.
pub const ECT_1: u8 = 1;
/// Congestion was met on the way.
pub const CE: u8 = 3;

/// The two bits that the inner header gets (RFC 6040, figure 4); `None` if the packet must be dropped, because its
/// sender would not understand what the outer header says.
#[inline]
pub const fn merge(inner: u8, outer: u8) -> Option<u8> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        // Not CE: only the second code point may overwrite the first.
        (CE, _) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Brings the outer header's bits into an inner packet. False if it must be dropped; anything but IP is left alone.
pub fn decapsulate(packet: &mut [u8], outer: u8) -> bool {
    match inner_protocol(packet, packet.len()) {
        Some(InnerProtocol::V4) => to_ipv4(packet, outer),
        Some(InnerProtocol::V6) => to_ipv6(packet, outer),
        None => true,
    }
}

fn to_ipv4(packet: &mut [u8], outer: u8) -> bool {
    let [version, tos, _, _, _, _, _, _, _, _, sum_a, sum_b, ..] = packet else {
        return true;
    };
    let Some(ecn) = merge(*tos, outer) else {
        return false;
    };
    let new = *tos & !MASK | ecn;
    if new != *tos {
        // RFC 1624, equation 3, over the word that holds version and TOS.
        let old_word = u16::from_be_bytes([*version, *tos]);
        let new_word = u16::from_be_bytes([*version, new]);
        let sum = u16::from_be_bytes([*sum_a, *sum_b]);
        let folded = u32::from(!sum)
            .wrapping_add(u32::from(!old_word))
            .wrapping_add(u32::from(new_word));
        let folded = (folded & 0xffff).wrapping_add(folded >> 16);
        let folded = (folded & 0xffff).wrapping_add(folded >> 16);
        [*sum_a, *sum_b] = (!(folded as u16)).to_be_bytes();
        *tos = new;
    }
    true
}

fn to_ipv6(packet: &mut [u8], outer: u8) -> bool {
    // Traffic class: the low half of the first byte and the high half of the second.
    let [_, second, ..] = packet else {
        return true;
    };
    let Some(ecn) = merge(*second >> 4, outer) else {
        return false;
    };
    *second = *second & !(MASK << 4) | ecn << 4;
    true
}
