// SPDX-License-Identifier: GPL-2.0-or-later
//! Why a tunnel does not use the kernel's data path, or not well.
//!
//! [`diagnose`] is a pure function over gathered [`Facts`]; [`gather`] gathers them. Each finding is a sentence
//! with a remedy.

pub mod ciphers;
pub mod file;
pub mod gather;
#[cfg(feature = "tls")]
pub mod native;
pub mod options;
pub mod profile;
pub mod remotes;
pub mod rules;
pub mod together;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use crate::config::{Problem, Transport};
use crate::engines::Refused;
use file::ConfigFile;
pub use gather::Facts;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not work.
    Error,
    /// It works worse than it could.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for it.
    pub code: &'static str,
    /// Line of a text it is about.
    pub line: Option<usize>,
    /// One sentence.
    pub text: String,
    /// The remedy, one sentence.
    pub remedy: String,
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            line: None,
            text: text.into(),
            remedy: remedy.into(),
        }
    }
}

/// The subject of findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Interface, instance or `system`.
    pub name: String,
    /// `openvpn_dco`, `openvpn`, `observed` or `system`.
    pub kind: &'static str,
    /// Whether its packets go through the kernel's driver, if that is known.
    pub kernel_path: Option<bool>,
    /// Worst first.
    pub findings: Vec<Finding>,
}

/// Largest packet inside a tunnel that fits a path of 1500 bytes: less IP, UDP or TCP (with timestamps) and
/// OpenVPN's 24 bytes, with TCP's 2 of length.
fn fitting_mtu(transport: Transport) -> u32 {
    match transport {
        Transport::Udp => 1500 - 20 - 8 - 24,
        Transport::Udp6 => 1500 - 40 - 8 - 24,
        // A stream has no packets to fit; larger ones only wait for each other.
        Transport::Tcp | Transport::Tcp6 => 1500,
    }
}

/// Seconds since 1970 at which this program was written, about: a clock before that is not set.
const WRITTEN: u64 = 1_760_000_000;

/// Judges the facts.
pub fn diagnose(facts: &Facts) -> Vec<Subject> {
    let mut subjects = vec![Subject {
        name: "system".into(),
        kind: "system",
        kernel_path: None,
        findings: system(facts),
    }];
    subjects.extend(facts.ours.iter().map(|ours| self::ours(ours, facts)));
    subjects.extend(
        facts
            .instances
            .iter()
            .map(|instance| self::instance(instance, facts)),
    );
    let told: BTreeSet<&str> = facts
        .instances
        .iter()
        .filter_map(|instance| instance.device.as_deref())
        .collect();
    let others = facts
        .observed
        .iter()
        .filter(|name| !told.contains(name.as_str()));
    subjects.extend(others.map(|name| Subject {
        name: name.clone(),
        kind: "observed",
        kernel_path: Some(true),
        findings: zone(name, name, facts).into_iter().collect(),
    }));
    for subject in &mut subjects {
        subject.findings.sort_by_key(|finding| finding.severity);
    }
    subjects
}

fn system(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let driver = &facts.driver;
    if let (Some((text, remedy)), None) = (&driver.misfit, &driver.version) {
        // Without a driver the tunnels wait; with the kernel's own one only what it does not tell is missing.
        let severity = match driver.error {
            Some(_) => Severity::Error,
            None => Severity::Warning,
        };
        findings.push(Finding::new(
            severity,
            "module-misfit",
            text.clone(),
            remedy,
        ));
    }
    match (&driver.error, &driver.version) {
        (Some(_), _) if driver.misfit.is_some() => {}
        (Some(error), _) => findings.push(Finding::new(
            Severity::Error,
            "module-missing",
            format!("The kernel's OpenVPN driver is not there: {error}."),
            "Install kmod-ovpn for this kernel and load it with modprobe ovpn.",
        )),
        (None, None) => findings.push(Finding::new(
            Severity::Info,
            "module-mainline",
            "The loaded module ovpn is the kernel's own: drops by peer, crypto engines and the time of the last packet are not told.",
            "Install kmod-ovpn in its place to see them.",
        )),
        (None, Some(version)) if version != env!("CARGO_PKG_VERSION") => findings.push(Finding::new(
            Severity::Info,
            "module-old",
            format!("The loaded module ovpn is of version {version}, ovpnd of {}.", env!("CARGO_PKG_VERSION")),
            "Install both of one version; a module that is loaded stays until it is unloaded.",
        )),
        _ => {}
    }
    if facts.clock < WRITTEN {
        findings.push(Finding::new(
            Severity::Warning,
            "clock",
            "The clock is not set: certificates are not valid yet, and TLS handshakes fail.",
            "Let NTP set it before OpenVPN starts (service sysntpd).",
        ));
    }
    findings
}

/// One of our interfaces, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of API.md's interfaces")]
pub struct Ours {
    pub name: String,
    pub up: bool,
    pub error: Option<String>,
    pub problems: Vec<Problem>,
    pub mtu: Option<u32>,
    pub transport: Option<Transport>,
    pub mssfix: Option<String>,
    pub hwcrypto: Option<String>,
    /// Peers with a key, the crypto driver that carries it, and whether that is an asynchronous one.
    pub engines: Vec<(String, String, bool)>,
    pub refused: Vec<Refused>,
}

