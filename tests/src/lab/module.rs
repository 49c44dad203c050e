// SPDX-License-Identifier: GPL-2.0-only
//! Loading and unloading the module under test.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::{Cmd, wait_for};
use crate::tap::{During, Failure, Outcome};

/// Name of the module, ours and mainline's: OpenVPN reads /sys/module/ovpn.
const NAME: &str = "ovpn";

/// The driver under test: a file, or whatever modprobe finds.
#[derive(Debug, Clone)]
pub struct Module {
    path: Option<PathBuf>,
}

impl Module {
    /// A module file, or with `None` the one that belongs to the kernel.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Whether a module of this name is loaded.
    pub fn loaded() -> bool {
        Path::new("/sys/module").join(NAME).join("refcnt").exists()
    }

    /// Whether the module loaded is this project's: mainline's has no version.
    pub fn ours() -> bool {
        Path::new("/sys/module").join(NAME).join("version").exists()
    }

    /// The module's file.
    pub fn file(&self) -> Outcome<PathBuf> {
        match &self.path {
            Some(path) => Ok(path.clone()),
            None => Ok(Cmd::new(None, "modinfo -n ovpn").ok()?.trim().into()),
        }
    }

    /// Values of a key in the .modinfo section ("key=value\0"); empty when there is no file or no such key.
    pub fn info(&self, key: &str) -> Vec<String> {
        let Some(bytes) = self.file().ok().and_then(|p| fs::read(p).ok()) else {
            return Vec::new();
        };
        let needle = format!("{key}=");
        bytes
            .split(|b| *b == 0)
            .filter_map(|s| {
                Some(
                    std::str::from_utf8(s)
                        .ok()?
                        .strip_prefix(&needle)?
                        .to_owned(),
                )
            })
            .collect()
    }

    /// Loads it after what it depends on.
    pub fn load(&self) -> Outcome {
        let Some(path) = &self.path else {
            return Cmd::new(None, "modprobe ovpn").ok().map(drop);
        };
        for dependency in self
            .info("depends")
            .iter()
            .flat_map(|d| d.split(','))
            .filter(|d| !d.is_empty())
        {
            Cmd::new(None, "modprobe").arg(dependency).ok()?;
        }
        let file = fs::File::open(path).during(path.display())?;
        // SAFETY: the descriptor is open and the parameter string is NUL-terminated; the kernel copies both.
        let ret =
            unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
        if ret != 0 {
            return Err(std::io::Error::last_os_error())
                .during(format!("loading {}", path.display()));
        }
        Ok(())
    }

    /// Unloads the module by name. Its use count may be busy for a moment after the last request.
    pub fn unload() -> Outcome {
        let name = CString::new(NAME).map_err(Failure::new)?;
        wait_for(
            "the module to be unloadable",
            Duration::from_secs(10),
            || {
                // SAFETY: the name is NUL-terminated; O_NONBLOCK makes a busy module an error instead of a wait.
                if unsafe {
                    libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK)
                } == 0
                {
                    return Ok(Some(()));
                }
                match std::io::Error::last_os_error() {
                    e if e.raw_os_error() == Some(libc::EAGAIN)
                        || e.raw_os_error() == Some(libc::EBUSY) =>
                    {
                        Ok(None)
                    }
                    e => Err(e).during("unloading"),
                }
            },
        )
    }

    /// Unloads what is there and loads this one.
    pub fn reload(&self) -> Outcome {
        if Self::loaded() {
            Self::unload()?;
        }
        self.load()
    }
}
