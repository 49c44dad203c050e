// SPDX-License-Identifier: GPL-2.0-only
//! Tunnels of stock OpenVPN on the same driver: shown, told of, diagnosed.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::router::{LATER, Router, SOON};
use crate::lab::{Module, Pair, Ping, wait_for};
use crate::suites::openvpn::daemon::{DEVICE, Daemon, need_openvpn};
use crate::suites::openvpn::pki;
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

/// The configuration of one end; `peer` is the other's name.
fn config(own: u8, peer: &str, role: &str) -> Outcome<String> {
    let (name, other) = (format!("stock-{own}"), 3 - own);
    pki::fingerprint(&name)?;
    Ok(format!(
        "verb 3\ndev {DEVICE}\ndev-type tun\nproto udp\n{role}\ndata-ciphers AES-256-GCM\nkeepalive 1 4\n\
         ifconfig 10.8.0.{own} 10.8.0.{other}\nconnect-retry 1 2\npeer-fingerprint {}\ncert {name}.crt\nkey {name}.key\n",
        pki::fingerprint(peer)?
    ))
}

/// A daemon whose UCI has an instance of OpenVPN with this file.
fn router(ns: crate::lab::Ns, file: &str) -> Outcome<Router> {
    let router = Router::start(ns, "", true)?;
    let path = pki::dir()?.join(file).display().to_string();
    let text = format!("config openvpn 'office'\n\toption enabled '1'\n\toption config '{path}'\n");
    router.dir.write("openvpn", &text)?;
    Ok(router)
}

/// The diagnosis of the instance: whether it is in the kernel, and the codes of its findings.
fn diagnosis(router: &Router) -> Outcome<(Value, Vec<String>)> {
    let diag = router.call("diag")?;
    let mut subjects = diag["subjects"].as_array().into_iter().flatten();
    let office = subjects.find(|subject| subject["name"] == "office");
    let office = office.cloned().unwrap_or_default();
    check_eq!(office["kind"], "openvpn", "{diag}");
    let findings = office["findings"].as_array().into_iter().flatten();
    let codes = findings.map(|one| one["code"].as_str().unwrap_or_default().to_owned());
    Ok((office["kernel_path"].clone(), codes.collect()))
}

/// One end in the kernel, the other kept out of it by a directive.
fn stock(_: &Ctx) -> Outcome {
    need_openvpn()?;
    let Pair { a, b } = Pair::new()?;
    let server = config(1, "stock-2", "tls-server\ndh none")?;
    let client = config(2, "stock-1", "tls-client\nremote 10.10.0.1")? + "disable-dco\n";
    let mut server = Daemon::start(&a, "stock-1", &server)?;
    let mut client = Daemon::start(&b, "stock-2", &client)?;
    let a = router(a, "stock-1.conf")?;
    let b = router(b, "stock-2.conf")?;
    let ear = a.bus("subscribe ovpnd").spawn()?;
    client.connected(1).during(client.tail(30))?;
    server.connected(1).during(server.tail(30))?;
    Ping::new(IpAddr::from([10, 8, 0, 2]), 20).lossless(&a.ns)?;

    let interface = a.interface(DEVICE)?;
    let fields = [
        "control",
        "state",
        "mode",
        "transport",
        "local_port",
        "peers_up",
    ];
    check_eq!(
        json!(fields.map(|field| &interface[field])),
        json!(["observed", "up", "p2p", "udp", 1194, 1]),
        "interface"
    );
    let peer = &interface["peers"][0];
    let fields = [
        "control",
        "origin",
        "state",
        "has_key",
        "cipher",
        "key_fingerprint",
    ];
    check_eq!(
        json!(fields.map(|field| &peer[field])),
        json!(["observed", "observed", "up", true, "aes-gcm", null]),
        "peer"
    );
    check!(peer["vpn"]["rx_packets"].as_u64() >= Some(20), "{peer}");
    check_eq!(
        peer["engine"].is_string(),
        Module::ours(),
        "engine of {peer}"
    );
    check_eq!(
        peer["last_seen"].is_u64(),
        Module::ours(),
        "last_seen of {peer}"
    );
    wait_for("rates", SOON, || {
        Ok(a.peer(DEVICE)?["vpn_rate"].is_object().then_some(()))
    })?;
    check_eq!(diagnosis(&a)?.0, json!(true), "the server is in the kernel");
    let (kernel, codes) = diagnosis(&b)?;
    check_eq!(kernel, json!(false), "the client is not");
    check!(codes.iter().any(|code| code == "disable-dco"), "{codes:?}");
    check_eq!(
        b.call("status")?["interfaces"],
        json!([]),
        "a tun device is none of the driver's"
    );

    client.stop(&b.ns)?;
    server.may_expire();
    wait_for("the loss told", LATER, || {
        Ok(ear
            .stdout()
            .contains("\"event\":\"peer.down\"")
            .then_some(()))
    })
    .during(ear.stdout())?;
    server.stop(&a.ns)?;
    wait_for("nothing", SOON, || {
        Ok((a.call("status")?["interfaces"] == json!([])).then_some(()))
    })
}

