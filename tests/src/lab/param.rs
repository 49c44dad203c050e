// SPDX-License-Identifier: GPL-2.0-only
//! Parameters of the loaded module.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::tap::{During, Failure, Outcome};

/// A parameter that gets its former value back when this goes.
pub struct Param {
    path: PathBuf,
    before: String,
}

fn path(name: &str) -> PathBuf {
    Path::new("/sys/module/ovpn/parameters").join(name)
}

impl Param {
    /// Sets a parameter; the case is skipped when the module has none of that name.
    pub fn set(name: &str, value: &str) -> Outcome<Self> {
        let path = path(name);
        if !path.exists() {
            return Err(Failure::Skipped(format!(
                "the module has no parameter {name}"
            )));
        }
        let before = Self::read(name)?;
        let param = Self { path, before };
        param
            .write(value)
            .during(format!("parameter {name}={value}"))?;
        Ok(param)
    }

    /// Its value.
    pub fn read(name: &str) -> Outcome<String> {
        let text = fs::read_to_string(path(name)).during(format!("parameter {name}"))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Sets it to something else; the kernel's refusal is the error.
    pub fn write(&self, value: &str) -> io::Result<()> {
        // sysfs takes no write of nothing.
        fs::write(&self.path, format!("{value}\n"))
    }
}

impl Drop for Param {
    fn drop(&mut self) {
        // The module may be gone, and its parameters with it.
        let _ = self.write(&self.before);
    }
}
