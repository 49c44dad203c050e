// SPDX-License-Identifier: GPL-2.0-or-later
//! Gathers what a diagnosis is made of.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use ovpn_netlink::Rtnl;

use super::file::{ConfigFile, Directive};
use super::{DeviceKind, Instance, Ours, Unreadable};
use crate::api::VERSION_FILE;
use crate::kernel::{Failure, Kernel};
use crate::keyfile::{NotOpen, open_regular};
use crate::reconcile::Reconciler;
use crate::tunnel::Tunnel;
use crate::uci::{File, Section, Value};

/// Longest configuration file that is read, in bytes: with certificates inside some 20 KiB.
const MAX_FILE: u64 = 256 * 1024;

/// Where the package's script of the boot writes that no module is for this kernel, and what to do; see
/// openwrt-feed/ovpnd/files/ovpnd.module.
const MISFIT_FILE: &str = "/var/run/ovpnd/.module";

/// All that [`super::diagnose`] judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The driver.
    pub driver: Driver,
    /// Seconds since 1970.
    pub clock: u64,
    /// Our interfaces.
    pub ours: Vec<Ours>,
    /// Interfaces of the driver that are none of ours.
    pub observed: Vec<String>,
    /// OpenVPN's instances.
    pub instances: Vec<Instance>,
    /// Networks and devices that are in a firewall zone; none when there is no firewall.
    pub zones: Option<BTreeSet<String>>,
}

/// The driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Driver {
    /// Why it is not there.
    pub error: Option<String>,
    /// Its version, which only kmod-ovpn has.
    pub version: Option<String>,
    /// That the installed module is not for this kernel, and the command that mends it.
    pub misfit: Option<(String, String)>,
}

/// Two lines, of which neither is empty.
fn misfit(text: &str) -> Option<(String, String)> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    Some((lines.next()?.to_owned(), lines.next()?.to_owned()))
}

impl Driver {
    /// `kmod-ovpn`, `mainline` or `none`.
    pub fn name(&self) -> &'static str {
        match (&self.error, &self.version) {
            (Some(_), _) => "none",
            (None, Some(_)) => "kmod-ovpn",
            (None, None) => "mainline",
        }
    }
}

/// Gathers the facts: configuration from `dir`, the rest from the reconciler and the kernel.
pub fn gather<K: Kernel>(
    engine: &mut Reconciler<K>,
    driver: Result<(), Failure>,
    dir: &Path,
) -> Facts {
    let version = fs::read_to_string(VERSION_FILE).ok();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let uci = |name| {
        fs::read(dir.join(name))
            .ok()
            .map(|bytes| File::parse(&bytes))
    };
    let (openvpn, network, firewall) = (uci("openvpn"), uci("network"), uci("firewall"));
    let mut instances = Vec::new();
    for file in [&openvpn, &network].into_iter().flatten() {
        instances.extend(file.sections.iter().filter_map(instance));
    }
    Facts {
        driver: Driver {
            error: driver.err().map(|failure| failure.message),
            version: version.map(|text| text.trim().to_owned()),
            misfit: read(Path::new(MISFIT_FILE))
                .ok()
                .and_then(|text| misfit(&text)),
        },
        clock: now.map_or(0, |time| time.as_secs()),
        ours: ours(engine),
        observed: engine.observed.keys().cloned().collect(),
        instances,
        zones: firewall.map(|file| zones(&file)),
    }
}

fn ours<K: Kernel>(engine: &mut Reconciler<K>) -> Vec<Ours> {
    let mut list = Vec::new();
    let names: Vec<String> = engine.interfaces.keys().cloned().collect();
    for name in &names {
        let engines = engine.keys(name);
        let engines = engines.into_iter();
        let engines = engines
            .filter_map(|(peer, key)| Some((peer, key.driver?, key.is_async)))
            .collect();
        let Some(managed) = engine.interfaces.get(name) else {
            continue;
        };
        let view = managed.interface();
        let broken = managed.broken_peers.values().flatten();
        list.push(Ours {
            name: name.clone(),
            up: view.up,
            error: view.error,
            problems: view.problems.iter().chain(broken).cloned().collect(),
            mtu: view.mtu,
            transport: view.transport,
            mssfix: view.mssfix,
            hwcrypto: view.hwcrypto,
            engines,
            refused: engine.kernel.refused(name),
        });
    }
    list
}

