// SPDX-License-Identifier: GPL-2.0-only
//! Mutation of the path of packets: a copy of the tree gets one small fault after the other, and for each the module is
//! built and tested. A fault that no test notices is a line that no test guards. Verdicts are kept, so that a run can be
//! ended and continued.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::kernel;
use crate::lock::Lock;
use crate::mutants::{self, Mutant};
use crate::stamp;
use crate::steps::{OURS, UM};
use crate::tally::tap_result;
use crate::tree;
use crate::ui;
use crate::um::{self, Guest};
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `lane mutate` takes.
pub const USAGE: &str = "lane mutate [--quick | --unit] [--most N] [FILE]...";

/// Suites, and parts of their cases' names; none are all of them.
type Round = (&'static str, &'static [&'static str]);

/// The suites of a file, by the beginning of its name: the first row that fits, one guest
/// after the other, those first that notice most in the least time.
const SUITES: [(&str, &[Round]); 11] = [
    (
        "kmod-ovpn/shim/gro.c",
        &[("path", &["GRO"]), ("path,p2p", &[])],
    ),
    (
        "kmod-ovpn/shim/cells.c",
        &[("path", &["GRO", "NAPI"]), ("path,p2p,tcp", &[])],
    ),
    (
        "kmod-ovpn/src/early.rs",
        &[("p2p", &["before their key"]), ("p2p,tcp", &[])],
    ),
    (
        "kmod-ovpn/core/src/early.rs",
        &[("p2p", &["before their key"]), ("p2p,tcp", &[])],
    ),
    (
        "kmod-ovpn/core/src/replay.rs",
        &[("p2p", &["replay"]), ("p2p", &[])],
    ),
    ("kmod-ovpn/shim/tcp.c", &[("tcp", &[])]),
    ("kmod-ovpn/src/stream.rs", &[("tcp", &[])]),
    ("kmod-ovpn/shim/order.c", &[("engine", &[])]),
    ("kmod-ovpn/shim/genl.c", &[("uapi,uapi-mp", &[])]),
    ("kmod-ovpn/src/netlink.rs", &[("uapi,uapi-mp", &[])]),
    (
        "",
        &[
            (
                "path,p2p",
                &["each reason", "hostile", "before their key", "wire format"],
            ),
            ("path,p2p,mp,tcp,place", &[]),
        ],
    ),
];
/// Folders with files to change, and the kind of these. `src/sys` is glue, and not among them.
const FOLDERS: [(&str, &str); 3] = [
    ("kmod-ovpn/src", "rs"),
    ("kmod-ovpn/core/src", "rs"),
    ("kmod-ovpn/shim", "c"),
];
/// As many as are tried when the command does not say.
const MOST: usize = 30;
/// Deadlines in guests are this many times longer.
const PATIENCE: &str = "2";
/// A guest that takes longer hangs, which is noticed, too.
const GUEST_TIMEOUT: Duration = Duration::from_secs(12 * 60);
/// The same for the tests of the core.
const UNIT_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// The driver's core, which has tests of its own.
const CORE: &str = "kmod-ovpn/core/";
const UNIT_TESTS: &str = "kmod-ovpn/core/tests";

/// Which tests see a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those of the core if it is a file of the core, then all guests of the file.
    Whole,
    /// The same with the first guest alone.
    Quick,
    /// Those of the core alone, without a guest.
    Unit,
}

impl Scope {
    fn guests(self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Quick => 1,
            Self::Unit => 0,
        }
    }

    /// To survive a part of the tests says less.
    fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Quick => " quick",
            Self::Unit => " unit",
        }
    }
}

/// The fate of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// This noticed it.
    Killed(String),
    Survived,
    DoesNotBuild,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(by) => write!(f, "killed by {by}"),
            Self::Survived => f.write_str("SURVIVED"),
            Self::DoesNotBuild => f.write_str("does not build"),
        }
    }
}

