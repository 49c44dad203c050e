// SPDX-License-Identifier: GPL-2.0
//! The answer to a refused netlink request: an error number, the attribute at fault, a sentence.
//!
//! This is the only place where a refusal gets its number and its text. Numbers are names here,
//! because their values differ between architectures; the driver maps [`Errno`] once.

use core::ffi::CStr;

/// Error numbers of refusals, by the names of `errno.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// `EINVAL`
    Inval,
    /// `ERANGE`
    Range,
    /// `ENODEV`
    NoDev,
    /// `ENOENT`
    NoEnt,
    /// `EEXIST`
    Exist,
    /// `EADDRINUSE`
    AddrInUse,
    /// `EADDRNOTAVAIL`
    AddrNotAvail,
    /// `ENOTSOCK`
    NotSock,
}

/// Top-level attributes (`OVPN_A_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub enum TopAttr {
    Ifindex = 1,
    Peer = 2,
    Keyconf = 3,
}

/// Attributes of a peer (`OVPN_A_PEER_*`) that a request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub enum PeerAttr {
    Id = 1,
    RemoteIpv4 = 2,
    RemoteIpv6 = 3,
    RemoteIpv6ScopeId = 4,
    RemotePort = 5,
    Socket = 6,
    VpnIpv4 = 8,
    VpnIpv6 = 9,
    LocalIpv4 = 10,
    LocalIpv6 = 11,
    KeepaliveInterval = 13,
    KeepaliveTimeout = 14,
    TxId = 24,
}

/// Attributes of a key (`OVPN_A_KEYCONF_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub enum KeyAttr {
    PeerId = 1,
    Slot = 2,
    KeyId = 3,
    CipherAlg = 4,
    EncryptDir = 5,
    DecryptDir = 6,
}

/// Attributes of one direction of a key (`OVPN_A_KEYDIR_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "named as in the UAPI header")]
pub enum KeyDirAttr {
    CipherKey = 1,
    NonceTail = 2,
}

/// An attribute and the nest it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attr {
    /// At top level.
    Top(TopAttr),
    /// In `OVPN_A_PEER`.
    Peer(PeerAttr),
    /// In `OVPN_A_KEYCONF`.
    Key(KeyAttr),
    /// In `OVPN_A_KEYCONF_ENCRYPT_DIR`.
    EncryptDir(KeyDirAttr),
    /// In `OVPN_A_KEYCONF_DECRYPT_DIR`.
    DecryptDir(KeyDirAttr),
}

impl Attr {
    /// The attribute's number (`nla_type`) inside its nest.
    pub const fn number(self) -> u16 {
        match self {
            Attr::Top(a) => a as u16,
            Attr::Peer(a) => a as u16,
            Attr::Key(a) => a as u16,
            Attr::EncryptDir(a) | Attr::DecryptDir(a) => a as u16,
        }
    }
}

/// Which attribute a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// None in particular.
    Nothing,
    /// One that is there and wrong: extack's `bad_attr`.
    Bad(Attr),
    /// One that is not there: extack's `miss_type`, with its nest in `miss_nest`.
    Missing(Attr),
}

macro_rules! refusals {
    ($($(#[$doc:meta])+ $variant:ident: $errno:ident, $blame:expr, $text:literal;)+) => {
        /// Every way a request can be refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])+ $variant,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$variant,)+];

            /// The error number of the reply.
            pub const fn errno(self) -> Errno {
                match self {
                    $(Refusal::$variant => Errno::$errno,)+
                }
            }

            /// The attribute at fault.
            pub const fn blame(self) -> Blame {
                match self {
                    $(Refusal::$variant => $blame,)+
                }
            }

            /// The sentence for the reply's extended acknowledgement. It lives as long as the
            /// module, as extack demands.
            pub const fn message(self) -> &'static CStr {
                match self {
                    $(Refusal::$variant => $text,)+
                }
            }
        }
    };
}

use Attr::{DecryptDir, EncryptDir, Key, Peer, Top};
use Blame::{Bad, Missing, Nothing};

