// SPDX-License-Identifier: GPL-2.0-or-later
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use openvpn_control::generate;
use openvpn_control::keys::Role;

use super::*;
use crate::config::Config;
use crate::uci;

/// Files of a client, gone with their owner.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ovpnd-vpn-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let files = Self(dir);
        let mut random = |out: &mut [u8]| getrandom::getrandom(out).unwrap();
        let term = generate::Term {
            years: 2,
            now: unix_time(),
        };
        let ca = generate::ca("ca", term, &mut random).unwrap();
        files.write("ca.crt", &ca.cert);
        for name in ["one", "other"] {
            let made = generate::issue(&ca, Role::Client, name, &[], term, &mut random);
            let made = made.unwrap();
            files.write(&format!("{name}.crt"), &made.cert);
            files.write(&format!("{name}.key"), &made.key);
        }
        let made = generate::issue(&ca, Role::Server, "server", &[], term, &mut random).unwrap();
        files.write("server.crt", &made.cert);
        files.write("server.key", &made.key);
        files.write(
            "static.key",
            crate::keyfile::StaticKey::generate()
                .unwrap()
                .to_text()
                .as_str(),
        );
        files.write("login", "user\nsecret word\n");
        let hash = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        files.write("users", &format!("anna:{hash}\n"));
        files
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a section of the options of a good client, with `changes`: another value, or none when it is empty.
    fn read(&self, changes: &[(&str, &str)]) -> ClientEntry {
        let mut options = vec![
            ("proto", "openvpn_dco"),
            ("client", "1"),
            ("remote", "vpn.example 1195"),
            ("ca", "DIR/ca.crt"),
            ("cert", "DIR/one.crt"),
            ("key", "DIR/one.key"),
            ("remote_cert_tls", "server"),
        ];
        for (name, value) in changes {
            options.retain(|(known, _)| known != name);
            if !value.is_empty() {
                options.push((name, value));
            }
        }
        let mut text = "config interface 'vpn'\n".to_owned();
        for (name, value) in options {
            let value = value.replace("DIR", &self.0.display().to_string());
            text.push_str(&format!("\toption {name} '{value}'\n"));
        }
        self.load(&text)
    }

    fn load(&self, text: &str) -> ClientEntry {
        self.config(text).clients.remove("vpn").unwrap()
    }

    /// The configuration of a text, in which DIR is the directory of the files.
    pub(super) fn config(&self, text: &str) -> Config {
        let text = text.replace("DIR", &self.0.display().to_string());
        let mut config = Config::default();
        config.read_network("network", &uci::File::parse(text.as_bytes()), &|_| {
            Err("none".into())
        });
        assert!(config.interfaces.is_empty() && config.problems.is_empty());
        config
    }

    /// The faults, as they are logged.
    fn faults(&self, changes: &[(&str, &str)]) -> String {
        let entry = self.read(changes);
        assert_eq!(entry.spec.is_none(), !entry.problems.is_empty());
        let list: Vec<String> = entry.problems.iter().map(ToString::to_string).collect();
        list.join("\n")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_login_may_be_asked_for() {
    let files = Files::new();
    let asks = |options: &[(&str, &str)]| {
        let entry = files.read(options);
        assert_eq!((entry.problems, entry.warnings), (Vec::new(), Vec::new()));
        let spec = entry.spec.unwrap();
        assert!(spec.credentials.is_none());
        spec.asks
    };
    assert_eq!(asks(&[]), None);
    let ask = ("auth_user_pass", "ask");
    assert_eq!(
        asks(&[ask, ("static_challenge", "PIN 1")]),
        Some(Asked::Login)
    );
    let user = Some(Asked::Password("anna".into()));
    assert_eq!(asks(&[ask, ("username", "anna")]), user);
}

#[test]
fn a_client_is_read() {
    let files = Files::new();
    let entry = files.read(&[
        ("tls_crypt", "DIR/static.key"),
        ("auth_user_pass", "DIR/login"),
        ("static_challenge", "\"The code\" 0"),
        ("data_ciphers", "CHACHA20-POLY1305:?AES-128-CCM:AES-128-GCM"),
        ("reneg_sec", "10 10"),
        ("verify_x509_name", "gate name"),
        ("pull_filter", "ignore \"route 10.\""),
        ("keepalive", "5 30"),
        ("tun_mtu", "1400"),
        ("persist_tun", "1"),
    ]);
    assert_eq!((entry.problems, entry.warnings), (Vec::new(), Vec::new()));
    let spec = entry.spec.unwrap();
    assert_eq!(spec.remotes[0].endpoint.to_string(), "vpn.example:1195");
    assert!(matches!(spec.wrap, ClientWrap::Crypt(_)));
    let question = spec.static_challenge.unwrap();
    assert_eq!((question.text.as_str(), question.echo), ("The code", false));
    let login = spec.credentials.unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.as_slice()),
        ("user", &b"secret word"[..])
    );
    assert_eq!(spec.ciphers, [Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm]);
    assert_eq!(spec.timing.renegotiate, Some(Duration::from_secs(10)));
    assert_eq!(
        spec.filter.rules,
        [(Verdict::Ignore, "route 10.".to_owned())]
    );
    assert_eq!(
        spec.keepalive.map(|k| (k.interval, k.timeout)),
        Some((5, 30))
    );
    assert_eq!(spec.mtu, Some(1400));
}

