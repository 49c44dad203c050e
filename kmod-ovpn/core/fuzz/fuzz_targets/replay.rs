// SPDX-License-Identifier: GPL-2.0
//! Any sequence of packet ids and pauses: the window decides as the plain model does.
#![no_main]

#[path = "../../tests/unit/replay_model.rs"]
mod replay_model;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ovpn_core::clock::BootSecs;
use ovpn_core::replay::ReplayWindow;
use ovpn_core::wire::PacketId;
use replay_model::Model;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A packet with an id this far from the highest one.
    Near(i16),
    /// A packet with this id.
    At(u32),
    /// Seconds pass.
    Wait(u8),
}

fuzz_target!(|input: (u32, Vec<Step>)| {
    let (start, steps) = input;
    let mut elapsed = 0u32;
    let mut window = ReplayWindow::new(BootSecs(start));
    let mut model = Model::new(0);
    for step in steps {
        let id = match step {
            Step::Near(d) => model.highest().saturating_add_signed(d.into()),
            Step::At(id) => id,
            Step::Wait(secs) => {
                elapsed += u32::from(secs);
                continue;
            }
        };
        let want = model.accept(id, elapsed.into());
        let Some(id) = PacketId::new(id) else {
            assert!(!want);
            continue;
        };
        let early = window.check(id);
        let got = window.accept(id, BootSecs(start.wrapping_add(elapsed)));
        assert_eq!(got.is_ok(), want, "{id:?}");
        assert!(early.is_ok() || got.is_err());
        assert_eq!(window.highest(), model.highest());
    }
});
