// SPDX-License-Identifier: GPL-2.0-or-later
//! `status` and `interfaces`.

use std::fs;

use ovpn_netlink::{Counters, PeerInfo};
use serde_json::{Map, Value, json};

use super::{Args, Refusal};
use crate::config::Problem;
use crate::config::overlay::Overlay;
use crate::json::counters;
use crate::kernel::{Failure, Kernel};
use crate::reconcile::Reconciler;
use crate::tunnel::{InterfaceView, Tunnel, plus};

/// Where the kernel tells of its module; only kmod-ovpn has a version.
pub(crate) const VERSION_FILE: &str = "/sys/module/ovpn/version";

/// Faults or warnings, in parts and as a whole.
pub fn problems(list: &[Problem]) -> Value {
    let one = |problem: &Problem| {
        json!({
            "text": problem.to_string(),
            "file": problem.file,
            "line": problem.line,
            "section": problem.section,
            "option": problem.option,
            "message": problem.message,
        })
    };
    Value::Array(list.iter().map(one).collect())
}

/// Describes everything in short. `driver` is the result of a look for the driver, and `events_lost` counts events that the
/// bus did not take.
pub fn status<K: Kernel>(
    engine: &Reconciler<K>,
    driver: Result<(), Failure>,
    uptime: std::time::Duration,
    events_lost: u64,
) -> Value {
    let interface = |(name, tunnel): (&String, &dyn Tunnel)| {
        let view = tunnel.interface();
        let (peers, up) = tunnel.count();
        json!({
            "name": name,
            "control": tunnel.control().to_string(),
            "state": state(&view),
            "stopped": view.stopped,
            "error": view.error,
            "peers": peers,
            "peers_up": up,
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel(driver),
        "uptime": uptime.as_secs(),
        "events_lost": events_lost,
        "problems": problems(&engine.problems),
        "interfaces": engine.tunnels().map(interface).collect::<Vec<_>>(),
    })
}

fn state(view: &InterfaceView) -> &'static str {
    match (view.up, &view.error) {
        (true, _) => "up",
        _ if view.stopped.is_some() => "stopped",
        (false, Some(_)) => "error",
        (false, None) => "down",
    }
}

/// Whether packets go through the kernel's driver, and which.
fn kernel(driver: Result<(), Failure>) -> Value {
    let read = |path| {
        fs::read_to_string(path)
            .ok()
            .map(|text: String| text.trim().to_owned())
    };
    let version = read(VERSION_FILE);
    json!({
        "data_path": if driver.is_ok() { "kernel, generic netlink family ovpn" } else { "none" },
        "driver": match (&driver, &version) {
            (Err(_), _) => "none",
            (Ok(()), Some(_)) => "kmod-ovpn",
            (Ok(()), None) => "mainline",
        },
        "module_version": version,
        "release": read("/proc/sys/kernel/osrelease"),
        "error": driver.err().map(|failure| failure.message),
    })
}

/// Describes one interface or all.
///
/// # Errors
/// There is none of this name.
pub fn interfaces<K: Kernel>(
    engine: &mut Reconciler<K>,
    overlay: &Overlay,
    args: Args<'_>,
) -> Result<Value, Refusal> {
    let only = args.text("interface")?;
    let names: Vec<String> = engine.tunnels().map(|(name, _)| name.clone()).collect();
    let there: Vec<Vec<PeerInfo>> = names
        .iter()
        .map(|name| match only.is_some_and(|only| only != name) {
            true => Vec::new(),
            false => engine.kernel.peers(name).unwrap_or_default(),
        })
        .collect();
    let list: Vec<Value> = engine
        .tunnels()
        .zip(&there)
        .filter(|((name, _), _)| only.is_none_or(|only| only == *name))
        .map(|((name, tunnel), there)| interface(name, tunnel, there, overlay.count(name)))
        .collect();
    match only {
        Some(name) if list.is_empty() => Err(Refusal::no_interface(name)),
        _ => Ok(json!({ "interfaces": list })),
    }
}

fn interface(name: &str, tunnel: &dyn Tunnel, there: &[PeerInfo], changes: usize) -> Value {
    let view = tunnel.interface();
    let (peers, up) = tunnel.count();
    // The kernel's choice, when the configuration leaves it to it.
    let chosen = || there.iter().find_map(|peer| peer.local_port).unwrap_or(0);
    let local_port = Some(view.local_port).filter(|port| *port != 0);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put("name", json!(name));
    put("control", json!(tunnel.control().to_string()));
    put("state", json!(state(&view)));
    put("stopped", json!(view.stopped));
    put("error", json!(view.error));
    put("mode", json!(view.mode.map(|mode| mode.to_string())));
    let transport = view.transport.map(|transport| transport.to_string());
    put("transport", json!(transport));
    put("local_port", json!(local_port.unwrap_or_else(chosen)));
    put("fwmark", json!(view.fwmark));
    put("mtu", json!(view.mtu));
    put("mssfix", json!(view.mssfix));
    put("hwcrypto", json!(view.hwcrypto));
    put("cipher", json!(view.cipher));
    put("addresses", json!(texts(&view.addresses)));
    put("peers", json!(peers));
    put("peers_up", json!(up));
    put("vpn", counters(&sum(there, |peer| peer.vpn)));
    put("link", counters(&sum(there, |peer| peer.link)));
    put("problems", problems(&view.problems));
    put("warnings", problems(&view.warnings));
    let past = view.past.map(|past| {
        let (vpn, link) = (counters(&past.totals.vpn), counters(&past.totals.link));
        json!({ "sessions": past.sessions, "vpn": vpn, "link": link })
    });
    put("past", json!(past));
    let refusal = view.last_refusal.map(|refusal| {
        let remote = refusal.remote.to_string();
        json!({ "remote": remote, "why": refusal.why, "seconds": refusal.age.as_secs() })
    });
    put("last_refusal", json!(refusal));
    put("runtime_changes", json!(changes));
    Value::Object(object)
}

pub(super) fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn sum(peers: &[PeerInfo], which: impl Fn(&PeerInfo) -> Counters) -> Counters {
    peers.iter().map(which).fold(Counters::default(), plus)
}
