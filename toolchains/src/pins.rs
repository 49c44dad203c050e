// SPDX-License-Identifier: GPL-2.0-only
//! Pinned packages that a suite no longer serves: followed to their successors, recorded in the cache, shown, and
//! written to the lock file when somebody asks for it.
//!
//! A successor comes from the suite's index, which apt has verified by Debian's signature, and its file has to have the
//! digest that this index gives. A pin that was followed once stays until the pin in the lock file changes.

use crate::apt::{self, Unavailable};
use crate::ctx::Ctx;
use crate::lock::{Deb, Lock};
use crate::stamp;
use crate::successor::{self, Kinship, Offer};
use crate::tally::Tally;
use crate::ui;
use anyhow::{Context, Error, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Another file has taken the place of a pinned one: what depends on it starts again.
#[derive(Debug)]
struct Moved(String);

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has moved on", self.0)
    }
}

impl std::error::Error for Moved {}

/// Does something with pinned files, again when one of them moved on meanwhile.
pub fn following<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match work() {
            Err(err) if err.is::<Moved>() => {}
            result => return result,
        }
    }
}

/// A pin and what stands for it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Digest of the pinned file.
    from: String,
    /// The file that is taken.
    deb: Deb,
}

/// As `pins.toml` in the cache has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(default)]
    moved: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    from: String,
    version: String,
    path: String,
    size: u64,
    sha256: String,
    tarball: Option<String>,
}

fn record_path(cache: &Path) -> PathBuf {
    cache.join("pins.toml")
}

/// Pins that were followed before, as far as the lock file still has those pins.
pub fn recorded(cache: &Path, lock: &Lock) -> Result<Vec<Followed>> {
    let path = record_path(cache);
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(Vec::new());
    };
    let record: Record =
        toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
    let followed = record.moved.into_iter().filter_map(|entry| {
        let pin = lock.deb(&entry.name).ok()?;
        (pin.sha256 == entry.from).then(|| Followed {
            from: entry.from,
            deb: Deb {
                version: entry.version,
                path: entry.path,
                size: entry.size,
                sha256: entry.sha256,
                tarball: entry.tarball,
                ..pin.clone()
            },
        })
    });
    Ok(followed.collect())
}

fn record_text(followed: &[Followed]) -> String {
    let mut text = "# Successors of pinned packages: see `lane pins`.\n".to_owned();
    for Followed { from, deb } in followed {
        text += &format!(
            "\n[[moved]]\nname = {:?}\nfrom = {from:?}\nversion = {:?}\npath = {:?}\nsize = {}\nsha256 = {:?}\n",
            deb.name, deb.version, deb.path, deb.size, deb.sha256
        );
        if let Some(tarball) = &deb.tarball {
            text += &format!("tarball = {tarball:?}\n");
        }
    }
    text
}

/// The replacement of a pin, if it has moved on.
pub fn find<'a>(followed: &'a [Followed], pin: &str) -> Option<&'a Deb> {
    let deb = |f: &'a Followed| &f.deb;
    followed.iter().map(deb).find(|d| d.name == pin)
}

/// Finds a successor of a file that could not be fetched, for the reason `why`. The error says what came of it: that the
/// pin moved on, or that it cannot be had.
pub fn follow(ctx: &Ctx, gone: &Deb, why: &Error) -> Error {
    match try_follow(ctx, gone, why) {
        Ok(()) => Moved(gone.name.clone()).into(),
        Err(err) => err,
    }
}

