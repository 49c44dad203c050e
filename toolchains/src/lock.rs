// SPDX-License-Identifier: GPL-2.0-only
//! `sources.lock`: every source with its version and sha256.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The Debian release the guests run.
    pub debian: Debian,
    /// Debian packages used as archives.
    #[serde(rename = "deb")]
    pub debs: Vec<Deb>,
    /// PyPI wheels used as archives.
    #[serde(rename = "wheel")]
    pub wheels: Vec<Wheel>,
    /// Programs from the crate registry.
    #[serde(rename = "crate")]
    pub crates: Vec<Crate>,
    /// Packages of the build machine.
    #[serde(rename = "host")]
    pub hosts: Vec<Host>,
    /// Guest root file systems.
    #[serde(rename = "root")]
    pub roots: Vec<Root>,
    /// Programs of older Debian releases.
    #[serde(rename = "older")]
    pub older: Vec<Older>,
    /// Kernels to build and test with.
    #[serde(rename = "lane")]
    pub lanes: Vec<Lane>,
}

/// Settings common to all Debian packages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Suite that unpinned packages of guest roots come from.
    pub suite: String,
}

/// A Debian package pinned by hash.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deb {
    /// Name within this file.
    pub name: String,
    /// Suite whose index has its successors.
    pub suite: String,
    /// Debian version.
    pub version: String,
    /// Path below the mirror.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Hex digest of the package file.
    pub sha256: String,
    /// Tar archive inside the package that is the real content.
    pub tarball: Option<String>,
    /// Directory below the cache's `src` to unpack to.
    pub unpack: Option<String>,
    /// Whether its successors are other builds of the same version only.
    #[serde(default)]
    pub stay: bool,
    /// Pins that move on together.
    pub group: Option<String>,
}

/// A wheel pinned by hash.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// PyPI project.
    pub name: String,
    /// Version.
    pub version: String,
    /// File name.
    pub file: String,
    /// Hex digest of the wheel.
    pub sha256: String,
}

/// A program from the crate registry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crate {
    /// Crate.
    pub name: String,
    /// Version.
    pub version: String,
    /// Hex digest of the `.crate` file.
    pub sha256: String,
    /// Executables it installs.
    pub bins: Vec<String>,
    /// Where it runs.
    pub role: Role,
}

/// Where a program from the crate registry runs.
#[derive(Debug, Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// On the build machine.
    Tool,
    /// In the guests of every lane.
    Guest,
}

/// A package of the build machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Debian package.
    pub name: String,
    /// Version the lanes were last seen to work with.
    pub version: Option<String>,
    /// Hex digest the package of that version must have.
    pub sha256: Option<String>,
}

/// A guest root file system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Name.
    pub name: String,
    /// Debian architecture.
    pub arch: String,
    /// Pinned packages, by their name in this file.
    pub debs: Vec<String>,
    /// Other packages; their dependencies follow.
    pub packages: Vec<String>,
    /// Symbolic links to make: path in the root, target.
    pub links: Vec<(String, String)>,
    /// Users and groups to make, as a package's script would.
    #[serde(default)]
    pub users: Vec<String>,
}

/// A program of an older Debian release, unpacked with its libraries and its loader.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Older {
    /// Name.
    pub name: String,
    /// The release that its libraries come from.
    pub suite: String,
    /// Its pinned package, by its name in this file; the architecture is the build machine's.
    pub deb: String,
}

/// A kernel to build and test with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Name.
    pub name: String,
    /// Pinned package holding the kernel source.
    pub source: String,
    /// Kernel's `ARCH`.
    pub arch: String,
    /// Prefix of the C compiler.
    pub cross_compile: String,
    /// File below `toolchains/configs`, merged on top of allnoconfig.
    #[serde(default)]
    pub config: String,
    /// Somebody else's build of it, instead of one made here.
    pub stock: Option<Stock>,
    /// Files before that one, whose options it may set otherwise: what several lanes have in common.
    #[serde(default)]
    pub base: Vec<String>,
    /// Rust's name of the guests' processor, where their programs are built here.
    pub triple: Option<String>,
    /// Root file system of its guests.
    pub root: Option<String>,
    /// OpenWrt's name of the processor that packages are for.
    pub package_arch: Option<String>,
    /// Whether a user-mode kernel runs on more than one CPU.
    #[serde(default)]
    pub smp: bool,
    /// Whether a user-mode kernel uses the assembly that the kernel has for ciphers on x86.
    #[serde(default)]
    pub simd: bool,
    /// More arguments of `make`, for the kernel and for our module.
    pub make: Vec<String>,
    /// Header below `toolchains/configs` that each `stacktrace.o` of the kernel begins with.
    pub stacktrace_header: Option<String>,
    /// Make targets; none means the default one.
    pub targets: Vec<String>,
    /// The image that boots, relative to the build directory.
    pub image: String,
}

/// A kernel as its distribution built it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stock {
    /// Pinned package with what modules are built against.
    pub headers: String,
    /// Pinned packages with the kernel itself and its modules: one, or what Debian splits it into since 7.2.
    pub image: Vec<String>,
    /// Its modules that the guests use.
    pub modules: Vec<String>,
}

impl Stock {
    /// All its packages, that of the headers first.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.headers)
            .chain(&self.image)
            .map(String::as_str)
    }
}

