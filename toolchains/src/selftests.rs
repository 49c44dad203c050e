// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's own selftests for this driver: taken as they are from the pinned source, run on every lane that has a
//! userland for them, and put into one table, stage by stage, this driver beside the mainline one.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::stamp::{self, Key};
use crate::tally::{Tally, Tap, check_log, tap_result};
use crate::ui;
use crate::um::Guest;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// Source that holds the scripts, whatever kernel they are run on.
pub const SOURCE: &str = "linux-source-7.2";
/// The scripts among them.
const SCRIPTS: &str = "tools/testing/selftests/net/ovpn";
/// Files that the scripts look for, at the same place relative to themselves.
const PARTS: [&str; 4] = [
    SCRIPTS,
    "tools/testing/selftests/kselftest",
    "tools/net/ynl/pyynl",
    "Documentation/netlink",
];
/// Where an emulated machine has them.
const TREE: &str = "usr/lib/selftests";
/// Where a user-mode guest has them.
const MOUNT: &str = "/lane/selftests";
/// Guests share two processors with everything else: the scripts get this many times the limit of their settings.
const PATIENCE: &str = "2";
/// Stages of all scripts together, by the kernel's series.
const STAGES: [(&str, usize); 2] = [("7.2.", 110), ("7.3.", 118)];
/// Cases beside its stages that each script has: that it ends well and lets the module go, and that the log is clean.
const BESIDE: usize = 2;
/// One script takes less than a minute.
const TIMEOUT: Duration = Duration::from_secs(12 * 60);

/// Copies the scripts and what they need out of the pinned source, and gives the directory above [`TREE`].
pub fn stage(ctx: &Ctx) -> Result<PathBuf> {
    let dir = ctx.cache.join("selftests");
    let source = fetch::unpack(ctx, SOURCE)?;
    let stamp = stamp::path(&ctx.cache, "selftests");
    let key = Key::new("selftests 1").with(&ctx.deb(SOURCE)?.sha256);
    stamp::once(&stamp, &dir, key, || {
        let new = dir.with_extension("new");
        for old in [&new, &dir] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        for part in PARTS {
            let to = new.join(TREE).join(part);
            let above = to.parent().context("a part has a parent directory")?;
            fs::create_dir_all(above)?;
            Cmd::new(ctx, "cp")
                .arg("--archive")
                .arg(source.join(part))
                .arg(above)
                .output()?;
        }
        fs::rename(&new, &dir)?;
        Ok(())
    })?;
    Ok(dir)
}

/// Names of the scripts, in order.
pub fn scripts(ctx: &Ctx) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(stage(ctx)?.join(TREE).join(SCRIPTS))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.starts_with("test") && name.ends_with(".sh"));
    names.sort();
    ensure!(!names.is_empty(), "{SOURCE} has no scripts");
    Ok(names)
}

/// A driver on a lane.
#[derive(Clone, Copy)]
pub struct Column {
    /// Heading in the table.
    pub title: &'static str,
    /// Lane.
    pub lane: &'static str,
    /// Module file as the guest sees it; none for the one that belongs to the kernel.
    pub module: Option<&'static str>,
    /// Whether its results count: those of another driver are shown only.
    pub ours: bool,
}

/// Runs the scripts in user-mode guests, `guests` at a time for each of `columns`, all columns side by side.
pub fn um(ctx: &Ctx, table: &Table, columns: &[Column], guests: usize) -> Result<Tally> {
    let scripts = scripts(ctx)?;
    let label = ui::label();
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for column in columns {
            for part in 0..guests {
                let mine: Vec<_> = scripts.iter().skip(part).step_by(guests).cloned().collect();
                let (label, tally) = (&label, &tally);
                scope.spawn(move || {
                    ui::set_label(&format!("{label} {}", column.title));
                    let got = guest(ctx, table, column, &mine)
                        .unwrap_or_else(|err| Tally::fail(format!("{}: {err:#}", column.title)));
                    *tally.lock().unwrap_or_else(|e| e.into_inner()) += got;
                });
            }
        }
    });
    let mut tally = tally.into_inner().unwrap_or_else(|e| e.into_inner());
    for column in columns.iter().filter(|column| column.ours) {
        tally += all_stages(ctx, table, column)?;
    }
    Ok(tally)
}

