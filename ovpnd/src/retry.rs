// SPDX-License-Identifier: GPL-2.0-or-later
//! When to try again: waits that double, with a random part so that two routers do not keep step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);

/// A thing that is tried again after it failed.
#[derive(Debug, Clone)]
pub struct Retry {
    longest: Duration,
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    /// Nothing failed so far; no wait will be longer than `longest`.
    pub fn new(longest: Duration) -> Self {
        Self {
            longest,
            failures: 0,
            at: None,
        }
    }

    /// Notes a failure: the next attempt comes after 1, 2, 4, ... seconds, less up to a half of that.
    pub fn failed(&mut self, now: Instant) {
        let longest = FIRST
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        self.at = Some(now + longest - random_part(longest / 2));
    }

    /// Notes a failure after which the next attempt comes in `wait`.
    pub fn failed_for(&mut self, now: Instant, wait: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.at = Some(now + wait);
    }

    /// Notes success: the next failure starts from the shortest wait again.
    pub fn succeeded(&mut self) {
        *self = Self::new(self.longest);
    }

    /// Ends the wait without forgetting how often it failed.
    pub fn end_wait(&mut self) {
        self.at = None;
    }

    /// When the next attempt is due, while one is waited for.
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether nothing is waited for.
    pub fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

/// A random duration up to `most`. Nothing secret depends on it: the hasher's random keys do.
fn random_part(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1001;
    most / 1000 * u32::try_from(random).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_success() {
        let now = Instant::now();
        let mut retry = Retry::new(Duration::from_secs(6));
        assert!(retry.is_due(now));
        for most in [1, 2, 4, 6, 6] {
            retry.failed(now);
            let wait = retry.at().unwrap() - now;
            let most = Duration::from_secs(most);
            assert!(wait <= most && wait >= most / 2, "{wait:?} of {most:?}");
            assert!(!retry.is_due(now) && retry.is_due(now + most));
        }
        retry.succeeded();
        retry.failed(now);
        assert!(retry.at().unwrap() - now <= FIRST);
    }

    #[test]
    fn no_count_of_failures_overflows() {
        let now = Instant::now();
        let mut retry = Retry {
            longest: Duration::from_secs(60),
            failures: u32::MAX,
            at: None,
        };
        retry.failed(now);
        assert!(retry.at().unwrap() <= now + Duration::from_secs(60));
    }

    #[test]
    fn waits_differ() {
        let waits: std::collections::BTreeSet<_> = (0..20)
            .map(|_| random_part(Duration::from_secs(1)))
            .collect();
        assert!(waits.len() > 5, "{waits:?}");
    }
}
