// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client, a server and a bad network between them, under one clock and one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openvpn_control::client::{self, Client, ClientConfig, ClientWrap, State};
use openvpn_control::env::Env;
use openvpn_control::exchange::Credentials;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::listener::{ResetLimits, ServerWrap};
use openvpn_control::messages::push_updates;
use openvpn_control::negotiate::Abilities;
use openvpn_control::server::{self, Admission, Handle, Path, Server, ServerConfig};
use openvpn_control::session::{KeyChange, KeySlot, Timing};
use openvpn_control::tls::TlsFactory;
use openvpn_control::wrap::auth::{Digest, Direction};
use openvpn_control::wrap::{StaticKey, v2};

pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrap {
    None,
    Auth,
    Crypt,
    CryptV2,
}

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) wrap: Wrap,
    /// Percent.
    pub(crate) loss: u64,
    /// Percent.
    pub(crate) twice: u64,
    /// Milliseconds, at least and at most.
    pub(crate) delay: (u64, u64),
    pub(crate) abilities: [Abilities; 2],
    pub(crate) timing: [Timing; 2],
    pub(crate) noncookie: bool,
    /// Percent of packets behind which a damaged copy comes.
    pub(crate) damaged: u64,
}

/// The keys of one side's kernel.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    primary: Option<Key>,
    secondary: Option<Key>,
    pub(crate) installed: usize,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: u8,
    cipher: Cipher,
    send: Vec<u8>,
    receive: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.id)
    }
}

impl Kernel {
    fn apply(&mut self, change: KeyChange, role: Role) {
        match change {
            KeyChange::Install(key) => {
                let (send, receive) = key.material.directions(role, key.cipher);
                let bytes = |key: openvpn_control::keys::DirectionKey| {
                    [&key.cipher_key[..], &key.nonce_tail[..]].concat()
                };
                let new = Key {
                    id: key.key_id.get(),
                    cipher: key.cipher,
                    send: bytes(send),
                    receive: bytes(receive),
                };
                self.installed += 1;
                match key.slot {
                    KeySlot::Primary => {
                        assert!(self.primary.is_none(), "a second first key");
                        self.primary = Some(new);
                    }
                    KeySlot::Secondary => {
                        assert!(
                            self.primary.is_some() && self.secondary.is_none(),
                            "no place for a second key"
                        );
                        assert_ne!(self.primary.as_ref().map(|key| key.id), Some(new.id));
                        self.secondary = Some(new);
                    }
                }
            }
            KeyChange::Swap => {
                assert!(self.secondary.is_some(), "nothing to swap with");
                std::mem::swap(&mut self.primary, &mut self.secondary);
            }
            KeyChange::DropSecondary => assert!(self.secondary.take().is_some(), "nothing to drop"),
        }
    }

    /// Whether data that this side sends now can be read at the other.
    fn reaches(&self, other: &Self) -> bool {
        let Some(mine) = &self.primary else {
            return true;
        };
        [&other.primary, &other.secondary]
            .into_iter()
            .flatten()
            .any(|theirs| {
                theirs.id == mine.id && theirs.receive == mine.send && theirs.cipher == mine.cipher
            })
    }
}

struct Session {
    kernel: Kernel,
    open: bool,
}

pub(crate) struct World<F: TlsFactory> {
    seed: u64,
    pub(crate) rng: Rng,
    pub(crate) setting: Setting,
    tls: [Arc<F>; 2],
    start: Instant,
    pub(crate) now: Duration,
    unix: u64,
    client: Option<Client<F>>,
    client_kernel: Kernel,
    client_port: u16,
    connect_at: Duration,
    server: Server<F>,
    sessions: BTreeMap<Handle, Session>,
    next_peer: u32,
    /// Packets on their way: time, number, to the server or to the client with this port, bytes.
    flying: BTreeSet<(Duration, u64, Option<u16>, Vec<u8>)>,
    sent: u64,
    pub(crate) ups: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) renegotiations_failed: usize,
    pub(crate) rejects: BTreeMap<String, usize>,
    /// Whether keys of both sides are compared after each step.
    pub(crate) hitless: bool,
    /// Routes that the server's last update left the client.
    pub(crate) routes: Option<usize>,
}

