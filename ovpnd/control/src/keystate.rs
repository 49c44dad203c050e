// SPDX-License-Identifier: MIT OR Apache-2.0
//! One negotiation of keys: the windows of its messages, its TLS connection and its key exchange.
//!
//! A session has up to three: the active one, the next one, and the lame one that the peer may still use.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::env::Env;
use crate::exchange::{Credentials, Exchange, MAX_MESSAGE};
use crate::keys::{KeyMaterial, Randoms, Role};
use crate::packet::{Body, EarlyNegotiation, KeyId, MessageId, Opcode, SessionId};
use crate::reliable::{Arrival, Outgoing, Receiver, Sender};
use crate::tls::{Tls, TlsError};
use crate::wrap::Reject;

/// Bytes of TLS that a peer may send before the handshake is done.
const MAX_HANDSHAKE: usize = 128 * 1024;
/// Bytes of TLS that may wait for the peer's acks before a message is refused.
const MAX_BACKLOG: usize = 64 * 1024;

/// Why something ended, for people: one sentence, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The sentence.
    pub reason: String,
    /// The remedy, when one is known.
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure with a remedy; an empty one counts as none.
    pub fn new(reason: impl Into<String>, remedy: &str) -> Self {
        Self {
            reason: reason.into(),
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
        }
    }
}

impl From<TlsError> for Failure {
    fn from(why: TlsError) -> Self {
        Self {
            reason: why.reason,
            remedy: why.remedy,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// This side's part in its key exchanges.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Options, for a comparison that only warns: [`crate::exchange::options_string`].
    pub options: String,
    /// User name and password, of a client that has them.
    pub credentials: Option<Credentials>,
    /// Peer info, of a client: [`crate::negotiate::client_info`].
    pub peer_info: String,
}

/// How far a negotiation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The resets are on their way.
    Reset,
    /// TLS shakes hands.
    Handshake,
    /// TLS is up; the key exchange is on its way.
    Exchange,
    /// Both sides have exchanged what keys are made of.
    Done,
}

/// Bytes of TLS in a packet: of the first one, which may have a wrapped key behind it, and of the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunks {
    pub(crate) first: usize,
    pub(crate) other: usize,
}

pub(crate) struct KeyState<T> {
    pub(crate) key_id: KeyId,
    pub(crate) begun: Instant,
    role: Role,
    tls: T,
    sender: Sender,
    receiver: Receiver,
    phase: Phase,
    peer_reset: bool,
    /// The server wants the wrapped key again with the first message of TLS.
    resend_wrapped_key: bool,
    fed: usize,
    backlog: VecDeque<u8>,
    ours: Option<Exchange>,
    theirs: Option<Exchange>,
    messages: VecDeque<Zeroizing<Vec<u8>>>,
    failure: Option<Failure>,
}

impl<T: Tls> KeyState<T> {
    /// Begins with a reset.
    pub(crate) fn begin(role: Role, key_id: KeyId, reset: Opcode, tls: T, now: Instant) -> Self {
        let mut state = Self::accepted(role, key_id, tls, now);
        state.sender = Sender::default();
        state.receiver = Receiver::default();
        state.phase = Phase::Reset;
        state.peer_reset = false;
        // An empty window has room.
        let _ = state.sender.queue(reset, Vec::new(), now);
        state
    }

