// SPDX-License-Identifier: GPL-2.0-only
//! The web pages: their rules and translations.

use crate::apt::Unavailable;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::stamp::{self, Key};
use crate::tally::{Tally, Tap};
use crate::ui;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The pages in the source tree.
const APP: &str = "luci-app-ovpn";
/// What npm makes, which is not copied over.
const MODULES: &str = "node_modules";

/// ESLint with LuCI's rules, and whether every string is in the template and in every language.
pub fn lint(ctx: &Ctx) -> Result<Tally> {
    let dir = stage(ctx)?;
    let eslint = Cmd::new(ctx, "npx")
        .args(["--no-install", "eslint", "--max-warnings", "0", "."])
        .cwd(&dir)
        .run();
    let mut tally = match eslint {
        Ok(()) => Tally::pass(),
        Err(err) => {
            ui::say(format!("{err:#}"));
            Tally::fail("eslint")
        }
    };
    tally += tap(Cmd::new(ctx, "node").arg("tests/strings.mjs").cwd(&dir))?;
    Ok(tally)
}

/// Runs a program that reports in TAP; one that ends badly without saying why is a failure.
fn tap(cmd: Cmd) -> Result<Tally> {
    let mut tap = Tap::default();
    let status = cmd.status_with(|line| {
        tap.line(line);
        ui::say(line);
    })?;
    let mut tally = tap.finish();
    if !status.success() && tally.is_clean() {
        tally += Tally::fail(format!("{status}, although nothing was reported"));
    }
    Ok(tally)
}

/// Copies the pages to where npm may put its packages beside them, and has it install those of the lock file.
fn stage(ctx: &Ctx) -> Result<PathBuf> {
    let from = ctx.project.join(APP);
    let dir = ctx.cache.join("luci").join(APP);
    let key = Key::new("npm 1")
        .with_file(&from.join("package.json"))?
        .with_file(&from.join("package-lock.json"))?;
    fs::create_dir_all(&dir)?;
    let lock = stamp::lock(&dir.with_extension("copy"))?;
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        if entry.file_name() == MODULES {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    copy(&from, &dir)?;
    drop(lock);
    stamp::once(
        &stamp::path(&ctx.cache.join("luci"), "npm"),
        &dir.join(MODULES),
        key,
        || {
            Cmd::new(ctx, "npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .cwd(&dir)
                .run()
                .map_err(|err| Unavailable(format!("npm packages: {err:#}")).into())
        },
    )?;
    Ok(dir)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let at = to.join(entry.file_name());
        if entry.file_name() == MODULES {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&at)?;
            copy(&entry.path(), &at)?;
        } else {
            fs::copy(entry.path(), &at)?;
        }
    }
    Ok(())
}
