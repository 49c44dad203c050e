// SPDX-License-Identifier: GPL-2.0-only
//! A netlink socket: one request, its replies, the kernel's verdict with extended acknowledgement.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::lab::Ns;
use crate::nl::{Attrs, Msg, NLMSG_HDRLEN};
use crate::tap::{During, Failure, Outcome};

/// The kernel's refusal of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Positive errno.
    pub errno: i32,
    /// NLMSGERR_ATTR_MSG.
    pub text: Option<String>,
    /// NLMSGERR_ATTR_OFFS: where in the request the bad attribute starts.
    pub offset: Option<u32>,
    /// NLMSGERR_ATTR_MISS_TYPE: the attribute that is missing.
    pub miss_type: Option<u32>,
    /// NLMSGERR_ATTR_MISS_NEST: where the nest starts in which it is missing.
    pub miss_nest: Option<u32>,
}

/// A message received: its type, flags and what follows nlmsghdr.
#[derive(Debug, Clone)]
pub struct Reply {
    /// nlmsg_type.
    pub kind: u16,
    /// nlmsg_flags.
    pub flags: u16,
    /// Payload.
    pub body: Vec<u8>,
}

/// An AF_NETLINK socket of one namespace.
pub struct Sock {
    fd: OwnedFd,
    sequence: AtomicU32,
}

/// errno as people write it.
pub fn errno_name(errno: i32) -> String {
    const NAMES: [(i32, &str); 17] = [
        (0, "success"),
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::ENODEV, "ENODEV"),
        (libc::EINVAL, "EINVAL"),
        (libc::ERANGE, "ERANGE"),
        (libc::ENOTSOCK, "ENOTSOCK"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOBUFS, "ENOBUFS"),
        (libc::EMSGSIZE, "EMSGSIZE"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ENODATA, "ENODATA"),
    ];
    NAMES
        .iter()
        .find(|(n, _)| *n == errno)
        .map_or_else(|| format!("errno {errno}"), |(_, s)| (*s).to_owned())
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", errno_name(self.errno))?;
        if let Some(text) = &self.text {
            write!(f, " \"{text}\"")?;
        }
        for (name, value) in [
            ("offset", self.offset),
            ("miss_type", self.miss_type),
            ("miss_nest", self.miss_nest),
        ] {
            if let Some(value) = value {
                write!(f, " {name} {value}")?;
            }
        }
        Ok(())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal)
    }
}

fn check(ret: i64) -> Result<usize, Error> {
    usize::try_from(ret).map_err(|_| Error::last_os_error())
}

