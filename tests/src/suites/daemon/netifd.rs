// SPDX-License-Identifier: GPL-2.0-only
//! netifd's protocol handler on a running daemon: up, renewed, down, and up again, whatever dies in between.

use std::fs;

use serde_json::json;

use super::openwrt::{ASH, INIT, asks};
use super::router::{Dir, LATER, Router, SOON, Uci, genkey};
use crate::lab::{Module, Ns, Pair, wait_for};
use crate::tap::{Case, Failure, Outcome};
use crate::{Ctx, check, check_eq};

pub(super) const HANDLER: &str =
    include_str!("../../../../openwrt-feed/ovpnd/files/openvpn_dco.sh");

/// One step of the handler; what it asks netifd for.
pub(super) fn handler(router: &Router, step: &str, interface: &str) -> Outcome<Vec<String>> {
    asks(router, "handler", HANDLER, step, interface)
}

/// Has updates carried out as netifd would.
pub(super) fn carry_out(router: &Router) -> Outcome {
    router.dir.write("apply", "").map(drop)
}

const UPDATE: &[&str] = &[
    "proto_init_update vpn0 1",
    "proto_add_ipv4_address 10.8.0.1 24",
    "proto_add_ipv6_address fd00:8::1 64",
    "proto_add_ipv4_route 0.0.0.0 1 ",
    "proto_add_ipv4_route 128.0.0.0 1 ",
    "proto_add_ipv6_route :: 1 ",
    "proto_add_ipv6_route 8000:: 1 ",
    "proto_send_update vpn0",
];
const DEPENDENCY: &str = "proto_add_host_dependency vpn0 10.10.0.2 ";
const HOST_ROUTE: &str = r#"call network add_host_route {"target":"10.10.0.2","v6":false,"interface":"vpn0","exclude":true}"#;

/// Both sides of a tunnel, the first with netifd and a full tunnel.
fn sides() -> Outcome<(Router, Router, Uci, Dir)> {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    let own = Uci::side(1, false, &key).with("allowed_ips", "0.0.0.0/1 128.0.0.0/1 ::/0");
    let a = Router::with_netifd(a, &own.text())?;
    let b = Router::start(b, &Uci::side(2, false, &key).text(), false)?;
    carry_out(&a)?;
    Ok((a, b, own, keys))
}

fn is_stopped(router: &Router, reason: &str) -> Outcome {
    let interface = router.interface("vpn0")?;
    check_eq!(
        (&interface["state"], &interface["stopped"]),
        (&json!("stopped"), &json!(reason)),
        "the interface"
    );
    check_eq!(interface["peers"][0]["state"], "stopped", "its peer");
    check_eq!(router.ns.ifindex("vpn0")?, None, "vpn0 in the kernel");
    Ok(())
}

/// netifd starts it, has the way to the endpoint pinned before the routes come, and takes it down.
fn life(_: &Ctx) -> Outcome {
    let (a, _b, own, _keys) = sides()?;
    is_stopped(&a, "netifd has not started it")?;
    a.call("reload")?;
    is_stopped(&a, "netifd has not started it")?;
    let said = handler(&a, "setup", "vpn0")?;
    check_eq!(said, [&[DEPENDENCY], UPDATE].concat(), "setup");
    a.reaches("10.8.0.2")?;
    let route = a.ns.cmd("ip route get 203.0.113.7").ok()?;
    check!(route.contains("dev vpn0"), "{route}");
    let said = handler(&a, "renew", "vpn0")?;
    check_eq!(said, [&[HOST_ROUTE], UPDATE].concat(), "renew");
    check_eq!(a.peer("vpn0")?["losses"], 0, "losses by a renewal");
    // A reload changes nothing that is netifd's.
    let routes = || a.ns.cmd("ip route show dev vpn0").ok();
    let before = routes()?;
    a.call("reload")?;
    check_eq!(routes()?, before, "routes after a reload");
    check_eq!(handler(&a, "teardown", "vpn0")?, [""; 0], "teardown");
    is_stopped(&a, "netifd took it down")?;
    a.call("reload")?;
    is_stopped(&a, "netifd took it down")?;
    check_eq!(
        handler(&a, "setup", "vpn0")?.len(),
        1 + UPDATE.len(),
        "setup"
    );
    a.reaches("10.8.0.2")?;
    // Ways that are somebody else's business, and one that is to be looked for in a given network.
    let pinned = |option| -> Outcome<Vec<String>> {
        a.dir
            .write("network", &own.clone().with(option, "wan").text())?;
        let said = handler(&a, "setup", "vpn0")?;
        let other = said.into_iter().filter(|line| line.contains("dependency"));
        Ok(other.collect())
    };
    let by_wan = format!("{DEPENDENCY}wan");
    check_eq!(pinned("tunlink")?, [by_wan], "tunlink");
    let text = own
        .clone()
        .with("nohostroute", "1")
        .with("fwmark", "7")
        .text();
    a.dir.write("network", &text)?;
    check_eq!(handler(&a, "setup", "vpn0")?, UPDATE, "nohostroute");
    // A section that is gone.
    a.dir.write("network", "")?;
    check_eq!(handler(&a, "teardown", "vpn0")?, [""; 0], "teardown");
    check_eq!(a.ns.ifindex("vpn0")?, None, "vpn0 without a section");
    let kept = a.dir.path().join("state/vpn0");
    check!(!kept.exists(), "{} is left", kept.display());
    Ok(())
}

