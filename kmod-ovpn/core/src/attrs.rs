// SPDX-License-Identifier: GPL-2.0
//! Checks of netlink requests: attributes as they came in, values the driver may rely on out.
//!
//! The kernel's attribute policy has looked at lengths and ranges before; what depends on more
//! than one attribute, on the mode or on the command is decided here. Ranges are checked again
//! where a value becomes a type that carries its range.
//!
//! Order: a request with several faults is refused for the first one in the order of mainline's
//! `drivers/net/ovpn/netlink.c`, so that scripts see the same error numbers.

use super::cipher::CipherAlg;
use super::keepalive::MAX_SECS;
use super::nonce::{NonceTail, TAIL_LEN};
use super::refusal::Refusal;
use super::slots::Role;
use super::wire::{KeyId, PeerId};

/// Mode of an interface (`enum ovpn_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// One peer, to which everything goes.
    P2p = 0,
    /// Many peers, chosen by the inner destination address.
    Mp = 1,
}

/// The command that carries a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerOp {
    /// `OVPN_CMD_PEER_NEW`
    New,
    /// `OVPN_CMD_PEER_SET`
    Set,
}

/// Transport of a peer's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The socket is shared, each peer has its remote address.
    Udp,
    /// The socket is connected to one peer.
    Tcp,
}

/// The peer nest of a request: which attributes are there, and their values.
/// Addresses are in network order, the port in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub struct PeerRequest {
    pub id: Option<u32>,
    pub remote_ipv4: Option<[u8; 4]>,
    pub remote_ipv6: Option<[u8; 16]>,
    pub remote_ipv6_scope_id: Option<u32>,
    pub remote_port: Option<u16>,
    pub socket: Option<u32>,
    pub vpn_ipv4: Option<[u8; 4]>,
    pub vpn_ipv6: Option<[u8; 16]>,
    pub local_ipv4: Option<[u8; 4]>,
    pub local_ipv6: Option<[u8; 16]>,
    pub keepalive_interval: Option<u32>,
    pub keepalive_timeout: Option<u32>,
    pub tx_id: Option<u32>,
}

/// Transport addresses of a peer, of one family. IPv4 mapped into IPv6 has become IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// IPv4.
    V4 {
        /// Where the peer is.
        remote: [u8; 4],
        /// Its port, not 0, host order.
        port: u16,
        /// Our address towards it, if it was named.
        local: Option<[u8; 4]>,
    },
    /// IPv6.
    V6 {
        /// Where the peer is.
        remote: [u8; 16],
        /// Its port, not 0, host order.
        port: u16,
        /// Interface index of a link-local address, else 0.
        scope_id: u32,
        /// Our address towards it, if it was named.
        local: Option<[u8; 16]>,
    },
}

/// A peer request that contradicts neither itself nor the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidPeer {
    /// The peer's id.
    pub id: PeerId,
    /// The id packets to the peer carry, if it was named.
    pub tx_id: Option<PeerId>,
    /// Transport addresses, if they were named.
    pub endpoint: Option<Endpoint>,
    /// Inner IPv4 address, if it was named; `0.0.0.0` removes it. Never in P2P mode.
    pub vpn_ipv4: Option<[u8; 4]>,
    /// Inner IPv6 address, if it was named; `::` removes it. Never in P2P mode.
    pub vpn_ipv6: Option<[u8; 16]>,
    /// Keepalive interval and timeout in seconds, if they were named; 0 is off.
    pub keepalive: Option<(u32, u32)>,
}

/// File descriptor of the socket a new peer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFd(pub u32);

impl PeerRequest {
    /// The peer a request is about, for commands that take nothing else.
    ///
    /// # Errors
    /// No id, or one above 24 bits.
    pub fn peer_id(&self) -> Result<PeerId, Refusal> {
        let id = self.id.ok_or(Refusal::NoPeerId)?;
        PeerId::new(id).ok_or(Refusal::PeerIdRange)
    }

    /// Checks a `PEER_NEW`. The socket's transport is not known yet: see [`ValidPeer::fits`].
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate_new(&self, mode: Mode) -> Result<(ValidPeer, SocketFd), Refusal> {
        let peer = self.validate_common(mode)?;
        let fd = self.socket.ok_or(Refusal::NoSocket)?;
        if mode == Mode::Mp {
            check_vpn_addrs(
                peer.vpn_ipv4.unwrap_or_default(),
                peer.vpn_ipv6.unwrap_or_default(),
            )?;
        }
        Ok((peer, SocketFd(fd)))
    }

    /// Checks a `PEER_SET`. Transport and, in MP mode, the VPN addresses depend on the peer it
    /// is about: see [`ValidPeer::fits`] and [`check_vpn_addrs`].
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate_set(&self, mode: Mode) -> Result<ValidPeer, Refusal> {
        let peer = self.validate_common(mode)?;
        if self.socket.is_some() {
            return Err(Refusal::SocketFixed);
        }
        Ok(peer)
    }

