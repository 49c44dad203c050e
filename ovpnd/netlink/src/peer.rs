// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers: what is asked of the kernel (`PEER_NEW`, `PEER_SET`) and what it answers (`PEER_GET`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::drops::Dropped;
use crate::error::{Error, Result};
use crate::types::{DelReason, Keepalive, PeerId};
use crate::wire::{Attrs, Schema, Writer};

// include/uapi/linux/ovpn.h, OVPN_A_PEER_*
pub(crate) const ID: u16 = 1;
const REMOTE_IPV4: u16 = 2;
const REMOTE_IPV6: u16 = 3;
const REMOTE_IPV6_SCOPE_ID: u16 = 4;
const REMOTE_PORT: u16 = 5;
const SOCKET: u16 = 6;
const SOCKET_NETNSID: u16 = 7;
const VPN_IPV4: u16 = 8;
const VPN_IPV6: u16 = 9;
const LOCAL_IPV4: u16 = 10;
const LOCAL_IPV6: u16 = 11;
const LOCAL_PORT: u16 = 12;
const KEEPALIVE_INTERVAL: u16 = 13;
const KEEPALIVE_TIMEOUT: u16 = 14;
const DEL_REASON: u16 = 15;
const VPN_RX_BYTES: u16 = 16;
const VPN_TX_BYTES: u16 = 17;
const VPN_RX_PACKETS: u16 = 18;
const VPN_TX_PACKETS: u16 = 19;
const LINK_RX_BYTES: u16 = 20;
const LINK_TX_BYTES: u16 = 21;
const LINK_RX_PACKETS: u16 = 22;
const LINK_TX_PACKETS: u16 = 23;
const TX_ID: u16 = 24;
// kmod-ovpn/uapi/ovpn-ext.yaml
const DROPS: u16 = 0x80;
const LAST_SEEN: u16 = 0x81;

pub(crate) static PEER_SCHEMA: Schema = Schema {
    attrs: &[
        (ID, "id", None),
        (REMOTE_IPV4, "remote-ipv4", None),
        (REMOTE_IPV6, "remote-ipv6", None),
        (REMOTE_IPV6_SCOPE_ID, "remote-ipv6-scope-id", None),
        (REMOTE_PORT, "remote-port", None),
        (SOCKET, "socket", None),
        (SOCKET_NETNSID, "socket-netnsid", None),
        (VPN_IPV4, "vpn-ipv4", None),
        (VPN_IPV6, "vpn-ipv6", None),
        (LOCAL_IPV4, "local-ipv4", None),
        (LOCAL_IPV6, "local-ipv6", None),
        (LOCAL_PORT, "local-port", None),
        (KEEPALIVE_INTERVAL, "keepalive-interval", None),
        (KEEPALIVE_TIMEOUT, "keepalive-timeout", None),
        (DEL_REASON, "del-reason", None),
        (TX_ID, "tx-id", None),
    ],
};

/// Values that a peer can be given at birth and changed to later. `None` leaves a value as it is (or, at birth,
/// at the kernel's default).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerParams {
    /// Where its packets go: needed for UDP, refused for TCP.
    pub remote: Option<SocketAddr>,
    /// Source address of packets to it. Needs `remote` of the same family.
    pub local: Option<IpAddr>,
    /// Its address inside the tunnel. Needed in MP mode (one of the two), refused in P2P.
    pub vpn_ipv4: Option<Ipv4Addr>,
    /// Its address inside the tunnel.
    pub vpn_ipv6: Option<Ipv6Addr>,
    /// Both values at once, as the kernel demands.
    pub keepalive: Option<Keepalive>,
    /// The id that packets to this peer carry, when it differs from its own.
    pub tx_id: Option<PeerId>,
}

