// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's side: many sessions behind one listener.
//!
//! # Use
//! Give packets to [`Server::receive`] and call [`Server::advance`] at the latest at [`Server::deadline`]. After each
//! call, send what [`Server::transmit`] gives and do what [`Server::event`] tells. [`Event::Authenticate`] is answered
//! by [`Server::admit`] or [`Server::refuse`], at once or later. After `admit` the first [`Event::Keys`] comes: make the
//! kernel's peer, give it the key, and call [`Server::installed`], which sends the options. A later
//! [`Event::Authenticate`] of the same session (`again`) is answered by [`Server::admit_again`] or `refuse`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::keys::Cipher;
use crate::keystate::{Failure, Local};
use crate::listener::{Begin, First, Listener, ResetLimits, ServerWrap};
use crate::messages::{BadPush, push_replies};
use crate::negotiate::{Abilities, ProtocolFlags, choose_cipher};
use crate::packet::{Header, KeyId};
use crate::peerinfo::PeerInfo;
use crate::session::{self, KeyChange, Negotiated, Parts, PeerHello, Session, Timing};
use crate::tls::TlsFactory;
use crate::wrap::{Reject, Wrap};

/// How long a session that is over repeats its last messages.
const LINGER: Duration = Duration::from_secs(5);
/// Sessions at one address: one that is up, and new attempts of the same client.
const MAX_AT_PATH: usize = 3;

/// Where packets come from and go to: a socket or TCP connection of the caller's, and the address at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The caller's number of the socket.
    pub socket: u32,
    /// The client's address.
    pub remote: SocketAddr,
    /// Whether it is a TCP connection, whose other end has proven its address.
    pub stream: bool,
}

/// A session's number, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u64);

/// A server's settings.
#[derive(Debug)]
pub struct ServerConfig<F> {
    /// Makes the TLS connections.
    pub tls: Arc<F>,
    /// Times.
    pub timing: Timing,
    /// Protection of packets.
    pub wrap: ServerWrap,
    /// [`crate::exchange::options_string`], for datagrams.
    pub options: String,
    /// The same for TCP connections.
    pub stream_options: String,
    /// Abilities of the program.
    pub abilities: Abilities,
    /// Ciphers that it takes, best first.
    pub ciphers: Vec<Cipher>,
    /// Most sessions: the option `max-clients`.
    pub max_sessions: usize,
    /// Most sessions without keys among them.
    pub max_pending: usize,
    /// Limits for clients that are not known.
    pub resets: ResetLimits,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A client's TLS handshake is done: decide about certificate, user name and password.
    Authenticate(Box<Authenticate>),
    /// The data channel's keys of a session change.
    Keys(Handle, KeyChange),
    /// A client answers a question: `CR_RESPONSE`, base64.
    Response(Handle, String),
    /// A renegotiation failed; the old key goes on and another attempt is made.
    RenegotiationFailed(Handle, Failure),
    /// A session is over: remove its peer if it has one. Told once for each session, also for those that never came to
    /// [`Event::Authenticate`]: these are only to be counted.
    Closed(Handle, Path, Failure),
}

/// A client that wants in, or its renegotiation.
#[derive(Debug)]
pub struct Authenticate {
    /// The session.
    pub handle: Handle,
    /// Its address.
    pub path: Path,
    /// Whether the session is up and this is a renegotiation.
    pub again: bool,
    /// Certificate, user name, password and peer info.
    pub hello: PeerHello,
    /// The note in the client's key of tls-crypt-v2: a byte for its kind (0 text, 1 time) and the content.
    pub metadata: Vec<u8>,
}

/// A server's decision to let a client in.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The peer id that the client puts into data packets.
    pub peer_id: u32,
    /// Options to push, besides `peer-id`, `cipher` and the protocol flags.
    pub options: Vec<String>,
}

struct Entry<F: TlsFactory> {
    session: Session<F>,
    path: Path,
    metadata: Vec<u8>,
    /// Made at admission, sent when the kernel has the key.
    replies: Vec<String>,
    installed: bool,
    requested: bool,
    push_unasked: bool,
    answered: bool,
    flags: ProtocolFlags,
    agreed: Option<Negotiated>,
    /// The answer to [`Event::Authenticate`] has to come until then.
    decide_by: Option<Instant>,
    /// Forgotten then.
    gone_at: Option<Instant>,
    deadline: Option<Instant>,
}

