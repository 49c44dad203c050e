// SPDX-License-Identifier: GPL-2.0-only
//! The container: `ADB.`, the schema, and blocks of 4 bytes of header and up to 1 GiB of payload, each at a multiple of 8
//! bytes; or the same compressed after `ADBd` (apk-v3(5), "BLOCKS").

use crate::{Error, Result};
use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use std::io::Read;
use std::ops::Range;

/// Begins a container.
const PLAIN: &[u8; 4] = b"ADB.";
/// Begins one compressed by deflate (RFC 1951).
const DEFLATED: &[u8; 4] = b"ADBd";
/// Begins one whose compression and its level are the next two bytes.
const NAMED: &[u8; 4] = b"ADBc";
/// Blocks begin at multiples of so many bytes.
const ALIGNMENT: usize = 8;
/// Bytes of a block's header.
const HEADER: usize = 4;
/// Of a block's header: the length, with the header in it. The other two bits are the kind.
const LENGTH: u32 = 0x3fff_ffff;
/// The most that a compressed container may unpack to, bytes: the packages of a router have a few MiB.
pub const LIMIT: usize = 128 << 20;

/// The shape of the database's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// A package.
    Package,
    /// An index of packages.
    Index,
}

impl Schema {
    pub(crate) fn bytes(self) -> [u8; 4] {
        match self {
            Self::Package => *b"pckg",
            Self::Index => *b"indx",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Package => "package of apk 3",
            Self::Index => "index of apk 3",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Database,
    Signature,
    Data,
}

/// A container taken apart.
#[derive(Debug)]
pub struct Container {
    bytes: Vec<u8>,
    schema: Schema,
    database: Range<usize>,
    signatures: Vec<Range<usize>>,
    data: Vec<Range<usize>>,
}

impl Container {
    /// One with a database and nothing else yet.
    pub fn new(schema: Schema, database: &[u8]) -> Result<Self> {
        let mut bytes = PLAIN.to_vec();
        bytes.extend(schema.bytes());
        let database = append(&mut bytes, Kind::Database, &[database])?;
        Ok(Self {
            bytes,
            schema,
            database,
            signatures: Vec::new(),
            data: Vec::new(),
        })
    }

    /// Adds a signature, which comes before all data.
    pub fn add_signature(&mut self, signature: &[u8]) -> Result<()> {
        let mut block = Vec::new();
        let range = append(&mut block, Kind::Signature, &[signature])?;
        let at = self.signatures.last().unwrap_or(&self.database).end;
        let at = at.next_multiple_of(ALIGNMENT);
        for data in &mut self.data {
            *data = data.start + block.len()..data.end + block.len();
        }
        self.bytes.splice(at..at, block);
        self.signatures.push(range.start + at..range.end + at);
        Ok(())
    }

    /// Adds a block of data, of two parts.
    pub fn add_data(&mut self, head: &[u8], body: &[u8]) -> Result<()> {
        let range = append(&mut self.bytes, Kind::Data, &[head, body])?;
        self.data.push(range);
        Ok(())
    }

    /// Reads a container of a schema, compressed or not.
    pub fn read(bytes: &[u8], schema: Schema) -> Result<Self> {
        let bytes = unpack(bytes, schema.name(), LIMIT)?;
        let mut all = Self {
            schema,
            database: 0..0,
            signatures: Vec::new(),
            data: Vec::new(),
            bytes: Vec::new(),
        };
        let wanted = schema.bytes();
        if bytes.get(4..ALIGNMENT) != Some(&wanted[..]) {
            return Err(Error::Kind(schema.name()));
        }
        let mut at = ALIGNMENT;
        let mut before = None;
        while at < bytes.len() {
            let (kind, payload) = block(&bytes, at)?;
            let in_place = match (before, kind) {
                (None, kind) => kind == Kind::Database,
                (Some(_), Kind::Database) => false,
                (Some(before), Kind::Signature) => before != Kind::Data,
                (Some(_), Kind::Data) => true,
            };
            if !in_place {
                return Err(Error::Damaged("a block out of place"));
            }
            at = payload.end.next_multiple_of(ALIGNMENT);
            match kind {
                Kind::Database => all.database = payload,
                Kind::Signature => all.signatures.push(payload),
                Kind::Data => all.data.push(payload),
            }
            before = Some(kind);
        }
        if before.is_none() || at != bytes.len() {
            return Err(Error::Damaged("an end in the middle of a block"));
        }
        all.bytes = bytes;
        Ok(all)
    }

    /// The database.
    pub fn database(&self) -> &[u8] {
        self.part(&self.database)
    }

    /// The signatures.
    pub fn signatures(&self) -> impl Iterator<Item = &[u8]> {
        self.signatures.iter().map(|range| self.part(range))
    }

    /// The payloads of the blocks of data.
    pub fn data(&self) -> impl Iterator<Item = &[u8]> {
        self.data.iter().map(|range| self.part(range))
    }

    /// The header that a signature covers, beside the database.
    pub fn schema(&self) -> Schema {
        self.schema
    }

    /// The container as it is.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The container compressed, as apk writes it.
    pub fn deflated(&self) -> Result<Vec<u8>> {
        let mut out = DEFLATED.to_vec();
        DeflateEncoder::new(&self.bytes[..], Compression::best())
            .read_to_end(&mut out)
            .map_err(|_| Error::Unwritable("no compression"))?;
        Ok(out)
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

/// Adds a block of `parts` with what it takes to the next one, and gives the place of its payload.
fn append(bytes: &mut Vec<u8>, kind: Kind, parts: &[&[u8]]) -> Result<Range<usize>> {
    let length = parts.iter().map(|p| p.len()).sum::<usize>();
    let word = u32::try_from(length + HEADER)
        .ok()
        .filter(|l| *l <= LENGTH)
        .ok_or(Error::Unwritable("a block of more than 1 GiB"))?;
    let kind: u32 = match kind {
        Kind::Database => 0,
        Kind::Signature => 1,
        Kind::Data => 2,
    };
    bytes.extend(((kind << 30) | word).to_le_bytes());
    let start = bytes.len();
    for part in parts {
        bytes.extend(*part);
    }
    let payload = start..bytes.len();
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Ok(payload)
}

/// Kind and payload of the block at a place.
fn block(bytes: &[u8], at: usize) -> Result<(Kind, Range<usize>)> {
    let cut = Error::Damaged("a block beyond the end");
    let Some(Ok(word)) = bytes.get(at..at + HEADER).map(<[u8; HEADER]>::try_from) else {
        return Err(cut);
    };
    let word = u32::from_le_bytes(word);
    let kind = match word >> 30 {
        0 => Kind::Database,
        1 => Kind::Signature,
        2 => Kind::Data,
        _ => return Err(Error::Damaged("a block of an unknown kind")),
    };
    let length = usize::try_from(word & LENGTH).unwrap_or(usize::MAX);
    let end = at.checked_add(length).filter(|end| *end <= bytes.len());
    match end {
        Some(end) if length >= HEADER => Ok((kind, at + HEADER..end)),
        _ => Err(cut),
    }
}

fn unpack(bytes: &[u8], name: &'static str, most: usize) -> Result<Vec<u8>> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(Error::Kind(name));
    };
    let packed = match magic {
        PLAIN => return Ok(bytes.to_vec()),
        DEFLATED => rest,
        NAMED => match rest.split_first_chunk::<2>() {
            Some(([0, _], rest)) => return Ok(rest.to_vec()),
            Some(([1, _], rest)) => rest,
            _ => return Err(Error::Damaged("a compression other than deflate")),
        },
        _ => return Err(Error::Kind(name)),
    };
    let mut out = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    DeflateDecoder::new(packed)
        .take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|_| Error::Damaged("its compression"))?;
    if out.len() > most {
        return Err(Error::TooLarge(most));
    }
    if !out.starts_with(PLAIN) {
        return Err(Error::Kind(name));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Container {
        let mut all = Container::new(Schema::Package, b"database").unwrap();
        all.add_data(b"head", b"first").unwrap();
        all.add_signature(b"one").unwrap();
        all.add_data(b"", b"second").unwrap();
        all.add_signature(b"another").unwrap();
        all
    }

    fn same(all: &Container) {
        assert_eq!(all.database(), b"database");
        assert_eq!(
            all.signatures().collect::<Vec<_>>(),
            [&b"one"[..], b"another"]
        );
        assert_eq!(
            all.data().collect::<Vec<_>>(),
            [&b"headfirst"[..], b"second"]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        same(&sample());
        same(&Container::read(sample().bytes(), Schema::Package).unwrap());
        let packed = sample().deflated().unwrap();
        same(&Container::read(&packed, Schema::Package).unwrap());
        let named = [b"ADBc\x01\x09", &packed[4..]].concat();
        same(&Container::read(&named, Schema::Package).unwrap());
        assert!(Container::read(&packed, Schema::Index).is_err());
    }

    #[test]
    fn blocks_keep_their_order() {
        let block = |kind: u32| ((kind << 30) | 8).to_le_bytes().into_iter().chain([0; 4]);
        for (kinds, fits) in [
            (&[0, 1, 1, 2, 2][..], true),
            (&[0], true),
            (&[], false),
            (&[1, 0], false),
            (&[0, 2, 1], false),
            (&[0, 0], false),
            (&[0, 3], false),
        ] {
            let mut bytes = b"ADB.indx".to_vec();
            bytes.extend(kinds.iter().flat_map(|k| block(*k)));
            assert_eq!(
                Container::read(&bytes, Schema::Index).is_ok(),
                fits,
                "{kinds:?}"
            );
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let all = sample();
        let (packed, plain) = (all.deflated().unwrap(), all.bytes().len());
        assert!(unpack(&packed, "", plain).is_ok());
        let read = unpack(&packed, "", plain - 1);
        assert!(
            matches!(read, Err(Error::TooLarge(n)) if n == plain - 1),
            "{read:?}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, cut: usize) {
            let _ = Container::read(&bytes, Schema::Index);
            let _ = Container::read(&[b"ADB.indx", &bytes[..]].concat(), Schema::Index);
            let good = sample();
            let cut = cut % good.bytes().len();
            prop_assert!(Container::read(&good.bytes()[..cut], Schema::Package).is_err() || cut.is_multiple_of(8));
        }
    }
}
