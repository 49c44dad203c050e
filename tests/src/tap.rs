// SPDX-License-Identifier: GPL-2.0-only
//! Cases, their outcome, and the TAP 13 stream on stdout.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::Ctx;

/// Why a case did not pass.
#[derive(Debug)]
pub enum Failure {
    /// Something was observed that must not be, or the other way round.
    Failed(String),
    /// The case cannot say anything here; never counted as passed.
    Skipped(String),
}

/// Result of a case.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this reason.
    pub fn new(why: impl Display) -> Self {
        Self::Failed(why.to_string())
    }

    /// Puts what was being done in front of the reason.
    pub fn during(self, what: impl Display) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("{what}: {why}")),
            skipped => skipped,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(err: std::io::Error) -> Self {
        Self::new(err)
    }
}

impl From<std::net::AddrParseError> for Failure {
    fn from(err: std::net::AddrParseError) -> Self {
        Self::new(err)
    }
}

/// Adds what was being done to an error.
pub trait During<T> {
    /// `Err(why)` becomes `Err("what: why")`.
    fn during(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Outcome<T> {
        self.map_err(|e| e.into().during(what))
    }
}

/// Fails the case with a formatted reason unless the condition holds.
#[macro_export]
macro_rules! check {
    ($cond:expr, $($arg:tt)+) => {
        // Not negated, so that a comparison with a number that is none fails as well.
        if $cond {
        } else {
            return Err($crate::tap::Failure::Failed(format!($($arg)+)));
        }
    };
}

/// Fails the case unless both sides are equal; the reason shows both.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr, $($arg:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    return Err($crate::tap::Failure::Failed(format!(
                        "{}: got {left:?}, expected {right:?}", format!($($arg)+))));
                }
            }
        }
    };
}

/// Prints a TAP diagnostic line.
#[macro_export]
macro_rules! note {
    ($($arg:tt)+) => {
        $crate::tap::diagnostic(&format!($($arg)+))
    };
}

/// Prints text as diagnostic lines, so that no output of a tool can pass for a result.
pub fn diagnostic(text: &str) {
    for line in text.lines() {
        println!("# {line}");
    }
}

/// A named test; variants of one body differ in name and captured values only.
pub struct Case {
    /// Unique within its suite.
    pub name: String,
    /// The test itself.
    pub run: Box<dyn Fn(&Ctx) -> Outcome>,
}

impl Case {
    /// A case of this name.
    pub fn new(name: impl Into<String>, run: impl Fn(&Ctx) -> Outcome + 'static) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// How a whole run ended.
#[derive(Default)]
pub struct Totals {
    /// Cases that did what they should.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
    /// Cases that could not be judged.
    pub skipped: usize,
}

impl Totals {
    /// 0 all passed, 1 something failed, 3 nothing failed but something was skipped.
    pub fn exit_code(&self) -> u8 {
        match (self.failed, self.skipped) {
            (0, 0) => 0,
            (0, _) => 3,
            _ => 1,
        }
    }
}

fn run_one(case: &Case, ctx: &Ctx) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| (case.run)(ctx))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "no message".into());
        Err(Failure::Failed(format!("the test itself panicked: {text}")))
    })
}

/// Runs one case and prints its line.
pub fn report(number: usize, suite: &str, case: &Case, ctx: &Ctx, totals: &mut Totals) {
    let start = Instant::now();
    let outcome = run_one(case, ctx);
    let name = format!("{suite}: {}", case.name);
    totals.report(number, &name, start.elapsed().as_secs_f64(), outcome);
}

impl Totals {
    /// Counts a case and prints its line.
    pub fn report(&mut self, number: usize, name: &str, seconds: f64, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok {number} - {name} ({seconds:.1} s)");
            }
            Err(Failure::Skipped(why)) => {
                self.skipped += 1;
                println!("ok {number} - {name} # SKIP {why}");
            }
            Err(Failure::Failed(why)) => {
                self.failed += 1;
                let mut lines = why.lines();
                println!(
                    "not ok {number} - {name} ({seconds:.1} s) # {}",
                    lines.next().unwrap_or("")
                );
                lines.for_each(diagnostic);
            }
        }
    }
}
