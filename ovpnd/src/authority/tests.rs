// SPDX-License-Identifier: GPL-2.0-or-later
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::diag;
use crate::uci;

const NOW: u64 = 1_795_651_200;

/// A directory of keys, gone with its owner.
struct Keys(PathBuf);

impl Keys {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ovpnd-ca-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn made(name: &str) -> (Self, Authority) {
        let keys = Self::new(name);
        let authority = Authority::of(&keys.0, "home").unwrap();
        authority.init(&["vpn.example.org"], CA_YEARS, NOW).unwrap();
        (keys, authority)
    }

    /// The section of a server with the authority's files, and `more` options.
    fn network(&self, authority: &Authority, more: &str) -> uci::File {
        let mut text = format!(
            "config interface 'home'\n\toption proto 'openvpn_dco'\n\toption server '10.8.0.0/24'\n{more}"
        );
        for (option, path) in authority.options() {
            text.push_str(&format!("\toption {option} '{}'\n", path.display()));
        }
        uci::File::parse(text.as_bytes())
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wish() -> Wish {
    Wish {
        interface: "home".into(),
        client: "anna".into(),
        remote: "vpn.example.org".into(),
        years: CLIENT_YEARS,
        renew: false,
    }
}

#[test]
fn an_authority_is_whole_and_roots_alone() {
    let (keys, authority) = Keys::made("init");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&keys.0), 0o700);
    assert_eq!(mode(authority.dir()), 0o700);
    for (_, path) in authority.options() {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&authority.dir().join(CA_KEY)), 0o600);
    // A server runs with it.
    let mut config = crate::config::Config::default();
    let network = keys.network(&authority, "");
    config.read_network("network", &network, &|_| Err("none".into()));
    let (faults, _) = config.all_problems();
    assert!(faults.is_empty(), "{faults:?}");
    let before = fs::read(authority.dir().join(CA_KEY)).unwrap();
    let why = authority.init(&[], CA_YEARS, NOW).unwrap_err().why;
    assert!(why.contains("is there already"), "{why}");
    assert_eq!(fs::read(authority.dir().join(CA_KEY)).unwrap(), before);
    assert_eq!(fs::read_dir(&keys.0).unwrap().count(), 1);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (keys, authority) = Keys::made("names");
    for name in ["", "../x", "a/b", ".a", "a b", &"x".repeat(16)] {
        assert!(Authority::of(&keys.0, name).is_err(), "{name:?}");
    }
    for name in ["", "../x", "a/b", ".a", "-a", "a b", "a\n", &"x".repeat(65)] {
        let why = authority.issue(name, 1, false, NOW).unwrap_err();
        assert_eq!(why.argument, "client", "{name:?}");
    }
    let other = Authority::of(&keys.0, "other").unwrap();
    let why = other.issue("a", 1, false, NOW).unwrap_err().why;
    assert!(why.contains("no certificate authority"), "{why}");
    let why = other.init(&["a b"], 1, NOW).unwrap_err();
    assert_eq!(why.argument, "names");
    assert!(!other.dir().exists());
}

#[test]
fn a_client_has_one_good_certificate_at_most() {
    let (_keys, authority) = Keys::made("clients");
    authority.issue("anna", 5, false, NOW).unwrap();
    authority.issue("ben", 1, false, NOW).unwrap();
    let names = |listing: &Listing| -> Vec<(String, bool)> {
        let clients = listing.clients.iter();
        clients.map(|one| (one.name.clone(), one.revoked)).collect()
    };
    let listing = authority.list(NOW).unwrap();
    assert_eq!(
        names(&listing),
        [("anna".into(), false), ("ben".into(), false)]
    );
    assert_eq!(
        (listing.ca.name.as_str(), listing.server.name.as_str()),
        ("home-ca", "home-server")
    );
    assert_eq!(listing.clients[0].days_left, 1826);
    let why = authority.issue("anna", 5, false, NOW).unwrap_err().why;
    assert!(why.contains("renew"), "{why}");
    let first = authority.certificate(&client_file("anna")).unwrap().serial;
    authority.issue("anna", 5, true, NOW).unwrap();
    assert!(authority.revoked().unwrap().has(&first));
    assert_eq!(names(&authority.list(NOW).unwrap()), names(&listing));
    authority.revoke("anna", NOW).unwrap();
    assert_eq!(
        names(&authority.list(NOW).unwrap()),
        [("anna".into(), true), ("ben".into(), false)]
    );
    assert!(authority.revoke("anna", NOW).is_err());
    assert!(authority.revoke("carl", NOW).is_err());
    // One that was revoked, or has expired, may have another without a word.
    authority.issue("anna", 5, false, NOW).unwrap();
    let later = NOW + 2 * 366 * 86_400;
    authority.issue("ben", 1, false, later).unwrap();
    assert!(
        names(&authority.list(later).unwrap())
            .iter()
            .all(|(_, revoked)| !revoked)
    );
}

