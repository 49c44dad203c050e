// SPDX-License-Identifier: GPL-2.0-only
//! ovpnd and ovpnctl on the driver: tunnels, reloads, losses, faults, the bus.

mod authority;
mod bus;
mod client;
mod crowd;
mod ctl;
mod faults;
mod killswitch;
mod library;
mod load;
mod matrix;
mod netifd;
mod openwrt;
mod router;
mod routes;
mod server;
mod stock;

use std::fs;
use std::net::IpAddr;

use crate::lab::{Echo, Module, Pair, Ping, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};
use router::{Dir, LATER, Router, SOON, Uci, genkey};

/// Both routers of a tunnel, up and reachable.
struct Routers {
    a: Router,
    b: Router,
    uci: [Uci; 2],
    keys: Dir,
}

impl Routers {
    fn new(v6: bool, change: impl Fn(Uci) -> Uci) -> Outcome<Self> {
        let keys = Dir::new()?;
        let file = keys.write("key", &genkey()?)?;
        let uci = [1, 2].map(|own| change(Uci::side(own, v6, &file)));
        let Pair { a, b } = Pair::new()?;
        let a = Router::start(a, &uci[0].text(), true)?;
        let b = Router::start(b, &uci[1].text(), true)?;
        let routers = Self { a, b, uci, keys };
        routers.reach()?;
        Ok(routers)
    }

    fn reach(&self) -> Outcome {
        for (from, dst) in [
            (&self.a, "10.8.0.2"),
            (&self.a, "fd00:8::2"),
            (&self.b, "10.8.0.1"),
        ] {
            from.reaches(dst)?;
        }
        Ok(())
    }

    fn ping(&self, count: u32) -> Ping {
        Ping::new(IpAddr::from([10, 8, 0, 2]), count)
    }
}

/// A tunnel between two daemons; what the status says of it; no trace after the end.
fn tunnel(v6: bool, cipher: &'static str, signal: i32) -> Case {
    let transport = if v6 { "udp6" } else { "udp" };
    Case::new(
        format!("two daemons, {transport}, {cipher}"),
        move |_: &Ctx| {
            let routers = Routers::new(v6, |uci| uci.with("cipher", cipher))?;
            routers.ping(20).lossless(&routers.a.ns)?;
            let interface = routers.a.interface("vpn0")?;
            let fields = [
                "state",
                "error",
                "mode",
                "transport",
                "local_port",
                "cipher",
                "mtu",
            ]
            .map(|key| &interface[key]);
            let wanted = serde_json::json!(["up", null, "p2p", transport, 1194, cipher, 1416]);
            check_eq!(serde_json::json!(fields), wanted, "interface");
            let peer = &interface["peers"][0];
            let fields =
                ["name", "peer_id", "state", "error", "has_key", "losses"].map(|key| &peer[key]);
            check_eq!(
                serde_json::json!(fields),
                serde_json::json!(["vpn0_peer", 1, "up", null, true, 0]),
                "peer"
            );
            for counter in ["vpn", "link"] {
                for key in ["rx_bytes", "tx_bytes", "rx_packets", "tx_packets"] {
                    check!(
                        peer[counter][key].as_u64() >= Some(20),
                        "{counter}.{key} is {}",
                        peer[counter][key]
                    );
                }
            }
            let endpoint = if v6 {
                "[fd00:10::2]:1194"
            } else {
                "10.10.0.2:1194"
            };
            check_eq!(peer["endpoint"], endpoint, "endpoint");
            check_eq!(peer["remote"], endpoint, "remote");
            let fingerprint = peer["key_fingerprint"].as_str().unwrap_or_default();
            check_eq!(
                fingerprint,
                routers.b.peer("vpn0")?["key_fingerprint"]
                    .as_str()
                    .unwrap_or_default(),
                "fingerprints"
            );
            let route = routers.a.ns.cmd("ip route get 192.168.2.7").ok()?;
            check!(route.contains("dev vpn0"), "route: {route}");
            let status = routers.a.call("status")?;
            check_eq!(
                status["kernel"]["data_path"],
                "kernel, generic netlink family ovpn",
                "data path"
            );
            check_eq!(
                status["kernel"]["module_version"].is_string(),
                Module::ours(),
                "module version is shown"
            );
            for router in [routers.a, routers.b] {
                let (ns, said) = router.end(signal)?;
                check_eq!(
                    ns.ifindex("vpn0")?,
                    None,
                    "interface after the end; ovpnd said\n{said}"
                );
            }
            Ok(())
        },
    )
}

