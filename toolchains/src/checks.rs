// SPDX-License-Identifier: GPL-2.0-only
//! Checks on the build machine itself: style, unit tests, models of concurrency, fuzzing.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::documents;
use crate::english;
use crate::fetch;
use crate::layers;
use crate::musl;
use crate::packages;
use crate::tally::{Tally, cargo_result};
use crate::tree;
use crate::ui;
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

mod licences;

/// Crates with fuzz targets.
const FUZZED: [Fuzzed; 3] = [
    Fuzzed {
        dir: "kmod-ovpn/core",
        seconds: 30,
        sanitizer: "address",
        seeds: None,
    },
    Fuzzed {
        dir: "ovpnd",
        seconds: 15,
        // libuci brings a C library's, and two are one too many.
        sanitizer: "none",
        seeds: None,
    },
    Fuzzed {
        dir: "toolchains/adb",
        seconds: 10,
        // As the one before, whose build of the fuzzer it shares: there is no unsafe code.
        sanitizer: "none",
        seeds: Some("tests/golden"),
    },
];
/// libuci-sys takes an old libclang.
const OLD_LIBCLANG: &str = "/usr/lib/llvm-14/lib";
/// The processor that ovpnd's tests run on once more: big-endian, without an FPU, 32 bits. With what emulates it.
const BIG_ENDIAN: &str = "mips-unknown-linux-musl";
const EMULATOR: &str = "qemu-mips -cpu 24Kc";
/// Tests that cannot run there, and what they do.
const NOT_EMULATED: [(&str, &str); 4] = [
    (
        "::live_",
        "asks the kernel: this emulator translates neither generic netlink nor all error numbers",
    ),
    (
        "one_file_for_both",
        "starts ovpnd, which is no program of this machine",
    ),
    (
        "compiles_as_a_module_and_cannot_panic",
        "starts the compiler",
    ),
    ("the_check_notices_panics", "starts the compiler"),
];
/// Random cases of each property there, instead of 256.
const EMULATED_CASES: &str = "32";
/// Longest source file, lines.
const MAX_LINES: usize = 800;
/// Kinds of files that carry an SPDX header.
const SOURCES: [&str; 15] = [
    "rs", "c", "h", "sh", "toml", "config", "lock", "lds", "py", "S", "yml", "mk", "js", "mjs",
    "css",
];

/// A crate whose folder has another, `fuzz`, with fuzz targets.
#[derive(Clone, Copy)]
struct Fuzzed {
    dir: &'static str,
    /// That each target runs.
    seconds: u32,
    sanitizer: &'static str,
    /// Files below the crate that its targets begin with.
    seeds: Option<&'static str>,
}

/// One of the checks by name.
pub fn one_of(ctx: &Ctx, name: &str) -> Result<Tally> {
    let tally = match name {
        "workspace" => workspace(ctx),
        "unit" => unit(ctx),
        "checkpatch" => crate::style::checkpatch(ctx),
        "module" => crate::kernel::module_lints(ctx, crate::steps::UM).map(|()| Tally::pass()),
        "loom" => loom(ctx),
        "libuci" => libuci(ctx),
        "big-endian" => big_endian(ctx),
        "fuzz" => fuzz(ctx),
        "pages" => crate::luci::lint(ctx),
        "pins" => crate::pins::check(ctx),
        "recipes" => packages::recipes(ctx),
        _ => bail!("{name} is no check"),
    }?;
    for case in tally.failed.iter().chain(&tally.skipped) {
        ui::say(format!("not ok: {case}"));
    }
    Ok(tally)
}

