// SPDX-License-Identifier: GPL-2.0-only
//! An index: the descriptions of the packages in a directory, `packages.adb` there.

use crate::container::{Container, Schema};
use crate::info::Info;
use crate::package;
use crate::value::{Reader, Val, Writer};
use crate::{Error, Result, version};

/// Fields of the root (apk-tools, apk_adb.h).
const DESCRIPTION: usize = 1;
const PACKAGES: usize = 2;
/// Where packages are if not beside it under their own names.
const NAMES: usize = 3;

/// An index.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Index {
    /// The package.
    pub description: String,
    /// The packages.
    pub packages: Vec<Info>,
}

impl Index {
    /// Adds a package, whose file is `file_size` bytes long.
    pub fn add(&mut self, package: &Container, file_size: u64) -> Result<()> {
        let mut info = package::Package::read(package)?.info;
        info.hashes = package::identity(package).to_vec();
        info.file_size = file_size;
        self.packages.push(info);
        Ok(())
    }

    /// The index in its container, sorted, without a signature.
    pub fn write(&self) -> Result<Container> {
        let mut writer = Writer::default();
        let mut sorted: Vec<_> = self.packages.iter().collect();
        sorted.sort_by(|a, b| {
            let versions = version::compare(&a.version, &b.version);
            let names = a.name.as_bytes().cmp(b.name.as_bytes());
            names.then(versions.unwrap_or(std::cmp::Ordering::Equal))
        });
        let mut packages = Vec::new();
        for info in sorted {
            let hashes = writer.blob(&info.hashes)?;
            packages.push(info.write(&mut writer, hashes)?);
        }
        let fields = [
            writer.blob(self.description.as_bytes())?,
            writer.array(&packages)?,
        ];
        let root = writer.object(&fields)?;
        Container::new(Schema::Index, &writer.finish(root))
    }

    /// Reads an index.
    pub fn read(container: &Container) -> Result<Self> {
        let reader = Reader::new(container.database())?;
        let root = reader.list(reader.root()?)?;
        if root.field(NAMES) != Val::NULL {
            return Err(Error::Damaged("packages under other names than their own"));
        }
        let packages = reader.list(root.field(PACKAGES))?;
        let packages = packages.items().map(|v| Info::read(&reader, v));
        Ok(Self {
            description: reader.text(root.field(DESCRIPTION))?.to_owned(),
            packages: packages.collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let info = |name: &str, version: &str| Info {
            name: name.into(),
            version: version.into(),
            hashes: vec![7; 32],
            file_size: 1 << 40,
            provides: crate::depend::list("other=1 virtual").unwrap(),
            tags: vec!["openwrt:section=net".into()],
            priority: 100,
            ..Info::default()
        };
        let index = Index {
            description: "of a lane".into(),
            packages: vec![info("b", "1"), info("a", "1.10"), info("a", "1.9")],
        };
        let container = index.write().unwrap();
        let read =
            Index::read(&Container::read(&container.deflated().unwrap(), Schema::Index).unwrap());
        let read = read.unwrap();
        let names: Vec<_> = read.packages.iter().map(Info::file_name).collect();
        assert_eq!(names, ["a-1.9.apk", "a-1.10.apk", "b-1.apk"]);
        assert_eq!(read.packages[2], index.packages[0]);
        assert_eq!(read.description, "of a lane");
        let mut bad = index.clone();
        bad.packages[0].name = "-b".into();
        assert!(bad.write().is_err());
    }

    proptest! {
        #[test]
        fn any_database_is_read_without_panic(bytes: Vec<u8>) {
            let container = Container::new(Schema::Index, &[&[0; 4], &bytes[..]].concat()).unwrap();
            let _ = Index::read(&container);
        }
    }
}
