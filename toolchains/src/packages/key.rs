// SPDX-License-Identifier: GPL-2.0-only
//! The key that signs indexes: the one named, else one made once in the cache.

use adb::sign::Private;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads the secret key at `path`.
pub fn load(path: &Path) -> Result<Private> {
    let pem =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Private::from_pem(&pem).with_context(|| path.display().to_string())
}

/// Reads the secret key at `path`, or makes one there, readable by its owner alone.
pub fn load_or_make(path: &Path) -> Result<Private> {
    if path.exists() {
        return load(path);
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let key = Private::random();
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(key.to_pem()?.as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    /// Of another program: OpenWrt makes its keys with openssl.
    #[test]
    fn keys_last_and_openssl_reads_them() {
        let dir = std::env::temp_dir().join(format!("lane-key-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let path = dir.join("keys/secret.pem");
        let key = load_or_make(&path).unwrap();
        let again = load_or_make(&path).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let done = Command::new("openssl")
            .args(["ec", "-pubout", "-in"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(
            String::from_utf8(done.stdout).unwrap(),
            key.public().to_pem().unwrap()
        );
        fs::write(&path, "x").unwrap();
        assert!(
            load_or_make(&path).is_err(),
            "no key is made over what is there"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
