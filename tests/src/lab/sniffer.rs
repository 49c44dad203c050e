// SPDX-License-Identifier: GPL-2.0-only
//! Packets that pass through a device, seen by a packet socket.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::lab::Ns;
use crate::tap::{During, Failure, Outcome};

/// A packet socket bound to one device.
pub struct Sniffer(OwnedFd);

const IPV4_UDP: u8 = 17;

impl Sniffer {
    /// Captures from now on.
    pub fn open(ns: &Ns, device: &str) -> Outcome<Self> {
        let index = ns
            .ifindex(device)?
            .ok_or_else(|| Failure::new(format!("no {device}")))?;
        ns.enter(|| {
            let protocol = (libc::ETH_P_ALL as u16).to_be();
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: plain socket call; the result is checked before use.
            let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol.into()) };
            if fd < 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            // SAFETY: `fd` is a fresh descriptor that nothing else owns.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: all-zero is a valid sockaddr_ll.
            let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            addr.sll_family = libc::AF_PACKET as u16;
            addr.sll_protocol = protocol;
            addr.sll_ifindex = index as i32;
            let len = size_of_val(&addr) as libc::socklen_t;
            // SAFETY: `addr` is a sockaddr_ll of the length given.
            if unsafe { libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len) } != 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            Ok(Self(fd))
        })
        .during("packet socket")
    }

    /// Packets that passed since the last call: whether it left through the device, and the packet from its IP header on.
    pub fn packets(&self) -> Outcome<Vec<(bool, Vec<u8>)>> {
        let mut packets = Vec::new();
        let mut buffer = vec![0u8; 65536];
        loop {
            // SAFETY: all-zero is a valid sockaddr_ll.
            let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut len = size_of_val(&addr) as libc::socklen_t;
            // SAFETY: buffer and address are writable for the lengths given.
            let got = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut addr).cast(),
                    &raw mut len,
                )
            };
            let Ok(got) = usize::try_from(got) else {
                match std::io::Error::last_os_error() {
                    e if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(packets),
                    e => return Err(e.into()),
                }
            };
            let outgoing = addr.sll_pkttype == libc::PACKET_OUTGOING;
            let packet = buffer.get(..got).unwrap_or_default();
            packets.push((outgoing, packet.to_vec()));
        }
    }

    /// Payloads of the UDP datagrams over IPv4 that have left through the device.
    pub fn udp_sent(&self) -> Outcome<Vec<Vec<u8>>> {
        let payload = |(outgoing, packet): (bool, Vec<u8>)| {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let udp = outgoing
                && packet.first().is_some_and(|b| b >> 4 == 4)
                && packet.get(9) == Some(&IPV4_UDP);
            udp.then(|| packet.get(header + 8..).map(<[u8]>::to_vec))?
        };
        Ok(self.packets()?.into_iter().filter_map(payload).collect())
    }

    /// Sends a packet with an ethertype through the device, as it is.
    pub fn send(&self, ns: &Ns, device: &str, ethertype: u16, packet: &[u8]) -> Outcome {
        let index = ns
            .ifindex(device)?
            .ok_or_else(|| Failure::new(format!("no {device}")))?;
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_protocol = ethertype.to_be();
        addr.sll_ifindex = index as i32;
        let len = size_of_val(&addr) as libc::socklen_t;
        // SAFETY: packet and address are readable for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const addr).cast(),
                len,
            )
        };
        if sent < 0 {
            return Err(std::io::Error::last_os_error()).during("packet socket");
        }
        Ok(())
    }
}
