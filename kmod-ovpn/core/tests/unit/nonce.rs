// SPDX-License-Identifier: GPL-2.0

use ovpn_core::nonce::*;
use ovpn_core::wire::PacketId;

const fn id(n: u32) -> PacketId {
    PacketId::new(n).unwrap()
}

#[test]
fn nonce_is_packet_id_then_tail() {
    let tail = NonceTail([0x52, 0x1c, 0x3b, 0x01, 0x43, 0x08, 0xc0, 0x41]);
    assert_eq!(
        nonce(id(5), tail),
        [0, 0, 0, 5, 0x52, 0x1c, 0x3b, 0x01, 0x43, 0x08, 0xc0, 0x41]
    );
}

#[test]
fn counter_starts_at_1_and_counts() {
    let counter = TxCounter::new();
    assert_eq!(counter.next(), Ok(id(1)));
    let range = counter.reserve(3).unwrap();
    assert_eq!((range.first(), range.count()), (id(2), 3));
    assert_eq!(range.get(0), Some(id(2)));
    assert_eq!(range.get(2), Some(id(4)));
    assert_eq!(range.get(3), None);
    assert_eq!(counter.reserve(0).unwrap().count(), 1);
    assert_eq!(counter.next(), Ok(id(6)));
}

#[test]
fn counter_ends_for_ever() {
    for ask in [1, 2, 3, u32::MAX] {
        let counter = TxCounter::starting_at(id(u32::MAX - 1));
        let mut seen = Vec::new();
        while let Ok(range) = counter.reserve(ask) {
            seen.extend((0..range.count()).map(|n| range.get(n).unwrap().get()));
        }
        assert_eq!(seen, [u32::MAX - 1, u32::MAX]);
        for _ in 0..3 {
            assert_eq!(counter.next(), Err(Exhausted));
            assert_eq!(counter.reserve(u32::MAX), Err(Exhausted));
        }
    }
}

#[test]
fn whole_life_in_one_reservation() {
    let counter = TxCounter::new();
    let all = counter.reserve(u32::MAX).unwrap();
    assert_eq!((all.first(), all.count()), (id(1), u32::MAX));
    assert_eq!(all.get(u32::MAX - 1), Some(id(u32::MAX)));
    assert!(all.contains(id(u32::MAX)));
    assert_eq!(counter.next(), Err(Exhausted));
}

#[test]
fn one_range_contains_the_mark() {
    for size in [1, 2, 7, 64] {
        for mark in 100..200 {
            let counter = TxCounter::starting_at(id(90));
            let hits = (0..200).filter(|_| counter.reserve(size).unwrap().contains(id(mark)));
            assert_eq!(hits.count(), 1, "batches of {size}, mark {mark}");
        }
    }
}

/// Real threads at the end of the range, besides the model in `tests/loom.rs`.
#[test]
fn threads_share_the_last_ids() {
    for round in 0..200 {
        let counter = TxCounter::starting_at(id(u32::MAX - 99));
        let sender = || {
            let ranges = std::iter::from_fn(|| counter.reserve(1 + round % 3).ok());
            let ids = ranges.flat_map(|r| (0..r.count()).map(move |n| r.get(n).unwrap().get()));
            ids.collect::<Vec<_>>()
        };
        let mut all = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(sender));
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect::<Vec<_>>()
        });
        all.sort_unstable();
        assert_eq!(all, (u32::MAX - 99..=u32::MAX).collect::<Vec<_>>());
    }
}