fn ours(ours: &Ours, facts: &Facts) -> Subject {
    let mut findings: Vec<Finding> = ours
        .problems
        .iter()
        .map(|problem| {
            Finding::new(
                Severity::Error,
                "config",
                format!("{problem}."),
                "Correct it and reload; what ran before goes on until then.",
            )
        })
        .collect();
    if let (Some(error), true) = (&ours.error, findings.is_empty()) {
        findings.push(Finding::new(
            Severity::Error,
            "interface",
            format!("{error}."),
            "ovpnd tries again by itself; the system log tells more.",
        ));
    }
    if let (Some(mtu), Some(transport)) = (ours.mtu, ours.transport) {
        let fits = fitting_mtu(transport);
        if mtu > fits {
            findings.push(Finding::new(
                Severity::Warning,
                "mtu",
                format!("MTU {mtu} does not fit a path of 1500 bytes over {transport}: full packets are sent in two."),
                format!("Set mtu to {fits} or less, {} behind PPPoE.", fits - 8),
            ));
        } else if mtu < 1280 {
            findings.push(Finding::new(
                Severity::Warning,
                "mtu",
                format!("MTU {mtu} is too small for IPv6, which needs 1280."),
                "Set mtu to 1280 or more.",
            ));
        }
    }
    let theirs = facts.driver.version.is_none();
    let mssfix = ours.mssfix.as_deref().filter(|value| *value != "auto");
    if mssfix.is_some_and(|value| value != "off" || theirs) {
        findings.push(Finding::new(
            Severity::Info,
            "mssfix",
            "mssfix has no effect: kmod-ovpn fits segments to the path by itself or not at all, the kernel's own driver never does.",
            "Set it to auto or off, or set mtu.",
        ));
    }
    let chosen = ours.hwcrypto.as_deref().filter(|value| *value != "auto");
    if let (Some(_), true) = (chosen, theirs) {
        findings.push(Finding::new(
            Severity::Info,
            "hwcrypto",
            "hwcrypto has no effect: the loaded module has no choice of crypto drivers.",
            "Install kmod-ovpn, or take the option out.",
        ));
    }
    // That the kernel's own driver has no such parameter was said above.
    for refused in ours.refused.iter().filter(|_| !theirs) {
        findings.push(Finding::new(
            Severity::Warning,
            refused.option,
            format!("{}.", refused.why),
            match refused.forbidden {
                true => format!(
                    "Let the module be loaded so, for all tunnels: write ovpn {} into /etc/modules.d/30-ovpn and restart the router.",
                    refused.parameter
                ),
                false => "Take the option out, or install a kmod-ovpn that has the parameter.".into(),
            },
        ));
    }
    let named = chosen.filter(|value| !matches!(*value, "off" | "on"));
    let other = ours
        .engines
        .iter()
        .find(|(_, engine, _)| Some(engine.as_str()) != named);
    let named = named.filter(|_| {
        ours.refused
            .iter()
            .all(|refused| refused.option != "hwcrypto")
    });
    if let (Some(named), Some((peer, engine, _))) = (named, other) {
        findings.push(Finding::new(
            Severity::Warning,
            "hwcrypto",
            format!("hwcrypto wants {named}, but the key of peer {peer} is carried by {engine}."),
            "Look into /proc/crypto for the names of drivers that are there; a change of hwcrypto concerns keys to come.",
        ));
    }
    if let Some((peer, engine, _)) = ours.engines.iter().find(|(.., is_async)| *is_async) {
        findings.push(Finding::new(
            Severity::Info,
            "engine-async",
            format!("Peer {peer} is encrypted by the asynchronous driver {engine}: for packets under 1500 bytes such engines are often slower than the processor."),
            "Compare with hwcrypto off.",
        ));
    }
    findings.extend(zone(&ours.name, &ours.name, facts));
    Subject {
        name: ours.name.clone(),
        kind: "openvpn_dco",
        kernel_path: Some(ours.up),
        findings,
    }
}

/// Whether some firewall zone has the network or the device.
fn zone(network: &str, device: &str, facts: &Facts) -> Option<Finding> {
    let zones = facts.zones.as_ref()?;
    if zones.contains(network) || zones.contains(device) {
        return None;
    }
    Some(Finding::new(
        Severity::Warning,
        "firewall-zone",
        format!(
            "{network} is in no firewall zone: what comes from it is treated by the default policy, which is to reject."
        ),
        "Add it to a zone under Network > Firewall.",
    ))
}

/// An OpenVPN instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its section.
    pub name: String,
    /// Its directives.
    pub file: ConfigFile,
    /// Why its configuration file could not be read.
    pub unreadable: Option<Unreadable>,
    /// Its device, if the configuration names a certain one.
    pub device: Option<String>,
    /// That device's kind, if it is there.
    pub device_kind: Option<DeviceKind>,
}

