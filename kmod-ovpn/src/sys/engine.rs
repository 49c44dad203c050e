// SPDX-License-Identifier: GPL-2.0
//! Crypto that comes back later: jobs, and the lanes that keep their order.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::prelude::*;

use super::ffi;
use super::netdev::NetDev;
use super::rcu::{Rcu, Retire};
use super::skb::Batch;
use crate::key::Key;
use crate::peer::Peer;
use crate::proto::attrs::Transport;
use crate::proto::wire::PacketId;

/// What becomes of a job's packets when they come out, and thereby which lane they take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// They are sent.
    Out,
    /// They were received by this transport.
    In(Transport),
}

impl Way {
    fn lane(self) -> u32 {
        match self {
            Way::Out => ffi::OVPN_LANE_OUT,
            Way::In(_) => ffi::OVPN_LANE_IN,
        }
    }

    fn to_raw(self) -> u32 {
        match self {
            Way::Out => 0,
            Way::In(Transport::Udp) => 1,
            Way::In(Transport::Tcp) => 2,
        }
    }

    pub(super) fn from_raw(raw: u32) -> Way {
        match raw {
            0 => Way::Out,
            1 => Way::In(Transport::Udp),
            _ => Way::In(Transport::Tcp),
        }
    }
}

/// A peer's two lanes.
///
/// # Invariants
/// A live object of the shim, ours alone.
pub(crate) struct Lanes(NonNull<ffi::ovpn_lanes>);

impl Lanes {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_lanes_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Lanes(raw))
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant. Jobs hold the peer that owns the lanes, so none is
        // left; peers are released where sleeping is allowed.
        unsafe { ffi::ovpn_lanes_free(self.0.as_ptr()) };
    }
}

/// Where a peer keeps its lanes, once it has a key that needs them: most never have.
///
/// # Invariants
/// Null, or a pointer that [`Lanes`] held. It is set once.
pub(crate) struct LanesSlot(AtomicPtr<ffi::ovpn_lanes>);

impl LanesSlot {
    pub(crate) fn empty() -> Self {
        // INVARIANT: null.
        LanesSlot(AtomicPtr::new(ptr::null_mut()))
    }

    /// Takes lanes over, unless there are some: then they come back, to be dropped where that may
    /// sleep.
    pub(crate) fn fill(&self, lanes: Lanes) -> Option<Lanes> {
        let raw = lanes.0.as_ptr();
        let empty = ptr::null_mut();
        // INVARIANT: set once, because only null is exchanged. Release pairs with `get`.
        if self
            .0
            .compare_exchange(empty, raw, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            return Some(lanes);
        }
        core::mem::forget(lanes);
        None
    }

    /// The lanes, if packets must look at them.
    pub(crate) fn get(&self) -> Option<LanesRef<'_>> {
        NonNull::new(self.0.load(Ordering::Acquire)).map(|raw| LanesRef { raw, _of: self })
    }
}

impl Drop for LanesSlot {
    fn drop(&mut self) {
        // INVARIANT: what `fill` forgot.
        drop(NonNull::new(*self.0.get_mut()).map(Lanes));
    }
}

/// The lanes of a peer that is there.
#[derive(Clone, Copy)]
pub(crate) struct LanesRef<'a> {
    raw: NonNull<ffi::ovpn_lanes>,
    _of: &'a LanesSlot,
}

impl LanesRef<'_> {
    /// Whether packets are on their way: others must queue behind them.
    pub(crate) fn are_busy(self, way: Way) -> bool {
        // SAFETY: The slot owns them and is borrowed.
        unsafe { ffi::ovpn_lanes_busy(self.raw.as_ptr(), way.lane()) }
    }
}

/// A batch's place in a lane. It holds the interface, the peer and the key until its packets are
/// out.
///
/// # Invariants
/// A live job of the shim, not yet consumed, that holds the key.
pub(crate) struct Job<'a> {
    raw: NonNull<ffi::ovpn_job>,
    key: &'a Key,
}

