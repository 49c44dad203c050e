// SPDX-License-Identifier: GPL-2.0-only
//! The border to the emulated routers: what they are given, and the two things they do.

use crate::ctx::Ctx;
use crate::root;
use anyhow::Result;
use qemu_arm::Inputs;

const LANE: &str = "arm-6.12";

/// The routers' userland, before our programs are added.
const ROOT: &str = "trixie-armhf";

/// Builds the routers' root file system.
pub fn root(ctx: &Ctx) -> Result<()> {
    root::build(ctx, ROOT)
}

/// Shows two routers at work.
pub fn demo(ctx: &Ctx) -> Result<()> {
    qemu_arm::demo(&inputs(ctx)?)
}

/// Tests them; the results go to standard output as TAP. Says whether all cases held.
pub fn system_test(ctx: &Ctx) -> Result<bool> {
    let tally = qemu_arm::system_test(&inputs(ctx)?)?;
    Ok(tally.failed == 0)
}

fn inputs(ctx: &Ctx) -> Result<Inputs> {
    let dir = ctx.lane(LANE);
    let kernel_build = dir.join("kernel");
    let bin = |name: &str| dir.join("bin").join(name);
    Ok(Inputs {
        cache: ctx.cache.clone(),
        root: ctx.root(ROOT),
        kernel: kernel_build.join(&ctx.lock.lane(LANE)?.image),
        kernel_build,
        module: dir.join("module/ovpn.ko"),
        ovpnd: bin("ovpnd"),
        ovpnctl: bin("ovpnctl"),
        tests: bin("ovpn-tests"),
        ubusd: bin("ubusd"),
        ubus_client: bin("ubus-client"),
    })
}
