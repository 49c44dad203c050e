// SPDX-License-Identifier: GPL-2.0-only
//! Echo requests with every reply waited for.
//!
//! ping ends twice the longest round trip after its last request, or with a deadline sends more than it was told to: on
//! a busy machine the first looks like loss and the second makes it. Here a late reply is a reply, and no request is
//! sent beyond those asked for.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::flow::{BUFFER, receive_buffer};
use crate::lab::{Ns, PingStats, patience};
use crate::tap::{During, Failure, Outcome};

/// Length of an ICMP echo header (RFC 792, RFC 4443).
const HEADER: usize = 8;
/// Longest IP packet, bytes.
const PACKET: usize = 65_535;

/// A series of echo requests.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    /// Destination.
    pub dst: IpAddr,
    /// Requests.
    pub count: u16,
    /// Milliseconds between them.
    pub interval: u32,
    /// Bytes of ICMP payload.
    pub size: usize,
    /// Longest time that the reply to the last request is waited for, multiplied by the patience.
    pub last: Duration,
    /// Whether a request waits for the reply to the one before it.
    pub one_by_one: bool,
}

impl Echo {
    /// `count` requests of 56 bytes, 5 ms apart.
    pub fn new(dst: IpAddr, count: u16) -> Self {
        Self {
            dst,
            count,
            interval: 5,
            size: 56,
            last: Duration::from_secs(5),
            one_by_one: false,
        }
    }

    /// With this payload size.
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// With this many milliseconds between requests.
    pub fn interval(self, interval: u32) -> Self {
        Self { interval, ..self }
    }

    /// Waiting no longer than this for the last reply.
    pub fn within(self, last: Duration) -> Self {
        Self { last, ..self }
    }

    /// Each only after the reply to the one before. A kernel has one socket per processor that sends ICMP replies, with
    /// room for two of 64 KiB (net/ipv4/icmp.c and net/ipv6/icmp.c, `SKB_TRUESIZE(64 * 1024)`): of ten requests of
    /// 30,000 bytes that arrive together, without any tunnel, it was seen to answer five.
    pub fn one_by_one(self) -> Self {
        Self {
            one_by_one: true,
            ..self
        }
    }

    /// Sends them all and waits for all replies.
    pub fn run(&self, ns: &Ns) -> Outcome<PingStats> {
        self.exchange(&self.socket(ns)?)
    }

    /// Does so in a thread of its own.
    pub fn start(self, ns: &Ns) -> Outcome<Echoes> {
        let socket = self.socket(ns)?;
        let count = self.count;
        let thread = thread::spawn(move || self.exchange(&socket));
        Ok(Echoes { count, thread })
    }

    fn exchange(&self, socket: &UdpSocket) -> Outcome<PingStats> {
        static IDS: AtomicU16 = AtomicU16::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let mut packet = vec![0; PACKET];
        let target = SocketAddr::new(self.dst, 0);
        let interval = Duration::from_millis(self.interval.into());
        let mut answered = vec![false; self.count.into()];
        let (mut sent, mut due) = (0, Instant::now());
        loop {
            let now = Instant::now();
            let received = answered.iter().filter(|a| **a).count();
            let waits = self.one_by_one && received < sent.into();
            if sent < self.count && now >= due && !waits {
                socket
                    .send_to(&self.request(id, sent), target)
                    .during("echo request")?;
                sent += 1;
                // After a stall no burst: that would be another load than was asked for.
                due = now.max(due + interval);
                continue;
            }
            let until = match sent < self.count && !waits {
                true => due,
                false => due + self.last * patience(),
            };
            let left = until.saturating_duration_since(now);
            if received == answered.len() || left.is_zero() {
                return Ok(PingStats {
                    sent: sent.into(),
                    received: received as u32,
                    unread: unread(socket)?,
                });
            }
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            if let Ok((len, from)) = socket.recv_from(&mut packet) {
                let packet = packet.get(..len).unwrap_or_default();
                let reply = self.reply_to(id, packet).filter(|_| from.ip() == self.dst);
                if let Some(place) = reply.and_then(|seq| answered.get_mut(usize::from(seq))) {
                    *place = true;
                }
            }
        }
    }

    /// Runs it and demands that every request was answered.
    pub fn lossless(&self, ns: &Ns) -> Outcome {
        let stats = self.run(ns)?;
        crate::check_eq!(
            stats,
            stats.of(self.count),
            "ping {} with {} bytes",
            self.dst,
            self.size
        );
        Ok(())
    }

    fn socket(&self, ns: &Ns) -> Outcome<UdpSocket> {
        let (family, protocol) = match self.dst {
            IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP),
            IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
        };
        ns.enter(|| {
            // SAFETY: the call takes no pointers.
            let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
            if fd < 0 {
                return Err(std::io::Error::last_os_error()).during("raw socket");
            }
            // SAFETY: `fd` is a fresh descriptor that nothing else owns.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            receive_buffer(fd.as_raw_fd(), BUFFER)?;
            // A raw socket sends and receives like one of UDP: whole packets, with an address.
            Ok(UdpSocket::from(fd))
        })
    }

    fn request(&self, id: u16, seq: u16) -> Vec<u8> {
        let kind = if self.dst.is_ipv4() { 8 } else { 128 };
        let mut packet = vec![kind, 0, 0, 0];
        packet.extend(id.to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.resize(HEADER + self.size, 0x5a);
        if self.dst.is_ipv4() {
            let sum = checksum(&packet).to_be_bytes();
            packet.splice(2..4, sum);
        }
        packet
    }

    /// Sequence number of a reply to one of ours.
    fn reply_to(&self, id: u16, packet: &[u8]) -> Option<u16> {
        // An IPv4 raw socket shows the IP header, an IPv6 one does not (raw(7), RFC 3542).
        let (kind, skip) = match self.dst {
            IpAddr::V4(_) => (0, usize::from(packet.first()? & 15) * 4),
            IpAddr::V6(_) => (129, 0),
        };
        let icmp = packet.get(skip..)?;
        let &[found, _, _, _, i0, i1, s0, s1] = icmp.first_chunk::<HEADER>()?;
        let ours =
            found == kind && u16::from_be_bytes([i0, i1]) == id && icmp.len() == HEADER + self.size;
        ours.then(|| u16::from_be_bytes([s0, s1]))
    }
}

/// A series under way.
pub struct Echoes {
    count: u16,
    thread: JoinHandle<Outcome<PingStats>>,
}

impl Echoes {
    /// Whether requests are still sent or replies waited for.
    pub fn running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for the end and demands that every request was answered.
    pub fn lossless(self) -> Outcome {
        let stats = self.thread.join();
        let stats = stats.unwrap_or_else(|_| Err(Failure::new("panic")))?;
        crate::check_eq!(stats, stats.of(self.count), "echo requests");
        Ok(())
    }
}

/// Packets that a socket had no room for.
fn unread(socket: &UdpSocket) -> Outcome<u32> {
    // linux/sock_diag.h: the numbers behind SO_MEMINFO, and the one for drops.
    const SO_MEMINFO: i32 = 55;
    const DROPS: usize = 8;
    let mut info = [0_u32; DROPS + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: both are writable, and the length is that of the numbers.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if ret != 0 {
        return Err(std::io::Error::last_os_error()).during("SO_MEMINFO");
    }
    Ok(info.get(DROPS).copied().unwrap_or_default())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| match *pair {
            [a, b] => u32::from(u16::from_be_bytes([a, b])),
            [a] => u32::from(a) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
