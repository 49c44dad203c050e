// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages inside TLS, apart from options: a word, and text behind a comma.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::client::Challenge;
use crate::negotiate::ProtocolFlags;
use crate::push::{Filter, Pushed};
use crate::wrap::text::decode_base64;

/// A server that names no time for an approval means so long.
pub(crate) const SERVER_WAITS: Duration = Duration::from_secs(60);
/// Longest wait that a server may demand before the next attempt.
const MAX_BACKOFF: Duration = Duration::from_secs(3600);
/// A wait that the server leaves to us.
const BACKOFF: Duration = Duration::from_secs(30);
/// Most bytes of one PUSH_REPLY, as stock OpenVPN's buffer is.
const MAX_PUSH: usize = 1024;
/// Most parts of a push reply.
const MAX_PARTS: usize = 64;
/// Longest option that a stock client takes.
const MAX_OPTION: usize = 256;
const CONTINUATION: &str = "push-continuation";

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer<'a> {
    /// Options behind commas.
    PushReply(&'a str),
    /// Changes of options, behind commas.
    PushUpdate(&'a str),
    /// Certificate, user name or password were refused.
    AuthFailed(AuthFailed),
    /// A text for the user.
    Info(&'a str),
    /// Somebody has to approve; perhaps within a time.
    Pending(Option<Duration>),
    /// Connect again.
    Restart(&'a str),
    /// Do not connect again.
    Halt(&'a str),
    /// The session is over.
    Exit,
    /// Something else, which is ignored.
    Unknown,
}

/// Options of a push reply that the session itself takes; the rest is in [`crate::push::Options`].
#[derive(Debug, Clone, Default)]
pub(crate) struct ForSession {
    /// The cipher's name.
    pub(crate) cipher: Option<String>,
    /// Protocol flags.
    pub(crate) flags: ProtocolFlags,
    /// `auth-token`: the password of later exchanges.
    pub(crate) token: Option<Zeroizing<Vec<u8>>>,
    /// `auth-token-user`: the user name of later exchanges.
    pub(crate) token_user: Option<String>,
}

impl ForSession {
    /// Reads options with commas between them. Unknown ones, also unknown flags, are for the other reader.
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for option in text.split(',') {
            let mut words = option.split_ascii_whitespace();
            match words.next() {
                Some("cipher") => found.cipher = words.next().map(str::to_owned),
                Some("auth-token") => {
                    found.token = words
                        .next()
                        .map(|token| Zeroizing::new(token.as_bytes().to_vec()));
                }
                Some("auth-token-user") => found.token_user = words.next().and_then(decode_name),
                Some("protocol-flags" | "key-derivation") => {
                    for flag in words {
                        match flag {
                            "cc-exit" => found.flags.cc_exit = true,
                            "tls-ekm" => found.flags.tls_ekm = true,
                            "dyn-tls-crypt" => found.flags.dyn_tls_crypt = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// A user name in base64; `None` when it cannot be printed.
fn decode_name(text: &str) -> Option<String> {
    String::from_utf8(decode_base64(text)?)
        .ok()
        .filter(|name| !name.chars().any(char::is_control))
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFailed {
    /// For good, with the server's reason, which may be empty.
    Refused(String),
    /// For now.
    Temporary {
        /// Wait so long.
        time: Duration,
        /// Go to the next address.
        advance: bool,
        /// The server's reason, which may be empty.
        reason: String,
    },
    /// Not yet: a question comes first.
    Ask(Challenge),
}

impl<'a> FromServer<'a> {
    /// Reads a message.
    pub fn parse(text: &'a str) -> Self {
        let (word, rest) = text.split_once(',').unwrap_or((text, ""));
        match word {
            "PUSH_REPLY" => Self::PushReply(rest),
            "PUSH_UPDATE" => Self::PushUpdate(rest),
            "AUTH_FAILED" => Self::AuthFailed(AuthFailed::parse(rest)),
            "INFO" | "INFO_PRE" => Self::Info(rest),
            "AUTH_PENDING" => Self::Pending(
                rest.split(',')
                    .find_map(|word| word.trim().strip_prefix("timeout "))
                    .and_then(|seconds| seconds.trim().parse().ok())
                    .map(Duration::from_secs),
            ),
            "RESTART" => Self::Restart(rest),
            "HALT" => Self::Halt(rest),
            "EXIT" => Self::Exit,
            _ => Self::Unknown,
        }
    }
}

impl AuthFailed {
    fn parse(reason: &str) -> Self {
        if let Some(challenge) = reason.strip_prefix("CRV1:").and_then(challenge) {
            return Self::Ask(challenge);
        }
        let Some(rest) = reason.strip_prefix("TEMP") else {
            return Self::Refused(reason.to_owned());
        };
        let (flags, reason) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').unwrap_or(("", rest)),
            None => ("", rest),
        };
        let mut time = BACKOFF;
        let mut advance = true;
        for flag in flags.split(',') {
            match flag.trim().split_once(' ') {
                Some(("backoff", seconds)) => {
                    time = seconds
                        .parse()
                        .map_or(BACKOFF, Duration::from_secs)
                        .min(MAX_BACKOFF);
                }
                Some(("advance", how)) => advance = how != "no",
                _ => {}
            }
        }
        Self::Temporary {
            time,
            advance,
            reason: reason.trim_start_matches(':').trim().to_owned(),
        }
    }
}

/// `flags:state:user in base64:text`
fn challenge(text: &str) -> Option<Challenge> {
    let mut fields = text.splitn(4, ':');
    let flags = fields.next()?;
    let state = fields.next()?;
    let username = decode_name(fields.next()?)?;
    let text = fields.next()?;
    let has = |flag| flags.split(',').any(|f| f == flag);
    Some(Challenge {
        echo: has("E"),
        response: has("R"),
        state: state.to_owned(),
        username,
        text: text.to_owned(),
    })
}

/// Adds one PUSH_REPLY or PUSH_UPDATE to those before it; true when it was the last one.
///
/// # Errors
/// There are too many of them.
pub(crate) fn push_parts(parts: &mut Vec<String>, options: &str) -> Result<bool, &'static str> {
    if parts.len() >= MAX_PARTS {
        parts.clear();
        return Err("the server pushes more options than fit");
    }
    let more = format!("{CONTINUATION} 2");
    let mut is_last = true;
    let mut kept = Vec::new();
    for option in options.split(',') {
        match option.trim() {
            option if option == more => is_last = false,
            option if option.starts_with(CONTINUATION) => {}
            _ => kept.push(option),
        }
    }
    if !kept.is_empty() {
        parts.push(kept.join(","));
    }
    Ok(is_last)
}

/// Why options cannot be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPush(pub String);

/// Packs options into push replies of at most 1024 bytes with their NUL.
///
/// # Errors
/// An option is longer than 256 bytes, or holds a comma or what cannot be printed.
pub fn push_replies<'a>(
    options: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, BadPush> {
    pack("PUSH_REPLY", options)
}

/// Packs changes of options into `PUSH_UPDATE`, as [`push_replies`] does.
///
/// # Errors
/// As [`push_replies`]; a client could not take one of them.
pub fn push_updates<'a>(
    options: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<Vec<String>, BadPush> {
    let messages = pack("PUSH_UPDATE", options.clone())?;
    for option in options {
        let tried = Pushed::default().update(option, &Filter::default());
        tried.map_err(|refused| BadPush(format!("\"{}\": {}", refused.option, refused.reason)))?;
    }
    Ok(messages)
}

fn pack<'a>(
    start: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, BadPush> {
    let room = MAX_PUSH - 1 - ",push-continuation 2".len();
    let mut replies = Vec::new();
    let mut reply = start.to_owned();
    for option in options {
        if option.len() > MAX_OPTION {
            return Err(BadPush(format!(
                "\"{option}\" is longer than {MAX_OPTION} bytes"
            )));
        }
        if option.contains(',') || !option.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(BadPush(format!(
                "\"{}\" cannot be pushed",
                option.escape_debug()
            )));
        }
        if reply.len() + 1 + option.len() > room {
            replies.push(std::mem::replace(&mut reply, start.to_owned()));
        }
        reply.push(',');
        reply.push_str(option);
    }
    replies.push(reply);
    if let Some((last, others)) = replies.split_last_mut() {
        for reply in &mut *others {
            reply.push_str(",push-continuation 2");
        }
        if !others.is_empty() {
            last.push_str(",push-continuation 1");
        }
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_of_the_server() {
        assert_eq!(
            FromServer::parse("PUSH_REPLY,a b,c"),
            FromServer::PushReply("a b,c")
        );
        assert_eq!(FromServer::parse("RESTART"), FromServer::Restart(""));
        assert_eq!(FromServer::parse("HALT,bye"), FromServer::Halt("bye"));
        assert_eq!(FromServer::parse("EXIT"), FromServer::Exit);
        assert_eq!(
            FromServer::parse("INFO_PRE,WEB_AUTH::x"),
            FromServer::Info("WEB_AUTH::x")
        );
        assert_eq!(FromServer::parse("AUTH_PENDING"), FromServer::Pending(None));
        assert_eq!(
            FromServer::parse("AUTH_PENDING,timeout 90"),
            FromServer::Pending(Some(Duration::from_secs(90)))
        );
        assert_eq!(FromServer::parse("PUSH_REPLYX,a"), FromServer::Unknown);
    }

    #[test]
    fn refusals() {
        let refused = |text: &str| AuthFailed::Refused(text.into());
        assert_eq!(AuthFailed::parse(""), refused(""));
        assert_eq!(AuthFailed::parse("no such user"), refused("no such user"));
        assert_eq!(
            AuthFailed::parse("TEMP[backoff 42,advance no]: busy"),
            AuthFailed::Temporary {
                time: Duration::from_secs(42),
                advance: false,
                reason: "busy".into()
            }
        );
        assert_eq!(
            AuthFailed::parse("TEMP"),
            AuthFailed::Temporary {
                time: BACKOFF,
                advance: true,
                reason: String::new()
            }
        );
        assert_eq!(
            AuthFailed::parse("CRV1:R,E:st:dXNlcg==:Code: now"),
            AuthFailed::Ask(Challenge {
                echo: true,
                response: true,
                state: "st".into(),
                username: "user".into(),
                text: "Code: now".into()
            })
        );
        assert_eq!(AuthFailed::parse("CRV1:R:st:%:x"), refused("CRV1:R:st:%:x"));
        assert_eq!(
            AuthFailed::parse("CRV1:R:st:AAo=:x"),
            refused("CRV1:R:st:AAo=:x")
        );
    }

    #[test]
    fn options_for_the_session_itself() {
        let text = "ping 10,cipher AES-128-GCM,protocol-flags cc-exit tls-ekm x,auth-token abc,auth-token-user dXNlcg==";
        let found = ForSession::parse(text);
        assert_eq!(found.cipher.as_deref(), Some("AES-128-GCM"));
        assert!(found.flags.cc_exit && found.flags.tls_ekm && !found.flags.dyn_tls_crypt);
        assert_eq!(found.token.as_deref().map(Vec::as_slice), Some(&b"abc"[..]));
        assert_eq!(found.token_user.as_deref(), Some("user"));
        assert!(ForSession::parse("key-derivation tls-ekm").flags.tls_ekm);
        assert!(ForSession::parse("ciphers x,cipherX").cipher.is_none());
    }

    #[test]
    fn a_push_reply_in_parts() {
        let mut parts = Vec::new();
        assert_eq!(push_parts(&mut parts, "a,b,push-continuation 2"), Ok(false));
        assert_eq!(push_parts(&mut parts, "c,push-continuation 1"), Ok(true));
        assert_eq!(parts, ["a,b", "c"]);
        let mut parts = vec![String::new(); MAX_PARTS];
        assert!(push_parts(&mut parts, "a,push-continuation 2").is_err());
    }

    #[test]
    fn options_are_packed_and_come_back() {
        let options: Vec<String> = (0..60)
            .map(|n| format!("route 10.{n}.0.0 255.255.0.0"))
            .collect();
        let replies = push_replies(options.iter().map(String::as_str)).unwrap();
        assert!(replies.len() > 1 && replies.iter().all(|reply| reply.len() < MAX_PUSH));
        let mut parts = Vec::new();
        let last = replies.len() - 1;
        for (at, reply) in replies.iter().enumerate() {
            let FromServer::PushReply(rest) = FromServer::parse(reply) else {
                panic!("{reply}")
            };
            assert_eq!(push_parts(&mut parts, rest), Ok(at == last));
        }
        assert_eq!(parts.join(","), options.join(","));
        assert_eq!(push_replies(["ping 10"]).unwrap(), ["PUSH_REPLY,ping 10"]);
        for bad in ["a,b", "a\nb", "a\u{e4}", &"x".repeat(257)] {
            assert!(push_replies([bad]).is_err(), "{bad}");
        }
        assert!(push_replies([&*"x".repeat(256)]).is_ok());
    }

    #[test]
    fn updates_are_packed_and_tried() {
        assert_eq!(
            push_updates(["-dns", "?tun-mtu 1400"]).unwrap(),
            ["PUSH_UPDATE,-dns,?tun-mtu 1400"]
        );
        let routes: Vec<String> = (0..60)
            .map(|n| format!("route 10.{n}.0.0 255.255.0.0"))
            .collect();
        let messages = push_updates(routes.iter().map(String::as_str)).unwrap();
        assert!(messages.len() > 1 && messages.iter().all(|message| message.len() < MAX_PUSH));
        assert!(matches!(
            FromServer::parse(&messages[0]),
            FromServer::PushUpdate(_)
        ));
        for (bad, why) in [
            ("cipher x", "cannot be changed"),
            ("route x", "not valid"),
            ("a,b", "pushed"),
        ] {
            let BadPush(said) = push_updates([bad]).unwrap_err();
            assert!(said.contains(why) && said.contains(bad), "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}", word in "(AUTH_FAILED|AUTH_PENDING|PUSH_REPLY)", prefix in "(,CRV1:|,TEMP|,TEMP\\[|,timeout )") {
            let _ = FromServer::parse(&text);
            let _ = FromServer::parse(&format!("{word}{prefix}{text}"));
        }
    }
}