/// Verdicts of earlier runs by mutant, one a line. Those that survived did so with the tests of that time.
struct Kept {
    file: PathBuf,
    tests: String,
    known: BTreeMap<String, Verdict>,
}

impl Kept {
    fn read(file: PathBuf, tests: String) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let known = text.lines().filter_map(|line| kept(line, &tests)).collect();
        Self { file, tests, known }
    }

    fn add(&mut self, key: String, verdict: Verdict) -> Result<()> {
        let (word, about) = match &verdict {
            Verdict::Killed(by) => ("killed", by.as_str()),
            Verdict::Survived => ("survived", self.tests.as_str()),
            Verdict::DoesNotBuild => ("unbuilt", ""),
        };
        let mut text = fs::read_to_string(&self.file).unwrap_or_default();
        text += &format!("{key}\t{word}\t{about}\n");
        fs::write(&self.file, text)?;
        self.known.insert(key, verdict);
        Ok(())
    }
}

/// One line of the file of verdicts.
fn kept(line: &str, tests: &str) -> Option<(String, Verdict)> {
    let mut words = line.split('\t');
    let key = words.next()?.to_owned();
    let verdict = match (words.next()?, words.next()?) {
        ("killed", by) => Verdict::Killed(by.to_owned()),
        ("survived", then) if then == tests => Verdict::Survived,
        ("unbuilt", _) => Verdict::DoesNotBuild,
        _ => return None,
    };
    Some((key, verdict))
}

/// The copy of the tree, and the cache beside it that has the lane's kernel and the guests' programs.
struct Copy {
    ctx: Ctx,
    scope: Scope,
}

impl Copy {
    fn make(ctx: &Ctx, scope: Scope) -> Result<Self> {
        ensure!(
            kernel::is_built(ctx, UM)?,
            "there is no kernel yet: lane kernel {UM}"
        );
        let bin = ctx.lane(UM).join("bin/ovpn-tests");
        ensure!(bin.is_file(), "there are no tests yet: lane programs {UM}");
        let (copy, cache) = (home(ctx).join("tree"), home(ctx).join("cache"));
        let _ = fs::remove_dir_all(&copy);
        for file in tree::files(ctx, &[])? {
            let to = copy.join(&file);
            if let Some(dir) = to.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::copy(ctx.project.join(&file), &to)?;
        }
        let lane = cache.join("lanes").join(UM);
        fs::create_dir_all(&lane)?;
        for name in ["dl", "src", "tools", "roots"] {
            link(&ctx.cache.join(name), &cache.join(name))?;
        }
        for name in ["kernel", "modules", "bin"] {
            link(&ctx.lane(UM).join(name), &lane.join(name))?;
        }
        let lock = Lock::read(&copy.join("toolchains/sources.lock"))?;
        let ctx = Ctx::with(&copy, &cache, lock, ctx.mirror.clone())?;
        Ok(Self { ctx, scope })
    }