impl Sock {
    /// Opens a socket of this netlink protocol inside the namespace.
    pub fn open(ns: &Ns, protocol: i32) -> Outcome<Self> {
        ns.enter(|| {
            // SAFETY: plain socket call; the result is checked before use.
            let fd = unsafe {
                libc::socket(
                    libc::AF_NETLINK,
                    libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                    protocol,
                )
            };
            check(fd.into())?;
            // SAFETY: `fd` is a fresh descriptor that nothing else owns.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            let sock = Self {
                fd,
                sequence: AtomicU32::new(1),
            };
            sock.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32)?;
            sock.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32)?;
            sock.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(4 << 20))?;
            sock.timeout(Duration::from_secs(10))?;
            // SAFETY: all-zero is a valid sockaddr_nl.
            let mut addr: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            addr.nl_family = libc::AF_NETLINK as u16;
            // SAFETY: `addr` is a sockaddr_nl of the length given.
            check(
                unsafe {
                    libc::bind(
                        sock.fd.as_raw_fd(),
                        (&raw const addr).cast(),
                        size_of_val(&addr) as libc::socklen_t,
                    )
                }
                .into(),
            )?;
            Ok(sock)
        })
        .during("netlink socket")
    }

    fn option<T>(&self, level: i32, name: i32, value: &T) -> Outcome {
        // SAFETY: `value` is readable for its own size during the call.
        check(
            unsafe {
                libc::setsockopt(
                    self.fd.as_raw_fd(),
                    level,
                    name,
                    (&raw const *value).cast(),
                    size_of_val(value) as libc::socklen_t,
                )
            }
            .into(),
        )?;
        Ok(())
    }

    /// How long a receive may wait.
    pub fn timeout(&self, limit: Duration) -> Outcome {
        let micros = limit.as_micros().max(1);
        let time = libc::timeval {
            tv_sec: (micros / 1_000_000) as libc::time_t,
            tv_usec: (micros % 1_000_000) as libc::suseconds_t,
        };
        self.option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time)
    }

    /// Joins a multicast group.
    pub fn join(&self, group: u32) -> Outcome {
        self.option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
            .during("joining a netlink group")
    }

    fn send(&self, bytes: &[u8]) -> Outcome {
        // SAFETY: `bytes` is readable for its length.
        let sent =
            check(
                unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) }
                    as i64,
            )?;
        crate::check_eq!(sent, bytes.len(), "bytes sent");
        Ok(())
    }

    /// Messages of one datagram; `None` when the time is over.
    pub fn receive(&self) -> Outcome<Option<Vec<(u32, Reply)>>> {
        let mut buffer = vec![0u8; 65536];
        // SAFETY: `buffer` is writable for its length.
        let got = check(unsafe {
            libc::recv(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        } as i64);
        match got {
            Ok(n) => buffer.truncate(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e).during("netlink receive"),
        }
        Ok(Some(replies(&buffer)))
    }

    /// Bytes that may wait to be received, as the kernel charges them.
    pub fn receive_buffer(&self, bytes: i32) -> Outcome {
        // The kernel doubles what it is given.
        self.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(bytes / 2))
    }

    /// Sends a request and collects its replies until the acknowledgement or the end of the dump.
    ///
    /// The outer error is a failure of the test's own machinery, the inner one the kernel's refusal.
    pub fn request(&self, msg: &Msg) -> Outcome<Result<Vec<Reply>, Refusal>> {
        self.request_with(msg, || Ok(()))
    }

    /// Like [`Sock::request`], with something done after each datagram: the kernel makes the next part of a dump when the
    /// one before is fetched.
    pub fn request_with(
        &self,
        msg: &Msg,
        mut between: impl FnMut() -> Outcome,
    ) -> Outcome<Result<Vec<Reply>, Refusal>> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.send(&msg.finish(sequence))?;
        let mut replies = Vec::new();
        loop {
            let Some(batch) = self.receive()? else {
                return Err(Failure::new("the kernel did not answer a netlink request"));
            };
            between()?;
            for (_, reply) in batch.into_iter().filter(|(s, _)| *s == sequence) {
                let verdict = match i32::from(reply.kind) {
                    libc::NLMSG_ERROR => verdict(&reply, 4 + NLMSG_HDRLEN),
                    libc::NLMSG_DONE => verdict(&reply, 4),
                    _ => {
                        replies.push(reply);
                        continue;
                    }
                };
                return Ok(if verdict.errno == 0 {
                    Ok(replies)
                } else {
                    Err(verdict)
                });
            }
        }
    }

    /// Sends a request that the kernel may have no memory for: its verdict, unless that was lost.
    pub fn attempt(&self, msg: &Msg) -> Outcome<Option<Result<(), Refusal>>> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.attempt_raw(&msg.finish(sequence))
    }

    /// Sends bytes as they are and takes what the kernel answers: its last verdict, if there was one.
    pub fn attempt_raw(&self, bytes: &[u8]) -> Outcome<Option<Result<(), Refusal>>> {
        // SAFETY: `bytes` is readable for its length.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if let Err(e) = check(sent as i64) {
            // It has not come as far as to anybody who would answer.
            let errno = e.raw_os_error().unwrap_or(0);
            return Ok(Some(Err(Refusal {
                errno,
                ..Refusal::default()
            })));
        }
        let mut last = None;
        let mut errors = 0;
        loop {
            let mut buffer = [0u8; 65536];
            // SAFETY: `buffer` is writable for its length.
            let got = check(unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            } as i64);
            match got {
                Ok(n) => {
                    let verdicts = replies(buffer.get(..n).unwrap_or_default());
                    for (_, reply) in verdicts {
                        let verdict = match i32::from(reply.kind) {
                            libc::NLMSG_ERROR => verdict(&reply, 4 + NLMSG_HDRLEN),
                            libc::NLMSG_DONE => verdict(&reply, 4),
                            _ => continue,
                        };
                        last = Some(if verdict.errno == 0 {
                            Ok(())
                        } else {
                            Err(verdict)
                        });
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(last),
                // An answer was lost, and the socket says so once.
                Err(e) => {
                    errors += 1;
                    crate::check!(errors < 100, "netlink receive: {e}");
                }
            }
        }
    }

    /// Like [`Sock::request`], where a refusal is a failure.
    pub fn ok(&self, msg: &Msg) -> Outcome<Vec<Reply>> {
        Ok(self.request(msg)??)
    }
}

/// Messages of a datagram with their sequence numbers.
fn replies(mut rest: &[u8]) -> Vec<(u32, Reply)> {
    let mut replies = Vec::new();
    while let Some((header, _)) = rest.split_first_chunk::<NLMSG_HDRLEN>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = rest.get(NLMSG_HDRLEN..len) else {
            break;
        };
        replies.push((
            u32::from_ne_bytes([s0, s1, s2, s3]),
            Reply {
                kind: u16::from_ne_bytes([k0, k1]),
                flags: u16::from_ne_bytes([f0, f1]),
                body: body.to_vec(),
            },
        ));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    replies
}

/// Reads nlmsgerr or the end of a dump; `header` bytes precede the report's attributes (NETLINK_CAP_ACK: the request's
/// payload is not repeated).
fn verdict(reply: &Reply, header: usize) -> Refusal {
    let errno = reply
        .body
        .first_chunk::<4>()
        .map_or(0, |b| -i32::from_ne_bytes(*b));
    let report = Attrs::parse(reply.body.get(header..).unwrap_or_default());
    Refusal {
        errno,
        text: report.text(1),
        offset: report.u32(2),
        miss_type: report.u32(5),
        miss_nest: report.u32(6),
    }
}
