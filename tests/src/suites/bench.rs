// SPDX-License-Identifier: GPL-2.0-only
//! Throughput of two modules side by side: measured in turns in one run, so that both see the same machine.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::lab::{Cipher, Flow, Module, Tunnel, TunnelSpec, iperf};
use crate::tap::{During, Failure, Outcome, Totals};

/// A module and what it is called in the table.
struct Candidate {
    name: String,
    module: Module,
}

struct Args {
    candidates: [Candidate; 2],
    rounds: usize,
    seconds: u32,
    json: Option<PathBuf>,
}

/// One row: a cipher and a number of flows.
struct Row {
    cipher: Cipher,
    streams: u32,
    /// Mbit/s of each candidate, one value a round.
    rates: [Vec<f64>; 2],
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let (mut a, mut b, mut rounds, mut seconds, mut json) = (None, None, 5, 2, None);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        let number = || {
            value
                .parse::<u32>()
                .map_err(|_| format!("{arg}: {value} is not a number"))
        };
        let candidate = || {
            let (name, path) = value
                .split_once('=')
                .ok_or(format!("{arg} wants NAME=FILE"))?;
            Ok::<_, String>(Candidate {
                name: name.to_owned(),
                module: Module::new(Some(path.into())),
            })
        };
        match arg.as_str() {
            "--a" => a = Some(candidate()?),
            "--b" => b = Some(candidate()?),
            "--rounds" => rounds = number()?.max(1) as usize,
            "--seconds" => seconds = number()?.max(1),
            "--json" => json = Some(PathBuf::from(&value)),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    let candidates = [a.ok_or("--a is missing")?, b.ok_or("--b is missing")?];
    Ok(Args {
        candidates,
        rounds,
        seconds,
        json,
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
    }
}

fn range(values: &[f64]) -> String {
    let (min, max) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    format!("{:.0} ({min:.0}-{max:.0})", median(values))
}

fn measure(cipher: Cipher, streams: u32, seconds: u32) -> Outcome<f64> {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        ..TunnelSpec::default()
    })?;
    // The first packets resolve addresses and warm caches.
    tunnel.works(5)?;
    let flow = Flow {
        streams,
        ..Flow::tcp(Tunnel::inner(false, 2), seconds)
    };
    Ok(iperf(&flow, &tunnel.b.ns, &tunnel.a.ns)?.mbit)
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        cpuinfo
            .lines()
            .find_map(|l| Some(l.strip_prefix(name)?.split_once(':')?.1.trim().to_owned()))
            .unwrap_or_default()
    };
    let cpus = cpuinfo
        .lines()
        .filter(|l| l.starts_with("processor"))
        .count();
    let model = [field("model name"), field("host"), field("Hardware")]
        .into_iter()
        .find(|m| !m.is_empty());
    format!(
        "Linux {}, {cpus} CPUs, {}",
        read("/proc/sys/kernel/osrelease").trim(),
        model.unwrap_or_default()
    )
}

/// Runs the whole comparison and prints it.
pub fn run(args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let Args {
        candidates,
        rounds,
        seconds,
        json,
    } = parse(args).map_err(Failure::new)?;
    let mut rows: Vec<Row> = [Cipher::Aes256, Cipher::ChaCha]
        .into_iter()
        .flat_map(|cipher| {
            [1, 4].map(|streams| Row {
                cipher,
                streams,
                rates: [Vec::new(), Vec::new()],
            })
        })
        .collect();
    let (machine, [a, b]) = (machine(), &candidates);
    println!(
        "{machine}; iperf3 TCP, {seconds} s, {rounds} rounds in turns, both ends on this machine; Mbit/s: median (range); ratio: median of the rounds"
    );
    for round in 1..=rounds {
        for row in &mut rows {
            let mut pairs: Vec<_> = candidates.iter().zip(&mut row.rates).collect();
            // Neither is always the one that comes second.
            if round % 2 == 0 {
                pairs.reverse();
            }
            for (candidate, rates) in pairs {
                candidate.module.reload().during(&candidate.name)?;
                let mbit = measure(row.cipher, row.streams, seconds).during(&candidate.name)?;
                println!(
                    "round {round}: {}, {} flows, {}: {mbit:.0}",
                    row.cipher.name(),
                    row.streams,
                    candidate.name
                );
                rates.push(mbit);
            }
        }
    }
    println!(
        "\n{:<18} {:>5} {:>20} {:>20} {:>7}",
        "cipher", "flows", a.name, b.name, "ratio"
    );
    let mut table = Vec::new();
    for Row {
        cipher,
        streams,
        rates: [rates_a, rates_b],
    } in &rows
    {
        // Of each round by itself: what disturbs the machine for longer than a round disturbs both.
        let ratios: Vec<f64> = rates_a.iter().zip(rates_b).map(|(a, b)| a / b).collect();
        let ratio = median(&ratios);
        println!(
            "{:<18} {streams:>5} {:>20} {:>20} {ratio:>7.2}",
            cipher.name(),
            range(rates_a),
            range(rates_b)
        );
        table.push(json!({
            "cipher": cipher.name(), "flows": streams, "ratio": ratio, "ratios": ratios,
            "mbit": { &a.name: { "median": median(rates_a), "all": rates_a },
                      &b.name: { "median": median(rates_b), "all": rates_b } },
        }));
    }
    if let Some(path) = json {
        let whole = json!({ "machine": machine, "seconds": seconds, "rounds": rounds, "a": a.name, "b": b.name, "rows": table });
        fs::write(&path, format!("{whole:#}\n")).during(path.display())?;
    }
    Ok(Totals::default())
}
