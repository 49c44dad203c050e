// SPDX-License-Identifier: GPL-2.0-or-later
//! The ways to the server, as OpenVPN 2.7 puts them together (`src/openvpn/options.c`, add_option and
//! options_postprocess_mutate).
//!
//! A `<connection>` starts with the settings that stand above it and changes them by its own lines in their order.
//! Without one, each `remote` has the settings of the whole file. With one, a `remote` outside does not count.

use super::file::{ConfigFile, Directive};

/// Port of both ends unless one is named: OPENVPN_PORT of OpenVPN's options.h.
const PORT: &str = "1194";

/// Which end opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    /// Datagrams.
    Udp,
    /// A stream whose end is not said.
    Tcp,
    /// A stream that this end opens.
    TcpClient,
    /// A stream that the other end opens.
    TcpServer,
}

/// Reads a protocol and the address family it is bound to, 4 or 6 or 0 for either.
pub(super) fn proto(word: &str) -> Option<(Proto, u8)> {
    let (head, end) = word
        .split_once('-')
        .map_or((word, ""), |(head, end)| (head, end));
    let (name, family) = match head.strip_suffix(['4', '6']) {
        Some(name) if head.ends_with('4') => (name, 4),
        Some(name) => (name, 6),
        None => (head, 0),
    };
    let proto = match (name, end, word.contains('-')) {
        ("udp", "", false) => Proto::Udp,
        ("tcp", "", false) => Proto::Tcp,
        ("tcp", "client", true) => Proto::TcpClient,
        ("tcp", "server", true) => Proto::TcpServer,
        _ => return None,
    };
    Some((proto, family))
}

/// Whether the word names a protocol, in small letters as OpenVPN wants it.
pub fn is_proto(word: &str) -> bool {
    proto(word).is_some()
}

/// A way to the server, or the one way to wait for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named after the directives")]
pub struct Entry {
    pub remote: Option<String>,
    pub port: String,
    pub proto: Proto,
    pub family: u8,
    pub bind: bool,
    pub nobind: bool,
    /// `lport` of more than 0.
    pub lport: bool,
    pub fragment: bool,
    pub http_proxy: bool,
    /// `http-proxy` itself, and not its options alone.
    pub http_server: bool,
    pub socks_proxy: bool,
    pub tls_auth: bool,
    pub tls_crypt: bool,
    pub tls_crypt_v2: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            remote: None,
            port: PORT.to_owned(),
            proto: Proto::Udp,
            family: 0,
            bind: false,
            nobind: false,
            lport: false,
            fragment: false,
            http_proxy: false,
            http_server: false,
            socks_proxy: false,
            tls_auth: false,
            tls_crypt: false,
            tls_crypt_v2: false,
        }
    }
}

impl Entry {
    /// Takes a directive's part in it. A `remote` outside of a `<connection>` is for [`entries`].
    fn take(&mut self, directive: &Directive) {
        let word = directive.args.first().map_or("", String::as_str);
        match directive.name.as_str() {
            "port" | "rport" => self.port = word.to_owned(),
            "lport" => self.lport |= word != "0",
            "proto" => {
                if let Some((proto, family)) = proto(word) {
                    (self.proto, self.family) = (proto, family);
                }
            }
            "remote" if directive.connection.is_some() => self.head_for(directive),
            "bind" => self.bind = true,
            "nobind" => self.nobind = true,
            "fragment" => self.fragment = true,
            "http-proxy" => (self.http_proxy, self.http_server) = (true, true),
            "http-proxy-option" | "http-proxy-user-pass" => self.http_proxy = true,
            "socks-proxy" => self.socks_proxy = true,
            "tls-auth" => self.tls_auth = true,
            "tls-crypt" => self.tls_crypt = true,
            "tls-crypt-v2" => self.tls_crypt_v2 = true,
            _ => {}
        }
    }

    /// Takes a `remote`'s host, port and protocol.
    fn head_for(&mut self, remote: &Directive) {
        let word = |index: usize| remote.args.get(index).cloned();
        self.remote = word(0);
        if let Some(port) = word(1) {
            self.port = port;
        }
        if let Some((proto, family)) = word(2).as_deref().and_then(proto) {
            self.proto = proto;
            if family != 0 {
                self.family = family;
            }
        }
    }

