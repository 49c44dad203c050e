// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pseudorandom function of TLS 1.0 (RFC 2246, section 5), from which OpenVPN up to 2.5 derives its data keys.
//!
//! MD5 and SHA-1 are weak as hashes; here they are HMACs over a secret, XORed. Peers that can export keys from TLS
//! do so instead ([`crate::keys`]).

use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use zeroize::Zeroizing;

/// Fills `out` from `secret`, `label` and the parts of the seed, in their order. Any lengths are possible.
pub fn prf(secret: &[u8], label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    // Both halves have the middle byte of an odd secret.
    let half = secret.len().div_ceil(2);
    let (first, _) = secret.split_at(half);
    let (_, second) = secret.split_at(secret.len() - half);
    out.fill(0);
    let (Ok(md5), Ok(sha1)) = (
        Hmac::<Md5>::new_from_slice(first),
        Hmac::<Sha1>::new_from_slice(second),
    ) else {
        // HMAC takes keys of every length.
        return;
    };
    expand(&md5, label, seed, out);
    expand(&sha1, label, seed, out);
}

/// XORs P_hash of RFC 2246 into `out`.
fn expand<M: Mac + Clone>(keyed: &M, label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let with_seed = |mut mac: M| {
        mac.update(label);
        for part in seed {
            mac.update(part);
        }
        mac.finalize().into_bytes()
    };
    let mut a = with_seed(keyed.clone());
    for chunk in out.chunks_mut(M::output_size()) {
        let mut mac = keyed.clone();
        mac.update(&a);
        let block = Zeroizing::new(with_seed(mac).to_vec());
        for (byte, from) in chunk.iter_mut().zip(block.iter()) {
            *byte ^= from;
        }
        let mut next = keyed.clone();
        next.update(&a);
        a = next.finalize().into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// The vector with which the TLS working group's list settled the meaning of RFC 2246 in 2000; OpenSSL's
    /// `openssl kdf -keylen 104 -kdfopt digest:MD5-SHA1 -kdfopt hexsecret:.. -kdfopt hexseed:.. TLS1-PRF` agrees.
    #[test]
    fn known_answer() {
        let mut out = [0; 104];
        prf(&[0xab; 48], b"PRF Testvector", &[&[0xcd; 64]], &mut out);
        let expected = hex(
            "d3d4d1e349b5d515044666d51de32bab258cb521b6b053463e354832fd976754443bcf9a296519bc289abcbc1187e4eb\
             d31e602353776c408aafb74cbc85eff69255f9788faa184cbb957a9819d84a5d7eb006eb459d3ae8de9810454b8b2d8f\
             1afbc655a8c9a013",
        );
        assert_eq!(out.as_slice(), expected);
    }

    #[test]
    fn the_seed_is_its_parts_in_a_row() {
        let (mut whole, mut parts) = ([0; 50], [0; 50]);
        prf(b"odd", b"label", &[b"abcdef"], &mut whole);
        prf(b"odd", b"lab", &[b"elab", b"", b"cdef"], &mut parts);
        assert_eq!(whole, parts);
        prf(b"odd", b"label", &[b"abcdeg"], &mut parts);
        assert_ne!(whole, parts);
    }
}
