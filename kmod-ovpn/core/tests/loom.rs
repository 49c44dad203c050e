// SPDX-License-Identifier: GPL-2.0
//! Every interleaving of the parts that CPUs share without a lock, by the loom model checker:
//! `RUSTFLAGS="--cfg loom" cargo test -p ovpn-core --release --test loom`.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use ovpn_core::nonce::{IdRange, TxCounter};
use ovpn_core::slots::{Place, Role, Slots};
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

fn key(n: u32) -> KeyId {
    KeyId::new(n).unwrap()
}

impl Peer {
    fn empty() -> Peer {
        Peer {
            slots: Slots::new(),
            keys: [AtomicU32::new(0), AtomicU32::new(0)],
        }
    }

    fn with_primary(n: u32) -> Peer {
        let peer = Peer::empty();
        peer.install(Role::Primary, n);
        peer
    }

    fn pointer(&self, place: Place) -> &AtomicU32 {
        &self.keys[place as usize]
    }

    fn install(&self, role: Role, n: u32) {
        let w = self.slots.load();
        let place = w.place(role);
        // Relaxed: that the key is there is told by the word alone.
        self.pointer(place).store(n + 1, Ordering::Relaxed);
        self.slots.publish(w.filled(place, key(n)));
    }

    fn delete(&self, role: Role) {
        let w = self.slots.load();
        let place = w.place(role);
        self.slots.publish(w.emptied(place));
        self.pointer(place).store(0, Ordering::Relaxed);
    }

    fn swap(&self) {
        self.slots.publish(self.slots.load().swapped());
    }

    fn at(&self, place: Place) -> Option<(KeyId, u32)> {
        // Relaxed, as an RCU pointer is read.
        let id = self.pointer(place).load(Ordering::Relaxed).checked_sub(1)?;
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
        let peer = Arc::new(Peer::empty());
        let writer = {
            let peer = peer.clone();
            thread::spawn(move || peer.install(Role::Primary, 2))
        };
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
        let peer = Arc::new(Peer::with_primary(0));
        let writer = {
            let peer = peer.clone();
            thread::spawn(move || {
                peer.install(Role::Secondary, 1);
                peer.swap();
                peer.delete(Role::Secondary);
            })
        };
        let first = peer.tx().expect("a sender always finds a key");
        let second = peer.tx().expect("a sender always finds a key");
        assert!(first <= second, "the swap is not taken back");
        if second == 1 {
            assert_eq!(peer.rx(1), Some(1));
        }
        writer.join().unwrap();
        assert_eq!(peer.tx(), Some(1));
        assert_eq!(peer.rx(0), None);
    });
}

/// Sender and receiver while keys only change roles: nothing is ever missing.
#[test]
fn swap_alone_never_hides_a_key() {
    loom::model(|| {
        let peer = Arc::new(Peer::with_primary(3));
        peer.install(Role::Secondary, 4);
        let writer = {
            let peer = peer.clone();
            thread::spawn(move || {
                peer.swap();
                peer.swap();
            })
        };
        let receiver = {
            let peer = peer.clone();
            thread::spawn(move || {
                assert_eq!((peer.rx(3), peer.rx(4)), (Some(3), Some(4)));
            })
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
        let peer = Arc::new(Peer::with_primary(5));
        let writer = {
            let peer = peer.clone();
            thread::spawn(move || peer.install(Role::Primary, 6))
        };
        assert!(matches!(peer.tx(), Some(5 | 6)));
        assert!(matches!(peer.rx(5), None | Some(5)));
        assert!(matches!(peer.rx(6), None | Some(6)));
        writer.join().unwrap();
        assert_eq!((peer.tx(), peer.rx(5)), (Some(6), None));
    });
}
