// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `ovpn` family's requests.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};
use crate::event::Monitor;
use crate::family::{FAMILY, GROUP, IFINDEX, KEYCONF, PEER, SCHEMA, find};
use crate::genl::{Family, genl_request};
use crate::key::{KeyAttrs, KeyInfo, NewKey, write_key_name};
use crate::peer::{self, PeerAttrs, PeerInfo, PeerParams, write_peer};
use crate::socket::{Request, Socket};
use crate::types::{PeerId, Slot};
use crate::wire::{GENL_HEADER_LEN, Writer};

/// Asks for the answers of kmod-ovpn/uapi/ovpn-ext.yaml; mainline's driver does not look at it.
const VERSION: u8 = 0x80;

/// Commands of the family, `OVPN_CMD_*`. The three gaps (5, 9, 11) are notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods of Ovpn describe them")]
pub enum Command {
    PeerNew = 1,
    PeerSet = 2,
    PeerGet = 3,
    PeerDel = 4,
    KeyNew = 6,
    KeyGet = 7,
    KeySwap = 8,
    KeyDel = 10,
    /// Of this project's driver alone (`kmod-ovpn/uapi/ovpn-ext.yaml`).
    DevHold = 0x80,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::PeerNew => "PEER_NEW",
            Self::PeerSet => "PEER_SET",
            Self::PeerGet => "PEER_GET",
            Self::PeerDel => "PEER_DEL",
            Self::KeyNew => "KEY_NEW",
            Self::KeyGet => "KEY_GET",
            Self::KeySwap => "KEY_SWAP",
            Self::KeyDel => "KEY_DEL",
            Self::DevHold => "DEV_HOLD",
        }
    }
}

/// A connection to the driver. Every request needs CAP_NET_ADMIN and concerns the interface with index
/// `ifindex` in the network namespace the connection was opened in.
///
/// No method waits. Every method fails with [`Error::Refused`] when the kernel refuses.
#[derive(Debug)]
pub struct Ovpn {
    socket: Socket,
    family: Family,
}

