// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server's answer to a reset that costs it no memory: its session id is a MAC over the client's address and session
//! id, so that the client proves by its next packet that it gets packets at that address.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::packet::SessionId;

/// Length of a time slot; an answer holds for two to three slots.
pub const SLOT: Duration = Duration::from_secs(30);
const OLD_SLOTS: u64 = 2;

/// Makes and checks session ids. Wiped when dropped, never printed.
pub struct Cookies {
    key: Zeroizing<[u8; 64]>,
    start: Instant,
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    /// Takes 64 random bytes. Slots count from `start`.
    pub fn new(key: [u8; 64], start: Instant) -> Self {
        Self {
            key: Zeroizing::new(key),
            start,
        }
    }

    /// The server's session id for a client, now.
    pub fn make(&self, from: SocketAddr, client: SessionId, now: Instant) -> SessionId {
        self.at(self.slot(now), from, client)
    }

    /// Whether `server` is a session id that was made for this client in this slot or one of the two before it.
    pub fn check(
        &self,
        from: SocketAddr,
        client: SessionId,
        server: SessionId,
        now: Instant,
    ) -> bool {
        let slot = self.slot(now);
        (0..=OLD_SLOTS)
            .filter_map(|old| slot.checked_sub(old))
            .fold(false, |found, slot| {
                let expected = self.at(slot, from, client);
                found | bool::from(expected.bytes().ct_eq(server.bytes()))
            })
    }

    fn slot(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / SLOT.as_secs()
    }

    fn at(&self, slot: u64, from: SocketAddr, client: SessionId) -> SessionId {
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&*self.key).into());
        mac.update(&slot.to_be_bytes());
        match from.ip() {
            IpAddr::V4(ip) => {
                mac.update(&[4]);
                mac.update(&ip.octets());
            }
            IpAddr::V6(ip) => {
                mac.update(&[6]);
                mac.update(&ip.octets());
            }
        }
        mac.update(&from.port().to_be_bytes());
        mac.update(client.bytes());
        let tag = mac.finalize().into_bytes();
        let mut sid = [0; 8];
        for (to, from) in sid.iter_mut().zip(tag) {
            *to = from;
        }
        // One MAC in 2^64 is no session id.
        SessionId::new(sid).unwrap_or(SessionId::ONES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(n: u8) -> SessionId {
        SessionId::new([n; 8]).unwrap()
    }

    #[test]
    fn only_the_same_client_and_address_pass() {
        let now = Instant::now();
        let cookies = Cookies::new([3; 64], now);
        let from: SocketAddr = "192.0.2.1:1194".parse().unwrap();
        let server = cookies.make(from, sid(1), now);
        assert!(cookies.check(from, sid(1), server, now));
        assert!(!cookies.check(from, sid(2), server, now));
        assert!(!cookies.check(from, sid(1), sid(2), now));
        for other in [
            "192.0.2.1:1195",
            "192.0.2.2:1194",
            "[::1]:1194",
            "[::ffff:192.0.2.1]:1194",
        ] {
            assert!(
                !cookies.check(other.parse().unwrap(), sid(1), server, now),
                "{other}"
            );
        }
        assert!(!Cookies::new([4; 64], now).check(from, sid(1), server, now));
    }

    #[test]
    fn both_edges_of_its_life() {
        let start = Instant::now();
        let cookies = Cookies::new([3; 64], start);
        let from: SocketAddr = "[2001:db8::1]:1194".parse().unwrap();
        let made = start + 5 * SLOT;
        let server = cookies.make(from, sid(1), made);
        let check = |now| cookies.check(from, sid(1), server, now);
        assert!(check(made + 3 * SLOT - Duration::from_nanos(1)));
        assert!(!check(made + 3 * SLOT));
        assert!(!check(made - Duration::from_nanos(1)));
        assert!(cookies.check(
            from,
            sid(1),
            cookies.make(from, sid(1), start),
            start + SLOT
        ));
    }
}
