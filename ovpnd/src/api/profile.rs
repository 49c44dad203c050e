// SPDX-License-Identifier: GPL-2.0-or-later
//! Takes an .ovpn file for stock OpenVPN or for this daemon: looked through, and refused when it would do more than make a
//! tunnel. The section is written here as well, so that a session which may import needs no right to write configurations.
//!
//! OpenVPN runs as root. A user who may import a file must not rule the router by it, so directives that start programs,
//! read other configurations, open a management port or write files are refused by name, and so are paths of files
//! outside of the directories for OpenVPN.

use std::fs;
use std::path::{Path, PathBuf};

use ovpn_netlink::MAX_NAME;
use serde_json::{Value, json};

use super::{Args, Refusal, keys};
#[cfg(feature = "tls")]
use crate::config::Config;
use crate::diag::file::{ConfigFile, Directive};
#[cfg(feature = "tls")]
use crate::diag::native;
use crate::diag::{self, options, profile};
#[cfg(feature = "tls")]
use crate::keyfile::StaticKey;
#[cfg(feature = "tls")]
use crate::ubus::Status;
use crate::uci::{self, Section};

/// Directives that read a configuration, talk to a program or write files as root, beside those that start programs.
const REFUSED: [&str; 18] = [
    "cd",
    "chroot",
    "client-config-dir",
    "config",
    "daemon",
    "dev-node",
    "ifconfig-pool-persist",
    "log",
    "log-append",
    "port-share",
    "replay-persist",
    "script-security",
    "setcon",
    "status",
    "syslog",
    "tls-export-cert",
    "tmp-dir",
    "writepid",
];
/// Directives whose first word is a file that OpenVPN reads.
const READS: [&str; 17] = [
    "askpass",
    "auth-gen-token-secret",
    "auth-user-pass",
    "ca",
    "capath",
    "cert",
    "crl-verify",
    "dh",
    "extra-certs",
    "http-proxy-user-pass",
    "key",
    "pkcs12",
    "secret",
    "tls-auth",
    "tls-crypt",
    "tls-crypt-v2",
    "verify-hash",
];
/// Directories of files for OpenVPN.
const DIRS: [&str; 3] = ["/etc/openvpn/", "/etc/ovpn/", "/etc/ssl/"];
/// Variables of `setenv` that OpenVPN or its server reads; others would be seen by programs of the router.
const VARIABLES: [&str; 6] = [
    "CLIENT_CERT",
    "FORWARD_COMPATIBLE",
    "PUSH_PEER_INFO",
    "REMOTE_RANDOM_HOSTNAME",
    "SERVER_POLL_TIMEOUT",
    "opt",
];
/// Bytes of a user's name or password, USER_PASS_LEN of OpenVPN's misc.h with its end.
const MAX_LOGIN: usize = 127;

/// The result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    /// The file alone.
    File,
    /// An interface of netifd's protocol `openvpn`.
    Interface,
    /// An instance of /etc/config/openvpn.
    Instance,
    /// An interface of this daemon, with files in place of the profile.
    Client,
}

impl Make {
    fn read(args: Args<'_>) -> Result<Self, Refusal> {
        match args.text("make")? {
            None | Some("file") => Ok(Self::File),
            Some("interface") => Ok(Self::Interface),
            Some("instance") => Ok(Self::Instance),
            Some("client") => Ok(Self::Client),
            Some(_) => Err(Refusal::argument(
                "make",
                "must be file, interface, instance or client",
            )),
        }
    }

    /// The configuration its section comes into.
    fn package(self) -> Option<&'static str> {
        match self {
            Self::File => None,
            Self::Interface | Self::Client => Some("network"),
            Self::Instance => Some("openvpn"),
        }
    }
}

/// Files that are taken back unless all goes well.
#[derive(Debug, Default)]
struct Written(Vec<PathBuf>);

