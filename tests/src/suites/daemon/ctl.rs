// SPDX-License-Identifier: GPL-2.0-only
//! ovpnctl by itself.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{Cmd, Module, Ns, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

use super::router::{Dir, LATER, SOON, genkey};

/// The script people are shown.
const SCRIPT: &str = include_str!("../../../two-namespaces.sh");

fn script(_: &Ctx) -> Outcome {
    let dir = Dir::new()?;
    let path = dir.write("two-namespaces.sh", SCRIPT)?;
    Cmd::new(None, &format!("sh {path}")).ok().map(drop)?;
    // It must fail when the tunnel does: here, both sides get the same direction.
    let broken = SCRIPT.replace("2 1 1", "2 1 0");
    check!(broken != SCRIPT, "the script has no line to break");
    let path = dir.write("broken.sh", &broken)?;
    let done = Cmd::new(None, &format!("sh {path}")).run(LATER)?;
    check!(
        !done.status.success(),
        "the broken script succeeded\n{}",
        done.out
    );
    Ok(())
}

/// Runs ovpnctl, which must fail; returns what it says.
fn refused(ns: &Ns, line: &str) -> Outcome<String> {
    let done = ns.cmd(line).run(SOON)?;
    check_eq!(
        done.status.code(),
        Some(1),
        "{line}: {}{}",
        done.out,
        done.err
    );
    Ok(done.err)
}

/// The kernel's words and the attribute it objects to reach the user.
fn refusals(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    ns.cmd("ovpnctl new-iface o").ok()?;
    let peer = "ovpnctl new-peer o id 1 remote 127.0.0.1:1194 local-port 1194";
    for (line, says) in [
        (
            "ovpnctl new-iface o".to_owned(),
            &["RTM_NEWLINK", "File exists"][..],
        ),
        (
            "ovpnctl del-iface p".into(),
            &["no network interface is called \"p\""],
        ),
        (
            "ovpnctl del-iface lo".into(),
            &["lo is no interface of kind ovpn"],
        ),
        (
            format!("{peer} vpn-ip 10.0.0.1"),
            &["PEER_NEW: ovpn: ", "Invalid argument"],
        ),
        (
            format!("{peer} local ::1"),
            &["PEER_NEW: ovpn: ", "Invalid argument"],
        ),
        (
            format!("{peer} keepalive 10 90000"),
            &[
                "Numerical result out of range",
                "at attribute peer.keepalive-timeout",
            ],
        ),
        (
            "ovpnctl new-peer o id 1 remote 127.0.0.1:0".into(),
            &["at attribute peer.remote-port"],
        ),
        (
            "ovpnctl set-peer o id 1 keepalive 1 2".into(),
            &["PEER_SET: ovpn: ", "No such file"],
        ),
        (
            "ovpnctl del-peer o id 1".into(),
            &["PEER_DEL: ovpn: ", "No such file"],
        ),
        (
            "ovpnctl swap-keys o peer 1".into(),
            &["KEY_SWAP: ovpn: ", "No such file"],
        ),
        (
            "ovpnctl del-key o peer 1 slot primary".into(),
            &["KEY_DEL: ovpn: ", "No such file"],
        ),
    ] {
        let said = refused(&ns, &line)?;
        for says in says {
            check!(said.contains(says), "{line}: {said:?} lacks {says:?}");
        }
    }
    let usage = ns.cmd("ovpnctl new-peer o").run(SOON)?;
    check_eq!(usage.status.code(), Some(2), "status of wrong usage");
    Ok(())
}

fn show(ns: &Ns) -> Outcome<Value> {
    let text = ns.cmd("ovpnctl show o --json").ok()?;
    serde_json::from_str(&text)
        .map_err(Failure::new)
        .during(text)
}

