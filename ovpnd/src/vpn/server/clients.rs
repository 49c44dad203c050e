// SPDX-License-Identifier: GPL-2.0-or-later
//! A server's clients: whether they are let in, their keys, and their ends.

use std::net::SocketAddr;
use std::time::Instant;

use openvpn_control::keys::Role;
use openvpn_control::negotiate::{Abilities, choose_cipher};
use openvpn_control::peerinfo::PeerInfo as ClientInfo;
use openvpn_control::server::{Admission, Authenticate, Event, Handle, Path};
use openvpn_control::session::KeyChange;
use openvpn_control::verify::Revoked;
use ovpn_netlink::PeerId;

use super::super::key_event;
use super::super::logins::Login;
use super::super::pool::next_id;
use super::super::serving::Decision;
use super::super::worker::{Worker, sentence};
use super::{REFUSAL_PAUSE, Server, Session, World, admit, canonical, notice};
use crate::config::vpn::server::ServerSpec;
use crate::kernel::Kernel;
use crate::tunnel::News;

impl Server {
    /// Takes an event of the control channel.
    pub(in super::super) fn event<K: Kernel>(
        &mut self,
        name: &str,
        event: Event,
        login: Login,
        (kernel, worker): World<'_, K>,
        now: Instant,
    ) {
        match event {
            Event::Authenticate(client) => {
                if let Some(decision) = self.judge(name, &client, login, worker, now) {
                    self.decide(worker, decision);
                }
                self.reconcile(name, (kernel, worker));
            }
            Event::Keys(handle, change) => {
                let change = match self.connections() {
                    Some(connections) => connections.hold(handle, change),
                    None => Some(change),
                };
                let Some(change) = change else { return };
                if let Err(why) = self.keys(name, handle, change, (kernel, worker), now) {
                    log::warn!("{name}: {why}");
                    self.decide(worker, Decision::End(handle, why.clone()));
                    self.gone(name, handle, &why);
                    self.reconcile(name, (kernel, worker));
                }
            }
            Event::RenegotiationFailed(handle, why) => {
                let live = self.live.as_ref();
                if let Some(session) = live.and_then(|live| live.sessions.get(&handle)) {
                    let why = sentence(&why);
                    log::warn!("{name}: client {}: renegotiation: {why}", session.name);
                }
            }
            Event::Response(..) => {}
            Event::Closed(handle, path, why) => {
                let live = self.live.as_ref();
                let known = live.is_some_and(|live| live.sessions.contains_key(&handle));
                let why = sentence(&why);
                match known {
                    true => {
                        self.gone(name, handle, &why);
                        self.reconcile(name, (kernel, worker));
                    }
                    false => {
                        self.release(path);
                        self.refused(name, path.remote, &why, now);
                    }
                }
            }
        }
    }

    pub(super) fn decide(&self, worker: &Worker, decision: Decision) {
        if let Some(live) = &self.live {
            worker.decide(live.attempt, decision);
        }
    }

    /// Tells why a client was not let in: strangers must not fill the log.
    pub(super) fn refused(&mut self, name: &str, remote: SocketAddr, why: &str, now: Instant) {
        self.last_refusal = Some((canonical(remote), why.to_owned(), now));
        let (last, silent) = &mut self.refusals;
        if last.is_some_and(|last| now.saturating_duration_since(last) < REFUSAL_PAUSE) {
            *silent = silent.saturating_add(1);
            return;
        }
        let more = match std::mem::take(silent) {
            0 => String::new(),
            count => format!(" ({count} more before it)"),
        };
        *last = Some(now);
        log::info!("{name}: {} was not let in: {why}{more}", canonical(remote));
    }

    /// Decides about a client whose TLS handshake is done.
    fn judge(
        &mut self,
        name: &str,
        client: &Authenticate,
        login: Login,
        worker: &Worker,
        now: Instant,
    ) -> Option<Decision> {
        let handle = client.handle;
        let spec = self.spec.clone()?;
        let (user, token) = match login {
            Login::None => (None, None),
            Login::User(user, token) => (Some(user), token),
            Login::Refused(why) => return Some(Decision::Refuse(handle, why.into())),
        };
        let Some(who) = admit::name(&spec, &client.hello, user.as_deref()) else {
            let why = "there is no certificate and no user name";
            return Some(Decision::Refuse(handle, why.into()));
        };
        let live = self.live.as_ref()?;
        let is_older = |session: &Session| !spec.duplicate_cn && session.name == who;
        let older: Vec<Handle> = live
            .sessions
            .iter()
            .filter(|(other, session)| **other != handle && is_older(session))
            .map(|(other, _)| *other)
            .collect();
        let others = live.sessions.len().saturating_sub(older.len());
        let others = others.saturating_sub(usize::from(client.again));
        let section = match admit::judge(&spec, &who, others) {
            Ok(section) => section,
            Err(why) => {
                log::info!("{name}: client {who}: refused: {why}");
                let why_of = format!("client {who}: {why}");
                self.last_refusal = Some((canonical(client.path.remote), why_of, now));
                return Some(Decision::Refuse(handle, why));
            }
        };
        if client.again {
            return Some(Decision::AdmitAgain(handle, client.hello.key_id));
        }
        let path = client.path;
        let connections = self.connections().filter(|_| path.stream);
        if connections.is_some_and(|connections| !connections.begin(path.socket, handle)) {
            let why = "a connection carries one session";
            return Some(Decision::Refuse(handle, why.into()));
        }
        for other in older {
            let why = "the client began a new session";
            self.decide(worker, Decision::End(other, why.into()));
            self.gone(name, other, why);
        }
        let used = |id| self.by_id(id).is_some();
        let id = next_id(self.last_id, used);
        let lease = match self.pool.take(&spec, &who, section) {
            Ok(lease) => lease,
            Err(why) => {
                log::warn!("{name}: client {who}: {why}");
                return Some(Decision::Refuse(handle, format!("TEMP:{why}")));
            }
        };
        let id = id?;
        self.last_id = Some(id);
        let info = ClientInfo::parse(&client.hello.peer_info);
        let session = Session {
            name: who,
            id,
            lease,
            path,
            cipher: choose_cipher(&spec.ciphers, &info).ok(),
            serial: client
                .hello
                .identity
                .as_ref()
                .map_or_else(Vec::new, |identity| identity.serial.clone()),
            user,
            since: now,
            keyed: None,
            updates: Abilities::from_proto(info.proto()).is_some_and(|able| able.push_update),
            route_error: None,
        };
        let mut options = admit::options(&spec, section, &lease);
        options.extend(token.map(|token| format!("auth-token {}", *token)));
        let admission = Admission {
            peer_id: id.get(),
            options,
        };
        self.live.as_mut()?.sessions.insert(handle, session);
        Some(Decision::Admit(handle, admission))
    }

