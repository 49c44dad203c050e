// SPDX-License-Identifier: GPL-2.0-only
//! The files of a directory, as a package has them.

use adb::package::Kind;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Files by their paths, which have no `/` in front; the directory itself is the empty path.
pub type Tree = BTreeMap<String, Kind>;

/// Everything in and below a directory. Permissions are those that `install` gives; the builder's umask has no part in
/// them.
pub fn read(root: &Path) -> Result<Tree> {
    let mut all = Tree::from([(String::new(), Kind::Directory(0o755))]);
    branch(root, "", &mut all).with_context(|| root.display().to_string())?;
    Ok(all)
}

fn branch(root: &Path, at: &str, all: &mut Tree) -> Result<()> {
    let entries: Vec<DirEntry> = fs::read_dir(root.join(at))?.collect::<Result<_, _>>()?;
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().context("a name that is no text")?;
        let path = match at {
            "" => name.to_owned(),
            _ => format!("{at}/{name}"),
        };
        let meta = entry.metadata()?;
        if meta.is_dir() {
            branch(root, &path, all)?;
            all.insert(path, Kind::Directory(0o755));
        } else if meta.is_symlink() {
            let target = fs::read_link(entry.path())?;
            let target = target.to_str().context("a target that is no text")?;
            all.insert(path, Kind::Link(target.to_owned()));
        } else {
            let mode = match meta.permissions().mode() {
                mode if mode & 0o077 == 0 => mode & 0o700,
                mode if mode & 0o111 != 0 => 0o755,
                _ => 0o644,
            };
            all.insert(path, Kind::File(mode, fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// Adds a file for everybody to read, and the directories above it that are not there.
pub fn add(all: &mut Tree, path: &str, content: impl Into<Vec<u8>>) {
    for (end, _) in path.match_indices('/') {
        let directory = path.get(..end).unwrap_or_default();
        all.entry(directory.to_owned())
            .or_insert(Kind::Directory(0o755));
    }
    all.insert(path.to_owned(), Kind::File(0o644, content.into()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn modes_are_those_of_install() {
        let dir = std::env::temp_dir().join(format!("lane-tree-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("etc")).unwrap();
        for (name, mode) in [("tool", 0o775), ("data", 0o664), ("key", 0o600)] {
            let path = dir.join("etc").join(name);
            fs::write(&path, name).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("key", dir.join("link")).unwrap();
        let mut all = read(&dir).unwrap();
        add(&mut all, "lib/upgrade/x", "y");
        let file = |mode, text: &str| Kind::File(mode, text.into());
        let directory = Kind::Directory(0o755);
        let want = [
            ("", directory.clone()),
            ("etc", directory.clone()),
            ("etc/data", file(0o644, "data")),
            ("etc/key", file(0o600, "key")),
            ("etc/tool", file(0o755, "tool")),
            ("lib", directory.clone()),
            ("lib/upgrade", directory),
            ("lib/upgrade/x", file(0o644, "y")),
            ("link", Kind::Link("key".into())),
        ];
        assert_eq!(all, want.map(|(path, kind)| (path.to_owned(), kind)).into());
        fs::remove_dir_all(dir).unwrap();
    }
}
