// SPDX-License-Identifier: GPL-2.0-only
//! A package: its description, directories with their files, and scripts. All of it is root's, and changed at the beginning
//! of 1970, as OpenWrt's packages are: the same files give the same bytes.

use crate::container::{Container, Schema};
use crate::info::Info;
use crate::value::{List, Reader, Val, Writer};
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Fields of the root (apk-tools, apk_adb.h), and of the lists below it.
const INFO: usize = 1;
const PATHS: usize = 2;
const SCRIPTS: usize = 3;
/// Kinds of scripts.
const SCRIPT_KINDS: usize = 7;
/// The kind of a symbolic link, before its target (inode(7)).
const LINK: [u8; 2] = 0o120_000_u16.to_le_bytes();
/// The owner of everything.
const OWNER: &str = "root";
/// Bytes that tell builds of a package apart.
const UNIQUE: usize = 20;
/// Bits of a mode that a package has.
const MODE: u64 = 0o7777;

/// The file at a path, with its permission bits.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A directory.
    Directory(u32),
    /// A file and its content.
    File(u32, Vec<u8>),
    /// A symbolic link and its target.
    Link(String),
}

/// When a script runs; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// Before the files are there.
    PreInstall = 2,
    /// When they are.
    PostInstall = 3,
    /// Before they are taken away.
    PreDeinstall = 4,
    /// After that.
    PostDeinstall = 5,
    /// Before they are replaced.
    PreUpgrade = 6,
    /// After that.
    PostUpgrade = 7,
}

/// All of them.
pub const SCRIPTS_KNOWN: [Script; 6] = [
    Script::PreInstall,
    Script::PostInstall,
    Script::PreDeinstall,
    Script::PostDeinstall,
    Script::PreUpgrade,
    Script::PostUpgrade,
];

/// A package.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Package {
    /// Its description. Writing one, sizes and hashes are reckoned, and what is here of them is passed over.
    pub info: Info,
    /// The files that it installs, by path without a `/` in front; the root itself is the empty path. Each directory of a file is
    /// there.
    pub files: BTreeMap<String, Kind>,
    /// Its scripts.
    pub scripts: BTreeMap<Script, String>,
}

/// Directory and name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Whether a path, which is not the root's, stays below the root.
fn is_inside(path: &str) -> bool {
    let part = |p: &str| !["", ".", ".."].contains(&p) && !p.contains('\0');
    path.split('/').all(part)
}

/// A directory's permission bits, and the names of its files.
type Directory<'a> = (u32, Vec<(&'a str, &'a Kind)>);

