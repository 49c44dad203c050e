// SPDX-License-Identifier: GPL-2.0-only
//! Installs packages of a feed into a router's root file system, as opkg does it: the index by its signature, each
//! package by its sha256, dependencies and conflicts first, a changed configuration file kept. Scripts do not run.

use super::archive::{Entry, Kind};
use super::ipk::{self, Parts};
use super::usign;
use crate::stamp;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where opkg keeps what it knows of installed packages.
const INFO: &str = "usr/lib/opkg/info";
/// Name of the new file beside a changed configuration file.
const NEW: &str = "-opkg";

/// A package of the index: its fields.
type Fields = BTreeMap<String, String>;

/// What a router has before anything is installed.
pub struct Router {
    /// Its root.
    pub root: PathBuf,
    /// OpenWrt's name of its processor.
    pub arch: String,
    /// Packages and their versions.
    pub packages: BTreeMap<String, String>,
}

/// A feed that was checked.
pub struct Feed {
    dir: PathBuf,
    index: Vec<Fields>,
}

impl Feed {
    /// Opens a feed whose index was signed by `public`.
    pub fn open(dir: &Path, public: &str) -> Result<Self> {
        let text = fs::read_to_string(dir.join("Packages"))?;
        let signature = fs::read_to_string(dir.join("Packages.sig"))?;
        usign::verify(public, &signature, text.as_bytes())
            .with_context(|| format!("the index {}", dir.display()))?;
        let paragraphs = text.split("\n\n").filter(|p| !p.trim().is_empty());
        Ok(Self {
            dir: dir.to_owned(),
            index: paragraphs.map(ipk::fields).collect(),
        })
    }

    fn get(&self, name: &str) -> Option<&Fields> {
        self.index.iter().find(|p| field(p, "Package") == name)
    }

    /// The package itself, if it is the one the index describes.
    fn load(&self, package: &Fields) -> Result<Parts> {
        let path = self.dir.join(field(package, "Filename"));
        let data = fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(
            data.len().to_string() == field(package, "Size"),
            "{} is of another size than its index says",
            path.display()
        );
        stamp::verify(&path, field(package, "SHA256sum"))?;
        Parts::read(&data).with_context(|| path.display().to_string())
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map_or("", String::as_str)
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty())
}

impl Router {
    /// Installs `names` and what they need; gives the packages installed, in order. Either all of them are or the root
    /// is as it was.
    pub fn install(&mut self, feed: &Feed, names: &[&str]) -> Result<Vec<String>> {
        let mut chosen = Vec::new();
        for name in names {
            self.choose(feed, name, name, &mut chosen)?;
        }
        for package in &chosen {
            self.no_conflict(package, &chosen)?;
        }
        let parts: Vec<_> = chosen.iter().map(|p| feed.load(p)).collect::<Result<_>>()?;
        for parts in &parts {
            self.unpack(parts)?;
        }
        let mut done = Vec::new();
        for package in chosen {
            let name = field(package, "Package");
            let version = field(package, "Version");
            for provided in list(field(package, "Provides")).chain([name]) {
                self.packages
                    .insert(provided.to_owned(), version.to_owned());
            }
            done.push(name.to_owned());
        }
        Ok(done)
    }

