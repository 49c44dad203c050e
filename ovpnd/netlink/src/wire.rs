// SPDX-License-Identifier: MIT OR Apache-2.0
//! Netlink's framing: messages and attributes (TLVs), written and read without panics.
//!
//! Layout facts are from `include/uapi/linux/netlink.h` and `Documentation/userspace-api/netlink/intro.rst`:
//! integers are in host order unless an attribute says otherwise, everything is padded to 4 bytes, lengths
//! include the header and exclude the padding.

use std::net::{Ipv4Addr, Ipv6Addr};

use zeroize::Zeroizing;

/// Size of `struct nlmsghdr` in bytes.
pub const HEADER_LEN: usize = 16;
/// Size of `struct genlmsghdr` in bytes.
pub const GENL_HEADER_LEN: usize = 4;
/// Size of an attribute's header in bytes.
pub const ATTR_HEADER_LEN: usize = 4;
/// Flag in an attribute's type: its payload is a list of attributes.
pub const NLA_F_NESTED: u16 = 0x8000;
/// Flag in an attribute's type: its payload is in network byte order.
pub const NLA_F_NET_BYTEORDER: u16 = 0x4000;

/// A message or attribute that does not follow netlink's rules; the text says which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError(pub &'static str);

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for WireError {}

/// `N` bytes at `at`, or `None` past the end.
pub(crate) fn bytes_at<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A host-order u16 at `at`.
pub(crate) fn u16_at(buf: &[u8], at: usize) -> Option<u16> {
    bytes_at(buf, at).map(u16::from_ne_bytes)
}

/// A host-order u32 at `at`.
pub(crate) fn u32_at(buf: &[u8], at: usize) -> Option<u32> {
    bytes_at(buf, at).map(u32::from_ne_bytes)
}

const fn padded(len: usize) -> usize {
    len.wrapping_add(3) & !3
}

/// Writes attributes behind each other.
///
/// The buffer is wiped when dropped because requests can carry keys. It starts with room for the largest
/// key request, so that it is not moved (and left behind) while it grows.
#[derive(Debug)]
pub struct Writer {
    buf: Zeroizing<Vec<u8>>,
    too_long: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty list of attributes.
    pub fn new() -> Self {
        Self {
            buf: Zeroizing::new(Vec::with_capacity(1024)),
            too_long: false,
        }
    }

    /// Appends bytes that are no attribute, such as a family's fixed header, padded to 4 bytes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self.pad()
    }

    fn pad(&mut self) -> &mut Self {
        let len = padded(self.buf.len());
        self.buf.resize(len, 0);
        self
    }

    /// Appends one attribute. A payload over 65,531 bytes makes [`Self::finish`] fail.
    pub fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        match u16::try_from(payload.len() + ATTR_HEADER_LEN) {
            Ok(len) => {
                self.buf.extend_from_slice(&len.to_ne_bytes());
                self.buf.extend_from_slice(&kind.to_ne_bytes());
                self.buf.extend_from_slice(payload);
            }
            Err(_) => self.too_long = true,
        }
        self.pad()
    }

    /// Appends a u8.
    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// Appends a u16 in network order.
    pub fn put_be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends a u32 in host order.
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a text with the NUL that the kernel's strings end with.
    pub fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// Appends a nest whose attributes `fill` writes; NLA_F_NESTED is set, as strict families demand.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        let start = self.buf.len();
        self.put(kind | NLA_F_NESTED, &[]);
        fill(self);
        let len = self.buf.len().saturating_sub(start);
        match (u16::try_from(len), self.buf.get_mut(start..start + 2)) {
            (Ok(len), Some(field)) => field.copy_from_slice(&len.to_ne_bytes()),
            _ => self.too_long = true,
        }
        self
    }

    /// The bytes written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// The finished bytes.
    ///
    /// # Errors
    /// When an attribute did not fit its 16 bit length.
    pub fn finish(self) -> Result<Zeroizing<Vec<u8>>, WireError> {
        if self.too_long {
            Err(WireError("attribute longer than 65535 bytes"))
        } else {
            Ok(self.buf)
        }
    }
}

