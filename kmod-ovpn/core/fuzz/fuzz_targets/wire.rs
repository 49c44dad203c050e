// SPDX-License-Identifier: GPL-2.0
//! Any datagram: sorted as its first byte says, and a header that is read is written back alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovpn_core::counters::DropReason;
use ovpn_core::nonce::{nonce, NonceTail};
use ovpn_core::wire::*;

fuzz_target!(|data: &[u8]| {
    let verdict = classify(data, data.len());
    match data {
        [] | [_] | [_, _] | [_, _, _] => assert_eq!(verdict, Verdict::Drop(DropReason::Short)),
        [first, ..] => match first >> 3 {
            6 => assert_eq!(verdict, Verdict::Drop(DropReason::DataV1)),
            9 => assert!(matches!(verdict, Verdict::Data(..))),
            _ => assert_eq!(verdict, Verdict::Userspace),
        },
    }
    match Header::parse(data, data.len(), OVERHEAD) {
        Ok(header) => {
            assert!(data.len() >= OVERHEAD);
            assert_eq!(header.emit(), data[..HEADER_LEN]);
            assert_eq!(verdict, Verdict::Data(header.peer_id, header.key_id));
            let tail = NonceTail(data[8..16].try_into().unwrap());
            assert_eq!(nonce(header.packet_id, tail), data[4..16]);
        }
        Err(DropReason::Replay) => assert_eq!(data[4..8], [0; 4]),
        Err(reason) => {
            assert_eq!(reason, DropReason::Runt);
            assert!(data.len() < OVERHEAD || !matches!(verdict, Verdict::Data(..)));
        }
    }
    match inner_protocol(data, data.len()) {
        Some(InnerProtocol::V4) => assert!(data.len() >= 20 && data[0] >> 4 == 4),
        Some(InnerProtocol::V6) => assert!(data.len() >= 40 && data[0] >> 4 == 6),
        None => {}
    }
    assert_eq!(is_keepalive(data), data == KEEPALIVE);
});