fn try_follow(ctx: &Ctx, gone: &Deb, why: &Error) -> Result<()> {
    let _guard = stamp::lock(&ctx.cache.join(".pins.lock"))?;
    if ctx.deb(&gone.name)?.sha256 != gone.sha256 {
        return Ok(());
    }
    let unavailable = |more: String| -> Error {
        Unavailable(format!(
            "{} {} cannot be had from this mirror ({more}): {why:#}",
            gone.name, gone.version
        ))
        .into()
    };
    ui::say(format!(
        "{} {} is not served; looking for its successor in {}",
        gone.name, gone.version, gone.suite
    ));
    let mut indices = Indices::default();
    if successor::listed(gone, indices.of(ctx, gone)?) {
        return Err(unavailable(format!("{} still lists it", gone.suite)));
    }
    let same_group = |d: &&Deb| d.name == gone.name || (d.group.is_some() && d.group == gone.group);
    let mut found = Vec::new();
    for pin in ctx.lock.debs.iter().filter(same_group) {
        let now = ctx.deb(&pin.name)?;
        let offers = indices.of(ctx, &now)?;
        match successor::successor(&now, offers) {
            Some((offer, kinship)) => found.push((pin, now, offer, kinship)),
            None if successor::listed(&now, offers) => {}
            None => {
                let more = format!("{} has no successor of {}", pin.suite, pin.name);
                return Err(unavailable(more));
            }
        }
    }
    for (pin, now, offer, kinship) in found {
        ui::say(format!(
            "{} {} has MOVED ON: taking {} {} instead, {} in the signed index of {}; `lane pins --update` pins it",
            pin.name,
            now.version,
            offer.package,
            offer.version,
            match kinship {
                Kinship::Series => "the newest of its series",
                Kinship::Next => "of the next series",
            },
            pin.suite
        ));
        ctx.record(Followed {
            from: pin.sha256.clone(),
            deb: successor::replaced(&now, &offer),
        })?;
    }
    Ok(())
}

/// Writes the record anew.
pub fn write(cache: &Path, followed: &[Followed]) -> Result<()> {
    let path = record_path(cache);
    let new = path.with_extension("new");
    fs::write(&new, record_text(followed))
        .with_context(|| format!("cannot write {}", new.display()))?;
    Ok(fs::rename(new, path)?)
}

/// Adds what stands for a pin, in the place of an earlier one.
pub fn add(followed: &mut Vec<Followed>, new: Followed) {
    followed.retain(|f| f.deb.name != new.deb.name);
    followed.push(new);
}

/// Index files by suite and architecture, each fetched once.
#[derive(Default)]
struct Indices(BTreeMap<(String, String), Vec<Offer>>);

impl Indices {
    fn of(&mut self, ctx: &Ctx, pin: &Deb) -> Result<&[Offer]> {
        let arch = match pin.path.rsplit('_').next().unwrap_or_default() {
            "all.deb" => "amd64",
            name if name.contains(".orig.tar.") => "source",
            name => name.trim_end_matches(".deb"),
        };
        let key = (pin.suite.clone(), arch.to_owned());
        if !self.0.contains_key(&key) {
            let offers = successor::offers(&apt::index(ctx, &pin.suite, arch)?);
            ensure!(!offers.is_empty(), "the index of {} is empty", pin.suite);
            self.0.insert(key.clone(), offers);
        }
        Ok(self.0.get(&key).map(Vec::as_slice).unwrap_or_default())
    }
}

/// One line for each pin that something else stands for.
pub fn notes(ctx: &Ctx) -> Vec<String> {
    let line = |pin: &Deb| {
        let now = ctx.deb(&pin.name).ok()?;
        (now.sha256 != pin.sha256).then(|| {
            format!(
                "note: {} is {}, because the pinned {} is no longer served (`lane pins --update`)",
                pin.name, now.version, pin.version
            )
        })
    };
    ctx.lock.debs.iter().filter_map(line).collect()
}

