// SPDX-License-Identifier: GPL-2.0
//! Any bytes as an inner packet: clamping changes at most MSS options and the checksum, makes
//! nothing larger, finds nothing left to do the second time, and keeps a right checksum right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovpn_core::mss::Syn;

/// One's complement sum of the words of a segment, as a receiver takes it.
fn sum(bytes: &[u8]) -> u16 {
    let total: u64 = bytes
        .chunks(2)
        .map(|w| u64::from(w[0]) << 8 | u64::from(w.get(1).copied().unwrap_or(0)))
        .sum();
    // Zero has two forms.
    (total % 0xFFFF) as u16
}

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (room, before) = input;
    let Some(syn) = Syn::find(&before) else {
        return;
    };
    let mut after = before.clone();
    let lowered = syn.clamp(&mut after, u32::from(room));
    assert_eq!(lowered, before != after || before.is_empty());
    assert_eq!(before.len(), after.len());
    // At most nine options of four bytes fit between 20 and 60 bytes of header.
    let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(changed <= 2 * 10 + 2, "{changed} bytes changed");
    assert_eq!(Syn::find(&after), Some(syn));
    let offset = if before[0] >> 4 == 4 { 20 } else { 40 };
    // Headers in front of TCP are never touched.
    assert_eq!(before.get(..offset), after.get(..offset));
    if lowered {
        assert_eq!(sum(&before), sum(&after), "checksum");
    }
    assert!(!syn.clamp(&mut after, u32::from(room)));
});
