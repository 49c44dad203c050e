// SPDX-License-Identifier: GPL-2.0-only
//! Throughput of two modules side by side: measured in turns in one run, so that both see the same machine.

mod bursts;
pub mod cost;
pub mod instructions;
pub mod memory;
mod perf;
pub mod ratio;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use bursts::{BURST, Bursts, Call};

use crate::lab::{Cipher, Flow, Module, Outer, Tunnel, TunnelSpec, iperf};
use crate::tap::{During, Failure, Outcome, Totals};

/// A module and what it is called in the table.
struct Candidate {
    name: String,
    module: Module,
}

impl Candidate {
    /// From `NAME=FILE`.
    fn parse(text: &str) -> Option<Self> {
        let (name, path) = text.split_once('=')?;
        Some(Self {
            name: name.to_owned(),
            module: Module::new(Some(path.into())),
        })
    }
}

struct Args {
    candidates: [Candidate; 2],
    rounds: usize,
    seconds: u32,
    json: Option<PathBuf>,
    /// Parts of the names of the rows to measure; all of them when there are none.
    only: Vec<String>,
}

/// Traffic that is sent through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// This many TCP connections.
    Flows(u32),
    /// UDP datagrams of this many bytes, in bursts of which none is lost.
    Datagrams(usize),
}

impl Load {
    const ALL: [Self; 6] = [
        Self::Flows(1),
        Self::Flows(4),
        Self::Flows(16),
        Self::Datagrams(64),
        Self::Datagrams(512),
        Self::Datagrams(1400),
    ];

    /// MTU of the tunnel: the default, or what the largest datagrams and their headers just fit.
    fn mtu(self) -> Option<u32> {
        matches!(self, Self::Datagrams(_)).then_some(1428)
    }
}

/// One row: a transport, a cipher and a load.
struct Row {
    outer: Outer,
    cipher: Cipher,
    load: Load,
    /// Mbit/s of each candidate, one value a round.
    rates: [Vec<f64>; 2],
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outer = if self.outer.is_tcp() { "TCP" } else { "UDP" };
        let load = match self.load {
            Load::Flows(1) => "TCP, 1 flow".to_owned(),
            Load::Flows(n) => format!("TCP, {n} flows"),
            Load::Datagrams(bytes) => format!("UDP, {bytes} B"),
        };
        f.pad(&format!("{}/{outer}: {load}", self.cipher.name()))
    }
}

/// Options of every measurement that compares two modules.
struct Comparison {
    candidates: [Candidate; 2],
    rounds: usize,
    seconds: u32,
    only: Vec<String>,
}

impl Comparison {
    /// Reads them; `own` takes an option of the measurement itself and tells whether it knows it.
    fn parse(
        mut args: impl Iterator<Item = String>,
        mut seconds: u32,
        mut own: impl FnMut(&str, &str) -> bool,
    ) -> Result<Self, String> {
        let (mut a, mut b, mut rounds, mut only) = (None, None, 5, Vec::new());
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(format!("{arg} needs a value"))?;
            let number = || {
                value
                    .parse::<u32>()
                    .map_err(|_| format!("{arg}: {value} is not a number"))
            };
            let candidate = || Candidate::parse(&value).ok_or(format!("{arg} wants NAME=FILE"));
            match arg.as_str() {
                "--a" => a = Some(candidate()?),
                "--b" => b = Some(candidate()?),
                "--rounds" => rounds = number()?.max(1) as usize,
                "--seconds" => seconds = number()?.max(1),
                "--only" => only.push(value),
                _ if own(&arg, &value) => {}
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        Ok(Self {
            candidates: [a.ok_or("--a is missing")?, b.ok_or("--b is missing")?],
            rounds,
            seconds,
            only,
        })
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut json = None;
    let common = Comparison::parse(args, 2, |option, value| {
        let known = option == "--json";
        if known {
            json = Some(PathBuf::from(value));
        }
        known
    })?;
    Ok(Args {
        candidates: common.candidates,
        rounds: common.rounds,
        seconds: common.seconds,
        json,
        only: common.only,
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

fn measure(row: &Row, seconds: u32) -> Outcome<f64> {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher: row.cipher,
        outer: row.outer,
        mtu: row.load.mtu(),
    })?;
    // The first packets resolve addresses and warm caches.
    tunnel.works(5)?;
    let to = Tunnel::inner(false, 2);
    match row.load {
        Load::Flows(streams) => {
            let flow = Flow {
                streams,
                block: 128,
                ..Flow::tcp(to, seconds)
            };
            Ok(iperf(&flow, &tunnel.b.ns, &tunnel.a.ns)?.mbit)
        }
        Load::Datagrams(bytes) => {
            let time = Duration::from_secs(seconds.into());
            let bursts = Bursts::new(&tunnel.a.ns, &tunnel.b.ns, to)?;
            let taken = bursts.run(bytes, Call::Each, |_, whole| whole >= time)?;
            let bits = 8.0 * bytes as f64 * taken.datagrams as f64;
            Ok(bits / taken.whole.as_secs_f64() / 1e6)
        }
    }
}

/// Every row that is asked for.
fn rows(only: &[String]) -> Vec<Row> {
    let outers = [Outer::V4, Outer::Tcp4].into_iter();
    let mut rows: Vec<Row> = outers
        .flat_map(|outer| [Cipher::Aes256, Cipher::ChaCha].map(|cipher| (outer, cipher)))
        .flat_map(|(outer, cipher)| {
            Load::ALL.map(|load| Row {
                outer,
                cipher,
                load,
                rates: [Vec::new(), Vec::new()],
            })
        })
        .collect();
    rows.retain(|row| only.is_empty() || only.iter().any(|o| row.to_string().contains(o.as_str())));
    rows
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
        only,
    } = parse(args).map_err(Failure::new)?;
    let mut rows = rows(&only);
    let (machine, [a, b]) = (machine(), &candidates);
    println!(
        "{machine}; {seconds} s, {rounds} rounds in turns, both ends on this machine; TCP by iperf3, UDP in bursts of {BURST}, none lost; Mbit/s received: median (range); ratio: median of the rounds"
    );
    let total = rows.len();
    for round in 1..=rounds {
        for (at, row) in rows.iter_mut().enumerate() {
            let mut order = [0, 1];
            // Neither is always the one that comes second.
            if round % 2 == 0 {
                order.reverse();
            }
            for which in order {
                let Some(candidate) = candidates.get(which) else {
                    continue;
                };
                candidate.module.reload().during(&candidate.name)?;
                let mbit = measure(row, seconds).during(format!("{row}, {}", candidate.name))?;
                println!(
                    "round {round}, {}/{total}: {row}, {}: {mbit:.0}",
                    at + 1,
                    candidate.name
                );
                if let Some(rates) = row.rates.get_mut(which) {
                    rates.push(mbit);
                }
            }
        }
    }
    println!(
        "\n{:<40} {:>20} {:>20} {:>7}",
        "cipher/transport: load", a.name, b.name, "ratio"
    );
    let mut table = Vec::new();
    for row in &rows {
        let [rates_a, rates_b] = &row.rates;
        // Of each round by itself: what disturbs the machine for longer than a round disturbs both.
        let ratios: Vec<f64> = rates_a.iter().zip(rates_b).map(|(a, b)| a / b).collect();
        let ratio = median(&ratios);
        println!(
            "{row:<40} {:>20} {:>20} {ratio:>7.2}",
            range(rates_a),
            range(rates_b)
        );
        table.push(json!({
            "row": row.to_string(), "ratio": ratio, "ratios": ratios,
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
