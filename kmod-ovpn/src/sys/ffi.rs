// SPDX-License-Identifier: GPL-2.0
//! The bindings that bindgen makes of `shim/shim.h`.
#![allow(
    clippy::all,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

include!(env!("OVPN_SHIM_BINDINGS"));

/// A string as C wants it. `char` is signed for clang on some targets and never in the kernel:
/// the pointer's type is what the bindings have.
pub(super) fn c_str(text: &core::ffi::CStr) -> *const core::ffi::c_char {
    text.to_bytes_with_nul().as_ptr().cast()
}
