// SPDX-License-Identifier: GPL-2.0-only
//! Installs packages of a feed into a router's root file system, as apk does it: the index by its signature, each package
//! by its digest in the index, dependencies and conflicts first, a changed configuration file kept, scripts as OpenWrt's
//! image builder runs them (on the build machine, told of the root by `IPKG_INSTROOT`).

use super::apk::{self, LISTS};
use adb::container::{Container, Schema};
use adb::depend::Dependency;
use adb::index::Index;
use adb::info::Info;
use adb::package::{self, Kind, Package, Script};
use adb::sign::Public;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The index of a feed.
pub const INDEX: &str = "packages.adb";
/// Where apk keeps what is installed.
const DATABASE: &str = "lib/apk/db/installed";
/// Name of the new file beside a changed configuration file.
const NEW: &str = ".apk-new";
/// Below this apk keeps files that were changed.
const PROTECTED: &str = "etc/";
/// Programs and functions of OpenWrt that scripts call.
const FUNCTIONS: &str = "lib/functions.sh";
/// Their stand-ins while packages are installed into a root without OpenWrt.
const STANDINS: &str =
    "add_group_and_user() { :; }\ndefault_postinst() { :; }\ndefault_prerm() { :; }\n";

/// A name that is there: by which package, and in which version, if not virtually.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    package: String,
    version: Option<String>,
}

impl Named {
    /// A package under its own name.
    pub fn package(name: &str, version: &str) -> Self {
        Self {
            package: name.to_owned(),
            version: Some(version.to_owned()),
        }
    }
}

/// Files of a router before anything is installed.
pub struct Router {
    /// Its root.
    pub root: PathBuf,
    /// OpenWrt's name of its processor.
    pub arch: String,
    /// Packages and the names that they provide.
    pub names: BTreeMap<String, Named>,
}

/// A feed that was checked.
pub struct Feed {
    dir: PathBuf,
    index: Index,
}

impl Feed {
    /// Opens a feed whose index was signed by `public`.
    pub fn open(dir: &Path, public: &Public) -> Result<Self> {
        let path = dir.join(INDEX);
        let place = || path.display().to_string();
        let container = Container::read(&fs::read(&path).with_context(place)?, Schema::Index);
        let container = container.with_context(place)?;
        public.verify(&container).with_context(place)?;
        Ok(Self {
            dir: dir.to_owned(),
            index: Index::read(&container).with_context(place)?,
        })
    }

    /// The package of a name, else the one that provides it, and of several the one with the highest priority.
    fn get(&self, name: &str) -> Option<&Info> {
        let packages = &self.index.packages;
        packages.iter().find(|p| p.name == name).or_else(|| {
            let provides = |p: &&Info| p.provides.iter().any(|d| d.name == name);
            packages.iter().filter(provides).max_by_key(|p| p.priority)
        })
    }

    /// The package itself, if it is the one the index describes.
    fn load(&self, info: &Info) -> Result<Package> {
        let path = self.dir.join(info.file_name());
        let container = apk::open(&path)?;
        ensure!(
            package::identity(&container)[..] == info.hashes[..],
            "{} is not the package that the index describes",
            path.display()
        );
        Package::read(&container).with_context(|| path.display().to_string())
    }
}

/// The names a package goes by.
fn names(info: &Info) -> impl Iterator<Item = (&str, Named)> {
    let named = |version: Option<&str>| Named {
        package: info.name.clone(),
        version: version.map(str::to_owned),
    };
    let provided = info.provides.iter();
    provided
        .map(move |d| (d.name.as_str(), named(d.version.as_deref())))
        .chain([(
            info.name.as_str(),
            Named::package(&info.name, &info.version),
        )])
}

impl Router {
    /// Installs `wanted` and what they need; gives the packages installed, in order. Nothing is put unless all of them are
    /// there, whole, for this processor and at peace with each other.
    pub fn install(&mut self, feed: &Feed, wanted: &[&str]) -> Result<Vec<String>> {
        let mut chosen = Vec::new();
        for name in wanted {
            self.choose(feed, &name.parse()?, name, &mut chosen)?;
        }
        for info in &chosen {
            self.no_conflict(info, &chosen)?;
        }
        let packages: Vec<_> = chosen.iter().map(|p| feed.load(p)).collect::<Result<_>>()?;
        for (info, package) in chosen.iter().zip(&packages) {
            self.displace(info)?;
            self.unpack(package)
                .with_context(|| format!("installing {}", info.name))?;
            for (name, named) in names(info) {
                self.names.insert(name.to_owned(), named);
            }
        }
        Ok(chosen.iter().map(|info| info.name.clone()).collect())
    }