/// Why there is no job.
pub(crate) enum NoJob {
    /// The peer or the key is on its way out.
    Gone,
    /// Too many packets of the lane are in the engine.
    Full,
    /// No memory.
    NoMemory,
}

impl<'a> Job<'a> {
    /// A job for so many packets of a peer, in the last place of its lane; `turn` runs when that
    /// place is taken and before anybody else takes the next one.
    pub(crate) fn enter<R>(
        rcu: &'a Rcu,
        net: &NetDev,
        (peer, lanes): (&Peer, LanesRef<'_>),
        key: &'a Key,
        (way, packets): (Way, u32),
        turn: impl FnOnce() -> R,
    ) -> Result<(Self, R), NoJob> {
        let peer_ticket = peer.ticket().hold(rcu).ok_or(NoJob::Gone)?;
        let key_ticket = key.ticket().hold(rcu).ok_or(NoJob::Gone)?;
        let owner = ffi::ovpn_job_owner {
            dev: net.as_raw(),
            peer: ptr::from_ref(peer).cast_mut().cast::<c_void>(),
            key: ptr::from_ref(key).cast_mut().cast::<c_void>(),
            peer_ticket: peer_ticket.as_ptr(),
            key_ticket: key_ticket.as_ptr(),
            what: way.to_raw(),
        };
        let (mut err, lane) = (0, way.lane());
        // SAFETY: All live during the read section, and the tickets may be held in it; the job
        // holds what it keeps.
        let raw = unsafe { ffi::ovpn_job_new(lanes.raw.as_ptr(), lane, &owner, packets, &mut err) };
        let raw = NonNull::new(raw).ok_or(if err == ENOMEM.to_errno() {
            NoJob::NoMemory
        } else {
            NoJob::Full
        })?;
        // SAFETY: The job is fresh, and the lane is left below. `turn` cannot unwind in the kernel.
        unsafe { ffi::ovpn_job_enter(raw.as_ptr()) };
        let result = turn();
        // SAFETY: Pairs with the above.
        unsafe { ffi::ovpn_job_entered(raw.as_ptr()) };
        // INVARIANT: fresh from the shim, for this key.
        Ok((Job { raw, key }, result))
    }

    /// Seals the packets, as [`Cipher::seal`](super::crypto::Cipher::seal) does.
    pub(crate) fn seal(self, mut batch: Batch, op: u32, first: PacketId) {
        match self.key.engine() {
            // SAFETY: The job holds its key by the invariant, and the key is the engine's.
            Some(engine) => unsafe { engine.seal(self.into_raw(), batch, op, first) },
            None => {
                self.key.seal(&mut batch, op, first);
                self.finish(batch);
            }
        }
    }

    /// Opens the packets, as [`Cipher::open`](super::crypto::Cipher::open) does.
    pub(crate) fn open(self, mut batch: Batch) {
        match self.key.engine() {
            // SAFETY: As in `seal`.
            Some(engine) => unsafe { engine.open(self.into_raw(), batch) },
            None => {
                self.key.open(&mut batch);
                self.finish(batch);
            }
        }
    }

    /// The packets are through: they come out when it is their turn.
    fn finish(self, batch: Batch) {
        let batch = batch.into_raw();
        // SAFETY: The job is given up, and the packets.
        unsafe { ffi::ovpn_job_finish(self.into_raw(), &batch) };
    }

    fn into_raw(self) -> *mut ffi::ovpn_job {
        let raw = self.raw.as_ptr();
        core::mem::forget(self);
        raw
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let nothing = Batch::empty().into_raw();
        // SAFETY: Not consumed yet, by the invariant. A job that has entered must come out, or
        // nothing behind it would.
        unsafe { ffi::ovpn_job_finish(self.raw.as_ptr(), &nothing) };
    }
}
