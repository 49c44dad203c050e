// SPDX-License-Identifier: GPL-2.0
//! Transport sockets taken over from userspace.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::error::to_result;
use kernel::prelude::*;

use super::ffi;
use super::netdev::NetDev;
use super::path::Path;
use super::rcu::Rcu;
use super::skb::{Batch, Skb};
use crate::proto::attrs::Transport;
use crate::proto::del_reason::DelReason;
use crate::proto::wire::PeerId;

fn transport_of(proto: u32) -> Option<Transport> {
    match proto {
        ffi::OVPN_PROTO_UDP => Some(Transport::Udp),
        ffi::OVPN_PROTO_TCP => Some(Transport::Tcp),
        _ => None,
    }
}

/// The sockets of all interfaces; dropping it waits for their end.
pub(crate) struct Sockets(());

impl Sockets {
    /// To be made once, when the module is loaded, before the first interface.
    pub(crate) fn open() -> Self {
        Sockets(())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // SAFETY: The module is being unloaded: requests have ended, and no interface is left.
        unsafe { ffi::ovpn_socks_wait() };
    }
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

    /// Its protocol; `None` if that cannot carry a tunnel.
    pub(crate) fn transport(&self) -> Option<Transport> {
        // SAFETY: Live by the invariant.
        transport_of(unsafe { ffi::ovpn_fd_proto(self.0.as_ptr()) })
    }

    /// Takes the socket over for an interface; data packets of a TCP stream are the peer's. `EBUSY` when the
    /// socket belongs to something else, `ENOTCONN` for TCP without a connection.
    pub(crate) fn attach(&self, net: &NetDev, peer: PeerId) -> Result<Socket> {
        let mut err = 0;
        // SAFETY: Both are live; callers may sleep.
        let raw =
            unsafe { ffi::ovpn_sock_attach(net.as_raw(), self.0.as_ptr(), peer.get(), &mut err) };
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

impl Socket {
    /// The socket as readers see it.
    pub(crate) fn by_ref(&self) -> SocketRef<'_> {
        // INVARIANT: our reference keeps it.
        SocketRef(self.0, PhantomData)
    }

    /// A path of packets that leave by this socket. `ENOMEM` without memory. May sleep.
    pub(crate) fn path(&self) -> Result<Path> {
        // SAFETY: The socket lives; callers configure, and may sleep.
        let raw = NonNull::new(unsafe { ffi::ovpn_path_new(self.0.as_ptr()) }).ok_or(ENOMEM)?;
        // SAFETY: Fresh from the shim.
        Ok(unsafe { Path::from_raw(raw) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: Pairs with the reference of the invariant.
        unsafe { ffi::ovpn_sock_release(self.0.as_ptr()) };
    }
}

/// A socket as readers under RCU see it.
///
/// # Invariants
/// Live for `'a`: a part of a read section, or of a reference's life.
#[derive(Clone, Copy)]
pub(crate) struct SocketRef<'a>(NonNull<ffi::ovpn_sock>, PhantomData<&'a Rcu>);

impl SocketRef<'_> {
    /// # Safety
    /// `raw` must be live for the lifetime of the result.
    pub(super) unsafe fn new(raw: NonNull<ffi::ovpn_sock>) -> Self {
        // INVARIANT: promised by the caller.
        SocketRef(raw, PhantomData)
    }

    /// Its protocol.
    pub(crate) fn transport(self) -> Option<Transport> {
        // SAFETY: Live by the invariant.
        transport_of(unsafe { ffi::ovpn_sock_proto(self.0.as_ptr()) })
    }

    /// Whether a peer of `other` is answered through that as if it had received what this one did.
    pub(crate) fn stands_for(self, other: SocketRef<'_>) -> bool {
        // SAFETY: Both live by their invariants, in a read section.
        unsafe { ffi::ovpn_sock_stands_for(self.0.as_ptr(), other.0.as_ptr()) }
    }

    /// Why its peers are being deleted, or were, if that is so.
    pub(crate) fn end(self) -> Option<DelReason> {
        // SAFETY: Live by the invariant.
        match unsafe { ffi::ovpn_sock_end(self.0.as_ptr()) } {
            ffi::ovpn_end_OVPN_END_CLOSED => Some(DelReason::TransportDisconnect),
            ffi::ovpn_end_OVPN_END_BROKEN => Some(DelReason::TransportError),
            _ => None,
        }
    }

    /// Sends each packet of the batch, by UDP along `path`, or in the TCP stream. Says how many
    /// were, and their bytes: a stream's queue may be full. On an error none was sent.
    pub(crate) fn send(self, net: &NetDev, path: &Path, batch: Batch) -> Result<(u32, u32)> {
        let mut raw = batch.into_raw();
        // SAFETY: All live by their invariants, the read section of `self` is open, and the
        // packets are given up.
        to_result(unsafe {
            ffi::ovpn_sock_send(net.as_raw(), self.0.as_ptr(), path.as_raw(), &mut raw)
        })?;
        Ok((raw.count, raw.bytes))
    }

    /// Bytes of the largest inner packet that TCP should send to this peer, or have sent by it;
    /// the maximum when that is not to be limited.
    pub(crate) fn mss_room(self, net: &NetDev, path: &Path) -> u32 {
        // SAFETY: All live by their invariants, and the read section of `self` is open.
        unsafe { ffi::ovpn_sock_mss_room(net.as_raw(), self.0.as_ptr(), path.as_raw()) }
    }

    /// Whether an inner packet may be sent along `path`. Tells its sender when it is too big,
    /// and refuses it when it must not be fragmented on any layer.
    pub(crate) fn admits(self, net: &NetDev, path: &Path, skb: &mut Skb) -> bool {
        // SAFETY: As above; the packet is exclusively borrowed.
        unsafe {
            ffi::ovpn_sock_admit(
                net.as_raw(),
                self.0.as_ptr(),
                path.as_raw(),
                skb.as_raw_mut(),
            )
        }
    }

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

    /// Takes the socket away from readers to come. The result may sleep when it is dropped.
    pub(crate) fn take(&self) -> Option<Socket> {
        let raw = NonNull::new(self.0.swap(ptr::null_mut(), Ordering::AcqRel));
        // INVARIANT: the slot's reference.
        raw.map(Socket)
    }
}

impl Drop for SocketSlot {
    fn drop(&mut self) {
        drop(self.take());
    }
}
