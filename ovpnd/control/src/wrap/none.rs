// SPDX-License-Identifier: MIT OR Apache-2.0
//! No protection of control packets beyond TLS.

use super::{Opened, Reject};
use crate::packet::Header;

/// Puts the header before the body.
pub fn seal(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut packet = header.bytes().to_vec();
    packet.extend_from_slice(body);
    packet
}

/// Takes the header off.
///
/// # Errors
/// The header is malformed.
pub fn open(packet: &[u8]) -> Result<Opened, Reject> {
    let (header, body) = Header::parse(packet)?;
    Ok(Opened {
        header,
        stamp: None,
        body: body.to_vec(),
    })
}