/// One case: as many stages were reported as the scripts of this kernel have. One that never starts fails nowhere else.
pub fn all_stages(ctx: &Ctx, table: &Table, column: &Column) -> Result<Tally> {
    let version = ctx.deb(SOURCE)?.version;
    let seen = table.count(column.title);
    Ok(match expected(&version, scripts(ctx)?.len()) {
        Some(want) if want == seen => Tally::pass(),
        Some(want) => Tally::fail(format!(
            "{}: {seen} cases reported, {want} expected",
            column.title
        )),
        None => Tally::fail(format!(
            "it is not known how many stages the selftests of {version} have: {seen} cases reported"
        )),
    })
}

fn expected(version: &str, scripts: usize) -> Option<usize> {
    let known = STAGES
        .iter()
        .find(|(series, _)| version.starts_with(series));
    known.map(|(_, stages)| stages + BESIDE * scripts)
}

fn guest(ctx: &Ctx, table: &Table, column: &Column, scripts: &[String]) -> Result<Tally> {
    let mut command: Vec<String> = ["/lane/bin/ovpn-tests", "selftests", "--tree", MOUNT]
        .map(str::to_owned)
        .to_vec();
    command.extend(["--cli", "/lane/bin/ovpn-cli", "--patience", PATIENCE].map(str::to_owned));
    if let Some(module) = column.module {
        command.extend(["--module".to_owned(), module.to_owned()]);
    }
    command.extend_from_slice(scripts);
    let mut guest = Guest::new(ctx, column.lane, command)?;
    guest
        .mounts
        .push((stage(ctx)?.join(TREE), MOUNT.to_owned()));
    guest.timeout = TIMEOUT;
    let mut reader = Reader::new(table, column);
    let outcome = guest.run(ctx, |line| {
        reader.line(line);
        ui::say(line);
    })?;
    ui::say(format!("kernel log: {}", outcome.dmesg_path.display()));
    let mut tally = reader.finish();
    match outcome.code() {
        Ok(0 | 1 | 3) => {}
        Ok(code) => tally += Tally::fail(format!("{}: exit status {code}", column.title)),
        Err(err) => tally += Tally::fail(format!("{}: {err:#}", column.title)),
    }
    if column.ours {
        tally += check_log(column.title, &outcome.dmesg);
    }
    Ok(tally)
}

/// Follows one guest's TAP: into the table, and into a tally.
pub struct Reader<'a> {
    table: &'a Table,
    column: &'a Column,
    tap: Tap,
}

impl<'a> Reader<'a> {
    /// For a guest of `column`.
    pub fn new(table: &'a Table, column: &'a Column) -> Self {
        Self {
            table,
            column,
            tap: Tap::default(),
        }
    }

    /// Takes a line.
    pub fn line(&mut self, line: &str) {
        self.tap.line(line);
        if let Some((word, text)) = tap_result(line) {
            self.table.add(self.column.title, word, text);
        }
    }

    /// The stages that count: each of ours; of another driver, that it ran at all.
    pub fn finish(self) -> Tally {
        let mut tally = self.tap.finish();
        let title = self.column.title;
        if !self.column.ours {
            return match tally.passed {
                0 => Tally::fail(format!("{title}: nothing passed, so it is no measure")),
                _ => Tally::pass(),
            };
        }
        for case in tally.failed.iter_mut().chain(&mut tally.skipped) {
            *case = format!("{title}: {case}");
        }
        tally
    }
}

/// The result of each stage, by script and column.
#[derive(Default)]
pub struct Table(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    /// Cases by column: stages of one name share a row.
    counts: BTreeMap<&'static str, usize>,
    scripts: BTreeMap<String, Vec<Row>>,
}

