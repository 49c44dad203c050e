// SPDX-License-Identifier: MIT OR Apache-2.0
//! A session after its first packets: its negotiations, the wraps of its packets, and when each key is used.
//!
//! A renegotiation has a number of its own (key id) and a TLS connection of its own, in the same roles as before. Both
//! sides receive with its key as soon as it is there, and send with it from `min(hand-window, renegotiation / 2)` later,
//! so that neither gets data that it has no key for. The old key goes a transition window after the renegotiation began.

mod event;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::env::Env;
use crate::exchange::{Credentials, control_text};
use crate::keys::{Cipher, KeyMaterial, Role};
use crate::keystate::{Chunks, Failure, KeyState, Local, Phase};
use crate::packet::{
    Body, HEADER_LEN, Header, KeyId, MAX_BODY_HEADER, MAX_DATAGRAM, Opcode, SessionId,
};
use crate::tls::{PeerIdentity, Tls, TlsFactory};
use crate::wrap::{Opened, Reject, STATIC_KEY_LEN, StaticKey, Wrap, dynamic, v2};
pub use event::{DataKey, Event, KeyChange, KeySlot, Negotiated, PeerHello, Timing};

/// Messages that may wait for a renegotiation to end.
const MAX_QUEUED: usize = 64;

struct Slot<T> {
    state: KeyState<T>,
    phase: Phase,
    authorised: bool,
    derived: bool,
}

impl<T: Tls> Slot<T> {
    fn new(state: KeyState<T>) -> Self {
        Self {
            phase: Phase::Reset,
            state,
            authorised: false,
            derived: false,
        }
    }

    /// Whether the peer has the key, too: it acked all that it needs.
    fn is_agreed(&self) -> bool {
        self.derived && self.state.is_drained()
    }
}

/// One session.
pub struct Session<F: TlsFactory> {
    role: Role,
    timing: Timing,
    tls: Arc<F>,
    local: Local,
    sid: SessionId,
    peer: Option<SessionId>,
    wrap: Wrap,
    outer: Option<StaticKey>,
    dynamic: Option<Wrap>,
    wrapped_key: Option<v2::WrappedKey>,
    primary: Slot<F::Tls>,
    next: Option<Slot<F::Tls>>,
    lame: Option<Slot<F::Tls>>,
    last_key_id: KeyId,
    negotiated: Option<Negotiated>,
    /// Certificate and user name of the first exchange, which later ones have to repeat.
    locked: Option<(Option<PeerIdentity>, Option<String>)>,
    queued: VecDeque<Zeroizing<Vec<u8>>>,
    events: VecDeque<Event>,
    over: bool,
    renegotiate_at: Option<Instant>,
    /// When the session ends because no renegotiation succeeded.
    expires_at: Option<Instant>,
    switch_at: Option<Instant>,
    drop_at: Option<Instant>,
    /// The age of the last key when the peer renegotiated; none after a renegotiation of ours.
    pace: Option<Duration>,
}

impl<F: TlsFactory> std::fmt::Debug for Session<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {:?})", self.role, self.sid)
    }
}

/// The settings of a new session.
#[derive(Debug)]
pub struct Parts<F> {
    /// Makes the TLS connections.
    pub tls: Arc<F>,
    /// Times.
    pub timing: Timing,
    /// The content of key exchanges.
    pub local: Local,
    /// Protection of packets.
    pub wrap: Wrap,
    /// The static key below the wrap, if there is one, for dyn-tls-crypt.
    pub outer: Option<StaticKey>,
}