impl Package {
    /// Its directories in the order of the format.
    fn directories(&self) -> Result<BTreeMap<&str, Directory<'_>>> {
        let mut all = BTreeMap::new();
        for (path, kind) in &self.files {
            if let Kind::Directory(mode) = kind {
                all.insert(path.as_str(), (*mode, Vec::new()));
            }
        }
        for (path, kind) in &self.files {
            if !path.is_empty() && !is_inside(path) {
                return Err(Error::Unwritable("a path that leads elsewhere"));
            }
            let (directory, name) = split(path);
            let parent = all.get_mut(directory);
            let (_, files) = parent.ok_or(Error::Unwritable("a file without its directory"))?;
            if !matches!(kind, Kind::Directory(_)) {
                files.push((name, kind));
            }
        }
        for (_, files) in all.values_mut() {
            files.sort_by_key(|(name, _)| *name);
        }
        Ok(all)
    }

    /// The package in its container, without a signature.
    pub fn write(&self) -> Result<Container> {
        let mut writer = Writer::default();
        let directories = self.directories()?;
        let mut paths = Vec::new();
        for (path, (mode, files)) in &directories {
            let files = files
                .iter()
                .map(|(name, kind)| file(&mut writer, name, kind));
            let files: Vec<_> = files.collect::<Result<_>>()?;
            let fields = [
                writer.blob(path.as_bytes())?,
                acl(&mut writer, *mode)?,
                writer.array(&files)?,
            ];
            paths.push(writer.object(&fields)?);
        }
        let mut info = self.info.clone();
        info.file_size = 0;
        info.installed_size = self.installed_size();
        let (unique, unique_at) = writer.lone_blob(&[0; UNIQUE])?;
        let mut scripts = [Val::NULL; SCRIPT_KINDS];
        for (script, text) in &self.scripts {
            if let Some(slot) = scripts.get_mut(*script as usize - 1) {
                *slot = writer.blob(text.as_bytes())?;
            }
        }
        let fields = [
            info.write(&mut writer, unique)?,
            writer.array(&paths)?,
            writer.object(&scripts)?,
        ];
        let root = writer.object(&fields)?;
        let mut database = writer.finish(root);
        let digest = Sha256::digest(&database);
        for (to, from) in database.iter_mut().skip(unique_at).take(UNIQUE).zip(digest) {
            *to = from;
        }
        let mut container = Container::new(Schema::Package, &database)?;
        for (path, (_, (_, files))) in (1u32..).zip(&directories) {
            for (number, (_, kind)) in (1u32..).zip(files) {
                match kind {
                    Kind::File(_, content) if !content.is_empty() => {
                        let head = [path.to_le_bytes(), number.to_le_bytes()].concat();
                        container.add_data(&head, content)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(container)
    }

    /// Bytes of its files; apk takes 0 for a package that installs nothing.
    fn installed_size(&self) -> u64 {
        let sizes = self.files.values().map(|kind| match kind {
            Kind::File(_, content) => content.len() as u64,
            _ => 0,
        });
        sizes.sum::<u64>().max(1)
    }

    /// Reads a package. Each content is the one that its digest is of; nothing leads out of the root.
    pub fn read(container: &Container) -> Result<Self> {
        let reader = Reader::new(container.database())?;
        let root = reader.list(reader.root()?)?;
        let mut package = Self {
            info: Info::read(&reader, root.field(INFO))?,
            ..Self::default()
        };
        let mut data = container.data();
        for (path, value) in (1u32..).zip(reader.list(root.field(PATHS))?.items()) {
            let fields = reader.list(value)?;
            let directory = reader.text(fields.field(1))?;
            let mode = mode(&reader, fields)?;
            package.put(directory, Kind::Directory(mode))?;
            for (number, value) in (1u32..).zip(reader.list(fields.field(3))?.items()) {
                let fields = reader.list(value)?;
                let name = reader.text(fields.field(1))?;
                if name.contains('/') || !is_inside(name) {
                    return Err(Error::Damaged("a file in another directory than its own"));
                }
                let head = [path.to_le_bytes(), number.to_le_bytes()].concat();
                let kind = content(&reader, fields, &head, &mut data)?;
                let whole = match directory {
                    "" => name.to_owned(),
                    _ => format!("{directory}/{name}"),
                };
                package.put(&whole, kind)?;
            }
        }
        if data.next().is_some() {
            return Err(Error::Damaged("content that is no file's"));
        }
        let scripts = reader.list(root.field(SCRIPTS))?;
        for script in SCRIPTS_KNOWN {
            let text = reader.text(scripts.field(script as usize))?;
            if !text.is_empty() {
                package.scripts.insert(script, text.to_owned());
            }
        }
        Ok(package)
    }

    fn put(&mut self, path: &str, kind: Kind) -> Result<()> {
        let inside = match &kind {
            Kind::Directory(_) if path.is_empty() => true,
            _ => is_inside(path),
        };
        if !inside {
            return Err(Error::Damaged("a path that leads elsewhere"));
        }
        match self.files.insert(path.to_owned(), kind) {
            None => Ok(()),
            Some(_) => Err(Error::Damaged("a path that is there twice")),
        }
    }
}

fn acl(writer: &mut Writer, mode: u32) -> Result<Val> {
    let owner = writer.blob(OWNER.as_bytes())?;
    let fields = [writer.int(mode.into())?, owner, owner];
    writer.object(&fields)
}

fn file(writer: &mut Writer, name: &str, kind: &Kind) -> Result<Val> {
    let (mode, size, hash, target) = match kind {
        Kind::Directory(_) => return Err(Error::Unwritable("a directory among files")),
        Kind::File(mode, content) => (
            *mode,
            content.len(),
            Sha256::digest(content).to_vec(),
            Vec::new(),
        ),
        Kind::Link(target) => (
            0o777,
            target.len(),
            Vec::new(),
            [&LINK, target.as_bytes()].concat(),
        ),
    };
    let fields = [
        writer.blob(name.as_bytes())?,
        acl(writer, mode)?,
        writer.int(size as u64)?,
        writer.int(0)?,
        writer.blob(&hash)?,
        writer.blob(&target)?,
    ];
    writer.object(&fields)
}

/// The mode of a directory or file, which has to be root's.
fn mode(reader: &Reader<'_>, fields: List<'_>) -> Result<u32> {
    let acl = reader.list(fields.field(2))?;
    for owner in [2, 3] {
        if reader.text(acl.field(owner))? != OWNER {
            return Err(Error::Damaged("an owner other than root"));
        }
    }
    let mode = reader.int(acl.field(1))?;
    let mode = u32::try_from(mode).ok().filter(|m| u64::from(*m) <= MODE);
    mode.ok_or(Error::Damaged("a mode of more than permissions"))
}

/// The kind of a file by its fields, with the next block of data if it has content.
fn content<'a>(
    reader: &Reader<'_>,
    fields: List<'_>,
    head: &[u8],
    data: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<Kind> {
    let target = reader.blob(fields.field(6))?;
    if !target.is_empty() {
        let target = target.strip_prefix(&LINK);
        let target = target.ok_or(Error::Damaged("a device, or a file with two names"))?;
        let target = String::from_utf8(target.to_vec());
        let target = target.map_err(|_| Error::Damaged("a target that is no text"))?;
        return match target.is_empty() || target.contains('\0') {
            true => Err(Error::Damaged("a link to nothing")),
            false => Ok(Kind::Link(target)),
        };
    }
    let mode = mode(reader, fields)?;
    let size = reader.int(fields.field(3))?;
    let content = match size {
        0 => &[][..],
        _ => {
            let block = data.next().and_then(|b| b.strip_prefix(head));
            block.ok_or(Error::Damaged("a file without its content"))?
        }
    };
    if content.len() as u64 != size || reader.blob(fields.field(5))? != &Sha256::digest(content)[..]
    {
        return Err(Error::Damaged("content that its digest is not of"));
    }
    Ok(Kind::File(mode, content.to_vec()))
}

/// The name of a package in an index: SHA-256 of its database.
pub fn identity(container: &Container) -> [u8; 32] {
    Sha256::digest(container.database()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Package {
        let file = |text: &str| Kind::File(0o644, text.into());
        Package {
            info: Info {
                name: "ovpn-sample".into(),
                version: "1.2-r3".into(),
                arch: "noarch".into(),
                depends: crate::depend::list("b>=2 libc").unwrap(),
                ..Info::default()
            },
            files: [
                ("", Kind::Directory(0o755)),
                ("etc", Kind::Directory(0o755)),
                ("etc/keys", Kind::Directory(0o700)),
                ("etc/empty", file("")),
                ("etc/a", file("first\n")),
                ("etc/link", Kind::Link("a".into())),
                ("etc/keys/secret", Kind::File(0o600, b"second\n".to_vec())),
            ]
            .map(|(path, kind)| (path.to_owned(), kind))
            .into(),
            scripts: [(Script::PostInstall, "#!/bin/sh\ntrue\n".to_owned())].into(),
        }
    }

    fn read(bytes: &[u8]) -> Result<Package> {
        Package::read(&Container::read(bytes, Schema::Package)?)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut before = sample();
        let container = before.write().unwrap();
        let after = read(&container.deflated().unwrap()).unwrap();
        before.info.installed_size = 13;
        before.info.hashes.clone_from(&after.info.hashes);
        assert_eq!(after, before);
        assert_eq!(after.info.hashes.len(), UNIQUE);
        assert_eq!(
            container.bytes(),
            sample().write().unwrap().bytes(),
            "the same bytes"
        );
    }

    #[test]
    fn a_way_out_is_neither_written_nor_read() {
        for path in ["../up", "/etc/x", "etc/../x", "etc//x", "etc/."] {
            let mut bad = sample();
            bad.files.insert(path.to_owned(), Kind::Link("x".into()));
            assert!(bad.write().is_err(), "{path}");
        }
        // Written under another name of the same length, and then changed.
        for way in ["..", "z/", "\0z", "e/z"] {
            for kind in [Kind::Link("x".into()), Kind::Directory(0o755)] {
                let mut package = sample();
                let name = "z".repeat(way.len());
                // A directory may be below another one.
                if way == "e/z" && kind == Kind::Directory(0o755) {
                    continue;
                }
                package.files.insert(name.clone(), kind);
                let bytes = package.write().unwrap().bytes().to_vec();
                let blob = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
                let changed = replace(&bytes, &blob(&name), &blob(way));
                assert!(read(&changed).is_err(), "{way:?}");
            }
        }
    }

    fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        let mut changed = bytes.to_vec();
        changed[at..at + to.len()].copy_from_slice(to);
        changed
    }

    #[test]
    fn changed_content_is_refused() {
        let bytes = sample().write().unwrap().bytes().to_vec();
        let changed = replace(&bytes, b"second", b"sEcond");
        let err = read(&changed).unwrap_err().to_string();
        assert_eq!(err, "it cannot be read: content that its digest is not of");
    }

    proptest! {
        #[test]
        fn damage_is_found_or_harmless(at: usize, bits in 1u8..) {
            let good = sample().write().unwrap().bytes().to_vec();
            let mut bytes = good.clone();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            // Whatever it is read as, content is what its digest is of.
            if let Ok(package) = read(&bytes) {
                prop_assert!(package.files.len() <= 8);
            }
        }

        #[test]
        fn any_database_is_read_without_panic(bytes: Vec<u8>) {
            let container = Container::new(Schema::Package, &[&[0; 4], &bytes[..]].concat()).unwrap();
            let _ = Package::read(&container);
        }
    }
}
