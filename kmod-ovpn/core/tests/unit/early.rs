// SPDX-License-Identifier: GPL-2.0
use ovpn_core::clock::BootSecs;
use ovpn_core::early::{is_next, is_too_old, patience, Memory, BYTES, SECONDS};
use ovpn_core::slots::{Place, SlotWord};
use ovpn_core::wire::KeyId;

fn id(n: u32) -> KeyId {
    KeyId::new(n).unwrap()
}

/// The ids that a peer waits for, of a primary and a secondary key.
fn awaited(primary: Option<u32>, secondary: Option<u32>) -> Vec<u8> {
    let mut word = SlotWord::EMPTY;
    if let Some(n) = primary {
        word = word.filled(Place::A, id(n));
    }
    if let Some(n) = secondary {
        word = word.filled(Place::B, id(n));
    }
    let ids: Vec<u8> = (0..8)
        .filter(|n| is_next(word, id(*n)))
        .map(|n| n as u8)
        .collect();
    // The roles are told by the bit, not by the place.
    let mut turned = SlotWord::EMPTY.swapped();
    if let Some(n) = primary {
        turned = turned.filled(Place::B, id(n));
    }
    if let Some(n) = secondary {
        turned = turned.filled(Place::A, id(n));
    }
    let same: Vec<u8> = (0..8)
        .filter(|n| is_next(turned, id(*n)))
        .map(|n| n as u8)
        .collect();
    assert_eq!(ids, same);
    ids
}

#[test]
fn ids_run_from_0_and_then_from_1_to_7() {
    let mut key = id(0);
    let mut seen = Vec::new();
    for _ in 0..9 {
        key = key.successor();
        seen.push(key.get());
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 1, 2]);
}

#[test]
fn the_id_of_a_packet_is_in_its_first_byte() {
    assert_eq!(KeyId::of(&[0x4d, 0, 0, 7, 9]), Some(id(5)));
    assert_eq!(KeyId::of(&[0x4d, 0, 0]), None);
}

#[test]
fn the_successor_of_the_newest_key_is_awaited() {
    assert_eq!(awaited(Some(0), None), [1]);
    assert_eq!(awaited(Some(7), None), [1]);
    assert_eq!(awaited(None, Some(3)), [4]);
    // A renegotiation's new key before KEY_SWAP, and after it.
    assert_eq!(awaited(Some(0), Some(1)), [2]);
    assert_eq!(awaited(Some(1), Some(0)), [2]);
    assert_eq!(awaited(Some(7), Some(1)), [2]);
    assert_eq!(awaited(Some(1), Some(7)), [2]);
    // Keys that do not follow each other: the one that sends counts.
    assert_eq!(awaited(Some(5), Some(2)), [6]);
}

#[test]
fn a_peer_without_a_key_waits_for_any() {
    assert_eq!(awaited(None, None), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn packets_wait_for_two_seconds_and_not_for_four() {
    let came = BootSecs(u32::MAX);
    let after = |n: u32| BootSecs(u32::MAX.wrapping_add(n));
    let old: Vec<bool> = (0..5).map(|n| is_too_old(came, after(n))).collect();
    assert_eq!(old, [false, false, false, true, true]);
    assert_eq!(SECONDS, 2);
    let left: Vec<u32> = (0..5).map(|n| patience(came, after(n))).collect();
    assert_eq!(left, [3, 2, 1, 1, 1]);
    // Another CPU's later reading of the clock.
    assert!(!is_too_old(after(1), came));
    assert_eq!(patience(after(1), came), 3);
}

#[test]
fn memory_is_bounded_and_comes_back() {
    let memory = Memory::new();
    assert!(memory.take(BYTES));
    assert!(!memory.take(1));
    memory.give(10);
    assert!(!memory.take(11));
    assert!(memory.take(10));
    memory.give(BYTES);
    assert!(!memory.take(BYTES + 1));
    assert!(!memory.take(u32::MAX));
    assert!(memory.take(1));
    assert!(!memory.take(u32::MAX));
}
