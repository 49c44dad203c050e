// SPDX-License-Identifier: GPL-2.0-or-later
//! `peers`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use ovpn_netlink::{Counters, Dropped, KeyInfo, PeerId, PeerInfo};
use ubus::BlobMsgTable;

use super::{Args, Refusal};
use crate::answer::Answer;
use crate::config::Problem;
use crate::config::overlay::Overlay;
use crate::kernel::Kernel;
use crate::reconcile::{Rate, Reconciler, Samples};
use crate::tunnel::{Control, PeerView, Tunnel, Wanted};

/// Most peers of one answer: each is up to 2 KiB, and a message holds 1 MiB.
const MOST: usize = 500;
/// Peers that are answered in 10 ms, broker and caller included.
const DEFAULT: usize = 100;
/// A peer asked for alone costs as much as this many in a list, on a kernel with slow system calls.
const SINGLE: usize = 64;

/// Describes peers.
///
/// # Errors
/// Arguments are wrong, or name what is not there.
pub fn peers<K: Kernel>(
    engine: &mut Reconciler<K>,
    overlay: &Overlay,
    args: Args<'_>,
    now: Instant,
) -> Result<BlobMsgTable, Refusal> {
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
    let mut total = 0usize;
    let mut pages = Vec::new();
    for name in &names {
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
        pages.push(page(engine, name, now, &mut pick));
    }
    if let (Some(peer), true) = (&peer, total == 0) {
        return Err(Refusal::no_peer(peer));
    }
    let count: usize = pages.iter().map(|page| page.views.len()).sum();
    let end = offset.saturating_add(count);
    let next = Some(end).filter(|end| *end < total && count > 0);
    Ok(Answer::build(|answer| {
        answer.number("total", Some(total as u64));
        answer.number("next", next.map(|next| next as u64));
        let known = pages.iter().flat_map(|page| {
            let keys = page.views.iter().zip(&page.keys);
            keys.map(|(view, key)| {
                let known = Known {
                    interface: page.interface,
                    control: page.control,
                    touched: overlay.touches(page.interface, &view.name),
                    info: view.id.and_then(|id| page.there.get(&id)),
                    key: key.as_ref(),
                    samples: &engine.samples,
                    now,
                };
                (known, view)
            })
        });
        answer.tables("peers", known, |answer, (known, view)| {
            known.describe(view, answer);
        });
    }))
}

/// An interface's share of an answer.
struct Page<'a> {
    interface: &'a str,
    control: Control,
    views: Vec<PeerView>,
    /// The key of each of `views`.
    keys: Vec<Option<KeyInfo>>,
    there: BTreeMap<PeerId, PeerInfo>,
}

fn page<'a, K: Kernel>(
    engine: &mut Reconciler<K>,
    interface: &'a str,
    now: Instant,
    wanted: &mut Wanted<'_>,
) -> Page<'a> {
    let tunnel = |engine: &Reconciler<K>, there: &[PeerInfo], wanted: &mut Wanted<'_>| {
        let (_, tunnel) = engine.tunnels().find(|(known, _)| *known == interface)?;
        Some((tunnel.control(), tunnel.peers(there, now, wanted)))
    };
    // Of a tunnel of our own it is known who is wanted before the kernel is asked.
    let ours = engine
        .interfaces
        .get(interface)
        .map(|managed| managed.count().1);
    let (found, there) = match ours {
        Some(up) => {
            let found = tunnel(engine, &[], wanted);
            let ids = found.iter().flat_map(|(_, views)| views);
            let ids: Vec<PeerId> = ids.filter_map(|view| view.id).collect();
            (found, infos(engine, interface, &ids, up, now))
        }
        None => {
            let there = all(engine, interface, now);
            (tunnel(engine, &there, wanted), there)
        }
    };
    let (control, views) = found.unwrap_or((Control::Observed, Vec::new()));
    let there: BTreeMap<PeerId, PeerInfo> = there.into_iter().map(|info| (info.id, info)).collect();
    let key = |view: &PeerView| {
        let id = view.id.filter(|id| there.contains_key(id))?;
        engine.key(interface, &view.name, id)
    };
    Page {
        interface,
        control,
        keys: views.iter().map(key).collect(),
        views,
        there,
    }
}

fn all<K: Kernel>(engine: &mut Reconciler<K>, interface: &str, now: Instant) -> Vec<PeerInfo> {
    let there = engine.kernel.peers(interface).unwrap_or_default();
    engine.samples.look(interface, &there, now);
    there
}

