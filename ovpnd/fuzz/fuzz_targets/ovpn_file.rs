// SPDX-License-Identifier: GPL-2.0-or-later
//! Any text is linted, and what is found is said in lines.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let said = ovpnd::diag::lint(text);
    for finding in said["findings"].as_array().into_iter().flatten() {
        assert!(
            !finding["text"]
                .as_str()
                .is_none_or(|text| text.contains('\n'))
        );
    }
});
