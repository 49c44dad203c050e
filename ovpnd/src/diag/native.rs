// SPDX-License-Identifier: GPL-2.0-or-later
//! An .ovpn text as a section of UCI for ovpnd's own client, whole or not at all: a directive that this client would leave
//! out is an obstacle, unless it changes nothing.

use zeroize::Zeroizing;

use super::file::{ConfigFile, Directive};
use super::remotes::{self, Proto};
use super::together::serves;
use crate::config::{PROTO, vpn};
use crate::uci::{Opt, Section, Value};

/// Directives with one word that the client has under their own names.
const WORDS: [&str; 10] = [
    "auth",
    "data-ciphers",
    "hand-window",
    "key-direction",
    "lport",
    "remote-cert-tls",
    "tls-version-max",
    "tls-version-min",
    "tran-window",
    "tun-mtu",
];
/// Switches.
const SWITCHES: [&str; 4] = ["client", "remote-random", "route-nopull", "tls-client"];
/// Directives that name a file or bring its text.
const FILES: [&str; 10] = [
    "askpass",
    "auth-user-pass",
    "ca",
    "cert",
    "crl-verify",
    "extra-certs",
    "key",
    "tls-auth",
    "tls-crypt",
    "tls-crypt-v2",
];
/// Directives that change nothing for this client beside those of [`vpn::is_needless`]: its list of servers has ports and
/// protocols, and its server says the topology.
const REST: [&str; 9] = [
    "connection",
    "ignore-unknown-option",
    "ping-timer-rem",
    "port",
    "proto",
    "remote",
    "rport",
    "server-poll-timeout",
    "topology",
];

/// A client made of a text.
#[derive(Debug)]
pub struct Native {
    /// Its options, save the login.
    pub options: Vec<Opt>,
    /// Files by the ends of their names, such as `ca`.
    pub files: Vec<(String, Zeroizing<String>)>,
    /// Whether the text asks for a user and a password.
    pub asks_user: bool,
}

impl Native {
    /// The section of this name.
    pub fn section(self, name: &str) -> Section {
        Section {
            kind: "interface".into(),
            name: Some(name.to_owned()),
            line: 0,
            options: self.options,
            repeated: Vec::new(),
        }
    }

    fn put(&mut self, name: &str, value: Value) {
        let name = name.replace('-', "_");
        self.options.retain(|option| option.name != name);
        let line = 0;
        self.options.push(Opt { name, line, value });
    }

    fn one(&mut self, name: &str, value: impl Into<String>) {
        self.put(name, Value::One(value.into()));
    }

    fn more(&mut self, name: &str, value: String) {
        let option = name.replace('-', "_");
        match self.options.iter_mut().find(|one| one.name == option) {
            Some(Opt {
                value: Value::List(list),
                ..
            }) => list.push(value),
            _ => self.put(name, Value::List(vec![value])),
        }
    }
}

/// Makes a client of a text, whose files become those that `path` says for their ends.
///
/// # Errors
/// The obstacles, each a directive with its line.
pub fn convert(text: &str, path: &dyn Fn(&str) -> String) -> Result<Native, Vec<String>> {
    let file = ConfigFile::parse(text);
    let mut native = Native {
        options: Vec::new(),
        files: Vec::new(),
        asks_user: false,
    };
    let mut obstacles = Vec::new();
    native.one("proto", PROTO);
    if !file.has("client") && !file.has("tls-client") {
        obstacles.push("a text without the line client".to_owned());
    }
    let tolerated: Vec<&String> = file
        .all("ignore-unknown-option")
        .flat_map(|directive| &directive.args)
        .collect();
    for directive in &file.directives {
        let fits = take(&mut native, directive, text, path);
        if !fits && !directive.lenient && !tolerated.contains(&&directive.name) {
            let name = super::options::shown(&directive.name).unwrap_or("a word");
            obstacles.push(format!("{name} (line {})", directive.line));
        }
    }
    for entry in remotes::entries(&file, serves(&file)) {
        let Some(host) = entry.remote else { continue };
        match (entry.proto, entry.family) {
            (Proto::Udp, 6) => native.more("remote", format!("{host} {} udp6", entry.port)),
            (Proto::Udp, _) => native.more("remote", format!("{host} {} udp", entry.port)),
            (Proto::TcpClient, 6) => native.more("remote", format!("{host} {} tcp6", entry.port)),
            (Proto::TcpClient, _) => native.more("remote", format!("{host} {} tcp", entry.port)),
            _ => obstacles.push(format!("the protocol for {host}")),
        }
    }
    keepalive(&mut native, &file, &mut obstacles);
    match obstacles.is_empty() {
        true => Ok(native),
        false => Err(obstacles),
    }
}