struct Row {
    stage: String,
    /// Result by column.
    cells: BTreeMap<&'static str, &'static str>,
}

impl Table {
    /// Adds a case `[LANE: ]SCRIPT.sh: STAGE (1.2 s) # why`.
    fn add(&self, column: &'static str, word: &'static str, text: &str) {
        let Some((script, rest)) = text.split_once(".sh: ") else {
            return;
        };
        let script = format!("{}.sh", script.rsplit(' ').next().unwrap_or_default());
        let rest = rest.split(" # ").next().unwrap_or_default();
        let stage = match rest.rsplit_once(" (") {
            Some((stage, time)) if time.ends_with(" s)") => stage,
            _ => rest,
        };
        let mut rows = self.0.lock().unwrap_or_else(|e| e.into_inner());
        *rows.counts.entry(column).or_default() += 1;
        let rows = rows.scripts.entry(script).or_default();
        let at = match rows.iter().position(|row| row.stage == stage) {
            Some(at) => at,
            None => {
                // A column that ended early has its last rows first: what it lacks belongs before them.
                let last = rows.iter().rposition(|row| row.cells.contains_key(column));
                let at = last.map_or(0, |at| at + 1);
                let row = Row {
                    stage: stage.to_owned(),
                    cells: BTreeMap::new(),
                };
                rows.insert(at, row);
                at
            }
        };
        if let Some(row) = rows.get_mut(at) {
            row.cells.insert(column, word);
        }
    }

    /// How many cases a column has.
    fn count(&self, column: &str) -> usize {
        let rows = self.0.lock().unwrap_or_else(|e| e.into_inner());
        rows.counts.get(column).copied().unwrap_or_default()
    }

    /// The whole table; `-` where a stage was not reached.
    pub fn text(&self, columns: &[&str]) -> String {
        let rows = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut text = format!("{:<26} {:<40}", "script", "stage");
        for column in columns {
            text += &format!(" {column:>14}");
        }
        for (script, rows) in &rows.scripts {
            for row in rows {
                text += &format!("\n{script:<26} {:<40}", row.stage);
                for column in columns {
                    let cell = row.cells.get(column).unwrap_or(&"-");
                    text += &format!(" {cell:>14}");
                }
            }
        }
        text
    }
}

/// Builds the scripts' client of the driver for an emulated machine, against the libraries of its root.
pub fn cross_cli(ctx: &Ctx, lane: &str, root: &Path, multiarch: &str) -> Result<PathBuf> {
    let arch = &ctx.lock.lane(lane)?.arch;
    let prefix = &ctx.lock.lane(lane)?.cross_compile;
    let dir = ctx.lane(lane);
    let source = fetch::unpack(ctx, SOURCE)?;
    let cli = dir.join("bin/ovpn-cli");
    let packages = fs::read(root.join("etc/packages"))
        .with_context(|| format!("{} is not there", root.display()))?;
    let key = Key::new("cross ovpn-cli 1")
        .with(&ctx.deb(SOURCE)?.sha256)
        .with(packages);
    stamp::once(&stamp::path(&dir, "ovpn-cli"), &cli, key, || {
        let headers = headers(ctx, &source, &dir, arch)?;
        let libraries = root.join("usr/lib").join(multiarch);
        let include = root.join("usr/include");
        fs::create_dir_all(dir.join("bin"))?;
        Cmd::new(ctx, format!("{prefix}gcc"))
            .args(["-O2", "-w", "-o"])
            .arg(&cli)
            .arg(format!("-I{}", headers.display()))
            .arg(format!(
                "-I{}",
                source.join("tools/testing/selftests").display()
            ))
            .arg(format!("-I{}", include.join("libnl3").display()))
            // After the compiler's own libc, which is an older one.
            .arg(format!("-idirafter{}", include.display()))
            .arg(format!("-idirafter{}", include.join(multiarch).display()))
            .arg(source.join(SCRIPTS).join("ovpn-cli.c"))
            .arg(format!("-L{}", libraries.display()))
            .arg(format!("-Wl,-rpath-link,{}", libraries.display()))
            // The guest's libc is newer than the one that is linked against here.
            .arg("-Wl,--allow-shlib-undefined")
            .args(["-lnl-genl-3", "-lnl-3", "-lmbedtls", "-lmbedcrypto"])
            .run()
    })?;
    Ok(cli)
}

