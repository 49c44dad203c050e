// SPDX-License-Identifier: GPL-2.0-or-later
//! From UCI text to typed configuration, with every fault named by file, section, option and line.
//!
//! A fault in an interface's section takes that interface out, one in a peer's section that peer; everything
//! else goes on.

mod interface;
pub mod overlay;
mod peer;
mod reader;
mod routes;
#[cfg(feature = "tls")]
pub mod vpn;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

pub use interface::{HwCrypto, Interface, MssFix, SocketSpec, Transport};
pub use peer::{Endpoint, Peer};
pub use routes::Routing;

use crate::keyfile::StaticKey;
use crate::uci;
use overlay::Overlay;
use reader::Reader;

/// The UCI protocol of our interfaces; a peer's section type is this, `_` and the interface's name.
pub const PROTO: &str = "openvpn_dco";

/// A fault in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, with its path.
    pub file: String,
    /// Line of the option, or of the section, from 1; 0 for the file as a whole.
    pub line: usize,
    /// The section, as `uci` names it.
    pub section: Option<String>,
    /// The option.
    pub option: Option<String>,
    /// The fault, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if let Some(section) = &self.section {
            write!(f, ": section '{section}'")?;
        }
        if let Some(option) = &self.option {
            write!(f, ", option '{option}'")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Problem {
    /// One of an argument of a call.
    pub fn of_call(argument: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            file: "ubus".into(),
            line: 0,
            section: None,
            option: argument.map(str::to_owned),
            message: message.into(),
        }
    }
}

/// Settings of the daemon itself, from `/etc/config/ovpnd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Globals {
    /// Least important message that is logged.
    pub log_level: log::LevelFilter,
    /// Seconds between two log lines with each peer's counters; 0 is never.
    pub stats_interval: u32,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            log_level: log::LevelFilter::Info,
            stats_interval: 0,
        }
    }
}

/// Both configuration files.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The daemon's own settings.
    pub globals: Globals,
    /// Our interfaces by name, also the faulty ones.
    pub interfaces: BTreeMap<String, InterfaceConfig>,
    /// Clients with a control channel of their own by name, also the faulty ones.
    #[cfg(feature = "tls")]
    pub clients: BTreeMap<String, vpn::ClientEntry>,
    /// Servers with a control channel of their own by name, also the faulty ones.
    #[cfg(feature = "tls")]
    pub servers: BTreeMap<String, vpn::server::ServerEntry>,
    /// Faults that belong to no interface.
    pub problems: Vec<Problem>,
    /// Whether netifd sets addresses and routes.
    pub netifd: bool,
}

/// One interface's part of the configuration.
#[derive(Debug, Clone, Default)]
pub struct InterfaceConfig {
    /// The interface with its faultless peers, unless it has a fault itself.
    pub interface: Option<Interface>,
    /// Its own faults.
    pub problems: Vec<Problem>,
    /// Its faulty peers.
    pub broken_peers: BTreeMap<String, Vec<Problem>>,
    /// Its peers that are switched off.
    pub disabled_peers: Vec<String>,
    /// Why it is to be down; see [`crate::switches`].
    pub stopped: Option<String>,
    /// Warnings without consequence, also of its peers.
    pub warnings: Vec<Problem>,
    /// Values of its peers that no other peer may have.
    taken: peer::Taken,
}

impl Config {
    /// All faults and all warnings.
    pub fn all_problems(&self) -> (Vec<&Problem>, Vec<&Problem>) {
        let interfaces = self.interfaces.values();
        let faults = interfaces
            .clone()
            .flat_map(|i| i.problems.iter().chain(i.broken_peers.values().flatten()));
        let faults = self.problems.iter().chain(faults);
        let warnings = interfaces.flat_map(|i| &i.warnings);
        #[cfg(feature = "tls")]
        let (faults, warnings) = (
            faults
                .chain(self.clients.values().flat_map(|c| &c.problems))
                .chain(self.servers.values().flat_map(|s| &s.problems)),
            warnings
                .chain(self.clients.values().flat_map(|c| &c.warnings))
                .chain(self.servers.values().flat_map(|s| &s.warnings)),
        );
        (faults.collect(), warnings.collect())
    }