/// Takes a directive over; false when this client has nothing like it.
fn take(
    native: &mut Native,
    directive: &Directive,
    text: &str,
    path: &dyn Fn(&str) -> String,
) -> bool {
    let name = directive.name.as_str();
    let words: Vec<&str> = directive.args.iter().map(String::as_str).collect();
    let first = words.first().copied().unwrap_or_default();
    if FILES.contains(&name) {
        // A connection's own file is one of several.
        return directive.connection.is_none() && take_file(native, directive, text, path);
    }
    if directive.connection.is_some() && !REST.contains(&name) && !is_needless(name) {
        return false;
    }
    match name {
        _ if SWITCHES.contains(&name) => native.one(name, "1"),
        _ if WORDS.contains(&name) => native.one(name, first),
        "keepalive" | "reneg-sec" => native.one(name, words.join(" ")),
        "static-challenge" if words.len() == 2 => native.one(name, words.join(" ")),
        "verify-x509-name" => {
            native.one(name, first);
            native.one(
                "verify-x509-type",
                words.get(1).copied().unwrap_or("subject"),
            );
        }
        "pull-filter" => {
            let start = words.get(1).copied().unwrap_or_default();
            native.more(name, format!("{first} \"{start}\""));
        }
        "peer-fingerprint" if directive.inline => {
            for line in &directive.body {
                native.more(name, line.trim().to_owned());
            }
        }
        "peer-fingerprint" => native.more(name, first.to_owned()),
        "mssfix" if first == "0" => native.one(name, "off"),
        // A size for tunnels through OpenVPN; the driver finds its own.
        "mssfix" => {}
        "dev" | "dev-type" => return !first.starts_with("tap") && first != "null",
        "allow-compression" => return first == "no",
        "ping" | "ping-restart" => {}
        "setenv" => return !first.starts_with("UV_"),
        _ => return REST.contains(&name) || is_needless(name),
    }
    true
}

fn is_needless(name: &str) -> bool {
    vpn::is_needless(&name.replace('-', "_"))
}

fn take_file(
    native: &mut Native,
    directive: &Directive,
    text: &str,
    path: &dyn Fn(&str) -> String,
) -> bool {
    let name = directive.name.as_str();
    let word = |at: usize| directive.args.get(at).map(String::as_str);
    if directive.inline {
        native.one(name, path(name));
        native.files.push((name.to_owned(), block(text, directive)));
        return true;
    }
    let named = word(0).unwrap_or_default();
    match (name, word(1)) {
        ("auth-user-pass", _) if matches!(named, "" | "username-only") => {
            native.asks_user = true;
            return named.is_empty();
        }
        ("tls-auth", Some(direction)) => native.one("key-direction", direction),
        (_, Some(_)) => return false,
        _ => {}
    }
    // One that is not in the text has to be on this router.
    native.one(name, named);
    named.starts_with('/')
}

/// The lines of a block.
fn block(text: &str, directive: &Directive) -> Zeroizing<String> {
    let end = format!("</{}>", directive.name);
    let lines = text.split_inclusive('\n').skip(directive.line);
    let lines = lines.take_while(|line| !line.trim_start().starts_with(&end));
    Zeroizing::new(lines.collect::<String>().replace("\r\n", "\n"))
}

