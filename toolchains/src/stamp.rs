// SPDX-License-Identifier: GPL-2.0-only
//! Marks of finished steps: a step runs again only when one of its inputs changed.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Digest over everything a step depends on.
pub struct Key(Sha256);

impl Key {
    /// `recipe` changes when the step's own code does something else than before.
    pub fn new(recipe: &str) -> Self {
        Self(Sha256::new()).with(recipe)
    }

    /// Adds an input; the length keeps neighbours apart.
    pub fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// Adds a file's content.
    pub fn with_file(self, path: &Path) -> Result<Self> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.with(data))
    }

    /// The key of all that was added, hex.
    pub fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Runs `work`, which makes `product`, unless that exists and `stamp` says that it was made from the same inputs.
/// Returns whether it ran.
///
/// A lock beside the stamp makes a second process wait for the first instead of doing the same.
pub fn once(
    stamp: &Path,
    product: &Path,
    key: Key,
    work: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let key = key.hex();
    let dir = stamp.parent().context("a stamp needs a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let _guard = lock(&stamp.with_extension("lock"))?;
    if product.exists() && fs::read_to_string(stamp).is_ok_and(|old| old.trim() == key) {
        return Ok(false);
    }
    let _ = fs::remove_file(stamp);
    work()?;
    ensure!(product.exists(), "{} was not made", product.display());
    fs::write(stamp, key + "\n").with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(true)
}

/// Takes an exclusive lock on `path`, held until the file is dropped.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Hex sha256 of a file.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(
            chunk
                .get(..n)
                .context("read returned more than it was given room for")?,
        );
    }
}

/// Refuses a file whose sha256 is another.
pub fn verify(path: &Path, want: &str) -> Result<()> {
    let got = sha256(path)?;
    ensure!(
        got == want,
        "{}: sha256 is {got}, the lock file wants {want}",
        path.display()
    );
    Ok(())
}

/// Where the stamp of step `name` is kept in `dir`.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.stamp"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_once_per_input() {
        let dir = std::env::temp_dir().join(format!("lane-stamp-{}", std::process::id()));
        let stamp = path(&dir, "step");
        let product = dir.join("product");
        let make = |input: &str| {
            let key = Key::new("1").with(input);
            once(&stamp, &product, key, || Ok(fs::write(&product, input)?)).unwrap()
        };
        for (input, want) in [
            ("a", true),
            ("a", false),
            ("b", true),
            ("b", false),
            ("a", true),
        ] {
            assert_eq!(make(input), want);
        }
        fs::remove_file(&product).unwrap();
        assert!(make("a"), "what was deleted is made again");
        let failed = once(&stamp, &product, Key::new("2"), || anyhow::bail!("no"));
        assert!(failed.is_err());
        assert!(make("a"), "a failed run leaves no stamp");
        let nothing = once(&stamp, &dir.join("nothing"), Key::new("1"), || Ok(()));
        assert!(nothing.is_err(), "a run that makes nothing is refused");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn inputs_do_not_run_together() {
        assert_ne!(
            Key::new("1").with("ab").with("c").hex(),
            Key::new("1").with("a").with("bc").hex()
        );
    }

    #[test]
    fn published_digest() {
        let path = std::env::temp_dir().join(format!("lane-sha-{}", std::process::id()));
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(verify(&path, want).is_ok());
        assert!(verify(&path, &want.replace('b', "c")).is_err());
        fs::remove_file(path).unwrap();
    }
}
