// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agreement of the two sides: abilities (`IV_PROTO`), the cipher of the data channel, and protocol flags.

use std::fmt;

use crate::keys::Cipher;
use crate::peerinfo::{self, PeerInfo};

/// Bits of `IV_PROTO` (OpenVPN's ssl.h, `IV_PROTO_*`). Bit 10, epoch keys, has no name here: it must not be offered
/// before the driver can do them, as a 2.7 server turns them on at once.
mod bit {
    pub(super) const DATA_V2: u32 = 1 << 1;
    pub(super) const REQUEST_PUSH: u32 = 1 << 2;
    pub(super) const TLS_KEY_EXPORT: u32 = 1 << 3;
    pub(super) const AUTH_PENDING_KW: u32 = 1 << 4;
    pub(super) const CC_EXIT_NOTIFY: u32 = 1 << 7;
    pub(super) const AUTH_FAIL_TEMP: u32 = 1 << 8;
    pub(super) const DYN_TLS_CRYPT: u32 = 1 << 9;
    pub(super) const DNS_OPTION_V2: u32 = 1 << 11;
    pub(super) const PUSH_UPDATE: u32 = 1 << 12;
}

/// Abilities that a side has. DATA_V2 is not among them: a side without it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// The client takes a push reply that it did not ask for.
    pub request_push: bool,
    /// Data keys come from TLS's exporter.
    pub tls_key_export: bool,
    /// `AUTH_PENDING` with keywords.
    pub auth_pending: bool,
    /// `EXIT` is a message of the control channel.
    pub exit_notify: bool,
    /// `AUTH_FAILED,TEMP`.
    pub auth_fail_temp: bool,
    /// The control channel's wrap changes its keys after the first TLS session.
    pub dyn_tls_crypt: bool,
    /// The option `dns`.
    pub dns: bool,
    /// `PUSH_UPDATE`.
    pub push_update: bool,
}

impl Abilities {
    /// `IV_PROTO` of a side with these abilities.
    pub fn proto(self) -> u32 {
        let flags = [
            (self.request_push, bit::REQUEST_PUSH),
            (self.tls_key_export, bit::TLS_KEY_EXPORT),
            (self.auth_pending, bit::AUTH_PENDING_KW),
            (self.exit_notify, bit::CC_EXIT_NOTIFY),
            (self.auth_fail_temp, bit::AUTH_FAIL_TEMP),
            (self.dyn_tls_crypt, bit::DYN_TLS_CRYPT),
            (self.dns, bit::DNS_OPTION_V2),
            (self.push_update, bit::PUSH_UPDATE),
        ];
        flags
            .into_iter()
            .filter(|(has, _)| *has)
            .fold(bit::DATA_V2, |proto, (_, bit)| proto | bit)
    }

    /// The abilities that an `IV_PROTO` names; `None` without DATA_V2.
    pub fn from_proto(proto: u32) -> Option<Self> {
        let has = |bit| proto & bit != 0;
        has(bit::DATA_V2).then(|| Self {
            request_push: has(bit::REQUEST_PUSH),
            tls_key_export: has(bit::TLS_KEY_EXPORT),
            auth_pending: has(bit::AUTH_PENDING_KW),
            exit_notify: has(bit::CC_EXIT_NOTIFY),
            auth_fail_temp: has(bit::AUTH_FAIL_TEMP),
            dyn_tls_crypt: has(bit::DYN_TLS_CRYPT),
            dns: has(bit::DNS_OPTION_V2),
            push_update: has(bit::PUSH_UPDATE),
        })
    }
}

