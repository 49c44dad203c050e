// SPDX-License-Identifier: GPL-2.0
//! The way out: choose the peer, cut, number, encrypt, send.
//!
//! A batch has one peer and one key. [`submit`] ends where the cipher begins and [`complete`]
//! begins where it ends: at once, or when an engine is done and it is the batch's turn.

use crate::device::Device;
use crate::key::Key;
use crate::peer::Peer;
use crate::proto::counters::DropReason;
use crate::proto::nonce::{Exhausted, IdRange};
use crate::proto::wire::{Header, PacketId, KEEPALIVE};
use crate::sys::crypto::Cipher;
use crate::sys::driver::JobKey;
use crate::sys::genl::notify_swap;
use crate::sys::order::{Job, NoJob, OrderRef, Way};
use crate::sys::rcu::Rcu;
use crate::sys::skb::{Batch, Failure, Fate, Skb};
use crate::sys::stats::{now, Traffic};

/// Sends an inner packet, or the super-packet of many.
pub(crate) fn xmit(device: &Device, rcu: &Rcu, mut skb: Skb) {
    let Some(peer) = device.peers.by_destination(rcu, &skb) else {
        skb.unreachable();
        return device.net.tx_dropped(DropReason::TxNoPeer, 1);
    };
    if let Some(socket) = peer.socket.get(rcu) {
        if !socket.admits(&device.net, &peer.path, &mut skb) {
            return peer.tx_dropped(&device.net, DropReason::TxTooBig, 1);
        }
    }
    let mut lost = 0;
    let batch = Batch::outgoing(skb, &mut lost);
    if lost > 0 {
        peer.tx_dropped(&device.net, DropReason::TxNoMemory, lost);
    }
    let Ok(mut batch) = batch else {
        return peer.tx_dropped(&device.net, DropReason::TxNoMemory, 1);
    };
    if batch.is_empty() {
        return;
    }
    peer.stats.add(Traffic::VpnTx, batch.count(), batch.bytes());
    // Only data comes in super-packets. The packet's checksum is complete by now.
    if let Some(pkt) = batch.single() {
        peer.clamp_mss(&device.net, rcu, pkt);
    }
    submit(device, rcu, peer, batch);
}

/// Sends OpenVPN's keepalive message, which counts as link traffic only.
pub(crate) fn keepalive(device: &Device, rcu: &Rcu, peer: &Peer) {
    match Batch::message(&device.net, &KEEPALIVE) {
        Ok(batch) => submit(device, rcu, peer, batch),
        Err(_) => peer.tx_dropped(&device.net, DropReason::TxNoMemory, 1),
    }
}

/// Gives the packets their ids and puts them through the cipher of the primary key.
fn submit(device: &Device, rcu: &Rcu, peer: &Peer, mut batch: Batch) {
    let Some(key) = peer.keys.tx(rcu) else {
        return peer.tx_dropped(&device.net, DropReason::TxNoKey, batch.count());
    };
    if let Some(order) = peer.order.get() {
        if key.engine().is_some() || order.is_busy(Way::Out) {
            return queue(device, rcu, (peer, order), key, batch);
        }
    }
    let ids = key.number(batch.count());
    if let Some(first) = numbered(device, rcu, peer, key, ids, &mut batch) {
        key.seal(&mut batch, op(peer, key, first), first);
        complete(device, rcu, peer, batch);
    }
}

/// Has a batch sealed by an engine, or sent after those that an engine seals.
fn queue(
    device: &Device,
    rcu: &Rcu,
    (peer, order): (&Peer, OrderRef<'_>),
    key: &Key,
    mut batch: Batch,
) {
    let count = batch.count();
    // Packet ids are drawn in the order in which packets will leave.
    let job = Job::<Device>::enter(
        rcu,
        &device.net,
        (peer, order),
        key,
        (Way::Out, count),
        || key.number(count),
    );
    match job {
        Ok((job, ids)) => {
            if let Some(first) = numbered(device, rcu, peer, key, ids, &mut batch) {
                job.seal(batch, op(peer, key, first), first);
            }
        }
        Err(why) => {
            let reason = match why {
                NoJob::Gone => DropReason::TxNoTransport,
                NoJob::Full => DropReason::TxQueueFull,
                NoJob::NoMemory => DropReason::TxNoMemory,
            };
            peer.tx_dropped(&device.net, reason, count);
        }
    }
}

/// Cuts a batch to the ids it got, and says so if these come to their end. The first id; `None` if
/// there is none, and the packets are lost.
fn numbered(
    device: &Device,
    rcu: &Rcu,
    peer: &Peer,
    key: &Key,
    ids: Result<IdRange, Exhausted>,
    batch: &mut Batch,
) -> Option<PacketId> {
    let Ok(ids) = ids else {
        exhausted(device, rcu, peer, key);
        peer.tx_dropped(&device.net, DropReason::TxExhausted, batch.count());
        return None;
    };
    if ids.count() < batch.count() {
        let mut left = ids.count();
        let _surplus = batch.sift(|_| match left.checked_sub(1) {
            Some(rest) => {
                left = rest;
                Fate::Keep
            }
            None => {
                peer.tx_dropped(&device.net, DropReason::TxExhausted, 1);
                Fate::Drop
            }
        });
        exhausted(device, rcu, peer, key);
    } else if key.wants_successor(ids) {
        ask_for_key(device, rcu, peer, key);
    }
    Some(ids.first())
}

/// First word of the header: opcode, key id, peer id.
fn op(peer: &Peer, key: &Key, first: PacketId) -> u32 {
    let header = Header {
        key_id: key.id(),
        peer_id: peer.tx_id(),
        packet_id: first,
    };
    let [a, b, c, d, ..] = header.emit();
    u32::from_be_bytes([a, b, c, d])
}

/// Sends what the cipher is done with.
pub(crate) fn complete(device: &Device, rcu: &Rcu, peer: &Peer, mut batch: Batch) {
    let _failed = batch.sift(|pkt| {
        let reason = match pkt.failure() {
            None => return Fate::Keep,
            Some(Failure::NoMemory) => DropReason::TxNoMemory,
            Some(Failure::Busy) => DropReason::TxQueueFull,
            Some(Failure::Cipher) => DropReason::TxCrypto,
        };
        peer.tx_dropped(&device.net, reason, 1);
        Fate::Drop
    });
    if batch.is_empty() {
        return;
    }
    let packets = batch.count();
    let Some(socket) = peer.socket.get(rcu) else {
        return peer.tx_dropped(&device.net, DropReason::TxNoTransport, packets);
    };
    if packets > 1 {
        batch.mark_runs();
    }
    let Ok((sent, bytes)) = socket.send(&device.net, &peer.path, batch) else {
        return peer.tx_dropped(&device.net, DropReason::TxNoRoute, packets);
    };
    if let Some(lost @ 1..) = packets.checked_sub(sent) {
        peer.tx_dropped(&device.net, DropReason::TxQueueFull, lost);
    }
    if sent > 0 {
        peer.stats.add(Traffic::LinkTx, sent, bytes);
        peer.sent(now());
    }
}

/// The key has no packet ids left: it must not be used again.
fn exhausted(device: &Device, rcu: &Rcu, peer: &Peer, key: &Key) {
    if key.kill() {
        ask_for_key(device, rcu, peer, key);
        device.net.tick_in(0);
    }
}

fn ask_for_key(device: &Device, rcu: &Rcu, peer: &Peer, key: &Key) {
    if let Some(socket) = peer.socket.get(rcu) {
        notify_swap(
            &device.net,
            socket,
            peer.id().get(),
            u32::from(key.id().get()),
        );
    }
}
