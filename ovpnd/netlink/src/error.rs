// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors between a program and the kernel, with the kernel's own explanation kept.

use std::fmt;
use std::io;

use crate::wire::{Attrs, Schema, WireError};

// include/uapi/linux/netlink.h, enum nlmsgerr_attrs.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
const NLMSGERR_ATTR_MISS_NEST: u16 = 6;

/// A request the kernel refused, with all it said about why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// Name of the request, such as `PEER_NEW`.
    pub operation: &'static str,
    /// Positive errno.
    pub errno: i32,
    /// The extack text.
    pub message: Option<String>,
    /// Path of the attribute the kernel objects to, such as `peer.remote-port`.
    pub attribute: Option<String>,
    /// Path of the attribute that is missing.
    pub missing: Option<String>,
    /// Bytes from the start of the request to the attribute the kernel objects to.
    pub offset: Option<u32>,
}

impl Refusal {
    /// Reads the extack attributes `extack` that came with `errno` for `request` (a whole message whose
    /// attributes start at byte `attrs_at` and are named by `schema`). Whatever cannot be read is left out.
    pub fn decode(
        operation: &'static str,
        errno: i32,
        extack: Attrs<'_>,
        request: &[u8],
        attrs_at: usize,
        schema: &Schema,
    ) -> Self {
        let mut refusal = Self {
            operation,
            errno,
            ..Self::default()
        };
        let (mut miss_type, mut miss_nest) = (None, None);
        for attr in extack.map_while(|attr| attr.ok()) {
            match attr.kind {
                NLMSGERR_ATTR_MSG => refusal.message = Some(attr.text()),
                NLMSGERR_ATTR_OFFS => refusal.offset = attr.u32().ok(),
                NLMSGERR_ATTR_MISS_TYPE => {
                    miss_type = attr.u32().ok().and_then(|kind| u16::try_from(kind).ok())
                }
                NLMSGERR_ATTR_MISS_NEST => miss_nest = attr.u32().ok(),
                _ => {}
            }
        }
        let list = request.get(attrs_at..).unwrap_or_default();
        let locate =
            |offset: u32| schema.locate(list, usize::try_from(offset).ok()?.checked_sub(attrs_at)?);
        refusal.attribute = refusal.offset.and_then(locate).map(|(path, _)| path);
        refusal.missing = miss_type.map(|kind| match miss_nest.and_then(locate) {
            Some((path, inner)) => format!("{path}.{}", inner.name(kind)),
            None => schema.name(kind),
        });
        refusal
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        if let Some(message) = &self.message {
            write!(f, "{message}: ")?;
        }
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        if let Some(attribute) = &self.attribute {
            write!(f, ", at attribute {attribute}")?;
        }
        if let Some(missing) = &self.missing {
            write!(f, ", attribute {missing} is missing")?;
        }
        Ok(())
    }
}

/// Any failure of this library.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The socket failed.
    Io(io::Error),
    /// The kernel refused the request.
    Refused(Refusal),
    /// The answer breaks netlink's rules or lacks an attribute it must have.
    Malformed(&'static str),
    /// The kernel accepted the request but its answer was not there. It queues the answer before `send`
    /// returns, so this means that the answer did not fit the receive buffer.
    NoAnswer(&'static str),
    /// The kernel knows no generic netlink family of this name.
    NoFamily(&'static str),
    /// The list changed each time it was read.
    DumpInterrupted(&'static str),
    /// No network interface has this name.
    NoSuchLink(String),
}

impl Error {
    /// The errno of a refusal or of a failed socket call.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(refusal) => Some(refusal.errno),
            Self::Io(error) => error.raw_os_error(),
            Self::NoSuchLink(_) => Some(libc::ENODEV),
            _ => None,
        }
    }

    /// Whether the thing asked about does not exist (any more).
    pub fn is_gone(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL)
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "netlink socket: {error}"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Malformed(why) => write!(f, "answer from the kernel cannot be read: {why}"),
            Self::NoAnswer(operation) => write!(f, "{operation}: no answer from the kernel"),
            Self::NoFamily(name) => write!(
                f,
                "the kernel has no netlink family \"{name}\" (module {name} not loaded?)"
            ),
            Self::DumpInterrupted(operation) => {
                write!(f, "{operation}: the list kept changing while it was read")
            }
            Self::NoSuchLink(name) => write!(f, "no network interface is called \"{name}\""),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.0)
    }
}

/// Shorthand for this library's results.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::SCHEMA;
    use crate::wire::Writer;

    /// A PEER_NEW whose ifindex stands at 20, peer at 28, peer.id at 32, peer.remote-port at 40.
    fn request() -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(&[0; 20])
            .put_u32(1, 7)
            .nest(2, |w| w.put_u32(1, 5).put_be16(5, 0));
        w.as_bytes().to_vec()
    }

    fn decode(fill: impl FnOnce(&mut Writer) -> &mut Writer) -> Refusal {
        let mut extack = Writer::new();
        fill(&mut extack);
        Refusal::decode(
            "PEER_NEW",
            libc::EINVAL,
            Attrs::new(extack.as_bytes()),
            &request(),
            20,
            &SCHEMA,
        )
    }

    #[test]
    fn offset_becomes_a_name_and_the_text_is_kept() {
        let refusal = decode(|w| {
            w.put_str(NLMSGERR_ATTR_MSG, "ovpn: out of range")
                .put_u32(NLMSGERR_ATTR_OFFS, 40)
        });
        assert_eq!(refusal.attribute.as_deref(), Some("peer.remote-port"));
        assert_eq!(
            refusal.to_string(),
            "PEER_NEW: ovpn: out of range: Invalid argument (os error 22), at attribute peer.remote-port"
        );
    }

    #[test]
    fn a_missing_attribute_is_named_within_its_nest() {
        let refusal = decode(|w| {
            w.put_u32(NLMSGERR_ATTR_MISS_TYPE, 6)
                .put_u32(NLMSGERR_ATTR_MISS_NEST, 28)
        });
        assert_eq!(refusal.missing.as_deref(), Some("peer.socket"));
        let refusal = decode(|w| w.put_u32(NLMSGERR_ATTR_MISS_TYPE, 1));
        assert_eq!(refusal.missing.as_deref(), Some("ifindex"));
    }

    #[test]
    fn nonsense_from_the_kernel_is_left_out() {
        for offset in [0, 19, 21, 4000, u32::MAX] {
            let refusal = decode(|w| {
                w.put_u32(NLMSGERR_ATTR_OFFS, offset)
                    .put(NLMSGERR_ATTR_MISS_TYPE, &[1])
            });
            assert_eq!(
                (refusal.attribute, refusal.missing),
                (None, None),
                "{offset}"
            );
        }
    }
}
