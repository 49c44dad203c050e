// SPDX-License-Identifier: GPL-2.0-or-later
use super::*;
use crate::keyfile::StaticKey;
use proptest::prelude::*;

const GOOD: &str = "
config interface 'lan'
	option proto 'static'
config interface 'vpn0'
	option proto 'openvpn_dco'
	option mode 'p2p'
	option transport 'udp'
	option local_port '1194'
	list addresses '10.8.0.1/24'
	list addresses 'fd00:8::1/64'
	option mtu '1420'
	option mssfix 'auto'
	option cipher 'aes-256-gcm'
	option hwcrypto 'auto'
	option fwmark ''
config openvpn_dco_vpn0 'alice'
	option description 'Alice'
	option peer_id '1'
	option endpoint_host '192.0.2.1'
	option endpoint_port '1195'
	list vpn_ip '10.8.0.2'
	list allowed_ips '192.168.9.0/24'
	option route_allowed_ips '1'
	option key_file '/etc/ovpn/alice.key'
	option key_direction '0'
	option insecure_static_key '1'
	option keepalive_interval '10'
	option keepalive_timeout '60'
";

/// A key for any path, another one for each; paths with "missing" and "open" fail as [`StaticKey::load`] does.
fn load_key(path: &Path) -> Result<StaticKey, String> {
    let path = path.display().to_string();
    if path.contains("missing") {
        return Err("cannot be read: no such file".into());
    }
    if path.contains("open") {
        return Err("is readable by others (mode 0644): chmod 600 it".into());
    }
    let byte = path.bytes().fold(0u8, u8::wrapping_add);
    let hex = format!("{byte:02x}").repeat(256);
    StaticKey::parse(
        format!(
            "-----BEGIN OpenVPN Static key V1-----\n{hex}\n-----END OpenVPN Static key V1-----"
        )
        .as_bytes(),
    )
}

fn read(text: &str) -> Config {
    let mut config = Config::default();
    config.read_network("network", &uci::File::parse(text.as_bytes()), &load_key);
    config
}

