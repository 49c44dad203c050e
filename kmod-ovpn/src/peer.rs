// SPDX-License-Identifier: GPL-2.0
//! A peer: its address, its keys, its counters.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kernel::prelude::*;

use crate::compat::{new_spinlock, Arc, SpinLock};
use crate::early::Early;
use crate::keys::Keys;
use crate::proto::attrs::ValidPeer;
use crate::proto::clock::BootSecs;
use crate::proto::counters::DropReason;
use crate::proto::keepalive::Timers;
use crate::proto::mss::Syn;
use crate::proto::wire::{map_ipv4, PeerId};
use crate::sys::drops::Drops;
use crate::sys::genl::PeerInfo;
use crate::sys::netdev::NetDev;
use crate::sys::order::OrderSlot;
use crate::sys::path::Path;
use crate::sys::rcu::{self, Rcu, Retire, Ticket};
use crate::sys::skb::Pkt;
use crate::sys::socket::{Socket, SocketRef, SocketSlot};
use crate::sys::stats::{now, Stats};

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

/// An inner address of `N` words: written under the configuration lock, compared by packets.
/// A packet that meets a change half way takes the slow way once.
struct VpnAddr<const N: usize>([AtomicU32; N]);

impl<const N: usize> VpnAddr<N> {
    fn none() -> Self {
        VpnAddr([const { AtomicU32::new(0) }; N])
    }

    fn get(&self) -> [u32; N] {
        let mut words = [0; N];
        for (to, from) in words.iter_mut().zip(&self.0) {
            *to = from.load(Ordering::Relaxed);
        }
        words
    }

    fn set(&self, words: [u32; N]) {
        for (to, from) in self.0.iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
    }
}

/// A peer of an interface.
#[pin_data]
pub(crate) struct Peer {
    id: PeerId,
    tx_id: AtomicU32,
    pub(crate) socket: SocketSlot,
    pub(crate) path: Path,
    pub(crate) keys: Keys,
    pub(crate) order: OrderSlot,
    pub(crate) stats: Stats,
    drops: Drops,
    vpn4: VpnAddr<1>,
    vpn6: VpnAddr<4>,
    // Keepalive: written under the configuration lock, read there and by dumps.
    interval: AtomicU32,
    timeout: AtomicU32,
    timers_set: Stamp,
    last_sent: Stamp,
    last_recv: Stamp,
    /// Whether `last_recv` is that of a packet.
    heard: AtomicBool,
    /// The only peer of a P2P interface has moved, and userspace does not know it yet.
    pub(crate) floated: AtomicBool,
    #[pin]
    early: SpinLock<Early>,
    ticket: Ticket,
}

