// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of a server that answers clients it does not know, and remembers nothing of them until they prove that
//! they get its answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::cookie::Cookies;
use crate::env::Env;
use crate::keys::Role;
use crate::packet::{Body, EarlyNegotiation, Header, KeyId, MessageId, Opcode, SessionId};
use crate::replay::{ReplayId, Stamp};
use crate::server::Path;
use crate::wrap::{Keys, Opened, Reject, StaticKey, auth, crypt, v2};

/// A client's second message may overtake the first.
const LATEST_FIRST: MessageId = MessageId(2);
/// Resets are counted over so long.
const PERIOD: Duration = Duration::from_secs(10);

/// How a server's control packets are protected.
#[derive(Debug, Clone)]
pub enum ServerWrap {
    /// Not at all beyond TLS.
    None,
    /// tls-auth.
    Auth(StaticKey, auth::Direction, auth::Digest),
    /// tls-crypt.
    Crypt(StaticKey),
    /// tls-crypt-v2. A client older than OpenVPN 2.6 cannot bring its key twice: it is let in only where the server
    /// may keep state for an address that is not proven (`tls-crypt-v2 ... allow-noncookie`), and over TCP.
    CryptV2 {
        /// Opens the clients' keys.
        key: v2::ServerKey,
        /// Whether clients older than OpenVPN 2.6 are let in.
        allow_noncookie: bool,
    },
}

/// Limits for clients that are not known, in a period of 10 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetLimits {
    /// From all addresses: the option `connect-freq-initial`.
    pub total: u32,
    /// From one network, /24 or /48.
    pub prefix: u32,
}

impl Default for ResetLimits {
    fn default() -> Self {
        Self {
            total: 100,
            prefix: 50,
        }
    }
}

#[derive(Debug)]
struct Buckets {
    limits: ResetLimits,
    since: Instant,
    total: u32,
    /// Not longer than `limits.total`.
    prefixes: BTreeMap<[u8; 6], u32>,
}

impl Buckets {
    fn take(&mut self, from: IpAddr, now: Instant) -> Result<(), Reject> {
        if now.saturating_duration_since(self.since) >= PERIOD {
            self.since = now;
            self.total = 0;
            self.prefixes.clear();
        }
        if self.total >= self.limits.total {
            return Err(Reject::Limit);
        }
        let count = self.prefixes.entry(prefix(from)).or_default();
        if *count >= self.limits.prefix {
            return Err(Reject::Limit);
        }
        *count = count.saturating_add(1);
        self.total = self.total.saturating_add(1);
        Ok(())
    }
}

/// The network of an address: /24 of IPv4, also when it is mapped into IPv6, and /48 of IPv6.
fn prefix(ip: IpAddr) -> [u8; 6] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [0, 0, 4, a, b, c]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [a, b, c, d, e, f]
        }
    }
}

/// The answer to a packet of an unknown client.
pub(crate) enum First {
    /// Send this and forget the client.
    Reply(Vec<u8>),
    /// Make a session.
    Begin(Box<Begin>),
}

/// A client that gets packets at its address, or is let in without proof.
pub(crate) struct Begin {
    pub(crate) keys: Keys,
    /// The key below the wrap, for dyn-tls-crypt.
    pub(crate) outer: Option<StaticKey>,
    pub(crate) own: SessionId,
    pub(crate) peer: SessionId,
    /// The packet, for the session.
    pub(crate) opened: Opened,
    /// The note in the client's key of tls-crypt-v2.
    pub(crate) metadata: Vec<u8>,
    /// The resets are not exchanged yet.
    pub(crate) without_cookie: bool,
}

/// Answers unknown clients.
#[derive(Debug)]
pub(crate) struct Listener {
    wrap: ServerWrap,
    cookies: Cookies,
    buckets: Buckets,
    start: Instant,
    unix: u64,
}

impl Listener {
    pub(crate) fn new(wrap: ServerWrap, limits: ResetLimits, env: &mut Env<'_>) -> Self {
        Self {
            wrap,
            cookies: Cookies::new(env.bytes(), env.now),
            buckets: Buckets {
                limits,
                since: env.now,
                total: 0,
                prefixes: BTreeMap::new(),
            },
            start: env.now,
            unix: env.unix,
        }
    }

    /// Seconds since 1970 by a clock that never goes back, for stamps: a client takes none that are earlier than those
    /// in the answer to its reset.
    pub(crate) fn unix(&self, now: Instant) -> u64 {
        let running = now.saturating_duration_since(self.start).as_secs();
        self.unix.saturating_add(running)
    }

