// SPDX-License-Identifier: GPL-2.0-or-later
//! Routes, starts and stops, and netifd.
use super::*;

const ROUTES: &str =
    "option route_allowed_ips 1\nlist allowed_ips 192.168.9.7/24\nlist allowed_ips 0.0.0.0/0";

fn routed() -> String {
    uci("v", 1194, "192.0.2.1", ROUTES)
}

impl Test {
    /// The destinations of routes that came and went since the last call, with a sign.
    fn route_steps(&mut self) -> Vec<String> {
        let sign = |op| match op {
            Op::AddRoute(route) => Some(format!("+{}", route.dst)),
            Op::DelRoute(route) => Some(format!("-{}", route.dst)),
            _ => None,
        };
        self.steps().into_iter().filter_map(sign).collect()
    }

    fn outside(&mut self, prefix_len: u8) {
        self.engine.kernel.way = Some(Way {
            prefix_len,
            inside: false,
        });
    }

    fn netifd(text: &str, stopped: Option<&str>) -> Self {
        let mut test = Self {
            engine: Reconciler::new(Fake::default()),
            now: Instant::now(),
        };
        test.engine.netifd = true;
        test.reload_stopped(text, stopped);
        test
    }

    fn reload_stopped(&mut self, text: &str, stopped: Option<&str>) {
        let mut config = Config {
            netifd: self.engine.netifd,
            ..Config::default()
        };
        config.read_network("network", &uci::File::parse(text.as_bytes()), &load_key);
        for entry in config.interfaces.values_mut() {
            entry.stopped = stopped.map(str::to_owned);
        }
        self.engine.configure(config, self.now);
    }

    fn offer(&mut self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let offer = self.engine.start("v", self.now).unwrap().unwrap();
        (
            offer.addresses.iter().map(ToString::to_string).collect(),
            offer.routes.iter().map(|r| r.dst.to_string()).collect(),
            offer.endpoints.iter().map(ToString::to_string).collect(),
        )
    }

    fn renewals(&mut self) -> Vec<Ask> {
        self.engine.asks().into_iter().map(|(_, ask)| ask).collect()
    }
}

const BOTH: [&str; 2] = ["+0.0.0.0/0", "+192.168.9.0/24"];

#[test]
fn a_default_route_is_set_when_the_endpoint_has_a_better_one() {
    let mut test = Test::new("");
    test.outside(32);
    test.reload(&routed());
    assert_eq!(
        (test.route_steps(), test.peer().route_error.clone()),
        (BOTH.map(str::to_owned).to_vec(), None)
    );
    // Routes stay while the peer is away: its traffic must not take another way.
    test.lose(DelReason::Expired);
    assert_eq!(test.steps(), []);
    // The better one goes: none is left, and one that comes back is found by itself.
    test.outside(0);
    test.wait();
    assert_eq!(test.route_steps(), ["-0.0.0.0/0", "-192.168.9.0/24"]);
    test.outside(24);
    test.wait();
    assert_eq!(
        (test.route_steps(), test.peer().route_error.is_none()),
        (BOTH.map(str::to_owned).to_vec(), true)
    );
}

#[test]
fn none_of_the_routes_is_set_when_one_would_catch_the_endpoint() {
    let mut test = Test::new(&routed());
    assert_eq!(test.route_steps(), [""; 0]);
    let error = test.peer().route_error.clone().unwrap();
    assert!(
        error.contains("0.0.0.0/0") && error.contains("192.0.2.1"),
        "{error}"
    );
    let views = test.engine.interfaces["v"].peers(&[], test.now, &mut |_, _| true);
    assert_eq!(
        (&views[0].error, &views[0].route_error),
        (&Some(error.clone()), &Some(error))
    );
    test.reload(&routed().replace("option local_port", "option fwmark 1\noption local_port"));
    assert_eq!(test.route_steps(), BOTH);
    assert_eq!(test.peer().route_error, None);
    assert_eq!(test.engine.next_wait(), None);
}

#[test]
fn none_of_the_routes_is_left_when_the_kernel_refuses_one() {
    let mut test = Test::new("");
    test.outside(32);
    test.engine.kernel.fail = Some(("AddRoute(Route { dst: IpPrefix { addr: 192", None));
    test.reload(&routed());
    assert_eq!(test.route_steps(), ["+0.0.0.0/0", "-0.0.0.0/0"]);
    let error = test.peer().route_error.clone().unwrap();
    assert!(
        error.ends_with("refused; none of its routes is set"),
        "{error}"
    );
    // The peer is there all the same, and the interface has no fault.
    assert!(test.engine.interfaces["v"].has(id()) && test.engine.interfaces["v"].error.is_none());
    test.engine.kernel.fail = None;
    test.wait();
    assert_eq!(test.route_steps(), BOTH);
    assert_eq!(
        (test.peer().route_error.clone(), test.engine.next_wait()),
        (None, None)
    );
}

#[test]
fn a_peer_that_moves_into_a_routed_network_loses_its_routes() {
    let network = ROUTES.replace("0.0.0.0/0", "198.51.100.0/24");
    let mut test = Test::new(&uci("v", 1194, "192.0.2.1", &network));
    assert_eq!(test.route_steps().len(), 2);
    let moved = "198.51.100.7:1194".parse().unwrap();
    test.engine.floated("v", id(), moved, test.now);
    assert_eq!(test.route_steps().len(), 2);
    assert!(
        test.peer()
            .route_error
            .as_ref()
            .unwrap()
            .contains("198.51.100.7")
    );
}

