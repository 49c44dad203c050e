// SPDX-License-Identifier: GPL-2.0-only
//! One emulated machine: boot, commands, shutdown.
//!
//! QEMU runs as a child. The kernel's console goes to a log file; commands go
//! through a virtio port to guest/init, one message a line, as written there.
//! Everything has a deadline, and a machine that is dropped is killed.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::machine::Machine;

/// Longest a boot may take: 2 s on an idle host, much more beside a build.
const BOOT: Duration = Duration::from_secs(120);

/// Longest an ordinary command may take.
pub(crate) const COMMAND: Duration = Duration::from_secs(60);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(200);

/// Output and status of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status as the shell gives it: 128 + signal for a killed one.
    pub status: i32,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Standard output, if the command succeeded.
    ///
    /// # Errors
    /// The status was not 0; the message carries both outputs.
    pub fn success(self, command: &str) -> Result<String> {
        ensure!(
            self.status == 0,
            "`{command}` gave status {}\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// Files that a machine is started from.
#[derive(Debug)]
pub struct Spec<'a> {
    /// Its name, in messages and in the names of its files.
    pub name: &'a str,
    /// The board.
    pub machine: &'static Machine,
    /// Kernel image.
    pub kernel: &'a Path,
    /// Root file system.
    pub initramfs: &'a Path,
    /// Directory for the console log and the control socket.
    pub logs: &'a Path,
    /// Its end of the network link: a connected UDP socket, one Ethernet frame
    /// a datagram. Without one the machine has no network.
    pub link: Option<UdpSocket>,
    /// Last byte of its Ethernet address.
    pub mac: u8,
}

type Pending = Arc<Mutex<HashMap<String, Sender<Output>>>>;

/// A running machine.
#[derive(Debug)]
pub struct Vm {
    name: String,
    machine: &'static Machine,
    qemu: Mutex<Child>,
    control: Mutex<UnixStream>,
    pending: Pending,
    next: AtomicU64,
    console: PathBuf,
    boot: Duration,
}

/// A command that may still be running in a machine.
#[derive(Debug)]
pub struct Job<'vm> {
    vm: &'vm Vm,
    command: String,
    answer: Receiver<Output>,
}

impl Vm {
    /// Starts a machine and waits until it takes commands.
    ///
    /// # Errors
    /// QEMU does not start or ends early, or the guest is silent for two
    /// minutes; the message ends with the last lines of its console.
    pub fn boot(spec: Spec<'_>) -> Result<Self> {
        let started = Instant::now();
        let console = spec.logs.join(format!("{}.console", spec.name));
        let socket = control_socket(spec.name)?;
        // Its absence would otherwise show up only as a silent guest.
        fs::write(&console, "")?;
        let qemu = start(&spec, &console, &socket.path)?;
        let name = spec.name.to_owned();
        let mut guard = Unbooted(Some(qemu));
        let control = socket.accept(&mut guard, started + BOOT)?;
        let pending = Pending::default();
        let (ready, booted) = mpsc::channel();
        lock(&pending).insert("ready".to_owned(), ready);
        let reader = control.try_clone()?;
        let shared = Arc::clone(&pending);
        thread::spawn(move || deliver(&reader, &shared));
        let qemu = guard.0.take().context("QEMU is gone")?;
        let mut vm = Self {
            name,
            machine: spec.machine,
            qemu: Mutex::new(qemu),
            control: Mutex::new(control),
            pending,
            next: AtomicU64::new(0),
            console,
            boot: Duration::ZERO,
        };
        vm.receive(&booted, started + BOOT)
            .context("the guest does not come up")?;
        vm.boot = started.elapsed();
        // The board's clock may stand at 1970, and certificates look at it.
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        vm.run(&format!("date -u -s @{now}"))?;
        Ok(vm)
    }

