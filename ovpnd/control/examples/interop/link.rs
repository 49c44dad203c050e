// SPDX-License-Identifier: MIT OR Apache-2.0
//! A UDP socket or a TCP connection to one peer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

pub(crate) enum Link {
    Udp(UdpSocket, Option<SocketAddr>),
    Tcp(TcpStream, SocketAddr, Vec<u8>),
}

impl Link {
    pub(crate) fn connect(proto: &str, addr: &str) -> io::Result<Self> {
        if proto == "tcp" {
            return Self::tcp(TcpStream::connect(addr)?);
        }
        let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
        let to: SocketAddr = addr.parse().map_err(io::Error::other)?;
        let to = match to {
            SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            v6 => v6,
        };
        Ok(Self::Udp(socket, Some(to)))
    }

    pub(crate) fn listen(proto: &str, addr: &str) -> io::Result<Self> {
        match proto {
            "tcp" => Self::tcp(TcpListener::bind(addr)?.accept()?.0),
            _ => Ok(Self::Udp(UdpSocket::bind(addr)?, None)),
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(Self::Tcp(stream, peer, Vec::new()))
    }

    pub(crate) fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket, Some(to)) => match socket.send_to(packet, *to) {
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                result => result.map(drop),
            },
            Self::Udp(_, None) => Ok(()),
            Self::Tcp(stream, ..) => {
                let len = u16::try_from(packet.len()).map_err(io::Error::other)?;
                stream.write_all(&[&len.to_be_bytes(), packet].concat())
            }
        }
    }

    /// The next packet, if one comes within `wait`.
    pub(crate) fn receive(&mut self, wait: Duration) -> io::Result<Option<(SocketAddr, Vec<u8>)>> {
        let mut buffer = [0; 4096];
        match self {
            Self::Udp(socket, peer) => {
                socket.set_read_timeout(Some(wait))?;
                match socket.recv_from(&mut buffer) {
                    Ok((len, from)) => {
                        peer.get_or_insert(from);
                        Ok(Some((from, buffer[..len].to_vec())))
                    }
                    Err(_) => Ok(None),
                }
            }
            Self::Tcp(stream, peer, waiting) => {
                if let Some(packet) = frame(waiting) {
                    return Ok(Some((*peer, packet)));
                }
                stream.set_read_timeout(Some(wait))?;
                match stream.read(&mut buffer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(len) => waiting.extend(&buffer[..len]),
                    Err(_) => {}
                }
                Ok(frame(waiting).map(|packet| (*peer, packet)))
            }
        }
    }
}

fn frame(waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (len, rest) = waiting.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes(*len));
    let packet = rest.get(..len)?.to_vec();
    waiting.drain(..2 + len);
    Some(packet)
}
