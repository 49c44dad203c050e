// SPDX-License-Identifier: GPL-2.0
//! Two key slots of a peer: which one sends, which one opens a packet.
//!
//! The keys themselves are held by the caller in two places, [`Place::A`] and [`Place::B`]
//! (RCU pointers in the driver). This file holds the small word that tells what is where: the
//! primary place, and for each place whether it is filled and with which key id. A reader needs
//! one atomic load to know the place to look at.
//!
//! # Protocol
//! Writers of one peer exclude each other (a lock of the caller). To fill a place, store the
//! pointer, then publish the word; to empty it, publish the word, then clear the pointer.
//! A reader loads the word, then the pointer of the place it names. Between the two loads the
//! place may have been emptied or refilled: then the key it finds is none, or has another id than
//! the word told, and the reader looks once more ([`Slots::tx`] and [`Slots::rx`] do this).
//! `tests/loom.rs` tries every interleaving.
//!
//! Roles change by [`SlotWord::swapped`] alone, without moving a pointer: a packet that was
//! sealed with the old word is still sealed with a key the peer holds.

use super::sync::{fence, AtomicU32, Ordering};
use super::wire::KeyId;

/// Role of a key, as netlink names it (`enum ovpn_key_slot`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// Sends and receives.
    Primary = 0,
    /// Receives only: the next key before a swap, the last one after it.
    Secondary = 1,
}

impl Role {
    /// `None` above 1.
    #[inline]
    pub const fn new(slot: u32) -> Option<Role> {
        match slot {
            0 => Some(Role::Primary),
            1 => Some(Role::Secondary),
            _ => None,
        }
    }
}

/// Where the caller holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// The first of the two.
    A = 0,
    /// The second of the two.
    B = 1,
}

impl Place {
    /// The other one.
    #[inline]
    pub const fn other(self) -> Place {
        match self {
            Place::A => Place::B,
            Place::B => Place::A,
        }
    }
}

/// State of both places at one moment.
///
/// # Invariants
/// Bit 0: the primary place. Bits 4-7 for A, 8-11 for B: key id in the low three bits, "filled"
/// in the fourth. No other bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWord(u32);

const PRIMARY: u32 = 1;
const FILLED: u32 = 8;

impl SlotWord {
    /// Both empty.
    pub const EMPTY: SlotWord = SlotWord(0);

    /// Place of the primary key.
    #[inline]
    pub const fn primary(self) -> Place {
        if self.0 & PRIMARY == 0 {
            Place::A
        } else {
            Place::B
        }
    }

    /// Where the key of a role is, or would go.
    #[inline]
    pub const fn place(self, role: Role) -> Place {
        match role {
            Role::Primary => self.primary(),
            Role::Secondary => self.primary().other(),
        }
    }

    /// Key id at a place; `None` if it is empty.
    #[inline]
    pub const fn key_at(self, place: Place) -> Option<KeyId> {
        let field = self.0.wrapping_shr(shift(place));
        if field & FILLED == 0 {
            None
        } else {
            KeyId::new(field & 7)
        }
    }

    /// The key that seals packets.
    #[inline]
    pub const fn tx(self) -> Option<(Place, KeyId)> {
        let place = self.primary();
        match self.key_at(place) {
            Some(id) => Some((place, id)),
            None => None,
        }
    }

    /// Place of the key that opens packets of that key id: the primary's if both have it.
    #[inline]
    pub fn rx(self, key_id: KeyId) -> Option<Place> {
        let first = self.primary();
        if self.key_at(first) == Some(key_id) {
            Some(first)
        } else if self.key_at(first.other()) == Some(key_id) {
            Some(first.other())
        } else {
            None
        }
    }

    /// The word after a key was put at a place.
    #[inline]
    pub const fn filled(self, place: Place, key_id: KeyId) -> SlotWord {
        let field = FILLED | key_id.get() as u32;
        SlotWord(self.emptied(place).0 | field.wrapping_shl(shift(place)))
    }

    /// The word after a place was emptied. The roles stay.
    #[inline]
    pub const fn emptied(self, place: Place) -> SlotWord {
        SlotWord(self.0 & !15u32.wrapping_shl(shift(place)))
    }

    /// The word after the two keys changed their roles, also if one or both are missing.
    #[inline]
    pub const fn swapped(self) -> SlotWord {
        SlotWord(self.0 ^ PRIMARY)
    }
}

const fn shift(place: Place) -> u32 {
    match place {
        Place::A => 4,
        Place::B => 8,
    }
}

/// The word of a peer, as readers and one writer at a time share it.
#[derive(Debug)]
pub struct Slots {
    word: AtomicU32,
}

impl Slots {
    /// Both places empty.
    pub fn new() -> Slots {
        Slots {
            word: AtomicU32::new(SlotWord::EMPTY.0),
        }
    }

    /// The state now. A pointer stored before the word was published is visible afterwards.
    #[inline]
    pub fn load(&self) -> SlotWord {
        SlotWord(self.word.load(Ordering::Acquire))
    }

    /// Replaces the state. The caller holds the lock that excludes other writers, and derived
    /// `word` from a [`Slots::load`] under that lock.
    #[inline]
    pub fn publish(&self, word: SlotWord) {
        self.word.store(word.0, Ordering::Release);
        // A reader that sees a pointer cleared after this sees the word too: pairs with `reload`.
        fence(Ordering::Release);
    }

    /// The key that seals packets. `at` tells which key is at a place now, with its key id.
    ///
    /// `None` only if there is no primary key.
    #[inline]
    pub fn tx<K>(&self, mut at: impl FnMut(Place) -> Option<(KeyId, K)>) -> Option<K> {
        let (place, id) = self.load().tx()?;
        match at(place) {
            Some((found, key)) if found == id => return Some(key),
            _ => {}
        }
        // Deleted or replaced just now. If the word has not changed, the key that is being put
        // in the place is the primary one.
        let (place, _) = self.reload().tx()?;
        at(place).map(|(_, key)| key)
    }

    /// The key that opens packets of that key id. `at` tells which key is at a place now, with
    /// its key id.
    #[inline]
    pub fn rx<K>(&self, id: KeyId, mut at: impl FnMut(Place) -> Option<(KeyId, K)>) -> Option<K> {
        match at(self.load().rx(id)?) {
            Some((found, key)) if found == id => return Some(key),
            _ => {}
        }
        match at(self.reload().rx(id)?) {
            Some((found, key)) if found == id => Some(key),
            _ => None,
        }
    }

    /// The state, at least as new as the pointer that was just read. Without the fence a CPU may
    /// see the pointer cleared and go on seeing the word from before.
    fn reload(&self) -> SlotWord {
        fence(Ordering::Acquire);
        self.load()
    }
}

impl Default for Slots {
    fn default() -> Self {
        Slots::new()
    }
}
