// SPDX-License-Identifier: GPL-2.0
//! The way in: recognise, decrypt, reject replays, deliver.
//!
//! As on the way out, [`submit`] ends where the cipher begins and [`complete`] begins where it
//! ends, or [`resume`] when an engine is done.

use crate::device::Device;
use crate::key::Key;
use crate::peer::Peer;
use crate::proto::attrs::Transport;
use crate::proto::clock::BootSecs;
use crate::proto::counters::DropReason;
use crate::proto::{early, ecn};
use crate::proto::wire::{
    classify, inner_protocol, is_from_link, is_keepalive, Header, KeyId, Verdict,
};
use crate::sys::cells;
use crate::sys::crypto::Cipher;
use crate::sys::driver::JobKey;
use crate::sys::order::{Job, NoJob, OrderRef, Way};
use crate::sys::path::Learnt;
use crate::sys::rcu::Rcu;
use crate::sys::skb::{Batch, Failure, Fate, Pkt, Skb};
use crate::sys::socket::SocketRef;
use crate::sys::stats::{now, Traffic};

/// Length of a UDP header, which a datagram still has in front.
const UDP_HEADER: u32 = 8;

/// Takes a datagram of `len` bytes that begins with `head` from a socket of the device; gives it
/// back if it is userspace's.
pub(crate) fn datagram(
    device: &Device,
    rcu: &Rcu,
    socket: SocketRef<'_>,
    skb: Skb,
    head: &[u8],
    len: usize,
) -> Option<Skb> {
    let (peer_id, key_id) = match classify(head, len) {
        Verdict::Data(peer_id, key_id) => (peer_id, key_id),
        Verdict::Userspace => return Some(skb),
        Verdict::Drop(reason) => {
            device.net.rx_dropped(reason, 1);
            return None;
        }
    };
    let peer = if peer_id.is_undef() {
        device.peers.by_source(rcu, &skb)
    } else {
        device.peers.by_id(rcu, peer_id)
    };
    let Some(peer) = peer.filter(|peer| peer.hears(rcu, socket)) else {
        device.net.rx_dropped(DropReason::UnknownPeer, 1);
        return None;
    };
    match Batch::received(skb, UDP_HEADER) {
        Ok(batch) => submit(device, rcu, peer, key_id, batch, Transport::Udp),
        Err(_) => peer.rx_dropped(&device.net, DropReason::RxNoMemory, 1),
    }
    None
}

/// Takes datagrams from one socket of the device, without their UDP headers, all of which begin
/// with the word `op`; `lost` more could not be read.
pub(crate) fn datagrams(
    device: &Device,
    rcu: &Rcu,
    socket: SocketRef<'_>,
    op: u32,
    batch: Batch,
    lost: u32,
) {
    let all = batch.count().saturating_add(lost);
    let head = op.to_be_bytes();
    let Verdict::Data(peer_id, key_id) = classify(&head, head.len()) else {
        return device.net.rx_dropped(DropReason::Runt, all);
    };
    let peer = device.peers.by_id(rcu, peer_id);
    let Some(peer) = peer.filter(|peer| peer.hears(rcu, socket)) else {
        return device.net.rx_dropped(DropReason::UnknownPeer, all);
    };
    if lost > 0 {
        peer.rx_dropped(&device.net, DropReason::RxNoMemory, lost);
    }
    if !batch.is_empty() {
        submit(device, rcu, peer, key_id, batch, Transport::Udp);
    }
}

/// Takes packets of one key id out of a peer's TCP stream.
pub(crate) fn stream(device: &Device, rcu: &Rcu, peer: &Peer, key_id: KeyId, batch: Batch) {
    submit(device, rcu, peer, key_id, batch, Transport::Tcp);
}

