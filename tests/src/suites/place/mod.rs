// SPDX-License-Identifier: GPL-2.0-only
//! Where things are: peers that move, sockets bound to a device, namespaces of sockets and interfaces, holders.

mod bound;
mod float;
mod hold;
mod leave;
mod netns;

use crate::tap::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = float::cases();
    cases.extend(bound::cases());
    cases.extend(netns::cases());
    cases.extend(hold::cases());
    cases.extend(leave::cases());
    cases
}