/// Formatting, lints and the house rules about files.
pub fn workspace(ctx: &Ctx) -> Result<Tally> {
    let mut tally = Tally::default();
    tally += one("cargo fmt", cargo(ctx, &["fmt", "--all", "--check"]).run());
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    tally += one("cargo clippy", cargo(ctx, &clippy).run());
    // The package ovpnd-mini. All other crates are the same.
    let mini = [
        "clippy",
        "--locked",
        "--package",
        "ovpnd",
        "--no-default-features",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    tally += one("cargo clippy without TLS", cargo(ctx, &mini).run());
    // As far as `cargo publish` goes without a registry.
    let package = [
        "package",
        "--offline",
        "--no-verify",
        "--allow-dirty",
        "--package",
        "ovpn-netlink",
    ];
    tally += one("cargo package", cargo(ctx, &package).run());
    let files = tree::files(ctx, &[])?;
    let faults: Vec<_> = files
        .iter()
        .filter_map(|f| fault(&ctx.project, f))
        .collect();
    tally += none_of("files", faults);
    let texts = files
        .iter()
        .filter_map(|f| Some((f.as_str(), fs::read_to_string(ctx.project.join(f)).ok()?)));
    let texts: Vec<_> = texts.filter(|(f, _)| !f.is_empty()).collect();
    let clauses = texts.iter().flat_map(|(f, text)| {
        let lines = english::faults(f, text).into_iter();
        lines.map(move |line| {
            format!("{f}:{line} has a clause that begins with What, Who or Nobody")
        })
    });
    tally += none_of("english", clauses.collect());
    let documents = texts.iter().filter(|(f, _)| f.ends_with(".md"));
    let missing =
        documents.flat_map(|(f, text)| documents::faults(&ctx.project, f, text, crate::USAGE));
    tally += none_of("documents", missing.collect());
    tally += none_of("layers", layers::faults(&ctx.project)?);
    let metadata = ["metadata", "--locked", "--offline", "--format-version", "1"];
    let metadata = cargo(ctx, &metadata).output()?;
    tally += none_of("licences", licences::faults(&ctx.project, &metadata)?);
    Ok(tally)
}

/// One case: there is no such fault.
fn none_of(name: &str, faults: Vec<String>) -> Tally {
    match faults.is_empty() {
        true => Tally::pass(),
        false => Tally::fail(format!("{name}: {}", faults.join("; "))),
    }
}

/// Licence of a file by its folder. The libraries are for programs of any licence. ovpnd links ring, of which a part is
/// under Apache-2.0: the program as a whole is then under GPL-3.0.
fn licence(file: &str) -> &'static str {
    let below = |dir: &str| file.starts_with(dir);
    if below("ovpnd/netlink/") || below("ovpnd/control/") {
        "MIT OR Apache-2.0"
    } else if below("ovpnd/") {
        "GPL-2.0-or-later"
    } else {
        "GPL-2.0"
    }
}

/// Fault of a file by the rules of the house.
fn fault(project: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(project.join(file)).ok()?;
    let extension = Path::new(file).extension()?.to_str()?;
    // Written by cargo.
    if !SOURCES.contains(&extension) || file.ends_with("Cargo.lock") {
        return None;
    }
    let licence = licence(file);
    let header = format!("SPDX-License-Identifier: {licence}");
    if !text.lines().take(3).any(|l| l.contains(&header)) {
        return Some(format!("{file} has no SPDX header with {licence}"));
    }
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{file} has {lines} lines, {MAX_LINES} are the limit"))
}

/// Unit, property and vector tests of all crates.
pub fn unit(ctx: &Ctx) -> Result<Tally> {
    let all = ["test", "--locked", "--workspace", "--no-fail-fast"];
    let mut tally = cargo_tests(cargo(ctx, &all))?;
    // The package ovpnd-mini.
    let mini = [
        "test",
        "--locked",
        "--no-fail-fast",
        "--package",
        "ovpnd",
        "--no-default-features",
    ];
    tally += cargo_tests(cargo(ctx, &mini))?;
    Ok(tally)
}

/// The tests of ovpnd, its library and the driver's core as programs of a big-endian processor.
pub fn big_endian(ctx: &Ctx) -> Result<Tally> {
    let to = musl::target(BIG_ENDIAN)?;
    let packages = ["ovpnd", "ovpn-netlink", "ovpn-core"];
    let mut cmd = cargo(ctx, &["test", "--locked", "--no-fail-fast", "--tests"])
        .args(packages.iter().flat_map(|name| ["--package", name]));
    cmd = musl::cross(ctx, to, "panic_unwind", cmd)?.arg("--");
    for (name, why) in NOT_EMULATED {
        ui::say(format!("without {name}: {why}"));
        cmd = cmd.args(["--skip", name]);
    }
    let runner = to.triple.replace('-', "_").to_uppercase();
    cargo_tests(
        cmd.env(&format!("CARGO_TARGET_{runner}_RUNNER"), EMULATOR)
            .env("PROPTEST_CASES", EMULATED_CASES)
            .env("CARGO_TARGET_DIR", ctx.cache.join("target/big-endian")),
    )
}

/// Every interleaving of the parts that share state without a lock.
pub fn loom(ctx: &Ctx) -> Result<Tally> {
    let args = [
        "test",
        "--locked",
        "--release",
        "--package",
        "ovpn-core",
        "--test",
        "loom",
    ];
    // A target directory of its own: the flag would rebuild everything in the common one.
    let target = ctx.cache.join("target/loom");
    cargo_tests(
        cargo(ctx, &args)
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", target),
    )
}

