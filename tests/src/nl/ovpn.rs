// SPDX-License-Identifier: GPL-2.0-only
//! The generic netlink family "ovpn", numbers from include/uapi/linux/ovpn.h (Linux 7.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::lab::{Ns, patience};
use crate::nl::{Attrs, Msg, Refusal, Reply, Sock};
use crate::tap::{During, Failure, Outcome};

/// Commands.
pub mod cmd {
    pub const PEER_NEW: u8 = 1;
    pub const PEER_SET: u8 = 2;
    pub const PEER_GET: u8 = 3;
    pub const PEER_DEL: u8 = 4;
    pub const PEER_DEL_NTF: u8 = 5;
    pub const KEY_NEW: u8 = 6;
    pub const KEY_GET: u8 = 7;
    pub const KEY_SWAP: u8 = 8;
    pub const KEY_SWAP_NTF: u8 = 9;
    pub const KEY_DEL: u8 = 10;
    pub const PEER_FLOAT_NTF: u8 = 11;
    /// Of this project's driver alone.
    pub const DEV_HOLD: u8 = 0x80;
}

/// Top-level attributes.
pub mod top {
    pub const IFINDEX: u16 = 1;
    pub const PEER: u16 = 2;
    pub const KEYCONF: u16 = 3;
}

/// Attributes of a PEER nest.
pub mod peer {
    pub const ID: u16 = 1;
    pub const REMOTE_IPV4: u16 = 2;
    pub const REMOTE_IPV6: u16 = 3;
    pub const REMOTE_IPV6_SCOPE_ID: u16 = 4;
    pub const REMOTE_PORT: u16 = 5;
    pub const SOCKET: u16 = 6;
    pub const SOCKET_NETNSID: u16 = 7;
    pub const VPN_IPV4: u16 = 8;
    pub const VPN_IPV6: u16 = 9;
    pub const LOCAL_IPV4: u16 = 10;
    pub const LOCAL_IPV6: u16 = 11;
    pub const LOCAL_PORT: u16 = 12;
    pub const KEEPALIVE_INTERVAL: u16 = 13;
    pub const KEEPALIVE_TIMEOUT: u16 = 14;
    pub const DEL_REASON: u16 = 15;
    pub const VPN_RX_BYTES: u16 = 16;
    pub const LINK_TX_PACKETS: u16 = 23;
    pub const TX_ID: u16 = 24;
    /// Of this project (kmod-ovpn/uapi/ovpn-ext.yaml): in answers to requests of version [`super::EXTENDED`] only.
    pub const DROPS: u16 = 0x80;
    pub const LAST_SEEN: u16 = 0x81;
}

/// Version of a request that wants this project's own attributes answered.
pub const EXTENDED: u8 = 0x80;

/// Attributes of a KEYCONF nest.
pub mod keyconf {
    pub const PEER_ID: u16 = 1;
    pub const SLOT: u16 = 2;
    pub const KEY_ID: u16 = 3;
    pub const CIPHER_ALG: u16 = 4;
    pub const ENCRYPT_DIR: u16 = 5;
    pub const DECRYPT_DIR: u16 = 6;
    /// Of this project, as [`super::peer::DROPS`].
    pub const DRIVER: u16 = 0x80;
    pub const ASYNC: u16 = 0x81;
}

/// Attributes of a KEYDIR nest.
pub mod keydir {
    pub const CIPHER_KEY: u16 = 1;
    pub const NONCE_TAIL: u16 = 2;
}

/// Why a peer went away (DEL_REASON).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Teardown,
    Userspace,
    Expired,
    TransportError,
    TransportDisconnect,
}

impl Reason {
    fn from_wire(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::Teardown,
            1 => Self::Userspace,
            2 => Self::Expired,
            3 => Self::TransportError,
            4 => Self::TransportDisconnect,
            _ => return None,
        })
    }
}

/// Primary key slot.
pub const PRIMARY: u32 = 0;
/// Secondary key slot.
pub const SECONDARY: u32 = 1;
/// CIPHER_ALG of AES-GCM (128, 192 or 256 by the key's length).
pub const AES_GCM: u32 = 1;
/// CIPHER_ALG of ChaCha20-Poly1305.
pub const CHACHA20_POLY1305: u32 = 2;

/// One direction's key material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDir {
    /// 16, 24 or 32 bytes.
    pub key: Vec<u8>,
    /// Last eight bytes of the nonce.
    pub tail: [u8; 8],
}