impl PeerParams {
    fn write<'w>(&self, w: &'w mut Writer) -> &'w mut Writer {
        match self.remote {
            Some(SocketAddr::V4(remote)) => {
                w.put(REMOTE_IPV4, &remote.ip().octets())
                    .put_be16(REMOTE_PORT, remote.port());
            }
            Some(SocketAddr::V6(remote)) => {
                w.put(REMOTE_IPV6, &remote.ip().octets());
                if remote.scope_id() != 0 {
                    w.put_u32(REMOTE_IPV6_SCOPE_ID, remote.scope_id());
                }
                w.put_be16(REMOTE_PORT, remote.port());
            }
            None => {}
        }
        match self.local {
            Some(IpAddr::V4(local)) => w.put(LOCAL_IPV4, &local.octets()),
            Some(IpAddr::V6(local)) => w.put(LOCAL_IPV6, &local.octets()),
            None => w,
        };
        if let Some(ip) = self.vpn_ipv4 {
            w.put(VPN_IPV4, &ip.octets());
        }
        if let Some(ip) = self.vpn_ipv6 {
            w.put(VPN_IPV6, &ip.octets());
        }
        if let Some(keepalive) = self.keepalive {
            w.put_u32(KEEPALIVE_INTERVAL, keepalive.interval)
                .put_u32(KEEPALIVE_TIMEOUT, keepalive.timeout);
        }
        if let Some(tx_id) = self.tx_id {
            w.put_u32(TX_ID, tx_id.get());
        }
        w
    }
}

/// Writes the attributes of `PEER_NEW` (with `socket`) and `PEER_SET` (without).
pub(crate) fn write_peer<'w>(
    w: &'w mut Writer,
    id: PeerId,
    socket: Option<BorrowedFd<'_>>,
    params: &PeerParams,
) -> &'w mut Writer {
    w.put_u32(ID, id.get());
    if let Some(socket) = socket {
        // A descriptor is never negative.
        w.put_u32(SOCKET, socket.as_raw_fd().unsigned_abs());
    }
    params.write(w)
}

/// Bytes and packets of one kind of traffic, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// Packets and bytes of a peer in all its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Traffic inside the tunnel.
    pub vpn: Counters,
    /// Encrypted traffic.
    pub link: Counters,
}

/// A peer as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its id.
    pub id: PeerId,
    /// The id that packets to it carry.
    pub tx_id: Option<PeerId>,
    /// Network namespace of its socket, when it is not that of the interface.
    pub socket_netnsid: Option<i32>,
    /// Address inside the tunnel.
    pub vpn_ipv4: Option<Ipv4Addr>,
    /// Address inside the tunnel.
    pub vpn_ipv6: Option<Ipv6Addr>,
    /// Keepalive values in seconds.
    pub keepalive: Keepalive,
    /// Where its packets go; none over TCP.
    pub remote: Option<SocketAddr>,
    /// Source address of packets to it.
    pub local: Option<IpAddr>,
    /// Port of its socket.
    pub local_port: Option<u16>,
    /// Traffic inside the tunnel.
    pub vpn: Counters,
    /// Encrypted traffic.
    pub link: Counters,
    /// Lost packets by reason, only those there are; `None` from a driver that does not tell (mainline's).
    pub drops: Option<Vec<Dropped>>,
    /// Time since its last authentic packet, known to the second; `None` before the first, or when not told.
    pub last_seen: Option<Duration>,
}

/// Every attribute of a peer nest, each optional; unknown ones are skipped.
#[derive(Debug, Default)]
pub(crate) struct PeerAttrs {
    pub(crate) id: Option<u32>,
    pub(crate) del_reason: Option<DelReason>,
    tx_id: Option<u32>,
    socket_netnsid: Option<i32>,
    remote_ipv4: Option<Ipv4Addr>,
    remote_ipv6: Option<Ipv6Addr>,
    scope_id: u32,
    remote_port: Option<u16>,
    vpn_ipv4: Option<Ipv4Addr>,
    vpn_ipv6: Option<Ipv6Addr>,
    local: Option<IpAddr>,
    local_port: Option<u16>,
    interval: u32,
    timeout: u32,
    vpn: Counters,
    link: Counters,
    /// How many of the eight counters are there.
    counters: u32,
    drops: Option<Vec<Dropped>>,
    last_seen: Option<u32>,
}

