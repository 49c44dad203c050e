// SPDX-License-Identifier: GPL-2.0-or-later
//! A broker may send anything in any pieces: the daemon leaves it or serves it.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use ovpnd::ubus::{Bus, Reply, Status};

fuzz_target!(|pieces: Vec<&[u8]>| {
    let Ok((mut broker, stream)) = UnixStream::pair() else {
        return;
    };
    if broker.set_nonblocking(true).is_err() || stream.set_nonblocking(true).is_err() {
        return;
    }
    let now = Instant::now();
    let mut bus = Bus::on(stream, now);
    for piece in pieces {
        let _ = broker.write(piece);
        for call in bus.serve(now) {
            let reply = Reply {
                status: Status::Ok,
                data: call.args.map(Into::into),
            };
            bus.reply(call.from, &reply, now);
        }
    }
    bus.notify("peer.up", &Default::default(), now);
});
