// SPDX-License-Identifier: GPL-2.0-or-later
//! Takes an .ovpn file for stock OpenVPN: looked through, and refused when it would do more than make a tunnel.
//!
//! OpenVPN runs as root. A user who may import a file must not rule the router by it, so directives that start programs,
//! read other configurations, open a management port or write files are refused by name, and so are paths of files
//! outside of the directories for OpenVPN.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Args, Refusal, keys};
use crate::diag::file::{ConfigFile, Directive};
use crate::diag::{self, options, profile};

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

/// Writes `name`.ovpn in `dir`, and `name`.auth with a user and a password.
///
/// # Errors
/// Arguments are wrong, OpenVPN would not start with the text, the text would do more than make a tunnel, or a file
/// cannot be written.
pub fn take(dir: &Path, args: Args<'_>) -> Result<Value, Refusal> {
    let name = args.needed("name")?;
    let text = args.needed("text")?;
    let overwrite = args.switch("overwrite")?;
    let path = keys::path(dir, "name", &format!("{name}.ovpn"))?;
    let auth = keys::path(dir, "name", &format!("{name}.auth"))?;
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
    if let Some(login) = &login {
        keys::keep("name", &auth, login.as_bytes(), overwrite)?;
    }
    let ends = text.replace("\r\n", "\n");
    let text = format!("{}\n", ends.trim_end_matches('\n'));
    let kept = keys::keep("name", &path, text.as_bytes(), overwrite);
    if kept.is_err() && login.is_some() && !overwrite {
        // Both or none.
        let _ = fs::remove_file(&auth);
    }
    kept?;
    Ok(json!({
        "ok": true,
        "file": path.display().to_string(),
        "auth_file": login.map(|_| auth.display().to_string()),
    }))
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
        take(dir, Args(args.as_object().unwrap()))
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
}
