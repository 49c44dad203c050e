// SPDX-License-Identifier: GPL-2.0-only
//! What `lane test`, `test-fast`, `bench` and `demo` consist of.

use crate::checks;
use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::faults::{self, Driver, Figures};
use crate::fetch;
use crate::kernel;
use crate::lanes;
use crate::musl;
use crate::packages;
use crate::plan::{BOTH, HALF, NONE, ONE, Plan};
use crate::root;
use crate::selftests::{self, Column, Table};
use crate::tally::{Tally, Tap, check_log};
use crate::ui;
use crate::um::{self, Guest};
use anyhow::{Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

pub const UM: &str = "um-7.2";
const UM_OLD: &str = "um-6.12";
const UM_NEW: &str = "um-7.3";
pub const ARM: &str = "arm-6.12";
/// Our module as the user-mode guests see it.
pub const OURS: &str = "/lane/module/ovpn.ko";
/// A suite of `lane test-lanes`: it asks OpenVPN about more than a thousand configurations.
pub const LONG_SUITE: &str = "verdicts";
/// Suites with OpenVPN of older releases beside 2.7: ovpnd with some of the settings, and with all couples of them.
const RELEASES_SUITE: &str = "releases";
pub const MATRIX_SUITE: &str = "matrix";
pub const RELEASES_READY: [&str; 4] = ["um programs", "um module", "um root", "older openvpn"];
pub const UM_READY: [&str; 3] = ["um programs", "um module", "um root"];
/// The suite of `lane test-fast`.
const FAST_SUITES: &str = "fast";
/// Suites of `ovpn-tests`, the load they are, and what the kernel is told. Renegotiations take five minutes, most of which is
/// waiting, but a packet waits for OpenVPN's next key no longer than the driver holds it: beside other work pings are lost there.
const SUITES: &[(&str, u32, &[&str])] = &[
    ("openvpn-reneg", BOTH, &[]),
    (FAST_SUITES, HALF, &[]),
    ("server", HALF, &[]),
    ("openvpn", HALF, &[]),
    ("openvpn-server", HALF, &[]),
    ("daemon", HALF, &[]),
    ("engine", ONE, &[]),
    ("leak", ONE, &["kmemleak=on"]),
];
/// The module in embedded mode on 64 bits, and the checks that this mode may change.
const UM_OLD_READY: [&str; 3] = ["um programs", "um-6.12 module", "um root"];
const UM_OLD_SUITES: [(&str, u32, &[&str]); 2] =
    [(FAST_SUITES, HALF, &[]), ("leak", ONE, &["kmemleak=on"])];
const UM_NEW_SUITES: [(&str, u32, &[&str]); 3] = [
    (FAST_SUITES, HALF, &[]),
    ("server", HALF, &[]),
    ("leak", ONE, &["kmemleak=on"]),
];
/// The kernel's own selftests: this driver on every lane, and the mainline one where the kernel has it.
const NATIVE: Column = Column {
    title: "um-7.2",
    lane: UM,
    module: Some(OURS),
    ours: true,
};
const MAINLINE: Column = Column {
    title: "um-7.2 C",
    lane: UM,
    module: None,
    ours: false,
};
const EMBEDDED: Column = Column {
    title: "um-6.12",
    lane: UM_OLD,
    module: Some(OURS),
    ours: true,
};
const COLUMNS: [Column; 3] = [NATIVE, MAINLINE, EMBEDDED];
/// Steps before guests of the kernel that notices faults can start.
const DEBUG_READY: [&str; 3] = ["um programs", "debug module", "um root"];
/// Guests share two processors with everything else: deadlines are this many times longer.
const PATIENCE: &str = "2";
/// The longest suite takes a quarter of this on an idle machine.
const SUITE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Everything.
pub fn test(ctx: &Ctx) -> Result<Tally> {
    let table = Table::default();
    let figures = Figures::default();
    let mut plan = Plan::default();
    host(ctx, &mut plan);
    um_lane(ctx, &mut plan);
    arm_lane(ctx, &mut plan);
    older_openvpn(ctx, &mut plan);
    um_old_lane(ctx, &mut plan);
    debug_lane(ctx, &mut plan);
    // Steps that take the whole machine come first, then the longest, and beside these the steps that mostly wait.
    for lane in lanes::ROUTERS {
        lanes::build(ctx, &mut plan, lane);
    }
    selftest_steps(ctx, &mut plan, &table);
    fault_steps(ctx, &mut plan, &figures);
    for (name, load, args) in SUITES {
        plan.step(&format!("um {name}"), &UM_READY, *load, move || {
            suite(ctx, UM, name, args)
        });
    }
    plan.step(
        &format!("um {RELEASES_SUITE}"),
        &RELEASES_READY,
        HALF,
        || suite(ctx, UM, RELEASES_SUITE, &[]),
    );
    for (name, load, args) in UM_OLD_SUITES {
        plan.step(&format!("um-6.12 {name}"), &UM_OLD_READY, load, move || {
            suite(ctx, UM_OLD, name, args)
        });
    }
    let arm_ready = ["arm packages", "arm root"];
    plan.step("system arm", &arm_ready, ONE, || lanes::system(ctx, ARM));
    plan.step("cost arm", &arm_ready, ONE, || lanes::cost(ctx, ARM));
    for lane in lanes::ROUTERS {
        lanes::test(ctx, &mut plan, lane);
    }
    plan.step("workspace", &["host packages"], ONE, || {
        checks::workspace(ctx)
    });
    plan.step("checkpatch", &["um source"], HALF, || {
        crate::style::checkpatch(ctx)
    });
    plan.step("recipes", &["host packages"], ONE, || {
        packages::recipes(ctx)
    });
    plan.step("unit", &["host packages"], ONE, || checks::unit(ctx));
    plan.step("pages", &["host packages"], ONE, || crate::luci::lint(ctx));
    let browser_ready = ["um programs", "um module", "um root", "pages"];
    plan.step("luci", &browser_ready, ONE, || {
        crate::luci::browser(ctx, UM, OURS, None)
    });
    plan.step("loom", &["host packages"], ONE, || checks::loom(ctx));
    plan.step("um module lints", &["um kernel"], ONE, || {
        kernel::module_lints(ctx, UM).map(|()| Tally::pass())
    });
    plan.step("pins", &["host packages"], NONE, || crate::pins::check(ctx));
    plan.step("libuci", &["host packages"], ONE, || checks::libuci(ctx));
    plan.step("fuzz", &["host packages"], ONE, || checks::fuzz(ctx));
    let sum = plan.run()?;
    lanes::show_table(ctx, &table, &COLUMNS)?;
    show_figures(ctx, &figures)?;
    Ok(sum)
}

/// The suite `faults` alone, on both drivers.
pub fn faults(ctx: &Ctx) -> Result<Tally> {
    let figures = Figures::default();
    let mut plan = Plan::default();
    host(ctx, &mut plan);
    um_lane(ctx, &mut plan);
    debug_lane(ctx, &mut plan);
    fault_steps(ctx, &mut plan, &figures);
    let sum = plan.run()?;
    show_figures(ctx, &figures)?;
    Ok(sum)
}

fn fault_steps<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>, figures: &'a Figures) {
    plan.step("faults", &DEBUG_READY, ONE, || {
        faults::run(ctx, Driver::Ours, figures)
    });
    plan.step("faults mainline", &DEBUG_READY, HALF, || {
        faults::run(ctx, Driver::Mainline, figures)
    });
}