/// An interface that is down stays down, and one that is up stays up, whichever program dies.
fn deaths(_: &Ctx) -> Outcome {
    let (mut a, _b, _own, _keys) = sides()?;
    handler(&a, "setup", "vpn0")?;
    a.reaches("10.8.0.2")?;
    let index = a.ns.ifindex("vpn0")?;
    // Without its peer it has no carrier, which changes no route.
    let routes_of = |router: &Router| -> Outcome<String> {
        let routes = router.ns.cmd("ip route show dev vpn0").ok()?;
        Ok(routes.replace(" linkdown", ""))
    };
    let routes = routes_of(&a)?;
    a.crash()?;
    check_eq!(routes_of(&a)?, routes, "routes without ovpnd");
    a.start_again()?;
    check_eq!(
        a.ns.ifindex("vpn0")?,
        index,
        "the interface that was taken over"
    );
    check_eq!(routes_of(&a)?, routes, "its routes");
    a.reaches("10.8.0.2")?;
    handler(&a, "teardown", "vpn0")?;
    a.crash()?;
    a.start_again()?;
    is_stopped(&a, "netifd took it down")?;
    // ovpnd is away while netifd takes the interface down.
    handler(&a, "setup", "vpn0")?;
    a.crash()?;
    check_eq!(
        handler(&a, "teardown", "vpn0")?,
        [""; 0],
        "teardown without ovpnd"
    );
    check_eq!(a.ns.ifindex("vpn0")?, None, "vpn0 after that");
    a.start_again()?;
    is_stopped(&a, "netifd took it down")?;
    // The broker is: nothing hangs, and the daemon sees the interface go.
    handler(&a, "setup", "vpn0")?;
    a.broker = None;
    check_eq!(
        handler(&a, "teardown", "vpn0")?,
        [""; 0],
        "teardown without a broker"
    );
    check_eq!(a.ns.ifindex("vpn0")?, None, "vpn0 after that");
    a.start_broker()?;
    is_stopped(&a, "netifd took it down")?;
    handler(&a, "setup", "vpn0")?;
    a.reaches("10.8.0.2")?;
    // An orderly end leaves netifd's interface to the next daemon.
    a.daemon.signal(libc::SIGTERM);
    wait_for("ovpnd to end", SOON, || {
        Ok((!a.daemon.running()).then_some(()))
    })?;
    check!(a.ns.ifindex("vpn0")?.is_some(), "vpn0 after the end");
    a.start_again()?;
    a.reaches("10.8.0.2")
}

/// The reason why an interface cannot come up is told, and netifd tries again after a pause.
fn failures(_: &Ctx) -> Outcome {
    let (mut a, _b, own, _keys) = sides()?;
    let broken = own.text().replace("option mode 'p2p'", "option mode 'tap'");
    a.dir.write("network", &broken)?;
    // netifd sets up again at once: the pause comes before it hears of the failure.
    let failed = |code| {
        let notice = format!("proto_notify_error vpn0 {code}");
        [
            notice,
            "sleep 15".to_owned(),
            "proto_setup_failed vpn0".to_owned(),
        ]
    };
    let said = handler(&a, "setup", "vpn0")?;
    check!(
        said.first()
            .is_some_and(|line| line.contains("option 'mode': \"tap\" is no mode")),
        "{said:?}"
    );
    check_eq!(
        said.get(1..).unwrap_or_default(),
        failed("SETUP_FAILED"),
        "a fault"
    );
    let said = handler(&a, "setup", "vpn9")?;
    check!(
        said.first()
            .is_some_and(|line| line.contains("unknown to ovpnd")),
        "{said:?}"
    );
    a.crash()?;
    check_eq!(
        handler(&a, "setup", "vpn0")?,
        failed("OVPND_MISSING"),
        "no ovpnd"
    );
    let said = handler(&a, "init_config", "")?;
    for line in ["proto_config_add_int local_port", "renew_handler=1"] {
        check!(said.iter().any(|said| said == line), "{said:?}");
    }
    Ok(())
}

