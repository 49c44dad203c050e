// SPDX-License-Identifier: GPL-2.0-only
//! One body of steps, told in two ways: a story for a person, or TAP 13.

use std::time::Instant;

use anyhow::Result;

/// How steps are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Commands and what they print, as they happen.
    Story,
    /// One line a step; what happened in it only if it failed.
    Tap,
}

/// Number of steps by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps that ran and held.
    pub passed: usize,
    /// Steps that did not hold.
    pub failed: usize,
    /// Steps that could not run here.
    pub skipped: usize,
}

/// Where steps are told to.
pub(crate) struct Report {
    style: Style,
    lane: &'static str,
    tally: Tally,
}

/// A line that a step shows.
pub(crate) struct Notes {
    style: Style,
    kept: Vec<String>,
}

impl Notes {
    /// Shows `text`, every line of it indented.
    pub(crate) fn say(&mut self, text: &str) {
        for line in text.lines() {
            match self.style {
                Style::Story => println!("    {line}"),
                Style::Tap => self.kept.push(line.to_owned()),
            }
        }
    }
}

impl Report {
    pub(crate) fn new(style: Style, lane: &'static str) -> Self {
        if style == Style::Tap {
            println!("TAP version 13");
        }
        Self {
            style,
            lane,
            tally: Tally::default(),
        }
    }

    /// Runs one step. A story ends at the first step that fails, because what
    /// follows would only confuse; TAP goes on.
    pub(crate) fn step(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut Notes) -> Result<()>,
    ) -> Result<()> {
        let outcome = self.take(name, body);
        match self.style {
            Style::Story => outcome,
            Style::Tap => Ok(()),
        }
    }

    /// Runs a step without which no other makes sense: its failure ends both.
    pub(crate) fn must(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut Notes) -> Result<()>,
    ) -> Result<()> {
        let outcome = self.take(name, body);
        if outcome.is_err() && self.style == Style::Tap {
            println!("Bail out! {}: {name}", self.lane);
        }
        outcome
    }

    fn take(&mut self, name: &str, body: impl FnOnce(&mut Notes) -> Result<()>) -> Result<()> {
        let mut notes = Notes {
            style: self.style,
            kept: Vec::new(),
        };
        if self.style == Style::Story {
            println!("\n==> {name}");
        }
        let started = Instant::now();
        let outcome = body(&mut notes);
        let seconds = started.elapsed().as_secs_f32();
        match (&outcome, self.style) {
            (Ok(()), Style::Story) => println!("    ok ({seconds:.1} s)"),
            (Ok(()), Style::Tap) => self.line(true, &format!("{name} ({seconds:.1} s)")),
            (Err(_), Style::Story) => println!("    FAILED ({seconds:.1} s)"),
            (Err(error), Style::Tap) => {
                self.line(false, name);
                for line in notes.kept {
                    println!("# {line}");
                }
                for line in format!("{error:#}").lines() {
                    println!("# {line}");
                }
            }
        }
        match outcome {
            Ok(()) => self.tally.passed += 1,
            Err(_) => self.tally.failed += 1,
        }
        outcome
    }

    /// Repeats the results of a TAP stream made in a guest as steps of ours.
    pub(crate) fn relay(&mut self, tap: &str) {
        for line in tap.lines() {
            if let Some(name) = result(line, "not ok ") {
                self.line(false, name);
                self.tally.failed += 1;
            } else if let Some(name) = result(line, "ok ") {
                self.line(true, name);
                if name.contains("# SKIP") {
                    self.tally.skipped += 1;
                } else {
                    self.tally.passed += 1;
                }
            } else if line.starts_with('#') {
                println!("{line}");
            }
        }
    }

    /// Writes the plan and gives the numbers.
    pub(crate) fn finish(self) -> Tally {
        if self.style == Style::Tap {
            let Tally {
                passed,
                failed,
                skipped,
            } = self.tally;
            println!("1..{}", passed + failed + skipped);
        }
        self.tally
    }

    fn line(&self, ok: bool, name: &str) {
        let Tally {
            passed,
            failed,
            skipped,
        } = self.tally;
        let number = passed + failed + skipped + 1;
        let word = if ok { "ok" } else { "not ok" };
        println!("{word} {number} - {}: {name}", self.lane);
    }
}

/// The name in a line "`prefix`NUMBER - NAME".
fn result<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let (number, name) = line.strip_prefix(prefix)?.split_once(" - ")?;
    number.parse::<u32>().ok()?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn outcomes_are_counted() {
        let mut report = Report::new(Style::Tap, "lane");
        report.step("holds", |_| Ok(())).unwrap();
        report.step("does not hold", |_| bail!("why")).unwrap();
        assert!(report.must("is needed", |_| bail!("why")).is_err());
        report.relay("1..4\nok 1 - a: b (0.1 s)\n# note\nok 2 - a: c # SKIP why\nnot ok 3 - a: d # why\nok x - e\n");
        let tally = report.finish();
        assert_eq!((tally.passed, tally.failed, tally.skipped), (2, 3, 1));
    }

    #[test]
    fn a_story_ends_at_the_first_failure() {
        let mut report = Report::new(Style::Story, "lane");
        assert!(report.step("does not hold", |_| bail!("why")).is_err());
        assert_eq!(report.finish().failed, 1);
    }
}
