// SPDX-License-Identifier: GPL-2.0
//! What bindgen made of `shim/shim.h`.
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
