// SPDX-License-Identifier: GPL-2.0-only
//! The web pages: their rules and translations, and their tests in a browser against a router in a guest.

use crate::apt::Unavailable;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::stamp::{self, Key};
use crate::tally::{Tally, Tap, check_log};
use crate::ui;
use crate::um::Guest;
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The pages in the source tree.
const APP: &str = "luci-app-ovpn";
/// Files that npm makes, which are not copied over.
const MODULES: &str = "node_modules";
/// Debian's package `chromium-headless-shell`: Chromium without what draws on a screen.
const BROWSER: &str = "/usr/bin/chromium-headless-shell";
/// Several times what the cases take on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// ESLint with LuCI's rules, whether every string is in the template and in every language, and how files are read.
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
    for test in ["tests/strings.mjs", "tests/units.mjs"] {
        tally += tap(Cmd::new(ctx, "node").arg(test).cwd(&dir))?;
    }
    Ok(tally)
}

/// Every page in a browser. A guest of `lane` is the router: its console is the standard input of the program that drives
/// the browser. With `part`, only cases with that in their names.
pub fn browser(ctx: &Ctx, lane: &str, module: &str, part: Option<&str>) -> Result<Tally> {
    let dir = stage(ctx)?;
    let pictures = ctx.logs().join("luci");
    let _ = fs::remove_dir_all(&pictures);
    let (ours, theirs) = UnixStream::pair()?;
    let command = [
        "/lane/bin/ovpn-tests",
        "bridge",
        "--module",
        module,
        "/dev/tty2",
    ];
    let mut guest = Guest::new(ctx, lane, command.map(str::to_owned).to_vec())?;
    guest.timeout = TIMEOUT;
    guest.line = Some(theirs);
    let label = ui::label();
    let mut tally = Tally::default();
    let outcome = thread::scope(|scope| {
        let guest = scope.spawn(move || {
            ui::set_label(&label);
            let outcome = guest.run(ctx, |line| ui::say(line));
            // Its end of the line goes with it: who still waits for an answer learns that there will be none.
            drop(guest);
            outcome
        });
        let tests = Cmd::new(ctx, "node")
            .arg("tests/run.mjs")
            .arg(BROWSER)
            .arg(&pictures)
            .args(part);
        let driven = ours
            .try_clone()
            .map_err(Into::into)
            .and_then(|line| tap(tests.stdin(OwnedFd::from(line)).cwd(&dir).timeout(TIMEOUT)));
        // Told, not hung up on: user-mode Linux (7.2, arch/um/drivers/chan_kern.c) frees the line's interrupt inside
        // that interrupt, which may sleep.
        let _ = (&ours).write_all(b"{\"end\": true}\n");
        (driven, guest.join())
    });
    let (driven, guest) = outcome;
    tally += driven?;
    let guest = guest.map_err(|_| anyhow!("the guest's thread panicked"))??;
    tally += check_log(lane, &guest.dmesg);
    tally += match guest.code() {
        Ok(0) => Tally::pass(),
        Ok(code) => Tally::fail(format!("bridge: exit status {code}")),
        Err(err) => Tally::fail(format!("bridge: {err:#}")),
    };
    ui::say(format!("pictures: {}", pictures.display()));
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
