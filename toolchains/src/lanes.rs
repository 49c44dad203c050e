// SPDX-License-Identifier: GPL-2.0-only
//! The lanes with emulated routers: what is built for each, and what is tested on it.

use crate::checks;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::kernel;
use crate::lock::Lane;
use crate::mips;
use crate::musl;
use crate::packages;
use crate::plan::{BOTH, HALF, ONE, Plan};
use crate::selftests::{self, Column, Reader, Table};
use crate::steps;
use crate::tally::{Tally, Tap};
use crate::ui;
use anyhow::Result;
use std::fs;
use std::process::ExitStatus;
use std::time::Duration;

/// Beside that one: a representative of every other processor, and of kernels built by others.
///
/// The second kernels of a processor, `arm64-6.12` and `armhf-debian`, are in `make test-lanes`.
pub const ROUTERS: [&str; 2] = ["mips-6.12", ARM64_TODAY];
/// Beside [`steps::ARM`], the instructions of a packet are compared there. On QEMU's Malta with a clock that counts they
/// were not there after 8 minutes.
const ARM64_TODAY: &str = "arm64-debian";
/// All that have emulated routers.
const ALL_ROUTERS: [&str; 8] = [
    steps::ARM,
    "mips-6.12",
    "mipsel-6.12",
    "arm64-6.12",
    "arm64-debian",
    "arm64-debian-rt",
    NEW,
    "armhf-debian",
];
/// The newest kernel that Debian built, with the drivers that ours is compared with.
pub const NEW: &str = "arm64-debian-7.3";
/// One of each processor with a kernel like OpenWrt's: memory is measured there.
const MEASURED: [&str; 4] = [steps::ARM, "mips-6.12", "mipsel-6.12", ARM64];
const ARM64: &str = "arm64-6.12";
/// The kernel's own selftests on emulated machines. Debian has no userland for MIPS.
pub const EMULATED_ARM: Column = emulated(steps::ARM);
const EMULATED: [Column; 2] = [EMULATED_ARM, emulated(ARM64)];
const TIMEOUT: Duration = Duration::from_secs(25 * 60);

/// The emulated routers of every processor and every kernel, and what else is about processors.
pub fn test_lanes(ctx: &Ctx) -> Result<Tally> {
    let table = Table::default();
    let mut plan = Plan::default();
    steps::host(ctx, &mut plan);
    plan.prepare("arm source", &["host packages"], ONE, || {
        fetch::unpack(ctx, "linux-source-6.12").map(drop)
    });
    for lane in ALL_ROUTERS {
        build(ctx, &mut plan, lane);
    }
    for lane in ALL_ROUTERS {
        test(ctx, &mut plan, lane);
    }
    for column in &EMULATED {
        let packages = format!("{} packages", column.lane);
        selftest_steps(ctx, &mut plan, &table, column, &packages);
    }
    for lane in MEASURED {
        let packages = format!("{lane} packages");
        plan.step(&format!("{lane} memory"), &[&packages], ONE, move || {
            memory(ctx, lane)
        });
    }
    plan.step("big-endian", &["rust tools"], ONE, || {
        checks::big_endian(ctx)
    });
    steps::um_lane(ctx, &mut plan);
    steps::um_new_lane(ctx, &mut plan);
    let long = steps::LONG_SUITE;
    plan.step(&format!("um {long}"), &steps::UM_READY, HALF, move || {
        steps::suite(ctx, steps::UM, long, &[])
    });
    steps::older_openvpn(ctx, &mut plan);
    let matrix = steps::MATRIX_SUITE;
    let ready = &steps::RELEASES_READY;
    plan.step(&format!("um {matrix}"), ready, HALF, move || {
        steps::suite(ctx, steps::UM, matrix, &[])
    });
    let sum = plan.run()?;
    show_table(ctx, &table, &EMULATED)?;
    Ok(sum)
}

const fn emulated(lane: &'static str) -> Column {
    Column {
        title: lane,
        lane,
        module: None,
        ours: true,
    }
}

/// The kernel's own selftests on the emulated machine of a column, after its lane's packages.
pub fn selftest_steps<'a>(
    ctx: &'a Ctx,
    plan: &mut Plan<'a>,
    table: &'a Table,
    column: &'a Column,
    packages: &str,
) {
    let root = format!("{} selftests root", column.lane);
    // A root of its own, after the one that the lane's packages are tested in: both share a package manager's state.
    plan.prepare(&root, &[packages], ONE, move || {
        crate::arm::selftests_root(ctx, column.lane)
    });
    let name = format!("{} selftests", column.lane);
    plan.step(&name, &[packages, &root], ONE, move || {
        selftests(ctx, table, column)
    });
}

