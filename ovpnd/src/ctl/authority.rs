// SPDX-License-Identifier: GPL-2.0-or-later
//! `ca` and `export`: certificates of servers on this router, and profiles for their clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::args::{Args, unknown};
use super::import::Dirs;
use super::{Done, Failure, print};
use crate::api::save;
use crate::authority::{self, Authority, CA_YEARS, CLIENT_YEARS, Fault, Shown, Wish};
use crate::uci;

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Failed(format!("{}: {}", fault.argument, fault.why))
    }
}

/// Has ovpnd look at its files again, if it runs and the bus's own program is there.
fn reload() {
    let done = Command::new("ubus")
        .args(["call", "ovpnd", "reload"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("ovpnctl: ovpnd was not told: sessions that are up stay until it reloads");
    }
}

/// `ovpnctl ca ...`
pub(super) fn ca(mut args: Args) -> Done {
    let dirs = Dirs::take(&mut args)?;
    let command = args.next("init, list or revoke")?;
    let now = authority::now();
    match command.as_str() {
        "init" => {
            let authority = Authority::of(&dirs.keys, &args.next("an interface")?)?;
            let (mut years, mut names) = (CA_YEARS, Vec::new());
            while let Some(option) = args.maybe() {
                match option.as_str() {
                    "years" => years = args.value("years")?,
                    "name" => names.push(args.next("the value of name")?),
                    _ => return Err(unknown(&option)),
                }
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            authority.init(&names, years, now)?;
            let options = authority.options();
            let lines = options
                .iter()
                .map(|(option, path)| format!("\toption {option} '{}'\n", path.display()));
            print(&lines.collect::<String>())
        }
        "list" => {
            let json = args.flag("--json");
            let authority = Authority::of(&dirs.keys, &args.next("an interface")?)?;
            args.end()?;
            let all = authority.list(now)?;
            let all = [("ca", all.ca), ("server", all.server)]
                .into_iter()
                .chain(all.clients.into_iter().map(|client| ("client", client)));
            if json {
                let all: Vec<serde_json::Value> = all
                    .map(|(kind, one)| {
                        serde_json::json!({
                            "kind": kind, "name": one.name, "serial": one.serial, "not_after": one.not_after,
                            "days_left": one.days_left, "revoked": one.revoked,
                        })
                    })
                    .collect();
                return print(&format!("{}\n", serde_json::Value::Array(all)));
            }
            print(&all.map(|(kind, one)| line(kind, &one)).collect::<String>())
        }
        "revoke" => {
            let authority = Authority::of(&dirs.keys, &args.next("an interface")?)?;
            let client = args.next("a client")?;
            args.end()?;
            authority.revoke(&client, now)?;
            reload();
            Ok(())
        }
        _ => Err(Failure::Usage(format!(
            "\"{}\" is none of init, list and revoke",
            command.escape_debug()
        ))),
    }
}

fn line(kind: &str, one: &Shown) -> String {
    let state = match one.revoked {
        true => "revoked".to_owned(),
        false if one.days_left < 0 => "expired".to_owned(),
        false => format!("{} days left", one.days_left),
    };
    format!("{kind:6} {} {} {state}\n", one.name, one.serial)
}

/// `ovpnctl export IFACE CLIENT ...`
pub(super) fn export(mut args: Args) -> Done {
    let dirs = Dirs::take(&mut args)?;
    let renew = args.flag("--renew");
    let (interface, client) = (args.next("an interface")?, args.next("a client")?);
    let (mut remote, mut years, mut file) = (None, CLIENT_YEARS, None::<PathBuf>);
    while let Some(option) = args.maybe() {
        match option.as_str() {
            "remote" => remote = Some(args.next("the value of remote")?),
            "years" => years = args.value("years")?,
            "file" => file = Some(args.value("file")?),
            _ => return Err(unknown(&option)),
        }
    }
    let remote = remote.ok_or_else(|| {
        let why = "remote is missing: the host name or address at which clients find this router";
        Failure::Usage(why.into())
    })?;
    let file = file.unwrap_or_else(|| format!("{interface}-{client}.ovpn").into());
    if file.exists() {
        let why = format!("{} is there already", file.display());
        return Err(Failure::Failed(why));
    }
    let network = uci::File::parse(&read(&dirs.config.join("network"))?);
    let wish = Wish {
        interface,
        client,
        remote,
        years,
        renew,
    };
    let made = authority::export(&dirs.keys, &network, &wish, authority::now())?;
    // A plain name has an empty directory, which cannot be made.
    let file = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new(".").join(&file),
        _ => file,
    };
    save(&file, made.text.as_bytes(), false)
        .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    if renew {
        reload();
    }
    print(&format!("{}\n", file.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}
