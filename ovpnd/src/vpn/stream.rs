// SPDX-License-Identifier: GPL-2.0-or-later
//! TCP under a control channel: packets behind their lengths of 16 bits.
//!
//! Until the kernel has the connection it is a stream, and no byte behind the current packet is read: data packets behind
//! it are the kernel's. From then on each call takes or gives one packet with its length in front. Nothing is queued here:
//! a packet that finds no room is lost, and the control channel sends it again.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{MAX_PACKET, is_control};

/// Bytes of a length.
const LEN: usize = 2;
/// A length, and the byte that tells whether the packet is one of data.
const HEAD: usize = LEN + 1;

/// Why a connection is of no more use.
#[derive(Debug)]
pub(super) enum Broken {
    /// The other side closed it.
    Closed,
    /// The other side announced a packet of this length, in bytes.
    Length(u16),
    /// A client sent data before there was a key.
    Data,
    /// An error of the socket.
    Failed(io::Error),
}

impl Broken {
    /// The sentence about the other side of this name.
    pub(super) fn sentence(&self, other: &str) -> String {
        match self {
            Self::Closed => format!("the {other} closed the connection"),
            Self::Length(len) => format!(
                "the {other} announced a packet of {len} bytes: it does not speak OpenVPN's TCP"
            ),
            Self::Data => format!("the {other} sent data before it had a key"),
            Self::Failed(error) => format!("the connection to the {other} broke: {error}"),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence("other side"))
    }
}

/// The reading half: takes packets out of a stream.
#[derive(Debug)]
struct Frames {
    buffer: Vec<u8>,
    /// Bytes of the current packet and its length that are in the buffer.
    have: usize,
    /// Bytes of a data packet that are still to be dropped.
    skip: usize,
    /// The current packet was given out.
    given: bool,
    /// Data packets are dropped; otherwise they are a fault.
    data: bool,
    /// The kernel has the connection: each call gives one packet.
    whole: bool,
}

impl Frames {
    fn new(data: bool) -> Self {
        Self {
            buffer: vec![0; LEN + MAX_PACKET],
            have: 0,
            skip: 0,
            given: false,
            data,
            whole: false,
        }
    }

    /// Whether the next byte of the stream is the first one of a packet's length.
    fn is_between(&self) -> bool {
        (self.have == 0 || self.given) && self.skip == 0
    }

    /// The next control packet; none before more has come.
    fn next(&mut self, source: impl Read) -> Result<Option<&[u8]>, Broken> {
        match self.whole {
            true => self.next_whole(source),
            false => self.next_of_stream(source),
        }
    }

    fn next_of_stream(&mut self, mut source: impl Read) -> Result<Option<&[u8]>, Broken> {
        if std::mem::take(&mut self.given) {
            self.have = 0;
        }
        loop {
            if self.skip > 0 {
                let most = self.skip.min(self.buffer.len());
                let room = self.buffer.get_mut(..most).unwrap_or_default();
                match read(&mut source, room)? {
                    None => return Ok(None),
                    Some(len) => self.skip = self.skip.saturating_sub(len),
                }
                continue;
            }
            let end = match self.buffer.get(..self.have) {
                Some(&[high, low, first, ..]) => {
                    let len = u16::from_be_bytes([high, low]);
                    let end = LEN + usize::from(len);
                    if len == 0 {
                        return Err(Broken::Length(len));
                    }
                    if !is_control(&[first]) {
                        if !self.data {
                            return Err(Broken::Data);
                        }
                        self.skip = end.saturating_sub(self.have);
                        self.have = 0;
                        continue;
                    }
                    if end > self.buffer.len() {
                        return Err(Broken::Length(len));
                    }
                    end
                }
                _ => HEAD,
            };
            if self.have < end {
                let room = self.buffer.get_mut(self.have..end).unwrap_or_default();
                match read(&mut source, room)? {
                    None => return Ok(None),
                    Some(len) => self.have += len,
                }
                continue;
            }
            self.given = true;
            return Ok(self.buffer.get(LEN..end));
        }
    }

    fn next_whole(&mut self, mut source: impl Read) -> Result<Option<&[u8]>, Broken> {
        let len = loop {
            let Some(len) = read(&mut source, &mut self.buffer)? else {
                return Ok(None);
            };
            let told = self.buffer.first_chunk().copied().map(u16::from_be_bytes);
            // One that is too long was cut off.
            if len > LEN && told.map(usize::from) == Some(len - LEN) {
                break len;
            }
        };
        Ok(self.buffer.get(LEN..len))
    }
}

