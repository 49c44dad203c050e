// SPDX-License-Identifier: GPL-2.0
//! Data packets that come before their key.
//!
//! The two ends of a tunnel agree on a key in userspace, and each installs it when its process
//! runs. The end that is faster sends with the new key while the slower one's process still waits
//! for a processor. Such packets wait for KEY_NEW, a few of them and not for long: no one has
//! authenticated them.

use super::clock::BootSecs;
use super::slots::SlotWord;
use super::sync::{AtomicU32, Ordering};
use super::wire::KeyId;

/// Packets of one peer that may wait.
pub const PACKETS: u32 = 64;

/// Memory of all packets of an interface that wait, in bytes as the kernel charges for them: 7
/// peers that use up [`PACKETS`] with an MTU of 1500.
pub const BYTES: u32 = 1 << 20;

/// Seconds that a packet may wait at least; it waits less than one more. A process that did not
/// run for so long is not late but stopped, and the applications have sent again or given up.
pub const SECONDS: u32 = 2;

/// Whether the key of that id, which no slot has, is the one that a renegotiation brings next.
#[inline]
pub fn is_next(slots: SlotWord, id: KeyId) -> bool {
    let primary = slots.primary();
    let newest = match (slots.key_at(primary), slots.key_at(primary.other())) {
        // Installed, and not yet the one that sends.
        (Some(sends), Some(other)) if other == sends.successor() => other,
        (Some(sends), _) => sends,
        (None, Some(other)) => other,
        // The first key of a session may have any id.
        (None, None) => return true,
    };
    id == newest.successor()
}

/// Whether a packet that waits since `came` has waited for too long.
#[inline]
pub const fn is_too_old(came: BootSecs, at: BootSecs) -> bool {
    at.since(came) > SECONDS
}

/// Seconds until a packet that waits since `came` has waited for too long; at least 1.
#[inline]
pub const fn patience(came: BootSecs, at: BootSecs) -> u32 {
    match (SECONDS + 1).checked_sub(at.since(came)) {
        None | Some(0) => 1,
        Some(seconds) => seconds,
    }
}

/// Memory of the packets that wait on one interface. Shared by its peers and CPUs.
#[derive(Debug)]
pub struct Memory(AtomicU32);

impl Memory {
    /// No packet waits.
    pub fn new() -> Memory {
        Memory(AtomicU32::new(0))
    }

    /// Takes a packet of `bytes` in, if it fits into [`BYTES`] with the others.
    #[inline]
    pub fn take(&self, bytes: u32) -> bool {
        let mut taken = self.0.load(Ordering::Relaxed);
        loop {
            let Some(sum) = taken.checked_add(bytes).filter(|sum| *sum <= BYTES) else {
                return false;
            };
            let swapped =
                self.0
                    .compare_exchange_weak(taken, sum, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return true,
                Err(now) => taken = now,
            }
        }
    }

    /// Gives back what [`take`](Memory::take) took.
    #[inline]
    pub fn give(&self, bytes: u32) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}
