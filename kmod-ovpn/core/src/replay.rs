// SPDX-License-Identifier: GPL-2.0
//! Receive window: every packet id at most once, late ones up to 2047 behind the highest.

use super::clock::BootSecs;
use super::counters::DropReason;
use super::wire::PacketId;

/// Packet ids the window remembers, the highest one included.
/// Source: Linux, `drivers/net/ovpn/pktid.h`.
pub const WINDOW: u32 = 2048;

/// After this many seconds without an accepted packet nothing at or below the highest id is
/// accepted any more. Source: Linux, `drivers/net/ovpn/pktid.h`.
pub const IDLE_SECS: u32 = 30;

const WORD_BITS: u32 = 32;
const WORDS: usize = 64;

/// Why an id is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Accepted before.
    Duplicate,
    /// Behind the window, or not above the floor that an idle time has set.
    TooOld,
}

impl From<Rejected> for DropReason {
    fn from(_: Rejected) -> DropReason {
        DropReason::Replay
    }
}

/// Which packet ids one key has received.
///
/// Not synchronised: the driver keeps it under the key's receive lock, and accepts a whole batch
/// under one acquisition. Only ids of authenticated packets may be accepted.
///
/// # Invariants
/// Bit `id % 2048` of `seen` tells whether `id` was accepted, for the ids of the window
/// (`highest - 2047 ..= highest`); there are no other bits.
#[derive(Debug)]
pub struct ReplayWindow {
    seen: [u32; WORDS],
    /// The highest id accepted; 0 before the first.
    highest: u32,
    /// Ids up to here are refused, whatever `seen` says.
    floor: u32,
    /// When an id was accepted last.
    last: BootSecs,
}

impl ReplayWindow {
    /// A window that has seen nothing yet.
    pub const fn new(now: BootSecs) -> ReplayWindow {
        ReplayWindow {
            seen: [0; WORDS],
            highest: 0,
            floor: 0,
            last: now,
        }
    }

    /// Whether `id` could be accepted: asked before decryption, to spare the cipher's cost on
    /// packets that would be refused anyway. It changes nothing and does not look at the clock,
    /// so [`ReplayWindow::accept`] may still refuse.
    ///
    /// # Errors
    /// Why not, see [`Rejected`].
    #[inline]
    pub fn check(&self, id: PacketId) -> Result<(), Rejected> {
        let id = id.get();
        if id > self.highest {
            return Ok(());
        }
        if id <= self.floor || self.highest.wrapping_sub(id) >= WINDOW {
            return Err(Rejected::TooOld);
        }
        match self.seen.get(word(id)) {
            Some(w) if w & bit(id) == 0 => Ok(()),
            _ => Err(Rejected::Duplicate),
        }
    }

    /// Records `id` of a packet that has just been authenticated.
    ///
    /// # Errors
    /// Why it is refused, see [`Rejected`]; the packet must then be dropped.
    #[inline]
    pub fn accept(&mut self, id: PacketId, now: BootSecs) -> Result<(), Rejected> {
        if now.since(self.last) >= IDLE_SECS {
            self.floor = self.highest;
        }
        self.check(id)?;
        let id = id.get();
        if id > self.highest {
            self.forget_between(self.highest, id);
            self.highest = id;
        }
        if let Some(w) = self.seen.get_mut(word(id)) {
            *w |= bit(id);
        }
        self.last = self.last.later(now);
        Ok(())
    }

    /// The highest id accepted, 0 if none.
    pub const fn highest(&self) -> u32 {
        self.highest
    }

    /// Clears the bits of `old + 1 ..= new`, which until now stood for ids 2048 lower.
    #[inline]
    fn forget_between(&mut self, old: u32, new: u32) {
        if new.wrapping_sub(old) >= WINDOW {
            self.seen = [0; WORDS];
            return;
        }
        // Whole words where possible; first and last may be partly below `old` or above `new`.
        let mut from = old.wrapping_add(1);
        loop {
            let last_of_word = from | WORD_BITS.wrapping_sub(1);
            let mut mask = u32::MAX.wrapping_shl(from);
            if last_of_word >= new {
                mask &= u32::MAX.wrapping_shr(last_of_word.wrapping_sub(new));
            }
            if let Some(w) = self.seen.get_mut(word(from)) {
                *w &= !mask;
            }
            if last_of_word >= new {
                return;
            }
            from = last_of_word.wrapping_add(1);
        }
    }
}

#[inline]
const fn word(id: u32) -> usize {
    (id >> 5) as usize & (WORDS - 1)
}

#[inline]
const fn bit(id: u32) -> u32 {
    1u32.wrapping_shl(id)
}
