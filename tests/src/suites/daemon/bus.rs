// SPDX-License-Identifier: GPL-2.0-only
//! The ubus object on a real broker: what it tells, what it changes, what it refuses, what it announces.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use crate::lab::{Echo, Module, Ns, Pair, Ping, Proc, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

use super::Routers;
use super::router::{Dir, LATER, Router, SOON, Uci, genkey};

/// A server with room for many peers, a client of it, and the key of a second peer.
struct Hub {
    server: Router,
    client: Router,
    keys: Dir,
}

/// Options of the server's first peer, which `client` is.
pub(super) fn server_uci(key: &str) -> Uci {
    Uci::side(1, false, key)
        .with("mode", "mp")
        .with("vpn_ip", "10.8.0.2 fd00:8::2")
        .of_peer("vpn_ip")
}

impl Hub {
    fn new() -> Outcome<Self> {
        let keys = Dir::new()?;
        let key = keys.write("key", &genkey()?)?;
        keys.write("other", &genkey()?)?;
        let Pair { a, b } = Pair::new()?;
        let server = Router::start(a, &server_uci(&key).text(), true)?;
        let client = Router::start(b, &Uci::side(2, false, &key).text(), false)?;
        server.reaches("10.8.0.2")?;
        Ok(Self {
            server,
            client,
            keys,
        })
    }

    /// Arguments that add a second peer.
    fn bob(&self) -> Value {
        json!({"interface": "vpn0", "peer": "bob", "ubus_rpc_session": "0", "options": {
            "peer_id": 2, "endpoint_host": "10.10.0.9", "vpn_ip": ["10.8.0.3"],
            "allowed_ips": ["192.168.9.0/24"], "route_allowed_ips": true,
            "key_file": self.keys.path().join("other"), "key_direction": 0, "insecure_static_key": true,
        }})
    }

