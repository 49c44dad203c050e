// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use proptest::prelude::*;

fn parse_all(text: &str) -> Result<Options, Refused> {
    Options::parse(text, &Filter::default())
}

fn reason(text: &str) -> String {
    parse_all(text).unwrap_err().to_string()
}

#[test]
fn a_usual_reply_is_read() {
    // As a server of 2.6 with `topology subnet` writes it.
    let options = parse_all(
        "route 10.9.0.0 255.255.255.0,route-ipv6 fd00:1::/64,redirect-gateway def1 ipv6,dhcp-option DNS 10.8.0.1,\
         dhcp-option DOMAIN-SEARCH corp.example,dns server 1 address 10.8.0.2 [fd00::2]:53,\
         dns search-domains a.example b.example,route-gateway 10.8.0.1,topology subnet,ping 10,ping-restart 60,\
         ifconfig-ipv6 fd00::1000/64 fd00::1,ifconfig 10.8.0.4 255.255.255.0,peer-id 3,tun-mtu 1400,\
         cipher AES-256-GCM,protocol-flags cc-exit tls-ekm dyn-tls-crypt,inactive 600 1000",
    )
    .unwrap();
    let local = Prefix {
        address: Ipv4Addr::new(10, 8, 0, 4),
        len: 24,
    };
    assert_eq!(options.ipv4(), Some((local, None)));
    assert_eq!(options.ifconfig_ipv6.map(|p| p.len), Some(64));
    assert_eq!(options.route_gateway, Some(Ipv4Addr::new(10, 8, 0, 1)));
    assert_eq!((options.peer_id, options.tun_mtu), (Some(3), Some(1400)));
    assert_eq!((options.ping, options.ping_timeout), (Some(10), Some(60)));
    assert_eq!(options.inactive, Some((600, 1000)));
    let redirect = Redirect {
        ipv4: true,
        ipv6: true,
        def1: true,
        ..Redirect::default()
    };
    assert_eq!(options.redirect, Some(redirect));
    let servers: Vec<String> = options
        .dns
        .servers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(servers, ["10.8.0.1", "10.8.0.2", "fd00::2"]);
    assert_eq!(
        options.dns.search,
        ["corp.example", "a.example", "b.example"]
    );
    assert_eq!((options.routes.len(), options.routes_ipv6.len()), (1, 1));
    assert!(options.ignored.is_empty(), "{:?}", options.ignored);
}

