// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notifications of the driver: the multicast group `peers`.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::error::{Error, Result};
use crate::family::{IFINDEX, KEYCONF, PEER, find};
use crate::key::KeyAttrs;
use crate::peer::{PeerAttrs, Totals};
use crate::socket::Socket;
use crate::types::{DelReason, KeyId, PeerId};
use crate::wire::{Messages, bytes_at};

// include/uapi/linux/ovpn.h
const PEER_DEL_NTF: u8 = 5;
const KEY_SWAP_NTF: u8 = 9;
const PEER_FLOAT_NTF: u8 = 11;

/// Bytes of events that may wait; at about 200 bytes each this holds the end of some thousand peers.
const EVENT_BUFFER: usize = 512 * 1024;

/// A notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer was deleted.
    PeerDel {
        /// Its interface.
        ifindex: u32,
        /// Its id.
        peer: PeerId,
        /// Why; `None` for a reason this library does not know.
        reason: Option<DelReason>,
        /// Its counters after its last packet; `None` from a driver that does not tell (mainline's).
        totals: Option<Totals>,
    },
    /// A key used up its packet ids and encrypts no more: install a new one.
    KeySwap {
        /// The interface.
        ifindex: u32,
        /// Whose key.
        peer: PeerId,
        /// Which key.
        key_id: KeyId,
    },
    /// An authenticated packet came from a new address; packets now go there.
    PeerFloat {
        /// The interface.
        ifindex: u32,
        /// The peer.
        peer: PeerId,
        /// Its new address.
        remote: SocketAddr,
    },
    /// A notification of a command this library does not know.
    Unknown {
        /// Its number.
        command: u8,
    },
    /// Events were lost because they were read too slowly: ask for the state with [`crate::Ovpn::peers`].
    Lost,
}

impl Event {
    /// Reads the payload of a message of the family.
    fn parse(payload: &[u8]) -> Result<Self> {
        let [command] =
            bytes_at(payload, 0).ok_or(Error::Malformed("notification without a command"))?;
        if ![PEER_DEL_NTF, KEY_SWAP_NTF, PEER_FLOAT_NTF].contains(&command) {
            return Ok(Self::Unknown { command });
        }
        let ifindex = find(payload, IFINDEX)?
            .ok_or(Error::Malformed("notification without an interface"))?
            .u32()?;
        let nest = if command == KEY_SWAP_NTF {
            KEYCONF
        } else {
            PEER
        };
        let nest = find(payload, nest)?
            .ok_or(Error::Malformed("notification without its subject"))?
            .nested();
        if command == KEY_SWAP_NTF {
            let (peer, key_id) = KeyAttrs::parse(nest)?.name()?;
            return Ok(Self::KeySwap {
                ifindex,
                peer,
                key_id,
            });
        }
        let subject = PeerAttrs::parse(nest)?;
        let peer = subject.id()?;
        if command == PEER_DEL_NTF {
            return Ok(Self::PeerDel {
                ifindex,
                peer,
                reason: subject.del_reason,
                totals: subject.totals(),
            });
        }
        let remote = subject
            .remote()
            .ok_or(Error::Malformed("float without an address"))?;
        Ok(Self::PeerFloat {
            ifindex,
            peer,
            remote,
        })
    }
}

/// A socket on which notifications arrive; poll it for readability.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    family: u16,
    queue: VecDeque<Event>,
}

impl Monitor {
    pub(crate) fn open(family: u16, group: u32) -> Result<Self> {
        let mut socket = Socket::open(libc::NETLINK_GENERIC)?;
        socket.subscribe(group, EVENT_BUFFER)?;
        Ok(Self {
            socket,
            family,
            queue: VecDeque::new(),
        })
    }

