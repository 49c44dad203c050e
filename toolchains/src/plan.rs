// SPDX-License-Identifier: GPL-2.0-only
//! A plan of steps that wait for each other and share the processors, and the table that closes it.

use crate::apt::Unavailable;
use crate::tally::Tally;
use crate::ui;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

type Work<'a> = Box<dyn FnOnce() -> Result<Tally> + Send + 'a>;

/// Load of a step, in halves of a processor: nothing, because it waits for the network or for minutes to pass.
pub const NONE: u32 = 0;
/// Tests that wait for each other as long as they work.
pub const HALF: u32 = 1;
/// One processor.
pub const ONE: u32 = 2;
/// Whatever there is. The plan shares out two processors, however many the machine has: its steps are made for two.
pub const BOTH: u32 = 4;

/// One thing to do.
pub struct Step<'a> {
    name: String,
    needs: Vec<String>,
    load: u32,
    work: Option<Work<'a>>,
    state: State,
}

enum State {
    Waiting,
    Running,
    Done(Tally, Duration),
}

/// Steps in order of preference.
#[derive(Default)]
pub struct Plan<'a> {
    steps: Vec<Step<'a>>,
    /// Steps that the plan has wrong.
    faults: Vec<String>,
    /// File with the seconds that steps took before.
    kept: Option<PathBuf>,
}

impl<'a> Plan<'a> {
    /// Adds a step that waits for `needs` (which must be in the plan already) and keeps `load` of the processors busy:
    /// one of [`NONE`], [`HALF`], [`ONE`] and [`BOTH`].
    pub fn step(
        &mut self,
        name: &str,
        needs: &[&str],
        load: u32,
        work: impl FnOnce() -> Result<Tally> + Send + 'a,
    ) {
        let known = |name: &str| self.steps.iter().any(|s| s.name == name);
        let unknown = needs.iter().filter(|n| !known(n));
        let mut faults: Vec<_> = unknown
            .map(|n| format!("{name} needs {n}, which is no step before it"))
            .collect();
        if known(name) {
            faults.push(format!("{name} is there twice"));
        }
        self.faults.extend(faults);
        self.steps.push(Step {
            name: name.to_owned(),
            needs: needs.iter().map(|n| (*n).to_owned()).collect(),
            load: load.min(BOTH),
            work: Some(Box::new(work)),
            state: State::Waiting,
        });
    }

    /// A step that prepares something and has no cases of its own: only its failure counts.
    pub fn prepare(
        &mut self,
        name: &str,
        needs: &[&str],
        load: u32,
        work: impl FnOnce() -> Result<()> + Send + 'a,
    ) {
        self.step(name, needs, load, || work().map(|()| Tally::default()));
    }

    /// Compares how long steps take with what `file` says of earlier runs, and writes it there.
    pub fn keep(&mut self, file: PathBuf) {
        self.kept = Some(file);
    }

    /// Runs everything, prints the closing table and gives the sum.
    pub fn run(mut self) -> Result<Tally> {
        let started = Instant::now();
        let before = ticks();
        ensure!(!self.steps.is_empty(), "the plan is empty");
        ensure!(
            self.faults.is_empty(),
            "the plan is wrong: {}",
            self.faults.join("; ")
        );
        if let Some(file) = &self.kept {
            let kept = times(&std::fs::read_to_string(file).unwrap_or_default());
            longest_first(&mut self.steps, &kept);
        }
        let shared = Shared {
            steps: Mutex::new(self.steps),
            changed: Condvar::new(),
        };
        thread::scope(|scope| {
            let mut steps = shared.lock();
            loop {
                skip_hopeless(&mut steps);
                while let Some(at) = next(&steps) {
                    let Some(step) = steps.get_mut(at) else { break };
                    let Some(work) = step.work.take() else { break };
                    step.state = State::Running;
                    let name = step.name.clone();
                    let shared = &shared;
                    scope.spawn(move || shared.execute(at, &name, work));
                }
                if steps.iter().all(|s| matches!(s.state, State::Done(..))) {
                    break;
                }
                steps = shared
                    .changed
                    .wait(steps)
                    .unwrap_or_else(|e| e.into_inner());
            }
        });
        let steps = shared.steps.into_inner().unwrap_or_else(|e| e.into_inner());
        let sum = summary(&steps);
        if let Some(file) = &self.kept {
            remember(file, &steps)?;
        }
        let busy = busy(before, ticks()).unwrap_or_default();
        let took = ui::clock(started.elapsed());
        ui::say_as("", &format!("all in {took}{busy}"));
        Ok(sum)
    }
}