    /// Begins behind the resets, as a server does whose client proved its address.
    pub(crate) fn accepted(role: Role, key_id: KeyId, tls: T, now: Instant) -> Self {
        Self {
            key_id,
            begun: now,
            role,
            tls,
            sender: Sender::starting_at(MessageId(1)),
            receiver: Receiver::starting_at(MessageId(1)),
            phase: Phase::Handshake,
            peer_reset: true,
            resend_wrapped_key: false,
            fed: 0,
            backlog: VecDeque::new(),
            ours: None,
            theirs: None,
            messages: VecDeque::new(),
            failure: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    pub(crate) fn tls(&self) -> &T {
        &self.tls
    }

    pub(crate) fn theirs(&self) -> Option<&Exchange> {
        self.theirs.as_ref()
    }

    /// Takes an authenticated packet of this negotiation.
    pub(crate) fn receive(
        &mut self,
        opcode: Opcode,
        body: &Body,
        now: Instant,
    ) -> Result<(), Reject> {
        self.sender.acked(&body.acks, now);
        let Some(id) = body.message else {
            return Ok(());
        };
        if self.receiver.receive(id, opcode, &body.payload) == Arrival::Beyond {
            return Err(Reject::Beyond);
        }
        while let Some((opcode, payload)) = self.receiver.deliver() {
            self.deliver(opcode, &payload);
        }
        Ok(())
    }

    fn deliver(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        if opcode.is_reset() {
            self.peer_reset = true;
            // Flags that cannot be read are no flags: a server without early negotiation sends none.
            self.resend_wrapped_key = opcode == Opcode::HardResetServerV2
                && EarlyNegotiation::parse(payload).is_ok_and(|flags| flags.resend_wrapped_key);
            return;
        }
        if self.phase < Phase::Exchange {
            self.fed = self.fed.saturating_add(payload.len());
            if self.fed > MAX_HANDSHAKE {
                self.failure = Some(Failure::new("the peer's TLS handshake is too long", ""));
                return;
            }
        }
        if let Err(why) = self.tls.feed(payload) {
            self.failure = Some(why.into());
        }
    }

    /// Goes as far as what has come allows.
    ///
    /// # Errors
    /// TLS or the key exchange failed; an alert may still be sent.
    pub(crate) fn advance(
        &mut self,
        local: &Local,
        chunks: Chunks,
        env: &mut Env<'_>,
    ) -> Result<(), Failure> {
        if self.phase == Phase::Reset && self.peer_reset && self.sender.is_empty() {
            self.phase = Phase::Handshake;
        }
        let result = match self.failure.take() {
            Some(why) => Err(why),
            None if self.phase >= Phase::Handshake => self.exchange(local, env),
            None => Ok(()),
        };
        if self.phase >= Phase::Handshake {
            self.send_tls(chunks, env.now);
        }
        result
    }

    fn exchange(&mut self, local: &Local, env: &mut Env<'_>) -> Result<(), Failure> {
        if self.phase == Phase::Handshake {
            if !self.tls.is_established() {
                return Ok(());
            }
            self.phase = Phase::Exchange;
            if self.role == Role::Client {
                self.send_exchange(local, env)?;
            }
        }
        while let Some(record) = self.tls.read()? {
            let record = Zeroizing::new(record);
            if self.phase == Phase::Done {
                self.messages.push_back(record);
                continue;
            }
            let sender = match self.role {
                Role::Client => Role::Server,
                Role::Server => Role::Client,
            };
            let theirs = Exchange::decode(sender, &record)
                .map_err(|why| Failure::new(why.to_string(), ""))?;
            if self.role == Role::Server {
                self.send_exchange(local, env)?;
            }
            self.theirs = Some(theirs);
            self.phase = Phase::Done;
        }
        Ok(())
    }

    fn send_exchange(&mut self, local: &Local, env: &mut Env<'_>) -> Result<(), Failure> {
        let mut randoms = Randoms::default();
        env.random.fill(randoms.random1.as_mut_slice());
        env.random.fill(randoms.random2.as_mut_slice());
        let mut pre_master = None;
        if self.role == Role::Client {
            let mut secret = Zeroizing::new([0; 48]);
            env.random.fill(secret.as_mut_slice());
            pre_master = Some(secret);
        }
        let ours = Exchange {
            pre_master,
            randoms,
            options: local.options.clone(),
            credentials: local.credentials.clone(),
            peer_info: local.peer_info.clone(),
        };
        let message = ours
            .encode()
            .map_err(|why| Failure::new(why.to_string(), ""))?;
        self.tls.write(&message)?;
        self.ours = Some(ours);
        Ok(())
    }

    /// Sends what TLS has to say, as far as the window allows.
    pub(crate) fn send_tls(&mut self, chunks: Chunks, now: Instant) {
        let mut bytes = Vec::new();
        self.tls.pull(&mut bytes);
        self.backlog.extend(bytes);
        while !self.backlog.is_empty() && self.sender.has_room() {
            let first = self.sender.next() == MessageId(1) && self.resend_wrapped_key;
            let (opcode, size) = match first {
                true => (Opcode::ControlWkcV1, chunks.first),
                false => (Opcode::ControlV1, chunks.other),
            };
            let size = size.clamp(1, self.backlog.len());
            let payload = self.backlog.drain(..size).collect();
            if !self.sender.queue(opcode, payload, now) {
                return;
            }
        }
    }

    /// Sends a message inside TLS.
    ///
    /// # Errors
    /// TLS does not take it, it is longer than 2048 bytes, or the peer does not take what was sent before.
    pub(crate) fn send(
        &mut self,
        message: &[u8],
        chunks: Chunks,
        now: Instant,
    ) -> Result<(), Failure> {
        if message.len() > MAX_MESSAGE {
            return Err(Failure::new("a message of over 2048 bytes", ""));
        }
        if self.backlog.len() > MAX_BACKLOG {
            return Err(Failure::new("the peer takes no messages", ""));
        }
        self.tls.write(message)?;
        self.send_tls(chunks, now);
        Ok(())
    }

    /// The next message of the peer.
    pub(crate) fn message(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.messages.pop_front()
    }

    /// The next packet's opcode and body. `peer` is unknown until the peer's reset came.
    pub(crate) fn transmit(
        &mut self,
        peer: Option<SessionId>,
        now: Instant,
    ) -> Option<(Opcode, Body)> {
        if let Some(Outgoing {
            id,
            opcode,
            payload,
        }) = self.sender.due(now)
        {
            let acks = match peer {
                Some(_) => self.receiver.acks_for_message(),
                None => Vec::new(),
            };
            let body = Body {
                peer: peer.filter(|_| !acks.is_empty()),
                acks,
                message: Some(id),
                payload,
            };
            return Some((opcode, body));
        }
        if peer.is_some() && self.receiver.owes_acks() {
            let body = Body {
                acks: self.receiver.acks_alone(),
                peer,
                message: None,
                payload: Vec::new(),
            };
            return Some((Opcode::AckV1, body));
        }
        None
    }

    /// Whether the peer has everything that was sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.backlog.is_empty() && self.sender.is_empty()
    }

    /// When [`Self::transmit`] has something to repeat.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sender.deadline()
    }

