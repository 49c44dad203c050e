// SPDX-License-Identifier: GPL-2.0-only
//! A netlink codec of its own, so that a mistake in the product's library cannot hide one in the driver, and so that
//! requests can be malformed at will.

pub mod link;
pub mod ovpn;
mod sock;
pub mod wireguard;

pub use sock::{Refusal, Reply, Sock, errno_name};

/// Marks an attribute as a nest (include/uapi/linux/netlink.h).
pub const NLA_F_NESTED: u16 = 1 << 15;
/// Bits of an attribute's type that are the type: without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const NLA_TYPE_MASK: u16 = 0x3fff;
/// Size of nlmsghdr.
pub const NLMSG_HDRLEN: usize = 16;

/// A message under construction; lengths are filled in on [`Msg::finish`].
#[derive(Debug, Clone)]
pub struct Msg {
    bytes: Vec<u8>,
}

impl Msg {
    /// A message of this type with netlink flags and a family header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; NLMSG_HDRLEN];
        bytes.splice(4..6, kind.to_ne_bytes());
        bytes.splice(6..8, flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        Self { bytes }
    }

    /// Offset at which the next attribute will start, counted like the kernel counts in its error reports.
    pub fn offset(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Appends bytes that need not be an attribute.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends an attribute, padded.
    pub fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.bytes
            .extend_from_slice(&((4 + payload.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a u32 in the machine's order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a nest with NLA_F_NESTED set.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_as(kind | NLA_F_NESTED, fill)
    }

    /// Appends a nest with exactly these type bits.
    pub fn nest_as(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.put(kind, &[]);
        fill(self);
        let len = (self.bytes.len() - start) as u16;
        self.bytes.splice(start..start + 2, len.to_ne_bytes());
        self
    }

    /// The bytes to send, with length and sequence number set.
    pub fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let len = bytes.len() as u32;
        bytes.splice(0..4, len.to_ne_bytes());
        bytes.splice(8..12, sequence.to_ne_bytes());
        bytes
    }
}

/// Attributes of one level, in the order received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attrs(pub Vec<(u16, Vec<u8>)>);

impl Attrs {
    /// Parses a run of attributes; stops at the first that does not fit.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut list = Vec::new();
        while let Some((&[l0, l1, k0, k1], _)) = bytes.split_first_chunk::<4>() {
            let len = usize::from(u16::from_ne_bytes([l0, l1]));
            let Some(payload) = bytes.get(4..len) else {
                break;
            };
            list.push((
                u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK,
                payload.to_vec(),
            ));
            bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Self(list)
    }

    /// Payload of the first attribute of this type.
    pub fn get(&self, kind: u16) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, v)| v.as_slice())
    }

    /// A nested level; empty when absent.
    pub fn nested(&self, kind: u16) -> Self {
        self.get(kind).map(Self::parse).unwrap_or_default()
    }

    /// A u16 of exactly two bytes.
    pub fn u16(&self, kind: u16) -> Option<u16> {
        self.get(kind)?.try_into().ok().map(u16::from_ne_bytes)
    }

    /// A u32 of exactly four bytes.
    pub fn u32(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// An NLA_UINT: four or eight bytes.
    pub fn uint(&self, kind: u16) -> Option<u64> {
        let bytes = self.get(kind)?;
        match bytes.len() {
            4 => self.u32(kind).map(u64::from),
            8 => bytes.try_into().ok().map(u64::from_ne_bytes),
            _ => None,
        }
    }

    /// A string up to its NUL.
    pub fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        Some(String::from_utf8_lossy(bytes.split(|b| *b == 0).next()?).into_owned())
    }

    /// Types present, sorted.
    pub fn kinds(&self) -> Vec<u16> {
        let mut kinds: Vec<u16> = self.0.iter().map(|(k, _)| *k).collect();
        kinds.sort_unstable();
        kinds
    }
}
