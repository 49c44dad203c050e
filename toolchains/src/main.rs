// SPDX-License-Identifier: GPL-2.0-only
//! `lane`: fetches, builds and tests every lane; the harness behind `make`.
#![forbid(unsafe_code)]

mod apt;
mod arm;
mod checks;
mod cli;
mod cmd;
mod ctx;
mod documents;
mod english;
mod faults;
mod fetch;
mod guest;
mod kbuild;
mod kernel;
mod lanes;
mod layers;
mod lock;
mod luci;
mod mips;
mod musl;
mod mutants;
mod mutate;
mod packages;
mod pins;
mod plan;
mod root;
mod selftests;
mod simd;
mod small;
mod stamp;
mod steps;
mod stock;
mod style;
mod successor;
mod tally;
mod tree;
mod ui;
mod um;

use crate::cli::RunArgs;
use crate::ctx::Ctx;
use crate::tally::Tally;
use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

const USAGE: &str = "\
lane VERB [ARGUMENT]...
  test               everything; the last line is the sum
  test-lanes         the emulated routers of every processor and kernel
  test-fast          unit tests and the fast suites in user-mode Linux
  bench [ARGUMENT].. our driver against the mainline one, in user-mode Linux
  demo               two emulated ARM routers and a tunnel between them
  run [..] LANE -- COMMAND [ARGUMENT]..
                     a command in a guest (`lane run` alone lists its options)
  selftests          the kernel's own selftests on every lane, as one table
  luci [CASE]        the web pages in a browser, against a router in a guest
  faults             hostile peers, fuzzing, failing allocations: both drivers on the kernel that notices faults
  check              what to run before a commit: formatting, lints, unit tests, the kernel's style
  check NAME         one of workspace, checkpatch, module, unit, loom, fuzz, libuci, recipes, pages, pins, big-endian
  fetch              every source of sources.lock
  pins [--update]    pinned packages, and the newest that their suites have; writes these to sources.lock
  host-deps          missing packages of this machine
  kernel LANE        a lane's kernel and modules
  module LANE        ovpn.ko for it
  disassembly LANE   what the machine code of a MIPS lane's module must be like
  root NAME          a guest's root file system
  older              OpenVPN of older releases, for user-mode guests
  packages [LANE]..  the packages of all routers, or of some
  pack LANE          the packages of a lane that is built already, and their sizes
  index DIR          a signed packages.adb of the .apk files in a directory
  programs LANE      the programs its guests run
  mutate [--quick | --unit] [--most N] [FILE]..
                     small faults in the driver, one at a time: which does no test notice? (N of them, 30 if not said)
  system LANE [SUITE CASE..]..
                     the emulated routers' tests on that lane, or only these suites there
  cost LANE [ARG]..  instructions a packet costs there, compared with the kernel's own drivers where it has them
  cost LANE --keep   the same, as the figures that later ones are compared with
  cost-gate LANE     fails if a packet costs over 5 % more there than was kept
  memory LANE        what module and daemon take there with 1 and with 100 peers";

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    if program.ends_with(guest::INIT) {
        guest::init();
    }
    end_children_on_signals();
    let args: Vec<_> = args.collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("lane: {err:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    let Some((verb, rest)) = words.split_first() else {
        bail!("{USAGE}")
    };
    let ctx = Ctx::new()?;
    match (*verb, rest) {
        ("test", []) => steps::test(&ctx).map(|tally| total(&ctx, &tally)),
        ("test-lanes", []) => lanes::test_lanes(&ctx).map(|tally| total(&ctx, &tally)),
        ("test-fast", []) => steps::test_fast(&ctx).map(|tally| total(&ctx, &tally)),
        ("bench", _) => done(steps::bench(&ctx, args.get(1..).unwrap_or_default())),
        ("demo", []) => done(steps::demo(&ctx)),
        ("system", [lane, ..]) => {
            arm::system_test(&ctx, lane, args.get(2..).unwrap_or_default()).map(held)
        }
        ("cost", [lane, ..]) => done(arm::cost(&ctx, lane, args.get(2..).unwrap_or_default())),
        ("cost-gate", [lane]) => arm::cost_gate(&ctx, lane).map(held),
        ("memory", [lane]) => arm::memory(&ctx, lane).map(held),
        ("selftests-on", [lane, scripts @ ..]) => done(arm::selftests(&ctx, lane, scripts)),
        ("selftests", []) => steps::selftests(&ctx).map(|tally| total(&ctx, &tally)),
        ("luci", _) => luci::browser(&ctx, steps::UM, steps::OURS, rest.first().copied())
            .map(|tally| total(&ctx, &tally)),
        ("mutate", words) => done(mutate::run(&ctx, words)),
        ("faults", []) => steps::faults(&ctx).map(|tally| total(&ctx, &tally)),
        ("check", []) => style::before_commit(&ctx).map(|tally| total(&ctx, &tally)),
        ("check", [name]) => checks::one_of(&ctx, name).map(|tally| total(&ctx, &tally)),
        ("run", _) => run(&ctx, args.get(1..).unwrap_or_default()),
        ("fetch", []) => done(fetch::everything(&ctx)),
        ("pins", []) => done(pins::verb(&ctx, false)),
        ("pins", ["--update"]) => done(pins::verb(&ctx, true)),
        ("host-deps", []) => done(fetch::host_deps(&ctx)),
        ("kernel", [lane]) => done(kernel::build(&ctx, lane)),
        ("module", [lane]) => done(kernel::module(&ctx, lane).map(drop)),
        ("disassembly", [lane]) => mips::check(&ctx, lane).map(|tally| total(&ctx, &tally)),
        ("root", [name]) => done(root::build(&ctx, name)),
        ("pack", [lane]) => {
            let tally = packages::test(&ctx, lane)?;
            packages::sizes(&ctx, &[lane])?;
            Ok(total(&ctx, &tally))
        }
        ("older", []) => done(root::older(&ctx)),
        ("index", [dir]) => done(packages::sign(&ctx, Path::new(dir))),
        ("packages", lanes) => lanes::packages(&ctx, lanes).map(|tally| total(&ctx, &tally)),
        ("programs", [lane]) => done(steps::programs(&ctx, lane)),
        _ => bail!("{USAGE}"),
    }
}