/// A client's peer info. `version` is the program's; ciphers are in the order in which they are wished, though a server
/// goes by its own; `mtu` is the largest packet that the tunnel takes.
pub fn client_info(version: &str, abilities: Abilities, ciphers: &[Cipher], mtu: u32) -> String {
    let names: Vec<&str> = ciphers.iter().map(|cipher| cipher.name()).collect();
    peerinfo::encode([
        ("IV_VER", version.to_owned()),
        ("IV_PLAT", "linux".to_owned()),
        ("IV_TCPNL", "1".to_owned()),
        ("IV_MTU", mtu.to_string()),
        ("IV_NCP", "2".to_owned()),
        ("IV_CIPHERS", names.join(":")),
        ("IV_PROTO", abilities.proto().to_string()),
    ])
}

/// Protocol flags that a server pushes: `protocol-flags`, or `key-derivation` to a client that knows only that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProtocolFlags {
    /// `EXIT` is a message of the control channel.
    pub cc_exit: bool,
    /// Data keys come from TLS's exporter.
    pub tls_ekm: bool,
    /// The wrap changes its keys.
    pub dyn_tls_crypt: bool,
}

impl ProtocolFlags {
    /// The flags that both sides are able to.
    pub fn common(ours: Abilities, theirs: Abilities) -> Self {
        Self {
            cc_exit: ours.exit_notify && theirs.exit_notify,
            tls_ekm: ours.tls_key_export && theirs.tls_key_export,
            dyn_tls_crypt: ours.dyn_tls_crypt && theirs.dyn_tls_crypt,
        }
    }

    /// The option to push, if there is anything to say. A client that does not know `EXIT` does not know
    /// `protocol-flags` either.
    pub fn option(self) -> Option<String> {
        match self {
            Self { cc_exit: true, .. } => {
                let flags = [
                    (true, "cc-exit"),
                    (self.tls_ekm, "tls-ekm"),
                    (self.dyn_tls_crypt, "dyn-tls-crypt"),
                ];
                let flags: Vec<&str> = flags.into_iter().filter(|f| f.0).map(|f| f.1).collect();
                Some(format!("protocol-flags {}", flags.join(" ")))
            }
            Self { tls_ekm: true, .. } => Some("key-derivation tls-ekm".into()),
            _ => None,
        }
    }
}

/// Why there is no cipher for the data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CipherError {
    /// The server pushed none, as one without negotiation does.
    NotPushed,
    /// It pushed this one, which is not on our list.
    Refused(String),
    /// The client names none of ours; these are its.
    NoneInCommon(String),
}

impl fmt::Display for CipherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPushed => {
                f.write_str("the server names no cipher: it is older than OpenVPN 2.4")
            }
            Self::Refused(name) => write!(
                f,
                "the server demands the cipher {name}, which is not in data_ciphers or not supported"
            ),
            Self::NoneInCommon(names) if names.is_empty() => {
                f.write_str("the client negotiates no cipher: it is older than OpenVPN 2.4")
            }
            Self::NoneInCommon(names) => {
                write!(
                    f,
                    "the client offers only ciphers that are not in data_ciphers: {names}"
                )
            }
        }
    }
}

impl std::error::Error for CipherError {}

/// The cipher that a server pushed, if the client's list `ours` has it.
///
/// # Errors
/// It has not, or none was pushed.
pub fn accept_cipher(ours: &[Cipher], pushed: Option<&str>) -> Result<Cipher, CipherError> {
    let name = pushed.ok_or(CipherError::NotPushed)?;
    Cipher::from_name(name)
        .filter(|cipher| ours.contains(cipher))
        .ok_or_else(|| CipherError::Refused(name.to_owned()))
}