#[test]
fn routes_have_gateways_and_metrics() {
    let options = parse_all(
        "route 10.1.2.3 255.255.0.0,route 1.2.3.4 255.255.255.255 net_gateway 5,route 9.9.9.9,\
         route 10.2.0.0 255.255.0.0 10.8.0.9,route 0.0.0.0 0.0.0.0 default default,route-ipv6 fd00:1:0:0:7::/32 ::1 9",
    )
    .unwrap();
    let shown: Vec<String> = options
        .routes
        .iter()
        .map(|r| {
            format!(
                "{}/{} {:?} {:?}",
                r.network.address, r.network.len, r.gateway, r.metric
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "10.1.0.0/16 Vpn None",
            "1.2.3.4/32 Net Some(5)",
            "9.9.9.9/32 Vpn None",
            "10.2.0.0/16 Address(10.8.0.9) None",
            "0.0.0.0/0 Vpn None",
        ]
    );
    let route = options.routes_ipv6[0];
    assert_eq!(route.network.address.to_string(), "fd00:1::");
    assert_eq!((route.network.len, route.metric), (32, Some(9)));
}

#[test]
fn what_a_tunnel_cannot_work_with_ends_the_session() {
    for (text, why) in [
        ("comp-lzo no", "compression"),
        ("comp-lzo", "compression"),
        ("compress lz4-v2", "compression"),
        ("compress", "compression"),
        ("fragment 1300", "fragment"),
        ("topology star", "no such topology"),
        ("protocol-flags tls-ekm aead-epoch", "aead-epoch"),
        ("key-derivation other", "derivation"),
        ("ifconfig 10.8.0.1", "arguments"),
        ("ifconfig 10.8.0.1 x", "\"x\" is not valid"),
        ("topology subnet,ifconfig 10.8.0.2 10.8.0.1", "no netmask"),
        (
            "topology subnet,ifconfig 0.0.0.0 255.0.0.0",
            "no address of a host",
        ),
        ("ifconfig-ipv6 fd00::1/129", "at most 128"),
        ("route 10.0.0.0 255.0.255.0", "no netmask"),
        ("route example.org", "not valid"),
        ("peer-id 16777215", "24 bits"),
        ("peer-id -1", "not valid"),
        ("tun-mtu 575", "MTU"),
        ("redirect-gateway def2", "def2"),
        ("dns server 1 transport DoT", "not supported"),
        ("dhcp-option DOMAIN a;b", "no domain name"),
        ("dhcp-option DOMAIN a..b", "no domain name"),
        ("dns search-domains \"a b\"", "no domain name"),
        ("dev-type tap", "TAP"),
        ("ping \"10", "quote"),
        ("ping 10\\", "backslash"),
        ("a b c d e f g h i j k l m n o p q", "16 words"),
    ] {
        let sentence = reason(text);
        assert!(sentence.contains(why), "{text}: {sentence}");
        assert!(sentence.starts_with("the server pushes \""), "{sentence}");
    }
}

#[test]
fn programs_and_unknown_options_are_named_and_left_out() {
    let text = "up /bin/sh,plugin x.so,script-security 2,setenv A b,register-dns,frobnicate 1,ping 5,compress migrate";
    let options = parse_all(text).unwrap();
    assert_eq!(options.ping, Some(5));
    assert_eq!(options.ignored.len(), 7);
    assert!(
        options.ignored[0].contains("\"up /bin/sh\"")
            && options.ignored[0].contains("run programs")
    );
    assert!(options.ignored[5].contains("\"frobnicate 1\""));
}

#[test]
fn nothing_grows_without_bound() {
    let many = |option: &str, count: usize| vec![option.to_owned(); count].join(",");
    assert_eq!(
        parse_all(&many("route 10.0.0.0", MAX_ROUTES))
            .unwrap()
            .routes
            .len(),
        MAX_ROUTES
    );
    assert!(reason(&many("route 10.0.0.0", MAX_ROUTES + 1)).contains("more than"));
    assert!(reason(&many("route-ipv6 fd00::/64", MAX_ROUTES + 1)).contains("more than"));
    let options = parse_all(&many("nonsense", 100)).unwrap();
    assert_eq!(
        (options.ignored.len(), options.more_ignored),
        (MAX_IGNORED, 100 - MAX_IGNORED)
    );
    let servers: Vec<String> = (0..=MAX_DNS)
        .map(|n| format!("dhcp-option DNS 10.0.0.{n}"))
        .collect();
    assert!(reason(&servers.join(",")).contains("DNS servers"));
    let domains: Vec<String> = (0..=MAX_DNS)
        .map(|n| format!("dhcp-option DOMAIN d{n}"))
        .collect();
    assert!(reason(&domains.join(",")).contains("domains"));
}

#[test]
fn filters_are_applied_in_their_order() {
    let rule = |verdict, text: &str| (verdict, text.to_owned());
    let filter = Filter {
        rules: vec![
            rule(Verdict::Accept, "route 10."),
            rule(Verdict::Ignore, "route "),
            rule(Verdict::Reject, "dhcp-option"),
        ],
        no_routes: false,
    };
    let options = Options::parse("route 10.0.0.0,route 11.0.0.0,ping 1", &filter).unwrap();
    assert_eq!((options.routes.len(), options.ping), (1, Some(1)));
    let refused = Options::parse("dhcp-option DNS 1.1.1.1", &filter).unwrap_err();
    assert_eq!(refused.reason, "pull_filter rejects it");
    let filter = Filter {
        rules: Vec::new(),
        no_routes: true,
    };
    let text = "route 10.0.0.0,redirect-gateway,dhcp-option DNS 1.1.1.1,dns search-domains a,route-gateway 10.8.0.1,\
                route-ipv6 fd00::/64,block-ipv6,topology subnet";
    let options = Options::parse(text, &filter).unwrap();
    assert!(
        options.routes.is_empty() && options.routes_ipv6.is_empty() && options.redirect.is_none()
    );
    assert_eq!((options.dns, options.block_ipv6), (Dns::default(), false));
    assert_eq!(
        (options.route_gateway.is_some(), options.topology),
        (true, Topology::Subnet)
    );
}

#[test]
fn old_topologies_have_a_peer() {
    for topology in ["topology net30,", "topology p2p,", ""] {
        let options = parse_all(&format!("{topology}ifconfig 10.8.0.6 10.8.0.5")).unwrap();
        let (local, peer) = options.ipv4().unwrap();
        assert_eq!((local.len, peer), (32, Some(Ipv4Addr::new(10, 8, 0, 5))));
    }
}

#[test]
fn words_are_split_as_openvpn_splits_them() {
    for (text, expected) in [
        ("a  b\tc", Ok(vec!["a", "b", "c"])),
        (r#"a "b c" 'd "e'"#, Ok(vec!["a", "b c", "d \"e"])),
        (r"a\ b '\'", Ok(vec!["a b", r"\"])),
        (r#""a\"b""#, Ok(vec!["a\"b"])),
        ("a # b", Ok(vec!["a"])),
        ("a b#c", Ok(vec!["a", "b#c"])),
        (r#"a """#, Ok(vec!["a", ""])),
        ("", Ok(vec![])),
        ("'a", Err("a quote is not closed")),
    ] {
        let split = words(text);
        let split = split
            .as_ref()
            .map(|w| w.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(split.map_err(|why| *why), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "[ -~]{0,400}") {
        let _ = parse_all(&text);
    }

    #[test]
    fn any_arguments_are_read_without_panic(
        name in prop::sample::select(vec![
            "ifconfig", "ifconfig-ipv6", "route", "route-ipv6", "dns", "dhcp-option", "redirect-gateway", "inactive",
            "tun-mtu", "peer-id", "topology", "protocol-flags",
        ]),
        args in prop::collection::vec(
            prop::sample::select(vec![
                "10.0.0.1", "255.255.255.0", "0.0.0.0", "fd00::/0", "::/128", "default", "server", "1", "address", "DNS",
                "[::1]:53", "[", "4294967296", "-1", "",
            ]),
            0..5,
        ),
    ) {
        let _ = parse_all(&format!("{name} {}", args.join(" ")));
    }
}
