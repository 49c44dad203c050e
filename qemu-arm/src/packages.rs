// SPDX-License-Identifier: GPL-2.0-only
//! The routers run this project's programs out of packages, which bring tests of their own.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::Inputs;
use crate::lab::Pair;
use crate::report::Report;

/// Where apk keeps what is installed: a paragraph a package, name and version first.
const DATABASE: &str = "/lib/apk/db/installed";

/// Has each package's test run on router b.
pub(crate) fn steps(report: &mut Report, inputs: &Inputs, pair: &Pair) -> Result<()> {
    report.step("the installed packages pass their own tests", |notes| {
        let known = pair.b.run(&format!("grep -E '^[PV]:' {DATABASE}"))?;
        let mut lines = known.lines().filter_map(|line| line.split_once(':'));
        let mut count = 0;
        while let (Some((_, name)), Some((_, version))) = (lines.next(), lines.next()) {
            let path = inputs.recipes.join(name).join("test.sh");
            let test = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            // They are called with the version of the source, without that of the recipe.
            let plain = version.split("-r").next().unwrap_or(version);
            pair.b.write("/tmp/test.sh", 0o755, &test)?;
            pair.b
                .run(&format!("sh /tmp/test.sh {name} {plain}"))
                .with_context(|| format!("the test of {name} {version}"))?;
            notes.say(&format!("{name} {version}"));
            count += 1;
        }
        ensure!(count > 0, "no package is installed");
        Ok(())
    })
}
