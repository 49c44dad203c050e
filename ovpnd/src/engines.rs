// SPDX-License-Identifier: GPL-2.0-or-later
//! Settings that kmod-ovpn takes from a module parameter while it makes something: which crypto drivers carry a key, and
//! whether an interface fits TCP segments to the path.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ovpn_netlink::CipherAlg;

use crate::config::{HwCrypto, MssFix};

/// Where the module's parameters are.
const PARAMETERS: &str = "/sys/module/ovpn/parameters";

/// Holds a module parameter at a value for as long as it lives.
#[derive(Debug)]
pub struct Chosen {
    path: PathBuf,
    before: String,
}

/// A wish that the module does not fulfil; what was to be made can be made all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The option of the interface's section.
    pub option: &'static str,
    /// A sentence without its end.
    pub why: String,
    /// The parameter and its value, as in a line of /etc/modules.d.
    pub parameter: String,
    /// Whether there is such a parameter, and it may not be written.
    pub forbidden: bool,
}

impl Chosen {
    /// For a key, unless the parameter is to stay as it was when the module was loaded.
    ///
    /// # Errors
    /// When the module takes no such wish.
    pub fn carriers(cipher: CipherAlg, wanted: &HwCrypto) -> Result<Option<Self>, Refused> {
        let value = match wanted {
            HwCrypto::Auto => return Ok(None),
            HwCrypto::Off => "",
            HwCrypto::On => "async",
            HwCrypto::Driver(name) => name,
        };
        let name = match cipher {
            CipherAlg::AesGcm => "aes_gcm",
            CipherAlg::Chacha20Poly1305 => "chacha20_poly1305",
            CipherAlg::None => return Ok(None),
        };
        Self::set("hwcrypto", wanted, name, value)
    }

    /// For an interface.
    ///
    /// # Errors
    /// As above.
    pub fn clamp(wanted: MssFix) -> Result<Option<Self>, Refused> {
        if wanted != MssFix::Off {
            return Ok(None);
        }
        Self::set("mssfix", &wanted, "mss_clamp", "N")
    }

    fn set(
        option: &'static str,
        wanted: &dyn Display,
        name: &str,
        value: &str,
    ) -> Result<Option<Self>, Refused> {
        Self::hold(Path::new(PARAMETERS).join(name), value).map_err(|(path, error)| Refused {
            option,
            why: format!(
                "{option} '{wanted}' has no effect: {}: {error}",
                path.display()
            ),
            parameter: format!("{name}={value}"),
            // A jail may have no /sys at all.
            forbidden: error.kind() != io::ErrorKind::NotFound
                || !Path::new("/sys/module").exists(),
        })
    }

    fn hold(path: PathBuf, value: &str) -> Result<Option<Self>, (PathBuf, io::Error)> {
        // A parameter that has the value already is not written: in a jail that is forbidden.
        let before = match fs::read_to_string(&path) {
            Ok(before) if before.trim_end() == value => return Ok(None),
            Ok(before) => before,
            Err(error) => return Err((path, error)),
        };
        // An empty write would not reach the module.
        match fs::write(&path, format!("{value}\n")) {
            Ok(()) => Ok(Some(Self { path, before })),
            Err(error) => Err((path, error)),
        }
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_held_and_given_back() {
        let path = std::env::temp_dir().join(format!("ovpnd-parameter-{}", std::process::id()));
        fs::write(&path, "sync\n").unwrap();
        let read = || fs::read_to_string(&path).unwrap();
        assert!(Chosen::hold(path.clone(), "sync").unwrap().is_none());
        let held = Chosen::hold(path.clone(), "async").unwrap();
        assert!(held.is_some());
        assert_eq!(read(), "async\n");
        drop(held);
        assert_eq!(read(), "sync\n");
        fs::remove_file(&path).unwrap();
        let (_, error) = Chosen::hold(path, "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