/// A server.
pub struct Server<F: TlsFactory> {
    config: ServerConfig<F>,
    listener: Listener,
    entries: BTreeMap<Handle, Entry<F>>,
    paths: BTreeMap<Path, Vec<Handle>>,
    deadlines: BTreeSet<(Instant, Handle)>,
    next: u64,
    pending: usize,
    replies: VecDeque<(Path, Vec<u8>)>,
    busy: VecDeque<Handle>,
    events: VecDeque<Event>,
}

impl<F: TlsFactory> std::fmt::Debug for Server<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} sessions)", self.entries.len())
    }
}

impl<F: TlsFactory> Server<F> {
    /// A server without sessions.
    pub fn new(config: ServerConfig<F>, env: &mut Env<'_>) -> Self {
        let listener = Listener::new(config.wrap.clone(), config.resets, env);
        Self {
            config,
            listener,
            entries: BTreeMap::new(),
            paths: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next: 0,
            pending: 0,
            replies: VecDeque::new(),
            busy: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Sessions, also those that are not authenticated and those that say their last words.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A session, for what there is to show of it.
    pub fn session(&self, handle: Handle) -> Option<&Session<F>> {
        self.entries.get(&handle).map(|entry| &entry.session)
    }

    /// A session's address.
    pub fn path(&self, handle: Handle) -> Option<Path> {
        self.entries.get(&handle).map(|entry| entry.path)
    }

    /// Makes later negotiations, also of sessions that are there, with another configuration of TLS.
    pub fn set_tls(&mut self, tls: Arc<F>) {
        for entry in self.entries.values_mut() {
            entry.session.set_tls(Arc::clone(&tls));
        }
        self.config.tls = tls;
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// The packet was dropped, for this reason; to be counted, never answered and never logged one by one.
    pub fn receive(&mut self, path: Path, packet: &[u8], env: &mut Env<'_>) -> Result<(), Reject> {
        let (header, _) = Header::parse(packet)?;
        if let Some(handle) = self.find(path, &header) {
            let unix = self.listener.unix(env.now);
            let Some(entry) = self.entries.get_mut(&handle) else {
                return Err(Reject::Stranger);
            };
            let result = entry.session.receive(packet, &mut with_time(env, unix));
            self.digest(handle, env);
            return result;
        }
        match self.listener.first(path, packet, env)? {
            First::Reply(reply) => {
                self.replies.push_back((path, reply));
                Ok(())
            }
            First::Begin(begin) => self.begin(path, *begin, env),
        }
    }

    fn find(&self, path: Path, header: &Header) -> Option<Handle> {
        let handles = self.paths.get(&path)?;
        handles.iter().copied().find(|handle| {
            let session = self.entries.get(handle).map(|entry| &entry.session);
            session.is_some_and(|session| session.peer_sid() == Some(header.sid))
        })
    }

    fn begin(&mut self, path: Path, begin: Begin, env: &mut Env<'_>) -> Result<(), Reject> {
        let at_path = self.paths.get(&path).map_or(0, Vec::len);
        if self.entries.len() >= self.config.max_sessions
            || self.pending >= self.config.max_pending
            || at_path >= MAX_AT_PATH
        {
            return Err(Reject::Limit);
        }
        let unix = self.listener.unix(env.now);
        let mut timing = self.config.timing;
        // Sessions that began together do not renegotiate together, and a client with the same setting comes later.
        timing.renegotiate = timing
            .renegotiate
            .map(|age| age - age / 10 * u32::from(env.bytes::<1>()[0]) / 255);
        // The answer to the reset took the first stamp.
        let last = u32::from(!begin.without_cookie);
        let parts = Parts {
            tls: Arc::clone(&self.config.tls),
            timing,
            local: Local {
                options: match path.stream {
                    true => self.config.stream_options.clone(),
                    false => self.config.options.clone(),
                },
                ..Local::default()
            },
            wrap: Wrap::new(begin.keys, last, unix),
            outer: begin.outer,
        };
        let env = &mut with_time(env, unix);
        let session = match begin.without_cookie {
            true => Session::answer(parts, begin.own, begin.peer, env),
            false => Session::accept(parts, begin.own, begin.peer, env),
        };
        // A server whose TLS cannot be set up (an unreadable list of revoked certificates) accepts no client.
        let mut session = session.map_err(|_| Reject::Limit)?;
        session.receive_opened(&begin.opened, env)?;
        let handle = Handle(self.next);
        self.next = self.next.wrapping_add(1);
        self.pending = self.pending.saturating_add(1);
        self.paths.entry(path).or_default().push(handle);
        self.entries.insert(
            handle,
            Entry {
                session,
                path,
                metadata: begin.metadata,
                replies: Vec::new(),
                installed: false,
                requested: false,
                push_unasked: false,
                answered: false,
                flags: ProtocolFlags::default(),
                agreed: None,
                decide_by: None,
                gone_at: None,
                deadline: None,
            },
        );
        self.digest(handle, env);
        Ok(())
    }

    /// Goes as far as the time allows.
    pub fn advance(&mut self, env: &mut Env<'_>) {
        // Each once: one that has packets to send is due until they are taken.
        let mut due = Vec::new();
        while let Some((at, handle)) = self.deadlines.first().copied() {
            if at > env.now {
                break;
            }
            self.deadlines.remove(&(at, handle));
            due.push(handle);
        }
        for handle in due {
            if let Some(entry) = self.entries.get_mut(&handle) {
                entry.deadline = None;
                self.poke(handle, env);
            }
        }
    }

    /// Goes as far as one session's TLS connection, which works elsewhere, allows.
    pub fn poke(&mut self, handle: Handle, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        let Some(entry) = self.entries.get_mut(&handle) else {
            return;
        };
        if entry
            .gone_at
            .is_some_and(|at| at <= env.now || entry.session.is_drained())
        {
            self.forget(handle);
            return;
        }
        if entry.decide_by.is_some_and(|at| at <= env.now) {
            entry.decide_by = None;
            entry.session.fail(Failure::new(
                "there was no decision about the client in time",
                "",
            ));
        }
        entry.session.advance(&mut with_time(env, unix));
        self.digest(handle, env);
    }

    /// The next packet to send.
    pub fn transmit(&mut self, env: &mut Env<'_>) -> Option<(Path, Vec<u8>)> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let unix = self.listener.unix(env.now);
        while let Some(handle) = self.busy.front().copied() {
            if let Some(entry) = self.entries.get_mut(&handle) {
                if let Some(packet) = entry.session.transmit(&mut with_time(env, unix)) {
                    return Some((entry.path, packet));
                }
                self.schedule(handle);
            }
            self.busy.pop_front();
        }
        None
    }

    /// Events since the last call.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::advance`] and [`Self::transmit`] have to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Lets a client in: its key follows as an event, and its options when [`Self::installed`] is called. Other
    /// sessions of the same address end: the client began anew.
    ///
    /// # Errors
    /// An option cannot be pushed; nothing was changed.
    pub fn admit(
        &mut self,
        handle: Handle,
        admission: &Admission,
        env: &mut Env<'_>,
    ) -> Result<(), BadPush> {
        let Some(entry) = self.entries.get_mut(&handle) else {
            return Ok(());
        };
        let Some(agreed) = entry.agreed else {
            return Ok(());
        };
        let own = [
            Some(format!("peer-id {}", admission.peer_id)),
            Some(format!("cipher {}", agreed.cipher)),
            entry.flags.option(),
        ];
        let own: Vec<String> = own.into_iter().flatten().collect();
        entry.replies = push_replies(admission.options.iter().chain(&own).map(String::as_str))?;
        entry.decide_by = None;
        let path = entry.path;
        let unix = self.listener.unix(env.now);
        let env = &mut with_time(env, unix);
        entry.session.negotiated(agreed, env);
        entry.session.authorise(KeyId::FIRST, env);
        let others = self.paths.get(&path).cloned().unwrap_or_default();
        for other in others.into_iter().filter(|other| *other != handle) {
            self.close(
                other,
                Failure::new("the client began a new session", ""),
                env,
            );
        }
        self.digest(handle, env);
        Ok(())
    }

    /// Lets a renegotiation go on.
    pub fn admit_again(&mut self, handle: Handle, key_id: KeyId, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.decide_by = None;
            entry.session.authorise(key_id, &mut with_time(env, unix));
            self.digest(handle, env);
        }
    }

    /// The kernel has the session's peer and its first key: sends the options.
    pub fn installed(&mut self, handle: Handle, env: &mut Env<'_>) {
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.installed = true;
            self.answer(handle, env);
            self.digest(handle, env);
        }
    }

    /// Refuses a client or its renegotiation, with a reason that it is told; an empty one says nothing.
    pub fn refuse(&mut self, handle: Handle, reason: &str, env: &mut Env<'_>) {
        let message = match reason {
            "" => "AUTH_FAILED".to_owned(),
            reason => format!("AUTH_FAILED,{reason}"),
        };
        let why = match reason {
            "" => Failure::new("refused", ""),
            reason => Failure::new(format!("refused: {reason}"), ""),
        };
        self.say_and_close(handle, &message, why, env);
    }

    /// Ends a session, after a message such as `RESTART`, `HALT` or `AUTH_FAILED`.
    pub fn kick(&mut self, handle: Handle, message: &str, env: &mut Env<'_>) {
        self.say_and_close(handle, message, Failure::new("ended here", ""), env);
    }

    /// Ends a session without a word to the client, for a reason of the caller's.
    pub fn end(&mut self, handle: Handle, why: &str, env: &mut Env<'_>) {
        self.close(handle, Failure::new(why, ""), env);
    }

    /// A TCP connection is gone, and its sessions with it.
    pub fn hung_up(&mut self, path: Path, why: &str, env: &mut Env<'_>) {
        for handle in self.paths.get(&path).cloned().unwrap_or_default() {
            self.close(handle, Failure::new(why, ""), env);
        }
    }

    /// Sends a message of the control channel, such as `INFO_PRE` or `AUTH_PENDING`.
    pub fn send(&mut self, handle: Handle, message: &str, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.session.send(message, &mut with_time(env, unix));
            self.digest(handle, env);
        }
    }

