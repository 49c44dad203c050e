// SPDX-License-Identifier: GPL-2.0

use ovpn_core::counters::DropReason;
use ovpn_core::wire::*;

fn header(key_id: u32, peer_id: u32, packet_id: u32) -> Header {
    Header {
        key_id: KeyId::new(key_id).unwrap(),
        peer_id: PeerId::new(peer_id).unwrap(),
        packet_id: PacketId::new(packet_id).unwrap(),
    }
}

#[test]
fn ids_carry_their_range() {
    assert_eq!(PeerId::new(0xFF_FFFF), Some(PeerId::UNDEF));
    assert_eq!(PeerId::new(0x100_0000), None);
    assert_eq!(PeerId::new(u32::MAX), None);
    assert!(PeerId::UNDEF.is_undef());
    assert!(!PeerId::new(0xFF_FFFE).unwrap().is_undef());
    assert_eq!(KeyId::new(7).map(KeyId::get), Some(7));
    assert_eq!(KeyId::new(8), None);
    assert_eq!(KeyId::new(256), None);
    assert_eq!(PacketId::new(0), None);
    assert_eq!(PacketId::new(1), Some(PacketId::FIRST));
    assert_eq!(PacketId::new(u32::MAX).map(PacketId::get), Some(u32::MAX));
}

#[test]
fn header_on_the_wire() {
    let cases = [
        (header(0, 0, 1), [0x48, 0, 0, 0, 0, 0, 0, 1]),
        (
            header(7, 0xFF_FFFF, u32::MAX),
            [0x4F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ),
        (
            header(2, 0x01_0203, 0x0A0B_0C0D),
            [0x4A, 1, 2, 3, 0x0A, 0x0B, 0x0C, 0x0D],
        ),
    ];
    for (header, bytes) in cases {
        assert_eq!(header.emit(), bytes);
        assert_eq!(Header::parse(&bytes, OVERHEAD, OVERHEAD), Ok(header));
    }
}

#[test]
fn header_refused() {
    let good = header(0, 1, 1).emit();
    // The length of the packet decides, and nothing is read beyond what is there.
    assert!(Header::parse(&good, 24, 24).is_ok());
    assert_eq!(Header::parse(&good, 23, 24), Err(DropReason::Runt));
    for n in 0..8 {
        assert_eq!(Header::parse(&good[..n], 1000, 8), Err(DropReason::Runt));
    }
    assert!(Header::parse(&good, 8, 8).is_ok());
    let control = [0x20, 0, 0, 1, 0, 0, 0, 1];
    assert_eq!(Header::parse(&control, 100, 24), Err(DropReason::Runt));
    let zero = [0x48, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(Header::parse(&zero, 100, 24), Err(DropReason::Replay));
}

#[test]
fn every_first_byte_has_one_verdict() {
    for first in 0..=u8::MAX {
        let packet = [first, 0x12, 0x34, 0x56];
        let want = match first >> 3 {
            9 => Verdict::Data(
                PeerId::new(0x12_3456).unwrap(),
                KeyId::new(u32::from(first & 7)).unwrap(),
            ),
            6 => Verdict::Drop(DropReason::DataV1),
            _ => Verdict::Userspace,
        };
        assert_eq!(classify(&packet, 4), want, "first byte {first:#x}");
        // Short of 4 bytes the opcode does not count.
        for n in 0..4 {
            assert_eq!(classify(&packet[..n], n), Verdict::Drop(DropReason::Short));
            assert_eq!(classify(&packet, n), Verdict::Drop(DropReason::Short));
        }
    }
}

#[test]
fn keepalive_is_exactly_its_16_bytes() {
    assert!(is_keepalive(&KEEPALIVE));
    assert!(!is_keepalive(&KEEPALIVE[..15]));
    assert!(!is_keepalive(&[KEEPALIVE.as_slice(), &[0]].concat()));
    for i in 0..16 {
        let mut other = KEEPALIVE;
        other[i] ^= 1;
        assert!(!is_keepalive(&other));
    }
    assert_eq!(inner_protocol(&KEEPALIVE, 16), None);
}

#[test]
fn inner_protocol_needs_its_header() {
    for first in 0..=u8::MAX {
        for len in 0..80 {
            let want = match first >> 4 {
                4 if len >= 20 => Some(InnerProtocol::V4),
                6 if len >= 40 => Some(InnerProtocol::V6),
                _ => None,
            };
            assert_eq!(
                inner_protocol(&[first], len),
                want,
                "{first:#x}, {len} bytes"
            );
        }
    }
    assert_eq!(inner_protocol(&[], 100), None);
}

#[test]
fn addresses_of_one_link_are_told_from_those_of_others() {
    let from = |ip: &str| {
        let mut packet = [0; 40];
        match ip.parse::<std::net::IpAddr>().unwrap() {
            std::net::IpAddr::V4(ip) => {
                packet[0] = 0x45;
                packet[12..16].copy_from_slice(&ip.octets());
            }
            std::net::IpAddr::V6(ip) => {
                packet[0] = 0x60;
                packet[8..24].copy_from_slice(&ip.octets());
            }
        }
        is_from_link(&packet)
    };
    for ip in [
        "fe80::1",
        "febf:ffff::",
        "::",
        "169.254.0.0",
        "169.254.255.255",
        "0.0.0.0",
    ] {
        assert!(from(ip), "{ip}");
    }
    for ip in [
        "fec0::1",
        "fd00:8::2",
        "2001:db8::1",
        "::1",
        "fe7f::",
        "ff02::1",
        "::ffff:10.0.0.1",
        "169.253.0.1",
        "10.8.0.2",
        "0.0.0.1",
    ] {
        assert!(!from(ip), "{ip}");
    }
    assert!(!is_from_link(&[]) && !is_from_link(&[0x45; 19]) && !is_from_link(&KEEPALIVE));
}

#[test]
fn both_addresses_of_an_inner_packet_are_found() {
    let v4 = [
        &[0x45; 12][..],
        &[192, 0, 2, 1],
        &[198, 51, 100, 2],
        &[0; 4],
    ]
    .concat();
    assert_eq!(inner_source(&v4), Some(map_ipv4([192, 0, 2, 1])));
    assert_eq!(inner_destination(&v4), Some(map_ipv4([198, 51, 100, 2])));
    let v6 = [&[0x60; 8][..], &[1; 16], &[2; 16]].concat();
    assert_eq!(inner_source(&v6), Some([1; 16]));
    assert_eq!(inner_destination(&v6), Some([2; 16]));
    for short in [&v4[..19], &v6[..39], &[0x50; 40], &[]] {
        assert_eq!(
            (inner_source(short), inner_destination(short)),
            (None, None)
        );
    }
}
