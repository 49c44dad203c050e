// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens that a server pushes as the password of later logins (`auth-gen-token`). A server keeps no list of them: a MAC
//! says that a token is its own, whose it is and since when.
//!
//! `SESS_ID_AT_`, by which stock clients know a token, and in hexadecimal the time of the login in seconds since 1970 (8
//! bytes), 8 random bytes, and the MAC (HMAC-SHA256 over both and the user's name).

use std::time::Duration;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::env::Env;

const PREFIX: &str = "SESS_ID_AT_";
/// Bytes that the MAC is over, besides the name.
const STAMP: usize = 16;
const MAC: usize = 32;

/// Makes and checks tokens. The key is wiped when dropped and never printed.
pub struct Tokens {
    key: Zeroizing<[u8; 64]>,
    lifetime: Option<Duration>,
}

/// A token of ours that is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({:?})", self.lifetime)
    }
}

impl Tokens {
    /// Tokens that hold for a time from the login on, or until the server ends.
    pub fn new(lifetime: Option<Duration>, env: &mut Env<'_>) -> Self {
        Self {
            key: Zeroizing::new(env.bytes()),
            lifetime,
        }
    }

    /// A token for a user who logged in now.
    pub fn make(&self, user: &str, env: &mut Env<'_>) -> Zeroizing<String> {
        let mut bytes = env.unix.to_be_bytes().to_vec();
        bytes.extend(env.bytes::<8>());
        let mac = self.mac(user, &bytes).finalize().into_bytes();
        bytes.extend(mac);
        let mut token = Zeroizing::new(PREFIX.to_owned());
        token.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
        token
    }

    /// Whether a password is a token of this user; none when it is none of ours.
    pub fn check(&self, user: &str, password: &[u8], unix: u64) -> Option<Result<(), Expired>> {
        let bytes = decode(password.strip_prefix(PREFIX.as_bytes())?)?;
        let (stamp, mac) = bytes.split_at_checked(STAMP)?;
        // In constant time.
        self.mac(user, stamp).verify_slice(mac).ok()?;
        let since = u64::from_be_bytes(*stamp.first_chunk()?);
        let age = unix.saturating_sub(since);
        Some(match self.lifetime {
            Some(lifetime) if age > lifetime.as_secs() => Err(Expired),
            _ => Ok(()),
        })
    }

    fn mac(&self, user: &str, stamp: &[u8]) -> Hmac<Sha256> {
        // A key of the block's length is taken as it is.
        let key = hmac::digest::Key::<Hmac<Sha256>>::from_slice(&*self.key);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(key);
        mac.update(stamp);
        mac.update(user.as_bytes());
        mac
    }
}

/// Bytes of a stamp and a MAC.
fn decode(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() != 2 * (STAMP + MAC) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| {
        let &[high, low] = pair else { return None };
        u8::try_from(digit(high)? * 16 + digit(low)?).ok()
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn env(unix: u64, random: &mut dyn crate::env::Random) -> Env<'_> {
        Env {
            now: Instant::now(),
            unix,
            random,
        }
    }

    fn tokens(lifetime: Option<u64>) -> (Tokens, Zeroizing<String>) {
        let mut fill = |out: &mut [u8]| out.fill(7);
        let env = &mut env(1000, &mut fill);
        let tokens = Tokens::new(lifetime.map(Duration::from_secs), env);
        let token = tokens.make("anna", env);
        (tokens, token)
    }

    #[test]
    fn a_token_holds_for_its_user_and_its_time() {
        let (tokens, token) = tokens(Some(60));
        let check = |user: &str, unix| tokens.check(user, token.as_bytes(), unix);
        assert!(token.len() < 128, "stock OpenVPN's buffer of a password");
        assert_eq!(check("anna", 1000), Some(Ok(())));
        assert_eq!(check("anna", 1060), Some(Ok(())));
        assert_eq!(check("anna", 1061), Some(Err(Expired)));
        // A clock that was set back.
        assert_eq!(check("anna", 5), Some(Ok(())));
        assert_eq!(check("ann", 1000), None);
        assert_eq!(check("anna1", 1000), None);
        let (forever, token) = self::tokens(None);
        assert_eq!(
            forever.check("anna", token.as_bytes(), u64::MAX),
            Some(Ok(()))
        );
    }

    #[test]
    fn each_changed_character_makes_it_another_ones() {
        let (tokens, token) = tokens(None);
        for at in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(tokens.check("anna", &changed, 1000), None, "{at}");
        }
        for len in 0..token.len() {
            assert_eq!(tokens.check("anna", &token.as_bytes()[..len], 1000), None);
        }
        let mut fill = |out: &mut [u8]| out.fill(8);
        let other = Tokens::new(None, &mut env(1000, &mut fill));
        assert_eq!(other.check("anna", token.as_bytes(), 1000), None);
    }
}
