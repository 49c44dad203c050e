// SPDX-License-Identifier: GPL-2.0
//! AEAD nonces, and the counter that keeps them unique while a key lives.

use super::sync::{AtomicU32, Ordering};
use super::wire::PacketId;

/// Bytes of an AEAD nonce.
pub const NONCE_LEN: usize = 12;

/// Bytes of the nonce that come with the key and are not sent.
pub const TAIL_LEN: usize = 8;

/// The last 8 bytes of every nonce of one key and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceTail(pub [u8; TAIL_LEN]);

/// Nonce of a packet: its id, big-endian, then the tail.
/// Source: OpenVPN, `src/openvpn/crypto.c`, AEAD mode.
#[inline]
pub const fn nonce(id: PacketId, tail: NonceTail) -> [u8; NONCE_LEN] {
    let [a, b, c, d] = id.get().to_be_bytes();
    let [e, f, g, h, i, j, k, l] = tail.0;
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// The key has handed out all its packet ids and must not send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// Packet ids handed out at once: `count` of them from `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: PacketId,
    count: u32,
}

impl IdRange {
    /// The lowest id of the range.
    #[inline]
    pub const fn first(self) -> PacketId {
        self.first
    }

    /// Number of ids, at least 1. Fewer than were asked for at the end of the key's life.
    #[inline]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The id number `n` of the range, from 0.
    #[inline]
    pub const fn get(self, n: u32) -> Option<PacketId> {
        if n < self.count {
            PacketId::new(self.first.get().wrapping_add(n))
        } else {
            None
        }
    }

    /// Whether `id` is in the range. Ids are handed out once, so of all users of a counter
    /// exactly one sees a given id here: who finds a rekey mark in its range reports it.
    #[inline]
    pub const fn contains(self, id: PacketId) -> bool {
        id.get().wrapping_sub(self.first.get()) < self.count
    }
}

/// Hands out the packet ids of one key: 1 to 0xFFFFFFFF, each once, then no more.
///
/// Shared by all CPUs that send. No ordering is needed besides the counter's own: an id is only
/// a number, nothing else is published through it.
#[derive(Debug)]
pub struct TxCounter {
    /// The next id; 0 when all are gone.
    next: AtomicU32,
}

impl TxCounter {
    /// A counter that begins at 1.
    pub fn new() -> TxCounter {
        TxCounter::starting_at(PacketId::FIRST)
    }

    /// A counter that begins at `first`: for tests near the end of the range.
    pub fn starting_at(first: PacketId) -> TxCounter {
        TxCounter {
            next: AtomicU32::new(first.get()),
        }
    }

    /// Takes one id.
    ///
    /// # Errors
    /// [`Exhausted`] once 0xFFFFFFFF has been handed out, for ever.
    #[inline]
    pub fn next(&self) -> Result<PacketId, Exhausted> {
        self.reserve(1).map(IdRange::first)
    }

    /// Takes `count` consecutive ids (0 counts as 1), or what is left if that is less.
    ///
    /// # Errors
    /// [`Exhausted`] once 0xFFFFFFFF has been handed out, for ever.
    #[inline]
    pub fn reserve(&self, count: u32) -> Result<IdRange, Exhausted> {
        // Compare and exchange, not an addition: additions of several CPUs at the end of the
        // range would wrap and hand out ids a second time before anyone could stop them.
        let mut now = self.next.load(Ordering::Relaxed);
        loop {
            let first = PacketId::new(now).ok_or(Exhausted)?;
            // 2^32 - now, which fits because now is not 0.
            let left = now.wrapping_neg();
            let take = if count == 0 { 1 } else { count.min(left) };
            // Ends at 0 exactly when the last id is taken.
            let then = now.wrapping_add(take);
            match self
                .next
                .compare_exchange_weak(now, then, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(IdRange { first, count: take }),
                Err(seen) => now = seen,
            }
        }
    }
}

impl Default for TxCounter {
    fn default() -> Self {
        TxCounter::new()
    }
}
