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

/// Rows of directives with the verdicts of OpenVPN, which ovpnd's own tests compare with lint's.
const VERDICTS: &str = include_str!("../../../../ovpnd/src/diag/verdicts.txt");
/// The rows are judged in so many cases.
const PARTS: usize = 8;
/// Words of OpenVPN when its options are read and it goes on to its sockets, or waits to be told to.
const STARTED: [&str; 7] = [
    "link remote",
    "link local",
    "Attempting to establish TCP",
    "Attempting to connect",
    "TCP: connect to",
    "Listening for incoming TCP connection",
    "hold release",
];

/// The configuration of a row; the files are those of [`files`].
fn row(letter: &str, more: &str) -> String {
    let base = match letter {
        "c" => {
            "client\ndev tun\nremote 127.0.0.1 1194\nnobind\nauth-user-pass auth.txt\nca ca.pem\n"
        }
        "C" => "client\ndev tun\nremote 127.0.0.1 1194\nauth-user-pass auth.txt\nca ca.pem\n",
        "s" => {
            "server 10.8.0.0 255.255.255.0\ndev tun\ntopology subnet\nca ca.pem\ncert cert.pem\nkey key.pem\ndh none\n"
        }
        _ => "",
    };
    let more = more
        .replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("\\r", "\r");
    format!("{base}{more}\n")
}

/// Files that the rows name, in a directory of their own.
fn files(router: &Router) -> Outcome<String> {
    pki::fingerprint("stock-1")?;
    let dir = router.dir.path().display().to_string();
    let pki = pki::dir()?.display().to_string();
    let script = format!(
        "cd {dir} && cp {pki}/stock-1.crt cert.pem && cp {pki}/stock-1.crt ca.pem && cp {pki}/stock-1.key key.pem && \
         printf 'u\\np\\n' > auth.txt && printf '#!/bin/sh\\n' > x.sh && chmod 700 x.sh && mkdir d && \
         openvpn --genkey secret ta.key && openvpn --genkey auth-token at.key && \
         openvpn --genkey tls-crypt-v2-server v2s.key && openvpn --tls-crypt-v2 v2s.key --genkey tls-crypt-v2-client v2c.key && \
         ip link set lo up"
    );
    router.ns.cmd("sh -c").arg(&script).ok()?;
    Ok(dir)
}

/// OpenVPN's own verdict on a configuration, in the letters of the table.
fn theirs(router: &Router, dir: &str, text: &str) -> Outcome<(&'static str, String)> {
    let path = router.dir.write("row.conf", text)?;
    let line = format!("openvpn --verb 4 --cd {dir} --config {path} --verb 4");
    let mut openvpn = router.ns.cmd(&line).spawn()?;
    let verdict = wait_for("its verdict", LATER, || {
        let running = openvpn.running();
        let said = openvpn.stdout();
        let started = STARTED.iter().any(|words| said.contains(words));
        let verdict = match said.contains("disable_dco = DISABLED") {
            _ if !started && running => return Ok(None),
            _ if !started => "R",
            true => "K",
            false => "U",
        };
        Ok(Some(verdict))
    })
    .during(openvpn.stdout())?;
    openvpn.signal(9);
    Ok((verdict, openvpn.stdout()))
}

/// One part of the rows: OpenVPN, the table and lint say the same.
fn judgement(part: usize) -> Outcome {
    need_openvpn()?;
    let router = Router::start(crate::lab::Ns::new()?, "", true)?;
    let dir = files(&router)?;
    let mut wrong = Vec::new();
    let rows = VERDICTS.lines().filter(|row| !row.starts_with('#'));
    for line in rows.skip(part).step_by(PARTS) {
        let mut words = line.splitn(3, ' ');
        let (Some(letter), Some(table)) = (words.next(), words.next()) else {
            continue;
        };
        let text = row(letter, words.next().unwrap_or_default());
        let (theirs, said) = theirs(&router, &dir, &text)?;
        let lint = router.call_with("lint", &json!({ "text": text }))?;
        let ours = match lint["verdict"].as_str() {
            Some("kernel") => "K",
            Some("userspace") => "U",
            _ => "R",
        };
        if theirs != ours || theirs != table {
            wrong.push(format!(
                "{line:?}: OpenVPN {theirs}, lint {ours}: {lint}\n{said}"
            ));
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("tunnels of stock OpenVPN", stock),
        Case::new("tunnels of another load of the module", another_load),
        Case::new("verdicts of OpenVPN, some", |_| judgement(0)),
    ]
}

/// OpenVPN's verdicts on all rows: as many programs, and some five minutes.
pub(super) fn verdicts() -> Vec<Case> {
    let part =
        |part: usize| Case::new(format!("part {}", part + 1), move |_: &Ctx| judgement(part));
    (0..PARTS).map(part).collect()
}
