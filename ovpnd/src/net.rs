// SPDX-License-Identifier: GPL-2.0-only
//! Sockets to hand to the kernel.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, setsockopt, socket, sockopt,
};

use crate::config::{SocketSpec, Transport};

/// Opens and binds a socket to the wildcard address.
///
/// # Errors
/// When the port is taken (`EADDRINUSE`), the mark is not permitted or the address family is not there.
pub fn open(spec: SocketSpec) -> io::Result<OwnedFd> {
    let family = match spec.transport {
        Transport::Udp => AddressFamily::Inet,
        Transport::Udp6 => AddressFamily::Inet6,
    };
    let fd = socket(
        family,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    if spec.mark != 0 {
        setsockopt(&fd, sockopt::Mark, &spec.mark)?;
    }
    match spec.transport {
        Transport::Udp => {
            let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, spec.port);
            bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
        }
        Transport::Udp6 => {
            // Leaves the same IPv4 port to another interface.
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, spec.port, 0, 0);
            bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?;
        }
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn live_both_families_can_have_one_port_and_neither_twice() {
        let v4 = open(SocketSpec {
            transport: Transport::Udp,
            port: 0,
            mark: 0,
        })
        .unwrap();
        let port = UdpSocket::from(v4.try_clone().unwrap())
            .local_addr()
            .unwrap()
            .port();
        let same = |transport| {
            open(SocketSpec {
                transport,
                port,
                mark: 0,
            })
        };
        let v6 = same(Transport::Udp6).unwrap();
        for transport in [Transport::Udp, Transport::Udp6] {
            assert_eq!(
                same(transport).unwrap_err().kind(),
                io::ErrorKind::AddrInUse
            );
        }
        drop((v4, v6));
    }
}
