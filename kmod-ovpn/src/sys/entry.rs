// SPDX-License-Identifier: GPL-2.0
//! The functions of `shim/rust.h`, for any [`Driver`]: raw pointers become types here, and nothing
//! else happens. [`entry_points!`] gives them their symbols.
//!
//! Contracts that all of them share: `rs` comes from [`dev_new`] and is not freed during the call;
//! the other pointers are live during the call.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr::{self, NonNull};

use kernel::prelude::*;

use super::driver::Driver;
use super::ffi;
use super::genl::{bytes, key_request, peer_request, Dump, Req};
use super::netdev::NetDev;
use super::order::Way;
use super::rcu::Rcu;
use super::skb::{Batch, Skb};
use super::socket::{SocketId, SocketRef};
use crate::compat::Arc;
use crate::proto::attrs::Mode;
use crate::proto::wire::{PeerId, DATA_V2, HEADER_LEN};

/// Types in the signatures of the exported functions.
pub(crate) mod raw {
    pub(crate) use super::super::ffi::{
        ovpn_batch, ovpn_dev, ovpn_dump, ovpn_job_owner, ovpn_key_attrs, ovpn_peer_attrs, ovpn_req,
        ovpn_sock, sk_buff,
    };
    pub(crate) use core::ffi::{c_int, c_ulong, c_void};
}