/// All faults of the file as text.
fn faults(text: &str) -> Vec<String> {
    read(text)
        .all_problems()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_whole_file_is_read() {
    let config = read(GOOD);
    assert_eq!(config.all_problems(), (vec![], vec![]));
    assert_eq!(config.interfaces.keys().collect::<Vec<_>>(), ["vpn0"]);
    let vpn0 = config.interfaces["vpn0"].interface.as_ref().unwrap();
    assert_eq!(
        vpn0.socket,
        SocketSpec {
            transport: Transport::Udp,
            port: 1194,
            mark: 0,
            local: None,
            both: false,
        }
    );
    assert_eq!(
        (
            vpn0.mtu,
            vpn0.cipher.to_string().as_str(),
            vpn0.addresses.len()
        ),
        (1420, "aes-256-gcm", 2)
    );
    let [alice] = &vpn0.peers[..] else {
        panic!("{vpn0:?}")
    };
    assert_eq!(
        (alice.name.as_str(), alice.id.get(), alice.route_allowed_ips),
        ("alice", 1, true)
    );
    assert_eq!(
        alice.endpoint.as_ref().and_then(Endpoint::literal),
        Some("192.0.2.1:1195".parse().unwrap())
    );
}

#[test]
fn the_readmes_example_is_faultless_and_complete() {
    let readme = include_str!("../../README.md");
    let example = readme.split("```").nth(1).unwrap();
    let config = read(example);
    assert_eq!(config.all_problems(), (vec![], vec![]));
    assert_eq!(
        config.interfaces["vpn0"]
            .interface
            .as_ref()
            .unwrap()
            .peers
            .len(),
        1
    );
    let options = |text: &str| -> std::collections::BTreeSet<String> {
        let words = text
            .lines()
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
        words
            .filter(|words| matches!(words[..], ["option" | "list", _]))
            .map(|words| words[1].to_owned())
            .collect()
    };
    assert!(options(GOOD).is_subset(&options(example)));
}

#[test]
fn little_is_needed() {
    let config = read(
        "config interface v\noption proto openvpn_dco\n\
         config openvpn_dco_v\noption peer_id 0\noption endpoint_host h.example\noption key_file /k\n\
         option key_direction 1\noption insecure_static_key 1",
    );
    assert_eq!(config.all_problems(), (vec![], vec![]));
    let v = config.interfaces["v"].interface.as_ref().unwrap();
    assert_eq!(
        (v.socket.port, v.mtu, v.cipher.to_string().as_str()),
        (0, 1416, "chacha20-poly1305")
    );
    let endpoint = v.peers[0].endpoint.as_ref().unwrap();
    assert_eq!((endpoint.port, v.peers[0].keepalive.timeout), (1194, 60));
    assert_eq!(
        (v.peers[0].name.as_str(), endpoint.literal()),
        ("@openvpn_dco_v[0]", None)
    );
}

/// (what to replace in the good file, by what, the one fault that results)
const FAULTS: &[(&str, &str, &str)] = &[
    (
        "mode 'p2p'",
        "mode 'tap'",
        "network:6: section 'vpn0', option 'mode': \"tap\" is no mode (p2p, mp)",
    ),
    (
        "transport 'udp'",
        "transport 'sctp'",
        "network:7: section 'vpn0', option 'transport': \"sctp\" is no transport (udp, udp6, tcp, tcp6)",
    ),
    (
        "local_port '1194'",
        "local_port '65536'",
        "network:8: section 'vpn0', option 'local_port': must be a number from 1 to 65535, not \"65536\"",
    ),
    (
        "local_port '1194'",
        "local_port '+1'",
        "network:8: section 'vpn0', option 'local_port': must be a number from 1 to 65535, not \"+1\"",
    ),
    (
        "option local_port",
        "list local_port",
        "network:8: section 'vpn0', option 'local_port': must be an option with one value, not a list",
    ),
    (
        "'10.8.0.1/24'",
        "'10.8.0.1/33'",
        "network:9: section 'vpn0', option 'addresses': \"10.8.0.1/33\" is no IP address with a prefix length",
    ),
    (
        "'fd00:8::1/64'",
        "'10.8.0.1/16'",
        "network:9: section 'vpn0', option 'addresses': 10.8.0.1 is listed twice",
    ),
    (
        "mtu '1420'",
        "mtu '67'",
        "network:11: section 'vpn0', option 'mtu': must be a number from 68 to 65451, not \"67\"",
    ),
    (
        "mssfix 'auto'",
        "mssfix '535'",
        "network:12: section 'vpn0', option 'mssfix': \"535\" is no segment size (auto, off, 536 to 65495)",
    ),
    (
        "'aes-256-gcm'",
        "'bf-cbc'",
        "network:13: section 'vpn0', option 'cipher': \"bf-cbc\" is no cipher (aes-128-gcm, aes-192-gcm, aes-256-gcm, chacha20-poly1305)",
    ),
    (
        "hwcrypto 'auto'",
        "hwcrypto 'a b'",
        "network:14: section 'vpn0', option 'hwcrypto': \"a b\" is no crypto driver (auto, off, on, or a name of /proc/crypto)",
    ),
    (
        "fwmark ''",
        "fwmark '0xg'",
        "network:15: section 'vpn0', option 'fwmark': \"0xg\" is no mark (a 32 bit number, decimal or 0x...)",
    ),
    (
        "'vpn0'",
        "'a_name_too_long_for_it'",
        "network:4: section 'a_name_too_long_for_it': has a name too long for an interface (22 bytes, 15 at most)",
    ),
    (
        "peer_id '1'",
        "peer_id '16777216'",
        "network:18: section 'alice', option 'peer_id': \"16777216\" is no peer id (a number from 0 to 16777215)",
    ),
    (
        "option peer_id '1'",
        "",
        "network:16: section 'alice', option 'peer_id': is missing",
    ),
    (
        "option peer_id",
        "list peer_id",
        "network:18: section 'alice', option 'peer_id': must be an option with one value, not a list",
    ),
    (
        "'192.0.2.1'",
        "'a b'",
        "network:19: section 'alice', option 'endpoint_host': \"a b\" is no host name or address",
    ),
    (
        "'192.0.2.1'",
        "''",
        "network:16: section 'alice', option 'endpoint_host': is missing",
    ),
    (
        "'192.0.2.1'",
        "'2001:db8::1'",
        "network:19: section 'alice', option 'endpoint_host': 2001:db8::1 does not go with transport udp: use udp6",
    ),
    (
        "transport 'udp'",
        "transport 'udp6'",
        "network:19: section 'alice', option 'endpoint_host': 192.0.2.1 does not go with transport udp6: use udp",
    ),
    (
        "'1195'",
        "'0'",
        "network:20: section 'alice', option 'endpoint_port': must be a number from 1 to 65535, not \"0\"",
    ),
    (
        "'10.8.0.2'",
        "'10.8.0'",
        "network:21: section 'alice', option 'vpn_ip': invalid IP address syntax",
    ),
    (
        "'192.168.9.0/24'",
        "'any'",
        "network:22: section 'alice', option 'allowed_ips': \"any\" is no IP address with a prefix length",
    ),
    (
        "route_allowed_ips '1'",
        "route_allowed_ips 'ja'",
        "network:23: section 'alice', option 'route_allowed_ips': must be 0 or 1, not \"ja\"",
    ),
    (
        "/alice.key",
        "/missing.key",
        "network:24: section 'alice', option 'key_file': /etc/ovpn/missing.key cannot be read: no such file",
    ),
    (
        "/alice.key",
        "/open.key",
        "network:24: section 'alice', option 'key_file': /etc/ovpn/open.key is readable by others (mode 0644): chmod 600 it",
    ),
    (
        "/etc/ovpn/",
        "",
        "network:24: section 'alice', option 'key_file': alice.key is no absolute path",
    ),
    (
        "option key_file '/etc/ovpn/alice.key'",
        "",
        "network:16: section 'alice', option 'key_file': is missing",
    ),
    (
        "key_direction '0'",
        "key_direction '2'",
        "network:25: section 'alice', option 'key_direction': \"2\" is no key direction (0 on one side, 1 on the other)",
    ),
    (
        "option insecure_static_key '1'",
        "",
        "network:16: section 'alice', option 'insecure_static_key': must be '1' to use a static key, whose nonces repeat after every restart so that recorded traffic can be decrypted: for tests only",
    ),
    (
        "insecure_static_key '1'",
        "insecure_static_key 'x'",
        "network:26: section 'alice', option 'insecure_static_key': must be 0 or 1, not \"x\"",
    ),
    (
        "option peer_id '1'",
        "option peer_id '1'; option disabled 'x'",
        "network:18: section 'alice', option 'disabled': must be 0 or 1, not \"x\"",
    ),
    (
        "option mode 'p2p'",
        "option mode 'p2p'; option disabled 'x'",
        "network:6: section 'vpn0', option 'disabled': must be 0 or 1, not \"x\"",
    ),
    (
        "insecure_static_key '1'",
        "insecure_static_key '0'",
        "network:26: section 'alice', option 'insecure_static_key': must be '1' to use a static key, whose nonces repeat after every restart so that recorded traffic can be decrypted: for tests only",
    ),
    (
        "_timeout '60'",
        "_timeout '10'",
        "network:28: section 'alice', option 'keepalive_timeout': (10) must be longer than keepalive_interval (10)",
    ),
    (
        "_interval '10'",
        "_interval '86401'",
        "network:27: section 'alice', option 'keepalive_interval': must be a number from 0 to 86400, not \"86401\"",
    ),
    (
        "option description 'Alice'",
        "option description 'Alice",
        "network:17: section 'alice': \"Alice\" is no UCI statement",
    ),
    (
        "openvpn_dco_vpn0",
        "openvpn_dco_vpn9",
        "network:16: section 'alice': is a peer of 'vpn9', but there is no such interface",
    ),
];

#[test]
fn each_fault_is_named_once_by_file_line_section_and_option() {
    for (old, new, fault) in FAULTS {
        let text = GOOD.replacen(old, new, 1);
        assert_ne!(text, GOOD, "{old} is not in the file");
        // A renamed interface takes its peers along.
        let text = if *old == "'vpn0'" {
            text.replace("_vpn0", &format!("_{}", new.trim_matches('\'')))
        } else {
            text
        };
        let found = faults(&text);
        // An open quote ends at the next one and so has more than one consequence.
        if old.contains("description") {
            assert!(
                !found.is_empty() && found.iter().all(|text| text.contains("'alice'")),
                "{found:?}"
            );
        } else {
            assert_eq!(found, [*fault], "{old} -> {new}");
        }
    }
}

/// Section, name and line of each of our options in the good file, and the file with the line changed.
fn options(change: impl Fn(&str, &str) -> String) -> Vec<(&'static str, String, String)> {
    let lines: Vec<&str> = GOOD.lines().collect();
    let own = lines
        .iter()
        .position(|line| line.contains("'vpn0'"))
        .unwrap();
    let mut list = Vec::new();
    let mut section = "";
    for (at, line) in lines.iter().enumerate().skip(own) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["config", _, name] => section = name.trim_matches('\''),
            ["option", name, ..] if name != "proto" => {
                let mut changed: Vec<String> = lines.iter().map(ToString::to_string).collect();
                changed[at] = change(line, name);
                list.push((section, name.to_owned(), changed.join("\n")));
            }
            _ => {}
        }
    }
    list
}

