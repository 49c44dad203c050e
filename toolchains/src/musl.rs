// SPDX-License-Identifier: GPL-2.0-only
//! Userland for routers: statically linked against musl, with a std built from source, since rustup cannot be
//! asked for the targets here.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::ui;
use anyhow::Result;
use std::fs;
use std::path::PathBuf;

/// The emulated routers' triple.
pub const ARM: &str = "armv7-unknown-linux-musleabihf";
/// The same for zig.
const ZIG_ARM: &str = "arm-linux-musleabihf";

/// Profile of this workspace's programs: small, and std is built for one profile only.
const PROFILE: &str = "router";
/// Programs of this workspace that go into the guest.
const OWN: [&str; 3] = ["ovpnd", "ovpnctl", "ovpn-tests"];

/// Builds this workspace's programs and the ubus tools for a lane's guests.
pub fn build(ctx: &Ctx, lane: &str) -> Result<()> {
    let bin = ctx.lane(lane).join("bin");
    let target = ctx.cache.join("target/musl");
    cross(ctx, Cmd::new(ctx, "cargo").arg("build"))?
        .args(["--locked", "--profile", PROFILE])
        .args(["--package", "ovpnd", "--package", "ovpn-tests", "--bins"])
        .cwd(&ctx.project)
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
    for program in OWN {
        let built = target.join(ARM).join(PROFILE).join(program);
        fetch::place(&built, &bin)?;
        let size = fs::metadata(&built)?.len();
        ui::say(format!("{program}: {} KiB stripped", size.div_ceil(1024)));
    }
    fetch::guest_programs(ctx, lane, ARM, |cmd| {
        let target = ctx.cache.join("target/musl-tools");
        Ok(cross(ctx, cmd)?.env("CARGO_TARGET_DIR", target))
    })
}

/// Makes a cargo command one for [`ARM`].
fn cross(ctx: &Ctx, cmd: Cmd) -> Result<Cmd> {
    let linker = linker(ctx)?;
    Ok(cmd
        .args(["--target", ARM, "-Zbuild-std=std,panic_abort"])
        // Leaves the user's toolchain as it is: cargo looks nowhere else without this.
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", fetch::rust_library(ctx)?)
        // -Zbuild-std is the one unstable option; the pinned compiler is a stable one.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_LINKER",
            &linker,
        )
        // zig brings crt1.o, libc and the unwinder; a std built here has none of its own.
        .env(
            "CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_RUSTFLAGS",
            "-Clink-self-contained=no -Ctarget-feature=+crt-static",
        )
        .env("CC_armv7_unknown_linux_musleabihf", &linker)
        .env("ZIG_GLOBAL_CACHE_DIR", ctx.cache.join("target/zig"))
        .env("ZIG_LOCAL_CACHE_DIR", ctx.cache.join("target/zig")))
}

/// rustc wants one program for the linker: a script that calls `zig cc` for the target.
fn linker(ctx: &Ctx) -> Result<PathBuf> {
    let zig = fetch::zig(ctx)?;
    let script = ctx.tools().join("bin").join(format!("{ZIG_ARM}-cc"));
    let text = format!(
        "#!/bin/sh\nexec '{}' cc -target {ZIG_ARM} -mcpu=cortex_a7 \"$@\"\n",
        zig.display()
    );
    if fs::read_to_string(&script).is_ok_and(|old| old == text) {
        return Ok(script);
    }
    fs::create_dir_all(ctx.tools().join("bin"))?;
    let new = script.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(new, &script)?;
    Ok(script)
}
