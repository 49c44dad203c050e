// SPDX-License-Identifier: GPL-2.0-or-later
//! The answers of a client to ubus.

use std::time::Instant;

use openvpn_control::client::State as Step;
use ovpn_netlink::{Mode, PeerInfo};

use super::questions::Needs;
use super::{Client, PEER, Phase};
use crate::tunnel::{self, Control, InterfaceView, PeerView, Tunnel, Wanted};

impl Client {
    /// The question to the user.
    fn question(&self) -> Option<tunnel::Question> {
        let asking = self.phase == Phase::Asking && self.stopped.is_none();
        let spec = self.spec.as_ref().filter(|_| asking)?;
        self.login.question(Needs::of(spec))
    }
}

impl Tunnel for Client {
    fn control(&self) -> Control {
        Control::Tls
    }

    fn interface(&self) -> InterfaceView {
        let spec = self.spec.as_ref();
        let interface = spec.map(|spec| &spec.interface);
        let state = self.state.as_ref();
        let up = self.live.as_ref().and_then(|live| live.up.as_ref());
        InterfaceView {
            up: state.is_some_and(|state| state.up),
            error: self.failure.clone().filter(|_| up.is_none()),
            mode: Some(Mode::P2p),
            transport: self.socket_spec().map(|socket| socket.transport),
            local_port: interface.map_or(0, |interface| interface.socket.port),
            fwmark: interface.map_or(0, |interface| interface.socket.mark),
            mtu: state.and_then(|state| state.mtu),
            mssfix: interface.map(|interface| interface.mssfix.to_string()),
            hwcrypto: interface.map(|interface| interface.hwcrypto.to_string()),
            cipher: up.map(|up| up.cipher.to_string()),
            addresses: state.map_or(Vec::new(), |s| s.addresses.iter().copied().collect()),
            problems: self.problems.clone(),
            warnings: self.warnings.clone(),
            stopped: self.stopped.clone(),
            ..InterfaceView::default()
        }
    }

    fn count(&self) -> (usize, usize) {
        (1, self.peer().map_or(0, |_| 1))
    }

    fn peers(&self, _: &[PeerInfo], now: Instant, wanted: &mut Wanted<'_>) -> Vec<PeerView> {
        if !wanted(PEER, self.peer()) {
            return Vec::new();
        }
        let up = self.live.as_ref().and_then(|live| live.up.as_ref());
        let age = |since: Instant| now.saturating_duration_since(since);
        vec![PeerView {
            name: PEER.into(),
            description: None,
            id: self.peer(),
            state: match self.phase {
                _ if self.stopped.is_some() => tunnel::PeerState::Stopped,
                Phase::Waiting => tunnel::PeerState::Waiting,
                Phase::Asking => tunnel::PeerState::Asking,
                Phase::Resolving => tunnel::PeerState::Resolving,
                Phase::Stopped => tunnel::PeerState::Error,
                Phase::Session(Step::Connecting) => tunnel::PeerState::Connecting,
                Phase::Session(Step::Tls) => tunnel::PeerState::Tls,
                Phase::Session(Step::Authenticating) => tunnel::PeerState::Authenticating,
                Phase::Session(Step::Pushing) => tunnel::PeerState::Pushing,
                Phase::Session(Step::Up | Step::Over) => tunnel::PeerState::Up,
            },
            since: Some(age(self.since)),
            error: self.failure.clone(),
            question: self.question(),
            route_error: None,
            problems: Vec::new(),
            endpoint: self.endpoint().map(ToString::to_string),
            remote: self.live.as_ref().map(|live| live.remote),
            vpn_ips: Vec::new(),
            allowed_ips: Vec::new(),
            keepalive: None,
            connected: up.map(|up| age(up.since)),
            losses: Some(self.losses),
            key_source: Some("tls"),
            key_fingerprint: None,
            key_age: up.and_then(|up| up.keyed).map(age),
            cipher: up.map(|up| up.cipher.to_string()),
        }]
    }
}