fn text<'a>(section: &'a Section, name: &str) -> Option<&'a str> {
    match &section.option(name)?.value {
        Value::One(text) => Some(text),
        Value::List(list) => list.first().map(String::as_str),
    }
}

/// Options of both kinds of sections that are no directives.
const NO_DIRECTIVES: [&str; 9] = [
    "enable",
    "enabled",
    "config",
    "proto",
    "ovpnproto",
    "auto",
    "disabled",
    "metric",
    "defaultroute",
];

/// Whether a switch is on, in the words of config_get_bool of OpenWrt's /lib/functions.sh; off when it is not there.
fn is_on(section: &Section, name: &str) -> bool {
    matches!(
        text(section, name),
        Some("1" | "on" | "true" | "yes" | "enabled")
    )
}

/// `config openvpn` in /etc/config/openvpn, or `config interface` of proto `openvpn` in /etc/config/network.
/// Their options are OpenVPN's directives with _ for -.
fn instance(section: &Section) -> Option<Instance> {
    let wanted = match section.kind.as_str() {
        // Its init script starts those that say so, and no others.
        "openvpn" => is_on(section, "enabled") || is_on(section, "enable"),
        "interface" => text(section, "proto") == Some("openvpn"),
        _ => false,
    };
    if !wanted || is_on(section, "disabled") {
        return None;
    }
    let path = text(section, "config").filter(|path| !path.is_empty());
    let (mut file, unreadable) = match path.map(|path| read(Path::new(path))) {
        None => (ConfigFile::default(), None),
        Some(Ok(text)) => (ConfigFile::parse(&text), None),
        Some(Err(unreadable)) => (ConfigFile::default(), Some(unreadable)),
    };
    let options = section.options.iter();
    for option in options.filter(|option| !NO_DIRECTIVES.contains(&option.name.as_str())) {
        let values: Vec<&str> = match &option.value {
            Value::One(value) => vec![value],
            Value::List(list) => list.iter().map(String::as_str).collect(),
        };
        for value in values {
            file.directives.extend(directive(&option.name, value));
        }
    }
    let device = device(&file);
    let device_kind = device.as_deref().and_then(device_kind);
    Some(Instance {
        name: section.name.clone().unwrap_or_else(|| section.kind.clone()),
        file,
        unreadable,
        device,
        device_kind,
    })
}

/// Directives that take no words: their option is a switch.
const SWITCHES: [&str; 8] = [
    "client",
    "client-to-client",
    "disable-dco",
    "management-query-proxy",
    "tls-client",
    "tls-server",
    "server-bridge",
    "compress",
];

fn directive(option: &str, value: &str) -> Option<Directive> {
    let name = option.replace('_', "-");
    let switch = SWITCHES.contains(&name.as_str());
    let args = match value {
        "0" if switch => return None,
        "1" if switch => Vec::new(),
        value => value.split_whitespace().map(str::to_owned).collect(),
    };
    Some(Directive {
        name,
        args,
        ..Directive::default()
    })
}

