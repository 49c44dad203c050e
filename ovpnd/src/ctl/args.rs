// SPDX-License-Identifier: GPL-2.0-or-later
//! The command line: words and the options made of them.

use std::collections::VecDeque;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use ovpn_netlink::{Cipher, Keepalive, KeyId, PeerId, PeerParams, Slot};

use super::Failure;
use crate::keyfile::Direction;

/// Words of a command line not used so far.
pub(super) struct Args {
    words: VecDeque<String>,
    all: Vec<String>,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::Usage(message.into())
}

pub(super) fn unknown(option: &str) -> Failure {
    usage(format!("\"{}\" is no option here", option.escape_debug()))
}

impl Args {
    pub(super) fn new(words: Vec<String>) -> Self {
        Self {
            words: words.clone().into(),
            all: words,
        }
    }

    /// The whole command line.
    pub(super) fn all(&self) -> &[String] {
        &self.all
    }

    /// The next word, if there is one.
    pub(super) fn maybe(&mut self) -> Option<String> {
        self.words.pop_front()
    }

    /// The next word, which is `what`.
    pub(super) fn next(&mut self, what: &str) -> Result<String, Failure> {
        self.maybe()
            .ok_or_else(|| usage(format!("{what} is missing")))
    }

    /// The next word as the value of `option`.
    pub(super) fn value<T: FromStr<Err: Display>>(&mut self, option: &str) -> Result<T, Failure> {
        let word = self.next(&format!("the value of {option}"))?;
        word.parse().map_err(|error: T::Err| {
            usage(format!("{option} \"{}\": {error}", word.escape_debug()))
        })
    }

    /// Takes a flag away wherever it stands.
    pub(super) fn flag(&mut self, flag: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != flag);
        self.words.len() < before
    }

    /// Takes an option and its value away wherever they stand.
    pub(super) fn option(&mut self, option: &str) -> Result<Option<String>, Failure> {
        let Some(at) = self.words.iter().position(|word| word == option) else {
            return Ok(None);
        };
        self.words.remove(at);
        let value = self.words.remove(at);
        value
            .map(Some)
            .ok_or_else(|| usage(format!("the value of {option} is missing")))
    }

    /// Fails on what is left.
    pub(super) fn end(&self) -> Result<(), Failure> {
        self.words.front().map_or(Ok(()), |word| Err(unknown(word)))
    }
}

/// A peer and what is to be set of it.
pub(super) struct PeerOptions {
    pub(super) id: PeerId,
    pub(super) params: PeerParams,
    pub(super) local_port: u16,
    pub(super) mark: u32,
}

impl PeerOptions {
    /// Reads an interface and options. The socket's own are known `with_socket` alone.
    pub(super) fn parse(mut args: Args, with_socket: bool) -> Result<(String, Self), Failure> {
        let name = args.next("an interface")?;
        let (mut id, mut params, mut local_port, mut mark) = (None, PeerParams::default(), 0, 0);
        while let Some(option) = args.maybe() {
            match option.as_str() {
                "id" => id = Some(args.value("id")?),
                "remote" => params.remote = Some(remote(&args.next("the value of remote")?)?),
                "local" => params.local = Some(args.value("local")?),
                "vpn-ip" => match args.value("vpn-ip")? {
                    IpAddr::V4(ip) => params.vpn_ipv4 = Some(ip),
                    IpAddr::V6(ip) => params.vpn_ipv6 = Some(ip),
                },
                "keepalive" => {
                    let (interval, timeout) = (args.value("keepalive")?, args.value("keepalive")?);
                    params.keepalive = Some(Keepalive { interval, timeout });
                }
                "tx-id" => params.tx_id = Some(args.value("tx-id")?),
                "local-port" if with_socket => local_port = args.value("local-port")?,
                "fwmark" if with_socket => mark = args.value("fwmark")?,
                _ => return Err(unknown(&option)),
            }
        }
        let id = id.ok_or_else(|| usage("id is missing"))?;
        Ok((
            name,
            Self {
                id,
                params,
                local_port,
                mark,
            },
        ))
    }
}