#[test]
fn every_option_that_is_a_list_there_twice_or_misspelt_is_named_once() {
    let of = |section: &str, name: &str| format!("section '{section}', option '{name}': ");
    let warnings = |text: &str| -> Vec<String> {
        let config = read(text);
        let (_, warnings) = config.all_problems();
        warnings.iter().map(ToString::to_string).collect()
    };
    let lists = options(|line, _| line.replace("option", "list"));
    assert_eq!(lists.len(), 18);
    for (section, name, text) in lists {
        let found = faults(&text);
        let said = of(section, &name) + "must be an option with one value, not a list";
        assert!(found.len() == 1 && found[0].ends_with(&said), "{found:?}");
    }
    // An empty option is none, to libuci too.
    let twice = options(|line, _| format!("{line}\n{line}"));
    for (section, name, text) in twice.into_iter().filter(|(_, name, _)| name != "fwmark") {
        assert_eq!(faults(&text), [""; 0], "{name}");
        let (said, found) = (
            of(section, &name) + "is there more than once: the last one counts",
            warnings(&text),
        );
        assert!(found.len() == 1 && found[0].ends_with(&said), "{found:?}");
    }
    let misspelt = options(|line, name| line.replacen(name, &format!("{name}x"), 1));
    for (section, name, text) in misspelt.into_iter().filter(|(_, name, _)| name != "fwmark") {
        let (said, found) = (
            of(section, &(name + "x")) + "is unknown and ignored",
            warnings(&text),
        );
        assert!(found.len() == 1 && found[0].ends_with(&said), "{found:?}");
    }
}

