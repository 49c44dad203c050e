// SPDX-License-Identifier: GPL-2.0-only
//! `peers`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ovpn_netlink::{KeyInfo, PeerId, PeerInfo};
use serde_json::{Map, Value, json};

use super::view::texts;
use super::{Args, Refusal, problems};
use crate::config::overlay::Overlay;
use crate::engine::{Engine, Rate, Samples};
use crate::json::counters;
use crate::kernel::Kernel;
use crate::tunnel::{Control, PeerView};

/// Most peers of one answer: each is up to 2 KiB, and a message holds 1 MiB.
const MOST: usize = 500;
/// What is answered in 10 ms, broker and caller included.
const DEFAULT: usize = 100;

/// Describes peers.
///
/// # Errors
/// Arguments are wrong, or name what is not there.
pub fn peers<K: Kernel>(
    engine: &mut Engine<K>,
    overlay: &Overlay,
    args: Args<'_>,
    now: Instant,
) -> Result<Value, Refusal> {
    let only = args.text("interface")?;
    let peer = args.name("peer")?;
    let offset = args.integer("offset", 0..=usize::MAX)?.unwrap_or(0);
    let limit = args.integer("limit", 1..=MOST)?.unwrap_or(DEFAULT);
    let names: Vec<String> = engine.tunnels().map(|(name, _)| name.clone()).collect();
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| only.is_none_or(|only| only == name))
        .collect();
    if let (Some(only), true) = (only, names.is_empty()) {
        return Err(Refusal::no_interface(only));
    }
    let number: Option<PeerId> = peer.as_ref().and_then(|peer| peer.parse().ok());
    let (mut total, mut list) = (0usize, Vec::new());
    for name in &names {
        let there = engine.kernel.peers(name).unwrap_or_default();
        engine.samples.look(name, &there, now);
        let Some((_, tunnel)) = engine.tunnels().find(|(known, _)| *known == name) else {
            continue;
        };
        let mut pick = |name: &str, id: Option<PeerId>| {
            if peer
                .as_ref()
                .is_some_and(|peer| peer != name && (number.is_none() || number != id))
            {
                return false;
            }
            total += 1;
            total > offset && total - offset <= limit
        };
        let (control, views) = (tunnel.control(), tunnel.peers(&there, now, &mut pick));
        let there: BTreeMap<PeerId, PeerInfo> =
            there.into_iter().map(|info| (info.id, info)).collect();
        for view in views {
            let info = view.id.and_then(|id| there.get(&id));
            let key = info.and_then(|info| engine.key(name, info.id));
            let known = Known {
                interface: name,
                control,
                touched: overlay.touches(name, &view.name),
                info,
                key: key.as_ref(),
                samples: &engine.samples,
                now,
            };
            list.push(known.describe(&view));
        }
    }
    if let (Some(peer), true) = (&peer, total == 0) {
        return Err(Refusal::no_peer(peer));
    }
    let end = offset.saturating_add(list.len());
    let next = Some(end).filter(|end| *end < total && !list.is_empty());
    Ok(json!({ "total": total, "next": next, "peers": list }))
}

/// All that is known of a peer besides its configuration.
struct Known<'a> {
    interface: &'a str,
    control: Control,
    touched: bool,
    info: Option<&'a PeerInfo>,
    key: Option<&'a KeyInfo>,
    samples: &'a Samples,
    now: Instant,
}

impl Known<'_> {
    fn describe(&self, view: &PeerView) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        put("interface", json!(self.interface));
        put("control", json!(self.control.to_string()));
        put("name", json!(view.name));
        put("description", json!(view.description));
        put("peer_id", json!(view.id.map(PeerId::get)));
        let info = self.info;
        let tx_id = info
            .and_then(|info| info.tx_id)
            .filter(|id| Some(*id) != view.id);
        put("tx_id", json!(tx_id.map(PeerId::get)));
        put("state", json!(view.state.to_string()));
        put("error", json!(view.error));
        put("problems", problems(&view.problems));
        put("origin", json!(self.origin()));
        put("endpoint", json!(view.endpoint));
        let remote = info.and_then(|info| info.remote).or(view.remote);
        put("remote", json!(remote.map(|remote| remote.to_string())));
        put("local", json!(info.and_then(local)));
        put("vpn_ips", json!(texts(&view.vpn_ips)));
        put("allowed_ips", json!(texts(&view.allowed_ips)));
        let keepalive = view.keepalive;
        put("keepalive_interval", json!(keepalive.map(|k| k.interval)));
        put("keepalive_timeout", json!(keepalive.map(|k| k.timeout)));
        put("connected", json!(view.connected.map(|d| d.as_secs())));
        put("last_seen", json!(self.last_seen().map(|d| d.as_secs())));
        put("losses", json!(view.losses));
        put("key_source", json!(view.key_source));
        let has_key = match self.info {
            Some(_) => self.key.is_some(),
            None => view.key_fingerprint.is_some(),
        };
        put("has_key", json!(has_key));
        let fingerprint = view.key_fingerprint.as_ref();
        let fingerprint = fingerprint.map(|hex| format!("sha256:{hex}"));
        put("key_fingerprint", json!(fingerprint));
        put("key_age", json!(view.key_age.map(|d| d.as_secs())));
        put("key_id", json!(self.key.map(|key| key.key_id.get())));
        let in_use = || self.key.map(|key| key.cipher.to_string());
        put("cipher", json!(view.cipher.clone().or_else(in_use)));
        let engine = self.key.and_then(|key| key.driver.as_ref());
        put("engine", json!(engine));
        let is_async = self.key.filter(|key| key.driver.is_some());
        put("engine_async", json!(is_async.map(|key| key.is_async)));
        put(
            "vpn",
            counters(&info.map(|info| info.vpn).unwrap_or_default()),
        );
        put(
            "link",
            counters(&info.map(|info| info.link).unwrap_or_default()),
        );
        let rates = info.and_then(|info| self.samples.rates(self.interface, info.id));
        put("vpn_rate", json!(rates.map(|(vpn, _)| rate(vpn))));
        put("link_rate", json!(rates.map(|(_, link)| rate(link))));
        put("drops", json!(info.and_then(drops)));
        Value::Object(object)
    }

    fn origin(&self) -> &'static str {
        match (self.control, self.touched) {
            (Control::Observed, _) => "observed",
            (Control::Static, true) => "runtime",
            (Control::Static, false) => "uci",
        }
    }

    fn last_seen(&self) -> Option<Duration> {
        let info = self.info?;
        if info.last_seen.is_some() {
            return info.last_seen;
        }
        let heard = self.samples.heard(self.interface, info.id)?;
        Some(self.now.saturating_duration_since(heard))
    }
}

fn local(info: &PeerInfo) -> Option<String> {
    let port = info.local_port?;
    Some(match info.local {
        Some(ip) => std::net::SocketAddr::new(ip, port).to_string(),
        None => format!("*:{port}"),
    })
}

fn rate(rate: Rate) -> Value {
    json!({ "rx": rate.rx, "tx": rate.tx })
}

fn drops(info: &PeerInfo) -> Option<Value> {
    let list = info.drops.as_ref()?.iter();
    let list = list.filter(|dropped| dropped.packets > 0);
    let named = list.map(|dropped| (dropped.reason().to_string(), json!(dropped.packets)));
    Some(Value::Object(named.collect()))
}
