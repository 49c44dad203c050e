// SPDX-License-Identifier: GPL-2.0-only
//! Counting results: TAP of the guests, cargo's summaries, and the kernel logs that must be clean.

use std::ops::AddAssign;

/// Results of a step.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Tally {
    /// Cases that ran and held.
    pub passed: u32,
    /// Cases that ran and did not hold, with the reason.
    pub failed: Vec<String>,
    /// Cases that did not run, with the reason.
    pub skipped: Vec<String>,
    /// Cases that did not run for want of something that no registry has: they are counted as skipped, and are no failure of the
    /// run.
    pub optional: Vec<String>,
}

impl Tally {
    /// One case that held.
    pub fn pass() -> Self {
        Self::passes(1)
    }

    /// `passed` cases that held.
    pub fn passes(passed: u32) -> Self {
        Self {
            passed,
            ..Self::default()
        }
    }

    /// One case that did not.
    pub fn fail(why: impl Into<String>) -> Self {
        Self {
            failed: vec![why.into()],
            ..Self::default()
        }
    }

    /// One case that was not tried.
    pub fn skip(why: impl Into<String>) -> Self {
        Self {
            skipped: vec![why.into()],
            ..Self::default()
        }
    }

    /// Whether every case ran and held.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.skipped.is_empty()
    }

    /// As the last line of the harness has it.
    pub fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.left_out()
        )
    }

    /// How many cases did not run, for whatever reason.
    pub fn left_out(&self) -> usize {
        self.skipped.len() + self.optional.len()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
        self.optional.extend(other.optional);
    }
}

/// How the directive of a case begins that may be left out.
const OPTIONAL: &str = "# SKIP optional: ";

/// Reads TAP line by line (testanything.org, version 13).
#[derive(Debug, Default)]
pub struct Tap {
    tally: Tally,
    plan: Option<u32>,
    seen: u32,
    bail: Option<String>,
}

impl Tap {
    /// Takes a line; anything that is no result or plan is passed over.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(why) = line.strip_prefix("Bail out!") {
            self.bail = Some(why.trim().to_owned());
        } else if let Some(rest) = result(line, "not ok") {
            self.seen += 1;
            self.tally += Tally::fail(rest);
        } else if let Some(rest) = result(line, "ok") {
            self.seen += 1;
            self.tally += match directive(rest) {
                Some("skip") if rest.contains(OPTIONAL) => Tally {
                    optional: vec![rest.to_owned()],
                    ..Tally::default()
                },
                Some("skip") => Tally::skip(rest),
                // Expected to fail, yet it did not: that is not what the author said.
                Some("todo") => Tally::fail(rest),
                _ => Tally::pass(),
            };
        } else if let Some(plan) = line.strip_prefix("1..") {
            let count = plan.split([' ', '#']).next().unwrap_or_default();
            match count.parse() {
                Ok(count) if self.plan.is_none() => self.plan = Some(count),
                _ => self.tally += Tally::fail(format!("malformed plan: {line}")),
            }
        }
    }

    /// The results; a plan that was not kept is a failure of its own.
    pub fn finish(mut self) -> Tally {
        if let Some(why) = self.bail {
            self.tally += Tally::fail(format!("bailed out: {why}"));
        }
        match self.plan {
            None => {
                self.tally +=
                    Tally::fail("no plan: the program ended too early or is no test program")
            }
            Some(plan) if plan != self.seen => {
                self.tally +=
                    Tally::fail(format!("{plan} cases were planned, {} reported", self.seen));
            }
            Some(_) => {}
        }
        self.tally
    }
}

/// The name behind `ok` or `not ok`, without number and dash.
fn result<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(word)?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest
        .trim_start()
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    Some(rest.strip_prefix("- ").unwrap_or(rest))
}

/// A TAP result line as a word for a table and the case it is about.
pub fn tap_result(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_end();
    if let Some(rest) = result(line, "not ok") {
        return Some(("FAIL", rest));
    }
    let rest = result(line, "ok")?;
    match directive(rest) {
        Some("skip") => Some(("SKIP", rest)),
        Some(_) => Some(("FAIL", rest)),
        None => Some(("ok", rest)),
    }
}

fn directive(text: &str) -> Option<&'static str> {
    let comment = text.rsplit_once('#')?.1.trim_start().to_ascii_lowercase();
    ["skip", "todo"]
        .into_iter()
        .find(|d| comment.starts_with(d))
}

