// SPDX-License-Identifier: GPL-2.0
//! The peers of an interface.
//!
//! Packets look peers up under RCU; requests change the table under the configuration lock, which
//! the `&mut Config` arguments prove.

use crate::compat::Arc;
use crate::device::Config;
use crate::peer::Peer;
use crate::proto::refusal::Refusal;
use crate::proto::wire::PeerId;
use crate::sys::rcu::{Rcu, Retired, Slot};
use crate::sys::skb::{Pkt, Skb};

/// The table of a P2P interface: one place.
pub(crate) struct Peers {
    only: Slot<Peer>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Peers {
            only: Slot::empty(),
        }
    }

    /// The peer with this id.
    pub(crate) fn by_id<'a>(&'a self, rcu: &'a Rcu, id: PeerId) -> Option<&'a Peer> {
        self.only.read(rcu).filter(|peer| peer.id() == id)
    }

    /// The peer that a datagram, UDP header in front, comes from by its address.
    pub(crate) fn by_source<'a>(&'a self, rcu: &'a Rcu, skb: &Skb) -> Option<&'a Peer> {
        self.only.read(rcu).filter(|peer| peer.path.is_source(skb))
    }

    /// The peer that an inner packet is for.
    pub(crate) fn by_destination<'a>(&'a self, rcu: &'a Rcu, _inner: &Skb) -> Option<&'a Peer> {
        self.only.read(rcu)
    }

    /// Whether an inner packet that `peer` sent may come from it: reverse path check.
    pub(crate) fn is_path_back(&self, rcu: &Rcu, peer: &Peer, _inner: &Pkt) -> bool {
        self.only
            .read(rcu)
            .is_some_and(|only| core::ptr::eq(only, peer))
    }

    /// Adds a peer and returns the one whose place it took.
    pub(crate) fn insert(
        &self,
        _config: &mut Config,
        peer: Arc<Peer>,
    ) -> Result<Option<Retired<Peer>>, Refusal> {
        Ok(self.only.replace(Some(peer)))
    }

    /// Takes out each peer that `choose` picks, and gives it to `take`.
    pub(crate) fn drain(
        &self,
        _config: &mut Config,
        mut choose: impl FnMut(&Rcu, &Peer) -> bool,
        mut take: impl FnMut(Retired<Peer>),
    ) {
        let chosen =
            crate::sys::rcu::read(|rcu| self.only.read(rcu).is_some_and(|peer| choose(rcu, peer)));
        if chosen {
            self.only.replace(None).map(&mut take);
        }
    }

    /// Whether there is no peer.
    pub(crate) fn is_empty(&self, rcu: &Rcu) -> bool {
        self.only.read(rcu).is_none()
    }

    /// Shows peers from `cursor` (0: the first) on, moving it past each that `show` accepted,
    /// until `show` fails.
    pub(crate) fn resume<E>(
        &self,
        rcu: &Rcu,
        cursor: &mut usize,
        mut show: impl FnMut(&Peer) -> Result<(), E>,
    ) -> Result<(), E> {
        if *cursor == 0 {
            if let Some(peer) = self.only.read(rcu) {
                show(peer)?;
            }
            *cursor = 1;
        }
        Ok(())
    }
}
