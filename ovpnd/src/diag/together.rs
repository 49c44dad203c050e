// SPDX-License-Identifier: GPL-2.0-or-later
//! Directives that OpenVPN 2.7.8 does not start with because of others, or of the lack of them
//! (`src/openvpn/options.c`, options_postprocess_verify_ce; `helper.c`; `ssl_ncp.c`). Files on the router are taken to
//! be there.

mod keys;

use std::net::Ipv4Addr;

use super::ciphers;
use super::file::{ConfigFile, Directive};
use super::options;
use super::remotes::{self, Entry, Proto};
use super::rules::{DEFAULT_CIPHERS, compatible};
use super::{Finding, Severity};

/// Longest ping timeout of a server in seconds, PING_TIMEOUT_MAX / 2 of OpenVPN's ping.h.
const SERVER_TIMEOUT: u64 = 43_200;
/// Bytes of a list of ciphers, MAX_NCP_CIPHERS_LENGTH of OpenVPN's ssl_ncp.h.
const LONGEST_LIST: usize = 127;

/// Directives that TLS alone has a use for.
const TLS_ONLY: [&str; 29] = [
    "ca",
    "capath",
    "cert",
    "crl-verify",
    "hand-window",
    "key",
    "ns-cert-type",
    "pkcs11-id",
    "pkcs11-id-management",
    "pkcs11-private-mode",
    "pkcs11-providers",
    "pkcs12",
    "push-peer-info",
    "remote-cert-eku",
    "remote-cert-ku",
    "remote-cert-tls",
    "reneg-bytes",
    "reneg-pkts",
    "reneg-sec",
    "single-session",
    "tls-auth",
    "tls-cert-profile",
    "tls-cipher",
    "tls-ciphersuites",
    "tls-crypt",
    "tls-crypt-v2",
    "tls-exit",
    "tls-verify",
    "verify-x509-name",
];

/// The kind of device that a configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// IP packets; `null` counts as one.
    Tun,
    /// Ethernet frames.
    Tap,
    /// A name that says neither.
    Unsaid,
}

/// The kind of the device, as dev_type_enum of OpenVPN's tun.c finds it.
pub fn device(file: &ConfigFile) -> Device {
    let of_type = file.word("dev-type");
    let is = |kind: &str| match (of_type, file.word("dev")) {
        (Some(of_type), _) => of_type == kind,
        // Without a word OpenVPN takes dev tun.
        (None, dev) => dev.unwrap_or("tun").starts_with(kind),
    };
    match () {
        () if is("tun") || is("null") => Device::Tun,
        () if is("tap") => Device::Tap,
        () => Device::Unsaid,
    }
}

/// Whether it waits for clients.
pub fn serves(file: &ConfigFile) -> bool {
    ["server", "server-ipv6", "server-bridge"]
        .iter()
        .any(|name| file.has(name))
        || file.word("mode") == Some("server")
}

/// The findings, and as they are found.
struct Judge<'a> {
    file: &'a ConfigFile,
    entries: Vec<Entry>,
    findings: Vec<Finding>,
}

/// Findings about a whole configuration.
pub fn judge(file: &ConfigFile) -> Vec<Finding> {
    let mut judge = Judge {
        file,
        entries: remotes::entries(file, serves(file)),
        findings: Vec::new(),
    };
    judge.roles();
    judge.device();
    judge.ways();
    judge.forced();
    match serves(file) {
        true => judge.server(),
        false => judge.client(),
    }
    judge.tls();
    judge.timers();
    judge.ciphers();
    judge.extras();
    judge.findings
}

