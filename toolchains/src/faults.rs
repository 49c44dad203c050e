// SPDX-License-Identifier: GPL-2.0-only
//! The suite `faults` on the kernel that notices faults: this driver, and the mainline one beside it for comparison.

use crate::ctx::Ctx;
use crate::tally::{Tally, Tap, check_log};
use crate::ui;
use crate::um::Guest;
use anyhow::Result;
use std::sync::Mutex;
use std::time::Duration;

/// The lane with that kernel.
pub const LANE: &str = "um-7.2-debug";
/// Longest run; a quarter of it on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(25 * 60);
/// Such a kernel is several times slower than the others.
const PATIENCE: &str = "6";

/// Which driver a guest runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// This project's: what fails is a failure.
    Ours,
    /// The kernel's own: what it does is only shown.
    Mainline,
}

/// Measurements of the guests, by name: of ours and of mainline's.
#[derive(Default)]
pub struct Figures(Mutex<Vec<(String, [Option<String>; 2])>>);

impl Figures {
    /// Takes a line of the test program, if it tells a figure or how a case ended.
    fn line(&self, driver: Driver, line: &str) {
        let figure = line
            .strip_prefix("# figure ")
            .and_then(|l| l.split_once(" = "));
        let failed = line
            .strip_prefix("not ok ")
            .and_then(|l| l.split_once(" - "));
        let held = line.strip_prefix("ok ").and_then(|l| l.split_once(" - "));
        let case = |text: &str| format!("{}: result", text.split(" (").next().unwrap_or(text));
        let (name, value) = match (figure, held, failed) {
            (Some((name, value)), ..) => (name.to_owned(), value.to_owned()),
            (_, Some((_, text)), _) if text.contains("# SKIP") => (case(text), "skipped".into()),
            (_, Some((_, text)), _) => (case(text), "held".into()),
            (_, _, Some((_, text))) => (case(text), "FAILED".into()),
            _ => return,
        };
        let mut rows = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let at = rows.iter().position(|(known, _)| *known == name);
        let at = at.unwrap_or_else(|| {
            rows.push((name, [None, None]));
            rows.len() - 1
        });
        if let Some((_, values)) = rows.get_mut(at) {
            let [ours, mainline] = values;
            let value = Some(value);
            match driver {
                Driver::Ours => *ours = value,
                Driver::Mainline => *mainline = value,
            }
        }
    }

    /// The table.
    pub fn text(&self) -> String {
        let rows = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut text = String::new();
        for (name, [ours, mainline]) in rows.iter() {
            let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
            text += &format!(
                "{name}\n    ours: {}\n    mainline: {}\n",
                show(ours),
                show(mainline)
            );
        }
        text
    }
}

/// The log without the kernel's start, in which user-mode Linux itself is not free of faults: it enqueues an RCU
/// callback on a CPU that is not online yet.
fn after_boot(log: &str) -> &str {
    log.split_once("as init process")
        .map_or(log, |(_, rest)| rest)
}

/// Runs the suite.
pub fn run(ctx: &Ctx, driver: Driver, figures: &Figures) -> Result<Tally> {
    let mut command = vec!["/lane/bin/ovpn-tests"];
    if driver == Driver::Ours {
        command.extend(["--module", "/lane/module/ovpn.ko"]);
    }
    command.extend(["--patience", PATIENCE, "faults"]);
    let command = command.into_iter().map(str::to_owned).collect();
    let mut guest = Guest::new(ctx, LANE, command)?;
    guest.args = vec!["kmemleak=on".into()];
    guest.mem = 1536;
    guest.timeout = TIMEOUT;
    let mut tap = Tap::default();
    let outcome = guest.run(ctx, |line| {
        tap.line(line);
        figures.line(driver, line);
        ui::say(line);
    })?;
    ui::say(format!("kernel log: {}", outcome.dmesg_path.display()));
    let mut sound = check_log(LANE, after_boot(&outcome.dmesg));
    if let Err(err) = outcome.code() {
        sound += Tally::fail(format!("faults: {err:#}"));
    }
    Ok(judged(driver, tap.finish(), sound))
}

/// The cases that count, and whether guest and kernel were sound. A case that the other driver does not pass is no
/// fault of this project; one that ran nothing, or whose kernel complained, is no measure.
fn judged(driver: Driver, cases: Tally, sound: Tally) -> Tally {
    let mut tally = sound;
    match driver {
        Driver::Ours => tally += cases,
        Driver::Mainline => {
            for fault in cases.failed.iter().chain(&cases.skipped) {
                ui::say(format!("mainline: {fault}"));
            }
            if cases.passed == 0 {
                tally += Tally::fail("mainline: nothing passed, so it is no measure");
            }
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_driver_has_to_run() {
        let mut some = Tally::passes(3);
        some += Tally::fail("a case of theirs");
        let judge = |cases: &Tally, sound| judged(Driver::Mainline, cases.clone(), sound);
        assert_eq!(judge(&some, Tally::pass()), Tally::pass());
        assert_eq!(
            judge(&Tally::fail("no plan"), Tally::pass()).failed.len(),
            1
        );
        assert_eq!(judge(&some, Tally::fail("a complaint")).failed.len(), 1);
        assert_eq!(judged(Driver::Ours, some, Tally::pass()).passed, 4);
    }

    #[test]
    fn figures_stand_beside_each_other() {
        let figures = Figures::default();
        figures.line(Driver::Ours, "# figure fuzz: messages = 5 (seed 1)");
        figures.line(Driver::Mainline, "# figure fuzz: messages = 6");
        figures.line(Driver::Ours, "ok 1 - faults: fuzz (1.2 s)");
        figures.line(Driver::Mainline, "not ok 1 - faults: fuzz (1.2 s) # why");
        figures.line(Driver::Mainline, "# another note");
        assert_eq!(
            figures.text(),
            "fuzz: messages\n    ours: 5 (seed 1)\n    mainline: 6\n\
             faults: fuzz: result\n    ours: held\n    mainline: FAILED\n"
        );
    }
}