impl PeerAttrs {
    pub(crate) fn parse(attrs: Attrs<'_>) -> Result<Self> {
        let mut peer = Self::default();
        for attr in attrs {
            let attr = attr?;
            if (VPN_RX_BYTES..=LINK_TX_PACKETS).contains(&attr.kind) {
                peer.counters += 1;
            }
            match attr.kind {
                ID => peer.id = Some(attr.u32()?),
                TX_ID => peer.tx_id = Some(attr.u32()?),
                DEL_REASON => peer.del_reason = DelReason::from_raw(attr.u32()?),
                SOCKET_NETNSID => peer.socket_netnsid = Some(attr.i32()?),
                REMOTE_IPV4 => peer.remote_ipv4 = Some(attr.ipv4()?),
                REMOTE_IPV6 => peer.remote_ipv6 = Some(attr.ipv6()?),
                REMOTE_IPV6_SCOPE_ID => peer.scope_id = attr.u32()?,
                REMOTE_PORT => peer.remote_port = Some(attr.be16()?),
                VPN_IPV4 => peer.vpn_ipv4 = Some(attr.ipv4()?),
                VPN_IPV6 => peer.vpn_ipv6 = Some(attr.ipv6()?),
                LOCAL_IPV4 => peer.local = Some(attr.ipv4()?.into()),
                LOCAL_IPV6 => peer.local = Some(attr.ipv6()?.into()),
                LOCAL_PORT => peer.local_port = Some(attr.be16()?),
                KEEPALIVE_INTERVAL => peer.interval = attr.u32()?,
                KEEPALIVE_TIMEOUT => peer.timeout = attr.u32()?,
                VPN_RX_BYTES => peer.vpn.rx_bytes = attr.uint()?,
                VPN_TX_BYTES => peer.vpn.tx_bytes = attr.uint()?,
                VPN_RX_PACKETS => peer.vpn.rx_packets = attr.uint()?,
                VPN_TX_PACKETS => peer.vpn.tx_packets = attr.uint()?,
                LINK_RX_BYTES => peer.link.rx_bytes = attr.uint()?,
                LINK_TX_BYTES => peer.link.tx_bytes = attr.uint()?,
                LINK_RX_PACKETS => peer.link.rx_packets = attr.uint()?,
                LINK_TX_PACKETS => peer.link.tx_packets = attr.uint()?,
                DROPS => peer.drops = Some(Dropped::parse(attr.nested())?),
                LAST_SEEN => peer.last_seen = Some(attr.u32()?),
                _ => {}
            }
        }
        Ok(peer)
    }

    pub(crate) fn id(&self) -> Result<PeerId> {
        self.id
            .and_then(PeerId::new)
            .ok_or(Error::Malformed("peer without a valid id"))
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        let port = self.remote_port?;
        match (self.remote_ipv4, self.remote_ipv6) {
            (Some(ip), _) => Some(SocketAddrV4::new(ip, port).into()),
            (None, Some(ip)) => Some(SocketAddrV6::new(ip, port, 0, self.scope_id).into()),
            (None, None) => None,
        }
    }

    /// The counters, from a driver that tells them all here.
    pub(crate) fn totals(&self) -> Option<Totals> {
        let (vpn, link) = (self.vpn, self.link);
        (self.counters == u32::from(LINK_TX_PACKETS - VPN_RX_BYTES) + 1)
            .then_some(Totals { vpn, link })
    }