/// Every request of a life in which the way to the world goes and comes, the configuration is read again, and the broker starts
/// anew: in order, and by the names that netifd has for them.
fn requests_in_order(_: &Ctx) -> Outcome {
    let (mut a, _b, _own, _keys) = sides()?;
    let mut log = Vec::new();
    let mut step = |router: &Router, step: &str| -> Outcome {
        log.push(format!("-- {step}"));
        log.extend(handler(router, step, "vpn0")?);
        Ok(())
    };
    step(&a, "setup")?;
    a.reaches("10.8.0.2")?;
    // netifd takes down what depends on a way that is gone, and sets it up again when there is one (interface.c).
    a.ns.ip("link set veth down")?;
    step(&a, "teardown")?;
    a.ns.ip("link set veth up")?;
    step(&a, "setup")?;
    a.reaches("10.8.0.2")?;
    // A reload of netifd with the same section asks for a renewal alone.
    a.call("reload")?;
    step(&a, "renew")?;
    a.broker = None;
    a.start_broker()?;
    a.call("status")?;
    step(&a, "renew")?;
    // A page's Stop goes to netifd, which calls the handler; there is none here.
    a.call_with("stop", &json!({"interface": "vpn0"}))?;
    check_eq!(
        a.interface("vpn0")?["state"],
        "up",
        "before netifd stops it"
    );
    step(&a, "teardown")?;
    let setup = [&[DEPENDENCY], UPDATE].concat();
    let renewal = [&[HOST_ROUTE], UPDATE].concat();
    let life = [
        &["-- setup"],
        &setup[..],
        &["-- teardown", "-- setup"],
        &setup,
        &["-- renew"],
        &renewal,
        &["-- renew"],
        &renewal,
        &["-- teardown"],
    ];
    check_eq!(log, life.concat(), "requests");
    crate::note!("{} requests of {} steps by {ASH}", log.len() - 7, 7);
    Ok(())
}

/// Without the driver netifd is told that the interface cannot come up, and why; with it, the next try succeeds.
fn no_driver(ctx: &Ctx) -> Outcome {
    const MODPROBE: &str = "/proc/sys/kernel/modprobe";
    let (a, _b, _own, _keys) = sides()?;
    drop(_b);
    Module::unload()?;
    // The kernel would load its own instead.
    let modprobe = fs::read_to_string(MODPROBE)?;
    fs::write(MODPROBE, "/bin/false")?;
    let said = handler(&a, "setup", "vpn0");
    fs::write(MODPROBE, modprobe.trim_end())?;
    ctx.module.load()?;
    let said = said?;
    check!(
        said.first()
            .is_some_and(|line| line.contains("openvpn_dco vpn0: ") && line.contains("ovpn")),
        "{said:?}"
    );
    let failed = [
        "proto_notify_error vpn0 SETUP_FAILED",
        "sleep 15",
        "proto_setup_failed vpn0",
    ];
    check_eq!(said.get(1..).unwrap_or_default(), failed, "no driver");
    wait_for("the next try", LATER, || {
        let said = handler(&a, "setup", "vpn0")?;
        Ok((said == [&[DEPENDENCY], UPDATE].concat()).then_some(()))
    })
}

