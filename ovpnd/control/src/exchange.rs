// SPDX-License-Identifier: MIT OR Apache-2.0
//! Key method 2: the first message that each side sends inside TLS, with random numbers, options, user name and
//! password, and the list of abilities that is called peer info.
//!
//! Layout: u32 zero, u8 2, [from a client: pre-master secret, 48 bytes], random 1 and 2 of 32 bytes each, then strings of
//! a big-endian u16 length that counts the final NUL: options, user name, password, peer info. An absent string has
//! length 0 and no NUL; strings at the end may be left out.

use std::fmt;

use zeroize::Zeroizing;

use crate::keys::{Randoms, Role};
use crate::wrap::text::encode_base64;

/// OpenVPN's buffer for one message inside TLS.
pub const MAX_MESSAGE: usize = 2048;
const KEY_METHOD: u8 = 2;

/// Why a message is no key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeError {
    /// Longer than 2048 bytes.
    TooLong,
    /// It ends inside a field.
    CutOff,
    /// The first bytes are not those of key method 2.
    Method,
    /// A string does not end with its only NUL.
    Terminator,
    /// The user name is not printable UTF-8.
    UserName,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the key exchange is longer than 2048 bytes",
            Self::CutOff => "the key exchange is cut off",
            Self::Method => "the peer does not use key method 2",
            Self::Terminator => "a string of the key exchange does not end with its only NUL",
            Self::UserName => "the user name holds characters that cannot be printed",
        })
    }
}

impl std::error::Error for ExchangeError {}

/// A user name and its password. The password is wiped when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Printable UTF-8.
    pub username: String,
    /// Any bytes but NUL.
    pub password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// These with the answer to a question that both sides know beforehand (`static-challenge`): the password is then
    /// `SCRV1:` and both in base64.
    pub fn with_answer(&self, answer: &str) -> Self {
        let password = [
            "SCRV1:",
            &encode_base64(&self.password),
            ":",
            &encode_base64(answer.as_bytes()),
        ];
        Self {
            username: self.username.clone(),
            password: Zeroizing::new(password.concat().into_bytes()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.username)
    }
}

/// The key exchange of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// From a client only.
    pub pre_master: Option<Zeroizing<[u8; 48]>>,
    /// Random numbers.
    pub randoms: Randoms,
    /// The sender's options, for a comparison that only warns. Printable ASCII after [`Self::decode`].
    pub options: String,
    /// User name and password, from a client that has them.
    pub credentials: Option<Credentials>,
    /// Lines of `NAME=value`; see [`crate::peerinfo`]. Printable ASCII and line ends after [`Self::decode`].
    pub peer_info: String,
}

impl Exchange {
    /// The message, to be written as one record.
    ///
    /// # Errors
    /// It would be longer than 2048 bytes, or a string holds a NUL.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
        let mut out = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE));
        out.extend([0, 0, 0, 0, KEY_METHOD]);
        if let Some(secret) = &self.pre_master {
            out.extend(secret.iter());
        }
        out.extend(self.randoms.random1.iter());
        out.extend(self.randoms.random2.iter());
        let credentials = self.credentials.as_ref();
        put_string(&mut out, self.options.as_bytes())?;
        put_string(&mut out, credentials.map_or(b"", |c| c.username.as_bytes()))?;
        put_string(&mut out, credentials.map_or(b"", |c| c.password.as_slice()))?;
        put_string(&mut out, self.peer_info.as_bytes())?;
        Ok(out)
    }

    /// Reads a message that the side in the role of `sender` sent. Strings are filtered: see the fields.
    ///
    /// # Errors
    /// The message is not a key exchange.
    pub fn decode(sender: Role, message: &[u8]) -> Result<Self, ExchangeError> {
        if message.len() > MAX_MESSAGE {
            return Err(ExchangeError::TooLong);
        }
        let mut rest = message;
        if array::<5>(&mut rest)? != [0, 0, 0, 0, KEY_METHOD] {
            return Err(ExchangeError::Method);
        }
        let pre_master = match sender {
            Role::Client => Some(Zeroizing::new(array(&mut rest)?)),
            Role::Server => None,
        };
        let randoms = Randoms {
            random1: Zeroizing::new(array(&mut rest)?),
            random2: Zeroizing::new(array(&mut rest)?),
        };
        let options = filtered(string(&mut rest)?, false);
        let (username, password) = (string(&mut rest)?, string(&mut rest)?);
        let peer_info = filtered(string(&mut rest)?, true);
        let credentials = match username {
            b"" => None,
            // A name that is changed to be printable could become another user's: refused instead.
            name => Some(Credentials {
                username: std::str::from_utf8(name)
                    .ok()
                    .filter(|name| !name.chars().any(char::is_control))
                    .ok_or(ExchangeError::UserName)?
                    .to_owned(),
                password: Zeroizing::new(password.to_vec()),
            }),
        };
        Ok(Self {
            pre_master,
            randoms,
            options,
            credentials,
            peer_info,
        })
    }
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ExchangeError> {
    if text.contains(&0) {
        return Err(ExchangeError::Terminator);
    }
    if out.len() + 2 + text.len() + 1 > MAX_MESSAGE {
        return Err(ExchangeError::TooLong);
    }
    if text.is_empty() {
        out.extend([0, 0]);
        return Ok(());
    }
    let len = u16::try_from(text.len() + 1).map_err(|_| ExchangeError::TooLong)?;
    out.extend(len.to_be_bytes());
    out.extend(text);
    out.push(0);
    Ok(())
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ExchangeError> {
    let (head, tail) = rest.split_first_chunk().ok_or(ExchangeError::CutOff)?;
    *rest = tail;
    Ok(*head)
}

/// The next string without its NUL; an empty one after the end of the message.
fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ExchangeError> {
    if rest.is_empty() {
        return Ok(&[]);
    }
    let len = usize::from(u16::from_be_bytes(array(rest)?));
    let (text, tail) = rest.split_at_checked(len).ok_or(ExchangeError::CutOff)?;
    *rest = tail;
    match text.split_last() {
        None => Ok(text),
        Some((0, text)) if !text.contains(&0) => Ok(text),
        Some(_) => Err(ExchangeError::Terminator),
    }
}

/// Text of a peer for logs and comparisons: all but printable ASCII, and line ends where they are expected, becomes
/// `_` (CVE-2024-5594).
pub fn filtered(text: &[u8], lines: bool) -> String {
    text.iter()
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            b'\n' if lines => '\n',
            _ => '_',
        })
        .collect()
}