    /// Whether an interface can be made as its section wants it, or the section's faults; None without such a section.
    pub fn faults_of(&self, name: &str) -> Option<Result<(), &[Problem]>> {
        #[cfg(feature = "tls")]
        if let Some(client) = self.clients.get(name) {
            return Some(match client.spec {
                Some(_) => Ok(()),
                None => Err(&client.problems),
            });
        }
        #[cfg(feature = "tls")]
        if let Some(server) = self.servers.get(name) {
            return Some(match server.spec {
                Some(_) => Ok(()),
                None => Err(&server.problems),
            });
        }
        let entry = self.interfaces.get(name)?;
        Some(match entry.interface {
            Some(_) => Ok(()),
            None => Err(&entry.problems),
        })
    }

    /// Reads `network` and `ovpnd` in `dir`, with the changes of `overlay`, and the key files they name. `netifd` says
    /// whether that sets addresses and routes.
    pub fn load(dir: &Path, overlay: &Overlay, netifd: bool) -> Self {
        let mut config = Self {
            netifd,
            ..Self::default()
        };
        let (network, globals) = (dir.join("network"), dir.join("ovpnd"));
        match fs::read(&globals) {
            Ok(bytes) => {
                config.read_globals(&globals.display().to_string(), &uci::File::parse(&bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => config.file_problem(&globals, &error),
        }
        match fs::read(&network) {
            Ok(bytes) => {
                let mut file = uci::File::parse(&bytes);
                overlay.apply(&mut file);
                config.read_network(&network.display().to_string(), &file, &StaticKey::load);
            }
            Err(error) => config.file_problem(&network, &error),
        }
        config
    }

    fn file_problem(&mut self, path: &Path, error: &io::Error) {
        let message = format!("cannot be read: {error}");
        self.problems.push(Problem {
            file: path.display().to_string(),
            line: 0,
            section: None,
            option: None,
            message,
        });
    }

    fn read_globals(&mut self, path: &str, file: &uci::File) {
        self.problems.extend(
            file.errors
                .iter()
                .map(|error| syntax_problem(path, file, error)),
        );
        for (index, section) in file.sections.iter().enumerate() {
            let mut reader = Reader::new(path, file, index, section);
            if section.kind != "ovpnd" {
                reader.fault(None, format!("is of unknown type '{}'", section.kind));
            }
            if let Some(level) = reader.parsed("log_level") {
                self.globals.log_level = level;
            }
            if let Some(seconds) = reader.number("stats_interval", 0..=86_400) {
                self.globals.stats_interval = seconds;
            }
            let (problems, warnings) = reader.finish(&[]);
            self.problems.extend(problems);
            self.problems.extend(warnings);
        }
    }

    /// Turns the sections of `file`, called `path` in messages, into interfaces. `load_key` reads key files.
    pub fn read_network(
        &mut self,
        path: &str,
        file: &uci::File,
        load_key: &dyn Fn(&Path) -> Result<StaticKey, String>,
    ) {
        let mut syntax: BTreeMap<usize, Vec<Problem>> = BTreeMap::new();
        for error in &file.errors {
            let problem = syntax_problem(path, file, error);
            match error.section {
                Some(index) => syntax.entry(index).or_default().push(problem),
                None => self.problems.push(problem),
            }
        }
        let sections = || file.sections.iter().enumerate();
        for (index, section) in sections().filter(|(_, section)| is_interface(section)) {
            let mut reader = Reader::new(path, file, index, section);
            reader
                .problems
                .extend(syntax.remove(&index).unwrap_or_default());
            if has_control_channel(section) {
                #[cfg(feature = "tls")]
                self.read_tls(reader);
                #[cfg(not(feature = "tls"))]
                {
                    reader.fault(None, "is for TLS, which this build is without: install ovpnd instead of ovpnd-mini");
                    self.problems.extend(reader.finish(&[]).0);
                }
                continue;
            }
            if let Some((name, entry)) = interface::read(reader, self.netifd) {
                self.interfaces.insert(name, entry);
            }
        }
        for (index, section) in sections() {
            let Some(owner) = section
                .kind
                .strip_prefix(PROTO)
                .and_then(|rest| rest.strip_prefix('_'))
            else {
                continue;
            };
            let mut reader = Reader::new(path, file, index, section);
            reader
                .problems
                .extend(syntax.remove(&index).unwrap_or_default());
            #[cfg(feature = "tls")]
            if let Some(entry) = self.servers.get_mut(owner) {
                vpn::server::read_client(reader, entry);
                continue;
            }
            match self.interfaces.get_mut(owner) {
                Some(entry) => peer::read(reader, entry, load_key),
                // The peers of an interface that is switched off are its own business.
                None if sections().any(|(_, section)| section.name.as_deref() == Some(owner)) => {}
                None => {
                    reader.fault(
                        None,
                        format!("is a peer of '{owner}', but there is no such interface"),
                    );
                    self.problems.extend(reader.finish(&[]).0);
                }
            }
        }
        // The rest are errors in sections of other programs, which would stop these but not us.
        self.problems.extend(syntax.into_values().flatten());
        self.refuse_shared_ports();
        routes::refuse_shared(&mut self.interfaces);
    }

    /// Reads a section with a control channel: one that says that it is a client is no server.
    #[cfg(feature = "tls")]
    fn read_tls(&mut self, reader: Reader<'_>) {
        let says = |option| reader.section.option(option).is_some();
        if says("client") || says("tls_client") {
            if let Some((name, entry)) = vpn::read(reader, self.netifd) {
                self.clients.insert(name, entry);
            }
        } else if let Some((name, entry)) = vpn::server::read(reader, self.netifd) {
            self.servers.insert(name, entry);
        }
    }

    fn refuse_shared_ports(&mut self) {
        let mut owners: Vec<(usize, SocketSpec, String)> = Vec::new();
        for (name, entry) in &self.interfaces {
            if let Some(interface) = entry
                .interface
                .as_ref()
                .filter(|interface| interface.socket.port != 0)
            {
                owners.push((interface.port_line, interface.socket, name.clone()));
            }
        }
        // The first in the file keeps the port.
        owners.sort();
        for (index, (line, socket, name)) in owners.iter().enumerate() {
            let same = |other: &SocketSpec| {
                other.port == socket.port && other.transport == socket.transport
            };
            let first = owners.iter().take(index).find(|(_, other, _)| same(other));
            let entry = self.interfaces.get_mut(name);
            if let (Some((_, _, first)), Some(entry)) = (first, entry) {
                let file = entry
                    .interface
                    .take()
                    .map(|interface| interface.file)
                    .unwrap_or_default();
                entry.problems.push(Problem {
                    file,
                    line: *line,
                    section: Some(name.clone()),
                    option: Some("local_port".into()),
                    message: format!(
                        "{} port {} is taken by interface '{first}'",
                        socket.transport, socket.port
                    ),
                });
            }
        }
    }
}

fn is_interface(section: &uci::Section) -> bool {
    let proto = section.option("proto").map(|option| &option.value);
    section.kind == "interface" && matches!(proto, Some(uci::Value::One(proto)) if proto == PROTO)
}

/// Whether a section speaks OpenVPN's control channel: only such a one says that it is a client or a server.
fn has_control_channel(section: &uci::Section) -> bool {
    [
        "client",
        "tls_client",
        "server",
        "server_ipv6",
        "tls_server",
    ]
    .into_iter()
    .any(|option| section.option(option).is_some())
}

fn syntax_problem(path: &str, file: &uci::File, error: &uci::SyntaxError) -> Problem {
    let section = error
        .section
        .and_then(|index| Some(reader::label(file, index, file.sections.get(index)?)));
    Problem {
        file: path.to_owned(),
        line: error.line,
        section,
        option: None,
        message: error.message.clone(),
    }
}

#[cfg(test)]
mod tests;
