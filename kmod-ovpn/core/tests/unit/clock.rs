// SPDX-License-Identifier: GPL-2.0

use ovpn_core::clock::BootSecs;

#[test]
fn differences_survive_wrapping() {
    for base in [0, 1, 1000, i32::MAX as u32, u32::MAX - 3, u32::MAX] {
        for d in [0, 1, 29, 30, 86_400, i32::MAX as u32] {
            let (then, now) = (BootSecs(base), BootSecs(base.wrapping_add(d)));
            assert_eq!(now.since(then), d);
            assert_eq!(then.since(now), 0, "the future has not happened yet");
            assert_eq!(now.later(then), now);
            assert_eq!(then.later(now), now);
        }
    }
}
