// SPDX-License-Identifier: GPL-2.0
//! The two crypto back ends: the library's ChaCha20-Poly1305, and the AEAD API.

use core::ffi::CStr;
use core::ptr::{self, NonNull};

use kernel::prelude::*;

use super::ffi::{self, c_str};
use super::skb::Batch;
use crate::proto::nonce::NonceTail;
use crate::proto::wire::PacketId;

/// A cipher that works on whole batches, both directions of one key.
pub(crate) trait Cipher {
    /// Puts header and tag in front of each packet and encrypts what is behind. `op` is the first
    /// header word; packet ids count up from `first`. Failures are noted in the packets.
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId);

    /// Authenticates and decrypts each packet whose id is set, and takes header and tag off.
    /// Failures are noted in the packets.
    fn open(&self, batch: &mut Batch);
}

/// Bytes of a ChaCha20 key.
const CHACHA_KEY: usize = 32;

/// A ChaCha20 key as the library wants it: little-endian words. Wiped when dropped.
struct ChaChaKey([u32; CHACHA_KEY / 4]);

impl ChaChaKey {
    fn new(key: &[u8; CHACHA_KEY]) -> Self {
        let mut words = [0; CHACHA_KEY / 4];
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            if let Some(bytes) = bytes.first_chunk() {
                *word = u32::from_le_bytes(*bytes);
            }
        }
        ChaChaKey(words)
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
pub(crate) struct ChaChaPoly {
    seal: (ChaChaKey, NonceTail),
    open: (ChaChaKey, NonceTail),
}

impl ChaChaPoly {
    /// `EINVAL` for a key that is not 32 bytes long.
    pub(crate) fn new(seal: (&[u8], NonceTail), open: (&[u8], NonceTail)) -> Result<Self> {
        let key = |bytes: &[u8]| -> Result<ChaChaKey> {
            Ok(ChaChaKey::new(bytes.try_into().map_err(|_| EINVAL)?))
        };
        Ok(ChaChaPoly {
            seal: (key(seal.0)?, seal.1),
            open: (key(open.0)?, open.1),
        })
    }
}

impl Cipher for ChaChaPoly {
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        let (key, tail) = &self.seal;
        // SAFETY: Key and tail have the lengths the shim reads; the batch is ours.
        unsafe {
            ffi::ovpn_chachapoly_seal(
                key.0.as_ptr(),
                tail.0.as_ptr(),
                batch.as_raw(),
                op,
                first.get(),
            )
        };
    }

    fn open(&self, batch: &mut Batch) {
        let (key, tail) = &self.open;
        // SAFETY: As in `seal`.
        unsafe { ffi::ovpn_chachapoly_open(key.0.as_ptr(), tail.0.as_ptr(), batch.as_raw()) };
    }
}

/// One direction of a key in the AEAD API.
///
/// # Invariants
/// A live object of the shim, ours alone.
struct AeadKey(NonNull<ffi::ovpn_aead>);

impl AeadKey {
    fn new(alg: &CStr, key: &[u8]) -> Result<Self> {
        let len = u32::try_from(key.len()).map_err(|_| EINVAL)?;
        let mut err = 0;
        // SAFETY: `alg` ends in NUL, `key` is `len` bytes long; callers may sleep.
        let raw = unsafe { ffi::ovpn_aead_new(c_str(alg), key.as_ptr(), len, false, &mut err) };
        // INVARIANT: fresh from the shim.
        NonNull::new(raw)
            .map(AeadKey)
            .ok_or_else(|| Error::from_errno(err))
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        // SAFETY: Ours alone by the invariant; keys are released where sleeping is allowed.
        unsafe { ffi::ovpn_aead_free(self.0.as_ptr()) };
    }
}

/// An AEAD of the crypto API, synchronous.
pub(crate) struct Aead {
    seal: (AeadKey, NonceTail),
    open: (AeadKey, NonceTail),
}

// SAFETY: The shim's object is immutable but for its per-CPU requests, which it guards itself.
unsafe impl Send for Aead {}
// SAFETY: As above.
unsafe impl Sync for Aead {}

impl Aead {
    /// The errno of the crypto API when `alg` is not there or refuses the key. May sleep.
    pub(crate) fn new(
        alg: &CStr,
        seal: (&[u8], NonceTail),
        open: (&[u8], NonceTail),
    ) -> Result<Self> {
        Ok(Aead {
            seal: (AeadKey::new(alg, seal.0)?, seal.1),
            open: (AeadKey::new(alg, open.0)?, open.1),
        })
    }
}

impl Cipher for Aead {
    fn seal(&self, batch: &mut Batch, op: u32, first: PacketId) {
        let (key, tail) = &self.seal;
        // SAFETY: The key object lives by its invariant; the batch is ours.
        unsafe {
            ffi::ovpn_aead_seal(
                key.0.as_ptr(),
                tail.0.as_ptr(),
                batch.as_raw(),
                op,
                first.get(),
            )
        };
    }

    fn open(&self, batch: &mut Batch) {
        let (key, tail) = &self.open;
        // SAFETY: As in `seal`.
        unsafe { ffi::ovpn_aead_open(key.0.as_ptr(), tail.0.as_ptr(), batch.as_raw()) };
    }
}
