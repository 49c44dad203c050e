// SPDX-License-Identifier: GPL-2.0
//! Next hops of inner packets.

use super::ffi;
use super::skb::Skb;
use super::table::Addr;

/// Gateway of the packet's route, or its destination.
pub(crate) fn tx_hop(inner: &Skb) -> Addr {
    // SAFETY: The packet lives; its IP header was checked on entry.
    Addr::filled(|addr| unsafe { ffi::ovpn_tx_hop(inner.as_raw(), addr) })
}

/// Remote end of a received datagram.
pub(crate) fn source_of(datagram: &Skb) -> Addr {
    // SAFETY: The packet lives; UDP has set its headers.
    Addr::filled(|addr| unsafe { ffi::ovpn_skb_source(datagram.as_raw(), addr) })
}
