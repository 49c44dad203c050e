// SPDX-License-Identifier: GPL-2.0-only
//! The module comes and goes, with tunnels and packets in it.

use super::{figure, rounds};
use crate::lab::{Cipher, Echo, Module, Outer, Pair, Ping, Tunnel, TunnelSpec};
use crate::tap::{During, Outcome};
use crate::{Ctx, check, check_eq};

const CYCLES: usize = 200;
const OUTERS: [Outer; 4] = [Outer::V4, Outer::Tcp4, Outer::V6, Outer::Tcp6];

/// Loads, works, unloads, under traffic or after it; gives the namespaces back.
fn cycle(ctx: &Ctx, pair: Pair, n: usize, under_traffic: bool) -> Outcome<Pair> {
    ctx.module.reload()?;
    let spec = TunnelSpec {
        cipher: *Cipher::ALL
            .iter()
            .cycle()
            .nth(n / 8)
            .unwrap_or(&Cipher::ChaCha),
        outer: *OUTERS.iter().cycle().nth(n).unwrap_or(&Outer::V4),
        mtu: None,
    };
    let Tunnel { mut a, mut b, .. } = Tunnel::between(pair, spec)?;
    Echo::new(Tunnel::inner(false, 2), 5)
        .interval(1)
        .lossless(&a.ns)?;
    let pings = match under_traffic {
        true => Some(
            Ping::new(Tunnel::inner(false, 2), 100_000)
                .interval(1)
                .spawn(&a.ns)?,
        ),
        false => {
            a.close();
            b.close();
            None
        }
    };
    Module::unload()?;
    check_eq!(a.ns.ifindex("tun")?, None, "device");
    check!(!Module::loaded(), "the module is still there");
    drop(pings);
    Ok(Pair { a: a.ns, b: b.ns })
}

pub fn cycles(ctx: &Ctx) -> Outcome {
    let (mut pair, mut busy) = (Pair::new()?, 0);
    let cycles = rounds(CYCLES);
    for n in 0..cycles {
        let under_traffic = (n / 4).is_multiple_of(2);
        pair = cycle(ctx, pair, n, under_traffic).during(format!("cycle {n}"))?;
        busy += u32::from(under_traffic);
    }
    ctx.module.load()?;
    figure(
        "load, traffic, unload: cycles (under traffic)",
        format!("{cycles} ({busy})"),
    );
    Ok(())
}
