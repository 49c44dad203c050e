// SPDX-License-Identifier: GPL-2.0-only
//! Where things are: the project tree, the cache outside it and the lock file.

use crate::lock::Lock;
use anyhow::{Context, Result};
use std::env;
use std::path::{Path, PathBuf};

/// Paths and pinned versions every step works with.
pub struct Ctx {
    /// Root of the source tree.
    pub project: PathBuf,
    /// Everything that is fetched or built: `OVPN_CACHE`, else `$XDG_CACHE_HOME/kmod-ovpn`.
    pub cache: PathBuf,
    /// `toolchains/sources.lock`.
    pub lock: Lock,
}

impl Ctx {
    /// Finds the project (this crate's parent directory) and the cache, and reads the lock file.
    pub fn new() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = here
            .parent()
            .context("toolchains/ has no parent directory")?
            .to_path_buf();
        let cache = cache_dir()?;
        std::fs::create_dir_all(&cache)
            .with_context(|| format!("cannot create {}", cache.display()))?;
        let lock = Lock::read(&here.join("sources.lock"))?;
        Ok(Self {
            project,
            cache: cache.canonicalize()?,
            lock,
        })
    }

    /// Downloads as fetched.
    pub fn dl(&self) -> PathBuf {
        self.cache.join("dl")
    }

    /// Unpacked sources, read-only for every build.
    pub fn src(&self, name: &str) -> PathBuf {
        self.cache.join("src").join(name)
    }

    /// Tools installed for the build machine.
    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// An executable among the tools.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    /// A lane's build products.
    pub fn lane(&self, lane: &str) -> PathBuf {
        self.cache.join("lanes").join(lane)
    }

    /// A guest's root file system.
    pub fn root(&self, name: &str) -> PathBuf {
        self.cache.join("roots").join(name)
    }

    /// Complete output of the steps.
    pub fn logs(&self) -> PathBuf {
        self.cache.join("logs")
    }

    /// Where cargo puts what it builds for this workspace.
    pub fn target_dir(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => self.project.join("target"),
        }
    }
}

fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("OVPN_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("neither OVPN_CACHE nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("kmod-ovpn"))
}