/// `struct nlmsghdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the message with this header, in bytes.
    pub len: u32,
    /// NLMSG_*, RTM_* or the id of a generic netlink family.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// Number that a reply repeats.
    pub seq: u32,
    /// Port of the sender; 0 is the kernel.
    pub port: u32,
}

impl Header {
    /// The header as it goes over the socket.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let fields = [
            self.len.to_ne_bytes(),
            join(self.kind.to_ne_bytes(), self.flags.to_ne_bytes()),
            self.seq.to_ne_bytes(),
            self.port.to_ne_bytes(),
        ];
        for (slot, field) in out.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field);
        }
        out
    }

    fn parse(buf: &[u8]) -> Option<Self> {
        Some(Self {
            len: u32_at(buf, 0)?,
            kind: u16_at(buf, 4)?,
            flags: u16_at(buf, 6)?,
            seq: u32_at(buf, 8)?,
            port: u32_at(buf, 12)?,
        })
    }
}

fn join(a: [u8; 2], b: [u8; 2]) -> [u8; 4] {
    [a[0], a[1], b[0], b[1]]
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// The bytes behind the header, without padding.
    pub payload: &'a [u8],
}

/// Iterates over the messages of one datagram; ends after the first error.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads `datagram` from its start.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut self.rest);
        let Some(header) = Header::parse(all) else {
            return Some(Err(WireError("message shorter than its header")));
        };
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let Some(payload) = all.get(HEADER_LEN..len) else {
            return Some(Err(WireError("message length out of bounds")));
        };
        // The last message may come without its padding.
        self.rest = all.get(padded(len)..).unwrap_or_default();
        Some(Ok(Message { header, payload }))
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Its number within its set, without flag bits.
    pub kind: u16,
    /// Its value, without padding.
    pub payload: &'a [u8],
    /// Bytes from the start of the list to this attribute's header.
    pub offset: usize,
}

impl<'a> Attr<'a> {
    fn exact<const N: usize>(&self) -> Result<[u8; N], WireError> {
        self.payload
            .try_into()
            .map_err(|_| WireError("attribute of the wrong length"))
    }

    /// The value as u8.
    ///
    /// # Errors
    /// When it is not exactly 1 byte long. The other getters fail likewise.
    pub fn u8(&self) -> Result<u8, WireError> {
        self.exact().map(u8::from_ne_bytes)
    }

    /// The value as u16 in host order.
    ///
    /// # Errors
    /// When it is not exactly 2 bytes long.
    pub fn u16(&self) -> Result<u16, WireError> {
        self.exact().map(u16::from_ne_bytes)
    }

    /// The value as u16 in network order.
    ///
    /// # Errors
    /// When it is not exactly 2 bytes long.
    pub fn be16(&self) -> Result<u16, WireError> {
        self.exact().map(u16::from_be_bytes)
    }

    /// The value as u32 in host order.
    ///
    /// # Errors
    /// When it is not exactly 4 bytes long.
    pub fn u32(&self) -> Result<u32, WireError> {
        self.exact().map(u32::from_ne_bytes)
    }

    /// The value as s32 in host order.
    ///
    /// # Errors
    /// When it is not exactly 4 bytes long.
    pub fn i32(&self) -> Result<i32, WireError> {
        self.exact().map(i32::from_ne_bytes)
    }

    /// The value of the kernel's type "uint", which is 4 or 8 bytes in host order.
    ///
    /// # Errors
    /// When it has any other length.
    pub fn uint(&self) -> Result<u64, WireError> {
        match self.payload.len() {
            4 => self.u32().map(u64::from),
            _ => self.exact().map(u64::from_ne_bytes),
        }
    }

    /// The value as IPv4 address.
    ///
    /// # Errors
    /// When it is not exactly 4 bytes long.
    pub fn ipv4(&self) -> Result<Ipv4Addr, WireError> {
        self.exact::<4>().map(Ipv4Addr::from)
    }

    /// The value as IPv6 address.
    ///
    /// # Errors
    /// When it is not exactly 16 bytes long.
    pub fn ipv6(&self) -> Result<Ipv6Addr, WireError> {
        self.exact::<16>().map(Ipv6Addr::from)
    }

    /// The value as text up to its NUL; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let text = self
            .payload
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The value as list of attributes.
    pub fn nested(&self) -> Attrs<'a> {
        Attrs::new(self.payload)
    }
}

