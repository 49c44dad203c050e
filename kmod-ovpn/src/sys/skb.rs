// SPDX-License-Identifier: GPL-2.0
//! Packets and batches of them, each with one owner.

use core::ptr::{self, NonNull};

use kernel::error::to_result;
use kernel::prelude::*;

use super::ffi;
use super::netdev::NetDev;
use crate::proto::clock::BootSecs;
use crate::proto::runs::Run;
use crate::proto::wire::{InnerProtocol, PacketId};

/// A packet as the stack hands it over.
///
/// # Invariants
/// A live `sk_buff`, ours to send or free.
pub(crate) struct Skb(NonNull<ffi::sk_buff>);

impl Skb {
    /// # Safety
    /// `skb` must be live and handed over to the new value.
    pub(super) unsafe fn from_raw(skb: NonNull<ffi::sk_buff>) -> Skb {
        // INVARIANT: promised by the caller.
        Skb(skb)
    }

    /// Gives the packet up to the owner of the pointer.
    pub(super) fn into_raw(self) -> *mut ffi::sk_buff {
        let skb = self.0.as_ptr();
        core::mem::forget(self);
        skb
    }

    pub(super) fn as_raw(&self) -> *const ffi::sk_buff {
        self.0.as_ptr()
    }

    pub(super) fn as_raw_mut(&mut self) -> *mut ffi::sk_buff {
        self.0.as_ptr()
    }

    /// Tells the sender of an inner packet that no peer has its destination.
    pub(crate) fn unreachable(mut self) {
        // SAFETY: Ours by the invariant; its IP header was checked on entry.
        unsafe { ffi::ovpn_tx_unreachable(self.as_raw_mut()) };
    }
}

impl Drop for Skb {
    fn drop(&mut self) {
        // SAFETY: Ours by the invariant.
        unsafe { ffi::ovpn_skb_free(self.0.as_ptr()) };
    }
}

/// A packet of a [`Batch`]: contiguous bytes and what is known of them.
///
/// # Invariants
/// `data` and `len` of the wrapped value describe memory that belongs to the packet alone.
#[repr(transparent)]
pub(crate) struct Pkt(ffi::ovpn_pkt);

impl Pkt {
    /// The packet's bytes: wire format before [`open`](super::crypto), inner packet after.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: By the type's invariant.
        unsafe { core::slice::from_raw_parts(self.0.data, self.0.len as usize) }
    }

    /// The same, to be changed in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type's invariant.
        unsafe { core::slice::from_raw_parts_mut(self.0.data, self.0.len as usize) }
    }

    pub(super) fn as_raw(&self) -> *const ffi::ovpn_pkt {
        &self.0
    }

    /// Length of [`bytes`](Self::bytes).
    pub(crate) fn len(&self) -> u32 {
        self.0.len
    }

    /// Sets the packet id by which the packet will be opened.
    pub(crate) fn set_id(&mut self, id: PacketId) {
        self.0.id = id.get();
    }

    /// The packet id, if one was set.
    pub(crate) fn id(&self) -> Option<PacketId> {
        PacketId::new(self.0.id)
    }

    /// Why the crypto step failed on this packet, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self.0.err {
            0 => None,
            err if err == ENOMEM.to_errno() => Some(Failure::NoMemory),
            err if err == EAGAIN.to_errno() || err == ENOSPC.to_errno() => Some(Failure::Busy),
            _ => Some(Failure::Cipher),
        }
    }

    /// ECN bits of the outer header that a received packet came in.
    pub(crate) fn outer_ecn(&self) -> u8 {
        self.0.ecn
    }

    /// Has a received packet wait, from `at` on: it keeps nothing of the interface and the socket
    /// that it came by. Returns the memory it takes, in bytes.
    pub(crate) fn put_aside(&mut self, net: &NetDev, at: BootSecs) -> u32 {
        self.0.at = at.0;
        // SAFETY: A packet of ours by the invariant, and an interface that outlives it: packets
        // that wait end with their peer, and peers with their interface.
        unsafe { ffi::ovpn_rx_put_aside(net.as_raw(), &mut self.0) }
    }

    /// Since when it waits.
    pub(crate) fn came(&self) -> BootSecs {
        BootSecs(self.0.at)
    }

    /// Names the inner packet's protocol.
    pub(crate) fn set_protocol(&mut self, protocol: InnerProtocol) {
        self.0.proto = match protocol {
            InnerProtocol::V4 => 0x0800,
            InnerProtocol::V6 => 0x86dd,
        };
    }
}

