// SPDX-License-Identifier: GPL-2.0
//! The receive window said plainly: remember every id, compare as 64-bit numbers.

use std::collections::HashSet;

/// Everything accepted so far.
#[derive(Debug, Default)]
pub struct Model {
    seen: HashSet<u32>,
    highest: u32,
    floor: u32,
    last: u64,
}

impl Model {
    /// Nothing accepted, at `now` seconds.
    pub fn new(now: u64) -> Model {
        Model {
            last: now,
            ..Model::default()
        }
    }

    /// Whether a packet with `id`, at `now` seconds, is accepted.
    pub fn accept(&mut self, id: u32, now: u64) -> bool {
        if now >= self.last + 30 {
            self.floor = self.highest;
        }
        let behind = i64::from(self.highest) - i64::from(id);
        if id == 0 || behind >= 2048 || id <= self.floor || !self.seen.insert(id) {
            return false;
        }
        self.highest = self.highest.max(id);
        self.last = self.last.max(now);
        true
    }

    /// The highest id accepted, 0 if none.
    pub fn highest(&self) -> u32 {
        self.highest
    }
}
