// SPDX-License-Identifier: GPL-2.0
//! Generic netlink: requests as the checks want them, answers, notifications.

use core::ffi::{c_int, CStr};
use core::ptr::NonNull;

use kernel::error::to_result;
use kernel::prelude::*;

use super::crypto::DriverName;
use super::drops::DropCounts;
use super::ffi::{self, c_str};
use super::netdev::NetDev;
use super::path::{Ends, Path};
use super::socket::SocketRef;
use crate::proto::attrs::{KeyDirRequest, KeyRequest, PeerRequest};
use crate::proto::cipher::CipherAlg;
use crate::proto::refusal::{Attr, Blame, Errno, KeyAttr, KeyDirAttr, PeerAttr, Refusal};
use crate::proto::wire::KeyId;

/// The family `ovpn`; dropping it ends all requests.
pub(crate) struct Family(());

impl Family {
    /// `EEXIST` when another driver has the name.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Called once, when the module is loaded.
        to_result(unsafe { ffi::ovpn_genl_init() })?;
        Ok(Family(()))
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // SAFETY: Pairs with `register`.
        unsafe { ffi::ovpn_genl_exit() };
    }
}

/// Why a request fails.
pub(crate) enum Denied {
    /// It is wrong, and the answer says why.
    Refused(Refusal),
    /// The kernel could not do it, in these words.
    Failed(Error, &'static CStr),
    /// The answer could not be built.
    Reply(Error),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Refused(refusal)
    }
}

/// Result of a request.
pub(crate) type Answer = Result<(), Denied>;

/// A request that waits for its answer.
///
/// # Invariants
/// Live while the request is being handled.
pub(crate) struct Req(NonNull<ffi::ovpn_req>);

impl Req {
    /// # Safety
    /// `raw` must be live while the value is.
    pub(super) unsafe fn new(raw: NonNull<ffi::ovpn_req>) -> Self {
        // INVARIANT: promised by the caller.
        Req(raw)
    }

    /// The errno of a result, 0 for none; a failure is explained in the answer.
    pub(super) fn answer(&self, result: Answer) -> c_int {
        match result {
            Ok(()) => 0,
            Err(Denied::Refused(refusal)) => self.refuse(refusal).to_errno(),
            Err(Denied::Failed(error, text)) => {
                self.explain(text);
                error.to_errno()
            }
            Err(Denied::Reply(error)) => error.to_errno(),
        }
    }

    /// Puts the refusal's text and attribute into the answer and returns its error.
    fn refuse(&self, refusal: Refusal) -> Error {
        let (nest, attr) = match refusal.blame() {
            Blame::Nothing => (ffi::ovpn_nest_OVPN_NEST_TOP, 0),
            Blame::Bad(attr) | Blame::Missing(attr) => (nest_of(attr), u32::from(attr.number())),
        };
        self.say(refusal.message(), nest, attr);
        error_of(refusal.errno())
    }

    /// Puts a text into the answer.
    pub(crate) fn explain(&self, text: &'static CStr) {
        self.say(text, ffi::ovpn_nest_OVPN_NEST_TOP, 0);
    }

    fn say(&self, text: &'static CStr, nest: ffi::ovpn_nest, attr: u32) {
        // SAFETY: Live by the invariant; a static text outlives the request.
        unsafe { ffi::ovpn_genl_refuse(self.0.as_ptr(), c_str(text), nest, attr) };
    }

    /// Answers PEER_GET.
    pub(crate) fn reply_peer(&self, socket: Option<SocketRef<'_>>, info: &PeerInfo) -> Result {
        // SAFETY: All live by their invariants.
        to_result(unsafe {
            ffi::ovpn_genl_reply_peer(self.0.as_ptr(), socket_or_null(socket), &info.0)
        })
    }

    /// Answers KEY_GET.
    pub(crate) fn reply_key(&self, info: &KeyInfo) -> Result {
        // SAFETY: Live by the invariant.
        to_result(unsafe { ffi::ovpn_genl_reply_key(self.0.as_ptr(), &info.0) })
    }
}

/// A dump of peers in progress.
///
/// # Invariants
/// Live while the dump's callback runs.
pub(crate) struct Dump(NonNull<ffi::ovpn_dump>);

impl Dump {
    /// # Safety
    /// `raw` must be live while the value is.
    pub(super) unsafe fn new(raw: NonNull<ffi::ovpn_dump>) -> Self {
        // INVARIANT: promised by the caller.
        Dump(raw)
    }