#[test]
fn faults_name_file_section_and_option() {
    let files = Files::new();
    files.write(
        "open.key",
        &fs::read_to_string(files.0.join("one.key")).unwrap(),
    );
    fs::set_permissions(files.0.join("open.key"), Permissions::from_mode(0o644)).unwrap();
    for (changes, option, why) in [
        (&[("remote", "")][..], "remote", "is missing"),
        (&[("remote", "a 0")], "remote", "no valid port"),
        (
            &[("remote", "a 1194 tcp-server")],
            "remote",
            "\"tcp-server\" is the other end's: use tcp",
        ),
        (
            &[("remote", "a 1194 udp x")],
            "remote",
            "a host, a port and a protocol",
        ),
        (
            &[("ovpnproto", "udp-client")],
            "ovpnproto",
            "\"udp-client\" is no protocol: use udp",
        ),
        (&[("key", "")], "key", "is missing: cert is there"),
        (&[("cert", "")], "cert", "is missing: key is there"),
        (
            &[("key", "DIR/other.key")],
            "key",
            "does not belong to the certificate",
        ),
        (
            &[("key", "DIR/open.key")],
            "key",
            "is readable by others (mode 0644)",
        ),
        (&[("key", "DIR/nothing")], "key", "no such file"),
        (&[("key", "DIR/ca.crt")], "key", "no PEM private key"),
        (&[("ca", "DIR/one.key")], "ca", "no PEM certificate"),
        (
            &[("peer_fingerprint", "AA:BB")],
            "peer_fingerprint",
            "no SHA-256 fingerprint",
        ),
        (
            &[("remote_cert_tls", "client")],
            "remote_cert_tls",
            "must be server",
        ),
        (
            &[("tls_version_min", "1.1")],
            "tls_version_min",
            "must be 1.2 or 1.3",
        ),
        (
            &[("tls_version_min", "1.3"), ("tls_version_max", "1.2")],
            "tls_version_max",
            "lower than",
        ),
        (
            &[
                ("tls_auth", "DIR/static.key"),
                ("tls_crypt", "DIR/static.key"),
            ],
            "tls_crypt",
            "contradicts tls_auth",
        ),
        (&[("tls_crypt", "DIR/ca.crt")], "tls_crypt", ""),
        (
            &[("key_direction", "2"), ("tls_auth", "DIR/static.key")],
            "key_direction",
            "0 or 1",
        ),
        (&[("username", "x")], "password", "is missing"),
        (
            &[
                ("auth_user_pass", "DIR/login"),
                ("username", "x"),
                ("password", "y"),
            ],
            "username",
            "contradicts",
        ),
        (
            &[("auth_user_pass", "DIR/ca.crt"), ("ca", "DIR/ca.crt")],
            "",
            "",
        ),
        (
            &[("data_ciphers", "AES-256-CBC")],
            "data_ciphers",
            "\"AES-256-CBC\" is not supported",
        ),
        (
            &[("static_challenge", "PIN 1")],
            "static_challenge",
            "needs a user and a password",
        ),
        (
            &[("password", "x"), ("auth_user_pass", "ask")],
            "password",
            "contradicts auth_user_pass 'ask'",
        ),
        (&[("username", "anna")], "password", "has it asked for"),
        (
            &[("static_challenge", "PIN"), ("auth_user_pass", "DIR/login")],
            "static_challenge",
            "must be a question",
        ),
        (&[("reneg_sec", "2")], "reneg_sec", "at least 5"),
        (
            &[("pull_filter", "drop x")],
            "pull_filter",
            "accept, ignore or reject",
        ),
        (&[("keepalive", "10 15")], "keepalive", "at least twice"),
        (&[("mode", "server")], "mode", "OpenVPN's p2p"),
        (&[("dev_type", "tap")], "dev_type", "use tun"),
        (
            &[("comp_lzo", "yes")],
            "comp_lzo",
            "compression is not supported",
        ),
        (&[("pkcs12", "x.p12")], "pkcs12", "openssl pkcs12"),
        (&[("plugin", "x.so")], "plugin", "not supported"),
        (
            &[("server", "10.8.0.0 255.255.255.0")],
            "server",
            "contradicts client",
        ),
    ] {
        let said = files.faults(changes);
        if option.is_empty() {
            continue;
        }
        assert!(said.starts_with("network:"), "{changes:?}: {said:?}");
        assert!(
            said.contains(&format!("section 'vpn', option '{option}'")),
            "{changes:?}: {said}"
        );
        assert!(said.contains(why), "{changes:?}: {said}");
    }
    let said = files.faults(&[("ca", "")]);
    assert!(said.contains("neither a CA nor a fingerprint"), "{said}");
}