    /// The next notification, or `None` when none waits.
    ///
    /// # Errors
    /// When the socket fails or a notification cannot be read; the following ones can be read all the same.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            match self.socket.recv() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Event::Lost));
                }
                Err(error) => return Err(error.into()),
            }
            for message in Messages::new(self.socket.datagram()) {
                let message = message?;
                if message.header.kind == self.family {
                    self.queue.push_back(Event::parse(message.payload)?);
                }
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;
    use proptest::prelude::*;

    fn notification(
        command: u8,
        nest: u16,
        fill: impl FnOnce(&mut Writer) -> &mut Writer,
    ) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&[command, 1, 0, 0])
            .put_u32(IFINDEX, 4)
            .nest(nest, fill);
        w.as_bytes().to_vec()
    }

    fn peer(id: u32) -> PeerId {
        PeerId::new(id).unwrap()
    }

    #[test]
    fn each_notification_is_read() {
        let del = notification(PEER_DEL_NTF, PEER, |w| w.put_u32(15, 2).put_u32(1, 9));
        let expired = Event::PeerDel {
            ifindex: 4,
            peer: peer(9),
            reason: Some(DelReason::Expired),
            totals: None,
        };
        assert_eq!(Event::parse(&del).unwrap(), expired);

        let swap = notification(KEY_SWAP_NTF, KEYCONF, |w| {
            w.put_u32(1, 9).put(3, &6u16.to_ne_bytes())
        });
        let key_id = KeyId::new(6).unwrap();
        assert_eq!(
            Event::parse(&swap).unwrap(),
            Event::KeySwap {
                ifindex: 4,
                peer: peer(9),
                key_id
            }
        );

        let float = notification(PEER_FLOAT_NTF, PEER, |w| {
            let ip = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            w.put_u32(1, 9).put(3, &ip).put_u32(4, 2).put_be16(5, 1195)
        });
        let remote = "[fe80::1%2]:1195".parse().unwrap();
        assert_eq!(
            Event::parse(&float).unwrap(),
            Event::PeerFloat {
                ifindex: 4,
                peer: peer(9),
                remote
            }
        );
    }

    #[test]
    fn the_end_of_a_peer_comes_with_its_counters() {
        let end = |kinds: std::ops::RangeInclusive<u16>| {
            let del = notification(PEER_DEL_NTF, PEER, |w| {
                w.put_u32(15, 2).put_u32(1, 9);
                for kind in kinds {
                    // Large ones have eight bytes, the others four.
                    if kind == 16 {
                        w.put(kind, &(1u64 << 40).to_ne_bytes());
                    } else {
                        w.put_u32(kind, kind.into());
                    }
                }
                w
            });
            match Event::parse(&del).unwrap() {
                Event::PeerDel { totals, .. } => totals,
                other => panic!("{other:?}"),
            }
        };
        let totals = end(16..=23).unwrap();
        assert_eq!(totals.vpn.rx_bytes, 1 << 40);
        assert_eq!((totals.vpn.tx_packets, totals.link.tx_packets), (19, 23));
        // Some of them are no totals.
        assert_eq!(end(16..=22), None);
    }

    #[test]
    fn future_notifications_and_reasons_are_no_errors() {
        assert_eq!(
            Event::parse(&[77, 1, 0, 0]).unwrap(),
            Event::Unknown { command: 77 }
        );
        let del = notification(PEER_DEL_NTF, PEER, |w| w.put_u32(15, 99).put_u32(1, 9));
        assert_eq!(
            Event::parse(&del).unwrap(),
            Event::PeerDel {
                ifindex: 4,
                peer: peer(9),
                reason: None,
                totals: None
            }
        );
    }

    #[test]
    fn incomplete_notifications_are_errors() {
        for payload in [
            vec![],
            vec![PEER_DEL_NTF, 1, 0, 0],
            notification(PEER_DEL_NTF, KEYCONF, |w| w),
            notification(PEER_DEL_NTF, PEER, |w| w),
            notification(PEER_FLOAT_NTF, PEER, |w| w.put_u32(1, 9)),
            notification(KEY_SWAP_NTF, KEYCONF, |w| w.put_u32(1, 9).put_u32(3, 8)),
        ] {
            assert!(Event::parse(&payload).is_err(), "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(command in prop::sample::select(vec![5u8, 9, 11, 1]), rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let payload = [&[command, 1, 0, 0][..], &rest].concat();
            let _ = Event::parse(&payload);
        }
    }
}
