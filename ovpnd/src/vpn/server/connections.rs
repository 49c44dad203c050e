// SPDX-License-Identifier: GPL-2.0-or-later
//! The TCP side of a server: the socket that listens, and the connections that came to it.
//!
//! Anyone can connect, so connections without a client that was let in are few: so many in total, and so many of one
//! source; each says something soon and ends its handshake in time, or is closed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openvpn_control::server::{Handle, Path};
use openvpn_control::session::KeyChange;

use super::super::stream::{Connection, Writer};
use super::super::{BURST, source};
use crate::config::SocketSpec;
use crate::net;

/// Connections without a client that was let in: as many as the control channel has sessions without keys.
const MAX_STRANGERS: usize = super::MAX_PENDING;
/// Those of one source, an IPv4 address or a /64 of IPv6.
const MAX_OF_SOURCE: usize = 8;
/// The first packet comes within this time.
const FIRST_PACKET: Duration = Duration::from_secs(10);
/// How long a connection whose session ended stays open, for the last words.
const LINGER: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) connection: Connection,
    remote: SocketAddr,
    accepted: Instant,
    /// Closed then; none while a client is there.
    until: Option<Instant>,
    /// Whether a packet came.
    spoke: bool,
    /// Its session is over, and no more is read.
    over: bool,
    /// The session that it carries. It carries no second one.
    pub(super) client: Option<Handle>,
    /// Changes of keys that wait until the connection is between two packets.
    held: Vec<KeyChange>,
}

/// A connection that is of no more use.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) path: Path,
    pub(super) why: String,
    /// Whether its session ended before, and was told.
    pub(super) over: bool,
}

/// The listening socket and its connections.
#[derive(Debug)]
pub(super) struct Connections {
    listener: OwnedFd,
    callers: BTreeMap<u32, Caller>,
    last: u32,
    handshake: Duration,
}

impl Connections {
    /// Listens. A handshake takes no longer than `handshake`.
    ///
    /// # Errors
    /// The sentence: the port is taken, or the family is not there.
    pub(super) fn open(spec: SocketSpec, handshake: Duration) -> Result<Self, String> {
        let failed = |error: io::Error| {
            let (transport, port) = (spec.transport, spec.port);
            format!("cannot open {transport} port {port}: {error}")
        };
        Ok(Self {
            listener: net::open(spec).map_err(failed)?,
            callers: BTreeMap::new(),
            last: 0,
            handshake,
        })
    }

