// SPDX-License-Identifier: GPL-2.0
//! Requests of the family `ovpn`. Each attribute is within its range already; `proto::attrs` checks
//! the attributes together, and nothing changes before all checks are passed.

use kernel::prelude::*;

use crate::device::Device;
use crate::key::Key;
use crate::peer::Peer;
use crate::peers::Conflict;
use crate::proto::attrs::{
    KeyRequest, PeerOp, PeerRequest, SocketFd, Transport, ValidKey, ValidPeer,
};
use crate::proto::del_reason::DelReason;
use crate::proto::refusal::Refusal;
use crate::proto::slots::Role;
use crate::proto::wire::PeerId;
use crate::sys::driver::JobKey;
use crate::sys::genl::{Answer, Denied, Dump, KeyInfo, Req};
use crate::sys::order::Order;
use crate::sys::params;
use crate::sys::rcu::{self, Rcu};
use crate::rx;
use crate::sys::socket::{FdSocket, Socket};
use crate::tick;

impl From<Conflict> for Denied {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Refused(refusal) => Denied::Refused(refusal),
            Conflict::Failed(error) => Denied::Failed(error, NO_MEMORY),
        }
    }
}

const NO_MEMORY: &core::ffi::CStr = c"ovpn: no memory for the peer";

/// PEER_NEW. In P2P mode it takes the place of the present peer.
pub(crate) fn peer_new(device: &Device, request: &PeerRequest) -> Answer {
    let (valid, fd) = request.validate_new(device.mode)?;
    let socket = attach(device, &valid, fd)?;
    let peer = Peer::new(&valid, socket).map_err(|e| Denied::Failed(e, NO_MEMORY))?;
    let mut config = device.config.lock();
    device.add(&mut config, peer)?;
    let end = rcu::read(|rcu| {
        let peer = device.peers.by_id(rcu, valid.id)?;
        tick::arrange(device, peer);
        peer.socket.get(rcu)?.end()
    });
    // The socket ended before the table had its peer, so the end did not delete this one.
    if let Some(reason) = end {
        device.delete_id(&mut config, valid.id, reason);
    }
    Ok(())
}

fn attach(device: &Device, valid: &ValidPeer, fd: SocketFd) -> Result<Socket, Denied> {
    let file = FdSocket::get(fd.0).map_err(|_| Refusal::NotASocket)?;
    let transport = file.transport().ok_or(Refusal::WrongProtocol)?;
    valid.fits(PeerOp::New, transport)?;
    file.attach(&device.net, valid.id).map_err(|e| {
        if e == EBUSY {
            Refusal::SocketBusy.into()
        } else if transport == Transport::Tcp {
            Refusal::NotConnected.into()
        } else {
            Refusal::AttachFailed.into()
        }
    })
}

/// PEER_SET.
pub(crate) fn peer_set(device: &Device, request: &PeerRequest) -> Answer {
    let valid = request.validate_set(device.mode)?;
    let mut config = device.config.lock();
    rcu::read(|rcu| {
        let peer = find(device, rcu, valid.id)?;
        if let Some(transport) = peer.socket.get(rcu).and_then(|socket| socket.transport()) {
            valid.fits(PeerOp::Set, transport)?;
        }
        device.peers.modify(&mut config, peer, &valid)?;
        tick::arrange(device, peer);
        Ok(())
    })
}

/// PEER_GET of one peer.
pub(crate) fn peer_get(device: &Device, req: &Req, request: &PeerRequest) -> Answer {
    let id = request.peer_id()?;
    rcu::read(|rcu| {
        let peer = find(device, rcu, id)?;
        req.reply_peer(peer.socket.get(rcu), &peer.info())
            .map_err(Denied::Reply)
    })
}

/// PEER_GET of all peers, from where the last message ended.
pub(crate) fn peer_dump(device: &Device, dump: &Dump, cursor: &mut usize) -> Result {
    let _config = device.config.lock();
    rcu::read(|rcu| {
        device.peers.resume(rcu, cursor, |peer| {
            dump.peer(peer.socket.get(rcu), &peer.info())
        })
    })
}

