// SPDX-License-Identifier: GPL-2.0-only
//! P2P tunnels over UDP: traffic, the wire format, keys, lifetimes, hostile packets.

mod early;
mod hostile;
mod keys;
mod life;
mod replay;
mod traffic;
mod wire_format;

use crate::tap::Case;

pub use life::{busy, tcp_cases};

/// The cases in which something is changed or deleted while packets are under way.
pub fn cases_under_load() -> Vec<Case> {
    let mut cases = keys::cases();
    cases.extend(life::cases());
    cases.retain(|case| {
        ["keys:", "traffic"]
            .iter()
            .any(|part| case.name.contains(part))
    });
    cases
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = wire_format::cases();
    cases.extend(traffic::cases());
    cases.extend(keys::cases());
    cases.extend(early::cases());
    cases.extend(hostile::cases());
    cases.extend(replay::cases());
    cases.extend(life::cases());
    cases
}
