// SPDX-License-Identifier: GPL-2.0-only
//! Sources and tools of the build machine: unpacked packages, programs from the crate registry, the linker from PyPI.

use crate::apt;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::lock::{Crate, Deb, Host, Role};
use crate::pins;
use crate::stamp::{self, Key};
use crate::ui;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Gets every source of the lock file.
pub fn everything(ctx: &Ctx) -> Result<()> {
    for deb in &ctx.lock.debs {
        apt::pinned(ctx, &deb.name)?;
        if deb.unpack.is_some() {
            unpack(ctx, &deb.name)?;
        }
    }
    for krate in ctx.lock.crates.iter().filter(|c| c.role == Role::Tool) {
        tool(ctx, &krate.name)?;
    }
    zig(ctx).map(drop)
}

/// Unpacks a pinned package and gives the directory that holds its content.
pub fn unpack(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    pins::following(|| unpack_pin(ctx, &ctx.deb(name)?))
}

/// Unpacks several that belong together. One that moves on takes others along, which then are unpacked again.
pub fn unpack_all(ctx: &Ctx, names: &[&str]) -> Result<Vec<PathBuf>> {
    let digests = || -> Result<Vec<_>> { names.iter().map(|n| Ok(ctx.deb(n)?.sha256)).collect() };
    loop {
        let before = digests()?;
        let dirs = names
            .iter()
            .map(|n| unpack(ctx, n))
            .collect::<Result<_>>()?;
        if digests()? == before {
            return Ok(dirs);
        }
    }
}

