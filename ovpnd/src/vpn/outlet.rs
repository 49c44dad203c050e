// SPDX-License-Identifier: GPL-2.0-or-later
//! Ways for packets to the other side.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::stream::Writer;

/// The way of a client's packets. One that cannot be sent is sent again by the control channel, as one that is lost.
#[derive(Debug)]
pub(super) enum Outlet {
    Udp(UdpSocket, SocketAddr),
    Tcp(Arc<Writer>),
}

impl Outlet {
    pub(super) fn send(&self, packet: &[u8]) {
        match self {
            Self::Udp(socket, remote) => drop(socket.send_to(packet, remote)),
            Self::Tcp(writer) => writer.send(packet),
        }
    }
}