fn keys() -> (StaticKey, v2::ServerKey, v2::ClientKey) {
    let key = StaticKey::new(&std::array::from_fn(|at| (at as u8).wrapping_mul(3) ^ 0x5a));
    let server = v2::ServerKey::new(&std::array::from_fn(|at| at as u8 ^ 0x77));
    let wrapped = server.wrap(&key, b"\0client").unwrap();
    (key.clone(), server, v2::ClientKey { key, wrapped })
}

impl<F: TlsFactory> World<F> {
    pub(crate) fn new(seed: u64, setting: Setting, tls: [Arc<F>; 2]) -> Self {
        let mut rng = Rng(seed ^ 0xabcdef);
        let start = Instant::now();
        let (key, v2key, _) = keys();
        let wrap = match setting.wrap {
            Wrap::None => ServerWrap::None,
            Wrap::Auth => ServerWrap::Auth(key, Direction::Normal, Digest::Sha256),
            Wrap::Crypt => ServerWrap::Crypt(key),
            Wrap::CryptV2 => ServerWrap::CryptV2 {
                key: v2key,
                allow_noncookie: setting.noncookie,
            },
        };
        let config = ServerConfig {
            tls: Arc::clone(&tls[1]),
            timing: setting.timing[1],
            wrap,
            options: "V4,dev-type tun".into(),
            stream_options: String::new(),
            abilities: setting.abilities[1],
            ciphers: Cipher::ALL.to_vec(),
            max_sessions: 10,
            max_pending: 5,
            resets: ResetLimits::default(),
        };
        let server = Server::new(
            config,
            &mut Env {
                now: start,
                unix: 1_700_000_000,
                random: &mut |out: &mut [u8]| rng.fill(out),
            },
        );
        Self {
            seed,
            rng,
            setting,
            tls,
            start,
            now: Duration::ZERO,
            unix: 1_700_000_000,
            client: None,
            client_kernel: Kernel::default(),
            client_port: 1000,
            connect_at: Duration::ZERO,
            server,
            sessions: BTreeMap::new(),
            next_peer: 0,
            flying: BTreeSet::new(),
            sent: 0,
            ups: 0,
            failures: Vec::new(),
            renegotiations_failed: 0,
            rejects: BTreeMap::new(),
            hitless: true,
            routes: None,
        }
    }

    fn connect(&mut self) {
        let (key, _, v2key) = keys();
        let wrap = match self.setting.wrap {
            Wrap::None => ClientWrap::None,
            Wrap::Auth => ClientWrap::Auth(key, Direction::Inverse, Digest::Sha256),
            Wrap::Crypt => ClientWrap::Crypt(key),
            Wrap::CryptV2 => ClientWrap::CryptV2(v2key),
        };
        let config = ClientConfig {
            tls: Arc::clone(&self.tls[0]),
            timing: self.setting.timing[0],
            wrap,
            options: "V4,dev-type tun".into(),
            token: false,
            credentials: Some(Credentials {
                username: "me".into(),
                password: zeroize::Zeroizing::new(b"secret".to_vec()),
            }),
            version: "test".into(),
            mtu: 1500,
            abilities: self.setting.abilities[0],
            ciphers: vec![Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm],
            filter: Default::default(),
        };
        let mut random = |out: &mut [u8]| self.rng.fill(out);
        let mut env = Env {
            now: self.start + self.now,
            unix: self.unix,
            random: &mut random,
        };
        self.client = Some(Client::connect(config, &mut env).unwrap());
        self.client_kernel = Kernel::default();
        // A client that starts again may have another port, or the same.
        if self.rng.chance(50) {
            self.client_port += 1;
        }
    }

    fn path(port: u16) -> Path {
        Path {
            socket: 0,
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            stream: false,
        }
    }

    fn fly(&mut self, to: Option<u16>, packet: Vec<u8>) {
        assert!(packet.len() <= 1202 || self.setting.wrap == Wrap::CryptV2 && packet.len() <= 1400);
        let times = 1 + u64::from(self.rng.chance(self.setting.twice));
        for _ in 0..times {
            if self.rng.chance(self.setting.loss) {
                continue;
            }
            let (least, most) = self.setting.delay;
            let at = self.now + Duration::from_millis(least + self.rng.below(most - least + 1));
            self.sent += 1;
            self.flying.insert((at, self.sent, to, packet.clone()));
        }
        if self.rng.chance(self.setting.damaged) {
            let mut packet = packet;
            let at = self.rng.below(packet.len() as u64) as usize;
            match self.rng.below(3) {
                0 => packet[at] ^= 1 << self.rng.below(8),
                1 => packet.truncate(at),
                _ => packet.push(0),
            }
            self.sent += 1;
            self.flying.insert((self.now, self.sent, to, packet));
        }
    }

