// SPDX-License-Identifier: GPL-2.0-or-later
//! `ca_init`, `ca_list`, `ca_revoke` and `profile_export`: the authority of a server on this router. Arguments are read in the
//! poll loop; the work is done in a thread of its own, and so is that with the users' passwords.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Args, Refusal, users};
use crate::authority::{self, Authority, CA_YEARS, CLIENT_YEARS, Fault, Shown, Wish};
use crate::config::Problem;
use crate::ubus::{Method, Status};
use crate::uci;

/// A call whose arguments are right.
#[derive(Debug)]
pub enum Task {
    /// Makes an authority and a server's files.
    Init(String, Vec<String>, u16),
    /// Tells what was issued.
    List(String),
    /// Revokes a client's certificate.
    Revoke(String, String),
    /// Makes a client's certificate and its profile.
    Export(Wish),
    /// Lists or changes the users of a server.
    Users(users::Wish),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::argument(fault.argument, fault.why)
    }
}

impl Task {
    /// Reads a call; none when the method is another's.
    ///
    /// # Errors
    /// Arguments are wrong.
    pub fn read(method: Method, args: Args<'_>) -> Result<Option<Self>, Refusal> {
        let interface = || args.needed("interface").map(str::to_owned);
        let client = || args.needed("client").map(str::to_owned);
        let years = |default: u16| -> Result<u16, Refusal> {
            let years = args.integer("years", 1..=100)?;
            Ok(years
                .and_then(|years| years.try_into().ok())
                .unwrap_or(default))
        };
        Ok(Some(match method {
            Method::CaInit => {
                let names = args.text("names")?.unwrap_or_default();
                let names = names.split_whitespace().map(str::to_owned).collect();
                Self::Init(interface()?, names, years(CA_YEARS)?)
            }
            Method::CaList => Self::List(interface()?),
            Method::CaRevoke => Self::Revoke(interface()?, client()?),
            Method::ProfileExport => Self::Export(Wish {
                interface: interface()?,
                client: client()?,
                remote: args.needed("remote")?.to_owned(),
                years: years(CLIENT_YEARS)?,
                renew: args.switch("renew")?,
            }),
            _ => return Ok(users::Wish::read(method, args)?.map(Self::Users)),
        }))
    }

    /// Does it, with keys in `keys` and the configuration in `config`. The answer, and whether a list of revoked certificates
    /// changed.
    ///
    /// # Errors
    /// It cannot be done; nothing changed then.
    pub fn run(self, keys: &Path, config: &Path) -> Result<(Value, bool), Refusal> {
        let now = authority::now();
        match self {
            Self::Init(interface, names, years) => {
                let authority = Authority::of(keys, &interface)?;
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                authority.init(&names, years, now)?;
                let options = authority.options();
                let options = options.iter().map(|(option, path)| {
                    let path = path.display().to_string();
                    ((*option).to_owned(), Value::String(path))
                });
                let options = Value::Object(options.collect());
                Ok((json!({ "ok": true, "options": options }), false))
            }
            Self::List(interface) => {
                let listing = Authority::of(keys, &interface)?.list(now)?;
                let clients: Vec<Value> = listing.clients.iter().map(shown).collect();
                let answer = json!({
                    "ok": true,
                    "ca": shown(&listing.ca),
                    "server": shown(&listing.server),
                    "clients": clients,
                });
                Ok((answer, false))
            }
            Self::Revoke(interface, client) => {
                Authority::of(keys, &interface)?.revoke(&client, now)?;
                Ok((json!({ "ok": true }), true))
            }
            Self::Users(wish) => wish.run(keys),
            Self::Export(wish) => {
                let path = config.join("network");
                let network = fs::read(&path).map_err(|error| {
                    let why = format!("{} cannot be read: {error}", path.display());
                    Refusal::new(Status::UnknownError, Problem::of_call(None, why))
                })?;
                let network = uci::File::parse(&network);
                let made = authority::export(keys, &network, &wish, now)?;
                let answer = json!({ "ok": true, "file": made.file, "text": made.text.as_str() });
                Ok((answer, wish.renew))
            }
        }
    }
}

fn shown(one: &Shown) -> Value {
    json!({
        "name": one.name,
        "serial": one.serial,
        "not_after": one.not_after,
        "days_left": one.days_left,
        "revoked": one.revoked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(dir: &Path, method: Method, args: &Value) -> Result<(Value, bool), String> {
        let task = Task::read(method, Args(args.as_object().unwrap()));
        let done = task.and_then(|task| task.unwrap().run(dir, dir));
        done.map_err(|refusal| refusal.problems[0].to_string())
    }

    #[test]
    fn from_nothing_to_a_profile_and_its_end() {
        let dir = std::env::temp_dir().join(format!("ovpnd-task-{}", std::process::id()));
        let home = json!({"interface": "home", "names": "vpn.example.org 192.0.2.1"});
        let (made, changed) = call(&dir, Method::CaInit, &home).unwrap();
        assert!(!changed);
        let mut text = "config interface 'home'\n\toption proto 'openvpn_dco'\n\toption server '10.8.0.0/24'\n".to_owned();
        for (option, path) in made["options"].as_object().unwrap() {
            text.push_str(&format!("\toption {option} {path}\n").replace('"', "'"));
        }
        fs::write(dir.join("network"), text).unwrap();
        let anna =
            json!({"interface": "home", "client": "anna", "remote": "192.0.2.1", "years": "2"});
        let (said, changed) = call(&dir, Method::ProfileExport, &anna).unwrap();
        assert!(
            !changed
                && said["text"]
                    .as_str()
                    .unwrap()
                    .contains("\nremote 192.0.2.1 1194 udp\n")
        );
        assert_eq!(said["file"], "home-anna.ovpn");
        let (said, _) = call(&dir, Method::CaList, &home).unwrap();
        assert!(!said.to_string().contains("PRIVATE"));
        assert_eq!(
            json!([
                &said["clients"][0]["name"],
                &said["clients"][0]["days_left"]
            ]),
            json!(["anna", 730])
        );
        // Sessions are looked at again after it.
        assert!(call(&dir, Method::CaRevoke, &anna).unwrap().1);
        for (method, args, named) in [
            (Method::CaInit, json!({}), "interface"),
            (Method::CaInit, json!({"interface": "../x"}), "interface"),
            (
                Method::CaInit,
                json!({"interface": "b", "names": "a;b"}),
                "names",
            ),
            (
                Method::CaInit,
                json!({"interface": "b", "years": 101}),
                "years",
            ),
            (Method::CaList, json!({"interface": "none"}), "interface"),
            (Method::CaRevoke, json!({"interface": "home"}), "client"),
            (Method::CaRevoke, anna.clone(), "client"),
            (
                Method::ProfileExport,
                json!({"interface": "home", "client": "b"}),
                "remote",
            ),
        ] {
            let why = call(&dir, method, &args).unwrap_err();
            assert!(why.contains(&format!("'{named}'")), "{why}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
