// SPDX-License-Identifier: GPL-2.0

use ovpn_core::framing::{Framer, OutOfStep, Piece};
use proptest::prelude::*;

/// Packets found in a stream that arrives in these chunks, and how it ended.
fn packets<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), OutOfStep>) {
    let mut framer = Framer::new();
    let (mut done, mut now, mut want) = (Vec::new(), Vec::new(), 0);
    for mut chunk in chunks {
        loop {
            match framer.next(&mut chunk) {
                Ok(Some(Piece::Start(len))) => {
                    assert!(now.is_empty());
                    want = usize::from(len);
                }
                Ok(Some(Piece::Body(bytes, last))) => {
                    assert!(!bytes.is_empty());
                    now.extend_from_slice(bytes);
                    assert_eq!(last, now.len() == want);
                    if last {
                        done.push(std::mem::take(&mut now));
                    }
                }
                Ok(None) => break,
                Err(e) => return (done, Err(e)),
            }
        }
        assert!(chunk.is_empty());
    }
    (done, Ok(()))
}

fn stream(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for p in packets {
        out.extend((p.len() as u16).to_be_bytes());
        out.extend(p);
    }
    out
}

#[test]
fn lengths_under_4_end_the_stream() {
    for len in 0..4u8 {
        let bytes = [0, 4, 1, 2, 3, 4, 0, len, 9, 9, 9, 9];
        let (got, end) = packets([bytes.as_slice()].into_iter());
        assert_eq!((got, end), (vec![vec![1, 2, 3, 4]], Err(OutOfStep)));
    }
}

#[test]
fn out_of_step_stays_so() {
    let mut framer = Framer::new();
    let mut input: &[u8] = &[0, 3, 0, 4, 1, 2, 3, 4];
    for _ in 0..3 {
        assert_eq!(framer.next(&mut input), Err(OutOfStep));
    }
}

#[test]
fn longest_packet() {
    let all = [vec![7; 65_535], vec![1; 4]];
    let bytes = stream(&all);
    assert_eq!(
        packets([bytes.as_slice()].into_iter()),
        (all.to_vec(), Ok(()))
    );
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_packets(
        all in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..300), 0..8),
        cuts in prop::collection::vec(1usize..200, 1..50),
    ) {
        let bytes = stream(&all);
        let mut cuts = cuts.into_iter().cycle();
        let mut rest = bytes.as_slice();
        let chunks = std::iter::from_fn(|| {
            let n = cuts.next()?.min(rest.len());
            let (chunk, tail) = rest.split_at(n);
            rest = tail;
            (n > 0).then_some(chunk)
        });
        prop_assert_eq!(packets(chunks), (all, Ok(())));
    }
}
