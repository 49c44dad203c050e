// SPDX-License-Identifier: GPL-2.0-only
//! Debian packages as archives: pinned ones by hash, guest roots by a private package manager state.
//!
//! The mirror is the one this machine's own apt uses; nothing of the machine's package state is touched here.

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::lock::Deb;
use crate::pins;
use crate::stamp;
use crate::ui;
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Fetches a file by address and digest with the machine's apt settings (proxy, retries).
const HELPER: &str = "/usr/lib/apt/apt-helper";
/// Signing keys of Debian's releases, of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// In the place of an architecture: source packages.
const SOURCE: &str = "source";
/// Slow mirrors are given this long for one step.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A source that cannot be had now; what needs it is skipped, and says so.
#[derive(Debug)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Base address of the Debian mirror, ending in a slash.
fn mirror(ctx: &Ctx) -> Result<String> {
    if let Some(mirror) = &ctx.mirror {
        return Ok(mirror.trim_end_matches('/').to_owned() + "/");
    }
    let format = "$(ORIGIN)|$(RELEASE)|$(REPO_URI)";
    let text = Cmd::new(ctx, "apt-get")
        .args(["indextargets", "--format", format, "Identifier: Packages"])
        .output()?;
    pick_mirror(&text).ok_or_else(|| {
        let why = "this machine's apt has no Debian mirror; name one in OVPN_DEBIAN_MIRROR";
        Unavailable(why.to_owned()).into()
    })
}

/// The first entry that is a whole Debian archive: updates and security ones are named `<release>-<something>`.
fn pick_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.splitn(3, '|');
        let (origin, release, uri) = (fields.next()?, fields.next()?, fields.next()?);
        (origin == "Debian" && !release.contains('-'))
            .then(|| uri.trim_end_matches('/').to_owned() + "/")
    })
}

/// Gets a pinned package, or its successor, into the cache unless it is there, and verifies it.
pub fn pinned(ctx: &Ctx, name: &str) -> Result<PathBuf> {
    pins::following(|| download(ctx, &ctx.deb(name)?))
}

/// Gets a file into the cache unless it is there, and verifies it. The caller has to expect that it moves on.
pub fn download(ctx: &Ctx, deb: &Deb) -> Result<PathBuf> {
    let file = deb
        .path
        .rsplit('/')
        .next()
        .context("empty path in the lock file")?;
    let target = ctx.dl().join(file);
    let stamp = stamp::path(&ctx.dl(), file);
    let key = stamp::Key::new("deb 1").with(&deb.sha256);
    stamp::once(&stamp, &target, key, || {
        if stamp::verify(&target, &deb.sha256).is_ok() {
            return Ok(());
        }
        fetch(ctx, deb, &target)?;
        stamp::verify(&target, &deb.sha256)
    })?;
    Ok(target)
}

fn fetch(ctx: &Ctx, deb: &Deb, target: &Path) -> Result<()> {
    ui::say(format!(
        "fetching {} {} ({} MiB)",
        deb.name,
        deb.version,
        deb.size >> 20
    ));
    let part = target.with_extension("part");
    let address = mirror(ctx)? + &deb.path;
    let got = Cmd::new(ctx, HELPER)
        .arg("download-file")
        .arg(address)
        .arg(&part)
        .arg(format!("SHA256:{}", deb.sha256))
        .timeout(TIMEOUT)
        .run();
    if let Err(err) = got {
        let _ = fs::remove_file(&part);
        return Err(pins::follow(ctx, deb, &err));
    }
    fs::rename(&part, target)?;
    Ok(())
}

/// Pinned packages, others of a suite and all they depend on, downloaded; with a line for each saying name and version.
pub fn closure(
    ctx: &Ctx,
    suite: &str,
    arch: &str,
    debs: &[String],
    packages: &[String],
) -> Result<(Vec<PathBuf>, String)> {
    let apt = PrivateApt::new(ctx, "", suite, arch)?;
    let mut wanted = Vec::new();
    let mut own = Vec::new();
    for name in debs {
        let file = pinned(ctx, name)?;
        wanted.push(file.display().to_string());
        own.push(file);
    }
    wanted.extend(packages.iter().cloned());

    ui::say(format!("reading the package list of {suite} for {arch}"));
    apt.update(ctx)?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(wanted.iter().map(String::as_str));
    let mut simulated = install.clone();
    simulated.push("--simulate");
    let plan = parse_plan(&apt.get(ctx, &simulated).output()?)?;
    ui::say(format!("fetching {} packages", plan.len()));
    install.push("--download-only");
    apt.get(ctx, &install)
        .run()
        .map_err(|err| Unavailable(format!("packages cannot be had: {err:#}")))?;

    let mut files = Vec::new();
    let mut manifest = String::new();
    for package in &plan {
        manifest += &format!("{} {} {}\n", package.name, package.version, package.arch);
        let file = match own.iter().find(|p| is_of(p, package)) {
            Some(file) => file.clone(),
            None => apt.archive(package),
        };
        ensure!(
            file.is_file(),
            "{} is not there after the download",
            file.display()
        );
        files.push(file);
    }
    if let Some(file) = own.iter().find(|p| !files.contains(p)) {
        bail!("apt chose another version than {}", file.display());
    }
    Ok((files, manifest))
}