/// Iterates over a list of attributes; ends after the first error.
#[derive(Debug, Clone)]
pub struct Attrs<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> Attrs<'a> {
    /// Reads `list` from its start.
    pub fn new(list: &'a [u8]) -> Self {
        Self { list, at: 0 }
    }

    /// The attributes that follow a fixed header of `header` bytes; a shorter payload is an empty list.
    pub fn after(payload: &'a [u8], header: usize) -> Self {
        Self::new(payload.get(padded(header)..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.at;
        let rest = self.list.get(offset..).filter(|rest| !rest.is_empty())?;
        self.at = self.list.len();
        let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) else {
            return Some(Err(WireError("attribute shorter than its header")));
        };
        let Some(payload) = rest.get(ATTR_HEADER_LEN..usize::from(len)) else {
            return Some(Err(WireError("attribute length out of bounds")));
        };
        self.at = offset + padded(usize::from(len));
        Some(Ok(Attr {
            kind: kind & !(NLA_F_NESTED | NLA_F_NET_BYTEORDER),
            payload,
            offset,
        }))
    }
}

/// Names of the attributes of one set, to say where the kernel found fault.
#[derive(Debug)]
pub struct Schema {
    /// (number, name, the set inside when it is a nest)
    pub attrs: &'static [(u16, &'static str, Option<&'static Schema>)],
}

impl Schema {
    /// A set without names.
    pub const UNKNOWN: Schema = Schema { attrs: &[] };

    /// The name of attribute `kind`, or its number.
    pub fn name(&self, kind: u16) -> String {
        match self.attrs.iter().find(|(number, ..)| *number == kind) {
            Some((_, name, _)) => (*name).to_owned(),
            None => format!("attribute {kind}"),
        }
    }