/// Puts packets of one peer and key id through the cipher.
fn submit(
    device: &Device,
    rcu: &Rcu,
    peer: &Peer,
    key_id: KeyId,
    batch: Batch,
    via: Transport,
) {
    peer.stats
        .add(Traffic::LinkRx, batch.count(), batch.bytes());
    match peer.keys.rx(rcu, key_id) {
        Some(key) => open(device, rcu, peer, key, batch, via),
        None => too_early(device, rcu, peer, key_id, batch, via),
    }
}

/// Has packets wait for the key that must come next, and drops those without one.
#[cold]
fn too_early(
    device: &Device,
    rcu: &Rcu,
    peer: &Peer,
    key_id: KeyId,
    mut batch: Batch,
    via: Transport,
) {
    // A stream is its peer's; a datagram must come from where the peer is known to be.
    let mut lost = batch.extract(|pkt| {
        !peer.keys.awaits(key_id) || (via == Transport::Udp && !peer.path.is_sender(pkt))
    });
    if !batch.is_empty() {
        let (net, at) = (&device.net, now());
        let key = peer.early(|early| {
            // KEY_NEW looks into the queue after the key is there: none is left behind in it.
            let key = peer.keys.rx(rcu, key_id);
            if key.is_none() {
                lost.append(early.hold(net, &device.early, batch.take(), at));
            }
            key
        });
        match key {
            Some(key) => open(device, rcu, peer, key, batch, via),
            None => net.tick_in(early::SECONDS.saturating_add(1)),
        }
    }
    peer.rx_dropped(&device.net, DropReason::NoKey, lost.count());
}

/// Goes on with the packets that came before their key.
pub(crate) fn key_came(device: &Device, rcu: &Rcu, peer: &Peer, key_id: KeyId) {
    let at = now();
    let (lost, batch) = peer.early(|early| {
        let lost = early.expire(&device.early, at);
        (lost, early.release(&device.early, key_id))
    });
    peer.rx_dropped(&device.net, DropReason::NoKey, lost.count());
    if batch.is_empty() {
        return;
    }
    let via = peer.socket.get(rcu).and_then(|socket| socket.transport());
    match (peer.keys.rx(rcu, key_id), via) {
        (Some(key), Some(via)) => open(device, rcu, peer, key, batch, via),
        _ => peer.rx_dropped(&device.net, DropReason::NoKey, batch.count()),
    }
}

/// Drops the packets that waited too long for their key. Returns the seconds until more have.
pub(crate) fn give_up(device: &Device, peer: &Peer, at: BootSecs) -> Option<u32> {
    let (lost, next) = peer.early(|early| (early.expire(&device.early, at), early.patience(at)));
    peer.rx_dropped(&device.net, DropReason::NoKey, lost.count());
    next
}

/// Opens packets of one key.
fn open(device: &Device, rcu: &Rcu, peer: &Peer, key: &Key, mut batch: Batch, via: Transport) {
    let overhead = key.alg().overhead();
    // The window is asked before the cipher, too: a packet that it refuses costs no decryption.
    let refused = {
        let window = key.replay().lock();
        batch.sift(|pkt| {
            let header = match Header::parse(pkt.bytes(), pkt.len() as usize, overhead) {
                Ok(header) => header,
                Err(reason) => return drop_for(device, peer, reason),
            };
            if let Err(rejected) = window.check(header.packet_id) {
                return drop_for(device, peer, rejected.into());
            }
            pkt.set_id(header.packet_id);
            Fate::Keep
        })
    };
    drop(refused);
    if batch.is_empty() {
        return;
    }
    let way = Way::In(via);
    if let Some(order) = peer.order.get() {
        if key.engine().is_some() || order.is_busy(way) {
            return queue(device, rcu, (peer, order), key, batch, way);
        }
    }
    key.open(&mut batch);
    complete(device, rcu, peer, key, batch, via);
}