/// A suite's list of the packages of an architecture, or of its `source` packages; apt has verified it.
pub fn index(ctx: &Ctx, suite: &str, arch: &str) -> Result<String> {
    // Apart from the roots' state: a step may be busy with that.
    let apt = PrivateApt::new(ctx, "pins-", suite, arch)?;
    apt.update(ctx)?;
    let list = match arch {
        SOURCE => "Created-By: Sources",
        _ => "Created-By: Packages",
    };
    let files = apt
        .get(ctx, &["indextargets", "--format", "$(FILENAME)", list])
        .output()?;
    let mut text = String::new();
    for file in files.lines() {
        // The machine's configuration may keep lists packed.
        text += &Cmd::new(ctx, HELPER).args(["cat-file", file]).output()?;
        text += "\n";
    }
    Ok(text)
}

fn is_of(file: &Path, package: &Planned) -> bool {
    file.file_name()
        .is_some_and(|name| name.to_string_lossy() == package.file_name())
}

/// A package apt would install.
#[derive(Debug, PartialEq)]
struct Planned {
    name: String,
    version: String,
    arch: String,
}

impl Planned {
    /// As apt names the file: a colon in the version (its epoch) is escaped.
    fn file_name(&self) -> String {
        format!(
            "{}_{}_{}.deb",
            self.name,
            self.version.replace(':', "%3a"),
            self.arch
        )
    }
}

/// Reads the `Inst` lines of a simulated installation: `Inst NAME (VERSION ORIGIN... [ARCH])`.
fn parse_plan(text: &str) -> Result<Vec<Planned>> {
    let mut plan = Vec::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("Inst ")) {
        let parsed = || {
            let (name, rest) = line.split_once(' ')?;
            let inner = rest.split_once('(')?.1.split_once(')')?.0;
            let version = inner.split(' ').next()?;
            let arch = inner.rsplit_once('[')?.1.strip_suffix(']')?;
            let name = name.split(':').next()?;
            Some(Planned {
                name: name.to_owned(),
                version: version.to_owned(),
                arch: arch.to_owned(),
            })
        };
        plan.push(parsed().with_context(|| format!("cannot read apt's line: Inst {line}"))?);
    }
    ensure!(!plan.is_empty(), "apt plans to install nothing");
    Ok(plan)
}

/// A package manager with its own lists and an empty set of installed packages.
struct PrivateApt {
    config: PathBuf,
    archives: PathBuf,
}

impl PrivateApt {
    fn new(ctx: &Ctx, prefix: &str, suite: &str, arch: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing: package debian-archive-keyring"
        );
        let dir = ctx
            .cache
            .join("apt")
            .join(format!("{prefix}{suite}-{arch}"));
        // Source packages have no architecture.
        let (types, target, arch) = match arch {
            SOURCE => ("deb-src", "Sources", "amd64"),
            arch => ("deb", "Packages", arch),
        };
        let archives = ctx.dl().join("archives");
        for sub in [dir.join("lists/partial"), archives.join("partial")] {
            fs::create_dir_all(&sub).with_context(|| format!("cannot create {}", sub.display()))?;
        }
        fs::write(dir.join("status"), "")?;
        let sources = format!(
            "Types: {types}\nTargets: {target}\nURIs: {}\nSuites: {suite}\nComponents: main\nArchitectures: {arch}\nSigned-By: {KEYRING}\n",
            mirror(ctx)?
        );
        fs::write(dir.join("debian.sources"), sources)?;
        let at = dir.display();
        let text = format!(
            "Dir::Etc::sourcelist \"{at}/debian.sources\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferencesparts \"-\";\nDir::State::lists \"{at}/lists\";\n\
             Dir::State::status \"{at}/status\";\nDir::Cache \"{at}\";\nDir::Cache::archives \"{}\";\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAPT::Keep-Downloaded-Packages \"true\";\n",
            archives.display()
        );
        let config = dir.join("apt.conf");
        fs::write(&config, text)?;
        Ok(Self { config, archives })
    }

    /// Fetches the lists; one that is not signed by Debian, or not there, is an error.
    fn update(&self, ctx: &Ctx) -> Result<()> {
        self.get(ctx, &["update", "--error-on=any"])
            .run()
            .map_err(|err| Unavailable(format!("the package list cannot be had: {err:#}")).into())
    }

    fn get(&self, ctx: &Ctx, args: &[&str]) -> Cmd {
        Cmd::new(ctx, "apt-get")
            .env("APT_CONFIG", &self.config)
            .args(args)
            .timeout(TIMEOUT)
    }

    fn archive(&self, package: &Planned) -> PathBuf {
        self.archives.join(package.file_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_itself_is_the_mirror() {
        let text = "Other|x|http://one/\nDebian|r-updates|http://two\nDebian|r|http://three/debian\nDebian|r|http://four\n";
        assert_eq!(pick_mirror(text).as_deref(), Some("http://three/debian/"));
        assert_eq!(pick_mirror("Debian|r-security|http://two\n"), None);
    }

    #[test]
    fn plan_lines() {
        let text = "Reading...\nInst libattr1 (1:2.5.2-3 Debian:13/stable [amd64]) []\n\
                    Inst libc6:armhf (2.41-12 Debian:13/stable [armhf])\nConf libc6 (2.41-12 Debian:13/stable [armhf])\n";
        let plan = parse_plan(text).unwrap();
        let names: Vec<_> = plan.iter().map(Planned::file_name).collect();
        assert_eq!(
            names,
            ["libattr1_1%3a2.5.2-3_amd64.deb", "libc6_2.41-12_armhf.deb"]
        );
        assert!(parse_plan("Inst nonsense\n").is_err());
        assert!(parse_plan("").is_err());
    }
}
