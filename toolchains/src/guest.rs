// SPDX-License-Identifier: GPL-2.0-only
//! The first process of a user-mode guest: this very program, started under the name `lane-init`.
//!
//! The host's root directory stays untouched: the guest sees it below an overlay whose upper layer is in memory.

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::{self, OutputFlags, SetArg};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, chdir, chroot};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

/// Name the program has to have to act as init.
pub const INIT: &str = "lane-init";
/// Kernel argument naming the job directory on the host.
pub const JOB_ARG: &str = "lane.job=";
/// Where the guest sees the job directory.
pub const JOB_DIR: &str = "/lane/job";
/// File in the job directory that says what to do.
pub const JOB_FILE: &str = "job.toml";
/// File in the job directory that receives the exit status, decimal.
pub const STATUS_FILE: &str = "status";

/// The task of a guest.
#[derive(Debug, Deserialize)]
pub struct Job {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Host directories to show: path on the host, path in the guest.
    pub mounts: Vec<(String, String)>,
}

/// Runs as process 1 and never returns: powers the guest off.
pub fn init() -> ! {
    let outcome = run();
    if let Err(err) = &outcome {
        // The kernel's console is the one place that works before anything is mounted.
        eprintln!("lane-init: {err:#}");
    }
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // Leaving would panic the kernel and hide what was printed above.
    loop {
        std::thread::park();
    }
}

fn run() -> Result<()> {
    mount_fs("proc", "/proc", "proc", "")?;
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let job_dir = cmdline
        .split_whitespace()
        .find_map(|arg| arg.strip_prefix(JOB_ARG))
        .context("the kernel command line names no job")?
        .to_owned();
    enter_overlay(&job_dir)?;

    let job = fs::read_to_string(Path::new(JOB_DIR).join(JOB_FILE))?;
    let job: Job = toml::from_str(&job).context("malformed job")?;
    for (host, guest) in &job.mounts {
        mount_fs("none", guest, "hostfs", host)?;
    }
    let code = execute(&job.command)?;
    write_job(STATUS_FILE, code.to_string().as_bytes())
}

/// Makes an overlay of the read-only root the new root and mounts what a userland expects.
fn enter_overlay(job_dir: &str) -> Result<()> {
    mount_fs("overlay", "/mnt", "tmpfs", "")?;
    for dir in ["/mnt/upper", "/mnt/work", "/mnt/root"] {
        fs::create_dir(dir)?;
    }
    mount_fs(
        "root",
        "/mnt/root",
        "overlay",
        "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work",
    )?;
    for (fstype, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("debugfs", "/sys/kernel/debug"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount_fs(fstype, &format!("/mnt/root{at}"), fstype, "")?;
    }
    mount_fs("none", &format!("/mnt/root{JOB_DIR}"), "hostfs", job_dir)?;
    chdir("/mnt/root")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("cannot move the root")?;
    chroot(".")?;
    chdir("/")?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "fd/0"),
        ("/dev/stdout", "fd/1"),
        ("/dev/stderr", "fd/2"),
    ] {
        let _ = fs::remove_file(link);
        symlink(target, link).with_context(|| format!("cannot make {link}"))?;
    }
    Ok(())
}

fn mount_fs(source: &str, at: &str, fstype: &str, options: &str) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("cannot create {at}"))?;
    let options = if options.is_empty() {
        None
    } else {
        Some(options)
    };
    mount(Some(source), at, Some(fstype), MsFlags::empty(), options)
        .with_context(|| format!("cannot mount {fstype} {options:?} on {at}"))
}

/// Runs the command on the first console and gives its exit status; 128 + N for a signal, 127 for no such program.
fn execute(command: &[String]) -> Result<i32> {
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty0")?;
    // The host must read the bytes that the program wrote, without carriage returns.
    let mut mode = termios::tcgetattr(&console)?;
    mode.output_flags.remove(OutputFlags::OPOST);
    termios::tcsetattr(&console, SetArg::TCSANOW, &mode)?;

    let (program, args) = command.split_first().context("the job has no command")?;
    let lo_up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .envs(environment())
        .status();
    if !lo_up.is_ok_and(|s| s.success()) {
        eprintln!("lane-init: lo is down");
    }
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment())
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console.try_clone()?)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(err) => {
            let _ = writeln!(&console, "{program}: {err}");
            return Ok(127);
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    // Orphans end here too: wait for any child until the command itself is done.
    let code = loop {
        match wait()? {
            WaitStatus::Exited(p, code) if p == pid => break code,
            WaitStatus::Signaled(p, signal, _) if p == pid => break 128 + signal as i32,
            _ => {}
        }
    };
    // All of the command's output has to be out before the power is.
    termios::tcdrain(&console)?;
    Ok(code)
}

fn environment() -> [(&'static str, &'static str); 5] {
    [
        (
            "PATH",
            "/lane/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("TERM", "dumb"),
        ("NO_COLOR", "1"),
        ("LC_ALL", "C.UTF-8"),
    ]
}

fn write_job(name: &str, data: &[u8]) -> Result<()> {
    let path = Path::new(JOB_DIR).join(name);
    let mut file =
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(data)?;
    file.sync_all()?;
    Ok(())
}