/// Exports functions of this module under the names that C knows.
macro_rules! shells {
    ($device:ty: $($symbol:ident = $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => {
        $(
            /// # Safety
            /// The contract of the function that it calls.
            #[no_mangle]
            unsafe extern "C" fn $symbol($($arg: $type),*) $(-> $out)? {
                // SAFETY: By this function's contract.
                unsafe { $crate::sys::entry::$name::<$device>($($arg),*) }
            }
        )*
    };
}
pub(crate) use shells;

/// Defines all functions of `shim/rust.h` that belong to an interface of this type. Once, by the
/// layer above.
macro_rules! entry_points {
    ($device:ty) => {
        // SAFETY: The symbols below cannot be defined twice.
        unsafe impl $crate::sys::driver::Exported for $device {}

        const _: () = {
            use $crate::sys::entry::raw::*;
            $crate::sys::entry::shells! { $device:
                ovpn_rs_dev_new = dev_new(dev: *mut ovpn_dev, mode: u8) -> *mut c_void;
                ovpn_rs_dev_down = dev_down(rs: *mut c_void);
                ovpn_rs_dev_free = dev_free(rs: *mut c_void);
                ovpn_rs_dev_mode = dev_mode(rs: *const c_void) -> u8;
                ovpn_rs_xmit = xmit(rs: *mut c_void, skb: *mut sk_buff);
                ovpn_rs_udp_rx = udp_rx(rs: *mut c_void, sock: *mut ovpn_sock, skb: *mut sk_buff,
                    head: *const u8, head_len: u32, len: u32) -> c_int;
                ovpn_rs_udp_batch = udp_batch(rs: *mut c_void, sock: *mut ovpn_sock, op: u32,
                    batch: *const ovpn_batch, lost: u32);
                ovpn_rs_sock_gone = sock_gone(rs: *mut c_void, sock: *const ovpn_sock);
                ovpn_rs_tcp_broken = tcp_broken(rs: *mut c_void, sock: *const ovpn_sock);
                ovpn_rs_tcp_new = tcp_new(peer_id: u32) -> *mut c_void;
                ovpn_rs_tcp_free = tcp_free(stream: *mut c_void);
                ovpn_rs_tcp_bytes = tcp_bytes(rs: *mut c_void, sock: *mut ovpn_sock,
                    stream: *mut c_void, data: *const u8, len: u32) -> bool;
                ovpn_rs_tcp_flush = tcp_flush(rs: *mut c_void, sock: *mut ovpn_sock,
                    stream: *mut c_void);
                ovpn_rs_tick = tick(rs: *mut c_void);
                ovpn_rs_tell = tell(rs: *mut c_void) -> bool;
                ovpn_rs_job_done = job_done(rs: *mut c_void, owner: *const ovpn_job_owner,
                    batch: *const ovpn_batch);
                ovpn_rs_peer_new = peer_new(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_peer_attrs) -> c_int;
                ovpn_rs_peer_set = peer_set(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_peer_attrs) -> c_int;
                ovpn_rs_peer_get = peer_get(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_peer_attrs) -> c_int;
                ovpn_rs_peer_del = peer_del(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_peer_attrs) -> c_int;
                ovpn_rs_peer_dump = peer_dump(rs: *mut c_void, dump: *mut ovpn_dump,
                    cursor: *mut c_ulong) -> c_int;
                ovpn_rs_key_new = key_new(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_key_attrs) -> c_int;
                ovpn_rs_key_get = key_get(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_key_attrs) -> c_int;
                ovpn_rs_key_swap = key_swap(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_key_attrs) -> c_int;
                ovpn_rs_key_del = key_del(rs: *mut c_void, req: *mut ovpn_req,
                    attrs: *const ovpn_key_attrs) -> c_int;
            }
        };
    };
}
pub(crate) use entry_points;

/// # Safety
/// `rs` comes from [`dev_new`] and is not freed while the result is used.
unsafe fn device<'a, D: Driver>(rs: *const c_void) -> &'a D {
    // SAFETY: By this function's contract; `Arc::into_raw` made the pointer, of the one type that
    // is `Exported`.
    unsafe { &*rs.cast::<D>() }
}

/// # Safety
/// `dev` outlives the result, which goes to [`dev_free`] once.
pub(crate) unsafe fn dev_new<D: Driver>(dev: *mut ffi::ovpn_dev, mode: u8) -> *mut c_void {
    let Some(dev) = NonNull::new(dev) else {
        return ptr::null_mut();
    };
    let mode = if mode == Mode::Mp as u8 {
        Mode::Mp
    } else {
        Mode::P2p
    };
    // SAFETY: The interface outlives its Rust side, by this function's contract.
    let net = unsafe { NetDev::new(dev) };
    match D::dev_new(net, mode) {
        Ok(device) => Arc::into_raw(device).cast_mut().cast(),
        Err(_) => ptr::null_mut(),
    }
}

/// # Safety
/// The module's contract.
pub(crate) unsafe fn dev_down<D: Driver>(rs: *mut c_void) {
    // SAFETY: By this function's contract.
    unsafe { device::<D>(rs) }.dev_down();
}

/// # Safety
/// `rs` comes from [`dev_new`] and is not used again.
pub(crate) unsafe fn dev_free<D: Driver>(rs: *mut c_void) {
    // SAFETY: The reference that `dev_new` gave away.
    drop(unsafe { Arc::from_raw(rs.cast_const().cast::<D>()) });
}

/// # Safety
/// The module's contract.
pub(crate) unsafe fn dev_mode<D: Driver>(rs: *const c_void) -> u8 {
    // SAFETY: By this function's contract.
    unsafe { device::<D>(rs) }.dev_mode() as u8
}

/// # Safety
/// The module's contract. The RCU read lock is held, and `skb` is handed over.
pub(crate) unsafe fn xmit<D: Driver>(rs: *mut c_void, skb: *mut ffi::sk_buff) {
    let Some(skb) = NonNull::new(skb) else {
        return;
    };
    // SAFETY: By this function's contract, in the order of its sentences.
    let (device, rcu, skb) = unsafe { (device::<D>(rs), Rcu::assume(), Skb::from_raw(skb)) };
    device.xmit(&rcu, skb);
}

/// # Safety
/// The module's contract. The RCU read lock is held, `head_len` bytes are readable at `head`, and
/// `skb` is handed over unless the result is 1.
pub(crate) unsafe fn udp_rx<D: Driver>(
    rs: *mut c_void,
    sock: *mut ffi::ovpn_sock,
    skb: *mut ffi::sk_buff,
    head: *const u8,
    head_len: u32,
    len: u32,
) -> c_int {
    let (Some(sock), Some(skb)) = (NonNull::new(sock), NonNull::new(skb)) else {
        return 0;
    };
    // The bytes are copied, because the packet that holds them changes hands first.
    let mut copy = [0; HEADER_LEN];
    // SAFETY: By this function's contract.
    let seen = unsafe { bytes(head, head_len) };
    let seen_len = seen.len().min(copy.len());
    for (to, from) in copy.iter_mut().zip(seen) {
        *to = *from;
    }
    let head = copy.get(..seen_len).unwrap_or_default();
    // SAFETY: By this function's contract.
    let (device, rcu, skb) = unsafe { (device::<D>(rs), Rcu::assume(), Skb::from_raw(skb)) };
    // SAFETY: By this function's contract.
    let socket = unsafe { SocketRef::new(sock) };
    match device.udp_rx(&rcu, socket, skb, head, len as usize) {
        None => 0,
        Some(skb) => {
            // It stays with the caller.
            let _ = skb.into_raw();
            1
        }
    }
}

const _: () = assert!(
    DATA_V2 == ffi::OVPN_OPCODE_DATA && PeerId::UNDEF.get() == ffi::OVPN_PEER_ID_NONE,
    "the shim recognises other packets than the core"
);

/// # Safety
/// The module's contract. The RCU read lock is held, and the packets of `batch` are handed over.
pub(crate) unsafe fn udp_batch<D: Driver>(
    rs: *mut c_void,
    sock: *mut ffi::ovpn_sock,
    op: u32,
    batch: *const ffi::ovpn_batch,
    lost: u32,
) {
    // SAFETY: By this function's contract.
    let (device, rcu, batch) = unsafe { (device::<D>(rs), Rcu::assume(), Batch::from_raw(*batch)) };
    let Some(sock) = NonNull::new(sock) else {
        return;
    };
    // SAFETY: By this function's contract.
    let socket = unsafe { SocketRef::new(sock) };
    device.udp_batch(&rcu, socket, op, batch, lost);
}

/// # Safety
/// The module's contract. The caller may sleep.
pub(crate) unsafe fn sock_gone<D: Driver>(rs: *mut c_void, sock: *const ffi::ovpn_sock) {
    // SAFETY: By this function's contract.
    unsafe { device::<D>(rs) }.sock_gone(SocketId(sock));
}

/// # Safety
/// The module's contract. The caller may sleep.
pub(crate) unsafe fn tcp_broken<D: Driver>(rs: *mut c_void, sock: *const ffi::ovpn_sock) {
    // SAFETY: By this function's contract.
    unsafe { device::<D>(rs) }.tcp_broken(SocketId(sock));
}

/// A stream to be given back to [`tcp_free`], or null.
///
/// # Safety
/// None; the exported functions are unsafe alike.
pub(crate) unsafe fn tcp_new<D: Driver>(peer_id: u32) -> *mut c_void {
    let stream = PeerId::new(peer_id).and_then(|id| D::tcp_new(id).ok());
    stream.map_or(ptr::null_mut(), |stream| KBox::into_raw(stream).cast())
}

/// # Safety
/// `stream` comes from [`tcp_new`] and is not used again.
pub(crate) unsafe fn tcp_free<D: Driver>(stream: *mut c_void) {
    // SAFETY: By this function's contract.
    drop(unsafe { KBox::from_raw(stream.cast::<D::Stream>()) });
}

/// # Safety
/// The module's contract. The RCU read lock is held, `stream` comes from [`tcp_new`] and has no
/// other user, and `len` bytes are readable at `data`.
pub(crate) unsafe fn tcp_bytes<D: Driver>(
    rs: *mut c_void,
    sock: *mut ffi::ovpn_sock,
    stream: *mut c_void,
    data: *const u8,
    len: u32,
) -> bool {
    let Some(sock) = NonNull::new(sock) else {
        return false;
    };
    // SAFETY: By this function's contract.
    let (device, rcu, stream) = unsafe {
        (
            device::<D>(rs),
            Rcu::assume(),
            &mut *stream.cast::<D::Stream>(),
        )
    };
    // SAFETY: By this function's contract.
    let (socket, data) = unsafe { (SocketRef::new(sock), bytes(data, len)) };
    device.tcp_bytes(&rcu, socket, stream, data)
}

/// # Safety
/// As [`tcp_bytes`].
pub(crate) unsafe fn tcp_flush<D: Driver>(
    rs: *mut c_void,
    sock: *mut ffi::ovpn_sock,
    stream: *mut c_void,
) {
    let Some(sock) = NonNull::new(sock) else {
        return;
    };
    // SAFETY: By this function's contract.
    let (device, rcu, stream) = unsafe {
        (
            device::<D>(rs),
            Rcu::assume(),
            &mut *stream.cast::<D::Stream>(),
        )
    };
    // SAFETY: By this function's contract.
    let socket = unsafe { SocketRef::new(sock) };
    device.tcp_flush(&rcu, socket, stream);
}

/// # Safety
/// The module's contract. The caller may sleep.
pub(crate) unsafe fn tick<D: Driver>(rs: *mut c_void) {
    // SAFETY: By this function's contract.
    unsafe { device::<D>(rs) }.tick();
}

/// # Safety
/// The module's contract. The caller may sleep.
pub(crate) unsafe fn tell<D: Driver>(rs: *mut c_void) -> bool {
    // SAFETY: By this function's contract.
    unsafe { device::<D>(rs) }.tell()
}

/// # Safety
/// The module's contract. The RCU read lock is held, `owner` is that of a job that holds its peer
/// and key, and the packets of `batch` are handed over.
pub(crate) unsafe fn job_done<D: Driver>(
    rs: *mut c_void,
    owner: *const ffi::ovpn_job_owner,
    batch: *const ffi::ovpn_batch,
) {
    // SAFETY: By this function's contract.
    let (device, rcu, owner, batch) = unsafe {
        (
            device::<D>(rs),
            Rcu::assume(),
            &*owner,
            Batch::from_raw(*batch),
        )
    };
    // SAFETY: `Job::enter` made the pointers of these types: one type is `Exported`.
    let (peer, key) = unsafe { (&*owner.peer.cast::<D::Peer>(), &*owner.key.cast::<D::Key>()) };
    match Way::from_raw(owner.what) {
        Way::Out => device.job_sealed(&rcu, peer, batch),
        Way::In(via) => device.job_opened(&rcu, peer, key, batch, via),
    }
}

/// Defines a request on a peer or a key, whose attributes `$parse` reads.
macro_rules! request {
    ($name:ident($attrs:ty), $parse:expr) => {
        /// # Safety
        /// The module's contract, also for pointers in `attrs`. The caller may sleep.
        pub(crate) unsafe fn $name<D: Driver>(
            rs: *mut c_void,
            req: *mut ffi::ovpn_req,
            attrs: *const $attrs,
        ) -> c_int {
            let Some(req) = NonNull::new(req) else {
                return EINVAL.to_errno();
            };
            // SAFETY: By this function's contract.
            let (device, req, attrs) = unsafe { (device::<D>(rs), Req::new(req), &*attrs) };
            let request = $parse(attrs);
            req.answer(device.$name(&req, &request))
        }
    };
}

/// The KEYCONF nest; only for `request!`, whose attributes are those of a live request. One
/// copy: four requests use it.
#[inline(never)]
fn keyconf(attrs: &ffi::ovpn_key_attrs) -> crate::proto::attrs::KeyRequest<'_> {
    // SAFETY: `request!` hands over attributes whose pointers are valid during the call.
    unsafe { key_request(attrs) }
}

request!(peer_new(ffi::ovpn_peer_attrs), peer_request);
request!(peer_set(ffi::ovpn_peer_attrs), peer_request);
request!(peer_get(ffi::ovpn_peer_attrs), peer_request);
request!(peer_del(ffi::ovpn_peer_attrs), peer_request);
request!(key_new(ffi::ovpn_key_attrs), keyconf);
request!(key_get(ffi::ovpn_key_attrs), keyconf);
request!(key_swap(ffi::ovpn_key_attrs), keyconf);
request!(key_del(ffi::ovpn_key_attrs), keyconf);

/// # Safety
/// The module's contract. The caller may sleep.
pub(crate) unsafe fn peer_dump<D: Driver>(
    rs: *mut c_void,
    dump: *mut ffi::ovpn_dump,
    cursor: *mut c_ulong,
) -> c_int {
    let Some(dump) = NonNull::new(dump) else {
        return EINVAL.to_errno();
    };
    // SAFETY: By this function's contract.
    let (device, dump, cursor) = unsafe { (device::<D>(rs), Dump::new(dump), &mut *cursor) };
    let mut at = *cursor as usize;
    let result = device.peer_dump(&dump, &mut at);
    *cursor = at as c_ulong;
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
