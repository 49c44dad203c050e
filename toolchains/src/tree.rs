// SPDX-License-Identifier: GPL-2.0-only
//! The project's own files.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use anyhow::Result;

/// Paths below the project of all files that are there and that git knows or would add; with `only`, those that fit one of its
/// patterns.
pub fn files(ctx: &Ctx, only: &[&str]) -> Result<Vec<String>> {
    let listed = Cmd::new(ctx, "git")
        .args(["ls-files", "-z", "--cached", "--others"])
        .args(["--exclude-standard", "--"])
        .args(only)
        .cwd(&ctx.project)
        .output()?;
    let there = |file: &&str| !file.is_empty() && ctx.project.join(file).is_file();
    Ok(listed
        .split('\0')
        .filter(there)
        .map(str::to_owned)
        .collect())
}