    /// Goes on to the next thing that happens, until `end`; false at the end.
    pub(crate) fn step(&mut self, end: Duration) -> bool {
        let instant = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(self.start));
        let connect = self.client.is_none().then_some(self.connect_at);
        let next = [
            self.flying.first().map(|packet| packet.0),
            instant(self.server.deadline()),
            self.client
                .as_ref()
                .and_then(|client| instant(client.deadline())),
            connect,
        ];
        let Some(next) = next.into_iter().flatten().min().filter(|next| *next < end) else {
            return false;
        };
        let passed = next.saturating_sub(self.now);
        self.now = self.now.max(next);
        self.unix += passed.as_secs();
        if connect.is_some_and(|at| at <= self.now) {
            self.connect();
        }
        while self
            .flying
            .first()
            .is_some_and(|packet| packet.0 <= self.now)
        {
            let Some((_, _, to, packet)) = self.flying.pop_first() else {
                break;
            };
            self.arrive(to, &packet);
        }
        self.turn();
        self.turn();
        self.check();
        true
    }

    /// The clock jumps: the machine slept, and its clock of day is wrong.
    pub(crate) fn jump(&mut self, slept: Duration, unix: u64) {
        self.now += slept;
        self.unix = unix;
        self.turn();
        self.turn();
        self.check();
    }

    fn with<R>(
        &mut self,
        f: impl FnOnce(&mut Server<F>, &mut Option<Client<F>>, &mut Env<'_>) -> R,
    ) -> R {
        let rng = &mut self.rng;
        let mut random = |out: &mut [u8]| rng.fill(out);
        let mut env = Env {
            now: self.start + self.now,
            unix: self.unix,
            random: &mut random,
        };
        f(&mut self.server, &mut self.client, &mut env)
    }

    /// A packet comes to the server, from the client's present port, or to the client if it still has that port.
    fn arrive(&mut self, to: Option<u16>, packet: &[u8]) {
        let port = self.client_port;
        let result = match to {
            None => self.with(|server, _, env| server.receive(Self::path(port), packet, env)),
            Some(to) if to == port => self.with(|_, client, env| match client {
                Some(client) => client.receive(packet, env),
                None => Ok(()),
            }),
            Some(_) => Ok(()),
        };
        if let Err(why) = result {
            *self.rejects.entry(format!("{why:?}")).or_default() += 1;
        }
    }

    /// Clients that the server let in.
    pub(crate) fn admitted(&self) -> usize {
        self.sessions.len()
    }

    /// The server changes options of all of its clients.
    pub(crate) fn update<'a>(&mut self, options: impl IntoIterator<Item = &'a str> + Clone) {
        let messages = push_updates(options).unwrap();
        let handles: Vec<Handle> = self.sessions.keys().copied().collect();
        for handle in handles {
            self.with(|server, _, env| server.update(handle, messages.clone(), env));
        }
        self.turn();
    }

    /// Somebody on the way changes a packet; without a wrap only TLS notices.
    #[allow(dead_code, reason = "for the fuzz target")]
    pub(crate) fn tamper(&mut self, nth: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let chosen = nth.checked_rem(self.flying.len());
        let chosen = chosen.and_then(|nth| self.flying.iter().nth(nth).cloned());
        if let Some(chosen) = chosen {
            self.flying.remove(&chosen);
            let (at, number, to, mut packet) = chosen;
            change(&mut packet);
            self.flying.insert((at, number, to, packet));
        }
    }

    /// A packet of a stranger comes to the server.
    pub(crate) fn hostile(&mut self, packet: &[u8]) {
        let port = if self.rng.chance(50) {
            self.client_port
        } else {
            9
        };
        let _ = self.with(|server, _, env| server.receive(Self::path(port), packet, env));
        let _ =
            self.with(|_, client, env| client.as_mut().map(|client| client.receive(packet, env)));
        self.turn();
        self.check();
    }

    fn turn(&mut self) {
        self.with(|server, client, env| {
            server.advance(env);
            if let Some(client) = client {
                client.advance(env);
            }
        });
        loop {
            let mut quiet = true;
            while let Some((path, packet)) = self.with(|server, _, env| server.transmit(env)) {
                self.fly(Some(path.remote.port()), packet);
            }
            while let Some(packet) = self.with(|_, client, env| client.as_mut()?.transmit(env)) {
                self.fly(None, packet);
            }
            while let Some(event) = self.server.event() {
                quiet = false;
                self.server_event(event);
            }
            while let Some(event) = self.client.as_mut().and_then(Client::event) {
                quiet = false;
                self.client_event(event);
            }
            if quiet {
                return;
            }
        }
    }

    fn server_event(&mut self, event: server::Event) {
        match event {
            server::Event::Authenticate(who) => {
                let password = who.hello.credentials.as_ref().map(|c| c.password.to_vec());
                if self.hitless {
                    assert_eq!(password.as_deref(), Some(&b"secret"[..]));
                }
                let noted = if self.setting.wrap == Wrap::CryptV2 {
                    &b"\0client"[..]
                } else {
                    b""
                };
                assert_eq!(who.metadata, noted);
                if who.again {
                    self.with(|server, _, env| {
                        server.admit_again(who.handle, who.hello.key_id, env)
                    });
                    return;
                }
                self.next_peer += 1;
                let admission = Admission {
                    peer_id: self.next_peer,
                    options: (0..70)
                        .map(|n| format!("route 10.{n}.0.0 255.255.0.0"))
                        .collect(),
                };
                self.sessions.insert(
                    who.handle,
                    Session {
                        kernel: Kernel::default(),
                        open: true,
                    },
                );
                self.with(|server, _, env| server.admit(who.handle, &admission, env))
                    .unwrap();
            }
            server::Event::Keys(handle, change) => {
                let session = self.sessions.get_mut(&handle).unwrap();
                let first = session.kernel.primary.is_none();
                session.kernel.apply(change, Role::Server);
                if first {
                    self.with(|server, _, env| server.installed(handle, env));
                }
            }
            server::Event::Closed(handle, _, why) => {
                self.failures.push(format!("server: {why}"));
                if let Some(session) = self.sessions.get_mut(&handle) {
                    assert!(session.open, "closed twice");
                    session.open = false;
                }
            }
            server::Event::RenegotiationFailed(..) => self.renegotiations_failed += 1,
            server::Event::Response(..) => {}
        }
    }

    fn client_event(&mut self, event: client::Event) {
        match event {
            client::Event::Keys(change) => self.client_kernel.apply(change, Role::Client),
            client::Event::State(State::Up) => self.ups += 1,
            client::Event::Pushed(options, _) => {
                assert_eq!(options.routes.len(), 70);
                assert!(self.client_kernel.primary.is_none());
            }
            client::Event::Failed(why, _) => {
                self.failures.push(format!("client: {why}"));
                self.client = None;
                self.connect_at = self.now + Duration::from_secs(1);
            }
            client::Event::Updated(options) => self.routes = Some(options.routes.len()),
            client::Event::RenegotiationFailed(_) => self.renegotiations_failed += 1,
            _ => {}
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.state() == State::Up)
    }

    pub(crate) fn client_installs(&self) -> usize {
        self.client_kernel.installed
    }

    pub(crate) fn sessions(&self) -> usize {
        self.server.len()
    }

    /// While both sides are up, each can read what the other sends.
    fn check(&self) {
        if !self.hitless || !self.is_up() {
            return;
        }
        let mine = self.client_kernel.primary.as_ref().unwrap();
        let there = |session: &&Session| {
            let kernel = &session.kernel;
            session.open
                && [&kernel.primary, &kernel.secondary]
                    .into_iter()
                    .flatten()
                    .any(|key| key.receive == mine.send)
        };
        let open: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.open)
            .collect();
        // The server may have ended the session without the client's knowledge.
        let Some(session) = open.iter().copied().find(there) else {
            assert!(
                self.failures.iter().any(|why| why.starts_with("server")),
                "seed {}: the client sends with key {} that no session has: {:?} {:?} {:?}\n{:?}",
                self.seed,
                mine.id,
                self.now,
                self.client_kernel,
                self.sessions
                    .values()
                    .map(|s| (&s.kernel, s.open))
                    .collect::<Vec<_>>(),
                self.setting,
            );
            return;
        };
        assert!(
            session.kernel.reaches(&self.client_kernel),
            "the client cannot read: {:?} {:?}",
            session.kernel,
            self.client_kernel
        );
        assert!(
            self.client_kernel.reaches(&session.kernel),
            "the server cannot read"
        );
    }
}