/// `ping` and `ping-restart` are `keepalive` by parts.
fn keepalive(native: &mut Native, file: &ConfigFile, obstacles: &mut Vec<String>) {
    let number = |name| file.word(name).and_then(|word| word.parse::<u32>().ok());
    match (file.word("ping"), file.word("ping-restart")) {
        (None, None) => {}
        _ => match (number("ping"), number("ping-restart")) {
            (Some(ping), Some(restart)) if restart >= ping.saturating_mul(2) => {
                native.one("keepalive", format!("{ping} {restart}"));
            }
            _ => obstacles.push("ping without ping-restart of twice its time".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options and files.
    type Made = (Vec<String>, Vec<(String, String)>);

    fn made(text: &str) -> Result<Made, Vec<String>> {
        let native = convert(text, &|end| format!("/etc/ovpn/a.{end}"))?;
        let files = native.files.iter();
        let files = files.map(|(end, text)| (end.clone(), text.to_string()));
        let files = files.collect();
        let options = native.options.iter().map(|option| match &option.value {
            Value::One(text) => format!("{} {text}", option.name),
            Value::List(list) => format!("{} [{}]", option.name, list.join("|")),
        });
        Ok((options.collect(), files))
    }

    #[test]
    fn a_text_becomes_a_client_with_its_files() {
        let text = "client\r\ndev tun7\r\nproto udp\r\nremote vpn.example.org 443\r\n<connection>\nremote b 1195 udp6\n</connection>\n\
             resolv-retry infinite\nnobind\nremote-cert-tls server\nverify-x509-name \"CN=a b\" name\nkey-direction 1\n\
             pull-filter ignore \"dhcp-option \"\nping 10\nping-restart 60\nsetenv opt block-outside-dns\nverb 3\n\
             auth-user-pass\n<ca> # x\r\nAAA\r\nBBB\r\n</ca> # end\n<tls-auth>\nkey\n</tls-auth>\ncrl-verify /etc/openvpn/crl.pem\n";
        let (options, files) = made(text).unwrap();
        assert_eq!(
            options,
            [
                "proto openvpn_dco",
                "client 1",
                "remote_cert_tls server",
                "verify_x509_name CN=a b",
                "verify_x509_type name",
                "key_direction 1",
                "pull_filter [ignore \"dhcp-option \"]",
                "ca /etc/ovpn/a.ca",
                "tls_auth /etc/ovpn/a.tls-auth",
                "crl_verify /etc/openvpn/crl.pem",
                "remote [b 1195 udp6]",
                "keepalive 10 60"
            ]
        );
        let file = |end: &str, text: &str| (end.to_owned(), text.to_owned());
        assert_eq!(files, [file("ca", "AAA\nBBB\n"), file("tls-auth", "key\n")]);
    }

    #[test]
    fn a_directive_that_would_be_left_out_is_an_obstacle() {
        for (line, obstacle) in [
            ("route 10.0.0.0 255.0.0.0", "route (line 3)"),
            ("redirect-gateway def1", "redirect-gateway (line 3)"),
            ("dev tap", "dev (line 3)"),
            ("comp-lzo", "comp-lzo (line 3)"),
            ("ca ca.crt", "ca (line 3)"),
            ("up /tmp/x", "up (line 3)"),
            ("auth-user-pass /etc/openvpn/a b", "auth-user-pass (line 3)"),
            ("http-proxy a 80", "http-proxy (line 3)"),
            ("ping 10", "ping without ping-restart of twice its time"),
        ] {
            assert_eq!(
                made(&format!("client\nremote a\n{line}\n")).unwrap_err(),
                [obstacle],
                "{line}"
            );
        }
        let (options, _) = made("client\nremote a\nstatic-challenge \"Your PIN\" 1\n").unwrap();
        assert!(options.contains(&"static_challenge Your PIN 1".to_owned()));
        let (options, _) = made("client\nremote a\nremote b 443 tcp6\nproto tcp\n").unwrap();
        assert_eq!(options.last().unwrap(), "remote [a 1194 tcp|b 443 tcp6]");
        made("client\nremote a\nignore-unknown-option dns-updown\ndns-updown x\n").unwrap();
    }
}
