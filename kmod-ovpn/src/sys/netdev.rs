// SPDX-License-Identifier: GPL-2.0
//! The network interface.

use core::ptr::NonNull;

use kernel::error::to_result;
use kernel::prelude::*;

use super::ffi;
use crate::proto::counters::DropReason;

/// The link kind `ovpn`; dropping it deletes all interfaces of that kind.
pub(crate) struct LinkKind(());

impl LinkKind {
    /// `EEXIST` when another driver has the kind.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Called once, when the module is loaded.
        to_result(unsafe { ffi::ovpn_netdev_init() })?;
        Ok(LinkKind(()))
    }
}

impl Drop for LinkKind {
    fn drop(&mut self) {
        // SAFETY: Pairs with `register`.
        unsafe { ffi::ovpn_netdev_exit() };
    }
}

/// The C side of an interface.
///
/// # Invariants
/// The interface outlives this value: it is a field of the device that the interface owns.
pub(crate) struct NetDev(NonNull<ffi::ovpn_dev>);

// SAFETY: All functions below may be called from any CPU at any time.
unsafe impl Send for NetDev {}
// SAFETY: As above.
unsafe impl Sync for NetDev {}

impl NetDev {
    /// # Safety
    /// The interface must outlive the value.
    pub(super) unsafe fn new(raw: NonNull<ffi::ovpn_dev>) -> Self {
        // INVARIANT: promised by the caller.
        NetDev(raw)
    }

    pub(super) fn as_raw(&self) -> *mut ffi::ovpn_dev {
        self.0.as_ptr()
    }

    /// Switches the carrier.
    pub(crate) fn carrier(&self, on: bool) {
        // SAFETY: Live by the invariant.
        unsafe { ffi::ovpn_netdev_carrier(self.0.as_ptr(), on) };
    }

    /// Counts received packets as lost.
    pub(crate) fn rx_dropped(&self, reason: DropReason, packets: u32) {
        self.dropped(ffi::ovpn_drop_total_OVPN_DROP_RX, reason, packets);
    }

    /// Counts packets to be sent as lost.
    pub(crate) fn tx_dropped(&self, reason: DropReason, packets: u32) {
        self.dropped(ffi::ovpn_drop_total_OVPN_DROP_TX, reason, packets);
    }

    fn dropped(&self, total: ffi::ovpn_drop_total, reason: DropReason, packets: u32) {
        // SAFETY: Live by the invariant; the index is in range, as `drops` asserts.
        unsafe { ffi::ovpn_netdev_drop(self.0.as_ptr(), total, reason.index() as u32, packets) };
    }

    /// Has the device's tick run in so many seconds, or sooner.
    pub(crate) fn tick_in(&self, seconds: u32) {
        // SAFETY: Live by the invariant.
        unsafe { ffi::ovpn_netdev_tick_in(self.0.as_ptr(), seconds) };
    }

    /// Has the device's tick run again after a pause in which listeners can read.
    pub(crate) fn tick_again(&self) {
        // SAFETY: Live by the invariant.
        unsafe { ffi::ovpn_netdev_tick_again(self.0.as_ptr()) };
    }

    /// Has the device's waiting notifications sent soon.
    pub(crate) fn tell_soon(&self) {
        // SAFETY: Live by the invariant.
        unsafe { ffi::ovpn_netdev_tell_soon(self.0.as_ptr()) };
    }
}
