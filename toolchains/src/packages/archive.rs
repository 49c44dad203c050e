// SPDX-License-Identifier: GPL-2.0-only
//! Archives as OpenWrt's ipkg-build makes them with tar and gzip: GNU format, names sorted and beginning with `./`, all
//! of it root's, one time stamp; the same input gives the same bytes.

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use std::fs::{self, DirEntry};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use tar::{EntryType, Header};

/// The longest name that fits a header without an extension, bytes (GNU tar manual, "Basic Tar Format").
const NAME: usize = 100;

/// What an entry is, with its permission bits.
#[derive(Debug, PartialEq, Clone)]
pub enum Kind {
    /// A directory.
    Directory(u32),
    /// A file and its content.
    File(u32, Vec<u8>),
    /// A symbolic link and its target.
    Link(PathBuf),
}

/// One entry; the path is relative, and empty for the root itself.
#[derive(Debug, PartialEq, Clone)]
pub struct Entry {
    /// Where it goes.
    pub path: PathBuf,
    /// What goes there.
    pub kind: Kind,
}

/// Everything in and below a directory, a directory before what is in it, names sorted. Permissions are those that
/// `install` gives; the builder's umask has no part in them.
pub fn tree(root: &Path) -> Result<Vec<Entry>> {
    let mut all = vec![Entry {
        path: PathBuf::new(),
        kind: Kind::Directory(0o755),
    }];
    branch(root, Path::new(""), &mut all).with_context(|| root.display().to_string())?;
    Ok(all)
}

fn branch(root: &Path, at: &Path, all: &mut Vec<Entry>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(root.join(at))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let path = at.join(entry.file_name());
        let meta = entry.metadata()?;
        let directory = meta.is_dir();
        let kind = if directory {
            Kind::Directory(0o755)
        } else if meta.is_symlink() {
            Kind::Link(fs::read_link(entry.path())?)
        } else {
            let mode = match meta.permissions().mode() {
                mode if mode & 0o077 == 0 => mode & 0o700,
                mode if mode & 0o111 != 0 => 0o755,
                _ => 0o644,
            };
            Kind::File(mode, fs::read(entry.path())?)
        };
        all.push(Entry {
            path: path.clone(),
            kind,
        });
        if directory {
            branch(root, &path, all)?;
        }
    }
    Ok(())
}

/// A compressed archive of `entries`, each changed at `time` (seconds since 1970).
pub fn write(entries: &[Entry], time: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        let mut name = format!("./{}", entry.path.display());
        let content: &[u8] = match &entry.kind {
            Kind::Directory(mode) => {
                if !name.ends_with('/') {
                    name.push('/');
                }
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                &[]
            }
            Kind::File(mode, content) => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                content
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_link_name(target)?;
                &[]
            }
        };
        header.set_size(u64::try_from(content.len())?);
        // Header::set_path would take "./" away.
        let place = header.as_gnu_mut().context("no GNU header")?;
        let place = place.name.get_mut(..name.len());
        let place = place.with_context(|| format!("{name} is longer than {NAME} bytes"))?;
        place.copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content)?;
    }
    compress(&archive.into_inner()?)
}

/// What `gzip -n` makes of it: no name, no time.
pub fn compress(data: &[u8]) -> Result<Vec<u8>> {
    let mut out = GzBuilder::new().write(Vec::new(), Compression::best());
    out.write_all(data)?;
    Ok(out.finish()?)
}

/// Reads a compressed archive. Anything but directories, files and links is refused, and so are names that lead out of
/// the directory it is unpacked in.
pub fn read(data: &[u8]) -> Result<Vec<Entry>> {
    let mut plain = Vec::new();
    GzDecoder::new(data).read_to_end(&mut plain)?;
    let mut all = Vec::new();
    for entry in tar::Archive::new(&plain[..]).entries()? {
        let mut entry = entry?;
        let mut path = PathBuf::new();
        for part in entry.path()?.components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                _ => bail!("{} leads elsewhere", entry.path()?.display()),
            }
        }
        let mode = entry.header().mode()?;
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Directory(mode),
            EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                Kind::File(mode, content)
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.context("a link to nothing")?;
                Kind::Link(target.into_owned())
            }
            other => bail!("{}: unexpected kind {other:?}", path.display()),
        };
        let owner = (entry.header().uid()?, entry.header().gid()?);
        ensure!(owner == (0, 0), "{} belongs to {owner:?}", path.display());
        all.push(Entry { path, kind });
    }
    Ok(all)
}

/// The content of the file `name` in an archive.
pub fn file<'a>(entries: &'a [Entry], name: &str) -> Option<&'a [u8]> {
    entries.iter().find_map(|entry| match &entry.kind {
        Kind::File(_, content) if entry.path == Path::new(name) => Some(&content[..]),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<Entry> {
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            kind,
        };
        vec![
            entry("", Kind::Directory(0o755)),
            entry("etc", Kind::Directory(0o755)),
            entry("etc/key", Kind::File(0o600, b"secret\n".to_vec())),
            entry("etc/link", Kind::Link("key".into())),
        ]
    }

    /// What the tar and gzip of the system make of it.
    #[test]
    fn tar_reads_it() {
        let mut tar = Command::new("tar")
            .args(["-tvzf", "-", "--numeric-owner", "--utc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let archive = write(&sample(), 86400).unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        let done = tar.wait_with_output().unwrap();
        assert!(done.status.success());
        let want = "\
drwxr-xr-x 0/0               0 1970-01-02 00:00 ./
drwxr-xr-x 0/0               0 1970-01-02 00:00 ./etc/
-rw------- 0/0               7 1970-01-02 00:00 ./etc/key
lrwxrwxrwx 0/0               0 1970-01-02 00:00 ./etc/link -> key
";
        assert_eq!(String::from_utf8(done.stdout).unwrap(), want);
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(&sample(), 1).unwrap()).unwrap(), sample());
        assert_eq!(file(&sample(), "etc/key"), Some(&b"secret\n"[..]));
        assert_eq!(file(&sample(), "etc"), None);
    }

    #[test]
    fn a_way_out_is_refused() {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(EntryType::Regular);
        header.as_gnu_mut().unwrap().name[..5].copy_from_slice(b"../up");
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append(&header, &[][..]).unwrap();
        let data = compress(&archive.into_inner().unwrap()).unwrap();
        let err = read(&data).unwrap_err().to_string();
        assert_eq!(err, "../up leads elsewhere");
    }

    #[test]
    fn a_long_name_is_refused() {
        let long = Entry {
            path: "x".repeat(NAME).into(),
            kind: Kind::Directory(0o755),
        };
        assert!(write(&[long], 0).is_err());
    }
}
