// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's own scripts for this driver (tools/testing/selftests/net/ovpn), run as they are, stage by stage.
//!
//! They report in KTAP (Documentation/dev-tools/ktap.rst); here each of their stages becomes a case, and each script
//! gets two more: it ended well and let the module go, and the kernel's log is clean.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::lab::{Cmd, KernelLog, Module, Param, Proc, patience, set_patience, wait_for};
use crate::tap::{During, Failure, Outcome, Totals};
use crate::{check, note};

/// Where the scripts lie in a kernel source tree.
const SCRIPTS: &str = "tools/testing/selftests/net/ovpn";
/// The command lines of their listeners of notifications.
const YNL: &str = "tools/net/ynl/pyynl/cli.py";
/// kselftest's limit for a script without a settings file (tools/testing/selftests/kselftest/runner.sh), seconds.
const DEFAULT_LIMIT: u64 = 45;
/// How often a script's output is looked at: stages are timed that finely.
const POLL: Duration = Duration::from_millis(20);

struct Args {
    tree: PathBuf,
    module: Option<PathBuf>,
    cli: Option<PathBuf>,
    scripts: Vec<String>,
}

fn parse(mut args: impl Iterator<Item = String>) -> Outcome<Args> {
    let (mut tree, mut module, mut cli, mut scripts) = (None, None, None, Vec::new());
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .map(PathBuf::from)
                .ok_or(Failure::new(format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "--tree" => tree = Some(value()?),
            "--module" => module = Some(value()?),
            "--cli" => cli = Some(value()?),
            "--patience" => {
                let factor = value()?.to_string_lossy().parse();
                set_patience(factor.map_err(|_| Failure::new("--patience takes a number"))?);
            }
            option if option.starts_with('-') => {
                return Err(Failure::new(format!("unknown option {option}")));
            }
            _ => scripts.push(arg),
        }
    }
    Ok(Args {
        tree: tree.ok_or(Failure::new("--tree is missing"))?,
        module,
        cli,
        scripts,
    })
}

/// `ovpn-tests selftests`: runs the scripts named, or all, and prints TAP with its plan at the end.
pub fn run(args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let args = parse(args)?;
    let tree = copy(&args.tree)?;
    let scripts = scripts(&tree, &args.scripts)?;
    let cli = crate::find_cli(args.cli).ok_or(Failure::new("there is no ovpn-cli"))?;
    let module = Module::new(args.module.clone());
    if let Some(file) = &args.module {
        answer_modprobe(file)?;
    }
    warm_up(&tree, &module)?;
    println!("TAP version 13");
    let mut bench = Bench {
        dir: tree.join(SCRIPTS),
        limit: limit(&tree) * patience(),
        cli,
        module,
        number: 0,
        totals: Totals::default(),
    };
    for script in &scripts {
        bench.script(script)?;
    }
    println!("1..{}", bench.number);
    Ok(bench.totals)
}

/// The scripts' tree in memory: they and Python write into it, and the original belongs to the host.
fn copy(tree: &Path) -> Outcome<PathBuf> {
    let to = std::env::temp_dir().join("selftests");
    fs::create_dir_all(&to).during(to.display())?;
    Cmd::new(None, "cp -a").arg(tree.join(".")).arg(&to).ok()?;
    Ok(to)
}

/// Names of all scripts, or of those that contain one of `wanted`, in order.
fn scripts(tree: &Path, wanted: &[String]) -> Outcome<Vec<String>> {
    let dir = tree.join(SCRIPTS);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).during(dir.display())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.starts_with("test") && name.ends_with(".sh"));
    names.retain(|name| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())));
    names.sort();
    check!(!names.is_empty(), "no such script in {}", dir.display());
    Ok(names)
}

/// Seconds that kselftest gives each script, from the file `settings` beside them.
fn limit(tree: &Path) -> Duration {
    let settings = fs::read_to_string(tree.join(SCRIPTS).join("settings")).unwrap_or_default();
    let seconds = settings
        .lines()
        .find_map(|l| l.strip_prefix("timeout=")?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(DEFAULT_LIMIT))
}

/// Lets `modprobe ovpn`, which the scripts call, load this file and nothing else. They compare each notification with
/// mainline's, to the attribute, so the counters in that of a peer's end are switched off.
fn answer_modprobe(file: &Path) -> Outcome {
    let dir = Path::new("/etc/modprobe.d");
    fs::create_dir_all(dir).during(dir.display())?;
    let text = format!(
        "install ovpn insmod {} final_counters=N\nremove ovpn rmmod ovpn\n",
        file.display()
    );
    fs::write(dir.join("ovpn-selftests.conf"), text).during(dir.display())
}

/// Starts the listener's program once, so that its modules are compiled: a package's installation would have done
/// that, and the scripts give seven of them half a second each.
fn warm_up(tree: &Path, module: &Module) -> Outcome {
    module.reload()?;
    let done = Cmd::new(None, "python3")
        .arg(tree.join(YNL))
        .arg("--family")
        .arg("ovpn")
        .arg("--list-ops")
        .run(Duration::from_secs(60))?;
    check!(done.status.success(), "{YNL}: {}{}", done.err, done.out);
    Ok(())
}

struct Bench {
    dir: PathBuf,
    limit: Duration,
    cli: PathBuf,
    module: Module,
    number: usize,
    totals: Totals,
}