/// Prints what the suite `faults` measured, and keeps it beside the logs.
fn show_figures(ctx: &Ctx, figures: &Figures) -> Result<()> {
    let text = figures.text();
    fs::create_dir_all(ctx.logs())?;
    fs::write(ctx.logs().join("faults.txt"), &text)?;
    ui::say_as(
        "",
        &format!("\nfaults, on the kernel that notices them\n{text}"),
    );
    Ok(())
}

/// The kernel's own selftests alone, on every lane.
pub fn selftests(ctx: &Ctx) -> Result<Tally> {
    let table = Table::default();
    let mut plan = Plan::default();
    host(ctx, &mut plan);
    um_lane(ctx, &mut plan);
    arm_lane(ctx, &mut plan);
    um_old_lane(ctx, &mut plan);
    selftest_steps(ctx, &mut plan, &table);
    lanes::selftest_steps(ctx, &mut plan, &table, &lanes::EMULATED_ARM, "arm packages");
    let sum = plan.run()?;
    let columns = [&COLUMNS[..], &[lanes::EMULATED_ARM]].concat();
    lanes::show_table(ctx, &table, &columns)?;
    Ok(sum)
}

fn selftest_steps<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>, table: &'a Table) {
    plan.step("selftests um-7.2", &UM_READY, ONE, || {
        selftests::um(ctx, table, &[NATIVE, MAINLINE], 2)
    });
    plan.step("selftests um-6.12", &UM_OLD_READY, ONE, || {
        selftests::um(ctx, table, &[EMBEDDED], 3)
    });
}