/// A change of one thing leaves the rest alone: not one ping of a running series is lost.
fn reload(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    let index = routers.a.ns.ifindex("vpn0")?;
    let pings = routers.ping(400).echo()?.start(&routers.a.ns)?;
    let base = routers.uci[0].clone();
    let second = base.clone().second();
    let both = base.text() + &second.text();
    for (text, what) in [
        (base.text(), "the same"),
        (base.clone().with("mtu", "1300").text(), "another MTU"),
        (
            base.clone()
                .with("allowed_ips", "192.168.2.0/24 192.168.3.0/24")
                .text(),
            "another route",
        ),
        (
            base.clone().with("keepalive_interval", "2").text(),
            "another keepalive",
        ),
        (both, "a second interface"),
    ] {
        let answer = routers.a.reload(&text).during(what)?;
        check_eq!(answer["ok"], true, "{what}: {answer}");
    }
    check!(
        routers.a.ns.ifindex("vpn1")?.is_some(),
        "the second interface is not there"
    );
    // The same by signal.
    routers.a.dir.write("network", &base.text())?;
    routers.a.daemon.signal(libc::SIGHUP);
    wait_for("the second interface to go", SOON, || {
        Ok(routers.a.ns.ifindex("vpn1")?.is_none().then_some(()))
    })?;
    pings.lossless().during("pings through the reloads")?;
    check_eq!(
        routers.a.ns.ifindex("vpn0")?,
        index,
        "index of the interface"
    );
    check_eq!(routers.a.peer("vpn0")?["losses"], 0, "losses");
    Ok(())
}

/// A new key in the same file: taken over by a reload.
fn new_key(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    let before = routers.a.peer("vpn0")?["key_fingerprint"].clone();
    routers.keys.write("key", &genkey()?)?;
    for (router, uci) in [(&routers.a, &routers.uci[0]), (&routers.b, &routers.uci[1])] {
        router.reload(&uci.text())?;
    }
    routers.reach()?;
    let after = routers.a.peer("vpn0")?["key_fingerprint"].clone();
    check!(before != after, "the fingerprint stayed {before}");
    Ok(())
}

/// The wire is cut until both sides lost their peers, and mended.
fn expiry(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    routers.a.ns.ip("link set veth down")?;
    for router in [&routers.a, &routers.b] {
        let peer = router.wait_peer("lost", LATER, |peer| peer["losses"].as_u64() >= Some(1))?;
        check!(peer["losses"].as_u64() >= Some(1), "{peer}");
    }
    let lost = "vpn0: peer vpn0_peer: nothing was heard from it for 4 s; trying again";
    check!(
        routers.a.daemon.stderr().contains(lost),
        "stderr: {}",
        routers.a.daemon.stderr()
    );
    let route = routers.a.ns.cmd("ip route show dev vpn0").ok()?;
    check!(
        route.contains("192.168.2.0/24"),
        "the route did not stay: {route}"
    );
    routers.a.ns.ip("link set veth up")?;
    routers.reach()?;
    routers
        .a
        .wait_peer("up", LATER, |peer| peer["state"] == "up")
        .map(drop)
}

/// Others may delete what is ours: it comes back.
fn meddling(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    routers.a.ns.cmd("ovpnctl del-peer vpn0 id 1").ok()?;
    routers.a.wait_peer("back", LATER, |peer| {
        peer["losses"] == 1 && peer["state"] == "up"
    })?;
    let index = routers.a.ns.ifindex("vpn0")?;
    routers.a.ns.ip("link del vpn0")?;
    wait_for("the interface to be back", LATER, || {
        Ok(routers
            .a
            .ns
            .ifindex("vpn0")?
            .filter(|now| Some(*now) != index))
    })?;
    routers
        .a
        .wait_peer("back", LATER, |peer| peer["state"] == "up")
        .map(drop)
}

/// The daemon takes over the interfaces of an earlier daemon.
fn crash(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    let Routers {
        mut a,
        b,
        uci,
        keys,
    } = routers;
    a.daemon.signal(libc::SIGKILL);
    wait_for("ovpnd to be gone", SOON, || {
        Ok((!a.daemon.running()).then_some(()))
    })?;
    check!(
        a.ns.ifindex("vpn0")?.is_some(),
        "the interface is gone with the daemon"
    );
    let Router { ns, .. } = a;
    let a = Router::start(ns, &uci[0].text(), true)?;
    // The other side takes the new packets for replays until its keepalive timeout ends that.
    let routers = Routers { a, b, uci, keys };
    routers.reach()?;
    check!(
        routers.a.daemon.stderr().contains("left by an earlier run"),
        "stderr: {}",
        routers.a.daemon.stderr()
    );
    Ok(())
}

