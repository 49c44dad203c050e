// SPDX-License-Identifier: GPL-2.0-or-later
//! Host names to addresses without stopping the daemon: getaddrinfo may take half a minute, so each lookup
//! has a thread, which ends with its answer.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::answers::Answers;
use crate::config::{Endpoint, SocketSpec};
use crate::net;

/// getaddrinfo of either C library is content with less than half of it.
const STACK: usize = 256 * 1024;
/// Longest wait for a TCP peer to answer.
const CONNECT: Duration = Duration::from_secs(10);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Interface of the peer that asks.
    pub interface: String,
    /// The peer's section.
    pub peer: String,
    /// The name to look up.
    pub endpoint: Endpoint,
    /// Which address family will do, and where a connection starts.
    pub socket: SocketSpec,
}

/// The result of a look-up.
#[derive(Debug)]
pub struct Found {
    /// Where the peer is.
    pub remote: SocketAddr,
    /// The connection to it, over TCP.
    pub stream: Option<OwnedFd>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The question.
    pub lookup: Lookup,
    /// The first fitting address, connected to over TCP, or a sentence why there is none.
    pub result: Result<Found, String>,
}

/// Runs lookups; poll it for readability.
#[derive(Debug)]
pub struct Resolver(Answers<Answer>);

impl Resolver {
    /// A resolver without questions.
    ///
    /// # Errors
    /// When no more descriptors can be had.
    pub fn new() -> io::Result<Self> {
        Answers::new().map(Self)
    }

    /// Starts a lookup; its answer comes by [`Self::answer`].
    pub fn start(&self, lookup: Lookup) {
        let question = lookup.clone();
        let work = move || {
            let result = find(&question);
            Answer {
                lookup: question,
                result,
            }
        };
        if let Err(error) = self.0.start("lookup", STACK, work) {
            let result = Err(format!(
                "no thread to look up '{}': {error}",
                lookup.endpoint.host
            ));
            self.0.add(Answer { lookup, result });
        }
    }

    /// The next answer, if there is one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.0.next()
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn find(lookup: &Lookup) -> Result<Found, String> {
    let remote = resolve(lookup)?;
    let stream = if lookup.socket.transport.is_tcp() {
        let connected = net::connect(lookup.socket, remote, CONNECT);
        Some(connected.map_err(|error| format!("cannot connect to {remote}: {error}"))?)
    } else {
        None
    };
    Ok(Found { remote, stream })
}

fn resolve(lookup: &Lookup) -> Result<SocketAddr, String> {
    let Endpoint { host, port } = &lookup.endpoint;
    if let Some(address) = lookup.endpoint.literal() {
        return Ok(address);
    }
    let found = (host.as_str(), *port).to_socket_addrs();
    let mut found = found.map_err(|error| format!("cannot resolve host '{host}': {error}"))?;
    let wanted = lookup.socket.transport.is_v6();
    let name = if wanted { "IPv6" } else { "IPv4" };
    found
        .find(|address| address.is_ipv6() == wanted)
        .ok_or_else(|| format!("host '{host}' has no {name} address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;
    use nix::poll::{PollFd, PollFlags, poll};

    fn ask(host: &str, transport: Transport) -> Result<SocketAddr, String> {
        let mut resolver = Resolver::new().unwrap();
        let endpoint = Endpoint {
            host: host.into(),
            port: 1194,
        };
        resolver.start(Lookup {
            interface: "v".into(),
            peer: "p".into(),
            endpoint,
            socket: SocketSpec {
                transport,
                port: 0,
                mark: 0,
                local: None,
                both: false,
            },
        });
        let ready = poll(
            &mut [PollFd::new(resolver.as_fd(), PollFlags::POLLIN)],
            60_000u16,
        )
        .unwrap();
        assert_eq!(ready, 1, "no answer within a minute");
        // The bell rings after the answer is there.
        resolver.answer().unwrap().result.map(|found| found.remote)
    }

    #[test]
    fn addresses_are_their_own_answer() {
        assert_eq!(
            ask("192.0.2.1", Transport::Udp),
            Ok("192.0.2.1:1194".parse().unwrap())
        );
        assert_eq!(
            ask("fe80::1%1", Transport::Udp6),
            Ok("[fe80::1%1]:1194".parse().unwrap())
        );
    }

    #[test]
    fn a_name_without_an_address_is_said_in_a_sentence() {
        // RFC 6761, section 6.4: never resolves.
        let error = ask("host.invalid", Transport::Udp).unwrap_err();
        assert!(
            error.starts_with("cannot resolve host 'host.invalid': "),
            "{error}"
        );
    }
}
