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
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// An option that a kernel with Rust of its own has.
const RUST: &str = "CONFIG_RUST=y";

/// Lays out a lane's `kernel` directory unless it is there from the same packages.
pub fn build(ctx: &Ctx, lane: &Lane, stock: &Stock) -> Result<()> {
    let names: Vec<_> = std::iter::once(lane.source.as_str())
        .chain(stock.packages())
        .collect();
    let dirs = fetch::unpack_all(ctx, &names)?;
    let [source, headers, packages @ ..] = &dirs[..] else {
        bail!("{}: a kernel has source, headers and image", lane.name);
    };
    let mut key = Key::new("stock 2")
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
        prepare(ctx, lane, source, &headers, &build)?;
        let release = fs::read_to_string(build.join("include/config/kernel.release"))?;
        let release = release.trim();
        let home = Path::new("usr/lib/modules").join(release);
        let find = |places: &[PathBuf]| {
            let all = packages
                .iter()
                .flat_map(|p| places.iter().map(|place| p.join(place)));
            let found = all.into_iter().find(|path| path.exists());
            found.with_context(|| format!("no package of {release} has {places:?}"))
        };
        let tree = find(&[home.join("kernel")])?;
        modules(ctx, stock, &tree, release, &build)?;
        for list in ["modules.builtin", "modules.builtin.modinfo"] {
            fs::copy(find(&[home.join(list)])?, build.join(list))?;
        }
        let kernel = [
            format!("boot/vmlinuz-{release}").into(),
            home.join("vmlinuz"),
        ];
        fs::copy(find(&kernel)?, &image)?;
        fs::copy(headers.join(".config"), build.join("config"))?;
        Ok(())
    })?;
    Ok(())
}

/// Makes a build directory that is the packages' in all that a module of C can notice.
///
/// CONFIG_RUST of that kernel is of no use: its crates are another compiler's. Without it our module brings its own
/// (embedded mode), and loads by what C modules load by: vermagic, and versions of symbols where they have any.
fn prepare(ctx: &Ctx, lane: &Lane, source: &Path, headers: &Path, build: &Path) -> Result<()> {
    let config = fs::read_to_string(headers.join(".config"))?;
    fs::write(
        build.join(".config"),
        config.replace(RUST, "# CONFIG_RUST is not set"),
    )?;
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
    let ours = fs::read_to_string(build.join(".config"))?;
    let versions = |config: &str| config.lines().any(|l| l == "CONFIG_MODVERSIONS=y");
    ensure!(
        !ours.lines().any(|l| l == RUST) && versions(&ours) == versions(&config),
        "{}: modules built here would not have the form of this kernel's",
        lane.name
    );
    Ok(())
}

/// The modules that a router of ours needs, and what they need, as a kernel build leaves them.
fn modules(ctx: &Ctx, stock: &Stock, tree: &Path, release: &str, build: &Path) -> Result<()> {
    let usr = tree.ancestors().nth(4).context("modules of no kernel")?;
    Cmd::new(ctx, "depmod")
        .arg("-b")
        .arg(usr)
        .arg(release)
        .run()?;
    let mut files = BTreeSet::new();
    for module in &stock.modules {
        let list = Cmd::new(ctx, "modprobe")
            .args(["--show-depends", "--ignore-install", "--dirname"])
            .arg(usr)
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
        let plain = file.strip_prefix(tree)?.with_extension("");
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
    Ok(())
}

/// The one thing in a directory.
fn only(dir: &Path) -> Result<PathBuf> {
    let names = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let found: Vec<_> = names.filter_map(|entry| Some(entry.ok()?.path())).collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => bail!("{}: {} things", dir.display(), found.len()),
    }
}
