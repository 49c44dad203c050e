// SPDX-License-Identifier: GPL-2.0
//! Asynchronous crypto: jobs, and the queues that keep their order.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::prelude::*;

use super::crypto::Cipher;
use super::driver::{Driver, JobKey};
use super::ffi;
use super::netdev::NetDev;
use super::rcu::{Rcu, Retire};
use super::skb::Batch;
use crate::proto::attrs::Transport;
use crate::proto::wire::PacketId;

/// The way of a job's packets, which has a queue for each direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// They are sent.
    Out,
    /// They were received by this transport.
    In(Transport),
}

impl Way {
    fn queue(self) -> u32 {
        match self {
            Way::Out => ffi::OVPN_ORDER_OUT,
            Way::In(_) => ffi::OVPN_ORDER_IN,
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

/// A peer's two order.
///
/// # Invariants
/// A live object of the shim, ours alone.
pub(crate) struct Order(NonNull<ffi::ovpn_order>);

impl Order {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_order_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Order(raw))
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant. Jobs hold the peer that owns the order, so none is
        // left; peers are released where sleeping is allowed.
        unsafe { ffi::ovpn_order_free(self.0.as_ptr()) };
    }
}

/// Where a peer keeps its order, once it has a key that needs them: most never have.
///
/// # Invariants
/// Null, or a pointer that [`Order`] held. It is set once.
pub(crate) struct OrderSlot(AtomicPtr<ffi::ovpn_order>);

impl OrderSlot {
    pub(crate) fn empty() -> Self {
        // INVARIANT: null.
        OrderSlot(AtomicPtr::new(ptr::null_mut()))
    }

    /// Takes order over, unless there are some: then they come back, to be dropped where that may
    /// sleep.
    pub(crate) fn fill(&self, order: Order) -> Option<Order> {
        let raw = order.0.as_ptr();
        let empty = ptr::null_mut();
        // INVARIANT: set once, because only null is exchanged. Release pairs with `get`.
        if self
            .0
            .compare_exchange(empty, raw, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            return Some(order);
        }
        core::mem::forget(order);
        None
    }

    /// The order, if packets must look at them.
    pub(crate) fn get(&self) -> Option<OrderRef<'_>> {
        NonNull::new(self.0.load(Ordering::Acquire)).map(|raw| OrderRef { raw, _of: self })
    }
}

impl Drop for OrderSlot {
    fn drop(&mut self) {
        // INVARIANT: what `fill` forgot.
        drop(NonNull::new(*self.0.get_mut()).map(Order));
    }
}

/// The order of a peer that is there.
#[derive(Clone, Copy)]
pub(crate) struct OrderRef<'a> {
    raw: NonNull<ffi::ovpn_order>,
    _of: &'a OrderSlot,
}

impl OrderRef<'_> {
    /// Whether packets are on their way: others must queue behind them.
    pub(crate) fn is_busy(self, way: Way) -> bool {
        // SAFETY: The slot owns them and is borrowed.
        unsafe { ffi::ovpn_order_busy(self.raw.as_ptr(), way.queue()) }
    }
}

/// The jobs of all interfaces; dropping it waits for their end.
pub(crate) struct Jobs(());

impl Jobs {
    /// To be made once, when the module is loaded, before the first interface.
    pub(crate) fn open() -> Self {
        Jobs(())
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // SAFETY: The module is being unloaded: no interface is left that could make jobs.
        unsafe { ffi::ovpn_jobs_wait() };
    }
}

/// A place of a batch in a queue. It holds the interface, the peer and the key until its packets are
/// out.
///
/// # Invariants
/// A live job of the shim, not yet consumed, that holds the key.
pub(crate) struct Job<'a, D: Driver> {
    raw: NonNull<ffi::ovpn_job>,
    key: &'a D::Key,
}

/// Why there is no job.
pub(crate) enum NoJob {
    /// The peer or the key is on its way out.
    Gone,
    /// Too many packets of the queue are in the engine.
    Full,
    /// No memory.
    NoMemory,
}

impl<'a, D: Driver> Job<'a, D> {
    /// A job for so many packets of a peer, in the last place of its queue; `turn` runs when that
    /// place is taken and before another takes the next one.
    pub(crate) fn enter<R>(
        rcu: &'a Rcu,
        net: &NetDev,
        (peer, order): (&D::Peer, OrderRef<'_>),
        key: &'a D::Key,
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
        let (mut err, queue) = (0, way.queue());
        // SAFETY: All live during the read section, and the tickets may be held in it; the job
        // holds what it keeps.
        let raw =
            unsafe { ffi::ovpn_job_new(order.raw.as_ptr(), queue, &owner, packets, &mut err) };
        let raw = NonNull::new(raw).ok_or(if err == ENOMEM.to_errno() {
            NoJob::NoMemory
        } else {
            NoJob::Full
        })?;
        // SAFETY: The job is fresh, and the queue is left below. `turn` cannot unwind in the kernel.
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

impl<D: Driver> Drop for Job<'_, D> {
    fn drop(&mut self) {
        let nothing = Batch::empty().into_raw();
        // SAFETY: Not consumed yet, by the invariant. A job that has entered must come out, or
        // nothing behind it would.
        unsafe { ffi::ovpn_job_finish(self.raw.as_ptr(), &nothing) };
    }
}
