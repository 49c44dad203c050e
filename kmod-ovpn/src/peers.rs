// SPDX-License-Identifier: GPL-2.0
//! The peers of an interface.
//!
//! Packets look peers up under RCU; requests change the tables under the configuration lock, which
//! the `&mut Config` arguments prove. Only the address of a peer that moved changes under none:
//! the transport table locks itself.

use core::sync::atomic::Ordering;

use kernel::prelude::*;

use crate::compat::Arc;
use crate::config::Config;
use crate::peer::Peer;
use crate::proto::attrs::{Mode, ValidPeer};
use crate::proto::refusal::Refusal;
use crate::proto::wire::{inner_destination, inner_source, map_ipv4, PeerId};
use crate::sys::netdev::NetDev;
use crate::sys::path::Ends;
use crate::sys::rcu::{self, Rcu, Retired, Slot};
use crate::sys::route;
use crate::sys::skb::{Pkt, Skb};
use crate::sys::table::{Addr, Addrs, Ids};

/// The tables of one interface.
pub(crate) enum Peers {
    /// P2P mode: one place, to which everything goes.
    P2p(Slot<Peer>),
    /// MP mode.
    Mp(Tables),
}

/// The tables of MP mode. Address tables lead to ids, so only one table holds peers.
pub(crate) struct Tables {
    by_id: Ids<Peer>,
    by_vpn: Addrs,
    by_transport: Addrs,
}

/// Why a peer cannot be added or changed.
pub(crate) enum Conflict {
    /// With another peer.
    Refused(Refusal),
    /// With the memory there is.
    Failed(Error),
}

impl From<Refusal> for Conflict {
    fn from(refusal: Refusal) -> Self {
        Conflict::Refused(refusal)
    }
}

impl Peers {
    /// `ENOMEM` without memory.
    pub(crate) fn new(mode: Mode) -> Result<Self> {
        Ok(match mode {
            Mode::P2p => Peers::P2p(Slot::empty()),
            Mode::Mp => Peers::Mp(Tables {
                by_id: Ids::new()?,
                by_vpn: Addrs::new()?,
                by_transport: Addrs::new()?,
            }),
        })
    }

    /// The peer with this id.
    pub(crate) fn by_id<'a>(&'a self, rcu: &'a Rcu, id: PeerId) -> Option<&'a Peer> {
        match self {
            Peers::P2p(only) => only.read(rcu).filter(|peer| peer.id() == id),
            Peers::Mp(tables) => tables.by_id.find(rcu, id.get()),
        }
    }

    /// The peer that a datagram, UDP header in front, comes from by its address.
    pub(crate) fn by_source<'a>(&'a self, rcu: &'a Rcu, skb: &Skb) -> Option<&'a Peer> {
        match self {
            Peers::P2p(only) => only.read(rcu).filter(|peer| peer.path.is_source(skb)),
            Peers::Mp(tables) => {
                let id = tables.by_transport.find(rcu, &route::source_of(skb))?;
                tables.by_id.find(rcu, id)
            }
        }
    }

    /// The peer that an inner packet is for: that of the next hop towards its destination.
    pub(crate) fn by_destination<'a>(&'a self, rcu: &'a Rcu, inner: &Skb) -> Option<&'a Peer> {
        match self {
            Peers::P2p(only) => only.read(rcu),
            Peers::Mp(tables) => {
                let id = tables.by_vpn.find(rcu, &route::tx_hop(inner))?;
                tables.by_id.find(rcu, id)
            }
        }
    }

    /// Whether an inner packet that `peer` sent may come from it: an answer would go there.
    pub(crate) fn is_path_back(&self, rcu: &Rcu, net: &NetDev, peer: &Peer, inner: &Pkt) -> bool {
        match self {
            Peers::P2p(only) => only.read(rcu).is_some_and(|only| core::ptr::eq(only, peer)),
            Peers::Mp(tables) => {
                let Some(source) = inner_source(inner.bytes()) else {
                    return false;
                };
                // Most packets come from the peer itself; the rest takes a look at the routes.
                if peer.has_vpn_addr(source) {
                    return true;
                }
                let id = peer.id().get();
                inner_destination(inner.bytes()).is_some_and(|dest| {
                    let ends = (&Addr::ip(source), &Addr::ip(dest));
                    tables.by_vpn.leads_back(rcu, net, ends, id)
                })
            }
        }
    }

