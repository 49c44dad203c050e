// SPDX-License-Identifier: MIT OR Apache-2.0
//! Control packets on the wire, read without panics and written without surprises.
//!
//! Layout (big-endian): opcode and key id (1), the sender's session id (8), then the body: count of acks (1), acked
//! message ids (4 each), the receiver's session id (8, only with acks), message id (4, not in ACK_V1), payload.
//! A wrap puts its own fields between the session id and the body. Source: OpenVPN's `doc/doxygen/doc_protocol_overview.h`
//! and the wire protocol draft of openvpn-rfc.

use std::fmt;

/// Bytes of opcode, key id and session id, which no wrap hides.
pub const HEADER_LEN: usize = 9;
/// Most acks that a packet may have; more are rejected.
pub const MAX_ACKS: usize = 8;
/// Most acks that a packet with a message id is sent with.
pub const CONTROL_ACKS: usize = 4;
/// Most bytes of one UDP payload: OpenVPN's `max-packet-size` of 1250 less the headers of IPv6 and UDP.
pub const MAX_DATAGRAM: usize = 1202;
/// Bytes of a body with [`CONTROL_ACKS`] acks before its payload.
pub const MAX_BODY_HEADER: usize = 1 + 4 * CONTROL_ACKS + 8 + 4;
/// Longest packet that is looked at; longer ones are dropped.
pub const MAX_RECEIVED: usize = 2048;

const TLV_EARLY_NEGOTIATION: u16 = 1;
const EARLY_RESEND_WKC: u16 = 1;

/// The kind of a packet: the high 5 bits of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// Begins a renegotiation.
    SoftResetV1 = 3,
    /// Carries a piece of TLS.
    ControlV1 = 4,
    /// Carries acks only.
    AckV1 = 5,
    /// Data without a peer id; never a control packet.
    DataV1 = 6,
    /// Begins a session, from the client.
    HardResetClientV2 = 7,
    /// Begins a session, from the server.
    HardResetServerV2 = 8,
    /// Data with a peer id; never a control packet.
    DataV2 = 9,
    /// Begins a session, from a client with tls-crypt-v2; its wrapped key follows.
    HardResetClientV3 = 10,
    /// A [`Opcode::ControlV1`] that repeats the wrapped key for a stateless server.
    ControlWkcV1 = 11,
}

impl Opcode {
    /// The opcode of a packet's first byte; `None` for the obsolete 1 and 2 and for unknown ones.
    pub fn of(first: u8) -> Option<Self> {
        Some(match first >> 3 {
            3 => Self::SoftResetV1,
            4 => Self::ControlV1,
            5 => Self::AckV1,
            6 => Self::DataV1,
            7 => Self::HardResetClientV2,
            8 => Self::HardResetServerV2,
            9 => Self::DataV2,
            10 => Self::HardResetClientV3,
            11 => Self::ControlWkcV1,
            _ => return None,
        })
    }

    /// Whether the packet belongs to the data channel.
    pub fn is_data(self) -> bool {
        matches!(self, Self::DataV1 | Self::DataV2)
    }

    /// Whether the packet begins a session.
    pub fn is_hard_reset(self) -> bool {
        matches!(
            self,
            Self::HardResetClientV2 | Self::HardResetServerV2 | Self::HardResetClientV3
        )
    }

    /// Whether the packet begins a session or a renegotiation.
    pub fn is_reset(self) -> bool {
        self.is_hard_reset() || self == Self::SoftResetV1
    }

    /// Whether a client's wrapped key follows the packet in clear.
    pub fn has_wrapped_key(self) -> bool {
        matches!(self, Self::HardResetClientV3 | Self::ControlWkcV1)
    }
}

/// The number of a negotiation within a session: 0 first, then 1 to 7 and 1 again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KeyId(u8);

impl KeyId {
    /// The first negotiation.
    pub const FIRST: Self = Self(0);

    /// The key id of a packet's first byte.
    pub fn of(first: u8) -> Self {
        Self(first & 7)
    }