/// The kernel's state of these peers of an interface, on which `up` peers are there.
fn infos<K: Kernel>(
    engine: &mut Reconciler<K>,
    interface: &str,
    ids: &[PeerId],
    up: usize,
    now: Instant,
) -> Vec<PeerInfo> {
    if ids.len() * SINGLE > up {
        return all(engine, interface, now);
    }
    let there = ids
        .iter()
        .filter_map(|id| engine.kernel.peer(interface, *id));
    let there: Vec<PeerInfo> = there.collect();
    engine.samples.glance(interface, &there, now);
    there
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
    fn describe(&self, view: &PeerView, to: &mut Answer) {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let number = |id: PeerId| u64::from(id.get());
        to.text("interface", Some(self.interface));
        to.shown("control", Some(&self.control));
        to.text("name", Some(&view.name));
        to.text("description", view.description.as_deref());
        to.number("peer_id", view.id.map(number));
        let info = self.info;
        let tx_id = info
            .and_then(|info| info.tx_id)
            .filter(|id| Some(*id) != view.id);
        to.number("tx_id", tx_id.map(number));
        to.shown("state", Some(&view.state));
        to.number("since", seconds(view.since));
        to.text("error", view.error.as_deref());
        to.text("route_error", view.route_error.as_deref());
        to.table("question", view.question.as_ref(), |to, question| {
            to.text("text", Some(&question.text));
            to.flag("echo", Some(question.echo));
            to.flag("user", Some(question.user));
        });
        to.tables("problems", &view.problems, problem);
        to.text("origin", Some(self.origin()));
        to.text("endpoint", view.endpoint.as_deref());
        let remote = info.and_then(|info| info.remote).or(view.remote);
        to.shown("remote", remote.as_ref().map(|r| r as &dyn Display));
        to.text("local", info.and_then(local).as_deref());
        to.texts("vpn_ips", &view.vpn_ips);
        to.texts("allowed_ips", &view.allowed_ips);
        let keepalive = view.keepalive;
        to.number("keepalive_interval", keepalive.map(|k| k.interval.into()));
        to.number("keepalive_timeout", keepalive.map(|k| k.timeout.into()));
        to.number("connected", seconds(view.connected));
        to.number("last_seen", seconds(self.last_seen()));
        to.number("losses", view.losses.map(u64::from));
        to.text("key_source", view.key_source);
        let has_key = match self.info {
            Some(_) => self.key.is_some(),
            None => view.key_fingerprint.is_some(),
        };
        to.flag("has_key", Some(has_key));
        let fingerprint = view.key_fingerprint.as_ref();
        let fingerprint = fingerprint.map(|hex| format!("sha256:{hex}"));
        to.text("key_fingerprint", fingerprint.as_deref());
        to.number("key_age", seconds(view.key_age));
        to.number("key_id", self.key.map(|key| key.key_id.get().into()));
        match (&view.cipher, self.key) {
            (Some(cipher), _) => to.text("cipher", Some(cipher)),
            (None, key) => to.shown("cipher", key.map(|key| &key.cipher as &dyn Display)),
        }
        let told = self.key.filter(|key| key.driver.is_some());
        to.text("engine", told.and_then(|key| key.driver.as_deref()));
        to.flag("engine_async", told.map(|key| key.is_async));
        to.table("vpn", Some(info.map(|info| info.vpn)), counters);
        to.table("link", Some(info.map(|info| info.link)), counters);
        let rates = info.and_then(|info| self.samples.rates(self.interface, info.id));
        to.table("vpn_rate", rates.map(|(vpn, _)| vpn), rate);
        to.table("link_rate", rates.map(|(_, link)| link), rate);
        to.table("drops", info.and_then(|info| info.drops.as_deref()), drops);
    }

    fn origin(&self) -> &'static str {
        match (self.control, self.touched) {
            (Control::Observed, _) => "observed",
            (Control::Static, true) => "runtime",
            (Control::Static | Control::Tls, _) => "uci",
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

fn problem(to: &mut Answer, problem: &Problem) {
    to.shown("text", Some(problem));
    to.text("file", Some(&problem.file));
    to.number("line", Some(problem.line as u64));
    to.text("section", problem.section.as_deref());
    to.text("option", problem.option.as_deref());
    to.text("message", Some(&problem.message));
}

fn counters(to: &mut Answer, counters: Option<Counters>) {
    let counters = counters.unwrap_or_default();
    to.number("rx_bytes", Some(counters.rx_bytes));
    to.number("tx_bytes", Some(counters.tx_bytes));
    to.number("rx_packets", Some(counters.rx_packets));
    to.number("tx_packets", Some(counters.tx_packets));
}

fn rate(to: &mut Answer, rate: Rate) {
    to.number("rx", Some(rate.rx));
    to.number("tx", Some(rate.tx));
}

fn drops(to: &mut Answer, list: &[Dropped]) {
    let lost = |dropped: &&Dropped| dropped.packets > 0 && !dropped.is_harmless();
    for dropped in list.iter().filter(lost) {
        to.number(&dropped.reason(), Some(dropped.packets.into()));
    }
}
