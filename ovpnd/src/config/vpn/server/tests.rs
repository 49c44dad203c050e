// SPDX-License-Identifier: GPL-2.0-or-later
use super::super::tests::Files;
use super::*;

/// A faultless server.
const OPTIONS: [(&str, &str); 6] = [
    ("proto", "openvpn_dco"),
    ("server", "10.8.0.0 255.255.255.0"),
    ("ca", "DIR/ca.crt"),
    ("cert", "DIR/server.crt"),
    ("key", "DIR/server.key"),
    ("remote_cert_tls", "client"),
];

fn text(changes: &[(&str, &str)]) -> String {
    let mut text = "config interface 'vpn'\n".to_owned();
    let stays = |(name, _): &&(&str, &str)| !changes.iter().any(|(changed, _)| changed == name);
    let options = OPTIONS.iter().filter(stays).chain(changes);
    for (name, value) in options.filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("\toption {name} '{value}'\n"));
    }
    text
}

fn read(changes: &[(&str, &str)], more: &str) -> ServerEntry {
    let files = Files::new();
    let mut config = files.config(&(text(changes) + more));
    assert!(config.clients.is_empty());
    config.servers.remove("vpn").unwrap()
}

/// A server with these networks; an empty one is none.
pub(crate) fn spec(v4: &str, v6: &str) -> ServerSpec {
    let entry = read(&[("server", v4), ("server_ipv6", v6)], "");
    assert_eq!(entry.problems, []);
    *entry.spec.unwrap()
}

fn said(list: &[Problem]) -> Vec<(&str, &str)> {
    list.iter()
        .map(|p| (p.option.as_deref().unwrap_or_default(), p.message.as_str()))
        .collect()
}

#[test]
fn a_server_is_read_and_its_defaults_are_openvpns() {
    let entry = read(&[("server_ipv6", "fd00:8::/64")], "");
    assert_eq!(
        (said(&entry.problems), said(&entry.warnings)),
        (vec![], vec![])
    );
    let spec = entry.spec.unwrap();
    let addresses: Vec<String> = spec
        .interface
        .addresses
        .iter()
        .map(|a| a.to_string())
        .collect();
    assert_eq!(addresses, ["10.8.0.1/24", "fd00:8::1/64"]);
    let socket = spec.interface.socket;
    assert_eq!(
        (socket.port, socket.both, socket.local),
        (1194, false, None)
    );
    assert_eq!((spec.max_clients, spec.mtu), (1024, 1500));
    assert_eq!((spec.keepalive.interval, spec.keepalive.timeout), (10, 60));
    assert!(!spec.duplicate_cn && !spec.exclusive);
    assert_eq!(spec.interface.mode, Mode::Mp);
}

#[test]
fn udp6_without_an_address_takes_both_families() {
    let socket = |changes: &[(&str, &str)]| read(changes, "").spec.unwrap().interface.socket;
    let both = socket(&[("ovpnproto", "udp6"), ("port", "443")]);
    assert_eq!((both.both, both.port), (true, 443));
    let one = socket(&[("ovpnproto", "udp6"), ("local", "fd00::1")]);
    assert_eq!((one.both, one.local), (false, "fd00::1".parse().ok()));
}

#[test]
fn users_replace_certificates_where_that_is_said() {
    let logins = |changes: &[(&str, &str)]| {
        let changes = [changes, &[("user_file", "DIR/users")]].concat();
        let entry = read(&changes, "");
        assert_eq!(said(&entry.problems), []);
        let spec = entry.spec.unwrap().logins.unwrap();
        (spec.certless, spec.by_user, spec.optional, spec.tokens)
    };
    let hour = Duration::from_secs(3600);
    assert_eq!(logins(&[]), (false, false, false, None));
    assert_eq!(
        logins(&[("verify_client_cert", "none"), ("auth_gen_token", "0")]),
        (true, true, false, Some(None))
    );
    assert_eq!(
        logins(&[
            ("verify_client_cert", "optional"),
            ("username_as_common_name", "1"),
            ("auth_gen_token", "3600")
        ]),
        (true, true, false, Some(Some(hour)))
    );
    let optional = &[("auth_user_pass_optional", "1")];
    assert_eq!(logins(optional), (false, false, true, None));
}

