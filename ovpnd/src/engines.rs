// SPDX-License-Identifier: GPL-2.0-only
//! What kmod-ovpn takes from a module parameter while it makes something: which crypto drivers carry a key, and
//! whether an interface fits TCP segments to the path.

use std::fs;
use std::path::PathBuf;

use ovpn_netlink::CipherAlg;

use crate::config::{HwCrypto, MssFix};

/// Holds a module parameter at a value for as long as it lives.
#[derive(Debug)]
pub struct Chosen {
    path: PathBuf,
    before: String,
}

impl Chosen {
    /// For a key, unless the parameter is to stay as whoever loaded the module wanted it.
    ///
    /// # Errors
    /// A sentence, when the module takes no such wish; the key can be installed all the same.
    pub fn carriers(cipher: CipherAlg, wanted: &HwCrypto) -> Result<Option<Self>, String> {
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
        let set = Self::set(name, value);
        set.map_err(|error| format!("hwcrypto '{wanted}' has no effect: {error}"))
    }

    /// For an interface.
    ///
    /// # Errors
    /// As above.
    pub fn clamp(wanted: MssFix) -> Result<Option<Self>, String> {
        if wanted != MssFix::Off {
            return Ok(None);
        }
        let set = Self::set("mss_clamp", "N");
        set.map_err(|error| format!("mssfix '{wanted}' has no effect: {error}"))
    }

    fn set(name: &str, value: &str) -> Result<Option<Self>, String> {
        let path = PathBuf::from("/sys/module/ovpn/parameters").join(name);
        let said = |error| format!("{}: {error}", path.display());
        let before = fs::read_to_string(&path).map_err(said)?;
        // An empty write would not reach the module.
        fs::write(&path, format!("{value}\n")).map_err(said)?;
        Ok(Some(Self { path, before }))
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}
