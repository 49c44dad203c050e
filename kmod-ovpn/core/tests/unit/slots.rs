// SPDX-License-Identifier: GPL-2.0

use ovpn_core::slots::{Place, Role, SlotWord, Slots};
use ovpn_core::wire::KeyId;
use proptest::prelude::*;

fn key(id: u32) -> KeyId {
    KeyId::new(id).unwrap()
}

#[test]
fn roles_by_number() {
    assert_eq!(Role::new(0), Some(Role::Primary));
    assert_eq!(Role::new(1), Some(Role::Secondary));
    assert_eq!(Role::new(2), None);
    assert_eq!(Place::A.other(), Place::B);
    assert_eq!(Place::B.other(), Place::A);
}

#[test]
fn rekey_as_openvpn_does_it() {
    let mut w = SlotWord::EMPTY;
    assert_eq!(w.tx(), None);
    w = w.filled(w.place(Role::Primary), key(0));
    let old = w.tx().unwrap();
    w = w.filled(w.place(Role::Secondary), key(1));
    assert_eq!(w.tx(), Some(old), "the new key only receives");
    assert_eq!(w.rx(key(1)), Some(old.0.other()));
    w = w.swapped();
    assert_eq!(w.tx(), Some((old.0.other(), key(1))));
    assert_eq!(w.rx(key(0)), Some(old.0), "the old key still receives");
    w = w.emptied(w.place(Role::Secondary));
    assert_eq!(w.rx(key(0)), None);
    assert_eq!(w.tx(), Some((old.0.other(), key(1))));
}

#[test]
fn swap_without_keys_changes_roles_only() {
    let w = SlotWord::EMPTY.swapped();
    assert_eq!((w.tx(), w.primary()), (None, Place::B));
    let w = w.filled(w.place(Role::Primary), key(3)).swapped();
    assert_eq!(w.tx(), None, "the only key is secondary now");
    assert_eq!(w.rx(key(3)), Some(Place::B));
    assert_eq!(w.swapped().tx(), Some((Place::B, key(3))));
}

#[test]
fn shared_word_keeps_what_is_published() {
    let slots = Slots::new();
    assert_eq!(slots.load(), SlotWord::EMPTY);
    let w = slots.load().filled(Place::B, key(7)).swapped();
    slots.publish(w);
    assert_eq!(slots.load(), w);
}

/// A reader's reaction to a place that does not hold the key that the word told. `found` are the key ids it
/// sees there, look by look; the races that lead there are in `tests/loom.rs`.
#[test]
fn readers_look_twice() {
    let slots = Slots::new();
    assert_eq!(slots.tx(|_| Some((key(1), ()))), None, "nothing announced");
    assert_eq!(slots.rx(key(1), |_| Some((key(1), ()))), None);
    slots.publish(SlotWord::EMPTY.filled(Place::A, key(1)));
    // Key ids seen at the two looks, the key a sender takes, whether a receiver of key id 1 opens.
    let cases = [
        ([Some(1), None], Some(1), true),
        ([None, Some(1)], Some(1), true),
        ([Some(2), Some(1)], Some(1), true),
        ([Some(2), Some(2)], Some(2), false),
        ([None, Some(2)], Some(2), false),
        ([Some(2), None], None, false),
        ([None, None], None, false),
    ];
    for (found, tx, rx) in cases {
        let looks = || {
            let mut looks = found.into_iter();
            move |place| {
                assert_eq!(place, Place::A);
                looks.next().unwrap().map(|id| (key(id), id))
            }
        };
        assert_eq!(slots.tx(looks()), tx, "{found:?}");
        assert_eq!(slots.rx(key(1), looks()), rx.then_some(1), "{found:?}");
    }
}

/// The plain reference: two optional keys by role.
#[derive(Default)]
struct Model {
    primary: Option<u32>,
    secondary: Option<u32>,
}

impl Model {
    fn slot(&mut self, role: Role) -> &mut Option<u32> {
        match role {
            Role::Primary => &mut self.primary,
            Role::Secondary => &mut self.secondary,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    New(Role, u32),
    Del(Role),
    Swap,
}

fn op() -> impl Strategy<Value = Op> {
    let role = prop_oneof![Just(Role::Primary), Just(Role::Secondary)];
    prop_oneof![
        (role.clone(), 0u32..8).prop_map(|(r, k)| Op::New(r, k)),
        role.prop_map(Op::Del),
        Just(Op::Swap),
    ]
}

proptest! {
    #[test]
    fn any_history_matches_two_named_slots(ops in prop::collection::vec(op(), 0..40)) {
        let mut model = Model::default();
        let mut w = SlotWord::EMPTY;
        for op in ops {
            let primary = w.primary();
            match op {
                Op::New(role, k) => {
                    w = w.filled(w.place(role), key(k));
                    *model.slot(role) = Some(k);
                }
                Op::Del(role) => {
                    w = w.emptied(w.place(role));
                    *model.slot(role) = None;
                }
                Op::Swap => {
                    w = w.swapped();
                    std::mem::swap(&mut model.primary, &mut model.secondary);
                }
            }
            prop_assert_eq!(w.primary() != primary, matches!(op, Op::Swap));
            prop_assert_eq!(w.tx().map(|(_, k)| u32::from(k.get())), model.primary);
            for role in [Role::Primary, Role::Secondary] {
                let at = w.key_at(w.place(role)).map(|k| u32::from(k.get()));
                prop_assert_eq!(at, *model.slot(role));
            }
            for k in 0..8 {
                let want = if model.primary == Some(k) {
                    Some(w.place(Role::Primary))
                } else if model.secondary == Some(k) {
                    Some(w.place(Role::Secondary))
                } else {
                    None
                };
                prop_assert_eq!(w.rx(key(k)), want);
            }
        }
    }
}
