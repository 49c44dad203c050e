// SPDX-License-Identifier: GPL-2.0-only
//! Two emulated routers with a tunnel between them: to watch, and to test.
#![deny(missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

mod bad;
mod cost;
mod cpio;
mod daemon;
mod host;
mod image;
mod lab;
pub mod machine;
mod openvpn;
mod packages;
mod pki;
mod probe;
mod report;
mod underlay;
pub mod vm;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub use cost::{cost, gate};
use image::Put;
use lab::Bench;
use machine::Machine;
pub use report::Tally;
use report::{Report, Style};
use underlay::MODULE;

/// Longest the suites inside a guest may take.
const SUITES: Duration = Duration::from_secs(20 * 60);

/// Suites that the third machine runs: all between two peers, and the ground of what a server and TCP add to it. The rest of
/// those is for faster machines.
const SUITE_CASES: [&str; 3] = [
    "uapi,p2p",
    "mp lookup: 'reverse path' 'client to client' 'inner addresses'",
    "tcp 'stream cut' traffic: 'control packets' garbage 'end of the stream' reset",
];

/// Programs that were built elsewhere and run here; all programs are for the guest.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The board.
    pub machine: &'static Machine,
    /// Directory for everything that outlives a run, outside the source tree.
    pub cache: PathBuf,
    /// Unpacked packages of the guest's architecture.
    pub root: PathBuf,
    /// Kernel image as QEMU boots it.
    pub kernel: PathBuf,
    /// Build directory of that kernel: its modules are taken from there.
    pub kernel_build: PathBuf,
    /// A root into which our packages were installed: module, daemon and tool.
    pub installed: PathBuf,
    /// Recipes of the packages, each in a directory of its name, with its test.
    pub recipes: PathBuf,
    /// The suites that run inside a guest.
    pub tests: PathBuf,
    /// A ubus broker.
    pub ubusd: PathBuf,
    /// A ubus command line client.
    pub ubus_client: PathBuf,
}

/// Shows the chain at work to a person: two routers, a tunnel by ovpnd, then
/// one by stock OpenVPN.
///
/// # Errors
/// Something of it failed; the story ends there.
pub fn demo(inputs: &Inputs) -> Result<()> {
    let mut report = Report::new(Style::Story, inputs.machine.lane);
    println!(
        "Two emulated routers ({}) and a tunnel between them.",
        inputs.machine.description
    );
    let started = Instant::now();
    run(inputs, &mut report, false)?;
    let tally = report.finish();
    println!(
        "\nAll {} steps held, in {:.1} minutes.",
        tally.passed,
        started.elapsed().as_secs_f32() / 60.0
    );
    Ok(())
}

/// The same as TAP on standard output, with bad cases and the suites that run
/// inside a guest.
///
/// # Errors
/// The routers could not be had at all. A failed case is no error: it is
/// counted.
pub fn system_test(inputs: &Inputs) -> Result<Tally> {
    let mut report = Report::new(Style::Tap, inputs.machine.lane);
    run(inputs, &mut report, true)?;
    if inputs.machine.suites {
        suites(inputs, &mut report, SUITE_CASES)?;
    }
    Ok(report.finish())
}

/// Suites of the guest's test program alone, on one machine, as TAP on standard output; each of `cases` is the arguments of
/// one run of that program.
///
/// # Errors
/// The machine could not be had. A failed case is no error: it is counted.
pub fn suites_test<'a>(inputs: &Inputs, cases: impl IntoIterator<Item = &'a str>) -> Result<Tally> {
    let mut report = Report::new(Style::Tap, inputs.machine.lane);
    suites(inputs, &mut report, cases)?;
    Ok(report.finish())
}

/// Inputs of the kernel's own selftests beside [`Inputs`], whose root is one with bash and Python here.
#[derive(Clone, Debug)]
pub struct Selftests {
    /// Directory with a part of a kernel source tree in usr/lib/selftests.
    pub tree: PathBuf,
    /// Their client of the driver, for the guest.
    pub cli: PathBuf,
    /// Names of the scripts to run, in order.
    pub scripts: Vec<String>,
}

/// The kernel's own selftests as TAP on standard output, on a machine whose clock counts instructions.
///
/// # Errors
/// The machine could not be had, or died.
pub fn selftests(inputs: &Inputs, what: &Selftests) -> Result<Tally> {
    let mut report = Report::new(Style::Tap, inputs.machine.lane);
    let mut bench = Bench::new(inputs)?;
    bench.tree = Some(what.tree.clone());
    let vm = bench.boot(
        "selftests",
        4,
        None,
        vec![Put::program("ovpn-cli", &what.cli)?],
    )?;
    for script in &what.scripts {
        let command = format!("ovpn-tests selftests --tree /usr/lib/selftests {script}");
        let output = vm.exec(&command, SUITES)?;
        report.relay(&output.stdout);
        // 1 and 3: something failed or was skipped, which is counted.
        ensure!(
            matches!(output.status, 0 | 1 | 3),
            "{script}: ovpn-tests gave status {}\n{}",
            output.status,
            output.stderr
        );
    }
    report.step(
        "selftests: the kernel has nothing to complain about",
        |notes| probe::clean_log(notes, &vm),
    )?;
    vm.shutdown()?;
    Ok(report.finish())
}

