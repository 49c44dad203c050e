// SPDX-License-Identifier: MIT OR Apache-2.0
//! dyn-tls-crypt: renegotiations are wrapped by keys that only this session's two ends know.
//!
//! They come from the exporter of the session's first TLS connection, added to the static key if there is one, and
//! are used for all key ids above 0, with stamps and a window of their own.

use super::{Keys, STATIC_KEY_LEN, StaticKey, crypt};
use crate::keys::Role;

/// The exporter's label.
pub const LABEL: &str = "EXPORTER-OpenVPN-dynamic-tls-crypt";

/// Keys of the session, from the exporter's bytes and from the key of tls-auth, tls-crypt or tls-crypt-v2.
pub fn keys(exported: &[u8; STATIC_KEY_LEN], outer: Option<&StaticKey>, role: Role) -> Keys {
    let exported = StaticKey::new(exported);
    let key = match outer {
        Some(outer) => exported.xor(outer),
        None => exported,
    };
    Keys::Crypt(crypt::Keys::new(&key, role))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{header, stamp, static_key};
    use super::*;

    #[test]
    fn both_ends_agree_and_the_outer_key_counts() {
        let exported = static_key(1);
        let outer = static_key(2);
        let client = keys(exported.bytes(), Some(&outer), Role::Client);
        let packet = client.seal(stamp(1), &header(), b"body");
        let server = |outer| keys(exported.bytes(), outer, Role::Server).open(&packet);
        assert!(server(Some(&outer)).is_ok());
        assert!(server(None).is_err());
        assert!(server(Some(&exported)).is_err());
    }
}
