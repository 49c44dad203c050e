// SPDX-License-Identifier: GPL-2.0-or-later
//! Any text of a server or a client is read, in parts and as changes of other texts, and a refusal is a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openvpn_control::messages::{FromServer, push_replies, push_updates};
use openvpn_control::peerinfo::PeerInfo;
use openvpn_control::push::{Filter, Options, Pushed};

fuzz_target!(|texts: Vec<&str>| {
    let filter = Filter::default();
    let mut pushed = Pushed::default();
    for text in &texts {
        let _ = FromServer::parse(text);
        let _ = PeerInfo::parse(text).proto();
        match Options::parse(text, &filter) {
            Ok(options) => {
                let _ = options.ipv4();
                pushed = Pushed::new(text);
            }
            Err(why) => assert!(!why.to_string().is_empty()),
        }
        let before = pushed.clone();
        if pushed.update(text, &filter).is_err() {
            assert_eq!(pushed, before, "a refused update changed something");
        }
    }
    let _ = push_replies(texts.iter().copied());
    let _ = push_updates(texts.iter().copied());
});
