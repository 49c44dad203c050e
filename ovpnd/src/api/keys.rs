// SPDX-License-Identifier: GPL-2.0-or-later
//! Key files: made and taken, never given out.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::{Args, Refusal};
use crate::keyfile::StaticKey;
use crate::uci::{File, Value};

/// Longest name of a file in bytes.
const MAX_NAME: usize = 64;

/// Makes a key file in `dir`.
///
/// # Errors
/// Arguments are wrong, or the file cannot be written.
pub fn generate(dir: &Path, args: Args<'_>) -> Result<Json, Refusal> {
    let key = StaticKey::generate();
    let key =
        key.map_err(|error| Refusal::argument("file", format!("no random bytes: {error}")))?;
    write(dir, args, &key)
}

/// Writes a key file in `dir` from its text.
///
/// # Errors
/// Arguments are wrong, or the file cannot be written.
pub fn import(dir: &Path, args: Args<'_>) -> Result<Json, Refusal> {
    // Said without repeating any of it.
    let key = StaticKey::parse(args.needed("text")?.as_bytes());
    let key =
        key.map_err(|why| Refusal::argument("text", format!("is no OpenVPN static key: {why}")))?;
    write(dir, args, &key)
}

/// The path of a key file in `dir` that is to go.
///
/// # Errors
/// Arguments are wrong, or there is no such file.
pub fn delete(dir: &Path, args: Args<'_>) -> Result<PathBuf, Refusal> {
    let path = path(dir, "file", args.needed("file")?)?;
    match path.symlink_metadata() {
        Ok(_) => Ok(path),
        Err(error) => {
            let why = format!("{} cannot be deleted: {error}", path.display());
            Err(Refusal::argument("file", why))
        }
    }
}

/// The directory of an authority in `dir` that is to go.
///
/// # Errors
/// Arguments are wrong, or there is no such directory.
pub fn delete_all(dir: &Path, args: Args<'_>) -> Result<PathBuf, Refusal> {
    let path = path(dir, "interface", args.needed("interface")?)?;
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Ok(path),
        _ => {
            let why = format!("{} is no directory of an authority", path.display());
            Err(Refusal::argument("interface", why))
        }
    }
}

/// Deletes those of the files and directories that no option of the configuration names, nor a file in them. Those that are
/// named stay.
pub fn tidy(network: &File, files: &[PathBuf]) -> Vec<PathBuf> {
    let named = |path: &PathBuf| {
        let options = network.sections.iter().flat_map(|section| &section.options);
        let mut values = options.flat_map(|option| match &option.value {
            Value::One(value) => std::slice::from_ref(value),
            Value::List(list) => list,
        });
        values.any(|value| Path::new(value).starts_with(path))
    };
    let (kept, gone): (Vec<PathBuf>, Vec<PathBuf>) = files.iter().cloned().partition(named);
    for path in &gone {
        let removed = match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        match removed {
            Ok(()) => log::info!("{} was deleted, as asked for", path.display()),
            Err(error) => log::warn!("{} cannot be deleted: {error}", path.display()),
        }
    }
    kept
}

/// The path of a file in `dir`, whose name is an argument.
///
/// # Errors
/// The name leads elsewhere, or is none.
pub(super) fn path(dir: &Path, argument: &'static str, name: &str) -> Result<PathBuf, Refusal> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(fits) {
        return Err(Refusal::argument(
            argument,
            format!(
                "must be a plain name of up to {MAX_NAME} letters, digits, '.', '_' and '-': it is made in {}",
                dir.display()
            ),
        ));
    }
    Ok(dir.join(name))
}

/// Writes a file that an argument names, for its owner alone.
///
/// # Errors
/// It is there and not to be lost, or cannot be written.
pub(super) fn keep(
    argument: &'static str,
    path: &Path,
    text: &[u8],
    overwrite: bool,
) -> Result<(), Refusal> {
    save(path, text, overwrite).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AlreadyExists => "is there already; say overwrite to lose it".into(),
            _ => format!("cannot be written: {error}"),
        };
        Refusal::argument(argument, format!("{} {why}", path.display()))
    })
}