/// Prints each pin and the newest that its suite has; writes the lock file if asked to.
pub fn verb(ctx: &Ctx, update: bool) -> Result<()> {
    let mut indices = Indices::default();
    let lock_file = ctx.project.join("toolchains/sources.lock");
    let before = fs::read_to_string(&lock_file)?;
    let mut text = before.clone();
    let mut table = format!(
        "{:<22} {:<18} {:<24} {:<11} newest there\n",
        "pin", "suite", "version", ""
    );
    for pin in &ctx.lock.debs {
        let now = ctx.deb(&pin.name)?;
        let offers = indices.of(ctx, pin)?;
        let listed = successor::listed(pin, offers);
        let newer = successor::successor(pin, offers);
        let newest = match &newer {
            Some((offer, Kinship::Series)) => offer.version.clone(),
            Some((offer, Kinship::Next)) => format!("{} (next series)", offer.version),
            None if listed => "this".to_owned(),
            None => "none".to_owned(),
        };
        let state = if listed { "listed" } else { "not listed" };
        table += &format!(
            "{:<22} {:<18} {:<24} {state:<11} {newest}\n",
            pin.name, pin.suite, pin.version
        );
        if now.sha256 != pin.sha256 {
            table += &format!("{:<22} {:<18} {:<24} in use\n", "", "", now.version);
        }
        // A series that is still there is not left.
        let next = newer.filter(|(_, kinship)| *kinship == Kinship::Series || !listed);
        if let Some((offer, _)) = next.filter(|_| update) {
            text = rewritten(&text, &successor::replaced(pin, &offer))?;
        }
    }
    println!("{table}");
    if text != before {
        Lock::parse(&text)?;
        fs::write(&lock_file, text)?;
        println!("sources.lock is written: `git diff` shows it, `make test` tries it");
    }
    Ok(())
}

/// The lock file with other values in a package's entry; comments and order stay.
fn rewritten(text: &str, deb: &Deb) -> Result<String> {
    let mut in_entry = false;
    let mut seen = 0;
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            in_entry = false;
        }
        in_entry |= line == format!("name = {:?}", deb.name);
        let value = match line.split(" = ").next().filter(|_| in_entry) {
            Some("version") => Some(format!("{:?}", deb.version)),
            Some("path") => Some(format!("{:?}", deb.path)),
            Some("size") => Some(deb.size.to_string()),
            Some("sha256") => Some(format!("{:?}", deb.sha256)),
            Some("tarball") => deb.tarball.as_ref().map(|t| format!("{t:?}")),
            _ => None,
        };
        match (value, line.split_once(" = ")) {
            (Some(value), Some((key, _))) => {
                seen += 1;
                out += &format!("{key} = {value}\n");
            }
            _ => out += &format!("{line}\n"),
        }
    }
    ensure!(
        seen >= 4,
        "sources.lock: cannot find the entry of {}",
        deb.name
    );
    Ok(out)
}

/// A package that is small, of a suite with a small index.
const TRIED: &str = "openvpn-amd64";

/// Takes a pin away and sees it followed; and that an index without Debian's signature is not believed.
pub fn check(ctx: &Ctx) -> Result<Tally> {
    let dir = ctx.cache.join("pins-check");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut gone = ctx.lock.deb(TRIED)?.clone();
    gone.path = gone.path.replace(&gone.version, "2.0~gone-1");
    gone.version = "2.0~gone-1".to_owned();
    gone.sha256 = "0".repeat(64);
    let lock_file = ctx.project.join("toolchains/sources.lock");
    let text = rewritten(&fs::read_to_string(lock_file)?, &gone)?;
    let tried = |cache: &str, mirror: Option<String>| -> Result<Ctx> {
        let mirror = mirror.or_else(|| ctx.mirror.clone());
        Ctx::with(&ctx.project, &dir.join(cache), Lock::parse(&text)?, mirror)
    };

    let forged = forged_mirror(&dir.join("mirror"), &gone)?;
    let fooled = tried("forged", Some(forged.clone()))?;
    let Err(err) = apt::pinned(&fooled, TRIED) else {
        anyhow::bail!("an unsigned index was believed");
    };
    let unsigned = err.is::<Unavailable>() && err.to_string().contains("is not signed");
    ensure!(
        unsigned,
        "an unsigned index, refused for another reason: {err:#}"
    );
    ensure!(notes(&fooled).is_empty(), "an unsigned index was recorded");

    let live = tried("live", None)?;
    let file = apt::pinned(&live, TRIED)?;
    let now = live.deb(TRIED)?;
    ensure!(
        successor::compare(&now.version, &gone.version).is_gt(),
        "{} follows {}",
        now.version,
        gone.version
    );
    stamp::verify(&file, &now.sha256)?;
    // The record is enough for the next run, which asks no server.
    let again = tried("live", Some(forged))?;
    ensure!(
        apt::pinned(&again, TRIED)? == file,
        "the next run takes another file"
    );
    ensure!(notes(&again).len() == 1, "the next run says nothing");
    fs::remove_dir_all(&dir)?;
    Ok(Tally::passes(3))
}