    /// Whether tests notice what is in the copy now.
    fn judge(&self, file: &str) -> Result<Verdict> {
        if file.starts_with(CORE) {
            let verdict = self.unit();
            if verdict != Verdict::Survived {
                return Ok(verdict);
            }
        }
        let guests = self.scope.guests();
        if guests > 0 && kernel::module(&self.ctx, UM).is_err() {
            return Ok(Verdict::DoesNotBuild);
        }
        for (suites, cases) in suites_of(file).iter().take(guests) {
            let verdict = self.guest(suites, cases)?;
            if verdict != Verdict::Survived {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Survived)
    }

    fn unit(&self) -> Verdict {
        let cargo = |more: &[&str]| {
            Cmd::new(&self.ctx, "cargo")
                .args(["test", "--locked", "--offline", "--package", "ovpn-core"])
                .args(more)
                .cwd(&self.ctx.project)
                .env("CARGO_TARGET_DIR", self.ctx.cache.join("target"))
                .timeout(UNIT_TIMEOUT)
        };
        let held = |cmd: Cmd| cmd.status_with(|_| ()).is_ok_and(|status| status.success());
        if !held(cargo(&["--no-run"])) {
            return Verdict::DoesNotBuild;
        }
        match held(cargo(&[])) {
            true => Verdict::Survived,
            false => Verdict::Killed("unit tests of the core".into()),
        }
    }

    fn guest(&self, suites: &str, cases: &[&str]) -> Result<Verdict> {
        let words = ["/lane/bin/ovpn-tests", "--first", "--module", OURS];
        let words = words.into_iter().chain(["--cli", "/lane/bin/ovpn-cli"]);
        let words = words
            .chain(["--patience", PATIENCE, suites])
            .chain(cases.iter().copied());
        let mut guest = Guest::new(&self.ctx, UM, words.map(str::to_owned).collect())?;
        guest.mem = um::MAX_MEM;
        guest.timeout = GUEST_TIMEOUT;
        let mut failed = None;
        let outcome = guest.run(&self.ctx, |line| {
            if let Some(("FAIL", name)) = tap_result(line) {
                let name = name.split(" (").next().unwrap_or(name);
                failed.get_or_insert_with(|| name.to_owned());
            }
        })?;
        Ok(match (outcome.code(), failed) {
            (_, Some(case)) => Verdict::Killed(case),
            (Ok(0 | 3), None) => Verdict::Survived,
            (Ok(code), None) => Verdict::Killed(format!("exit status {code} of {suites}")),
            (Err(_), None) => Verdict::Killed(format!("the guest's end in {suites}")),
        })
    }
}

fn home(ctx: &Ctx) -> PathBuf {
    ctx.cache.join("mutants")
}

fn link(to: &Path, at: &Path) -> Result<()> {
    let _ = fs::remove_file(at);
    let to = to
        .canonicalize()
        .with_context(|| format!("{} is not there", to.display()))?;
    symlink(to, at).with_context(|| format!("cannot link {}", at.display()))
}

fn suites_of(file: &str) -> &'static [Round] {
    let row = SUITES.iter().find(|(of, _)| file.starts_with(of));
    row.map_or(&[], |(_, suites)| suites)
}

/// Files by the ends of their names; all that may be changed if none is named.
fn files(project: &Path, named: &[&str]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (folder, kind) in FOLDERS {
        for entry in fs::read_dir(project.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == kind) {
                all.push(path.strip_prefix(project)?.display().to_string());
            }
        }
    }
    all.sort();
    if let Some(name) = named
        .iter()
        .find(|name| !all.iter().any(|f| f.ends_with(**name)))
    {
        bail!(
            "{name}: no such file in {}",
            FOLDERS.map(|(folder, _)| folder).join(", ")
        );
    }
    all.retain(|f| named.is_empty() || named.iter().any(|name| f.ends_with(name)));
    Ok(all)
}

