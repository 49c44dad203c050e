// SPDX-License-Identifier: GPL-2.0
//! The two key slots of a peer.
//!
//! Readers take one atomic word, which says what is where, and then one pointer. Between the two
//! the slot may have changed hands, so the key found is compared with what the word promised.

use crate::compat::Arc;
use crate::key::Key;
use crate::proto::slots::{Place, Role, Slots};
use crate::proto::wire::KeyId;
use crate::sys::rcu::{Rcu, Retired, Slot};

/// How often a reader looks again after meeting a slot that is just being replaced.
const TRIES: usize = 3;

pub(crate) struct Keys {
    slots: Slots,
    a: Slot<Key>,
    b: Slot<Key>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Keys {
            slots: Slots::new(),
            a: Slot::empty(),
            b: Slot::empty(),
        }
    }

    fn at(&self, place: Place) -> &Slot<Key> {
        match place {
            Place::A => &self.a,
            Place::B => &self.b,
        }
    }

    fn find<'a>(
        &'a self,
        rcu: &'a Rcu,
        choose: impl Fn() -> Option<(Place, KeyId)>,
    ) -> Option<&'a Key> {
        for _ in 0..TRIES {
            let (place, id) = choose()?;
            match self.at(place).read(rcu) {
                Some(key) if key.id() == id => return Some(key),
                _ => continue,
            }
        }
        None
    }

    /// The key to encrypt with: the primary one.
    pub(crate) fn tx<'a>(&'a self, rcu: &'a Rcu) -> Option<&'a Key> {
        self.find(rcu, || self.slots.load().tx())
    }

    /// The key a received packet names, primary slot first.
    pub(crate) fn rx<'a>(&'a self, rcu: &'a Rcu, id: KeyId) -> Option<&'a Key> {
        self.find(rcu, || self.slots.load().rx(id).map(|place| (place, id)))
    }

    /// The key of a slot.
    pub(crate) fn of<'a>(&'a self, rcu: &'a Rcu, role: Role) -> Option<&'a Key> {
        self.find(rcu, || {
            let word = self.slots.load();
            let place = word.place(role);
            word.key_at(place).map(|id| (place, id))
        })
    }

    // The rest changes slots, under the configuration lock of the peer's device.

    /// Puts a key into a slot and returns what was there.
    pub(crate) fn install(&self, role: Role, key: Arc<Key>) -> Option<Retired<Key>> {
        let word = self.slots.load();
        let place = word.place(role);
        let id = key.id();
        let old = self.at(place).replace(Some(key));
        self.slots.publish(word.filled(place, id));
        old
    }

    /// Empties a slot and returns what was there.
    pub(crate) fn remove(&self, role: Role) -> Option<Retired<Key>> {
        let word = self.slots.load();
        let place = word.place(role);
        self.slots.publish(word.emptied(place));
        self.at(place).replace(None)
    }

    /// Exchanges primary and secondary.
    pub(crate) fn swap(&self) {
        self.slots.publish(self.slots.load().swapped());
    }
}
