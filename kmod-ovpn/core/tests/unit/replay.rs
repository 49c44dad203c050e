// SPDX-License-Identifier: GPL-2.0

use super::replay_model::Model;
use ovpn_core::clock::BootSecs;
use ovpn_core::replay::{Rejected, ReplayWindow, WINDOW};
use ovpn_core::wire::PacketId;
use proptest::prelude::*;

const T0: BootSecs = BootSecs(0);

fn id(n: u32) -> PacketId {
    PacketId::new(n).unwrap()
}

fn window(ids: &[u32]) -> ReplayWindow {
    let mut w = ReplayWindow::new(T0);
    for n in ids {
        w.accept(id(*n), T0).unwrap();
    }
    w
}

#[test]
fn each_id_once() {
    let mut w = window(&[1, 2, 3]);
    for n in 1..=3 {
        assert_eq!(w.check(id(n)), Err(Rejected::Duplicate));
        assert_eq!(w.accept(id(n), T0), Err(Rejected::Duplicate));
    }
    assert_eq!(w.accept(id(4), T0), Ok(()));
    assert_eq!(w.highest(), 4);
}

#[test]
fn first_packet_may_have_any_id() {
    for first in [1, 2, 31, 32, 33, 2047, 2048, 2049, 1 << 31, u32::MAX] {
        let mut w = window(&[first]);
        assert_eq!(w.accept(id(first), T0), Err(Rejected::Duplicate));
        if first > 1 {
            assert_eq!(w.accept(id(first - 1), T0), Ok(()), "late, behind {first}");
        }
    }
}

/// Both edges of the window.
#[test]
fn window_is_2048_wide() {
    let high = 1_000_000;
    let mut w = window(&[high]);
    assert_eq!(w.check(id(high - WINDOW)), Err(Rejected::TooOld));
    assert_eq!(w.accept(id(high - WINDOW), T0), Err(Rejected::TooOld));
    assert_eq!(w.accept(id(high - WINDOW + 1), T0), Ok(()));
    assert_eq!(
        w.accept(id(high - WINDOW + 1), T0),
        Err(Rejected::Duplicate)
    );
    assert_eq!(w.accept(id(high + 1), T0), Ok(()));
    assert_eq!(w.accept(id(high - WINDOW + 1), T0), Err(Rejected::TooOld));
}

/// A jump of any length forgets exactly the ids that leave the window, from any bit of a word.
#[test]
fn every_jump_from_every_alignment() {
    for start in 5000..5000 + 33 {
        for jump in (1..68).chain(2040..2052).chain([4096, 100_000]) {
            // Every third id of the old window was received.
            let received = |n| n <= start && n % 3 == start % 3;
            let mut w = ReplayWindow::new(T0);
            for n in (start - 2047..=start).filter(|n| received(*n)) {
                w.accept(id(n), T0).unwrap();
            }
            w.accept(id(start + jump), T0).unwrap();
            for n in (start + jump - 2047)..=(start + jump) {
                let seen = n == start + jump || received(n);
                let want = if seen {
                    Err(Rejected::Duplicate)
                } else {
                    Ok(())
                };
                assert_eq!(w.check(id(n)), want, "{n} after {start} + {jump}");
            }
        }
    }
}

#[test]
fn idle_time_sets_the_floor() {
    for base in [0, u32::MAX - 10] {
        let at = |secs| BootSecs(base.wrapping_add(secs));
        let fresh = || {
            let mut w = ReplayWindow::new(at(0));
            w.accept(id(100), at(0)).unwrap();
            w
        };
        let mut w = fresh();
        assert_eq!(w.accept(id(99), at(29)), Ok(()), "29 s: late packets pass");
        // 98 comes 29 s after 99, so the window has not been idle for 30 s.
        assert_eq!(w.accept(id(98), at(58)), Ok(()));
        assert_eq!(
            w.accept(id(97), at(88)),
            Err(Rejected::TooOld),
            "30 s: they do not"
        );
        assert_eq!(w.accept(id(101), at(89)), Ok(()), "newer ones always pass");
        assert_eq!(
            w.accept(id(97), at(89)),
            Err(Rejected::TooOld),
            "the floor stays"
        );
        assert_eq!(w.accept(id(103), at(89)), Ok(()));
        assert_eq!(
            w.accept(id(102), at(89)),
            Ok(()),
            "above the floor late ones pass"
        );

        // The highest id is the floor itself.
        let mut w = fresh();
        assert_eq!(w.accept(id(100), at(30)), Err(Rejected::TooOld));

        // Refused packets do not end the idle time.
        let mut w = fresh();
        assert_eq!(w.accept(id(100), at(29)), Err(Rejected::Duplicate));
        assert_eq!(w.accept(id(99), at(31)), Err(Rejected::TooOld));
    }
}

/// A CPU that read the clock before another one accepted a packet must not look idle for 2^32 s.
#[test]
fn clock_a_second_behind_is_not_idle() {
    let mut w = ReplayWindow::new(BootSecs(50));
    w.accept(id(10), BootSecs(51)).unwrap();
    assert_eq!(w.accept(id(9), BootSecs(50)), Ok(()));
}

/// Ids near each other, at the borders of the number range, and anywhere.
fn some_id() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (-40i64..40).prop_map(Step::Near),
        4 => (-2100i64..2100).prop_map(Step::Near),
        2 => (-2052i64..-2040).prop_map(Step::Near),
        1 => any::<u32>().prop_map(Step::At),
        1 => (0u32..5000).prop_map(Step::At),
        1 => (0u32..5000).prop_map(|n| Step::At(u32::MAX - n)),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Relative to the highest id so far.
    Near(i64),
    At(u32),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]
    #[test]
    fn any_history_matches_the_model(
        start in prop_oneof![Just(0u32), Just(u32::MAX - 100), any::<u32>()],
        steps in prop::collection::vec((some_id(), prop_oneof![8 => Just(0u32), 2 => 0u32..40]), 0..400),
    ) {
        let mut elapsed = 0;
        let mut window = ReplayWindow::new(BootSecs(start));
        let mut model = Model::new(0);
        for (step, wait) in steps {
            elapsed += wait;
            let now = BootSecs(start.wrapping_add(elapsed));
            let n = match step {
                Step::Near(d) => (i64::from(model.highest()) + d).clamp(0, i64::from(u32::MAX)) as u32,
                Step::At(n) => n,
            };
            let Some(packet_id) = PacketId::new(n) else {
                // Id 0 does not even have a type.
                prop_assert!(!model.accept(n, u64::from(elapsed)));
                continue;
            };
            let before = window.check(packet_id);
            let got = window.accept(packet_id, now);
            prop_assert_eq!(got.is_ok(), model.accept(n, u64::from(elapsed)), "id {}", n);
            prop_assert!(before.is_ok() || got.is_err(), "the early check refused what was accepted");
            prop_assert_eq!(window.highest(), model.highest());
        }
    }
}