fn digest(words: &[&str]) -> String {
    let mut sum = Sha256::new();
    for word in words {
        sum.update(word.as_bytes());
        sum.update([0]);
    }
    sum.finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Identity of all tests: the guests' program and the core's own.
fn tests(ctx: &Ctx) -> Result<String> {
    let mut key = stamp::Key::new("tests").with_file(&ctx.lane(UM).join("bin/ovpn-tests"))?;
    for file in tree::files(ctx, &[UNIT_TESTS])? {
        key = key.with_file(&ctx.project.join(file))?;
    }
    Ok(key.hex())
}

/// Tries mutants of files, as many as asked for: a sample that has no favourites, and that a larger one contains. With
/// `--quick` those that the first round of a file does not notice count as survivors, with `--unit` those of the core that
/// the core's own tests do not notice.
pub fn run(ctx: &Ctx, args: &[&str]) -> Result<()> {
    let (scope, args) = match args {
        ["--quick", rest @ ..] => (Scope::Quick, rest),
        ["--unit", rest @ ..] => (Scope::Unit, rest),
        rest => (Scope::Whole, rest),
    };
    let (most, named) = match args {
        ["--most", number, rest @ ..] => {
            let most = number.parse();
            (most.with_context(|| format!("{number}\n{USAGE}"))?, rest)
        }
        rest => (MOST, rest),
    };
    let copy = Copy::make(ctx, scope)?;
    let tests = tests(ctx)? + scope.suffix();
    let mut kept = Kept::read(home(ctx).join("verdicts"), tests);
    let mut sample: Vec<(String, String, Mutant)> = Vec::new();
    let mut files = files(&copy.ctx.project, named)?;
    files.retain(|file| scope != Scope::Unit || file.starts_with(CORE));
    for file in files {
        let text = fs::read_to_string(copy.ctx.project.join(&file))?;
        for mutant in mutants::of(&text, file.ends_with(".rs")) {
            sample.push((digest(&[&file, &mutant.apply(&text)]), file.clone(), mutant));
        }
    }
    let all = sample.len();
    sample.sort_by(|a, b| a.0.cmp(&b.0));
    sample.truncate(most);
    sample.sort_by(|a, b| (&a.1, a.2.line).cmp(&(&b.1, b.2.line)));
    ui::say(format!("{} of {all} mutants", sample.len()));
    let mut whole: Vec<String> = Vec::new();
    let mut counts = [0; 3];
    for (key, file, mutant) in &sample {
        let verdict = match kept.known.get(key) {
            Some(verdict) => verdict.clone(),
            None => {
                if !whole.contains(file) {
                    let verdict = copy.judge(file)?;
                    ensure!(verdict == Verdict::Survived, "{file} as it is: {verdict}");
                    whole.push(file.clone());
                }
                let path = copy.ctx.project.join(file);
                let text = fs::read_to_string(&path)?;
                fs::write(&path, mutant.apply(&text))?;
                let verdict = copy.judge(file);
                fs::write(&path, text)?;
                let verdict = verdict?;
                kept.add(key.clone(), verdict.clone())?;
                verdict
            }
        };
        let at = match verdict {
            Verdict::Killed(_) => 0,
            Verdict::Survived => 1,
            Verdict::DoesNotBuild => 2,
        };
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
        ui::say(format!("{file}:{} {}: {verdict}", mutant.line, mutant.kind));
    }
    let [killed, survived, unbuilt] = counts;
    ui::say(format!(
        "{killed} killed, {survived} survived, {unbuilt} do not build"
    ));
    let judged = killed + survived;
    ensure!(judged > 0, "no mutant was judged");
    println!(
        "score {}% of {judged} mutants, of {all} that there are",
        killed * 100 / judged
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_back() {
        let dir = std::env::temp_dir().join(format!("lane-mutate-{}", std::process::id()));
        let verdicts = [
            Verdict::Killed("path: a case".into()),
            Verdict::Survived,
            Verdict::DoesNotBuild,
        ];
        let mut kept = Kept::read(dir.clone(), "tests 1".into());
        for (n, verdict) in verdicts.iter().enumerate() {
            kept.add(n.to_string(), verdict.clone()).unwrap();
        }
        let again = Kept::read(dir.clone(), "tests 1".into());
        assert!(again.known.into_values().eq(verdicts));
        // With other tests the one that survived has another chance.
        let keys: Vec<_> = Kept::read(dir.clone(), "tests 2".into())
            .known
            .into_keys()
            .collect();
        assert_eq!(keys, ["0", "2"]);
        fs::remove_file(dir).unwrap();
    }

    #[test]
    fn each_row_of_the_table_is_of_a_file() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = files(project, &[]).unwrap();
        for (of, suites) in SUITES {
            assert!(
                !suites.is_empty() && all.iter().any(|f| f.starts_with(of)),
                "{of}"
            );
        }
        assert_eq!(
            files(project, &["src/rx.rs"]).unwrap(),
            ["kmod-ovpn/src/rx.rs"]
        );
        assert!(files(project, &["rx.c"]).is_err());
        assert!(all.iter().all(|f| !suites_of(f).is_empty()));
    }
}
