// SPDX-License-Identifier: GPL-2.0-only
//! A server from nothing: ovpnd's own certificates, a profile for stock OpenVPN and for another ovpnd, and the end of both.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use super::router::{Dir, LATER, Router};
use crate::lab::{Pair, Ping, wait_for};
use crate::suites::openvpn::daemon::{Daemon, need_openvpn};
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

/// Where ovpnd keeps keys.
const KEYS: &str = "/etc/ovpn";
/// The address of the server inside the tunnel.
const INSIDE: [u8; 4] = [10, 8, 0, 1];

/// A router whose server has the files that `ca_init` made.
fn server(router: &Router, port: u16) -> Outcome {
    let _ = fs::remove_dir_all(Path::new(KEYS).join("vpn0"));
    let made = router.call_with(
        "ca_init",
        &json!({"interface": "vpn0", "names": "10.10.0.1"}),
    )?;
    let options = made["options"].as_object().cloned().unwrap_or_default();
    check_eq!(options.len(), 5, "options of {made}");
    let mut text = format!(
        "config interface 'vpn0'\n\toption proto 'openvpn_dco'\n\toption server '10.8.0.0/24'\n\
         \toption port '{port}'\n\toption keepalive '1 5'\n"
    );
    for (option, path) in &options {
        let path = path.as_str().unwrap_or_default();
        check_eq!(fs::metadata(path)?.mode() & 0o7777, 0o600, "mode of {path}");
        text.push_str(&format!("\toption {option} '{path}'\n"));
    }
    let told = router.reload(&text)?;
    check_eq!(told["problems"], json!([]), "problems");
    Ok(())
}

fn count(router: &Router, wanted: usize) -> Outcome {
    wait_for(&format!("{wanted} clients"), LATER, || {
        let peers = router.call_with("peers", &json!({"interface": "vpn0"}))?;
        Ok((peers["total"] == wanted).then_some(()))
    })
    .during(router.daemon.stderr())
}

/// Stock OpenVPN connects with a profile as it is; revoked, it is out at once and stays out.
fn profile(_: &Ctx) -> Outcome {
    need_openvpn()?;
    let Pair { a, b } = Pair::new()?;
    let router = Router::start(a, "", true)?;
    server(&router, 1195)?;
    let of = json!({"interface": "vpn0", "client": "anna", "remote": "10.10.0.1"});
    let made = router.call_with("profile_export", &of)?;
    let text = made["text"].as_str().unwrap_or_default();
    let said = router.call_with("lint", &json!({"text": text}))?;
    check_eq!(said["verdict"], "kernel", "lint: {said}");
    let client = Daemon::start(&b, "profile", text)?;
    client
        .connected(1)
        .during(client.tail(30))
        .during(router.daemon.stderr())?;
    Ping::new(INSIDE.into(), 20)
        .lossless(&b)
        .during(client.tail(30))?;
    let peer = router.peer("vpn0")?;
    check_eq!(
        json!([&peer["name"], &peer["state"], &peer["has_key"]]),
        json!(["anna", "up", true]),
        "peer: {peer}"
    );
    let listed = router.call_with("ca_list", &json!({"interface": "vpn0"}))?;
    check_eq!(listed["clients"][0]["revoked"], false, "listed");
    router.call_with("ca_revoke", &of)?;
    count(&router, 0)?;
    // OpenVPN does not try again after that. Another one with the same certificate is refused in the handshake, without a
    // word in the log here: anybody could fill that.
    drop(client);
    let again = Daemon::start(&b, "profile-again", text)?;
    again
        .says("fatal SSL alert", 1, LATER)
        .during(again.tail(30))
        .during(router.daemon.stderr())?;
    count(&router, 0)?;
    let listed = router.call_with("ca_list", &json!({"interface": "vpn0"}))?;
    check_eq!(listed["clients"][0]["revoked"], true, "listed");
    Ok(())
}

/// By hand: `ovpnctl export` here, `ovpnctl import` there.
fn by_hand(_: &Ctx) -> Outcome {
    let Pair { a, b } = Pair::new()?;
    let router = Router::start(a, "", true)?;
    server(&router, 1194)?;
    let there = Dir::new()?;
    let (here, there) = (router.dir.path().display(), there.path().display());
    router
        .ns
        .cmd(&format!(
            "ovpnctl export vpn0 ben remote 10.10.0.1 file {there}/home.ovpn config-dir {here}"
        ))
        .ok()?;
    b.cmd(&format!(
        "ovpnctl import {there}/home.ovpn name vpn0 config-dir {there} key-dir {there}/keys"
    ))
    .ok()?;
    let network = fs::read_to_string(format!("{there}/network"))?;
    let other = Router::start(b, &network, true)?;
    other.reaches("10.8.0.1").during(router.daemon.stderr())?;
    check_eq!(router.peer("vpn0")?["name"], "ben", "peer");
    let listed = router.ns.cmd("ovpnctl ca list vpn0 --json").ok()?;
    let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
    check_eq!(listed[2]["name"], "ben", "list: {listed}");
    router.ns.cmd("ovpnctl ca revoke vpn0 ben").ok()?;
    let again = router.ns.cmd("ovpnctl ca revoke vpn0 ben").run(LATER)?;
    check!(
        !again.status.success() && again.err.contains("revoked before"),
        "twice: {}",
        again.err
    );
    // Without the bus's own program ovpnd has to be told.
    router.call("reload")?;
    count(&router, 0)
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("authority: stock OpenVPN with a profile", profile),
        Case::new("authority: ovpnctl export, import, revoke", by_hand),
    ]
}
