// SPDX-License-Identifier: GPL-2.0-only
//! The description of a package, which the package and each index with it has.

use crate::depend::{self, Dependency};
use crate::value::{Reader, Val, Writer};
use crate::{Error, Result, version};

/// Fields by their numbers, the last one included (apk-tools, apk_adb.h).
const FIELDS: usize = 21;
const NAME: usize = 1;
const VERSION: usize = 2;
const HASHES: usize = 3;
const DESCRIPTION: usize = 4;
const ARCH: usize = 5;
const LICENSE: usize = 6;
const ORIGIN: usize = 7;
const MAINTAINER: usize = 8;
const URL: usize = 9;
const INSTALLED_SIZE: usize = 12;
const FILE_SIZE: usize = 13;
const PRIORITY: usize = 14;
const DEPENDS: usize = 15;
const PROVIDES: usize = 16;
const TAGS: usize = 21;

/// A package's description. Texts and numbers that are empty or 0 are absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// In an index SHA-256 of the package's database, 32 bytes; in a package 20 bytes that tell builds apart.
    pub hashes: Vec<u8>,
    /// A sentence.
    pub description: String,
    /// The processor, or `noarch`.
    pub arch: String,
    /// SPDX names.
    pub license: String,
    /// The recipe it is built by.
    pub origin: String,
    /// A name and an address.
    pub maintainer: String,
    /// Where more is said.
    pub url: String,
    /// Bytes of its files.
    pub installed_size: u64,
    /// Bytes of the package; in an index only.
    pub file_size: u64,
    /// Whose virtual name is preferred; 0 prefers none.
    pub priority: u64,
    /// Packages that have to be there, and packages that must not.
    pub depends: Vec<Dependency>,
    /// Names it also goes by.
    pub provides: Vec<Dependency>,
    /// A description for people.
    pub tags: Vec<String>,
}

/// Refuses what is no name of a package.
fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    match first && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(Error::Word(name.to_owned(), "name of a package")),
    }
}

impl Info {
    fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        version::check(&self.version)
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}-{}.apk", self.name, self.version)
    }

    /// Writes it with `hashes`.
    pub(crate) fn write(&self, writer: &mut Writer, hashes: Val) -> Result<Val> {
        self.check()?;
        let mut fields = [Val::NULL; FIELDS];
        let mut set = |number: usize, value: Val| {
            if let Some(field) = fields.get_mut(number - 1) {
                *field = value;
            }
        };
        for (number, text) in [
            (NAME, &self.name),
            (VERSION, &self.version),
            (DESCRIPTION, &self.description),
            (ARCH, &self.arch),
            (LICENSE, &self.license),
            (ORIGIN, &self.origin),
            (MAINTAINER, &self.maintainer),
            (URL, &self.url),
        ] {
            set(number, writer.blob(text.as_bytes())?);
        }
        set(HASHES, hashes);
        for (number, value) in [
            (INSTALLED_SIZE, self.installed_size),
            (FILE_SIZE, self.file_size),
            (PRIORITY, self.priority),
        ] {
            if value != 0 {
                set(number, writer.int(value)?);
            }
        }
        set(DEPENDS, depend::write_all(writer, &self.depends)?);
        set(PROVIDES, depend::write_all(writer, &self.provides)?);
        let tags = self.tags.iter().map(|t| writer.blob(t.as_bytes()));
        let tags: Vec<_> = tags.collect::<Result<_>>()?;
        set(TAGS, writer.array(&tags)?);
        writer.object(&fields)
    }

    pub(crate) fn read(reader: &Reader<'_>, value: Val) -> Result<Self> {
        let fields = reader.list(value)?;
        let text = |number| Ok::<_, Error>(reader.text(fields.field(number))?.to_owned());
        let int = |number| reader.int(fields.field(number));
        let tags = reader.list(fields.field(TAGS))?;
        let tags = tags.items().map(|t| Ok(reader.text(t)?.to_owned()));
        let all = Self {
            name: text(NAME)?,
            version: text(VERSION)?,
            hashes: reader.blob(fields.field(HASHES))?.to_vec(),
            description: text(DESCRIPTION)?,
            arch: text(ARCH)?,
            license: text(LICENSE)?,
            origin: text(ORIGIN)?,
            maintainer: text(MAINTAINER)?,
            url: text(URL)?,
            installed_size: int(INSTALLED_SIZE)?,
            file_size: int(FILE_SIZE)?,
            priority: int(PRIORITY)?,
            depends: depend::read_all(reader, fields.field(DEPENDS))?,
            provides: depend::read_all(reader, fields.field(PROVIDES))?,
            tags: tags.collect::<Result<_>>()?,
        };
        all.check()?;
        Ok(all)
    }
}
