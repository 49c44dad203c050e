// SPDX-License-Identifier: GPL-2.0-only
//! The answer to `ubus call ovpnd status`. Key material has no way in here: only marks and fingerprints do.

use std::collections::BTreeMap;
use std::fs;

use ovpn_netlink::{PeerId, PeerInfo};
use serde_json::{Map, Value, json};

use crate::config::{Interface, Peer};
use crate::engine::{Engine, Managed, PeerRun};
use crate::json::counters;
use crate::kernel::{Failure, Kernel};

/// Describes everything.
pub fn status<K: Kernel>(engine: &mut Engine<K>, driver: Result<(), Failure>) -> Value {
    let mut interfaces = Vec::new();
    for (name, managed) in &engine.interfaces {
        let peers = engine.kernel.peers(name).unwrap_or_default();
        interfaces.push(interface(
            name,
            managed,
            &peers.into_iter().map(|peer| (peer.id, peer)).collect(),
        ));
    }
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel(driver),
        "problems": engine.problems,
        "interfaces": interfaces,
    })
}

/// Whether packets go through the kernel's driver, and which.
fn kernel(driver: Result<(), Failure>) -> Value {
    let read = |path| {
        fs::read_to_string(path)
            .ok()
            .map(|text: String| text.trim().to_owned())
    };
    json!({
        "data_path": if driver.is_ok() { "kernel, generic netlink family ovpn" } else { "none" },
        "module_version": read("/sys/module/ovpn/version"),
        "release": read("/proc/sys/kernel/osrelease"),
        "error": driver.err().map(|failure| failure.message),
    })
}

fn interface(name: &str, managed: &Managed, kernel: &BTreeMap<PeerId, PeerInfo>) -> Value {
    let up = managed.state.as_ref().is_some_and(|state| state.up);
    let fault = managed.error.as_ref().or(managed.problems.first());
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put("name", json!(name));
    put(
        "state",
        json!(if up {
            "up"
        } else if fault.is_some() {
            "error"
        } else {
            "down"
        }),
    );
    put(
        "error",
        json!(fault.map(|fault| if up {
            format!("{fault}; goes on as it was")
        } else {
            fault.clone()
        })),
    );
    put("problems", json!(managed.problems));
    put("warnings", json!(managed.warnings));
    let mut peers = Vec::new();
    if let Some(wanted) = &managed.wanted {
        put("mode", json!(wanted.mode.to_string()));
        put("transport", json!(wanted.socket.transport.to_string()));
        put("local_port", json!(local_port(wanted, kernel)));
        put("fwmark", json!(wanted.socket.mark));
        put("cipher", json!(wanted.cipher.to_string()));
        put("mtu", json!(wanted.mtu));
        put("addresses", json!(strings(&wanted.addresses)));
        for peer in &wanted.peers {
            if let Some(run) = managed.peers.get(&peer.name) {
                let problems = managed.broken_peers.get(&peer.name);
                peers.push(self::peer(
                    peer,
                    run,
                    kernel.get(&peer.id).filter(|_| up),
                    problems,
                ));
            }
        }
    }
    let broken = managed
        .broken_peers
        .iter()
        .filter(|(name, _)| !managed.peers.contains_key(*name));
    peers.extend(broken.map(|(name, problems)| {
        json!({ "name": name, "state": "error", "error": problems.first(), "problems": problems, "has_key": false })
    }));
    put("peers", json!(peers));
    Value::Object(object)
}

/// The port in use, which may be the kernel's choice.
fn local_port(wanted: &Interface, kernel: &BTreeMap<PeerId, PeerInfo>) -> u16 {
    let chosen = || kernel.values().find_map(|peer| peer.local_port);
    if wanted.socket.port != 0 {
        wanted.socket.port
    } else {
        chosen().unwrap_or(0)
    }
}

fn strings<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn peer(
    peer: &Peer,
    run: &PeerRun,
    info: Option<&PeerInfo>,
    problems: Option<&Vec<String>>,
) -> Value {
    let fault = run.error.as_ref().or(run.route_error.as_ref());
    let fault = fault.or_else(|| problems.and_then(|problems| problems.first()));
    let state = match (info, &run.error) {
        (Some(_), _) => "up",
        (None, Some(_)) => "error",
        (None, None) => "resolving",
    };
    let keys = run.keys.status();
    let remote = info.and_then(|info| info.remote).or(run.remote);
    json!({
        "name": peer.name,
        "description": peer.description,
        "peer_id": peer.id.get(),
        "state": state,
        "error": fault,
        "problems": problems.cloned().unwrap_or_default(),
        "endpoint": peer.endpoint.to_string(),
        "remote": remote.map(|remote| remote.to_string()),
        "vpn_ips": strings(&peer.vpn_ips),
        "allowed_ips": strings(&peer.allowed_ips),
        "keepalive_interval": peer.keepalive.interval,
        "keepalive_timeout": peer.keepalive.timeout,
        "last_handshake": null,
        "losses": run.losses,
        "key_source": keys.source,
        "has_key": keys.fingerprint.is_some(),
        "key_fingerprint": keys.fingerprint.map(|hex| format!("sha256:{hex}")),
        "cipher": keys.cipher.map(|cipher| cipher.to_string()),
        "vpn": counters(&info.map(|info| info.vpn).unwrap_or_default()),
        "link": counters(&info.map(|info| info.link).unwrap_or_default()),
    })
}
