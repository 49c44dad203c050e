// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's `make` with the settings of a lane.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::lock::Lane;
use crate::simd;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// The first words of a lane's compiler about itself: name and version.
pub fn compiler_version(ctx: &Ctx, lane: &Lane) -> Result<String> {
    Cmd::new(ctx, compiler(lane)).arg("--version").output()
}

/// `make` in a kernel source with the lane's settings.
pub fn kbuild(ctx: &Ctx, lane: &Lane, source: &Path) -> Result<Cmd> {
    let cmd = Cmd::new(ctx, "nice")
        .args(["make", &format!("-j{}", available_parallelism()?), "-C"])
        .arg(source)
        .arg(format!(
            "O={}",
            ctx.lane(&lane.name).join("kernel").display()
        ));
    let mut cmd = settings(lane, cmd);
    if lane.stock.is_some() {
        return Ok(cmd);
    }
    if let Some(header) = stacktrace_header(ctx, lane) {
        cmd = cmd.arg(format!("CFLAGS_stacktrace.o=-include {}", header.display()));
    }
    if lane.simd {
        cmd = cmd.args(simd::settings(ctx, source));
    }
    // A kernel without Rust need not wait for the tools.
    let config = fs::read_to_string(fragment(ctx, lane)?)?;
    match config.lines().any(|l| l == "CONFIG_RUST=y") {
        true => rust_tools(ctx, cmd),
        false => Ok(cmd),
    }
}

/// The file with the lane's options; made in the lane's directory where several have to become one.
pub fn fragment(ctx: &Ctx, lane: &Lane) -> Result<PathBuf> {
    let configs = ctx.project.join("toolchains/configs");
    let own = configs.join(&lane.config);
    if lane.base.is_empty() {
        return Ok(own);
    }
    let mut text = String::new();
    for file in lane.base.iter().map(|b| configs.join(b)).chain([own]) {
        let part = fs::read_to_string(&file);
        let part = part.with_context(|| format!("cannot read {}", file.display()))?;
        text = overridden(&text, &part);
    }
    let merged = ctx.lane(&lane.name).join("merged.config");
    if !fs::read_to_string(&merged).is_ok_and(|old| old == text) {
        fs::create_dir_all(ctx.lane(&lane.name))?;
        fs::write(&merged, text)?;
    }
    Ok(merged)
}

/// The header that the kernel's stacktrace.c of a lane includes first, where it needs one.
pub fn stacktrace_header(ctx: &Ctx, lane: &Lane) -> Option<PathBuf> {
    let name = lane.stacktrace_header.as_ref()?;
    Some(ctx.project.join("toolchains/configs").join(name))
}

/// `base` without the options that `fragment` sets, and the fragment.
fn overridden(base: &str, fragment: &str) -> String {
    let option = |line: &str| line.split_once('=').map(|(option, _)| option.to_owned());
    let set: BTreeSet<_> = fragment.lines().filter_map(option).collect();
    let kept = base
        .lines()
        .filter(|line| option(line).is_none_or(|option| !set.contains(&option)));
    kept.chain(fragment.lines())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The C compiler that the lane's `make` takes.
fn compiler(lane: &Lane) -> String {
    match lane.make.iter().find_map(|arg| arg.strip_prefix("LLVM=")) {
        Some(version) => format!("clang{version}"),
        None => format!("{}gcc", lane.cross_compile),
    }
}

/// Adds the arguments of `make` that every lane gives.
pub fn settings(lane: &Lane, mut cmd: Cmd) -> Cmd {
    cmd = cmd.arg(format!("ARCH={}", lane.arch));
    if !lane.cross_compile.is_empty() {
        cmd = cmd.arg(format!("CROSS_COMPILE={}", lane.cross_compile));
    }
    cmd.args(&lane.make)
}

/// Points a kernel build at the pinned bindgen, its libclang and the sources of `core`.
pub fn rust_tools(ctx: &Ctx, cmd: Cmd) -> Result<Cmd> {
    let bindgen = fetch::tool(ctx, "bindgen-cli")?;
    Ok(cmd
        .arg(format!("BINDGEN={}", bindgen.display()))
        .arg(format!(
            "RUST_LIB_SRC={}",
            fetch::rust_library(ctx)?.display()
        ))
        .env("LIBCLANG_PATH", fetch::libclang()?)
        // Rust code in the kernel is built with the flags kbuild chooses, and is no part of the package that cargo
        // runs the harness from: clippy would compare that one's Rust version with the kernel's.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_PKG_RUST_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_overrides() {
        let base = "# about A=1\nCONFIG_A=y\nCONFIG_AB=y\nCONFIG_C=y\n";
        assert_eq!(
            overridden(base, "CONFIG_A=m\nCONFIG_C=n\nCONFIG_D=y\n"),
            "# about A=1\nCONFIG_AB=y\nCONFIG_A=m\nCONFIG_C=n\nCONFIG_D=y\n"
        );
    }
}