/// Seconds of a step that has not been seen yet.
const UNSEEN: u64 = 30;

/// Sorts steps: those that want all processors and what they need first, because nothing else runs beside them, nor before
/// them while a long step keeps them waiting. Then by the time that steps and all that waits for them take. A step stays
/// behind what it needs, which takes at least as long in that sense; without earlier times the order of preference
/// decides.
fn longest_first(steps: &mut [Step<'_>], kept: &BTreeMap<String, u64>) {
    if kept.is_empty() {
        return;
    }
    let mut behind: BTreeMap<String, (bool, u64)> = BTreeMap::new();
    for step in steps.iter().rev() {
        let own = kept.get(&step.name).copied().unwrap_or(UNSEEN);
        let (whole, after) = behind.get(&step.name).copied().unwrap_or_default();
        let all = (whole || step.load == BOTH, own + after);
        behind.insert(step.name.clone(), all);
        for need in &step.needs {
            let (whole, longest) = behind.entry(need.clone()).or_default();
            *whole |= all.0;
            *longest = all.1.max(*longest);
        }
    }
    steps.sort_by_key(|step| std::cmp::Reverse(behind.get(&step.name).copied()));
}

/// Steps shorter than this are not compared: seconds say little of them, and what was built before takes none.
const COMPARED: u64 = 30;

/// Says which steps took a third longer than when they last held, and keeps the new times.
fn remember(file: &Path, steps: &[Step<'_>]) -> Result<()> {
    let mut kept = times(&std::fs::read_to_string(file).unwrap_or_default());
    for step in steps {
        let State::Done(tally, time) = &step.state else {
            continue;
        };
        if !tally.is_clean() {
            continue;
        }
        let now = time.as_secs();
        if let Some(before) = kept.insert(step.name.clone(), now)
            && grew(before, now)
        {
            let (before, now) = (Duration::from_secs(before), ui::clock(*time));
            let text = format!(
                "SLOWER: {} took {now}, and {} before",
                step.name,
                ui::clock(before)
            );
            ui::say_as("", &text);
        }
    }
    let text: String = kept
        .iter()
        .map(|(name, s)| format!("{s:>6} {name}\n"))
        .collect();
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn grew(before: u64, now: u64) -> bool {
    before >= COMPARED && now * 3 >= before * 4
}

/// Lines of seconds and a step's name.
fn times(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (seconds, name) = line.trim_start().split_once(' ')?;
        Some((name.to_owned(), seconds.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Clock ticks that all processors have had, and those they were idle (`cpu` of /proc/stat, proc(5)).
fn ticks() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let words = stat.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    // The last two are contained in the first two.
    let all = ticks.iter().take(8).sum();
    Some((all, ticks.get(3)? + ticks.get(4)?))
}

/// How busy the machine was between two looks: it explains a run that takes long.
fn busy(before: Option<(u64, u64)>, after: Option<(u64, u64)>) -> Option<String> {
    let ((all, idle), (all_then, idle_then)) = (after?, before?);
    let (all, idle) = (all.checked_sub(all_then)?, idle.checked_sub(idle_then)?);
    let share = all.checked_sub(idle)? * 100 / all.max(1);
    Some(format!(", processors {share} % busy"))
}

struct Shared<'a> {
    steps: Mutex<Vec<Step<'a>>>,
    changed: Condvar,
}

impl<'a> Shared<'a> {
    fn lock(&self) -> MutexGuard<'_, Vec<Step<'a>>> {
        self.steps.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn execute(&self, at: usize, name: &str, work: Work<'a>) {
        let started = Instant::now();
        ui::set_label(name);
        ui::say("starts");
        // A fault of the harness ends its step, not the report on the others.
        let result = catch_unwind(AssertUnwindSafe(work));
        let tally = match result {
            Ok(Ok(tally)) => tally,
            Ok(Err(err)) if err.is::<Unavailable>() => {
                ui::say(format!("SKIPPED: {err:#}"));
                Tally::skip(format!("{name}: {err:#}"))
            }
            Ok(Err(err)) => {
                ui::say(format!("FAILED: {err:#}"));
                Tally::fail(format!("{name}: {}", first_line(&format!("{err:#}"))))
            }
            Err(_) => Tally::fail(format!("{name}: the harness itself failed")),
        };
        let elapsed = started.elapsed();
        ui::say(format!("{} after {}", verdict(&tally), ui::clock(elapsed)));
        if let Some(step) = self.lock().get_mut(at) {
            step.state = State::Done(tally, elapsed);
        }
        self.changed.notify_all();
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn done<'t>(steps: &'t [Step<'_>], name: &str) -> Option<&'t Tally> {
    steps
        .iter()
        .find(|s| s.name == name)
        .and_then(|s| match &s.state {
            State::Done(tally, _) => Some(tally),
            _ => None,
        })
}

/// A step whose ground is missing is skipped, with the reason.
fn skip_hopeless(steps: &mut [Step<'_>]) {
    // In order: what is skipped here takes along what comes later.
    for at in 0..steps.len() {
        let Some(step) = steps.get(at) else { return };
        if !matches!(step.state, State::Waiting) {
            continue;
        }
        let bad = step
            .needs
            .iter()
            .find(|n| done(steps, n).is_some_and(|t| !t.is_clean()));
        let Some(why) = bad.map(|n| format!("{}: needs {n}", step.name)) else {
            continue;
        };
        ui::say_as(&step.name, &format!("SKIPPED {why}"));
        if let Some(step) = steps.get_mut(at) {
            step.state = State::Done(Tally::skip(why), Duration::ZERO);
        }
    }
}

/// The first step that waits for nothing but processors, and for which enough are free. None overtakes one that wants
/// them all: it would never get them.
fn next(steps: &[Step<'_>]) -> Option<usize> {
    let running = steps.iter().filter(|s| matches!(s.state, State::Running));
    let busy: u32 = running.map(|s| s.load).sum();
    let ready = |step: &Step<'_>| {
        matches!(step.state, State::Waiting) && step.needs.iter().all(|n| done(steps, n).is_some())
    };
    let mut queue = steps.iter().enumerate().filter(|(_, step)| ready(step));
    let (at, first) = queue.find(|(_, step)| step.load == BOTH || busy + step.load <= BOTH)?;
    (busy + first.load <= BOTH).then_some(at)
}

fn verdict(tally: &Tally) -> &'static str {
    match (tally.failed.is_empty(), tally.skipped.is_empty()) {
        (false, _) => "FAILED",
        (true, false) => "SKIPPED",
        (true, true) => "ok",
    }
}

fn summary(steps: &[Step<'_>]) -> Tally {
    let mut sum = Tally::default();
    let mut text = format!(
        "\n{:<28} {:>8} {:>7} {:>7} {:>8} {:>7}\n",
        "step", "result", "passed", "failed", "skipped", "time"
    );
    for step in steps {
        let State::Done(tally, time) = &step.state else {
            continue;
        };
        text += &format!(
            "{:<28} {:>8} {:>7} {:>7} {:>8} {:>7}\n",
            step.name,
            verdict(tally),
            tally.passed,
            tally.failed.len(),
            tally.left_out(),
            ui::clock(*time)
        );
        sum += tally.clone();
    }
    for (word, cases) in [
        ("FAILED", &sum.failed),
        ("SKIPPED", &sum.skipped),
        ("SKIPPED", &sum.optional),
    ] {
        for case in cases {
            text += &format!("{word} {case}\n");
        }
    }
    ui::say_as("", &text);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn what_needs_a_failed_step_is_skipped() {
        let mut plan = Plan::default();
        plan.step("a", &[], ONE, || Ok(Tally::passes(3)));
        plan.step("b", &["a"], ONE, || anyhow::bail!("broken"));
        plan.step("c", &["b"], ONE, || Ok(Tally::pass()));
        plan.step("d", &["c"], ONE, || Ok(Tally::pass()));
        plan.step("e", &["a"], BOTH, || Err(Unavailable("gone".into()).into()));
        plan.step("f", &["a"], ONE, || panic!("a fault of the harness"));
        let sum = plan.run().unwrap();
        assert_eq!(sum.passed, 3);
        assert_eq!(sum.failed, ["b: broken", "f: the harness itself failed"]);
        assert_eq!(sum.skipped, ["c: needs b", "d: needs c", "e: gone"]);
    }

    #[test]
    fn a_plan_with_a_misspelt_name_does_not_start() {
        let mut plan = Plan::default();
        plan.prepare("um kernel", &[], ONE, || panic!("it started"));
        plan.prepare("um module", &["um kernal"], ONE, || Ok(()));
        plan.prepare("um kernel", &[], ONE, || Ok(()));
        let err = plan.run().unwrap_err().to_string();
        assert!(err.contains("um module needs um kernal"), "{err}");
        assert!(err.contains("um kernel is there twice"), "{err}");
    }

    #[test]
    fn the_longest_way_comes_first() {
        let mut plan = Plan::default();
        let steps: [(&str, &[&str]); 6] = [
            ("source", &[]),
            ("short", &["source"]),
            ("kernel", &["source"]),
            ("module", &["kernel"]),
            ("suite", &["module"]),
            ("long", &["source"]),
        ];
        for (name, needs) in steps {
            plan.prepare(name, needs, ONE, || Ok(()));
        }
        let kept = times("1 source\n5 short\n0 kernel\n1 module\n200 suite\n150 long\n");
        longest_first(&mut plan.steps, &BTreeMap::new());
        assert_eq!(
            plan.steps.iter().map(|s| s.name.as_str()).nth(1),
            Some("short")
        );
        longest_first(&mut plan.steps, &kept);
        let names: Vec<_> = plan.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            ["source", "kernel", "module", "suite", "long", "short"]
        );
    }

    #[test]
    fn steps_for_all_processors_come_before_long_ones() {
        let mut plan = Plan::default();
        plan.prepare("source", &[], ONE, || Ok(()));
        plan.prepare("suite", &[], ONE, || Ok(()));
        plan.prepare("kernel", &["source"], BOTH, || Ok(()));
        longest_first(&mut plan.steps, &times("900 suite\n1 source\n2 kernel\n"));
        let names: Vec<_> = plan.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["source", "kernel", "suite"]);
    }

    #[test]
    fn times_are_kept_and_compared() {
        let file = std::env::temp_dir().join(format!("lane-steps-{}", std::process::id()));
        std::fs::write(&file, "    90 um fast\n     0 um kernel\n").unwrap();
        let mut plan = Plan::default();
        plan.keep(file.clone());
        plan.prepare("um fast", &[], ONE, || Ok(()));
        plan.prepare("broken", &[], ONE, || anyhow::bail!("no"));
        plan.run().unwrap();
        let kept = times(&std::fs::read_to_string(&file).unwrap());
        let want = [("um fast".to_owned(), 0), ("um kernel".to_owned(), 0)];
        assert_eq!(kept, BTreeMap::from(want));
        std::fs::remove_file(file).unwrap();
        assert!(grew(90, 120) && !grew(90, 119));
        assert!(!grew(0, 500), "it had been built before");
    }

    #[test]
    fn a_share_of_nothing_is_no_fault() {
        let share = |before, after| busy(Some(before), Some(after));
        assert_eq!(
            share((100, 50), (300, 100)).as_deref(),
            Some(", processors 75 % busy")
        );
        assert!(share((100, 50), (100, 50)).is_some());
        assert_eq!(share((300, 50), (100, 50)), None);
        assert_eq!(busy(None, Some((1, 1))), None);
        assert!(ticks().is_none_or(|(all, idle)| all >= idle));
    }

    #[test]
    fn processors_are_not_shared_out_twice() {
        let busy = AtomicU32::new(0);
        let most = AtomicU32::new(0);
        let mut plan = Plan::default();
        for (n, load) in [ONE, BOTH, HALF, HALF, BOTH, ONE].into_iter().enumerate() {
            let (busy, most) = (&busy, &most);
            plan.step(&n.to_string(), &[], load, move || {
                most.fetch_max(
                    busy.fetch_add(load, Ordering::SeqCst) + load,
                    Ordering::SeqCst,
                );
                thread::yield_now();
                busy.fetch_sub(load, Ordering::SeqCst);
                Ok(Tally::pass())
            });
        }
        assert_eq!(plan.run().unwrap(), Tally::passes(6));
        assert!(most.load(Ordering::SeqCst) <= BOTH);
    }

    #[test]
    fn a_step_for_two_is_not_overtaken() {
        let order = Mutex::new(Vec::new());
        let note = |name: &'static str| order.lock().unwrap().push(name);
        let mut plan = Plan::default();
        let note = &note;
        let (begin, begun) = std::sync::mpsc::channel();
        plan.prepare("one", &[], ONE, move || {
            begin.send(())?;
            Ok(())
        });
        plan.prepare("two", &[], BOTH, move || {
            begun.recv()?;
            note("two");
            Ok(())
        });
        plan.prepare("late", &[], ONE, move || {
            note("late");
            Ok(())
        });
        plan.run().unwrap();
        assert_eq!(order.into_inner().unwrap(), ["two", "late"]);
    }

    #[test]
    fn a_step_starts_after_what_it_needs() {
        let order = Mutex::new(Vec::new());
        let mut plan = Plan::default();
        for (name, needs) in [("a", vec![]), ("b", vec!["a"]), ("c", vec!["b", "a"])] {
            let order = &order;
            plan.prepare(name, &needs, NONE, move || {
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        assert_eq!(plan.run().unwrap(), Tally::default());
        assert_eq!(order.into_inner().unwrap(), ["a", "b", "c"]);
    }
}