refusals! {
    /// No interface index.
    NoIfindex: Inval, Missing(Top(TopAttr::Ifindex)), c"ovpn: the interface index is missing";
    /// No such interface in the caller's network namespace.
    UnknownInterface: NoDev, Nothing, c"ovpn: no interface has this index";
    /// The interface is of another kind.
    NotOvpn: Inval, Bad(Top(TopAttr::Ifindex)), c"ovpn: the interface is not of kind ovpn";
    /// The interface is being deleted.
    InterfaceGone: NoDev, Nothing, c"ovpn: the interface is being deleted";

    /// No peer nest.
    NoPeerNest: Inval, Missing(Top(TopAttr::Peer)), c"ovpn: the peer attributes are missing";
    /// No peer id.
    NoPeerId: Inval, Missing(Peer(PeerAttr::Id)), c"ovpn: the peer id is missing";
    /// Peer id above 24 bits.
    PeerIdRange: Range, Bad(Peer(PeerAttr::Id)), c"ovpn: the peer id is above 16777215";
    /// Peer id for sending above 24 bits.
    TxIdRange: Range, Bad(Peer(PeerAttr::TxId)), c"ovpn: the peer id for sending is above 16777215";
    /// Remote addresses of both families.
    TwoRemotes: Inval, Bad(Peer(PeerAttr::RemoteIpv6)),
        c"ovpn: a peer has one remote address, either IPv4 or IPv6";
    /// A remote port, but no remote address.
    PortWithoutRemote: Inval, Bad(Peer(PeerAttr::RemotePort)),
        c"ovpn: the remote port needs a remote address";
    /// A remote address, but no remote port.
    RemoteWithoutPort: Inval, Missing(Peer(PeerAttr::RemotePort)),
        c"ovpn: the remote address needs a remote port";
    /// Remote port 0.
    PortZero: Range, Bad(Peer(PeerAttr::RemotePort)), c"ovpn: the remote port must not be 0";
    /// A local IPv4 address without a remote one.
    Local4WithoutRemote: Inval, Bad(Peer(PeerAttr::LocalIpv4)),
        c"ovpn: a local IPv4 address needs a remote IPv4 address";
    /// A local IPv6 address without a remote one.
    Local6WithoutRemote: Inval, Bad(Peer(PeerAttr::LocalIpv6)),
        c"ovpn: a local IPv6 address needs a remote IPv6 address";
    /// Of local and remote address one is IPv4 mapped into IPv6, the other is not.
    FamiliesDiffer: Inval, Bad(Peer(PeerAttr::LocalIpv6)),
        c"ovpn: local and remote address are of different families";
    /// A scope without a remote IPv6 address.
    ScopeWithoutRemote6: Inval, Bad(Peer(PeerAttr::RemoteIpv6ScopeId)),
        c"ovpn: a scope id needs a remote IPv6 address";
    /// A VPN IPv4 address in P2P mode.
    Vpn4InP2p: Inval, Bad(Peer(PeerAttr::VpnIpv4)),
        c"ovpn: a P2P interface has one peer, which needs no VPN IPv4 address";
    /// A VPN IPv6 address in P2P mode.
    Vpn6InP2p: Inval, Bad(Peer(PeerAttr::VpnIpv6)),
        c"ovpn: a P2P interface has one peer, which needs no VPN IPv6 address";
    /// A keepalive interval without a timeout.
    IntervalWithoutTimeout: Inval, Missing(Peer(PeerAttr::KeepaliveTimeout)),
        c"ovpn: a keepalive interval needs a keepalive timeout, which may be 0";
    /// A keepalive timeout without an interval.
    TimeoutWithoutInterval: Inval, Missing(Peer(PeerAttr::KeepaliveInterval)),
        c"ovpn: a keepalive timeout needs a keepalive interval, which may be 0";
    /// Keepalive interval above a day.
    IntervalRange: Range, Bad(Peer(PeerAttr::KeepaliveInterval)),
        c"ovpn: the keepalive interval is above 86400 seconds";
    /// Keepalive timeout above a day.
    TimeoutRange: Range, Bad(Peer(PeerAttr::KeepaliveTimeout)),
        c"ovpn: the keepalive timeout is above 86400 seconds";
    /// A new peer without a socket.
    NoSocket: Inval, Missing(Peer(PeerAttr::Socket)), c"ovpn: the socket of the new peer is missing";
    /// A socket for a peer that has one.
    SocketFixed: Inval, Bad(Peer(PeerAttr::Socket)), c"ovpn: the socket of a peer cannot be changed";
    /// A peer in MP mode without any VPN address.
    NoVpnAddress: Inval, Nothing, c"ovpn: on an MP interface a peer needs a VPN address";
    /// VPN IPv4 address that no single host can have.
    Vpn4NotUnicast: AddrNotAvail, Bad(Peer(PeerAttr::VpnIpv4)),
        c"ovpn: the VPN IPv4 address is multicast, broadcast or loopback";
    /// VPN IPv6 address that no single host can have.
    Vpn6NotUnicast: AddrNotAvail, Bad(Peer(PeerAttr::VpnIpv6)),
        c"ovpn: the VPN IPv6 address is multicast, loopback or an embedded IPv4 address";
    /// UDP without a remote address.
    UdpWithoutRemote: Inval, Nothing, c"ovpn: a peer on a UDP socket needs a remote address";
    /// TCP with a remote address.
    TcpWithRemote: Inval, Nothing,
        c"ovpn: a peer on a TCP socket has the socket's remote address and takes no other";

    /// The descriptor is no open socket.
    NotASocket: NotSock, Bad(Peer(PeerAttr::Socket)), c"ovpn: the descriptor is not an open socket";
    /// Neither UDP nor TCP.
    WrongProtocol: NotSock, Bad(Peer(PeerAttr::Socket)),
        c"ovpn: the socket is neither UDP nor TCP over IPv4 or IPv6";
    /// Used by another tunnel, of this or another kind.
    SocketBusy: NotSock, Bad(Peer(PeerAttr::Socket)),
        c"ovpn: the socket already belongs to another interface or encapsulation";
    /// A TCP socket that is not connected.
    NotConnected: NotSock, Bad(Peer(PeerAttr::Socket)), c"ovpn: the TCP socket is not connected";
    /// Any other reason why the socket was not taken over.
    AttachFailed: NotSock, Bad(Peer(PeerAttr::Socket)), c"ovpn: the socket could not be taken over";

    /// The id is taken.
    PeerExists: Exist, Bad(Peer(PeerAttr::Id)), c"ovpn: a peer with this id exists already";
    /// Another peer has that VPN IPv4 address.
    Vpn4InUse: AddrInUse, Bad(Peer(PeerAttr::VpnIpv4)),
        c"ovpn: another peer has this VPN IPv4 address";
    /// Another peer has that VPN IPv6 address.
    Vpn6InUse: AddrInUse, Bad(Peer(PeerAttr::VpnIpv6)),
        c"ovpn: another peer has this VPN IPv6 address";
    /// No such peer, in a request about a peer.
    NoSuchPeer: NoEnt, Bad(Peer(PeerAttr::Id)), c"ovpn: no peer has this id";

    /// No key nest.
    NoKeyNest: Inval, Missing(Top(TopAttr::Keyconf)), c"ovpn: the key attributes are missing";
    /// No peer id in a request about a key.
    NoKeyPeerId: Inval, Missing(Key(KeyAttr::PeerId)), c"ovpn: the peer id of the key is missing";
    /// Peer id of a key above 24 bits.
    KeyPeerIdRange: Range, Bad(Key(KeyAttr::PeerId)),
        c"ovpn: the peer id of the key is above 16777215";
    /// No slot.
    NoSlot: Inval, Missing(Key(KeyAttr::Slot)), c"ovpn: the key slot is missing";
    /// A slot above 1.
    SlotRange: Range, Bad(Key(KeyAttr::Slot)), c"ovpn: the key slot is neither 0 nor 1";
    /// No key id.
    NoKeyId: Inval, Missing(Key(KeyAttr::KeyId)), c"ovpn: the key id is missing";
    /// A key id above 7.
    KeyIdRange: Range, Bad(Key(KeyAttr::KeyId)), c"ovpn: the key id is above 7";
    /// No cipher.
    NoCipher: Inval, Missing(Key(KeyAttr::CipherAlg)), c"ovpn: the cipher is missing";
    /// Cipher 0, which the administrator has not allowed.
    NoneForbidden: Inval, Bad(Key(KeyAttr::CipherAlg)),
        c"ovpn: cipher none is off: see the module's parameter allow_insecure_none";
    /// A cipher not known.
    BadCipher: Inval, Bad(Key(KeyAttr::CipherAlg)),
        c"ovpn: the cipher is neither AES-GCM nor ChaCha20-Poly1305";
    /// No key for sending.
    NoEncryptDir: Inval, Missing(Key(KeyAttr::EncryptDir)), c"ovpn: the sending half of the key is missing";
    /// No key for receiving.
    NoDecryptDir: Inval, Missing(Key(KeyAttr::DecryptDir)),
        c"ovpn: the receiving half of the key is missing";
    /// No key bytes for sending.
    NoEncryptKey: Inval, Missing(EncryptDir(KeyDirAttr::CipherKey)),
        c"ovpn: the cipher key for sending is missing";
    /// No nonce tail for sending.
    NoEncryptTail: Inval, Missing(EncryptDir(KeyDirAttr::NonceTail)),
        c"ovpn: the nonce tail for sending is missing";
    /// A key for sending that does not fit the cipher.
    EncryptKeyLen: Inval, Bad(EncryptDir(KeyDirAttr::CipherKey)),
        c"ovpn: the cipher key for sending has a length the cipher does not take";
    /// A nonce tail for sending that is not 8 bytes long.
    EncryptTailLen: Inval, Bad(EncryptDir(KeyDirAttr::NonceTail)),
        c"ovpn: the nonce tail for sending is not 8 bytes long";
    /// No key bytes for receiving.
    NoDecryptKey: Inval, Missing(DecryptDir(KeyDirAttr::CipherKey)),
        c"ovpn: the cipher key for receiving is missing";
    /// No nonce tail for receiving.
    NoDecryptTail: Inval, Missing(DecryptDir(KeyDirAttr::NonceTail)),
        c"ovpn: the nonce tail for receiving is missing";
    /// A key for receiving that does not fit the cipher.
    DecryptKeyLen: Inval, Bad(DecryptDir(KeyDirAttr::CipherKey)),
        c"ovpn: the cipher key for receiving has a length the cipher does not take";
    /// A nonce tail for receiving that is not 8 bytes long.
    DecryptTailLen: Inval, Bad(DecryptDir(KeyDirAttr::NonceTail)),
        c"ovpn: the nonce tail for receiving is not 8 bytes long";
    /// No such peer, in a request about a key.
    NoSuchKeyPeer: NoEnt, Bad(Key(KeyAttr::PeerId)), c"ovpn: no peer has this id, so it has no keys";
    /// The slot holds no key.
    SlotEmpty: NoEnt, Bad(Key(KeyAttr::Slot)), c"ovpn: this key slot is empty";
}