    pub(crate) fn first(
        &mut self,
        path: Path,
        packet: &[u8],
        env: &mut Env<'_>,
    ) -> Result<First, Reject> {
        let from = path.remote;
        let (header, _) = Header::parse(packet)?;
        let wrapped = matches!(self.wrap, ServerWrap::CryptV2 { .. });
        match header.opcode {
            Opcode::HardResetClientV2 if !wrapped => {}
            Opcode::HardResetClientV3 | Opcode::ControlWkcV1 if wrapped => {}
            Opcode::ControlV1 | Opcode::AckV1 if !wrapped => {}
            _ => return Err(Reject::Stranger),
        }
        if header.key_id != KeyId::FIRST {
            return Err(Reject::Stranger);
        }
        let (keys, outer, metadata, packet) = match &self.wrap {
            ServerWrap::None => (Keys::None, None, Vec::new(), packet),
            ServerWrap::Auth(key, direction, digest) => {
                let keys = Keys::Auth(auth::Keys::new(key, *direction, *digest));
                (keys, Some(key.clone()), Vec::new(), packet)
            }
            ServerWrap::Crypt(key) => {
                let keys = Keys::Crypt(crypt::Keys::new(key, Role::Server));
                (keys, Some(key.clone()), Vec::new(), packet)
            }
            ServerWrap::CryptV2 { key, .. } => {
                let (packet, wrapped) = v2::split(packet)?;
                let client = key.unwrap(&wrapped)?;
                let keys = Keys::Crypt(crypt::Keys::new(&client.key, Role::Server));
                (keys, Some(client.key), client.metadata, packet)
            }
        };
        let opened = keys.open(packet)?;
        let body = Body::parse(header.opcode, &opened.body)?;
        let begin = |own, opened, without_cookie| {
            First::Begin(Box::new(Begin {
                keys: keys.clone(),
                outer,
                own,
                peer: header.sid,
                opened,
                metadata,
                without_cookie,
            }))
        };
        if !header.opcode.is_hard_reset() {
            self.check_echo(from, &header, &body, env.now)?;
            let own = body.peer.ok_or(Reject::Stranger)?;
            return Ok(begin(own, opened, false));
        }
        if !body.acks.is_empty() {
            return Err(Reject::Malformed("a client's reset with acks"));
        }
        self.buckets.take(from.ip(), env.now)?;
        let can_resend = opened.stamp.is_some_and(Stamp::offers_early_negotiation);
        if let (
            ServerWrap::CryptV2 {
                allow_noncookie, ..
            },
            false,
        ) = (&self.wrap, can_resend)
        {
            return match *allow_noncookie || path.stream {
                true => Ok(begin(crate::session::random_sid(env), opened, true)),
                false => Err(Reject::Stranger),
            };
        }
        let reset = Header {
            opcode: Opcode::HardResetServerV2,
            key_id: KeyId::FIRST,
            sid: self.cookies.make(from, header.sid, env.now),
        };
        let flags = EarlyNegotiation {
            resend_wrapped_key: wrapped,
        };
        let body = Body {
            acks: vec![MessageId(0)],
            peer: Some(header.sid),
            message: Some(MessageId(0)),
            payload: flags.bytes(),
        };
        let stamp = Stamp {
            id: ReplayId(1),
            time: u32::try_from(self.unix(env.now) & u64::from(u32::MAX)).unwrap_or(0),
        };
        Ok(First::Reply(keys.seal(stamp, &reset, &body.bytes())))
    }

    /// Whether a packet proves that its sender got the answer to its reset.
    fn check_echo(
        &self,
        from: SocketAddr,
        header: &Header,
        body: &Body,
        now: Instant,
    ) -> Result<(), Reject> {
        let own = body.peer.ok_or(Reject::Stranger)?;
        let early = body.acks.iter().all(|ack| ack.0 == 0)
            && body.message.is_none_or(|id| id.0 > 0 && id <= LATEST_FIRST);
        match early && self.cookies.check(from, header.sid, own, now) {
            true => Ok(()),
            false => Err(Reject::Stranger),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_limited_by_network_and_in_total_until_the_period_ends() {
        let now = Instant::now();
        let mut buckets = Buckets {
            limits: ResetLimits {
                total: 5,
                prefix: 2,
            },
            since: now,
            total: 0,
            prefixes: BTreeMap::new(),
        };
        let mut take = |from: &str, at| buckets.take(from.parse().unwrap(), at).is_ok();
        assert!(take("192.0.2.1", now) && take("::ffff:192.0.2.200", now));
        assert!(!take("192.0.2.3", now));
        assert!(take("192.0.3.1", now));
        assert!(take("2001:db8::1", now) && take("2001:db8:0:1::1", now));
        assert!(!take("2001:db9::1", now));
        assert!(!take("2001:db9::1", now + PERIOD - Duration::from_nanos(1)));
        assert!(take("192.0.2.1", now + PERIOD));
    }
}