/// Why a packet did not pass the crypto step.
pub(crate) enum Failure {
    /// Memory was missing.
    NoMemory,
    /// The engine takes no more.
    Busy,
    /// The cipher refused it: received packets that are not authentic, first of all.
    Cipher,
}

/// What [`Batch::sift`] does with a packet.
pub(crate) enum Fate {
    /// It stays in the batch.
    Keep,
    /// It is freed as lost.
    Drop,
    /// It is freed, having reached its end as it should.
    Consume,
}

/// Packets that travel together: one peer, one key, one direction.
///
/// # Invariants
/// A well-formed list: `tail` is the last packet, `count` and `bytes` are its sums, and every
/// packet in it is ours.
pub(crate) struct Batch(ffi::ovpn_batch);

impl Batch {
    const EMPTY: Batch = Batch(ffi::ovpn_batch {
        head: ptr::null_mut(),
        tail: ptr::null_mut(),
        count: 0,
        bytes: 0,
    });

    /// No packets.
    pub(crate) const fn empty() -> Self {
        Self::EMPTY
    }

    /// Cuts an outgoing packet into the packets that will be sent. `lost` is raised by those that
    /// memory was missing for.
    pub(crate) fn outgoing(skb: Skb, lost: &mut u32) -> Result<Batch> {
        let mut batch = Batch::EMPTY;
        // SAFETY: The packet is given up to the shim, which fills the list.
        to_result(unsafe { ffi::ovpn_tx_split(skb.into_raw(), &mut batch.0, lost) })?;
        Ok(batch)
    }

    /// The packet of a batch that holds one.
    pub(crate) fn single(&mut self) -> Option<&mut Pkt> {
        if self.count() != 1 {
            return None;
        }
        // SAFETY: By the invariant the list's packets are live and ours; `Pkt` is transparent over
        // them, and the borrow of `self` keeps others away.
        unsafe { self.0.head.cast::<Pkt>().as_mut() }
    }

    /// A packet with the given content.
    pub(crate) fn message(net: &NetDev, content: &[u8]) -> Result<Batch> {
        let mut batch = Batch::EMPTY;
        let len = u32::try_from(content.len()).map_err(|_| EINVAL)?;
        // SAFETY: The device lives while `net` does; `content` is `len` bytes long.
        to_result(unsafe {
            ffi::ovpn_tx_message(net.as_raw(), content.as_ptr(), len, &mut batch.0)
        })?;
        Ok(batch)
    }

    /// A received packet without the first `strip` bytes.
    pub(crate) fn received(skb: Skb, strip: u32) -> Result<Batch> {
        let mut batch = Batch::EMPTY;
        // SAFETY: The packet is given up to the shim, which fills the list.
        to_result(unsafe { ffi::ovpn_rx_take(skb.into_raw(), strip, &mut batch.0) })?;
        Ok(batch)
    }

    /// The first packet.
    pub(crate) fn first(&self) -> Option<&Pkt> {
        // SAFETY: By the invariant the list's packets are live and ours; `Pkt` is transparent over
        // them, and no other code changes them while `self` is borrowed.
        unsafe { self.0.head.cast::<Pkt>().as_ref() }
    }

    /// Takes all packets out.
    pub(crate) fn take(&mut self) -> Batch {
        core::mem::replace(self, Batch::EMPTY)
    }

    /// Takes out the packets that `choose` picks, in their order.
    pub(crate) fn extract(&mut self, mut choose: impl FnMut(&mut Pkt) -> bool) -> Batch {
        self.sift(|pkt| match choose(pkt) {
            true => Fate::Drop,
            false => Fate::Keep,
        })
        .dropped
        .take()
    }

    /// Appends the packets of another batch.
    pub(crate) fn append(&mut self, other: Batch) {
        let Some(mut first) = NonNull::new(other.0.head) else {
            return;
        };
        let other = other.into_raw();
        // SAFETY: By the invariant the tail, if there is one, is a packet of ours.
        match unsafe { self.0.tail.as_mut() } {
            // SAFETY: The other list's first packet, ours now.
            Some(tail) => tail.next = unsafe { first.as_mut() },
            None => self.0.head = first.as_ptr(),
        }
        self.0.tail = other.tail;
        self.0.count = self.0.count.wrapping_add(other.count);
        self.0.bytes = self.0.bytes.wrapping_add(other.bytes);
    }

    /// Memory of the packets, in bytes as the kernel charges for them.
    pub(crate) fn memory(&self) -> u32 {
        // SAFETY: The list is well-formed and ours.
        unsafe { ffi::ovpn_pkts_memory(self.0.head) }
    }

