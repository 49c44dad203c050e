// SPDX-License-Identifier: GPL-2.0-only
use crate::tap::{Outcome,Totals};
pub fn run(_: impl Iterator<Item=String>) -> Outcome<Totals> { Ok(Totals::default()) }