#[test]
fn options_that_are_there_twice_are_a_fault() {
    let files = Files::new();
    let text = "config interface 'vpn'\n\toption proto 'openvpn_dco'\n\toption client '1'\n\toption remote 'a'\n\
                \toption remote 'b'\n";
    let entry = files.load(text);
    let said: Vec<String> = entry.problems.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|said| said.contains("'remote': is there more than once")),
        "{said:?}"
    );
}

#[test]
fn a_list_of_servers_is_kept_in_its_order() {
    let files = Files::new();
    let dir = files.0.display();
    let text = format!(
        "config interface 'vpn'\n\toption proto 'openvpn_dco'\n\toption client '1'\n\toption port '1200'\n\
         \tlist remote 'a'\n\toption ovpnproto 'tcp6-client'\n\tlist remote 'b 1201'\n\tlist remote 'c 1202 udp'\n\tlist remote 'd 1203 tcp4'\n\toption ca '{dir}/ca.crt'\n"
    );
    let entry = files.load(&text);
    assert_eq!(entry.problems, Vec::new());
    let remotes: Vec<String> = entry
        .spec
        .unwrap()
        .remotes
        .iter()
        .map(|remote| format!("{} {}", remote.endpoint, remote.transport))
        .collect();
    assert_eq!(
        remotes,
        ["a:1200 tcp6", "b:1201 tcp6", "c:1202 udp", "d:1203 tcp"]
    );
}

#[test]
fn the_mark_changes_with_options_and_files() {
    let files = Files::new();
    let mark = |changes: &[(&str, &str)]| files.read(changes).spec.unwrap().mark;
    let first = mark(&[("tls_crypt", "DIR/static.key")]);
    assert_eq!(mark(&[("tls_crypt", "DIR/static.key")]), first);
    assert_ne!(
        mark(&[("tls_crypt", "DIR/static.key"), ("tun_mtu", "1400")]),
        first
    );
    files.write(
        "static.key",
        crate::keyfile::StaticKey::generate()
            .unwrap()
            .to_text()
            .as_str(),
    );
    assert_ne!(mark(&[("tls_crypt", "DIR/static.key")]), first);
}
