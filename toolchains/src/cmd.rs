// SPDX-License-Identifier: GPL-2.0-only
//! Running other programs: echoed, logged, shown, and ended with all their children when they take too long.

use crate::ctx::Ctx;
use crate::ui::{self, Progress};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Nothing here takes longer; a step that does hangs.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(40 * 60);
/// Lines of a failed command shown to the user.
const TAIL: usize = 30;

static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A program to run.
pub struct Cmd {
    command: Command,
    log: PathBuf,
    timeout: Duration,
    hide: Vec<(String, &'static str)>,
}

impl Cmd {
    /// `program` with nothing on its standard input.
    pub fn new(ctx: &Ctx, program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0);
        let label = match ui::label() {
            l if l.is_empty() => Path::new(program)
                .file_name()
                .unwrap_or(program)
                .to_string_lossy()
                .into_owned(),
            l => l,
        };
        let name: String = label
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "-._".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        Self {
            command,
            log: ctx.logs().join(format!("{name}.log")),
            timeout: DEFAULT_TIMEOUT,
            hide: vec![
                (ctx.cache.display().to_string(), "$OVPN_CACHE"),
                (ctx.project.display().to_string(), "."),
            ],
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Its standard input; nothing without it.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// After this the program and all its children are killed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it; its output goes to the step's log. An exit status other than 0 is an error showing the last lines.
    pub fn run(self) -> Result<()> {
        self.run_with(|_| {})
    }

    /// Like [`Cmd::run`], and hands each line of output to `line`.
    pub fn run_with(self, line: impl FnMut(&str)) -> Result<()> {
        let shown = self.echo();
        let (status, tail, log) = self.spawn_and_read(&shown, line)?;
        if status.success() {
            return Ok(());
        }
        bail!(
            "{shown}\n  {status}; the whole output is in {}; its end:\n{}",
            log.display(),
            tail.join("\n")
        )
    }

    /// Like [`Cmd::run_with`], but any exit status is an answer.
    pub fn status_with(self, line: impl FnMut(&str)) -> Result<ExitStatus> {
        let shown = self.echo();
        Ok(self.spawn_and_read(&shown, line)?.0)
    }

    /// Runs it silently and gives its standard output.
    pub fn output(mut self) -> Result<String> {
        let out = self
            .command
            .output()
            .with_context(|| format!("cannot run {}", self.shown()))?;
        if !out.status.success() {
            bail!(
                "{}\n  {}: {}",
                self.shown(),
                out.status,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The command as a shell would take it, with the cache and the project by name.
    fn shown(&self) -> String {
        let mut words = Vec::new();
        for (key, value) in self.command.get_envs() {
            // A search path is long and says little.
            if let Some(value) = value.filter(|_| key != "PATH") {
                words.push(format!(
                    "{}={}",
                    key.to_string_lossy(),
                    quote(&value.to_string_lossy())
                ));
            }
        }
        words.push(self.command.get_program().to_string_lossy().into_owned());
        words.extend(self.command.get_args().map(|a| quote(&a.to_string_lossy())));
        let mut text = words.join(" ");
        for (path, name) in &self.hide {
            text = text.replace(path, name);
        }
        text
    }

    fn echo(&self) -> String {
        let shown = self.shown();
        ui::say(format!("+ {shown}"));
        shown
    }

    fn spawn_and_read(
        mut self,
        shown: &str,
        mut line: impl FnMut(&str),
    ) -> Result<(ExitStatus, Vec<String>, PathBuf)> {
        if let Some(dir) = self.log.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut log = open_log(&self.log)?;
        writeln!(log, "+ {shown}")?;
        let (reader, writer) = std::io::pipe()?;
        self.command.stdout(writer.try_clone()?).stderr(writer);
        let child = Running::spawn(&mut self.command)?;
        // The command holds the writing ends: only without it does the reader see the end of the output.
        drop(self.command);

        let progress = Progress::new("");
        let watch = child.kill_after(self.timeout);
        let mut tail: Vec<String> = Vec::new();
        for text in lines(reader) {
            writeln!(log, "{text}")?;
            if !text.trim().is_empty() {
                progress.detail(&text);
            }
            line(&text);
            if tail.len() == TAIL {
                tail.remove(0);
            }
            tail.push(text);
        }
        let status = child.wait()?;
        if watch.expired() {
            bail!(
                "{shown}\n  was killed after {}; log: {}",
                ui::clock(self.timeout),
                self.log.display()
            );
        }
        Ok((status, tail, self.log))
    }
}

/// Starts a log anew the first time this process writes to it.
fn open_log(path: &Path) -> Result<File> {
    static OPENED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let first = OPENED
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .insert(path.to_path_buf());
    if first {
        let _ = fs::remove_file(path);
    }
    let log = File::options().create(true).append(true).open(path);
    log.with_context(|| format!("cannot write {}", path.display()))
}

/// Lines of a stream that need not be UTF-8.
pub fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(stream)
        .split(b'\n')
        .map_while(|line| line.ok())
        .map(|line| {
            String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned()
        })
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:+,@%~$".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A started program that leads a process group of its own.
pub struct Running {
    child: Mutex<Child>,
    group: Pid,
}

/// Kills a process group when time is up, unless dropped before.
pub struct Watch {
    cancel: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    expired: Arc<Mutex<bool>>,
}

impl Running {
    /// Starts `command`, which must have been given a process group of its own.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        groups(|g| g.insert(group.as_raw()));
        Ok(Self {
            child: Mutex::new(child),
            group,
        })
    }

    /// Arms a timer that kills the whole group.
    pub fn kill_after(&self, timeout: Duration) -> Watch {
        let group = self.group;
        let (cancel, cancelled) = mpsc::channel();
        let expired = Arc::new(Mutex::new(false));
        let flag = Arc::clone(&expired);
        let thread = thread::spawn(move || {
            if cancelled.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout) {
                *flag.lock().unwrap_or_else(|e| e.into_inner()) = true;
                let _ = killpg(group, Signal::SIGKILL);
            }
        });
        Watch {
            cancel: Some(cancel),
            thread: Some(thread),
            expired,
        }
    }

    /// Waits for the program and ends what it left behind in its group.
    pub fn wait(&self) -> Result<ExitStatus> {
        let status = self
            .child
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .wait()?;
        let _ = killpg(self.group, Signal::SIGKILL);
        groups(|g| g.remove(&self.group.as_raw()));
        Ok(status)
    }
}

impl Watch {
    /// Disarms it and says whether it had gone off.
    pub fn expired(mut self) -> bool {
        self.cancel.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        *self.expired.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn groups<T>(f: impl FnOnce(&mut BTreeSet<i32>) -> T) -> T {
    f(&mut GROUPS.lock().unwrap_or_else(|e| e.into_inner()))
}

/// Ends every program that is still running; for the moment before the harness itself ends.
pub fn kill_all() {
    for group in groups(|g| g.clone()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}