/// The broker goes and comes; the tunnel does not care.
fn broker(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let file = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    let mut a = Router::start(a, &Uci::side(1, false, &file).text(), false)?;
    let _b = Router::start(b, &Uci::side(2, false, &file).text(), false)?;
    a.reaches("10.8.0.2")?;
    let series = Echo::new(IpAddr::from([10, 8, 0, 2]), 200).start(&a.ns)?;
    for _ in 0..2 {
        a.start_broker()?;
        check_eq!(a.interface("vpn0")?["state"], "up", "state");
        a.broker = None;
    }
    series.lossless()
}

/// The driver comes after the daemon.
fn late_driver(ctx: &Ctx) -> Outcome {
    const MODPROBE: &str = "/proc/sys/kernel/modprobe";
    let keys = Dir::new()?;
    let file = keys.write("key", &genkey()?)?;
    let Pair { a, b: _b } = Pair::new()?;
    Module::unload()?;
    // Without this the kernel would load whatever module claims the family.
    let modprobe = fs::read_to_string(MODPROBE)?;
    fs::write(MODPROBE, "/nonexistent")?;
    let outcome = (|| {
        let router = Router::start(a, &Uci::side(1, false, &file).text(), true)?;
        let status = router.call("status")?;
        check_eq!(status["kernel"]["data_path"], "none", "data path");
        let error = router.interface("vpn0")?["error"].to_string();
        check!(error.contains("module ovpn not loaded"), "error: {error}");
        ctx.module.load()?;
        router
            .wait_peer("up", LATER, |peer| peer["state"] == "up")
            .map(drop)
    })();
    fs::write(MODPROBE, modprobe.trim_end())?;
    if !Module::loaded() {
        ctx.module.load()?;
    }
    outcome
}

/// The crypto driver that `hwcrypto` wants carries the keys, `mssfix` switches the fitting of segments off, and other
/// interfaces are not concerned.
fn wishes(_: &Ctx) -> Outcome {
    const PARAMETER: &str = "/sys/module/ovpn/parameters/chacha20_poly1305";
    if !Module::ours() {
        return Err(Failure::Skipped("mainline's driver has no choice".into()));
    }
    for (wanted, library, finding) in [
        ("off", true, false),
        ("on", false, false),
        ("none-such", true, true),
    ] {
        let routers = Routers::new(false, |uci| {
            uci.with("cipher", "chacha20-poly1305")
                .with("hwcrypto", wanted)
        })?;
        let engine = routers.a.peer("vpn0")?["engine"].take();
        check_eq!(engine == "library", library, "hwcrypto {wanted}: {engine}");
        let diag = routers
            .a
            .call_with("diag", &serde_json::json!({"interface": "vpn0"}))?;
        check_eq!(
            diag.to_string().contains("\"code\":\"hwcrypto\""),
            finding,
            "hwcrypto {wanted}: {diag}"
        );
        check_eq!(
            fs::read_to_string(PARAMETER)?,
            "\n",
            "the module's parameter"
        );
    }
    Ok(())
}

/// Stock OpenVPN of three releases, all couples of settings.
pub fn matrix() -> Vec<Case> {
    matrix::cases()
}

/// Stock OpenVPN of three releases, some couples of settings.
pub fn releases() -> Vec<Case> {
    matrix::short()
}

/// Comparisons of lint with the real program.
pub fn verdicts() -> Vec<Case> {
    stock::verdicts()
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        tunnel(false, "aes-128-gcm", libc::SIGTERM),
        tunnel(false, "aes-192-gcm", libc::SIGTERM),
        tunnel(false, "aes-256-gcm", libc::SIGINT),
        tunnel(true, "chacha20-poly1305", libc::SIGTERM),
        Case::new("a reload disturbs nothing else", reload),
        Case::new("a reload brings a new key", new_key),
        Case::new("a lost peer comes back", expiry),
        Case::new("deleted by others", meddling),
        Case::new("started again after a crash", crash),
        Case::new("the broker goes and comes", broker),
        Case::new("the driver comes later", late_driver),
        Case::new("hwcrypto and mssfix are heeded", wishes),
        Case::new("the library's example is a tunnel", library::example),
    ];
    cases.extend(faults::cases());
    cases.extend(ctl::cases());
    cases.extend(bus::cases());
    cases.extend(load::cases());
    cases.extend(stock::cases());
    cases.extend(client::cases());
    cases.extend(server::cases());
    cases.extend(crowd::cases());
    cases.extend(authority::cases());
    cases.extend(openwrt::cases());
    cases.extend(netifd::cases());
    cases.extend(routes::cases());
    cases.extend(killswitch::cases());
    cases
}
