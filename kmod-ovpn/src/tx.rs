// SPDX-License-Identifier: GPL-2.0
//! The way out: choose the peer, cut, number, encrypt, send.
//!
//! A batch has one peer and one key. [`submit`] ends where the cipher begins and [`complete`]
//! begins where it ends, so that the step between may move to another CPU or an engine.

use crate::device::Device;
use crate::key::Key;
use crate::peer::Peer;
use crate::proto::counters::DropReason;
use crate::proto::wire::{Header, PacketId, KEEPALIVE};
use crate::sys::genl::notify_swap;
use crate::sys::rcu::Rcu;
use crate::sys::skb::{Batch, Fate, Skb};
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
    let Ok(ids) = key.number(batch.count()) else {
        exhausted(device, rcu, peer, key);
        return peer.tx_dropped(&device.net, DropReason::TxExhausted, batch.count());
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
    key.seal(&mut batch, op(peer, key, ids.first()), ids.first());
    complete(device, rcu, peer, batch);
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
fn complete(device: &Device, rcu: &Rcu, peer: &Peer, mut batch: Batch) {
    let _failed = batch.sift(|pkt| {
        if pkt.failed() {
            peer.tx_dropped(&device.net, DropReason::TxCrypto, 1);
            Fate::Drop
        } else {
            Fate::Keep
        }
    });
    if batch.is_empty() {
        return;
    }
    let (packets, bytes) = (batch.count(), batch.bytes());
    let Some(socket) = peer.socket.get(rcu) else {
        return peer.tx_dropped(&device.net, DropReason::TxNoTransport, packets);
    };
    match socket.send(&device.net, &peer.path, batch) {
        Ok(0) => (),
        Ok(dropped) => peer.tx_dropped(&device.net, DropReason::TxQueueFull, dropped),
        Err(_) => return peer.tx_dropped(&device.net, DropReason::TxNoRoute, packets),
    }
    peer.stats.add(Traffic::LinkTx, packets, bytes);
    peer.sent(now());
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