/// A control message as text, without the NUL and the line ends that some servers send at its end; `None` when a
/// character in it is not printable ASCII.
pub fn control_text(message: &[u8]) -> Option<&str> {
    let message = message.strip_suffix(b"\0").unwrap_or(message);
    let end = message
        .iter()
        .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
        .map_or(0, |last| last + 1);
    let text = message.get(..end)?;
    match text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        true => std::str::from_utf8(text).ok(),
        false => None,
    }
}

/// The string of options that a side announces; stock OpenVPN compares it with its own and warns. `protocol` is
/// `UDPv4`, `TCPv4_CLIENT` and so on.
pub fn options_string(role: Role, protocol: &str, tun_mtu: u32) -> String {
    let side = match role {
        Role::Client => "tls-client",
        Role::Server => "tls-server",
    };
    format!(
        "V4,dev-type tun,tun-mtu {tun_mtu},proto {protocol},cipher AES-256-GCM,auth [null-digest],keysize 256,\
         key-method 2,{side}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exchange(role: Role) -> Exchange {
        Exchange {
            pre_master: (role == Role::Client).then(|| Zeroizing::new([3; 48])),
            randoms: Randoms {
                random1: Zeroizing::new([1; 32]),
                random2: Zeroizing::new([2; 32]),
            },
            options: "V4,dev-type tun".into(),
            credentials: (role == Role::Client).then(|| Credentials {
                username: "jürgen".into(),
                password: Zeroizing::new(b"\xff secret\n".to_vec()),
            }),
            peer_info: "IV_VER=2.7.8\nIV_PROTO=990\n".into(),
        }
    }

    #[test]
    fn an_answer_goes_into_the_password() {
        let credentials = Credentials {
            username: "anna".into(),
            password: Zeroizing::new(b"secret".to_vec()),
        };
        let with = credentials.with_answer("4711");
        assert_eq!(with.username, "anna");
        assert_eq!(with.password.as_slice(), b"SCRV1:c2VjcmV0:NDcxMQ==");
    }

    #[test]
    fn both_roles_round_trip() {
        for role in [Role::Client, Role::Server] {
            let message = exchange(role).encode().unwrap();
            assert_eq!(Exchange::decode(role, &message), Ok(exchange(role)));
        }
    }

    #[test]
    fn the_layout_is_that_of_key_method_2() {
        let message = exchange(Role::Client).encode().unwrap();
        assert_eq!(message.get(..5), Some(&[0, 0, 0, 0, 2][..]));
        assert_eq!(message.get(5..53), Some(&[3; 48][..]));
        assert_eq!(message.get(53..85), Some(&[1; 32][..]));
        assert_eq!(message.get(85..117), Some(&[2; 32][..]));
        assert_eq!(message.get(117..135), Some(&b"\0\x10V4,dev-type tun\0"[..]));
        let server = exchange(Role::Server).encode().unwrap();
        // Absent strings have no NUL.
        assert_eq!(
            server.get(69..89),
            Some(&b"\0\x10V4,dev-type tun\0\0\0"[..]).map(|s| &s[..20])
        );
        assert_eq!(server.get(87..91), Some(&[0, 0, 0, 0][..]));
    }

    #[test]
    fn strings_at_the_end_may_be_missing() {
        let whole = exchange(Role::Server).encode().unwrap();
        let read = Exchange::decode(Role::Server, &whole[..87]).unwrap();
        assert_eq!(
            (read.options.as_str(), read.peer_info.as_str()),
            ("V4,dev-type tun", "")
        );
        assert_eq!(read.credentials, None);
    }

    #[test]
    fn faulty_messages_are_told_apart() {
        let whole = exchange(Role::Client).encode().unwrap();
        let changed = |at: usize, byte: u8| {
            let mut message = whole.to_vec();
            message[at] = byte;
            Exchange::decode(Role::Client, &message)
        };
        assert_eq!(changed(4, 1), Err(ExchangeError::Method));
        assert_eq!(changed(0, 1), Err(ExchangeError::Method));
        // The NUL of the options, and a second one in them.
        assert_eq!(changed(134, b'x'), Err(ExchangeError::Terminator));
        assert_eq!(changed(125, 0), Err(ExchangeError::Terminator));
        // The length of the options runs over the end.
        assert_eq!(changed(117, 0xff), Err(ExchangeError::CutOff));
        // A line end in the user name.
        assert_eq!(changed(138, b'\n'), Err(ExchangeError::UserName));
        assert_eq!(
            Exchange::decode(Role::Client, &[0; MAX_MESSAGE + 1]),
            Err(ExchangeError::TooLong)
        );
        let cut = Exchange::decode(Role::Client, &whole[..116]);
        assert_eq!(cut, Err(ExchangeError::CutOff));
    }

    #[test]
    fn every_truncation_is_an_error_or_ends_between_strings() {
        let whole = exchange(Role::Client).encode().unwrap();
        let ends: Vec<usize> = (0..whole.len())
            .filter(|len| Exchange::decode(Role::Client, &whole[..*len]).is_ok())
            .collect();
        let options = 117 + 18;
        let username = options + 2 + 8;
        let password = username + 2 + 10;
        assert_eq!(ends, [117, options, username, password]);
    }

    #[test]
    fn nothing_too_long_or_with_a_nul_is_sent() {
        let mut message = exchange(Role::Client);
        message.peer_info = "x".repeat(MAX_MESSAGE);
        assert_eq!(message.encode(), Err(ExchangeError::TooLong));
        message.peer_info = "a\0b".into();
        assert_eq!(message.encode(), Err(ExchangeError::Terminator));
    }

    #[test]
    fn peers_cannot_write_into_logs() {
        let mut message = exchange(Role::Server);
        message.options = "V4\nforged".into();
        message.peer_info = "IV_VER=\x1b[2J\nIV_GUI_VER=ü".into();
        let read = Exchange::decode(Role::Server, &message.encode().unwrap()).unwrap();
        assert_eq!(read.options, "V4_forged");
        assert_eq!(read.peer_info, "IV_VER=_[2J\nIV_GUI_VER=__");
    }

    #[test]
    fn control_messages_are_printable() {
        for (message, text) in [
            (&b"AUTH_FAILED,no\0"[..], Some("AUTH_FAILED,no")),
            (b"EXIT\r\n\0", Some("EXIT")),
            (b"", Some("")),
            (b"\n", Some("")),
            (b"a\nb\0", None),
            (b"a\0b\0", None),
            (b"\x7f", None),
            (b"\xc3\xbc", None),
        ] {
            assert_eq!(control_text(message), text, "{message:?}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let text = format!("{:?}", exchange(Role::Client));
        assert!(
            text.contains("jürgen") && !text.contains("secret"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            start in prop::sample::select(vec![0usize, 5, 69, 117]),
        ) {
            let mut message = vec![0, 0, 0, 0, 2];
            message.resize(start.max(5), 7);
            message.extend(&bytes);
            for role in [Role::Client, Role::Server] {
                if let Ok(read) = Exchange::decode(role, &message) {
                    // Its own form is read back.
                    let again = read.encode().unwrap();
                    prop_assert_eq!(Exchange::decode(role, &again), Ok(read));
                }
                let _ = Exchange::decode(role, &bytes);
            }
        }
    }
}
