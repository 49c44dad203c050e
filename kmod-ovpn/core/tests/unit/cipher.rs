// SPDX-License-Identifier: GPL-2.0

use ovpn_core::cipher::{CipherAlg, MAX_KEY_LEN};
use ovpn_core::wire::PacketId;

#[test]
fn numbers_and_key_lengths() {
    assert_eq!(CipherAlg::new(0), Some(CipherAlg::None));
    assert_eq!(CipherAlg::new(1), Some(CipherAlg::AesGcm));
    assert_eq!(CipherAlg::new(2), Some(CipherAlg::ChaCha20Poly1305));
    assert_eq!(CipherAlg::new(3), None);
    for len in 0..=256 {
        assert_eq!(
            CipherAlg::AesGcm.takes_key_len(len),
            [16, 24, 32].contains(&len)
        );
        assert_eq!(
            CipherAlg::ChaCha20Poly1305.takes_key_len(len),
            len == MAX_KEY_LEN
        );
        assert_eq!(CipherAlg::None.takes_key_len(len), len == 0);
    }
}

/// The mark, times what each packet costs, is within 7/8 of 2^36 blocks, and not far below.
#[test]
fn aes_mark_keeps_the_usage_limit() {
    const LIMIT: u64 = (1 << 36) / 8 * 7;
    for payload in (0..=65_535).chain([u32::MAX - 16, u32::MAX]) {
        let mark = u64::from(CipherAlg::AesGcm.rekey_mark(payload).get());
        let blocks = u64::from(payload.div_ceil(16));
        let used = mark * (blocks + 1);
        assert!(used <= LIMIT, "payload {payload}: {used} blocks");
        let early = LIMIT - used;
        // Never more early than one part in a thousand, unless the ids end first.
        assert!(
            payload > 65_535 || early * 1000 <= LIMIT || mark == 0xFF00_0000,
            "payload {payload}: {early} blocks early"
        );
    }
}

#[test]
fn overheads() {
    assert_eq!(CipherAlg::AesGcm.overhead(), 24);
    assert_eq!(CipherAlg::ChaCha20Poly1305.overhead(), 24);
    assert_eq!(CipherAlg::None.overhead(), 8);
}

#[test]
fn marks_of_common_sizes() {
    let mark = |alg: CipherAlg, payload| alg.rekey_mark(payload).get();
    // 94 blocks and the message itself: 2^32 / 95 * 14 packets, 949 GB of payload.
    assert_eq!(mark(CipherAlg::AesGcm, 1500), 632_942_548);
    assert_eq!(mark(CipherAlg::AesGcm, 64), 0xFF00_0000);
    assert_eq!(mark(CipherAlg::ChaCha20Poly1305, 1500), 0xFF00_0000);
    assert_eq!(mark(CipherAlg::ChaCha20Poly1305, u32::MAX), 0xFF00_0000);
    assert!(CipherAlg::AesGcm.rekey_mark(u32::MAX) != PacketId::FIRST);
}
