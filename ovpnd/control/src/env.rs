// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time and randomness, which the caller brings to each call.

use std::time::Instant;

/// A source of unpredictable random bytes, such as getrandom(2).
pub trait Random {
    /// Fills `out`.
    fn fill(&mut self, out: &mut [u8]);
}

impl<F: FnMut(&mut [u8])> Random for F {
    fn fill(&mut self, out: &mut [u8]) {
        self(out);
    }
}

/// The world at the time of a call.
pub struct Env<'a> {
    /// The monotonic clock: all timers.
    pub now: Instant,
    /// Seconds since 1970: stamps of wrapped packets only, so that a wrong clock does no harm while it does not go
    /// back between two sessions.
    pub unix: u64,
    /// Random bytes.
    pub random: &'a mut dyn Random,
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Env({:?}, {})", self.now, self.unix)
    }
}

impl Env<'_> {
    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }
}
