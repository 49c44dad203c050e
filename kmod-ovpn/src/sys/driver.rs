// SPDX-License-Identifier: GPL-2.0
//! The driver as C calls it. [`entry`](super::entry) turns the pointers of `shim/rust.h` into types
//! and calls the methods below; the layer above implements them.

use kernel::prelude::*;

use super::crypto::{AsyncAead, Cipher};
use super::genl::{Answer, Dump, Req};
use super::netdev::NetDev;
use super::rcu::{Rcu, Retire};
use super::skb::{Batch, Skb};
use super::socket::{SocketId, SocketRef};
use crate::compat::Arc;
use crate::proto::attrs::{KeyRequest, Mode, PeerRequest, Transport};
use crate::proto::wire::PeerId;

/// The type that [`entry_points!`](super::entry::entry_points) was given.
///
/// # Safety
/// Only that macro implements it. There is one such type, because the symbols of `shim/rust.h`
/// have one definition.
pub(crate) unsafe trait Exported {}

/// A key that jobs use.
pub(crate) trait JobKey: Retire + Cipher {
    /// The engine, if packets come back later: then only jobs may use the key.
    fn engine(&self) -> Option<&AsyncAead>;
}

/// The Rust side of an interface.
///
/// Methods that take a [`Rcu`] run with bottom halves off. All others may sleep.
pub(crate) trait Driver: Exported + Sized + Send + Sync + 'static {
    /// A peer of an interface.
    type Peer: Retire;
    /// A key of a peer.
    type Key: JobKey;
    /// The receiving side of a TCP stream.
    type Stream: Send + 'static;

    /// The Rust side of a new interface. `ENOMEM` without memory.
    fn dev_new(net: NetDev, mode: Mode) -> Result<Arc<Self>>;
    /// The mode of the interface.
    fn dev_mode(&self) -> Mode;
    /// Deletes all peers of an interface that is being unregistered.
    fn dev_down(&self);

    /// Sends an inner packet whose IP header was checked.
    fn xmit(&self, rcu: &Rcu, skb: Skb);
    /// Takes a datagram that has `len` bytes behind its UDP header and begins with `head` there;
    /// gives it back if it belongs to userspace.
    fn udp_rx(
        &self,
        rcu: &Rcu,
        socket: SocketRef<'_>,
        skb: Skb,
        head: &[u8],
        len: usize,
    ) -> Option<Skb>;
    /// Takes datagrams, without their UDP headers, that begin with the word `op`; `lost` more
    /// could not be read.
    fn udp_batch(&self, rcu: &Rcu, socket: SocketRef<'_>, op: u32, batch: Batch, lost: u32);

    /// A stream whose data packets come from this peer. `ENOMEM` without memory.
    fn tcp_new(peer: PeerId) -> Result<KBox<Self::Stream>>;
    /// Takes bytes of a stream, under the lock of its socket. False when it is no OpenVPN stream.
    fn tcp_bytes(
        &self,
        rcu: &Rcu,
        socket: SocketRef<'_>,
        stream: &mut Self::Stream,
        data: &[u8],
    ) -> bool;
    /// Delivers the complete packets of a stream, under the lock of its socket.
    fn tcp_flush(&self, rcu: &Rcu, socket: SocketRef<'_>, stream: &mut Self::Stream);
    /// A stream cannot be followed any longer.
    fn tcp_broken(&self, socket: SocketId);
    /// Userspace closed a transport socket.
    fn sock_gone(&self, socket: SocketId);

    /// Time for keepalives and expiries.
    fn tick(&self);
    /// Sends notifications that wait; true when some still do.
    fn tell(&self) -> bool;

    /// An engine has sealed the packets of a job.
    fn job_sealed(&self, rcu: &Rcu, peer: &Self::Peer, batch: Batch);
    /// An engine has opened the packets of a job, which came by this transport.
    fn job_opened(
        &self,
        rcu: &Rcu,
        peer: &Self::Peer,
        key: &Self::Key,
        batch: Batch,
        via: Transport,
    );

    /// PEER_NEW.
    fn peer_new(&self, req: &Req, request: &PeerRequest) -> Answer;
    /// PEER_SET.
    fn peer_set(&self, req: &Req, request: &PeerRequest) -> Answer;
    /// PEER_GET of one peer.
    fn peer_get(&self, req: &Req, request: &PeerRequest) -> Answer;
    /// PEER_GET of all peers, from `cursor` (0: the first) on.
    fn peer_dump(&self, dump: &Dump, cursor: &mut usize) -> Result;
    /// PEER_DEL.
    fn peer_del(&self, req: &Req, request: &PeerRequest) -> Answer;
    /// KEY_NEW.
    fn key_new(&self, req: &Req, request: &KeyRequest<'_>) -> Answer;
    /// KEY_GET.
    fn key_get(&self, req: &Req, request: &KeyRequest<'_>) -> Answer;
    /// KEY_SWAP.
    fn key_swap(&self, req: &Req, request: &KeyRequest<'_>) -> Answer;
    /// KEY_DEL.
    fn key_del(&self, req: &Req, request: &KeyRequest<'_>) -> Answer;
}
