// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private keys under a passphrase: PKCS#8 with PBES2, PBKDF2 and AES in CBC mode (RFC 8018, RFC 5958), as OpenSSL
//! has written them since 1.1.

use std::num::NonZeroU32;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, KeyIvInit};
use ring::pbkdf2;
use zeroize::Zeroizing;

use crate::der::Reader;
use crate::refusal::Refusal;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

const OID_PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const OID_PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const OID_HMAC_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7];
const OID_HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
const OID_HMAC_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10];
const OID_HMAC_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11];
const OID_AES128_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2];
const OID_AES192_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22];
const OID_AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];

/// A minute's work for a router; OpenSSL takes 2048 rounds.
const MAX_ROUNDS: u32 = 10_000_000;

/// The PKCS#8 key inside an `EncryptedPrivateKeyInfo`.
///
/// # Errors
/// Another encryption, a wrong passphrase, or damaged DER.
pub(crate) fn decrypt(der: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let damaged = |_| Refusal::UnusableKey;
    let mut info = Reader(der).enter(SEQUENCE).map_err(damaged)?;
    let mut algorithm = info.enter(SEQUENCE).map_err(damaged)?;
    let mut data = Zeroizing::new(info.take(OCTET_STRING).map_err(damaged)?.to_vec());
    if algorithm.take(OID).map_err(damaged)? != OID_PBES2 {
        return Err(Refusal::KeyEncryption("a scheme older than PBES2"));
    }
    let mut parts = algorithm.enter(SEQUENCE).map_err(damaged)?;
    let mut derivation = parts.enter(SEQUENCE).map_err(damaged)?;
    let mut encryption = parts.enter(SEQUENCE).map_err(damaged)?;
    if derivation.take(OID).map_err(damaged)? != OID_PBKDF2 {
        return Err(Refusal::KeyEncryption(
            "scrypt or another derivation than PBKDF2",
        ));
    }
    let mut derivation = derivation.enter(SEQUENCE).map_err(damaged)?;
    let salt = derivation.take(OCTET_STRING).map_err(damaged)?;
    let rounds = derivation.take(INTEGER).map_err(damaged)?;
    let rounds = rounds
        .iter()
        .try_fold(0u32, |rounds, byte| {
            rounds.checked_mul(256)?.checked_add(u32::from(*byte))
        })
        .filter(|rounds| *rounds <= MAX_ROUNDS)
        .and_then(NonZeroU32::new)
        .ok_or(Refusal::KeyEncryption("too many rounds"))?;
    // The length of the key follows from the cipher.
    derivation.enter_if(INTEGER).map_err(damaged)?;
    let hash = match derivation.enter_if(SEQUENCE).map_err(damaged)? {
        None => OID_HMAC_SHA1,
        Some(mut hash) => hash.take(OID).map_err(damaged)?,
    };
    let hash = match hash {
        OID_HMAC_SHA1 => pbkdf2::PBKDF2_HMAC_SHA1,
        OID_HMAC_SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
        OID_HMAC_SHA384 => pbkdf2::PBKDF2_HMAC_SHA384,
        OID_HMAC_SHA512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(Refusal::KeyEncryption("an unusual hash")),
    };
    let cipher = encryption.take(OID).map_err(damaged)?;
    let iv = encryption.take(OCTET_STRING).map_err(damaged)?;
    let key = |len| {
        let mut key = Zeroizing::new(vec![0; len]);
        pbkdf2::derive(hash, rounds, salt, passphrase, &mut key);
        key
    };
    let plain = match cipher {
        OID_AES128_CBC => open::<cbc::Decryptor<aes::Aes128>>(&key(16), iv, &mut data),
        OID_AES192_CBC => open::<cbc::Decryptor<aes::Aes192>>(&key(24), iv, &mut data),
        OID_AES256_CBC => open::<cbc::Decryptor<aes::Aes256>>(&key(32), iv, &mut data),
        _ => return Err(Refusal::KeyEncryption("another cipher than AES-CBC")),
    }?;
    data.truncate(plain);
    // Padding fits by chance once in 256 wrong passphrases; a whole sequence does not.
    let mut whole = Reader(&data);
    match whole.enter(SEQUENCE).and_then(|_| whole.end()) {
        Ok(()) => Ok(data),
        Err(_) => Err(Refusal::PassphraseWrong),
    }
}

/// Decrypts in place; the length without padding.
fn open<D: KeyIvInit + BlockDecryptMut>(
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<usize, Refusal> {
    D::new_from_slices(key, iv)
        .map_err(|_| Refusal::UnusableKey)?
        .decrypt_padded_mut::<Pkcs7>(data)
        .map(<[u8]>::len)
        .map_err(|_| Refusal::PassphraseWrong)
}