impl Lane {
    /// Rust's name of the guests' processor; user-mode guests have the build machine's.
    pub fn triple(&self) -> Result<&str> {
        let triple = self.triple.as_deref();
        triple.with_context(|| format!("{} has no programs of its own", self.name))
    }

    /// Root file system of its guests.
    pub fn root(&self) -> Result<&str> {
        let root = self.root.as_deref();
        root.with_context(|| format!("{} has no root of its own", self.name))
    }

    /// OpenWrt's name of its processor.
    pub fn package_arch(&self) -> Result<&str> {
        let arch = self.package_arch.as_deref();
        arch.with_context(|| format!("there are no packages for {}", self.name))
    }
}

impl Lock {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    /// Decodes the text; refuses a malformed digest, a doubled name and a reference to nothing.
    pub fn parse(text: &str) -> Result<Self> {
        let lock: Self = toml::from_str(text)?;
        lock.check()?;
        Ok(lock)
    }

    fn check(&self) -> Result<()> {
        let digests = self
            .debs
            .iter()
            .map(|d| (&d.name, Some(&d.sha256)))
            .chain(self.wheels.iter().map(|w| (&w.name, Some(&w.sha256))))
            .chain(self.crates.iter().map(|c| (&c.name, Some(&c.sha256))))
            .chain(self.hosts.iter().map(|h| (&h.name, h.sha256.as_ref())));
        let mut names = BTreeSet::new();
        for (name, digest) in digests {
            ensure!(names.insert(name), "{name} is listed twice");
            if let Some(digest) = digest {
                let hex = digest.len() == 64
                    && digest
                        .bytes()
                        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                ensure!(hex, "{name}: sha256 must be 64 lower-case hex digits");
            }
        }
        for deb in &self.debs {
            ensure!(
                deb.tarball.is_none() || deb.unpack.is_some(),
                "{}: a tarball needs a place to unpack to",
                deb.name
            );
        }
        for lane in &self.lanes {
            let source = self.deb(&lane.source)?;
            ensure!(
                source.unpack.is_some(),
                "{}: {} is not unpacked",
                lane.name,
                source.name
            );
            ensure!(
                lane.config.is_empty() == lane.stock.is_some(),
                "{}: either config or stock",
                lane.name
            );
            for deb in lane.stock.iter().flat_map(Stock::packages) {
                self.deb(deb)?;
            }
        }
        let older = self.older.iter().map(|o| &o.deb);
        for deb in self.roots.iter().flat_map(|r| &r.debs).chain(older) {
            self.deb(deb)?;
        }
        Ok(())
    }

    /// A pinned package by name.
    pub fn deb(&self, name: &str) -> Result<&Deb> {
        find(&self.debs, name, |d| &d.name)
    }

    /// A wheel by name.
    pub fn wheel(&self, name: &str) -> Result<&Wheel> {
        find(&self.wheels, name, |w| &w.name)
    }

    /// A crate by name.
    pub fn krate(&self, name: &str) -> Result<&Crate> {
        find(&self.crates, name, |c| &c.name)
    }

    /// A root by name.
    pub fn root(&self, name: &str) -> Result<&Root> {
        find(&self.roots, name, |r| &r.name)
    }

    /// A lane by name.
    pub fn lane(&self, name: &str) -> Result<&Lane> {
        find(&self.lanes, name, |l| &l.name)
    }
}

fn find<'a, T>(items: &'a [T], name: &str, key: impl Fn(&T) -> &String) -> Result<&'a T> {
    match items.iter().find(|item| key(item) == name) {
        Some(item) => Ok(item),
        None => {
            let known: Vec<_> = items.iter().map(|i| key(i).as_str()).collect();
            bail!("sources.lock has no {name} (it has {})", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = include_str!("../sources.lock");

    #[test]
    fn the_real_file_is_valid() {
        let lock = Lock::parse(REAL).unwrap();
        assert!(lock.lane("um-7.2").is_ok());
        let err = lock.lane("um-1.0").unwrap_err().to_string();
        assert!(
            err.contains("um-7.2"),
            "the message names what there is: {err}"
        );
    }

    #[test]
    fn faults_are_refused() {
        let doubled = format!("{REAL}\n[[host]]\nname = \"bc\"\n");
        let cases = [
            (
                REAL.replacen("sha256 = \"7", "sha256 = \"X", 1),
                "64 lower-case hex",
            ),
            (
                REAL.replacen("source = \"linux-source-7.2\"", "source = \"nothing\"", 1),
                "has no nothing",
            ),
            (
                REAL.replacen("[\"linux-image-armmp\"]", "[\"no-image\"]", 1),
                "has no no-image",
            ),
            (
                REAL.replacen("debs = [\"openvpn-amd64\"]", "debs = [\"vpn\"]", 1),
                "has no vpn",
            ),
            (
                REAL.replacen("version = \"6.12.107-1\"\n", "", 1),
                "missing field",
            ),
            (
                REAL.replacen("unpack = \"linux-source-6.12\"\n", "", 1),
                "place to unpack",
            ),
            (doubled, "bc is listed twice"),
            (format!("surprise = 1\n{REAL}"), "surprise"),
        ];
        for (text, want) in cases {
            assert_ne!(text, REAL, "the case changes nothing: {want}");
            let err = format!("{:#}", Lock::parse(&text).unwrap_err());
            assert!(err.contains(want), "wanted {want:?} in {err:?}");
        }
    }
}
