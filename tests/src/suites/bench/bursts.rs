// SPDX-License-Identifier: GPL-2.0-only
//! Datagrams sent in bursts that the receiver's queue holds, none lost: what they take is what their way costs, and not
//! what a queue that overflows lets through.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::lab::{Ns, burst, patience, set_int};
use crate::tap::{During, Outcome};

/// Datagrams in a burst.
pub const BURST: usize = 50;
const PORT: u16 = 9000;
/// Bursts that go ahead of a measurement: addresses are resolved, caches warm.
const AHEAD: usize = 20;

/// How a burst is handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Each datagram as a packet of its own (sendmmsg).
    Each,
    /// As one packet to be segmented (UDP_SEGMENT), with no more datagrams than a UDP packet over IPv4 has room for.
    Segments,
}

/// Two ends of a way.
pub struct Bursts {
    from: UdpSocket,
    to: UdpSocket,
}

/// Datagrams, and the time they took.
pub struct Taken {
    pub datagrams: usize,
    /// In the calls that send.
    pub sending: Duration,
    /// With the calls that receive.
    pub whole: Duration,
}

impl Bursts {
    /// From one namespace to an address of another.
    pub fn new(from: &Ns, to: &Ns, at: IpAddr) -> Outcome<Self> {
        let bursts = Self {
            from: from.udp(false, PORT)?,
            to: to.udp(false, PORT)?,
        };
        bursts.from.connect(SocketAddr::new(at, PORT))?;
        bursts
            .to
            .set_read_timeout(Some(Duration::from_secs(5) * patience()))?;
        Ok(bursts)
    }

    /// Sends datagrams of `size` bytes until `enough` says so of their number and the time since the first.
    pub fn run(
        &self,
        size: usize,
        call: Call,
        enough: impl Fn(usize, Duration) -> bool,
    ) -> Outcome<Taken> {
        let burst = match call {
            Call::Each => BURST,
            Call::Segments => BURST.min(65_507 / size),
        };
        let data = vec![0x5a; size * burst];
        let (packets, segment): (Vec<&[u8]>, _) = match call {
            Call::Each => (data.chunks(size).collect(), 0),
            Call::Segments => (vec![&data], size as i32),
        };
        set_int(&self.from, libc::SOL_UDP, libc::UDP_SEGMENT, segment)?;
        for _ in 0..AHEAD {
            self.once(&packets, burst)?;
        }
        let (start, mut datagrams, mut sending) = (Instant::now(), 0, Duration::ZERO);
        loop {
            sending += self.once(&packets, burst)?;
            datagrams += burst;
            let whole = start.elapsed();
            if enough(datagrams, whole) {
                return Ok(Taken {
                    datagrams,
                    sending,
                    whole,
                });
            }
        }
    }

    /// One burst of `missing` datagrams, to its last one; the time it took to send it.
    fn once(&self, packets: &[&[u8]], mut missing: usize) -> Outcome<Duration> {
        let start = Instant::now();
        burst::send(&self.from, packets)?;
        let sending = start.elapsed();
        while missing > 0 {
            let got = burst::receive(&self.to).during(format!("{missing} of a burst missing"))?;
            missing = missing.saturating_sub(got);
        }
        Ok(sending)
    }
}
