// SPDX-License-Identifier: GPL-2.0-only
//! Routes that ovpnd sets itself: all of a peer's, or none.

use serde_json::Value;

use super::router::{Dir, LATER, Router, SOON, Uci, genkey};
use crate::lab::{Cmd, Pair, wait_for};
use crate::tap::{Case, Outcome};
use crate::{Ctx, check, check_eq};

/// Routes by this interface, of both families, without those that its addresses bring.
fn routes(router: &Router) -> Outcome<String> {
    let of = |version| {
        let line = format!("ip {version} route show dev vpn0 proto static");
        router.ns.cmd(&line).ok()
    };
    Ok(of("-4")? + &of("-6")?)
}

/// Whether `--check` is content with a configuration, and its words.
fn checked(router: &Router, text: &str) -> Outcome<(bool, String)> {
    let dir = Dir::new()?;
    dir.write("network", text)?;
    let line = format!("ovpnd --check --config-dir {}", dir.path().display());
    let done = router.ns.cmd(&line).run(SOON)?;
    Ok((done.status.success(), done.err))
}

/// A default route is set when the endpoint has a better one, and none at all when it has not.
fn default_route(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    b.ip("addr add 203.0.113.1/32 dev lo\naddr add fd00:113::1/128 dev lo")?;
    let own = |networks| Uci::side(1, false, &key).with("allowed_ips", networks);
    let full = own("0.0.0.0/0 ::/0").text();
    let a = Router::start(a, &full, true)?;
    let b = Router::start(b, &Uci::side(2, false, &key).text(), false)?;
    a.reaches("203.0.113.1")?;
    a.reaches("fd00:113::1")?;
    let (content, said) = checked(&a, &full)?;
    check!(content, "--check of the default route: {said}");
    // One of the tunnel's routes would be a better one to the endpoint than the link's: half a tunnel is none.
    let caught = own("0.0.0.0/0 ::/0 10.10.0.0/25").text();
    a.reload(&caught)?;
    check_eq!(routes(&a)?, "", "routes");
    let why = "10.10.0.0/25 would lead the endpoint 10.10.0.2 into the tunnel";
    let error = a.peer("vpn0")?["route_error"].to_string();
    check!(error.contains(why), "peers: {error}");
    let said = a.daemon.stderr();
    check!(said.contains(why), "log: {said}");
    let (content, said) = checked(&a, &caught)?;
    check!(!content && said.contains(why), "--check: {said}");
    // A better way comes, and is found without a call.
    a.ns.ip("route add 10.10.0.2/32 dev veth")?;
    wait_for("all routes", LATER, || {
        Ok((routes(&a)?.lines().count() == 3).then_some(()))
    })?;
    check_eq!(a.peer("vpn0")?["route_error"], Value::Null, "route_error");
    a.reaches("203.0.113.1")?;
    drop(b);
    Ok(())
}

/// The kernel refuses one of a peer's routes: the others go, too, until it takes all.
fn half(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b: _b } = Pair::new()?;
    a.ip("route add 192.168.50.0/24 dev veth")?;
    let networks = "192.168.2.0/24 192.168.50.0/24 192.168.60.0/24";
    let own = Uci::side(1, false, &key).with("allowed_ips", networks);
    let a = Router::start(a, &own.text(), true)?;
    let why = "route to 192.168.50.0/24: another one is there already; none of its routes is set";
    let peer = a.wait_peer("without a route", SOON, |peer| {
        peer["route_error"].is_string()
    })?;
    check_eq!(peer["route_error"], why, "peers");
    check_eq!(
        (&peer["state"], &peer["error"]),
        (&"up".into(), &why.into()),
        "the peer"
    );
    check_eq!(routes(&a)?, "", "routes");
    let said = a.daemon.stderr();
    check!(
        said.contains(&format!("vpn0: peer vpn0_peer: {why}")),
        "log: {said}"
    );
    a.ns.ip("route del 192.168.50.0/24 dev veth")?;
    wait_for("all routes", LATER, || {
        Ok((routes(&a)?.lines().count() == 3).then_some(()))
    })?;
    check_eq!(a.peer("vpn0")?["route_error"], Value::Null, "route_error");
    Ok(())
}

/// One network for two peers is a fault of the second, by its name and the first one's.
fn shared(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b: _b } = Pair::new()?;
    let first = Uci::side(1, false, &key);
    let other = keys.write("other", &Cmd::new(None, "ovpnctl genkey").ok()?)?;
    let second = first.clone().second().with("key_file", &other);
    let second = second.with("allowed_ips", "192.168.2.9/24");
    let both = first.text() + &second.text();
    let a = Router::start(a, &first.text(), true)?;
    let said = "192.168.2.0/24 is routed to peer 'vpn0_peer' of interface 'vpn0' already";
    let (content, log) = checked(&a, &both)?;
    check!(!content && log.contains(said), "--check: {log}");
    let answer = a.reload(&both)?;
    check_eq!(answer["problems"][0]["message"], said, "reload");
    check_eq!(answer["problems"][0]["section"], "vpn1_peer", "reload");
    check_eq!(a.peer("vpn1")?["state"], "error", "the second peer");
    a.wait_peer("up", SOON, |peer| peer["state"] == "up")
        .map(drop)
}

/// Without netifd an interface is up until it is taken down by a call, which outlives the daemon.
fn switch(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    let own = Uci::side(1, false, &key);
    let mut a = Router::start(a, &own.text(), true)?;
    let _b = Router::start(b, &Uci::side(2, false, &key).text(), false)?;
    a.reaches("10.8.0.2")?;
    let of = |reason: &str| serde_json::json!({"interface": "vpn0", "reason": reason});
    a.call_with("down", &of("by hand"))?;
    for _ in 0..2 {
        let interface = a.interface("vpn0")?;
        check_eq!(
            (&interface["state"], &interface["stopped"]),
            (&"stopped".into(), &"by hand".into()),
            "the interface"
        );
        check_eq!(a.ns.ifindex("vpn0")?, None, "vpn0 in the kernel");
        check_eq!(
            a.call("status")?["interfaces"][0]["state"],
            "stopped",
            "status"
        );
        a.crash()?;
        a.start_again()?;
    }
    let answer = a.call_with("up", &serde_json::json!({"interface": "vpn0"}))?;
    let fields = ["ok", "addresses", "routes", "endpoints"].map(|key| &answer[key]);
    let wanted = serde_json::json!([
        true,
        ["10.8.0.1/24", "fd00:8::1/64"],
        ["192.168.2.0/24"],
        ["10.10.0.2"]
    ]);
    check_eq!(serde_json::json!(fields), wanted, "up");
    a.reaches("10.8.0.2")
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("routes: a default route", default_route),
        Case::new("routes: no half of a tunnel", half),
        Case::new("routes: one network, two peers", shared),
        Case::new("down and up by a call", switch),
    ]
}
