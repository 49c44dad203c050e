// SPDX-License-Identifier: GPL-2.0-or-later
//! The server's options: those that make the peer, and those that change while the session is up.

use std::time::Instant;

use openvpn_control::push::Options;
use openvpn_control::session::Negotiated;
use ovpn_netlink::PeerId;

use super::super::options::names;
use super::{Client, Link, Up};
use crate::kernel::Kernel;
use crate::state::Op;

impl Client {
    pub(super) fn pushed<K: Kernel>(
        &mut self,
        name: &str,
        options: Options,
        agreed: Negotiated,
        kernel: &mut K,
        now: Instant,
    ) -> Result<(), String> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let peer = options.peer_id.and_then(PeerId::new);
        let peer = peer.ok_or(
            "the server pushes no peer-id: the driver needs packets of version 2, which OpenVPN has since 2.4",
        )?;
        let up = Up {
            peer,
            options,
            cipher: agreed.cipher,
            since: now,
            keyed: None,
        };
        live.up = Some(up);
        self.say_left_out(name, &[]);
        self.make_peer(name, peer, kernel)
    }

    /// The server changed options: addresses, routes, MTU and timers follow in place, here or by netifd, which is asked for a
    /// renewal when the offer is another one.
    pub(super) fn updated<K: Kernel>(
        &mut self,
        name: &str,
        options: Options,
        kernel: &mut K,
    ) -> Result<(), String> {
        let before = self.left_out();
        let live = self.live.as_mut();
        let Some(up) = live.and_then(|live| live.up.as_mut()) else {
            return Ok(());
        };
        up.options = options;
        log::info!("{name}: the server changed its options");
        self.say_left_out(name, &before);
        self.reconcile(name, kernel)
    }

    /// Sentences about options that are not carried out, and whether they are worth a warning.
    fn left_out(&self) -> Vec<(log::Level, String)> {
        let live = self.live.as_ref();
        let known = live.and_then(|live| Some((live, live.up.as_ref()?)));
        let Some((spec, (live, up))) = self.spec.as_ref().zip(known) else {
            return Vec::new();
        };
        let ((servers, _), split) = names(&up.options);
        let unset = (!self.netifd && !servers.is_empty())
            .then(|| "the server's DNS servers are not set: netifd does that".to_owned());
        let routes = self.routes(spec, up, live.remote.ip()).1;
        let ours = routes.into_iter().chain(split).chain(unset);
        let ignored = up.options.ignored.iter().cloned();
        let ignored = ignored.map(|sentence| (log::Level::Info, sentence));
        ignored
            .chain(ours.map(|sentence| (log::Level::Warn, sentence)))
            .collect()
    }

    /// Says those of them that are not `known`.
    fn say_left_out(&self, name: &str, known: &[(log::Level, String)]) {
        let sentences = self.left_out();
        for (level, sentence) in sentences.iter().filter(|new| !known.contains(new)) {
            log::log!(*level, "{name}: {sentence}");
        }
    }

    /// Makes the peer of a session whose options have come, over TCP of its connection.
    fn make_peer<K: Kernel>(
        &mut self,
        name: &str,
        peer: PeerId,
        kernel: &mut K,
    ) -> Result<(), String> {
        let link = self.live.as_mut().map(|live| &mut live.link);
        let Some(link @ Link::Tcp(_)) = link else {
            return self.reconcile(name, kernel);
        };
        let Link::Tcp(mut connection) = std::mem::replace(link, Link::Closed) else {
            return Ok(());
        };
        let made = connection.hand_over(|stream| {
            kernel.connected(name, peer, stream);
            self.reconcile(name, kernel)
        });
        if let Some(live) = &mut self.live {
            live.link = Link::Tcp(connection);
        }
        if made.is_err() {
            // The connection must not stay open for a peer that is not there.
            let _ = kernel.run(name, &Op::DelPeer(peer), None);
        }
        made
    }
}