impl<F: TlsFactory> Session<F> {
    /// Begins a session as a client, with the wrapped key of tls-crypt-v2 if that is used.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn connect(
        parts: Parts<F>,
        wrapped_key: Option<v2::WrappedKey>,
        env: &mut Env<'_>,
    ) -> Result<Self, Failure> {
        let sid = random_sid(env);
        let reset = match wrapped_key {
            Some(_) => Opcode::HardResetClientV3,
            None => Opcode::HardResetClientV2,
        };
        let tls = parts.tls.client()?;
        let state = KeyState::begin(Role::Client, KeyId::FIRST, reset, tls, env.now);
        let mut session = Self::new(Role::Client, parts, sid, state);
        session.wrapped_key = wrapped_key;
        Ok(session)
    }

    /// Begins a session as a server, behind a stateless handshake that agreed on both ids.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn accept(
        parts: Parts<F>,
        own: SessionId,
        peer: SessionId,
        env: &mut Env<'_>,
    ) -> Result<Self, Failure> {
        let tls = parts.tls.server()?;
        let state = KeyState::accepted(Role::Server, KeyId::FIRST, tls, env.now);
        let mut session = Self::new(Role::Server, parts, own, state);
        session.peer = Some(peer);
        Ok(session)
    }

    /// Begins a session as a server with an own reset, for a client that does not prove its address. Its reset is to be
    /// given to [`Self::receive_opened`].
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn answer(
        parts: Parts<F>,
        own: SessionId,
        peer: SessionId,
        env: &mut Env<'_>,
    ) -> Result<Self, Failure> {
        let tls = parts.tls.server()?;
        let reset = Opcode::HardResetServerV2;
        let state = KeyState::begin(Role::Server, KeyId::FIRST, reset, tls, env.now);
        let mut session = Self::new(Role::Server, parts, own, state);
        session.peer = Some(peer);
        Ok(session)
    }

    fn new(role: Role, parts: Parts<F>, sid: SessionId, state: KeyState<F::Tls>) -> Self {
        Self {
            role,
            timing: parts.timing,
            tls: parts.tls,
            local: parts.local,
            sid,
            peer: None,
            wrap: parts.wrap,
            outer: parts.outer,
            dynamic: None,
            wrapped_key: None,
            primary: Slot::new(state),
            next: None,
            lame: None,
            last_key_id: KeyId::FIRST,
            negotiated: None,
            locked: None,
            queued: VecDeque::new(),
            events: VecDeque::new(),
            over: false,
            renegotiate_at: None,
            expires_at: None,
            switch_at: None,
            drop_at: None,
            pace: None,
        }
    }

    /// This side's number of the session.
    pub fn sid(&self) -> SessionId {
        self.sid
    }

    /// The peer's number, once it is known.
    pub fn peer_sid(&self) -> Option<SessionId> {
        self.peer
    }

    /// How far the first negotiation is.
    pub fn phase(&self) -> Phase {
        self.primary.state.phase()
    }

    /// Whether the session has a key for the data channel.
    pub fn has_keys(&self) -> bool {
        self.primary.derived
    }

    /// Whether it failed or was ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// When this side renegotiates.
    pub fn renegotiates_at(&self) -> Option<Instant> {
        self.renegotiate_at
    }

    /// The TLS connection of the newest negotiation that is done.
    pub fn tls(&self) -> &F::Tls {
        match &self.next {
            Some(next) if next.state.is_done() => next.state.tls(),
            _ => self.primary.state.tls(),
        }
    }

    /// Makes later negotiations with another configuration, such as a newer list of revoked certificates.
    pub fn set_tls(&mut self, tls: Arc<F>) {
        self.tls = tls;
    }

    /// Sets user name and password of later key exchanges, such as a token that the server gave.
    pub fn set_credentials(&mut self, credentials: Option<Credentials>) {
        self.local.credentials = credentials;
    }

    /// Sets the age of a key at which this side renegotiates; keys that are there follow.
    pub fn set_renegotiation(&mut self, after: Option<Duration>, now: Instant) {
        self.timing.renegotiate = after;
        if self.has_keys() && self.next.is_none() {
            self.renegotiate_at = after.and_then(|after| now.checked_add(after));
        }
    }

    /// Events since the last call.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes a packet that came from the peer's address.
    ///
    /// # Errors
    /// The packet was dropped, for this reason; to be counted, never answered.
    pub fn receive(&mut self, packet: &[u8], env: &mut Env<'_>) -> Result<(), Reject> {
        let (header, _) = Header::parse(packet)?;
        let mut packet = packet;
        if header.opcode.has_wrapped_key() {
            (packet, _) = v2::split(packet)?;
        }
        let opened = self.wrap_of(header.key_id).keys().open(packet)?;
        self.receive_opened(&opened, env)
    }

    /// Takes a packet whose wrap was taken off, as a server does for a client's first one.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(crate) fn receive_opened(
        &mut self,
        opened: &Opened,
        env: &mut Env<'_>,
    ) -> Result<(), Reject> {
        let body = Body::parse(opened.header.opcode, &opened.body)?;
        let Header {
            opcode,
            key_id,
            sid,
        } = opened.header;
        let answers_us = body.peer == Some(self.sid);
        if (body.peer.is_some() && !answers_us)
            || opcode == Opcode::HardResetServerV2 && self.role == Role::Server
            || matches!(
                opcode,
                Opcode::HardResetClientV2 | Opcode::HardResetClientV3
            ) && self.role == Role::Client
        {
            return Err(Reject::Stranger);
        }
        let learned = match self.peer {
            Some(peer) if peer == sid => false,
            None if opcode == Opcode::HardResetServerV2 && answers_us => true,
            _ => return Err(Reject::Stranger),
        };
        self.wrap_of(key_id).admit(opened, env.now)?;
        if learned {
            self.peer = Some(sid);
        }
        if self.state_of(key_id).is_none() && opcode == Opcode::SoftResetV1 {
            self.begin(key_id, true, env)?;
        }
        let state = self.state_of(key_id).ok_or(Reject::Stranger)?;
        state.receive(opcode, &body, env.now)?;
        self.advance(env);
        Ok(())
    }

    fn wrap_of(&mut self, key_id: KeyId) -> &mut Wrap {
        match &mut self.dynamic {
            Some(wrap) if key_id != KeyId::FIRST => wrap,
            _ => &mut self.wrap,
        }
    }

    fn state_of(&mut self, key_id: KeyId) -> Option<&mut KeyState<F::Tls>> {
        let slots = [
            Some(&mut self.primary),
            self.next.as_mut(),
            self.lame.as_mut(),
        ];
        slots
            .into_iter()
            .flatten()
            .map(|slot| &mut slot.state)
            .find(|state| state.key_id == key_id)
    }

    /// Renegotiates now, unless a negotiation is under way. For a key that is nearly used up.
    pub fn renegotiate(&mut self, env: &mut Env<'_>) {
        let key_id = self.last_key_id.next();
        if self.begin(key_id, false, env).is_ok() {
            self.advance(env);
        }
    }

    /// Begins the renegotiation `key_id`, which this side or the peer wants.
    fn begin(&mut self, key_id: KeyId, by_peer: bool, env: &mut Env<'_>) -> Result<(), Reject> {
        if self.over || !self.primary.derived {
            return Err(Reject::Stranger);
        }
        match &self.next {
            // The peer gave up on one that does not come to an end here either.
            Some(next) if !next.derived && key_id == next.state.key_id.next() => self.next = None,
            Some(next) if next.is_agreed() => self.switch(),
            // The peer does not know this key: it gave up before our exchange came.
            Some(next) if next.derived && key_id == next.state.key_id.next() && by_peer => {
                self.drop_next()
            }
            Some(_) => return Err(Reject::Stranger),
            None => {}
        }
        if self
            .lame
            .as_ref()
            .is_some_and(|lame| lame.state.key_id == key_id)
        {
            self.drop_lame();
        }
        let tls = match self.role {
            Role::Client => self.tls.client(),
            Role::Server => self.tls.server(),
        };
        let now = env.now;
        self.last_key_id = key_id;
        let age = now.saturating_duration_since(self.primary.state.begun);
        self.pace = by_peer.then_some(age);
        self.renegotiate_at = None;
        if self.expires_at.is_none() {
            self.expires_at = now.checked_add(self.timing.transition);
        }
        match tls {
            Ok(tls) => {
                let state = KeyState::begin(self.role, key_id, Opcode::SoftResetV1, tls, now);
                self.next = Some(Slot::new(state));
                Ok(())
            }
            Err(why) => {
                self.renegotiation_failed(why.into(), now);
                Err(Reject::Stranger)
            }
        }
    }

    /// Sends a message inside TLS, with the NUL that ends it. During a renegotiation it waits for its end.
    pub fn send(&mut self, message: &str, env: &mut Env<'_>) {
        let mut bytes = Zeroizing::new(Vec::with_capacity(message.len() + 1));
        bytes.extend_from_slice(message.as_bytes());
        bytes.push(0);
        if self.queued.len() >= MAX_QUEUED {
            self.fail(Failure::new("the peer takes no messages", ""));
            return;
        }
        self.queued.push_back(bytes);
        self.advance(env);
    }

    /// Ends the session, as after a refused password; what was sent before still goes out.
    pub fn fail(&mut self, why: Failure) {
        if !self.over {
            self.over = true;
            self.events.push_back(Event::Failed(why));
        }
    }

    /// Sets what the sides agreed on, once; keys follow when their exchange is done and authorised.
    pub fn negotiated(&mut self, agreed: Negotiated, env: &mut Env<'_>) {
        if self.negotiated.is_none() {
            self.negotiated = Some(agreed);
            self.advance(env);
        }
    }

    /// Lets a peer in whose [`Event::Hello`] came.
    pub fn authorise(&mut self, key_id: KeyId, env: &mut Env<'_>) {
        let slots = [Some(&mut self.primary), self.next.as_mut()];
        for slot in slots.into_iter().flatten() {
            if slot.state.key_id == key_id && slot.state.is_done() {
                slot.authorised = true;
            }
        }
        self.advance(env);
    }

    /// Goes as far as what has come allows. To be called when [`Self::deadline`] has passed, and when a TLS connection
    /// that works elsewhere has something new.
    pub fn advance(&mut self, env: &mut Env<'_>) {
        if self.over {
            self.flush(env);
            return;
        }
        self.timers(env);
        self.advance_primary(env);
        self.advance_next(env);
        self.advance_lame(env);
        self.send_queued(env);
    }

    /// The last words of a session that is over.
    fn flush(&mut self, env: &mut Env<'_>) {
        let primary = self.chunks(self.primary.state.key_id);
        self.primary.state.send_tls(primary, env.now);
        let renegotiation = self.chunks(self.last_key_id);
        if let Some(next) = &mut self.next {
            next.state.send_tls(renegotiation, env.now);
        }
    }

    fn chunks(&self, key_id: KeyId) -> Chunks {
        let wrap = match &self.dynamic {
            Some(wrap) if key_id != KeyId::FIRST => wrap,
            _ => &self.wrap,
        };
        let other = MAX_DATAGRAM
            .saturating_sub(HEADER_LEN + MAX_BODY_HEADER)
            .saturating_sub(wrap.keys().overhead());
        let key = self.wrapped_key.as_ref().map_or(0, |key| key.bytes().len());
        Chunks {
            first: other.saturating_sub(key),
            other,
        }
    }

    fn timers(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.drop_at) {
            self.drop_lame();
        }
        if passed(self.switch_at) && self.next_is_agreed() {
            self.switch();
        }
        if passed(self.expires_at) && self.next.as_ref().is_none_or(|next| !next.derived) {
            self.fail(Failure::new(
                "the key is too old and no renegotiation succeeded",
                "",
            ));
            return;
        }
        if passed(self.renegotiate_at) {
            let key_id = self.last_key_id.next();
            self.renegotiate_at = now.checked_add(self.timing.hand_window);
            // A failure was told by an event, and another attempt comes.
            let _ = self.begin(key_id, false, env);
        }
    }

    fn hand_window_over(&self, slot: &Slot<F::Tls>, now: Instant) -> bool {
        !slot.state.is_done()
            && now.saturating_duration_since(slot.state.begun) >= self.timing.hand_window
    }

    fn advance_primary(&mut self, env: &mut Env<'_>) {
        if self.over {
            return;
        }
        let chunks = self.chunks(self.primary.state.key_id);
        let result = self.primary.state.advance(&self.local, chunks, env);
        let result = result.and_then(|()| match self.hand_window_over(&self.primary, env.now) {
            true => Err(self.primary.state.overdue(self.timing.hand_window)),
            false => Ok(()),
        });
        let events = &mut self.events;
        let result =
            result.and_then(|()| tell(&mut self.primary, self.role, &mut self.locked, events));
        if let Err(why) = result.and_then(|()| self.derive_primary(env)) {
            // An old key whose TLS connection ends is still a key while the next one is made.
            if self.primary.derived && self.next.is_some() {
                return;
            }
            self.fail(why);
        }
    }

    fn derive_primary(&mut self, env: &mut Env<'_>) -> Result<(), Failure> {
        let (Some(agreed), Some(peer)) = (self.negotiated, self.peer) else {
            return Ok(());
        };
        let slot = &mut self.primary;
        if slot.derived || !slot.authorised || !slot.state.is_done() {
            return Ok(());
        }
        let material = slot.state.material(agreed.tls_ekm, self.sid, peer)?;
        if agreed.dyn_tls_crypt && self.dynamic.is_none() {
            let mut exported = Zeroizing::new([0; STATIC_KEY_LEN]);
            slot.state
                .tls()
                .export(dynamic::LABEL, exported.as_mut_slice())?;
            let keys = dynamic::keys(&exported, self.outer.as_ref(), self.role);
            self.dynamic = Some(Wrap::new(keys, 0, env.unix));
        }
        slot.derived = true;
        self.install(KeySlot::Primary, KeyId::FIRST, agreed.cipher, material);
        self.schedule_renegotiation(env.now);
        Ok(())
    }

    fn schedule_renegotiation(&mut self, now: Instant) {
        self.renegotiate_at = self
            .timing
            .renegotiate
            .and_then(|after| now.checked_add(after));
    }

    fn install(&mut self, slot: KeySlot, key_id: KeyId, cipher: Cipher, material: KeyMaterial) {
        self.events
            .push_back(Event::Keys(KeyChange::Install(DataKey {
                slot,
                key_id,
                cipher,
                material,
            })));
    }

    fn advance_next(&mut self, env: &mut Env<'_>) {
        let Some(mut next) = self.next.take() else {
            return;
        };
        if self.over {
            return;
        }
        let chunks = self.chunks(next.state.key_id);
        let result = next.state.advance(&self.local, chunks, env);
        let result = match result {
            Ok(()) if self.hand_window_over(&next, env.now) => {
                Err(next.state.overdue(self.timing.hand_window))
            }
            result => result,
        };
        if let Err(why) = result {
            match next.derived {
                // Its key is in use; its TLS connection was only for messages.
                true => self.next = Some(next),
                false => self.renegotiation_failed(why, env.now),
            }
            return;
        }
        // Another identity than before is no failure that a second attempt mends.
        if let Err(why) = tell(&mut next, self.role, &mut self.locked, &mut self.events) {
            self.fail(why);
            return;
        }
        if let (Some(agreed), Some(peer), false, true, true) = (
            self.negotiated,
            self.peer,
            next.derived,
            next.authorised,
            next.state.is_done(),
        ) {
            match next.state.material(agreed.tls_ekm, self.sid, peer) {
                Ok(material) => {
                    next.derived = true;
                    self.drop_lame();
                    self.install(
                        KeySlot::Secondary,
                        next.state.key_id,
                        agreed.cipher,
                        material,
                    );
                    self.switch_at = env.now.checked_add(self.timing.switch_after(self.pace));
                    self.expires_at = None;
                    self.schedule_renegotiation(env.now);
                }
                Err(why) => {
                    self.renegotiation_failed(why, env.now);
                    return;
                }
            }
        }
        self.next = Some(next);
    }

    fn renegotiation_failed(&mut self, why: Failure, now: Instant) {
        self.next = None;
        self.renegotiate_at = now.checked_add(self.timing.hand_window);
        self.events.push_back(Event::RenegotiationFailed(why));
    }

    fn advance_lame(&mut self, env: &mut Env<'_>) {
        let chunks = self.chunks(KeyId::FIRST);
        if let Some(lame) = &mut self.lame {
            // Its TLS connection is only for messages by now, and its end changes nothing.
            let _ = lame.state.advance(&self.local, chunks, env);
            tell_messages(lame, &mut self.events);
        }
    }

    fn next_is_agreed(&self) -> bool {
        self.next.as_ref().is_some_and(Slot::is_agreed)
    }

    fn drop_next(&mut self) {
        self.switch_at = None;
        if self.next.take().is_some_and(|next| next.derived) {
            self.events.push_back(Event::Keys(KeyChange::DropSecondary));
        }
    }

    /// Sends with the next key from now on.
    fn switch(&mut self) {
        self.switch_at = None;
        let Some(next) = self.next.take_if(|next| next.derived) else {
            return;
        };
        self.drop_lame();
        self.drop_at = next.state.begun.checked_add(self.timing.transition);
        self.lame = Some(std::mem::replace(&mut self.primary, next));
        self.events.push_back(Event::Keys(KeyChange::Swap));
    }

    fn drop_lame(&mut self) {
        self.drop_at = None;
        if self.lame.take().is_some() {
            self.events.push_back(Event::Keys(KeyChange::DropSecondary));
        }
    }

    fn send_queued(&mut self, env: &mut Env<'_>) {
        if self.over {
            return;
        }
        // A stock peer reads the newest negotiation only.
        let slot = self.next.as_mut().unwrap_or(&mut self.primary);
        if !slot.state.is_done() || self.queued.is_empty() {
            return;
        }
        let key_id = slot.state.key_id;
        let chunks = self.chunks(key_id);
        while let Some(message) = self.queued.pop_front() {
            let slot = self.next.as_mut().unwrap_or(&mut self.primary);
            if let Err(why) = slot.state.send(&message, chunks, env.now) {
                self.fail(why);
                return;
            }
        }
    }

    /// The next packet to send to the peer's address; to be asked until there is none, after each other call.
    pub fn transmit(&mut self, env: &mut Env<'_>) -> Option<Vec<u8>> {
        let peer = self.peer;
        let slots = [
            self.next.as_mut(),
            Some(&mut self.primary),
            self.lame.as_mut(),
        ];
        let (key_id, opcode, body) = slots.into_iter().flatten().find_map(|slot| {
            let (opcode, body) = slot.state.transmit(peer, env.now)?;
            Some((slot.state.key_id, opcode, body))
        })?;
        let header = Header {
            opcode,
            key_id,
            sid: self.sid,
        };
        let mut packet = self.wrap_of(key_id).seal(&header, &body.bytes(), env.unix);
        if let (true, Some(key)) = (opcode.has_wrapped_key(), &self.wrapped_key) {
            packet.extend_from_slice(key.bytes());
        }
        Some(packet)
    }

    /// Whether the peer acked everything that was sent, so that a session that is over may be forgotten.
    pub fn is_drained(&self) -> bool {
        self.primary.state.is_drained()
            && self
                .next
                .as_ref()
                .is_none_or(|next| next.state.is_drained())
    }

    /// When [`Self::advance`] and [`Self::transmit`] have to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        let window = |slot: &Slot<F::Tls>| match slot.state.is_done() {
            true => None,
            false => slot.state.begun.checked_add(self.timing.hand_window),
        };
        let slots = [Some(&self.primary), self.next.as_ref(), self.lame.as_ref()];
        let repeats = slots
            .iter()
            .flatten()
            .filter_map(|slot| slot.state.deadline());
        if self.over {
            return repeats.min();
        }
        let windows = slots[..2].iter().flatten().filter_map(|slot| window(slot));
        let switch_at = self.switch_at.filter(|_| self.next_is_agreed());
        let timers = [
            self.renegotiate_at,
            switch_at,
            self.drop_at,
            self.expires_at,
        ];
        repeats
            .chain(windows)
            .chain(timers.into_iter().flatten())
            .min()
    }
}

