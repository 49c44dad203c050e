// SPDX-License-Identifier: GPL-2.0-only
//! The daemon's place on ubus, OpenWrt's message bus: one object, served without ever waiting.
//!
//! The broker greets with HELLO; the object is then added and gets a number; after that calls arrive. When
//! the broker goes away, or was not there, the connection is tried again. Layout and numbers come from the
//! crate `ubus`, whose own connection type waits in its handshake and knows no status codes for methods.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::Value;
use ubus::envelope::{UbusAttr, find};
use ubus::json::json_to_blobmsg;
use ubus::wire::{Codec, Frame, HEADER_SIZE, ObjId, PeerId};
use ubus::{BlobBuilder, InboundMsg, OutboundMsg, UbusError};

use crate::retry::Retry;

/// Name of the object.
const OBJECT: &str = "ovpnd";
/// Its methods.
const METHODS: [&str; 2] = ["status", "reload"];
const ADD_OBJECT_SEQ: u16 = 1;
/// Nothing that concerns us is longer; a broker that sends more is none.
const MAX_FRAME: usize = 64 * 1024;
/// A caller that does not read its answers is not fed for ever.
const MAX_BACKLOG: usize = 1024 * 1024;
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A broker answers at once; one that does not is hung.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub method: Method,
    seq: u16,
    peer: PeerId,
}

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Tell the state of everything.
    Status,
    /// Read the configuration again.
    Reload,
}

/// The connection, whether there is one or not.
#[derive(Debug)]
pub struct Bus {
    path: String,
    connection: Option<Connection>,
    retry: Retry,
    /// Said once per outage, not at every attempt.
    complained: bool,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// HELLO is to come.
    Greeting,
    /// ADD_OBJECT was sent; its answers tell the number first and success then.
    Adding(Option<ObjId>),
    Serving(ObjId),
}

impl Bus {
    /// A bus whose broker listens on the socket `path`. It is connected to by [`Self::wake`].
    pub fn new(path: String) -> Self {
        Self {
            path,
            connection: None,
            retry: Retry::new(LONGEST_WAIT),
            complained: false,
        }
    }

    /// What to poll, and whether there is something to send.
    pub fn fd(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.connection
            .as_ref()
            .map(|connection| (connection.stream.as_fd(), !connection.output.is_empty()))
    }

    /// When to call [`Self::wake`].
    pub fn next_wait(&self) -> Option<Instant> {
        match &self.connection {
            Some(connection) if matches!(connection.phase, Phase::Serving(_)) => None,
            Some(connection) => Some(connection.deadline),
            None => self.retry.at(),
        }
    }

    /// Connects if it is time to, and gives a hung broker up.
    pub fn wake(&mut self, now: Instant) {
        if self.next_wait().is_some_and(|at| at > now) {
            return;
        }
        match &self.connection {
            Some(connection) if matches!(connection.phase, Phase::Serving(_)) => {}
            Some(_) => self.lost("the broker does not answer", now),
            None => match Connection::open(&self.path, now) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => self.lost(&format!("{}: {error}", self.path), now),
            },
        }
    }

    fn lost(&mut self, why: &str, now: Instant) {
        if !std::mem::replace(&mut self.complained, true) {
            log::warn!("ubus: {why}; going on without, and trying again");
        }
        self.connection = None;
        self.retry.failed(now);
    }

    /// Reads and writes what is possible, and returns the calls that arrived.
    pub fn serve(&mut self, now: Instant) -> Vec<Call> {
        let Some(connection) = &mut self.connection else {
            return Vec::new();
        };
        let before = connection.phase;
        let mut calls = Vec::new();
        let served = connection
            .read(&mut calls)
            .and_then(|()| connection.flush());
        let after = connection.phase;
        match served {
            Ok(()) => {
                if before != after && matches!(after, Phase::Serving(_)) {
                    log::info!("ubus: object {OBJECT} added");
                    self.retry.succeeded();
                    self.complained = false;
                }
            }
            Err(why) => self.lost(&why, now),
        }
        calls
    }

    /// Answers a call.
    pub fn reply(&mut self, call: Call, answer: &Value, now: Instant) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Err(why) = connection
            .reply(call, answer)
            .and_then(|()| connection.flush())
        {
            self.lost(&why, now);
        }
    }
}

impl Connection {
    fn open(path: &str, now: Instant) -> io::Result<Self> {
        // Not UnixStream::connect: that waits when the broker's queue is full.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self::new(fd.into(), now))
    }

    fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            phase: Phase::Greeting,
            deadline: now + HANDSHAKE,
        }
    }

    fn read(&mut self, calls: &mut Vec<Call>) -> Result<(), String> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the broker went away".into()),
                Ok(len) => self.input.extend(chunk.iter().take(len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            }
            while let Some(frame) = self.frame()? {
                calls.extend(self.take(&frame)?);
            }
        }
    }

    /// The next whole frame of the input.
    fn frame(&mut self) -> Result<Option<Frame>, String> {
        // The codec takes a header alone for a frame, which cannot be told from the first piece of one. Brokers
        // send at least an empty envelope of 4 bytes after it.
        if self.input.len() < HEADER_SIZE + 4 {
            return Ok(None);
        }
        match Codec::read_frame(&self.input) {
            Ok((frame, len)) => {
                self.input.drain(..len);
                Ok(Some(frame))
            }
            Err(UbusError::Short { need, .. }) if need > MAX_FRAME + HEADER_SIZE => {
                Err("a frame is too long".into())
            }
            Err(UbusError::Short { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<Option<Call>, String> {
        let message = InboundMsg::parse(frame).map_err(|error| error.to_string())?;
        match (self.phase, message) {
            (Phase::Greeting, InboundMsg::Hello { .. }) => {
                let mut signature = BlobBuilder::new();
                for method in METHODS {
                    signature.open_table(Some(method));
                    signature.close_table();
                }
                let signature = signature.finish();
                self.send(
                    OutboundMsg::AddObject {
                        path: OBJECT,
                        signature: &signature,
                    }
                    .into_frame(ADD_OBJECT_SEQ),
                )?;
                self.phase = Phase::Adding(None);
                Ok(None)
            }
            (
                Phase::Adding(_),
                InboundMsg::Data {
                    seq: ADD_OBJECT_SEQ,
                    peer: 0,
                    obj_id: Some(id),
                    ..
                },
            ) => {
                self.phase = Phase::Adding(ObjId::new(id));
                Ok(None)
            }
            (
                Phase::Adding(id),
                InboundMsg::Status {
                    seq: ADD_OBJECT_SEQ,
                    peer: 0,
                    status,
                },
            ) => {
                if status != ubus::wire::UBUS_STATUS_OK {
                    return Err(format!("object {OBJECT} is refused, status {status}"));
                }
                // Some brokers put the number into the status itself.
                let inline = || {
                    find(&frame.payload, UbusAttr::ObjId).and_then(|id| ObjId::new(id.as_u32()?))
                };
                self.phase = Phase::Serving(id.or_else(inline).ok_or("the object got no number")?);
                Ok(None)
            }
            (
                Phase::Serving(id),
                InboundMsg::Invoke {
                    seq,
                    peer,
                    obj_id,
                    method,
                    ..
                },
            ) => {
                let Some(peer) = PeerId::new(peer) else {
                    return Ok(None);
                };
                let known = match method {
                    "status" => Ok(Method::Status),
                    "reload" => Ok(Method::Reload),
                    _ => Err(ubus::wire::UBUS_STATUS_METHOD_NOT_FOUND),
                };
                // Arguments are ignored: LuCI adds its session to every call.
                match known.and_then(|known| {
                    if obj_id == id {
                        Ok(known)
                    } else {
                        Err(ubus::wire::UBUS_STATUS_NOT_FOUND)
                    }
                }) {
                    Ok(method) => Ok(Some(Call { method, seq, peer })),
                    Err(status) => {
                        self.send(
                            OutboundMsg::Status {
                                peer,
                                obj_id: Some(id),
                                status,
                            }
                            .into_frame(seq),
                        )?;
                        Ok(None)
                    }
                }
            }
            _ => Ok(None),
        }
    }

    fn reply(&mut self, call: Call, answer: &Value) -> Result<(), String> {
        let Phase::Serving(id) = self.phase else {
            return Ok(());
        };
        let Call { seq, peer, .. } = call;
        let mut status = ubus::wire::UBUS_STATUS_OK;
        match json_to_blobmsg(answer) {
            Ok(data) => self.send(
                OutboundMsg::DataReply {
                    peer,
                    obj_id: Some(id),
                    data: &data,
                }
                .into_frame(seq),
            )?,
            Err(error) => {
                log::error!("ubus: answer cannot be encoded: {error}");
                status = ubus::wire::UBUS_STATUS_UNKNOWN_ERROR;
            }
        }
        self.send(
            OutboundMsg::Status {
                peer,
                obj_id: Some(id),
                status,
            }
            .into_frame(seq),
        )
    }

    fn send(&mut self, frame: Frame) -> Result<(), String> {
        self.output.extend(Codec::write_frame(&frame));
        if self.output.len() > MAX_BACKLOG {
            Err("the broker does not read".into())
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err("the broker went away".into()),
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
