// SPDX-License-Identifier: GPL-2.0-only
//! Effects of the path to a peer on the users of the tunnel: segment sizes, ICMP errors, floats, reverse path.

mod bulk;
mod drops;
mod files;
mod float;
mod gro;
mod hooks;
mod icmp;
mod inner;
mod mss;
mod queues;
mod reverse;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::lab::set_int;
use crate::tap::{Case, Outcome};

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = mss::cases();
    cases.extend(icmp::cases());
    cases.extend(float::cases());
    cases.extend(bulk::cases());
    cases.extend(gro::cases());
    cases.extend(hooks::cases());
    cases.extend(drops::cases());
    cases.extend(reverse::cases());
    cases.extend(inner::cases());
    cases.extend(queues::cases());
    cases.extend(files::cases());
    cases
}

/// Puts a socket into a VRF.
fn bind_to_device(sock: &UdpSocket, name: &[u8]) -> Outcome {
    // SAFETY: the name is as long as is said.
    let ret = unsafe {
        libc::setsockopt(
            sock.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    if ret != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// Forbids fragments of what a socket sends.
fn forbid_fragments(sock: &UdpSocket, v6: bool) -> Outcome {
    match v6 {
        false => set_int(
            sock,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DO,
        ),
        true => set_int(
            sock,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        ),
    }
}

/// Has a connected socket report each ICMP error about its packets.
fn hear_errors(sock: &UdpSocket, v6: bool) -> Outcome {
    match v6 {
        false => set_int(sock, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        true => set_int(sock, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

/// The path MTU that a connected socket knows.
fn path_mtu(sock: &UdpSocket, v6: bool) -> Outcome<i32> {
    const IPV6_MTU: i32 = 24;
    let (level, name) = if v6 {
        (libc::IPPROTO_IPV6, IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let (mut value, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: value and length are writable, and the length is the value's.
    let ret = unsafe {
        libc::getsockopt(
            sock.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if ret != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(value)
}
