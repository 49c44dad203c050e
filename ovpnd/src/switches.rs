// SPDX-License-Identifier: GPL-2.0-or-later
//! Which interfaces are to be up: kept in files, one for each interface, that outlive the daemon and not the router.
//!
//! A file holds `up`, or `down` with a reason after it. netifd's handler writes them as well when ovpnd does not answer,
//! so that an interface that is taken down stays down when ovpnd comes back. Without a file an interface is up, but where
//! netifd is: that starts each of its interfaces by a call, or, with `option auto '0'`, does not.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::config::Config;

/// Where the files are, unless told otherwise.
pub const DIR: &str = "/var/run/ovpnd";

/// The files.
#[derive(Debug, Clone)]
pub struct Switches {
    dir: PathBuf,
    netifd: bool,
}

impl Switches {
    /// Those in `dir`. `netifd` says whether that starts interfaces.
    pub fn new(dir: PathBuf, netifd: bool) -> Self {
        Self { dir, netifd }
    }

    /// The file of an interface, whose name is no path.
    fn path(&self, interface: &str) -> io::Result<PathBuf> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        match interface.bytes().all(fits) && !interface.starts_with('.') && !interface.is_empty() {
            true => Ok(self.dir.join(interface)),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Why an interface is to be down; none when it is to be up.
    pub fn stopped(&self, interface: &str) -> Option<String> {
        let read = self.path(interface).and_then(fs::read_to_string);
        let text = match read {
            Ok(text) => text,
            Err(_) if self.netifd => return Some("netifd has not started it".into()),
            Err(_) => return None,
        };
        let reason = text.trim().strip_prefix("down")?.trim();
        Some(match reason.is_empty() {
            true => "it was taken down".into(),
            false => reason.chars().filter(|c| !c.is_control()).collect(),
        })
    }

    /// Notes for each interface of a configuration why it is to be down.
    pub fn read(&self, config: &mut Config) {
        for (name, entry) in &mut config.interfaces {
            entry.stopped = self.stopped(name);
        }
        #[cfg(feature = "tls")]
        for (name, entry) in &mut config.clients {
            entry.stopped = self.stopped(name);
        }
        #[cfg(feature = "tls")]
        for (name, entry) in &mut config.servers {
            entry.stopped = self.stopped(name);
        }
    }

    /// Notes that an interface is to be up, or why it is to be down.
    ///
    /// # Errors
    /// The file cannot be written, or the name is a path.
    pub fn set(&self, interface: &str, stopped: Option<&str>) -> io::Result<()> {
        let path = self.path(interface)?;
        fs::create_dir_all(&self.dir)?;
        let text = match stopped {
            None => "up\n".to_owned(),
            Some(reason) => format!("down {}\n", reason.replace(char::is_control, " ")),
        };
        // Whole or not at all: half a word would be read as up.
        let new = self.dir.join(format!(".{interface}"));
        fs::write(&new, text)?;
        fs::rename(new, path)
    }

    /// Forgets an interface that is configured no more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(&self, interface: &str) -> io::Result<()> {
        match fs::remove_file(self.path(interface)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// All interfaces that were taken down, with the reason.
    pub fn all_stopped(&self) -> Vec<(String, String)> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        let mut stopped: Vec<_> = names
            .filter(|name| self.path(name).is_ok())
            .filter_map(|name| self.stopped(&name).map(|reason| (name, reason)))
            .collect();
        stopped.sort();
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(name: &str, netifd: bool) -> Switches {
        let dir = std::env::temp_dir().join(format!("ovpnd-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Switches::new(dir, netifd)
    }

    #[test]
    fn files_say_what_is_up_and_outlive_the_daemon() {
        let first = switches("switches", false);
        assert_eq!(first.stopped("vpn0"), None);
        first.set("vpn0", Some("ifdown\nup")).unwrap();
        first.set("vpn1", None).unwrap();
        let again = first.clone();
        assert_eq!(again.stopped("vpn0").as_deref(), Some("ifdown up"));
        assert_eq!(again.stopped("vpn1"), None);
        assert_eq!(again.all_stopped(), [("vpn0".into(), "ifdown up".into())]);
        // As a shell writes it.
        fs::write(again.dir.join("vpn1"), "down").unwrap();
        assert_eq!(again.stopped("vpn1").as_deref(), Some("it was taken down"));
        again.set("vpn0", None).unwrap();
        assert_eq!(first.stopped("vpn0"), None);
        again.forget("vpn0").unwrap();
        again.forget("vpn0").unwrap();
        fs::remove_dir_all(&again.dir).unwrap();
    }

    #[test]
    fn netifd_starts_its_interfaces() {
        let switches = switches("netifd", true);
        let unknown = switches.stopped("vpn0");
        assert_eq!(unknown.as_deref(), Some("netifd has not started it"));
        switches.set("vpn0", None).unwrap();
        assert_eq!(switches.stopped("vpn0"), None);
        fs::remove_dir_all(&switches.dir).unwrap();
    }

    #[test]
    fn a_name_is_no_path() {
        let switches = switches("paths", false);
        for name in ["", "../vpn0", "a/b", ".vpn0", "v\n"] {
            assert!(switches.set(name, None).is_err(), "{name:?}");
            assert_eq!(switches.stopped(name), None, "{name:?}");
        }
    }
}