fn write(dir: &Path, args: Args<'_>, key: &StaticKey) -> Result<Json, Refusal> {
    let path = path(dir, "file", args.needed("file")?)?;
    keep(
        "file",
        &path,
        key.to_text().as_bytes(),
        args.switch("overwrite")?,
    )?;
    Ok(json!({
        "ok": true,
        "file": path.display().to_string(),
        "key_fingerprint": format!("sha256:{}", key.fingerprint()),
    }))
}

/// Writes a file for its owner alone, whole or not at all.
///
/// # Errors
/// It is there and not to be lost, or cannot be written.
pub(crate) fn save(path: &Path, text: &[u8], overwrite: bool) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let new = path.with_extension(format!("new.{}", std::process::id()));
    // One left by a crash would keep all later ones from being made.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = file
        .write_all(text)
        .and_then(|()| file.sync_all())
        .and_then(|()| match overwrite {
            true => fs::rename(&new, path),
            // Unlike a rename this fails when the name is taken, without a moment between look and deed.
            false => fs::hard_link(&new, path),
        });
    let _ = fs::remove_file(&new);
    written?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn call(
        method: fn(&Path, Args<'_>) -> Result<Json, Refusal>,
        dir: &Path,
        args: Json,
    ) -> Result<Json, String> {
        method(dir, Args(args.as_object().unwrap()))
            .map_err(|refusal| refusal.problems[0].to_string())
    }

    #[test]
    fn files_are_made_for_root_alone_once_and_nowhere_else() {
        let dir = std::env::temp_dir().join(format!("ovpnd-keys-{}", std::process::id()));
        let said = call(generate, &dir, json!({"file": "a.key"})).unwrap();
        let path = dir.join("a.key");
        let key = StaticKey::load(&path).unwrap();
        assert_eq!(
            said["key_fingerprint"],
            format!("sha256:{}", key.fingerprint())
        );
        assert!(
            !said
                .to_string()
                .contains(&key.to_text().lines().nth(5).unwrap()[..8])
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let error = call(generate, &dir, json!({"file": "a.key"})).unwrap_err();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(StaticKey::load(&path).unwrap().digest(), key.digest());
        let other = StaticKey::generate().unwrap();
        let args = json!({"file": "a.key", "text": *other.to_text(), "overwrite": true});
        call(import, &dir, args).unwrap();
        assert_eq!(StaticKey::load(&path).unwrap().digest(), other.digest());
        for name in ["../a", "a/b", ".hidden", "", "a b", &"x".repeat(65)] {
            assert!(
                call(generate, &dir, json!({ "file": name })).is_err(),
                "{name}"
            );
        }
        let error = call(import, &dir, json!({"file": "b", "text": "secret"})).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        let doomed = |name: &str| delete(&dir, Args(json!({ "file": name }).as_object().unwrap()));
        for name in ["../a.key", "b.key", ""] {
            doomed(name).unwrap_err();
        }
        // One that a section names stays.
        let text = format!("config x\n\tlist y 'z'\n\tlist y '{}'\n", path.display());
        let files = vec![doomed("a.key").unwrap()];
        assert_eq!(tidy(&File::parse(text.as_bytes()), &files), files);
        assert!(path.exists());
        assert_eq!(tidy(&File::default(), &files), [""; 0].map(PathBuf::from));
        assert!(!path.exists());
        // An authority stays while a file in it is named.
        let doomed = |name: &str| {
            delete_all(
                &dir,
                Args(json!({ "interface": name }).as_object().unwrap()),
            )
        };
        fs::create_dir(dir.join("home")).unwrap();
        fs::write(dir.join("home/ca.key"), "x").unwrap();
        for name in ["..", "", ".", "none", "../x"] {
            doomed(name).unwrap_err();
        }
        let files = vec![doomed("home").unwrap()];
        let text = format!("config x\n\toption ca '{}/home/ca.crt'\n", dir.display());
        assert_eq!(tidy(&File::parse(text.as_bytes()), &files), files);
        assert!(dir.join("home/ca.key").exists());
        let text = text.replace("home", "home2");
        assert!(tidy(&File::parse(text.as_bytes()), &files).is_empty());
        assert!(!dir.join("home").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