    /// Sends changes of options ([`crate::messages::push_updates`]), behind the options themselves. The client has to have the
    /// ability [`Abilities::push_update`].
    pub fn update(&mut self, handle: Handle, messages: Vec<String>, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.replies.extend(messages);
            if entry.answered {
                for message in std::mem::take(&mut entry.replies) {
                    entry.session.send(&message, &mut with_time(env, unix));
                }
            }
            self.digest(handle, env);
        }
    }

    /// Gives the answer to [`Event::Authenticate`] more time, as after `AUTH_PENDING`.
    pub fn postpone(&mut self, handle: Handle, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&handle) {
            if entry.decide_by.is_some() {
                entry.decide_by = Some(until);
                self.schedule(handle);
            }
        }
    }

    /// Renegotiates now: the key is nearly used up.
    pub fn renegotiate(&mut self, handle: Handle, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.session.renegotiate(&mut with_time(env, unix));
            self.digest(handle, env);
        }
    }

    /// Follows a client whose authenticated data comes from another address. False, and nothing changes, when that
    /// address belongs to another session with keys: somebody repeats packets from there.
    pub fn rebind(&mut self, handle: Handle, path: Path) -> bool {
        let others = self.paths.get(&path).map_or(&[][..], Vec::as_slice);
        let is_taken = others
            .iter()
            .filter(|other| **other != handle)
            .any(|other| {
                let entry = self.entries.get(other);
                entry.is_some_and(|entry| entry.session.has_keys() && entry.gone_at.is_none())
            });
        let Some(entry) = self.entries.get_mut(&handle).filter(|_| !is_taken) else {
            return false;
        };
        let old = std::mem::replace(&mut entry.path, path);
        self.leave(old, handle);
        self.paths.entry(path).or_default().push(handle);
        true
    }

    fn say_and_close(&mut self, handle: Handle, message: &str, why: Failure, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        if let Some(entry) = self
            .entries
            .get_mut(&handle)
            .filter(|entry| entry.gone_at.is_none())
        {
            entry.session.send(message, &mut with_time(env, unix));
        }
        self.close(handle, why, env);
    }

    fn close(&mut self, handle: Handle, why: Failure, env: &mut Env<'_>) {
        if let Some(entry) = self.entries.get_mut(&handle) {
            entry.session.fail(why);
            self.digest(handle, env);
        }
    }

    fn leave(&mut self, path: Path, handle: Handle) {
        if let Some(handles) = self.paths.get_mut(&path) {
            handles.retain(|other| *other != handle);
            if handles.is_empty() {
                self.paths.remove(&path);
            }
        }
    }

    fn forget(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.remove(&handle) {
            self.leave(entry.path, handle);
            if let Some(at) = entry.deadline {
                self.deadlines.remove(&(at, handle));
            }
        }
    }

    fn schedule(&mut self, handle: Handle) {
        let Some(entry) = self.entries.get_mut(&handle) else {
            return;
        };
        let deadline = [entry.session.deadline(), entry.decide_by, entry.gone_at]
            .into_iter()
            .flatten()
            .min();
        if deadline != entry.deadline {
            if let Some(at) = std::mem::replace(&mut entry.deadline, deadline) {
                self.deadlines.remove(&(at, handle));
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, handle));
            }
        }
    }

    fn digest(&mut self, handle: Handle, env: &mut Env<'_>) {
        loop {
            let Some(entry) = self.entries.get_mut(&handle) else {
                return;
            };
            let Some(event) = entry.session.event() else {
                break;
            };
            match event {
                _ if entry.gone_at.is_some() => {}
                session::Event::Phase(..) => {}
                session::Event::Hello(hello) => self.hello(handle, hello, env),
                session::Event::Message(text) => self.message(handle, &text, env),
                session::Event::Keys(change) => {
                    if matches!(&change, KeyChange::Install(key) if key.key_id == KeyId::FIRST) {
                        self.pending = self.pending.saturating_sub(1);
                    }
                    self.events.push_back(Event::Keys(handle, change));
                }
                session::Event::RenegotiationFailed(why) => {
                    self.events
                        .push_back(Event::RenegotiationFailed(handle, why));
                }
                session::Event::Failed(why) => {
                    if !entry.session.has_keys() {
                        self.pending = self.pending.saturating_sub(1);
                    }
                    entry.decide_by = None;
                    entry.gone_at = env.now.checked_add(LINGER);
                    self.events
                        .push_back(Event::Closed(handle, entry.path, why));
                }
            }
        }
        self.busy.push_back(handle);
        self.schedule(handle);
    }

    fn hello(&mut self, handle: Handle, hello: PeerHello, env: &mut Env<'_>) {
        let Some(entry) = self.entries.get_mut(&handle) else {
            return;
        };
        let again = entry.session.has_keys();
        entry.decide_by = env.now.checked_add(self.config.timing.hand_window);
        if !again {
            let info = PeerInfo::parse(&hello.peer_info);
            let theirs = Abilities::from_proto(info.proto());
            let cipher = choose_cipher(&self.config.ciphers, &info).map_err(|why| why.to_string());
            let agreed = theirs
                .ok_or_else(|| "the client is older than OpenVPN 2.4: it has no DATA_V2".to_owned())
                .and_then(|theirs| Ok((theirs, cipher?)));
            match agreed {
                Ok((theirs, cipher)) => {
                    entry.flags = ProtocolFlags::common(self.config.abilities, theirs);
                    entry.push_unasked = theirs.request_push;
                    entry.agreed = Some(Negotiated {
                        cipher,
                        tls_ekm: entry.flags.tls_ekm,
                        dyn_tls_crypt: entry.flags.dyn_tls_crypt,
                    });
                }
                Err(why) => return self.refuse(handle, &why, env),
            }
        }
        self.events
            .push_back(Event::Authenticate(Box::new(Authenticate {
                handle,
                path: entry.path,
                again,
                hello,
                metadata: entry.metadata.clone(),
            })));
    }

    fn message(&mut self, handle: Handle, text: &str, env: &mut Env<'_>) {
        let (word, rest) = text.split_once(',').unwrap_or((text, ""));
        match word {
            "PUSH_REQUEST" => {
                if let Some(entry) = self.entries.get_mut(&handle) {
                    entry.requested = true;
                }
                self.answer(handle, env);
            }
            "EXIT" => self.close(
                handle,
                Failure::new("the client ended the session", ""),
                env,
            ),
            "CR_RESPONSE" => self
                .events
                .push_back(Event::Response(handle, rest.to_owned())),
            _ => {}
        }
    }

    /// Sends the options once the kernel has the key, to a client that asked or takes them unasked.
    fn answer(&mut self, handle: Handle, env: &mut Env<'_>) {
        let unix = self.listener.unix(env.now);
        let Some(entry) = self.entries.get_mut(&handle) else {
            return;
        };
        if entry.installed && !entry.answered && (entry.requested || entry.push_unasked) {
            entry.answered = true;
            for reply in std::mem::take(&mut entry.replies) {
                entry.session.send(&reply, &mut with_time(env, unix));
            }
        }
    }
}

/// The caller's world with the listener's time.
fn with_time<'a>(env: &'a mut Env<'_>, unix: u64) -> Env<'a> {
    Env {
        now: env.now,
        unix,
        random: &mut *env.random,
    }
}