#[test]
fn a_profile_is_what_openvpn_and_ovpnd_start_with() {
    let (keys, authority) = Keys::made("export");
    let network = keys.network(
        &authority,
        "\toption port '443'\n\tlist ovpnproto 'tcp6'\n\tlist ovpnproto 'udp6'\n",
    );
    let made = export(&keys.0, &network, &wish(), NOW).unwrap();
    assert_eq!(made.file, "home-anna.ovpn");
    let said = diag::lint(&made.text);
    assert_eq!(said["verdict"], "kernel", "{said}");
    assert_eq!(said["native"]["possible"], true, "{said}");
    assert_eq!(said["remotes"][0], "vpn.example.org:443 udp");
    assert!(
        made.text
            .contains("\nremote vpn.example.org 443 udp\nremote vpn.example.org 443 tcp\n")
    );
    assert!(
        made.text
            .contains("\nverify-x509-name \"home-server\" name\n")
    );
    assert!(!format!("{made:?}").contains("KEY"));
    let key = |text: &str| text.contains("-----BEGIN PRIVATE KEY-----");
    assert!(key(&made.text));
    // It is in the profile and nowhere else.
    for entry in fs::read_dir(authority.dir().join(CLIENTS)).unwrap() {
        assert!(!key(&fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    let why = export(&keys.0, &network, &wish(), NOW).unwrap_err();
    assert_eq!(why.argument, "client");
    let again = Wish {
        renew: true,
        ..wish()
    };
    export(&keys.0, &network, &again, NOW).unwrap();
}

#[test]
fn a_profile_has_the_servers_own_protection() {
    let (keys, authority) = Keys::made("wraps");
    let key = authority.dir().join("static.key");
    let static_key = crate::keyfile::StaticKey::generate().unwrap().to_text();
    fs::write(&key, static_key.as_bytes()).unwrap();
    for (option, more, lines) in [
        ("tls_crypt", "", "<tls-crypt>\n"),
        ("tls_auth", "key_direction '0'", "key-direction 1\n"),
        ("tls_auth", "auth 'SHA256'", "auth SHA256\n"),
        ("tls_crypt", "user_file '/x'", "auth-user-pass\n"),
    ] {
        let mut network = keys.network(
            &authority,
            &format!("\toption {more}\n").replace("\toption \n", ""),
        );
        let section = &mut network.sections[0];
        section.put("tls_crypt_v2", None);
        section.put(option, Some(uci::Value::One(key.display().to_string())));
        let again = Wish {
            renew: true,
            ..wish()
        };
        let made = export(&keys.0, &network, &again, NOW).unwrap();
        assert!(made.text.contains(lines), "{lines}");
        assert!(!made.text.contains("tls-crypt-v2"));
        assert_eq!(diag::lint(&made.text)["verdict"], "kernel");
    }
}

#[test]
fn nothing_is_issued_for_a_server_that_cannot_be() {
    let (keys, authority) = Keys::made("refused");
    let good = keys.network(&authority, "");
    let mut foreign = good.clone();
    foreign.sections[0].put("ca", Some(uci::Value::One("/etc/openvpn/ca.crt".into())));
    let mut gone = good.clone();
    gone.sections[0].put("tls_crypt_v2", Some(uci::Value::One("/nowhere".into())));
    let mut client = good.clone();
    client.sections[0].put("server", None);
    let bad = |change: fn(&mut Wish)| {
        let mut wish = wish();
        change(&mut wish);
        wish
    };
    for (network, wish, argument) in [
        (&foreign, wish(), "interface"),
        (&gone, wish(), "interface"),
        (&client, wish(), "interface"),
        (&good, bad(|wish| wish.interface = "x".into()), "interface"),
        (
            &good,
            bad(|wish| wish.remote = "a\nup /tmp/x".into()),
            "remote",
        ),
        (&good, bad(|wish| wish.remote = String::new()), "remote"),
        (&good, bad(|wish| wish.client = "a b".into()), "client"),
    ] {
        let why = export(&keys.0, network, &wish, NOW).unwrap_err();
        assert_eq!(why.argument, argument, "{}", why.why);
    }
    assert_eq!(authority.list(NOW).unwrap().clients, []);
}

#[test]
fn a_clock_of_1970_is_that_of_the_program() {
    assert_eq!(at(0), build_date());
    assert_eq!(at(build_date() + 1), build_date() + 1);
    // 2026-11-01
    assert!(build_date() >= 1_793_491_200);
}