    /// Adds a peer; `EMSGSIZE` when it does not fit any more.
    pub(crate) fn peer(&self, socket: Option<SocketRef<'_>>, info: &PeerInfo) -> Result {
        // SAFETY: All live by their invariants.
        to_result(unsafe {
            ffi::ovpn_genl_dump_peer(self.0.as_ptr(), socket_or_null(socket), &info.0)
        })
    }
}

fn socket_or_null(socket: Option<SocketRef<'_>>) -> *const ffi::ovpn_sock {
    socket.map_or(core::ptr::null(), |socket| socket.as_raw().cast_const())
}

/// What PEER_GET tells of a peer.
pub(crate) struct PeerInfo(ffi::ovpn_peer_info);

impl PeerInfo {
    pub(crate) fn new(
        id: u32,
        tx_id: u32,
        keepalive: (u32, u32),
        path: &Path,
        vpn: ([u8; 4], [u8; 16]),
        stats: [u64; ffi::ovpn_stat_OVPN_STAT_COUNT as usize],
    ) -> Self {
        PeerInfo(ffi::ovpn_peer_info {
            id,
            tx_id,
            interval: keepalive.0,
            timeout: keepalive.1,
            ends: path.get().0,
            vpn4: vpn.0,
            vpn6: vpn.1,
            stats,
            drops: [0; ffi::OVPN_DROP_SLOTS as usize],
            last_seen: 0,
            heard: false,
        })
    }

    /// With what the mainline driver does not tell: lost packets, and for how many milliseconds
    /// nothing was heard, if ever anything was.
    pub(crate) fn extended(mut self, drops: DropCounts, last_seen: Option<u32>) -> Self {
        self.0.drops = drops;
        self.0.last_seen = last_seen.unwrap_or_default();
        self.0.heard = last_seen.is_some();
        self
    }
}

/// What KEY_GET tells of a key.
///
/// # Invariants
/// The driver's name ends in NUL.
pub(crate) struct KeyInfo(ffi::ovpn_key_info);

impl KeyInfo {
    /// Of the key in a `(peer id, slot)`.
    pub(crate) fn new(
        (peer_id, slot): (u32, u32),
        key_id: KeyId,
        cipher: CipherAlg,
        driver: DriverName,
        is_async: bool,
    ) -> Self {
        // INVARIANT: as the name has it.
        KeyInfo(ffi::ovpn_key_info {
            peer_id,
            slot,
            key_id: u32::from(key_id.get()),
            cipher: cipher as u32,
            driver: driver.0,
            async_: is_async,
        })
    }
}

/// Tells userspace that a peer is gone, why (`enum ovpn_del_peer_reason`), and its counters.
pub(crate) fn notify_del(
    net: &NetDev,
    socket: SocketRef<'_>,
    peer_id: u32,
    reason: u32,
    stats: &[u64; ffi::ovpn_stat_OVPN_STAT_COUNT as usize],
) {
    let (net, socket, stats) = (net.as_raw(), socket.as_raw(), stats.as_ptr());
    // SAFETY: Both live, and all counters are readable.
    unsafe { ffi::ovpn_genl_notify_del(net, socket, peer_id, reason, stats) };
}

/// Tells userspace that a peer has moved.
pub(crate) fn notify_float(net: &NetDev, socket: SocketRef<'_>, peer_id: u32, to: &Ends) {
    // SAFETY: Both live, `socket` with its read section.
    unsafe { ffi::ovpn_genl_notify_float(net.as_raw(), socket.as_raw(), peer_id, &to.0) };
}

/// Tells userspace that a key must be replaced.
pub(crate) fn notify_swap(net: &NetDev, socket: SocketRef<'_>, peer_id: u32, key_id: u32) {
    // SAFETY: As in `notify_float`.
    unsafe { ffi::ovpn_genl_notify_swap(net.as_raw(), socket.as_raw(), peer_id, key_id) };
}

fn nest_of(attr: Attr) -> ffi::ovpn_nest {
    match attr {
        Attr::Top(_) => ffi::ovpn_nest_OVPN_NEST_TOP,
        Attr::Peer(_) | Attr::Key(_) => ffi::ovpn_nest_OVPN_NEST_INNER,
        Attr::EncryptDir(_) => ffi::ovpn_nest_OVPN_NEST_ENC,
        Attr::DecryptDir(_) => ffi::ovpn_nest_OVPN_NEST_DEC,
    }
}

