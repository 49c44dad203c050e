// SPDX-License-Identifier: GPL-2.0-only
//! `lane`: fetches, builds and tests every lane; the harness behind `make`.

mod cli;
mod cmd;
mod ctx;
mod guest;
mod lock;
mod stamp;
mod ui;
mod um;

use crate::cli::RunArgs;
use crate::ctx::Ctx;
use anyhow::{Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    if program.ends_with(guest::INIT) {
        guest::init();
    }
    let args: Vec<_> = args.collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("lane: {err:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let Some((verb, rest)) = args.split_first() else {
        bail!("usage")
    };
    let ctx = Ctx::new()?;
    match verb.as_str() {
        "run" => run(&ctx, rest),
        _ => bail!("{verb} is not known"),
    }
}

fn run(ctx: &Ctx, args: &[String]) -> Result<ExitCode> {
    let args = RunArgs::parse(args)?;
    let mut guest = um::Guest::new(ctx, &args.lane, args.command)?;
    guest.mounts.extend(args.mounts);
    guest.args = args.append;
    guest.mem = args.mem;
    guest.cpus = args.cpus;
    guest.timeout = args.timeout;
    let outcome = guest.run(ctx, |line| println!("{line}"))?;
    eprintln!(
        "lane: {} in the guest; kernel log: {}",
        ui::clock(outcome.elapsed),
        outcome.dmesg_path.display()
    );
    Ok(ExitCode::from(u8::try_from(outcome.code()?).unwrap_or(1)))
}
