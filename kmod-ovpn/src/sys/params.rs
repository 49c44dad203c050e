// SPDX-License-Identifier: GPL-2.0
//! Module parameters.

use core::ffi::c_char;
use core::ptr;

use super::ffi;
use super::genl::bytes;
use crate::proto::cipher::CipherAlg;
use crate::proto::engine::{Preference, MAX_LEN};
use crate::proto::wire::PacketId;

const _: () = assert!(MAX_LEN == ffi::OVPN_PREFERENCE_LEN as usize);

/// A preference as it stood when it was read.
pub(crate) struct PreferenceText {
    text: [u8; MAX_LEN],
    len: usize,
}

impl PreferenceText {
    /// The preference at this moment. May sleep.
    pub(crate) fn of(alg: CipherAlg) -> Self {
        let mut text = [0; MAX_LEN];
        // SAFETY: The buffer has the length that the shim writes at most.
        let len = unsafe { ffi::ovpn_params_preference(alg as u32, text.as_mut_ptr()) } as usize;
        PreferenceText { text, len }
    }

    /// Its words; none if it is not well-formed, which it was when it was set.
    pub(crate) fn get(&self) -> Preference<'_> {
        let text = self.text.get(..self.len).unwrap_or_default();
        Preference::parse(text).unwrap_or_default()
    }
}

/// Whether keys of cipher none are accepted.
pub(crate) fn allow_none() -> bool {
    // SAFETY: May be called anywhere.
    unsafe { ffi::ovpn_params_allow_none() }
}

/// The packet id that a new key sends first.
pub(crate) fn first_packet_id() -> PacketId {
    // SAFETY: May be called anywhere.
    PacketId::new(unsafe { ffi::ovpn_params_first_packet_id() }).unwrap_or(PacketId::FIRST)
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
