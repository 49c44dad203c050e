// SPDX-License-Identifier: GPL-2.0-only
//! Kernels of the lanes, our module for them, and the kernel's own test client.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::kbuild::{compiler_version, fragment, kbuild, rust_tools, settings, stacktrace_header};
use crate::lock::Lane;
use crate::selftests;
use crate::simd;
use crate::stamp::{self, Key};
use crate::stock;
use crate::ui;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// Configures and builds a lane's kernel and its modules; nothing happens when it is built from the same inputs.
pub fn build(ctx: &Ctx, name: &str) -> Result<()> {
    let lane = ctx.lock.lane(name)?;
    if let Some(stock) = &lane.stock {
        return stock::build(ctx, lane, stock);
    }
    let source = fetch::unpack(ctx, &lane.source)?;
    let config = fragment(ctx, lane)?;
    let mut key = Key::new("kernel 1")
        .with(&ctx.deb(&lane.source)?.sha256)
        .with_file(&config)?
        .with(fetch::rustc_version(ctx)?)
        .with(compiler_version(ctx, lane)?)
        .with(lane.make.join(" "));
    if let Some(header) = stacktrace_header(ctx, lane) {
        key = key.with_file(&header)?;
    }
    if lane.simd {
        key = simd::inputs(ctx, key)?;
    }
    let dir = ctx.lane(name);
    let image = dir.join("kernel").join(&lane.image);
    let ran = stamp::once(&stamp::path(&dir, "kernel"), &image, key, || {
        forget_other_source(ctx, lane)?;
        configure(ctx, lane, &source, &config)?;
        ui::say(format!("building the kernel of {name}"));
        if lane.simd {
            simd::prepare(ctx, lane, &source)?;
        }
        kbuild(ctx, lane, &source)?.args(&lane.targets).run()?;
        install_modules(ctx, lane, &source)?;
        match lane.simd {
            true => simd::module(ctx, lane, &source),
            false => Ok(()),
        }
    })?;
    if ran {
        ui::say(format!(
            "{name}: {} KiB {}",
            fs::metadata(&image)?.len() >> 10,
            lane.image
        ));
    }
    Ok(())
}

/// Whether a lane's kernel is there, whatever it was built from.
pub fn is_built(ctx: &Ctx, name: &str) -> Result<bool> {
    let dir = ctx.lane(name);
    Ok(dir
        .join("kernel")
        .join(&ctx.lock.lane(name)?.image)
        .is_file())
}

/// Object files of another kernel source would be taken for current ones: their time stamps say nothing.
fn forget_other_source(ctx: &Ctx, lane: &Lane) -> Result<()> {
    let build = ctx.lane(&lane.name).join("kernel");
    let mark = ctx.lane(&lane.name).join(".source");
    let want = ctx.deb(&lane.source)?.sha256;
    if build.exists() && fs::read_to_string(&mark).is_ok_and(|got| got != want) {
        fs::remove_dir_all(&build)?;
    }
    fs::create_dir_all(&build)?;
    fs::write(mark, want)?;
    Ok(())
}

fn configure(ctx: &Ctx, lane: &Lane, source: &Path, config: &Path) -> Result<()> {
    kbuild(ctx, lane, source)?
        .env("KCONFIG_ALLCONFIG", config)
        .arg("allnoconfig")
        .run()?;
    let wanted = fs::read_to_string(config)?;
    let got = fs::read_to_string(ctx.lane(&lane.name).join("kernel/.config"))?;
    let lost = lost_options(&wanted, &got);
    ensure!(
        lost.is_empty(),
        "{}: this kernel does not take {}",
        config.display(),
        lost.join(", ")
    );
    Ok(())
}

/// Options of a fragment that the resulting configuration does not have as written.
fn lost_options(wanted: &str, got: &str) -> Vec<String> {
    let has = |line: &str| got.lines().any(|l| l == line);
    wanted
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CONFIG_") || line.ends_with(" is not set"))
        .filter(|line| {
            let off = line
                .strip_suffix("=n")
                .or_else(|| line.strip_prefix("# ")?.strip_suffix(" is not set"));
            match off {
                Some(option) => got
                    .lines()
                    .any(|l| l.strip_prefix(option).is_some_and(|r| r.starts_with('='))),
                None => !has(line),
            }
        })
        .map(str::to_owned)
        .collect()
}

fn install_modules(ctx: &Ctx, lane: &Lane, source: &Path) -> Result<()> {
    let to = ctx.lane(&lane.name).join("modules");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    kbuild(ctx, lane, source)?
        .arg(format!("INSTALL_MOD_PATH={}", to.display()))
        .arg("modules_install")
        .run()
}

/// Builds `ovpn.ko` for a lane and gives its path. `make` itself knows what is up to date.
pub fn module(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    let lane = ctx.lock.lane(name)?;
    let out = ctx.lane(name).join("module");
    let _guard = lock_module(ctx, name)?;
    let mut symbols = None;
    make_module(ctx, lane, &out)?.run_with(|line| {
        if line.starts_with("ovpn.ko:") {
            symbols = Some(line.to_owned());
        }
    })?;
    let module = out.join("ovpn.ko");
    ensure!(module.is_file(), "the build made no {}", module.display());
    // Its own summary: sizes, and that each undefined symbol is one the kernel exports.
    ui::say(
        symbols.with_context(|| {
            format!("{}: the build did not check its symbols", module.display())
        })?,
    );
    Ok(module)
}