    /// Adds a peer and returns the one whose place it took.
    pub(crate) fn insert(
        &self,
        _config: &mut Config,
        peer: Arc<Peer>,
    ) -> Result<Option<Retired<Peer>>, Conflict> {
        match self {
            Peers::P2p(only) => Ok(only.replace(Some(peer))),
            Peers::Mp(tables) => tables.insert(peer).map(|()| None),
        }
    }

    /// Changes what a request names of a peer's addresses, and then the peer.
    pub(crate) fn modify(
        &self,
        _config: &mut Config,
        peer: &Peer,
        to: &ValidPeer,
    ) -> Result<(), Conflict> {
        match self {
            Peers::P2p(_) => {
                peer.modify(to);
                Ok(())
            }
            Peers::Mp(tables) => tables.modify(peer, to),
        }
    }

    /// A peer moved: packets without peer id come from the new address now.
    pub(crate) fn moved(&self, peer: &Peer, from: &Ends, to: &Ends) {
        if let Peers::Mp(tables) = self {
            tables.rehash(peer, from, to);
        }
    }

    /// Notes that userspace is to be told where a peer is now.
    pub(crate) fn note_float(&self, peer: &Peer) {
        match self {
            Peers::P2p(_) => peer.floated.store(true, Ordering::Release),
            Peers::Mp(tables) => tables.by_id.mark(peer.id().get()),
        }
    }

    /// Some peer that [`note_float`](Self::note_float) was told of, once.
    pub(crate) fn next_float<'a>(&'a self, _: &mut Config, rcu: &'a Rcu) -> Option<&'a Peer> {
        match self {
            Peers::P2p(only) => only
                .read(rcu)
                .filter(|peer| peer.floated.swap(false, Ordering::AcqRel)),
            Peers::Mp(tables) => tables.by_id.unmark_next(rcu),
        }
    }

    /// Takes out each peer that `choose` picks, and gives it to `take`.
    pub(crate) fn drain(
        &self,
        _config: &mut Config,
        mut choose: impl FnMut(&Rcu, &Peer) -> bool,
        mut take: impl FnMut(Retired<Peer>),
    ) {
        match self {
            Peers::P2p(only) => {
                if rcu::read(|rcu| only.read(rcu).is_some_and(|peer| choose(rcu, peer))) {
                    only.replace(None).map(&mut take);
                }
            }
            Peers::Mp(tables) => {
                let mut at = 0;
                // A read section for each peer: `take` may sleep, and there may be thousands.
                while let Some((id, chosen)) = rcu::read(|rcu| {
                    let (id, peer) = tables.by_id.next(rcu, at)?;
                    Some((id, choose(rcu, peer)))
                }) {
                    if chosen {
                        tables.remove(id).map(&mut take);
                    }
                    at = id.wrapping_add(1);
                }
            }
        }
    }

    /// Takes out the peer with this id.
    pub(crate) fn remove(&self, config: &mut Config, id: PeerId) -> Option<Retired<Peer>> {
        match self {
            Peers::P2p(_) => {
                let mut found = None;
                self.drain(config, |_, peer| peer.id() == id, |peer| found = Some(peer));
                found
            }
            Peers::Mp(tables) => tables.remove(id.get()),
        }
    }

    /// Whether a P2P interface has its peer; an MP interface needs none.
    pub(crate) fn has_carrier(&self, rcu: &Rcu) -> bool {
        match self {
            Peers::P2p(only) => only.read(rcu).is_some(),
            Peers::Mp(_) => true,
        }
    }

    /// Shows peers, in the order of their ids, from `cursor` (0: the first) on, moving it past
    /// each that `show` accepted, until `show` fails. Peers that come and go meanwhile make it
    /// neither skip nor repeat others.
    pub(crate) fn resume<E>(
        &self,
        rcu: &Rcu,
        cursor: &mut usize,
        mut show: impl FnMut(&Peer) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Peers::P2p(only) => {
                if let (0, Some(peer)) = (*cursor, only.read(rcu)) {
                    show(peer)?;
                }
                *cursor = 1;
            }
            Peers::Mp(tables) => {
                while let Some((id, peer)) = tables.by_id.next(rcu, *cursor as u32) {
                    show(peer)?;
                    *cursor = id as usize + 1;
                }
            }
        }
        Ok(())
    }
}

