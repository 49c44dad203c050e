// SPDX-License-Identifier: GPL-2.0-or-later
//! The daemon's place on ubus, OpenWrt's message bus: one object, served without ever waiting.
//!
//! The broker greets with HELLO; the object is then added and gets a number; after that calls arrive. When
//! the broker goes away, or was not there, the connection is tried again. Layout and numbers come from the
//! crate `ubus`, whose own connection type waits in its handshake and knows no status codes for methods. What
//! the methods do is `api`'s business.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::{Value, json};
use ubus::envelope::{EnvBuilder, UbusAttr, find};
use ubus::json::{blobmsg_to_json, json_to_blobmsg};
use ubus::wire::{Codec, Frame, HEADER_SIZE, MsgType, ObjId, PeerId};
use ubus::{BlobBuilder, BlobMsgTable, InboundMsg, OutboundMsg, UbusError};

use crate::retry::Retry;

/// Name of the object.
const OBJECT: &str = "ovpnd";
const ADD_OBJECT_SEQ: u16 = 1;
/// Longest message in bytes: UBUS_MAX_MSGLEN of OpenWrt's ubusmsg.h. A broker that sends more is none.
const MAX_FRAME: usize = 1024 * 1024;
/// A broker that does not read is not fed for ever.
const MAX_BACKLOG: usize = 4 * MAX_FRAME;
/// Behind this many unsent bytes no notification is queued any more; those that are not are counted.
const MAX_NOTICE_BACKLOG: usize = 256 * 1024;
/// Bytes of memory that an empty buffer may keep.
const KEPT: usize = 16 * 1024;
/// UBUS_SYSTEM_OBJECT_EVENT of ubusmsg.h.
const EVENT_OBJECT: u32 = 1;
/// Sequence number of what is not waited for.
const NOTICE_SEQ: u16 = 2;
/// Sequence number of calls to others, whose answers tell of errors alone.
const CALL_SEQ: u16 = 3;
/// The first sequence number of questions for another's object; each waits for its answer under its own.
const LOOKUP_SEQ: u16 = 16;
/// Calls to others that may wait for the broker's answer: one that gives none is hung.
const MAX_CALLS: usize = 256;
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A broker answers at once; one that does not is hung.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A call that waits for its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Its arguments, an object; none when they are no valid blobmsg.
    pub args: Option<Value>,
    /// Where the answer goes.
    pub from: Caller,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    seq: u16,
    peer: PeerId,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Whether it was done.
    pub status: Status,
    /// Sent with a status that tells of an error, too.
    pub data: Option<Data>,
}

/// The data of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// An object.
    Tree(Value),
    /// An object as it goes over the bus.
    Written(BlobMsgTable),
}

impl From<Value> for Data {
    fn from(tree: Value) -> Self {
        Self::Tree(tree)
    }
}

impl From<BlobMsgTable> for Data {
    fn from(written: BlobMsgTable) -> Self {
        Self::Written(written)
    }
}

impl Data {
    fn blob(&self) -> Result<Cow<'_, BlobMsgTable>, UbusError> {
        match self {
            Self::Tree(tree) => json_to_blobmsg(tree).map(Cow::Owned),
            Self::Written(written) => Ok(Cow::Borrowed(written)),
        }
    }
}

/// `enum ubus_msg_status` of ubusmsg.h, as far as we answer with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Status {
    Ok = 0,
    InvalidArgument = 2,
    MethodNotFound = 3,
    NotFound = 4,
    NotSupported = 8,
    UnknownError = 9,
}

/// Types of arguments, `enum blobmsg_type` of libubox's blobmsg.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum ArgType {
    Array = 1,
    Table = 2,
    Text = 3,
    Integer = 5,
    Boolean = 7,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident $name:literal [$($arg:literal $ty:ident),*],)+) => {
        /// The methods.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Method {
            $($(#[$doc])* $variant,)+
        }

        impl Method {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name for callers.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Its arguments.
            pub fn policy(self) -> &'static [(&'static str, ArgType)] {
                match self { $(Self::$variant => &[$(($arg, ArgType::$ty)),*],)+ }
            }
        }
    };
}

