// SPDX-License-Identifier: GPL-2.0-only
//! A router: a directory with its configuration, an ovpnd and a ubus broker of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Cmd, Ns, Proc, wait_for};
use crate::tap::{During, Failure, Outcome};

/// Nothing a daemon does by itself takes longer, waits after failures apart.
pub(super) const SOON: Duration = Duration::from_secs(10);
/// Several waits after failures, which double from a second.
pub(super) const LATER: Duration = Duration::from_secs(60);

/// A directory that is gone with its owner.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new() -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ovpn-daemon-{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file for its owner alone and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Outcome<String> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path.display().to_string())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The content of a new key file.
pub(super) fn genkey() -> Outcome<String> {
    Cmd::new(None, "ovpnctl genkey").ok()
}

/// Options of an interface and its one peer, as a test wants them.
#[derive(Clone)]
pub(super) struct Uci {
    pub(super) name: String,
    /// Options of the interface.
    pub(super) interface: Vec<(&'static str, String)>,
    /// Options of the peer, whose section is the interface's name and `_peer`.
    pub(super) peer: Vec<(&'static str, String)>,
}

impl Uci {
    /// Side `own` (1 or 2) of a tunnel over IPv4 or IPv6.
    pub(super) fn side(own: u8, v6: bool, key_file: &str) -> Self {
        let other = 3 - own;
        let (transport, endpoint) = if v6 {
            ("udp6", format!("fd00:10::{other}"))
        } else {
            ("udp", format!("10.10.0.{other}"))
        };
        let options = |list: &[(&'static str, &str)]| {
            list.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()
        };
        Self {
            name: "vpn0".into(),
            interface: options(&[
                ("mode", "p2p"),
                ("transport", transport),
                ("local_port", "1194"),
                ("addresses", &format!("10.8.0.{own}/24 fd00:8::{own}/64")),
                ("cipher", "aes-256-gcm"),
            ]),
            peer: options(&[
                ("peer_id", "1"),
                ("endpoint_host", &endpoint),
                ("allowed_ips", &format!("192.168.{other}.0/24")),
                ("route_allowed_ips", "1"),
                ("key_file", key_file),
                ("key_direction", if own == 1 { "0" } else { "1" }),
                ("insecure_static_key", "1"),
                ("keepalive_interval", "1"),
                ("keepalive_timeout", "4"),
            ]),
        }
    }

    /// With an option set, or left out when `value` is empty; the peer's if it has it, else the interface's.
    pub(super) fn with(mut self, key: &'static str, value: &str) -> Self {
        let of_peer = self.peer.iter().any(|(k, _)| *k == key);
        let options = if of_peer {
            &mut self.peer
        } else {
            &mut self.interface
        };
        options.retain(|(k, _)| *k != key);
        options.push((key, value.to_owned()));
        self
    }

    /// Another name, port and network, to stand beside the first one.
    pub(super) fn second(self) -> Self {
        let uci = self
            .with("local_port", "1195")
            .with("addresses", "10.9.0.1/24")
            .with("allowed_ips", "192.168.99.0/24");
        Self {
            name: "vpn1".into(),
            ..uci
        }
    }

    /// With an option of the interface moved to the peer.
    pub(super) fn of_peer(mut self, key: &'static str) -> Self {
        let at = self.interface.iter().position(|(k, _)| *k == key);
        if let Some(at) = at {
            self.peer.push(self.interface.remove(at));
        }
        self
    }

    pub(super) fn text(&self) -> String {
        let options = |options: &[(&str, String)]| -> String {
            options
                .iter()
                .map(|(key, value)| format!("\toption {key} '{value}'\n"))
                .collect()
        };
        let Self {
            name,
            interface,
            peer,
        } = self;
        format!(
            "config interface '{name}'\n\toption proto 'openvpn_dco'\n{}config openvpn_dco_{name} '{name}_peer'\n{}",
            options(interface),
            options(peer)
        )
    }
}

/// A running daemon and what belongs to it.
pub(super) struct Router {
    pub(super) ns: Ns,
    pub(super) dir: Dir,
    pub(super) daemon: Proc,
    pub(super) broker: Option<Proc>,
    /// The daemon's command line.
    line: String,
}

impl Router {
    /// Starts a daemon with this configuration, and a broker if wanted.
    pub(super) fn start(ns: Ns, network: &str, with_broker: bool) -> Outcome<Self> {
        Self::start_under("", ns, network, with_broker)
    }

    /// The same, run by another program.
    pub(super) fn start_under(by: &str, ns: Ns, network: &str, with_broker: bool) -> Outcome<Self> {
        Self::start_with(by, ns, network, with_broker, "")
    }

    /// Starts a daemon whose interfaces are netifd's to start, and a broker.
    pub(super) fn with_netifd(ns: Ns, network: &str) -> Outcome<Self> {
        Self::start_with("", ns, network, true, "--netifd")
    }

    fn start_with(
        by: &str,
        ns: Ns,
        network: &str,
        with_broker: bool,
        options: &str,
    ) -> Outcome<Self> {
        let dir = Dir::new()?;
        dir.write("network", network)?;
        let path = dir.path().display();
        let line = format!(
            "{by} ovpnd --config-dir {path} --ubus-socket {path}/ubus --state-dir {path}/state {options}"
        );
        let daemon = ns.cmd(&line).spawn()?;
        let mut router = Self {
            ns,
            dir,
            daemon,
            broker: None,
            line,
        };
        if with_broker {
            router.start_broker()?;
        }
        Ok(router)
    }

    /// Ends the daemon as a crash would.
    pub(super) fn crash(&mut self) -> Outcome {
        self.daemon.signal(libc::SIGKILL);
        wait_for("ovpnd to be gone", SOON, || {
            Ok((!self.daemon.running()).then_some(()))
        })
    }

    /// Starts another daemon in the place of one that ended, on the broker there is.
    pub(super) fn start_again(&mut self) -> Outcome {
        self.daemon = self.ns.cmd(&self.line).spawn()?;
        self.wait_for_bus()
    }

    /// Starts the broker and waits until the daemon is on it.
    pub(super) fn start_broker(&mut self) -> Outcome {
        let line = format!("ubusd --socket {}/ubus", self.dir.path().display());
        self.broker = Some(self.ns.cmd(&line).spawn()?);
        self.wait_for_bus()
    }

    fn wait_for_bus(&self) -> Outcome {
        wait_for("ovpnd on the bus", LATER, || {
            Ok(self.call("status").ok().map(drop))
        })
        .during(self.daemon.stderr())
    }

    /// The answer to `ubus call ovpnd METHOD`.
    pub(super) fn call(&self, method: &str) -> Outcome<Value> {
        self.call_with(method, &json!({}))
    }

    /// The answer to `ubus call ovpnd METHOD ARGS`.
    pub(super) fn call_with(&self, method: &str, args: &Value) -> Outcome<Value> {
        let out = self.calls(method, args).ok()?;
        serde_json::from_str(&out).map_err(Failure::new).during(out)
    }

    fn calls(&self, method: &str, args: &Value) -> Cmd {
        self.bus(&format!("call ovpnd {method}"))
            .arg(args.to_string())
    }

    /// `ubus COMMAND` on this router's broker.
    pub(super) fn bus(&self, command: &str) -> Cmd {
        let socket = format!("{}/ubus", self.dir.path().display());
        self.ns.cmd(&format!("ubus-client -s {socket} {command}"))
    }

    /// `ovpnctl COMMAND` that speaks to this router's daemon.
    pub(super) fn ctl(&self, command: &str) -> Cmd {
        let socket = format!("{}/ubus", self.dir.path().display());
        self.ns
            .cmd(&format!("ovpnctl {command} ubus-socket {socket}"))
    }

    /// Seconds that one of many calls on one connection takes, the caller's own work included.
    pub(super) fn time(&self, method: &str, args: &Value, turns: usize) -> Outcome<f64> {
        let line = json!({"command": "call", "object": "ovpnd", "method": method, "args": args});
        let started = Instant::now();
        let done = self
            .bus("batch")
            .input(format!("{line}\n").repeat(turns))
            .run(LATER)?;
        crate::check!(done.status.success(), "{method}: {}{}", done.out, done.err);
        Ok(started.elapsed().as_secs_f64() / turns as f64)
    }

    /// Writes another configuration and has it read by ubus; returns what it is told.
    pub(super) fn reload(&self, network: &str) -> Outcome<Value> {
        self.dir.write("network", network)?;
        self.call("reload")
    }

    /// The same for a router that is on no bus.
    pub(super) fn reload_by_signal(&self, network: &str) -> Outcome {
        self.dir.write("network", network)?;
        self.daemon.signal(libc::SIGHUP);
        Ok(())
    }

    /// The state of an interface, with that of its peers.
    pub(super) fn interface(&self, name: &str) -> Outcome<Value> {
        let of = json!({ "interface": name });
        let mut found = self.call_with("interfaces", &of)?["interfaces"][0].take();
        found["peers"] = self.call_with("peers", &of)?["peers"].take();
        Ok(found)
    }

    /// The status of the first peer of an interface.
    pub(super) fn peer(&self, name: &str) -> Outcome<Value> {
        Ok(self.interface(name)?["peers"][0].take())
    }

    /// Waits until the status of the first peer of vpn0 satisfies `wanted`.
    pub(super) fn wait_peer(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Outcome<Value> {
        let found = wait_for(&format!("peer: {what}"), limit, || {
            Ok(Some(self.peer("vpn0")?).filter(&wanted))
        });
        found.during(self.daemon.stderr())
    }

    /// Waits until a ping to `dst` is answered.
    pub(super) fn reaches(&self, dst: &str) -> Outcome {
        let ping = format!("ping -n -q -c 1 -W 1 {dst}");
        let answered = wait_for(&ping, LATER, || {
            let done = self.ns.cmd(&ping).run(SOON)?;
            Ok(done.status.success().then_some(()))
        });
        answered.during(self.daemon.stderr())
    }

    /// Ends the daemon by a signal and returns what it said.
    pub(super) fn end(self, signal: i32) -> Outcome<(Ns, String)> {
        self.daemon.signal(signal);
        let done = self.daemon.finish(SOON)?;
        crate::check!(
            done.status.success(),
            "ovpnd ended with {}\n{}",
            done.status,
            done.err
        );
        Ok((self.ns, done.err))
    }
}