/// PEER_DEL.
pub(crate) fn peer_del(device: &Device, request: &PeerRequest) -> Answer {
    let id = request.peer_id()?;
    let mut config = device.config.lock();
    if !device.delete_id(&mut config, id, DelReason::Userspace) {
        return Err(Refusal::NoSuchPeer.into());
    }
    Ok(())
}

/// KEY_NEW. To OpenVPN its failure is fatal, so a key for a peer that the kernel deleted a moment
/// ago is taken as if the peer had gone a moment later.
pub(crate) fn key_new(device: &Device, req: &Req, request: &KeyRequest<'_>) -> Answer {
    let valid = request.validate_new(params::allow_none())?;
    match install_key(device, req, &valid) {
        Err(Denied::Refused(Refusal::NoSuchKeyPeer)) if device.has_vanished(valid.peer_id) => {
            Ok(())
        }
        outcome => outcome,
    }
}

fn install_key(device: &Device, req: &Req, valid: &ValidKey<'_>) -> Answer {
    // Before the costly part, and again under the lock that makes it true.
    with_keys(device, valid.peer_id, |_, _| ())?;
    let (key, as_wished) = Key::new(valid)
        .map_err(|e| Denied::Failed(e, c"ovpn: the kernel has no cipher for this key"))?;
    let order = key
        .engine()
        .map(|_| Order::new())
        .transpose()
        .map_err(|e| Denied::Failed(e, NO_MEMORY))?;
    let _config = device.config.lock();
    // These are dropped here if they were not used: in a read section nothing may sleep.
    let (mut key, mut order) = (Some(key), order);
    // On this CPU nothing is received between the key and the packets that wait for it: those with
    // the same key that come later stay behind them.
    let replaced = rcu::read_as_rx(|_| {
        with_keys(device, valid.peer_id, |rcu, peer| {
            // The queues first, or a packet would meet a key that it cannot use.
            order = order.take().and_then(|order| peer.order.fill(order));
            let replaced = key
                .take()
                .and_then(|key| peer.keys.install(valid.role, key));
            rx::key_came(device, rcu, peer, valid.key_id);
            replaced
        })
    })?;
    drop(replaced);
    if !as_wished {
        req.explain(c"ovpn: the preferred implementation is not there, another one is used");
    }
    Ok(())
}

/// KEY_GET: what a slot holds, not the key itself.
pub(crate) fn key_get(device: &Device, req: &Req, request: &KeyRequest<'_>) -> Answer {
    let (peer_id, role) = request.peer_and_role()?;
    let _config = device.config.lock();
    let info = with_keys(device, peer_id, |rcu, peer| {
        let key = peer.keys.of(rcu, role)?;
        let is_async = key.engine().is_some();
        let place = (peer_id.get(), role as u32);
        Some(KeyInfo::new(
            place,
            key.id(),
            key.alg(),
            key.driver(),
            is_async,
        ))
    })?
    .ok_or(Refusal::SlotEmpty)?;
    req.reply_key(&info).map_err(Denied::Reply)
}

/// KEY_SWAP.
pub(crate) fn key_swap(device: &Device, request: &KeyRequest<'_>) -> Answer {
    let id = request.peer()?;
    let _config = device.config.lock();
    with_keys(device, id, |_, peer| peer.keys.swap())
}

/// KEY_DEL. An empty slot is as good as an emptied one.
pub(crate) fn key_del(device: &Device, request: &KeyRequest<'_>) -> Answer {
    let (id, role): (PeerId, Role) = request.peer_and_role()?;
    let _config = device.config.lock();
    drop(with_keys(device, id, |_, peer| peer.keys.remove(role))?);
    Ok(())
}

fn find<'a>(device: &'a Device, rcu: &'a Rcu, id: PeerId) -> Result<&'a Peer, Denied> {
    Ok(device.peers.by_id(rcu, id).ok_or(Refusal::NoSuchPeer)?)
}

/// Runs `f` on the peer that a key request is about.
fn with_keys<R>(
    device: &Device,
    id: PeerId,
    f: impl FnOnce(&Rcu, &Peer) -> R,
) -> Result<R, Denied> {
    rcu::read(|rcu| {
        let peer = device.peers.by_id(rcu, id).ok_or(Refusal::NoSuchKeyPeer)?;
        Ok(f(rcu, peer))
    })
}
