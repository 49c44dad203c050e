// SPDX-License-Identifier: GPL-2.0-only
//! Versions as apk orders them: `digits{.digits}[letter]{_suffix[digits]}[~hash][-rdigits]` (apk-package(5), "PACKAGE
//! METADATA").

use crate::{Error, Result};
use std::cmp::Ordering;

/// Suffixes in their order; those before the empty one mean a version that comes before the one without it.
const SUFFIXES: [&str; 10] = [
    "alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p",
];
/// The place of the empty one.
const RELEASE: usize = 4;

/// A part of a version. Where two versions begin alike, the one whose next part is of a later kind here is the lower.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part<'a> {
    First(&'a str),
    Digits(&'a str),
    Letter(u8),
    Suffix(usize),
    SuffixNumber(&'a str),
    Hash(&'a str),
    Revision(&'a str),
    End,
}

impl Part<'_> {
    fn rank(self) -> u8 {
        match self {
            Self::First(_) => 0,
            Self::Digits(_) => 1,
            Self::Letter(_) => 2,
            Self::Suffix(_) => 3,
            Self::SuffixNumber(_) => 4,
            Self::Hash(_) => 5,
            Self::Revision(_) => 6,
            Self::End => 7,
        }
    }
}

/// Splits what `keep` takes off the front of `text`; nothing is an error.
fn front<'a>(text: &mut &'a str, keep: fn(&u8) -> bool) -> Option<&'a str> {
    let length = text.bytes().take_while(keep).count();
    let (taken, rest) = text.split_at_checked(length)?;
    *text = rest;
    (length > 0).then_some(taken)
}

fn parts(mut text: &str) -> Option<Vec<Part<'_>>> {
    let mut all = vec![Part::First(front(&mut text, u8::is_ascii_digit)?)];
    while let Some(byte) = text.bytes().next() {
        let rank = all.last()?.rank();
        let part = match byte {
            b'.' if rank <= 1 => {
                text = text.get(1..)?;
                Part::Digits(front(&mut text, u8::is_ascii_digit)?)
            }
            b'0'..=b'9' if rank == 3 => Part::SuffixNumber(front(&mut text, u8::is_ascii_digit)?),
            b'a'..=b'z' if rank <= 1 => {
                text = text.get(1..)?;
                Part::Letter(byte)
            }
            b'_' if rank <= 4 => {
                text = text.get(1..)?;
                let name = front(&mut text, u8::is_ascii_lowercase)?;
                Part::Suffix(SUFFIXES.iter().position(|s| *s == name)?)
            }
            b'~' if rank <= 4 => {
                text = text.get(1..)?;
                let hash = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
                Part::Hash(front(&mut text, hash)?)
            }
            b'-' if rank <= 5 => {
                text = text.strip_prefix("-r")?;
                Part::Revision(front(&mut text, u8::is_ascii_digit)?)
            }
            _ => return None,
        };
        all.push(part);
    }
    all.push(Part::End);
    Some(all)
}

fn split(version: &str) -> Result<Vec<Part<'_>>> {
    parts(version).ok_or_else(|| Error::Word(version.to_owned(), "version"))
}

/// Refuses what is no version.
pub fn check(version: &str) -> Result<()> {
    split(version).map(|_| ())
}

/// Digits of any length, as a number.
fn number(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Which of two versions is the higher.
pub fn compare(one: &str, other: &str) -> Result<Ordering> {
    for (one, other) in split(one)?.into_iter().zip(split(other)?) {
        let order = match (one, other) {
            // With a zero in front digits are compared as a fraction's are.
            (Part::Digits(a), Part::Digits(b)) if a.starts_with('0') || b.starts_with('0') => {
                a.cmp(b)
            }
            (Part::First(a), Part::First(b))
            | (Part::Digits(a), Part::Digits(b))
            | (Part::SuffixNumber(a), Part::SuffixNumber(b))
            | (Part::Revision(a), Part::Revision(b)) => number(a, b),
            (Part::Hash(a), Part::Hash(b)) => a.cmp(b),
            (Part::Letter(a), Part::Letter(b)) => a.cmp(&b),
            (Part::Suffix(a), Part::Suffix(b)) => a.cmp(&b),
            (Part::Suffix(a), _) if a < RELEASE => Ordering::Less,
            (_, Part::Suffix(b)) if b < RELEASE => Ordering::Greater,
            _ => other.rank().cmp(&one.rank()),
        };
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

/// Whether a version begins with all parts of another: 1.5.2 with 1.5, which 1.50 does not.
pub fn begins_with(version: &str, start: &str) -> bool {
    let (Some(version), Some(start)) = (parts(version), parts(start)) else {
        return false;
    };
    let start = start.strip_suffix(&[Part::End]).unwrap_or_default();
    version.starts_with(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order() {
        // Each is higher than the one before it.
        let rising = [
            "0.1_alpha",
            "0.1_pre2",
            "0.1_rc1",
            "0.1",
            "0.1-r1",
            "0.1-r10",
            "0.1_p1",
            "0.1a",
            "0.1.0",
            "0.1.0-r1",
            "0.2.01",
            "0.2.1",
            "0.10",
            "6.12.71.0.1.0-r1",
            "6.12.71.7.1.0.2026080300-r1",
            "6.13~ab-r1",
            "18446744073709551616.1",
        ];
        for (i, one) in rising.iter().enumerate() {
            for (j, other) in rising.iter().enumerate() {
                assert_eq!(compare(one, other).unwrap(), i.cmp(&j), "{one} {other}");
            }
        }
        assert_eq!(compare("6.12~1b-r1", "6.12~1c-r1").unwrap(), Ordering::Less);
    }

    #[test]
    fn beginnings() {
        assert!(begins_with("1.5.2-r1", "1.5") && begins_with("1.5", "1.5"));
        assert!(!begins_with("1.50", "1.5") && !begins_with("1", "1.5"));
    }

    #[test]
    fn what_is_none() {
        for bad in [
            "", "a", "1.", "1-1", "1-r", "1_x", "1..2", "1~", "1-r1a", "1 ", "1ab",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(one: String, other in "[0-9a-z._~r-]{0,12}") {
            let _ = (compare(&one, &other), check(&other));
        }

        #[test]
        fn order_is_one(a in "[0-9]{1,2}(\\.[0-9]{1,2}){0,2}[ab]?(_(rc|p)[0-9]?)?(-r[0-9])?",
                        b in "[0-9]{1,2}(\\.[0-9]{1,2}){0,2}[ab]?(_(rc|p)[0-9]?)?(-r[0-9])?") {
            prop_assert_eq!(compare(&a, &b).unwrap(), compare(&b, &a).unwrap().reverse());
            prop_assert_eq!(compare(&a, &a).unwrap(), Ordering::Equal);
        }
    }
}
