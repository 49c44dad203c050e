// SPDX-License-Identifier: MIT OR Apache-2.0
//! A netlink socket that asks the kernel and reads its answers.
//!
//! The kernel works on a request inside `send` and queues at least the start of its answer before `send`
//! returns; later parts of a dump are queued while the earlier ones are read. So the socket never waits:
//! it is non-blocking, and an empty queue in mid-answer is an error.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::{Socket as RawSocket, SocketAddr};
use zeroize::Zeroizing;

use crate::error::{Error, Refusal, Result};
use crate::wire::{Attrs, HEADER_LEN, Header, Message, Messages, Schema, Writer, bytes_at};

// include/uapi/linux/netlink.h
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The kernel sizes the parts of a dump by the reader's buffer, up to 32 KiB.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// A list that changes this often while it is read is given up.
const DUMP_ATTEMPTS: usize = 8;

/// A request on its way to the kernel.
#[derive(Debug)]
pub(crate) struct Request {
    /// For errors.
    pub(crate) operation: &'static str,
    /// Message type.
    pub(crate) kind: u16,
    /// Flags besides NLM_F_REQUEST, NLM_F_ACK and NLM_F_DUMP.
    pub(crate) flags: u16,
    /// Length of the family's own header in bytes.
    pub(crate) fixed: usize,
    /// That header and the attributes.
    pub(crate) body: Writer,
    /// Names of the attributes.
    pub(crate) schema: &'static Schema,
}

