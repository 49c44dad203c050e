// SPDX-License-Identifier: GPL-2.0
//! Any byte stream in any chunks: the packets are those of a plain reading of the whole stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovpn_core::framing::{Framer, Piece};

/// Complete packets of the stream, bytes of an unfinished one, and whether a bad length ends it.
fn plainly(mut stream: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    let mut packets = Vec::new();
    while stream.len() >= 2 {
        let len = usize::from(u16::from_be_bytes([stream[0], stream[1]]));
        if len < 4 {
            return (packets, Vec::new(), true);
        }
        if stream.len() < 2 + len {
            return (packets, stream[2..].to_vec(), false);
        }
        packets.push(stream[2..2 + len].to_vec());
        stream = &stream[2 + len..];
    }
    (packets, Vec::new(), false)
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (stream, cuts) = input;
    let mut cuts = cuts.iter().map(|n| usize::from(*n) + 1).cycle();
    let mut framer = Framer::new();
    let (mut packets, mut now, mut want, mut bad) = (Vec::new(), Vec::new(), 0, false);
    let mut rest = stream.as_slice();
    'stream: while !rest.is_empty() {
        let n = cuts.next().unwrap_or(usize::MAX).min(rest.len());
        let (mut chunk, later) = rest.split_at(n);
        rest = later;
        loop {
            let before = chunk.len();
            match framer.next(&mut chunk) {
                Ok(Some(Piece::Start(len))) => {
                    assert!(now.is_empty() && len >= 4);
                    want = usize::from(len);
                }
                Ok(Some(Piece::Body(bytes, last))) => {
                    now.extend_from_slice(bytes);
                    assert_eq!(last, now.len() == want);
                    if last {
                        packets.push(std::mem::take(&mut now));
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    bad = true;
                    break 'stream;
                }
            }
            assert!(chunk.len() < before, "each piece takes bytes");
        }
        assert!(chunk.is_empty());
    }
    assert_eq!((packets, now, bad), plainly(&stream));
});