/// ovpnd's reader of UCI files against libuci, file by file.
pub fn libuci(ctx: &Ctx) -> Result<Tally> {
    let args = ["test", "--locked", "--", "--nocapture"];
    cargo_tests(
        cargo(ctx, &args)
            .cwd(ctx.project.join("ovpnd/fuzz"))
            .env("LIBCLANG_PATH", OLD_LIBCLANG)
            .env("CARGO_TARGET_DIR", ctx.cache.join("target/libuci")),
    )
}

/// Every fuzz target for its time, two at once; what it learns is kept for the next run.
pub fn fuzz(ctx: &Ctx) -> Result<Tally> {
    fetch::tool(ctx, "cargo-fuzz")?;
    let mut targets = Vec::new();
    for krate in FUZZED {
        let dir = ctx.project.join(krate.dir);
        let list = fuzzer(ctx, &["list"]).cwd(&dir).output()?;
        if list.trim().is_empty() {
            bail!("there are no fuzz targets in {}", dir.display());
        }
        fuzzer(ctx, &["build", "--sanitizer", krate.sanitizer])
            .cwd(&dir)
            .run()?;
        let named = list.split_whitespace().map(str::to_owned);
        targets.extend(named.map(|target| (krate, target)));
    }
    let label = ui::label();
    let tally = Mutex::new(Tally::default());
    let queue = Mutex::new(targets.into_iter());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((krate, target)) =
                        queue.lock().unwrap_or_else(|e| e.into_inner()).next()
                    else {
                        break;
                    };
                    ui::set_label(format!("{label} {target}").trim());
                    let result = one(&target, fuzz_one(ctx, krate, &target));
                    *tally.lock().unwrap_or_else(|e| e.into_inner()) += result;
                }
            });
        }
    });
    Ok(tally.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn fuzz_one(ctx: &Ctx, krate: Fuzzed, target: &str) -> Result<()> {
    let corpus = ctx.cache.join("fuzz").join(target);
    let found = ctx.cache.join("fuzz/artifacts").join(target);
    for dir in [&corpus, &found] {
        fs::create_dir_all(dir)?;
    }
    let dir = ctx.project.join(krate.dir);
    // The fuzzer adds to the first folder and only reads the others.
    fuzzer(ctx, &["run", "--sanitizer", krate.sanitizer, target])
        .arg(&corpus)
        .args(krate.seeds.map(|seeds| dir.join(seeds)))
        .args([
            "--",
            &format!("-max_total_time={}", krate.seconds),
            "-timeout=10",
            "-print_final_stats=1",
            &format!("-artifact_prefix={}/", found.display()),
        ])
        .cwd(dir)
        .timeout(Duration::from_secs(5 * 60))
        .run()
}

fn fuzzer(ctx: &Ctx, args: &[&str]) -> Cmd {
    // libFuzzer's instrumentation is nightly's.
    let (verb, rest) = args.split_first().unwrap_or((&"list", &[]));
    // It takes what processor time the guests beside it leave.
    let mut cmd = Cmd::new(ctx, "nice").args(["-n19", "cargo", "+nightly", "fuzz", verb]);
    if *verb != "list" {
        cmd = cmd.arg("--target-dir").arg(ctx.cache.join("target/fuzz"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    cmd.args(rest).env("LIBCLANG_PATH", OLD_LIBCLANG).env(
        "PATH",
        format!("{}:{path}", ctx.tools().join("bin").display()),
    )
}

fn cargo(ctx: &Ctx, args: &[&str]) -> Cmd {
    Cmd::new(ctx, "cargo").args(args).cwd(&ctx.project)
}

/// Runs cargo tests and adds up what they report; nothing reported is a failure.
fn cargo_tests(cmd: Cmd) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut named = Vec::new();
    let status = cmd.status_with(|line| {
        if let Some(result) = cargo_result(line) {
            tally += result;
        }
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            named.push(format!("cargo test {name}"));
        }
        if line.starts_with("error")
            || line.contains("panicked at")
            || line.contains("compared with")
        {
            ui::say(line);
        }
    })?;
    if named.len() == tally.failed.len() {
        tally.failed = named;
    }
    if !status.success() && tally.failed.is_empty() {
        tally += Tally::fail("cargo test did not build or did not end");
    } else if tally == Tally::default() {
        tally += Tally::fail("cargo test ran nothing");
    }
    Ok(tally)
}

/// The result of one case; the reason of a failure is shown in full.
fn one(name: &str, result: Result<()>) -> Tally {
    match result {
        Ok(()) => Tally::pass(),
        Err(err) => {
            ui::say(format!("{err:#}"));
            Tally::fail(name)
        }
    }
}