/// Tests that a change in the driver or its core usually breaks, in a few minutes.
pub fn test_fast(ctx: &Ctx) -> Result<Tally> {
    let mut plan = Plan::default();
    host(ctx, &mut plan);
    um_lane(ctx, &mut plan);
    plan.step("unit", &["host packages"], ONE, || checks::unit(ctx));
    plan.step("um fast", &UM_READY, HALF, || {
        suite(ctx, UM, FAST_SUITES, &[])
    });
    plan.run()
}

/// Our driver against the mainline one, same guest, same run.
pub fn bench(ctx: &Ctx, args: &[String]) -> Result<()> {
    let mut plan = Plan::default();
    host(ctx, &mut plan);
    um_lane(ctx, &mut plan);
    // With options, somebody looks at a few rows only.
    let whole = args.is_empty();
    if whole {
        arm_lane(ctx, &mut plan);
    }
    let ready = plan.run()?;
    ensure!(ready.is_clean(), "the lanes are not ready");
    if whole {
        crate::arm::cost(ctx, ARM, &[])?;
    }
    let theirs = mainline_module(ctx)?;
    let ours = format!("ours={OURS}");
    let mut command: Vec<String> = [
        "/lane/bin/ovpn-tests",
        "bench",
        "--a",
        &ours,
        "--b",
        &theirs,
        "--json",
        "/lane/job/bench.json",
    ]
    .map(str::to_owned)
    .to_vec();
    command.extend_from_slice(args);
    measure(ctx, command)?;
    if whole {
        memory(ctx, &ours, &theirs)?;
    }
    Ok(())
}

/// The memory that peers cost, each module in a kernel that has seen nothing else.
fn memory(ctx: &Ctx, ours: &str, theirs: &str) -> Result<()> {
    for keys in [None, Some("--keys")] {
        for module in [ours, theirs] {
            let words = ["/lane/bin/ovpn-tests", "memory", module];
            let words = words.into_iter().chain(keys);
            measure(ctx, words.map(str::to_owned).collect())?;
        }
    }
    Ok(())
}

/// Runs something that measures in a guest of its own and shows what it prints.
fn measure(ctx: &Ctx, command: Vec<String>) -> Result<()> {
    let mut guest = Guest::new(ctx, UM, command)?;
    guest.timeout = SUITE_TIMEOUT;
    let mut figures = 0;
    let outcome = guest.run(ctx, |line| {
        figures += 1;
        ui::say(line);
    })?;
    ui::say(format!(
        "kernel log, and JSON if there is any: {}",
        outcome.dmesg_path.display()
    ));
    let log = check_log(UM, &outcome.dmesg);
    ensure!(log.is_clean(), "{}", log.failed.join("\n"));
    match outcome.code()? {
        0 if figures == 0 => bail!("the guest measured nothing"),
        0 => Ok(()),
        code => bail!("the measurement ended with status {code}"),
    }
}

/// Two emulated routers and what they do, told to the user.
pub fn demo(ctx: &Ctx) -> Result<()> {
    let mut plan = Plan::default();
    host(ctx, &mut plan);
    arm_lane(ctx, &mut plan);
    let ready = plan.run()?;
    ensure!(ready.is_clean(), "the routers are not ready");
    crate::arm::demo(ctx, ARM)
}