/// Has a batch opened by an engine, or delivered after those that an engine opens.
fn queue(
    device: &Device,
    rcu: &Rcu,
    (peer, order): (&Peer, OrderRef<'_>),
    key: &Key,
    batch: Batch,
    way: Way,
) {
    let count = batch.count();
    let of = (way, count);
    let reason = match Job::<Device>::enter(rcu, &device.net, (peer, order), key, of, || ()) {
        Ok((job, ())) => return job.open(batch),
        Err(NoJob::Gone) => DropReason::RxGone,
        Err(NoJob::Full) => DropReason::RxQueueFull,
        Err(NoJob::NoMemory) => DropReason::RxNoMemory,
    };
    peer.rx_dropped(&device.net, reason, count);
}

/// Goes on with packets that come out of an engine, unless their peer went meanwhile.
pub(crate) fn resume(
    device: &Device,
    rcu: &Rcu,
    peer: &Peer,
    key: &Key,
    batch: Batch,
    via: Transport,
) {
    if peer.socket.get(rcu).is_none() {
        return peer.rx_dropped(&device.net, DropReason::RxGone, batch.count());
    }
    complete(device, rcu, peer, key, batch, via);
}

/// Delivers what the cipher found authentic.
fn complete(device: &Device, rcu: &Rcu, peer: &Peer, key: &Key, mut batch: Batch, via: Transport) {
    let at = now();
    let (newest, replayed) = {
        let mut window = key.replay().lock();
        let replayed = batch.sift(|pkt| {
            match pkt.failure() {
                None => {}
                Some(Failure::NoMemory) => return drop_for(device, peer, DropReason::RxNoMemory),
                Some(Failure::Busy) => return drop_for(device, peer, DropReason::RxQueueFull),
                Some(Failure::Cipher) => return drop_for(device, peer, DropReason::AuthFailed),
            }
            let Some(id) = pkt.id() else {
                return drop_for(device, peer, DropReason::Replay);
            };
            match window.accept(id, at) {
                Ok(()) => Fate::Keep,
                Err(rejected) => drop_for(device, peer, rejected.into()),
            }
        });
        (window.highest(), replayed)
    };
    drop(replayed);
    if batch.is_empty() {
        return;
    }
    peer.received(at);

    let _strange = batch.sift(|pkt| {
        // Only a packet newer than all others tells where the peer is now: a late or copied one
        // must not drag it back.
        if via == Transport::Udp && pkt.id().is_some_and(|id| id.get() == newest) {
            learn(device, peer, pkt);
        }
        let len = pkt.len() as usize;
        let outer = pkt.outer_ecn();
        if outer != ecn::NOT_ECT && !ecn::decapsulate(pkt.bytes_mut(), outer) {
            return drop_for(device, peer, DropReason::Ecn);
        }
        match inner_protocol(pkt.bytes(), len) {
            Some(protocol) => pkt.set_protocol(protocol),
            None if is_keepalive(pkt.bytes()) => return Fate::Consume,
            None => return drop_for(device, peer, DropReason::BadProtocol),
        }
        if !device.peers.is_path_back(rcu, &device.net, peer, pkt) {
            return match is_from_link(pkt.bytes()) {
                true => drop_for(device, peer, DropReason::LinkLocal),
                false => drop_for(device, peer, DropReason::ReversePath),
            };
        }
        peer.clamp_mss(&device.net, rcu, pkt);
        Fate::Keep
    });
    let count = batch.count();
    if count == 0 {
        return;
    }
    let (packets, bytes) = cells::deliver(&device.net, batch);
    peer.stats.add(Traffic::VpnRx, packets, bytes);
    if let Some(refused @ 1..) = count.checked_sub(packets) {
        peer.rx_dropped(&device.net, DropReason::RxRefused, refused);
    }
}

/// Follows a peer to the address its packet came from.
fn learn(device: &Device, peer: &Peer, pkt: &Pkt) {
    if let Learnt::Moved(from, to) = peer.path.learn(pkt) {
        device.peers.moved(peer, &from, &to);
        device.peers.note_float(peer);
        device.net.tell_soon();
    }
}

fn drop_for(device: &Device, peer: &Peer, reason: DropReason) -> Fate {
    peer.rx_dropped(&device.net, reason, 1);
    Fate::Drop
}