    fn kernel_ids(&self) -> Outcome<Vec<u64>> {
        let text = self.server.ns.cmd("ovpnctl show vpn0 --json").ok()?;
        let shown: Value = serde_json::from_str(&text).map_err(Failure::new)?;
        let peers = shown["interfaces"][0]["peers"].as_array().cloned();
        let ids = peers.into_iter().flatten();
        let mut ids: Vec<u64> = ids.filter_map(|peer| peer["peer_id"].as_u64()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Answers about a peer under traffic.
fn told(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    routers.a.peer("vpn0")?;
    let since = Instant::now();
    let pings = Ping::new(IpAddr::from([10, 8, 0, 2]), 150);
    let series = pings.spawn(&routers.a.ns)?;
    let rate = wait_for("a rate", LATER, || {
        let peer = routers.a.peer("vpn0")?;
        Ok(Some(peer).filter(|peer| peer["vpn_rate"]["rx"].as_u64() > Some(0)))
    })?;
    note!(
        "rates after {:.1} s: {} inside, {} outside",
        since.elapsed().as_secs_f64(),
        rate["vpn_rate"],
        rate["link_rate"]
    );
    check!(
        rate["link_rate"]["rx"].as_u64() > rate["vpn_rate"]["rx"].as_u64(),
        "encrypted traffic is not the larger one: {rate}"
    );
    series.finish(pings.limit())?;
    let peer = routers.a.peer("vpn0")?;
    check!(
        peer["last_seen"].as_u64() <= Some(5),
        "last seen: {}",
        peer["last_seen"]
    );
    check!(
        peer["key_age"].is_u64() && peer["connected"].is_u64(),
        "ages: {peer}"
    );
    check_eq!(peer["key_id"], 0, "key id");
    check_eq!(
        (
            peer["drops"].is_object(),
            peer["engine_async"].is_boolean(),
            peer["engine"].is_string()
        ),
        (Module::ours(), Module::ours(), Module::ours()),
        "what kmod-ovpn tells of {peer}"
    );
    let sum = routers.a.interface("vpn0")?;
    check!(
        sum["vpn"]["rx_packets"].as_u64() >= Some(150),
        "sum: {}",
        sum["vpn"]
    );
    let diag = routers.a.call("diag")?;
    let ours = &diag["subjects"][1];
    check_eq!(
        (&ours["name"], &ours["kernel_path"], &ours["findings"]),
        (&json!("vpn0"), &json!(true), &json!([])),
        "diagnosis {diag}"
    );
    let lint = routers.a.call_with(
        "lint",
        &json!({"text": "client\ndev tap\nremote a\nauth-user-pass\nca b\n"}),
    )?;
    check_eq!(
        (
            &lint["verdict"],
            &lint["kernel_path"],
            &lint["findings"][0]["line"]
        ),
        (&json!("userspace"), &json!(false), &json!(2)),
        "{lint}"
    );
    Ok(())
}

/// Peers come, change and go by ubus, and the others lose nothing.
fn changes(_: &Ctx) -> Outcome {
    let hub = Hub::new()?;
    let losses = || hub.client.daemon.stderr().matches("trying again").count();
    let before = losses();
    let series = Echo::new(IpAddr::from([10, 8, 0, 2]), 300).start(&hub.server.ns)?;
    let call = |method: &str, args: &Value| -> Outcome {
        let answer = hub.server.call_with(method, args)?;
        check_eq!(answer["ok"], true, "{method}: {answer}");
        Ok(())
    };
    let bob = |more: Value| {
        let mut args = json!({"interface": "vpn0", "peer": "bob"});
        if let (Some(args), Value::Object(more)) = (args.as_object_mut(), more) {
            args.extend(more);
        }
        args
    };
    call("peer_add", &hub.bob())?;
    check_eq!(hub.kernel_ids()?, [1, 2], "after peer_add");
    let route = hub.server.ns.cmd("ip route get 192.168.9.1").ok()?;
    check!(route.contains("via 10.8.0.3 dev vpn0"), "route: {route}");
    call(
        "peer_set",
        &bob(json!({"options": {"keepalive_interval": 7}})),
    )?;
    let peers = |args: Value| hub.server.call_with("peers", &args);
    let told = peers(bob(json!({})))?["peers"][0].take();
    check_eq!(
        (&told["origin"], &told["keepalive_interval"], &told["state"]),
        (&json!("runtime"), &json!(7), &json!("up")),
        "{told}"
    );
    // A reload of the files keeps it; so does one that has a fault of its own.
    call("reload", &json!({}))?;
    check_eq!(hub.kernel_ids()?, [1, 2], "after reload");
    call("peer_set", &bob(json!({"options": {"disabled": true}})))?;
    check_eq!(hub.kernel_ids()?, [1], "after switching it off");
    let off = peers(bob(json!({})))?["peers"][0].take();
    check_eq!(off["state"], "disabled", "{off}");
    call("peer_set", &bob(json!({"options": {"disabled": null}})))?;
    check_eq!(hub.kernel_ids()?, [1, 2], "after switching it on");
    let page = peers(json!({"interface": "vpn0", "limit": 1}))?;
    check_eq!(
        (&page["total"], &page["next"]),
        (&json!(2), &json!(1)),
        "{page}"
    );
    let page = peers(json!({"interface": "vpn0", "limit": 1, "offset": "1"}))?;
    check_eq!(
        (&page["peers"][0]["name"], &page["next"]),
        (&json!("bob"), &Value::Null),
        "{page}"
    );
    call("peer_del", &bob(json!({})))?;
    check_eq!(hub.kernel_ids()?, [1], "after peer_del");
    call("peer_add", &hub.bob())?;
    call("reload", &json!({"discard": true}))?;
    check_eq!(hub.kernel_ids()?, [1], "after a reload that forgets");
    series.lossless().during("pings to the other peer")?;
    // No address of the kernel's own, from which each end would look for routers that the other must drop.
    for router in [&hub.server, &hub.client] {
        let own = router.ns.cmd("ip -6 addr show dev vpn0 scope link").ok()?;
        check_eq!(own, "", "link-local addresses");
    }
    let none = if Module::ours() {
        json!({})
    } else {
        Value::Null
    };
    check_eq!(
        hub.server.peer("vpn0")?["drops"],
        none,
        "drops of a peer that is well"
    );
    check_eq!(hub.server.peer("vpn0")?["losses"], 0, "losses");
    check_eq!(
        losses(),
        before,
        "losses of the client, which said\n{}",
        hub.client.daemon.stderr()
    );
    Ok(())
}

/// Wrong calls are refused by status and sentence, and change nothing.
fn refusals(_: &Ctx) -> Outcome {
    let hub = Hub::new()?;
    let with = |option: &str, value: Value| {
        let mut args = hub.bob();
        args["options"][option] = value;
        args
    };
    let bob = |key: &str, value: Value| {
        let mut args = hub.bob();
        args[key] = value;
        args
    };
    let none = json!({"interface": "vpn0", "peer": "nobody", "options": {}});
    let cases: &[(&str, Value, &str)] = &[
        ("erase", json!({}), "3"),
        ("interfaces", json!({"interface": "vpn9"}), "4"),
        ("interfaces", json!({"interface": 7}), "2"),
        ("peers", json!({"interface": "vpn9"}), "4"),
        ("peers", json!({"peer": "nobody"}), "4"),
        ("peers", json!({"limit": 0}), "2"),
        ("peers", json!({"limit": 501}), "2"),
        ("peers", json!({"offset": -1}), "2"),
        ("peers", json!({"offset": {"a": [1]}}), "2"),
        ("peer_add", json!({}), "2"),
        ("peer_add", bob("interface", json!("vpn9")), "4"),
        ("peer_add", bob("peer", json!("vpn0_peer")), "2"),
        ("peer_add", bob("peer", json!("../x")), "2"),
        ("peer_add", bob("options", json!("x")), "2"),
        ("peer_add", with("peer_id", json!(1)), "2"),
        ("peer_add", with("peer_id", json!("x")), "2"),
        ("peer_add", with("vpn_ip", json!(["10.8.0.2"])), "2"),
        ("peer_add", with("key_file", json!("/nonexistent")), "2"),
        (
            "peer_add",
            with("key_file", json!(hub.keys.path().join("key"))),
            "2",
        ),
        ("peer_add", with("keepalive_timeout", json!(1)), "2"),
        ("peer_add", with("description", json!({"a": 1})), "2"),
        ("peer_add", with("no_such_option", json!(1)), "2"),
        (
            "peer_add",
            with("description", json!("x".repeat(2000))),
            "2",
        ),
        ("peer_set", none.clone(), "4"),
        (
            "peer_set",
            json!({"interface": "vpn0", "peer": "vpn0_peer", "options": {"peer_id": null}}),
            "2",
        ),
        ("peer_del", none.clone(), "4"),
        ("peer_disconnect", none, "4"),
        (
            "peer_disconnect",
            json!({"interface": "vpn0", "peer": 77}),
            "4",
        ),
        ("key_generate", json!({"file": "../x"}), "2"),
        ("key_import", json!({"file": "x", "text": "y"}), "2"),
        (
            "profile_import",
            json!({"name": "x", "text": "client\nup y\n"}),
            "2",
        ),
        (
            "profile_import",
            json!({"name": "../x", "text": "client\n"}),
            "2",
        ),
        ("reload", json!({"discard": "x"}), "2"),
        ("lint", json!({}), "2"),
    ];
    let lines: String = cases
        .iter()
        .map(|(method, args, _)| {
            format!(
                "{}\n",
                json!({"command": "call", "object": "ovpnd", "method": method, "args": args})
            )
        })
        .collect();
    let before = (
        hub.kernel_ids()?,
        hub.server.interface("vpn0")?["runtime_changes"].clone(),
    );
    let done = hub.server.bus("batch").input(lines).run(LATER)?;
    let answers: Vec<Value> = done
        .out
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    check_eq!(
        answers.len(),
        cases.len(),
        "answers in {}{}",
        done.out,
        done.err
    );
    for (answer, (method, args, status)) in answers.iter().zip(cases) {
        check_eq!(answer["ok"], false, "{method} {args}: {answer}");
        let error = answer["error"].as_str().unwrap_or_default();
        let words: Vec<&str> = error.split(|c: char| !c.is_ascii_digit()).collect();
        check!(
            words.contains(status),
            "{method} {args}: {answer}, not status {status}"
        );
    }
    check_eq!(
        (
            hub.kernel_ids()?,
            hub.server.interface("vpn0")?["runtime_changes"].clone()
        ),
        before,
        "something changed"
    );
    check_eq!(hub.server.peer("vpn0")?["losses"], 0, "losses");
    Ok(())
}

/// Subscribers and listeners are told the same.
fn notifications(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    let mut subscriber = routers.a.bus("subscribe ovpnd").spawn()?;
    let mut listener = routers.a.bus("listen ovpnd.*").spawn()?;
    // A client that has not subscribed yet hears nothing: disturb until both have heard it.
    let heard = |text: &str, ears: [&mut Proc; 2]| -> Outcome {
        wait_for(text, LATER, || {
            let all = ears.iter().all(|ear| ear.stdout().contains(text));
            Ok(all.then_some(()))
        })
        .during(format!(
            "{}; ovpnd: {}",
            ears[0].stdout(),
            routers.a.daemon.stderr()
        ))
    };
    wait_for("ears", LATER, || {
        routers.a.reload("")?;
        routers.a.reload(&routers.uci[0].text())?;
        let both = [&subscriber, &listener]
            .iter()
            .all(|ear| ear.stdout().contains("peer.up"));
        Ok(both.then_some(()))
    })?;
    let away = json!({"interface": "vpn0", "peer": "vpn0_peer"});
    routers.a.call_with("peer_disconnect", &away)?;
    heard("\"reason\":\"userspace\"", [&mut subscriber, &mut listener])?;
    routers
        .a
        .wait_peer("up", LATER, |peer| peer["state"] == "up")?;
    // Another source address of the same peer.
    routers.b.reaches("10.8.0.1")?;
    routers.b.ns.ip("addr del 10.10.0.2/24 dev veth")?;
    routers.b.ns.ip("addr add 10.10.0.7/24 dev veth")?;
    routers.b.reaches("10.8.0.1")?;
    heard("10.10.0.7:1194", [&mut subscriber, &mut listener])?;
    routers.a.reload("")?;
    heard("\"reason\":\"removed\"", [&mut subscriber, &mut listener])?;
    check!(
        listener.stdout().contains("\"event\":\"ovpnd.peer.down\""),
        "{}",
        listener.stdout()
    );
    check!(
        subscriber.stdout().contains("\"event\":\"peer.down\""),
        "{}",
        subscriber.stdout()
    );
    Ok(())
}

/// A tunnel somebody else made on the driver is shown, told of and not changed.
fn observed(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    let dir = Dir::new()?;
    let key = dir.write("key", &genkey()?)?;
    let router = Router::start(ns, "", true)?;
    let ns = &router.ns;
    let ear = router.bus("subscribe ovpnd").spawn()?;
    ns.cmd("ovpnctl new-iface o mode p2p mtu 1300").ok()?;
    ns.ip("addr add 10.9.0.1/24 dev o")?;
    ns.ip("link set o up")?;
    let holder = ns
        .cmd("ovpnctl new-peer o id 7 remote 127.0.0.1:1195 local-port 1194 keepalive 1 60 --foreground")
        .spawn()?;
    wait_for("the peer", SOON, || {
        Ok((router.call("status")?["interfaces"][0]["peers_up"] == 1).then_some(()))
    })?;
    ns.cmd(&format!(
        "ovpnctl new-key o peer 7 cipher aes-128-gcm key-file {key} key-direction 0"
    ))
    .ok()?;
    let interface = router.interface("o")?;
    let fields = ["control", "state", "mode", "transport", "local_port", "mtu"];
    check_eq!(
        json!(fields.map(|field| &interface[field])),
        json!(["observed", "up", "p2p", "udp", 1194, 1300]),
        "interface"
    );
    let addresses = interface["addresses"].as_array();
    check!(
        addresses.is_some_and(|list| list.contains(&json!("10.9.0.1/24"))),
        "addresses of {interface}"
    );
    let peer = &interface["peers"][0];
    let fields = [
        "control",
        "origin",
        "name",
        "state",
        "remote",
        "has_key",
        "key_id",
        "cipher",
        "key_fingerprint",
    ];
    check_eq!(
        json!(fields.map(|field| &peer[field])),
        json!([
            "observed",
            "observed",
            "7",
            "up",
            "127.0.0.1:1195",
            true,
            0,
            "aes-gcm",
            null
        ]),
        "peer"
    );
    let said = router
        .bus("call ovpnd peer_add")
        .arg(r#"{"interface": "o", "peer": "x", "options": {}}"#)
        .run(SOON)?;
    check!(
        !said.status.success(),
        "peer_add on a tunnel of others: {}",
        said.out
    );
    let diag = router.call_with("diag", &json!({"interface": "o"}))?;
    check_eq!(diag["subjects"][0]["kind"], "observed", "{diag}");
    wait_for("the subscriber", LATER, || {
        // A new peer, until the subscription is there.
        router.call("status")?;
        if ear.stdout().contains("peer.") {
            return Ok(Some(()));
        }
        let away = json!({"interface": "o", "peer": 7});
        router.call_with("peer_disconnect", &away).ok();
        ns.cmd("ovpnctl new-peer o id 7 remote 127.0.0.1:1195 local-port 0")
            .run(SOON)?;
        Ok(None)
    })?;
    drop(holder);
    ns.ip("link del o")?;
    wait_for("nothing", SOON, || {
        Ok((router.call("status")?["interfaces"] == json!([])).then_some(()))
    })?;
    ear.signal(libc::SIGTERM);
    Ok(())
}

/// Over TCP: one connects, the other waits; the connection breaks and comes back.
fn tcp(v6: bool) -> Case {
    let transport = if v6 { "tcp6" } else { "tcp" };
    Case::new(format!("two daemons, {transport}"), move |_: &Ctx| {
        let keys = Dir::new()?;
        let file = keys.write("key", &genkey()?)?;
        let Pair { a, b } = Pair::new()?;
        let uci = |own| Uci::side(own, v6, &file).with("transport", transport);
        let a = Router::start(a, &uci(1).with("endpoint_host", "").text(), true)?;
        check_eq!(a.peer("vpn0")?["state"], "waiting", "state before");
        let b = Router::start(b, &uci(2).text(), true)?;
        a.reaches("10.8.0.2")?;
        b.reaches("fd00:8::1")?;
        Ping::new(IpAddr::from([10, 8, 0, 2]), 50).lossless(&a.ns)?;
        check_eq!(a.interface("vpn0")?["transport"], transport, "transport");
        let lost = json!({"interface": "vpn0", "peer": "vpn0_peer"});
        b.call_with("peer_disconnect", &lost)?;
        for router in [&a, &b] {
            let back = router.wait_peer("back", LATER, |peer| {
                peer["losses"].as_u64() >= Some(1) && peer["state"] == "up"
            });
            back?;
        }
        a.reaches("10.8.0.2")?;
        for router in [a, b] {
            let (ns, said) = router.end(libc::SIGTERM)?;
            check_eq!(
                ns.ifindex("vpn0")?,
                None,
                "interface after the end; ovpnd said\n{said}"
            );
        }
        Ok(())
    })
}

/// The broker dies while calls are under way; the daemon is there again on the next one.
fn broker_dies(_: &Ctx) -> Outcome {
    let mut routers = Routers::new(false, |uci| uci)?;
    let line = json!({"command": "call", "object": "ovpnd", "method": "interfaces"});
    for _ in 0..3 {
        let callers: Vec<Proc> = (0..4)
            .map(|_| {
                routers
                    .a
                    .bus("batch")
                    .input(format!("{line}\n").repeat(200))
                    .spawn()
            })
            .collect::<Outcome<_>>()?;
        wait_for("calls", SOON, || {
            Ok(callers
                .iter()
                .all(|caller| !caller.stdout().is_empty())
                .then_some(()))
        })?;
        routers.a.broker = None;
        for caller in callers {
            caller.finish(LATER)?;
        }
        routers.a.start_broker()?;
        check_eq!(routers.a.peer("vpn0")?["losses"], 0, "losses");
    }
    routers.reach()
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("ubus: what is told of a peer", told),
        Case::new("ubus: peers come, change and go", changes),
        Case::new("ubus: wrong calls", refusals),
        Case::new("ubus: notifications and events", notifications),
        Case::new("ubus: tunnels of others", observed),
        tcp(false),
        tcp(true),
        Case::new("the broker dies in the middle of calls", broker_dies),
    ]
}