#[test]
fn a_name_is_routed_to_once_it_is_known() {
    let mut test = Test::new("");
    test.outside(32);
    test.reload(&uci("v", 1194, "far.example", ROUTES));
    assert_eq!(test.route_steps(), [""; 0]);
    test.answer(Ok("192.0.2.7:1194"));
    assert_eq!(test.route_steps(), BOTH);
}

#[test]
fn what_is_stopped_is_gone_and_comes_back_when_it_is_started() {
    let text = uci("v", 1194, "192.0.2.1", "");
    let mut test = Test::new(&text);
    test.steps();
    assert!(test.engine.stop("v", "ifdown".into(), test.now));
    assert_eq!(test.names(), ["DeleteLink", "CloseSocket"]);
    let view = test.engine.interfaces["v"].interface();
    assert_eq!(
        (view.up, view.stopped.as_deref(), view.error),
        (false, Some("ifdown"), None)
    );
    let views = test.engine.interfaces["v"].peers(&[], test.now, &mut |_, _| true);
    assert_eq!(views[0].state.to_string(), "stopped");
    test.reload_stopped(&text, Some("ifdown"));
    assert_eq!((test.names(), test.engine.next_wait()), (vec![], None));
    assert!(test.engine.lookups(test.now).is_empty());
    assert!(test.engine.start("v", test.now).unwrap().is_ok());
    assert_eq!(test.names(), ALL);
    assert_eq!(test.engine.interfaces["v"].interface().stopped, None);
    assert!(
        test.engine.start("w", test.now).is_none()
            && !test.engine.stop("w", String::new(), test.now)
    );
}

#[test]
fn with_netifd_addresses_and_routes_are_offered_and_not_set() {
    let mut test = Test::netifd(&routed(), Some("netifd has not started it"));
    assert_eq!(test.names(), [""; 0]);
    let (addresses, routes, endpoints) = test.offer();
    assert_eq!(addresses, ["10.8.0.1/24"]);
    assert_eq!(
        (routes, endpoints),
        (
            vec!["0.0.0.0/0".into(), "192.168.9.0/24".into()],
            vec!["192.0.2.1".into()]
        )
    );
    let steps = test.names();
    assert!(
        !steps
            .iter()
            .any(|op| op.contains("Address") || op.contains("Route")),
        "{steps:?}"
    );
    assert_eq!(test.renewals(), []);
    // Starting it again changes nothing.
    test.offer();
    assert_eq!((test.names(), test.renewals()), (vec![], vec![]));
}

#[test]
fn netifd_is_asked_once_for_what_changes() {
    let mut test = Test::netifd(&routed(), None);
    test.offer();
    let moved = "198.51.100.7:1194".parse().unwrap();
    test.engine.floated("v", id(), moved, test.now);
    assert_eq!(
        (test.renewals(), test.renewals()),
        (vec![Ask::Renew], vec![])
    );
    assert_eq!(test.offer().2, ["198.51.100.7"]);
    assert_eq!(test.renewals(), []);
    test.reload_stopped(&routed().replace("192.168.9.7/24", "192.168.10.0/24"), None);
    assert_eq!(test.renewals(), [Ask::Renew]);
    test.engine.stop("v", "ifdown".into(), test.now);
    assert_eq!(test.renewals(), []);
}

#[cfg(feature = "tls")]
#[test]
fn a_tunnel_with_tls_that_netifd_did_not_ask_for_is_set_up_anew() {
    let client = "option client 1\noption remote '192.0.2.1 1194'\noption auth_user_pass ask";
    let fingerprint = "AA:".repeat(31) + "AA";
    let text = format!(
        "config interface v\noption proto openvpn_dco\n{client}\nlist peer_fingerprint {fingerprint}\n"
    );
    let mut test = Test::netifd(&text, None);
    assert_eq!(
        (test.renewals(), test.renewals()),
        (vec![Ask::Restart], vec![])
    );
    test.offer();
    assert_eq!(test.renewals(), []);
    let mut test = Test::netifd("", None);
    test.engine.kernel.adopted = true;
    test.reload_stopped(&text, None);
    assert_eq!(test.renewals(), [Ask::Renew]);
}

#[test]
fn an_interface_that_netifd_did_not_ask_for_is_set_up_anew() {
    let mut test = Test::netifd(&routed(), None);
    assert_eq!(
        (test.renewals(), test.renewals()),
        (vec![Ask::Restart], vec![])
    );
    test.offer();
    test.engine.kernel.peers.clear();
    test.engine.link_deleted("v", test.now);
    test.wait();
    assert_eq!(test.renewals(), [Ask::Restart]);
    // One that an earlier run left has all that netifd gave it, but netifd may have missed news since.
    let mut test = Test::netifd("", None);
    test.engine.kernel.adopted = true;
    test.reload_stopped(&routed(), None);
    assert_eq!(
        (test.renewals(), test.renewals()),
        (vec![Ask::Renew], vec![])
    );
}

#[test]
fn the_end_leaves_netifds_interfaces_without_peers() {
    let mut test = Test::netifd(&routed(), None);
    test.steps();
    test.engine.shut_down(test.now);
    assert_eq!(test.names(), ["DelPeer", "CloseSocket"]);
}