fn unpack_pin(ctx: &Ctx, deb: &Deb) -> Result<PathBuf> {
    let name = &deb.name;
    let dir = ctx.src(
        deb.unpack
            .as_deref()
            .with_context(|| format!("{name} is not unpacked"))?,
    );
    let stamp = stamp::path(&ctx.cache.join("src"), name);
    let key = Key::new("unpack 1").with(&deb.sha256);
    stamp::once(&stamp, &dir, key, || {
        let file = apt::download(ctx, deb)?;
        let new = beside(&dir, ".new");
        for old in [&new, &dir] {
            if old.exists() {
                fs::remove_dir_all(old)
                    .with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        ui::say(format!("unpacking {name} {}", deb.version));
        extract(ctx, deb, &file, &new)?;
        fs::rename(&new, &dir)?;
        Ok(())
    })?;
    Ok(dir)
}

/// A path that ends in more than this one. An extension would take the place of a version's last number.
pub fn beside(dir: &Path, end: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(end);
    path.into()
}

fn extract(ctx: &Ctx, deb: &Deb, file: &Path, to: &Path) -> Result<()> {
    if deb.path.contains(".orig.tar.") {
        fs::create_dir_all(to)?;
        return Cmd::new(ctx, "tar")
            .args(["--extract", "--strip-components=1", "--file"])
            .arg(file)
            .arg("--directory")
            .arg(to)
            .run();
    }
    let Some(tarball) = &deb.tarball else {
        return Cmd::new(ctx, "dpkg-deb")
            .arg("--extract")
            .arg(file)
            .arg(to)
            .run();
    };
    let outer = beside(to, ".deb");
    Cmd::new(ctx, "dpkg-deb")
        .arg("--extract")
        .arg(file)
        .arg(&outer)
        .run()?;
    fs::create_dir_all(to)?;
    Cmd::new(ctx, "tar")
        .args([
            "--extract",
            "--checkpoint=5000",
            "--checkpoint-action=echo=%u records",
            "--strip-components=1",
        ])
        .arg("--file")
        .arg(outer.join(tarball))
        .arg("--directory")
        .arg(to)
        .env("XZ_DEFAULTS", "-T0")
        .run()?;
    fs::remove_dir_all(outer)?;
    Ok(())
}

/// Sources of `core` and `std` (directory `library`) of exactly the rustc in use.
pub fn rust_library(ctx: &Ctx) -> Result<PathBuf> {
    let sysroot = Cmd::new(ctx, "rustc")
        .args(["--print", "sysroot"])
        .output()?;
    let own = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if own.join("core/src/lib.rs").is_file() {
        return Ok(own);
    }
    let deb = ctx.deb("rust-src")?;
    let pinned = deb.version.split('+').next().unwrap_or_default();
    let version = rustc_version(ctx)?;
    ensure!(
        version == pinned,
        "rustc is {version}, sources.lock has rust-src {pinned}: install rustup's rust-src or rustc {pinned}"
    );
    Ok(unpack(ctx, "rust-src")?.join(format!("usr/src/rustc-{version}/library")))
}

/// As in `1.95.0`.
pub fn rustc_version(ctx: &Ctx) -> Result<String> {
    let text = Cmd::new(ctx, "rustc").arg("--version").output()?;
    Ok(text
        .split(' ')
        .nth(1)
        .with_context(|| format!("unknown answer of rustc: {text}"))?
        .to_owned())
}

/// Installs a program of the lock file for the build machine and gives its path.
pub fn tool(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    let krate = ctx.lock.krate(name)?;
    let stamp = stamp::path(&ctx.tools(), name);
    let bin = krate
        .bins
        .first()
        .with_context(|| format!("{name} has no program"))?;
    let bin = ctx.tool(bin);
    stamp::once(
        &stamp,
        &bin,
        Key::new("tool 1").with(&krate.version).with(&krate.sha256),
        || {
            ui::say(format!("building {name} {}", krate.version));
            cargo_install(ctx, krate, &ctx.tools()).run()?;
            verify_crate(krate)
        },
    )?;
    Ok(bin)
}

/// Builds the lock file's guest programs into `bin`, which belongs to the guests of `lane`.
///
/// `adapt` turns the command into one for the guests' processor and says in which target directory it works.
pub fn guest_programs(
    ctx: &Ctx,
    lane: &str,
    triple: &str,
    adapt: impl Fn(Cmd) -> Result<Cmd>,
) -> Result<()> {
    let bin = ctx.lane(lane).join("bin");
    for krate in ctx.lock.crates.iter().filter(|c| c.role == Role::Guest) {
        let key = Key::new("guest program 1")
            .with(triple)
            .with(&krate.version)
            .with(&krate.sha256)
            .with(rustc_version(ctx)?);
        let stamp = stamp::path(&ctx.lane(lane), &krate.name);
        let product = bin.join(krate.bins.first().unwrap_or(&krate.name));
        stamp::once(&stamp, &product, key, || {
            let to = ctx.cache.join("target/installed").join(triple);
            adapt(cargo_install(ctx, krate, &to))?.run()?;
            verify_crate(krate)?;
            for name in &krate.bins {
                place(&to.join("bin").join(name), &bin)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Copies a program into a guest's directory. A guest may be running the old one: replace it, do not write into it.
pub fn place(program: &Path, bin: &Path) -> Result<()> {
    let name = program.file_name().context("a program needs a name")?;
    fs::create_dir_all(bin)?;
    let new = bin.join(format!("{}.new", name.display()));
    fs::copy(program, &new)
        .with_context(|| format!("there is no program {}", program.display()))?;
    fs::rename(new, bin.join(name))?;
    Ok(())
}

/// `cargo install` of exactly the locked version and its own lock file.
pub fn cargo_install(ctx: &Ctx, krate: &Crate, to: &Path) -> Cmd {
    Cmd::new(ctx, "cargo")
        .args([
            "install",
            "--locked",
            "--force",
            "--version",
            &krate.version,
            "--root",
        ])
        .arg(to)
        .arg(&krate.name)
        .env("CARGO_TARGET_DIR", ctx.cache.join("target/tools"))
        .env_remove("RUSTFLAGS")
}

/// Compares the crate file cargo has fetched with the lock file.
pub fn verify_crate(krate: &Crate) -> Result<()> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let file = format!("{}-{}.crate", krate.name, krate.version);
    for registry in fs::read_dir(home.join("registry/cache"))? {
        let path = registry?.path().join(&file);
        if path.is_file() {
            return stamp::verify(&path, &krate.sha256);
        }
    }
    bail!("cargo kept no {file} to verify")
}

/// The C compiler and linker for musl targets.
pub fn zig(ctx: &Ctx) -> Result<PathBuf> {
    let wheel = ctx.lock.wheel("ziglang")?;
    let dir = ctx.tools().join("zig");
    let stamp = stamp::path(&ctx.tools(), "zig");
    let zig = dir.join("ziglang/zig");
    let key = Key::new("zig 1").with(&wheel.sha256);
    stamp::once(&stamp, &zig, key, || {
        let file = ctx.dl().join(&wheel.file);
        if !file.is_file() {
            ui::say(format!(
                "fetching {} {} from PyPI",
                wheel.name, wheel.version
            ));
            let requirement = format!(
                "{}=={} --hash=sha256:{}\n",
                wheel.name, wheel.version, wheel.sha256
            );
            let list = ctx.dl().join("ziglang.txt");
            fs::create_dir_all(ctx.dl())?;
            fs::write(&list, requirement)?;
            Cmd::new(ctx, "python3")
                .args([
                    "-m",
                    "pip",
                    "download",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--require-hashes",
                    "--dest",
                ])
                .arg(ctx.dl())
                .arg("--requirement")
                .arg(list)
                .run()
                .map_err(|err| {
                    apt::Unavailable(format!("the musl linker cannot be had: {err:#}"))
                })?;
        }
        stamp::verify(&file, &wheel.sha256)?;
        Cmd::new(ctx, "python3")
            .args(["-m", "zipfile", "--extract"])
            .arg(&file)
            .arg(&dir)
            .run()?;
        // A wheel is a zip archive: modes are lost.
        fs::set_permissions(&zig, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(())
    })?;
    Ok(zig)
}

/// Installs what the build machine lacks, by package name; only root can.
pub fn host_deps(ctx: &Ctx) -> Result<()> {
    let missing = missing_packages(ctx)?;
    if !missing.is_empty() {
        ui::say(format!("installing {}", missing.join(" ")));
        if !nix::unistd::geteuid().is_root() {
            bail!("as root, install: apt-get install {}", missing.join(" "));
        }
        let apt = |args: &[&str]| {
            Cmd::new(ctx, "apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(args)
                .args(["-o", "DPkg::Lock::Timeout=300"])
        };
        let mut install = vec!["install", "--yes", "--no-install-recommends"];
        install.extend(missing.iter().map(String::as_str));
        // The machine's lists may be old or absent; then one look at the mirror helps.
        if apt(&install).run().is_err() {
            apt(&["update"]).run()?;
            apt(&install).run()?;
        }
    }
    for host in &ctx.lock.hosts {
        compare(ctx, host)?;
    }
    Ok(())
}

fn missing_packages(ctx: &Ctx) -> Result<Vec<String>> {
    let known = Cmd::new(ctx, "dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .output()?;
    let installed = |name: &str| {
        known
            .lines()
            .any(|l| l.strip_prefix("installed ") == Some(name))
    };
    Ok(ctx
        .lock
        .hosts
        .iter()
        .map(|h| h.name.clone())
        .filter(|n| !installed(n))
        .collect())
}

/// Reports another version than the recorded one; refuses another content of the same version.
fn compare(ctx: &Ctx, host: &Host) -> Result<()> {
    let Some(want) = &host.version else {
        return Ok(());
    };
    let got = Cmd::new(ctx, "dpkg-query")
        .args(["--show", "--showformat", "${Version}", &host.name])
        .output()?;
    if got != *want {
        ui::say(format!(
            "note: {} is {got}; the lanes were last seen to work with {want}",
            host.name
        ));
        return Ok(());
    }
    let Some(sha256) = &host.sha256 else {
        return Ok(());
    };
    let record = Cmd::new(ctx, "apt-cache")
        .args(["show", &format!("{}={want}", host.name)])
        .output();
    let Ok(record) = record else {
        // Installed, and no longer in any list: nothing to compare with.
        return Ok(());
    };
    if let Some(found) = record.lines().find_map(|l| l.strip_prefix("SHA256: ")) {
        ensure!(
            found == sha256,
            "{} {want}: apt knows it with sha256 {found}, the lock file with {sha256}",
            host.name
        );
    }
    Ok(())
}

/// Directory with the newest libclang, for bindgen.
pub fn libclang() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib")? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let version = name.strip_prefix("llvm-").and_then(|v| v.parse().ok());
        if let Some(version) =
            version.filter(|_| path.join("lib/libclang.so.1").exists() || has_libclang(&path))
        {
            found.push((version, path.join("lib")));
        }
    }
    let newest = found
        .into_iter()
        .max()
        .context("no libclang below /usr/lib/llvm-*")?;
    Ok(newest.1)
}

fn has_libclang(llvm: &Path) -> bool {
    let Ok(entries) = fs::read_dir(llvm.join("lib")) else {
        return false;
    };
    entries
        .flatten()
        .any(|e| e.file_name().to_string_lossy().starts_with("libclang-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_unpacked_apart() {
        let new = |dir| beside(Path::new(dir), ".new");
        assert_eq!(new("src/linux-7.3"), Path::new("src/linux-7.3.new"));
        assert_ne!(new("src/linux-7.3"), new("src/linux-7.2"));
        assert_eq!(
            beside(&new("src/linux-7.3"), ".deb"),
            Path::new("src/linux-7.3.new.deb")
        );
    }
}
