// SPDX-License-Identifier: GPL-2.0-only
//! The library's example: a VPN without daemon and configuration.

use std::time::Duration;

use super::router::{Dir, LATER, SOON};
use crate::lab::{Ns, Pair, Proc, wait_for};
use crate::tap::{During, Outcome};
use crate::{Ctx, check};

/// The example as one side of a tunnel; ready when it says so.
fn side(ns: &Ns, n: u8, file: &str) -> Outcome<Proc> {
    let (own, other) = (Pair::outer(false, n), Pair::outer(false, 3 - n));
    let tunnel = ns
        .cmd(&format!(
            "static_tunnel {file} {n} {own}:1194 {other}:1194 10.9.0.{n}/24"
        ))
        .spawn()?;
    wait_for("the example's tunnel", LATER, || {
        Ok(tunnel.stdout().contains("is up").then_some(()))
    })
    .during(tunnel.stderr())?;
    Ok(tunnel)
}

/// Both sides reach each other, and the interface goes with its program.
pub(super) fn example(_: &Ctx) -> Outcome {
    let dir = Dir::new()?;
    // 80 bytes, a different one in each place.
    let key: String = (' '..='o').collect();
    let file = dir.write("key", &key)?;
    let Pair { a, b } = Pair::new()?;
    let (one, two) = (side(&a, 1, &file)?, side(&b, 2, &file)?);
    for (ns, other) in [(&a, 2), (&b, 1)] {
        let done = ns
            .cmd(&format!("ping -n -q -c 3 -i 0.1 -W 5 10.9.0.{other}"))
            .run(Duration::from_secs(10))?;
        check!(done.status.success(), "{}{}", done.out, done.err);
    }
    drop((one, two));
    wait_for("the end of the interface", SOON, || {
        Ok(a.ifindex("static0")?.is_none().then_some(()))
    })
}
