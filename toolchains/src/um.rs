// SPDX-License-Identifier: GPL-2.0-only
//! Starting a user-mode guest and getting back its output, its kernel log and its exit status.

use crate::cmd::{self, Running};
use crate::ctx::Ctx;
use crate::guest::{INIT, JOB_ARG, JOB_FILE, STATUS_FILE};
use crate::ui;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::personality::{self, Persona};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Runs older than this are cleared away.
const KEEP_RUNS: Duration = Duration::from_secs(24 * 3600);
/// Lane whose programs they all run: they are the host's, whatever the kernel.
const PROGRAMS: &str = "um-7.2";
/// The root every user-mode guest sees.
pub const ROOT: &str = "trixie-amd64";
/// Modules are loaded behind the guest's memory. From 2 GiB on they are out of reach of the kernel's 32-bit relative
/// calls, and the loader of user-mode Linux does not notice: such a guest hangs in the first module.
pub const MAX_MEM: u32 = 1792;

/// A guest to start.
pub struct Guest {
    /// Lane whose kernel boots.
    pub lane: String,
    /// Program and arguments, as the guest sees them.
    pub command: Vec<String>,
    /// Host directories to show at paths of the guest.
    pub mounts: Vec<(PathBuf, String)>,
    /// More kernel arguments.
    pub args: Vec<String>,
    /// Memory in MiB, at most [`MAX_MEM`].
    pub mem: u32,
    /// Virtual CPUs; the SMP kernel wants at least two.
    pub cpus: u32,
    /// After this the guest is killed.
    pub timeout: Duration,
    /// The guest's /dev/tty2: the other end reads and writes there.
    pub line: Option<UnixStream>,
}

