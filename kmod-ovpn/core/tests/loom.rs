// SPDX-License-Identifier: GPL-2.0
//! Every interleaving of the parts that CPUs share without a lock, by the loom model checker:
//! `RUSTFLAGS="--cfg loom" cargo test -p ovpn-core --release --test loom`.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use ovpn_core::nonce::{IdRange, TxCounter};
use ovpn_core::slots::{Place, Role, SlotWord, Slots};
use ovpn_core::wire::{KeyId, PacketId};

fn id(n: u32) -> PacketId {
    PacketId::new(n).unwrap()
}

fn ids(ranges: &[IdRange]) -> Vec<u32> {
    let each = |r: &IdRange| {
        (0..r.count())
            .map(|n| r.get(n).unwrap().get())
            .collect::<Vec<_>>()
    };
    ranges.iter().flat_map(each).collect()
}

/// Senders racing at the end of a key's life: each id once, none after the last.
#[test]
fn ids_are_unique_up_to_the_end() {
    loom::model(|| {
        const FIRST: u32 = u32::MAX - 3;
        let counter = Arc::new(TxCounter::starting_at(id(FIRST)));
        let threads: Vec<_> = [[1, 1], [2, 1]]
            .into_iter()
            .map(|asks| {
                let counter = counter.clone();
                thread::spawn(move || {
                    asks.map(|n| counter.reserve(n))
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for t in threads {
            all.extend(ids(&t.join().unwrap()));
        }
        assert!(counter.next().is_err() && counter.reserve(5).is_err());
        all.sort_unstable();
        assert_eq!(all, (FIRST..=u32::MAX).collect::<Vec<_>>());
    });
}

/// Of all senders exactly one finds the rekey mark in its range.
#[test]
fn one_sender_reports_the_mark() {
    loom::model(|| {
        let counter = Arc::new(TxCounter::new());
        let hits = |counter: &TxCounter| {
            let ranges = [2, 1].map(|n| counter.reserve(n).unwrap());
            ranges.iter().filter(|r| r.contains(id(4))).count()
        };
        let other = {
            let counter = counter.clone();
            thread::spawn(move || hits(&counter))
        };
        let mine = hits(&counter);
        assert_eq!(mine + other.join().unwrap(), 1);
    });
}

/// A peer as the driver has it: the word, and what its two pointers lead to. A key is its key id
/// plus 1; 0 is no key.
struct Peer {
    slots: Slots,
    keys: [AtomicU32; 2],
}

/// The side that changes keys, one at a time. It remembers the word instead of loading it: a load
/// and then a store of the same thread keep loom 0.7 from trying other threads' loads after the
/// store (its last-access record holds one access only).
struct Writer {
    peer: Arc<Peer>,
    word: SlotWord,
}

fn key(n: u32) -> KeyId {
    KeyId::new(n).unwrap()
}

/// A peer without keys, shared with its readers.
fn peer() -> (Arc<Peer>, Writer) {
    let peer = Arc::new(Peer {
        slots: Slots::new(),
        keys: [AtomicU32::new(0), AtomicU32::new(0)],
    });
    let word = SlotWord::EMPTY;
    (peer.clone(), Writer { peer, word })
}

impl Writer {
    fn publish(&mut self, word: SlotWord) {
        self.word = word;
        self.peer.slots.publish(word);
    }

    fn install(&mut self, role: Role, n: u32) {
        let place = self.word.place(role);
        // Relaxed: that the key is there is told by the word alone.
        self.peer.keys[place as usize].store(n + 1, Ordering::Relaxed);
        self.publish(self.word.filled(place, key(n)));
    }

    fn delete(&mut self, role: Role) {
        let place = self.word.place(role);
        self.publish(self.word.emptied(place));
        self.peer.keys[place as usize].store(0, Ordering::Relaxed);
    }

    fn swap(&mut self) {
        self.publish(self.word.swapped());
    }
}

impl Peer {
    fn at(&self, place: Place) -> Option<(KeyId, u32)> {
        // Relaxed, as an RCU pointer is read.
        let id = self.keys[place as usize]
            .load(Ordering::Relaxed)
            .checked_sub(1)?;
        Some((key(id), id))
    }

    fn tx(&self) -> Option<u32> {
        self.slots.tx(|place| self.at(place))
    }

    fn rx(&self, id: u32) -> Option<u32> {
        self.slots.rx(key(id), |place| self.at(place))
    }
}

/// A first key: who sees it announced finds it, without a second look.
#[test]
fn an_announced_key_is_there() {
    loom::model(|| {
        let (peer, mut writer) = peer();
        let writer = thread::spawn(move || writer.install(Role::Primary, 2));
        if let Some((place, id)) = peer.slots.load().tx() {
            assert_eq!(peer.at(place), Some((id, 2)));
        }
        assert!(matches!(peer.tx(), None | Some(2)));
        writer.join().unwrap();
        assert_eq!(peer.tx(), Some(2));
    });
}

/// A renegotiation while packets are sent and received: a sender always has a key, and it is the
/// old or the new one; a receiver has the old key until it is deleted, the new one from the swap.
#[test]
fn rekey_leaves_no_gap() {
    loom::model(|| {
        let (peer, mut writer) = peer();
        writer.install(Role::Primary, 0);
        let writer = thread::spawn(move || {
            writer.install(Role::Secondary, 1);
            writer.swap();
            writer.delete(Role::Secondary);
        });
        let first = peer.tx().expect("a sender always finds a key");
        let second = peer.tx().expect("a sender always finds a key");
        assert!(first <= second, "the swap is not taken back");
        if second == 1 {
            assert_eq!(peer.rx(1), Some(1));
        }
        writer.join().unwrap();
        assert_eq!((peer.tx(), peer.rx(0)), (Some(1), None));
    });
}

/// A receiver during the same: the old key opens packets until the swap at least.
#[test]
fn rekey_keeps_the_old_key_for_receiving() {
    loom::model(|| {
        let (peer, mut writer) = peer();
        writer.install(Role::Primary, 0);
        let writer = thread::spawn(move || {
            writer.install(Role::Secondary, 1);
            writer.swap();
        });
        assert_eq!(peer.rx(0), Some(0));
        let new = peer.rx(1);
        assert!(matches!(new, None | Some(1)));
        assert!(
            new.is_none() || peer.rx(1) == Some(1),
            "it does not go away again"
        );
        writer.join().unwrap();
        assert_eq!((peer.rx(0), peer.rx(1)), (Some(0), Some(1)));
    });
}

/// Sender and receiver while keys only change roles: nothing is ever missing.
#[test]
fn swap_alone_never_hides_a_key() {
    loom::model(|| {
        let (peer, mut writer) = peer();
        writer.install(Role::Primary, 3);
        writer.install(Role::Secondary, 4);
        let writer = thread::spawn(move || {
            writer.swap();
            writer.swap();
        });
        let receiver = {
            let peer = peer.clone();
            thread::spawn(move || assert_eq!((peer.rx(3), peer.rx(4)), (Some(3), Some(4))))
        };
        assert!(peer.tx().is_some());
        writer.join().unwrap();
        receiver.join().unwrap();
        assert_eq!(peer.tx(), Some(3));
    });
}

/// A primary key replaced in its place: a sender has one or the other throughout, a receiver never
/// gets a key of another id.
#[test]
fn a_replaced_key_is_never_mistaken() {
    loom::model(|| {
        let (peer, mut writer) = peer();
        writer.install(Role::Primary, 5);
        let writer = thread::spawn(move || writer.install(Role::Primary, 6));
        assert!(matches!(peer.tx(), Some(5 | 6)));
        assert!(matches!(peer.rx(5), None | Some(5)));
        assert!(matches!(peer.rx(6), None | Some(6)));
        writer.join().unwrap();
        assert_eq!((peer.tx(), peer.rx(5)), (Some(6), None));
    });
}
