// SPDX-License-Identifier: GPL-2.0-only
//! Root file systems for guests: packages unpacked without running their scripts, so no privileges and no surprises.

use crate::apt;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::stamp::{self, Key};
use crate::ui::{self, Progress};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;

/// Builds a root unless it stands, from the same list of packages.
pub fn build(ctx: &Ctx, name: &str) -> Result<()> {
    let root = ctx.lock.root(name)?;
    let mut key = Key::new("root 1")
        .with(&ctx.lock.debian.suite)
        .with(format!("{root:?}"));
    for deb in &root.debs {
        key = key.with(&ctx.lock.deb(deb)?.sha256);
    }
    let dir = ctx.root(name);
    let stamp = stamp::path(&ctx.cache.join("roots"), name);
    stamp::once(&stamp, &dir, key, || {
        let (files, manifest) = apt::closure(ctx, root)?;
        let new = dir.with_extension("new");
        for old in [&new, &dir] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        ui::say(format!("unpacking {} packages", files.len()));
        let progress = Progress::new("");
        for file in &files {
            progress.detail(&file.file_name().unwrap_or_default().to_string_lossy());
            Cmd::new(ctx, "dpkg-deb")
                .arg("--extract")
                .arg(file)
                .arg(&new)
                .output()?;
        }
        // What the packages' scripts would have done, as far as a test guest needs it.
        for (link, target) in &root.links {
            symlink(target, new.join(link)).with_context(|| format!("cannot make {link}"))?;
        }
        for file in ["passwd", "group"] {
            fs::copy(
                new.join(format!("usr/share/base-passwd/{file}.master")),
                new.join("etc").join(file),
            )?;
        }
        fs::write(
            new.join("etc/hosts"),
            "127.0.0.1 localhost\n::1 localhost\n",
        )?;
        fs::create_dir_all(new.join("mnt"))?;
        fs::write(new.join("etc/packages"), manifest)?;
        fs::rename(&new, &dir)?;
        Ok(())
    })?;
    Ok(())
}
