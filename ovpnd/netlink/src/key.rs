// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data channel keys.

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::types::{CipherAlg, KeyId, PeerId, Slot};
use crate::wire::{Attrs, Schema, Writer};

// include/uapi/linux/ovpn.h, OVPN_A_KEYCONF_* and OVPN_A_KEYDIR_*
const PEER_ID: u16 = 1;
const SLOT: u16 = 2;
const KEY_ID: u16 = 3;
const CIPHER_ALG: u16 = 4;
const ENCRYPT_DIR: u16 = 5;
const DECRYPT_DIR: u16 = 6;
// kmod-ovpn/uapi/ovpn-ext.yaml
const DRIVER: u16 = 0x80;
const ASYNC: u16 = 0x81;
const CIPHER_KEY: u16 = 1;
const NONCE_TAIL: u16 = 2;

/// Bytes of a nonce that come with the key; the packet id makes the other 4.
pub const NONCE_TAIL_LEN: usize = 8;

static DIR_SCHEMA: Schema = Schema {
    attrs: &[
        (CIPHER_KEY, "cipher-key", None),
        (NONCE_TAIL, "nonce-tail", None),
    ],
};

pub(crate) static KEY_SCHEMA: Schema = Schema {
    attrs: &[
        (PEER_ID, "peer-id", None),
        (SLOT, "slot", None),
        (KEY_ID, "key-id", None),
        (CIPHER_ALG, "cipher-alg", None),
        (ENCRYPT_DIR, "encrypt-dir", Some(&DIR_SCHEMA)),
        (DECRYPT_DIR, "decrypt-dir", Some(&DIR_SCHEMA)),
        (DRIVER, "driver", None),
        (ASYNC, "async", None),
    ],
};

/// The secrets of one direction. Wiped when dropped; never printed.
pub struct KeyDir {
    /// 16, 24 or 32 bytes, after the cipher.
    pub cipher_key: Zeroizing<Vec<u8>>,
    /// The part of the nonce that packets do not carry.
    pub nonce_tail: Zeroizing<[u8; NONCE_TAIL_LEN]>,
}

impl std::fmt::Debug for KeyDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyDir({} bytes)", self.cipher_key.len())
    }
}

/// A key to install, both directions.
#[derive(Debug)]
pub struct NewKey {
    /// Whose key.
    pub peer: PeerId,
    /// Where to put it; a key already there is replaced.
    pub slot: Slot,
    /// Its number in packets.
    pub key_id: KeyId,
    /// The cipher.
    pub cipher: CipherAlg,
    /// For packets to the peer.
    pub encrypt: KeyDir,
    /// For packets from the peer.
    pub decrypt: KeyDir,
}

impl NewKey {
    pub(crate) fn write<'w>(&self, w: &'w mut Writer) -> &'w mut Writer {
        w.put_u32(PEER_ID, self.peer.get())
            .put_u32(SLOT, self.slot.raw())
            .put_u32(KEY_ID, self.key_id.get().into())
            .put_u32(CIPHER_ALG, self.cipher.raw());
        for (kind, dir) in [(ENCRYPT_DIR, &self.encrypt), (DECRYPT_DIR, &self.decrypt)] {
            w.nest(kind, |w| {
                w.put(CIPHER_KEY, &dir.cipher_key)
                    .put(NONCE_TAIL, dir.nonce_tail.as_slice())
            });
        }
        w
    }
}

/// Writes the attributes of `KEY_GET` and `KEY_DEL` (with `slot`) and `KEY_SWAP` (without).
pub(crate) fn write_key_name(w: &mut Writer, peer: PeerId, slot: Option<Slot>) -> &mut Writer {
    w.put_u32(PEER_ID, peer.get());
    match slot {
        Some(slot) => w.put_u32(SLOT, slot.raw()),
        None => w,
    }
}

/// A key as the kernel describes it: never its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Whose key.
    pub peer: PeerId,
    /// Where it is.
    pub slot: Slot,
    /// Its number in packets.
    pub key_id: KeyId,
    /// The cipher.
    pub cipher: CipherAlg,
    /// The implementation that carries the key: `library`, `none`, or a driver's name in /proc/crypto; none when the kernel does not tell.
    pub driver: Option<String>,
    /// That driver is asynchronous, as engines are.
    pub is_async: bool,
}

/// Every attribute of a key nest that can come from the kernel, each optional.
#[derive(Debug, Default)]
pub(crate) struct KeyAttrs {
    peer: Option<PeerId>,
    slot: Option<Slot>,
    key_id: Option<KeyId>,
    cipher: Option<CipherAlg>,
    driver: Option<String>,
    is_async: bool,
}