impl Written {
    fn keep(&mut self, path: PathBuf, text: &str, overwrite: bool) -> Result<(), Refusal> {
        keys::keep("name", &path, text.as_bytes(), overwrite)?;
        // One that was there before is lost in any case.
        if !overwrite {
            self.0.push(path);
        }
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a profile and its login into `keys`, and the section that is made of it into the configuration in `config`. The
/// answer, and the name of the configuration that has changed.
///
/// # Errors
/// Arguments are wrong, OpenVPN would not start with the text, the text would do more than make a tunnel or cannot become
/// `make`, or a file cannot be written. Nothing is left then.
pub fn take(
    keys: &Path,
    config: &Path,
    args: Args<'_>,
) -> Result<(Value, Option<&'static str>), Refusal> {
    let name = args.needed("name")?;
    let text = args.needed("text")?;
    let overwrite = args.switch("overwrite")?;
    let make = Make::read(args)?;
    let path = keys::path(keys, "name", &format!("{name}.ovpn"))?;
    let auth = keys::path(keys, "name", &format!("{name}.auth"))?;
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if make != Make::File && (name.len() > MAX_NAME || !name.bytes().all(is_word)) {
        let why = format!("must have up to {MAX_NAME} letters, digits and _");
        return Err(Refusal::argument("name", why));
    }
    let login = login(args)?;
    let file = ConfigFile::parse(text);
    if let Some(why) = file.directives.iter().find_map(refusal) {
        return Err(Refusal::argument("text", why));
    }
    let said = diag::lint(text);
    if said["verdict"] == "refused" {
        let first = said["findings"][0]["text"].as_str().unwrap_or_default();
        return Err(Refusal::argument(
            "text",
            format!("is refused by OpenVPN: {first}"),
        ));
    }
    let mut written = Written::default();
    if let Some(login) = &login {
        written.keep(auth.clone(), login, overwrite)?;
    }
    let auth = login.map(|_| auth.display().to_string());
    let section = match make {
        Make::Client => Some(client(
            (keys, name, text),
            auth.as_deref(),
            &mut written,
            overwrite,
        )?),
        _ => {
            let ends = text.replace("\r\n", "\n");
            let text = format!("{}\n", ends.trim_end_matches('\n'));
            written.keep(path.clone(), &text, overwrite)?;
            stock(make, name, &path, auth.as_deref())
        }
    };
    if let Some((section, package)) = section.as_ref().zip(make.package()) {
        super::section::add(&config.join(package), section)?;
    }
    written.0.clear();
    let answer = json!({
        "ok": true,
        "file": (make != Make::Client).then(|| path.display().to_string()),
        "auth_file": auth,
    });
    Ok((answer, make.package()))
}

/// The section by which the openvpn program is started; none for a file alone.
fn stock(make: Make, name: &str, path: &Path, auth: Option<&str>) -> Option<Section> {
    let (kind, first, value) = match make {
        Make::Interface => ("interface", "proto", "openvpn"),
        Make::Instance => ("openvpn", "enabled", "1"),
        Make::File | Make::Client => return None,
    };
    let mut section = Section {
        kind: kind.into(),
        name: Some(name.into()),
        line: 0,
        options: Vec::new(),
        repeated: Vec::new(),
    };
    let path = path.display().to_string();
    let options = [
        (first, Some(value)),
        ("config", Some(&path)),
        ("auth_user_pass", auth),
    ];
    for (name, value) in options {
        section.put(name, value.map(|value| uci::Value::One(value.to_owned())));
    }
    Some(section)
}

/// The section of a client of this daemon; its files are written.
#[cfg(feature = "tls")]
fn client(
    (keys, name, text): (&Path, &str, &str),
    auth: Option<&str>,
    written: &mut Written,
    overwrite: bool,
) -> Result<Section, Refusal> {
    let path = |end: &str| keys.join(format!("{name}.{end}"));
    let made = native::convert(text, &|end| path(end).display().to_string());
    let mut made = made.map_err(|obstacles| {
        let why = format!("ovpnd itself cannot do: {}", obstacles.join(", "));
        Refusal::argument("text", why)
    })?;
    for (end, text) in std::mem::take(&mut made.files) {
        written.keep(path(&end), &text, overwrite)?;
    }
    let asks = made.asks_user.then_some("ask");
    let mut section = made.section(name);
    // Without a login the user is asked for it at each start.
    if let Some(auth) = auth.or(asks) {
        section.put("auth_user_pass", Some(uci::Value::One(auth.to_owned())));
    }
    // The content of the files is known only now.
    let mut tried = Config::default();
    let file = uci::File {
        sections: vec![section.clone()],
        errors: Vec::new(),
    };
    tried.read_network("text", &file, &StaticKey::load);
    let (problems, _) = tried.all_problems();
    match problems.is_empty() {
        true => Ok(section),
        false => Err(Refusal {
            status: Status::InvalidArgument,
            problems: problems.into_iter().cloned().collect(),
        }),
    }
}

#[cfg(not(feature = "tls"))]
fn client(
    _: (&Path, &str, &str),
    _: Option<&str>,
    _: &mut Written,
    _: bool,
) -> Result<Section, Refusal> {
    let why = "must be another one: this build is without TLS, install ovpnd instead of ovpnd-mini";
    Err(Refusal::argument("make", why))
}

/// The lines of a file for `auth-user-pass`.
fn login(args: Args<'_>) -> Result<Option<zeroize::Zeroizing<String>>, Refusal> {
    let part = |name| -> Result<Option<&str>, Refusal> {
        let text = args.text(name)?.filter(|text| !text.is_empty());
        match text.filter(|text| text.len() > MAX_LOGIN || text.contains(char::is_control)) {
            Some(_) => Err(Refusal::argument(
                name,
                format!("must be one line of {MAX_LOGIN} bytes at most"),
            )),
            None => Ok(text),
        }
    };
    match (part("user")?, part("password")?) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => Ok(Some(format!("{user}\n{password}\n").into())),
        (None, _) => Err(Refusal::argument("user", "is missing")),
        (_, None) => Err(Refusal::argument("password", "is missing")),
    }
}

/// Why a directive is not taken.
fn refusal(directive: &Directive) -> Option<String> {
    let name = directive.name.as_str();
    let first = directive.args.first().map_or("", String::as_str);
    let line = directive.line;
    let has = |text: &str| {
        Some(format!(
            "has {} on line {line}, which {text}",
            options::shown(name).unwrap_or("a word")
        ))
    };
    if profile::runs(directive) {
        return has("starts a program or loads code");
    }
    if REFUSED.contains(&name) || name.starts_with("management") {
        return has("reaches beyond the tunnel");
    }
    let own = first.starts_with("UV_") || VARIABLES.contains(&first);
    if name == "setenv" && !own {
        return has("sets a variable for programs of the router");
    }
    let files = match name {
        "http-proxy" => directive
            .args
            .get(2)
            .filter(|word| !matches!(word.as_str(), "auto" | "auto-nct")),
        "socks-proxy" => directive.args.get(2),
        _ => directive.args.first().filter(|_| READS.contains(&name)),
    };
    let leads = |path: &String| {
        let inside = !path.starts_with('/') || DIRS.iter().any(|dir| path.starts_with(dir));
        !inside || path.split('/').any(|part| part == "..")
    };
    match files.filter(|_| !directive.inline).is_some_and(leads) {
        true => has("names a file outside of /etc/openvpn, /etc/ovpn and /etc/ssl"),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const CLIENT: &str = "client\r\ndev tun\nremote a\nauth-user-pass\n<ca>\nx\n</ca>\n\n";

    fn call(dir: &Path, args: Value) -> Result<Value, String> {
        take(dir, &dir.join("config"), Args(args.as_object().unwrap()))
            .map(|(answer, _)| answer)
            .map_err(|refusal| refusal.problems[0].to_string())
    }

    fn temp(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("ovpnd-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_profile_is_written_for_root_alone() {
        let dir = temp("profile");
        let args = json!({"name": "office", "text": CLIENT, "user": "anna", "password": "geheim"});
        let said = call(&dir, args.clone()).unwrap();
        assert!(!said.to_string().contains("geheim"));
        for (name, text) in [
            (
                "office.ovpn",
                "client\ndev tun\nremote a\nauth-user-pass\n<ca>\nx\n</ca>\n",
            ),
            ("office.auth", "anna\ngeheim\n"),
        ] {
            let path = dir.join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        }
        assert!(call(&dir, args).unwrap_err().contains("is there already"));
        for (name, user) in [
            ("../x", "a"),
            ("a/b", "a"),
            (".x", "a"),
            ("", "a"),
            ("b", "a\nb"),
        ] {
            let args = json!({"name": name, "text": CLIENT, "user": user, "password": "c"});
            assert!(call(&dir, args).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_profile_that_would_rule_the_router_is_refused_by_name() {
        let dir = temp("refused");
        for line in [
            "up /tmp/x",
            "--down x",
            "\"up\" x",
            "\tup\tx",
            "plugin /tmp/x.so",
            "tls-verify x",
            "route-up x",
            "ipchange x",
            "dns-updown /tmp/x",
            "engine /tmp/x.so",
            "providers /tmp/x",
            "pkcs11-providers x",
            "iproute /tmp/x",
            "setenv opt up /tmp/x",
            "setenv LD_PRELOAD /tmp/x.so",
            "script-security 2",
            "config /tmp/x.ovpn",
            "management /tmp/x unix",
            "management-client",
            "log /etc/passwd",
            "log-append x",
            "status /etc/x",
            "writepid /etc/x",
            "replay-persist /etc/x",
            "tls-export-cert /etc",
            "cd /tmp",
            "ca /etc/shadow",
            "auth-user-pass /etc/shadow",
            "auth-user-pass ../../etc/shadow",
            "key /etc/openvpn/../shadow",
            "http-proxy a 80 /etc/shadow",
            "<connection>\nremote a\nhttp-proxy a 80 /etc/shadow\n</connection>",
        ] {
            let args = json!({"name": "a", "text": format!("{CLIENT}{line}\n")});
            let error = call(&dir, args).unwrap_err();
            let named = error.contains(" on line ");
            assert!(named, "{line}: {error}");
        }
        // OpenVPN itself refuses it, and no line of a key is repeated.
        let args = json!({"name": "a", "text": format!("{CLIENT}key-method 2\n")});
        assert!(call(&dir, args).unwrap_err().contains("key-method"));
        let args = json!({"name": "a", "text": "<key> x\nSECRET\n"});
        assert!(!call(&dir, args).unwrap_err().contains("SECRET"));
        assert!(!dir.exists());
        for line in [
            "auth-user-pass /etc/openvpn/a.auth",
            "setenv UV_ID x",
            "setenv opt block-outside-dns",
            "ca /etc/ssl/certs/x.pem",
        ] {
            let args = json!({"name": "a", "text": format!("{CLIENT}{line}\n"), "overwrite": true});
            call(&dir, args).unwrap();
        }
        fs::remove_dir_all(dir).unwrap();
    }

    fn files(dir: &Path) -> Vec<String> {
        let list = fs::read_dir(dir).unwrap();
        let list = list.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut list: Vec<String> = list.collect();
        list.sort();
        list
    }

    #[test]
    fn a_section_is_written_with_its_profile_or_neither_is() {
        let dir = temp("made");
        let config = dir.join("config");
        fs::create_dir_all(&config).unwrap();
        let args = |make: &str, name: &str| json!({"name": name, "text": CLIENT, "make": make, "user": "a", "password": "b"});
        call(&dir, args("interface", "office")).unwrap();
        call(&dir, args("instance", "branch")).unwrap();
        let read = |name: &str| fs::read_to_string(config.join(name)).unwrap();
        let path = dir.display();
        assert_eq!(
            read("network"),
            format!(
                "config interface 'office'\n\toption proto 'openvpn'\n\toption config '{path}/office.ovpn'\n\toption auth_user_pass '{path}/office.auth'\n"
            )
        );
        assert!(
            read("openvpn")
                .starts_with("config openvpn 'branch'\n\toption enabled '1'\n\toption config ")
        );
        let before = files(&dir);
        fs::remove_file(dir.join("office.ovpn")).unwrap();
        fs::remove_file(dir.join("office.auth")).unwrap();
        let error = call(&dir, args("interface", "office")).unwrap_err();
        assert!(error.contains("'office' is taken"), "{error}");
        for (make, name) in [
            ("tunnel", "a"),
            ("interface", "a-b"),
            ("interface", "a_name_of_16_chr"),
        ] {
            call(&dir, args(make, name)).unwrap_err();
        }
        let left: Vec<&String> = before
            .iter()
            .filter(|name| !name.starts_with("office"))
            .collect();
        assert_eq!(files(&dir).iter().collect::<Vec<_>>(), left);
        fs::remove_dir_all(dir).unwrap();
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_client_that_has_a_fault_is_not_made() {
        let dir = temp("client");
        let config = dir.join("config");
        fs::create_dir_all(&config).unwrap();
        let args = |text: &str| json!({"name": "office", "text": text, "make": "client", "user": "a", "password": "b"});
        let plain = CLIENT.replace("\r\n", "\n");
        for (text, words) in [
            (plain.clone(), "ca"),
            (
                format!("{plain}route 10.0.0.0 255.0.0.0\n"),
                "cannot do: route (line 9)",
            ),
            (format!("{plain}up /tmp/x\n"), "starts a program"),
        ] {
            let error = call(&dir, args(&text)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(files(&dir), ["config"]);
        assert_eq!(files(&config), [""; 0]);
        let finger = "AB:".repeat(32);
        let text = format!(
            "client\ndev tun\nremote vpn.example.org 443 udp\nauth-user-pass\npeer-fingerprint {}\n<tls-crypt>\n{}</tls-crypt>\n",
            finger.trim_end_matches(':'),
            *StaticKey::generate().unwrap().to_text()
        );
        call(&dir, args(&text)).unwrap();
        assert_eq!(files(&dir), ["config", "office.auth", "office.tls-crypt"]);
        let written = fs::read_to_string(config.join("network")).unwrap();
        assert!(
            written.contains("\toption proto 'openvpn_dco'\n\toption client '1'\n"),
            "{written}"
        );
        assert!(
            written.contains("\tlist remote 'vpn.example.org 443 udp'\n"),
            "{written}"
        );
        assert!(!written.contains("'ask'"), "{written}");
        // Its user is asked for a login that is not given.
        let asks = json!({"name": "asks", "text": text, "make": "client"});
        assert_eq!(call(&dir, asks).unwrap()["auth_file"], json!(null));
        let written = fs::read_to_string(config.join("network")).unwrap();
        assert!(
            written.contains("\toption auth_user_pass 'ask'\n"),
            "{written}"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