impl Tables {
    fn insert(&self, peer: Arc<Peer>) -> Result<(), Conflict> {
        let id = peer.id();
        if rcu::read(|rcu| self.by_id.find(rcu, id.get()).is_some()) {
            return Err(Refusal::PeerExists.into());
        }
        let (v4, v6) = peer.vpn_addrs();
        self.claim(id, v4, v6, ([0; 4], [0; 16]))?;
        let remote = peer.path.get();
        if let Err(error) = self.by_id.insert(id.get(), peer) {
            self.release(id, v4, v6);
            return Err(Conflict::Failed(error));
        }
        if let Some(addr) = remote.remote() {
            // Only packets without a peer id need it: not worth failing for.
            let _ = self.by_transport.take_over(&addr, id.get());
        }
        Ok(())
    }

    fn remove(&self, id: u32) -> Option<Retired<Peer>> {
        let peer = self.by_id.remove(id)?;
        let (v4, v6) = peer.vpn_addrs();
        self.release(peer.id(), v4, v6);
        if let Some(addr) = peer.path.get().remote() {
            self.by_transport.remove(&addr, id);
        }
        Some(peer)
    }

    fn modify(&self, peer: &Peer, to: &ValidPeer) -> Result<(), Conflict> {
        let (old4, old6) = peer.vpn_addrs();
        let new4 = to.vpn_ipv4.unwrap_or(old4);
        let new6 = to.vpn_ipv6.unwrap_or(old6);
        crate::proto::attrs::check_vpn_addrs(new4, new6)?;
        self.claim(peer.id(), new4, new6, (old4, old6))?;

        let before = peer.path.get();
        peer.modify(to);
        self.release(
            peer.id(),
            if old4 == new4 { [0; 4] } else { old4 },
            if old6 == new6 { [0; 16] } else { old6 },
        );
        if to.endpoint.is_some() {
            self.rehash(peer, &before, &peer.path.get());
        }
        Ok(())
    }

    fn rehash(&self, peer: &Peer, from: &Ends, to: &Ends) {
        let id = peer.id().get();
        if let Some(addr) = to.remote() {
            let _ = self.by_transport.take_over(&addr, id);
            // Another CPU may have moved the peer on, or removed it, before that entry was there to be
            // removed with it.
            let current = rcu::read(|rcu| {
                let same = |found: &Peer| core::ptr::eq(found, peer);
                self.by_id.find(rcu, id).is_some_and(same)
                    && peer.path.get().remote().is_some_and(|now| now.is(&addr))
            });
            if !current {
                self.by_transport.remove(&addr, id);
            }
        }
        match (from.remote(), to.remote()) {
            (Some(old), Some(new)) if old.is(&new) => (),
            (Some(old), _) => self.by_transport.remove(&old, id),
            (None, _) => (),
        }
    }

    /// Enters a peer's inner addresses, all that are not zero or none; `keep` are those it has.
    fn claim(
        &self,
        id: PeerId,
        v4: [u8; 4],
        v6: [u8; 16],
        keep: ([u8; 4], [u8; 16]),
    ) -> Result<(), Conflict> {
        if v4 != [0; 4] && v4 != keep.0 {
            self.claim_one(id, map_ipv4(v4), Refusal::Vpn4InUse)?;
        }
        if v6 != [0; 16] && v6 != keep.1 {
            if let Err(conflict) = self.claim_one(id, v6, Refusal::Vpn6InUse) {
                if v4 != keep.0 {
                    self.release(id, v4, [0; 16]);
                }
                return Err(conflict);
            }
        }
        Ok(())
    }

    fn claim_one(&self, id: PeerId, ip: [u8; 16], taken: Refusal) -> Result<(), Conflict> {
        self.by_vpn.add(&Addr::ip(ip), id.get()).map_err(|error| {
            if error == EEXIST {
                Conflict::Refused(taken)
            } else {
                Conflict::Failed(error)
            }
        })
    }

    fn release(&self, id: PeerId, v4: [u8; 4], v6: [u8; 16]) {
        if v4 != [0; 4] {
            self.by_vpn.remove(&Addr::ip(map_ipv4(v4)), id.get());
        }
        if v6 != [0; 16] {
            self.by_vpn.remove(&Addr::ip(v6), id.get());
        }
    }
}