/// Why a configuration file could not be read, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It has errors: no program can read it.
    Faulty(String),
    /// This daemon at least does not see it.
    Unseen(String),
}

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The kernel's data path.
    Ovpn,
    /// Packets go through OpenVPN.
    Tun,
    /// Something else.
    Other,
}

fn instance(instance: &Instance, facts: &Facts) -> Subject {
    let mut findings = Vec::new();
    match &instance.unreadable {
        Some(Unreadable::Faulty(why)) => findings.push(Finding::new(
            Severity::Error,
            "config-file",
            format!("{why}."),
            "Correct option config.",
        )),
        Some(Unreadable::Unseen(why)) => findings.push(Finding::new(
            Severity::Warning,
            "config-file",
            format!("{why}: what is in it was not judged."),
            "Correct option config, or put the file into /etc/openvpn, where ovpnd sees it too.",
        )),
        None => {}
    }
    // Of a file that could not be read, what is missing in it is not known.
    let mut verdict = match instance.unreadable {
        Some(_) => rules::Verdict::default(),
        None => rules::judge(&instance.file),
    };
    // Options of UCI are completed by the program that starts OpenVPN; a file alone is all there is.
    if instance.unreadable.is_none()
        && !instance.file.directives.is_empty()
        && rules::is_text(&instance.file)
    {
        verdict.findings.extend(profile::judge(&instance.file));
    }
    let missing = facts.driver.error.is_some();
    findings.extend(verdict.findings);
    let kernel_path = match instance.device_kind {
        Some(DeviceKind::Ovpn) => Some(true),
        Some(_) => Some(false),
        None if verdict.excluded || missing => Some(false),
        None => None,
    };
    if instance.device_kind == Some(DeviceKind::Tun) && !verdict.excluded && !missing {
        findings.push(Finding::new(
            Severity::Warning,
            "running-userspace",
            format!(
                "{} goes through OpenVPN, although no directive asks for that: the module was loaded later, the device existed before, OpenVPN may not keep CAP_NET_ADMIN as another user, or is built without DCO.",
                instance.device.as_deref().unwrap_or("The tunnel")
            ),
            "Restart the instance; openvpn --version must name [DCO].",
        ));
    }
    if let Some(device) = &instance.device {
        findings.extend(zone(&instance.name, device, facts));
    }
    Subject {
        name: instance.name.clone(),
        kind: "openvpn",
        kernel_path,
        findings,
    }
}

/// The answer to `diag`, of one subject or all.
pub fn json(facts: &Facts, subjects: &[Subject]) -> Value {
    let subject = |subject: &Subject| {
        json!({
            "name": subject.name,
            "kind": subject.kind,
            "kernel_path": subject.kernel_path,
            "findings": findings(&subject.findings),
        })
    };
    json!({
        "data_path": {
            "driver": facts.driver.name(),
            "module_version": facts.driver.version,
            "error": facts.driver.error,
        },
        "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
    })
}

fn findings(list: &[Finding]) -> Vec<Value> {
    let one = |finding: &Finding| {
        let mut value = json!({
            "severity": finding.severity.to_string(),
            "code": finding.code,
            "text": finding.text,
            "remedy": finding.remedy,
        });
        if let (Some(line), Some(map)) = (finding.line, value.as_object_mut()) {
            map.insert("line".into(), json!(line));
        }
        value
    };
    list.iter().map(one).collect()
}

/// The answer to `lint`.
pub fn lint(text: &str) -> Value {
    let file = ConfigFile::parse(text);
    let mut verdict = rules::judge(&file);
    verdict.findings.extend(profile::judge(&file));
    verdict.findings.extend(profile::programs(&file));
    verdict.findings.extend(profile::ports(&file));
    verdict
        .findings
        .sort_by_key(|finding| (finding.severity, finding.line));
    let starts = verdict
        .findings
        .iter()
        .all(|finding| finding.severity != Severity::Error);
    let remotes = remotes::entries(&file, together::serves(&file));
    let remotes = remotes.iter().filter(|remote| remote.remote.is_some());
    json!({
        // Whether OpenVPN starts, and with the kernel's data path.
        "verdict": match (starts, verdict.excluded) {
            (false, _) => "refused",
            (true, true) => "userspace",
            (true, false) => "kernel",
        },
        "kernel_path": starts && !verdict.excluded,
        "findings": findings(&verdict.findings),
        "remotes": remotes.map(ToString::to_string).collect::<Vec<_>>(),
        "inline": file.inline,
        "native": native(text),
    })
}

/// Whether ovpnd's own client can have the text, and what keeps it from that; null where there is no such client.
#[cfg(feature = "tls")]
fn native(text: &str) -> Value {
    let obstacles = native::convert(text, &|end| end.to_owned()).err();
    let obstacles = obstacles.unwrap_or_default();
    json!({ "possible": obstacles.is_empty(), "obstacles": obstacles })
}

#[cfg(not(feature = "tls"))]
fn native(_: &str) -> Value {
    Value::Null
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod verdicts;
