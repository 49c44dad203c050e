// SPDX-License-Identifier: GPL-2.0-or-later
//! A new section in one of OpenWrt's configuration files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::Refusal;
use crate::uci::{self, Section};

/// Adds a section to the end of a file, in the way of libuci (file.c, uci_file_commit): under a lock, and by another file
/// in its place. The file comes into being if need be.
///
/// # Errors
/// The name is taken, the file is in the hands of another program, or it cannot be written.
pub(super) fn add(path: &Path, section: &Section) -> Result<(), Refusal> {
    let fault = |why: String| Refusal::argument("name", why);
    put(path, section).map_err(|error| {
        fault(match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let name = section.name.as_deref().unwrap_or_default();
                format!("'{name}' is taken in {}", path.display())
            }
            io::ErrorKind::WouldBlock => {
                let path = path.display();
                format!("{path} is being written by another program: try again")
            }
            _ => format!("{} cannot be written: {error}", path.display()),
        })
    })
}

fn put(path: &Path, section: &Section) -> io::Result<()> {
    let old = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let old = Flock::lock(old, FlockArg::LockExclusiveNonblock);
    let mut old = old.map_err(|(_, error)| io::Error::from(error))?;
    let mut bytes = Vec::new();
    old.read_to_end(&mut bytes)?;
    let there = uci::File::parse(&bytes);
    let taken = |one: &Section| one.name.is_some() && one.name == section.name;
    if there.sections.iter().any(taken) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if !bytes.is_empty() {
        let ends = bytes.ends_with(b"\n");
        bytes.extend_from_slice(if ends { b"\n" } else { b"\n\n" });
    }
    bytes.extend_from_slice(section.to_string().as_bytes());
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(old.metadata()?.mode() & 0o777)
        .open(&new)?;
    let written = file
        .write_all(&bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uci::{Opt, Value};

    #[test]
    fn a_section_comes_to_the_end_once_and_is_read_as_it_was_meant() {
        let dir = std::env::temp_dir().join(format!("ovpnd-section-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("network");
        fs::write(&path, "config interface 'lan'\n\toption proto 'static'").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let option = |name: &str, value| Opt {
            name: name.into(),
            line: 0,
            value,
        };
        let text = r#"it's "a \ b"; # $(x)"#;
        let list = vec![text.to_owned(), "b".to_owned()];
        let section = Section {
            kind: "interface".into(),
            name: Some("office".into()),
            line: 0,
            options: vec![
                option("one", Value::One(text.into())),
                option("more", Value::List(list)),
            ],
            repeated: Vec::new(),
        };
        add(&path, &section).unwrap();
        let read = uci::File::parse(&fs::read(&path).unwrap());
        assert_eq!(read.errors, []);
        let names = read.sections.iter().map(|one| one.name.as_deref());
        assert_eq!(names.collect::<Vec<_>>(), [Some("lan"), Some("office")]);
        let values = |section: &Section| -> Vec<Value> {
            let options = section.options.iter();
            options.map(|option| option.value.clone()).collect()
        };
        assert_eq!(values(&read.sections[1]), values(&section));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        let before = fs::read(&path).unwrap();
        let why = add(&path, &section).unwrap_err().problems[0].to_string();
        assert!(why.contains("'office' is taken"), "{why}");
        // Another program has it.
        let file = File::open(&path).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let other = Section {
            name: Some("b".into()),
            ..section
        };
        let why = add(&path, &other).unwrap_err().problems[0].to_string();
        assert!(why.contains("try again"), "{why}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        drop(held);
        add(&path, &other).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
}
