// SPDX-License-Identifier: GPL-2.0-or-later
//! Tunnels that another program made on the same driver.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ovpn_netlink::{IpPrefix, Link, PeerId, PeerInfo};

use crate::config::Transport;
use crate::tunnel::{Control, InterfaceView, PeerState, PeerView, Tunnel, Wanted};

/// An interface of kind `ovpn` that is none of ours.
#[derive(Debug)]
pub struct Observed {
    /// The interface as the kernel described it last.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<IpPrefix>,
    /// Its peers, and when they were seen first, if that was not together with the interface.
    pub peers: BTreeMap<PeerId, Option<Instant>>,
    /// Values that its peers have in common.
    pub socket: Option<(Transport, u16)>,
}

/// The transport of a peer: over TCP the kernel knows no address of it.
pub(super) fn transport(peer: &PeerInfo) -> Option<(Transport, u16)> {
    let port = peer.local_port?;
    Some(match peer.remote {
        Some(remote) => (Transport::new(false, remote.is_ipv6()), port),
        None => (Transport::Tcp, port),
    })
}

impl Tunnel for Observed {
    fn control(&self) -> Control {
        Control::Observed
    }

    fn interface(&self) -> InterfaceView {
        InterfaceView {
            up: self.link.up,
            mode: self.link.mode,
            transport: self.socket.map(|(transport, _)| transport),
            local_port: self.socket.map_or(0, |(_, port)| port),
            mtu: Some(self.link.mtu),
            addresses: self.addresses.clone(),
            ..InterfaceView::default()
        }
    }

    fn count(&self) -> (usize, usize) {
        (self.peers.len(), self.peers.len())
    }

    fn peers(&self, there: &[PeerInfo], now: Instant, wanted: &mut Wanted<'_>) -> Vec<PeerView> {
        let view = |info: &PeerInfo| PeerView {
            name: info.id.to_string(),
            description: None,
            id: Some(info.id),
            state: PeerState::Up,
            since: None,
            error: None,
            question: None,
            route_error: None,
            problems: Vec::new(),
            endpoint: None,
            remote: info.remote,
            vpn_ips: (info.vpn_ipv4.map(IpAddr::from).into_iter())
                .chain(info.vpn_ipv6.map(IpAddr::from))
                .collect(),
            allowed_ips: Vec::new(),
            keepalive: Some(info.keepalive),
            connected: self
                .peers
                .get(&info.id)
                .copied()
                .flatten()
                .map(|since| now.saturating_duration_since(since)),
            losses: None,
            key_source: None,
            key_fingerprint: None,
            key_age: None,
            cipher: None,
        };
        let mut sorted: Vec<&PeerInfo> = there.iter().collect();
        sorted.sort_by_key(|info| info.id);
        let sorted = sorted.into_iter();
        sorted
            .filter(|info| wanted(&info.id.to_string(), Some(info.id)))
            .map(view)
            .collect()
    }
}
