// SPDX-License-Identifier: GPL-2.0-only
//! One OpenVPN process and what its log tells.

use std::fs;
use std::time::Duration;

use super::pki;
use crate::lab::{Cmd, Ns, Proc, wait_for};
use crate::tap::{During, Failure, Outcome};
use crate::{check, check_eq};

/// Longest time for a connection, from an idle process to addresses on the device.
pub const HANDSHAKE: Duration = Duration::from_secs(40);
/// The device of every process.
pub const DEVICE: &str = "tun0";
/// Bytes of receive buffer of the transport sockets: the end in user space may have to wait for its turn on a busy
/// machine, and what then overflows would look like packets lost by a renegotiation.
pub const BUFFER: u32 = 4 << 20;
const COMPLETED: &str = "Initialization Sequence Completed";
/// In no log, however a session ended (compared in lower case).
const COMPLAINTS: [&str; 14] = [
    "fatal",
    "netlink reports",
    "kernel error",
    "failed to",
    "cannot",
    "out of sync",
    "key state mismatch",
    "bogus data",
    "malformed",
    "error retrieving",
    "bytes provided in reply",
    "non-existing peer",
    "unknown command",
    "authenticate/decrypt packet error",
];

/// Warnings about what was asked for.
const WANTED: [&str; 2] = [
    "'--cipher none' was specified",
    "'--auth none' was specified",
];

/// What OpenVPN says when it asks for a peer that the kernel has just given up, before it reads the notification.
const TOO_LATE: [&str; 4] = [
    "kernel error:",
    "netlink reports object not found",
    "netlink message: no such file or directory",
    "error retrieving dco peer stats: the underlying",
];

/// Fails unless OpenVPN 2.7 is there: older ones speak to another driver.
pub fn need_openvpn() -> Outcome {
    // Its exit status is 1 even when it only tells its version.
    let version = Cmd::new(None, "openvpn --version").run(Duration::from_secs(10));
    let version = version
        .map_err(|_| Failure::Skipped("openvpn is not installed".into()))?
        .out;
    match version.starts_with("OpenVPN 2.7") {
        true => Ok(()),
        false => Err(Failure::Skipped(format!(
            "not OpenVPN 2.7: {}",
            version.lines().next().unwrap_or_default()
        ))),
    }
}

/// An OpenVPN program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// That of the guest's root, 2.7.
    Root,
    /// An older one, by its series, in `/lane/older` with its loader and libraries.
    Older(&'static str),
}

impl Program {
    /// Its series.
    pub fn version(self) -> &'static str {
        match self {
            Self::Root => "2.7",
            Self::Older(series) => series,
        }
    }

    /// The command line up to its first option.
    fn line(self) -> Outcome<String> {
        let Self::Older(series) = self else {
            return Ok("openvpn".into());
        };
        let root = format!("/lane/older/openvpn-{series}");
        let libraries = format!("{root}/lib/x86_64-linux-gnu");
        // Its name has the version of the C library before Debian 12; links in the root are absolute and lead out of it.
        let loader = fs::read_dir(&libraries)
            .during(&libraries)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| !path.is_symlink())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("ld-")
            })
            .ok_or_else(|| Failure::new(format!("{libraries} has no loader")))?;
        // Modules of another version's OpenSSL cannot be loaded; without them it has all that is needed.
        Ok(format!(
            "env OPENSSL_CONF=/dev/null {} --library-path {libraries}:{root}/usr/lib/x86_64-linux-gnu {root}/usr/sbin/openvpn",
            loader.display()
        ))
    }
}

/// A running OpenVPN.
pub struct Daemon {
    name: String,
    process: Proc,
    /// Whether the kernel may have had reason to give up its peer.
    expired: bool,
}

impl Daemon {
    /// Starts it in the directory of the keys; `config` is the content of its configuration file.
    pub fn start(ns: &Ns, name: &str, config: &str) -> Outcome<Self> {
        Self::start_program(Program::Root, ns, name, config)
    }