    /// The key id of the next negotiation.
    #[must_use]
    pub fn next(self) -> Self {
        match self.0 {
            7.. => Self(1),
            id => Self(id + 1),
        }
    }

    /// The number, 0 to 7.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// A side's number of a session: 8 random bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 8]);

impl SessionId {
    pub(crate) const ONES: Self = Self([0xff; 8]);

    /// `None` for zeros.
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The number of a message in one direction of one negotiation, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MessageId(pub u32);

/// A packet that does not follow the format; the text says which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Takes `N` bytes from the front of `rest`.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*front)
}

/// Opcode, key id and the sender's session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind of packet.
    pub opcode: Opcode,
    /// The negotiation that it belongs to.
    pub key_id: KeyId,
    /// The sender's number of the session.
    pub sid: SessionId,
}

impl Header {
    /// Reads a control packet's header and gives the bytes behind it.
    ///
    /// # Errors
    /// The packet is too short or too long, its opcode is unknown or of the data channel, its session id is zero, or
    /// a hard reset names another key than the first.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        if packet.len() > MAX_RECEIVED {
            return Err(Malformed("longer than a control packet"));
        }
        let mut rest = packet;
        let [first] = take(&mut rest).ok_or(Malformed("empty"))?;
        let opcode = Opcode::of(first).ok_or(Malformed("unknown opcode"))?;
        if opcode.is_data() {
            return Err(Malformed("data instead of a control packet"));
        }
        let sid = take(&mut rest).ok_or(Malformed("shorter than its session id"))?;
        let sid = SessionId::new(sid).ok_or(Malformed("session id of zeros"))?;
        let key_id = KeyId::of(first);
        if opcode.is_hard_reset() && key_id != KeyId::FIRST {
            return Err(Malformed("hard reset of another key than the first"));
        }
        Ok((
            Self {
                opcode,
                key_id,
                sid,
            },
            rest,
        ))
    }

    /// The header's bytes.
    pub fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let (first, sid) = bytes.split_at_mut(1);
        first.fill(((self.opcode as u8) << 3) | self.key_id.0);
        sid.copy_from_slice(&self.sid.0);
        bytes
    }
}

/// A packet's body, which a wrap may encrypt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Ids of messages that the sender has, at most [`MAX_ACKS`].
    pub acks: Vec<MessageId>,
    /// The session id that the acks are for; present exactly when there are acks.
    pub peer: Option<SessionId>,
    /// The message's number; absent exactly in ACK_V1.
    pub message: Option<MessageId>,
    /// A piece of TLS, or a reset's TLVs.
    pub payload: Vec<u8>,
}

impl Body {
    /// Reads the body of a packet with this opcode.
    ///
    /// # Errors
    /// It is too short for what it announces, has too many acks, or is an ACK_V1 without acks or with a payload.
    pub fn parse(opcode: Opcode, body: &[u8]) -> Result<Self, Malformed> {
        let mut rest = body;
        let [count] = take(&mut rest).ok_or(Malformed("no count of acks"))?;
        let count = usize::from(count);
        if count > MAX_ACKS {
            return Err(Malformed("more than 8 acks"));
        }
        let mut acks = Vec::with_capacity(count);
        for _ in 0..count {
            let id = take(&mut rest).ok_or(Malformed("fewer acks than announced"))?;
            acks.push(MessageId(u32::from_be_bytes(id)));
        }
        let mut peer = None;
        if count > 0 {
            let sid = take(&mut rest).ok_or(Malformed("acks without a session id"))?;
            peer = Some(SessionId::new(sid).ok_or(Malformed("acks for a session id of zeros"))?);
        }
        let mut message = None;
        if opcode == Opcode::AckV1 {
            if count == 0 {
                return Err(Malformed("ACK_V1 without acks"));
            }
            if !rest.is_empty() {
                return Err(Malformed("ACK_V1 with a payload"));
            }
        } else {
            let id = take(&mut rest).ok_or(Malformed("no message id"))?;
            message = Some(MessageId(u32::from_be_bytes(id)));
        }
        if opcode.is_reset() && message != Some(MessageId(0)) {
            return Err(Malformed("reset that is not message 0"));
        }
        Ok(Self {
            acks,
            peer,
            message,
            payload: rest.to_vec(),
        })
    }

