// SPDX-License-Identifier: GPL-2.0-only
//! Values of a database: integers, byte strings, and lists of values (objects and arrays), each named by a word of 32 bits:
//! 4 bits of type and 28 of value, or of the place where the value is (apk-v3(5), "WIRE FORMAT"; all little-endian).

use crate::{Error, Result};
use std::collections::HashMap;

const SPECIAL: u32 = 0x0;
const INT: u32 = 0x1;
const INT_32: u32 = 0x2;
const INT_64: u32 = 0x3;
const BLOB_8: u32 = 0x8;
const BLOB_16: u32 = 0x9;
const BLOB_32: u32 = 0xa;
const ARRAY: u32 = 0xd;
const OBJECT: u32 = 0xe;

/// Bits of a value's word that are no type.
const REST: u32 = 0x0fff_ffff;
/// Bytes before the values: versions of the format, and the word of the root.
const HEADER: usize = 8;
/// Where the root's word is, bytes.
const ROOT: usize = 4;
/// The most slots that a list is read with; a package of OpenWrt has some thousand files at most.
const SLOTS: usize = 1 << 20;

/// A value's word; [`Val::NULL`] stands for no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Val(u32);

impl Val {
    /// No value.
    pub const NULL: Self = Self(0);

    fn new(kind: u32, rest: usize) -> Result<Self> {
        match u32::try_from(rest) {
            Ok(rest) if rest <= REST => Ok(Self((kind << 28) | rest)),
            _ => Err(Error::Unwritable("a database of more than 256 MiB")),
        }
    }

    fn kind(self) -> u32 {
        self.0 >> 28
    }

    fn rest(self) -> usize {
        // 28 bits fit any usize of the machines this runs on.
        usize::try_from(self.0 & REST).unwrap_or(usize::MAX)
    }
}

/// Writes values; what is equal is written once.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, usize>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            bytes: vec![0; HEADER],
            known: HashMap::new(),
        }
    }
}

impl Writer {
    /// The place of `bytes`, which are added unless they are there already at a multiple of `align`.
    fn place(&mut self, bytes: &[u8], align: usize) -> usize {
        if let Some(place) = self.known.get(bytes).filter(|p| p.is_multiple_of(align)) {
            return *place;
        }
        let place = self.append(bytes, align);
        self.known.insert(bytes.to_vec(), place);
        place
    }

    fn append(&mut self, bytes: &[u8], align: usize) -> usize {
        let place = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(place, 0);
        self.bytes.extend(bytes);
        place
    }

    /// An integer.
    pub fn int(&mut self, value: u64) -> Result<Val> {
        if let Ok(small) = u32::try_from(value) {
            if small <= REST {
                return Ok(Val((INT << 28) | small));
            }
            let place = self.place(&small.to_le_bytes(), 4);
            return Val::new(INT_32, place);
        }
        let place = self.place(&value.to_le_bytes(), 4);
        Val::new(INT_64, place)
    }

    /// A byte string with its length before it; an empty one is no value.
    pub fn blob(&mut self, value: &[u8]) -> Result<Val> {
        let Some((kind, align, bytes)) = with_length(value)? else {
            return Ok(Val::NULL);
        };
        let place = self.place(&bytes, align);
        Val::new(kind, place)
    }

    /// A byte string that shares its place with no other, and where its own bytes begin.
    pub fn lone_blob(&mut self, value: &[u8]) -> Result<(Val, usize)> {
        let (kind, align, bytes) =
            with_length(value)?.ok_or(Error::Unwritable("an empty string of its own"))?;
        let place = self.append(&bytes, align);
        Ok((Val::new(kind, place)?, place + align))
    }

    /// An object: a field a slot, the first being 1; without any it is no value.
    pub fn object(&mut self, fields: &[Val]) -> Result<Val> {
        self.list(OBJECT, fields)
    }

    /// An array of `items`; without any it is no value.
    pub fn array(&mut self, items: &[Val]) -> Result<Val> {
        self.list(ARRAY, items)
    }

