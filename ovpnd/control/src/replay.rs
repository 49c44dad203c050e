// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ids that tell a replayed control packet: a sender's counter and a receiver's window.
//!
//! They protect packets of tls-auth and tls-crypt. Each packet has a new id, also one that repeats a message. The
//! sender's start time comes with the id, so that a sender that starts anew needs to remember nothing.

use std::time::{Duration, Instant};

/// How far an id may be behind the newest one (OpenVPN's `--replay-window`).
pub const WINDOW: u32 = 64;
/// How long ago a newer id may have come at most (the second value of `--replay-window`).
pub const MAX_AGE: Duration = Duration::from_secs(15);
/// Set in a client's first id when it can repeat its wrapped key to a stateless server.
pub const EARLY_NEGOTIATION: u32 = 0x0f00_0000;

/// The number of a wrapped packet, from 1; 0 is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplayId(pub u32);

/// A packet's number and its sender's start in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The number.
    pub id: ReplayId,
    /// The start of the numbering.
    pub time: u32,
}

impl Stamp {
    /// Bytes on the wire.
    pub const LEN: usize = 8;

    /// The bytes on the wire.
    pub fn bytes(self) -> [u8; Self::LEN] {
        ((u64::from(self.id.0) << 32) | u64::from(self.time)).to_be_bytes()
    }

    /// Reads the bytes on the wire.
    pub fn parse(bytes: [u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            id: ReplayId(u32::from_be_bytes([a, b, c, d])),
            time: u32::from_be_bytes([e, f, g, h]),
        }
    }

    /// Whether a client that sent this first can repeat its wrapped key.
    pub fn offers_early_negotiation(self) -> bool {
        self.id.0 & 0xff00_0000 == EARLY_NEGOTIATION
    }
}

/// The sender's counter.
#[derive(Debug)]
pub struct Counter {
    last: u32,
    time: u32,
}

impl Counter {
    /// Starts behind `last`; `unix` is the time in seconds since 1970.
    pub fn new(last: u32, unix: u64) -> Self {
        Self {
            last,
            time: low_bits(unix),
        }
    }

    /// The next packet's stamp. After 2^32 packets the numbering starts anew at a later time.
    pub fn next(&mut self, unix: u64) -> Stamp {
        match self.last.checked_add(1) {
            Some(id) => self.last = id,
            None => {
                self.last = 1;
                self.time = low_bits(unix).max(self.time.saturating_add(1));
            }
        }
        Stamp {
            id: ReplayId(self.last),
            time: self.time,
        }
    }
}

/// The protocol has 32 bits for the time.
fn low_bits(unix: u64) -> u32 {
    u32::try_from(unix & u64::from(u32::MAX)).unwrap_or(0)
}

/// The receiver's window, to be asked only about packets whose authentication was checked.
#[derive(Debug, Default)]
pub struct Window {
    newest: Option<Stamp>,
    /// The packets seen within the window, oldest id first.
    seen: std::collections::VecDeque<(u32, Instant)>,
}

impl Window {
    /// Takes a packet's stamp; false for a replay, one that is too old, and id 0.
    #[must_use]
    pub fn accept(&mut self, stamp: Stamp, now: Instant) -> bool {
        let id = stamp.id.0;
        if id == 0 {
            return false;
        }
        match self.newest {
            Some(newest) if stamp.time < newest.time => return false,
            Some(newest) if stamp.time == newest.time => {
                if !self.is_new(id, newest.id.0, now) {
                    return false;
                }
                if id > newest.id.0 {
                    self.newest = Some(stamp);
                }
            }
            _ => {
                self.seen.clear();
                self.newest = Some(stamp);
            }
        }
        let at = self.seen.partition_point(|(seen, _)| *seen < id);
        self.seen.insert(at, (id, now));
        let oldest = self
            .newest
            .map_or(0, |newest| newest.id.0.saturating_sub(WINDOW - 1));
        while self.seen.front().is_some_and(|(seen, _)| *seen < oldest) {
            self.seen.pop_front();
        }
        true
    }

    fn is_new(&self, id: u32, newest: u32, now: Instant) -> bool {
        if id > newest {
            return true;
        }
        newest - id < WINDOW
            && self.seen.iter().all(|(seen, at)| {
                *seen < id || (*seen != id && now.saturating_duration_since(*at) <= MAX_AGE)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(id: u32, time: u32) -> Stamp {
        Stamp {
            id: ReplayId(id),
            time,
        }
    }

    #[test]
    fn the_counter_starts_at_one_and_never_repeats() {
        let mut counter = Counter::new(0, 100);
        assert_eq!(counter.next(200), stamp(1, 100));
        assert_eq!(counter.next(200), stamp(2, 100));
        let mut counter = Counter::new(u32::MAX - 1, 100);
        assert_eq!(counter.next(50), stamp(u32::MAX, 100));
        assert_eq!(counter.next(50), stamp(1, 101));
        assert_eq!(
            Counter::new(EARLY_NEGOTIATION, 1).next(1),
            stamp(0x0f00_0001, 1)
        );
    }

    #[test]
    fn stamps_on_the_wire() {
        let bytes = stamp(0x0102_0304, 0x0506_0708).bytes();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Stamp::parse(bytes), stamp(0x0102_0304, 0x0506_0708));
        assert!(stamp(0x0f00_0001, 0).offers_early_negotiation());
        assert!(!stamp(1, 0).offers_early_negotiation());
        assert!(!stamp(0x1f00_0001, 0).offers_early_negotiation());
    }

    #[test]
    fn both_edges_of_the_window() {
        let now = Instant::now();
        let mut window = Window::default();
        assert!(!window.accept(stamp(0, 5), now));
        assert!(window.accept(stamp(100, 5), now));
        assert!(!window.accept(stamp(100, 5), now));
        assert!(window.accept(stamp(37, 5), now));
        assert!(!window.accept(stamp(36, 5), now));
        assert!(!window.accept(stamp(37, 5), now));
        assert!(window.accept(stamp(101, 5), now));
        assert!(!window.accept(stamp(37, 5), now));
    }

    #[test]
    fn an_earlier_start_is_refused_and_a_later_one_begins_anew() {
        let now = Instant::now();
        let mut window = Window::default();
        assert!(window.accept(stamp(100, 5), now));
        assert!(!window.accept(stamp(101, 4), now));
        assert!(window.accept(stamp(1, 6), now));
        assert!(!window.accept(stamp(1, 6), now));
        assert!(!window.accept(stamp(101, 5), now));
    }

    #[test]
    fn a_late_packet_is_refused_once_a_newer_one_is_older_than_15_seconds() {
        let now = Instant::now();
        let mut window = Window::default();
        assert!(window.accept(stamp(10, 5), now));
        assert!(window.accept(stamp(9, 5), now + MAX_AGE));
        let late = now + MAX_AGE + Duration::from_millis(1);
        assert!(!window.accept(stamp(8, 5), late));
        assert!(window.accept(stamp(12, 5), late));
        assert!(window.accept(stamp(11, 5), late + MAX_AGE));
    }

    proptest! {
        #[test]
        fn no_stamp_is_accepted_twice_and_the_window_stays_small(ids in proptest::collection::vec((0u32..200, 0u32..3), 0..400)) {
            let now = Instant::now();
            let mut window = Window::default();
            let mut accepted = std::collections::BTreeSet::new();
            for (id, time) in ids {
                if window.accept(stamp(id, time), now) {
                    prop_assert!(accepted.insert((time, id)));
                }
                prop_assert!(window.seen.len() <= WINDOW as usize);
            }
        }
    }
}