    pub(crate) fn into_info(self) -> Result<PeerInfo> {
        Ok(PeerInfo {
            id: self.id()?,
            tx_id: self.tx_id.and_then(PeerId::new),
            socket_netnsid: self.socket_netnsid,
            vpn_ipv4: self.vpn_ipv4,
            vpn_ipv6: self.vpn_ipv6,
            keepalive: Keepalive {
                interval: self.interval,
                timeout: self.timeout,
            },
            remote: self.remote(),
            local: self.local,
            local_port: self.local_port,
            vpn: self.vpn,
            link: self.link,
            drops: self.drops,
            last_seen: self.last_seen.map(|ms| Duration::from_millis(ms.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(params: &PeerParams) -> PeerAttrs {
        let mut w = Writer::new();
        write_peer(&mut w, PeerId::new(7).unwrap(), None, params);
        PeerAttrs::parse(Attrs::new(w.as_bytes())).unwrap()
    }

    #[test]
    fn addresses_and_ports_go_out_in_network_order() {
        let params = PeerParams {
            remote: Some("192.0.2.1:1194".parse().unwrap()),
            ..Default::default()
        };
        let mut w = Writer::new();
        write_peer(&mut w, PeerId::new(1).unwrap(), None, &params);
        let (four, eight, six) = (8u16.to_ne_bytes(), 8u16.to_ne_bytes(), 6u16.to_ne_bytes());
        let kind = |kind: u16| kind.to_ne_bytes();
        let mut expected = Vec::new();
        expected.extend([four, kind(ID)].concat());
        expected.extend(1u32.to_ne_bytes());
        expected.extend([eight, kind(REMOTE_IPV4)].concat());
        expected.extend([192, 0, 2, 1]);
        expected.extend([six, kind(REMOTE_PORT)].concat());
        expected.extend([0x04, 0xaa, 0, 0]);
        assert_eq!(w.as_bytes(), expected);
    }

    #[test]
    fn a_nest_without_an_id_or_with_a_short_address_is_refused() {
        let mut w = Writer::new();
        w.put_u32(TX_ID, 1);
        assert!(
            PeerAttrs::parse(Attrs::new(w.as_bytes()))
                .unwrap()
                .into_info()
                .is_err()
        );
        let mut w = Writer::new();
        w.put_u32(ID, 1).put(REMOTE_IPV6, &[0; 15]);
        assert!(PeerAttrs::parse(Attrs::new(w.as_bytes())).is_err());
        let mut w = Writer::new();
        w.put_u32(ID, 0x100_0000);
        assert!(
            PeerAttrs::parse(Attrs::new(w.as_bytes()))
                .unwrap()
                .into_info()
                .is_err()
        );
    }

    #[test]
    fn what_this_projects_driver_adds_is_read() {
        let mut w = Writer::new();
        w.put_u32(ID, 1)
            .nest(DROPS, |w| w.put_u32(6, 3))
            .put_u32(LAST_SEEN, 2000);
        let attrs = PeerAttrs::parse(Attrs::new(w.as_bytes())).unwrap();
        let info = attrs.into_info().unwrap();
        let drops = info.drops.unwrap_or_default();
        let named: Vec<_> = drops.iter().map(|d| (d.reason(), d.packets)).collect();
        assert_eq!(named, [("rx_replay".into(), 3)]);
        assert_eq!(info.last_seen, Some(Duration::from_secs(2)));
        let info = written(&PeerParams::default()).into_info().unwrap();
        assert_eq!((info.drops, info.last_seen), (None, None));
    }

    proptest! {
        #[test]
        fn parameters_round_trip(
            v6: bool, ip4: [u8; 4], ip6: [u8; 16], port: u16, scope: u32,
            keepalive: Option<(u32, u32)>, tx_id in prop::option::of(0..=PeerId::MAX), vpn: bool,
        ) {
            let remote: SocketAddr = if v6 {
                SocketAddrV6::new(ip6.into(), port, 0, scope).into()
            } else {
                SocketAddrV4::new(ip4.into(), port).into()
            };
            let params = PeerParams {
                remote: Some(remote),
                local: Some(remote.ip()),
                vpn_ipv4: vpn.then_some(ip4.into()),
                vpn_ipv6: vpn.then_some(ip6.into()),
                keepalive: keepalive.map(|(interval, timeout)| Keepalive { interval, timeout }),
                tx_id: tx_id.and_then(PeerId::new),
            };
            let info = written(&params).into_info().unwrap();
            prop_assert_eq!(info.remote, params.remote);
            prop_assert_eq!(info.local, params.local);
            prop_assert_eq!((info.vpn_ipv4, info.vpn_ipv6), (params.vpn_ipv4, params.vpn_ipv6));
            prop_assert_eq!(info.keepalive, params.keepalive.unwrap_or(Keepalive { interval: 0, timeout: 0 }));
            prop_assert_eq!(info.tx_id, params.tx_id);
        }
    }
}
