// SPDX-License-Identifier: GPL-2.0

use ovpn_core::mss::Syn;
use proptest::prelude::*;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// One's complement checksum of a pseudo header (addresses, protocol, length) and a segment.
fn checksum(addresses: &[u8], segment: &[u8]) -> u16 {
    let tail = [0, 0, 0, TCP];
    let len = (segment.len() as u32).to_be_bytes();
    let mut sum: u32 = [addresses, &len, &tail, segment]
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// A TCP segment with these flags, options (padded to words) and data; its checksum is 0.
fn segment(flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let words = 5 + options.len() / 4;
    let mut out = vec![0x12, 0x34, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8];
    out.extend([(words as u8) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(options);
    out.extend(data);
    out
}

fn v4(mut segment: Vec<u8>, ip_options: usize) -> Vec<u8> {
    let addresses = [10, 8, 0, 2, 192, 168, 1, 1];
    let sum = checksum(&addresses, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let header = 20 + ip_options;
    let mut out = vec![0x40 | (header / 4) as u8, 0];
    out.extend(((header + segment.len()) as u16).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
    out.extend(addresses);
    out.resize(header, 1);
    out.extend(segment);
    out
}

/// With extension headers of these types before TCP, each as short as it may be.
fn v6(mut segment: Vec<u8>, extensions: &[u8]) -> Vec<u8> {
    let addresses: Vec<u8> = (0..32).collect();
    let sum = checksum(&addresses, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut out = vec![0x60, 0, 0, 0];
    out.extend(((segment.len() + extensions.len() * 8) as u16).to_be_bytes());
    out.extend([extensions.first().copied().unwrap_or(TCP), 64]);
    out.extend(addresses);
    for i in 0..extensions.len() {
        out.extend([extensions.get(i + 1).copied().unwrap_or(TCP), 0, 0, 0]);
        out.extend([0; 4]);
    }
    out.extend(segment);
    out
}

fn verifies(packet: &[u8]) -> bool {
    let (addresses, at) = match packet[0] >> 4 {
        4 => (&packet[12..20], usize::from(packet[0] & 15) * 4),
        _ => (&packet[8..40], 40),
    };
    checksum(addresses, &packet[at..]) == 0
}

fn clamp(packet: &mut [u8], room: u32) -> bool {
    Syn::find(packet).is_some_and(|syn| syn.clamp(packet, room))
}

const MSS_1460: [u8; 4] = [2, 4, 5, 180];

#[test]
fn lowered_to_what_fits() {
    for flags in [SYN, SYN | ACK] {
        for (mut packet, place, want) in [
            (v4(segment(flags, &MSS_1460, &[]), 0), 42, 1408u16),
            (v4(segment(flags, &MSS_1460, b"fast open"), 8), 50, 1408),
            (v6(segment(flags, &MSS_1460, b"odd"), &[]), 62, 1388),
        ] {
            let before = packet.clone();
            assert!(verifies(&before));
            assert!(clamp(&mut packet, 1448));
            assert_eq!(packet[place..place + 2], want.to_be_bytes());
            assert!(verifies(&packet));
            let changed = before.iter().zip(&packet).filter(|(a, b)| a != b).count();
            assert!(changed <= 4);
        }
    }
}

#[test]
fn never_raised() {
    for room in [1500, 1501, 9000, u32::MAX] {
        let mut packet = v4(segment(SYN, &MSS_1460, &[]), 0);
        let before = packet.clone();
        assert!(!clamp(&mut packet, room));
        assert_eq!(packet, before);
    }
}

#[test]
fn a_tiny_path_does_not_end_in_nothing() {
    for room in [0, 1, 60, 88] {
        let mut packet = v4(segment(SYN, &MSS_1460, &[]), 0);
        assert!(clamp(&mut packet, room));
        assert_eq!(packet[42..44], 48u16.to_be_bytes());
        assert!(verifies(&packet));
    }
}

#[test]
fn other_packets_are_left_alone() {
    let good = v4(segment(SYN, &MSS_1460, &[]), 0);
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let cases = [
        ("no SYN", v4(segment(ACK, &MSS_1460, &[]), 0)),
        ("UDP", with(9, 17)),
        ("later fragment", with(7, 1)),
        ("later fragment, high bits", with(6, 0x10)),
        ("IPv4 header too short", with(0, 0x44)),
        ("IPv4 header too long", with(0, 0x4F)),
        ("other version", with(0, 0x55)),
        ("no options", v4(segment(SYN, &[], &[]), 0)),
        ("TCP header too short", with(32, 0x40)),
        ("TCP header too long", with(32, 0xF0)),
        (
            "option of no length",
            v4(segment(SYN, &[8, 0, 2, 4, 5, 180], &[]), 0),
        ),
        (
            "option of length one",
            v4(segment(SYN, &[8, 1, 2, 4, 5, 180], &[]), 0),
        ),
        (
            "behind the end",
            v4(segment(SYN, &[0, 2, 4, 5, 180], &[]), 0),
        ),
        (
            "MSS of another length",
            v4(segment(SYN, &[2, 3, 5, 2, 6, 5, 180, 1], &[]), 0),
        ),
        (
            "value past the header",
            v4(segment(SYN, &[1, 1, 2, 4], &[5, 180]), 0),
        ),
        (
            "jump over the rest",
            v4(segment(SYN, &[8, 255, 2, 4, 5, 180], &[]), 0),
        ),
        (
            "IPv6, no next header",
            v6(segment(SYN, &MSS_1460, &[]), &[59]),
        ),
        ("IPv6, encrypted", v6(segment(SYN, &MSS_1460, &[]), &[50])),
        (
            "IPv6, nine headers",
            v6(segment(SYN, &MSS_1460, &[]), &[60; 9]),
        ),
        ("IPv6, later fragment", {
            let mut packet = v6(segment(SYN, &MSS_1460, &[]), &[44]);
            packet[43] = 8;
            packet
        }),
    ];
    for (name, mut packet) in cases {
        let before = packet.clone();
        assert!(!clamp(&mut packet, 1000), "{name}");
        assert_eq!(packet, before, "{name}");
    }
}

#[test]
fn cut_anywhere() {
    for good in [
        v4(segment(SYN, &[1, 2, 4, 5, 180], &[]), 4),
        v6(segment(SYN, &MSS_1460, &[]), &[0, 43, 60, 44]),
    ] {
        // Complete but for the data there is none of.
        assert!(clamp(&mut good.clone(), 1000));
        for len in 0..good.len() {
            let mut packet = good[..len].to_vec();
            assert!(!clamp(&mut packet, 1000), "{len} bytes");
            assert_eq!(packet, good[..len], "{len} bytes");
        }
    }
}

#[test]
fn behind_ipv6_extension_headers() {
    for extensions in [
        &[0][..],
        &[43],
        &[60],
        &[44],
        &[135],
        &[139],
        &[140],
        &[0, 60, 43, 44, 60],
    ] {
        let mut packet = v6(segment(SYN, &MSS_1460, &[]), extensions);
        let tcp = 40 + extensions.len() * 8;
        assert!(clamp(&mut packet, 1448), "{extensions:?}");
        assert_eq!(packet[tcp + 22..tcp + 24], 1388u16.to_be_bytes());
    }
    // An authentication header counts in words, less two.
    let mut packet = v6(segment(SYN, &MSS_1460, &[]), &[51]);
    packet.splice(41..42, [4]);
    packet.splice(48..48, [0; 16]);
    assert!(clamp(&mut packet, 1448));
}

#[test]
fn every_option_is_lowered() {
    let mut packet = v4(segment(SYN, &[2, 4, 5, 180, 1, 2, 4, 35, 0], &[]), 0);
    assert!(clamp(&mut packet, 1448));
    assert_eq!(packet[42..44], 1408u16.to_be_bytes());
    assert_eq!(packet[47..49], 1408u16.to_be_bytes());
    assert!(verifies(&packet));
}

/// SACK permitted (RFC 2018) is an option of two bytes: kind and length.
#[test]
fn behind_an_option_without_a_value() {
    let mut packet = v4(segment(SYN, &[4, 2, 2, 4, 5, 180], &[]), 0);
    assert!(clamp(&mut packet, 1448));
    assert_eq!(packet[44..46], 1408u16.to_be_bytes());
    assert!(verifies(&packet));
}

proptest! {
    #[test]
    fn checksum_stays_right(
        value: u16,
        pad in 0usize..8,
        room in 40u32..2000,
        is_v6: bool,
        data in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut options = vec![1; pad];
        options.extend([2, 4]);
        options.extend(value.to_be_bytes());
        let segment = segment(SYN, &options, &data);
        let (mut packet, tcp, headers) = match is_v6 {
            false => (v4(segment, 0), 20, 40),
            true => (v6(segment, &[]), 40, 60),
        };
        let before = packet.clone();
        let limit = (room.saturating_sub(headers) as u16).max(48);
        prop_assert_eq!(clamp(&mut packet, room), value > limit);
        let at = tcp + 20 + pad + 2;
        prop_assert_eq!(u16::from_be_bytes([packet[at], packet[at + 1]]), value.min(limit));
        prop_assert!(verifies(&packet));
        // Nothing but the value and the checksum has changed.
        packet[at..at + 2].copy_from_slice(&before[at..at + 2]);
        packet[tcp + 16..tcp + 18].copy_from_slice(&before[tcp + 16..tcp + 18]);
        prop_assert_eq!(packet, before);
    }

    #[test]
    fn any_bytes(mut packet in prop::collection::vec(any::<u8>(), 0..120), first in prop::sample::select(vec![0x45u8, 0x46, 0x60]), room: u32) {
        if let Some(byte) = packet.first_mut() {
            *byte = first;
        }
        if let Some(protocol) = packet.get_mut(if first == 0x60 { 6 } else { 9 }) {
            *protocol = TCP;
        }
        let len = packet.len();
        clamp(&mut packet, room);
        prop_assert_eq!(packet.len(), len);
        prop_assert!(!clamp(&mut packet, room));
    }
}
