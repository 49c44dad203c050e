// SPDX-License-Identifier: GPL-2.0
//! What C calls, as `shim/rust.h` declares it: raw pointers become types here, and nothing else
//! happens.

use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::ptr::{self, NonNull};

use kernel::prelude::*;

use super::engine::Way;
use super::ffi;
use super::genl::{bytes, key_request, peer_request, Dump, Req};
use super::netdev::NetDev;
use super::rcu::Rcu;
use super::skb::{Batch, Skb};
use super::socket::{SocketId, SocketRef};
use crate::compat::Arc;
use crate::device::Device;
use crate::key::Key;
use crate::netlink::{self, Answer, Denied};
use crate::peer::{DelReason, Peer};
use crate::proto::attrs::Mode;
use crate::proto::counters::DropReason;
use crate::proto::engine::Preference;
use crate::proto::wire::{PeerId, DATA_V2};
use crate::stream::Stream;
use crate::{rx, tick, tx};

/// # Safety
/// `rs` comes from `ovpn_rs_dev_new` and is not freed while the result is used.
unsafe fn device<'a>(rs: *const c_void) -> &'a Device {
    // SAFETY: By this function's contract; `Arc::into_raw` made the pointer.
    unsafe { &*rs.cast::<Device>() }
}

/// # Safety
/// `dev` is live and outlives the result, which goes to `ovpn_rs_dev_free` once.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_dev_new(dev: *mut ffi::ovpn_dev, mode: u8) -> *mut c_void {
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
    match Device::new(net, mode) {
        Ok(device) => Arc::into_raw(device).cast_mut().cast(),
        Err(_) => ptr::null_mut(),
    }
}

/// # Safety
/// See `device`.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_dev_down(rs: *mut c_void) {
    // SAFETY: By this function's contract.
    unsafe { device(rs) }.down();
}

/// # Safety
/// `rs` comes from `ovpn_rs_dev_new` and is not used again.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_dev_free(rs: *mut c_void) {
    // SAFETY: The reference that `ovpn_rs_dev_new` gave away.
    drop(unsafe { Arc::from_raw(rs.cast_const().cast::<Device>()) });
}

/// # Safety
/// See `device`.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_dev_mode(rs: *const c_void) -> u8 {
    // SAFETY: By this function's contract.
    unsafe { device(rs) }.mode as u8
}

/// # Safety
/// See `device`; the RCU read lock is held, and `skb` is handed over.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_xmit(rs: *mut c_void, skb: *mut ffi::sk_buff) {
    let Some(skb) = NonNull::new(skb) else {
        return;
    };
    // SAFETY: By this function's contract, in the order of its sentences.
    let (device, rcu, skb) = unsafe { (device(rs), Rcu::assume(), Skb::from_raw(skb)) };
    tx::xmit(device, &rcu, skb);
}

/// # Safety
/// See `device`; the RCU read lock is held, `sock` is live, `head_len` bytes are readable at
/// `head`, and `skb` is handed over unless the result is 1.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_udp_rx(
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
    let mut copy = [0; crate::proto::wire::HEADER_LEN];
    // SAFETY: By this function's contract.
    let seen = unsafe { bytes(head, head_len) };
    let seen_len = seen.len().min(copy.len());
    for (to, from) in copy.iter_mut().zip(seen) {
        *to = *from;
    }
    let head = copy.get(..seen_len).unwrap_or_default();
    // SAFETY: By this function's contract.
    let (device, rcu, skb) = unsafe { (device(rs), Rcu::assume(), Skb::from_raw(skb)) };
    // SAFETY: By this function's contract.
    let socket = unsafe { SocketRef::new(sock) };
    match rx::datagram(device, &rcu, socket, skb, head, len as usize) {
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
/// See `device`; the RCU read lock is held, `sock` is live, and the packets of `batch` are handed
/// over.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_udp_batch(
    rs: *mut c_void,
    sock: *mut ffi::ovpn_sock,
    op: u32,
    batch: *const ffi::ovpn_batch,
    lost: u32,
) {
    // SAFETY: By this function's contract.
    let (device, rcu, batch) = unsafe { (device(rs), Rcu::assume(), Batch::from_raw(*batch)) };
    let Some(sock) = NonNull::new(sock) else {
        return;
    };
    // SAFETY: By this function's contract.
    let socket = unsafe { SocketRef::new(sock) };
    rx::datagrams(device, &rcu, socket, op, batch, lost);
}

