// SPDX-License-Identifier: GPL-2.0-only
//! The border to the emulated routers: what they are given, and the two things they do.

use crate::ctx::Ctx;
use crate::packages;
use crate::root;
use crate::selftests;
use crate::small;
use anyhow::Result;
use qemu_arm::{Inputs, Selftests, machine};
use std::path::PathBuf;

/// The lane that the kernel's own selftests run on.
const LANE: &str = "arm-6.12";

/// The userland that the kernel's own selftests want.
const SELFTESTS_ROOT: &str = "trixie-armhf-selftests";

/// Builds the routers' root file system: of Debian's packages, or of the little that is built here.
pub fn root(ctx: &Ctx, lane: &str) -> Result<()> {
    let lane = ctx.lock.lane(lane)?;
    let name = lane.root()?;
    if ctx.lock.root(name).is_ok() {
        return root::build(ctx, name);
    }
    small::build(ctx, lane)
}

/// Builds the root file system for the kernel's own selftests, and their client.
pub fn selftests_root(ctx: &Ctx) -> Result<()> {
    root::build(ctx, SELFTESTS_ROOT)?;
    selftests_cli(ctx).map(drop)
}

fn selftests_cli(ctx: &Ctx) -> Result<PathBuf> {
    selftests::cross_cli(
        ctx,
        LANE,
        &ctx.root(SELFTESTS_ROOT),
        qemu_arm::machine::ARM_COUNTED.multiarch,
    )
}

/// Runs the kernel's own selftests; the results go to standard output as TAP.
pub fn selftests(ctx: &Ctx, scripts: &[&str]) -> Result<()> {
    let mut inputs = inputs(ctx, LANE)?;
    inputs.machine = &machine::ARM_COUNTED;
    inputs.root = ctx.root(SELFTESTS_ROOT);
    let what = Selftests {
        tree: selftests::stage(ctx)?,
        cli: selftests_cli(ctx)?,
        scripts: scripts.iter().map(|s| (*s).to_owned()).collect(),
    };
    qemu_arm::selftests(&inputs, &what)?;
    Ok(())
}

/// Shows two routers at work.
pub fn demo(ctx: &Ctx, lane: &str) -> Result<()> {
    qemu_arm::demo(&inputs(ctx, lane)?)
}

/// Tests them; the results go to standard output as TAP. Says whether all cases held.
pub fn system_test(ctx: &Ctx, lane: &str) -> Result<bool> {
    let tally = qemu_arm::system_test(&inputs(ctx, lane)?)?;
    Ok(tally.failed == 0)
}

/// Prints the instructions a packet costs.
pub fn cost(ctx: &Ctx) -> Result<()> {
    let mut inputs = inputs(ctx, LANE)?;
    inputs.machine = &machine::ARM_COUNTED;
    qemu_arm::cost(&inputs)
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