    /// The machine's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The board it runs on.
    #[must_use]
    pub fn machine(&self) -> &'static Machine {
        self.machine
    }

    /// Time from starting QEMU to the first answer of the guest.
    #[must_use]
    pub fn boot_time(&self) -> Duration {
        self.boot
    }

    /// Starts a shell script; several may run at once.
    ///
    /// # Errors
    /// The control port is closed.
    pub fn start(&self, script: &str) -> Result<Job<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, answer) = mpsc::channel();
        lock(&self.pending).insert(id.clone(), sender);
        let line = format!("{id} {}\n", BASE64_STANDARD.encode(script));
        lock(&self.control)
            .write_all(line.as_bytes())
            .with_context(|| self.last_words())?;
        Ok(Job {
            vm: self,
            command: script.to_owned(),
            answer,
        })
    }

    /// Runs a shell script to its end, whatever its status.
    ///
    /// # Errors
    /// It did not end within `deadline`, or the machine died.
    pub fn exec(&self, script: &str, deadline: Duration) -> Result<Output> {
        self.start(script)?.wait(deadline)
    }

    /// Runs a shell script that must succeed within a minute; returns what it
    /// printed to standard output.
    ///
    /// # Errors
    /// As `exec`, or a status other than 0.
    pub fn run(&self, script: &str) -> Result<String> {
        self.exec(script, COMMAND)?
            .success(script)
            .with_context(|| format!("on {}", self.name))
    }

    /// Waits until `script` succeeds, trying it over and over.
    ///
    /// # Errors
    /// It still failed at the end of `deadline`; the message carries what it
    /// printed last.
    pub fn wait(&self, what: &str, script: &str, deadline: Duration) -> Result<String> {
        let end = Instant::now() + deadline;
        loop {
            let output = self.exec(script, COMMAND)?;
            if output.status == 0 {
                return Ok(output.stdout);
            }
            ensure!(
                Instant::now() < end,
                "{}: {what} did not happen within {} s: `{script}` gives status {}\n{}{}",
                self.name,
                deadline.as_secs(),
                output.status,
                output.stdout,
                output.stderr
            );
            thread::sleep(POLL);
        }
    }

    /// Writes a file, and makes the directories above it.
    ///
    /// # Errors
    /// As `run`.
    pub fn write(&self, path: &str, mode: u32, content: &str) -> Result<()> {
        let encoded = BASE64_STANDARD.encode(content);
        self.run(&format!(
            "umask 077 && mkdir -p $(dirname {path}) && \
             echo {encoded} | base64 -d >{path} && chmod {mode:o} {path}"
        ))?;
        Ok(())
    }

    /// The kernel's log.
    ///
    /// # Errors
    /// As `run`.
    pub fn dmesg(&self) -> Result<String> {
        self.run("dmesg")
    }

    /// Powers the machine off and waits for QEMU to end.
    ///
    /// # Errors
    /// QEMU is still there after a minute, or ended with another status than 0.
    pub fn shutdown(self) -> Result<()> {
        // The guest may be gone before the answer is.
        drop(self.start(self.machine.off)?);
        let end = Instant::now() + COMMAND;
        while Instant::now() < end {
            if let Some(status) = lock(&self.qemu).try_wait()? {
                ensure!(status.success(), "{}: QEMU ended with {status}", self.name);
                return Ok(());
            }
            thread::sleep(POLL);
        }
        bail!("{} does not power off; {}", self.name, self.last_words());
    }

    fn receive(&self, answer: &Receiver<Output>, end: Instant) -> Result<Output> {
        loop {
            match answer.recv_timeout(POLL) {
                Ok(output) => return Ok(output),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {
                    let status = lock(&self.qemu).try_wait()?;
                    if let Some(status) = status {
                        bail!(
                            "{}: QEMU ended with {status}; {}",
                            self.name,
                            self.last_words()
                        );
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{}: no answer in time; {}", self.name, self.last_words())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} hung up; {}", self.name, self.last_words())
                }
            }
        }
    }

    /// The end of the console log: where a guest says why it died.
    fn last_words(&self) -> String {
        let log = fs::read(&self.console).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.len().saturating_sub(25);
        format!("last lines of its console:\n{}", lines[tail..].join("\n"))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        end(&mut lock(&self.qemu));
    }
}

impl Job<'_> {
    /// Waits for the script to end.
    ///
    /// # Errors
    /// It did not end within `deadline`, or the machine died.
    pub fn wait(self, deadline: Duration) -> Result<Output> {
        self.vm
            .receive(&self.answer, Instant::now() + deadline)
            .with_context(|| format!("`{}` on {}", self.command, self.vm.name))
    }
}

/// Two ends of a link on the loopback address, as `Spec::link` wants them.
///
/// # Errors
/// No free UDP port.
pub fn link() -> Result<(UdpSocket, UdpSocket)> {
    let one = UdpSocket::bind("127.0.0.1:0")?;
    let two = UdpSocket::bind("127.0.0.1:0")?;
    one.connect(two.local_addr()?)?;
    two.connect(one.local_addr()?)?;
    Ok((one, two))
}

