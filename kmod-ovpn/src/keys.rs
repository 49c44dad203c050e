// SPDX-License-Identifier: GPL-2.0
//! The two key slots of a peer.
//!
//! Readers take one atomic word, which says what is where, and then one pointer;
//! `proto::slots` has the protocol and its proof.

use crate::compat::Arc;
use crate::key::Key;
use crate::proto::early;
use crate::proto::slots::{Place, Role, Slots};
use crate::proto::wire::KeyId;
use crate::sys::rcu::{Rcu, Retired, Slot};

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

    /// The content of a place now, by key id.
    fn look<'a>(&'a self, rcu: &'a Rcu, place: Place) -> Option<(KeyId, &'a Key)> {
        self.at(place).read(rcu).map(|key| (key.id(), key))
    }

    /// The key to encrypt with: the primary one.
    pub(crate) fn tx<'a>(&'a self, rcu: &'a Rcu) -> Option<&'a Key> {
        self.slots.tx(|place| self.look(rcu, place))
    }

    /// The key a received packet names, primary slot first.
    pub(crate) fn rx<'a>(&'a self, rcu: &'a Rcu, id: KeyId) -> Option<&'a Key> {
        self.slots.rx(id, |place| self.look(rcu, place))
    }

    /// Whether the key of that id, which is not there, must come next.
    pub(crate) fn awaits(&self, id: KeyId) -> bool {
        early::is_next(self.slots.load(), id)
    }

    /// The key of a slot; under the configuration lock, or it may be on its way out.
    pub(crate) fn of<'a>(&'a self, rcu: &'a Rcu, role: Role) -> Option<&'a Key> {
        let word = self.slots.load();
        let place = word.place(role);
        word.key_at(place)?;
        self.at(place).read(rcu)
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
