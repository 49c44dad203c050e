// SPDX-License-Identifier: GPL-2.0-only
//! Root file systems for guests: packages unpacked without running their scripts, so no privileges and no surprises.

use crate::apt;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch::beside;
use crate::stamp::{self, Key};
use crate::ui::{self, Progress};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// First id of the users that packages make for themselves (Debian policy, 9.2.2, but group 100 is taken).
const SYSTEM_USERS: u32 = 101;

/// Builds a root unless it stands, from the same list of packages.
pub fn build(ctx: &Ctx, name: &str) -> Result<()> {
    let root = ctx.lock.root(name)?;
    let mut key = Key::new("root 2")
        .with(&ctx.lock.debian.suite)
        .with(format!("{root:?}"));
    for deb in &root.debs {
        // Before the key is complete: it may move on.
        apt::pinned(ctx, deb)?;
        key = key.with(&ctx.deb(deb)?.sha256);
    }
    let dir = ctx.root(name);
    let stamp = stamp::path(&ctx.cache.join("roots"), name);
    stamp::once(&stamp, &dir, key, || {
        let suite = &ctx.lock.debian.suite;
        let (files, manifest) = apt::closure(ctx, suite, &root.arch, &root.debs, &root.packages)?;
        let new = beside(&dir, ".new");
        extract(ctx, &files, &new)?;
        // The work of the packages' scripts, as far as a test guest needs it.
        for (link, target) in &root.links {
            symlink(target, new.join(link)).with_context(|| format!("cannot make {link}"))?;
        }
        let ids = (SYSTEM_USERS..).zip(&root.users);
        let (mut passwd, mut group) = (String::new(), String::new());
        for (id, user) in ids {
            passwd += &format!("{user}:x:{id}:{id}::/:/usr/sbin/nologin\n");
            group += &format!("{user}:x:{id}:\n");
        }
        for (file, more) in [("passwd", passwd), ("group", group)] {
            let master = new.join(format!("usr/share/base-passwd/{file}.master"));
            let text = fs::read_to_string(&master)
                .with_context(|| format!("cannot read {}", master.display()))?;
            fs::write(new.join("etc").join(file), text + &more)?;
        }
        fs::write(
            new.join("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
        )?;
        fs::create_dir_all(new.join("mnt"))?;
        fs::write(new.join("etc/packages"), manifest)?;
        replace(&dir, &new)
    })?;
    Ok(())
}

/// Architecture of the programs of older releases: the build machine's, which user-mode guests share.
const ARCH: &str = "amd64";

/// Unpacks the programs of older releases unless they are there. A release that the mirror has no longer is an error, and what
/// needs its program is skipped.
pub fn older(ctx: &Ctx) -> Result<()> {
    for program in &ctx.lock.older {
        apt::pinned(ctx, &program.deb)?;
        let key = Key::new("older 1")
            .with(&program.suite)
            .with(&ctx.deb(&program.deb)?.sha256);
        let dir = ctx.root(&program.name);
        let stamp = stamp::path(&ctx.cache.join("roots"), &program.name);
        stamp::once(&stamp, &dir, key, || {
            let debs = std::slice::from_ref(&program.deb);
            let (files, _) = apt::closure(ctx, &program.suite, ARCH, debs, &[])?;
            let new = beside(&dir, ".new");
            extract(ctx, &files, &new)?;
            replace(&dir, &new)
        })?;
    }
    Ok(())
}

/// Unpacks packages into an empty directory.
fn extract(ctx: &Ctx, files: &[PathBuf], new: &Path) -> Result<()> {
    if new.exists() {
        fs::remove_dir_all(new)?;
    }
    ui::say(format!("unpacking {} packages", files.len()));
    let progress = Progress::new("");
    for file in files {
        progress.detail(&file.file_name().unwrap_or_default().to_string_lossy());
        Cmd::new(ctx, "dpkg-deb")
            .arg("--extract")
            .arg(file)
            .arg(new)
            .output()?;
    }
    Ok(())
}

/// Puts a new directory into the place of another one: guests that run now see one or the other, never a half.
fn replace(dir: &Path, new: &Path) -> Result<()> {
    let old = beside(dir, ".old");
    if old.exists() {
        fs::remove_dir_all(&old)?;
    }
    if dir.exists() {
        fs::rename(dir, &old)?;
    }
    fs::rename(new, dir)?;
    if old.exists() {
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}
