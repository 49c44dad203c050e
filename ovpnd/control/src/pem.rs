// SPDX-License-Identifier: MIT OR Apache-2.0
//! Certificates and private keys in PEM (RFC 7468), from files or inline.

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer,
    PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

use crate::pbes2;
use crate::refusal::Refusal;

/// Certificates of one text: a bundle of CAs has about 150.
const MAX_CERTIFICATES: usize = 512;

/// A block between a BEGIN and an END line. Wiped when dropped.
pub(crate) struct Block<'a> {
    /// The words after BEGIN.
    pub(crate) label: &'a str,
    /// It has lines like `Proc-Type: 4,ENCRYPTED`.
    pub(crate) headers: bool,
    /// The bytes.
    pub(crate) content: Zeroizing<Vec<u8>>,
}

/// The blocks of `text`, in their order; text around them is skipped.
pub(crate) fn blocks(text: &[u8]) -> impl Iterator<Item = Result<Block<'_>, Refusal>> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    std::iter::from_fn(move || {
        let label = lines.by_ref().find_map(|line| label(line, "-----BEGIN "))?;
        let (mut base64, mut headers) = (Base64::new(text.len()), false);
        for line in lines.by_ref() {
            match self::label(line, "-----END ") {
                Some(end) if end == label => {
                    let content = base64.finish();
                    return Some(content.map(|content| Block {
                        label,
                        headers,
                        content,
                    }));
                }
                Some(_) => break,
                None if line.contains(&b':') => headers = true,
                None => {
                    if base64.push(line).is_none() {
                        break;
                    }
                }
            }
        }
        Some(Err(Refusal::Pem))
    })
    // After a damaged block there is no telling where the next begins.
    .scan(false, |failed, block| {
        let ended = std::mem::replace(failed, block.is_err());
        (!ended).then_some(block)
    })
}

fn label<'a>(line: &'a [u8], start: &str) -> Option<&'a str> {
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// Decodes base64 without leaving copies of keys behind.
struct Base64 {
    out: Zeroizing<Vec<u8>>,
    /// The bits of an unfinished byte, and how many.
    bits: (u32, u32),
    padding: usize,
    digits: usize,
}

impl Base64 {
    fn new(capacity: usize) -> Self {
        Self {
            out: Zeroizing::new(Vec::with_capacity(capacity / 4 * 3 + 3)),
            bits: (0, 0),
            padding: 0,
            digits: 0,
        }
    }

    fn push(&mut self, line: &[u8]) -> Option<()> {
        for byte in line {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    self.padding += 1;
                    continue;
                }
                _ => return None,
            };
            if self.padding != 0 {
                return None;
            }
            self.digits += 1;
            let (bits, count) = (self.bits.0 << 6 | u32::from(value), self.bits.1 + 6);
            self.bits = match count {
                8.. => {
                    let byte = bits >> (count - 8) & 0xff;
                    self.out.push(u8::try_from(byte).ok()?);
                    (bits & ((1 << (count - 8)) - 1), count - 8)
                }
                _ => (bits, count),
            };
        }
        Some(())
    }

    fn finish(self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        match (self.digits % 4, self.padding) {
            (0, 0) | (2, 2) | (3, 1) if self.bits.0 == 0 => Ok(self.out),
            _ => Err(Refusal::Pem),
        }
    }
}

