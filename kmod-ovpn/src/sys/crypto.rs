// SPDX-License-Identifier: GPL-2.0
//! The crypto back ends: the library's ChaCha20-Poly1305, the AEAD API, and none.

use core::ffi::CStr;
use core::ptr::{self, NonNull};

use kernel::prelude::*;

use super::ffi::{self, c_str};
use super::skb::Batch;
use crate::proto::attrs::{ValidKey, ValidKeyDir};
use crate::proto::engine::Rank;
use crate::proto::nonce::NonceTail;
use crate::proto::wire::PacketId;

/// A cipher that works on whole batches, both directions of one key.
pub(crate) trait Cipher {
    /// Puts the header in front of each packet and encrypts what is behind. `op` is the first
    /// header word; packet ids count up from `first`. Failures are noted in the packets.
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId);

    /// Authenticates and decrypts each packet whose id is set, and takes the header off.
    /// Failures are noted in the packets.
    fn open(&self, batch: &mut Batch);
}

/// A key of one direction, as its back end wants it, and the tail of its nonces, wiped when
/// dropped.
struct Half<K> {
    key: K,
    tail: NonceTail,
}

impl<K> Drop for Half<K> {
    fn drop(&mut self) {
        for byte in &mut self.tail.0 {
            // SAFETY: A valid reference; volatile, so that the dead store is not removed.
            unsafe { ptr::write_volatile(byte, 0) };
        }
    }
}

impl<K> Half<K> {
    fn new(dir: &ValidKeyDir<'_>, make: impl Fn(&[u8]) -> Result<K>) -> Result<Self> {
        Ok(Half {
            key: make(dir.cipher_key)?,
            tail: dir.nonce_tail,
        })
    }

    fn tail(&self) -> *const u8 {
        self.tail.0.as_ptr()
    }
}

/// Both directions.
struct Halves<K> {
    seal: Half<K>,
    open: Half<K>,
}

impl<K> Halves<K> {
    fn new(config: &ValidKey<'_>, make: impl Fn(&[u8]) -> Result<K>) -> Result<Self> {
        Ok(Halves {
            seal: Half::new(&config.encrypt, &make)?,
            open: Half::new(&config.decrypt, &make)?,
        })
    }
}

const DRIVER_LEN: usize = ffi::OVPN_DRIVER_LEN as usize;

/// Name of an implementation.
///
/// # Invariants
/// The last byte is NUL.
pub(crate) struct DriverName(pub(super) [u8; DRIVER_LEN]);

impl DriverName {
    /// A name of our own; what does not fit is cut off.
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut name = [0; DRIVER_LEN];
        for (to, from) in name.iter_mut().take(DRIVER_LEN - 1).zip(text) {
            *to = *from;
        }
        // INVARIANT: the last byte was not written.
        DriverName(name)
    }

    /// The name without NUL.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes of a ChaCha20 key.
const CHACHA_KEY: usize = 32;

/// A ChaCha20 key as the library wants it: little-endian words. Wiped when dropped.
struct ChaChaKey([u32; CHACHA_KEY / 4]);

impl ChaChaKey {
    /// `EINVAL` for a key that is not 32 bytes long.
    fn new(key: &[u8]) -> Result<Self> {
        let key: &[u8; CHACHA_KEY] = key.try_into().map_err(|_| EINVAL)?;
        let mut words = [0; CHACHA_KEY / 4];
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            if let Some(bytes) = bytes.first_chunk() {
                *word = u32::from_le_bytes(*bytes);
            }
        }
        Ok(ChaChaKey(words))
    }
}

impl Drop for ChaChaKey {
    fn drop(&mut self) {
        for word in &mut self.0 {
            // SAFETY: A valid reference; volatile, so that the dead store is not removed.
            unsafe { ptr::write_volatile(word, 0) };
        }
    }
}

/// ChaCha20-Poly1305 by the library's functions: no allocation, no request, any context.
pub(crate) struct ChaChaPoly(Halves<ChaChaKey>);

impl ChaChaPoly {
    /// `EINVAL` for a key that is not 32 bytes long.
    pub(crate) fn new(config: &ValidKey<'_>) -> Result<Self> {
        Ok(ChaChaPoly(Halves::new(config, ChaChaKey::new)?))
    }
}

impl Cipher for ChaChaPoly {
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        let (half, first) = (&self.0.seal, first.get());
        let key = half.key.0.as_ptr();
        // SAFETY: Key and tail have the lengths the shim reads; the batch is ours.
        unsafe { ffi::ovpn_chachapoly_seal(key, half.tail(), batch.as_raw(), op, first) };
    }

    fn open(&self, batch: &mut Batch) {
        let half = &self.0.open;
        let key = half.key.0.as_ptr();
        // SAFETY: As in `seal`.
        unsafe { ffi::ovpn_chachapoly_open(key, half.tail(), batch.as_raw()) };
    }
}

/// No cipher: the header alone.
pub(crate) struct Plain;

impl Cipher for Plain {
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        // SAFETY: The batch is ours.
        unsafe { ffi::ovpn_plain_seal(batch.as_raw(), op, first.get()) };
    }

    fn open(&self, batch: &mut Batch) {
        // SAFETY: The batch is ours.
        unsafe { ffi::ovpn_plain_open(batch.as_raw()) };
    }
}

/// One direction of a key in the AEAD API.
///
/// # Invariants
/// A live object of the shim, ours alone.
struct AeadKey(NonNull<ffi::ovpn_aead>);