    fn list(&mut self, kind: u32, slots: &[Val]) -> Result<Val> {
        let used = slots
            .iter()
            .rposition(|v| *v != Val::NULL)
            .map_or(0, |i| i + 1);
        if used == 0 {
            return Ok(Val::NULL);
        }
        let count = u32::try_from(used + 1).map_err(|_| Error::Unwritable("a list so long"))?;
        let mut bytes = count.to_le_bytes().to_vec();
        for slot in slots.iter().take(used) {
            bytes.extend(slot.0.to_le_bytes());
        }
        let place = self.place(&bytes, 4);
        Val::new(kind, place)
    }

    /// Ends with `root`, and gives the database.
    pub fn finish(mut self, root: Val) -> Vec<u8> {
        for (to, from) in self.bytes.iter_mut().skip(ROOT).zip(root.0.to_le_bytes()) {
            *to = from;
        }
        self.bytes
    }
}

/// Type, alignment and bytes of a string, whose length has as many bytes as it is aligned to.
fn with_length(value: &[u8]) -> Result<Option<(u32, usize, Vec<u8>)>> {
    let length = value.len();
    let (kind, align, mut bytes) = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(0), _) => return Ok(None),
        (Ok(length), _) => (BLOB_8, 1, vec![length]),
        (_, Ok(length)) => (BLOB_16, 2, length.to_le_bytes().to_vec()),
        _ => {
            let length =
                u32::try_from(length).map_err(|_| Error::Unwritable("a string so long"))?;
            (BLOB_32, 4, length.to_le_bytes().to_vec())
        }
    };
    bytes.extend(value);
    Ok(Some((kind, align, bytes)))
}

/// Reads values. Any bytes can be read: a word that leads nowhere is an error of that word.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a database, of which only the header is looked at here.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.first() {
            Some(0) if bytes.len() >= HEADER => Ok(Self { bytes }),
            Some(0) | None => Err(Error::Damaged("a database without a header")),
            Some(_) => Err(Error::Damaged("a database of a later version")),
        }
    }

    /// The root's word.
    pub fn root(&self) -> Result<Val> {
        Ok(Val(u32::from_le_bytes(self.take(ROOT)?)))
    }

    fn take<const N: usize>(&self, place: usize) -> Result<[u8; N]> {
        self.slice(place, N)?
            .try_into()
            .map_err(|_| Error::Damaged("a value beyond the end"))
    }

    fn slice(&self, place: usize, length: usize) -> Result<&'a [u8]> {
        place
            .checked_add(length)
            .and_then(|end| self.bytes.get(place..end))
            .ok_or(Error::Damaged("a value beyond the end"))
    }

    /// An integer; no value is 0.
    pub fn int(&self, value: Val) -> Result<u64> {
        match value.kind() {
            SPECIAL if value == Val::NULL => Ok(0),
            INT => Ok(u64::from(value.0 & REST)),
            INT_32 => Ok(u64::from(u32::from_le_bytes(self.take(value.rest())?))),
            INT_64 => Ok(u64::from_le_bytes(self.take(value.rest())?)),
            _ => Err(Error::Damaged("another value in place of an integer")),
        }
    }

    /// A byte string; no value is an empty one.
    pub fn blob(&self, value: Val) -> Result<&'a [u8]> {
        let place = value.rest();
        let (width, length) = match value.kind() {
            SPECIAL if value == Val::NULL => return Ok(&[]),
            BLOB_8 => (1, u32::from(self.take::<1>(place)?[0])),
            BLOB_16 => (2, u32::from(u16::from_le_bytes(self.take(place)?))),
            BLOB_32 => (4, u32::from_le_bytes(self.take(place)?)),
            _ => return Err(Error::Damaged("another value in place of a string")),
        };
        let length = usize::try_from(length).map_err(|_| Error::Damaged("a string so long"))?;
        self.slice(place.saturating_add(width), length)
    }

    /// A byte string that is text.
    pub fn text(&self, value: Val) -> Result<&'a str> {
        std::str::from_utf8(self.blob(value)?)
            .map_err(|_| Error::Damaged("a string that is no text"))
    }

    /// The slots of an object or array, from the first field or item on; no value has none.
    pub fn list(&self, value: Val) -> Result<List<'a>> {
        let place = match value.kind() {
            SPECIAL if value == Val::NULL => return Ok(List { slots: &[] }),
            ARRAY | OBJECT => value.rest(),
            _ => return Err(Error::Damaged("another value in place of a list")),
        };
        let count = usize::try_from(u32::from_le_bytes(self.take(place)?)).unwrap_or(usize::MAX);
        let (Some(slots), true) = (count.checked_sub(1), count <= SLOTS) else {
            return Err(Error::Damaged("a list of an impossible length"));
        };
        let slots = self.slice(place.saturating_add(4), slots.saturating_mul(4))?;
        Ok(List { slots })
    }
}