impl Ovpn {
    /// Connects. The kernel loads the module if it can.
    ///
    /// # Errors
    /// [`Error::NoFamily`] when the driver is not there.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open(libc::NETLINK_GENERIC)?;
        let family = Family::resolve(&mut socket, FAMILY)?;
        Ok(Self { socket, family })
    }

    /// Whether the driver is still the one that was there when this was opened. Another load of its module has other
    /// numbers: requests fail then, notifications stay away, and a new connection is needed.
    pub fn is_current(&mut self) -> bool {
        self.family.is_current(&mut self.socket, FAMILY)
    }

    /// Opens a second socket, on which the driver's notifications arrive.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::open(self.family.id, self.family.group(GROUP)?)
    }

    /// Adds a peer that talks over `socket`, a bound UDP or connected TCP socket. The kernel keeps the
    /// socket only as long as a process has it open: closing the last descriptor deletes the peer.
    ///
    /// Keepalive values are set by a second request. In Linux up to 7.2 those of PEER_NEW may never take
    /// effect: their timer can run out before the peer is listed, and is then not started again.
    ///
    /// # Errors
    /// `EEXIST` (MP: the id is in use), `EADDRINUSE` (VPN address in use), `ENOTSOCK` (the socket cannot be
    /// used, with the cause in the text), `EINVAL` (contradictory parameters), `ENODEV`.
    pub fn peer_new(
        &mut self,
        ifindex: u32,
        id: PeerId,
        socket: BorrowedFd<'_>,
        params: &PeerParams,
    ) -> Result<()> {
        self.peer_do(Command::PeerNew, ifindex, |w| {
            write_peer(w, id, Some(socket), params)
        })?;
        if params.keepalive.is_none() {
            return Ok(());
        }
        let again = PeerParams {
            keepalive: params.keepalive,
            ..PeerParams::default()
        };
        self.peer_set(ifindex, id, &again)
    }

    /// Changes a peer.
    ///
    /// # Errors
    /// `ENOENT` (no such peer), `EINVAL`, `EADDRINUSE`, `ENODEV`.
    pub fn peer_set(&mut self, ifindex: u32, id: PeerId, params: &PeerParams) -> Result<()> {
        self.peer_do(Command::PeerSet, ifindex, |w| {
            write_peer(w, id, None, params)
        })
    }

    /// Deletes a peer.
    ///
    /// # Errors
    /// `ENOENT` (no such peer), `ENODEV`.
    pub fn peer_del(&mut self, ifindex: u32, id: PeerId) -> Result<()> {
        self.peer_do(Command::PeerDel, ifindex, |w| w.put_u32(peer::ID, id.get()))
    }

    fn peer_do(
        &mut self,
        command: Command,
        ifindex: u32,
        fill: impl FnOnce(&mut Writer) -> &mut Writer,
    ) -> Result<()> {
        let mut request = self.request(command, ifindex);
        request.body.nest(PEER, fill);
        self.socket.call(&request, &mut |_| Ok(()))
    }

    /// Ties an interface to this connection: it is deleted soon after the connection closes, however the
    /// process ends. Once more on the same connection changes nothing.
    ///
    /// # Errors
    /// `EBUSY` (another connection holds it), `EOPNOTSUPP` (the mainline driver), `ENODEV`.
    pub fn hold(&mut self, ifindex: u32) -> Result<()> {
        let request = self.request(Command::DevHold, ifindex);
        self.socket.call(&request, &mut |_| Ok(()))
    }

    /// Describes one peer.
    ///
    /// # Errors
    /// `ENOENT` (no such peer), `ENODEV`.
    pub fn peer_get(&mut self, ifindex: u32, id: PeerId) -> Result<PeerInfo> {
        let mut request = self.request(Command::PeerGet, ifindex);
        request.body.nest(PEER, |w| w.put_u32(peer::ID, id.get()));
        let mut info = None;
        self.socket.call(&request, &mut |message| {
            info = read_peer(message.payload)?;
            Ok(())
        })?;
        info.ok_or(Error::NoAnswer(request.operation))
    }

    /// Describes all peers of an interface, in the kernel's order.
    ///
    /// # Errors
    /// `ENODEV`, [`Error::DumpInterrupted`].
    pub fn peers(&mut self, ifindex: u32) -> Result<Vec<PeerInfo>> {
        let request = self.request(Command::PeerGet, ifindex);
        self.socket
            .dump(&request, &mut |message| read_peer(message.payload))
    }

    /// Installs a key, in place of the one in its slot.
    ///
    /// # Errors
    /// `ENOENT` (no such peer), `EINVAL` (key length and cipher do not fit), `ENODEV`.
    pub fn key_new(&mut self, ifindex: u32, key: &NewKey) -> Result<()> {
        self.key_do(Command::KeyNew, ifindex, |w| key.write(w))
    }

    /// Makes the secondary key primary and the other way round; empty slots swap too.
    ///
    /// # Errors
    /// `ENOENT` (no such peer), `ENODEV`.
    pub fn key_swap(&mut self, ifindex: u32, peer: PeerId) -> Result<()> {
        self.key_do(Command::KeySwap, ifindex, |w| write_key_name(w, peer, None))
    }

    /// Deletes the key of a slot; that of an empty slot succeeds.
    ///
    /// # Errors
    /// `ENOENT` (no such peer), `ENODEV`.
    pub fn key_del(&mut self, ifindex: u32, peer: PeerId, slot: Slot) -> Result<()> {
        self.key_do(Command::KeyDel, ifindex, |w| {
            write_key_name(w, peer, Some(slot))
        })
    }

    fn key_do(
        &mut self,
        command: Command,
        ifindex: u32,
        fill: impl FnOnce(&mut Writer) -> &mut Writer,
    ) -> Result<()> {
        let mut request = self.request(command, ifindex);
        request.body.nest(KEYCONF, fill);
        self.socket.call(&request, &mut |_| Ok(()))
    }

    /// Describes the key of a slot, without its secrets.
    ///
    /// # Errors
    /// `ENOENT` (no such peer, or the slot is empty), `ENODEV`.
    pub fn key_get(&mut self, ifindex: u32, peer: PeerId, slot: Slot) -> Result<KeyInfo> {
        let mut request = self.request(Command::KeyGet, ifindex);
        request
            .body
            .nest(KEYCONF, |w| write_key_name(w, peer, Some(slot)));
        let mut info = None;
        self.socket.call(&request, &mut |message| {
            if let Some(nest) = find(message.payload, KEYCONF)? {
                info = Some(KeyAttrs::parse(nest.nested())?.into_info()?);
            }
            Ok(())
        })?;
        info.ok_or(Error::NoAnswer(request.operation))
    }

    /// Sends attributes as they are, and returns the attributes of each message of the answer. For what
    /// this library does not know yet, and for tests of the driver's checks.
    ///
    /// # Errors
    /// As every request.
    pub fn raw(
        &mut self,
        command: Command,
        dump: bool,
        attributes: Writer,
    ) -> Result<Vec<Vec<u8>>> {
        let mut request = genl_request(
            command.name(),
            self.family.id,
            command as u8,
            VERSION,
            &SCHEMA,
        );
        request.body.raw(&attributes.finish()?);
        let attributes =
            |payload: &[u8]| payload.get(GENL_HEADER_LEN..).unwrap_or_default().to_vec();
        if dump {
            return self.socket.dump(&request, &mut |message| {
                Ok(Some(attributes(message.payload)))
            });
        }
        let mut answer = Vec::new();
        self.socket.call(&request, &mut |message| {
            answer.push(attributes(message.payload));
            Ok(())
        })?;
        Ok(answer)
    }

    fn request(&self, command: Command, ifindex: u32) -> Request {
        let mut request = genl_request(
            command.name(),
            self.family.id,
            command as u8,
            VERSION,
            &SCHEMA,
        );
        request.body.put_u32(IFINDEX, ifindex);
        request
    }
}

