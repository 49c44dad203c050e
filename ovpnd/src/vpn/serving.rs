// SPDX-License-Identifier: GPL-2.0-or-later
//! A server inside the worker's thread: its control channel, and where its packets go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use openvpn_control::env::Env;
use openvpn_control::packet::KeyId;
use openvpn_control::server::{Admission, Event, Handle, Path, Server, ServerConfig};
use openvpn_control::tls::ring::Factory;

use super::logins::{Login, Logins};
use super::stream::Writer;
use super::worker::Attempt;
use crate::config::vpn::server::LoginSpec;

/// The number of a server's socket for UDP; connections have others.
pub(super) const SOCKET: u32 = 0;
/// Message to clients whose server goes: they connect again.
const RESTART: &str = "RESTART";

/// A server to begin.
#[derive(Debug)]
pub(super) struct Serve {
    pub(super) attempt: Attempt,
    pub(super) config: ServerConfig<Factory>,
    pub(super) socket: Option<UdpSocket>,
    pub(super) logins: Option<LoginSpec>,
}

/// A decision of the poll loop about a session.
#[derive(Debug)]
pub(super) enum Decision {
    /// Let a client in.
    Admit(Handle, Admission),
    /// Let its renegotiation go on.
    AdmitAgain(Handle, KeyId),
    /// The kernel has its peer and its first key.
    Installed(Handle),
    /// Refuse it, with a reason that it is told.
    Refuse(Handle, String),
    /// End it without a word, for this reason.
    End(Handle, String),
    /// Its key is used up.
    Renegotiate(Handle),
    /// It is at another address.
    Rebind(Handle, SocketAddr),
    /// Tell it changes of its options, in these messages.
    Update(Handle, Vec<String>),
}

/// A server, its socket and its connections.
pub(super) struct Serving {
    server: Server<Factory>,
    handles: BTreeSet<Handle>,
    socket: Option<UdpSocket>,
    connections: BTreeMap<u32, Arc<Writer>>,
    logins: Option<Logins>,
}

impl Serving {
    pub(super) fn new(serve: Serve, env: &mut Env<'_>) -> Self {
        Self {
            server: Server::new(serve.config, env),
            handles: BTreeSet::new(),
            socket: serve.socket,
            connections: BTreeMap::new(),
            logins: serve.logins.map(|spec| Logins::new(spec, env)),
        }
    }

    pub(super) fn receive(&mut self, path: Path, packet: &[u8], env: &mut Env<'_>) {
        // Packets that are refused are lost, without an answer and without a word.
        let _ = self.server.receive(path, packet, env);
    }

    /// A connection came.
    pub(super) fn called(&mut self, number: u32, writer: Arc<Writer>) {
        self.connections.insert(number, writer);
    }

    /// A connection is gone, and its sessions with it.
    pub(super) fn hung_up(&mut self, path: Path, why: &str, env: &mut Env<'_>) {
        self.connections.remove(&path.socket);
        self.server.hung_up(path, why, env);
    }

    pub(super) fn decide(&mut self, decision: Decision, env: &mut Env<'_>) {
        let server = &mut self.server;
        match decision {
            Decision::Admit(handle, admission) => {
                if let Err(why) = server.admit(handle, &admission, env) {
                    server.end(
                        handle,
                        &format!("its options cannot be pushed: {}", why.0),
                        env,
                    );
                }
                self.handles.insert(handle);
            }
            Decision::AdmitAgain(handle, key_id) => server.admit_again(handle, key_id, env),
            Decision::Installed(handle) => server.installed(handle, env),
            Decision::Refuse(handle, reason) => server.refuse(handle, &reason, env),
            Decision::End(handle, why) => server.end(handle, &why, env),
            Decision::Renegotiate(handle) => server.renegotiate(handle, env),
            Decision::Update(handle, messages) => server.update(handle, messages, env),
            // One that is refused stays where it was; the next packet of the client decides again.
            Decision::Rebind(handle, to) => drop(server.rebind(handle, path(to))),
        }
    }

    /// Tells all clients that they are to connect again.
    pub(super) fn say_goodbye(&mut self, env: &mut Env<'_>) {
        for handle in std::mem::take(&mut self.handles) {
            self.server.kick(handle, RESTART, env);
        }
    }

    /// Goes as far as the time allows, sends the packets that there are, and tells what happened.
    pub(super) fn work(&mut self, env: &mut Env<'_>) -> Vec<(Event, Login)> {
        if self.deadline().is_some_and(|at| at <= env.now) {
            self.server.advance(env);
        }
        while let Some((path, packet)) = self.server.transmit(env) {
            // One that cannot be sent is sent again, as one that is lost.
            match (path.stream, &self.socket) {
                (true, _) => {
                    if let Some(writer) = self.connections.get(&path.socket) {
                        writer.send(&packet);
                    }
                }
                (false, Some(socket)) => drop(socket.send_to(&packet, path.remote)),
                (false, None) => {}
            }
        }
        let mut events = Vec::new();
        while let Some(event) = self.server.event() {
            if let Event::Closed(handle, ..) = &event {
                self.handles.remove(handle);
            }
            let login = match (&event, &mut self.logins) {
                (Event::Authenticate(client), Some(logins)) => logins.check(client, env),
                _ => Login::None,
            };
            events.push((event, login));
        }
        events
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.server.deadline()
    }
}

fn path(remote: SocketAddr) -> Path {
    Path {
        socket: SOCKET,
        remote,
        stream: false,
    }
}
