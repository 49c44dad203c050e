// SPDX-License-Identifier: GPL-2.0
//! Packets of a peer that came before their key, in the order in which they came.
//!
//! `proto::early` has the rules. The queue is under its peer's lock ([`Peer::early`]). Packets that
//! are returned as lost are out of the queue and its memory; the caller counts them.
//!
//! [`Peer::early`]: crate::peer::Peer::early

use crate::proto::clock::BootSecs;
use crate::proto::early::{self, Memory};
use crate::proto::wire::KeyId;
use crate::sys::netdev::NetDev;
use crate::sys::skb::{Batch, Pkt};

/// The packets that wait.
pub(crate) struct Early(Batch);

impl Early {
    /// No packet waits.
    pub(crate) const fn new() -> Self {
        Early(Batch::empty())
    }

    /// Has packets wait. Gives those back that are lost: for want of room, or because they waited
    /// for too long.
    pub(crate) fn hold(
        &mut self,
        net: &NetDev,
        memory: &Memory,
        mut batch: Batch,
        at: BootSecs,
    ) -> Batch {
        let mut lost = self.expire(memory, at);
        let mut free = early::PACKETS.saturating_sub(self.0.count());
        lost.append(batch.extract(|pkt| {
            let fits = free > 0 && memory.take(pkt.put_aside(net, at));
            free = free.saturating_sub(u32::from(fits));
            !fits
        }));
        self.0.append(batch);
        lost
    }

    /// Takes out the packets for a key that is there now.
    pub(crate) fn release(&mut self, memory: &Memory, id: KeyId) -> Batch {
        let batch = self.0.extract(|pkt| KeyId::of(pkt.bytes()) == Some(id));
        memory.give(batch.memory());
        batch
    }

    /// Takes out the packets that waited for too long.
    pub(crate) fn expire(&mut self, memory: &Memory, at: BootSecs) -> Batch {
        // The oldest is the first.
        let is_too_old = |pkt: &Pkt| early::is_too_old(pkt.came(), at);
        if !self.0.first().is_some_and(is_too_old) {
            return Batch::empty();
        }
        let lost = self.0.extract(|pkt| is_too_old(pkt));
        memory.give(lost.memory());
        lost
    }

    /// Takes out all packets.
    pub(crate) fn clear(&mut self, memory: &Memory) -> Batch {
        let lost = self.0.take();
        memory.give(lost.memory());
        lost
    }

    /// Seconds until the oldest packet has waited for too long; `None` if none waits.
    pub(crate) fn patience(&self, at: BootSecs) -> Option<u32> {
        let oldest = self.0.first()?;
        Some(early::patience(oldest.came(), at))
    }
}