#[test]
fn a_fault_stays_where_it_is() {
    let second = GOOD
        .replace("vpn0", "vpn1")
        .replace("alice", "bob")
        .replace("'1194'", "'1196'")
        .replace("'lan'", "'wan'");
    for (old, new, _) in FAULTS {
        let config = read(&format!("{}{second}", GOOD.replacen(old, new, 1)));
        let vpn1 = config.interfaces["vpn1"].interface.as_ref();
        let peers: usize = vpn1.map_or(0, |vpn1| {
            vpn1.peers.iter().filter(|peer| peer.name == "bob").count()
        });
        assert_eq!(peers, 1, "{old} -> {new} broke vpn1");
    }
}

#[test]
fn all_faults_of_a_section_are_named() {
    let text = GOOD
        .replace("'p2p'", "'x'")
        .replace("'1420'", "'x'")
        .replace("peer_id '1'", "peer_id 'x'")
        .replace("direction '0'", "direction 'x'");
    assert_eq!(faults(&text).len(), 4, "{:?}", faults(&text));
}

fn peer(name: &str, options: &str) -> String {
    let own = format!("config openvpn_dco_vpn0 '{name}'\noption key_file /{name}\n");
    own + "option endpoint_host 192.0.2.9\noption key_direction 0\noption insecure_static_key 1\n"
        + options
}

