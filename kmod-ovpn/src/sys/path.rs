// SPDX-License-Identifier: GPL-2.0
//! Where a peer is reached by UDP.

use core::ptr::NonNull;

use super::ffi;
use super::skb::{Pkt, Skb};
use super::table::Addr;
use crate::proto::attrs::Endpoint;
use crate::proto::wire::map_ipv4;

/// Where a peer is reached, and the route there.
///
/// # Invariants
/// A live object of the shim, ours alone.
pub(crate) struct Path(NonNull<ffi::ovpn_path>);

// SAFETY: The shim's object locks itself.
unsafe impl Send for Path {}
// SAFETY: As above.
unsafe impl Sync for Path {}

impl Path {
    /// # Safety
    /// `raw` must be fresh from the shim.
    pub(super) unsafe fn from_raw(raw: NonNull<ffi::ovpn_path>) -> Self {
        // INVARIANT: promised by the caller.
        Path(raw)
    }

    pub(crate) fn set(&self, endpoint: &Endpoint) {
        let ends = to_raw(endpoint);
        // SAFETY: The object lives by the invariant.
        unsafe { ffi::ovpn_path_set(self.0.as_ptr(), &ends) };
    }

    /// Both ends.
    pub(crate) fn get(&self) -> Ends {
        let mut ends = EMPTY;
        // SAFETY: The object lives by the invariant.
        unsafe { ffi::ovpn_path_get(self.0.as_ptr(), &mut ends) };
        Ends(ends)
    }

    /// Whether a datagram, its UDP header in front, comes from the remote end.
    pub(crate) fn is_source(&self, skb: &Skb) -> bool {
        // SAFETY: Both live by their invariants.
        unsafe { ffi::ovpn_path_is_source(self.0.as_ptr(), skb.as_raw()) }
    }

    /// Whether a packet, its UDP header taken off, was received from the remote end.
    pub(crate) fn is_sender(&self, pkt: &Pkt) -> bool {
        // SAFETY: The object lives by the invariant, the packet while it is borrowed.
        unsafe { ffi::ovpn_path_is_sender(self.0.as_ptr(), pkt.as_raw()) }
    }

    /// Takes over the ends of an authentic packet's datagram.
    pub(crate) fn learn(&self, pkt: &Pkt) -> Learnt {
        let (mut from, mut to) = (EMPTY, EMPTY);
        // SAFETY: The object lives by the invariant, the packet while it is borrowed.
        let learnt =
            unsafe { ffi::ovpn_path_learn(self.0.as_ptr(), pkt.as_raw(), &mut from, &mut to) };
        if learnt == ffi::ovpn_learnt_OVPN_LEARNT_REMOTE {
            Learnt::Moved(Ends(from), Ends(to))
        } else {
            Learnt::Nothing
        }
    }

    pub(super) fn as_raw(&self) -> *mut ffi::ovpn_path {
        self.0.as_ptr()
    }
}

/// What [`Path::learn`] found.
pub(crate) enum Learnt {
    /// The remote end is where it was.
    Nothing,
    /// It moved, from the first to the second.
    Moved(Ends, Ends),
}

/// Both ends of a path as they were at one moment.
pub(crate) struct Ends(pub(super) ffi::ovpn_endpoint);

impl Ends {
    /// The remote end as a table key; `None` if there is none yet.
    pub(crate) fn remote(&self) -> Option<Addr> {
        let ends = &self.0;
        let port = u16::from_be(ends.port);
        if ends.family == ffi::OVPN_AF_INET as u16 {
            let v4 = ends.remote.first_chunk().copied()?;
            Some(Addr::transport(map_ipv4(v4), 0, port))
        } else if ends.family == ffi::OVPN_AF_INET6 as u16 {
            Some(Addr::transport(ends.remote, ends.scope, port))
        } else {
            None
        }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant, and about to be unreachable.
        unsafe { ffi::ovpn_path_free(self.0.as_ptr()) };
    }
}

const EMPTY: ffi::ovpn_endpoint = ffi::ovpn_endpoint {
    family: ffi::OVPN_AF_NONE as u16,
    port: 0,
    scope: 0,
    remote: [0; 16],
    local: [0; 16],
};

/// IPv4 addresses take the first four bytes of the field.
fn widen(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn to_raw(endpoint: &Endpoint) -> ffi::ovpn_endpoint {
    match *endpoint {
        Endpoint::V4 {
            remote,
            port,
            local,
        } => ffi::ovpn_endpoint {
            family: ffi::OVPN_AF_INET as u16,
            port: port.to_be(),
            scope: 0,
            remote: widen(remote),
            local: widen(local.unwrap_or_default()),
        },
        Endpoint::V6 {
            remote,
            port,
            scope_id,
            local,
        } => ffi::ovpn_endpoint {
            family: ffi::OVPN_AF_INET6 as u16,
            port: port.to_be(),
            scope: scope_id,
            remote,
            local: local.unwrap_or_default(),
        },
    }
}