    /// The body's bytes. Acks over [`MAX_ACKS`], and acks without a session id, are left out.
    pub fn bytes(&self) -> Vec<u8> {
        let acks = match self.peer {
            Some(_) => self.acks.get(..MAX_ACKS).unwrap_or(&self.acks),
            None => &[],
        };
        let mut bytes = Vec::with_capacity(1 + 4 * acks.len() + 12 + self.payload.len());
        bytes.push(u8::try_from(acks.len()).unwrap_or(0));
        for ack in acks {
            bytes.extend_from_slice(&ack.0.to_be_bytes());
        }
        if let (Some(peer), false) = (self.peer, acks.is_empty()) {
            bytes.extend_from_slice(&peer.0);
        }
        if let Some(message) = self.message {
            bytes.extend_from_slice(&message.0.to_be_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Flags in a server's reset, for clients with tls-crypt-v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EarlyNegotiation {
    /// The client's next packet has to be a CONTROL_WKC_V1, because the server kept nothing of its reset.
    pub resend_wrapped_key: bool,
}

impl EarlyNegotiation {
    /// Reads the TLVs (type 2, length 2, value) of a reset; unknown types are skipped.
    ///
    /// # Errors
    /// A TLV is longer than the payload, or flags are no u16.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut rest = payload;
        while !rest.is_empty() {
            let kind = take(&mut rest).ok_or(Malformed("TLV without a type"))?;
            let len = take(&mut rest).ok_or(Malformed("TLV without a length"))?;
            let (value, behind) = rest
                .split_at_checked(usize::from(u16::from_be_bytes(len)))
                .ok_or(Malformed("TLV longer than its packet"))?;
            rest = behind;
            if u16::from_be_bytes(kind) == TLV_EARLY_NEGOTIATION {
                let flags: [u8; 2] = value
                    .try_into()
                    .map_err(|_| Malformed("early negotiation flags that are no u16"))?;
                found.resend_wrapped_key = u16::from_be_bytes(flags) & EARLY_RESEND_WKC != 0;
            }
        }
        Ok(found)
    }

    /// The TLVs; empty without flags.
    pub fn bytes(self) -> Vec<u8> {
        if !self.resend_wrapped_key {
            return Vec::new();
        }
        [TLV_EARLY_NEGOTIATION, 2, EARLY_RESEND_WKC]
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sid(n: u8) -> SessionId {
        SessionId::new([n; 8]).unwrap()
    }

    #[test]
    fn a_client_reset_has_the_bytes_of_openvpn() {
        let header = Header {
            opcode: Opcode::HardResetClientV2,
            key_id: KeyId::FIRST,
            sid: sid(0xab),
        };
        let body = Body {
            message: Some(MessageId(0)),
            ..Body::default()
        };
        let mut packet = header.bytes().to_vec();
        packet.extend(body.bytes());
        // As a capture of OpenVPN 2.6 without a wrap shows it: 38, 8 bytes of session id, no acks, message 0.
        let mut expected = vec![0x38];
        expected.extend([0xab; 8]);
        expected.extend([0; 5]);
        assert_eq!(packet, expected);
        let (parsed, rest) = Header::parse(&packet).unwrap();
        assert_eq!(parsed, header);
        assert_eq!(Body::parse(parsed.opcode, rest).unwrap(), body);
    }

    #[test]
    fn acks_come_with_the_session_id_that_they_are_for() {
        let body = Body {
            acks: vec![MessageId(1), MessageId(0x0102_0304)],
            peer: Some(sid(7)),
            message: None,
            payload: Vec::new(),
        };
        let bytes = body.bytes();
        assert_eq!(bytes, [2, 0, 0, 0, 1, 1, 2, 3, 4, 7, 7, 7, 7, 7, 7, 7, 7]);
        assert_eq!(Body::parse(Opcode::AckV1, &bytes), Ok(body));
    }

    #[test]
    fn each_rule_of_the_header_is_checked() {
        let why = |packet: &[u8]| Header::parse(packet).unwrap_err().0;
        assert_eq!(why(&[]), "empty");
        assert_eq!(why(&[0x08; 9]), "unknown opcode");
        assert_eq!(why(&[0x60; 9]), "unknown opcode");
        assert_eq!(why(&[0x48; 9]), "data instead of a control packet");
        assert_eq!(why(&[0x30; 9]), "data instead of a control packet");
        assert_eq!(why(&[0x20; 8]), "shorter than its session id");
        assert_eq!(why(&[0x20, 0, 0, 0, 0, 0, 0, 0, 0]), "session id of zeros");
        assert_eq!(why(&[0x39; 9]), "hard reset of another key than the first");
        assert_eq!(
            why(&[0x20; MAX_RECEIVED + 1]),
            "longer than a control packet"
        );
        assert!(Header::parse(&[0x20; MAX_RECEIVED]).is_ok());
        assert!(Header::parse(&[0x5f; 9]).is_ok());
    }

    #[test]
    fn each_rule_of_the_body_is_checked() {
        let why = |opcode, body: &[u8]| Body::parse(opcode, body).unwrap_err().0;
        let control = Opcode::ControlV1;
        assert_eq!(why(control, &[]), "no count of acks");
        assert_eq!(why(control, &[9; 60]), "more than 8 acks");
        assert_eq!(why(control, &[1, 0, 0, 0]), "fewer acks than announced");
        assert_eq!(
            why(control, &[1, 0, 0, 0, 0, 1]),
            "acks without a session id"
        );
        assert_eq!(
            why(
                control,
                &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
            ),
            "acks for a session id of zeros"
        );
        assert_eq!(why(control, &[0, 0, 0, 0]), "no message id");
        assert_eq!(why(Opcode::AckV1, &[0]), "ACK_V1 without acks");
        assert_eq!(
            why(Opcode::AckV1, &[1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
            "ACK_V1 with a payload"
        );
        assert_eq!(
            why(Opcode::SoftResetV1, &[0, 0, 0, 0, 1]),
            "reset that is not message 0"
        );
        let mut eight = vec![8];
        eight.extend([1; 8 * 4 + 8 + 4]);
        assert_eq!(Body::parse(control, &eight).unwrap().acks.len(), 8);
    }

    #[test]
    fn key_ids_never_come_back_to_the_first() {
        let mut id = KeyId::FIRST;
        let ids: Vec<u8> = (0..9)
            .map(|_| {
                id = id.next();
                id.get()
            })
            .collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 1, 2]);
    }

    #[test]
    fn flags_of_the_reset() {
        let resend = EarlyNegotiation {
            resend_wrapped_key: true,
        };
        assert_eq!(resend.bytes(), [0, 1, 0, 2, 0, 1]);
        assert_eq!(EarlyNegotiation::parse(&resend.bytes()), Ok(resend));
        assert_eq!(
            EarlyNegotiation::parse(&[0, 9, 0, 1, 5, 0, 1, 0, 2, 0xff, 0xff]),
            Ok(resend)
        );
        assert_eq!(
            EarlyNegotiation::parse(&[0, 1, 0, 2, 0xff, 0xfe]),
            Ok(EarlyNegotiation::default())
        );
        assert!(EarlyNegotiation::default().bytes().is_empty());
        for bad in [
            &[0][..],
            &[0, 1, 0],
            &[0, 1, 0, 2, 0],
            &[0, 1, 0, 1, 0],
            &[0, 9, 0xff, 0xff, 1],
        ] {
            assert!(EarlyNegotiation::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((header, rest)) = Header::parse(&packet) {
                if let Ok(body) = Body::parse(header.opcode, rest) {
                    let mut again = header.bytes().to_vec();
                    again.extend(body.bytes());
                    prop_assert_eq!(again, packet.clone());
                }
            }
            let _ = EarlyNegotiation::parse(&packet);
        }
    }
}