    fn validate_common(&self, mode: Mode) -> Result<ValidPeer, Refusal> {
        let id = self.peer_id()?;
        let endpoint = self.endpoint()?;
        if mode == Mode::P2p {
            if self.vpn_ipv4.is_some() {
                return Err(Refusal::Vpn4InP2p);
            }
            if self.vpn_ipv6.is_some() {
                return Err(Refusal::Vpn6InP2p);
            }
        }
        let keepalive = self.keepalive()?;
        let tx_id = match self.tx_id {
            None => None,
            Some(id) => Some(PeerId::new(id).ok_or(Refusal::TxIdRange)?),
        };
        Ok(ValidPeer {
            id,
            tx_id,
            endpoint,
            vpn_ipv4: self.vpn_ipv4,
            vpn_ipv6: self.vpn_ipv6,
            keepalive,
        })
    }

    fn endpoint(&self) -> Result<Option<Endpoint>, Refusal> {
        if self.remote_ipv4.is_some() && self.remote_ipv6.is_some() {
            return Err(Refusal::TwoRemotes);
        }
        let has_remote = self.remote_ipv4.is_some() || self.remote_ipv6.is_some();
        match self.remote_port {
            Some(_) if !has_remote => return Err(Refusal::PortWithoutRemote),
            None if has_remote => return Err(Refusal::RemoteWithoutPort),
            Some(0) => return Err(Refusal::PortZero),
            _ => {}
        }
        if self.remote_ipv4.is_none() && self.local_ipv4.is_some() {
            return Err(Refusal::Local4WithoutRemote);
        }
        if self.remote_ipv6.is_none() && self.local_ipv6.is_some() {
            return Err(Refusal::Local6WithoutRemote);
        }
        let port = self.remote_port.unwrap_or_default();
        let scope = self.remote_ipv6_scope_id;

        if let Some(remote) = self.remote_ipv6 {
            // A local IPv4 address was refused above.
            return match (unmap(remote), self.local_ipv6.map(|a| (a, unmap(a)))) {
                (Some(_), Some((_, None))) | (None, Some((_, Some(_)))) => {
                    Err(Refusal::FamiliesDiffer)
                }
                (Some(_), _) if scope.is_some() => Err(Refusal::ScopeWithoutRemote6),
                (Some(remote), local) => Ok(Some(Endpoint::V4 {
                    remote,
                    port,
                    local: local.and_then(|(_, v4)| v4),
                })),
                (None, local) => Ok(Some(Endpoint::V6 {
                    remote,
                    port,
                    scope_id: scope.unwrap_or_default(),
                    local: local.map(|(v6, _)| v6),
                })),
            };
        }
        if scope.is_some() {
            return Err(Refusal::ScopeWithoutRemote6);
        }
        Ok(self.remote_ipv4.map(|remote| Endpoint::V4 {
            remote,
            port,
            local: self.local_ipv4,
        }))
    }

    fn keepalive(&self) -> Result<Option<(u32, u32)>, Refusal> {
        match (self.keepalive_interval, self.keepalive_timeout) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Refusal::IntervalWithoutTimeout),
            (None, Some(_)) => Err(Refusal::TimeoutWithoutInterval),
            (Some(i), _) if i > MAX_SECS => Err(Refusal::IntervalRange),
            (_, Some(t)) if t > MAX_SECS => Err(Refusal::TimeoutRange),
            (Some(i), Some(t)) => Ok(Some((i, t))),
        }
    }
}

impl ValidPeer {
    /// Checks the addresses against the transport: of the new socket, or of the peer there is.
    ///
    /// # Errors
    /// A new peer on UDP without a remote address, any peer on TCP with one.
    pub fn fits(&self, op: PeerOp, transport: Transport) -> Result<(), Refusal> {
        match (op, transport, self.endpoint) {
            (PeerOp::New, Transport::Udp, None) => Err(Refusal::UdpWithoutRemote),
            (_, Transport::Tcp, Some(_)) => Err(Refusal::TcpWithRemote),
            _ => Ok(()),
        }
    }
}

/// Checks the VPN addresses a peer of an MP interface would have; zeros stand for "none".
///
/// # Errors
/// None at all, or one that is not unicast.
pub fn check_vpn_addrs(v4: [u8; 4], v6: [u8; 16]) -> Result<(), Refusal> {
    if v4 == [0; 4] && v6 == [0; 16] {
        return Err(Refusal::NoVpnAddress);
    }
    if matches!(v4, [127, ..] | [224..=239, ..] | [255, 255, 255, 255]) {
        return Err(Refusal::Vpn4NotUnicast);
    }
    // Of the IPv4-compatible ::a.b.c.d block, only :: itself ("none") passes; ::1 is in it.
    let compatible = matches!(v6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..]) && v6 != [0; 16];
    if matches!(v6, [0xFF, ..]) || compatible || unmap(v6).is_some() {
        return Err(Refusal::Vpn6NotUnicast);
    }
    Ok(())
}