/// Adds up cargo's `test result:` lines; an ignored test is a skipped one.
pub fn cargo_result(line: &str) -> Option<Tally> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let number = |what: &str| -> Option<u32> {
        rest.split(['.', ';'])
            .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    let mut tally = Tally::passes(number(" passed")?);
    for _ in 0..number(" failed")? {
        tally += Tally::fail("a cargo test");
    }
    for _ in 0..number(" ignored")? {
        tally += Tally::skip("an ignored cargo test");
    }
    Some(tally)
}

/// One case: the log is clean.
pub fn check_log(whose: &str, dmesg: &str) -> Tally {
    let faults: Vec<_> = kernel_log::trouble(dmesg).collect();
    match faults.first() {
        None if dmesg.trim().is_empty() => Tally::fail(format!("{whose}: the kernel log is empty")),
        None => Tally::pass(),
        Some(first) => Tally::fail(format!(
            "{whose}: {} bad lines in the kernel log, first: {first}",
            faults.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(text: &str) -> (u32, usize, usize) {
        let mut tap = Tap::default();
        text.lines().for_each(|l| tap.line(l));
        let tally = tap.finish();
        (tally.passed, tally.failed.len(), tally.skipped.len())
    }

    #[test]
    fn tap_results() {
        for (text, want) in [
            ("TAP version 13\n1..2\nok 1 - a\nok 2 - b\n", (2, 0, 0)),
            ("1..2\nok 1 - a (1.2 s)\nnot ok 2 - b # reason\n", (1, 1, 0)),
            ("1..2\nok 1 - a # SKIP no tool\nok 2 - b\n", (1, 0, 1)),
            ("ok\nnot ok\n1..2\n", (1, 1, 0)),
            // A plan not kept, none at all, two of them.
            ("1..3\nok 1 - a\nok 2 - b\n", (2, 1, 0)),
            ("ok 1 - a\n", (1, 1, 0)),
            ("1..1\n1..1\nok 1 - a\n", (1, 1, 0)),
            ("", (0, 1, 0)),
            ("1..x\n", (0, 2, 0)),
            ("1..0 # SKIP nothing to do\n", (0, 0, 0)),
            ("1..2\nok 1 - a\nBail out! disk full\n", (1, 2, 0)),
            // Not results.
            (
                "1..1\n# not ok\nokay then\nnot okay\n  ok indented\nok 1 - a\r\n",
                (1, 0, 0),
            ),
            // A number sign in a name, and an unexpected success.
            (
                "1..2\nok 1 - key #2 is taken\nok 2 - b # TODO later\n",
                (1, 1, 0),
            ),
        ] {
            assert_eq!(tap(text), want, "{text:?}");
        }
    }

    #[test]
    fn reasons_are_kept() {
        let mut tap = Tap::default();
        tap.line("1..1");
        tap.line("not ok 1 - uapi: peer # expected ENOENT");
        assert_eq!(tap.finish().failed, ["uapi: peer # expected ENOENT"]);
    }

    #[test]
    fn what_may_be_left_out_is_told_and_counted_and_no_failure() {
        let mut tap = Tap::default();
        "1..2\nok 1 - a # SKIP optional: no checkout\nok 2 - b\n"
            .lines()
            .for_each(|l| tap.line(l));
        let mut tally = tap.finish();
        assert_eq!(tally.line(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(tally.optional, ["a # SKIP optional: no checkout"]);
        assert!(tally.is_clean());
        tally += Tally::skip("c");
        assert!(!tally.is_clean() && tally.left_out() == 2);
    }

    #[test]
    fn cargo_lines() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        let tally = cargo_result(line).unwrap();
        assert_eq!(
            (tally.passed, tally.failed.len(), tally.skipped.len()),
            (5, 2, 1)
        );
        assert_eq!(
            cargo_result("test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured").unwrap(),
            Tally::passes(7)
        );
        assert_eq!(cargo_result("running 3 tests"), None);
        assert_eq!(cargo_result("test result: odd"), None);
    }

    #[test]
    fn kernel_logs() {
        let clean = "[ 0.1] Linux version 7.2.12\n[ 0.2] ovpn: loaded\n";
        assert_eq!(check_log("um", clean), Tally::pass());
        // No log at all comes from a guest that did not run.
        assert_eq!(
            check_log("um", " \n").failed,
            ["um: the kernel log is empty"]
        );
        let bad = check_log("um", &format!("{clean}[ 1.0] BUG: a\n[ 1.0] Oops: b\n"));
        assert_eq!(bad.failed.len(), 1);
        assert!(bad.failed[0].contains("2 bad lines"), "{bad:?}");
    }
}