/// # Safety
/// See `device`; may sleep.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_sock_gone(rs: *mut c_void, sock: *const ffi::ovpn_sock) {
    // SAFETY: By this function's contract.
    unsafe { device(rs) }.socket_gone(SocketId(sock), DelReason::TransportDisconnect);
}

/// # Safety
/// See `device`; may sleep.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_tcp_broken(rs: *mut c_void, sock: *const ffi::ovpn_sock) {
    // SAFETY: By this function's contract.
    unsafe { device(rs) }.socket_gone(SocketId(sock), DelReason::TransportError);
}

/// A stream to be given back to `ovpn_rs_tcp_free`, or null.
#[no_mangle]
extern "C" fn ovpn_rs_tcp_new(peer_id: u32) -> *mut c_void {
    let stream = PeerId::new(peer_id).and_then(|id| KBox::new(Stream::new(id), GFP_KERNEL).ok());
    stream.map_or(ptr::null_mut(), |stream| KBox::into_raw(stream).cast())
}

/// # Safety
/// `stream` comes from `ovpn_rs_tcp_new` and is not used again.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_tcp_free(stream: *mut c_void) {
    // SAFETY: By this function's contract.
    drop(unsafe { KBox::from_raw(stream.cast::<Stream>()) });
}

/// # Safety
/// See `device`; the RCU read lock is held, `sock` is live, `stream` comes from
/// `ovpn_rs_tcp_new` and is used by nobody else, and `len` bytes are readable at `data`.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_tcp_bytes(
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
    let (device, rcu, stream) =
        unsafe { (device(rs), Rcu::assume(), &mut *stream.cast::<Stream>()) };
    // SAFETY: By this function's contract.
    let (socket, data) = unsafe { (SocketRef::new(sock), bytes(data, len)) };
    stream.bytes(device, &rcu, socket, data).is_ok()
}

/// # Safety
/// As `ovpn_rs_tcp_bytes`.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_tcp_flush(
    rs: *mut c_void,
    sock: *mut ffi::ovpn_sock,
    stream: *mut c_void,
) {
    let Some(sock) = NonNull::new(sock) else {
        return;
    };
    // SAFETY: By this function's contract.
    let (device, rcu, stream) =
        unsafe { (device(rs), Rcu::assume(), &mut *stream.cast::<Stream>()) };
    // SAFETY: By this function's contract.
    let socket = unsafe { SocketRef::new(sock) };
    stream.flush(device, &rcu, socket);
}

/// # Safety
/// See `device`; may sleep.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_tick(rs: *mut c_void) {
    // SAFETY: By this function's contract.
    tick::run(unsafe { device(rs) });
}

/// # Safety
/// See `device`; may sleep.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_tell(rs: *mut c_void) -> bool {
    // SAFETY: By this function's contract.
    unsafe { device(rs) }.tell_floats()
}

/// # Safety
/// See `device`; the RCU read lock is held, `owner` is that of a job that holds its peer and key,
/// and the packets of `batch` are handed over.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_job_done(
    rs: *mut c_void,
    owner: *const ffi::ovpn_job_owner,
    batch: *const ffi::ovpn_batch,
) {
    // SAFETY: By this function's contract; `Job::enter` made the pointers.
    let (device, rcu, owner, batch) =
        unsafe { (device(rs), Rcu::assume(), &*owner, Batch::from_raw(*batch)) };
    // SAFETY: As above.
    let (peer, key) = unsafe { (&*owner.peer.cast::<Peer>(), &*owner.key.cast::<Key>()) };
    match Way::from_raw(owner.what) {
        Way::Out => tx::complete(device, &rcu, peer, batch),
        Way::In(via) => rx::resume(device, &rcu, peer, key, batch, via),
    }
}

