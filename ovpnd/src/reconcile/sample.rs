// SPDX-License-Identifier: GPL-2.0-or-later
//! Rates, and when a peer was heard, from counters that are looked at now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ovpn_netlink::{Counters, PeerId, PeerInfo};

/// Two looks closer to each other than this are one: a rate over less says nothing.
const LEAST: Duration = Duration::from_secs(1);
/// A look older than this is of another time.
const MOST: Duration = Duration::from_secs(60);

/// Bytes per second both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Received.
    pub rx: u64,
    /// Sent.
    pub tx: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    vpn: Counters,
    link: Counters,
}

#[derive(Debug, Clone, Copy)]
struct History {
    older: Option<Sample>,
    newer: Sample,
    /// When the count of received packets was seen to grow.
    heard: Option<Instant>,
}

/// The last looks at all peers.
#[derive(Debug, Default)]
pub struct Samples {
    peers: BTreeMap<String, BTreeMap<PeerId, History>>,
}

impl Samples {
    /// Looks at all peers of an interface; forgets those that are gone.
    pub fn look(&mut self, interface: &str, peers: &[PeerInfo], now: Instant) {
        self.glance(interface, peers, now);
        if let Some(known) = self.peers.get_mut(interface)
            && known.len() > peers.len()
        {
            let there: BTreeSet<PeerId> = peers.iter().map(|peer| peer.id).collect();
            known.retain(|id, _| there.contains(id));
        }
    }

    /// Looks at some peers of an interface.
    pub fn glance(&mut self, interface: &str, peers: &[PeerInfo], now: Instant) {
        if !self.peers.contains_key(interface) {
            self.peers.insert(interface.to_owned(), BTreeMap::new());
        }
        let Some(known) = self.peers.get_mut(interface) else {
            return;
        };
        for peer in peers {
            let fresh = Sample {
                at: now,
                vpn: peer.vpn,
                link: peer.link,
            };
            // Counters that went back are those of a new peer.
            match known.get_mut(&peer.id) {
                Some(old) if old.newer.link.rx_bytes <= peer.link.rx_bytes => {
                    if old.newer.link.rx_packets < peer.link.rx_packets {
                        old.heard = Some(now);
                    }
                    if now.saturating_duration_since(old.newer.at) >= LEAST {
                        old.older = Some(old.newer);
                        old.newer = fresh;
                    }
                }
                _ => {
                    let history = History {
                        older: None,
                        newer: fresh,
                        heard: None,
                    };
                    known.insert(peer.id, history);
                }
            }
        }
    }

    /// Forgets an interface.
    pub fn forget(&mut self, interface: &str) {
        self.peers.remove(interface);
    }

    /// Rates (inside the tunnel, encrypted) between the last two looks.
    pub fn rates(&self, interface: &str, peer: PeerId) -> Option<(Rate, Rate)> {
        let history = self.peers.get(interface)?.get(&peer)?;
        let (old, new) = (history.older?, history.newer);
        let time = new.at.saturating_duration_since(old.at);
        if time > MOST {
            return None;
        }
        let millis = u64::try_from(time.as_millis())
            .ok()
            .filter(|millis| *millis > 0)?;
        let per_second = |old: u64, new: u64| new.saturating_sub(old).saturating_mul(1000) / millis;
        let rate = |old: &Counters, new: &Counters| Rate {
            rx: per_second(old.rx_bytes, new.rx_bytes),
            tx: per_second(old.tx_bytes, new.tx_bytes),
        };
        Some((rate(&old.vpn, &new.vpn), rate(&old.link, &new.link)))
    }

    /// When a packet of the peer was noticed last.
    pub fn heard(&self, interface: &str, peer: PeerId) -> Option<Instant> {
        self.peers.get(interface)?.get(&peer)?.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_netlink::Keepalive;

    fn peer(rx_bytes: u64) -> PeerInfo {
        let counters = Counters {
            rx_bytes,
            tx_bytes: rx_bytes * 2,
            rx_packets: rx_bytes / 100,
            tx_packets: 0,
        };
        PeerInfo {
            id: PeerId::new(1).unwrap(),
            tx_id: None,
            socket_netnsid: None,
            vpn_ipv4: None,
            vpn_ipv6: None,
            keepalive: Keepalive {
                interval: 0,
                timeout: 0,
            },
            remote: None,
            local: None,
            local_port: None,
            vpn: counters,
            link: counters,
            drops: None,
            last_seen: None,
        }
    }

    #[test]
    fn rates_are_those_between_two_looks_a_second_or_more_apart() {
        let (start, id) = (Instant::now(), PeerId::new(1).unwrap());
        let mut samples = Samples::default();
        let mut look = |millis: u64, bytes: u64| {
            let now = start + Duration::from_millis(millis);
            samples.look("v", &[peer(bytes)], now);
            (
                samples.rates("v", id).map(|(vpn, _)| (vpn.rx, vpn.tx)),
                samples.heard("v", id).map(|at| at - start),
            )
        };
        let ms = Duration::from_millis;
        assert_eq!(look(0, 0), (None, None));
        // A second viewer does not shorten the time.
        assert_eq!(look(10, 0), (None, None));
        assert_eq!(look(2000, 5000), (Some((2500, 5000)), Some(ms(2000))));
        assert_eq!(look(2001, 5000), (Some((2500, 5000)), Some(ms(2000))));
        assert_eq!(look(4000, 5000), (Some((0, 0)), Some(ms(2000))));
        // After a long pause there is nothing to compare with.
        assert_eq!(look(104_000, 9000).0, None);
        assert_eq!(look(105_000, 10_000).0, Some((1000, 2000)));
        // A new peer of the same number starts anew.
        assert_eq!(look(106_000, 10), (None, None));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let (now, mut samples) = (Instant::now(), Samples::default());
        samples.look("v", &[peer(1)], now);
        samples.glance("v", &[], now);
        assert_eq!(samples.peers["v"].len(), 1);
        samples.look("v", &[], now);
        assert!(samples.peers["v"].is_empty());
        samples.forget("v");
        assert!(samples.peers.is_empty());
    }
}
