// SPDX-License-Identifier: GPL-2.0-or-later
//! The kernel's part of a turn of the poll loop, and the wait between two turns.

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

use super::Daemon;
use crate::kernel::Happened;

/// Notifications of the kernel that one turn takes. A caller of ubus waits for these and not for a flood of them, which
/// another program's tunnels or connections of strangers can make. The rest stays in the kernel, in buffers of fixed
/// sizes; when such a buffer overflows, [`Happened::Lost`] has the state read anew.
const MOST: usize = 64;

/// Takes `step`s until one finds nothing, [`MOST`] at the most. Whether there may be more.
fn turn(mut step: impl FnMut() -> bool) -> bool {
    (0..MOST).all(|_| step())
}

/// The time to wait for descriptors: until the first of `waits`, or none while there is `more` to take. A socket that
/// was read may have notifications left that poll does not see.
pub(super) fn timeout(
    waits: impl IntoIterator<Item = Option<Instant>>,
    more: bool,
    now: Instant,
) -> PollTimeout {
    if more {
        return PollTimeout::ZERO;
    }
    let Some(at) = waits.into_iter().flatten().min() else {
        return PollTimeout::NONE;
    };
    // Rounded up: a wait that ends early would make the loop spin.
    let left = at.saturating_duration_since(now) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

impl Daemon {
    /// Takes in what the kernel has to say, as much as a turn takes.
    pub(super) fn notifications(&mut self, now: Instant) {
        self.more = turn(|| self.notification(now));
    }

    /// Takes in one notification. Whether there was one.
    fn notification(&mut self, now: Instant) -> bool {
        match self.engine.kernel.happened() {
            Ok(None) => return false,
            Ok(Some(Happened::PeerDeleted(name, peer, reason, totals))) => {
                self.engine.peer_deleted(&name, peer, reason, now);
                #[cfg(feature = "tls")]
                if let Some(totals) = totals {
                    self.engine.clients.counted(&name, peer, totals);
                }
                #[cfg(not(feature = "tls"))]
                let _ = totals;
            }
            Ok(Some(Happened::KeyExhausted(name, peer, key))) => {
                self.engine.key_exhausted(&name, peer, key);
            }
            Ok(Some(Happened::Floated(name, peer, remote))) => {
                self.engine.floated(&name, peer, remote, now);
            }
            Ok(Some(Happened::Came(name, stream, remote))) => {
                self.engine.came(&name, stream, remote, now);
            }
            Ok(Some(Happened::LinkDeleted(name))) => {
                // netifd's handler deletes it when it cannot ask for that.
                if let Some(reason) = self.switches.stopped(&name) {
                    self.engine.stop(&name, reason, now);
                }
                self.engine.link_deleted(&name, now);
            }
            Ok(Some(Happened::Elsewhere)) => {}
            Ok(Some(Happened::Lost)) => self.engine.verify(now),
            Err(failure) => {
                log::warn!("notification: {}", failure.message);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_notifications_does_not_hold_the_loop() {
        let mut left = 10 * MOST;
        let mut take = || {
            let found = left > 0;
            left = left.saturating_sub(1);
            found
        };
        // Nine turns end at the bound, and so does the tenth, which does not know that nothing is left.
        assert!((0..10).all(|_| turn(&mut take)));
        assert!(
            !turn(&mut take),
            "the flood took fewer turns than it has to"
        );
        assert_eq!(left, 0);
    }

    #[test]
    fn a_turn_ends_with_the_first_step_that_finds_nothing() {
        let mut steps = 0;
        let more = turn(|| {
            steps += 1;
            steps < 3
        });
        assert_eq!((more, steps), (false, 3));
    }

    #[test]
    fn the_loop_waits_for_the_first_time_and_not_while_there_is_more() {
        let now = Instant::now();
        let after = |ms| Some(now + Duration::from_millis(ms));
        let waits = [None, after(500), after(20)];
        assert_eq!(timeout(waits, false, now), PollTimeout::from(21u8));
        assert_eq!(timeout(waits, true, now), PollTimeout::ZERO);
        assert_eq!(timeout([None], false, now), PollTimeout::NONE);
        let past = now + Duration::from_secs(1);
        assert_eq!(timeout(waits, false, past), PollTimeout::from(1u8));
    }
}
