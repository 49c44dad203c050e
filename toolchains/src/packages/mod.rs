// SPDX-License-Identifier: GPL-2.0-only
//! OpenWrt packages of what is built here.

pub mod recipe;

use crate::ctx::Ctx;
use crate::tally::Tally;
use anyhow::Result;

/// Reads every recipe as far as it goes without OpenWrt.
pub fn recipes(ctx: &Ctx) -> Result<Tally> {
    let mut tally = Tally::default();
    for name in recipe::ALL {
        let faults = match recipe::read(ctx, name, "dump", &[]) {
            Ok(packages) => recipe::faults(name, &packages, env!("CARGO_PKG_VERSION")),
            Err(err) => vec![format!("{err:#}")],
        };
        tally += match faults.is_empty() {
            true => Tally::pass(),
            false => Tally::fail(faults.join("; ")),
        };
    }
    Ok(tally)
}