#[test]
fn clashes_take_out_the_later_one() {
    let mp = GOOD.replace("'p2p'", "'mp'");
    for (text, section, fault) in [
        (
            GOOD.to_owned() + &peer("bob", "option peer_id 2"),
            "bob",
            "a second peer, but mode p2p takes one, which is 'alice'",
        ),
        (
            mp.clone() + &peer("bob", "option peer_id 1\nlist vpn_ip 10.8.0.3"),
            "bob",
            "1 is taken by peer 'alice'",
        ),
        (
            mp.clone() + &peer("bob", "option peer_id 2\nlist vpn_ip 10.8.0.2"),
            "bob",
            "10.8.0.2 is taken by peer 'alice'",
        ),
        (
            mp.clone() + &peer("bob", "option peer_id 2"),
            "bob",
            "is missing: mode mp finds peers by it",
        ),
        (
            mp.clone()
                + &peer(
                    "bob",
                    "option peer_id 2\nlist vpn_ip 1.1.1.1\nlist vpn_ip 1.1.1.2",
                ),
            "bob",
            "more than one address of a family",
        ),
        (
            mp.clone()
                + &peer(
                    "bob",
                    "option peer_id 2\nlist vpn_ip 10.8.0.3\noption key_file '/etc/ovpn/alice.key'",
                ),
            "bob",
            "holds the key of peer 'alice': each peer needs its own",
        ),
        (
            GOOD.to_owned()
                + "config interface 'a'\noption proto openvpn_dco\noption local_port 1194",
            "a",
            "udp port 1194 is taken by interface 'vpn0'",
        ),
    ] {
        let found = faults(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(&format!("section '{section}'")) && found[0].contains(fault),
            "{found:?}"
        );
        assert_eq!(
            read(&text).interfaces["vpn0"]
                .interface
                .as_ref()
                .unwrap()
                .peers
                .len(),
            1
        );
    }
    let other_family = GOOD.to_owned()
        + "config interface 'a'\noption proto openvpn_dco\noption transport udp6\noption local_port 1194";
    assert_eq!(faults(&other_family), [""; 0]);
}

#[test]
fn disabled_sections_are_left_out() {
    let off = GOOD.replace("option mode", "option disabled 1\noption mode");
    assert!(read(&off).interfaces.is_empty() && faults(&off).is_empty());
    let peer_off = GOOD.replace("option peer_id '1'", "option disabled 1");
    assert!(
        read(&peer_off).interfaces["vpn0"]
            .interface
            .as_ref()
            .unwrap()
            .peers
            .is_empty()
            && faults(&peer_off).is_empty()
    );
}

#[test]
fn options_that_do_nothing_are_warned_of_and_netifds_own_are_not() {
    let more = "option auto 1\noption metric 5\nlist ip4table vpn\noption ip6table 7\noption mdoe x\noption mode";
    let config = read(&GOOD.replace("option mode", more));
    let (faults, warnings) = config.all_problems();
    assert!(faults.is_empty());
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let said =
        |line, option, what| format!("network:{line}: section 'vpn0', option '{option}': {what}");
    let main = "is not read: ovpnd makes the routes itself, in the main table";
    let metric = "is not read: ovpnd makes the routes itself, with the kernel's own metric";
    let expected = [
        said(8, "ip4table", main),
        said(9, "ip6table", main),
        said(7, "metric", metric),
        said(10, "mdoe", "is unknown and ignored"),
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn globals_are_read_and_checked() {
    let mut config = Config::default();
    config.read_globals(
        "ovpnd",
        &uci::File::parse(
            b"config ovpnd globals\noption log_level debug\noption stats_interval 30",
        ),
    );
    assert_eq!(
        (config.globals.log_level, config.globals.stats_interval),
        (log::LevelFilter::Debug, 30)
    );
    config.read_globals(
        "ovpnd",
        &uci::File::parse(b"config ovpnd globals\noption log_level loud\noption x 1\nconfig y"),
    );
    let problems: Vec<_> = config
        .problems
        .iter()
        .map(|problem| (problem.line, problem.option.as_deref()))
        .collect();
    assert_eq!(
        problems,
        [(2, Some("log_level")), (3, Some("x")), (4, None)]
    );
}

proptest! {
    #[test]
    fn any_change_of_a_file_is_read_without_panic(at in 0..GOOD.len(), len in 0usize..40, new in ".{0,20}") {
        let mut text = GOOD.to_owned();
        prop_assume!(text.is_char_boundary(at) && text.is_char_boundary((at + len).min(GOOD.len())));
        text.replace_range(at..(at + len).min(GOOD.len()), &new);
        read(&text);
    }
}
