// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thousands of sessions between this crate's client and server over a network that loses, repeats, delays and
//! reorders, each from a seed.

mod fake;
mod real;
mod world;

use std::sync::Arc;
use std::time::Duration;

use fake::Factory;
use openvpn_control::negotiate::Abilities;
use openvpn_control::session::Timing;
use world::{Rng, Setting, World, Wrap};

const WRAPS: [Wrap; 4] = [Wrap::None, Wrap::Auth, Wrap::Crypt, Wrap::CryptV2];

fn all() -> Abilities {
    Abilities {
        request_push: true,
        tls_key_export: true,
        auth_pending: true,
        exit_notify: true,
        auth_fail_temp: true,
        dyn_tls_crypt: true,
        dns: true,
        push_update: true,
    }
}

fn timing(renegotiate: Option<u64>) -> Timing {
    Timing {
        hand_window: Duration::from_secs(60),
        renegotiate: renegotiate.map(Duration::from_secs),
        transition: Duration::from_secs(300),
    }
}

fn calm(wrap: Wrap) -> Setting {
    Setting {
        wrap,
        loss: 0,
        twice: 0,
        delay: (10, 10),
        abilities: [all(), all()],
        timing: [timing(None), timing(None)],
        noncookie: false,
        damaged: 0,
    }
}

fn factories(seed: u64, hello: usize, flight: usize) -> [Arc<Factory>; 2] {
    [
        Arc::new(Factory::new("client", seed, hello, flight)),
        Arc::new(Factory::new("server", seed, hello, flight)),
    ]
}

fn world(seed: u64, setting: Setting) -> World<Factory> {
    World::new(seed, setting, factories(seed, 300, 2500))
}

#[test]
fn each_wrap_comes_up_without_a_single_wait() {
    for wrap in WRAPS {
        let mut world = world(1, calm(wrap));
        while world.step(Duration::from_millis(1900)) {}
        assert!(world.is_up(), "{wrap:?}: {:?}", world.failures);
        assert_eq!(world.ups, 1);
        assert_eq!(world.rejects.len(), 0, "{wrap:?}: {:?}", world.rejects);
    }
}

#[test]
fn a_client_hello_of_two_packets_passes_the_stateless_server() {
    for wrap in WRAPS {
        for seed in 0..20 {
            let setting = Setting {
                delay: (1, 50),
                ..calm(wrap)
            };
            let mut world = World::new(seed, setting, factories(seed, 1700, 5000));
            while world.step(Duration::from_secs(10)) {}
            assert!(world.is_up(), "{wrap:?}: {:?}", world.failures);
        }
    }
}

#[test]
fn hundreds_of_renegotiations_lose_nothing() {
    for wrap in WRAPS {
        for abilities in [
            all(),
            Abilities {
                dyn_tls_crypt: false,
                tls_key_export: false,
                ..all()
            },
        ] {
            let setting = Setting {
                abilities: [all(), abilities],
                timing: [timing(None), timing(Some(60))],
                ..calm(wrap)
            };
            let mut world = world(2, setting);
            while world.step(Duration::from_secs(3000)) {}
            assert!(world.failures.is_empty(), "{:?}", world.failures);
            assert!(
                world.client_installs() >= 45,
                "{wrap:?}: {}",
                world.client_installs()
            );
        }
    }
}

#[test]
fn both_sides_may_renegotiate_at_the_same_time() {
    for wrap in WRAPS {
        let setting = Setting {
            delay: (100, 400),
            timing: [timing(Some(57)), timing(Some(60))],
            ..calm(wrap)
        };
        for seed in 0..4 {
            let mut world = world(seed, setting);
            while world.step(Duration::from_secs(2000)) {}
            assert!(world.failures.is_empty(), "{:?}", world.failures);
            assert_eq!(world.renegotiations_failed, 0);
            assert!(world.client_installs() >= 30, "{}", world.client_installs());
        }
    }
}

#[test]
fn a_bad_network_is_survived() {
    let mut ups = 0;
    let mut installs = 0;
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let some = |rng: &mut Rng| match rng.below(3) {
            0 => None,
            _ => Some(240 + rng.below(300)),
        };
        let mut abilities = || Abilities {
            request_push: rng.chance(50),
            tls_key_export: rng.chance(50),
            dyn_tls_crypt: rng.chance(70),
            exit_notify: rng.chance(70),
            ..all()
        };
        let abilities = [abilities(), abilities()];
        let least = rng.below(100);
        let setting = Setting {
            wrap: WRAPS[rng.below(4) as usize],
            loss: rng.below(31),
            twice: rng.below(20),
            delay: (least, least + rng.below(1500)),
            abilities,
            timing: [timing(some(&mut rng)), timing(some(&mut rng))],
            noncookie: rng.chance(20),
            damaged: 0,
        };
        let (hello, flight) = (
            200 + rng.below(2000) as usize,
            700 + rng.below(4000) as usize,
        );
        let mut world = World::new(seed, setting, factories(seed, hello, flight));
        while world.step(Duration::from_secs(900)) {
            if world.rng.below(3000) == 0 {
                let slept = Duration::from_secs(world.rng.below(100));
                let unix = 1_000_000_000 + world.rng.below(1_000_000_000);
                world.jump(slept, unix);
            }
        }
        assert!(
            world.ups > 0,
            "seed {seed} never came up: {setting:?} {:?} {:?}",
            world.failures,
            world.rejects
        );
        assert!(world.sessions() <= 10);
        ups += world.ups;
        installs += world.client_installs();
    }
    println!("{ups} sessions came up, {installs} keys in the last of each");
}