    /// Adds the package `name`, after those it depends on.
    fn choose<'f>(
        &self,
        feed: &'f Feed,
        name: &str,
        wanted_by: &str,
        chosen: &mut Vec<&'f Fields>,
    ) -> Result<()> {
        if chosen.iter().any(|p| is(p, name)) {
            return Ok(());
        }
        let package = feed.get(name).with_context(|| {
            format!("{wanted_by} needs {name}, which neither router nor feed has")
        })?;
        let arch = field(package, "Architecture");
        ensure!(
            arch == "all" || arch == self.arch,
            "{name} is for {arch}, this is {}",
            self.arch
        );
        for dependency in list(field(package, "Depends")) {
            let (needed, version) = match dependency.split_once(" (=") {
                Some((needed, version)) => (needed, version.strip_suffix(')')),
                None => (dependency, None),
            };
            match (self.packages.get(needed), version) {
                (Some(got), Some(want)) => {
                    let want = want.trim();
                    ensure!(got == want, "{name} needs {needed} {want}, this is {got}");
                }
                (Some(_), None) => {}
                (None, _) => self.choose(feed, needed, name, chosen)?,
            }
        }
        chosen.push(package);
        Ok(())
    }

    fn no_conflict(&self, package: &Fields, chosen: &[&Fields]) -> Result<()> {
        let name = field(package, "Package");
        for enemy in list(field(package, "Conflicts")) {
            // What provides a name may refuse all others that do.
            let other = chosen
                .iter()
                .any(|p| field(p, "Package") != name && is(p, enemy));
            let there = self.packages.contains_key(enemy) && !self.packages.contains_key(name);
            ensure!(!other && !there, "{name} is in conflict with {enemy}");
        }
        Ok(())
    }

    fn unpack(&self, parts: &Parts) -> Result<()> {
        let control = parts.text("control")?;
        let fields = ipk::fields(control);
        let name = field(&fields, "Package");
        let info = self.root.join(INFO);
        fs::create_dir_all(&info)?;
        let known = info.join(format!("{name}.conffiles"));
        // Each configuration file as it was delivered last, by its digest.
        let delivered: BTreeMap<String, String> = fs::read_to_string(&known)
            .unwrap_or_default()
            .lines()
            .filter_map(|l| l.split_once(' '))
            .map(|(file, digest)| (file.to_owned(), digest.to_owned()))
            .collect();
        let conffiles = parts.text("conffiles").unwrap_or_default();
        let (mut files, mut digests) = (String::new(), String::new());
        for entry in &parts.data {
            let inside = format!("/{}", entry.path.display());
            let mut place = self.root.join(&entry.path);
            if conffiles.lines().any(|c| c == inside) {
                let kept = place.exists() && {
                    let now = stamp::sha256(&place)?;
                    delivered.get(&inside) != Some(&now)
                };
                if kept {
                    place.as_mut_os_string().push(NEW);
                }
            }
            put(entry, &place).with_context(|| place.display().to_string())?;
            if !matches!(entry.kind, Kind::Directory(_)) {
                files += &format!("{inside}\n");
            }
            if conffiles.lines().any(|c| c == inside) {
                digests += &format!("{inside} {}\n", stamp::sha256(&place)?);
            }
        }
        fs::write(info.join(format!("{name}.list")), files)?;
        fs::write(info.join(format!("{name}.control")), control)?;
        fs::write(known, digests)?;
        Ok(())
    }
}

/// Whether a package goes by `name`.
fn is(package: &Fields, name: &str) -> bool {
    field(package, "Package") == name || list(field(package, "Provides")).any(|p| p == name)
}