    /// Number of packets.
    pub(crate) fn count(&self) -> u32 {
        self.0.count
    }

    /// Sum of the packets' lengths.
    pub(crate) fn bytes(&self) -> u32 {
        self.0.bytes
    }

    /// Whether no packet is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.head.is_null()
    }

    /// # Safety
    /// The list is well-formed and handed over to the new value.
    pub(super) unsafe fn from_raw(raw: ffi::ovpn_batch) -> Self {
        // INVARIANT: promised by the caller.
        Batch(raw)
    }

    pub(super) fn as_raw(&mut self) -> *mut ffi::ovpn_batch {
        &mut self.0
    }

    /// Empties the batch; the caller owns the packets of the list.
    pub(super) fn into_raw(self) -> ffi::ovpn_batch {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    /// Decides on each packet in turn. The rejected ones live on in the result, so that they can
    /// be freed after a lock is released.
    pub(crate) fn sift(&mut self, mut decide: impl FnMut(&mut Pkt) -> Fate) -> Sifted {
        let mut sifted = Sifted {
            dropped: Batch::EMPTY,
            consumed: Batch::EMPTY,
        };
        let mut last: *mut ffi::ovpn_pkt = ptr::null_mut();
        let mut next = self.0.head;
        while let Some(mut pkt) = NonNull::new(next) {
            // SAFETY: In the list, so live and ours; `Pkt` is transparent over it, and no other
            // reference to it exists.
            let fate = decide(unsafe { pkt.cast::<Pkt>().as_mut() });
            // SAFETY: As above.
            let raw = unsafe { pkt.as_mut() };
            next = raw.next;
            let rejected = match fate {
                Fate::Keep => {
                    last = pkt.as_ptr();
                    continue;
                }
                Fate::Drop => &mut sifted.dropped,
                Fate::Consume => &mut sifted.consumed,
            };
            self.0.count = self.0.count.wrapping_sub(1);
            self.0.bytes = self.0.bytes.wrapping_sub(raw.len);
            // SAFETY: The packet before it, if there is one, is in the list, too.
            match unsafe { last.as_mut() } {
                Some(last) => last.next = next,
                None => self.0.head = next,
            }
            rejected.push(pkt);
        }
        // INVARIANT: the rejected packets are out of list and sums, and `last` is the last kept.
        self.0.tail = last;
        sifted
    }

    /// Notes which packets may leave as one: see [`Run`].
    pub(crate) fn mark_runs(&mut self) {
        let mut run = Run::default();
        let mut first = self.0.head;
        let mut next = self.0.head;
        while let Some(mut pkt) = NonNull::new(next) {
            // SAFETY: In the list, so live and ours.
            let (len, behind) = unsafe { (pkt.as_ref().len, pkt.as_ref().next) };
            if !run.join(len) {
                run = Run::of(len);
                first = pkt.as_ptr();
            }
            // SAFETY: As above; the first of the run is this packet or one before it.
            unsafe {
                pkt.as_mut().run = 0;
                (*first).run = run.count();
            }
            next = behind;
        }
    }

    /// Appends a packet that is ours and in no list.
    fn push(&mut self, mut pkt: NonNull<ffi::ovpn_pkt>) {
        // SAFETY: Ours by the contract.
        let raw = unsafe { pkt.as_mut() };
        raw.next = ptr::null_mut();
        self.0.count = self.0.count.wrapping_add(1);
        self.0.bytes = self.0.bytes.wrapping_add(raw.len);
        // SAFETY: By the invariant the tail, if there is one, is a packet of ours.
        match unsafe { self.0.tail.as_mut() } {
            Some(tail) => tail.next = pkt.as_ptr(),
            None => self.0.head = pkt.as_ptr(),
        }
        self.0.tail = pkt.as_ptr();
    }
}

// SAFETY: Packets may be used from any thread, one at a time.
unsafe impl Send for Batch {}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.is_empty() {
            // SAFETY: The packets are ours by the invariant.
            unsafe { ffi::ovpn_pkts_free(self.0.head, false) };
        }
    }
}

/// Packets that [`Batch::sift`] took out; freed with this value.
pub(crate) struct Sifted {
    dropped: Batch,
    consumed: Batch,
}

impl Drop for Sifted {
    fn drop(&mut self) {
        if self.consumed.is_empty() {
            return;
        }
        let consumed = core::mem::replace(&mut self.consumed, Batch::EMPTY).into_raw();
        // SAFETY: The packets were ours and are given up here.
        unsafe { ffi::ovpn_pkts_free(consumed.head, true) };
    }
}