/// Commands that measure the kernel's memory and the daemon's. Each prints its figures.
const MEASUREMENTS: [(&str, &str); 3] = [
    (
        "the module itself",
        "modprobe ovpn && grep '^ovpn ' /proc/modules",
    ),
    (
        "the module's memory with 1 and with 100 peers",
        "ovpn-tests memory ovpn=/lib/modules/$(uname -r)/ovpn.ko --keys --peers 1,100",
    ),
    (
        "the daemon's memory with 1 and with 100 peers",
        "ovpn-tests --module /lib/modules/$(uname -r)/ovpn.ko --patience 8 daemon 'memory with'",
    ),
];

/// Prints what module and daemon take in memory, as comments of TAP on standard output.
///
/// # Errors
/// The machine could not be had. A failed measurement is no error: it is counted.
pub fn memory(inputs: &Inputs) -> Result<Tally> {
    let mut report = Report::new(Style::Tap, inputs.machine.lane);
    let bench = Bench::new(inputs)?;
    let client = Put::program("ubus-client", &inputs.ubus_client)?;
    let vm = bench.boot("memory", 5, None, vec![client])?;
    for (what, command) in MEASUREMENTS {
        report.step(what, |_| {
            let figures = vm.exec(command, SUITES)?.success(command)?;
            ensure!(!figures.trim().is_empty(), "{command}: measured nothing");
            figures.lines().for_each(|line| println!("# {line}"));
            Ok(())
        })?;
    }
    report.step(
        "memory: the kernel has nothing to complain about",
        |notes| probe::clean_log(notes, &vm),
    )?;
    report.step("memory: the machine powers off", |_| vm.shutdown())?;
    Ok(report.finish())
}

/// The one body of both.
fn run(inputs: &Inputs, report: &mut Report, bad_cases: bool) -> Result<()> {
    let bench = Bench::new(inputs)?;
    let a = pki::identity("router-a", bench.scratch())?;
    let b = pki::identity("router-b", bench.scratch())?;
    let (mut files_a, mut files_b) = daemon::files();
    files_a.extend(openvpn::files(&a));
    files_b.extend(openvpn::files(&b));
    let pair = bench.pair(files_a, files_b)?;

    underlay::steps(report, &bench, &pair)?;
    packages::steps(report, inputs, &pair)?;
    let traps = probe::unaligned(&pair)?;
    daemon::steps(report, &pair)?;
    daemon::end(report, &pair)?;
    if let Some(before) = traps {
        report.step("no access to unaligned data was trapped", |notes| {
            let after = probe::unaligned(&pair)?;
            notes.say(&format!(
                "counted by the kernels: {before:?}, then {after:?}"
            ));
            ensure!(
                after == Some(before),
                "the traps of both: {before:?}, then {after:?}"
            );
            Ok(())
        })?;
    }
    if bad_cases {
        bad::steps(report, &pair)?;
    }
    if inputs.machine.openvpn {
        openvpn::steps(report, &pair, &a, &b)?;
    }
    report.step("the module unloads", |notes| {
        for vm in [&pair.a, &pair.b] {
            probe::show(notes, vm, "rmmod ovpn")?;
        }
        Ok(())
    })?;
    report.step("the kernels have nothing to complain about", |notes| {
        probe::clean_log(notes, &pair.a)?;
        probe::clean_log(notes, &pair.b)
    })?;
    report.step("the routers power off", |_| {
        pair.a.shutdown()?;
        pair.b.shutdown()
    })
}

/// The suites of the guest's test program, on a machine of their own.
fn suites<'a>(
    inputs: &Inputs,
    report: &mut Report,
    cases: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let bench = Bench::new(inputs)?;
    let vm = bench.boot("suites", 3, None, Vec::new())?;
    for cases in cases {
        let command = format!("ovpn-tests --module {MODULE} --patience 8 {cases}");
        let output = vm.exec(&command, SUITES)?;
        report.relay(&output.stdout);
        report.step(&format!("{cases}: to the end"), |notes| {
            notes.say(&output.stderr);
            // 3 is "nothing failed, something was skipped", which is counted.
            ensure!(
                matches!(output.status, 0 | 3),
                "ovpn-tests gave status {}",
                output.status
            );
            probe::clean_log(notes, &vm)
        })?;
    }
    report.step("the suites' machine powers off", |_| vm.shutdown())
}

/// Tells a person that something slow begins. Standard output is kept for
/// results.
fn progress(what: &str) {
    eprintln!("[qemu-arm] {what}");
}