/// The whole life of a peer and its keys, and what `monitor` tells of it.
fn life(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    let dir = Dir::new()?;
    let key = dir.write("key", &genkey()?)?;
    ns.cmd("ovpnctl new-iface o mode p2p mtu 1300").ok()?;
    let mut monitor = ns.cmd("ovpnctl monitor --json").spawn()?;
    ns.cmd("ovpnctl new-peer o id 7 remote 127.0.0.1:1195 local-port 1194 tx-id 9")
        .ok()?;
    let new_key = |cipher: &str, rest: &str| {
        ns.cmd(&format!(
            "ovpnctl new-key o peer 7 cipher {cipher} key-file {key} key-direction 0 {rest}"
        ))
        .ok()
    };
    new_key("aes-128-gcm", "")?;
    new_key("chacha20-poly1305", "slot secondary key-id 3")?;
    let keys = |wanted: &Value| -> Outcome {
        let mut shown = show(&ns)?;
        let keys = &mut shown["interfaces"][0]["peers"][0]["keys"];
        for key in keys.as_array_mut().into_iter().flatten() {
            // Which one carries AES is the kernel's choice.
            let driver = key["driver"].take();
            check_eq!(
                driver.is_string(),
                Module::ours(),
                "driver {driver} is told"
            );
            check_eq!(key["async"].take(), false, "synchronous");
        }
        check_eq!(&*keys, wanted, "keys");
        Ok(())
    };
    let key = |slot: &str, id: u8, cipher: &str| serde_json::json!({"slot": slot, "key_id": id, "cipher": cipher, "driver": null, "async": null});
    let aes = |slot: &str| key(slot, 0, "aes-gcm");
    let chacha = |slot: &str| key(slot, 3, "chacha20-poly1305");
    keys(&Value::Array(vec![aes("primary"), chacha("secondary")]))?;
    ns.cmd("ovpnctl swap-keys o peer 7").ok()?;
    keys(&Value::Array(vec![chacha("primary"), aes("secondary")]))?;
    ns.cmd("ovpnctl del-key o peer 7 slot secondary").ok()?;
    keys(&Value::Array(vec![chacha("primary")]))?;
    // A packet under a key id that the peer has no key of.
    ns.udp(false, 0)?
        .send_to(&[0x4f, 0, 0, 7, 0, 0, 0, 1], "127.0.0.1:1194")?;
    ns.cmd("ovpnctl set-peer o id 7 remote 127.0.0.2:1196 keepalive 1 60")
        .ok()?;
    let shown = show(&ns)?;
    let lost = match Module::ours() {
        true => serde_json::json!({"rx_no_key": 1}),
        false => Value::Null,
    };
    let drops = &shown["interfaces"][0]["peers"][0]["drops"];
    check_eq!(drops, &lost, "lost packets");
    let interface = &shown["interfaces"][0];
    let peer = &interface["peers"][0];
    let fields = [
        &interface["mode"],
        &interface["mtu"],
        &peer["peer_id"],
        &peer["tx_id"],
        &peer["remote"],
        &peer["keepalive_timeout"],
    ];
    let wanted = serde_json::json!(["p2p", 1300, 7, 9, "127.0.0.2:1196", 60]);
    check_eq!(serde_json::json!(fields), wanted, "{shown}");
    let text = ns.cmd("ovpnctl show").ok()?;
    let by = if Module::ours() { " by library" } else { "" };
    for line in [
        "interface: o".to_owned(),
        "peer: 7".to_owned(),
        "  remote: 127.0.0.2:1196".to_owned(),
        format!("  primary key: id 3, chacha20-poly1305{by}"),
    ] {
        check!(text.lines().any(|l| l == line), "{text:?} lacks {line:?}");
    }
    check_eq!(
        text.contains("  lost packets: rx_no_key 1\n"),
        Module::ours(),
        "lost packets in {text:?}"
    );
    // The process that holds the socket ends with the peer, and its port is free again.
    ns.cmd("ovpnctl del-peer o id 7").ok()?;
    monitor.wait_output("\"reason\":\"userspace\"", SOON)?;
    free(&ns, 1194)?;
    ns.cmd("ovpnctl new-peer o id 8 remote 127.0.0.1:1195 local-port 1194 keepalive 1 2")
        .ok()?;
    monitor.wait_output("\"reason\":\"expired\"", LATER)?;
    free(&ns, 1194)?;
    ns.cmd("ovpnctl new-peer o id 9 remote 127.0.0.1:1195 local-port 1194")
        .ok()?;
    ns.cmd("ovpnctl del-iface o").ok()?;
    monitor.wait_output("\"reason\":\"teardown\"", SOON)?;
    free(&ns, 1194)
}

fn free(ns: &Ns, port: u16) -> Outcome {
    wait_for(&format!("port {port} to be free"), SOON, || {
        Ok(ns.udp(false, port).ok().map(drop))
    })
}

/// A held peer dies with its holder.
fn foreground(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    ns.cmd("ovpnctl new-iface o").ok()?;
    let holder = ns
        .cmd("ovpnctl new-peer o id 1 remote 127.0.0.1:1195 --foreground")
        .spawn()?;
    let peers = || {
        Ok::<_, Failure>(
            show(&ns)?["interfaces"][0]["peers"]
                .as_array()
                .map_or(0, Vec::len),
        )
    };
    wait_for("the peer", SOON, || Ok((peers()? == 1).then_some(())))?;
    holder.signal(libc::SIGTERM);
    holder.finish(Duration::from_secs(5))?;
    wait_for("the end of the peer", SOON, || {
        Ok((peers()? == 0).then_some(()))
    })
}

/// A held interface dies with its holder, however that ends; the holder ends with the interface.
fn held(_: &Ctx) -> Outcome {
    let ns = Ns::new()?;
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        ns.cmd("ovpnctl new-iface o").ok()?;
        let mut holder = ns.cmd("ovpnctl hold o").spawn()?;
        holder.wait_output("holding", SOON)?;
        check!(
            refused(&ns, "ovpnctl hold o")?.contains("another socket holds"),
            "a second holder was let in"
        );
        holder.signal(signal);
        wait_for("the interface to go", SOON, || {
            Ok(ns.ifindex("o")?.is_none().then_some(()))
        })?;
    }
    ns.cmd("ovpnctl new-iface o").ok()?;
    let mut holder = ns.cmd("ovpnctl hold o").spawn()?;
    holder.wait_output("holding", SOON)?;
    ns.cmd("ovpnctl del-iface o").ok()?;
    check!(
        holder.finish(SOON)?.status.success(),
        "the holder of a deleted interface failed"
    );
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("ovpnctl: two namespaces", script),
        Case::new("ovpnctl: refusals", refusals),
        Case::new("ovpnctl: a peer's life", life),
        Case::new("ovpnctl: in the foreground", foreground),
        Case::new("ovpnctl: an interface held", held),
    ]
}
