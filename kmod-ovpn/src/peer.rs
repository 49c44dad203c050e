// SPDX-License-Identifier: GPL-2.0
//! A peer: where it is, its keys, what went to and fro.

use core::sync::atomic::{AtomicU32, Ordering};

use kernel::prelude::*;

use crate::keys::Keys;
use crate::proto::attrs::ValidPeer;
use crate::proto::clock::BootSecs;
use crate::proto::keepalive::Timers;
use crate::proto::wire::PeerId;
use crate::sys::genl::PeerInfo;
use crate::sys::rcu::{Retire, Ticket};
use crate::sys::stats::{now, Stats};
use crate::sys::udp::{Path, Socket, SocketSlot};

/// Why a peer was deleted (`enum ovpn_del_peer_reason` of the UAPI).
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum DelReason {
    /// The interface went, or another peer took the only place.
    Teardown = 0,
    /// PEER_DEL.
    Userspace = 1,
    /// Nothing was heard of it for the keepalive timeout.
    Expired = 2,
    /// Userspace closed its socket.
    TransportDisconnect = 4,
}

/// A moment that several CPUs may write and none needs exactly.
struct Stamp(AtomicU32);

impl Stamp {
    fn new(at: BootSecs) -> Self {
        Stamp(AtomicU32::new(at.0))
    }

    fn get(&self) -> BootSecs {
        BootSecs(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, at: BootSecs) {
        // One second holds many packets: leave the cache line alone.
        if self.get() != at {
            self.0.store(at.0, Ordering::Relaxed);
        }
    }
}

/// A peer of an interface.
pub(crate) struct Peer {
    id: PeerId,
    tx_id: AtomicU32,
    pub(crate) socket: SocketSlot,
    pub(crate) path: Path,
    pub(crate) keys: Keys,
    pub(crate) stats: Stats,
    // Keepalive: written under the configuration lock, read there and by dumps.
    interval: AtomicU32,
    timeout: AtomicU32,
    timers_set: Stamp,
    last_sent: Stamp,
    last_recv: Stamp,
    ticket: Ticket,
}

impl Retire for Peer {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

impl Peer {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new(config: &ValidPeer, socket: Socket) -> Result<Peer> {
        let at = now();
        let peer = Peer {
            id: config.id,
            tx_id: AtomicU32::new(config.id.get()),
            socket: SocketSlot::new(socket),
            path: Path::new()?,
            keys: Keys::new(),
            stats: Stats::new()?,
            interval: AtomicU32::new(0),
            timeout: AtomicU32::new(0),
            timers_set: Stamp::new(at),
            last_sent: Stamp::new(at),
            last_recv: Stamp::new(at),
            ticket: Ticket::new()?,
        };
        peer.modify(config);
        Ok(peer)
    }

    /// Takes over what the request names. Under the configuration lock, or before anybody else
    /// knows the peer.
    pub(crate) fn modify(&self, config: &ValidPeer) {
        if let Some(endpoint) = &config.endpoint {
            self.path.set(endpoint);
        }
        if let Some(tx_id) = config.tx_id {
            self.tx_id.store(tx_id.get(), Ordering::Relaxed);
        }
        if let Some((interval, timeout)) = config.keepalive {
            self.interval.store(interval, Ordering::Relaxed);
            self.timeout.store(timeout, Ordering::Relaxed);
            self.timers_set.set(now());
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    /// The peer id that packets to this peer carry.
    pub(crate) fn tx_id(&self) -> PeerId {
        PeerId::new(self.tx_id.load(Ordering::Relaxed)).unwrap_or(self.id)
    }

    /// Notes that a packet was sent.
    pub(crate) fn sent(&self, at: BootSecs) {
        self.last_sent.set(at);
    }

    /// Notes that an authentic packet was received.
    pub(crate) fn received(&self, at: BootSecs) {
        self.last_recv.set(at);
    }

    /// The two timers as they stand.
    pub(crate) fn timers(&self) -> Timers {
        Timers::new(
            self.interval.load(Ordering::Relaxed),
            self.timeout.load(Ordering::Relaxed),
            self.timers_set.get(),
        )
    }

    pub(crate) fn last_sent(&self) -> BootSecs {
        self.last_sent.get()
    }

    pub(crate) fn last_recv(&self) -> BootSecs {
        self.last_recv.get()
    }

    /// What PEER_GET tells.
    pub(crate) fn info(&self) -> PeerInfo {
        let timers = self.timers();
        PeerInfo::new(
            self.id.get(),
            self.tx_id().get(),
            (timers.interval(), timers.timeout()),
            &self.path,
            self.stats.read(),
        )
    }
}