/// The slots of an object or array.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// Words of four bytes.
    slots: &'a [u8],
}

impl List<'_> {
    /// A field, the first being 1; [`Val::NULL`] if there is none.
    pub fn field(&self, number: usize) -> Val {
        let slot = number.checked_sub(1).and_then(|n| self.items().nth(n));
        slot.unwrap_or_default()
    }

    /// All of them, in order.
    pub fn items(&self) -> impl Iterator<Item = Val> {
        let words = self.slots.chunks_exact(4);
        words.map(|w| Val(w.iter().rev().fold(0, |all, b| (all << 8) | u32::from(*b))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_values_share_a_place() {
        let mut writer = Writer::default();
        let one = writer.blob(b"ovpn").unwrap();
        assert_eq!(writer.blob(b"ovpn").unwrap(), one);
        let (lone, at) = writer.lone_blob(b"ovpn").unwrap();
        assert_ne!(lone, one);
        let list = writer.array(&[one, Val::NULL, lone, Val::NULL]).unwrap();
        let bytes = writer.finish(list);
        assert_eq!(&bytes[at..at + 4], b"ovpn");
        let reader = Reader::new(&bytes).unwrap();
        let list = reader.list(reader.root().unwrap()).unwrap();
        assert_eq!(list.items().collect::<Vec<_>>(), [one, Val::NULL, lone]);
        assert_eq!(list.field(3), lone);
        assert_eq!((list.field(0), list.field(4)), (Val::NULL, Val::NULL));
    }

    #[test]
    fn words_are_those_of_the_format() {
        let mut writer = Writer::default();
        assert_eq!(writer.int(REST.into()).unwrap().0, 0x1fff_ffff);
        assert_eq!(writer.int(0x1000_0000).unwrap().0, 0x2000_0008);
        assert_eq!(writer.blob(b"a").unwrap().0, 0x8000_000c);
        assert_eq!(writer.blob(&[7; 256]).unwrap().0, 0x9000_000e);
        assert_eq!(writer.blob(&[]).unwrap().0, 0);
        assert_eq!(writer.object(&[Val::NULL]).unwrap().0, 0);
    }

    #[test]
    fn a_list_that_counts_wrong_is_refused() {
        for count in [0u32, 3, u32::MAX] {
            let mut bytes = vec![0; HEADER];
            bytes.extend(count.to_le_bytes());
            bytes.extend([0; 4]);
            let reader = Reader::new(&bytes).unwrap();
            assert!(reader.list(Val((ARRAY << 28) | 8)).is_err(), "{count}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, byte: u8, length in prop_oneof![0..300_usize, 65_530..65_540_usize]) {
            let text = vec![byte; length];
            let mut writer = Writer::default();
            let int = writer.int(number).unwrap();
            let blob = writer.blob(&text).unwrap();
            let root = writer.object(&[int, blob]).unwrap();
            let bytes = writer.finish(root);
            let reader = Reader::new(&bytes).unwrap();
            let object = reader.list(reader.root().unwrap()).unwrap();
            prop_assert_eq!(reader.int(object.field(1)).unwrap(), number);
            prop_assert_eq!(reader.blob(object.field(2)).unwrap(), &text[..]);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, word: u32) {
            if let Ok(reader) = Reader::new(&bytes) {
                for value in [Val(word), Val(word & 0xf000_000f), reader.root().unwrap()] {
                    let _ = (reader.int(value), reader.text(value));
                    if let Ok(list) = reader.list(value) {
                        prop_assert!(list.items().count() * 4 <= bytes.len());
                    }
                }
            }
        }
    }
}
