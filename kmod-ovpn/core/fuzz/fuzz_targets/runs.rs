// SPDX-License-Identifier: GPL-2.0
//! Packets of any lengths: each run is one that the kernel can cut again, and as long as it can be.
#![no_main]

#[path = "../../tests/unit/runs_model.rs"]
mod runs_model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|lens: Vec<u32>| {
    runs_model::check(&lens);
});
