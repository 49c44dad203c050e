// SPDX-License-Identifier: GPL-2.0-or-later
//! The answers of a server to ubus.

use std::net::IpAddr;
use std::time::Instant;

use ovpn_netlink::{Mode, PeerInfo};

use super::{Server, Session, admit};
use crate::tunnel::{self, Control, InterfaceView, LastRefusal, PeerView, Tunnel, Wanted};

impl Tunnel for Server {
    fn control(&self) -> Control {
        Control::Tls
    }

    fn interface(&self) -> InterfaceView {
        let interface = self.spec.as_ref().map(|spec| &spec.interface);
        let state = self.state.as_ref();
        InterfaceView {
            up: state.is_some_and(|state| state.up) && self.live.is_some(),
            error: self.failure.clone(),
            mode: Some(Mode::Mp),
            transport: interface.map(|interface| interface.socket.transport),
            local_port: interface.map_or(0, |interface| interface.socket.port),
            fwmark: interface.map_or(0, |interface| interface.socket.mark),
            mtu: state.and_then(|state| state.mtu),
            mssfix: interface.map(|interface| interface.mssfix.to_string()),
            hwcrypto: interface.map(|interface| interface.hwcrypto.to_string()),
            cipher: None,
            addresses: interface.map_or(Vec::new(), |interface| interface.addresses.clone()),
            problems: self.problems.clone(),
            warnings: self.warnings.clone(),
            stopped: self.stopped.clone(),
            past: Some(self.past),
            last_refusal: self
                .last_refusal
                .as_ref()
                .map(|(remote, why, at)| LastRefusal {
                    remote: *remote,
                    why: why.clone(),
                    age: at.elapsed(),
                }),
        }
    }

    fn count(&self) -> (usize, usize) {
        let all = self.live.as_ref().map_or(0, |live| live.sessions.len());
        (all, self.ready().count())
    }

    fn peers(&self, _: &[PeerInfo], now: Instant, wanted: &mut Wanted<'_>) -> Vec<PeerView> {
        let age = |since: Instant| now.saturating_duration_since(since);
        let sessions = self.live.iter().flat_map(|live| live.sessions.values());
        let keepalive = self.spec.as_ref().map(|spec| admit::keepalive(spec));
        let section = |session: &Session| self.spec.as_ref()?.clients.get(&session.name);
        sessions
            .filter(|session| wanted(&session.name, Some(session.id)))
            .map(|session| {
                let lease = &session.lease;
                let (v4, v6) = (lease.v4.map(IpAddr::from), lease.v6.map(IpAddr::from));
                PeerView {
                    name: session.name.clone(),
                    description: None,
                    id: Some(session.id),
                    state: match session.keyed {
                        Some(_) => tunnel::PeerState::Up,
                        None => tunnel::PeerState::Authenticating,
                    },
                    since: Some(age(session.since)),
                    error: None,
                    question: None,
                    route_error: session.route_error.clone(),
                    problems: Vec::new(),
                    endpoint: None,
                    remote: Some(session.remote()),
                    vpn_ips: v4.into_iter().chain(v6).collect(),
                    allowed_ips: section(session).map_or(Vec::new(), |s| s.iroutes.clone()),
                    keepalive,
                    connected: session.keyed.map(|_| age(session.since)),
                    losses: None,
                    key_source: Some("tls"),
                    key_fingerprint: None,
                    key_age: session.keyed.map(age),
                    cipher: session.cipher.map(|cipher| cipher.to_string()),
                }
            })
            .collect()
    }
}