/// A key as KEY_NEW takes it.
#[derive(Debug, Clone)]
pub struct KeySpec {
    /// 0 to 7, goes into each packet.
    pub key_id: u32,
    /// CIPHER_ALG.
    pub alg: u32,
    /// For packets sent.
    pub encrypt: KeyDir,
    /// For packets received.
    pub decrypt: KeyDir,
}

/// A peer's counters, in the order of the attributes 16 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub vpn_rx_bytes: u64,
    pub vpn_tx_bytes: u64,
    pub vpn_rx_packets: u64,
    pub vpn_tx_packets: u64,
    pub link_rx_bytes: u64,
    pub link_tx_bytes: u64,
    pub link_rx_packets: u64,
    pub link_tx_packets: u64,
}

impl Stats {
    /// Those in a PEER nest.
    pub fn of(attrs: &Attrs) -> Outcome<Self> {
        let mut n = [0; 8];
        for (kind, value) in (peer::VPN_RX_BYTES..=peer::LINK_TX_PACKETS).zip(&mut n) {
            *value = attrs
                .uint(kind)
                .ok_or_else(|| Failure::new(format!("counter {kind} is missing")))?;
        }
        // Attributes 16 to 23: RX bytes, TX bytes, RX packets, TX packets, first of the tunnel, then of the link.
        let [
            vpn_rx_bytes,
            vpn_tx_bytes,
            vpn_rx_packets,
            vpn_tx_packets,
            lrb,
            ltb,
            lrp,
            ltp,
        ] = n;
        Ok(Stats {
            vpn_rx_bytes,
            vpn_tx_bytes,
            vpn_rx_packets,
            vpn_tx_packets,
            link_rx_bytes: lrb,
            link_tx_bytes: ltb,
            link_rx_packets: lrp,
            link_tx_packets: ltp,
        })
    }
}

/// A notification of the group "peers".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// PEER_DEL_NTF.
    PeerDel {
        ifindex: u32,
        id: u32,
        reason: Reason,
    },
    /// KEY_SWAP_NTF. The key id is a u16 in mainline, a u32 in the specification.
    KeySwap { ifindex: u32, id: u32, key_id: u32 },
    /// PEER_FLOAT_NTF.
    Float {
        ifindex: u32,
        id: u32,
        remote: Option<SocketAddr>,
    },
}

/// The family "ovpn" as seen from one namespace.
pub struct Ovpn {
    sock: Sock,
    /// Number of the family.
    pub family: u16,
    group: u32,
}

/// Listens to the group "peers" of one namespace.
pub struct Events {
    sock: Sock,
    family: u16,
}

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;

/// Appends the attributes of a socket address as REMOTE_*.
pub fn put_remote(m: &mut Msg, remote: SocketAddr) {
    match remote.ip() {
        IpAddr::V4(ip) => m.put(peer::REMOTE_IPV4, &ip.octets()),
        IpAddr::V6(ip) => m.put(peer::REMOTE_IPV6, &ip.octets()),
    };
    m.put(peer::REMOTE_PORT, &remote.port().to_be_bytes());
    if let SocketAddr::V6(v6) = remote
        && v6.scope_id() != 0
    {
        m.u32(peer::REMOTE_IPV6_SCOPE_ID, v6.scope_id());
    }
}

/// Appends one KEYDIR nest.
pub fn put_dir(m: &mut Msg, kind: u16, dir: &KeyDir) {
    m.nest(kind, |m| {
        m.put(keydir::CIPHER_KEY, &dir.key)
            .put(keydir::NONCE_TAIL, &dir.tail);
    });
}

/// Transport address in a PEER nest.
pub fn remote_of(attrs: &Attrs) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(attrs.get(peer::REMOTE_PORT)?.try_into().ok()?);
    let v4 = attrs
        .get(peer::REMOTE_IPV4)
        .and_then(|b| <[u8; 4]>::try_from(b).ok())
        .map(|b| Ipv4Addr::from(b).into());
    let v6 = attrs
        .get(peer::REMOTE_IPV6)
        .and_then(|b| <[u8; 16]>::try_from(b).ok())
        .map(|b| Ipv6Addr::from(b).into());
    let mut remote = SocketAddr::new(v4.or(v6)?, port);
    if let (SocketAddr::V6(v6), Some(scope)) = (&mut remote, attrs.u32(peer::REMOTE_IPV6_SCOPE_ID))
    {
        v6.set_scope_id(scope);
    }
    Some(remote)
}

