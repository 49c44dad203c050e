// SPDX-License-Identifier: GPL-2.0-or-later
//! `show` and `monitor`: the driver's state and notifications, for people and as JSON.

use std::fmt::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ovpn_netlink::{Dropped, Event, KeyInfo, Link, Ovpn, PeerInfo, Rtnl, Slot};
use serde_json::{Value, json};

use super::{Done, index, print};
use crate::json;
use crate::switches::{self, Switches};

struct Interface {
    link: Link,
    peers: Vec<(PeerInfo, Vec<KeyInfo>)>,
}

pub(super) fn show(name: Option<&str>, as_json: bool) -> Done {
    let mut rtnl = Rtnl::open()?;
    // ovpnd's, which are not in the kernel.
    let mut stopped = Switches::new(switches::DIR.into(), false).all_stopped();
    stopped.retain(|(other, _)| name.is_none_or(|name| name == other) && rtnl.link(other).is_err());
    let mut ovpn = Ovpn::open()?;
    let links = match name {
        Some(_) if !stopped.is_empty() => Vec::new(),
        Some(name) => {
            index(&mut rtnl, name)?;
            vec![rtnl.link(name)?]
        }
        None => rtnl.ovpn_links()?,
    };
    let mut interfaces = Vec::new();
    for link in links {
        match peers(&mut ovpn, &link) {
            Ok(peers) => interfaces.push(Interface { link, peers }),
            // Deleted since it was listed.
            Err(error) if error.is_gone() && name.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if as_json {
        let list: Vec<Value> = interfaces.iter().map(interface_json).collect();
        let stopped = stopped.iter();
        let stopped: Vec<Value> = stopped
            .map(|(name, reason)| json!({ "name": name, "reason": reason }))
            .collect();
        let all = json!({ "interfaces": list, "stopped": stopped });
        return print(&format!("{all:#}\n"));
    }
    let down = stopped
        .iter()
        .map(|(name, reason)| format!("interface: {name}\n  state: stopped ({reason})\n"));
    let texts: Vec<String> = interfaces.iter().map(interface_text).chain(down).collect();
    print(&texts.join("\n"))
}

fn peers(ovpn: &mut Ovpn, link: &Link) -> ovpn_netlink::Result<Vec<(PeerInfo, Vec<KeyInfo>)>> {
    let mut peers = Vec::new();
    for peer in ovpn.peers(link.index)? {
        let mut keys = Vec::new();
        for slot in [Slot::Primary, Slot::Secondary] {
            match ovpn.key_get(link.index, peer.id, slot) {
                Ok(key) => keys.push(key),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        peers.push((peer, keys));
    }
    Ok(peers)
}

fn interface_json(interface: &Interface) -> Value {
    let link = &interface.link;
    let peers: Vec<Value> = interface
        .peers
        .iter()
        .map(|(peer, keys)| peer_json(peer, keys))
        .collect();
    json!({
        "name": link.name,
        "ifindex": link.index,
        "mode": link.mode.map(|mode| mode.to_string()),
        "mtu": link.mtu,
        "up": link.up,
        "carrier": link.carrier,
        "peers": peers,
    })
}

fn peer_json(peer: &PeerInfo, keys: &[KeyInfo]) -> Value {
    let text = |value: Option<String>| value.map_or(Value::Null, Value::String);
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| json!({
                "slot": key.slot.to_string(), "key_id": key.key_id.get(), "cipher": key.cipher.to_string(),
                "driver": text(key.driver.clone()), "async": key.is_async,
            }))
        .collect();
    json!({
        "peer_id": peer.id.get(),
        "tx_id": peer.tx_id.map(|id| id.get()),
        "remote": text(peer.remote.map(|remote| remote.to_string())),
        "local": text(peer.local.map(|local| local.to_string())),
        "local_port": peer.local_port,
        "socket_netnsid": peer.socket_netnsid,
        "vpn_ipv4": text(peer.vpn_ipv4.map(|ip| ip.to_string())),
        "vpn_ipv6": text(peer.vpn_ipv6.map(|ip| ip.to_string())),
        "keepalive_interval": peer.keepalive.interval,
        "keepalive_timeout": peer.keepalive.timeout,
        "vpn": json::counters(&peer.vpn),
        "link": json::counters(&peer.link),
        "drops": peer.drops.as_ref().map(|drops| drops_json(drops)),
        "last_seen_ms": peer.last_seen.map(|ago| ago.as_millis() as u64),
        "keys": keys,
    })
}

fn drops_json(drops: &[Dropped]) -> Value {
    let counts = drops.iter();
    counts
        .map(|drop| (drop.reason().into_owned(), json!(drop.packets)))
        .collect()
}

fn interface_text(interface: &Interface) -> String {
    let link = &interface.link;
    let mode = link.mode.map_or("unknown".into(), |mode| mode.to_string());
    let state = match (link.up, link.carrier) {
        (false, _) => "down",
        (true, false) => "up, no carrier",
        (true, true) => "up",
    };
    let mut out = format!(
        "interface: {}\n  mode: {mode}\n  mtu: {}\n  state: {state}\n",
        link.name, link.mtu
    );
    for (peer, keys) in &interface.peers {
        out.push_str(&peer_text(peer, keys));
    }
    out
}

fn key_text(key: &KeyInfo) -> String {
    let by = key.driver.as_ref().map_or(String::new(), |name| {
        let how = if key.is_async { ", asynchronous" } else { "" };
        format!(" by {name}{how}")
    });
    format!("id {}, {}{by}", key.key_id.get(), key.cipher)
}

fn peer_text(peer: &PeerInfo, keys: &[KeyInfo]) -> String {
    let mut out = format!("\npeer: {}\n", peer.id);
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {name}: {value}");
    };
    if let Some(tx_id) = peer.tx_id.filter(|tx_id| *tx_id != peer.id) {
        line("tx id", tx_id.to_string());
    }
    if let Some(remote) = peer.remote {
        line("remote", remote.to_string());
    }
    if let Some(port) = peer.local_port {
        line("local port", port.to_string());
    }
    if let Some(local) = peer.local.filter(|local| !local.is_unspecified()) {
        line("local", local.to_string());
    }
    let vpn_ips: Vec<String> = [
        peer.vpn_ipv4.map(|ip| ip.to_string()),
        peer.vpn_ipv6.map(|ip| ip.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !vpn_ips.is_empty() {
        line("vpn ip", vpn_ips.join(", "));
    }
    if peer.keepalive.interval != 0 || peer.keepalive.timeout != 0 {
        line(
            "keepalive",
            format!(
                "every {} s, timeout {} s",
                peer.keepalive.interval, peer.keepalive.timeout
            ),
        );
    }
    for key in keys {
        line(&format!("{} key", key.slot), key_text(key));
    }
    for (name, counters) in [("tunnel", peer.vpn), ("transport", peer.link)] {
        let received = format!(
            "{} B in {} packets received",
            counters.rx_bytes, counters.rx_packets
        );
        line(
            name,
            format!(
                "{received}, {} B in {} packets sent",
                counters.tx_bytes, counters.tx_packets
            ),
        );
    }
    if let Some(ago) = peer.last_seen {
        line("last seen", format!("{} s ago", ago.as_secs()));
    }
    let drops = peer.drops.iter().flatten();
    let drops: Vec<String> = drops
        .map(|drop| format!("{} {}", drop.reason(), drop.packets))
        .collect();
    if !drops.is_empty() {
        line("lost packets", drops.join(", "));
    }
    out
}

pub(super) fn monitor(as_json: bool) -> Done {
    let mut monitor = Ovpn::open()?.monitor()?;
    let mut rtnl = Rtnl::open()?;
    loop {
        while let Some(event) = monitor.next_event()? {
            let event = event_json(event, &mut rtnl)?;
            if as_json {
                print(&format!("{event}\n"))?;
            } else {
                print(&event_text(&event))?;
            }
        }
        match poll(
            &mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)],
            PollTimeout::NONE,
        ) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
}

fn event_json(event: Event, rtnl: &mut Rtnl) -> ovpn_netlink::Result<Value> {
    // An interface that is gone already keeps its index alone.
    let mut interface = |ifindex| -> ovpn_netlink::Result<Value> {
        let links = rtnl.ovpn_links()?;
        Ok(links
            .into_iter()
            .find(|link| link.index == ifindex)
            .map_or(json!(ifindex), |link| json!(link.name)))
    };
    Ok(match event {
        Event::PeerDel {
            ifindex,
            peer,
            reason,
            totals,
        } => {
            let mut end = json!({
                "event": "peer-del",
                "interface": interface(ifindex)?,
                "peer_id": peer.get(),
                "reason": reason.map_or("unknown".into(), |reason| reason.to_string()),
            });
            if let (Some(end), Some(totals)) = (end.as_object_mut(), totals) {
                end.insert("rx_bytes".into(), totals.vpn.rx_bytes.into());
                end.insert("tx_bytes".into(), totals.vpn.tx_bytes.into());
            }
            end
        }
        Event::KeySwap {
            ifindex,
            peer,
            key_id,
        } => json!({
            "event": "key-swap",
            "interface": interface(ifindex)?,
            "peer_id": peer.get(),
            "key_id": key_id.get(),
        }),
        Event::PeerFloat {
            ifindex,
            peer,
            remote,
        } => json!({
            "event": "peer-float",
            "interface": interface(ifindex)?,
            "peer_id": peer.get(),
            "remote": remote.to_string(),
        }),
        Event::Lost => json!({ "event": "lost" }),
        _ => json!({ "event": "unknown" }),
    })
}

fn event_text(event: &Value) -> String {
    let name = event
        .get("event")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut out = name.to_owned();
    for (key, value) in event
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "event")
    {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        // Writing to a String cannot fail.
        let _ = write!(out, " {key} {value}");
    }
    out.push('\n');
    out
}