    /// The same, with a program of another release.
    pub fn start_program(program: Program, ns: &Ns, name: &str, config: &str) -> Outcome<Self> {
        let (dir, file) = (pki::dir()?, format!("{name}.conf"));
        fs::write(dir.join(&file), config).during(&file)?;
        let process = ns
            .cmd(&format!("{} --cd", program.line()?))
            .arg(dir)
            .arg("--config")
            .arg(file)
            .spawn()?;
        Ok(Self {
            name: name.into(),
            process,
            expired: false,
        })
    }

    /// From now on its log may show that a peer was asked for too late.
    pub fn may_expire(&mut self) {
        self.expired = true;
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.process.stdout()
    }

    /// The last lines of the log.
    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let skipped = log.lines().count().saturating_sub(lines);
        let last: Vec<_> = log.lines().skip(skipped).collect();
        format!("log of {}:\n{}", self.name, last.join("\n"))
    }

    /// Whether it has said that it is bound to its port and waits for a client.
    pub fn is_listening(&self) -> bool {
        let log = self.log();
        log.contains("link local (bound)") || log.contains("Listening for incoming TCP connection")
    }

    /// Waits for the end of a process that was told to end: status 0.
    pub fn ended(&mut self) -> Outcome {
        let status = self.process.wait(Duration::from_secs(20))?;
        check_eq!(status.code(), Some(0), "exit status of {}", self.name);
        Ok(())
    }

    /// How often it has come to a working tunnel.
    pub fn connections(&self) -> usize {
        self.log().matches(COMPLETED).count()
    }

    /// TLS handshakes so far: one for each connection and renegotiation, of all clients of a server.
    pub fn handshakes(&self) -> usize {
        self.log().matches("Control Channel: TLS").count()
    }

    /// Waits until [`connections`](Self::connections) is at least this.
    pub fn connected(&self, times: usize) -> Outcome {
        let what = format!("connection {times} of {}", self.name);
        wait_for(&what, HANDSHAKE, || {
            Ok((self.connections() >= times).then_some(()))
        })
    }

    /// Waits until the log has `text` at least `times` times.
    pub fn says(&self, text: &str, times: usize, limit: Duration) -> Outcome {
        wait_for(&format!("{} to say \"{text}\"", self.name), limit, || {
            Ok((self.log().matches(text).count() >= times).then_some(()))
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Kills it without a word and waits for its end; what it had said is without complaint.
    pub fn kill(&mut self) -> Outcome {
        self.signal(libc::SIGKILL);
        self.process.wait(Duration::from_secs(15))?;
        self.content()
    }

    /// Ends it by SIGTERM: status 0, no complaint, no device.
    pub fn stop(&mut self, ns: &Ns) -> Outcome {
        self.signal(libc::SIGTERM);
        self.stopped(ns)
    }

    /// The second half of [`stop`](Self::stop).
    pub fn stopped(&mut self, ns: &Ns) -> Outcome {
        let status = self
            .process
            .wait(Duration::from_secs(20))
            .during(&self.name)?;
        check_eq!(
            status.code(),
            Some(0),
            "exit status of {}\n{}",
            self.name,
            self.log()
        );
        check_eq!(
            ns.ifindex(DEVICE)?,
            None,
            "device of {} after its end",
            self.name
        );
        self.content()
    }

    /// Fails when the log has a complaint.
    pub fn content(&self) -> Outcome {
        let log = self.log();
        for line in log.lines() {
            let lower = line.to_lowercase();
            if WANTED.iter().any(|wanted| line.contains(wanted)) {
                continue;
            }
            if self.expired && TOO_LATE.iter().any(|t| lower.contains(t)) {
                continue;
            }
            let complaint = COMPLAINTS.iter().find(|c| lower.contains(**c));
            check!(
                complaint.is_none(),
                "{} complains: {line}\n{log}",
                self.name
            );
        }
        Ok(())
    }
}
