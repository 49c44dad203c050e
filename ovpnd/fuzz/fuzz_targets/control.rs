// SPDX-License-Identifier: GPL-2.0-or-later
//! A client and a server of the control channel with somebody on the way who changes, makes and holds up packets: whatever comes
//! of the session, nothing panics, keys come in their order, and no more sessions than allowed are kept.
#![no_main]

#[path = "../../control/tests/simulation/fake.rs"]
mod fake;
#[path = "../../control/tests/simulation/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use openvpn_control::negotiate::Abilities;
use openvpn_control::session::Timing;
use world::{Setting, World, Wrap};

/// The sessions of [`World`]'s server.
const MAX_SESSIONS: usize = 10;
/// Steps of one run.
const MAX_STEPS: usize = 400;

fuzz_target!(|input: (u8, u8, Vec<(u8, u16, &[u8])>)| {
    let (wrap, flags, actions) = input;
    let timing = |seconds| Timing {
        hand_window: Duration::from_secs(20),
        renegotiate: Some(Duration::from_secs(seconds)),
        transition: Duration::from_secs(40),
    };
    let has = |bit: u8| flags >> bit & 1 == 1;
    let abilities = Abilities {
        request_push: has(0),
        tls_key_export: has(1),
        auth_pending: true,
        exit_notify: has(2),
        auth_fail_temp: true,
        dyn_tls_crypt: has(3),
        dns: true,
        push_update: true,
    };
    let setting = Setting {
        wrap: [Wrap::None, Wrap::Auth, Wrap::Crypt, Wrap::CryptV2][usize::from(wrap % 4)],
        loss: 0,
        twice: 0,
        delay: (10, 10),
        abilities: [abilities, abilities],
        timing: [timing(45), timing(60)],
        noncookie: has(4),
        damaged: 0,
    };
    let factory = |name| Arc::new(fake::Factory::new(name, 1, 300, 1500));
    let mut world = World::new(1, setting, [factory("client"), factory("server")]);
    world.hitless = false;
    let mut end = Duration::ZERO;
    let mut steps = 0;
    for (what, number, bytes) in actions {
        let at = usize::from(number);
        match what % 6 {
            0 => world.hostile(bytes),
            1 => world.tamper(at, |packet| {
                for (to, from) in packet.iter_mut().skip(at % 64).zip(bytes) {
                    *to ^= from;
                }
            }),
            2 => world.tamper(at, |packet| packet.truncate(bytes.len())),
            3 => world.tamper(at, |packet| *packet = bytes.to_vec()),
            4 => world.update(["-route", "route 10.1.0.0 255.255.0.0"]),
            _ => {}
        }
        end += Duration::from_millis(u64::from(number) + 1);
        while steps < MAX_STEPS && world.step(end) {
            steps += 1;
        }
        assert!(
            world.sessions() <= MAX_SESSIONS,
            "{} sessions",
            world.sessions()
        );
    }
});
