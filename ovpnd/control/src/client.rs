// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client's side of a session, from the first reset to its end.
//!
//! # Use
//! Make a [`Client`] for an address of the server and give it packets ([`Client::receive`]) and the time
//! ([`Client::advance`], at the latest at [`Client::deadline`]). After each call, send what [`Client::transmit`] gives
//! and do what [`Client::event`] tells, until both have nothing more. [`Event::Pushed`] comes before the first key: make
//! the kernel's peer then. [`Event::Keys`] are to be done in their order. After [`Event::Failed`] a client never comes
//! back: make another one, as its [`End`] says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::exchange::Credentials;
use crate::keys::{Cipher, Role};
use crate::keystate::{Failure, Local, Phase};
use crate::messages::{AuthFailed, ForSession, FromServer, SERVER_WAITS, push_parts};
use crate::negotiate::{Abilities, accept_cipher, client_info};
use crate::packet::KeyId;
use crate::push::{Filter, Options, Pushed};
use crate::replay::EARLY_NEGOTIATION;
use crate::session::{self, KeyChange, Negotiated, Parts, PeerHello, Session, Timing};
use crate::tls::TlsFactory;
use crate::wrap::{Keys, Reject, StaticKey, Wrap, auth, crypt, v2};

/// From one PUSH_REQUEST to the next.
const PUSH_INTERVAL: Duration = Duration::from_secs(5);
/// Longest a server may make a client wait for somebody to approve it.
const MAX_PENDING: Duration = Duration::from_secs(3600);

/// How a client's control packets are protected.
#[derive(Debug, Clone)]
pub enum ClientWrap {
    /// Not at all beyond TLS.
    None,
    /// tls-auth.
    Auth(StaticKey, auth::Direction, auth::Digest),
    /// tls-crypt.
    Crypt(StaticKey),
    /// tls-crypt-v2.
    CryptV2(v2::ClientKey),
}

/// A client's settings.
#[derive(Debug)]
pub struct ClientConfig<F> {
    /// Makes the TLS connections.
    pub tls: Arc<F>,
    /// Times.
    pub timing: Timing,
    /// Protection of packets.
    pub wrap: ClientWrap,
    /// [`crate::exchange::options_string`].
    pub options: String,
    /// User name and password.
    pub credentials: Option<Credentials>,
    /// Whether the password is a token that the server gave before.
    pub token: bool,
    /// The program's version, for the server's log.
    pub version: String,
    /// The largest packet that the tunnel takes, in bytes.
    pub mtu: u32,
    /// Abilities of the program.
    pub abilities: Abilities,
    /// Ciphers that it takes, best first.
    pub ciphers: Vec<Cipher>,
    /// Options of the server that are not wanted.
    pub filter: Filter,
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The server has not answered.
    Connecting,
    /// TLS shakes hands.
    Tls,
    /// The server checks certificate and password.
    Authenticating,
    /// Options are on their way.
    Pushing,
    /// There are keys.
    Up,
    /// It is over.
    Over,
}

/// The step after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Try the next address, with a wait that grows.
    Retry,
    /// Try again after this time, on another address if `advance` says so.
    Wait {
        /// The wait.
        time: Duration,
        /// Whether to go to the next address.
        advance: bool,
    },
    /// The server does not take its token any more: try again with the password.
    Password,
    /// Never try again without the user: password or certificate were refused, or the server said so.
    Stop,
    /// Ask the user this question and try again with [`Challenge::answer`].
    Ask(Challenge),
}

/// A server's question (dynamic challenge, `CRV1`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whether the answer may be shown while it is typed.
    pub echo: bool,
    /// Whether an answer is wanted at all.
    pub response: bool,
    /// Names the question to the server.
    pub state: String,
    /// The user that was asked.
    pub username: String,
    /// The question.
    pub text: String,
}