    /// Adds the package that satisfies a dependency, after those it depends on itself.
    fn choose<'f>(
        &self,
        feed: &'f Feed,
        dependency: &Dependency,
        wanted_by: &str,
        chosen: &mut Vec<&'f Info>,
    ) -> Result<()> {
        let name = dependency.name.as_str();
        let is_it = |info: &&Info| names(info).any(|(other, _)| other == name);
        if chosen.iter().any(is_it) {
            return Ok(());
        }
        let info = feed.get(name).with_context(|| {
            format!("{wanted_by} needs {dependency}, which neither router nor feed has")
        })?;
        let (arch, ours) = (info.arch.as_str(), self.arch.as_str());
        ensure!(
            arch == "noarch" || arch == ours,
            "{} is for {arch}, this is {ours}",
            info.name
        );
        for needed in info.depends.iter().filter(|d| !d.is_conflict()) {
            match self.names.get(&needed.name) {
                Some(there) => {
                    let version = there.version.as_deref();
                    ensure!(
                        needed.is_met(version)?,
                        "{} needs {needed}, this is {}",
                        info.name,
                        version.unwrap_or("none of a version")
                    );
                }
                None => self.choose(feed, needed, &info.name, chosen)?,
            }
        }
        chosen.push(info);
        Ok(())
    }

    fn no_conflict(&self, info: &Info, chosen: &[&Info]) -> Result<()> {
        for enemy in info.depends.iter().filter(|d| d.is_conflict()) {
            let mut there: Vec<_> = self.names.get_key_value(&enemy.name).into_iter().collect();
            let others: Vec<_> = chosen.iter().flat_map(|other| names(other)).collect();
            let named: Vec<_> = others.iter().map(|(n, v)| ((*n).to_owned(), v)).collect();
            there.extend(named.iter().map(|(n, v)| (n, *v)));
            for (name, named) in there {
                let is_enemy = *name == enemy.name && named.package != info.name;
                ensure!(
                    !is_enemy || !enemy.is_met(named.version.as_deref())?,
                    "{} is in conflict with {}",
                    info.name,
                    named.package
                );
            }
        }
        Ok(())
    }

    /// Takes away the packages whose own names this one provides: it is in their place from now on.
    fn displace(&mut self, info: &Info) -> Result<()> {
        for provided in &info.provides {
            let there = self.names.get(&provided.name);
            let real = there.is_some_and(|n| n.package == provided.name && n.package != info.name);
            if !real {
                continue;
            }
            let list = self
                .root
                .join(LISTS)
                .join(format!("{}.list", provided.name));
            for file in fs::read_to_string(&list).unwrap_or_default().lines() {
                let file = self.root.join(file.trim_start_matches('/'));
                fs::remove_file(&file).with_context(|| file.display().to_string())?;
            }
            self.names.retain(|_, named| named.package != provided.name);
        }
        Ok(())
    }

    fn unpack(&self, package: &Package) -> Result<()> {
        let name = &package.info.name;
        let list = self.root.join(LISTS).join(format!("{name}.list"));
        let (before, after) = match list.exists() {
            true => (Script::PreUpgrade, Script::PostUpgrade),
            false => (Script::PreInstall, Script::PostInstall),
        };
        // Each configuration file as it was delivered last, by its digest.
        let known = list.with_extension("conffiles_static");
        let delivered = fs::read_to_string(known).unwrap_or_default();
        let delivered: BTreeMap<_, _> = delivered
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        self.run(package, before)?;
        for (path, kind) in package.files.iter().filter(|(path, _)| !path.is_empty()) {
            let mut place = self.root.join(path);
            let changed = path.starts_with(PROTECTED) && place.is_file() && {
                let now = crate::stamp::sha256(&place)?;
                delivered.get(format!("/{path}").as_str()) != Some(&now.as_str())
            };
            if changed {
                place.as_mut_os_string().push(NEW);
            }
            put(kind, &place).with_context(|| place.display().to_string())?;
        }
        self.record(package)?;
        self.run(package, after)
    }

    /// Adds a package to apk's database: name, version, processor, directories and files (apk-tools, database.c).
    fn record(&self, package: &Package) -> Result<()> {
        let path = self.root.join(DATABASE);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        let name = format!("P:{}\n", package.info.name);
        let before = fs::read_to_string(&path).unwrap_or_default();
        let others = before
            .split_inclusive("\n\n")
            .filter(|p| !p.starts_with(&name));
        let mut text: String = others.collect();
        text += &format!(
            "{name}V:{}\nA:{}\n",
            package.info.version, package.info.arch
        );
        for (path, kind) in &package.files {
            match kind {
                Kind::Directory(_) => text += &format!("F:{path}\n"),
                _ => text += &format!("R:{}\n", path.rsplit('/').next().unwrap_or(path)),
            }
        }
        fs::write(path, text + "\n")?;
        Ok(())
    }

    fn run(&self, package: &Package, script: Script) -> Result<()> {
        let Some(text) = package.scripts.get(&script) else {
            return Ok(());
        };
        let functions = self.root.join(FUNCTIONS);
        let bare = !functions.exists();
        if bare {
            fs::create_dir_all(functions.parent().context("no directory")?)?;
            fs::write(&functions, STANDINS)?;
        }
        let done = Command::new("sh")
            .args(["-c", text, package.info.name.as_str()])
            .env("IPKG_INSTROOT", &self.root)
            .env_remove("IPKG_NO_SCRIPT")
            .output();
        if bare {
            fs::remove_file(functions)?;
        }
        let done = done.context("cannot run sh")?;
        ensure!(
            done.status.success(),
            "{script:?} of {}: {}",
            package.info.name,
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }
}