    /// Descriptors to poll for readability.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let callers = self.callers.values().filter(|caller| !caller.over);
        let callers = callers.map(|caller| caller.connection.socket().as_fd());
        std::iter::once(self.listener.as_fd()).chain(callers)
    }

    /// Takes the connections that came: their numbers and writing halves.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<(u32, Arc<Writer>)> {
        let mut taken = Vec::new();
        for _ in 0..BURST {
            // One that broke before it was taken is none.
            let Ok(Some((stream, remote))) = net::accept(&self.listener) else {
                break;
            };
            // Closed at once otherwise.
            if let Some(number) = self.admit(stream, remote, now) {
                let caller = self.callers.get(&number);
                taken.extend(caller.map(|c| (number, Arc::clone(c.connection.writer()))));
            }
        }
        taken
    }

    fn admit(&mut self, stream: OwnedFd, remote: SocketAddr, now: Instant) -> Option<u32> {
        let strangers = self.callers.values().filter(|c| c.until.is_some());
        let same = strangers
            .clone()
            .filter(|c| source(c.remote) == source(remote));
        if strangers.count() >= MAX_STRANGERS || same.count() >= MAX_OF_SOURCE {
            return None;
        }
        // Zero is the number of the socket for UDP.
        let free = |number: &u32| *number != 0 && !self.callers.contains_key(number);
        let number = (1..).map(|step| self.last.wrapping_add(step)).find(free)?;
        self.last = number;
        let caller = Caller {
            connection: Connection::new(stream, false),
            remote,
            accepted: now,
            until: now.checked_add(FIRST_PACKET.min(self.handshake)),
            spoke: false,
            over: false,
            client: None,
            held: Vec::new(),
        };
        self.callers.insert(number, caller);
        Some(number)
    }

    /// Reads all connections. Those that are of no more use are let go of, and told.
    pub(super) fn receive(&mut self, mut packet: impl FnMut(Path, &[u8])) -> Vec<Ended> {
        let mut ended = Vec::new();
        let handshake = self.handshake;
        self.callers.retain(|number, caller| {
            let path = path(*number, caller.remote);
            for _ in 0..BURST {
                if caller.over || (!caller.held.is_empty() && caller.connection.is_between()) {
                    break;
                }
                match caller.connection.next() {
                    Ok(Some(bytes)) => {
                        packet(path, bytes);
                        if !std::mem::replace(&mut caller.spoke, true) && caller.until.is_some() {
                            caller.until = caller.accepted.checked_add(handshake);
                        }
                    }
                    Ok(None) => break,
                    Err(why) => {
                        let why = why.sentence("client");
                        let over = false;
                        ended.push(Ended { path, why, over });
                        return false;
                    }
                }
            }
            true
        });
        ended
    }

    /// Keeps a change of keys that cannot be done yet, because the kernel gets a connection only between two packets; gives
    /// any other back.
    pub(super) fn hold(&mut self, handle: Handle, change: KeyChange) -> Option<KeyChange> {
        let mut callers = self.callers.values_mut();
        let caller = callers.find(|caller| caller.client == Some(handle));
        let Some(caller) = caller.filter(|caller| caller.until.is_some()) else {
            return Some(change);
        };
        if caller.connection.is_between() && caller.held.is_empty() {
            return Some(change);
        }
        caller.held.push(change);
        None
    }

    /// Changes of keys that need not wait any longer.
    pub(super) fn ready(&mut self) -> Vec<(Handle, KeyChange)> {
        let ready = self.callers.values_mut().filter_map(|caller| {
            let handle = caller.client.filter(|_| caller.connection.is_between())?;
            let held = std::mem::take(&mut caller.held).into_iter();
            Some(held.map(move |change| (handle, change)))
        });
        ready.flatten().collect()
    }

    /// Notes the session of a connection; false when it has one already, or is gone.
    pub(super) fn begin(&mut self, number: u32, handle: Handle) -> bool {
        match self.callers.get_mut(&number) {
            Some(caller) if caller.client.is_none() && !caller.over => {
                caller.client = Some(handle);
                true
            }
            _ => false,
        }
    }

    /// Takes a connection out, to be handed to the kernel.
    pub(super) fn take(&mut self, number: u32) -> Option<Caller> {
        self.callers.remove(&number)
    }

    /// Puts back a connection that the kernel has.
    pub(super) fn put_back(&mut self, number: u32, mut caller: Caller) {
        caller.until = None;
        self.callers.insert(number, caller);
    }

    /// The session of a connection is over.
    pub(super) fn release(&mut self, number: u32, now: Instant) {
        if let Some(caller) = self.callers.get_mut(&number) {
            caller.over = true;
            caller.held.clear();
            caller.until = now.checked_add(LINGER);
        }
    }

    /// Lets go of the connections whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.callers.retain(|number, caller| {
            let stays = caller.until.is_none_or(|until| until > now);
            if !stays {
                let why = match caller.spoke {
                    true => "there was no client behind the connection in time",
                    false => "the connection brought nothing",
                };
                ended.push(Ended {
                    path: path(*number, caller.remote),
                    why: why.into(),
                    over: caller.over,
                });
            }
            stays
        });
        ended
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.callers
            .values()
            .filter_map(|caller| caller.until)
            .min()
    }
}