    /// Whether it is of datagrams.
    pub fn is_udp(&self) -> bool {
        self.proto == Proto::Udp
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.remote.as_deref().unwrap_or_default();
        match host.contains(':') {
            true => write!(f, "[{host}]:{} ", self.port)?,
            false => write!(f, "{host}:{} ", self.port)?,
        }
        let (name, end) = match self.proto {
            Proto::Udp => ("udp", ""),
            Proto::Tcp => ("tcp", ""),
            Proto::TcpClient => ("tcp", "-client"),
            Proto::TcpServer => ("tcp", "-server"),
        };
        match self.family {
            0 => write!(f, "{name}{end}"),
            family => write!(f, "{name}{family}{end}"),
        }
    }
}

/// The ways in the order in which OpenVPN tries them; `serves` says which end `proto tcp` is.
pub fn entries(file: &ConfigFile, serves: bool) -> Vec<Entry> {
    let mut whole = Entry::default();
    let mut list: Vec<Entry> = Vec::new();
    for directive in &file.directives {
        match directive.connection {
            None if directive.name == "connection" && directive.inline => list.push(whole.clone()),
            None => whole.take(directive),
            Some(_) => list
                .iter_mut()
                .next_back()
                .into_iter()
                .for_each(|entry| entry.take(directive)),
        }
    }
    let keys = [whole.tls_auth, whole.tls_crypt, whole.tls_crypt_v2];
    if list.is_empty() {
        list = file
            .all("remote")
            .map(|remote| {
                let mut entry = whole.clone();
                entry.head_for(remote);
                entry
            })
            .collect();
    }
    if list.is_empty() {
        list.push(whole);
    }
    for entry in &mut list {
        if entry.proto == Proto::Tcp {
            entry.proto = if serves {
                Proto::TcpServer
            } else {
                Proto::TcpClient
            };
        }
        // A connection's own key stands for those of the file.
        if !(entry.tls_auth || entry.tls_crypt || entry.tls_crypt_v2) {
            [entry.tls_auth, entry.tls_crypt, entry.tls_crypt_v2] = keys;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let list = entries(&ConfigFile::parse(text), false);
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_and_protocols_are_those_of_their_connection() {
        for (text, expected) in [
            ("remote a", &["a:1194 udp"][..]),
            ("rport 6789\nremote a", &["a:6789 udp"]),
            ("remote a\nport 1\nrport 2", &["a:2 udp"]),
            ("remote a\nrport 2\nport 1", &["a:1 udp"]),
            ("lport 3\nremote a", &["a:1194 udp"]),
            (
                "remote a 5 tcp\nremote b\nproto tcp4\nremote ::1 7 udp6",
                &["a:5 tcp4-client", "b:1194 tcp4-client", "[::1]:7 udp6"],
            ),
            ("proto udp6\nremote a 5 tcp", &["a:5 tcp6-client"]),
            (
                "<connection>\nremote a\nport 443\nproto tcp\n</connection>\n<connection>\nremote b\nrport 1195\nproto udp\n</connection>",
                &["a:443 tcp-client", "b:1195 udp"],
            ),
            // Lines above it count, and those below do not.
            (
                "proto tcp\nport 1\n<connection>\nremote a\n</connection>\nport 2\nproto udp",
                &["a:1 tcp-client"],
            ),
            (
                "<connection>\nremote a 5\nport 7\n</connection>",
                &["a:7 udp"],
            ),
            (
                "<connection>\nport 7\nremote a 5\nremote b\n</connection>",
                &["b:5 udp"],
            ),
            (
                "remote a\n<connection>\nremote b\n</connection>\nremote c",
                &["b:1194 udp"],
            ),
            ("proto UDP\nremote a", &["a:1194 udp"]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn names_of_protocols_are_openvpn_s() {
        for word in ["udp", "udp4", "tcp6", "tcp-client", "tcp4-server"] {
            assert!(is_proto(word), "{word}");
        }
        for word in [
            "",
            "UDP",
            "udp-client",
            "tcp-",
            "tcp5",
            "udp46",
            "tcp-client4",
            "tcp4-x",
        ] {
            assert!(!is_proto(word), "{word}");
        }
    }
}
