// SPDX-License-Identifier: GPL-2.0
//! An interface: its mode, its peers, and the lock under which both are configured.

use kernel::prelude::*;

use crate::compat::{new_mutex, Arc, Mutex};
use crate::config::Config;
use crate::peer::Peer;
use crate::peers::{Conflict, Peers};
use crate::proto::attrs::Mode;
use crate::proto::counters::DropReason;
use crate::proto::del_reason::DelReason;
use crate::proto::early::Memory;
use crate::proto::refusal::Refusal;
use crate::proto::wire::PeerId;
use crate::sys::genl::{notify_del, notify_float};
use crate::sys::netdev::NetDev;
use crate::sys::rcu::{self, Retired};
use crate::sys::socket::{Socket, SocketId};
use crate::sys::table::IdSet;

/// Notifications that may follow each other without a pause.
pub(crate) const NEWS_AT_ONCE: u32 = 64;

/// The Rust side of an interface; lives as long as the interface.
#[pin_data]
pub(crate) struct Device {
    pub(crate) net: NetDev,
    pub(crate) mode: Mode,
    pub(crate) peers: Peers,
    /// Ids of peers that the kernel deleted of itself and userspace has not yet heard of, as far
    /// as we know: until PEER_NEW or PEER_DEL names them.
    vanished: IdSet,
    /// Of all packets that came before their key.
    pub(crate) early: Memory,
    #[pin]
    pub(crate) config: Mutex<Config>,
}

impl Device {
    /// `ENOMEM` without memory.
    pub(crate) fn new(net: NetDev, mode: Mode) -> Result<Arc<Device>> {
        let peers = Peers::new(mode)?;
        let vanished = IdSet::new()?;
        Arc::pin_init(
            pin_init!(Device {
                net,
                mode,
                peers,
                vanished,
                early: Memory::new(),
                config <- new_mutex!(Config { down: false }, "ovpn_config"),
            }),
            GFP_KERNEL,
        )
    }

    /// Deletes all peers, for good.
    pub(crate) fn down(&self) {
        let mut config = self.config.lock();
        config.down = true;
        self.delete(&mut config, DelReason::Teardown, |_| true);
    }

    /// A socket was closed or is of no more use: its peers are unreachable.
    pub(crate) fn socket_gone(&self, socket: SocketId, reason: DelReason) {
        let mut config = self.config.lock();
        self.delete(&mut config, reason, |peer| peer.socket.is(socket));
    }

    /// Adds a peer.
    pub(crate) fn add(&self, config: &mut Config, peer: Arc<Peer>) -> Result<(), Conflict> {
        if config.down {
            return Err(Refusal::InterfaceGone.into());
        }
        let id = peer.id();
        let replaced = self.peers.insert(config, peer)?;
        self.vanished.remove(id.get());
        if let Some(replaced) = replaced {
            self.bury(replaced, DelReason::Teardown);
        }
        self.net.carrier(true);
        Ok(())
    }

    /// Deletes the peer with this id; false when there is none.
    pub(crate) fn delete_id(&self, config: &mut Config, id: PeerId, reason: DelReason) -> bool {
        self.vanished.remove(id.get());
        let gone = self.peers.remove(config, id);
        let any = gone.is_some();
        if let Some(peer) = gone {
            self.bury(peer, reason);
        }
        self.update_carrier();
        any
    }

    /// Whether userspace may ask for this peer because it cannot know yet that it is gone.
    pub(crate) fn has_vanished(&self, id: PeerId) -> bool {
        self.vanished.contains(id.get())
    }

    /// Deletes the peers that `choose` picks.
    fn delete(
        &self,
        config: &mut Config,
        reason: DelReason,
        mut choose: impl FnMut(&Peer) -> bool,
    ) {
        let mut burial = Burial::new(self, reason);
        self.peers
            .drain(config, |_, peer| choose(peer), |gone| burial.push(gone));
        drop(burial);
        self.update_carrier();
    }

    /// A P2P interface has carrier while it has its peer, an MP interface always.
    pub(crate) fn update_carrier(&self) {
        self.net
            .carrier(rcu::read(|rcu| self.peers.has_carrier(rcu)));
    }

    /// Tells userspace where peers are that moved; true when it did not come to all of them.
    ///
    /// A peer that moves faster than this is called is told of once, where it is at last. One that
    /// is deleted meanwhile is told of no more: the lock keeps its end the last that is heard.
    pub(crate) fn tell_floats(&self) -> bool {
        let mut config = self.config.lock();
        for _ in 0..NEWS_AT_ONCE {
            let told = rcu::read(|rcu| {
                let peer = self.peers.next_float(&mut config, rcu)?;
                if let Some(socket) = peer.socket.get(rcu) {
                    notify_float(&self.net, socket, peer.id().get(), &peer.path.get());
                }
                Some(())
            });
            if told.is_none() {
                return false;
            }
        }
        true
    }

    /// The end of a peer that left the table.
    fn bury(&self, peer: Retired<Peer>, reason: DelReason) {
        Burial::new(self, reason).push(peer);
    }
}

/// Peers that share a wait for their last packets.
const BURIED_AT_ONCE: usize = 32;

/// The end of peers that left the table: userspace is told, their sockets are given back. Done in
/// groups, the last when this is dropped, because each waits for the packets that still see its
/// peers: what is told of a peer counts them all. May sleep.
pub(crate) struct Burial<'a> {
    device: &'a Device,
    reason: DelReason,
    peers: [Option<(Retired<Peer>, Socket)>; BURIED_AT_ONCE],
    count: usize,
}

impl<'a> Burial<'a> {
    pub(crate) fn new(device: &'a Device, reason: DelReason) -> Self {
        Burial {
            device,
            reason,
            peers: [const { None }; BURIED_AT_ONCE],
            count: 0,
        }
    }

    pub(crate) fn push(&mut self, peer: Retired<Peer>) {
        // Packets that an engine brings back from now on are only counted as lost.
        let Some(socket) = peer.socket.take() else {
            return;
        };
        if let Some(place) = self.peers.get_mut(self.count) {
            *place = Some((peer, socket));
            self.count += 1;
        }
        if self.count == BURIED_AT_ONCE {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.count == 0 {
            return;
        }
        self.count = 0;
        rcu::wait();
        for (peer, socket) in self.peers.iter_mut().filter_map(Option::take) {
            // After the wait no CPU queues another early packet of this peer.
            let lost = peer.early(|early| early.clear(&self.device.early));
            peer.rx_dropped(&self.device.net, DropReason::NoKey, lost.count());
            let id = peer.id().get();
            let (net, stats) = (&self.device.net, peer.stats.read());
            notify_del(net, socket.by_ref(), id, self.reason as u32, &stats);
            if self.reason.is_surprise() {
                self.device.vanished.insert(id);
            }
        }
    }
}

impl Drop for Burial<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}
