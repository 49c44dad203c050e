// SPDX-License-Identifier: GPL-2.0-or-later
//! Any bytes are read as /etc/config/network, and every fault is a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovpnd::config::Config;
use ovpnd::uci::File;

fuzz_target!(|bytes: &[u8]| {
    let mut config = Config::default();
    config.read_network("network", &File::parse(bytes), &|_| {
        Err("is not there".into())
    });
    let (faults, warnings) = config.all_problems();
    for problem in faults.into_iter().chain(warnings) {
        assert!(!problem.message.is_empty());
    }
});