/// How a guest ended.
pub struct Outcome {
    /// Exit status of the command; none when the guest died or was killed before the command ended.
    pub code: Option<i32>,
    /// Whether the time was up.
    pub killed: bool,
    /// The kernel log.
    pub dmesg: String,
    /// File with the kernel log.
    pub dmesg_path: PathBuf,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Guest {
    /// A guest of `lane` that shows the lane's products: the kernel's modules in `/lib/modules`, our module in
    /// `/lane/module`, programs in `/lane/bin`; and the programs of older releases that are there, in `/lane/older`.
    pub fn new(ctx: &Ctx, lane: &str, command: Vec<String>) -> Result<Self> {
        let dir = ctx.lane(lane);
        let mut mounts = Vec::new();
        for (from, at) in [
            (dir.join("modules/lib/modules"), "/lib/modules"),
            (dir.join("module"), "/lane/module"),
            (ctx.lane(PROGRAMS).join("bin"), "/lane/bin"),
        ] {
            if from.is_dir() {
                mounts.push((from, at.to_owned()));
            }
        }
        for program in &ctx.lock.older {
            let from = ctx.root(&program.name);
            if from.is_dir() {
                mounts.push((from, format!("/lane/older/{}", program.name)));
            }
        }
        Ok(Self {
            lane: lane.to_owned(),
            command,
            mounts,
            args: Vec::new(),
            mem: 1024,
            cpus: 2,
            timeout: Duration::from_secs(120),
            line: None,
        })
    }

    /// Boots it, hands each line the command prints to `line`, and waits for its end.
    pub fn run(&self, ctx: &Ctx, mut line: impl FnMut(&str)) -> Result<Outcome> {
        let lane = ctx.lock.lane(&self.lane)?;
        let image = ctx.lane(&self.lane).join("kernel").join(&lane.image);
        ensure!(
            image.is_file(),
            "{} is not built: lane kernel {}",
            image.display(),
            self.lane
        );
        ensure!(
            self.mem <= MAX_MEM,
            "a user-mode guest has at most {MAX_MEM} MiB"
        );
        let root = ctx.root(ROOT);
        ensure!(
            root.join("usr/bin").is_dir(),
            "{} is not there: lane root {ROOT}",
            root.display()
        );
        install_init(&root)?;
        let job = self.write_job(ctx)?;

        let mut command = Command::new(&image);
        command
            .arg(format!("mem={}M", self.mem))
            .args(["root=/dev/root", "rootfstype=hostfs", "ro"])
            .arg(format!("rootflags={}", root.display()))
            .arg(format!("init=/{INIT}"))
            .arg(format!("{JOB_ARG}{}", job.display()))
            .arg(format!("uml_dir={}/", job.display()))
            // The command's output on our pipe for stdout, the kernel's log on the one for stderr.
            .args([
                "con=null",
                "con0=null,fd:1",
                "con1=null,fd:2",
                "console=tty1",
                "loglevel=8",
                "panic=-1",
                "dummy.numdummies=0",
            ])
            .args(&self.args);
        if lane.smp {
            // The only way user-mode Linux runs on several CPUs.
            command.args(["seccomp=on", &format!("ncpus={}", self.cpus)]);
        }
        command.stdin(Stdio::null()).process_group(0);
        if let Some(line) = &self.line {
            // The only descriptor that a child gets without further ado.
            command
                .arg("con2=fd:0")
                .stdin(OwnedFd::from(line.try_clone()?));
        }
        let (out, out_writer) = std::io::pipe()?;
        // Straight into a file: it is there even when this process is killed.
        let dmesg_path = job.join("dmesg");
        command
            .stdout(out_writer)
            .stderr(File::create(&dmesg_path)?);
        let started = Instant::now();
        let running = spawn_in_place(&mut command)?;
        // The command holds the writing end: only without it does the reader see the end of the output.
        drop(command);
        let watch = running.kill_after(self.timeout);
        for text in cmd::lines(out) {
            line(&text);
        }
        running.wait()?;
        let killed = watch.expired();
        let dmesg = fs::read(&dmesg_path)?;
        let dmesg = String::from_utf8_lossy(&dmesg).replace('\r', "");
        let code = match fs::read_to_string(job.join(STATUS_FILE)) {
            Ok(text) => Some(text.trim().parse().context("malformed exit status")?),
            Err(_) => None,
        };
        Ok(Outcome {
            code,
            killed,
            dmesg,
            dmesg_path,
            elapsed: started.elapsed(),
        })
    }

    fn write_job(&self, ctx: &Ctx) -> Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let runs = ctx.lane(&self.lane).join("runs");
        fs::create_dir_all(&runs)?;
        clear_old(&runs);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let job = runs.join(format!("{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&job);
        fs::create_dir(&job).with_context(|| format!("cannot create {}", job.display()))?;
        let words: Vec<_> = self.command.iter().map(|w| format!("{w:?}")).collect();
        let mut text = format!("command = [{}]\nmounts = [\n", words.join(", "));
        for (host, guest) in &self.mounts {
            let host = host
                .canonicalize()
                .with_context(|| format!("{} is not there", host.display()))?;
            text += &format!("  [{:?}, {guest:?}],\n", host.display().to_string());
        }
        fs::write(job.join(JOB_FILE), text + "]\n")?;
        Ok(job)
    }
}

/// Starts it without randomised addresses. The kernel lays its memory behind the program's heap, and where the host
/// has moved that by up to 1 GiB, [`MAX_MEM`] does not hold. Linux 7.2's switches this off itself, 6.12's does not. Where
/// the host refuses, the guest is as good as its luck.
fn spawn_in_place(command: &mut Command) -> Result<Running> {
    let before = personality::get()?;
    let _ = personality::set(before | Persona::ADDR_NO_RANDOMIZE);
    let running = Running::spawn(command);
    let _ = personality::set(before);
    running
}

impl Outcome {
    /// The command's exit status, or an error saying how the guest went down.
    pub fn code(&self) -> Result<i32> {
        match self.code {
            Some(code) => Ok(code),
            None if self.killed => {
                bail!(
                    "the guest was killed after {}: {}",
                    ui::clock(self.elapsed),
                    self.dmesg_path.display()
                )
            }
            None => {
                let tail: Vec<_> = self.dmesg.lines().rev().take(25).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                bail!(
                    "the guest died; the end of its log ({}):\n{}",
                    self.dmesg_path.display(),
                    tail.join("\n")
                )
            }
        }
    }
}

/// Puts this program into the root under init's name, unless it is there.
fn install_init(root: &Path) -> Result<()> {
    // Several guests of this process may start at once.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let exe = fs::read(std::env::current_exe()?)?;
    let init = root.join(INIT);
    if fs::read(&init).is_ok_and(|old| old == exe) {
        return Ok(());
    }
    // By rename, so that a guest booting now gets the old or the new one, whole.
    let new = root.join(format!("{INIT}.{}", std::process::id()));
    fs::write(&new, exe)?;
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(&new, &init)?;
    Ok(())
}

fn clear_old(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else {
        return;
    };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .map(|t| SystemTime::now().duration_since(t));
        if matches!(age, Ok(Ok(age)) if age > KEEP_RUNS) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn guests_that_start_together_all_find_init() {
        let root = std::env::temp_dir().join(format!("lane-init-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        for _ in 0..4 {
            let _ = fs::remove_file(root.join(INIT));
            thread::scope(|scope| {
                let starts: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| install_init(&root)))
                    .collect();
                for start in starts {
                    start.join().unwrap().unwrap();
                }
            });
        }
        fs::remove_dir_all(root).unwrap();
    }
}
