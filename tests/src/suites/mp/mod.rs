// SPDX-License-Identifier: GPL-2.0-only
//! A server's data path: which peer a packet is for, which it may come from, and what a crowd of peers costs.

mod crowd;
mod routes;

use crate::tap::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = routes::cases();
    cases.extend(crowd::cases());
    cases
}