/// An address or a name, and a port.
fn remote(text: &str) -> Result<SocketAddr, Failure> {
    let failed = |why: String| usage(format!("remote \"{}\": {why}", text.escape_debug()));
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?;
    found.next().ok_or_else(|| failed("has no address".into()))
}

/// A peer's key and what is to be set of it.
pub(super) struct KeyOptions {
    pub(super) peer: PeerId,
    pub(super) slot: Option<Slot>,
    pub(super) key_id: KeyId,
    pub(super) cipher: Option<Cipher>,
    pub(super) file: Option<PathBuf>,
    pub(super) direction: Option<Direction>,
}

impl KeyOptions {
    /// Reads an interface and options.
    pub(super) fn parse(mut args: Args) -> Result<(String, Self), Failure> {
        let name = args.next("an interface")?;
        let (mut peer, mut slot, mut key_id) = (None, None, KeyId::default());
        let (mut cipher, mut file, mut direction) = (None, None, None);
        while let Some(option) = args.maybe() {
            match option.as_str() {
                "peer" => peer = Some(args.value("peer")?),
                "slot" => slot = Some(args.value("slot")?),
                "key-id" => key_id = args.value("key-id")?,
                "cipher" => cipher = Some(args.value("cipher")?),
                "key-file" => file = Some(args.value("key-file")?),
                "key-direction" => direction = Some(args.value("key-direction")?),
                _ => return Err(unknown(&option)),
            }
        }
        let peer = peer.ok_or_else(|| usage("peer is missing"))?;
        Ok((
            name,
            Self {
                peer,
                slot,
                key_id,
                cipher,
                file,
                direction,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned).collect())
    }

    fn message<T>(result: Result<T, Failure>) -> String {
        match result {
            Err(Failure::Usage(message)) => message,
            Err(Failure::Failed(message)) => panic!("no usage error: {message}"),
            Ok(_) => panic!("was accepted"),
        }
    }

    #[test]
    fn a_peer_is_read() {
        let line = "o id 1 remote [fd00::1]:1194 vpn-ip 10.8.0.2 vpn-ip fd08::2 keepalive 10 60 local-port 7 fwmark 5 tx-id 9";
        let (name, peer) = PeerOptions::parse(args(line), true).ok().unwrap();
        assert_eq!(
            (name.as_str(), peer.id.get(), peer.local_port, peer.mark),
            ("o", 1, 7, 5)
        );
        let expected = PeerParams {
            remote: Some("[fd00::1]:1194".parse().unwrap()),
            local: None,
            vpn_ipv4: Some([10, 8, 0, 2].into()),
            vpn_ipv6: Some("fd08::2".parse().unwrap()),
            keepalive: Some(Keepalive {
                interval: 10,
                timeout: 60,
            }),
            tx_id: PeerId::new(9),
        };
        assert_eq!(peer.params, expected);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, why) in [
            ("", "an interface is missing"),
            ("o", "id is missing"),
            ("o id", "the value of id is missing"),
            ("o id 16777216", "no peer id"),
            ("o id 1 remote 192.0.2.1", "remote \"192.0.2.1\""),
            ("o id 1 keepalive 10", "the value of keepalive is missing"),
            ("o id 1 vpn-ip x", "vpn-ip \"x\""),
            ("o id 1 local-port 1", "\"local-port\" is no option here"),
        ] {
            let found = message(PeerOptions::parse(args(line), false));
            assert!(found.contains(why), "{found:?} does not say {why:?}");
        }
        assert!(message(KeyOptions::parse(args("o peer 1 slot third"))).contains("no key slot"));
        assert!(message(KeyOptions::parse(args("o slot primary"))).contains("peer is missing"));
    }

    #[test]
    fn flags_are_found_anywhere_and_leftovers_refused() {
        let mut args = args("show --json x");
        assert!(args.flag("--json") && !args.flag("--json"));
        assert!(args.end().is_err());
        assert_eq!(
            (args.maybe().as_deref(), args.maybe().as_deref()),
            (Some("show"), Some("x"))
        );
        assert!(args.end().is_ok());
    }
}
