// SPDX-License-Identifier: GPL-2.0-only
//! Writer of the "newc" archive the kernel unpacks as its first root file
//! system (format: Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive being written. Everything in it belongs to root and carries no
/// time stamp, so equal trees give equal archives.
pub(crate) struct Archive<W: Write> {
    out: W,
    inode: u32,
    written: u64,
    directories: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            written: 0,
            directories: BTreeSet::new(),
        }
    }

    /// Adds directory `path` and those above it, each once.
    pub(crate) fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.directory_of(path, 0o755)
    }

    /// The same with permission bits `mode`, unless it is there already.
    fn directory_of(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if path.as_os_str().is_empty() || self.directories.contains(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | (mode & 0o7777), &[])
    }

    /// Adds a file with permission bits `mode`, and the directories above it.
    pub(crate) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, REGULAR | (mode & 0o7777), content)
    }

    /// Adds a symbolic link, and the directories above it.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK | 0o777, target.as_os_str().as_encoded_bytes())
    }

    /// Adds everything below `root` for which `wanted` says yes; its argument
    /// is the path inside the archive, and a refused directory is not entered.
    pub(crate) fn tree(&mut self, root: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        self.branch(root, Path::new(""), wanted)
    }

    fn branch(&mut self, root: &Path, at: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(root.join(at))?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = at.join(entry.file_name());
            if !wanted(&path) {
                continue;
            }
            let meta = entry.metadata()?;
            if meta.is_dir() {
                self.directory_of(&path, meta.permissions().mode())?;
                self.branch(root, &path, wanted)?;
            } else if meta.is_symlink() {
                self.symlink(&path, &fs::read_link(entry.path())?)?;
            } else if meta.is_file() {
                self.file(&path, meta.permissions().mode(), &fs::read(entry.path())?)?;
            }
        }
        Ok(())
    }

    /// Writes the end mark and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        path.parent()
            .map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let name = path.as_os_str().as_encoded_bytes();
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other("a file of 4 GiB does not fit a newc archive"))?;
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}\
             {:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.inode, // inode
            0,          // owner
            0,          // group
            0,          // modification time
            0,          // device of the file, two fields
            0,
            0, // device named by the file, two fields
            0,
            name.len() + 1,
            0, // checksum, unused by this format
        );
        self.put(header.as_bytes())?;
        self.put(name)?;
        self.put(&[0])?;
        self.align()?;
        self.put(content)?;
        self.align()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Header plus name, and content, each end on a multiple of four bytes.
    fn align(&mut self) -> io::Result<()> {
        let padding = self.written.wrapping_neg() % 4;
        self.put(&[0; 3][..padding as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What `cpio -t` of the system makes of an archive of ours.
    fn listing(archive: &[u8]) -> String {
        let mut cpio = Command::new("cpio")
            .args(["-t", "-v", "-n", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(archive).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn cpio_reads_what_we_write() {
        let mut archive = Archive::new(Vec::new());
        for length in 0..5 {
            let path = format!("etc/file{length}");
            archive
                .file(Path::new(&path), 0o600, &b"abcd"[..length])
                .unwrap();
        }
        archive
            .symlink(Path::new("bin"), Path::new("usr/bin"))
            .unwrap();
        let bytes = archive.finish().unwrap();
        let lines: Vec<_> = listing(&bytes).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" etc"));
        for (length, line) in lines[1..6].iter().enumerate() {
            let fields: Vec<_> = line.split_whitespace().collect();
            assert_eq!(fields[0], "-rw-------");
            assert_eq!(fields[4], length.to_string());
        }
        assert!(lines[6].starts_with("lrwxrwxrwx") && lines[6].ends_with("bin -> usr/bin"));
    }
}
