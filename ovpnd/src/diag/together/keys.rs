// SPDX-License-Identifier: GPL-2.0-or-later
//! Rules of keys, credentials, timers and ciphers.

use super::*;

impl Judge<'_> {
    /// Rules of a tunnel with one static key, where that is allowed at all.
    pub(super) fn no_tls(&mut self) {
        if !self.has("allow-deprecated-insecure-static-crypto") {
            return;
        }
        for name in TLS_ONLY {
            if self.has(name) {
                self.needs(name, "tls-client");
            }
        }
        let cipher = self.file.word("cipher").unwrap_or("BF-CBC");
        let seals = cipher.to_ascii_uppercase();
        let seals = seals.ends_with("GCM") || seals.ends_with("POLY1305");
        if self.has("secret") && (cipher == "BF-CBC" || seals) {
            let text =
                "A static key needs a cipher that OpenVPN has, of those without authentication.";
            self.say(
                "cipher",
                &["cipher", "secret"],
                text,
                "Add a line cipher AES-256-CBC.",
            );
        }
    }

    pub(super) fn tls(&mut self) {
        let client = self.any(&["client", "tls-client"]);
        if !client && !self.has("tls-server") && !serves(self.file) {
            self.no_tls();
            return;
        }
        let prints = self.has("peer-fingerprint");
        if !prints && !self.any(&["ca", "capath", "pkcs12"]) {
            self.say("ca", &[], "There is neither ca nor capath, pkcs12 nor peer-fingerprint: OpenVPN cannot tell the other end from anybody else.", "Take a file with the block <ca>, or add a line ca with its file.");
        }
        if prints && self.has("verify-hash") {
            self.excludes("verify-hash", "peer-fingerprint");
        }
        let level = |name: &str| {
            self.file
                .word(name)
                .and_then(|word| word.strip_prefix("1.")?.parse::<u32>().ok())
        };
        if let (Some(min), Some(max)) = (level("tls-version-min"), level("tls-version-max")) {
            if min > max {
                self.say(
                    "together",
                    &["tls-version-min"],
                    "tls-version-min is above tls-version-max.",
                    "Correct one of them.",
                );
            }
        }
        self.credentials();
    }

    pub(super) fn credentials(&mut self) {
        let external = (
            self.has("management-external-cert"),
            self.has("management-external-key"),
        );
        let (cert, key) = (self.has("cert"), self.has("key"));
        if self.has("pkcs11-providers") {
            if !self.any(&["pkcs11-id", "pkcs11-id-management"]) {
                self.needs("pkcs11-providers", "pkcs11-id");
            }
            for name in [
                "cert",
                "key",
                "pkcs12",
                "management-external-key",
                "management-external-cert",
            ] {
                if self.has(name) {
                    self.excludes(name, "pkcs11-providers");
                }
            }
            return;
        }
        if self.has("pkcs12") {
            for name in [
                "capath",
                "cert",
                "key",
                "management-external-key",
                "management-external-cert",
            ] {
                if self.has(name) {
                    self.excludes(name, "pkcs12");
                }
            }
            return;
        }
        if key && external.1 {
            self.excludes("management-external-key", "key");
        }
        if external.0 && cert {
            self.excludes("management-external-cert", "cert");
        } else if external.0 && !external.1 {
            self.needs("management-external-cert", "management-external-key");
        }
        match (cert || external.0, key || external.1) {
            (true, true) => {}
            (false, false) if self.any(&["client", "pull"]) => {
                if !self.has("auth-user-pass") {
                    self.say("credentials", &[], "There is neither cert with key, pkcs12 nor auth-user-pass: OpenVPN has nothing to show to the server.", "Take a file with the blocks <cert> and <key>, or add the line auth-user-pass.");
                }
            }
            (true, false) => self.needs("cert", "key"),
            (false, true) => self.needs("key", "cert"),
            (false, false) => self.say(
                "credentials",
                &[],
                "There is neither cert with key nor pkcs12.",
                "Add both lines, or the blocks <cert> and <key>.",
            ),
        }
    }

    pub(super) fn timers(&mut self) {
        let (Some(ping), Some(timeout)) =
            (self.number("keepalive", 0), self.number("keepalive", 1))
        else {
            return;
        };
        if timeout < 2 * ping {
            self.say(
                "together",
                &["keepalive"],
                format!("keepalive {ping} {timeout} gives up before two pings are missed."),
                "Set keepalive 10 60.",
            );
        }
        let other = ["ping", "ping-exit", "ping-restart"]
            .into_iter()
            .find(|name| self.number(name, 0).is_some_and(|seconds| seconds > 0));
        if let Some(other) = other {
            self.excludes(other, "keepalive");
        }
        if serves(self.file) && timeout > SERVER_TIMEOUT {
            self.say(
                "together",
                &["keepalive"],
                format!("keepalive of a server gives up after {SERVER_TIMEOUT} seconds at most."),
                "Set keepalive 10 60.",
            );
        }
    }

    pub(super) fn ciphers(&mut self) {
        let list =
            self.file.directives.iter().rev().find(|directive| {
                matches!(directive.name.as_str(), "data-ciphers" | "ncp-ciphers")
            });
        let mut length = 0;
        let mut count = 0_usize;
        for name in list
            .and_then(|list| list.args.first())
            .map_or(DEFAULT_CIPHERS, String::as_str)
            .split(':')
            .filter(|name| !name.is_empty())
        {
            let (optional, bare) = name
                .strip_prefix('?')
                .map_or((false, name), |bare| (true, bare));
            let good = bare == "none" || name == "DEFAULT" || ciphers::is_cipher(bare);
            if good {
                count += 1;
                length += 1 + if name == "DEFAULT" {
                    DEFAULT_CIPHERS.len()
                } else {
                    bare.len()
                };
            } else if !optional {
                self.say(
                    "cipher",
                    &["data-ciphers", "ncp-ciphers"],
                    "data-ciphers names a cipher that OpenVPN does not have: it does not start.",
                    "Offer AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305.",
                );
                return;
            }
        }
        if count == 0 || length > LONGEST_LIST {
            self.say(
                "cipher",
                &["data-ciphers", "ncp-ciphers"],
                "data-ciphers has no cipher that OpenVPN knows, or too many.",
                "Offer AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305.",
            );
        }
        let fallback = self
            .file
            .directives
            .iter()
            .rev()
            .find(|directive| matches!(directive.name.as_str(), "cipher" | "data-ciphers-fallback"))
            .cloned();
        let old = compatible(self.file);
        let forced = self.has("data-ciphers-fallback") || old.is_some_and(|old| old < (2, 5, 0));
        let cipher = fallback
            .as_ref()
            .and_then(|directive| directive.args.first())
            .map(String::as_str);
        let good = match cipher {
            None => old.is_none_or(|old| old >= (2, 4, 0)),
            // Without a fallback OpenVPN passes over its own old default.
            Some("BF-CBC") => !forced,
            Some(cipher) => cipher == "none" || ciphers::is_cipher(cipher),
        };
        if !good {
            let at = fallback.map_or("compat-mode", |directive| {
                if directive.name == "cipher" {
                    "cipher"
                } else {
                    "data-ciphers-fallback"
                }
            });
            self.say(
                "cipher",
                &[at],
                format!("{at} brings a cipher that OpenVPN does not have: it does not start."),
                "Take the line out: all peers since OpenVPN 2.4 negotiate.",
            );
        }
    }

    pub(super) fn extras(&mut self) {
        let managed = self.has("management");
        let options = self.file.directives.iter().find(|directive| {
            directive.name.starts_with("management-")
                && !matches!(
                    directive.name.as_str(),
                    "management-client-user" | "management-client-group"
                )
        });
        let option = options.map(|directive| directive.name.clone());
        if let Some(name) = option.filter(|_| !managed) {
            self.needs(&name, "management");
        }
        let socket = self
            .file
            .last("management")
            .is_some_and(|directive| directive.args.get(1).is_some_and(|port| port == "unix"));
        for name in ["management-client-user", "management-client-group"] {
            if self.has(name) && !socket {
                self.needs(name, "management with unix");
            }
        }
        if self.has("static-challenge") && self.file.word("auth-user-pass") == Some("username-only")
        {
            self.excludes("static-challenge", "auth-user-pass username-only");
        }
        let compresses = self
            .file
            .directives
            .iter()
            .rev()
            .find(|directive| matches!(directive.name.as_str(), "comp-lzo" | "compress"));
        let compresses = compresses.is_some_and(|directive| {
            match (
                directive.name.as_str(),
                directive.args.first().map(String::as_str),
            ) {
                ("comp-lzo", word) => word != Some("no"),
                (_, word) => matches!(word, Some("lzo" | "lz4" | "lz4-v2")),
            }
        });
        let allowed: Vec<String> = self
            .file
            .all("allow-compression")
            .filter_map(|directive| directive.args.first().cloned())
            .collect();
        let no = allowed.iter().position(|word| word == "no");
        if no.is_some() && compresses {
            self.excludes("allow-compression", "compression");
        } else if no.is_some_and(|no| allowed.iter().skip(no).any(|word| word != "no")) {
            self.say(
                "together",
                &["allow-compression"],
                "allow-compression cannot be set to something else after no.",
                "Keep one of the lines.",
            );
        }
        // A server of --dns needs an address before anything else of it counts.
        let servers = |what: &str| -> Vec<String> {
            let of = |directive: &Directive| match &directive.args[..] {
                [server, priority, kind, ..]
                    if server == "server" && (what.is_empty() || kind == what) =>
                {
                    Some(priority.clone())
                }
                _ => None,
            };
            self.file.all("dns").filter_map(of).collect()
        };
        let addressed = servers("address");
        if servers("")
            .iter()
            .any(|priority| !addressed.contains(priority))
        {
            self.say(
                "together",
                &["dns"],
                "dns has a server without an address.",
                "Add a line dns server with its number and address.",
            );
        }
    }
}
