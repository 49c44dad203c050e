// SPDX-License-Identifier: GPL-2.0-or-later
//! Any text is read as libuci reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    ovpnd_fuzz::compare(text);
});