impl Challenge {
    /// User name and password for the next attempt.
    pub fn answer(&self, answer: &str) -> Credentials {
        let mut password =
            zeroize::Zeroizing::new(Vec::with_capacity(16 + self.state.len() + answer.len()));
        for part in ["CRV1::", &self.state, "::", answer] {
            password.extend_from_slice(part.as_bytes());
        }
        Credentials {
            username: self.username.clone(),
            password,
        }
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The client came to this state.
    State(State),
    /// The server's certificate and options, of each negotiation.
    Server(PeerHello),
    /// The server's options, before the first key.
    Pushed(Box<Options>, Negotiated),
    /// The server changed its options: all that are in force now.
    Updated(Box<Options>),
    /// The data channel's keys change.
    Keys(KeyChange),
    /// The server gave a token: the password of later logins, which this client uses from now on.
    Token(Credentials),
    /// The server has something to tell the user: a text, or a web page to open (`WEB_AUTH:`, `OPEN_URL:`).
    Info(String),
    /// The server waits for somebody's approval, at most so long.
    Pending(Duration),
    /// A renegotiation failed; the old key goes on and another attempt is made.
    RenegotiationFailed(Failure),
    /// The client is over.
    Failed(Failure, End),
}

/// One attempt to connect and the session that came of it.
#[derive(Debug)]
pub struct Client<F: TlsFactory> {
    session: Session<F>,
    state: State,
    abilities: Abilities,
    ciphers: Vec<Cipher>,
    filter: Filter,
    username: Option<String>,
    /// The password is a token.
    token: bool,
    parts: Vec<String>,
    /// The server's options, from the push reply on.
    pushed: Option<Pushed>,
    request_at: Option<Instant>,
    give_up_at: Option<Instant>,
    wait: Duration,
    cc_exit: bool,
    events: VecDeque<Event>,
}

impl<F: TlsFactory> Client<F> {
    /// Begins to connect; the first packet is there at once.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn connect(config: ClientConfig<F>, env: &mut Env<'_>) -> Result<Self, Failure> {
        let (keys, outer, wrapped) = match config.wrap {
            ClientWrap::None => (Keys::None, None, None),
            ClientWrap::Auth(key, direction, digest) => (
                Keys::Auth(auth::Keys::new(&key, direction, digest)),
                Some(key),
                None,
            ),
            ClientWrap::Crypt(key) => (
                Keys::Crypt(crypt::Keys::new(&key, Role::Client)),
                Some(key),
                None,
            ),
            ClientWrap::CryptV2(v2::ClientKey { key, wrapped }) => {
                let keys = Keys::Crypt(crypt::Keys::new(&key, Role::Client));
                (keys, Some(key), Some(wrapped))
            }
        };
        // A first stamp of this form tells a server without state that the wrapped key can be sent again.
        let last = wrapped.as_ref().map_or(0, |_| EARLY_NEGOTIATION);
        let username = config.credentials.as_ref().map(|c| c.username.clone());
        let parts = Parts {
            tls: config.tls,
            timing: config.timing,
            local: Local {
                options: config.options,
                credentials: config.credentials,
                peer_info: client_info(
                    &config.version,
                    config.abilities,
                    &config.ciphers,
                    config.mtu,
                ),
            },
            wrap: Wrap::new(keys, last, env.unix),
            outer,
        };
        let session = Session::connect(parts, wrapped, env)?;
        Ok(Self {
            session,
            state: State::Connecting,
            abilities: config.abilities,
            ciphers: config.ciphers,
            filter: config.filter,
            username,
            token: config.token,
            parts: Vec::new(),
            pushed: None,
            request_at: None,
            give_up_at: None,
            wait: config.timing.hand_window,
            cc_exit: false,
            events: VecDeque::from([Event::State(State::Connecting)]),
        })
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The session below.
    pub fn session(&self) -> &Session<F> {
        &self.session
    }

    /// Makes later negotiations with another configuration of TLS.
    pub fn set_tls(&mut self, tls: Arc<F>) {
        self.session.set_tls(tls);
    }

    /// Takes a packet that came from the server's address.
    ///
    /// # Errors
    /// The packet was dropped, for this reason; to be counted.
    pub fn receive(&mut self, packet: &[u8], env: &mut Env<'_>) -> Result<(), Reject> {
        let result = self.session.receive(packet, env);
        self.digest(env);
        result
    }

    /// Goes as far as the time allows.
    pub fn advance(&mut self, env: &mut Env<'_>) {
        self.session.advance(env);
        self.digest(env);
        if self.state != State::Pushing {
            return;
        }
        if self.give_up_at.is_some_and(|at| at <= env.now) {
            let why = format!(
                "the server did not push options within {} s",
                self.wait.as_secs()
            );
            self.end(
                Failure::new(
                    why,
                    "look at the server's log: it may wait for a plugin or a second factor",
                ),
                End::Retry,
            );
        } else if self.request_at.is_some_and(|at| at <= env.now) {
            self.request(env);
        }
    }