/// Bytes that were read; none before more has come.
fn read(source: &mut impl Read, room: &mut [u8]) -> Result<Option<usize>, Broken> {
    loop {
        match source.read(room) {
            Ok(0) => return Err(Broken::Closed),
            Ok(len) => return Ok(Some(len)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Failed(error)),
        }
    }
}

/// The writing half: the end of a packet whose start was written.
#[derive(Debug, Default)]
pub(super) struct Rest(Vec<u8>);

impl Rest {
    /// Writes what is left; whether nothing is left then.
    fn flush(&mut self, sink: &mut impl Write) -> bool {
        while !self.0.is_empty() {
            match sink.write(&self.0) {
                Ok(0) => return false,
                Ok(len) => drop(self.0.drain(..len.min(self.0.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Writes a packet, or loses it.
    fn send(&mut self, sink: &mut impl Write, packet: &[u8]) {
        let Ok(len) = u16::try_from(packet.len()) else {
            return;
        };
        if !self.flush(sink) {
            return;
        }
        let mut frame = len.to_be_bytes().to_vec();
        frame.extend_from_slice(packet);
        if let Ok(written) = sink.write(&frame) {
            if written > 0 {
                self.0 = frame.split_off(written.min(frame.len()));
            }
        }
    }
}

/// The writing half of a connection, for the thread that speaks the control channel.
#[derive(Debug)]
pub(super) struct Writer {
    socket: TcpStream,
    rest: Mutex<Rest>,
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a packet, or loses it.
    pub(super) fn send(&self, packet: &[u8]) {
        self.lock().send(&mut &self.socket, packet);
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    writer: Arc<Writer>,
    frames: Frames,
}

impl Connection {
    /// Takes a connection that does not block. A client drops data packets that come before it has made a peer for them;
    /// to a server they are a fault.
    pub(super) fn new(stream: OwnedFd, client: bool) -> Self {
        let writer = Writer {
            socket: stream.into(),
            rest: Mutex::default(),
        };
        Self {
            writer: Arc::new(writer),
            frames: Frames::new(client),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.writer.socket
    }

    pub(super) fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// The next control packet; none before more has come.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        self.frames.next(&self.writer.socket)
    }

    /// Whether the kernel can have the connection now: it begins with the first byte of a packet.
    pub(super) fn is_between(&self) -> bool {
        self.frames.is_between()
    }

    /// Has the kernel take the connection by `attach`, which gets another descriptor of it, while nothing is written.
    ///
    /// # Errors
    /// Those of `attach`; the other side does not read; no more descriptors can be had.
    pub(super) fn hand_over<T>(
        &mut self,
        attach: impl FnOnce(OwnedFd) -> Result<T, String>,
    ) -> Result<T, String> {
        let fd = self.writer.socket.try_clone();
        let fd = fd.map_err(|error| error.to_string())?;
        let mut rest = self.writer.lock();
        if !rest.flush(&mut &self.writer.socket) {
            return Err("the other side of the connection does not read".into());
        }
        let attached = attach(fd.into())?;
        self.frames.whole = true;
        Ok(attached)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A source that gives its bytes in pieces, with a pause behind each.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Pieces {
        fn new(pieces: &[&[u8]]) -> Self {
            Self(pieces.iter().map(|piece| piece.to_vec()).collect())
        }
    }

    impl Read for Pieces {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.front_mut() else {
                return Ok(0);
            };
            if piece.is_empty() {
                self.0.pop_front();
                return Err(ErrorKind::WouldBlock.into());
            }
            let len = piece.len().min(out.len());
            let rest = piece.split_off(len);
            out.get_mut(..len).unwrap().copy_from_slice(piece);
            *piece = rest;
            Ok(len)
        }
    }

    /// A control packet of this length in a frame.
    fn frame(len: u16) -> Vec<u8> {
        let mut frame = len.to_be_bytes().to_vec();
        frame.extend(vec![0x20; len.into()]);
        frame
    }

    fn packets(frames: &mut Frames, source: &mut Pieces) -> Result<Vec<usize>, Broken> {
        let mut found = Vec::new();
        while !source.0.is_empty() {
            while let Some(packet) = frames.next(&mut *source)? {
                found.push(packet.len());
            }
        }
        Ok(found)
    }

    #[test]
    fn packets_come_whole_however_the_stream_is_cut() {
        let mut bytes = frame(14);
        bytes.extend(frame(1));
        bytes.extend(frame(u16::try_from(MAX_PACKET).unwrap()));
        for cut in 0..30 {
            let (first, second) = bytes.split_at(cut);
            let mut source = Pieces::new(&[first, second]);
            let mut frames = Frames::new(false);
            let found = packets(&mut frames, &mut source).unwrap();
            assert_eq!(found, [14, 1, MAX_PACKET], "{cut}");
            assert!(frames.is_between());
        }
    }

    #[test]
    fn no_byte_behind_a_packet_is_read() {
        let mut bytes = frame(20);
        bytes.extend(frame(9));
        let mut source = Pieces::new(&[&bytes]);
        let mut frames = Frames::new(false);
        assert_eq!(frames.next(&mut source).unwrap().map(<[u8]>::len), Some(20));
        assert!(frames.is_between());
        assert_eq!(source.0.front().map(Vec::len), Some(11));
    }

    #[test]
    fn the_kernel_gets_no_stream_in_the_middle_of_a_packet() {
        let bytes = frame(20);
        let mut frames = Frames::new(false);
        for (piece, between) in [
            (&bytes[..2], false),
            (&bytes[2..9], false),
            (&bytes[9..], true),
        ] {
            let _ = frames.next(&mut Pieces::new(&[piece])).unwrap();
            assert_eq!(frames.is_between(), between);
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let long = u16::try_from(MAX_PACKET + 1).unwrap().to_be_bytes();
        for (bytes, len) in [
            ([0, 0, 0x20], 0),
            ([long[0], long[1], 0x20], MAX_PACKET + 1),
            ([0xff, 0xff, 0x38], 0xffff),
            (*b"GET", usize::from(u16::from_be_bytes(*b"GE"))),
        ] {
            let found = Frames::new(true)
                .next(&mut Pieces::new(&[&bytes]))
                .map(drop);
            assert!(
                matches!(found, Err(Broken::Length(told)) if usize::from(told) == len),
                "{bytes:?}: {found:?}"
            );
        }
    }

    #[test]
    fn data_before_a_peer_are_dropped_by_a_client_and_refused_by_a_server() {
        let mut bytes = 40_000u16.to_be_bytes().to_vec();
        bytes.extend(vec![9 << 3; 40_000]);
        bytes.extend(frame(14));
        let found = packets(&mut Frames::new(true), &mut Pieces::new(&[&bytes])).unwrap();
        assert_eq!(found, [14]);
        let found = packets(&mut Frames::new(false), &mut Pieces::new(&[&bytes]));
        assert!(matches!(found, Err(Broken::Data)), "{found:?}");
    }

    #[test]
    fn the_end_of_the_stream_is_said() {
        let mut frames = Frames::new(true);
        let mut source = Pieces::new(&[&frame(20)[..7]]);
        assert!(matches!(frames.next(&mut source), Ok(None)));
        let end = frames.next(&mut source).map(drop).unwrap_err();
        assert_eq!(end.sentence("server"), "the server closed the connection");
    }

    #[test]
    fn the_kernels_packets_are_taken_one_by_one() {
        let mut frames = Frames::new(false);
        frames.whole = true;
        let bytes = frame(30);
        // One that was cut off, one whose length is another, and a good one.
        for (packet, good) in [
            (&bytes[..20], false),
            (&bytes[..1], false),
            (&bytes[..], true),
        ] {
            let found = frames.next(&mut Pieces::new(&[packet])).unwrap();
            assert_eq!(found.map(<[u8]>::len), good.then_some(30));
        }
    }

    /// A sink with room for so many bytes, which has none the first time that it is asked again.
    struct Narrow(usize, Vec<u8>, bool);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.0);
            if len == 0 || std::mem::take(&mut self.2) {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0 -= len;
            self.1.extend(bytes.iter().take(len));
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_packet_that_was_begun_is_ended_before_the_next_one_and_nothing_else_waits() {
        let mut sink = Narrow(5, Vec::new(), false);
        let mut rest = Rest::default();
        rest.send(&mut sink, b"first one");
        assert_eq!(rest.0.len(), 6);
        (sink.0, sink.2) = (100, true);
        rest.send(&mut sink, b"lost");
        assert_eq!(rest.0.len(), 6);
        rest.send(&mut sink, b"third");
        assert_eq!(sink.1, b"\0\x09first one\0\x05third");
        assert!(rest.flush(&mut sink));
    }

    proptest! {
        #[test]
        fn no_stream_makes_it_panic_or_grow(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20), client: bool) {
            let mut frames = Frames::new(client);
            let mut source = Pieces(pieces.into());
            let _ = packets(&mut frames, &mut source);
            prop_assert_eq!(frames.buffer.len(), LEN + MAX_PACKET);
        }
    }
}