/// sparse 0.6.4 says this of each MODULE_INFO(), whose assertion counts bytes by a builtin that it cannot evaluate.
const IN_VAIN: &str = "error: bad constant expression";

/// Builds the module once more with clippy as its compiler, and has sparse read its C; refuses any warning.
pub fn module_lints(ctx: &Ctx, name: &str) -> Result<()> {
    let out = ctx.lane(name).join("module-lints");
    let _guard = lock_module(ctx, name)?;
    let mut warnings = Vec::new();
    make_module(ctx, ctx.lock.lane(name)?, &out)?
        .arg("CLIPPY=1")
        .args(["C=2", "CHECK=sparse"])
        // sparse 0.6.4 does not know this word of C23, which the kernel of 7.2 uses.
        .arg("CF=-D__typeof_unqual__=__typeof__")
        .run_with(|line| {
            let said = ["warning:", "error:"]
                .iter()
                .any(|word| line.contains(word));
            if said && !line.ends_with(IN_VAIN) {
                warnings.push(line.trim().to_owned());
            }
        })?;
    if !warnings.is_empty() {
        // A file that is not compiled again does not warn again.
        fs::remove_dir_all(&out)?;
        bail!("{} warnings:\n{}", warnings.len(), warnings.join("\n"));
    }
    Ok(())
}

/// Two makes in one directory would spoil each other's work.
fn lock_module(ctx: &Ctx, name: &str) -> Result<fs::File> {
    fs::create_dir_all(ctx.lane(name))?;
    stamp::lock(&ctx.lane(name).join(".module.lock"))
}

fn make_module(ctx: &Ctx, lane: &Lane, out: &Path) -> Result<Cmd> {
    let source = fetch::unpack(ctx, &lane.source)?;
    fs::create_dir_all(out)?;
    let cmd = Cmd::new(ctx, "make")
        .arg(format!("-j{}", available_parallelism()?))
        .arg("-C")
        .arg(ctx.project.join("kmod-ovpn"))
        .arg(format!(
            "KERNEL_SRC={}",
            ctx.lane(&lane.name).join("kernel").display()
        ))
        .arg(format!("RUST_KERNEL_SRC={}", source.display()))
        .arg(format!("OUT={}", out.display()));
    rust_tools(ctx, settings(lane, cmd))
}

/// Builds the kernel's own client of the driver from its self-tests, for the guests of `name`.
pub fn ovpn_cli(ctx: &Ctx, name: &str) -> Result<()> {
    let lane = ctx.lock.lane(name)?;
    let source = fetch::unpack(ctx, &lane.source)?;
    let cli = source.join("tools/testing/selftests/net/ovpn/ovpn-cli.c");
    if !cli.is_file() {
        bail!("{} has no ovpn-cli", lane.source);
    }
    let dir = ctx.lane(name);
    let key = Key::new("ovpn-cli 1").with(&ctx.deb(&lane.source)?.sha256);
    let bin = dir.join("bin");
    let stamp = stamp::path(&dir, "ovpn-cli");
    stamp::once(&stamp, &bin.join("ovpn-cli"), key, || {
        let headers = selftests::headers(ctx, &source, &dir, "x86")?;
        fs::create_dir_all(&bin)?;
        let libnl = Cmd::new(ctx, "pkg-config")
            .args(["--cflags", "libnl-genl-3.0"])
            .output()?;
        // The guest's release has other versions of these libraries: only libc stays dynamic.
        Cmd::new(ctx, "gcc")
            .args(["-O2", "-w", "-o"])
            .arg(bin.join("ovpn-cli"))
            .arg(format!("-I{}", headers.display()))
            .arg(format!(
                "-I{}",
                source.join("tools/testing/selftests").display()
            ))
            .args(libnl.split_whitespace())
            .arg(&cli)
            .args([
                "-l:libnl-genl-3.a",
                "-l:libnl-3.a",
                "-l:libmbedtls.a",
                "-l:libmbedcrypto.a",
                "-lpthread",
            ])
            .run()
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_options_are_named() {
        let wanted = "# a comment\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\n# CONFIG_D is not set\n\nCONFIG_E=\"x\"\n";
        let kept = "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_D is not set\nCONFIG_E=\"x\"\nCONFIG_AB=y\n";
        assert!(lost_options(wanted, kept).is_empty());
        let changed = "CONFIG_A=m\n# CONFIG_B is not set\nCONFIG_C=y\nCONFIG_D=m\nCONFIG_E=\"x\"\n";
        assert_eq!(
            lost_options(wanted, changed),
            [
                "CONFIG_A=y",
                "CONFIG_B=m",
                "CONFIG_C=n",
                "# CONFIG_D is not set"
            ]
        );
    }
}
