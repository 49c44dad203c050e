// SPDX-License-Identifier: GPL-2.0-only
//! The C of the module by the kernel's own rules, and what is worth a minute and a half before each commit.

use crate::checks;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::kernel;
use crate::plan::{HALF, ONE, Plan};
use crate::selftests;
use crate::steps;
use crate::tally::Tally;
use crate::tree;
use crate::ui;
use anyhow::{Result, ensure};

/// What `checkpatch.pl` says of this code in vain, and why.
const EXEMPT: [(&str, &str); 6] = [
    // It looks for kzalloc_obj(), which 6.12 has not.
    ("", "ALLOC_WITH_SIZEOF"),
    // Differences between kernel versions are what this file is for.
    (
        "kmod-ovpn/shim/compat.h",
        "LINUX_VERSION_CODE,CONSTANT_COMPARISON,SPACING,COMPLEX_MACRO,NEW_TYPEDEFS",
    ),
    // Read by bindgen without the kernel's headers: the integer types are declared here.
    ("kmod-ovpn/shim/api/types.h", "NEW_TYPEDEFS"),
    // Copies of the socket's own operations, filled in when the first socket is attached.
    ("kmod-ovpn/shim/tcp.c", "CONST_STRUCT"),
    // Functions of Rust, which no header declares.
    ("kmod-ovpn/embedded/print.c", "AVOID_EXTERNS"),
    ("kmod-ovpn/embedded/compat.c", "AVOID_EXTERNS"),
];

/// `checkpatch.pl` of the pinned kernel over all C of the module: a case for each file.
pub fn checkpatch(ctx: &Ctx) -> Result<Tally> {
    let script = fetch::unpack(ctx, selftests::SOURCE)?.join("scripts/checkpatch.pl");
    let mut tally = Tally::default();
    for file in &tree::files(ctx, &["kmod-ovpn/*.c", "kmod-ovpn/*.h"])? {
        let mut said = Vec::new();
        let status = Cmd::new(ctx, "perl")
            .arg(&script)
            .args(["--no-tree", "--terse", "--show-types", "--no-summary"])
            .args(["--ignore", &exempt(file), "--file"])
            .arg(ctx.project.join(file))
            // It leaves a file behind where it works.
            .cwd(&ctx.cache)
            .status_with(|line| said.push(line.to_owned()))?;
        tally += match status.success() {
            true => Tally::pass(),
            false => {
                said.iter().for_each(ui::say);
                Tally::fail(format!("checkpatch: {file}: {} remarks", said.len()))
            }
        };
    }
    ensure!(tally != Tally::default(), "there is no C to check");
    Ok(tally)
}

fn exempt(file: &str) -> String {
    let types: Vec<_> = EXEMPT
        .iter()
        .filter(|(of, _)| of.is_empty() || *of == file)
        .map(|(_, types)| *types)
        .collect();
    types.join(",")
}

/// `make check`: formatting, lints, unit tests, the kernel's style; the module's lints where its kernel is built.
pub fn before_commit(ctx: &Ctx) -> Result<Tally> {
    let mut plan = Plan::default();
    plan.keep(ctx.cache.join("steps-check.txt"));
    plan.step("workspace", &[], ONE, || checks::workspace(ctx));
    plan.step("checkpatch", &[], HALF, || checkpatch(ctx));
    if kernel::is_built(ctx, steps::UM)? {
        plan.step("um module lints", &[], ONE, || {
            kernel::module_lints(ctx, steps::UM).map(|()| Tally::pass())
        });
    }
    // Behind the lints: cargo has one lock for both.
    plan.step("unit", &["workspace"], ONE, || checks::unit(ctx));
    plan.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_for_one_file() {
        assert_eq!(exempt("kmod-ovpn/shim/route.c"), "ALLOC_WITH_SIZEOF");
        assert_eq!(
            exempt("kmod-ovpn/shim/api/types.h"),
            "ALLOC_WITH_SIZEOF,NEW_TYPEDEFS"
        );
    }
}
