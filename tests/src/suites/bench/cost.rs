// SPDX-License-Identifier: GPL-2.0-only
//! The cost of a packet, counted by the clock of the machine.
//!
//! One thread sends UDP datagrams through a tunnel whose ends share the machine: with one processor all of a packet's
//! way, from `sendmmsg` (or one `sendmsg` with UDP_SEGMENT) to the receiver's queue, runs inside that call, so that its time divided by the number of
//! datagrams is the cost of the way. On an emulator whose clock counts instructions (QEMU's `-icount shift=0,sleep=off`:
//! one nanosecond each) it is a number of instructions that does not depend on the host. The same sends over the bare
//! veth pair tell which part of it is not the driver's.

use super::bursts::{BURST, Bursts, Call};
use crate::lab::{Cipher, Module, Outer, Pair, Tunnel, TunnelSpec};
use crate::tap::{During, Failure, Outcome, Totals};

/// Bytes of payload of the datagrams.
const SIZES: [usize; 3] = [64, 512, 1400];
/// Both ways to send them.
const CALLS: [Call; 2] = [Call::Each, Call::Segments];
/// MTU that the largest of them fit.
const MTU: u32 = 1428;

struct Args {
    module: Module,
    packets: usize,
    /// Nanoseconds an instruction takes, where the clock counts them.
    instruction: Option<u32>,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let (mut module, mut packets, mut instruction) = (None, 2000, None);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--module" => module = Some(value.into()),
            "--packets" => {
                packets = value
                    .parse()
                    .ok()
                    .filter(|n| *n >= BURST)
                    .ok_or(format!("--packets takes a number of at least {BURST}"))?;
            }
            "--instruction" => {
                let ns = value.parse().ok().filter(|n| *n > 0);
                instruction = Some(ns.ok_or("--instruction takes a number of nanoseconds")?);
            }
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(Args {
        module: Module::new(module),
        packets,
        instruction,
    })
}

/// The cost for each size, in nanoseconds.
fn costs(bursts: &Bursts, call: Call, packets: usize) -> Outcome<Vec<f64>> {
    let cost = |size| {
        let taken = bursts.run(size, call, |sent, _| sent >= packets)?;
        Ok(taken.sending.as_nanos() as f64 / taken.datagrams as f64)
    };
    SIZES.map(cost).into_iter().collect()
}

fn print(what: &str, call: Call, unit: f64, costs: &[f64], bare: &[f64]) {
    let what = match call {
        Call::Each => what.to_owned(),
        Call::Segments => format!("{what}, GSO"),
    };
    let cells: String = costs
        .iter()
        .zip(bare)
        .map(|(cost, bare)| format!(" {:>9.0} {:>9.0}", cost / unit, (cost - bare) / unit))
        .collect();
    println!("{what:<26}{cells}");
}

/// Measures and prints.
pub fn run(args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let Args {
        module,
        packets,
        instruction,
    } = parse(args).map_err(Failure::new)?;
    let unit = f64::from(instruction.unwrap_or(1));
    module.reload().during("module")?;
    println!(
        "{} for a datagram from send() to the receiver's queue, sealed and opened on the way, {packets} of each; whole, and without the bare way",
        instruction.map_or("Nanoseconds", |_| "Instructions")
    );
    let heads: String = SIZES
        .iter()
        .map(|size| format!(" {:>19}", format!("{size} B")))
        .collect();
    println!("{:<26}{heads}", "");
    let pair = Pair::new()?;
    let way = Bursts::new(&pair.a, &pair.b, Pair::outer(false, 2))?;
    let mut bare = Vec::new();
    for call in CALLS {
        let costs = costs(&way, call, packets)?;
        print("no tunnel", call, unit, &costs, &costs);
        bare.push((call, costs));
    }
    for cipher in [Cipher::Aes256, Cipher::ChaCha] {
        let tunnel = Tunnel::new(TunnelSpec {
            cipher,
            outer: Outer::V4,
            mtu: Some(MTU),
        })?;
        tunnel.works(5)?;
        let way = Bursts::new(&tunnel.a.ns, &tunnel.b.ns, Tunnel::inner(false, 2))?;
        for (call, bare) in &bare {
            let costs = costs(&way, *call, packets).during(cipher.name())?;
            print(cipher.name(), *call, unit, &costs, bare);
        }
    }
    Ok(Totals::default())
}
