// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes DER (X.690): values, and the few types that certificates and lists of revoked ones are made of.

use super::{
    BIT_STRING, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, UTC_TIME, UTF8_STRING,
};

/// A value with this tag, made of its parts.
pub(crate) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len @ 0..=0x7f) => out.push(len),
        _ => {
            let digits = content.len().to_be_bytes();
            let used = digits.iter().skip_while(|digit| **digit == 0);
            // A length has 8 digits at most.
            out.push(0x80 | u8::try_from(used.clone().count()).unwrap_or(8));
            out.extend(used);
        }
    }
    out.extend(content);
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, parts)
}

pub(crate) fn oid(id: &[u8]) -> Vec<u8> {
    value(OID, &[id])
}

pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    value(OCTET_STRING, &[content])
}

/// Whole bytes as a bit string.
pub(crate) fn bits(content: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], content])
}

/// A number that is not negative.
pub(crate) fn integer(number: u64) -> Vec<u8> {
    let digits = number.to_be_bytes();
    let used = digits.iter().position(|digit| *digit != 0).unwrap_or(7);
    let used = digits.get(used..).unwrap_or_default();
    // A first bit that is set would make it negative.
    let sign: &[u8] = match used.first() {
        Some(0x80..) => &[0],
        _ => &[],
    };
    value(INTEGER, &[sign, used])
}

/// A name of one common name.
pub(crate) fn common_name(text: &str) -> Vec<u8> {
    let attribute = sequence(&[
        &oid(super::OID_COMMON_NAME),
        &value(UTF8_STRING, &[text.as_bytes()]),
    ]);
    sequence(&[&value(SET, &[&attribute])])
}

/// A time in seconds since 1970: UTCTime until 2049, GeneralizedTime from then on (RFC 5280, 4.1.2.5).
pub(crate) fn time(seconds: u64) -> Vec<u8> {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let text = format!(
        "{month:02}{day:02}{:02}{:02}{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    match year {
        ..2050 => value(
            UTC_TIME,
            &[format!("{:02}", year % 100).as_bytes(), text.as_bytes()],
        ),
        _ => value(
            GENERALIZED_TIME,
            &[format!("{year:04}").as_bytes(), text.as_bytes()],
        ),
    }
}

/// Year, month and day of the Gregorian calendar, from the days since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March end with the leap day; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = match month {
        0..10 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, time as read_time};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_numbers_are_in_their_shortest_forms() {
        assert_eq!(value(4, &[&[7; 0x7f]]).get(..2), Some(&[4, 0x7f][..]));
        assert_eq!(value(4, &[&[7; 0x80]]).get(..3), Some(&[4, 0x81, 0x80][..]));
        assert_eq!(
            value(4, &[&[7; 0x100]]).get(..4),
            Some(&[4, 0x82, 1, 0][..])
        );
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(0x7f), [2, 1, 0x7f]);
        assert_eq!(integer(0x80), [2, 2, 0, 0x80]);
        assert_eq!(integer(0x1234), [2, 2, 0x12, 0x34]);
    }

    #[test]
    fn times_have_the_form_of_their_century() {
        // date -u -d 2049-12-31T23:59:59 +%s, and a second later
        assert_eq!(time(2_524_607_999), b"\x17\x0d491231235959Z");
        assert_eq!(time(2_524_608_000), b"\x18\x0f20500101000000Z");
        // date -u -d 2024-02-29T12:34:56 +%s
        assert_eq!(time(1_709_210_096), b"\x17\x0d240229123456Z");
    }

    proptest! {
        #[test]
        fn times_come_back(seconds in 0u64..(9999 - 1970) * 31_556_952) {
            let der = time(seconds);
            prop_assert_eq!(read_time(&mut Reader(&der)), Ok(i64::try_from(seconds).unwrap()));
        }

        #[test]
        fn values_come_back(content in prop::collection::vec(any::<u8>(), 0..600)) {
            let der = octets(&content);
            let mut reader = Reader(&der);
            prop_assert_eq!(reader.take(OCTET_STRING).unwrap(), &content[..]);
            prop_assert!(reader.end().is_ok());
        }
    }
}
