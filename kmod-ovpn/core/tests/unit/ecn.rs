// SPDX-License-Identifier: GPL-2.0
use ovpn_core::ecn::{decapsulate, merge};
use proptest::prelude::*;

/// RFC 6040, figure 4: rows are the inner header's bits, columns the outer one's: Not-ECT, ECT(1), ECT(0), CE.
const FIGURE_4: [[Option<u8>; 4]; 4] = [
    [Some(0), Some(0), Some(0), None],
    [Some(1), Some(1), Some(1), Some(3)],
    [Some(2), Some(1), Some(2), Some(3)],
    [Some(3), Some(3), Some(3), Some(3)],
];

#[test]
fn as_the_rfc_has_it() {
    for (inner, row) in (0..).zip(FIGURE_4) {
        for (outer, want) in (0..).zip(row) {
            assert_eq!(merge(inner, outer), want, "inner {inner}, outer {outer}");
            assert_eq!(
                merge(inner | 0xb8, outer | 0x28),
                want,
                "bits of DSCP do not count"
            );
        }
    }
}

/// Checksum of an IPv4 header: 0 when the one inside is right.
fn sum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

proptest! {
    #[test]
    fn ipv4_keeps_dscp_and_a_right_checksum(mut packet in prop::collection::vec(any::<u8>(), 20..60), outer in 0u8..4) {
        packet[0] = 0x45;
        packet[10..12].fill(0);
        let right = sum(&packet[..20]).to_be_bytes();
        packet[10..12].copy_from_slice(&right);
        let before = packet.clone();
        let kept = decapsulate(&mut packet, outer);
        prop_assert_eq!(kept, merge(before[1], outer).is_some());
        if kept {
            prop_assert_eq!(Some(packet[1]), merge(before[1], outer).map(|ecn| before[1] & 0xfc | ecn));
            prop_assert_eq!(sum(&packet[..20]), 0);
            packet[1] = before[1];
            packet[10..12].copy_from_slice(&before[10..12]);
        }
        prop_assert_eq!(packet, before);
    }

    #[test]
    fn ipv6_keeps_the_rest(mut packet in prop::collection::vec(any::<u8>(), 40..60), outer in 0u8..4) {
        packet[0] = 0x60 | packet[0] & 0xf;
        let before = packet.clone();
        let kept = decapsulate(&mut packet, outer);
        prop_assert_eq!(kept, merge(before[1] >> 4, outer).is_some());
        if kept {
            prop_assert_eq!(Some(packet[1] >> 4 & 3), merge(before[1] >> 4, outer));
            packet[1] = packet[1] & 0xcf | before[1] & 0x30;
        }
        prop_assert_eq!(packet, before);
    }

    #[test]
    fn what_is_no_ip_is_left_alone(mut packet in prop::collection::vec(any::<u8>(), 0..20), outer in 0u8..4) {
        let before = packet.clone();
        prop_assert!(decapsulate(&mut packet, outer));
        prop_assert_eq!(packet, before);
    }
}