methods! {
    /// The state of everything, in short.
    Status "status" [],
    /// Interfaces in detail.
    Interfaces "interfaces" ["interface" Text],
    /// Peers in detail.
    Peers "peers" ["interface" Text, "peer" Text, "offset" Integer, "limit" Integer],
    /// Adds a peer until the end of the daemon.
    PeerAdd "peer_add" ["interface" Text, "peer" Text, "options" Table],
    /// Changes a peer until the end of the daemon.
    PeerSet "peer_set" ["interface" Text, "peer" Text, "options" Table],
    /// Takes a peer away until the end of the daemon.
    PeerDel "peer_del" ["interface" Text, "peer" Text],
    /// Deletes a peer in the kernel, once.
    PeerDisconnect "peer_disconnect" ["interface" Text, "peer" Text],
    /// Tells clients of a server other options.
    PushUpdate "push_update" ["interface" Text, "peer" Text, "options" Array],
    /// Answers a client's question to its user.
    Answer "answer" ["interface" Text, "answer" Text, "user" Text],
    /// Makes a key file.
    KeyGenerate "key_generate" ["file" Text, "overwrite" Boolean],
    /// Writes a key file.
    KeyImport "key_import" ["file" Text, "text" Text, "overwrite" Boolean],
    /// Starts an interface.
    Up "up" ["interface" Text],
    /// Takes an interface down.
    Down "down" ["interface" Text, "reason" Text],
    /// Deletes a key file.
    KeyDelete "key_delete" ["file" Text],
    /// Writes an .ovpn file, or a section that is made of it.
    ProfileImport "profile_import" ["name" Text, "text" Text, "make" Text, "user" Text, "password" Text, "overwrite" Boolean],
    /// Makes a certificate authority and a server's files.
    CaInit "ca_init" ["interface" Text, "names" Text, "years" Integer],
    /// Certificates that were issued.
    CaList "ca_list" ["interface" Text],
    /// Revokes a client's certificate.
    CaRevoke "ca_revoke" ["interface" Text, "client" Text],
    /// Deletes an authority and all of its files.
    CaDelete "ca_delete" ["interface" Text],
    /// Makes a client's certificate and its profile.
    ProfileExport "profile_export" ["interface" Text, "client" Text, "remote" Text, "years" Integer, "renew" Boolean],
    /// Users of a server.
    UserList "user_list" ["file" Text],
    /// Adds a user, or changes the password of one.
    UserSet "user_set" ["file" Text, "user" Text, "password" Text],
    /// Removes a user.
    UserDel "user_del" ["file" Text, "user" Text],
    /// Has a tunnel started, by netifd where it is.
    Start "start" ["interface" Text],
    /// Has a tunnel stopped, the same way.
    Stop "stop" ["interface" Text],
    /// Reads the configuration again.
    Reload "reload" ["discard" Boolean, "resolve" Boolean],
    /// Faults, present or coming.
    Diag "diag" ["interface" Text],
    /// The findings of an .ovpn file.
    Lint "lint" ["text" Text],
}

/// The connection, whether there is one or not.
#[derive(Debug)]
pub struct Bus {
    path: String,
    connection: Option<Connection>,
    retry: Retry,
    /// Said once per outage, not at every attempt.
    complained: bool,
    events_lost: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    deadline: Instant,
    /// Calls to others whose objects the broker is asked for.
    calls: Vec<Outgoing>,
    next_lookup: u16,
}