/// Numbers differ between architectures: take them from this kernel's headers.
fn error_of(errno: Errno) -> Error {
    use kernel::bindings as b;
    let number = match errno {
        Errno::Inval => b::EINVAL,
        Errno::Range => b::ERANGE,
        Errno::NoDev => b::ENODEV,
        Errno::NoEnt => b::ENOENT,
        Errno::Exist => b::EEXIST,
        Errno::AddrInUse => b::EADDRINUSE,
        Errno::AddrNotAvail => b::EADDRNOTAVAIL,
        Errno::NotSock => b::ENOTSOCK,
    };
    Error::from_errno(-(number as i32))
}

/// The value of attribute `attr` if its bit is set.
fn if_present<T>(present: u32, attr: u16, value: T) -> Option<T> {
    (present & 1u32.checked_shl(u32::from(attr))? != 0).then_some(value)
}

/// The PEER nest of a request.
pub(super) fn peer_request(raw: &ffi::ovpn_peer_attrs) -> PeerRequest {
    fn get<T>(raw: &ffi::ovpn_peer_attrs, attr: PeerAttr, value: T) -> Option<T> {
        if_present(raw.present, Attr::Peer(attr).number(), value)
    }
    PeerRequest {
        id: get(raw, PeerAttr::Id, raw.id),
        remote_ipv4: get(raw, PeerAttr::RemoteIpv4, raw.remote4),
        remote_ipv6: get(raw, PeerAttr::RemoteIpv6, raw.remote6),
        remote_ipv6_scope_id: get(raw, PeerAttr::RemoteIpv6ScopeId, raw.scope),
        remote_port: get(raw, PeerAttr::RemotePort, u16::from_be(raw.port)),
        socket: get(raw, PeerAttr::Socket, raw.fd),
        vpn_ipv4: get(raw, PeerAttr::VpnIpv4, raw.vpn4),
        vpn_ipv6: get(raw, PeerAttr::VpnIpv6, raw.vpn6),
        local_ipv4: get(raw, PeerAttr::LocalIpv4, raw.local4),
        local_ipv6: get(raw, PeerAttr::LocalIpv6, raw.local6),
        keepalive_interval: get(raw, PeerAttr::KeepaliveInterval, raw.interval),
        keepalive_timeout: get(raw, PeerAttr::KeepaliveTimeout, raw.timeout),
        tx_id: get(raw, PeerAttr::TxId, raw.tx_id),
    }
}

/// The KEYCONF nest of a request.
///
/// # Safety
/// The key pointers of `raw` must be valid for `'a`, as far as their attributes are present.
pub(super) unsafe fn key_request<'a>(raw: &'a ffi::ovpn_key_attrs) -> KeyRequest<'a> {
    fn get<T>(raw: &ffi::ovpn_key_attrs, attr: KeyAttr, value: T) -> Option<T> {
        if_present(raw.present, Attr::Key(attr).number(), value)
    }
    fn dir<'a>(raw: &'a ffi::ovpn_keydir_attrs) -> KeyDirRequest<'a> {
        let key = if_present(
            raw.present,
            KeyDirAttr::CipherKey as u16,
            // SAFETY: Valid if present, by the outer contract; empty otherwise.
            unsafe { bytes(raw.key, raw.len) },
        );
        let tail = &raw.tail;
        KeyDirRequest {
            cipher_key: key,
            nonce_tail: if_present(raw.present, KeyDirAttr::NonceTail as u16, tail.as_slice()),
        }
    }
    KeyRequest {
        peer_id: get(raw, KeyAttr::PeerId, raw.peer_id),
        slot: get(raw, KeyAttr::Slot, raw.slot),
        key_id: get(raw, KeyAttr::KeyId, raw.key_id),
        cipher_alg: get(raw, KeyAttr::CipherAlg, raw.cipher),
        encrypt_dir: get(raw, KeyAttr::EncryptDir, dir(&raw.enc)),
        decrypt_dir: get(raw, KeyAttr::DecryptDir, dir(&raw.dec)),
    }
}

/// # Safety
/// `ptr` is null, or `len` bytes are readable there for `'a`.
pub(super) unsafe fn bytes<'a>(ptr: *const u8, len: u32) -> &'a [u8] {
    if ptr.is_null() {
        return &[];
    }
    // SAFETY: By this function's contract.
    unsafe { core::slice::from_raw_parts(ptr, len as usize) }
}
