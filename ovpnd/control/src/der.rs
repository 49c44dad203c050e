// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads from a certificate the few fields that OpenVPN asks about and people are shown (RFC 5280, section 4).
//!
//! The reader is total: any bytes give a certificate or an error. It proves nothing; signatures and the chain are
//! [`crate::verify`]'s. Names with a NUL or another control character are refused (CVE-2026-84790).

pub(crate) mod writer;

use std::fmt::{self, Write};

/// Why a certificate could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DerError {
    /// It ends inside a field, or a length is not in DER's short form.
    Malformed,
    /// A field is not of the type that belongs in its place.
    Unexpected,
    /// A name holds a NUL or another control character.
    ControlCharacter,
    /// A name is in an encoding that is not read, or broken in its own.
    Text,
    /// A time is not a valid one.
    Time,
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is cut off or not DER",
            Self::Unexpected => "a field is out of its place",
            Self::ControlCharacter => "a name in it holds a control character",
            Self::Text => "a name in it is not in a readable encoding",
            Self::Time => "a time in it is not valid",
        })
    }
}

impl std::error::Error for DerError {}

type Result<T> = std::result::Result<T, DerError>;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
pub(crate) const BOOLEAN: u8 = 0x01;
/// `[0] EXPLICIT Version`.
pub(crate) const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT Extensions`.
pub(crate) const EXTENSIONS: u8 = 0xa3;

const OID_COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(crate) const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
pub(crate) const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const OID_RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
pub(crate) const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 112];
pub(crate) const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const OID_P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
const OID_P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
/// id-kp-serverAuth and id-kp-clientAuth.
pub(crate) const OID_SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(crate) const OID_CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// A signature by ECDSA with SHA-512, which ring has not for P-256 and P-384.
const OID_ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
/// sha1WithRSAEncryption and ecdsa-with-SHA1.
const OID_RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
const OID_ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
const OID_RSA_MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];

/// The short names that OpenSSL prints, and with it `verify-x509-name ... subject` compares.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (OID_COMMON_NAME, "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 44], "generationQualifier"),
    (&[0x55, 4, 45], "x500UniqueIdentifier"),
    (&[0x55, 4, 46], "dnQualifier"),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
        "emailAddress",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
];

/// The kind of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with a modulus of this many bits.
    Rsa(usize),
    /// RSA that may only sign with PSS.
    RsaPss,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Another curve.
    OtherCurve,
    /// Ed25519.
    Ed25519,
    /// Anything else.
    Other,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA of {bits} bits"),
            Self::RsaPss => f.write_str("RSA-PSS"),
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::OtherCurve => f.write_str("an unusual curve"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other => f.write_str("an unknown kind"),
        }
    }
}

/// The algorithm that an issuer signed with, as far as refusals tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedWith {
    /// SHA-1 or MD5.
    Weak,
    /// ECDSA with SHA-512.
    EcdsaSha512,
    /// RSA-PSS.
    RsaPss,
    /// Anything else.
    Other,
}

/// The fields of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// 1 to 3.
    pub version: u8,
    /// The serial number's content, big-endian, as in the certificate.
    pub serial: Vec<u8>,
    /// The algorithm of its signature.
    pub signed_with: SignedWith,
    /// The issuer as OpenSSL prints it: `C=KG, ST=NA, CN=name`.
    pub issuer: String,
    /// Seconds since 1970 from which it is valid.
    pub not_before: i64,
    /// Seconds since 1970 until which it is valid.
    pub not_after: i64,
    /// The subject as OpenSSL prints it.
    pub subject: String,
    /// The last common name of the subject.
    pub common_name: Option<String>,
    /// The kind of its key.
    pub key: KeyKind,
    /// It has a key usage extension.
    pub key_usage: bool,
    /// Its extended key usage names servers.
    pub for_servers: bool,
    /// Its extended key usage names clients.
    pub for_clients: bool,
}

impl Certificate {
    /// Reads a certificate's DER.
    ///
    /// # Errors
    /// It is malformed, or a name in it is not readable text.
    pub fn parse(der: &[u8]) -> Result<Self> {
        let mut outer = Reader(der);
        let mut whole = outer.enter(SEQUENCE)?;
        outer.end()?;
        let mut tbs = whole.enter(SEQUENCE)?;
        let version = match tbs.enter_if(VERSION)? {
            None => 1,
            Some(mut version) => match version.take(INTEGER)? {
                [value @ 0..=2] => value + 1,
                _ => return Err(DerError::Unexpected),
            },
        };
        let serial = tbs.take(INTEGER)?;
        let mut algorithm = tbs.enter(SEQUENCE)?;
        let signed_with = match algorithm.take(OID)? {
            OID_ECDSA_SHA512 => SignedWith::EcdsaSha512,
            OID_RSA_SHA1 | OID_ECDSA_SHA1 | OID_RSA_MD5 => SignedWith::Weak,
            OID_RSA_PSS => SignedWith::RsaPss,
            _ => SignedWith::Other,
        };
        let (issuer, _) = name(tbs.enter(SEQUENCE)?)?;
        let mut validity = tbs.enter(SEQUENCE)?;
        let not_before = time(&mut validity)?;
        let not_after = time(&mut validity)?;
        let (subject, common_name) = name(tbs.enter(SEQUENCE)?)?;
        let key = key_kind(tbs.enter(SEQUENCE)?)?;
        let mut certificate = Self {
            version,
            serial: serial.to_vec(),
            signed_with,
            issuer,
            not_before,
            not_after,
            subject,
            common_name,
            key,
            key_usage: false,
            for_servers: false,
            for_clients: false,
        };
        while let Some((tag, mut content)) = tbs.next()? {
            if tag == EXTENSIONS {
                let mut list = content.enter(SEQUENCE)?;
                while !list.0.is_empty() {
                    certificate.extension(list.enter(SEQUENCE)?)?;
                }
            }
        }
        Ok(certificate)
    }

    fn extension(&mut self, mut extension: Reader<'_>) -> Result<()> {
        let id = extension.take(OID)?;
        extension.enter_if(BOOLEAN)?;
        let mut value = Reader(extension.take(OCTET_STRING)?);
        match id {
            OID_KEY_USAGE => {
                // One byte of unused bits, then the bits.
                self.key_usage = value
                    .take(BIT_STRING)?
                    .iter()
                    .skip(1)
                    .any(|bits| *bits != 0);
            }
            OID_EXTENDED_KEY_USAGE => {
                let mut list = value.enter(SEQUENCE)?;
                while !list.0.is_empty() {
                    match list.take(OID)? {
                        OID_SERVER_AUTH => self.for_servers = true,
                        OID_CLIENT_AUTH => self.for_clients = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The days after `now` (seconds since 1970) for which it is still valid; negative when it has expired.
    pub fn days_left(&self, now: u64) -> i64 {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.not_after.saturating_sub(now).div_euclid(86_400)
    }
}

/// The rest of a DER value.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value's tag and content.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, Self)>> {
        let Some((tag, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let (first, rest) = rest.split_first().ok_or(DerError::Malformed)?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            // At most 4 bytes of length, none of them superfluous (X.690, 10.1).
            0x81..=0x84 => {
                let (digits, rest) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or(DerError::Malformed)?;
                let len = digits.iter().fold(0u64, |len, d| len << 8 | u64::from(*d));
                if len < 0x80 || digits.first() == Some(&0) {
                    return Err(DerError::Malformed);
                }
                (usize::try_from(len).map_err(|_| DerError::Malformed)?, rest)
            }
            _ => return Err(DerError::Malformed),
        };
        let (content, rest) = rest.split_at_checked(len).ok_or(DerError::Malformed)?;
        self.0 = rest;
        Ok(Some((*tag, Self(content))))
    }

    /// The content of the next value, which has this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self> {
        match self.next()? {
            Some((found, content)) if found == tag => Ok(content),
            Some(_) => Err(DerError::Unexpected),
            None => Err(DerError::Malformed),
        }
    }

    pub(crate) fn take(&mut self, tag: u8) -> Result<&'a [u8]> {
        self.enter(tag).map(|content| content.0)
    }

    /// Like [`Self::enter`], for a value that may be absent.
    pub(crate) fn enter_if(&mut self, tag: u8) -> Result<Option<Self>> {
        match self.0.first() {
            Some(found) if *found == tag => self.enter(tag).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(DerError::Malformed),
        }
    }
}

/// A distinguished name as text, and its last common name.
fn name(mut rdns: Reader<'_>) -> Result<(String, Option<String>)> {
    let (mut text, mut common_name) = (String::new(), None);
    while !rdns.0.is_empty() {
        let mut rdn = rdns.enter(SET)?;
        let mut first = true;
        while !rdn.0.is_empty() {
            let mut pair = rdn.enter(SEQUENCE)?;
            let id = pair.take(OID)?;
            let (tag, value) = pair.next()?.ok_or(DerError::Malformed)?;
            let value = string(tag, value.0)?;
            if !text.is_empty() {
                text.push_str(if first { ", " } else { " + " });
            }
            first = false;
            match SHORT_NAMES.iter().find(|(oid, _)| *oid == id) {
                Some((_, short)) => text.push_str(short),
                None => text.push_str(&dotted(id)),
            }
            text.push('=');
            text.push_str(&value);
            if id == OID_COMMON_NAME {
                common_name = Some(value);
            }
        }
    }
    Ok((text, common_name))
}

fn string(tag: u8, bytes: &[u8]) -> Result<String> {
    let text = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | NUMERIC_STRING => std::str::from_utf8(bytes)
            .map_err(|_| DerError::Text)?
            .to_owned(),
        // No issuer writes T.61; certificates that say so hold Latin-1.
        T61_STRING => bytes.iter().copied().map(char::from).collect(),
        BMP_STRING => wide(bytes, 2)?,
        UNIVERSAL_STRING => wide(bytes, 4)?,
        _ => return Err(DerError::Text),
    };
    match text.chars().any(char::is_control) {
        true => Err(DerError::ControlCharacter),
        false => Ok(text),
    }
}

/// Characters of `width` bytes each, big-endian.
fn wide(bytes: &[u8], width: usize) -> Result<String> {
    let chunks = bytes.chunks_exact(width);
    if !chunks.remainder().is_empty() {
        return Err(DerError::Text);
    }
    chunks
        .map(|digits| {
            let value = digits
                .iter()
                .fold(0u32, |value, d| value << 8 | u32::from(*d));
            char::from_u32(value).ok_or(DerError::Text)
        })
        .collect()
}

/// An object identifier in its dotted form (X.690, 8.19).
fn dotted(id: &[u8]) -> String {
    let mut text = String::new();
    let mut value = 0u64;
    for byte in id {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = match text.is_empty() {
            true => {
                let root = (value / 40).min(2);
                write!(text, "{root}.{}", value - root * 40)
            }
            false => write!(text, ".{value}"),
        };
        value = 0;
    }
    text
}

fn key_kind(mut spki: Reader<'_>) -> Result<KeyKind> {
    let mut algorithm = spki.enter(SEQUENCE)?;
    let kind = match algorithm.take(OID)? {
        OID_RSA => {
            let bits = spki.take(BIT_STRING)?;
            let mut key = Reader(bits.get(1..).ok_or(DerError::Malformed)?);
            let modulus = key.enter(SEQUENCE)?.take(INTEGER)?;
            let mut digits = modulus.iter().skip_while(|byte| **byte == 0);
            let top = digits.next().map_or(0, |byte| 8 - byte.leading_zeros());
            // A top of at most 8 bits, and whole bytes below it.
            let bits = digits.count() * 8 + usize::try_from(top).unwrap_or(0);
            KeyKind::Rsa(bits)
        }
        OID_RSA_PSS => KeyKind::RsaPss,
        OID_ED25519 => KeyKind::Ed25519,
        OID_EC => match algorithm.enter_if(OID)?.map(|oid| oid.0) {
            Some(OID_P256) => KeyKind::P256,
            Some(OID_P384) => KeyKind::P384,
            Some(OID_P521) => KeyKind::P521,
            _ => KeyKind::OtherCurve,
        },
        _ => KeyKind::Other,
    };
    Ok(kind)
}

/// A UTCTime or GeneralizedTime in the forms of RFC 5280, 4.1.2.5: to the second, and in UTC.
fn time(reader: &mut Reader<'_>) -> Result<i64> {
    let (tag, content) = reader.next()?.ok_or(DerError::Malformed)?;
    let (digits, year_digits) = match tag {
        UTC_TIME => (content.0, 2),
        GENERALIZED_TIME => (content.0, 4),
        _ => return Err(DerError::Unexpected),
    };
    let (year, rest) = digits.split_at_checked(year_digits).ok_or(DerError::Time)?;
    let mut year = number(year)?;
    if tag == UTC_TIME {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let [a, b, c, d, e, f, g, h, i, j, b'Z'] = rest else {
        return Err(DerError::Time);
    };
    let month = number(&[*a, *b])?;
    let day = number(&[*c, *d])?;
    let (hour, minute, second) = (number(&[*e, *f])?, number(&[*g, *h])?, number(&[*i, *j])?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return Err(DerError::Time);
    }
    Ok(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Result<i64> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Ok(value * 10 + i64::from(digit - b'0')),
        _ => Err(DerError::Time),
    })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, years 0 to 9999.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the leap day.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u8::try_from(content.len()).unwrap();
        let mut value = match len {
            0..=0x7f => vec![tag, len],
            _ => vec![tag, 0x81, len],
        };
        value.extend(content);
        value
    }

    fn attribute(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let pair = [tlv(OID, oid), tlv(tag, text)].concat();
        tlv(SET, &tlv(SEQUENCE, &pair))
    }

    fn read_name(rdns: &[Vec<u8>]) -> Result<(String, Option<String>)> {
        name(Reader(&rdns.concat()))
    }

    #[test]
    fn names_are_printed_as_openssl_prints_them() {
        let read = read_name(&[
            attribute(&[0x55, 4, 6], PRINTABLE_STRING, b"KG"),
            attribute(OID_COMMON_NAME, UTF8_STRING, b"first"),
            attribute(OID_COMMON_NAME, BMP_STRING, b"\0l\0a\0s\0t"),
            attribute(&[0x2a, 3], IA5_STRING, b"x"),
        ]);
        let expected = "C=KG, CN=first, CN=last, 1.2.3=x".to_owned();
        assert_eq!(read, Ok((expected, Some("last".into()))));
    }

    #[test]
    fn names_with_control_characters_are_refused() {
        for text in [b"a\0b", b"a\nb", b"a\x1bb", b"a\x7fb"] {
            let read = read_name(&[attribute(OID_COMMON_NAME, UTF8_STRING, text)]);
            assert_eq!(read, Err(DerError::ControlCharacter), "{text:?}");
        }
        // In Latin-1 and in wide characters, too.
        for (tag, text) in [(T61_STRING, &b"a\x85"[..]), (BMP_STRING, b"\0a\0\0")] {
            let read = read_name(&[attribute(OID_COMMON_NAME, tag, text)]);
            assert_eq!(read, Err(DerError::ControlCharacter));
        }
        let read = read_name(&[attribute(OID_COMMON_NAME, UTF8_STRING, b"\xff")]);
        assert_eq!(read, Err(DerError::Text));
    }

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, expected) in [
            (UTC_TIME, &b"700101000000Z"[..], Ok(0)),
            (UTC_TIME, b"491231235959Z", Ok(2_524_607_999)),
            (UTC_TIME, b"500101000000Z", Ok(-631_152_000)),
            // date -u -d '2024-02-29 12:34:56' +%s
            (GENERALIZED_TIME, b"20240229123456Z", Ok(1_709_210_096)),
            (GENERALIZED_TIME, b"99991231235959Z", Ok(253_402_300_799)),
            (UTC_TIME, b"701301000000Z", Err(DerError::Time)),
            (UTC_TIME, b"700100000000Z", Err(DerError::Time)),
            (UTC_TIME, b"700101240000Z", Err(DerError::Time)),
            (UTC_TIME, b"700101000000", Err(DerError::Time)),
            (UTC_TIME, b"7001010000Z", Err(DerError::Time)),
            (UTC_TIME, b"7x0101000000Z", Err(DerError::Time)),
            (OID, b"700101000000Z", Err(DerError::Unexpected)),
        ] {
            assert_eq!(time(&mut Reader(&tlv(tag, text))), expected, "{text:?}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        for bytes in [
            &[SEQUENCE][..],
            &[SEQUENCE, 1],
            &[SEQUENCE, 0x80],
            &[SEQUENCE, 0x81, 1, 0],
            &[SEQUENCE, 0x82, 0, 0x80],
            &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[SEQUENCE, 0x85, 0, 0, 0, 0, 1, 0],
        ] {
            assert_eq!(Reader(bytes).next().err(), Some(DerError::Malformed));
        }
    }

    #[test]
    fn object_identifiers_are_dotted() {
        assert_eq!(dotted(&[0x2a, 0x86, 0x48]), "1.2.840");
        assert_eq!(dotted(&[0x55, 4, 3]), "2.5.4.3");
        assert_eq!(dotted(&[0x88, 0x37]), "2.999");
        // Longer than any number: no panic.
        dotted(&[0xff; 40]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::parse(&bytes);
            let _ = time(&mut Reader(&bytes));
            let _ = (name(Reader(&bytes)), key_kind(Reader(&bytes)), dotted(&bytes));
        }
    }
}
