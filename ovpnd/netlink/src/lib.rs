// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drives the Linux kernel's OpenVPN data path, the module `ovpn`, over netlink.
//!
//! The kernel encrypts and moves packets; a program that speaks the control channel tells it which peers
//! there are, where they are and with which keys. This library is that program's side of it:
//!
//! * [`Ovpn`]: peers and keys, by the generic netlink family `ovpn`,
//! * [`Monitor`]: what the driver tells unasked (a peer expired, floated, or needs a new key),
//! * [`Rtnl`]: the interface itself, its addresses and routes.
//!
//! Nothing here waits, so all of it fits a poll loop; [`Monitor`] and [`LinkMonitor`] are polled for
//! readability. Refusals carry the kernel's text and the name of the attribute it objects to.
//!
//! ```no_run
//! use std::net::UdpSocket;
//! use std::os::fd::AsFd;
//! use ovpn_netlink::{Mode, Ovpn, PeerId, PeerParams, Rtnl};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ovpn = Ovpn::open()?;
//! let mut rtnl = Rtnl::open()?;
//! rtnl.link_new("vpn0", Mode::P2p)?;
//! let index = rtnl.link("vpn0")?.index;
//! let socket = UdpSocket::bind("0.0.0.0:1194")?; // keep it: the peer lives as long as it is open
//! let params = PeerParams { remote: Some("192.0.2.1:1194".parse()?), ..Default::default() };
//! ovpn.peer_new(index, PeerId::new(1).unwrap(), socket.as_fd(), &params)?;
//! rtnl.link_set_up(index, true)?;
//! # Ok(()) }
//! ```
//!
//! The numbers come from the kernel's `include/uapi/linux/ovpn.h`, `Documentation/netlink/specs/ovpn.yaml`
//! (Linux 7.2) and the rtnetlink headers.

mod client;
mod drops;
mod error;
mod event;
mod family;
mod genl;
mod key;
mod peer;
mod rtnl;
mod socket;
mod types;
mod way;
pub mod wire;

pub use client::{Command, Ovpn};
pub use drops::Dropped;
pub use error::{Error, Refusal, Result};
pub use event::{Event, Monitor};
pub use family::FAMILY;
pub use key::{KeyDir, KeyInfo, NONCE_TAIL_LEN, NewKey};
pub use peer::{Counters, PeerInfo, PeerParams, Totals};
pub use rtnl::{IpPrefix, Link, LinkEvent, LinkMonitor, MAX_NAME, Rtnl};
pub use types::{
    Cipher, CipherAlg, DelReason, KEEPALIVE_MAX, Keepalive, KeyId, Mode, PeerId, Slot, ValueError,
};
pub use way::Way;