impl Judge<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.has(name)
    }

    fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    /// Says what is wrong at the last directive of one of the names.
    fn say(&mut self, code: &'static str, at: &[&str], text: impl Into<String>, remedy: &str) {
        let at = at.iter().find_map(|name| self.file.last(name));
        self.findings.push(Finding {
            line: at.map(|directive| directive.line).filter(|line| *line > 0),
            ..Finding::new(Severity::Error, code, text, remedy)
        });
    }

    /// Says that the first needs the second.
    fn needs(&mut self, name: &str, other: &str) {
        self.say(
            "together",
            &[name],
            format!("{name} needs {other}."),
            &format!("Take the line out, or add {other}."),
        );
    }

    /// Says that two cannot go together.
    fn excludes(&mut self, name: &str, other: &str) {
        self.say(
            "together",
            &[name],
            format!("{name} and {other} cannot go together."),
            "Take one of them out.",
        );
    }

    fn roles(&mut self) {
        let helper = ["server", "server-ipv6", "server-bridge"];
        let server = self.any(&helper) || self.has("tls-server");
        let client = self.any(&["client", "tls-client"]);
        if self.has("client") && self.any(&helper) || client && server {
            self.say(
                "together",
                &["client", "tls-client"],
                "A configuration is of a client or of a server, and not of both.",
                "Take one of them out.",
            );
        }
        let allowed = self.has("allow-deprecated-insecure-static-crypto");
        let secret = self.has("secret");
        if secret && (client || server) {
            self.excludes("secret", if server { "tls-server" } else { "tls-client" });
        } else if !client && !server && !allowed {
            self.say(
                "secret-mode",
                &["secret"],
                match secret {
                    true => "secret uses one static key for all, without TLS: OpenVPN 2.7 does not start with it.",
                    false => "There is neither client nor server, tls-client nor tls-server: OpenVPN 2.7 does not start without TLS.",
                },
                "Use certificates or peer-fingerprint, with tls-server on one side and tls-client on the other; a client's file needs the line client.",
            );
        }
        if self.file.word("mode") == Some("server") && !server {
            self.needs("mode", "tls-server");
        }
        let pulls = self.any(&["client", "pull"]);
        if self.has("pull") && !client && !server {
            self.needs("pull", "tls-client");
        }
        if self.has("auth-user-pass") && !pulls && !serves(self.file) {
            self.needs("auth-user-pass", "pull");
        }
    }

    fn device(&mut self) {
        let device = device(self.file);
        if device == Device::Unsaid && serves(self.file) {
            self.say(
                "dev",
                &["dev"],
                "A server needs dev tun or dev tap.",
                "Add a line dev-type tun.",
            );
        }
        if self.has("lladdr") && device != Device::Tap {
            self.needs("lladdr", "dev tap");
        }
        if self.has("server-bridge") && device != Device::Tap {
            self.needs("server-bridge", "dev tap");
        }
        let own = |name: &str| {
            self.file
                .all(name)
                .any(|directive| directive.connection.is_none())
        };
        if own("tun-mtu") && (own("link-mtu") || own("udp-mtu")) {
            self.excludes("link-mtu", "tun-mtu");
        }
        let Some(ifconfig) = self
            .file
            .last("ifconfig")
            .map(|directive| directive.args.clone())
        else {
            return;
        };
        let [local, remote, ..] = &ifconfig[..] else {
            return;
        };
        let same = self.entries.iter().any(|entry| {
            entry
                .remote
                .as_ref()
                .is_some_and(|host| host == local || host == remote)
        });
        if local == remote
            || same
            || self.file.all("local").any(|directive| {
                directive
                    .args
                    .first()
                    .is_some_and(|host| host == local || host == remote)
            })
        {
            self.say(
                "together",
                &["ifconfig"],
                "ifconfig needs two addresses, and none of remote or local.",
                "Correct the line.",
            );
        }
    }

    /// Rules of the ways to the server.
    fn ways(&mut self) {
        let pull = self.any(&["client", "pull"]);
        let locals: Vec<Directive> = self.file.all("local").cloned().collect();
        let own_port = self.file.directives.iter().rev().find(|directive| {
            directive.connection.is_none() && matches!(directive.name.as_str(), "port" | "lport")
        });
        let own_port = own_port
            .and_then(|directive| directive.args.first())
            .map_or("1194", String::as_str)
            .to_owned();
        let count = self.entries.len();
        let mut said: Vec<&str> = Vec::new();
        for entry in self.entries.clone() {
            let client = entry.proto == Proto::TcpClient;
            let socks = entry.is_udp() && entry.socks_proxy;
            let needs_bind = entry.lport || entry.bind || !locals.is_empty();
            let bound = !entry.nobind && (needs_bind || !(client || socks || pull));
            let same = |local: &Directive| {
                let word = |index: usize| local.args.get(index).map(String::as_str);
                word(0).is_some_and(|host| host != "*")
                    && word(0) == entry.remote.as_deref()
                    && word(1).unwrap_or(&own_port) == entry.port
            };
            let checks: [(bool, &str, &str); 11] = [
                (entry.bind && entry.nobind, "bind", "nobind"),
                (entry.lport && entry.nobind, "lport", "nobind"),
                (
                    !locals.is_empty()
                        && entry.nobind
                        && locals
                            .iter()
                            .any(|local| local.args.first().is_some_and(|host| host != "*")),
                    "local",
                    "nobind",
                ),
                (
                    locals.iter().any(same),
                    "local",
                    "the same address and port as remote",
                ),
                (entry.fragment && !entry.is_udp(), "fragment", "TCP"),
                (entry.http_proxy && !client, "http-proxy", "UDP"),
                (
                    entry.http_proxy && entry.socks_proxy,
                    "http-proxy",
                    "socks-proxy",
                ),
                (
                    entry.socks_proxy && entry.proto == Proto::TcpServer,
                    "socks-proxy",
                    "proto tcp-server",
                ),
                (
                    entry.proto == Proto::TcpServer && count > 1,
                    "remote",
                    "proto tcp-server and another remote",
                ),
                (self.has("mtu-test") && !entry.is_udp(), "mtu-test", "TCP"),
                (entry.tls_auth && entry.tls_crypt, "tls-auth", "tls-crypt"),
            ];
            for (wrong, name, other) in checks {
                if wrong && !said.contains(&name) {
                    said.push(name);
                    let at = if name == "http-proxy" {
                        ["http-proxy", "http-proxy-option", "http-proxy-user-pass"]
                    } else {
                        [name; 3]
                    };
                    self.say(
                        "together",
                        &at,
                        format!("{name} and {other} cannot go together."),
                        "Take one of them out.",
                    );
                }
            }
            if entry.http_proxy && client && !entry.http_server {
                self.needs("http-proxy-option", "http-proxy");
            }
            if entry.tls_crypt_v2
                && (entry.tls_auth || entry.tls_crypt)
                && self.any(&["client", "tls-client"])
            {
                self.excludes(
                    "tls-crypt-v2",
                    if entry.tls_auth {
                        "tls-auth"
                    } else {
                        "tls-crypt"
                    },
                );
            }
            let waits = serves(self.file);
            if entry.remote.is_none() && !bound && !waits && !said.contains(&"none") {
                said.push("none");
                self.nowhere();
            }
        }
    }

    /// Of the ways to the server, `proto-force` leaves those of one protocol.
    fn forced(&mut self) {
        let forced = self.file.word("proto-force").and_then(remotes::proto);
        if forced.is_some_and(|(forced, _)| self.entries.iter().all(|entry| entry.proto != forced))
        {
            self.say(
                "together",
                &["proto-force"],
                "proto-force leaves no way to the server.",
                "Take the line out, or name tcp-client or udp as the remotes have it.",
            );
        }
    }

    /// Says that no server is named.
    fn nowhere(&mut self) {
        let (text, remedy) = match self.file.connections {
            0 => (
                "The text names no server: it has no directive remote.",
                "Add a line like remote vpn.example.org 1194, or take the whole file.",
            ),
            _ => (
                "A <connection> names no server: it has no directive remote.",
                "Add a line like remote vpn.example.org 1194 to it.",
            ),
        };
        self.say("remote", &["connection"], text, remedy);
    }

    fn server(&mut self) {
        for name in [
            "pull",
            "client",
            "remote",
            "connection",
            "nobind",
            "shaper",
            "ipchange",
            "redirect-private",
            "route-delay",
            "up-delay",
            "allow-recursive-routing",
            "auth-user-pass",
            "socks-proxy",
        ] {
            if self.has(name) && !(name == "client" && self.has("server")) {
                self.say(
                    "together",
                    &[name],
                    format!("{name} is for a client, and this is a server."),
                    "Take the line out.",
                );
            }
        }
        let gateway = self.file.all("redirect-gateway").last();
        if gateway.is_some_and(|directive| !directive.args.iter().any(|arg| arg == "!ipv4")) {
            self.say(
                "together",
                &["redirect-gateway"],
                "redirect-gateway is for a client, and this is a server.",
                "Push it: push \"redirect-gateway def1\".",
            );
        }
        if self
            .entries
            .iter()
            .any(|entry| entry.proto == Proto::TcpClient)
        {
            self.say(
                "together",
                &["proto"],
                "A server cannot have proto tcp-client.",
                "Set proto tcp-server.",
            );
        }
        let tcp = self.entries.iter().any(|entry| !entry.is_udp());
        if tcp && self.has("connect-freq") {
            self.excludes("connect-freq", "TCP");
        }
        let local_tcp = self.file.all("local").any(|local| {
            local
                .args
                .get(2)
                .is_some_and(|proto| proto.starts_with("tcp"))
        });
        if self.has("port-share") && !tcp && !local_tcp {
            self.needs("port-share", "proto tcp-server");
        }
        for (name, others) in [
            ("ccd-exclusive", &["client-config-dir"][..]),
            ("ifconfig-ipv6-pool", &["ifconfig-ipv6", "server-ipv6"]),
            (
                "ifconfig-pool-persist",
                &[
                    "ifconfig-pool",
                    "ifconfig-ipv6-pool",
                    "server",
                    "server-ipv6",
                    "server-bridge",
                ],
            ),
            ("vlan-pvid", &["vlan-tagging"]),
        ] {
            if self.has(name) && !self.any(others) {
                self.needs(name, others.first().copied().unwrap_or_default());
            }
        }
        let accepts = self
            .file
            .word("vlan-accept")
            .is_some_and(|word| word != "all");
        if accepts && !self.has("vlan-tagging") {
            self.needs("vlan-accept", "vlan-tagging");
        }
        if self.has("vlan-tagging") && device(self.file) != Device::Tap {
            self.needs("vlan-tagging", "dev tap");
        }
        let checked = self.any(&["auth-user-pass-verify", "plugin", "management-client-auth"]);
        let lax = matches!(
            self.file.word("verify-client-cert"),
            Some("none" | "optional")
        );
        for (there, name) in [
            (lax, "verify-client-cert"),
            (
                self.has("username-as-common-name"),
                "username-as-common-name",
            ),
            (
                self.has("auth-user-pass-optional"),
                "auth-user-pass-optional",
            ),
        ] {
            if there && !checked {
                self.needs(name, "auth-user-pass-verify");
            }
        }
        self.tokens();
        self.network();
    }

    fn number(&self, name: &str, index: usize) -> Option<u64> {
        self.file.last(name)?.args.get(index)?.parse().ok()
    }

    fn tokens(&mut self) {
        let window = self.number("hand-window", 0).unwrap_or(60);
        let renewal = self
            .number("auth-gen-token", 1)
            .filter(|renewal| *renewal > 0);
        if renewal.is_some_and(|renewal| renewal < 2 * window) {
            self.say(
                "together",
                &["auth-gen-token"],
                "auth-gen-token renews in less than twice the time of hand-window.",
                "Renew later.",
            );
        }
        if self.has("auth-gen-token") && self.number("reneg-sec", 0) == Some(0) {
            self.excludes("auth-gen-token", "reneg-sec 0");
        }
    }

    /// The network of `server`.
    fn network(&mut self) {
        if self.has("server") && self.has("server-bridge") {
            self.excludes("server-bridge", "server");
        }
        let pool = self
            .file
            .all("server")
            .last()
            .filter(|server| server.args.len() < 3);
        if pool.is_some() && self.has("ifconfig-pool") {
            self.excludes("ifconfig-pool", "server");
        }
        if self.has("server-ipv6") && self.has("ifconfig-ipv6-pool") {
            self.excludes("ifconfig-ipv6-pool", "server-ipv6");
        }
        let address = |index: usize| {
            self.file
                .last("server")
                .and_then(|server| server.args.get(index)?.parse::<Ipv4Addr>().ok())
        };
        let (Some(network), Some(mask)) = (address(0), address(1)) else {
            return;
        };
        let (network, mask) = (u32::from(network), u32::from(mask));
        let most = if device(self.file) == Device::Tap {
            30
        } else {
            29
        };
        let whole = mask.leading_ones() + mask.trailing_zeros() == 32;
        if !whole || network & !mask != 0 || !(16..=most).contains(&mask.leading_ones()) {
            let text =
                format!("server needs the address of a network and its mask, of /16 to /{most}.");
            self.say(
                "value",
                &["server"],
                text,
                "Correct the line: OpenVPN does not start with it.",
            );
        }
    }

    fn client(&mut self) {
        let server_only = |directive: &&Directive| {
            options::known(&directive.name).is_some_and(|known| known.is('v'))
        };
        let names: Vec<String> = self
            .file
            .directives
            .iter()
            .filter(server_only)
            .map(|directive| directive.name.clone())
            .collect();
        for name in names {
            self.say(
                "together",
                &[&name],
                format!("{name} is for a server, and this is none."),
                "Take the line out.",
            );
        }
        if matches!(
            self.file.word("verify-client-cert"),
            Some("none" | "optional")
        ) {
            self.say(
                "together",
                &["verify-client-cert"],
                "verify-client-cert is for a server, and this is none.",
                "Take the line out.",
            );
        }
        if self
            .file
            .word("vlan-accept")
            .is_some_and(|word| word != "all")
        {
            self.say(
                "together",
                &["vlan-accept"],
                "vlan-accept is for a server, and this is none.",
                "Take the line out.",
            );
        }
        if self.file.all("local").count() > 1 {
            self.say(
                "together",
                &["local"],
                "local may be there more than once for a server alone.",
                "Keep one.",
            );
        }
    }
}
