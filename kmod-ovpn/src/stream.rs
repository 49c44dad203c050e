// SPDX-License-Identifier: GPL-2.0
//! The receiving side of a TCP stream: cuts it into packets and sorts them, data packets for the
//! peer, the others for userspace. Used under the socket's lock.

use crate::device::Device;
use crate::peer::Peer;
use crate::proto::counters::DropReason;
use crate::proto::framing::{Framer, Piece};
use crate::proto::wire::{classify, KeyId, PeerId, Verdict};
use crate::rx;
use crate::sys::frame::Frame;
use crate::sys::rcu::Rcu;
use crate::sys::skb::Batch;
use crate::sys::socket::SocketRef;

/// Packets that are decrypted at a time.
const BATCH: u32 = 64;

/// The stream is not OpenVPN's, or not of a version we speak, and cannot be followed any longer.
pub(crate) struct Broken;

/// A stream whose data packets come from one peer.
pub(crate) struct Stream {
    peer: PeerId,
    framer: Framer,
    /// The packet that is being received; `None` between packets, and when memory ran out for it.
    frame: Option<Frame>,
    /// Complete data packets, all of `key`.
    batch: Batch,
    key: Option<KeyId>,
}

impl Stream {
    pub(crate) fn new(peer: PeerId) -> Self {
        Stream {
            peer,
            framer: Framer::new(),
            frame: None,
            batch: Batch::empty(),
            key: None,
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn bytes(
        &mut self,
        device: &Device,
        rcu: &Rcu,
        socket: SocketRef<'_>,
        mut input: &[u8],
    ) -> Result<(), Broken> {
        loop {
            match self.framer.next(&mut input) {
                Ok(None) => return Ok(()),
                Ok(Some(Piece::Start(len))) => self.frame = Frame::new(len).ok(),
                Ok(Some(Piece::Body(bytes, last))) => {
                    if let Some(frame) = &mut self.frame {
                        frame.add(bytes);
                    }
                    if last {
                        self.complete(device, rcu, socket)?;
                    }
                }
                Err(_) => {
                    self.dropped(device, rcu, socket, DropReason::Short);
                    return Err(Broken);
                }
            }
        }
    }

    /// Delivers what is complete.
    pub(crate) fn flush(&mut self, device: &Device, rcu: &Rcu, socket: SocketRef<'_>) {
        let batch = core::mem::replace(&mut self.batch, Batch::empty());
        let Some(key) = self.key.take() else {
            return;
        };
        match self.find(device, rcu, socket) {
            Some(peer) => rx::stream(device, rcu, peer, key, batch),
            // Its socket is ours a moment before the peer is in the table, and after.
            None => device
                .net
                .rx_dropped(DropReason::UnknownPeer, batch.count()),
        }
    }

    fn complete(
        &mut self,
        device: &Device,
        rcu: &Rcu,
        socket: SocketRef<'_>,
    ) -> Result<(), Broken> {
        let Some(frame) = self.frame.take() else {
            self.dropped(device, rcu, socket, DropReason::RxNoMemory);
            return Ok(());
        };
        let bytes = frame.bytes();
        match classify(bytes, bytes.len()) {
            // The stream tells whose it is, whatever id the packet names.
            Verdict::Data(_, key) => {
                if self.key.is_some_and(|pending| pending != key) || self.batch.count() >= BATCH {
                    self.flush(device, rcu, socket);
                }
                self.key = Some(key);
                frame.into_batch(&mut self.batch);
            }
            Verdict::Userspace => {
                if !frame.into_user(socket) {
                    self.dropped(device, rcu, socket, DropReason::RxRefused);
                }
            }
            Verdict::Drop(reason) => {
                self.dropped(device, rcu, socket, reason);
                return Err(Broken);
            }
        }
        Ok(())
    }

    /// The peer of the stream, which by now may be gone and its id another's.
    fn find<'a>(
        &self,
        device: &'a Device,
        rcu: &'a Rcu,
        socket: SocketRef<'_>,
    ) -> Option<&'a Peer> {
        let peer = device.peers.by_id(rcu, self.peer);
        peer.filter(|peer| peer.hears(rcu, socket))
    }

    fn dropped(&self, device: &Device, rcu: &Rcu, socket: SocketRef<'_>, reason: DropReason) {
        match self.find(device, rcu, socket) {
            Some(peer) => peer.rx_dropped(&device.net, reason, 1),
            None => device.net.rx_dropped(reason, 1),
        }
    }
}
