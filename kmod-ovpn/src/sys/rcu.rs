// SPDX-License-Identifier: GPL-2.0
//! RCU: read sections as types, slots that readers follow without a lock, deferred release.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use kernel::prelude::*;

use super::ffi;
use crate::compat::Arc;

/// Proof that this thread is inside an RCU read section.
///
/// # Invariants
/// The RCU read lock is held while the value lives; it stays on its thread.
pub(crate) struct Rcu(PhantomData<*mut ()>);

impl Rcu {
    /// Takes over a read section that somebody else opened.
    ///
    /// # Safety
    /// The read lock must be held until the value is gone.
    pub(super) unsafe fn assume() -> Rcu {
        // INVARIANT: promised by the caller.
        Rcu(PhantomData)
    }
}

/// Runs `f` in a read section of its own.
pub(crate) fn read<R>(f: impl FnOnce(&Rcu) -> R) -> R {
    // SAFETY: May be called anywhere; paired below. `f` cannot unwind in the kernel.
    unsafe { ffi::ovpn_rcu_read_lock() };
    // INVARIANT: the lock was taken above and is released after the value's last use.
    let result = f(&Rcu(PhantomData));
    // SAFETY: Pairs with the lock above.
    unsafe { ffi::ovpn_rcu_read_unlock() };
    result
}

/// The same as the receive path has it: no packet is received on this CPU meanwhile.
pub(crate) fn read_as_rx<R>(f: impl FnOnce(&Rcu) -> R) -> R {
    // SAFETY: May be called where interrupts are on; paired below. `f` cannot unwind in the kernel.
    unsafe { ffi::ovpn_rx_begin() };
    // INVARIANT: the lock was taken above and is released after the value's last use.
    let result = f(&Rcu(PhantomData));
    // SAFETY: Pairs with the above.
    unsafe { ffi::ovpn_rx_end() };
    result
}

/// Waits for all read sections that are open now. May sleep; not for use within one.
pub(crate) fn wait() {
    // SAFETY: Callers may sleep and are in no read section.
    unsafe { ffi::ovpn_rcu_wait() };
}

/// The workqueue behind every deferral; dropping it waits for all that was deferred.
pub(crate) struct Deferral(());

impl Deferral {
    /// Starts it. `ENOMEM` without memory.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: Called once, when the module is loaded.
        kernel::error::to_result(unsafe { ffi::ovpn_defer_init() })?;
        Ok(Deferral(()))
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        // SAFETY: Pairs with `start`; the module's other entry points are closed by now.
        unsafe { ffi::ovpn_defer_exit() };
    }
}

/// Memory with which a value is released after a grace period without allocating at that time, and
/// to be kept longer than that by those who hold it.
///
/// # Invariants
/// A ticket of the shim that belongs to this value alone: unused until `state` is [`RETIRED`],
/// from then on the shim's to free, after the value.
pub(crate) struct Ticket {
    raw: NonNull<ffi::ovpn_retire>,
    state: AtomicU8,
}

/// Only its maker knows the value.
const PRIVATE: u8 = 0;
/// It is in a place where readers find it, and goes by its ticket only.
const PUBLISHED: u8 = 1;
/// It is on its way out.
const RETIRED: u8 = 2;

impl Ticket {
    /// `ENOMEM` without memory.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: May sleep, as its callers may: they allocate objects for configuration.
        let raw = NonNull::new(unsafe { ffi::ovpn_retire_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Ticket {
            raw,
            state: AtomicU8::new(PRIVATE),
        })
    }

    /// The value goes where readers find it.
    pub(super) fn publish(&self) {
        self.state.store(PUBLISHED, Ordering::Relaxed);
    }

    /// The ticket, which may be held until the end of the read section and by that for longer;
    /// `None` if the value is not, or no longer, where readers find it.
    ///
    /// A reader that sees it there began before its release waited for readers.
    pub(super) fn hold(&self, _rcu: &Rcu) -> Option<NonNull<ffi::ovpn_retire>> {
        (self.state.load(Ordering::Relaxed) == PUBLISHED).then_some(self.raw)
    }