/// The first cipher of the server's list `ours` that the client names.
///
/// # Errors
/// There is none: the text belongs into `AUTH_FAILED`.
pub fn choose_cipher(ours: &[Cipher], info: &PeerInfo) -> Result<Cipher, CipherError> {
    let theirs = info.ciphers();
    let named = |cipher: &&Cipher| {
        theirs
            .iter()
            .any(|name| name.eq_ignore_ascii_case(cipher.name()))
    };
    ours.iter()
        .find(named)
        .copied()
        .ok_or_else(|| CipherError::NoneInCommon(theirs.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities {
        request_push: true,
        tls_key_export: true,
        auth_pending: true,
        exit_notify: true,
        auth_fail_temp: true,
        dyn_tls_crypt: true,
        dns: true,
        push_update: true,
    };

    #[test]
    fn a_client_with_everything_but_push_update_is_2974() {
        let client = Abilities {
            push_update: false,
            ..ALL
        };
        assert_eq!(client.proto(), 2974);
        assert_eq!(Abilities::default().proto(), 2);
    }

    #[test]
    fn epoch_keys_are_never_offered() {
        assert_eq!(ALL.proto() & 1 << 10, 0);
        let everything = Abilities::from_proto(u32::MAX).unwrap();
        assert_eq!((everything, everything.proto() & 1 << 10), (ALL, 0));
    }

    #[test]
    fn abilities_round_trip() {
        for flags in 0..0x2000 {
            let known = flags & ALL.proto();
            let read = Abilities::from_proto(flags);
            assert_eq!(
                read.map(Abilities::proto),
                (flags & 2 != 0).then_some(known)
            );
        }
    }

    #[test]
    fn peer_info_names_what_a_server_asks_for() {
        let text = client_info(
            "0.1",
            ALL,
            &[Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm],
            1600,
        );
        let info = PeerInfo::parse(&text);
        assert_eq!(
            info.get("IV_CIPHERS"),
            Some("CHACHA20-POLY1305:AES-128-GCM")
        );
        assert_eq!(info.get("IV_NCP"), Some("2"));
        assert_eq!(info.get("IV_MTU"), Some("1600"));
        assert_eq!(info.get("IV_PLAT"), Some("linux"));
        assert_eq!(Abilities::from_proto(info.proto()), Some(ALL));
    }

    #[test]
    fn a_client_takes_only_a_cipher_of_its_list() {
        let ours = [Cipher::Aes128Gcm];
        assert_eq!(
            accept_cipher(&ours, Some("aes-128-gcm")),
            Ok(Cipher::Aes128Gcm)
        );
        assert_eq!(accept_cipher(&ours, None), Err(CipherError::NotPushed));
        for name in ["AES-256-GCM", "BF-CBC", "none", ""] {
            let refused = CipherError::Refused(name.into());
            assert_eq!(accept_cipher(&ours, Some(name)), Err(refused));
        }
    }

    #[test]
    fn a_server_goes_by_its_own_order() {
        let ours = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
        for (info, chosen) in [
            (
                "IV_CIPHERS=AES-256-GCM:CHACHA20-POLY1305",
                Ok(Cipher::ChaCha20Poly1305),
            ),
            ("IV_CIPHERS=AES-256-GCM", Ok(Cipher::Aes256Gcm)),
            ("IV_NCP=2", Ok(Cipher::Aes256Gcm)),
            (
                "IV_CIPHERS=BF-CBC:x",
                Err(CipherError::NoneInCommon("BF-CBC, x".into())),
            ),
            ("", Err(CipherError::NoneInCommon(String::new()))),
        ] {
            assert_eq!(
                choose_cipher(&ours, &PeerInfo::parse(info)),
                chosen,
                "{info}"
            );
        }
    }

    #[test]
    fn flags_are_those_that_both_have() {
        let common = |theirs| ProtocolFlags::common(ALL, theirs).option();
        let all = "protocol-flags cc-exit tls-ekm dyn-tls-crypt";
        assert_eq!(common(ALL).as_deref(), Some(all));
        let old = Abilities {
            exit_notify: false,
            dyn_tls_crypt: false,
            ..ALL
        };
        assert_eq!(common(old).as_deref(), Some("key-derivation tls-ekm"));
        assert_eq!(common(Abilities::default()), None);
        assert_eq!(
            ProtocolFlags::common(Abilities::default(), ALL),
            ProtocolFlags::default()
        );
    }
}