/// The IPv4 address in `::ffff:a.b.c.d`.
const fn unmap(addr: [u8; 16]) -> Option<[u8; 4]> {
    match addr {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// One direction in the key nest of a request.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub struct KeyDirRequest<'a> {
    pub cipher_key: Option<&'a [u8]>,
    pub nonce_tail: Option<&'a [u8]>,
}

/// The key nest of a request: which attributes are there, and their values.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub struct KeyRequest<'a> {
    pub peer_id: Option<u32>,
    pub slot: Option<u32>,
    pub key_id: Option<u32>,
    pub cipher_alg: Option<u32>,
    pub encrypt_dir: Option<KeyDirRequest<'a>>,
    pub decrypt_dir: Option<KeyDirRequest<'a>>,
}

/// One direction of a key.
#[derive(Clone, Copy)]
pub struct ValidKeyDir<'a> {
    /// Key bytes, of a length the cipher takes.
    pub cipher_key: &'a [u8],
    /// Last 8 bytes of its nonces.
    pub nonce_tail: NonceTail,
}

/// A key request that can be carried out.
#[derive(Clone, Copy)]
pub struct ValidKey<'a> {
    /// Whose key.
    pub peer_id: PeerId,
    /// The role it takes.
    pub role: Role,
    /// Its name on the wire.
    pub key_id: KeyId,
    /// Its cipher.
    pub alg: CipherAlg,
    /// The key that seals.
    pub encrypt: ValidKeyDir<'a>,
    /// The key that opens.
    pub decrypt: ValidKeyDir<'a>,
}

impl<'a> KeyRequest<'a> {
    /// The peer a request is about: all that `KEY_SWAP` takes.
    ///
    /// # Errors
    /// No id, or one above 24 bits.
    pub fn peer(&self) -> Result<PeerId, Refusal> {
        let id = self.peer_id.ok_or(Refusal::NoKeyPeerId)?;
        PeerId::new(id).ok_or(Refusal::KeyPeerIdRange)
    }

    /// The peer and role a request is about: all that `KEY_GET` and `KEY_DEL` take.
    ///
    /// # Errors
    /// One of them missing or out of range.
    pub fn peer_and_role(&self) -> Result<(PeerId, Role), Refusal> {
        let peer = self.peer()?;
        let slot = self.slot.ok_or(Refusal::NoSlot)?;
        Ok((peer, Role::new(slot).ok_or(Refusal::SlotRange)?))
    }

    /// Checks a `KEY_NEW`. Cipher none, if it is allowed, needs neither direction.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate_new(&self, allow_none: bool) -> Result<ValidKey<'a>, Refusal> {
        let (peer_id, role) = self.peer_and_role()?;
        let key_id = self.key_id.ok_or(Refusal::NoKeyId)?;
        let alg = self.cipher_alg.ok_or(Refusal::NoCipher)?;
        let absent = (allow_none && alg == CipherAlg::None as u32).then(KeyDirRequest::default);
        let encrypt = self.encrypt_dir.or(absent).ok_or(Refusal::NoEncryptDir)?;
        let decrypt = self.decrypt_dir.or(absent).ok_or(Refusal::NoDecryptDir)?;
        let key_id = KeyId::new(key_id).ok_or(Refusal::KeyIdRange)?;
        let alg = CipherAlg::new(alg).ok_or(Refusal::BadCipher)?;
        if alg == CipherAlg::None && !allow_none {
            return Err(Refusal::NoneForbidden);
        }
        Ok(ValidKey {
            peer_id,
            role,
            key_id,
            alg,
            encrypt: encrypt.validate(alg, &ENCRYPT)?,
            decrypt: decrypt.validate(alg, &DECRYPT)?,
        })
    }
}

/// Refusals for the two directions.
struct DirRefusals {
    no_key: Refusal,
    no_tail: Refusal,
    key_len: Refusal,
    tail_len: Refusal,
}

const ENCRYPT: DirRefusals = DirRefusals {
    no_key: Refusal::NoEncryptKey,
    no_tail: Refusal::NoEncryptTail,
    key_len: Refusal::EncryptKeyLen,
    tail_len: Refusal::EncryptTailLen,
};

const DECRYPT: DirRefusals = DirRefusals {
    no_key: Refusal::NoDecryptKey,
    no_tail: Refusal::NoDecryptTail,
    key_len: Refusal::DecryptKeyLen,
    tail_len: Refusal::DecryptTailLen,
};

impl<'a> KeyDirRequest<'a> {
    fn validate(&self, alg: CipherAlg, refusals: &DirRefusals) -> Result<ValidKeyDir<'a>, Refusal> {
        // A value that is not needed may be missing, but not be wrong.
        let (no_key, no_tail): (Option<&[u8]>, Option<&[u8]>) = match alg {
            CipherAlg::None => (Some(&[]), Some(&[0; TAIL_LEN])),
            _ => (None, None),
        };
        let cipher_key = self.cipher_key.or(no_key).ok_or(refusals.no_key)?;
        let tail = self.nonce_tail.or(no_tail).ok_or(refusals.no_tail)?;
        if !alg.takes_key_len(cipher_key.len()) {
            return Err(refusals.key_len);
        }
        let tail = tail.try_into().map_err(|_| refusals.tail_len)?;
        Ok(ValidKeyDir {
            cipher_key,
            nonce_tail: NonceTail(tail),
        })
    }
}