/// # Safety
/// `len` bytes are readable at `text`.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_check_preference(text: *const u8, len: u32) -> *const c_char {
    // SAFETY: By this function's contract.
    match Preference::parse(unsafe { bytes(text, len) }) {
        Ok(_) => ptr::null(),
        Err(fault) => ffi::c_str(fault.message()),
    }
}

/// # Safety
/// `name` may be written.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_drop_name(reason: u32, name: *mut *const c_char) -> u32 {
    match DropReason::ALL.get(reason as usize) {
        Some(reason) => {
            let text = reason.name();
            // SAFETY: By this function's contract.
            unsafe { *name = text.as_ptr().cast() };
            text.len() as u32
        }
        None => 0,
    }
}

/// Turns the outcome of a request into its errno, explained in the answer.
fn answer(req: &Req, outcome: Answer) -> c_int {
    match outcome {
        Ok(()) => 0,
        Err(Denied::Refused(refusal)) => req.refuse(refusal).to_errno(),
        Err(Denied::Failed(error, text)) => {
            req.explain(text);
            error.to_errno()
        }
        Err(Denied::Reply(error)) => error.to_errno(),
    }
}

/// Defines the entry point of a request on a peer or a key.
macro_rules! request {
    ($name:ident, $attrs:ty, |$device:ident, $req:ident, $parsed:ident = $parse:ident| $run:expr) => {
        /// # Safety
        /// See `device`; `req` and `attrs` are live during the call, with what they point to.
        #[no_mangle]
        unsafe extern "C" fn $name(
            rs: *mut c_void,
            req: *mut ffi::ovpn_req,
            attrs: *const $attrs,
        ) -> c_int {
            let Some(req) = NonNull::new(req) else {
                return EINVAL.to_errno();
            };
            // SAFETY: By this function's contract.
            let ($device, $req, attrs) = unsafe { (device(rs), Req::new(req), &*attrs) };
            let $parsed = $parse(attrs);
            answer(&$req, $run)
        }
    };
}

/// The KEYCONF nest; only for `request!`, whose attributes are those of a live request.
fn key<'a>(attrs: &'a ffi::ovpn_key_attrs) -> crate::proto::attrs::KeyRequest<'a> {
    // SAFETY: `request!` hands over attributes whose pointers are valid during the call.
    unsafe { key_request(attrs) }
}

request!(ovpn_rs_peer_new, ffi::ovpn_peer_attrs,
    |device, req, peer = peer_request| netlink::peer_new(device, &peer));
request!(ovpn_rs_peer_set, ffi::ovpn_peer_attrs,
    |device, req, peer = peer_request| netlink::peer_set(device, &peer));
request!(ovpn_rs_peer_get, ffi::ovpn_peer_attrs,
    |device, req, peer = peer_request| netlink::peer_get(device, &req, &peer));
request!(ovpn_rs_peer_del, ffi::ovpn_peer_attrs,
    |device, req, peer = peer_request| netlink::peer_del(device, &peer));
request!(ovpn_rs_key_new, ffi::ovpn_key_attrs,
    |device, req, request = key| netlink::key_new(device, &req, &request));
request!(ovpn_rs_key_get, ffi::ovpn_key_attrs,
    |device, req, request = key| netlink::key_get(device, &req, &request));
request!(ovpn_rs_key_swap, ffi::ovpn_key_attrs,
    |device, req, request = key| netlink::key_swap(device, &request));
request!(ovpn_rs_key_del, ffi::ovpn_key_attrs,
    |device, req, request = key| netlink::key_del(device, &request));

/// # Safety
/// See `device`; `dump` and `cursor` are live during the call.
#[no_mangle]
unsafe extern "C" fn ovpn_rs_peer_dump(
    rs: *mut c_void,
    dump: *mut ffi::ovpn_dump,
    cursor: *mut c_ulong,
) -> c_int {
    let Some(dump) = NonNull::new(dump) else {
        return EINVAL.to_errno();
    };
    // SAFETY: By this function's contract.
    let (device, dump, cursor) = unsafe { (device(rs), Dump::new(dump), &mut *cursor) };
    let mut at = *cursor as usize;
    let result = netlink::peer_dump(device, &dump, &mut at);
    *cursor = at as c_ulong;
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
