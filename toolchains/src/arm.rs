// SPDX-License-Identifier: GPL-2.0-only
//! The border to the emulated routers: what they are given, and what they do.

use crate::ctx::Ctx;
use crate::packages;
use crate::root;
use crate::selftests;
use crate::small;
use anyhow::{Context, Result};
use qemu_arm::{Inputs, Selftests, machine};
use std::fs;
use std::path::PathBuf;

/// Builds the routers' root file system: of Debian's packages, or of the little that is built here.
pub fn root(ctx: &Ctx, lane: &str) -> Result<()> {
    let lane = ctx.lock.lane(lane)?;
    let name = lane.root()?;
    if ctx.lock.root(name).is_ok() {
        return root::build(ctx, name);
    }
    small::build(ctx, lane)
}

/// The userland that the kernel's own selftests want of a lane: more than a router has.
fn selftests_userland(ctx: &Ctx, lane: &str) -> Result<String> {
    Ok(format!("{}-selftests", ctx.lock.lane(lane)?.root()?))
}

/// Builds the root file system for the kernel's own selftests, and their client.
pub fn selftests_root(ctx: &Ctx, lane: &str) -> Result<()> {
    root::build(ctx, &selftests_userland(ctx, lane)?)?;
    selftests_cli(ctx, lane).map(drop)
}

fn selftests_cli(ctx: &Ctx, lane: &str) -> Result<PathBuf> {
    selftests::cross_cli(
        ctx,
        lane,
        &ctx.root(&selftests_userland(ctx, lane)?),
        machine::of_lane(lane)?.multiarch,
    )
}

/// Runs the kernel's own selftests on a lane; the results go to standard output as TAP.
pub fn selftests(ctx: &Ctx, lane: &str, scripts: &[&str]) -> Result<()> {
    let mut inputs = inputs(ctx, lane)?;
    inputs.machine = machine::counted(lane)?;
    inputs.root = ctx.root(&selftests_userland(ctx, lane)?);
    let what = Selftests {
        tree: selftests::stage(ctx)?,
        cli: selftests_cli(ctx, lane)?,
        scripts: scripts.iter().map(|s| (*s).to_owned()).collect(),
    };
    qemu_arm::selftests(&inputs, &what)?;
    Ok(())
}

/// Shows two routers at work.
pub fn demo(ctx: &Ctx, lane: &str) -> Result<()> {
    qemu_arm::demo(&inputs(ctx, lane)?)
}

/// Tests them, or runs `suites` alone, each the arguments of `ovpn-tests`; the results go to standard output as TAP. Says
/// whether all cases held.
pub fn system_test(ctx: &Ctx, lane: &str, suites: &[String]) -> Result<bool> {
    let inputs = inputs(ctx, lane)?;
    let tally = match suites {
        [] => qemu_arm::system_test(&inputs)?,
        suites => qemu_arm::suites_test(&inputs, suites.iter().map(String::as_str))?,
    };
    Ok(tally.failed == 0)
}

/// Prints the instructions a packet costs on a lane; `more` are arguments for what measures them, or `--keep` alone, which
/// makes the table the one that later ones are compared with.
pub fn cost(ctx: &Ctx, lane: &str, more: &[String]) -> Result<()> {
    let mut inputs = inputs(ctx, lane)?;
    inputs.machine = machine::counted(lane)?;
    let keep = more == ["--keep"];
    let table = qemu_arm::cost(&inputs, if keep { &[] } else { more })?;
    if keep {
        fs::write(kept_cost(ctx, lane), table)?;
    }
    Ok(())
}

/// Compares the instructions a packet costs on a lane with those it cost when `cost --keep` was called; TAP on standard output.
pub fn cost_gate(ctx: &Ctx, lane: &str) -> Result<bool> {
    let mut inputs = inputs(ctx, lane)?;
    inputs.machine = machine::counted(lane)?;
    let kept = kept_cost(ctx, lane);
    let kept = fs::read_to_string(&kept).with_context(|| format!("reading {}", kept.display()))?;
    let tally = qemu_arm::gate(&inputs, &kept)?;
    Ok(tally.failed == 0)
}

fn kept_cost(ctx: &Ctx, lane: &str) -> PathBuf {
    ctx.project.join("tests/cost").join(format!("{lane}.txt"))
}

/// Prints the memory that module and daemon take on a lane, with few peers and with many.
pub fn memory(ctx: &Ctx, lane: &str) -> Result<bool> {
    let tally = qemu_arm::memory(&inputs(ctx, lane)?)?;
    Ok(tally.failed == 0)
}

fn inputs(ctx: &Ctx, lane: &str) -> Result<Inputs> {
    let dir = ctx.lane(lane);
    let kernel_build = dir.join("kernel");
    let bin = |name: &str| dir.join("bin").join(name);
    let lane = ctx.lock.lane(lane)?;
    Ok(Inputs {
        machine: machine::of_lane(&lane.name)?,
        cache: ctx.cache.clone(),
        root: ctx.root(lane.root()?),
        kernel: kernel_build.join(&lane.image),
        kernel_build,
        installed: packages::installed(ctx, &lane.name)?,
        recipes: ctx.project.join("openwrt-feed"),
        tests: bin("ovpn-tests"),
        ubusd: bin("ubusd"),
        ubus_client: bin("ubus-client"),
    })
}
