// SPDX-License-Identifier: GPL-2.0-only
//! Dependencies, and the names a package provides: `[!]name[operator version]` (apk-package(5)).

use crate::value::{Reader, Val, Writer};
use crate::{Error, Result, version};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Bits of the field that says how versions are compared (apk-tools, apk_version.h).
const EQUAL: u8 = 1;
const LESS: u8 = 2;
const GREATER: u8 = 4;
const FUZZY: u8 = 8;
const CONFLICT: u8 = 16;
const ANY: u8 = EQUAL | LESS | GREATER;

/// A name, and which of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Of a package, or one that packages provide.
    pub name: String,
    /// None stands for all versions; of a provided name, for a virtual one.
    pub version: Option<String>,
    ops: u8,
}

impl Dependency {
    /// Whether it says what must not be there.
    pub fn is_conflict(&self) -> bool {
        self.ops & CONFLICT != 0
    }

    /// Whether a package that provides this dependency's name satisfies it, by the version it provides, if it does so with
    /// any. Of a conflict: whether it is one with that package.
    pub fn is_met(&self, provided: Option<&str>) -> Result<bool> {
        let (Some(wanted), Some(provided)) = (self.version.as_deref(), provided) else {
            return Ok(self.version.is_none());
        };
        let fuzzy = self.ops & FUZZY != 0 && version::begins_with(provided, wanted);
        let bit = match version::compare(provided, wanted)? {
            Ordering::Less => LESS,
            Ordering::Equal => EQUAL,
            Ordering::Greater => GREATER,
        };
        Ok(fuzzy || self.ops & bit != 0)
    }

    fn operator(&self) -> &'static str {
        match self.ops & (ANY | FUZZY) {
            LESS => "<",
            3 => "<=",
            GREATER => ">",
            5 => ">=",
            8 | 9 => "~",
            _ => "=",
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) -> Result<Val> {
        let name = writer.blob(self.name.as_bytes())?;
        let version = writer.blob(self.version.as_deref().unwrap_or_default().as_bytes())?;
        let ops = match self.ops {
            ANY | EQUAL => Val::NULL,
            ops => writer.int(ops.into())?,
        };
        writer.object(&[name, version, ops])
    }

    pub(crate) fn read(reader: &Reader<'_>, value: Val) -> Result<Self> {
        let fields = reader.list(value)?;
        let version = reader.text(fields.field(2))?;
        let ops = reader.int(fields.field(3))?;
        let ops = u8::try_from(ops).ok().filter(|o| *o < 2 * CONFLICT);
        let ops = match (ops, version) {
            (Some(0), "") => ANY,
            (Some(0), _) => EQUAL,
            (Some(ops), _) => ops,
            (None, _) => return Err(Error::Damaged("a dependency of an unknown kind")),
        };
        let all = Self {
            name: reader.text(fields.field(1))?.to_owned(),
            version: (!version.is_empty()).then(|| version.to_owned()),
            ops,
        };
        // The text must read back as the same dependency.
        all.to_string().parse::<Self>()?;
        Ok(all)
    }

    /// How apk sorts them: by name, version and operator.
    fn order(&self, other: &Self) -> Ordering {
        let versions = match (&self.version, &other.version) {
            (Some(a), Some(b)) => version::compare(a, b).unwrap_or(Ordering::Equal),
            _ => Ordering::Equal,
        };
        let names = self.name.as_bytes().cmp(other.name.as_bytes());
        names.then(versions).then(self.ops.cmp(&other.ops))
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.is_conflict() { "!" } else { "" };
        match &self.version {
            Some(version) => write!(f, "{not}{}{}{version}", self.name, self.operator()),
            None => write!(f, "{not}{}", self.name),
        }
    }
}

impl FromStr for Dependency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Word(text.to_owned(), "dependency");
        let (conflict, rest) = match text.strip_prefix('!') {
            Some(rest) => (CONFLICT, rest),
            None => (0, text),
        };
        let end = rest.find(['<', '>', '=', '~']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at_checked(end).ok_or_else(wrong)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._/:,@[]".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(wrong());
        }
        let version = rest.trim_start_matches(['<', '>', '=', '~']);
        let ops = match rest.strip_suffix(version).unwrap_or_default() {
            "" => ANY,
            "=" => EQUAL,
            "<" => LESS,
            "<=" => LESS | EQUAL,
            ">" => GREATER,
            ">=" => GREATER | EQUAL,
            "~" | "=~" => FUZZY | EQUAL,
            _ => return Err(wrong()),
        };
        if ops != ANY {
            version::check(version)?;
        }
        Ok(Self {
            name: name.to_owned(),
            version: (ops != ANY).then(|| version.to_owned()),
            ops: ops | conflict,
        })
    }
}

/// Dependencies of a text, which spaces or lines part.
pub fn list(text: &str) -> Result<Vec<Dependency>> {
    let words = text.split([' ', '\n', '\t']).filter(|w| !w.is_empty());
    words.map(str::parse).collect()
}

pub(crate) fn write_all(writer: &mut Writer, all: &[Dependency]) -> Result<Val> {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by(|a, b| a.order(b));
    sorted.dedup();
    let items: Vec<_> = sorted
        .into_iter()
        .map(|d| d.write(writer))
        .collect::<Result<_>>()?;
    writer.array(&items)
}

pub(crate) fn read_all(reader: &Reader<'_>, value: Val) -> Result<Vec<Dependency>> {
    let list = reader.list(value)?;
    list.items().map(|v| Dependency::read(reader, v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Dependency {
        text.parse().unwrap()
    }

    #[test]
    fn met() {
        for (dependency, provided, met) in [
            ("a", None, true),
            ("a", Some("1"), true),
            ("a=1", None, false),
            ("a=1", Some("1"), true),
            ("a=1", Some("2"), false),
            ("a>=1.5", Some("1.10"), true),
            ("a<1.5", Some("1.10"), false),
            ("a~1.5", Some("1.5.2"), true),
            ("!a", None, true),
            ("kernel=6.12.71~0a1b-r1", Some("6.12.71~0a1b-r1"), true),
            ("kernel=6.12.71~0a1b-r1", Some("6.12.71~0a1c-r1"), false),
        ] {
            assert_eq!(
                one(dependency).is_met(provided).unwrap(),
                met,
                "{dependency}"
            );
            assert_eq!(one(dependency).to_string(), dependency);
        }
        assert!(one("!a").is_conflict() && !one("a").is_conflict());
    }

    #[test]
    fn what_is_none() {
        for bad in ["", "!", "=1", "a=", "a=x", "a b", "a>>1", "a(=1)", "a\n"] {
            assert!(bad.parse::<Dependency>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sorted_and_once() {
        let mut writer = Writer::default();
        let root = write_all(&mut writer, &list("b a=2 a=1\nb").unwrap()).unwrap();
        let bytes = writer.finish(root);
        let reader = Reader::new(&bytes).unwrap();
        let all = read_all(&reader, reader.root().unwrap()).unwrap();
        let all: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["a=1", "a=2", "b"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "!?[a-z][a-z0-9-]{0,8}(([<>=~]|<=|>=)[0-9]{1,3}(\\.[0-9]{1,3}){0,2})?") {
            prop_assume!(!text.contains("-r"));
            let before = one(&text);
            let mut writer = Writer::default();
            let root = before.write(&mut writer).unwrap();
            let bytes = writer.finish(root);
            let reader = Reader::new(&bytes).unwrap();
            prop_assert_eq!(Dependency::read(&reader, reader.root().unwrap()).unwrap(), before);
        }
    }
}