    /// The next packet to send to the server.
    pub fn transmit(&mut self, env: &mut Env<'_>) -> Option<Vec<u8>> {
        self.session.transmit(env)
    }

    /// Events since the last call.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::advance`] and [`Self::transmit`] have to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        [self.session.deadline(), self.request_at, self.give_up_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Renegotiates now: the key is nearly used up.
    pub fn renegotiate(&mut self, env: &mut Env<'_>) {
        self.session.renegotiate(env);
        self.digest(env);
    }

    /// Ends the session from this side. True when the server is told inside the control channel; otherwise the caller
    /// sends OpenVPN's exit message through the data channel.
    pub fn exit(&mut self, env: &mut Env<'_>) -> bool {
        let told = self.cc_exit && self.state == State::Up;
        if told {
            self.session.send("EXIT", env);
        }
        self.end(Failure::new("ended here", ""), End::Stop);
        told
    }

    /// The connection to the server is of no more use; another attempt may make a new one.
    pub fn lost(&mut self, why: Failure) {
        self.end(why, End::Retry);
    }

    /// Whether nothing is left to send, so that a client that is over may be dropped.
    pub fn is_drained(&self) -> bool {
        self.session.is_drained()
    }

    /// Answers a question that the server asked during authentication, with `CR_RESPONSE`. `answer` is base64.
    pub fn respond(&mut self, answer: &str, env: &mut Env<'_>) {
        self.session.send(&format!("CR_RESPONSE,{answer}"), env);
        self.digest(env);
    }

    fn go(&mut self, state: State) {
        if self.state < state {
            self.state = state;
            self.events.push_back(Event::State(state));
        }
    }

    fn end(&mut self, why: Failure, end: End) {
        if self.state == State::Over {
            return;
        }
        self.session.fail(why.clone());
        self.request_at = None;
        self.give_up_at = None;
        self.go(State::Over);
        self.events.push_back(Event::Failed(why, end));
    }

    fn digest(&mut self, env: &mut Env<'_>) {
        while let Some(event) = self.session.event() {
            match event {
                _ if self.state == State::Over => {}
                session::Event::Phase(KeyId::FIRST, phase) => match phase {
                    Phase::Reset => {}
                    Phase::Handshake => self.go(State::Tls),
                    Phase::Exchange => self.go(State::Authenticating),
                    Phase::Done => {
                        self.go(State::Pushing);
                        self.give_up_at = env.now.checked_add(self.wait);
                        self.request(env);
                    }
                },
                session::Event::Phase(..) => {}
                session::Event::Hello(hello) => self.events.push_back(Event::Server(hello)),
                session::Event::Message(text) => self.message(&text, env),
                session::Event::Keys(change) => {
                    self.events.push_back(Event::Keys(change));
                    self.go(State::Up);
                }
                session::Event::RenegotiationFailed(why) => {
                    self.events.push_back(Event::RenegotiationFailed(why));
                }
                session::Event::Failed(why) => self.end(why, End::Retry),
            }
        }
    }

    fn request(&mut self, env: &mut Env<'_>) {
        self.request_at = env.now.checked_add(PUSH_INTERVAL);
        self.session.send("PUSH_REQUEST", env);
    }

    fn message(&mut self, text: &str, env: &mut Env<'_>) {
        match FromServer::parse(text) {
            FromServer::PushReply(options) if self.state == State::Pushing => {
                self.push_reply(options, env)
            }
            // After a renegotiation there may be another token.
            FromServer::PushReply(options) => self.take_token(ForSession::parse(options)),
            FromServer::PushUpdate(options) => self.push_update(options),
            FromServer::Unknown => {}
            FromServer::AuthFailed(failed) => self.auth_failed(failed),
            FromServer::Info(text) => self.events.push_back(Event::Info(text.to_owned())),
            FromServer::Pending(time) => {
                let time = time.unwrap_or(SERVER_WAITS).min(MAX_PENDING);
                if self.state == State::Pushing {
                    self.wait = time;
                    self.give_up_at = env.now.checked_add(time);
                }
                self.events.push_back(Event::Pending(time));
            }
            FromServer::Restart(why) => {
                self.end(
                    Failure::new(told("the server restarts", why), ""),
                    End::Retry,
                );
            }
            FromServer::Halt(why) => {
                self.end(
                    Failure::new(told("the server ended the session for good", why), ""),
                    End::Stop,
                );
            }
            FromServer::Exit => {
                self.end(Failure::new("the server ended the session", ""), End::Retry)
            }
        }
    }