    fn keys<K: Kernel>(
        &mut self,
        name: &str,
        handle: Handle,
        change: KeyChange,
        (kernel, worker): World<'_, K>,
        now: Instant,
    ) -> Result<(), String> {
        let live = self.live.as_mut();
        let session = live.and_then(|live| live.sessions.get_mut(&handle));
        // Its end was decided before the worker knew.
        let Some(session) = session else {
            return Ok(());
        };
        let first = session.keyed.is_none();
        if let KeyChange::Install(_) = change {
            session.keyed = Some(now);
        }
        let id = session.id;
        let who = session.name.clone();
        if first {
            let path = session.path;
            self.make_peer(name, id, path, (kernel, worker))?;
            if self.by_id(id).is_none() {
                return Ok(());
            }
        }
        let event = key_event(id, change, Role::Server)?;
        kernel.key_event(name, id, &event).map_err(|failure| {
            let why = failure.message;
            format!("client {who}: the kernel refuses a key: {why}")
        })?;
        if first {
            self.decide(worker, Decision::Installed(handle));
            if let Some((_, session)) = self.by_id(id) {
                let remote = session.remote();
                log::info!("{name}: client {who}: up from {remote}");
                let up = notice(name, session, News::Up(Some(remote)));
                self.notices.push(up);
            }
        }
        Ok(())
    }

    /// Makes the peer of a session whose first key is there, over TCP of its connection.
    fn make_peer<K: Kernel>(
        &mut self,
        name: &str,
        id: PeerId,
        path: Path,
        (kernel, worker): World<'_, K>,
    ) -> Result<(), String> {
        if !path.stream {
            return self.carry_out(name, kernel, worker);
        }
        let caller = self.connections().and_then(|all| all.take(path.socket));
        // Its end is on the way.
        let mut caller = caller.ok_or("the connection is gone")?;
        let made = caller.connection.hand_over(|stream| {
            kernel.connected(name, id, stream);
            self.carry_out(name, kernel, worker)
        });
        let is_there = self.by_id(id).is_some();
        if let Some(connections) = self.connections() {
            connections.put_back(path.socket, caller);
        }
        if !is_there {
            self.release(path);
        }
        made
    }

    /// Ends the sessions of clients that may not stay, after a change of the configuration.
    pub(super) fn review<K: Kernel>(&mut self, name: &str, (kernel, worker): World<'_, K>) {
        let (Some(spec), Some(live)) = (&self.spec, &self.live) else {
            return;
        };
        let revoked = revoked(spec);
        let users = spec.logins.as_ref().map(|logins| logins.users());
        let judged = live.sessions.iter().filter_map(|(handle, session)| {
            let why = match &revoked {
                Some(Err(why)) => Some(format!("the list of revoked certificates: {why}")),
                Some(Ok(lists)) if lists.has(&session.serial) => {
                    Some("its certificate was revoked".to_owned())
                }
                _ => match (&users, &session.user) {
                    (Some(Ok(users)), Some(user)) if !users.has(user) => {
                        Some("its user was removed".to_owned())
                    }
                    _ => admit::judge(spec, &session.name, 0).err(),
                },
            };
            Some((*handle, why?))
        });
        for (handle, why) in judged.collect::<Vec<_>>() {
            self.decide(worker, Decision::Refuse(handle, why.clone()));
            self.gone(name, handle, &why);
        }
        self.reconcile(name, (kernel, worker));
    }

    /// Ends the sessions of a client by its name, or by the number of its peer. Whether there are any.
    pub(in super::super) fn disconnect<K: Kernel>(
        &mut self,
        name: &str,
        who: &str,
        (kernel, worker): World<'_, K>,
    ) -> bool {
        let number = who.parse().ok().and_then(PeerId::new);
        let sessions = self.live.iter().flat_map(|live| &live.sessions);
        let found: Vec<Handle> = sessions
            .filter(|(_, session)| session.name == who || Some(session.id) == number)
            .map(|(handle, _)| *handle)
            .collect();
        for handle in &found {
            let why = "it was disconnected by a call";
            self.decide(worker, Decision::End(*handle, why.into()));
            self.gone(name, *handle, why);
        }
        self.reconcile(name, (kernel, worker));
        !found.is_empty()
    }
}

/// The server's lists of revoked certificates; none without a file.
fn revoked(spec: &ServerSpec) -> Option<Result<Revoked, String>> {
    let path = spec.crl.as_ref()?;
    let text = std::fs::read(path).map_err(|error| error.to_string());
    Some(text.and_then(|text| Revoked::read(&text).map_err(|why| why.to_string())))
}
