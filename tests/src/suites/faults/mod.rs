// SPDX-License-Identifier: GPL-2.0-only
//! Faults around the driver, provoked on purpose: hostile peers, nonsense by netlink, memory that runs out, the module
//! taken away. Meant for a kernel that notices what must not happen (`debug.config`).

mod cycles;
mod hostile;
mod memory;
mod netlink;
mod spec;
mod stream;
mod syzlang;
mod tcp;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::lab::{Echo, KernelLog, Module, Ns, PingStats};
use crate::tap::{Case, Failure, Outcome};
use crate::{Ctx, check, note};

use super::leak;

/// xorshift64 (G. Marsaglia, 2003): what a seed yields can be had again.
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    pub(super) fn next(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state
    }

    /// A number under `limit`, which is not 0.
    pub(super) fn below(&self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn bytes(&self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 24) as u8).collect()
    }

    pub(super) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// Prints a figure for the table in which the harness puts both drivers beside each other.
pub(super) fn figure(name: &str, value: impl std::fmt::Display) {
    note!("figure {name} = {value}");
}

/// How many rounds of `all` are run: on mainline's driver, which is there for comparison, one in ten.
pub(super) fn rounds(all: usize) -> usize {
    match Module::ours() {
        true => all,
        false => all / 10,
    }
}

/// Echo requests to `dst` while the body runs, each answer waited for.
pub(super) fn pinged_while<T>(
    dst: IpAddr,
    ns: &Ns,
    body: impl FnOnce() -> Outcome<T>,
) -> Outcome<(Outcome<T>, PingStats)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| -> Outcome<PingStats> {
            let mut sum = PingStats {
                sent: 0,
                received: 0,
                unread: 0,
            };
            while !stop.load(Ordering::Relaxed) {
                let some = Echo::new(dst, 50).interval(2).run(ns)?;
                sum.sent += some.sent;
                sum.received += some.received;
                sum.unread += some.unread;
            }
            Ok(sum)
        });
        let outcome = body();
        stop.store(true, Ordering::Relaxed);
        let pinged = pings.join();
        let pinged = pinged.map_err(|_| Failure::new("the sender of echo requests panicked"))?;
        Ok((outcome, pinged?))
    })
}

/// A case after which the kernel must not have complained.
fn case(name: &'static str, body: fn(&Ctx) -> Outcome) -> Case {
    Case::new(name, move |ctx| {
        // Memory lost before the first case is not its fault.
        static CLEAR: Once = Once::new();
        CLEAR.call_once(|| {
            // Without a detector, the case that asks for leaks says so.
            let _ = leak::command("scan").and_then(|()| leak::command("clear"));
        });
        let mut log = KernelLog::from_now()?;
        let outcome = body(ctx);
        let trouble: Vec<String> = log
            .drain()?
            .into_iter()
            .filter(|l| kernel_log::is_trouble(l))
            .collect();
        figure(&format!("{name}: complaints of the kernel"), trouble.len());
        outcome?;
        check!(trouble.is_empty(), "{}", trouble.join("\n"));
        Ok(())
    })
}

/// Nothing of what the cases before have allocated is lost. Last, and once: a scan takes as long as some of them.
fn leaks(_: &Ctx) -> Outcome {
    leak::command("scan")?;
    let report = leak::scan()?;
    let leaks = report.matches("unreferenced object").count();
    figure("leaks after all of it", leaks);
    check!(leaks == 0, "{report}");
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("hostile peer, UDP", hostile::udp),
        case("hostile peers, TCP", stream::tcp),
        Case::new("syzlang", syzlang::complete),
        case("netlink fuzz", netlink::fuzz),
        case("no memory for requests", memory::requests),
        case("no memory for packets", memory::packets),
        case("no memory for one packet", memory::exactly),
        case("no memory for one packet that comes in", memory::exactly_in),
        case("load, traffic, unload", cycles::cycles),
        Case::new("leaks", leaks),
    ]
}