    fn push_reply(&mut self, options: &str, env: &mut Env<'_>) {
        match push_parts(&mut self.parts, options) {
            Ok(false) => return,
            Ok(true) => {}
            Err(why) => return self.end(Failure::new(why, ""), End::Retry),
        }
        let reply = std::mem::take(&mut self.parts).join(",");
        self.request_at = None;
        self.give_up_at = None;
        let options = match Options::parse(&reply, &self.filter) {
            Ok(options) => options,
            Err(why) => return self.end(Failure::new(why.to_string(), ""), End::Retry),
        };
        let ours = ForSession::parse(&reply);
        if options.peer_id.is_none() {
            return self.end(
                Failure::new(
                    "the server pushes no peer-id: it is older than OpenVPN 2.4 or has no DATA_V2",
                    "update the server",
                ),
                End::Retry,
            );
        }
        let cipher = match accept_cipher(&self.ciphers, ours.cipher.as_deref()) {
            Ok(cipher) => cipher,
            Err(why) => {
                return self.end(
                    Failure::new(why.to_string(), "set data_ciphers to what both sides have"),
                    End::Retry,
                );
            }
        };
        let flags = ours.flags;
        if (flags.tls_ekm && !self.abilities.tls_key_export)
            || (flags.dyn_tls_crypt && !self.abilities.dyn_tls_crypt)
        {
            return self.end(
                Failure::new("the server demands what was not offered to it", ""),
                End::Retry,
            );
        }
        self.cc_exit = flags.cc_exit;
        self.pushed = Some(Pushed::new(&reply)).filter(|_| self.abilities.push_update);
        self.take_token(ours);
        let agreed = Negotiated {
            cipher,
            tls_ekm: flags.tls_ekm,
            dyn_tls_crypt: flags.dyn_tls_crypt,
        };
        self.events
            .push_back(Event::Pushed(Box::new(options), agreed));
        self.session.negotiated(agreed, env);
    }

    /// Changes options that are in force. One that is none of those that may change ends the session, as in stock OpenVPN,
    /// which then connects anew: the two sides would not agree any more.
    fn push_update(&mut self, options: &str) {
        let Some(pushed) = &mut self.pushed else {
            return;
        };
        match push_parts(&mut self.parts, options) {
            Ok(false) => return,
            Ok(true) => {}
            Err(why) => return self.end(Failure::new(why, ""), End::Retry),
        }
        let update = std::mem::take(&mut self.parts).join(",");
        match pushed.update(&update, &self.filter) {
            Ok(options) => self.events.push_back(Event::Updated(Box::new(options))),
            Err(why) => self.end(
                Failure::new(
                    why.to_string(),
                    "correct the update at the server; a question mark before an option leaves it to the client",
                ),
                End::Retry,
            ),
        }
    }

    fn take_token(&mut self, options: ForSession) {
        let Some(password) = options.token.filter(|_| self.state != State::Over) else {
            return;
        };
        let username = options.token_user.or_else(|| self.username.clone());
        let credentials = Credentials {
            username: username.unwrap_or_default(),
            password,
        };
        self.token = true;
        self.session.set_credentials(Some(credentials.clone()));
        self.events.push_back(Event::Token(credentials));
    }

    fn auth_failed(&mut self, failed: AuthFailed) {
        let sentence = |reason: &str| {
            told(
                "the server refused user name, password or certificate",
                reason,
            )
        };
        match failed {
            AuthFailed::Ask(challenge) => {
                let why = Failure::new("the server asks for an answer", "answer its question");
                self.end(why, End::Ask(challenge));
            }
            AuthFailed::Temporary {
                time,
                advance,
                reason,
            } => {
                let why = Failure::new(told("the server has no answer at the moment", &reason), "");
                self.end(why, End::Wait { time, advance });
            }
            AuthFailed::Refused(reason) if self.token => {
                let why = told("the server does not take its token any more", &reason);
                self.end(Failure::new(why, ""), End::Password);
            }
            AuthFailed::Refused(reason) => {
                let why = Failure::new(
                    sentence(&reason),
                    "check username and password, and that the server knows this certificate",
                );
                self.end(why, End::Stop);
            }
        }
    }
}

fn told(what: &str, reason: &str) -> String {
    match reason.is_empty() {
        true => what.to_owned(),
        false => format!("{what}: \"{reason}\""),
    }
}