/// Writes a block, in lines of 64 digits.
pub(crate) fn write(label: &str, content: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Zeroizing::new(String::with_capacity(content.len() * 2 + 128));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in content.chunks(48) {
        for group in line.chunks(3) {
            let bits = (0..3).fold(0u32, |bits, at| {
                bits << 8 | u32::from(group.get(at).copied().unwrap_or(0))
            });
            for at in 0..4 {
                let digit = usize::try_from(bits >> (18 - 6 * at) & 63).ok();
                let digit = digit.and_then(|digit| DIGITS.get(digit));
                text.push(match digit {
                    Some(digit) if at <= group.len() => char::from(*digit),
                    _ => '=',
                });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The certificates in a text, at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let mut found = Vec::new();
    for block in blocks(text) {
        let block = block?;
        if matches!(
            block.label,
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"
        ) {
            found.push(CertificateDer::from(block.content.to_vec()));
        }
        if found.len() > MAX_CERTIFICATES {
            return Err(Refusal::Chain(format!(
                "more than {MAX_CERTIFICATES} certificates"
            )));
        }
    }
    match found.is_empty() {
        true if is_pkcs12(text) => Err(Refusal::Pkcs12),
        true => Err(Refusal::NoCertificate),
        false => Ok(found),
    }
}

/// The lists of revoked certificates in a text, at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn revocation_lists(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, Refusal> {
    let mut found = Vec::new();
    for block in blocks(text) {
        let block = block.map_err(|why| Refusal::CrlUnreadable(why.to_string()))?;
        if block.label == "X509 CRL" {
            found.push(CertificateRevocationListDer::from(block.content.to_vec()));
        }
    }
    match found.is_empty() {
        true => Err(Refusal::CrlUnreadable(
            "there is no PEM block \"X509 CRL\" in it".into(),
        )),
        false => Ok(found),
    }
}

/// The first private key in a text: PKCS#8, PKCS#1 or SEC1, or PKCS#8 encrypted with `passphrase`.
///
/// # Errors
/// There is none that can be read.
pub fn private_key(
    text: &[u8],
    passphrase: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, Refusal> {
    for block in blocks(text) {
        let block = block?;
        let content = || block.content.to_vec();
        return Ok(match block.label {
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" if block.headers => {
                return Err(Refusal::KeyEncryption("OpenSSL's old method"));
            }
            "PRIVATE KEY" => PrivatePkcs8KeyDer::from(content()).into(),
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(content()).into(),
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(content()).into(),
            "ENCRYPTED PRIVATE KEY" => {
                let passphrase = passphrase.ok_or(Refusal::PassphraseMissing)?;
                let key = pbes2::decrypt(&block.content, passphrase)?;
                PrivatePkcs8KeyDer::from(key.to_vec()).into()
            }
            _ => continue,
        });
    }
    match is_pkcs12(text) {
        true => Err(Refusal::Pkcs12),
        false => Err(Refusal::NoKey),
    }
}

/// A PFX begins with a sequence of some length and version 3 (RFC 7292, section 4).
fn is_pkcs12(text: &[u8]) -> bool {
    matches!(
        text,
        [0x30, 0x82, _, _, 2, 1, 3, ..]
            | [0x30, 0x80, 2, 1, 3, ..]
            | [0x30, 0x83, _, _, _, 2, 1, 3, ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn only(text: &str) -> Result<Vec<u8>, Refusal> {
        blocks(text.as_bytes())
            .next()
            .unwrap()
            .map(|block| block.content.to_vec())
    }

    #[test]
    fn base64_has_its_known_answers() {
        // RFC 4648, section 10.
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9v\nYmE=", b"fooba"),
            ("Zm9vYmFy", b"foobar"),
        ] {
            let text = format!("noise\n-----BEGIN X-----\r\n{text}\n-----END X-----\n");
            assert_eq!(only(&text), Ok(bytes.to_vec()), "{text}");
        }
    }

    #[test]
    fn damaged_blocks_are_refused() {
        for body in [
            "Zg", "Zg=", "Zg===", "Z", "Zm9v=", "Zh==", "Z=g=", "Zm 9v", "Zm9v-",
        ] {
            let text = format!("-----BEGIN X-----\n{body}\n-----END X-----\n");
            assert_eq!(only(&text), Err(Refusal::Pem), "{body}");
        }
        assert_eq!(
            only("-----BEGIN X-----\nZg==\n-----END Y-----\n"),
            Err(Refusal::Pem)
        );
        assert_eq!(only("-----BEGIN X-----\nZg==\n"), Err(Refusal::Pem));
    }

    #[test]
    fn keys_that_are_not_read_say_how_to_convert_them() {
        let block = |label: &str, head: &str| {
            format!("-----BEGIN {label}-----\n{head}AAAA\n-----END {label}-----\n")
        };
        let load = |text: &str| private_key(text.as_bytes(), None).unwrap_err();
        let old = block(
            "RSA PRIVATE KEY",
            "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\n",
        );
        let refused = load(&old);
        assert_eq!(refused, Refusal::KeyEncryption("OpenSSL's old method"));
        assert!(refused.remedy().unwrap().contains("openssl pkey"));
        assert_eq!(
            load(&block("ENCRYPTED PRIVATE KEY", "")),
            Refusal::PassphraseMissing
        );
        assert_eq!(load(&block("CERTIFICATE", "")), Refusal::NoKey);
        assert_eq!(load(""), Refusal::NoKey);
        let pfx = [0x30, 0x82, 9, 9, 2, 1, 3, 0x30];
        assert_eq!(private_key(&pfx, None).unwrap_err(), Refusal::Pkcs12);
        assert_eq!(certificates(&pfx).unwrap_err(), Refusal::Pkcs12);
        assert_eq!(
            certificates(old.as_bytes()).unwrap_err(),
            Refusal::NoCertificate
        );
    }

    proptest! {
        #[test]
        fn blocks_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = write("SOME THING", &bytes);
            prop_assert_eq!(only(&text), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = b"-----BEGIN PRIVATE KEY-----\n".to_vec();
            text.extend(&bytes);
            for text in [&text, &bytes] {
                let _ = (certificates(text), private_key(text, Some(b"x")), revocation_lists(text));
            }
        }
    }
}
