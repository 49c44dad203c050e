// SPDX-License-Identifier: GPL-2.0-only
//! Debian packages of another architecture, with all they depend on.
//!
//! apt resolves and verifies (Release files signed by the Debian keyring,
//! packages by hash) in a state directory of its own, so neither the host's
//! package lists nor its installed packages are looked at or touched. No
//! maintainer script runs: packages are only unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::progress;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian release the root file system is made of.
const RELEASE: &str = "trixie";

/// Releases that carry the OpenVPN we test with, in order of preference. One
/// whose signed index cannot be had is passed over, and said so.
const OPENVPN_RELEASES: [&str; 2] = ["trixie-backports", "forky"];

/// What else comes from that newer release: OpenVPN's package in forky asks
/// for a newer libnl than trixie has.
const OPENVPN_LIBRARIES: &str = "libnl-3-200 libnl-genl-3-200";

/// What a router is made of, besides what this project builds. dash, because
/// busybox's shell prefers its own `ip` and `ping` to the real ones; kmod, for
/// its modinfo.
const PACKAGES: [&str; 7] = [
    "busybox-static",
    "dash",
    "iproute2",
    "iputils-ping",
    "iperf3",
    "kmod",
    "openvpn=2.7.8*",
];

/// Fetches, once, every package a router needs; returns the `.deb` files in
/// order of their names.
///
/// # Errors
/// No Debian mirror in apt's configuration, no release with a valid signature
/// that has the packages, or no network.
pub(crate) fn packages(cache: &Path, arch: &str) -> Result<Vec<PathBuf>> {
    let apt = Apt {
        home: cache.join("apt").join(arch),
        arch,
    };
    let wanted = format!("{RELEASE} {OPENVPN_RELEASES:?} {PACKAGES:?}");
    if let Some(debs) = apt.remembered(&wanted) {
        return Ok(debs);
    }
    let mirror = mirror()?;
    let mut refusals = Vec::new();
    for release in OPENVPN_RELEASES {
        progress(&format!(
            "Debian {arch} packages from {RELEASE}, OpenVPN from {release}"
        ));
        match apt.fetch(&mirror, release) {
            Ok(debs) => return apt.remember(&wanted, debs),
            Err(error) => {
                progress(&format!("{release} is of no use: {error:#}"));
                refusals.push(format!("{release}: {error:#}"));
            }
        }
    }
    bail!(
        "no Debian release gave the {arch} packages:\n{}",
        refusals.join("\n")
    )
}

/// Unpacks `debs` into the new directory `root`.
pub(crate) fn unpack(debs: &[PathBuf], root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    // Packages assume these of base-files: every path below / that moved to
    // /usr is reached through them.
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        fs::create_dir_all(root.join(target))?;
        std::os::unix::fs::symlink(target, root.join(link))?;
    }
    for deb in debs {
        run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(root))?;
    }
    Ok(())
}

/// The first Debian archive the host's own apt is configured with.
fn mirror() -> Result<String> {
    let output = run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    output
        .lines()
        .find_map(|line| line.strip_prefix("Debian|Debian|main|"))
        .map(str::to_owned)
        .context("apt knows no Debian mirror; run apt-get update first")
}

/// A private apt: its configuration, lists and downloaded packages.
struct Apt<'a> {
    home: PathBuf,
    arch: &'a str,
}

impl Apt<'_> {
    fn fetch(&self, mirror: &str, release: &str) -> Result<Vec<PathBuf>> {
        self.configure(mirror, release)?;
        run(&mut self.command("update"))?;
        run(self.install().arg("--download-only"))?;
        let plan = run(self.install().arg("--simulate"))?;
        let debs: Vec<_> = plan.lines().filter_map(|line| self.planned(line)).collect();
        for deb in &debs {
            ensure!(deb.is_file(), "apt did not download {}", deb.display());
        }
        ensure!(!debs.is_empty(), "apt planned no package at all");
        Ok(debs)
    }

    fn configure(&self, mirror: &str, release: &str) -> Result<()> {
        for directory in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(self.home.join(directory))?;
        }
        let home = self.home.display();
        let arch = self.arch;
        fs::write(
            self.home.join("apt.conf"),
            format!(
                "Dir::Etc::sourcelist \"{home}/debian.sources\";\n\
                 Dir::Etc::sourceparts \"-\";\n\
                 Dir::Etc::preferences \"{home}/preferences\";\n\
                 Dir::Etc::preferencesparts \"-\";\n\
                 Dir::State::lists \"{home}/lists\";\n\
                 Dir::State::status \"/dev/null\";\n\
                 Dir::Cache::archives \"{home}/archives\";\n\
                 Dir::Cache::pkgcache \"\";\n\
                 Dir::Cache::srcpkgcache \"\";\n\
                 APT::Architecture \"{arch}\";\n\
                 APT::Architectures {{ \"{arch}\"; }};\n\
                 APT::Default-Release \"{RELEASE}\";\n\
                 APT::Install-Recommends \"false\";\n\
                 APT::Sandbox::User \"root\";\n\
                 APT::Update::Error-Mode \"any\";\n\
                 Acquire::Languages \"none\";\n\
                 Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
            ),
        )?;
        fs::write(
            self.home.join("debian.sources"),
            format!(
                "Types: deb\nURIs: {mirror}\nSuites: {RELEASE} {release}\nComponents: main\n\
                 Architectures: {arch}\nSigned-By: {KEYRING}\n"
            ),
        )?;
        fs::write(
            self.home.join("preferences"),
            // Above the 990 of the default release.
            format!("Package: {OPENVPN_LIBRARIES}\nPin: release n={release}\nPin-Priority: 995\n"),
        )?;
        Ok(())
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("APT_CONFIG", self.home.join("apt.conf"))
            .env("LC_ALL", "C")
            .args(["-q", "-y", verb]);
        command
    }

    fn install(&self) -> Command {
        let mut command = self.command("install");
        command.args(PACKAGES);
        command
    }

    /// The file of a line "Inst NAME (VERSION ORIGIN [ARCH])" of apt's plan.
    fn planned(&self, line: &str) -> Option<PathBuf> {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let version = rest.split(' ').next()?.replace(':', "%3a");
        let arch = rest.split_once('[')?.1.split_once(']')?.0;
        let name = name.split(' ').next()?;
        Some(
            self.home
                .join("archives")
                .join(format!("{name}_{version}_{arch}.deb")),
        )
    }

    /// What an earlier run found for the same wish, if it is still all there.
    fn remembered(&self, wanted: &str) -> Option<Vec<PathBuf>> {
        let memory = fs::read_to_string(self.home.join("packages")).ok()?;
        let mut lines = memory.lines();
        if lines.next() != Some(wanted) {
            return None;
        }
        let debs: Vec<_> = lines.map(PathBuf::from).collect();
        debs.iter().all(|deb| deb.is_file()).then_some(debs)
    }

    fn remember(&self, wanted: &str, mut debs: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        debs.sort();
        let mut memory = format!("{wanted}\n");
        for deb in &debs {
            memory.push_str(&format!("{}\n", deb.display()));
        }
        fs::write(self.home.join("packages"), memory)?;
        Ok(debs)
    }
}

/// Runs a host command to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().take(6).collect::<Vec<_>>().join("\n  ");
        bail!("{program} failed ({}): {complaint}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
