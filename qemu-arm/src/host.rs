// SPDX-License-Identifier: GPL-2.0-only
//! Programs of the host.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a host command to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().take(6).collect::<Vec<_>>().join("\n  ");
        bail!("{program} failed ({}): {complaint}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
