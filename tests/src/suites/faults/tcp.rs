// SPDX-License-Identifier: GPL-2.0-only
//! Tunnels over TCP.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::lab::{Cipher, Ns, Pair};
use crate::nl::link::Links;
use crate::nl::ovpn::{Ovpn, PRIMARY, cmd, peer, top};
use crate::tap::{During, Failure, Outcome};

/// A listening socket at the first address of a [`Pair`].
pub struct Listener {
    sock: TcpListener,
    to: SocketAddr,
}

impl Listener {
    pub fn new(ns: &Ns, v6: bool) -> Outcome<Self> {
        let to = SocketAddr::new(Pair::outer(v6, 1), 1194);
        let sock = ns.enter(|| Ok(TcpListener::bind(to)?)).during("listen")?;
        Ok(Self { sock, to })
    }

    /// A connection: the accepted end, and the one in `from`.
    pub fn connect(&self, from: &Ns) -> Outcome<(TcpStream, TcpStream)> {
        let far = from
            .enter(|| Ok(TcpStream::connect(self.to)?))
            .during("connect")?;
        let near = self.sock.accept().during("accept")?.0;
        // As OpenVPN has it; also, a writer must not wait for a reader that is the same thread.
        for sock in [&near, &far] {
            sock.set_nodelay(true)?;
        }
        Ok((near, far))
    }
}

/// Asks for a peer of a device in MP mode behind a stream; `vpn` is the last byte of its address in 10.8.0.0/24.
pub fn peer_new(
    nl: &Ovpn,
    ifindex: u32,
    (id, tx_id): (u32, u32),
    sock: &TcpStream,
    vpn: u8,
) -> Outcome {
    let mut msg = nl.msg(cmd::PEER_NEW, ifindex);
    msg.nest(top::PEER, |m| {
        m.u32(peer::ID, id)
            .u32(peer::SOCKET, sock.as_raw_fd() as u32)
            .u32(peer::TX_ID, tx_id)
            .put(peer::VPN_IPV4, &[10, 8, 0, vpn]);
    });
    nl.request(&msg)?.during("PEER_NEW over TCP").map(drop)
}

/// A P2P device with a peer behind a stream.
pub struct StreamEnd {
    pub nl: Ovpn,
    pub ifindex: u32,
    pub sock: TcpStream,
}

impl StreamEnd {
    /// Host `n` of the tunnel; `key` goes to the other end with `is_a` turned round.
    pub fn new(ns: &Ns, n: u8, sock: TcpStream, cipher: Cipher, key: u8) -> Outcome<Self> {
        Links::open(ns)?
            .create("tun", None)?
            .during("RTM_NEWLINK")?;
        let ifindex = ns
            .ifindex("tun")?
            .ok_or_else(|| Failure::new("the new link is not there"))?;
        let nl = Ovpn::open(ns)?;
        let is_a = n == 1;
        nl.peer_new(
            ifindex,
            key.into(),
            sock.as_raw_fd(),
            None,
            Some(key.into()),
        )?;
        nl.key_new(ifindex, key.into(), PRIMARY, &cipher.key(key, is_a))?;
        ns.ip(&format!(
            "link set tun addrgenmode none\nlink set tun up\naddr add 10.8.0.{n}/24 dev tun"
        ))?;
        Ok(Self { nl, ifindex, sock })
    }
}