#[test]
fn a_server_may_listen_on_udp_and_tcp() {
    let sockets = |lines: &str| {
        let files = Files::new();
        let mut config = files.config(&(text(&[]) + lines));
        let entry = config.servers.remove("vpn").unwrap();
        let problems: Vec<String> = entry.problems.iter().map(ToString::to_string).collect();
        let sockets = entry.spec.map(|spec| {
            let Sockets { udp, tcp } = spec.sockets;
            [udp, tcp].map(|s| s.map(|s| (s.transport, s.both)))
        });
        sockets.ok_or_else(|| problems.join(" "))
    };
    use Transport::{Tcp, Tcp6, Udp, Udp6};
    assert_eq!(sockets(""), Ok([Some((Udp, false)), None]));
    let tcp = "\toption ovpnproto 'tcp-server'\n";
    assert_eq!(sockets(tcp), Ok([None, Some((Tcp, false))]));
    let both = "\tlist ovpnproto 'tcp6'\n\tlist ovpnproto 'udp6'\n";
    assert_eq!(sockets(both), Ok([Some((Udp6, true)), Some((Tcp6, true))]));
    let twice = "\tlist ovpnproto 'tcp'\n\tlist ovpnproto 'tcp6'\n";
    let why = sockets(twice).unwrap_err();
    assert!(
        why.contains("tcp and tcp6: use tcp6, which takes both families"),
        "{why}"
    );
}

#[test]
fn faults_name_the_option() {
    for (changes, option, part) in [
        (
            &[("server", "10.8.0.0 255.0.255.0")][..],
            "server",
            "must be a network",
        ),
        (
            &[("server", "10.8.0.1 255.255.255.0")],
            "server",
            "must be a network",
        ),
        (&[("server", "10.8.0.0/30")], "server", "8 to 29"),
        (
            &[("server", ""), ("tls_server", "1")],
            "server",
            "is missing",
        ),
        (&[("server_ipv6", "fd00::/48")], "server_ipv6", "64 to 112"),
        (&[("server_ipv6", "fd00::1/64")], "server_ipv6", "64 to 112"),
        (
            &[("cert", ""), ("key", "")],
            "cert",
            "a server needs a certificate",
        ),
        (
            &[("cert", "DIR/one.crt"), ("key", "DIR/other.key")],
            "key",
            "",
        ),
        (
            &[("remote_cert_tls", "server")],
            "remote_cert_tls",
            "must be client",
        ),
        (&[("topology", "net30")], "topology", "use subnet"),
        (&[("mode", "mp")], "mode", "remove it"),
        (&[("remote", "a.example")], "remote", "waits for clients"),
        (
            &[("client_config_dir", "/x")],
            "client_config_dir",
            "write a section",
        ),
        (
            &[("verify_client_cert", "none")],
            "verify_client_cert",
            "needs user_file",
        ),
        (
            &[("verify_client_cert", "perhaps")],
            "verify_client_cert",
            "must be require",
        ),
        (
            &[("username_as_common_name", "1")],
            "username_as_common_name",
            "needs user_file",
        ),
        (&[("auth_gen_token", "1")], "auth_gen_token", "at least 60"),
        (&[("user_file", "DIR/none")], "user_file", "no such file"),
        (
            &[("user_file", "DIR/login")],
            "user_file",
            "line 1: must be",
        ),
        (
            &[
                ("user_file", "DIR/users"),
                ("verify_client_cert", "optional"),
                ("auth_user_pass_optional", "1"),
            ],
            "auth_user_pass_optional",
            "contradicts",
        ),
        (
            &[("auth_user_pass_verify", "/x via-env")],
            "auth_user_pass_verify",
            "programs are not run",
        ),
        (&[("local", "fd00::1")], "local", "family"),
        (
            &[("ovpnproto", "tcp-client")],
            "ovpnproto",
            "the other end's: use tcp",
        ),
        (
            &[("tls_crypt_v2", "DIR/static.key")],
            "tls_crypt_v2",
            "has no line",
        ),
        (&[("push", "cipher AES-128-GCM")], "push", "by ovpnd itself"),
        (&[("push", "comp-lzo")], "push", "not supported"),
        (&[("push", "a,b")], "push", "cannot be pushed"),
        (&[("max_clients", "0")], "max_clients", "1 to"),
        (&[("keepalive", "10 5")], "keepalive", "twice"),
    ] {
        let entry = read(changes, "");
        assert!(entry.spec.is_none(), "{changes:?}");
        let said = said(&entry.problems);
        assert!(
            said.iter()
                .any(|(o, why)| *o == option && why.contains(part)),
            "{changes:?}: {said:?}"
        );
    }
}

