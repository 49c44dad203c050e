// SPDX-License-Identifier: GPL-2.0-only
//! System tests of the driver, run as root inside a guest whose kernel may be broken without harm.
//!
//! `ovpn-tests [--module FILE] [--cli FILE] [--patience N] [--first] [--list] SUITE[,SUITE...] [CASE...]`

mod bridge;
mod iperf;
mod lab;
mod nl;
mod selftests;
mod suites;
mod tap;
mod wire;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use lab::{KernelLog, Module};
use suites::Suite;
use tap::{Case, During, Failure, Outcome, Totals};

const USAGE: &str = "usage: ovpn-tests [--module FILE] [--cli FILE] [--patience N] [--first] [--list] SUITE[,SUITE...] [CASE...]
       ovpn-tests selftests --tree DIR [--module FILE] [--cli FILE] [--patience N] [SCRIPT...]
       ovpn-tests bench --a NAME=FILE --b NAME=FILE [--rounds N] [--seconds N] [--json FILE] [--only ROW]...
       ovpn-tests ratio --a NAME=FILE --b NAME=FILE [--rounds N] [--seconds N] [--tune COMMAND]... [--only ROW]...
       ovpn-tests memory NAME=FILE [--keys] [--peers N,N..]
       ovpn-tests bridge [--module FILE] TTY
       ovpn-tests cost [--module FILE] [--packets N] [--instruction NS]
       ovpn-tests instructions --driver NAME=FILE... [--wireguard] [--packets N] [--only ROW]...
A CASE is a part of a case's name. --patience multiplies every deadline and divides every floor of throughput.
--first ends at the first case that fails.
Suites: ";

/// Resources that every case may use.
pub struct Ctx {
    /// The driver under test.
    pub module: Module,
    /// The kernel selftests' ovpn-cli.
    pub cli: Option<PathBuf>,
}

struct Args {
    module: Option<PathBuf>,
    cli: Option<PathBuf>,
    list: bool,
    first: bool,
    suites: String,
    cases: Vec<String>,
}

fn parse_args(args: impl Iterator<Item = String>) -> Result<Args, String> {
    let (mut module, mut cli, mut names) = (None, None, Vec::new());
    let (mut list, mut first) = (false, false);
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .map(PathBuf::from)
                .ok_or(format!("{arg} needs a value"))
        };
        match arg.as_str() {
            "--module" => module = Some(value()?),
            "--cli" => cli = Some(value()?),
            "--patience" => {
                let factor = value()?
                    .to_string_lossy()
                    .parse()
                    .map_err(|_| "--patience takes a number")?;
                lab::set_patience(factor);
            }
            "--list" => list = true,
            "--first" => first = true,
            "--help" => return Err("help".into()),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => names.push(arg),
        }
    }
    if names.is_empty() {
        return Err("no suite given".into());
    }
    let suites = names.remove(0);
    Ok(Args {
        module,
        cli,
        list,
        first,
        suites,
        cases: names,
    })
}

/// ovpn-cli from the command line, beside this program, or in PATH.
fn find_cli(given: Option<PathBuf>) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.join("ovpn-cli");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("ovpn-cli"));
    given
        .into_iter()
        .chain([beside])
        .chain(in_path)
        .find(|p| p.is_file())
}

/// The last case of a suite: nothing in the kernel's log since its start tells of a defect.
fn log_case(log: Rc<RefCell<KernelLog>>) -> Case {
    Case::new("kernel log", move |_| {
        let lines = log.borrow_mut().drain()?;
        let bad: Vec<&String> = lines.iter().filter(|l| kernel_log::is_trouble(l)).collect();
        let Some(first) = bad.first() else {
            return Ok(());
        };
        let start = lines.iter().position(|l| l == *first).unwrap_or(0);
        let around: Vec<&str> = lines
            .iter()
            .skip(start)
            .take(60)
            .map(String::as_str)
            .collect();
        Err(Failure::new(format!(
            "{} lines of trouble\n{}",
            bad.len(),
            around.join("\n")
        )))
    })
}

fn run(args: Args, chosen: &[Suite]) -> Outcome<Totals> {
    let wanted = |case: &Case| {
        args.cases.is_empty() || args.cases.iter().any(|w| case.name.contains(w.as_str()))
    };
    let mut plan = Vec::new();
    for suite in chosen {
        let mut cases = (suite.cases)();
        cases.retain(wanted);
        plan.push((suite, cases));
    }
    plan.retain(|(_, cases)| !cases.is_empty());
    if args.list {
        for (suite, cases) in &plan {
            cases
                .iter()
                .for_each(|case| println!("{}: {}", suite.name, case.name));
        }
        return Ok(Totals::default());
    }
    if plan.is_empty() {
        return Err(Failure::new("no case of that name"));
    }
    let ctx = Ctx {
        module: Module::new(args.module),
        cli: find_cli(args.cli),
    };
    println!(
        "TAP version 13\n1..{}",
        plan.iter().map(|(_, cases)| cases.len() + 1).sum::<usize>()
    );
    let (mut number, mut totals) = (0, Totals::default());
    for (suite, cases) in plan {
        ctx.module.reload().during("module")?;
        note!(
            "{}: driver is {}",
            suite.name,
            if Module::ours() {
                "this project's"
            } else {
                "mainline's"
            }
        );
        let log = Rc::new(RefCell::new(KernelLog::from_now()?));
        for case in cases.iter().chain([&log_case(log)]) {
            number += 1;
            tap::report(number, suite.name, case, &ctx, &mut totals);
            if args.first && totals.failed > 0 {
                return Ok(totals);
            }
        }
    }
    note!(
        "passed {}, failed {}, skipped {}",
        totals.passed,
        totals.failed,
        totals.skipped
    );
    Ok(totals)
}

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    if Path::new(&program).ends_with("iperf3") {
        return iperf::main(args).into();
    }
    let mut args = args.peekable();
    let outcome = if args.next_if(|a| a == "bench").is_some() {
        suites::bench::run(args)
    } else if args.next_if(|a| a == "ratio").is_some() {
        suites::bench::ratio::run(args)
    } else if args.next_if(|a| a == "cost").is_some() {
        suites::bench::cost::run(args)
    } else if args.next_if(|a| a == "instructions").is_some() {
        suites::bench::instructions::run(args)
    } else if args.next_if(|a| a == "memory").is_some() {
        suites::bench::memory::run(args)
    } else if args.next_if(|a| a == "bridge").is_some() {
        bridge::run(args)
    } else if args.next_if(|a| a == "selftests").is_some() {
        selftests::run(args)
    } else {
        parse_args(args).map_err(Failure::new).and_then(|args| {
            let chosen = suites::by_names(&args.suites)?;
            run(args, &chosen)
        })
    };
    match outcome {
        Ok(totals) => totals.exit_code().into(),
        Err(Failure::Failed(why) | Failure::Skipped(why)) => {
            eprintln!("ovpn-tests: {why}\n{USAGE}{}", suites::names());
            ExitCode::from(2)
        }
    }
}
