// SPDX-License-Identifier: GPL-2.0-only
//! OpenVPN 2.7 on the driver.
//!
//! | file | what |
//! |---|---|
//! | `p2p` | two ends, TLS mode without a server |
//! | `plain` | cipher none |
//! | `table` | servers and clients as data |
//! | `net`, `relay` | their network: namespaces, networks behind clients, NATs before them |
//! | `daemon`, `vpn`, `pki` | processes, a server with all its clients, certificates |
//! | `traffic`, `events`, `renegotiation` | the cases |
//! | `control` | management interface and status files |

mod control;
pub(super) mod daemon;
mod events;
mod net;
mod p2p;
pub(super) mod pki;
mod plain;
mod relay;
mod renegotiation;
mod table;
mod traffic;
mod vpn;

use crate::tap::Case;
use table::Spec;
use vpn::Shared;

pub use p2p::cases;

/// Sessions, traffic, events, end.
fn whole(spec: &'static Spec) -> Vec<Case> {
    let shared = Shared::new(spec);
    let mut cases = traffic::cases(&shared, spec);
    cases.extend(events::cases(&shared, spec));
    cases.push(events::last(&shared));
    cases
}

/// One server with 20 clients: everything mixed.
pub fn cases_matrix() -> Vec<Case> {
    whole(&table::MATRIX)
}

/// Client mode, UDP and TCP, against a server without the driver.
pub fn cases_clients() -> Vec<Case> {
    whole(&table::CLIENTS)
}

/// The 20 clients again, renegotiating all the time.
pub fn cases_renegotiation() -> Vec<Case> {
    let shared = Shared::new(&table::RENEGOTIATING);
    let mut cases = renegotiation::cases(&shared);
    cases.push(events::last(&shared));
    cases
}