#[test]
fn a_client_contradicts_a_server() {
    let files = Files::new();
    let config = files.config(&text(&[("client", "1")]));
    assert!(config.servers.is_empty());
    let entry = &config.clients["vpn"];
    assert!(said(&entry.problems).contains(&("server", "contradicts client: remove one of them")));
}

const CLIENTS: &str = "\
config openvpn_dco_vpn 'alice'
\toption ifconfig_push '10.8.0.7 255.255.255.0'
\tlist iroute '192.168.7.0 255.255.255.0'
\tlist push 'route 10.1.0.0 255.255.0.0'
config openvpn_dco_vpn 'bob'
\toption common_name 'Bob at home'
\toption disable '1'
";

#[test]
fn sections_of_clients_are_read_by_their_common_names() {
    let entry = read(&[], CLIENTS);
    assert_eq!(
        (said(&entry.problems), said(&entry.warnings)),
        (vec![], vec![])
    );
    let clients = entry.spec.unwrap().clients;
    let alice = &clients["alice"];
    assert_eq!((alice.v4, &alice.refused), ("10.8.0.7".parse().ok(), &None));
    assert_eq!(alice.iroutes, ["192.168.7.0/24".parse().unwrap()]);
    assert_eq!(alice.push, ["route 10.1.0.0 255.255.0.0"]);
    assert!(clients["Bob at home"].refused.is_some());
    assert_eq!(clients.len(), 2);
}

#[test]
fn a_faulty_section_keeps_its_client_out_and_no_other() {
    for (lines, option, part) in [
        (
            "\toption ifconfig_push '10.9.0.7'\n",
            "ifconfig_push",
            "not in",
        ),
        (
            "\toption ifconfig_push '10.8.0.1'\n",
            "ifconfig_push",
            "own",
        ),
        (
            "\toption ifconfig_push '10.8.0.255'\n",
            "ifconfig_push",
            "itself",
        ),
        (
            "\toption ifconfig_push '10.8.0.0'\n",
            "ifconfig_push",
            "itself",
        ),
        ("\toption ifconfig_push 'x'\n", "ifconfig_push", "begin"),
        (
            "\toption ifconfig_push '10.8.0.7'\n",
            "ifconfig_push",
            "\"alice\"",
        ),
        (
            "\toption ifconfig_ipv6_push 'fd00::7'\n",
            "ifconfig_ipv6_push",
            "none of this",
        ),
        ("\tlist iroute '192.168.7.0/24'\n", "iroute", "\"alice\""),
        ("\tlist iroute '192.168.8.1/24'\n", "iroute", "must be"),
        ("\tlist push 'peer-id 1'\n", "push", "itself"),
    ] {
        let more = format!("{CLIENTS}config openvpn_dco_vpn 'carol'\n{lines}");
        let entry = read(&[], &more);
        let said = said(&entry.problems);
        assert!(
            said.iter()
                .any(|(o, why)| *o == option && why.contains(part)),
            "{lines}: {said:?}"
        );
        let clients = entry.spec.unwrap().clients;
        assert!(clients["carol"].refused.is_some(), "{lines}");
        assert_eq!(clients["alice"].refused, None, "{lines}");
    }
}

#[test]
fn a_second_section_of_a_name_opens_nothing() {
    let more =
        format!("{CLIENTS}config openvpn_dco_vpn 'b2'\n\toption common_name 'Bob at home'\n");
    let entry = read(&[], &more);
    assert_eq!(said(&entry.problems).len(), 1);
    assert!(entry.spec.unwrap().clients["Bob at home"].refused.is_some());
}

#[test]
fn the_mark_is_that_of_the_section_without_its_clients() {
    let files = Files::new();
    let mark = |changes: &[(&str, &str)], more: &str| {
        let mut config = files.config(&(text(changes) + more));
        config.servers.remove("vpn").unwrap().spec.unwrap().mark
    };
    assert_eq!(mark(&[], ""), mark(&[], CLIENTS));
    assert_ne!(mark(&[], ""), mark(&[("port", "1195")], ""));
    let before = mark(&[], "");
    files.write(
        "server.crt",
        &(std::fs::read_to_string(files.path("server.crt")).unwrap() + "\n"),
    );
    assert_ne!(mark(&[], ""), before);
}