fn path(number: u32, remote: SocketAddr) -> Path {
    Path {
        socket: number,
        remote,
        stream: true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::config::Transport;

    const HANDSHAKE: Duration = Duration::from_secs(60);

    fn open() -> (Connections, SocketAddr) {
        // A port that the kernel chooses: the listener of the standard library tells it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Connections {
            listener: listener.into(),
            callers: BTreeMap::new(),
            last: u32::MAX - 1,
            handshake: HANDSHAKE,
        };
        (connections, at)
    }

    fn call(connections: &mut Connections, at: SocketAddr, now: Instant) -> (TcpStream, Vec<u32>) {
        let stream = TcpStream::connect(at).unwrap();
        let taken = connections.accept(now);
        (
            stream,
            taken.into_iter().map(|(number, _)| number).collect(),
        )
    }

    /// Whether the other side closed a connection.
    fn is_closed(mut stream: TcpStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    #[test]
    fn live_connections_without_a_client_are_bounded_by_their_source_and_closed_in_time() {
        let (mut connections, at) = open();
        let now = Instant::now();
        let mut streams = Vec::new();
        for turn in 0..MAX_OF_SOURCE {
            let (stream, taken) = call(&mut connections, at, now);
            // The number zero is UDP's.
            let number = u32::try_from(turn).unwrap();
            let wanted = if turn == 0 { u32::MAX } else { number };
            assert_eq!(taken, [wanted]);
            streams.push(stream);
        }
        let (stream, taken) = call(&mut connections, at, now);
        assert!(taken.is_empty() && is_closed(stream));
        // One that speaks has the time of a handshake, the others that of a first packet.
        let mut speaker = streams.remove(0);
        speaker.write_all(b"\0\x01\x38").unwrap();
        let mut packets = 0;
        while packets == 0 {
            assert!(connections.receive(|_, _| packets += 1).is_empty());
        }
        let later = now + FIRST_PACKET;
        assert_eq!(connections.deadline(), Some(later));
        assert_eq!(connections.expire(later).len(), MAX_OF_SOURCE - 1);
        assert!(streams.into_iter().all(is_closed));
        assert_eq!(connections.deadline(), Some(now + HANDSHAKE));
        assert_eq!(connections.expire(now + HANDSHAKE).len(), 1);
        assert!(is_closed(speaker) && connections.deadline().is_none());
    }

    #[test]
    fn live_a_connection_outlives_its_session_for_the_last_words_and_is_not_read() {
        let (mut connections, at) = open();
        let now = Instant::now();
        let (mut stream, taken) = call(&mut connections, at, now);
        connections.release(taken[0], now);
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(connections.receive(|_, _| panic!("it is read")).is_empty());
        assert_eq!(connections.fds().count(), 1);
        assert!(connections.expire(now).is_empty());
        let ended = connections.expire(now + LINGER);
        assert!(ended.len() == 1 && ended[0].over && is_closed(stream));
    }

    #[test]
    fn live_hostile_streams_end_and_no_other() {
        let (mut connections, at) = open();
        let now = Instant::now();
        let (mut good, _) = call(&mut connections, at, now);
        let (mut bad, _) = call(&mut connections, at, now);
        bad.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        good.write_all(b"\0\x02\x38x\0\x01").unwrap();
        let mut ended = Vec::new();
        let mut packets = Vec::new();
        while ended.is_empty() || packets.is_empty() {
            ended.extend(connections.receive(|_, packet| packets.push(packet.to_vec())));
        }
        assert_eq!(packets, [b"\x38x"]);
        assert_eq!(ended.len(), 1);
        assert!(ended[0].why.contains("does not speak OpenVPN's TCP"));
        assert!(is_closed(bad));
        assert_eq!(connections.callers.len(), 1);
    }

    #[test]
    fn sources_are_addresses_of_ipv4_and_networks_of_ipv6() {
        let same = |a: &str, b: &str| source(a.parse().unwrap()) == source(b.parse().unwrap());
        assert!(same("192.0.2.1:5", "[::ffff:192.0.2.1]:6"));
        assert!(!same("192.0.2.1:5", "192.0.2.2:5"));
        assert!(same("[2001:db8::1]:5", "[2001:db8::2]:5"));
        assert!(!same("[2001:db8::1]:5", "[2001:db8:0:1::1]:5"));
    }

    #[test]
    fn a_port_that_is_taken_is_said() {
        let (_connections, at) = open();
        let spec = SocketSpec {
            transport: Transport::Tcp,
            port: at.port(),
            mark: 0,
            local: Some(at.ip()),
            both: false,
        };
        let why = Connections::open(spec, HANDSHAKE).map(drop).unwrap_err();
        assert!(why.starts_with("cannot open tcp port"), "{why}");
    }
}
