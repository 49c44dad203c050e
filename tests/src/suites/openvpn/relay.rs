// SPDX-License-Identifier: GPL-2.0-only
//! A NAT for one UDP client, which can be told to forget the port it used.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use crate::lab::Ns;
use crate::tap::{Failure, Outcome};

/// Milliseconds after which the thread looks for orders when no packet comes.
const PATROL: i32 = 20;

/// The NAT; its thread ends with it.
pub struct Relay {
    orders: Sender<UdpSocket>,
    v6: bool,
}

impl Relay {
    /// Passes on what comes to `port` of the namespace, from whomever, to `server`, and its answers back.
    pub fn start(ns: &Ns, v6: bool, port: u16, server: SocketAddr) -> Outcome<Self> {
        let (inside, outside) = (ns.udp(v6, port)?, ns.udp(v6, 0)?);
        for socket in [&inside, &outside] {
            socket.set_nonblocking(true)?;
        }
        let (orders, taken) = channel();
        thread::spawn(move || pass_on(&inside, outside, server, &taken));
        Ok(Self { orders, v6 })
    }

    /// Continues from another port; returns it.
    pub fn rebind(&self, ns: &Ns) -> Outcome<u16> {
        let socket = ns.udp(self.v6, 0)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        self.orders
            .send(socket)
            .map_err(|_| Failure::new("the NAT has ended"))?;
        Ok(port)
    }
}

fn pass_on(
    inside: &UdpSocket,
    mut outside: UdpSocket,
    server: SocketAddr,
    orders: &Receiver<UdpSocket>,
) {
    let mut client = None;
    let mut packet = [0; 65536];
    loop {
        match orders.try_recv() {
            Ok(socket) => outside = socket,
            Err(TryRecvError::Empty) => (),
            Err(TryRecvError::Disconnected) => return,
        }
        let mut wait = [inside, &outside].map(|socket| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: the array is as long as said and outlives the call; both sockets are open.
        unsafe { libc::poll(wait.as_mut_ptr(), wait.len() as libc::nfds_t, PATROL) };
        // A packet that cannot be sent on is lost, as in any network.
        while let Ok((len, from)) = inside.recv_from(&mut packet) {
            client = Some(from);
            let _ = outside.send_to(packet.get(..len).unwrap_or_default(), server);
        }
        while let Ok((len, _)) = outside.recv_from(&mut packet) {
            if let Some(client) = client {
                let _ = inside.send_to(packet.get(..len).unwrap_or_default(), client);
            }
        }
    }
}