/// Packages and tools of the build machine.
pub fn host<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    plan.keep(ctx.cache.join("steps.txt"));
    plan.prepare("host packages", &[], ONE, || fetch::host_deps(ctx));
    // Its one long crate leaves a processor idle: something else may use both.
    plan.prepare("rust tools", &["host packages"], NONE, || {
        fetch::rust_library(ctx)?;
        fetch::tool(ctx, "bindgen-cli").map(drop)
    });
}

pub fn um_lane<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    plan.prepare("um source", &["host packages"], ONE, || {
        fetch::unpack(ctx, "linux-source-7.2").map(drop)
    });
    plan.prepare("um kernel", &["um source", "rust tools"], BOTH, || {
        kernel::build(ctx, UM)
    });
    plan.step("um module", &["um kernel"], BOTH, || {
        kernel::module(ctx, UM).map(|_| Tally::pass())
    });
    plan.prepare("um root", &["host packages"], ONE, || {
        root::build(ctx, um::ROOT)
    });
    plan.prepare("um programs", &["um source"], BOTH, || programs(ctx, UM));
}

/// OpenVPN of older releases for user-mode guests. Only the suites that speak to it need it: the mirror may cease to have them.
pub fn older_openvpn<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    // After the root: both read package lists.
    plan.prepare("older openvpn", &["um root"], ONE, || root::older(ctx));
}

fn um_old_lane<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    plan.prepare("um-6.12 kernel", &["arm source"], BOTH, || {
        kernel::build(ctx, UM_OLD)
    });
    plan.step(
        "um-6.12 module",
        &["um-6.12 kernel", "rust tools"],
        BOTH,
        || kernel::module(ctx, UM_OLD).map(|_| Tally::pass()),
    );
}

/// The newest kernel, built without Rust, and the suites that its crates may change.
pub fn um_new_lane<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    plan.prepare("um-7.3 kernel", &["host packages"], BOTH, || {
        kernel::build(ctx, UM_NEW)
    });
    plan.step(
        "um-7.3 module",
        &["um-7.3 kernel", "rust tools"],
        BOTH,
        || kernel::module(ctx, UM_NEW).map(|_| Tally::pass()),
    );
    let ready = ["um programs", "um-7.3 module", "um root"];
    for (name, load, args) in UM_NEW_SUITES {
        plan.step(&format!("um-7.3 {name}"), &ready, load, move || {
            suite(ctx, UM_NEW, name, args)
        });
    }
}

fn debug_lane<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    plan.prepare("debug kernel", &["um source", "rust tools"], BOTH, || {
        kernel::build(ctx, faults::LANE)
    });
    plan.step("debug module", &["debug kernel"], BOTH, || {
        kernel::module(ctx, faults::LANE).map(|_| Tally::pass())
    });
}

fn arm_lane<'a>(ctx: &'a Ctx, plan: &mut Plan<'a>) {
    plan.prepare("arm source", &["host packages"], ONE, || {
        fetch::unpack(ctx, "linux-source-6.12").map(drop)
    });
    plan.prepare("arm root", &["host packages"], ONE, || {
        crate::arm::root(ctx, ARM)
    });
    plan.prepare("arm kernel", &["arm source"], BOTH, || {
        kernel::build(ctx, ARM)
    });
    plan.step("arm module", &["arm kernel", "rust tools"], BOTH, || {
        kernel::module(ctx, ARM).map(|_| Tally::pass())
    });
    plan.prepare("arm programs", &["rust tools"], BOTH, || {
        musl::build(ctx, ARM)
    });
    plan.step("arm packages", &["arm module", "arm programs"], ONE, || {
        packages::test(ctx, ARM)
    });
}

/// Builds what the guests of a lane run.
pub fn programs(ctx: &Ctx, lane: &str) -> Result<()> {
    match lane {
        UM => {
            kernel::ovpn_cli(ctx, UM)?;
            host_programs(ctx)
        }
        _ => {
            crate::arm::root(ctx, lane)?;
            musl::build(ctx, lane)
        }
    }
}

/// The example of the netlink library, which a case of the suite `daemon` runs.
const EXAMPLE: &str = "static_tunnel";