fn put(kind: &Kind, place: &Path) -> Result<()> {
    match kind {
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
    use super::*;
    use crate::packages::tree;
    use adb::depend;
    use adb::sign::Private;

    struct Bed {
        dir: PathBuf,
        key: Private,
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
            let key = Private::random();
            Self { dir, key }
        }

        /// A package with the files /etc/NAME.conf and /lib/NAME.
        fn package(&self, name: &str, conf: &str, change: impl FnOnce(&mut Info)) {
            let mut package = Package {
                info: Info {
                    name: name.to_owned(),
                    version: "1".to_owned(),
                    arch: "mips_24kc".to_owned(),
                    ..Info::default()
                },
                ..Package::default()
            };
            change(&mut package.info);
            let files = &mut package.files;
            files.insert(String::new(), Kind::Directory(0o755));
            tree::add(files, &format!("etc/{name}.conf"), conf);
            tree::add(files, &format!("lib/{name}"), name);
            let list = format!("/etc/{name}.conf\n/lib/{name}\n");
            tree::add(files, &format!("{LISTS}/{name}.list"), list);
            let path = self.dir.join("conf");
            fs::write(&path, conf).unwrap();
            let delivered = format!(
                "/etc/{name}.conf {}\n",
                crate::stamp::sha256(&path).unwrap()
            );
            tree::add(
                files,
                &format!("{LISTS}/{name}.conffiles_static"),
                delivered,
            );
            let script =
                "echo \"$0 in $(cd \"$IPKG_INSTROOT\" && ls etc)\" >>\"$IPKG_INSTROOT/etc/log\"";
            package.scripts.insert(
                Script::PostInstall,
                format!(". \"$IPKG_INSTROOT/lib/functions.sh\"\ndefault_postinst\n{script}\n"),
            );
            let feed = self.dir.join("feed");
            let container = package.write().unwrap();
            let file = feed.join(package.info.file_name());
            fs::write(file, container.deflated().unwrap()).unwrap();
            self.index();
        }

        fn index(&self) {
            let feed = self.dir.join("feed");
            let mut index = Index::default();
            for path in apk::files_of(&feed).unwrap() {
                index.add(&apk::open(&path).unwrap(), 1).unwrap();
            }
            let mut container = index.write().unwrap();
            self.key.sign(&mut container).unwrap();
            fs::write(feed.join(INDEX), container.deflated().unwrap()).unwrap();
        }

        fn router(&self) -> Router {
            Router {
                root: self.dir.join("root"),
                arch: "mips_24kc".to_owned(),
                names: [("kernel", "6.12~abc-r1"), ("c", "3")]
                    .map(|(n, v)| (n.to_owned(), Named::package(n, v)))
                    .into(),
            }
        }

        fn install(&self, name: &str) -> Result<String> {
            let feed = Feed::open(&self.dir.join("feed"), &self.key.public())?;
            let done = self.router().install(&feed, &[name]);
            done.map(|done| done.join(" "))
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

    fn depends(on: &'static str) -> impl FnOnce(&mut Info) {
        move |info| info.depends = depend::list(on).unwrap()
    }

    #[test]
    fn dependencies_come_first() {
        let bed = Bed::new("order");
        bed.package("a", "x", depends("b c kernel=6.12~abc-r1"));
        bed.package("b", "x", |_| {});
        assert_eq!(bed.install("a").unwrap(), "b a");
        assert_eq!(bed.read("usr/lib/a"), "a", "through the link /lib");
        assert_eq!(
            bed.read("etc/log"),
            "b in b.conf\na in a.conf\nb.conf\nlog\n"
        );
        assert!(
            bed.read("lib/apk/db/installed")
                .starts_with("P:b\nV:1\nA:mips_24kc\nF:\nF:etc\nR:b.conf\n")
        );
        assert!(!bed.dir.join("root/lib/functions.sh").exists());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bed = Bed::new("refused");
        for (on, why) in [
            ("d", "a needs d, which neither router nor feed has"),
            (
                "kernel=6.12~abd-r1",
                "a needs kernel=6.12~abd-r1, this is 6.12~abc-r1",
            ),
            ("c>3", "a needs c>3, this is 3"),
            ("!c", "a is in conflict with c"),
        ] {
            bed.package("a", "x", depends(on));
            assert_eq!(bed.install("a").unwrap_err().to_string(), why);
        }
        bed.package("a", "x", |info| info.arch = "arm".to_owned());
        let err = bed.install("a").unwrap_err().to_string();
        assert_eq!(err, "a is for arm, this is mips_24kc");
        assert!(!bed.dir.join("root/etc").exists(), "and nothing was put");
    }

    #[test]
    fn a_changed_package_or_index_is_refused() {
        let bed = Bed::new("changed");
        bed.package("a", "x", |_| {});
        let index = fs::read(bed.dir.join("feed/packages.adb")).unwrap();
        bed.package("a", "y", |_| {});
        fs::write(bed.dir.join("feed/packages.adb"), index).unwrap();
        let err = bed.install("a").unwrap_err().to_string();
        assert!(
            err.ends_with("is not the package that the index describes"),
            "{err}"
        );
        let other = Private::random().public();
        let err = Feed::open(&bed.dir.join("feed"), &other).err().unwrap();
        assert!(
            format!("{err:#}").contains("not signed by this key"),
            "{err:#}"
        );
    }

    #[test]
    fn changed_configuration_is_kept() {
        let bed = Bed::new("kept");
        bed.package("a", "first", |_| {});
        bed.install("a").unwrap();
        bed.package("a", "second", |_| {});
        bed.install("a").unwrap();
        assert_eq!(bed.read("etc/a.conf"), "second", "nobody had changed it");
        fs::write(bed.dir.join("root/etc/a.conf"), "mine").unwrap();
        bed.package("a", "third", |_| {});
        bed.install("a").unwrap();
        assert_eq!(
            (bed.read("etc/a.conf"), bed.read("etc/a.conf.apk-new")),
            ("mine".into(), "third".into())
        );
    }

    /// The way of kmod-ovpn with kmod-ovpn-backports.
    #[test]
    fn a_virtual_name_takes_the_place_of_a_package() {
        for theirs_first in [true, false] {
            let bed = Bed::new(&format!("virtual-{theirs_first}"));
            bed.package("ours", "x", |info| {
                info.provides = depend::list("theirs").unwrap();
            });
            bed.package("theirs", "x", |info| info.version = "9".to_owned());
            bed.package("user", "x", depends("theirs"));
            let feed = Feed::open(&bed.dir.join("feed"), &bed.key.public()).unwrap();
            let mut router = bed.router();
            if theirs_first {
                assert_eq!(
                    router.install(&feed, &["user"]).unwrap(),
                    ["theirs", "user"]
                );
                assert_eq!(bed.read("lib/theirs"), "theirs");
            }
            router.install(&feed, &["ours"]).unwrap();
            assert_eq!(bed.read("lib/theirs"), "");
            if !theirs_first {
                assert_eq!(
                    router.install(&feed, &["user"]).unwrap(),
                    ["user"],
                    "ours does"
                );
            }
            assert_eq!(router.names["theirs"].package, "ours");
            // A package that needs a version of theirs is not satisfied.
            bed.package("picky", "x", depends("theirs>1"));
            let feed = Feed::open(&bed.dir.join("feed"), &bed.key.public()).unwrap();
            let err = router.install(&feed, &["picky"]).unwrap_err().to_string();
            assert_eq!(err, "picky needs theirs>1, this is none of a version");
        }
    }
}
