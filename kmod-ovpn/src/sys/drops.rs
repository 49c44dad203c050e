// SPDX-License-Identifier: GPL-2.0
//! Counters of lost packets by reason that cost a pointer until something is lost.

use core::ffi::c_char;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use kernel::alloc::flags::GFP_ATOMIC;
use kernel::prelude::*;

use super::ffi;
use crate::proto::counters::DropReason;

const _: () = assert!(
    DropReason::COUNT <= ffi::OVPN_DROP_SLOTS as usize,
    "the shim has room for too few drop reasons"
);
const _: () = assert!(
    DropReason::RxNoMemory as u32 == ffi::OVPN_DROP_RX_NO_MEMORY
        && DropReason::RxGone as u32 == ffi::OVPN_DROP_RX_GONE
        && DropReason::RxQueueFull as u32 == ffi::OVPN_DROP_RX_QUEUE_FULL
        && DropReason::TxBadProtocol as u32 == ffi::OVPN_DROP_TX_BAD_PROTOCOL,
    "the shim counts the wrong reasons"
);

/// A number for each reason, in the order of the reasons; the rest is 0.
pub(crate) type DropCounts = [u32; ffi::OVPN_DROP_SLOTS as usize];

/// Not per CPU: most peers of most routers never lose a packet, and what is lost costs no more
/// than the atomic addition.
type Counters = [AtomicU32; DropReason::COUNT];

/// The counters of a peer. They wrap at 2^32.
///
/// # Invariants
/// Null, or from `KBox::into_raw`, ours until this value is dropped.
pub(crate) struct Drops(AtomicPtr<Counters>);

impl Drops {
    pub(crate) fn new() -> Self {
        // INVARIANT: null.
        Drops(AtomicPtr::new(ptr::null_mut()))
    }

    /// Counts lost packets; without memory for the counters it does not.
    pub(crate) fn add(&self, reason: DropReason, packets: u32) {
        let counters = self.get().or_else(|| self.allocate());
        if let Some(counter) = counters.and_then(|all| all.get(reason.index())) {
            counter.fetch_add(packets, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> DropCounts {
        let mut out = [0; ffi::OVPN_DROP_SLOTS as usize];
        for (to, from) in out.iter_mut().zip(self.get().into_iter().flatten()) {
            *to = from.load(Ordering::Relaxed);
        }
        out
    }

    fn get(&self) -> Option<&Counters> {
        // SAFETY: By the invariant it lives as long as `self`. Acquire pairs with the exchange.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    #[cold]
    fn allocate(&self) -> Option<&Counters> {
        let fresh = KBox::new([const { AtomicU32::new(0) }; DropReason::COUNT], GFP_ATOMIC).ok()?;
        let fresh = KBox::into_raw(fresh);
        // INVARIANT: only null is replaced, by what comes from a box.
        if self
            .0
            .compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // Another CPU was faster.
            // SAFETY: It comes from the box above and went nowhere.
            drop(unsafe { KBox::from_raw(fresh) });
        }
        self.get()
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        if let Some(counters) = NonNull::new(*self.0.get_mut()) {
            // SAFETY: Ours by the invariant, and `&mut self` is the only access.
            drop(unsafe { KBox::from_raw(counters.as_ptr()) });
        }
    }
}

/// # Safety
/// `name` may be written.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_drop_name(reason: u32, name: *mut *const c_char) -> u32 {
    match DropReason::ALL.get(reason as usize) {
        Some(reason) => {
            let text = reason.name();
            // SAFETY: By this function's contract.
            unsafe { *name = text.as_ptr().cast() };
            text.len() as u32
        }
        None => 0,
    }
}