impl KeyAttrs {
    pub(crate) fn parse(attrs: Attrs<'_>) -> Result<Self> {
        let mut key = Self::default();
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                PEER_ID => key.peer = PeerId::new(attr.u32()?),
                SLOT => key.slot = Slot::from_raw(attr.u32()?),
                KEY_ID => {
                    // KEY_SWAP_NTF of Linux up to 7.2 carries 16 bits where the specification says 32.
                    let id = if attr.payload.len() == 2 {
                        attr.u16()?.into()
                    } else {
                        attr.u32()?
                    };
                    key.key_id = u8::try_from(id).ok().and_then(KeyId::new);
                }
                CIPHER_ALG => key.cipher = CipherAlg::from_raw(attr.u32()?),
                DRIVER => key.driver = Some(attr.text()),
                ASYNC => key.is_async = true,
                _ => {}
            }
        }
        Ok(key)
    }

    pub(crate) fn name(&self) -> Result<(PeerId, KeyId)> {
        self.peer
            .zip(self.key_id)
            .ok_or(Error::Malformed("key without a valid peer or key id"))
    }

    pub(crate) fn into_info(self) -> Result<KeyInfo> {
        let (peer, key_id) = self.name()?;
        let (slot, cipher) = self
            .slot
            .zip(self.cipher)
            .ok_or(Error::Malformed("key without a valid slot or cipher"))?;
        Ok(KeyInfo {
            peer,
            slot,
            key_id,
            cipher,
            driver: self.driver,
            is_async: self.is_async,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(byte: u8) -> KeyDir {
        KeyDir {
            cipher_key: Zeroizing::new(vec![byte; 16]),
            nonce_tail: Zeroizing::new([byte; NONCE_TAIL_LEN]),
        }
    }

    fn new_key() -> NewKey {
        NewKey {
            peer: PeerId::new(9).unwrap(),
            slot: Slot::Secondary,
            key_id: KeyId::new(3).unwrap(),
            cipher: CipherAlg::AesGcm,
            encrypt: dir(0xe0),
            decrypt: dir(0xd0),
        }
    }

    #[test]
    fn directions_keep_their_own_secrets() {
        let mut w = Writer::new();
        new_key().write(&mut w);
        for (kind, byte) in [(ENCRYPT_DIR, 0xe0), (DECRYPT_DIR, 0xd0)] {
            let nest = Attrs::new(w.as_bytes())
                .flatten()
                .find(|attr| attr.kind == kind)
                .unwrap();
            let parts: Vec<_> = nest
                .nested()
                .map(|attr| attr.map(|a| (a.kind, a.payload)))
                .collect::<std::result::Result<_, _>>()
                .unwrap();
            assert_eq!(
                parts,
                [(CIPHER_KEY, &[byte; 16][..]), (NONCE_TAIL, &[byte; 8][..])]
            );
        }
        let info = KeyAttrs::parse(Attrs::new(w.as_bytes()))
            .unwrap()
            .into_info()
            .unwrap();
        assert_eq!(
            (info.peer.get(), info.slot, info.key_id.get()),
            (9, Slot::Secondary, 3)
        );
    }

    #[test]
    fn what_carries_a_key_is_told_or_not() {
        let mut w = Writer::new();
        new_key().write(&mut w);
        let info =
            |w: &Writer| KeyAttrs::parse(Attrs::new(w.as_bytes())).and_then(KeyAttrs::into_info);
        let plain = info(&w).unwrap();
        assert_eq!((plain.driver, plain.is_async), (None, false));
        w.put(DRIVER, b"cryptd(x)\0").put(ASYNC, &[]);
        let told = info(&w).unwrap();
        assert_eq!(
            (told.driver.as_deref(), told.is_async),
            (Some("cryptd(x)"), true)
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", new_key());
        assert!(!text.contains("224") && !text.contains("e0e0"), "{text}");
    }

    #[test]
    fn key_id_comes_in_two_widths() {
        for narrow in [true, false] {
            let mut w = Writer::new();
            w.put_u32(PEER_ID, 1);
            if narrow {
                w.put(KEY_ID, &5u16.to_ne_bytes())
            } else {
                w.put_u32(KEY_ID, 5)
            };
            let name = KeyAttrs::parse(Attrs::new(w.as_bytes()))
                .unwrap()
                .name()
                .unwrap();
            assert_eq!(name.1.get(), 5);
        }
    }
}
