// SPDX-License-Identifier: GPL-2.0
//! Packets put together from a TCP stream.

use core::ptr::NonNull;

use kernel::prelude::*;

use super::ffi;
use super::skb::Batch;
use super::socket::SocketRef;

/// A packet that grows until it is complete.
///
/// # Invariants
/// A live packet, ours alone, with room for the length it was made for.
pub(crate) struct Frame(NonNull<ffi::sk_buff>);

// SAFETY: A packet may be used from any thread, one at a time.
unsafe impl Send for Frame {}

impl Frame {
    /// `ENOMEM` without memory.
    pub(crate) fn new(len: u16) -> Result<Self> {
        // SAFETY: May be called anywhere.
        let raw = NonNull::new(unsafe { ffi::ovpn_frame_new(u32::from(len)) }).ok_or(ENOMEM)?;
        // INVARIANT: fresh from the shim.
        Ok(Frame(raw))
    }

    /// Appends bytes; what does not fit is refused by the shim.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // SAFETY: Ours by the invariant; `bytes` is readable. Pieces come from skbs and are far
        // below 4 GiB.
        unsafe { ffi::ovpn_frame_add(self.0.as_ptr(), bytes.as_ptr(), bytes.len() as u32) };
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: Ours by the invariant.
        let data = unsafe { ffi::ovpn_frame_data(self.0.as_ptr(), &mut len) };
        // SAFETY: The shim returns the packet's contiguous bytes, which live while it is borrowed.
        unsafe { super::genl::bytes(data, len) }
    }

    /// Queues it for userspace; false when userspace has too much to fetch already.
    pub(crate) fn into_user(self, socket: SocketRef<'_>) -> bool {
        // SAFETY: The packet is given up; the socket lives.
        unsafe { ffi::ovpn_frame_to_user(socket.as_raw(), self.into_raw()) }
    }

    /// Moves it into a batch.
    pub(crate) fn into_batch(self, batch: &mut Batch) {
        // SAFETY: The packet is given up to the list.
        unsafe { ffi::ovpn_frame_to_batch(self.into_raw(), batch.as_raw()) };
    }

    fn into_raw(self) -> *mut ffi::sk_buff {
        let raw = self.0.as_ptr();
        core::mem::forget(self);
        raw
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: Ours by the invariant.
        unsafe { ffi::ovpn_skb_free(self.0.as_ptr()) };
    }
}
