// SPDX-License-Identifier: GPL-2.0-only
//! Kernels that a distribution has built: booted as they are, the module built against their header packages.
//!
//! The packages' host programs (modpost and its like) want the C library of their own release. They are built here from
//! the source package of the same version; configuration, generated headers and the symbols' versions are the packages'.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::kbuild;
use crate::lock::{Lane, Stock};
use crate::stamp::{self, Key};
use crate::ui;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lays out a lane's `kernel` directory unless it is there from the same packages.
pub fn build(ctx: &Ctx, lane: &Lane, stock: &Stock) -> Result<()> {
    let names = [&lane.source, &stock.headers, &stock.image].map(String::as_str);
    let [source, headers, package] = fetch::unpack_all(ctx, names)?;
    let mut key = Key::new("stock 1")
        .with(lane.make.join(" "))
        .with(stock.modules.join(" "))
        .with(kbuild::compiler_version(ctx, lane)?);
    for deb in names {
        key = key.with(&ctx.deb(deb)?.sha256);
    }
    let dir = ctx.lane(&lane.name);
    let build = dir.join("kernel");
    let image = build.join(&lane.image);
    stamp::once(&stamp::path(&dir, "kernel"), &image, key, || {
        let headers = only(&headers.join("usr/src"))?;
        if build.exists() {
            fs::remove_dir_all(&build)?;
        }
        fs::create_dir_all(&build)?;
        prepare(ctx, lane, &source, &headers, &build)?;
        modules(ctx, stock, &package, &build)?;
        for (prefix, name) in [("config-", "config"), ("vmlinuz-", &lane.image)] {
            let file = starting(&package.join("boot"), prefix)?;
            fs::copy(file, build.join(name))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Makes a build directory that is the packages' in all that a module can notice.
fn prepare(ctx: &Ctx, lane: &Lane, source: &Path, headers: &Path, build: &Path) -> Result<()> {
    let config = headers.join(".config");
    fs::copy(&config, build.join(".config"))?;
    // The compiler is another one: options for the newer one fall away, so that nothing asks for them.
    kbuild::kbuild(ctx, lane, source)?
        .arg("olddefconfig")
        .run()?;
    ui::say("building the host programs of the header package");
    kbuild::kbuild(ctx, lane, source)?
        .arg("modules_prepare")
        .run()?;
    let arch = format!("arch/{}/include/generated", lane.arch);
    for tree in ["include/generated", &arch] {
        let (from, to) = (headers.join(tree), build.join(tree));
        fs::remove_dir_all(&to)?;
        Cmd::new(ctx, "cp").arg("-a").arg(from).arg(to).run()?;
    }
    for file in ["Module.symvers", "include/config/kernel.release"] {
        fs::copy(headers.join(file), build.join(file))
            .with_context(|| format!("the header package has no {file}"))?;
    }
    let config = fs::read_to_string(config)?;
    for (option, want) in [("CONFIG_RUST=y", false), ("CONFIG_MODVERSIONS=y", true)] {
        ensure!(
            config.lines().any(|l| l == option) == want,
            "{}: this lane is for kernels {} {option}",
            lane.name,
            if want { "with" } else { "without" }
        );
    }
    Ok(())
}

/// The modules that a router of ours needs, and what they need, as a kernel build leaves them.
fn modules(ctx: &Ctx, stock: &Stock, package: &Path, build: &Path) -> Result<()> {
    let home = only(&package.join("usr/lib/modules"))?;
    let release = home.file_name().context("modules of no kernel")?;
    let usr = package.join("usr");
    Cmd::new(ctx, "depmod")
        .arg("-b")
        .arg(&usr)
        .arg(release)
        .run()?;
    let mut files = BTreeSet::new();
    for module in &stock.modules {
        let list = Cmd::new(ctx, "modprobe")
            .args(["--show-depends", "--ignore-install", "--dirname"])
            .arg(&usr)
            .arg("--set-version")
            .arg(release)
            .arg(module)
            .output()?;
        // "insmod FILE [OPTIONS]", or "builtin NAME".
        let insmods = list.lines().filter_map(|l| l.strip_prefix("insmod "));
        files.extend(insmods.filter_map(|l| l.split_whitespace().next().map(PathBuf::from)));
    }
    let mut order = String::new();
    for file in files {
        let packed = file.strip_prefix(&home)?;
        let plain = packed.strip_prefix("kernel")?.with_extension("");
        let to = build.join(&plain);
        fs::create_dir_all(to.parent().unwrap_or(build))?;
        fs::copy(&file, to.with_extension("ko.xz"))?;
        Cmd::new(ctx, "xz")
            .args(["--decompress", "--force"])
            .arg(to.with_extension("ko.xz"))
            .output()?;
        order += &format!("{}\n", plain.with_extension("o").display());
    }
    fs::write(build.join("modules.order"), order)?;
    for list in ["modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(home.join(list), build.join(list))?;
    }
    Ok(())
}

/// The one thing in a directory.
fn only(dir: &Path) -> Result<PathBuf> {
    starting(dir, "")
}

fn starting(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let names = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let found: Vec<_> = names
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(prefix)
        })
        .collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => anyhow::bail!("{} {prefix}*: {} of them", dir.display(), found.len()),
    }
}