impl AeadKey {
    fn new(name: &[u8], alg: &CStr, avoid: u32, key: &[u8]) -> Result<Self> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| EINVAL);
        let (name_len, key_len, mut err) = (len(name)?, len(key)?, 0);
        // SAFETY: `alg` ends in NUL, the others have their lengths; callers may sleep.
        let raw = unsafe {
            ffi::ovpn_aead_new(
                name.as_ptr(),
                name_len,
                c_str(alg),
                avoid,
                key.as_ptr(),
                key_len,
                &mut err,
            )
        };
        // INVARIANT: fresh from the shim.
        NonNull::new(raw)
            .map(AeadKey)
            .ok_or_else(|| Error::from_errno(err))
    }

    fn is_async(&self) -> bool {
        // SAFETY: Live by the invariant.
        unsafe { ffi::ovpn_aead_is_async(self.0.as_ptr()) }
    }

    fn as_raw(&self) -> *mut ffi::ovpn_aead {
        self.0.as_ptr()
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant; keys are released where sleeping is allowed.
        unsafe { ffi::ovpn_aead_free(self.0.as_ptr()) };
    }
}

/// Both directions of a key in the AEAD API.
struct Api(Halves<AeadKey>);

// SAFETY: The shim's object is immutable; requests are the shim's business.
unsafe impl Send for Api {}
// SAFETY: As above.
unsafe impl Sync for Api {}

/// An AEAD of the crypto API.
pub(crate) enum Aead {
    /// Packets are done when the call returns.
    Sync(SyncAead),
    /// Packets come back later.
    Async(AsyncAead),
}

/// See [`Aead::Sync`].
pub(crate) struct SyncAead(Api);

/// See [`Aead::Async`]. Used by jobs.
pub(crate) struct AsyncAead(Api);

impl Aead {
    /// The implementation of this name. The errno of the crypto API when it is not there or
    /// refuses the key; `ENOENT` when it is not one of `alg`. May sleep.
    pub(crate) fn named(name: &[u8], alg: &CStr, config: &ValidKey<'_>) -> Result<Self> {
        Self::new(name, alg, 0, config)
    }

    /// The highest-ranked implementation of `alg` within `rank`. Errors as above. May sleep.
    pub(crate) fn ranked(rank: Rank, alg: &CStr, config: &ValidKey<'_>) -> Result<Self> {
        let avoid = match rank {
            Rank::Any => 0,
            Rank::Sync => ffi::OVPN_NOT_ASYNC,
            Rank::Software => ffi::OVPN_NOT_ASYNC | ffi::OVPN_NOT_HARDWARE,
        };
        Self::new(alg.to_bytes(), alg, avoid, config)
    }

    fn new(name: &[u8], alg: &CStr, avoid: u32, config: &ValidKey<'_>) -> Result<Self> {
        let halves = Halves::new(config, |key| AeadKey::new(name, alg, avoid, key))?;
        match [&halves.seal, &halves.open].map(|half| half.key.is_async()) {
            [false, false] => Ok(Aead::Sync(SyncAead(Api(halves)))),
            [true, true] => Ok(Aead::Async(AsyncAead(Api(halves)))),
            // One was registered between the two: the next attempt finds it twice.
            _ => Err(EAGAIN),
        }
    }

    /// Name of the driver.
    pub(crate) fn driver(&self) -> DriverName {
        let (Aead::Sync(SyncAead(api)) | Aead::Async(AsyncAead(api))) = self;
        let mut name = [0; DRIVER_LEN];
        // SAFETY: Live by the invariant; the shim fills a buffer of that length.
        unsafe { ffi::ovpn_aead_driver(api.0.seal.key.as_raw(), name.as_mut_ptr()) };
        // INVARIANT: the shim ends the name in NUL.
        DriverName(name)
    }
}

impl Cipher for SyncAead {
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        let (half, first) = (&self.0 .0.seal, first.get());
        let key = half.key.as_raw();
        // SAFETY: The key object lives by its invariant and is synchronous; the batch is ours.
        unsafe { ffi::ovpn_aead_seal(key, half.tail(), batch.as_raw(), op, first) };
    }

    fn open(&self, batch: &mut Batch) {
        let half = &self.0 .0.open;
        let key = half.key.as_raw();
        // SAFETY: As in `seal`.
        unsafe { ffi::ovpn_aead_open(key, half.tail(), batch.as_raw()) };
    }
}

impl AsyncAead {
    /// As [`Cipher::seal`], by a job.
    ///
    /// # Safety
    /// `job` must be a live job that holds the key to which this belongs; it is given up.
    pub(super) unsafe fn seal(
        &self,
        job: *mut ffi::ovpn_job,
        batch: Batch,
        op: u32,
        first: PacketId,
    ) {
        let (half, batch, first) = (&self.0 .0.seal, batch.into_raw(), first.get());
        let key = half.key.as_raw();
        // SAFETY: By this function's contract; the packets are given up.
        unsafe { ffi::ovpn_job_seal(job, key, half.tail(), &batch, op, first) };
    }

    /// As [`Cipher::open`], by a job.
    ///
    /// # Safety
    /// As `seal`.
    pub(super) unsafe fn open(&self, job: *mut ffi::ovpn_job, batch: Batch) {
        let (half, batch) = (&self.0 .0.open, batch.into_raw());
        // SAFETY: By this function's contract; the packets are given up.
        unsafe { ffi::ovpn_job_open(job, half.key.as_raw(), half.tail(), &batch) };
    }
}