fn put(entry: &Entry, place: &Path) -> Result<()> {
    match &entry.kind {
        // One that is there, or a link to one, keeps its permissions.
        Kind::Directory(_) if place.is_dir() => {}
        Kind::Directory(mode) => {
            fs::create_dir(place)?;
            fs::set_permissions(place, fs::Permissions::from_mode(*mode))?;
        }
        Kind::File(mode, content) => {
            if place.is_dir() {
                bail!("there is a directory");
            }
            // Not through a link, nor into a file that has another name too.
            let _ = fs::remove_file(place);
            fs::write(place, content)?;
            fs::set_permissions(place, fs::Permissions::from_mode(*mode))?;
        }
        Kind::Link(target) => {
            let _ = fs::remove_file(place);
            symlink(target, place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ipk::Maker;
    use super::super::recipe::Package;
    use super::super::usign::Key;
    use super::*;

    struct Bed {
        dir: PathBuf,
        key: Key,
    }

    impl Bed {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("lane-install-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            for sub in ["feed", "root/usr/lib"] {
                fs::create_dir_all(dir.join(sub)).unwrap();
            }
            symlink("usr/lib", dir.join("root/lib")).unwrap();
            let key = Key::load_or_make(&dir.join("secret")).unwrap();
            Self { dir, key }
        }

        /// A package with the file /etc/NAME.conf and whatever fields.
        fn package(&self, name: &str, conf: &str, fields: &[(&str, &str)]) {
            let files = self.dir.join("files");
            let _ = fs::remove_dir_all(&files);
            fs::create_dir_all(files.join("etc")).unwrap();
            fs::create_dir_all(files.join("lib")).unwrap();
            fs::write(files.join("etc").join(format!("{name}.conf")), conf).unwrap();
            fs::write(files.join("lib").join(name), name).unwrap();
            let mut package = Package {
                name: name.to_owned(),
                ..Package::default()
            };
            package
                .texts
                .insert("conffiles".to_owned(), format!("/etc/{name}.conf\n"));
            for (field, value) in [("Version", "1")].iter().chain(fields) {
                package
                    .fields
                    .insert((*field).to_owned(), (*value).to_owned());
            }
            let maker = Maker {
                arch: "mips_24kc",
                enabled: &[],
                time: 0,
            };
            maker
                .write(&package, &files, &self.dir.join("feed"))
                .unwrap();
            let index = ipk::index(&self.dir.join("feed")).unwrap();
            fs::write(
                self.dir.join("feed/Packages.sig"),
                self.key.sign(index.as_bytes()),
            )
            .unwrap();
            fs::write(self.dir.join("feed/Packages"), index).unwrap();
        }

        fn install(&self, name: &str) -> Result<String> {
            let feed = Feed::open(&self.dir.join("feed"), &self.key.public())?;
            let mut router = Router {
                root: self.dir.join("root"),
                arch: "mips_24kc".to_owned(),
                packages: [("kernel", "6.12~abc-r1"), ("c", "3")]
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .into(),
            };
            router.install(&feed, &[name]).map(|done| done.join(" "))
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.dir.join("root").join(path)).unwrap_or_default()
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn dependencies_come_first() {
        let bed = Bed::new("order");
        bed.package(
            "a",
            "x",
            &[
                ("Depends", "+b +c"),
                ("Extra-Depends", "kernel (=6.12~abc-r1)"),
            ],
        );
        bed.package("b", "x", &[]);
        assert_eq!(bed.install("a").unwrap(), "b a");
        assert_eq!(bed.read("usr/lib/a"), "a", "through the link /lib");
        assert_eq!(
            bed.read("usr/lib/opkg/info/a.list"),
            "/etc/a.conf\n/lib/a\n"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bed = Bed::new("refused");
        for (fields, why) in [
            (
                vec![("Depends", "+d")],
                "a needs d, which neither router nor feed has",
            ),
            (
                vec![("Extra-Depends", "kernel (=6.12~abd-r1)")],
                "a needs kernel 6.12~abd-r1, this is 6.12~abc-r1",
            ),
            (
                vec![("Architecture", "arm")],
                "a is for arm, this is mips_24kc",
            ),
            (
                vec![("Conflicts", "c"), ("Provides", "c")],
                "a is in conflict with c",
            ),
        ] {
            let feed = bed.dir.join("feed");
            fs::remove_dir_all(&feed).unwrap();
            fs::create_dir(feed).unwrap();
            bed.package("a", "x", &fields);
            assert_eq!(bed.install("a").unwrap_err().to_string(), why);
        }
        assert!(!bed.dir.join("root/etc").exists(), "and nothing was put");
    }

    #[test]
    fn a_changed_package_or_index_is_refused() {
        let bed = Bed::new("changed");
        bed.package("a", "x", &[]);
        let ipk = bed.dir.join("feed/a_1_mips_24kc.ipk");
        let mut data = fs::read(&ipk).unwrap();
        *data.last_mut().unwrap() ^= 1;
        fs::write(&ipk, data).unwrap();
        assert!(bed.install("a").unwrap_err().to_string().contains("sha256"));
        let index = bed.dir.join("feed/Packages");
        let text = fs::read_to_string(&index).unwrap();
        fs::write(&index, text.replace("Version: 1", "Version: 2")).unwrap();
        let err = bed.install("a").unwrap_err();
        assert!(
            format!("{err:#}").contains("the signature does not fit"),
            "{err:#}"
        );
    }

    #[test]
    fn changed_configuration_is_kept() {
        let bed = Bed::new("kept");
        bed.package("a", "first", &[]);
        bed.install("a").unwrap();
        bed.package("a", "second", &[]);
        bed.install("a").unwrap();
        assert_eq!(bed.read("etc/a.conf"), "second", "nobody had changed it");
        fs::write(bed.dir.join("root/etc/a.conf"), "mine").unwrap();
        bed.package("a", "third", &[]);
        bed.install("a").unwrap();
        assert_eq!(
            (bed.read("etc/a.conf"), bed.read("etc/a.conf-opkg")),
            ("mine".into(), "third".into())
        );
    }
}