/// A mirror that offers a successor, by an index which is not signed.
fn forged_mirror(dir: &Path, gone: &Deb) -> Result<String> {
    let suite = dir.join("dists").join(&gone.suite);
    let index = suite.join("main/binary-amd64/Packages");
    fs::create_dir_all(index.parent().context("an index has a directory")?)?;
    let stanza = format!(
        "Package: openvpn\nVersion: 9.9\nArchitecture: amd64\nFilename: pool/openvpn_9.9_amd64.deb\nSize: 1\nSHA256: {}\n",
        "1".repeat(64)
    );
    fs::write(&index, &stanza)?;
    let release = format!(
        "Origin: Debian\nDate: Thu, 26 Nov 2026 00:00:00 UTC\nSuite: {0}\nCodename: {0}\nArchitectures: amd64\nComponents: main\nSHA256:\n {1} {2} main/binary-amd64/Packages\n",
        gone.suite,
        stamp::sha256(&index)?,
        stanza.len()
    );
    fs::write(suite.join("Release"), release)?;
    Ok(format!("file://{}/", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = include_str!("../sources.lock");

    fn moved(lock: &Lock) -> Followed {
        let pin = lock.deb("linux-source-7.2").unwrap();
        let offer = Offer {
            package: "linux-source-7.3".to_owned(),
            version: "7.3.4-1".to_owned(),
            path: "pool/linux-source-7.3_7.3.4-1_all.deb".to_owned(),
            size: 5,
            sha256: "e".repeat(64),
        };
        Followed {
            from: pin.sha256.clone(),
            deb: successor::replaced(pin, &offer),
        }
    }

    #[test]
    fn a_record_lasts_as_long_as_its_pin() {
        let lock = Lock::parse(REAL).unwrap();
        let cache = std::env::temp_dir().join(format!("lane-pins-{}", std::process::id()));
        fs::create_dir_all(&cache).unwrap();
        let ctx = Ctx::with(Path::new("/"), &cache, lock, None).unwrap();
        ctx.record(moved(&ctx.lock)).unwrap();
        let now = ctx.deb("linux-source-7.2").unwrap();
        let again = Ctx::with(Path::new("/"), &cache, Lock::parse(REAL).unwrap(), None).unwrap();
        let read = again.deb("linux-source-7.2").unwrap();
        assert_eq!(format!("{read:?}"), format!("{now:?}"));
        assert_eq!(
            read.tarball.as_deref(),
            Some("usr/src/linux-source-7.3.tar.xz")
        );
        assert_eq!(notes(&again).len(), 1);
        // Somebody pins another version: the record is about one that is no more.
        let pinned = Lock::parse(&rewritten(REAL, &now).unwrap()).unwrap();
        assert!(recorded(&cache, &pinned).unwrap().is_empty());
        fs::remove_dir_all(cache).unwrap();
    }

    #[test]
    fn one_entry_is_rewritten() {
        let lock = Lock::parse(REAL).unwrap();
        let deb = moved(&lock).deb;
        let text = rewritten(REAL, &deb).unwrap();
        let got = Lock::parse(&text).unwrap();
        assert_eq!(
            format!("{:?}", got.deb(&deb.name).unwrap()),
            format!("{deb:?}")
        );
        let changed = REAL.lines().zip(text.lines()).filter(|(a, b)| a != b);
        assert_eq!(changed.count(), 5);
        assert_eq!(REAL.lines().count(), text.lines().count());
        let unknown = Deb {
            name: "nothing".to_owned(),
            ..deb
        };
        assert!(rewritten(REAL, &unknown).is_err());
    }

    #[test]
    fn work_starts_again_when_a_pin_moves() {
        let mut rounds = 0;
        let result = following(|| {
            rounds += 1;
            match rounds {
                1 => Err(Error::from(Moved("x".to_owned())).context("fetching")),
                2 => Ok("done"),
                _ => anyhow::bail!("too often"),
            }
        });
        assert_eq!(result.unwrap(), "done");
        assert!(following(|| -> Result<()> { anyhow::bail!("other") }).is_err());
    }
}