/// All that an offer can hold reaches netifd in the right form.
fn offers(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let router = Router::with_netifd(Ns::new()?, &Uci::side(1, false, &key).text())?;
    let answer = json!({
        "ok": true,
        "addresses": ["10.8.0.1/24", "fd00:8::1/64"],
        "routes": ["0.0.0.0/0 via 10.8.0.2", "10.0.0.0/8", "10.1.0.0/16 via 10.8.0.3", "::/0 via fd00:8::2", "fd00:9::/64"],
        "endpoints": ["192.0.2.7", "fd00::7"],
        "dns": ["10.8.0.53", "fd00:8::53"],
        "dns_search": ["lan.example"],
    });
    router.dir.write("answer", &answer.to_string())?;
    let update = [
        "proto_init_update vpn0 1",
        "proto_add_ipv4_address 10.8.0.1 24",
        "proto_add_ipv6_address fd00:8::1 64",
        "proto_add_ipv4_route 0.0.0.0 1 10.8.0.2",
        "proto_add_ipv4_route 128.0.0.0 1 10.8.0.2",
        "proto_add_ipv4_route 10.0.0.0 8 ",
        "proto_add_ipv4_route 10.1.0.0 16 10.8.0.3",
        "proto_add_ipv6_route :: 1 fd00:8::2",
        "proto_add_ipv6_route 8000:: 1 fd00:8::2",
        "proto_add_ipv6_route fd00:9:: 64 ",
        "proto_add_dns_server 10.8.0.53",
        "proto_add_dns_server fd00:8::53",
        "proto_add_dns_search lan.example",
        "proto_send_update vpn0",
    ];
    let pins = ["192.0.2.7 ", "fd00::7 "].map(|to| format!("proto_add_host_dependency vpn0 {to}"));
    let said = handler(&router, "setup", "vpn0")?;
    check_eq!(
        said,
        [&pins[..], &update.map(str::to_owned)].concat(),
        "setup"
    );
    let said = handler(&router, "renew", "vpn0")?;
    let last = said
        .get(1)
        .is_some_and(|line| line.contains(r#""target":"fd00::7","v6":true"#));
    check!(
        last && said.get(2..).unwrap_or_default() == update,
        "{said:?}"
    );
    // No networks, nowhere to go.
    let answer = json!({"ok": true, "addresses": [], "routes": [], "endpoints": []});
    router.dir.write("answer", &answer.to_string())?;
    let said = handler(&router, "setup", "vpn0")?;
    check_eq!(
        said,
        ["proto_init_update vpn0 1", "proto_send_update vpn0"],
        "nothing"
    );
    fs::remove_file(router.dir.path().join("answer"))?;
    Ok(())
}

/// A tunnel of everything leaves the WAN's default route where it is, while it is up and after that. It is one route where
/// another metric or table keeps both apart.
fn everything(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let own = Uci::side(1, false, &key).with("allowed_ips", "0.0.0.0/0 ::/0");
    let Pair { a, b: _b } = Pair::new()?;
    let a = Router::with_netifd(a, &own.text())?;
    carry_out(&a)?;
    let wan = "default via 10.10.0.2 dev veth";
    a.ns.ip("route add default via 10.10.0.2")?;
    handler(&a, "setup", "vpn0")?;
    let at_wan = || Ok::<_, Failure>(a.ns.cmd("ip route show default").ok()?.contains(wan));
    check!(at_wan()?, "the WAN's default route is gone");
    let route = a.ns.cmd("ip route get 203.0.113.7").ok()?;
    check!(route.contains("dev vpn0"), "{route}");
    handler(&a, "teardown", "vpn0")?;
    check!(at_wan()?, "the WAN's default route is gone after the end");
    let (v4, v6) = (
        "proto_add_ipv4_route 0.0.0.0 0 ",
        "proto_add_ipv6_route :: 0 ",
    );
    for (option, value, whole, halves) in [
        ("metric", "7", &[v4, v6][..], 0),
        ("metric", "0", &[], 4),
        ("ip4table", "100", &[v4], 2),
        ("ip6table", "100", &[v6], 2),
        ("defaultroute", "0", &[], 0),
    ] {
        let text = own.clone().with(option, value).text();
        a.dir.write("network", &text)?;
        let said = handler(&a, "renew", "vpn0")?;
        let of_length = |length: &str| -> Vec<_> {
            let routes = said.iter().filter(|line| line.contains("_route "));
            routes.filter(|line| line.ends_with(length)).collect()
        };
        check_eq!(of_length(" 0 "), whole, "{option} {value}");
        check_eq!(of_length(" 1 ").len(), halves, "{option} {value}");
    }
    Ok(())
}

/// A stop of the service takes down what is up, and the next start has that alone brought up; the kill switch is loaded.
fn service(_: &Ctx) -> Outcome {
    let (a, _b, own, _keys) = sides()?;
    let state = a.dir.path().join("state").display().to_string();
    let init = |step: &str| asks(&a, "init", INIT, step, &state);
    check_eq!(init("stop")?, [""; 0], "a stop with nothing up");
    check_eq!(init("started")?, [""; 0], "a start after that");
    handler(&a, "setup", "vpn0")?;
    let call = |method| format!(r#"call network.interface {method} {{"interface":"vpn0"}}"#);
    check_eq!(init("stop")?, [call("down")], "a stop");
    is_stopped(&a, "ovpnd was stopped")?;
    handler(&a, "teardown", "vpn0")?;
    check_eq!(init("started")?, [call("up")], "a start");
    check_eq!(init("started")?, [""; 0], "another start");
    check_eq!(
        init("killswitch")?,
        ["nft -f -: 0"],
        "without a kill switch"
    );
    let wanted = own.with("killswitch", "1").text();
    a.dir.write("network", &wanted)?;
    check_eq!(init("killswitch")?, ["nft -f -: 1"], "with a kill switch");
    fs::remove_file(a.dir.path().join("network"))?;
    check_eq!(
        init("killswitch")?,
        [""; 0],
        "the rules stay without a configuration"
    );
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("netifd: up, renewed, down and up again", life),
        Case::new("netifd: states agree whoever dies", deaths),
        Case::new("netifd: what cannot come up", failures),
        Case::new("netifd: every kind of offer", offers),
        Case::new("netifd: everything, beside the WAN's route", everything),
        Case::new("netifd: requests in their order", requests_in_order),
        Case::new("netifd: no driver", no_driver),
        Case::new("netifd: the service stops and starts", service),
    ]
}
