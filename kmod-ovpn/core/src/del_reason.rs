// SPDX-License-Identifier: GPL-2.0
//! Why a peer was deleted.

/// Reasons by their number in PEER_DEL_NTF (`enum ovpn_del_peer_reason` of
/// `include/uapi/linux/ovpn.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DelReason {
    /// The interface went, or another peer took the only place.
    Teardown = 0,
    /// PEER_DEL.
    Userspace = 1,
    /// No packet came from the peer for the keepalive timeout.
    Expired = 2,
    /// Its TCP stream broke.
    TransportError = 3,
    /// Userspace closed its socket.
    TransportDisconnect = 4,
}

impl DelReason {
    /// Whether the kernel deleted the peer of itself: userspace hears of it afterwards only.
    pub const fn is_surprise(self) -> bool {
        !matches!(self, DelReason::Userspace | DelReason::Teardown)
    }
}