    fn inner(&self, kind: u16) -> &'static Schema {
        const UNKNOWN: &Schema = &Schema::UNKNOWN;
        self.attrs
            .iter()
            .find(|(number, ..)| *number == kind)
            .and_then(|(.., inner)| *inner)
            .unwrap_or(UNKNOWN)
    }

    /// Finds the attribute whose header stands `offset` bytes into `list`: its path ("peer.remote-port")
    /// and the set of names inside it. Nests are entered only where names are known.
    pub fn locate(&self, list: &[u8], offset: usize) -> Option<(String, &'static Schema)> {
        for attr in Attrs::new(list) {
            let attr = attr.ok()?;
            let (name, inner) = (self.name(attr.kind), self.inner(attr.kind));
            if attr.offset == offset {
                return Some((name, inner));
            }
            let start = attr.offset + ATTR_HEADER_LEN;
            if offset >= start && offset < start + attr.payload.len() && !inner.attrs.is_empty() {
                let (path, schema) = inner.locate(attr.payload, offset - start)?;
                return Some((format!("{name}.{path}"), schema));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One of two layouts written out by hand, whichever this machine uses.
    fn host<'a>(little: &'a [u8], big: &'a [u8]) -> &'a [u8] {
        if cfg!(target_endian = "little") {
            little
        } else {
            big
        }
    }

    #[test]
    fn attributes_are_laid_out_as_the_kernel_reads_them() {
        let mut w = Writer::new();
        w.put_u32(1, 0x0102_0304)
            .nest(2, |w| w.put_be16(5, 1194).put_u8(6, 7));
        let little = [
            8, 0, 1, 0, 4, 3, 2, 1, // u32
            20, 0, 2, 0x80, // nest of 20 bytes
            6, 0, 5, 0, 0x04, 0xaa, 0, 0, // be16 and padding
            5, 0, 6, 0, 7, 0, 0, 0, // u8 and padding
        ];
        let big = [
            0, 8, 0, 1, 1, 2, 3, 4, //
            0, 20, 0x80, 2, //
            0, 6, 0, 5, 0x04, 0xaa, 0, 0, //
            0, 5, 0, 6, 7, 0, 0, 0,
        ];
        assert_eq!(w.as_bytes(), host(&little, &big));
    }

    #[test]
    fn header_is_sixteen_bytes_in_host_order() {
        let header = Header {
            len: 20,
            kind: 0x1b,
            flags: 5,
            seq: 9,
            port: 0x0100,
        };
        let little = [20, 0, 0, 0, 0x1b, 0, 5, 0, 9, 0, 0, 0, 0, 1, 0, 0];
        let big = [0, 0, 0, 20, 0, 0x1b, 0, 5, 0, 0, 0, 9, 0, 0, 1, 0];
        assert_eq!(header.to_bytes(), host(&little, &big));
        let mut datagram = header.to_bytes().to_vec();
        datagram.extend([1, 2, 3, 4]);
        let message = Messages::new(&datagram).next().unwrap().unwrap();
        assert_eq!(
            message,
            Message {
                header,
                payload: &[1, 2, 3, 4]
            }
        );
    }

    #[test]
    fn a_payload_too_long_for_its_length_field_is_refused() {
        let mut w = Writer::new();
        w.put(1, &vec![0; 65_532]);
        assert!(w.finish().is_err());
        let mut w = Writer::new();
        w.nest(1, |w| w.put(1, &vec![0; 40_000]).put(2, &vec![0; 40_000]));
        assert!(w.finish().is_err());
        let mut w = Writer::new();
        w.put(1, &vec![0; 65_531]);
        assert!(w.finish().is_ok());
    }

    #[test]
    fn lengths_out_of_bounds_end_the_iteration_with_an_error() {
        let over = 9u16.to_ne_bytes();
        let under = 3u16.to_ne_bytes();
        for list in [
            &[over[0], over[1], 1, 0, 0, 0, 0, 0][..],
            &[under[0], under[1], 1, 0],
            &[1, 2, 3],
            &[0; 4],
        ] {
            let mut attrs = Attrs::new(list);
            assert!(attrs.next().unwrap().is_err(), "{list:?}");
            assert!(attrs.next().is_none(), "{list:?}");
        }
        for len in [0u32, 15, 17, u32::MAX] {
            let datagram = Header {
                len,
                kind: 1,
                flags: 0,
                seq: 0,
                port: 0,
            }
            .to_bytes();
            let mut messages = Messages::new(&datagram);
            assert!(messages.next().unwrap().is_err(), "{len}");
            assert!(messages.next().is_none());
        }
    }

    #[test]
    fn offsets_are_turned_into_names() {
        static INNER: Schema = Schema {
            attrs: &[(5, "remote-port", None)],
        };
        static OUTER: Schema = Schema {
            attrs: &[(1, "ifindex", None), (2, "peer", Some(&INNER))],
        };
        let mut w = Writer::new();
        w.put_u32(1, 3).nest(2, |w| w.put_be16(5, 0).put_u8(99, 0));
        let path = |offset| OUTER.locate(w.as_bytes(), offset).map(|(path, _)| path);
        assert_eq!(path(0).as_deref(), Some("ifindex"));
        assert_eq!(path(8).as_deref(), Some("peer"));
        assert_eq!(path(12).as_deref(), Some("peer.remote-port"));
        assert_eq!(path(20).as_deref(), Some("peer.attribute 99"));
        assert_eq!(path(13), None);
        assert_eq!(path(4000), None);
    }

    proptest! {
        #[test]
        fn attributes_round_trip(list in prop::collection::vec((0u16..0x4000, prop::collection::vec(any::<u8>(), 0..40)), 0..20)) {
            let mut w = Writer::new();
            for (kind, payload) in &list {
                w.put(*kind, payload);
            }
            let read: Vec<_> = Attrs::new(w.as_bytes()).map(|a| a.map(|a| (a.kind, a.payload.to_vec()))).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages::new(&bytes).flatten() {
                for attr in Attrs::after(message.payload, 4).flatten() {
                    let _ = (attr.uint(), attr.text(), attr.ipv6());
                }
            }
            prop_assert!(Attrs::new(&bytes).count() <= bytes.len());
        }

        #[test]
        fn uint_takes_both_widths(value in any::<u64>()) {
            let payload = value.to_ne_bytes();
            prop_assert_eq!(Attr { kind: 1, payload: &payload, offset: 0 }.uint(), Ok(value));
            let short = (value as u32).to_ne_bytes();
            prop_assert_eq!(Attr { kind: 1, payload: &short, offset: 0 }.uint(), Ok(u64::from(value as u32)));
        }
    }
}
