// SPDX-License-Identifier: GPL-2.0

use ovpn_core::clock::BootSecs;
use ovpn_core::keepalive::{Due, Timers};

/// Clock readings to place each case at: the arithmetic must not care, nor at the wrap.
const BASES: [u32; 4] = [0, 1000, u32::MAX - 5, i32::MAX as u32 - 3];

const fn due(expired: bool, send: bool, next_in: Option<u32>) -> Due {
    Due {
        expired,
        send,
        next_in,
    }
}

#[test]
fn table() {
    // interval, timeout; seconds since arming, since the last packet sent, received; what is due
    let cases = [
        // off
        ((0, 0), (99, 99, 99), due(false, false, None)),
        // both
        ((10, 60), (0, 0, 0), due(false, false, Some(10))),
        ((10, 60), (9, 9, 9), due(false, false, Some(1))),
        ((10, 60), (10, 10, 10), due(false, true, Some(10))),
        ((10, 60), (55, 55, 55), due(false, true, Some(6))),
        ((10, 60), (59, 59, 59), due(false, true, Some(2))),
        ((10, 60), (60, 60, 60), due(false, true, Some(1))),
        ((10, 60), (61, 61, 61), due(true, false, None)),
        ((10, 60), (61, 0, 61), due(true, false, None)),
        // traffic one way keeps one timer away only
        ((10, 60), (500, 3, 55), due(false, false, Some(6))),
        ((10, 60), (500, 10, 0), due(false, true, Some(10))),
        ((10, 60), (500, 0, 61), due(true, false, None)),
        // each without the other
        ((10, 0), (5000, 10, 5000), due(false, true, Some(10))),
        ((10, 0), (5000, 4, 5000), due(false, false, Some(6))),
        ((0, 60), (5000, 5000, 60), due(false, false, Some(1))),
        ((0, 60), (5000, 5000, 61), due(true, false, None)),
        // just set: what was before does not count
        ((10, 60), (0, 5000, 5000), due(false, false, Some(10))),
        ((10, 60), (60, 3, 5000), due(false, false, Some(1))),
        ((10, 60), (61, 3, 5000), due(true, false, None)),
        // the longest
        (
            (86_400, 86_400),
            (86_399, 86_399, 86_399),
            due(false, false, Some(1)),
        ),
        (
            (86_400, 86_400),
            (86_400, 86_400, 86_400),
            due(false, true, Some(1)),
        ),
        ((1, 1), (0, 0, 0), due(false, false, Some(1))),
    ];
    for base in BASES {
        for ((interval, timeout), (armed, sent, recv), want) in cases {
            let now = BootSecs(base);
            let ago = |secs| BootSecs(base.wrapping_sub(secs));
            let timers = Timers::new(interval, timeout, ago(armed));
            let got = timers.due(now, ago(sent), ago(recv));
            let case = (interval, timeout, armed, sent, recv, base);
            assert_eq!(got, want, "{case:?}");
            assert_eq!((timers.interval(), timers.timeout()), (interval, timeout));
        }
    }
}

/// Another CPU may store a later second than the one the timer has read.
#[test]
fn packets_from_the_future_do_not_expire_a_peer() {
    let timers = Timers::new(10, 60, BootSecs(0));
    let later = BootSecs(101);
    assert_eq!(
        timers.due(BootSecs(100), later, later),
        due(false, false, Some(10))
    );
}

/// Following `next_in` sends every interval and expires when the timeout has passed for certain.
#[test]
fn a_silent_peer_step_by_step() {
    for base in BASES {
        let at = |secs| BootSecs(base.wrapping_add(secs));
        let timers = Timers::new(10, 35, at(0));
        let (mut now, mut sent, mut sends) = (0, 0, Vec::new());
        loop {
            let due = timers.due(at(now), at(sent), at(0));
            if due.expired {
                break;
            }
            if due.send {
                sent = now;
                sends.push(now);
            }
            now += due.next_in.unwrap();
        }
        assert_eq!((sends, now), (vec![10, 20, 30], 36));
    }
    assert_eq!(
        Timers::OFF.due(at0(), at0(), at0()),
        due(false, false, None)
    );
}

fn at0() -> BootSecs {
    BootSecs(0)
}