/// Attributes behind genlmsghdr.
fn attrs_of(reply: &Reply) -> Attrs {
    Attrs::parse(reply.body.get(4..).unwrap_or_default())
}

/// The number of a generic netlink family, and all that the kernel says of it.
pub fn family(sock: &Sock, name: &str) -> Outcome<(u16, Attrs)> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut msg = Msg::new(GENL_ID_CTRL, flags, &[CTRL_CMD_GETFAMILY, 1, 0, 0]);
    msg.put(
        libc::CTRL_ATTR_FAMILY_NAME as u16,
        format!("{name}\0").as_bytes(),
    );
    let replies = sock.ok(&msg).during(format!("family {name:?}"))?;
    let attrs = replies.first().map(attrs_of).unwrap_or_default();
    let id = attrs.u16(libc::CTRL_ATTR_FAMILY_ID as u16);
    let id = id.ok_or_else(|| Failure::new("family without id"))?;
    Ok((id, attrs))
}

impl Ovpn {
    /// Finds the family; fails when the module is not loaded.
    pub fn open(ns: &Ns) -> Outcome<Self> {
        let sock = Sock::open(ns, libc::NETLINK_GENERIC)?;
        let (family, attrs) = family(&sock, "ovpn")?;
        let group = attrs
            .nested(libc::CTRL_ATTR_MCAST_GROUPS as u16)
            .0
            .iter()
            .map(|(_, group)| Attrs::parse(group))
            .find(|g| g.text(libc::CTRL_ATTR_MCAST_GRP_NAME as u16).as_deref() == Some("peers"))
            .and_then(|g| g.u32(libc::CTRL_ATTR_MCAST_GRP_ID as u16))
            .ok_or_else(|| Failure::new("family without group \"peers\""))?;
        Ok(Self {
            sock,
            family,
            group,
        })
    }

    /// Listens to notifications in a namespace.
    pub fn listen(&self, ns: &Ns) -> Outcome<Events> {
        let sock = Sock::open(ns, libc::NETLINK_GENERIC)?;
        sock.join(self.group)?;
        Ok(Events {
            sock,
            family: self.family,
        })
    }

