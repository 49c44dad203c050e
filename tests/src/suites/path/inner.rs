// SPDX-License-Identifier: GPL-2.0-only
//! State that the driver must not carry over to the packet it sends: the inner packet's owner and the shape of its sums.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::{Cipher, Ns, Outer, Sniffer, SoftTunnel, Tunnel, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire;
use crate::{Ctx, check, check_eq};

const SOON: Duration = Duration::from_secs(5);
const PORTS: (u16, u16) = (4321, 9);
/// Offset of the UDP checksum behind an IPv6 header.
const SUM: std::ops::Range<usize> = 46..48;

/// `PACKET_TX_RING` (linux/if_packet.h).
const TX_RING: libc::c_int = 13;
/// States of a frame of the ring, by the same header.
const AVAILABLE: usize = 0;
const SEND_REQUEST: usize = 1;
/// Bytes of the ring's only frame, which is a page.
const FRAME: usize = 4096;
/// `tpacket_hdr` begins with the state, an unsigned long, and the length; data begins behind it, 16 bytes aligned.
const DATA: usize = 32;

/// A packet socket that sends from memory it shares with the kernel: one frame of it.
struct Ring {
    socket: OwnedFd,
    memory: *mut u8,
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and no reference into it is left.
        unsafe { libc::munmap(self.memory.cast(), FRAME) };
    }
}

impl Ring {
    fn new(ns: &Ns) -> Outcome<Self> {
        // SAFETY: plain socket call; the result is checked before use.
        let fd = ns.enter(|| Ok(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0) }))?;
        check!(fd >= 0, "no packet socket");
        // SAFETY: `fd` is a fresh descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // struct tpacket_req: size and number of blocks, size and number of frames.
        let request = [FRAME, 1, FRAME, 1].map(|n| n as libc::c_uint);
        // SAFETY: the value is readable for its size during the call.
        let ret = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                TX_RING,
                (&raw const request).cast(),
                size_of_val(&request) as libc::socklen_t,
            )
        };
        check_eq!(ret, 0, "PACKET_TX_RING");
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, whose address the kernel chooses.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), FRAME, access, libc::MAP_SHARED, fd, 0) };
        check!(memory != libc::MAP_FAILED, "the ring cannot be mapped");
        let memory = memory.cast();
        Ok(Self { socket, memory })
    }

    fn state(&self) -> &AtomicUsize {
        // SAFETY: the frame begins with an unsigned long, page-aligned, which the kernel changes atomically.
        unsafe { AtomicUsize::from_ptr(self.memory.cast()) }
    }

    /// Sends an IPv4 packet out of a device and waits until the kernel gives the frame back.
    fn send(&self, ifindex: u32, packet: &[u8]) -> Outcome {
        check!(packet.len() <= FRAME - DATA, "too long for a frame");
        // SAFETY: both lie within the frame, which is ours as long as its state says so.
        unsafe {
            let length = self.memory.add(size_of::<libc::c_ulong>());
            length.cast::<u32>().write(packet.len() as u32);
            let data = self.memory.add(DATA);
            data.copy_from_nonoverlapping(packet.as_ptr(), packet.len());
        }
        self.state().store(SEND_REQUEST, Ordering::Release);
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        to.sll_ifindex = ifindex as i32;
        // SAFETY: nothing but the address is read, and that has the length given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(std::io::Error::last_os_error()).during("sending the frame");
        }
        let back = wait_for("the frame to come back", SOON, || {
            Ok((self.state().load(Ordering::Acquire) == AVAILABLE).then_some(()))
        });
        back.during(format!("state {:#x}", self.state().load(Ordering::Acquire)))
    }
}

/// The sender of a packet from a ring gets the frame back, though a copy of it leaves.
fn frame_comes_back(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    let ifindex = lab.a.ns.ifindex("tun")?;
    let ifindex = ifindex.ok_or_else(|| Failure::new("no tun"))?;
    let ring = Ring::new(&lab.a.ns)?;
    let (from, to) = (Tunnel::inner(false, 1), Tunnel::inner(false, 2));
    for round in 0..8 {
        let text = format!("from the ring, round {round}");
        let packet = wire::ip_udp(from, to, PORTS.0, PORTS.1, text.as_bytes())?;
        ring.send(ifindex, &packet)?;
        let (_, plain) = lab.soft.recv(1)?;
        check_eq!(plain, packet, "what came through the tunnel");
    }
    Ok(())
}

/// A UDP sum that comes out as 0 is sent as 0xffff: over IPv6 a 0 is no sum, and the packet is lost.
fn sum_of_zero(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let (sock, to) = (lab.a.ns.udp(true, PORTS.0)?, Tunnel::inner(true, 2));
    let sum_with = |word: [u8; 2]| -> Outcome<[u8; 2]> {
        sock.send_to(&word, SocketAddr::new(to, PORTS.1))?;
        let (_, plain) = lab.soft.recv(1)?;
        let sum = plain.get(SUM).and_then(|sum| sum.try_into().ok());
        sum.ok_or_else(|| Failure::new(format!("no UDP in {plain:02x?}")))
    };
    let watched = |what: &str| -> Outcome {
        // The difference between the sum and 0.
        let word = sum_with([0, 0])?;
        check_eq!(sum_with(word)?, [0xff, 0xff], "UDP sum {what}");
        Ok(())
    };
    watched("in the packet's own buffer")?;
    // Somebody else who has the packet makes the driver copy it.
    let _sniffer = Sniffer::open(&lab.a.ns, "tun")?;
    watched("in a copy")
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a packet socket's ring", frame_comes_back),
        Case::new("a UDP sum of 0", sum_of_zero),
    ]
}