impl Bench {
    /// Runs one script and reports its stages as they end.
    fn script(&mut self, name: &str) -> Outcome {
        // One that ran into its limit may have left it busy; the script begins by clearing that away.
        if !Module::loaded() {
            self.module.load()?;
        }
        // Also for the module that is loaded already; a driver without the parameter has nothing to switch off.
        let _plain = Param::set("final_counters", "N").ok();
        note!(
            "{name}: driver is {}",
            if Module::ours() {
                "this project's"
            } else {
                "mainline's"
            }
        );
        let mut log = KernelLog::from_now()?;
        let started = Instant::now();
        let mut process = Cmd::new(None, "env")
            .arg(format!("--chdir={}", self.dir.display()))
            .arg(format!("OVPN_CLI={}", self.cli.display()))
            .arg(format!("./{name}"))
            .spawn()?;
        let mut reader = Reader::default();
        let ended = loop {
            let running = process.running();
            self.stages(name, &mut reader, &process);
            if !running {
                break process.finish(POLL).map(Some);
            }
            if started.elapsed() > self.limit {
                break Ok(None);
            }
            std::thread::sleep(POLL);
        }?;
        let seconds = started.elapsed().as_secs_f64();
        let end = match ended {
            None => Err(Failure::new(format!(
                "still running after {} s",
                self.limit.as_secs()
            ))),
            Some(done) if !done.status.success() => {
                Err(Failure::new(format!("{}: {}", done.status, done.err)))
            }
            Some(_) => reader.complete().and_then(|()| released()),
        };
        self.case(name, "ends well and lets the module go", seconds, end);
        let trouble = log.drain()?;
        let first = trouble.iter().find(|l| kernel_log::is_trouble(l));
        let clean = first.map_or(Ok(()), |line| Err(Failure::new(line)));
        self.case(name, "kernel log", 0.0, clean);
        Ok(())
    }

    /// Reports the stages that have ended since the last look.
    fn stages(&mut self, script: &str, reader: &mut Reader, process: &Proc) {
        for (stage, outcome, seconds) in reader.read(&process.stdout()) {
            self.case(script, &stage, seconds, outcome);
        }
    }

    fn case(&mut self, script: &str, what: &str, seconds: f64, outcome: Outcome) {
        self.number += 1;
        self.totals
            .report(self.number, &format!("{script}: {what}"), seconds, outcome);
    }
}

/// The script unloads the module at its end and does not say whether that worked.
fn released() -> Outcome {
    wait_for("the module to be gone", Duration::from_secs(5), || {
        Ok((!Module::loaded()).then_some(()))
    })
}

/// State of the reader of a script's output.
struct Reader {
    /// Bytes read.
    at: usize,
    /// Stages announced.
    plan: Option<usize>,
    /// Stages reported.
    seen: usize,
    /// End of the last stage.
    since: Instant,
    /// Other lines since then: what a failed stage has to say.
    talk: Vec<String>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            at: 0,
            plan: None,
            seen: 0,
            since: Instant::now(),
            talk: Vec::new(),
        }
    }
}

impl Reader {
    /// Takes the whole output so far; gives name, outcome and seconds of each stage that is new.
    fn read(&mut self, output: &str) -> Vec<(String, Outcome, f64)> {
        let new = output.get(self.at..).unwrap_or_default();
        // A line may be half written.
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.at += whole;
        let mut stages = Vec::new();
        for line in new.get(..whole).unwrap_or_default().lines() {
            let Some((stage, outcome)) = self.line(line.trim_end()) else {
                continue;
            };
            self.seen += 1;
            stages.push((stage, outcome, self.since.elapsed().as_secs_f64()));
            self.since = Instant::now();
            self.talk.clear();
        }
        stages
    }

    fn line(&mut self, line: &str) -> Option<(String, Outcome)> {
        if let Some(plan) = line.strip_prefix("1..") {
            self.plan = plan.parse().ok();
        } else if let Some(rest) = line.strip_prefix("not ok ") {
            let why = match self.talk.is_empty() {
                true => "it does not say why".to_owned(),
                false => self.talk.join("\n"),
            };
            return Some((stage(rest), Err(Failure::new(why))));
        } else if let Some(rest) = line.strip_prefix("ok ") {
            // Skipped, or failed as expected: neither is what is wanted here.
            let outcome = match rest.split_once('#') {
                None => Ok(()),
                Some((_, directive)) => Err(Failure::Skipped(directive.trim().to_owned())),
            };
            return Some((stage(rest), outcome));
        } else if !line.starts_with('#') {
            self.talk.push(line.to_owned());
        }
        None
    }

    /// Whether every stage that was announced was reported.
    fn complete(&self) -> Outcome {
        let plan = self.plan.ok_or(Failure::new("it announced no stages"))?;
        check!(self.seen == plan, "{} of {plan} stages", self.seen);
        Ok(())
    }
}

/// The stage's name in what follows `ok`: a number before it, perhaps a directive after it.
fn stage(rest: &str) -> String {
    let name = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    name.split('#').next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_as_they_come() {
        let mut reader = Reader::default();
        assert!(reader.read("TAP version 13\n1..3\nok 1 set up").is_empty());
        let text = "TAP version 13\n1..3\nok 1 set up \nping: lost\nnot ok 2 run traffic \n";
        let got = reader.read(text);
        let names: Vec<_> = got.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["set up", "run traffic"]);
        assert!(matches!(&got[0].1, Ok(())));
        assert!(matches!(&got[1].1, Err(Failure::Failed(why)) if why == "ping: lost"));
        assert!(reader.complete().is_err(), "one stage is missing");
        let text = format!("{text}# Totals: pass:1\nok 3 query # SKIP no tool\n");
        let got = reader.read(&text);
        assert!(matches!(&got[0].1, Err(Failure::Skipped(_))));
        assert!(reader.complete().is_ok());
        assert!(reader.read(&text).is_empty());
    }

    #[test]
    fn no_plan_is_no_success() {
        let mut reader = Reader::default();
        reader.read("ok 1 alone\n");
        assert!(reader.complete().is_err());
    }
}
