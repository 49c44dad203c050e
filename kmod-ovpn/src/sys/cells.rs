// SPDX-License-Identifier: GPL-2.0
//! The way of received packets to the stack.

use super::ffi;
use super::netdev::NetDev;
use super::skb::Batch;

/// Hands inner packets to the stack; says how many packets and bytes it took.
pub(crate) fn deliver(net: &NetDev, batch: Batch) -> (u32, u32) {
    let mut raw = batch.into_raw();
    let (mut packets, mut bytes) = (0, 0);
    // SAFETY: The interface lives by the invariant of `net`; the packets are given up.
    unsafe { ffi::ovpn_cells_deliver(net.as_raw(), &mut raw, &mut packets, &mut bytes) };
    (packets, bytes)
}
