// SPDX-License-Identifier: GPL-2.0-only
//! A peer in user space at the end of a TCP stream. Each packet stands behind its length in 16 bits (OpenVPN,
//! src/openvpn/socket.h: packet_size_type).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::lab::soft::{INNER_PORT, LIMIT};
use crate::lab::tunnel::PORT;
use crate::lab::{Cipher, End, Ns, Outer, Pair, Soft, Tunnel, patience};
use crate::nl::ovpn::PRIMARY;
use crate::tap::{During, Failure, Outcome};
use crate::wire::{self, DATA_V2, Header};

/// A connection from `b` to `a`: `a`'s socket and `b`'s.
pub fn tcp_pair(a: &Ns, b: &Ns, v6: bool) -> Outcome<(TcpStream, TcpStream)> {
    let address = SocketAddr::new(Pair::outer(v6, 1), PORT);
    let listener = a
        .enter(|| Ok(TcpListener::bind(address)?))
        .during("listen")?;
    let far = b
        .enter(|| Ok(TcpStream::connect(address)?))
        .during("connect")?;
    let (near, _) = listener.accept().during("accept")?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT * patience()))?;
    }
    Ok((near, far))
}

/// The peer.
pub struct SoftStream {
    /// Its end of the stream.
    pub stream: TcpStream,
    cipher: Cipher,
    /// Number of the key it sends with.
    pub key: u8,
    peer_id: u32,
    next_id: u32,
}

/// The driver's end and the soft one, with a socket inside the tunnel. Key number 1.
pub struct StreamTunnel {
    /// The driver's end; its stream is what a process would read control packets from.
    pub a: End,
    /// The other end.
    pub soft: SoftStream,
    /// A UDP socket on the driver's inner address.
    pub inner: UdpSocket,
    /// The namespace of the soft end, which lives as long as this.
    _ns: Ns,
}

/// A packet behind its length.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

impl SoftStream {
    /// The next data packet behind its length.
    pub fn data(&mut self, plain: &[u8]) -> Outcome<Vec<u8>> {
        let header = Header {
            opcode: DATA_V2,
            key_id: self.key & 7,
            peer_id: self.peer_id,
            packet_id: self.next_id,
        };
        self.next_id += 1;
        let dir = self.cipher.dir(self.key, false);
        Ok(framed(&wire::seal(self.cipher, &dir, header, plain)?))
    }

    /// Writes bytes as they are.
    pub fn write(&self, bytes: &[u8]) -> Outcome {
        (&self.stream).write_all(bytes).during("writing the stream")
    }

    /// Reads a whole packet; `None` at the end of the stream.
    pub fn packet(&self) -> Outcome<Option<Vec<u8>>> {
        let mut length = [0; 2];
        match (&self.stream).read_exact(&mut length) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other.during("nothing reached the other end")?,
        }
        let mut packet = vec![0; u16::from_be_bytes(length).into()];
        (&self.stream)
            .read_exact(&mut packet)
            .during("half a packet")?;
        Ok(Some(packet))
    }

    /// Reads a data packet and decrypts it.
    pub fn recv(&self) -> Outcome<(Header, Vec<u8>)> {
        let packet = self.packet()?;
        let packet = packet.ok_or_else(|| Failure::new("the stream has ended"))?;
        wire::open(self.cipher, &self.cipher.dir(1, true), &packet)
    }
}

impl StreamTunnel {
    /// The driver's end is up.
    pub fn new(cipher: Cipher, outer: Outer) -> Outcome<Self> {
        let Pair { a, b: ns } = Pair::new()?;
        let mut a = End::new(a, true, outer)?;
        let (near, far) = tcp_pair(&a.ns, &ns, outer.is_v6())?;
        a.stream = Some(near);
        a.add_peer()?;
        a.add_key(PRIMARY, cipher, 1)?;
        a.up(None)?;
        let address = SocketAddr::new(Tunnel::inner(false, 1), INNER_PORT);
        let inner =
            a.ns.enter(|| Ok(UdpSocket::bind(address)?))
                .during("inner socket")?;
        inner.set_read_timeout(Some(LIMIT * patience()))?;
        let soft = SoftStream {
            stream: far,
            cipher,
            key: 1,
            peer_id: a.id,
            next_id: 1,
        };
        Ok(Self {
            a,
            soft,
            inner,
            _ns: ns,
        })
    }

    /// The driver's end of the stream as its process sees it.
    pub fn user(&self) -> Outcome<&TcpStream> {
        let stream = self.a.stream.as_ref();
        stream.ok_or_else(|| Failure::new("the stream is closed"))
    }

    /// Sends a datagram from inside the driver's end.
    pub fn push(&self, text: &[u8]) -> Outcome {
        self.inner
            .send_to(text, SocketAddr::new(Tunnel::inner(false, 2), INNER_PORT))?;
        Ok(())
    }

    /// Demands that this text arrives next at the inner socket.
    pub fn expect(&self, text: &[u8]) -> Outcome {
        let mut buffer = [0; 4096];
        let n = self
            .inner
            .recv(&mut buffer)
            .during("nothing came out of the tunnel")?;
        crate::check_eq!(
            buffer.get(..n).unwrap_or_default(),
            text,
            "text that came out of the tunnel"
        );
        Ok(())
    }

    /// One packet each way.
    pub fn works(&mut self) -> Outcome {
        let there = self.soft.data(&Soft::datagram(b"there"))?;
        self.soft.write(&there)?;
        self.expect(b"there")?;
        self.push(b"back")?;
        let (_, plain) = self.soft.recv()?;
        crate::check!(plain.ends_with(b"back"), "the stream carried {plain:02x?}");
        Ok(())
    }
}

/// Events that poll(2) reports now, or waits for.
pub fn poll(socket: BorrowedFd<'_>, wanted: i16, limit: Duration) -> Outcome<i16> {
    let mut entry = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: wanted,
        revents: 0,
    };
    let limit = (limit * patience()).as_millis() as i32;
    // SAFETY: one entry, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut entry, 1, limit) };
    crate::check!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
    Ok(entry.revents)
}