fn read(path: &Path) -> Result<String, Unreadable> {
    let shown = path.display();
    let (file, _) = open_regular(path).map_err(|why| match why {
        // In its jail, the daemon sees few directories.
        NotOpen::Failed(error) if error.kind() == io::ErrorKind::NotFound => Unreadable::Unseen(
            format!("{shown} is not there, or where ovpnd does not see it"),
        ),
        why => Unreadable::Faulty(format!("{shown} {why}")),
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| Unreadable::Faulty(format!("{shown} cannot be read: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The device, when the name is a certain one: `tun` alone leaves the number to OpenVPN.
fn device(file: &ConfigFile) -> Option<String> {
    let name = file.word("dev")?;
    let certain = !matches!(name, "tun" | "tap" | "null") && !name.contains('/');
    certain.then(|| name.to_owned())
}

/// Asked of the kernel and not of /sys, which may show another network namespace.
fn device_kind(name: &str) -> Option<DeviceKind> {
    let link = Rtnl::open().and_then(|mut rtnl| rtnl.link(name)).ok()?;
    Some(match link.kind.as_deref() {
        _ if link.is_ovpn() => DeviceKind::Ovpn,
        Some("tun") => DeviceKind::Tun,
        _ => DeviceKind::Other,
    })
}

/// Networks and devices of all zones.
fn zones(file: &File) -> BTreeSet<String> {
    let zones = file
        .sections
        .iter()
        .filter(|section| section.kind == "zone");
    let mut members = BTreeSet::new();
    for option in zones.flat_map(|zone| &zone.options) {
        if matches!(option.name.as_str(), "network" | "device") {
            match &option.value {
                Value::One(text) => members.extend(text.split_whitespace().map(str::to_owned)),
                Value::List(list) => members.extend(list.iter().cloned()),
            }
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(text: &str) -> Vec<Instance> {
        let file = File::parse(text.as_bytes());
        file.sections.iter().filter_map(instance).collect()
    }

    #[test]
    fn a_misfit_is_two_lines() {
        let both = Some(("No module.".to_owned(), "apk add x".to_owned()));
        assert_eq!(misfit("No module.\napk add x\n"), both);
        for bad in ["", "No module.\n", "\n \n"] {
            assert_eq!(misfit(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn options_of_uci_are_directives() {
        let [found] = &instances(
            "config openvpn office\noption enabled 1\noption client 1\noption dev ovpn3\noption data_ciphers AES-256-GCM\n\
             list remote 'a 1194'\nlist remote 'b 1195 tcp'\noption disable_dco 0\noption comp_lzo no\n",
        )[..] else {
            panic!("not one")
        };
        assert_eq!(
            (found.name.as_str(), found.device.as_deref()),
            ("office", Some("ovpn3"))
        );
        let names: Vec<&str> = found
            .file
            .directives
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "client",
                "dev",
                "data-ciphers",
                "remote",
                "remote",
                "comp-lzo"
            ]
        );
        assert!(found.file.last("client").unwrap().args.is_empty());
        assert_eq!(
            found.file.last("remote").unwrap().args,
            ["b", "1195", "tcp"]
        );
    }

    #[test]
    fn what_is_switched_off_or_none_of_openvpns_is_left_out() {
        let on = |option: &str| {
            let text = format!("config openvpn a\noption dev tun\n{option}");
            instances(&text).len() == 1
        };
        for word in ["1", "on", "true", "yes", "enabled"] {
            assert!(on(&format!("option enabled {word}")), "{word}");
            assert!(on(&format!("option enable {word}")), "{word}");
            let text = format!("config interface a\noption proto openvpn\noption disabled {word}");
            assert_eq!(instances(&text), [], "{word}");
        }
        for word in ["0", "off", "false", "no", "disabled", "2", "True"] {
            assert!(!on(&format!("option enabled {word}")), "{word}");
        }
        for text in [
            "config openvpn a\noption dev tun",
            "config openvpn a\noption enabled 0\noption dev tun",
            "config interface a\noption proto static",
            "config interface a\noption proto openvpn\noption disabled 1",
        ] {
            assert_eq!(instances(text), [], "{text}");
        }
        let unreadable = |path: &str| {
            let text = format!("config interface a\noption proto openvpn\noption config {path}");
            instances(&text).remove(0).unreadable
        };
        // It may be there for OpenVPN, which is in another jail or in none.
        let unseen = "/nonexistent is not there, or where ovpnd does not see it";
        assert_eq!(
            unreadable("/nonexistent"),
            Some(Unreadable::Unseen(unseen.into()))
        );
        let faulty = "/dev is not a regular file";
        assert_eq!(unreadable("/dev"), Some(Unreadable::Faulty(faulty.into())));
    }

    #[test]
    fn members_of_zones_are_found_in_both_notations() {
        let file = File::parse(b"config zone\noption network 'lan vpn0'\nconfig zone\nlist network wan\nlist device tun+\nconfig rule\noption network x");
        let expected = ["lan", "tun+", "vpn0", "wan"].map(str::to_owned);
        assert_eq!(zones(&file), BTreeSet::from(expected));
    }
}
