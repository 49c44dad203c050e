// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `ovpn` family: its name and the attributes at the top of its messages.

use crate::error::Result;
use crate::key::KEY_SCHEMA;
use crate::peer::PEER_SCHEMA;
use crate::wire::{Attr, Attrs, GENL_HEADER_LEN, Schema};

/// Name of the family, of the link kind and of the module.
pub const FAMILY: &str = "ovpn";
/// The multicast group of notifications.
pub(crate) const GROUP: &str = "peers";

// include/uapi/linux/ovpn.h, OVPN_A_*
pub(crate) const IFINDEX: u16 = 1;
pub(crate) const PEER: u16 = 2;
pub(crate) const KEYCONF: u16 = 3;

pub(crate) static SCHEMA: Schema = Schema {
    attrs: &[
        (IFINDEX, "ifindex", None),
        (PEER, "peer", Some(&PEER_SCHEMA)),
        (KEYCONF, "keyconf", Some(&KEY_SCHEMA)),
    ],
};

/// The attribute `kind` at the top of a message of the family.
pub(crate) fn find(payload: &[u8], kind: u16) -> Result<Option<Attr<'_>>> {
    for attr in Attrs::after(payload, GENL_HEADER_LEN) {
        let attr = attr?;
        if attr.kind == kind {
            return Ok(Some(attr));
        }
    }
    Ok(None)
}
