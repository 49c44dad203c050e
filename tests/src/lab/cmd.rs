// SPDX-License-Identifier: GPL-2.0-only
//! Child processes: bounded in time, killed when their owner goes away.

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Ns, patience, wait_for};
use crate::tap::{During, Failure, Outcome};

/// An anonymous file for a child's output: unlike a pipe it never blocks the child, and is readable at any time.
fn memfd() -> Outcome<File> {
    // SAFETY: the name is a NUL-terminated literal; the result is checked before use.
    let fd = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: `fd` is a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Everything written so far. Positioned reads, because the child shares the file offset.
fn contents(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    while let Ok(n @ 1..) = file.read_at(&mut chunk, bytes.len() as u64) {
        bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A finished command.
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A running command, killed and reaped on drop.
pub struct Proc {
    child: Child,
    title: String,
    out: File,
    err: File,
}

/// A command line to be run in a namespace.
pub struct Cmd {
    command: Command,
    title: String,
    input: Option<String>,
}

impl Cmd {
    /// `program args...` in the namespace of `ns`; arguments are separated by white space.
    pub fn new(ns: Option<&Ns>, line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        if let Some(ns) = ns {
            let fd = ns.fd();
            // SAFETY: between fork and exec only setns is called, which is async-signal-safe; `fd` is open in
            // the child because `ns` outlives the spawn and close-on-exec acts later.
            unsafe {
                command.pre_exec(move || {
                    if libc::setns(fd, libc::CLONE_NEWNET) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                    Ok(())
                });
            }
        }
        Self {
            command,
            title: line.to_owned(),
            input: None,
        }
    }

    /// Adds one argument as it is (it may contain spaces).
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.title.push(' ');
        self.title.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Text for standard input.
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Outcome<Proc> {
        let (out, err) = (memfd()?, memfd()?);
        self.command
            .stdout(out.try_clone()?)
            .stderr(err.try_clone()?);
        self.command.stdin(if self.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = self.command.spawn().during(&self.title)?;
        if let (Some(text), Some(mut stdin)) = (self.input, child.stdin.take()) {
            stdin.write_all(text.as_bytes()).during(&self.title)?;
        }
        Ok(Proc {
            child,
            title: self.title,
            out,
            err,
        })
    }

    /// Runs it to its end within `limit`, whatever its status.
    pub fn run(self, limit: Duration) -> Outcome<Done> {
        self.spawn()?.finish(limit)
    }

    /// Runs it within 20 s and demands exit status 0; returns standard output.
    pub fn ok(self) -> Outcome<String> {
        let title = self.title.clone();
        let done = self.run(Duration::from_secs(20))?;
        if !done.status.success() {
            return Err(Failure::new(format!(
                "`{title}`: {}\n{}{}",
                done.status, done.err, done.out
            )));
        }
        Ok(done.out)
    }
}

impl Proc {
    /// Waits for the end, at most `limit` times the patience.
    pub fn finish(mut self, limit: Duration) -> Outcome<Done> {
        let status = self.wait(limit)?;
        Ok(Done {
            status,
            out: contents(&self.out),
            err: contents(&self.err),
        })
    }

    /// Waits for its end within `limit` times the patience.
    pub fn wait(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let limit = limit * patience();
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!(
                    "`{}` did not end within {} s\n{}{}",
                    self.title,
                    limit.as_secs(),
                    self.stdout(),
                    self.stderr()
                )));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of /proc/PID/status.
    pub fn status_line(&self, key: &str) -> Outcome<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = text.lines().find(|line| line.starts_with(key));
        line.map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("no {key} in {text}")))
    }

    /// Processor time it has used, in user and kernel mode.
    pub fn cpu_time(&self) -> Outcome<Duration> {
        let (mut clock, mut time) = (
            0,
            libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
        );
        let pid = libc::pid_t::try_from(self.id()).map_err(Failure::new)?;
        // SAFETY: both write to the variables they are given, which live longer.
        let code = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
        // SAFETY: as above.
        if code != 0 || unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
            return Err(Failure::new(format!("no processor time of process {pid}")));
        }
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Ok(Duration::from_secs(seconds) + Duration::from_nanos(nanos))
    }

    /// Whether it is still running.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        contents(&self.out)
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        contents(&self.err)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been reaped (`self` owns it), so the id is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits until standard output contains `text`, failing early if the command ends.
    pub fn wait_output(&mut self, text: &str, limit: Duration) -> Outcome {
        let title = format!("`{}` to print `{text}`", self.title);
        let found = wait_for(&title, limit, || {
            if self.stdout().contains(text) {
                return Ok(Some(()));
            }
            if !self.running() {
                return Err(Failure::new("it ended"));
            }
            Ok(None)
        });
        found.during(format!("{}{}", self.stdout(), self.stderr()))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
