// SPDX-License-Identifier: GPL-2.0
//! UDP transport: sockets taken over, and the paths packets leave by.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::error::to_result;
use kernel::prelude::*;

use super::ffi;
use super::netdev::NetDev;
use super::rcu::Rcu;
use super::skb::{Batch, Pkt, Skb};
use super::table::Addr;
use crate::proto::attrs::Endpoint;
use crate::proto::wire::map_ipv4;

/// What a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketKind {
    Udp,
    Tcp,
    Other,
}

/// A socket by a file descriptor of the calling process.
///
/// # Invariants
/// Holds a reference to the file behind it.
pub(crate) struct FdSocket(NonNull<ffi::socket>);

impl FdSocket {
    /// `EBADF` or `ENOTSOCK`. To be called by the process whose descriptor it is.
    pub(crate) fn get(fd: u32) -> Result<Self> {
        let mut err = 0;
        // SAFETY: Only reads the process's descriptor table.
        let raw = unsafe { ffi::ovpn_fd_get(fd, &mut err) };
        // INVARIANT: the lookup took the reference.
        NonNull::new(raw)
            .map(FdSocket)
            .ok_or_else(|| Error::from_errno(err))
    }

    pub(crate) fn kind(&self) -> SocketKind {
        // SAFETY: Live by the invariant.
        match unsafe { ffi::ovpn_fd_proto(self.0.as_ptr()) } {
            ffi::OVPN_PROTO_UDP => SocketKind::Udp,
            ffi::OVPN_PROTO_TCP => SocketKind::Tcp,
            _ => SocketKind::Other,
        }
    }

    /// Takes the socket over for an interface. `EBUSY` when it belongs to something else.
    pub(crate) fn attach_udp(&self, net: &NetDev) -> Result<Socket> {
        let mut err = 0;
        // SAFETY: Both are live; callers may sleep.
        let raw = unsafe { ffi::ovpn_udp_attach(net.as_raw(), self.0.as_ptr(), &mut err) };
        // INVARIANT: the attachment took the reference.
        NonNull::new(raw)
            .map(Socket)
            .ok_or_else(|| Error::from_errno(err))
    }
}

impl Drop for FdSocket {
    fn drop(&mut self) {
        // SAFETY: Pairs with the reference of the invariant.
        unsafe { ffi::ovpn_fd_put(self.0.as_ptr()) };
    }
}

/// A socket that belongs to an interface.
///
/// # Invariants
/// Holds one reference of the attachment. Dropped only where sleeping is allowed.
pub(crate) struct Socket(NonNull<ffi::ovpn_sock>);

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: Pairs with the reference of the invariant.
        unsafe { ffi::ovpn_sock_release(self.0.as_ptr()) };
    }
}

/// A socket as readers under RCU see it.
///
/// # Invariants
/// Live for `'a`, a part of a read section.
#[derive(Clone, Copy)]
pub(crate) struct SocketRef<'a>(NonNull<ffi::ovpn_sock>, PhantomData<&'a Rcu>);

impl SocketRef<'_> {
    pub(super) fn as_raw(self) -> *mut ffi::ovpn_sock {
        self.0.as_ptr()
    }
}

/// Names a socket for comparison only.
#[derive(Clone, Copy)]
pub(crate) struct SocketId(pub(super) *const ffi::ovpn_sock);

/// The socket of a peer until it is released.
///
/// # Invariants
/// Null, or the pointer of a [`Socket`] with its reference.
pub(crate) struct SocketSlot(AtomicPtr<ffi::ovpn_sock>);

impl SocketSlot {
    pub(crate) fn new(socket: Socket) -> Self {
        let raw = socket.0.as_ptr();
        core::mem::forget(socket);
        // INVARIANT: the reference moved here.
        SocketSlot(AtomicPtr::new(raw))
    }

    pub(crate) fn get<'a>(&'a self, _rcu: &'a Rcu) -> Option<SocketRef<'a>> {
        // INVARIANT: the shim keeps a released object for a grace period, hence for `'a`.
        NonNull::new(self.0.load(Ordering::Acquire)).map(|raw| SocketRef(raw, PhantomData))
    }

    pub(crate) fn is(&self, id: SocketId) -> bool {
        ptr::eq(self.0.load(Ordering::Relaxed), id.0)
    }

    /// Gives the reference back. May sleep.
    pub(crate) fn release(&self) {
        let raw = NonNull::new(self.0.swap(ptr::null_mut(), Ordering::AcqRel));
        // INVARIANT: the slot's reference.
        drop(raw.map(Socket));
    }
}

impl Drop for SocketSlot {
    fn drop(&mut self) {
        self.release();
    }
}

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
    /// `ENOMEM` without memory. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_path_new() }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Path(raw))
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

    /// Sends each packet as a datagram. On an error none was sent.
    pub(crate) fn send(&self, net: &NetDev, socket: SocketRef<'_>, batch: Batch) -> Result {
        let mut raw = batch.into_raw();
        // SAFETY: All live by their invariants, the read section of `socket` is open, and the
        // packets are given up.
        to_result(unsafe {
            ffi::ovpn_udp_send(net.as_raw(), socket.as_raw(), self.0.as_ptr(), &mut raw)
        })
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