fn read_peer(payload: &[u8]) -> Result<Option<PeerInfo>> {
    match find(payload, PEER)? {
        Some(nest) => PeerAttrs::parse(nest.nested())?.into_info().map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PEER_GET answer: genl header, then the peer nest.
    fn answer(fill: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&[Command::PeerGet as u8, VERSION, 0, 0])
            .nest(PEER, fill);
        w.as_bytes().to_vec()
    }

    #[test]
    fn counters_of_either_width_are_read() {
        let payload = answer(|w| {
            w.put_u32(1, 4)
                .put(16, &(1u64 << 40).to_ne_bytes())
                .put(17, &9u32.to_ne_bytes());
            w.put(22, &3u32.to_ne_bytes())
                .put(2, &[192, 0, 2, 7])
                .put_be16(5, 1194)
                .put_be16(12, 1195)
        });
        let peer = read_peer(&payload).unwrap().unwrap();
        assert_eq!(
            (peer.vpn.rx_bytes, peer.vpn.tx_bytes, peer.link.rx_packets),
            (1 << 40, 9, 3)
        );
        assert_eq!(peer.remote, Some("192.0.2.7:1194".parse().unwrap()));
        assert_eq!(peer.local_port, Some(1195));
    }

    #[test]
    fn an_answer_without_a_peer_is_none_and_a_broken_one_an_error() {
        assert!(read_peer(&[3, 1, 0, 0]).unwrap().is_none());
        assert!(read_peer(&[]).unwrap().is_none());
        assert!(read_peer(&answer(|w| w.put(1, &[1, 2]))).is_err());
    }

    #[test]
    fn live_a_kernel_without_the_driver_is_said_to_lack_it() {
        match Ovpn::open() {
            Ok(ovpn) => assert_ne!(ovpn.family.id, 0),
            Err(error) => assert!(matches!(error, Error::NoFamily(FAMILY)), "{error}"),
        }
    }
}