    /// An empty request, without any attribute.
    pub fn bare(&self, command: u8, flags: i32) -> Msg {
        Msg::new(
            self.family,
            (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16,
            &[command, 1, 0, 0],
        )
    }

    /// A request for a device.
    pub fn msg(&self, command: u8, ifindex: u32) -> Msg {
        let mut msg = self.bare(command, 0);
        msg.u32(top::IFINDEX, ifindex);
        msg
    }

    /// Sends any request.
    pub fn request(&self, msg: &Msg) -> Outcome<Result<Vec<Attrs>, Refusal>> {
        Ok(self
            .sock
            .request(msg)?
            .map(|replies| replies.iter().map(attrs_of).collect()))
    }

    fn ok(&self, msg: &Msg) -> Outcome<Vec<Attrs>> {
        Ok(self.request(msg)??)
    }

    /// PEER_NEW for a UDP socket with a remote, or for a TCP socket without one.
    pub fn peer_new(
        &self,
        ifindex: u32,
        id: u32,
        socket: i32,
        remote: impl Into<Option<SocketAddr>>,
        tx_id: Option<u32>,
    ) -> Outcome {
        let mut msg = self.msg(cmd::PEER_NEW, ifindex);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, id).u32(peer::SOCKET, socket as u32);
            if let Some(remote) = remote.into() {
                put_remote(m, remote);
            }
            if let Some(tx_id) = tx_id {
                m.u32(peer::TX_ID, tx_id);
            }
        });
        self.ok(&msg).during("PEER_NEW").map(drop)
    }

    /// PEER_SET of the keepalive, seconds.
    pub fn keepalive(&self, ifindex: u32, id: u32, interval: u32, timeout: u32) -> Outcome {
        let mut msg = self.msg(cmd::PEER_SET, ifindex);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, id)
                .u32(peer::KEEPALIVE_INTERVAL, interval)
                .u32(peer::KEEPALIVE_TIMEOUT, timeout);
        });
        self.ok(&msg).during("PEER_SET").map(drop)
    }

    /// PEER_GET of one peer: the content of its PEER nest.
    pub fn peer_get(&self, ifindex: u32, id: u32) -> Outcome<Result<Attrs, Refusal>> {
        let mut msg = self.msg(cmd::PEER_GET, ifindex);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, id);
        });
        Ok(self
            .request(&msg)?
            .map(|r| r.first().map(|a| a.nested(top::PEER)).unwrap_or_default()))
    }

    /// PEER_GET of one peer with what this project's driver adds to it.
    pub fn peer_get_extended(&self, ifindex: u32, id: u32) -> Outcome<Attrs> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut msg = Msg::new(self.family, flags, &[cmd::PEER_GET, EXTENDED, 0, 0]);
        msg.u32(top::IFINDEX, ifindex).nest(top::PEER, |m| {
            m.u32(peer::ID, id);
        });
        let replies = self.ok(&msg).during("extended PEER_GET")?;
        Ok(replies
            .first()
            .map(|a| a.nested(top::PEER))
            .unwrap_or_default())
    }

    /// A peer's lost packets by reason: (number of the reason, packets).
    pub fn peer_drops(&self, ifindex: u32, id: u32) -> Outcome<Vec<(u16, u32)>> {
        let drops = self.peer_get_extended(ifindex, id)?.nested(peer::DROPS);
        let count = |kind: u16| drops.u32(kind).map(|n| (kind - 1, n));
        drops
            .kinds()
            .into_iter()
            .map(|kind| count(kind).ok_or_else(|| Failure::new(format!("odd drop counter {kind}"))))
            .collect()
    }

    /// PEER_GET as a dump: the content of each PEER nest.
    pub fn peer_dump(&self, ifindex: u32) -> Outcome<Vec<Attrs>> {
        self.peer_dump_with(ifindex, || Ok(()))
    }

    /// The same, with something done between the parts of the dump.
    pub fn peer_dump_with(
        &self,
        ifindex: u32,
        between: impl FnMut() -> Outcome,
    ) -> Outcome<Vec<Attrs>> {
        let mut msg = self.bare(cmd::PEER_GET, libc::NLM_F_DUMP);
        msg.u32(top::IFINDEX, ifindex);
        let replies = self.sock.request_with(&msg, between)?;
        let replies = replies.during("PEER_GET dump")?;
        let multi = libc::NLM_F_MULTI as u16;
        crate::check!(
            replies.iter().all(|r| r.flags & multi != 0),
            "a message of a dump lacks NLM_F_MULTI"
        );
        Ok(replies
            .iter()
            .map(|r| attrs_of(r).nested(top::PEER))
            .collect())
    }

    /// A peer's counters.
    pub fn stats(&self, ifindex: u32, id: u32) -> Outcome<Stats> {
        let attrs = self.peer_get(ifindex, id)?.during("PEER_GET")?;
        Stats::of(&attrs).during("PEER_GET")
    }

    /// PEER_DEL.
    pub fn peer_del(&self, ifindex: u32, id: u32) -> Outcome {
        let mut msg = self.msg(cmd::PEER_DEL, ifindex);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, id);
        });
        self.ok(&msg).during("PEER_DEL").map(drop)
    }

    /// KEY_NEW.
    pub fn key_new(&self, ifindex: u32, id: u32, slot: u32, key: &KeySpec) -> Outcome {
        let mut msg = self.msg(cmd::KEY_NEW, ifindex);
        msg.nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, id).u32(keyconf::SLOT, slot);
            m.u32(keyconf::KEY_ID, key.key_id)
                .u32(keyconf::CIPHER_ALG, key.alg);
            put_dir(m, keyconf::ENCRYPT_DIR, &key.encrypt);
            put_dir(m, keyconf::DECRYPT_DIR, &key.decrypt);
        });
        self.ok(&msg).during("KEY_NEW").map(drop)
    }

    /// KEY_GET: (key id, cipher) of a slot.
    pub fn key_get(&self, ifindex: u32, id: u32, slot: u32) -> Outcome<Result<Attrs, Refusal>> {
        let mut msg = self.msg(cmd::KEY_GET, ifindex);
        msg.nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, id).u32(keyconf::SLOT, slot);
        });
        Ok(self.request(&msg)?.map(|r| {
            r.first()
                .map(|a| a.nested(top::KEYCONF))
                .unwrap_or_default()
        }))
    }

    /// KEY_GET of a slot that holds a key, with what this project's driver adds to it.
    pub fn key_get_extended(&self, ifindex: u32, id: u32, slot: u32) -> Outcome<Attrs> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut msg = Msg::new(self.family, flags, &[cmd::KEY_GET, EXTENDED, 0, 0]);
        msg.u32(top::IFINDEX, ifindex).nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, id).u32(keyconf::SLOT, slot);
        });
        let replies = self.ok(&msg).during("extended KEY_GET")?;
        let key = replies.first().map(|a| a.nested(top::KEYCONF));
        Ok(key.unwrap_or_default())
    }

    /// KEY_SWAP.
    pub fn key_swap(&self, ifindex: u32, id: u32) -> Outcome {
        let mut msg = self.msg(cmd::KEY_SWAP, ifindex);
        msg.nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, id);
        });
        self.ok(&msg).during("KEY_SWAP").map(drop)
    }

    /// KEY_DEL.
    pub fn key_del(&self, ifindex: u32, id: u32, slot: u32) -> Outcome {
        let mut msg = self.msg(cmd::KEY_DEL, ifindex);
        msg.nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, id).u32(keyconf::SLOT, slot);
        });
        self.ok(&msg).during("KEY_DEL").map(drop)
    }
}