/// The module was loaded anew since the daemon looked last, and nothing of its own was there to tell it.
fn another_load(ctx: &Ctx) -> Outcome {
    let router = Router::start(crate::lab::Ns::new()?, "", true)?;
    let status = router.call("status")?;
    check!(status["kernel"]["data_path"] != "none", "{status}");
    ctx.module.reload()?;
    for line in [
        "ovpnctl new-iface o",
        "ovpnctl new-peer o id 7 remote 127.0.0.1:1195 local-port 1194",
    ] {
        router.ns.cmd(line).ok()?;
    }
    let ear = router.bus("subscribe ovpnd").spawn()?;
    let interface = router.interface("o")?;
    check_eq!(
        json!([
            interface["control"],
            interface["peers_up"],
            interface["peers"][0]["peer_id"]
        ]),
        json!(["observed", 1, 7]),
        "{interface}"
    );
    // The new driver's notifications come, too.
    router.ns.cmd("ovpnctl del-peer o id 7").ok()?;
    wait_for("the loss told", SOON, || {
        let told = ear.stdout();
        let reason = told.contains("peer.down") && told.contains("userspace");
        Ok(reason.then_some(()))
    })
    .during(ear.stdout())?;
    router.ns.cmd("ovpnctl del-iface o").ok().map(drop)
}

/// Directives of a client or a server, one or more lines each; what keeps a tunnel from the kernel is for OpenVPN to say.
const CLIENT: &[&str] = &[
    "",
    "disable-dco",
    "fragment 1300",
    "proto tcp-client\nhttp-proxy p 8080",
    "socks-proxy p",
    "management 127.0.0.1 7505\nmanagement-query-proxy",
    "dev-node unix:/bin/true",
    "dev null",
    "dev-type tap",
    "comp-lzo",
    "comp-lzo no",
    "compress",
    "compress lz4-v2",
    "compress migrate",
    "allow-compression no",
    "allow-compression asym",
    "data-ciphers AES-256-CBC",
    "data-ciphers AES-256-GCM:AES-128-CBC",
    "data-ciphers AES-192-GCM:CHACHA20-POLY1305",
    "data-ciphers-fallback AES-256-CBC",
    "data-ciphers-fallback AES-256-GCM",
    "cipher AES-256-CBC",
    "compat-mode 2.4.0\ncipher AES-256-CBC",
    "compat-mode 2.5.0\ncipher AES-256-CBC",
    "topology net30",
    "mssfix 1400",
    "tun-mtu 1400",
    "shaper 1000",
];
const SERVER: &[&str] = &[
    "",
    "topology net30",
    "topology p2p",
    "topology subnet",
    "client-to-client",
    "compress migrate",
    "local 127.0.0.1\nlocal 127.0.0.2",
];

/// The judgement of a file agrees with OpenVPN's own.
fn judgement(_: &Ctx) -> Outcome {
    need_openvpn()?;
    let router = Router::start(crate::lab::Ns::new()?, "", true)?;
    let (name, peer) = ("stock-1", pki::fingerprint("stock-1")?);
    let dir = pki::dir()?.display().to_string();
    // There is no such user: OpenVPN ends after it has judged the directives.
    let common = format!(
        "dev tun\nverb 4\nuser nobody-at-all\npeer-fingerprint {peer}\ncert {dir}/{name}.crt\nkey {dir}/{name}.key\n"
    );
    let client = format!("{common}client\nremote 127.0.0.1\n");
    let server = format!("{common}server 10.9.0.0 255.255.255.0\ndh none\n");
    let rows = CLIENT.iter().map(|more| (&client, more));
    let mut wrong = Vec::new();
    for (base, more) in rows.chain(SERVER.iter().map(|more| (&server, more))) {
        let text = format!("{base}{more}\n");
        let path = router.dir.write("stock.conf", &text)?;
        // A process of its own, as it may wait for its management client.
        let openvpn = router.ns.cmd(&format!("openvpn --config {path}")).spawn()?;
        let words = ["DISABLED", "ENABLED"].map(|word| format!("disable_dco = {word}"));
        let theirs = wait_for(&words[1], SOON, || {
            let said = openvpn.stdout();
            let theirs = words.each_ref().map(|word| said.contains(word));
            Ok(Some(theirs).filter(|theirs| *theirs != [false; 2]))
        })
        .during(openvpn.stdout())?;
        let lint = router.call_with("lint", &json!({ "text": text }))?;
        let ours = [true, false].map(|path| lint["kernel_path"] == path);
        if theirs != ours {
            let said = openvpn.stdout();
            wrong.push(format!("{more:?}: OpenVPN said\n{said}\nlint says {lint}"));
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("tunnels of stock OpenVPN", stock),
        Case::new("tunnels of another load of the module", another_load),
        Case::new("what keeps from the kernel, as OpenVPN says", judgement),
    ]
}