    /// The ticket, to be used; for the first caller.
    fn take(&self) -> Option<NonNull<ffi::ovpn_retire>> {
        // INVARIANT: the caller gives it to the shim.
        (self.state.swap(RETIRED, Ordering::Relaxed) != RETIRED).then_some(self.raw)
    }
}

// SAFETY: The shim's ticket may be used from any thread.
unsafe impl Send for Ticket {}
// SAFETY: As above.
unsafe impl Sync for Ticket {}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ticket) = self.take() {
            // SAFETY: By the invariant the ticket is ours and unused.
            unsafe { ffi::ovpn_retire_free(ticket.as_ptr()) };
        }
    }
}

/// A value that readers reach through a [`Slot`].
pub(crate) trait Retire: Send + Sync + 'static {
    /// The ticket its release will use.
    fn ticket(&self) -> &Ticket;
}

/// A pointer that is read under RCU and replaced under a lock of its owner.
///
/// # Invariants
/// Null, or a pointer from [`Arc::into_raw`] with the reference it stands for. A pointer that was
/// taken out keeps that reference for a grace period.
pub(crate) struct Slot<T: Retire>(AtomicPtr<T>);

impl<T: Retire> Slot<T> {
    /// An empty slot.
    pub(crate) fn empty() -> Self {
        // INVARIANT: null.
        Slot(AtomicPtr::new(ptr::null_mut()))
    }

    /// The value in the slot at this moment, valid to the end of the read section.
    pub(crate) fn read<'a>(&'a self, _rcu: &'a Rcu) -> Option<&'a T> {
        // SAFETY: By the invariant the pointee outlives a grace period after it leaves the slot,
        // hence this read section. Acquire pairs with the swap in `replace`.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Exchanges the content. The caller holds the lock that guards the slot's owner.
    pub(crate) fn replace(&self, new: Option<Arc<T>>) -> Option<Retired<T>> {
        let new = new.map_or(ptr::null_mut(), |arc| {
            arc.ticket().publish();
            Arc::into_raw(arc).cast_mut()
        });
        // INVARIANT: what goes in is null or comes with its reference.
        NonNull::new(self.0.swap(new, Ordering::AcqRel)).map(|old| Retired(old))
    }
}

impl<T: Retire> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(last) = NonNull::new(*self.0.get_mut()) {
            // SAFETY: The reference is the slot's. With the slot's owner unreachable no reader
            // finds it there any more, but a job may hold it.
            drop(unsafe { Retired::new(last) });
        }
    }
}

/// A value that left its slot: still readable, released a grace period after this is dropped.
///
/// # Invariants
/// Holds the reference that the slot held.
pub(crate) struct Retired<T: Retire>(NonNull<T>);

impl<T: Retire> Retired<T> {
    /// # Safety
    /// `ptr` carries a reference of an `Arc<T>` and was taken out of the last place where readers
    /// find it.
    pub(super) unsafe fn new(ptr: NonNull<T>) -> Self {
        // INVARIANT: promised by the caller.
        Retired(ptr)
    }
}

impl<T: Retire> Deref for Retired<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the invariant we hold a reference.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Retire> Drop for Retired<T> {
    fn drop(&mut self) {
        let ptr = self.0.as_ptr();
        // A value leaves its place once, so the ticket is there. Without one the value would leak,
        // which is still sound.
        if let Some(ticket) = self.ticket().take() {
            // SAFETY: The ticket is unused; `release` gets the pointer that carries our reference.
            unsafe {
                ffi::ovpn_retire_after_grace(ticket.as_ptr(), Some(release::<T>), ptr.cast())
            };
        }
    }
}

/// Drops the reference behind a retired pointer.
///
/// # Safety
/// `ptr` carries a reference of an `Arc<T>`, and a grace period has passed.
unsafe extern "C" fn release<T: Retire>(ptr: *mut c_void) {
    // SAFETY: By this function's contract.
    drop(unsafe { Arc::from_raw(ptr.cast_const().cast::<T>()) });
}