/// The packages of every lane with routers, or of those named, and their sizes.
pub fn packages(ctx: &Ctx, lanes: &[&str]) -> Result<Tally> {
    // A kernel that somebody else built has packages of its distribution.
    let offered = |l: &&Lane| l.package_arch.is_some() && !l.config.is_empty();
    let all = ctx.lock.lanes.iter().filter(offered);
    let all: Vec<_> = all.map(|l| l.name.as_str()).collect();
    let lanes = if lanes.is_empty() { &all } else { lanes };
    let mut plan = Plan::default();
    steps::host(ctx, &mut plan);
    plan.prepare("source", &["host packages"], ONE, || {
        fetch::unpack(ctx, "linux-source-6.12").map(drop)
    });
    for lane in lanes.iter().copied() {
        let step = |what: &str| format!("{lane} {what}");
        plan.prepare(&step("kernel"), &["source"], BOTH, move || {
            kernel::build(ctx, lane)
        });
        plan.step(
            &step("module"),
            &[&step("kernel"), "rust tools"],
            BOTH,
            move || kernel::module(ctx, lane).map(|_| Tally::pass()),
        );
        plan.prepare(&step("programs"), &["rust tools"], BOTH, move || {
            musl::build(ctx, lane)
        });
        plan.step(
            &step("packages"),
            &[&step("module"), &step("programs")],
            ONE,
            move || packages::test(ctx, lane),
        );
    }
    let tally = plan.run()?;
    if tally.is_clean() {
        packages::sizes(ctx, lanes)?;
    }
    Ok(tally)
}

/// Builds a lane. Lanes with one root or one set of programs find it made.
pub fn build<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>, lane: &'a str) {
    let step = |what: &str| format!("{lane} {what}");
    let [kernel, module] = [step("kernel"), step("module")];
    let [programs, packages] = [step("programs"), step("packages")];
    plan.prepare(&kernel, &["arm source"], BOTH, move || {
        kernel::build(ctx, lane)
    });
    plan.step(&module, &[&kernel, "rust tools"], BOTH, move || {
        kernel::module(ctx, lane)?;
        match ctx.lock.lane(lane)?.arch.as_str() {
            "mips" => mips::check(ctx, lane),
            _ => Ok(Tally::pass()),
        }
    });
    plan.prepare(&programs, &["rust tools"], BOTH, move || {
        steps::programs(ctx, lane)
    });
    plan.step(&packages, &[&module, &programs], ONE, move || {
        packages::test(ctx, lane)
    });
}

/// Tests the routers of a lane that [`build`] built.
pub fn test<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>, lane: &'a str) {
    let packages = format!("{lane} packages");
    plan.step(&format!("{lane} system"), &[&packages], ONE, move || {
        system(ctx, lane)
    });
    if lane == ARM64_TODAY {
        plan.step(&format!("{lane} cost"), &[&packages], ONE, move || {
            cost(ctx, lane)
        });
    }
}

/// Runs the emulated routers' tests.
pub fn system(ctx: &Ctx, lane: &str) -> Result<Tally> {
    apart(ctx, ["system", lane])
}

/// Compares the instructions that a packet costs with those kept.
pub fn cost(ctx: &Ctx, lane: &str) -> Result<Tally> {
    apart(ctx, ["cost-gate", lane])
}

/// Measures what module and daemon take in memory.
fn memory(ctx: &Ctx, lane: &str) -> Result<Tally> {
    apart(ctx, ["memory", lane])
}

fn apart(ctx: &Ctx, verb: [&str; 2]) -> Result<Tally> {
    let mut tap = Tap::default();
    let status = process(ctx, verb, &[], |line| tap.line(line))?;
    Ok(judged(tap.finish(), verb, status))
}

/// Runs a verb that emulates machines in a process of its own, which can be killed as a whole.
fn process(
    ctx: &Ctx,
    verb: [&str; 2],
    more: &[String],
    mut each: impl FnMut(&str),
) -> Result<ExitStatus> {
    Cmd::new(ctx, std::env::current_exe()?)
        .args(verb)
        .args(more)
        .timeout(TIMEOUT)
        .status_with(|line| {
            each(line);
            ui::say(line);
        })
}

/// A process that fails has a reason, reported or not.
fn judged(mut tally: Tally, verb: [&str; 2], status: ExitStatus) -> Tally {
    if !status.success() && tally.is_clean() {
        tally += Tally::fail(format!(
            "{}: {status}, although nothing was reported",
            verb.join(" ")
        ));
    }
    tally
}

/// Runs the kernel's own selftests on the emulated machine of a column, in a process of its own.
pub fn selftests(ctx: &Ctx, table: &Table, column: &Column) -> Result<Tally> {
    let mut reader = Reader::new(table, column);
    let verb = ["selftests-on", column.lane];
    let scripts = selftests::scripts(ctx)?;
    let status = process(ctx, verb, &scripts, |line| reader.line(line))?;
    let mut tally = judged(reader.finish(), verb, status);
    tally += selftests::all_stages(ctx, table, column)?;
    Ok(tally)
}

/// Prints the table, and keeps it beside the logs.
pub fn show_table(ctx: &Ctx, table: &Table, columns: &[Column]) -> Result<()> {
    let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
    let text = table.text(&titles);
    fs::create_dir_all(ctx.logs())?;
    fs::write(ctx.logs().join("selftests.txt"), format!("{text}\n"))?;
    ui::say_as("", &format!("\nthe kernel's own selftests\n{text}\n"));
    Ok(())
}