impl Events {
    fn decode(&self, body: &[u8]) -> Option<Event> {
        let (&[command, ..], attrs) = body.split_first_chunk::<4>()?;
        let attrs = Attrs::parse(attrs);
        let ifindex = attrs.u32(top::IFINDEX)?;
        let (peer, key) = (attrs.nested(top::PEER), attrs.nested(top::KEYCONF));
        Some(match command {
            cmd::PEER_DEL_NTF => Event::PeerDel {
                ifindex,
                id: peer.u32(peer::ID)?,
                reason: Reason::from_wire(peer.u32(peer::DEL_REASON)?)?,
            },
            cmd::KEY_SWAP_NTF => {
                let key_id = key
                    .u32(keyconf::KEY_ID)
                    .or(key.u16(keyconf::KEY_ID).map(u32::from))?;
                Event::KeySwap {
                    ifindex,
                    id: key.u32(keyconf::PEER_ID)?,
                    key_id,
                }
            }
            cmd::PEER_FLOAT_NTF => Event::Float {
                ifindex,
                id: peer.u32(peer::ID)?,
                remote: remote_of(&peer),
            },
            _ => return None,
        })
    }

    /// The buffer that a listener has who asks for none (net.core.rmem_default).
    pub fn usual_buffer(&self) -> Outcome {
        self.sock.receive_buffer(212_992)
    }

    /// The next notification, or `None` when there is none within `limit` times the patience.
    pub fn next(&self, limit: Duration) -> Outcome<Option<Event>> {
        Ok(self.next_with(limit)?.map(|(event, _)| event))
    }

    /// The same with the content of its PEER nest.
    pub fn next_with(&self, limit: Duration) -> Outcome<Option<(Event, Attrs)>> {
        let deadline = Instant::now() + limit * patience();
        loop {
            self.sock
                .timeout(deadline.saturating_duration_since(Instant::now()))?;
            let Some(batch) = self.sock.receive()? else {
                return Ok(None);
            };
            // The kernel sends each notification in a message of its own.
            if let Some((_, reply)) = batch.iter().find(|(_, r)| r.kind == self.family) {
                crate::check_eq!(batch.len(), 1, "messages of a notification");
                let event = self.decode(&reply.body);
                let nest = attrs_of(reply).nested(top::PEER);
                return event
                    .map(|event| Some((event, nest)))
                    .ok_or_else(|| Failure::new(format!("odd notification {:02x?}", reply.body)));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Demands that the next notification is this one.
    pub fn expect(&self, expected: &Event, limit: Duration) -> Outcome {
        match self.next(limit)? {
            Some(event) if event == *expected => Ok(()),
            other => Err(Failure::new(format!(
                "notification {other:?}, expected {expected:?}"
            ))),
        }
    }

    /// Demands that nothing is waiting.
    pub fn expect_none(&self) -> Outcome {
        match self.next(Duration::from_millis(1))? {
            None => Ok(()),
            Some(event) => Err(Failure::new(format!("unexpected notification {event:?}"))),
        }
    }
}