#[test]
fn updates_of_many_messages_arrive_whole_and_in_order() {
    let routes: Vec<String> = (0..200)
        .map(|n| format!("route 10.{n}.0.0 255.255.0.0"))
        .collect();
    for wrap in WRAPS {
        for loss in [0, 20] {
            let setting = Setting {
                loss,
                delay: (10, 400),
                ..calm(wrap)
            };
            let mut world = world(7, setting);
            while !world.is_up() && world.step(Duration::from_secs(600)) {}
            assert!(world.is_up(), "{wrap:?}: {:?}", world.failures);
            world.update(routes.iter().map(String::as_str));
            while world.routes != Some(200) && world.step(Duration::from_secs(700)) {}
            assert_eq!(world.routes, Some(200), "{wrap:?}: {:?}", world.failures);
            world.update(["-route", "route 10.0.0.0 255.0.0.0"]);
            while world.routes != Some(1) && world.step(Duration::from_secs(800)) {}
            assert_eq!(world.routes, Some(1), "{wrap:?}: {:?}", world.failures);
            assert_eq!(world.ups, 1);
        }
    }
}

/// A server that has admitted a client, which takes updates or not and gets its options when it asks for them.
fn admitted(push_update: bool) -> World<Factory> {
    let client = Abilities {
        request_push: false,
        push_update,
        ..all()
    };
    let setting = Setting {
        abilities: [client, all()],
        ..calm(Wrap::Crypt)
    };
    let mut world = world(3, setting);
    while world.admitted() == 0 && world.step(Duration::from_secs(60)) {}
    world
}

#[test]
fn an_update_waits_for_the_options_and_for_the_ability() {
    for able in [true, false] {
        let mut world = admitted(able);
        assert!(world.admitted() == 1 && !world.is_up());
        world.update(["route 10.9.0.0 255.255.0.0"]);
        while world.step(Duration::from_secs(60)) {}
        assert!(world.is_up(), "{:?}", world.failures);
        assert_eq!(world.routes, able.then_some(1));
    }
}

/// When the client is up that asks for its options, whether or not the server changes some before it asks.
fn up_at(changed: bool) -> Duration {
    let mut world = admitted(all().push_update);
    if changed {
        world.update(["route 10.9.0.0 255.255.0.0"]);
    }
    while !world.is_up() && world.step(Duration::from_secs(60)) {}
    assert!(world.is_up(), "{:?}", world.failures);
    world.now
}

#[test]
fn an_update_brings_no_options_to_a_client_that_has_not_asked() {
    assert_eq!(up_at(true), up_at(false));
}

#[test]
fn damaged_copies_harm_no_session_with_a_wrap() {
    for wrap in [Wrap::Auth, Wrap::Crypt, Wrap::CryptV2] {
        for seed in 0..20 {
            let setting = Setting {
                damaged: 100,
                timing: [timing(None), timing(Some(60))],
                ..calm(wrap)
            };
            let mut world = world(seed, setting);
            while world.step(Duration::from_secs(300)) {}
            assert!(
                world.is_up() && world.failures.is_empty(),
                "{wrap:?}: {:?}",
                world.failures
            );
            assert!(!world.rejects.is_empty());
        }
    }
}

#[test]
fn strangers_get_no_session_and_harm_none() {
    for wrap in WRAPS {
        let mut world = world(5, calm(wrap));
        while world.step(Duration::from_secs(20)) {}
        assert!(world.is_up());
        for _ in 0..3000 {
            let len = world.rng.below(120) as usize;
            let mut packet: Vec<u8> = (0..len).map(|_| world.rng.next() as u8).collect();
            if let Some(first) = packet.first_mut() {
                *first = (3 + world.rng.below(9) as u8) << 3;
            }
            // Counts that parse, so that later checks are reached.
            if let (true, Some(count)) = (world.rng.chance(50), packet.get_mut(9)) {
                *count = world.rng.below(3) as u8;
            }
            world.hostile(&packet);
        }
        assert!(
            world.is_up() && world.failures.is_empty(),
            "{:?}",
            world.failures
        );
        assert_eq!(world.sessions(), 1, "{wrap:?}");
    }
}

#[test]
fn rustls_on_both_sides() {
    let tls = real::factories();
    for (seed, wrap) in (0..).zip(WRAPS) {
        for loss in [0, 15] {
            let setting = Setting {
                loss,
                delay: (5, 300),
                timing: [timing(None), timing(Some(240))],
                ..calm(wrap)
            };
            let mut world = World::new(seed, setting, tls.clone());
            while world.step(Duration::from_secs(900)) {}
            assert!(world.ups > 0, "{wrap:?}: {:?}", world.failures);
            assert!(
                loss > 0 || world.failures.is_empty(),
                "{:?}",
                world.failures
            );
            assert!(
                loss > 0 || world.client_installs() >= 3,
                "{}",
                world.client_installs()
            );
        }
    }
}