/// A session id of random bytes.
pub(crate) fn random_sid(env: &mut Env<'_>) -> SessionId {
    SessionId::new(env.bytes()).unwrap_or(SessionId::ONES)
}

/// Tells how far a negotiation came, and checks that the peer is still the same.
fn tell<T: Tls>(
    slot: &mut Slot<T>,
    role: Role,
    locked: &mut Option<(Option<PeerIdentity>, Option<String>)>,
    events: &mut VecDeque<Event>,
) -> Result<(), Failure> {
    let (key_id, phase) = (slot.state.key_id, slot.state.phase());
    if phase != slot.phase {
        slot.phase = phase;
        events.push_back(Event::Phase(key_id, phase));
        if let (Phase::Done, Some(theirs)) = (phase, slot.state.theirs()) {
            let identity = slot.state.tls().peer();
            let username = theirs.credentials.as_ref().map(|c| c.username.clone());
            let now = (identity.clone(), username);
            match locked {
                Some(first) if *first != now => {
                    return Err(Failure::new(
                        "the peer came with another certificate or user name than before",
                        "",
                    ));
                }
                _ => *locked = Some(now),
            }
            // A client has nothing to decide: TLS verified the server.
            slot.authorised |= role == Role::Client;
            events.push_back(Event::Hello(PeerHello {
                key_id,
                identity,
                credentials: theirs.credentials.clone(),
                peer_info: theirs.peer_info.clone(),
                options: theirs.options.clone(),
            }));
        }
    }
    tell_messages(slot, events);
    Ok(())
}

/// A record may hold several messages, each with a NUL; those that are not printable are dropped.
fn tell_messages<T: Tls>(slot: &mut Slot<T>, events: &mut VecDeque<Event>) {
    while let Some(record) = slot.state.message() {
        for message in record.split(|byte| *byte == 0) {
            match control_text(message) {
                Some(text) if !text.is_empty() => {
                    events.push_back(Event::Message(Zeroizing::new(text.to_owned())));
                }
                _ => {}
            }
        }
    }
}