fn held(all: bool) -> ExitCode {
    match all {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// The last line, alone; only a run in which every case ran and held is a success.
fn total(ctx: &Ctx, tally: &Tally) -> ExitCode {
    for note in pins::notes(ctx) {
        println!("{note}");
    }
    println!("{}", tally.line());
    if tally.is_clean() && tally.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(ctx: &Ctx, args: &[String]) -> Result<ExitCode> {
    let args = RunArgs::parse(args)?;
    let mut guest = um::Guest::new(ctx, &args.lane, args.command)?;
    guest.mounts.extend(args.mounts);
    guest.args = args.append;
    guest.mem = args.mem;
    guest.cpus = args.cpus;
    guest.timeout = args.timeout;
    let outcome = guest.run(ctx, |line| println!("{line}"))?;
    eprintln!(
        "lane: {} in the guest; kernel log: {}",
        ui::clock(outcome.elapsed),
        outcome.dmesg_path.display()
    );
    Ok(ExitCode::from(u8::try_from(outcome.code()?).unwrap_or(1)))
}

/// Programs run in process groups of their own, which the terminal's signals do not reach.
fn end_children_on_signals() {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Before any other thread exists, so that all inherit it; std gives children an empty mask.
    if signals.thread_block().is_ok() {
        thread::spawn(move || {
            if let Ok(signal) = signals.wait() {
                cmd::kill_all();
                std::process::exit(128 + signal as i32);
            }
        });
    }
}
