// SPDX-License-Identifier: GPL-2.0-only
//! Where things are: the project tree, the cache outside it and the lock file.

use crate::lock::{Deb, Lock};
use crate::pins::{self, Followed};
use anyhow::{Context, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

/// Paths and pinned versions every step works with.
pub struct Ctx {
    /// Root of the source tree.
    pub project: PathBuf,
    /// Everything that is fetched or built: `OVPN_CACHE`, else `$XDG_CACHE_HOME/kmod-ovpn`.
    pub cache: PathBuf,
    /// `toolchains/sources.lock`.
    pub lock: Lock,
    /// Debian mirror, where it is not the one of the machine's own apt: `OVPN_DEBIAN_MIRROR`.
    pub mirror: Option<String>,
    /// Replacements of pins that are no longer served.
    followed: RwLock<Vec<Followed>>,
}

impl Ctx {
    /// Finds the project (this crate's parent directory) and the cache, and reads the lock file.
    pub fn new() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = here
            .parent()
            .context("toolchains/ has no parent directory")?
            .to_path_buf();
        let lock = Lock::read(&here.join("sources.lock"))?;
        let mirror = env::var("OVPN_DEBIAN_MIRROR").ok();
        Self::with(&project, &cache_dir()?, lock, mirror)
    }

    /// With everything given.
    pub fn with(project: &Path, cache: &Path, lock: Lock, mirror: Option<String>) -> Result<Self> {
        std::fs::create_dir_all(cache)
            .with_context(|| format!("cannot create {}", cache.display()))?;
        let cache = cache.canonicalize()?;
        let followed = RwLock::new(pins::recorded(&cache, &lock)?);
        Ok(Self {
            project: project.to_path_buf(),
            cache,
            lock,
            mirror,
            followed,
        })
    }

    /// A pinned package by name, or what stands for it because it is no longer served.
    pub fn deb(&self, name: &str) -> Result<Deb> {
        let pin = self.lock.deb(name)?;
        let followed = self.followed.read().unwrap_or_else(|e| e.into_inner());
        Ok(pins::find(&followed, name).unwrap_or(pin).clone())
    }

    /// Takes something else for a pin from now on, in later runs too.
    pub fn record(&self, new: Followed) -> Result<()> {
        let mut followed = self.followed.write().unwrap_or_else(|e| e.into_inner());
        pins::add(&mut followed, new);
        pins::write(&self.cache, &followed)
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