/// Builds the guest-side tests for this machine's processor, which user-mode guests share.
fn host_programs(ctx: &Ctx) -> Result<()> {
    Cmd::new(ctx, "cargo")
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "ovpn-tests",
            "--package",
            "ovpnd",
            "--package",
            "ovpn-netlink",
            "--bins",
            "--example",
            EXAMPLE,
        ])
        .cwd(&ctx.project)
        .run()?;
    let bin = ctx.lane(UM).join("bin");
    let example = format!("examples/{EXAMPLE}");
    for name in ["ovpn-tests", "ovpnd", "ovpnctl", &example] {
        fetch::place(&ctx.target_dir().join("release").join(name), &bin)?;
    }
    // The fuzz test makes its requests from it.
    let source = fetch::unpack(ctx, "linux-source-7.2")?;
    for spec in [
        source.join("Documentation/netlink/specs/ovpn.yaml"),
        ctx.project.join("kmod-ovpn/uapi/ovpn-ext.yaml"),
    ] {
        fetch::place(&spec, &bin)?;
    }
    fetch::guest_programs(ctx, UM, "host", Ok)?;
    no_suite_forgotten(ctx)
}

/// A suite that no step runs would never fail.
fn no_suite_forgotten(ctx: &Ctx) -> Result<()> {
    let suites = |which: &str| -> Result<BTreeSet<String>> {
        let program = ctx.lane(UM).join("bin/ovpn-tests");
        let list = Cmd::new(ctx, program).args(["--list", which]).output()?;
        let names = list.lines().filter_map(|l| l.split_once(": "));
        Ok(names.map(|(suite, _)| suite.to_owned()).collect())
    };
    let mut run = BTreeSet::new();
    for name in
        SUITES
            .iter()
            .map(|(name, ..)| *name)
            .chain([LONG_SUITE, RELEASES_SUITE, MATRIX_SUITE])
    {
        run.extend(suites(name)?);
    }
    run.extend(suites("faults")?);
    let all = suites("all")?;
    let forgotten: Vec<_> = all.difference(&run).cloned().collect();
    ensure!(
        forgotten.is_empty(),
        "no step runs the suites {}",
        forgotten.join(", ")
    );
    Ok(())
}

/// Runs suites of `ovpn-tests` in one user-mode guest.
pub fn suite(ctx: &Ctx, lane: &str, suites: &str, args: &[&str]) -> Result<Tally> {
    let command = [
        "/lane/bin/ovpn-tests",
        "--module",
        OURS,
        "--cli",
        "/lane/bin/ovpn-cli",
        "--patience",
        PATIENCE,
        suites,
    ];
    let mut guest = Guest::new(ctx, lane, command.map(str::to_owned).to_vec())?;
    guest.args = args.iter().map(|a| (*a).to_owned()).collect();
    // Forty OpenVPN processes with as many of iperf3; what is not used is not taken from the host.
    guest.mem = um::MAX_MEM;
    guest.timeout = SUITE_TIMEOUT;
    let mut tap = Tap::default();
    let outcome = guest.run(ctx, |line| {
        tap.line(line);
        ui::say(line);
    })?;
    let mut tally = tap.finish();
    tally += check_log(lane, &outcome.dmesg);
    ui::say(format!("kernel log: {}", outcome.dmesg_path.display()));
    match outcome.code() {
        Ok(code @ (1 | 3)) if tally.is_clean() => {
            tally += Tally::fail(format!(
                "{suites}: exit status {code}, although nothing was reported"
            ));
        }
        Ok(0 | 1 | 3) => {}
        Ok(code) => tally += Tally::fail(format!("{suites}: exit status {code}")),
        Err(err) => tally += Tally::fail(format!("{suites}: {err:#}")),
    }
    Ok(tally)
}

/// `NAME=PATH` of the kernel's own driver as the guest sees it.
fn mainline_module(ctx: &Ctx) -> Result<String> {
    for version in fs::read_dir(ctx.lane(UM).join("modules/lib/modules"))? {
        let version = version?;
        let path = "kernel/drivers/net/ovpn/ovpn.ko";
        if version.path().join(path).is_file() {
            return Ok(format!(
                "mainline=/lib/modules/{}/{path}",
                version.file_name().to_string_lossy()
            ));
        }
    }
    bail!("{UM} has no mainline ovpn.ko")
}