fn start(spec: &Spec<'_>, console: &Path, control: &Path) -> Result<Child> {
    let machine = spec.machine;
    let mut qemu = Command::new(machine.qemu);
    qemu.args(machine.board)
        .args(machine.clock)
        .args(["-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-name", spec.name])
        .args(["-smp", &machine.cpus.to_string()])
        .args(["-m", &machine.memory_mib.to_string()])
        .arg("-kernel")
        .arg(spec.kernel)
        .arg("-initrd")
        .arg(spec.initramfs)
        .arg("-append")
        .arg(format!("console={} panic=-1 loglevel=6", machine.console))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-chardev")
        .arg(format!("socket,id=control,path={}", control.display()))
        .args(["-device", &machine.virtio.device("serial")])
        .args(["-device", "virtserialport,chardev=control,name=control"])
        // The kernel's random numbers are ready at once.
        .args(["-device", &machine.virtio.device("rng")]);
    if let Some(link) = &spec.link {
        // QEMU takes the socket as a descriptor number. As its standard input
        // the number is known, and no other child inherits it.
        qemu.stdin(Stdio::from(OwnedFd::from(link.try_clone()?)))
            .args(["-netdev", "dgram,id=link,local.type=fd,local.str=0"])
            .arg("-device")
            .arg(format!(
                "{},netdev=link,mac=52:54:00:00:00:{:02x}",
                machine.virtio.device("net"),
                spec.mac
            ));
    } else {
        qemu.stdin(Stdio::null()).args(["-nic", "none"]);
    }
    qemu.stdout(Stdio::null())
        .stderr(fs::File::create(
            spec.logs.join(format!("{}.qemu", spec.name)),
        )?)
        .spawn()
        .with_context(|| format!("{} does not start", machine.qemu))
}

/// Kills and reaps a child that may have ended already.
fn end(child: &mut Child) {
    // Both fail only for a child that is no more.
    let _ = child.kill();
    let _ = child.wait();
}

/// QEMU until the guest answered: killed when boot fails.
struct Unbooted(Option<Child>);

impl Drop for Unbooted {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

/// A socket QEMU connects to. It lies in the directory for temporary files
/// because such a path may only have 107 bytes, and goes when QEMU is there.
struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

fn control_socket(name: &str) -> Result<ControlSocket> {
    let path = std::env::temp_dir().join(format!("ovpn-{}-{name}", std::process::id()));
    // A leftover of an earlier process with our number.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
    listener.set_nonblocking(true)?;
    Ok(ControlSocket { listener, path })
}

impl ControlSocket {
    fn accept(&self, qemu: &mut Unbooted, end: Instant) -> Result<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(child) = &mut qemu.0
                && let Some(status) = child.try_wait()?
            {
                bail!("QEMU ended at once with {status}");
            }
            ensure!(Instant::now() < end, "QEMU does not open the control port");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Hands each answer of the guest to the thread that waits for it, until the port
/// closes; then the senders go, and with them the hope of those who wait.
fn deliver(port: &UnixStream, pending: &Pending) {
    for line in BufReader::new(port).lines() {
        let Ok(line) = line else { break };
        if let Some((id, output)) = parse(&line)
            && let Some(sender) = lock(pending).remove(&id)
        {
            // The waiting thread may have gone.
            let _ = sender.send(output);
        }
    }
    lock(pending).clear();
}

/// Reads "ID STATUS =STDOUT =STDERR".
fn parse(line: &str) -> Option<(String, Output)> {
    let mut fields = line.split(' ');
    let id = fields.next()?.to_owned();
    let status = fields.next()?.parse().ok()?;
    let mut text = || {
        let encoded = fields.next()?.strip_prefix('=')?;
        let bytes = BASE64_STANDARD.decode(encoded).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let stdout = text()?;
    let stderr = text()?;
    Some((
        id,
        Output {
            status,
            stdout,
            stderr,
        },
    ))
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed() {
        let (id, output) = parse("7 1 =aGk= =").unwrap();
        assert_eq!((id.as_str(), output.status), ("7", 1));
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hi", ""));
        for broken in ["", "7", "7 x = =", "7 0 =", "7 0 aGk= =", "7 0 =! ="] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_link_carries_datagrams_both_ways() {
        let (one, two) = link().unwrap();
        one.send(b"to two").unwrap();
        two.send(b"to one").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(two.recv(&mut buffer).unwrap(), 6);
        assert_eq!(one.recv(&mut buffer).unwrap(), 6);
    }
}
