// SPDX-License-Identifier: GPL-2.0-only
//! How many times faster one module is than another, where the kernel's ciphers are as fast as the processor's: one TCP
//! flow over UDP, in time on the clock and in time of the processor.

use std::fmt;
use std::fs;

use super::{Candidate, Comparison, median, range};
use crate::lab::{Cipher, Cmd, Flow, Ns, Outer, Tunnel, TunnelSpec, iperf};
use crate::tap::{During, Failure, Outcome, Totals};

/// Nanoseconds that the host's processors have spent on the guest's kernel: see `toolchains/configs/host-cpu.c`.
const HOST_CPU: &str = "/sys/module/host_cpu/parameters/ns";

struct Args {
    candidates: [Candidate; 2],
    rounds: usize,
    seconds: u32,
    /// Commands in the namespaces of both ends, of the first candidate alone.
    tune: Vec<String>,
    only: Vec<String>,
}

/// The link that carries the outer packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Takes many datagrams as one packet.
    Gso,
    /// Takes single packets.
    Single,
    /// Takes single packets, and merges them again where they arrive.
    Merged,
}

impl Link {
    pub(super) const ALL: [Self; 3] = [Self::Gso, Self::Single, Self::Merged];

    /// Makes the veth pair between two namespaces such a link.
    pub(super) fn set_up(self, ends: [&Ns; 2]) -> Outcome {
        if self == Self::Gso {
            return Ok(());
        }
        for ns in ends {
            ns.ip("link set veth gso_max_segs 1")?;
            ns.merge("veth", self == Self::Merged)?;
        }
        Ok(())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gso => "GSO",
            Self::Single => "single packets",
            Self::Merged => "single packets, GRO",
        })
    }
}

/// A row of the table.
struct Row {
    outer: Outer,
    cipher: Cipher,
    link: Link,
    /// All on one CPU.
    pinned: bool,
    /// Of each candidate, one value a round: Mbit/s, and nanoseconds of CPU time a packet.
    mbit: [Vec<f64>; 2],
    cpu: [Vec<f64>; 2],
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, cpus) = (
            if self.outer.is_v6() { "IPv6" } else { "IPv4" },
            if self.pinned { "1 CPU" } else { "2 CPUs" },
        );
        f.pad(&format!(
            "{cpus}, {}, {ip}, {}",
            self.cipher.name(),
            self.link
        ))
    }
}

fn parse(args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut tune = Vec::new();
    let common = Comparison::parse(args, 1, |option, value| {
        let known = option == "--tune";
        if known {
            tune.push(value.to_owned());
        }
        known
    })?;
    Ok(Args {
        candidates: common.candidates,
        rounds: common.rounds,
        seconds: common.seconds,
        tune,
        only: common.only,
    })
}

fn rows(only: &[String]) -> Vec<Row> {
    let mut rows = Vec::new();
    for pinned in [true, false] {
        for cipher in [Cipher::Aes256, Cipher::ChaCha] {
            for outer in Outer::BOTH {
                for link in Link::ALL {
                    rows.push(Row {
                        outer,
                        cipher,
                        link,
                        pinned,
                        mbit: [Vec::new(), Vec::new()],
                        cpu: [Vec::new(), Vec::new()],
                    });
                }
            }
        }
    }
    let fits = |row: &Row, only: &String| {
        let name = row.to_string();
        only.split(" & ").all(|part| name.contains(part))
    };
    rows.retain(|row| only.is_empty() || only.iter().any(|o| fits(row, o)));
    rows
}

/// Lets this process and those that it starts run on the first CPU alone, or on all.
fn pin(first: bool) -> Outcome {
    let mask: u64 = if first { 1 } else { u64::MAX };
    // SAFETY: the mask is as long as is said, and the kernel only reads it.
    let ret = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), (&raw const mask).cast()) };
    match ret {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).during("choosing the CPU"),
    }
}

fn host_cpu() -> Outcome<f64> {
    let text = fs::read_to_string(HOST_CPU).during(HOST_CPU)?;
    text.trim().parse().map_err(Failure::new)
}

/// Mbit/s and nanoseconds of CPU time a packet.
fn measure(row: &Row, seconds: u32, tune: &[String]) -> Outcome<(f64, f64)> {
    pin(row.pinned)?;
    let tunnel = Tunnel::new(TunnelSpec {
        cipher: row.cipher,
        outer: row.outer,
        mtu: None,
    })?;
    row.link.set_up([&tunnel.a.ns, &tunnel.b.ns])?;
    for line in tune {
        for end in [&tunnel.a, &tunnel.b] {
            end.ns.cmd(line).ok()?;
        }
    }
    // The first packets resolve addresses and warm caches.
    tunnel.works(5)?;
    let flow = Flow {
        block: 128,
        ..Flow::tcp(Tunnel::inner(false, 2), seconds)
    };
    let before = (host_cpu()?, tunnel.b.stats()?.vpn_rx_packets);
    let mbit = iperf(&flow, &tunnel.b.ns, &tunnel.a.ns)?.mbit;
    let after = (host_cpu()?, tunnel.b.stats()?.vpn_rx_packets);
    let packets = after.1.saturating_sub(before.1);
    Ok((mbit, (after.0 - before.0) / packets as f64))
}

/// Measures and prints.
pub fn run(args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let args = parse(args).map_err(Failure::new)?;
    for module in ["aesni_intel", "host_cpu"] {
        Cmd::new(None, "modprobe").arg(module).ok()?;
    }
    let mut rows = rows(&args.only);
    let [a, b] = &args.candidates;
    println!(
        "{}; one TCP flow over UDP, {} s, {} rounds in turns, both ends on this machine: median (range) of Mbit/s and of nanoseconds of CPU time a packet, ratios of the medians",
        super::machine(),
        args.seconds,
        args.rounds
    );
    for round in 0..args.rounds {
        for row in &mut rows {
            for turn in 0..2 {
                let which = (turn + round) % 2;
                let Some(candidate) = args.candidates.get(which) else {
                    continue;
                };
                candidate.module.reload().during(&candidate.name)?;
                let tune: &[String] = if which == 0 { &args.tune } else { &[] };
                let (mbit, cpu) = measure(row, args.seconds, tune)
                    .during(format!("{row}, {}", candidate.name))?;
                row.mbit[which].push(mbit);
                row.cpu[which].push(cpu);
            }
        }
    }
    println!(
        "{:<52} {:>22} {:>22} {:>6} {:>20} {:>20} {:>6}",
        "CPUs, cipher, outer protocol, link", a.name, b.name, "wall", a.name, b.name, "CPU"
    );
    for row in &rows {
        let [mbit_a, mbit_b] = &row.mbit;
        let [cpu_a, cpu_b] = &row.cpu;
        println!(
            "{row:<52} {:>22} {:>22} {:>6.2} {:>20} {:>20} {:>6.2}",
            range(mbit_a),
            range(mbit_b),
            median(mbit_a) / median(mbit_b),
            range(cpu_a),
            range(cpu_b),
            median(cpu_b) / median(cpu_a)
        );
    }
    Ok(Totals::default())
}