    /// Data keys, once the exchange is done.
    ///
    /// # Errors
    /// It is not done, or TLS cannot export.
    pub(crate) fn material(
        &self,
        ekm: bool,
        own: SessionId,
        peer: SessionId,
    ) -> Result<KeyMaterial, Failure> {
        if ekm {
            return Ok(KeyMaterial::export(&self.tls)?);
        }
        let missing = || Failure::new("no key exchange yet", "");
        let ours = self.ours.as_ref().ok_or_else(missing)?;
        let theirs = self.theirs.as_ref().ok_or_else(missing)?;
        let ((client, client_sid), (server, server_sid)) = match self.role {
            Role::Client => ((ours, own), (theirs, peer)),
            Role::Server => ((theirs, peer), (ours, own)),
        };
        let pre_master = client.pre_master.as_ref().ok_or_else(missing)?;
        Ok(KeyMaterial::derive(
            pre_master,
            &client.randoms,
            &server.randoms,
            client_sid.bytes(),
            server_sid.bytes(),
        ))
    }

    /// The sentence for a negotiation that did not end within the hand-window.
    pub(crate) fn overdue(&self, window: Duration) -> Failure {
        let seconds = window.as_secs();
        match (self.role, self.phase) {
            (Role::Client, Phase::Reset) => Failure::new(
                format!("no answer from the server within {seconds} s"),
                "check its address, port and protocol, the firewall between, and that tls_auth or tls_crypt has the \
                 server's key and direction",
            ),
            (Role::Server, Phase::Reset) => {
                Failure::new(format!("no answer from the client within {seconds} s"), "")
            }
            (_, Phase::Handshake) => Failure::new(
                format!("the TLS handshake did not end within {seconds} s"),
                "look at the other side's log: it may refuse the certificate, or large packets may be lost on the way",
            ),
            (_, Phase::Exchange | Phase::Done) => Failure::new(
                format!("the key exchange did not end within {seconds} s"),
                "",
            ),
        }
    }
}
