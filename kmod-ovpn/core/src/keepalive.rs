// SPDX-License-Identifier: GPL-2.0
//! The two timers of a peer: sending keepalives, and giving the peer up.
//!
//! They are independent: either may be off. (OpenVPN's `ping` without `ping-restart` sends and
//! never expires; `ping-exit` alone expires and never sends.)

use super::clock::BootSecs;

/// Longest interval or timeout, seconds. Source: Linux, `Documentation/netlink/specs/ovpn.yaml`.
pub const MAX_SECS: u32 = 86_400;

/// Settings of both timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    interval: u32,
    timeout: u32,
    armed: BootSecs,
}

/// Actions that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The peer must be deleted, reason EXPIRED. Then nothing is to be sent.
    pub expired: bool,
    /// A keepalive must be sent, which makes `last_sent` now.
    pub send: bool,
    /// Seconds until the next look, at least 1; `None` if no timer runs.
    pub next_in: Option<u32>,
}

impl Timers {
    /// Both timers off.
    pub const OFF: Timers = Timers {
        interval: 0,
        timeout: 0,
        armed: BootSecs(0),
    };

    /// Timers set at `now`; a value of 0 seconds switches its timer off.
    ///
    /// Packets sent or received before do not count: a timeout set just now cannot expire
    /// before it has run once.
    pub const fn new(interval: u32, timeout: u32, now: BootSecs) -> Timers {
        Timers {
            interval,
            timeout,
            armed: now,
        }
    }

    /// Seconds of silence after which a keepalive is sent; 0: never.
    pub const fn interval(&self) -> u32 {
        self.interval
    }

    /// Seconds without an authenticated packet after which the peer is deleted, not earlier and
    /// at most one second later; 0: never.
    pub const fn timeout(&self) -> u32 {
        self.timeout
    }

    /// The actions due at `now`, when the last packet was sent at `last_sent` and the last one
    /// authenticated at `last_recv`.
    pub const fn due(&self, now: BootSecs, last_sent: BootSecs, last_recv: BootSecs) -> Due {
        // The clock is cut to seconds: after `timeout` ticks up to one second less has passed.
        let to_expiry = match self.timeout {
            0 => None,
            timeout => self.left(timeout.saturating_add(1), now, last_recv),
        };
        if let Some(0) = to_expiry {
            return Due {
                expired: true,
                send: false,
                next_in: None,
            };
        }
        let to_send = self.left(self.interval, now, last_sent);
        let send = matches!(to_send, Some(0));
        let to_send = if send { Some(self.interval) } else { to_send };
        Due {
            expired: false,
            send,
            next_in: sooner(to_expiry, to_send),
        }
    }

    /// Seconds until `after` seconds have passed since the later one of `event` and arming.
    const fn left(&self, after: u32, now: BootSecs, event: BootSecs) -> Option<u32> {
        if after == 0 {
            return None;
        }
        Some(after.saturating_sub(now.since(event.later(self.armed))))
    }
}

const fn sooner(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(x), Some(y)) => Some(if x < y { x } else { y }),
        (Some(x), None) => Some(x),
        (None, y) => y,
    }
}
