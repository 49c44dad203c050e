// SPDX-License-Identifier: GPL-2.0
//! Per-CPU counters and the clock.

use core::ptr::NonNull;

use kernel::prelude::*;

use super::ffi;
use crate::proto::clock::BootSecs;

/// Seconds since boot, sleep included.
pub(crate) fn now() -> BootSecs {
    // SAFETY: May be called anywhere.
    BootSecs(unsafe { ffi::ovpn_now() })
}

/// A pair of counters: bytes, and the packets they came in.
#[derive(Clone, Copy)]
pub(crate) enum Traffic {
    /// Inner packets that the stack took.
    VpnRx,
    /// Inner packets to be sent.
    VpnTx,
    /// Data packets received, before authentication.
    LinkRx,
    /// Data packets given to the transport.
    LinkTx,
}

/// The counters of a peer.
///
/// # Invariants
/// A live object of the shim, ours alone.
pub(crate) struct Stats(NonNull<ffi::ovpn_stats>);

// SAFETY: The shim's counters are per CPU and may be used from any of them.
unsafe impl Send for Stats {}
// SAFETY: As above.
unsafe impl Sync for Stats {}

impl Stats {
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let stats = NonNull::new(unsafe { ffi::ovpn_stats_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Stats(stats))
    }

    /// Counts packets with so many bytes altogether.
    pub(crate) fn add(&self, traffic: Traffic, packets: u32, bytes: u32) {
        let index = match traffic {
            Traffic::VpnRx => ffi::ovpn_stat_OVPN_STAT_VPN_RX_BYTES,
            Traffic::VpnTx => ffi::ovpn_stat_OVPN_STAT_VPN_TX_BYTES,
            Traffic::LinkRx => ffi::ovpn_stat_OVPN_STAT_LINK_RX_BYTES,
            Traffic::LinkTx => ffi::ovpn_stat_OVPN_STAT_LINK_TX_BYTES,
        };
        // SAFETY: The object lives by the invariant.
        unsafe { ffi::ovpn_stats_add(self.0.as_ptr(), index, packets, bytes) };
    }

    /// All eight sums, in the order of the UAPI attributes.
    pub(crate) fn read(&self) -> [u64; ffi::ovpn_stat_OVPN_STAT_COUNT as usize] {
        let mut out = [0; ffi::ovpn_stat_OVPN_STAT_COUNT as usize];
        // SAFETY: The object lives by the invariant, and `out` has room for all counters.
        unsafe { ffi::ovpn_stats_read(self.0.as_ptr(), out.as_mut_ptr()) };
        out
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant, and about to be unreachable.
        unsafe { ffi::ovpn_stats_free(self.0.as_ptr()) };
    }
}