/// Installs the userspace headers of a kernel source for an architecture below `dir`.
pub fn headers(ctx: &Ctx, source: &Path, dir: &Path, arch: &str) -> Result<PathBuf> {
    let headers = dir.join("headers");
    Cmd::new(ctx, "make")
        .arg("-C")
        .arg(source)
        .arg(format!("O={}", dir.join("headers-build").display()))
        .arg(format!("ARCH={arch}"))
        .arg(format!("INSTALL_HDR_PATH={}", headers.display()))
        .arg("headers_install")
        .run()?;
    Ok(headers.join("include"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Column = Column {
        title: "ours",
        lane: "um-7.2",
        module: None,
        ours: true,
    };
    const THEIRS: Column = Column {
        title: "theirs",
        ours: false,
        ..OURS
    };

    fn feed(table: &Table, column: &Column, tap: &str) -> Tally {
        let mut reader = Reader::new(table, column);
        tap.lines().for_each(|l| reader.line(l));
        reader.finish()
    }

    #[test]
    fn stages_meet_in_one_row() {
        let table = Table::default();
        let ours = "ok 1 - test.sh: set up (1.0 s)\nnot ok 2 - test.sh: run (2.0 s) # lost\n1..2\n";
        let theirs = "ok 1 - test.sh: set up (1.5 s)\nok 2 - test.sh: run (2.0 s)\n\
                      ok 3 - test.sh: query (0.1 s)\n1..3\n";
        let tally = feed(&table, &OURS, ours);
        assert_eq!((tally.passed, tally.failed.len()), (1, 1));
        assert!(tally.failed[0].starts_with("ours: test.sh: run"));
        assert_eq!(feed(&table, &THEIRS, theirs), Tally::pass());
        let text = table.text(&["ours", "theirs"]);
        let cells: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|l| l.split_whitespace().rev().take(2).collect())
            .collect();
        assert_eq!(cells, [["ok", "ok"], ["ok", "FAIL"], ["ok", "-"]]);
        assert_eq!((table.count("ours"), table.count("theirs")), (2, 3));
        feed(&table, &OURS, "ok 1 - test.sh: set up (1.0 s)\n1..1\n");
        assert_eq!(table.count("ours"), 3, "two stages of one name are two");
        assert_eq!(expected("7.2.12-1~bpo13+1", 11), Some(132));
        assert_eq!(expected("7.3.4-1~bpo13+1", 11), Some(140));
        assert_eq!(expected("7.20.1-1", 11), None);
    }

    #[test]
    fn rows_that_come_late_find_their_place() {
        let table = Table::default();
        feed(&table, &OURS, "ok 1 - test.sh: c\n1..1\n");
        feed(
            &table,
            &THEIRS,
            "ok 1 - test.sh: a\nok 2 - test.sh: b\nok 3 - test.sh: c\n1..3\n",
        );
        let text = table.text(&["ours"]);
        let stages: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|l| l.split_whitespace().nth(1))
            .collect();
        assert_eq!(stages, ["a", "b", "c"]);
    }

    #[test]
    fn a_driver_that_passes_nothing_is_no_measure() {
        let table = Table::default();
        let tally = feed(&table, &THEIRS, "not ok 1 - lane: test.sh: a\n1..1\n");
        assert_eq!(tally.failed.len(), 1);
        assert_eq!(
            feed(&table, &OURS, "ok 1 - test.sh: a # SKIP b\n1..1\n")
                .skipped
                .len(),
            1
        );
        assert!(table.text(&["ours"]).ends_with("SKIP"));
    }
}
