// SPDX-License-Identifier: GPL-2.0-or-later
//! Names of ciphers, digests, suites and groups that OpenVPN 2.7.8 takes, as `openvpn --show-ciphers` and its
//! siblings list them with OpenSSL 3.5. Case does not matter to OpenSSL, except in names of suites.

/// Ciphers of blocks with 128, 192 and 256 bits of key, and the modes of them that carry data.
const FAMILIES: [(&str, &str); 3] = [
    ("AES", "CBC CFB CFB1 CFB8 GCM OFB"),
    ("ARIA", "CBC CFB CFB1 CFB8 GCM OFB"),
    ("CAMELLIA", "CBC CFB CFB1 CFB8 OFB"),
];
const OTHERS: &str = "CHACHA20-POLY1305 SM4-CBC SM4-CFB SM4-GCM SM4-OFB DES-EDE-CBC DES-EDE-CFB DES-EDE-OFB \
    DES-EDE3-CBC DES-EDE3-CFB DES-EDE3-CFB1 DES-EDE3-CFB8 DES-EDE3-OFB";

fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|one| one.eq_ignore_ascii_case(word))
}

/// Whether data can be encrypted with it.
pub fn is_cipher(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    let parts: Vec<&str> = upper.split('-').collect();
    let of_family = match parts[..] {
        [family, bits, mode] if is_in("128 192 256", bits) => FAMILIES
            .iter()
            .any(|(name, modes)| *name == family && is_in(modes, mode)),
        _ => false,
    };
    of_family || is_in(OTHERS, word)
}

/// Whether messages can be authenticated with it; `none` is for ciphers that do so themselves.
pub fn is_digest(word: &str) -> bool {
    let list = "none SHA1 SHA-1 SHA224 SHA-224 SHA2-224 SHA256 SHA-256 SHA2-256 SHA384 SHA-384 SHA2-384 SHA512 SHA-512 \
        SHA2-512 SHA512-224 SHA2-512/224 SHA-512/224 SHA512-256 SHA2-512/256 SHA-512/256 SHA3-224 SHA3-256 SHA3-384 SHA3-512 \
        RIPEMD160 RIPEMD RMD160 RIPEMD-160 MD5 SSL3-MD5 MD5-SHA1 SM3 BLAKE2s256 BLAKE2S-256 BLAKE2b512 BLAKE2B-512 \
        SSL3-SHA1 RSA-SHA1 RSA-SHA256 RSA-SHA512 RSA-MD5 SHA2-256/192";
    is_in(list, word)
}

/// Whether a list of suites up to TLS 1.2 has one that can be: a suite or one of OpenSSL's words for many.
pub fn has_suite(list: &str) -> bool {
    let words = "ALL DEFAULT COMPLEMENTOFALL COMPLEMENTOFDEFAULT HIGH MEDIUM LOW RSA kRSA aRSA ECDHE kECDHE EECDH kEECDH \
        DHE EDH kDHE kEDH ECDH aECDSA ECDSA aDSS DSS PSK kPSK SRP AES AES128 AES256 AESGCM AESCCM ARIA CAMELLIA CHACHA20 \
        SHA SHA1 SHA256 SHA384 TLSv1 TLSv1.0 TLSv1.2 FIPS";
    let known = |one: &str| {
        let one = one.trim_start_matches(['+', '!', '-']);
        one.starts_with('@')
            || one.contains('-')
            || one
                .split('+')
                .all(|one| words.split_whitespace().any(|word| word == one))
    };
    list.split([':', ',', ' '])
        .any(|one| !one.starts_with(['!', '-', '@']) && known(one))
}

/// Whether a list of suites of TLS 1.3 has none but those that can be.
pub fn has_suite13(list: &str) -> bool {
    let known = "TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_CCM_SHA256 \
        TLS_AES_128_CCM_8_SHA256";
    list.split(':').any(|one| {
        known
            .split_whitespace()
            .any(|known| known == one.replace('-', "_"))
    })
}

/// Whether all groups of a list are known; one with `?` may be unknown.
pub fn are_groups(list: &str) -> bool {
    let known = "X25519 X448 P-256 P-384 P-521 secp256r1 prime256v1 secp384r1 secp521r1 secp224r1 secp256k1 \
        brainpoolP256r1 brainpoolP384r1 brainpoolP512r1 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 ffdhe8192 \
        X25519MLKEM768 SecP256r1MLKEM768 SecP384r1MLKEM1024 MLKEM512 MLKEM768 MLKEM1024 x25519 x448";
    list.split([':', '/']).all(|one| {
        one.starts_with('?')
            || known
                .split_whitespace()
                .any(|known| known.eq_ignore_ascii_case(one.trim_start_matches('*')))
    })
}