impl Retire for Peer {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

impl Peer {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new(config: &ValidPeer, socket: Socket) -> Result<Arc<Peer>> {
        let at = now();
        let path = socket.path()?;
        let (stats, ticket) = (Stats::new()?, Ticket::new()?);
        let id = config.id;
        let peer = Arc::pin_init(
            pin_init!(Peer {
                id,
                tx_id: AtomicU32::new(id.get()),
                socket: SocketSlot::new(socket),
                path,
                keys: Keys::new(),
                order: OrderSlot::empty(),
                stats,
                drops: Drops::new(),
                vpn4: VpnAddr::none(),
                vpn6: VpnAddr::none(),
                interval: AtomicU32::new(0),
                timeout: AtomicU32::new(0),
                timers_set: Stamp::new(at),
                last_sent: Stamp::new(at),
                last_recv: Stamp::new(at),
                heard: AtomicBool::new(false),
                floated: AtomicBool::new(false),
                early <- new_spinlock!(Early::new(), "ovpn_early"),
                ticket,
            }),
            GFP_KERNEL,
        )?;
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
        if let Some(v4) = config.vpn_ipv4 {
            self.vpn4.set([u32::from_be_bytes(v4)]);
        }
        if let Some(v6) = config.vpn_ipv6 {
            self.vpn6.set(to_words(v6));
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

    /// The peer's inner addresses; zeros where it has none.
    pub(crate) fn vpn_addrs(&self) -> ([u8; 4], [u8; 16]) {
        let [v4] = self.vpn4.get();
        (v4.to_be_bytes(), from_words(self.vpn6.get()))
    }

    /// Whether an inner address, IPv4 mapped into IPv6, is the peer's own.
    pub(crate) fn has_vpn_addr(&self, ip: [u8; 16]) -> bool {
        let (v4, v6) = self.vpn_addrs();
        // Zeros are no address: no peer has `::` or 0.0.0.0.
        (v6 != [0; 16] && ip == v6) || (v4 != [0; 4] && ip == map_ipv4(v4))
    }

    /// The peer id that packets to this peer carry.
    pub(crate) fn tx_id(&self) -> PeerId {
        PeerId::new(self.tx_id.load(Ordering::Relaxed)).unwrap_or(self.id)
    }

    /// Whether what this socket received may be the peer's. Through another socket than its own,
    /// over TCP when the peer is on UDP say, even an authentic packet must not move the peer.
    pub(crate) fn hears(&self, rcu: &Rcu, socket: SocketRef<'_>) -> bool {
        self.socket
            .get(rcu)
            .is_some_and(|own| socket.stands_for(own))
    }

    /// Notes that a packet was sent.
    pub(crate) fn sent(&self, at: BootSecs) {
        self.last_sent.set(at);
    }

    /// Notes that an authentic packet was received.
    pub(crate) fn received(&self, at: BootSecs) {
        self.last_recv.set(at);
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
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

    /// Has the two ends of a TCP connection that is being made through this peer agree on
    /// segments that need not be fragmented on the way.
    pub(crate) fn clamp_mss(&self, net: &NetDev, rcu: &Rcu, inner: &mut Pkt) {
        if let Some(syn) = Syn::find(inner.bytes()) {
            if let Some(socket) = self.socket.get(rcu) {
                syn.clamp(inner.bytes_mut(), socket.mss_room(net, &self.path));
            }
        }
    }

    /// Works on the packets that came before their key. The lock is taken where packets are
    /// received, so bottom halves are off meanwhile.
    pub(crate) fn early<R>(&self, f: impl FnOnce(&mut Early) -> R) -> R {
        rcu::read_as_rx(|_| f(&mut self.early.lock()))
    }

    /// Counts packets from the peer that were lost.
    pub(crate) fn rx_dropped(&self, net: &NetDev, reason: DropReason, packets: u32) {
        if packets == 0 {
            return;
        }
        net.rx_dropped(reason, packets);
        self.drops.add(reason, packets);
    }

    /// Counts packets to the peer that were lost.
    pub(crate) fn tx_dropped(&self, net: &NetDev, reason: DropReason, packets: u32) {
        net.tx_dropped(reason, packets);
        self.drops.add(reason, packets);
    }

    /// Milliseconds since the last authentic packet, known to the second; `None` before the first.
    fn last_seen(&self) -> Option<u32> {
        let heard = self.heard.load(Ordering::Relaxed);
        heard.then(|| now().since(self.last_recv()).saturating_mul(1000))
    }

    /// What PEER_GET tells.
    pub(crate) fn info(&self) -> PeerInfo {
        let timers = self.timers();
        PeerInfo::new(
            self.id.get(),
            self.tx_id().get(),
            (timers.interval(), timers.timeout()),
            &self.path,
            self.vpn_addrs(),
            self.stats.read(),
        )
        .extended(self.drops.read(), self.last_seen())
    }
}

fn to_words(bytes: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
        u32::from_be_bytes([i, j, k, l]),
        u32::from_be_bytes([m, n, o, p]),
    ]
}

fn from_words(words: [u32; 4]) -> [u8; 16] {
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = words.map(u32::to_be_bytes);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
