// SPDX-License-Identifier: GPL-2.0
//! Which packets of a batch leave together, as one UDP GSO packet.
//!
//! The kernel cuts such a packet into datagrams of one length, of which only the last may be shorter, and its own
//! length has to fit the length fields of its IP and UDP headers.
//! Source: Linux, `net/ipv4/udp_offload.c`, `__udp_gso_segment`.

/// Bytes of UDP payload in a run: what an IPv4 datagram of 65535 bytes, or the payload of an IPv6 one, holds less the
/// larger of the two pairs of headers (40 and 8 bytes).
pub const MAX_BYTES: u32 = 65_535 - 48;

/// A run of packets that is being put together, in the order in which they are sent.
///
/// # Invariants
/// `bytes` is the sum of the lengths of `count` packets; all but the last are `len` bytes long, and the last is not
/// longer. With `count` above 1, `bytes` is at most [`MAX_BYTES`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    len: u32,
    bytes: u32,
    count: u16,
    /// The last packet is shorter than the others: none may follow it.
    closed: bool,
}

impl Run {
    /// A run of one packet of `len` bytes.
    #[inline]
    pub const fn of(len: u32) -> Run {
        Run {
            len,
            bytes: len,
            count: 1,
            closed: len == 0,
        }
    }

    /// Takes the next packet of `len` bytes into the run; false if a run of its own must begin with it.
    #[inline]
    pub fn join(&mut self, len: u32) -> bool {
        let bytes = self.bytes.saturating_add(len);
        if self.count == 0 || self.closed || len == 0 || len > self.len || bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.count = self.count.saturating_add(1);
        self.closed = len < self.len;
        true
    }

    /// Packets in the run.
    #[inline]
    pub const fn count(&self) -> u16 {
        self.count
    }
}