/// A call to another's object.
#[derive(Debug)]
struct Outgoing {
    lookup: u16,
    object: &'static str,
    method: &'static str,
    args: Value,
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
            events_lost: 0,
        }
    }

    /// A bus on a connection that exists already.
    pub fn on(stream: UnixStream, now: Instant) -> Self {
        Self {
            connection: Some(Connection::new(stream, now)),
            ..Self::new(String::new())
        }
    }

    /// The socket to poll, and whether there is something to send.
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
    pub fn reply(&mut self, to: Caller, reply: &Reply, now: Instant) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Err(why) = connection
            .reply(to, reply)
            .and_then(|()| connection.flush())
        {
            self.lost(&why, now);
        }
    }

    /// Whether calls come and go.
    pub fn is_serving(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| matches!(connection.phase, Phase::Serving(_)))
    }

    /// Calls a method of another's object. Nothing is heard of it but a log line when it fails; without a broker it is
    /// forgotten.
    pub fn call(&mut self, object: &'static str, method: &'static str, args: Value, now: Instant) {
        let serving = self.is_serving();
        let Some(connection) = self.connection.as_mut().filter(|_| serving) else {
            return;
        };
        if let Err(why) = connection
            .look_up(object, method, args)
            .and_then(|()| connection.flush())
        {
            self.lost(&why, now);
        }
    }

    /// Events that were not queued because the broker did not read those before.
    pub fn events_lost(&self) -> u64 {
        self.events_lost
    }

    /// Tells subscribers of the object, and listeners to the event `ovpnd.NAME`.
    pub fn notify(&mut self, name: &str, data: &Value, now: Instant) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let told = connection.notify(name, data).and_then(|told| {
            self.events_lost += u64::from(!told);
            connection.flush()
        });
        if let Err(why) = told {
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
            calls: Vec::new(),
            next_lookup: LOOKUP_SEQ,
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
            while let Some(frame) = next_frame(&mut self.input)? {
                calls.extend(self.take(&frame)?);
            }
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<Option<Call>, String> {
        let message = InboundMsg::parse(frame).map_err(|error| error.to_string())?;
        match (self.phase, message) {
            (Phase::Greeting, InboundMsg::Hello { .. }) => {
                let mut signature = BlobBuilder::new();
                for method in Method::ALL {
                    signature.open_table(Some(method.name()));
                    for (name, kind) in method.policy() {
                        signature.put_i32(Some(name), *kind as i32);
                    }
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
                    data,
                },
            ) => {
                let Some(peer) = PeerId::new(peer) else {
                    return Ok(None);
                };
                let from = Caller { seq, peer };
                let known = Method::ALL.iter().find(|known| known.name() == method);
                let status = match known {
                    _ if obj_id != id => Status::NotFound,
                    None => Status::MethodNotFound,
                    Some(method) => {
                        // Checked here and told by the method, which knows what it wants.
                        let args = blobmsg_to_json(data.unwrap_or_default()).ok();
                        return Ok(Some(Call {
                            method: *method,
                            args,
                            from,
                        }));
                    }
                };
                self.reply(from, &Reply { status, data: None })?;
                Ok(None)
            }
            (
                Phase::Serving(_),
                InboundMsg::Data {
                    seq,
                    obj_id: Some(id),
                    ..
                },
            ) if seq >= LOOKUP_SEQ => {
                self.found(seq, id)?;
                Ok(None)
            }
            (Phase::Serving(_), InboundMsg::Status { seq, status, .. }) => {
                let missing = self.calls.iter().position(|call| call.lookup == seq);
                if let Some(call) = missing.map(|at| self.calls.remove(at)) {
                    log::debug!("ubus: {} is not there, status {status}", call.object);
                } else if seq == CALL_SEQ && status != ubus::wire::UBUS_STATUS_OK {
                    log::warn!("ubus: a call to netifd failed, status {status}");
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Asks the broker for the number of an object, which a call needs.
    fn look_up(
        &mut self,
        object: &'static str,
        method: &'static str,
        args: Value,
    ) -> Result<(), String> {
        if self.calls.len() >= MAX_CALLS {
            return Err("the broker does not tell where objects are".into());
        }
        let lookup = self.next_lookup;
        self.next_lookup = lookup.checked_add(1).unwrap_or(LOOKUP_SEQ);
        self.calls.push(Outgoing {
            lookup,
            object,
            method,
            args,
        });
        self.send(OutboundMsg::Lookup { obj_path: object }.into_frame(lookup))
    }

    /// Makes the call that waited for this object's number.
    fn found(&mut self, lookup: u16, id: u32) -> Result<(), String> {
        let waiting = self.calls.iter().position(|call| call.lookup == lookup);
        let Some(call) = waiting.map(|at| self.calls.remove(at)) else {
            return Ok(());
        };
        let (Some(obj_id), Ok(args)) = (ObjId::new(id), json_to_blobmsg(&call.args)) else {
            return Ok(());
        };
        let invoke = OutboundMsg::Invoke {
            obj_id,
            method: call.method,
            args: &args,
        };
        self.send(invoke.into_frame(CALL_SEQ))
    }

    fn reply(&mut self, to: Caller, reply: &Reply) -> Result<(), String> {
        let Phase::Serving(id) = self.phase else {
            return Ok(());
        };
        let Caller { seq, peer } = to;
        let mut status = reply.status;
        match reply.data.as_ref().map(Data::blob).transpose() {
            Ok(Some(data)) if data.contents().len() < MAX_FRAME - 64 => self.send(
                OutboundMsg::DataReply {
                    peer,
                    obj_id: Some(id),
                    data: &data,
                }
                .into_frame(seq),
            )?,
            Ok(None) => {}
            Ok(Some(_)) => {
                log::error!("ubus: the answer is longer than a message can be");
                status = Status::UnknownError;
            }
            Err(error) => {
                log::error!("ubus: answer cannot be encoded: {error}");
                status = Status::UnknownError;
            }
        }
        self.send(
            OutboundMsg::Status {
                peer,
                obj_id: Some(id),
                status: status as i32,
            }
            .into_frame(seq),
        )
    }

    /// Queues a notification. False when the broker is too far behind for it.
    fn notify(&mut self, name: &str, data: &Value) -> Result<bool, String> {
        let Phase::Serving(id) = self.phase else {
            return Ok(true);
        };
        if self.output.len() > MAX_NOTICE_BACKLOG {
            return Ok(false);
        }
        let event = json!({ "id": format!("{OBJECT}.{name}"), "data": data });
        let (Ok(data), Ok(event)) = (json_to_blobmsg(data), json_to_blobmsg(&event)) else {
            return Ok(true);
        };
        let mut notice = EnvBuilder::new();
        notice.push_u32(UbusAttr::ObjId, id.get());
        notice.push_str(UbusAttr::Method, name);
        // Subscribers owe no answer.
        notice.push_u8(UbusAttr::NoReply, 1);
        notice.push_data(data.contents());
        self.send(Frame::to_peer(
            MsgType::Notify,
            NOTICE_SEQ,
            id.get(),
            notice.finish(),
        ))?;
        let mut send = EnvBuilder::new();
        send.push_u32(UbusAttr::ObjId, EVENT_OBJECT);
        send.push_str(UbusAttr::Method, "send");
        send.push_data(event.contents());
        self.send(Frame::to_peer(
            MsgType::Invoke,
            NOTICE_SEQ,
            EVENT_OBJECT,
            send.finish(),
        ))?;
        Ok(true)
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
        if self.output.is_empty() {
            self.output.shrink_to(KEPT);
        }
        Ok(())
    }
}

/// Takes the next whole frame off the input.
///
/// # Errors
/// A sentence about input that is no frame, or is longer than [`MAX_FRAME`].
pub(crate) fn next_frame(input: &mut Vec<u8>) -> Result<Option<Frame>, String> {
    // The codec takes a header alone for a frame, which cannot be told from the first piece of one. Brokers
    // send at least an empty envelope of 4 bytes after it.
    if input.len() < HEADER_SIZE + 4 {
        return Ok(None);
    }
    match Codec::read_frame(input) {
        Ok((frame, len)) => {
            input.drain(..len);
            if input.is_empty() {
                input.shrink_to(KEPT);
            }
            Ok(Some(frame))
        }
        Err(UbusError::Short { need, .. }) if need > MAX_FRAME + HEADER_SIZE => {
            Err("a frame is too long".into())
        }
        Err(UbusError::Short { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
