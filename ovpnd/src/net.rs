// SPDX-License-Identifier: GPL-2.0-or-later
//! Sockets to hand to the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect as start, listen,
    setsockopt, socket, sockopt,
};

use crate::config::SocketSpec;

/// One connection at a time is taken; others wait no longer than the next turn of the loop.
const BACKLOG: i32 = 8;

/// Opens a socket and binds it to its address; one for TCP listens when it has a port.
///
/// # Errors
/// When the port is taken (`EADDRINUSE`), the mark is not permitted or the address family is not there.
pub fn open(spec: SocketSpec) -> io::Result<OwnedFd> {
    let fd = bound(spec)?;
    if spec.transport.is_tcp() && spec.port != 0 {
        listen(&fd, Backlog::new(BACKLOG)?)?;
    }
    Ok(fd)
}

fn bound(spec: SocketSpec) -> io::Result<OwnedFd> {
    let (family, any) = if spec.transport.is_v6() {
        (AddressFamily::Inet6, IpAddr::from(Ipv6Addr::UNSPECIFIED))
    } else {
        (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into())
    };
    let kind = if spec.transport.is_tcp() {
        SockType::Stream
    } else {
        SockType::Datagram
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, kind, flags, None)?;
    if spec.mark != 0 {
        setsockopt(&fd, sockopt::Mark, &spec.mark)?;
    }
    if spec.transport.is_v6() {
        // Leaves the same IPv4 port to another interface, unless both are wanted.
        setsockopt(&fd, sockopt::Ipv6V6Only, &!spec.both)?;
    }
    if spec.transport.is_tcp() {
        // Old connections of the port do not keep a new listener from it.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    let address = SocketAddr::new(spec.local.unwrap_or(any), spec.port);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

/// Connects to `remote`, from any port. Waits up to `limit`, so it is for a thread of its own.
///
/// # Errors
/// A time-out, or the errors of [`open`].
pub fn connect(spec: SocketSpec, remote: SocketAddr, limit: Duration) -> io::Result<OwnedFd> {
    let fd = bound(SocketSpec { port: 0, ..spec })?;
    match start(fd.as_raw_fd(), &SockaddrStorage::from(remote)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, timeout)? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(fd);
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    prepare(stream)
}

/// The next connection that came to a listener, if there is one.
///
/// # Errors
/// Errors of accept.
pub fn accept(listener: &OwnedFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    let listener = TcpListener::from(listener.try_clone()?);
    match listener.accept() {
        Ok((stream, remote)) => Ok(Some((prepare(stream)?, remote))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The driver makes whole packets: none shall wait for a next one.
fn prepare(stream: TcpStream) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;

    fn spec(transport: Transport, port: u16) -> SocketSpec {
        SocketSpec {
            transport,
            port,
            mark: 0,
            local: None,
            both: false,
        }
    }

    fn port_of(fd: &OwnedFd) -> u16 {
        let address: SockaddrStorage = nix::sys::socket::getsockname(fd.as_raw_fd()).unwrap();
        let v4 = address.as_sockaddr_in().map(|address| address.port());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.port()))
            .unwrap()
    }

    #[test]
    fn live_both_families_can_have_one_port_and_neither_twice() {
        let v4 = open(spec(Transport::Udp, 0)).unwrap();
        let port = port_of(&v4);
        let v6 = open(spec(Transport::Udp6, port)).unwrap();
        for transport in [Transport::Udp, Transport::Udp6] {
            let error = open(spec(transport, port)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        drop((v4, v6));
    }

    #[test]
    fn live_a_connection_is_made_and_taken_and_a_closed_port_said() {
        for (transport, host) in [(Transport::Tcp, "127.0.0.1"), (Transport::Tcp6, "::1")] {
            // A port that was free a moment ago.
            let free = port_of(&bound(spec(transport, 0)).unwrap());
            let listener = open(spec(transport, free)).unwrap();
            assert!(accept(&listener).unwrap().is_none());
            let remote = SocketAddr::new(host.parse().unwrap(), free);
            let limit = Duration::from_secs(5);
            let ours = connect(spec(transport, 0), remote, limit).unwrap();
            let (_theirs, from) = accept(&listener).unwrap().unwrap();
            assert_eq!(from.port(), port_of(&ours));
            drop(listener);
            let error = connect(spec(transport, 0), remote, limit).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
