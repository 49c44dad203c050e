// SPDX-License-Identifier: GPL-2.0
//! Packets in a TCP stream: each preceded by its length, 16 bits, big-endian.
//!
//! Source: OpenVPN, `src/openvpn/socket.c`, stream buffers.

use super::wire::OPCODE_LEN;

/// Bytes of the length before each packet; they do not count themselves.
pub const PREFIX_LEN: usize = 2;

/// A length under 4: no opcode fits. The stream is out of step and must be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfStep;

/// Meaning of the next bytes of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A packet of this many bytes begins.
    Start(u16),
    /// Part of that packet; `true` with its last bytes.
    Body(&'a [u8], bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the next length read.
    Length,
    /// Its first byte read.
    HalfLength(u8),
    /// Inside a packet, this many bytes (at least 1) to come.
    Body(u16),
}

/// Cuts a byte stream, given in chunks of any size, into packets. Holds no bytes of a packet.
#[derive(Debug)]
pub struct Framer {
    state: State,
}

impl Framer {
    /// A framer at a packet's border.
    pub const fn new() -> Framer {
        Framer {
            state: State::Length,
        }
    }

    /// Takes bytes from the front of `input`, which is shortened by what was taken.
    ///
    /// `None` if all of `input` is taken and no further piece is complete.
    ///
    /// # Errors
    /// [`OutOfStep`] for a length under 4. The framer then stays where it was.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, OutOfStep> {
        loop {
            match self.state {
                State::Length => {
                    let Some((&high, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    self.state = State::HalfLength(high);
                }
                State::HalfLength(high) => {
                    let Some((&low, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    let len = u16::from_be_bytes([high, low]);
                    if usize::from(len) < OPCODE_LEN {
                        return Err(OutOfStep);
                    }
                    *input = rest;
                    self.state = State::Body(len);
                    return Ok(Some(Piece::Start(len)));
                }
                State::Body(left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let take = input.len().min(usize::from(left));
                    let Some((body, rest)) = input.split_at_checked(take) else {
                        return Ok(None);
                    };
                    *input = rest;
                    // `take` is at most `left`, so it fits.
                    let left = left.saturating_sub(take as u16);
                    self.state = if left == 0 {
                        State::Length
                    } else {
                        State::Body(left)
                    };
                    return Ok(Some(Piece::Body(body, left == 0)));
                }
            }
        }
    }
}

impl Default for Framer {
    fn default() -> Self {
        Framer::new()
    }
}