#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    seq: u32,
    buffer: Vec<u8>,
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.raw.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Socket {
    /// Opens a socket to the kernel's netlink `protocol`.
    pub(crate) fn open(protocol: i32) -> Result<Self> {
        let mut raw = RawSocket::new(protocol as isize)?;
        raw.bind_auto()?;
        // Connected to port 0: only the kernel can send to this socket.
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_non_blocking(true)?;
        raw.set_ext_ack(true)?;
        // Refusals then do not repeat the request, which may hold keys.
        raw.set_cap_ack(true)?;
        Ok(Self {
            raw,
            seq: 0,
            buffer: Vec::new(),
        })
    }

    /// Joins multicast group `group`, and lets `bytes` of events wait unread.
    pub(crate) fn subscribe(&mut self, group: u32, bytes: usize) -> Result<()> {
        self.raw
            .set_rx_buf_sz(i32::try_from(bytes).unwrap_or(i32::MAX))?;
        Ok(self.raw.add_membership(group)?)
    }

    /// Sends `request` and gives each message of the answer to `take`. Returns when the kernel acknowledged.
    pub(crate) fn call(
        &mut self,
        request: &Request,
        take: &mut dyn FnMut(&Message<'_>) -> Result<()>,
    ) -> Result<()> {
        let bytes = self.send(request, NLM_F_ACK)?;
        self.receive(request, &bytes, take).map(drop)
    }

    /// Sends `request` as a dump and returns what `read` makes of each entry. Starts again when the kernel
    /// says that the list changed under way.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(&Message<'_>) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let bytes = self.send(request, NLM_F_DUMP)?;
            let mut entries = Vec::new();
            let whole = self.receive(request, &bytes, &mut |message| {
                entries.extend(read(message)?);
                Ok(())
            })?;
            if whole {
                return Ok(entries);
            }
        }
        Err(Error::DumpInterrupted(request.operation))
    }

    fn send(&mut self, request: &Request, flags: u16) -> Result<Zeroizing<Vec<u8>>> {
        self.drain()?;
        self.seq = self.seq.wrapping_add(1).max(1);
        let body = request.body.as_bytes();
        let header = Header {
            len: u32::try_from(HEADER_LEN + body.len())
                .map_err(|_| Error::Malformed("request too long"))?,
            kind: request.kind,
            flags: NLM_F_REQUEST | request.flags | flags,
            seq: self.seq,
            port: 0,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER_LEN + body.len()));
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(body);
        loop {
            match self.raw.send(&bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Ok(result.map(|_| bytes)?),
            }
        }
    }

    /// Drops what an earlier, failed call left in the queue, and the kernel's note that it overran.
    fn drain(&mut self) -> Result<()> {
        loop {
            match self.recv() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One datagram, left in `self.buffer`.
    pub(crate) fn recv(&mut self) -> io::Result<()> {
        self.buffer.resize(RECEIVE_BUFFER, 0);
        loop {
            match self.raw.recv(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(len) if len > RECEIVE_BUFFER => return Err(io::ErrorKind::FileTooLarge.into()),
                Ok(len) => {
                    self.buffer.truncate(len);
                    return Ok(());
                }
            }
        }
    }

    /// The datagram [`Self::recv`] left.
    pub(crate) fn datagram(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads up to the end of the answer. False when the kernel says that the list changed under way.
    fn receive(
        &mut self,
        request: &Request,
        bytes: &[u8],
        take: &mut dyn FnMut(&Message<'_>) -> Result<()>,
    ) -> Result<bool> {
        let mut whole = true;
        loop {
            self.recv().map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => Error::NoAnswer(request.operation),
                _ => error.into(),
            })?;
            for message in Messages::new(&self.buffer) {
                let message = message?;
                if message.header.seq != self.seq {
                    continue;
                }
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.header.kind {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR | NLMSG_DONE => {
                        return verdict(&message, request, bytes).map(|()| whole);
                    }
                    _ => take(&message)?,
                }
            }
        }
    }
}

/// Reads the end of an answer: an acknowledgement, the end of a dump, or a refusal.
fn verdict(message: &Message<'_>, request: &Request, bytes: &[u8]) -> Result<()> {
    let code = match bytes_at(message.payload, 0).map(i32::from_ne_bytes) {
        // Old kernels end some dumps without a code.
        None if message.header.kind == NLMSG_DONE => 0,
        None => return Err(Error::Malformed("error message without a code")),
        Some(code) => code,
    };
    if code >= 0 {
        return Ok(());
    }
    // An error repeats the request's header, and all of the request unless it is capped; a DONE does not.
    let skip = match message.header.kind {
        NLMSG_DONE => 4,
        _ if message.header.flags & NLM_F_CAPPED != 0 => 4 + HEADER_LEN,
        _ => 4 + bytes.len(),
    };
    let extack = if message.header.flags & NLM_F_ACK_TLVS != 0 {
        Attrs::after(message.payload, skip)
    } else {
        Attrs::new(&[])
    };
    Err(Error::Refused(Refusal::decode(
        request.operation,
        code.checked_neg().unwrap_or(libc::EINVAL),
        extack,
        bytes,
        HEADER_LEN + request.fixed,
        request.schema,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            operation: "TEST",
            kind: 99,
            flags: 0,
            fixed: 4,
            body: Writer::new(),
            schema: &Schema::UNKNOWN,
        }
    }

    fn message(kind: u16, flags: u16, payload: &[u8]) -> std::result::Result<(), Error> {
        let header = Header {
            len: 0,
            kind,
            flags,
            seq: 1,
            port: 0,
        };
        verdict(&Message { header, payload }, &request(), &[0; 24])
    }

    fn refusal(code: i32, repeated: usize, text: &str) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&code.to_ne_bytes())
            .raw(&vec![0; repeated])
            .put_str(1, text);
        w.as_bytes().to_vec()
    }

    #[test]
    fn zero_acknowledges_and_garbage_is_an_error() {
        assert!(message(NLMSG_ERROR, 0, &[0; 20]).is_ok());
        assert!(message(NLMSG_DONE, 0, &[]).is_ok());
        assert!(matches!(
            message(NLMSG_ERROR, 0, &[0; 3]),
            Err(Error::Malformed(_))
        ));
        let huge = i32::MIN.to_ne_bytes();
        assert!(matches!(
            message(NLMSG_ERROR, NLM_F_ACK_TLVS, &huge),
            Err(Error::Refused(_))
        ));
    }

    #[test]
    fn the_text_is_found_behind_a_capped_a_whole_and_no_request() {
        for (kind, flags, repeated) in [
            (NLMSG_ERROR, NLM_F_CAPPED, HEADER_LEN),
            (NLMSG_ERROR, 0, 24),
            (NLMSG_DONE, 0, 0),
        ] {
            let payload = refusal(-libc::EEXIST, repeated, "taken");
            let Err(Error::Refused(refusal)) = message(kind, flags | NLM_F_ACK_TLVS, &payload)
            else {
                panic!("{kind} {flags} was no refusal");
            };
            assert_eq!(
                (refusal.errno, refusal.message.as_deref()),
                (libc::EEXIST, Some("taken"))
            );
        }
    }

    #[test]
    fn live_the_kernel_refuses_an_unknown_message_with_its_errno() {
        let mut socket = Socket::open(libc::NETLINK_ROUTE).unwrap();
        let bogus = Request {
            kind: 0xfff0,
            ..request()
        };
        let error = socket.call(&bogus, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}");
    }
}
