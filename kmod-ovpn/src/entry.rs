// SPDX-License-Identifier: GPL-2.0
//! The driver as C calls it: each entry point and the function behind it. All are `#[inline]`,
//! because each has one caller: a packet costs no call more than the entry point itself.

use kernel::prelude::*;

use crate::compat::Arc;
use crate::device::Device;
use crate::key::Key;
use crate::netlink;
use crate::peer::Peer;
use crate::proto::attrs::{KeyRequest, Mode, PeerRequest, Transport};
use crate::proto::del_reason::DelReason;
use crate::proto::wire::PeerId;
use crate::stream::Stream;
use crate::sys::driver::Driver;
use crate::sys::entry::entry_points;
use crate::sys::genl::{Answer, Dump, Req};
use crate::sys::netdev::NetDev;
use crate::sys::rcu::Rcu;
use crate::sys::skb::{Batch, Skb};
use crate::sys::socket::{SocketId, SocketRef};
use crate::{rx, tick, tx};

entry_points!(Device);

impl Driver for Device {
    type Peer = Peer;
    type Key = Key;
    type Stream = Stream;

    #[inline]
    fn dev_new(net: NetDev, mode: Mode) -> Result<Arc<Self>> {
        Device::new(net, mode)
    }

    #[inline]
    fn dev_mode(&self) -> Mode {
        self.mode
    }

    #[inline]
    fn dev_down(&self) {
        self.down();
    }

    #[inline]
    fn xmit(&self, rcu: &Rcu, skb: Skb) {
        tx::xmit(self, rcu, skb);
    }

    #[inline]
    fn udp_rx(
        &self,
        rcu: &Rcu,
        socket: SocketRef<'_>,
        skb: Skb,
        head: &[u8],
        len: usize,
    ) -> Option<Skb> {
        rx::datagram(self, rcu, socket, skb, head, len)
    }

    #[inline]
    fn udp_batch(&self, rcu: &Rcu, socket: SocketRef<'_>, op: u32, batch: Batch, lost: u32) {
        rx::datagrams(self, rcu, socket, op, batch, lost);
    }

    #[inline]
    fn tcp_new(peer: PeerId) -> Result<KBox<Stream>> {
        Ok(KBox::new(Stream::new(peer), GFP_KERNEL)?)
    }

    #[inline]
    fn tcp_bytes(
        &self,
        rcu: &Rcu,
        socket: SocketRef<'_>,
        stream: &mut Stream,
        data: &[u8],
    ) -> bool {
        stream.bytes(self, rcu, socket, data).is_ok()
    }

    #[inline]
    fn tcp_flush(&self, rcu: &Rcu, socket: SocketRef<'_>, stream: &mut Stream) {
        stream.flush(self, rcu, socket);
    }

    #[inline]
    fn tcp_broken(&self, socket: SocketId) {
        self.socket_gone(socket, DelReason::TransportError);
    }

    #[inline]
    fn sock_gone(&self, socket: SocketId) {
        self.socket_gone(socket, DelReason::TransportDisconnect);
    }

    #[inline]
    fn tick(&self) {
        tick::run(self);
    }

    #[inline]
    fn tell(&self) -> bool {
        self.tell_floats()
    }

    #[inline]
    fn job_sealed(&self, rcu: &Rcu, peer: &Peer, batch: Batch) {
        tx::complete(self, rcu, peer, batch);
    }

    #[inline]
    fn job_opened(&self, rcu: &Rcu, peer: &Peer, key: &Key, batch: Batch, via: Transport) {
        rx::resume(self, rcu, peer, key, batch, via);
    }

    #[inline]
    fn peer_new(&self, _req: &Req, request: &PeerRequest) -> Answer {
        netlink::peer_new(self, request)
    }

    #[inline]
    fn peer_set(&self, _req: &Req, request: &PeerRequest) -> Answer {
        netlink::peer_set(self, request)
    }

    #[inline]
    fn peer_get(&self, req: &Req, request: &PeerRequest) -> Answer {
        netlink::peer_get(self, req, request)
    }

    #[inline]
    fn peer_dump(&self, dump: &Dump, cursor: &mut usize) -> Result {
        netlink::peer_dump(self, dump, cursor)
    }

    #[inline]
    fn peer_del(&self, _req: &Req, request: &PeerRequest) -> Answer {
        netlink::peer_del(self, request)
    }

    #[inline]
    fn key_new(&self, req: &Req, request: &KeyRequest<'_>) -> Answer {
        netlink::key_new(self, req, request)
    }

    #[inline]
    fn key_get(&self, req: &Req, request: &KeyRequest<'_>) -> Answer {
        netlink::key_get(self, req, request)
    }

    #[inline]
    fn key_swap(&self, _req: &Req, request: &KeyRequest<'_>) -> Answer {
        netlink::key_swap(self, request)
    }

    #[inline]
    fn key_del(&self, _req: &Req, request: &KeyRequest<'_>) -> Answer {
        netlink::key_del(self, request)
    }
}
