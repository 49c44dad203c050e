// SPDX-License-Identifier: GPL-2.0-only
//! Packages as OpenWrt's package-pack.mk has apk make them: lists of files and configuration files among the files, scripts
//! with OpenWrt's own ones around them.

use super::recipe;
use super::tree::{self, Tree};
use adb::container::Container;
use adb::depend::{self, Dependency};
use adb::info::Info;
use adb::package::{Kind, Package, Script};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Where OpenWrt's scripts look for what is in a package.
pub const LISTS: &str = "lib/apk/packages";
/// Files that are kept over an upgrade of the system and belong to no package, a list for each package.
const KEPT: &str = "lib/upgrade/keep.d";

/// How packages of a feed are made.
pub struct Maker<'a> {
    /// OpenWrt's name of the processor.
    pub arch: &'a str,
    /// Options of OpenWrt's configuration that dependencies may name.
    pub enabled: &'a [&'a str],
}

impl Maker<'_> {
    /// Writes a package, whose files are below `files`, into `feed`, and gives the package's path.
    pub fn write(
        &self,
        package: &recipe::Package,
        origin: &str,
        files: &Path,
        feed: &Path,
    ) -> Result<PathBuf> {
        let (package, container) = self.make(package, origin, tree::read(files)?)?;
        let path = feed.join(package.info.file_name());
        fs::write(&path, container.deflated()?)?;
        Ok(path)
    }

    fn make(
        &self,
        package: &recipe::Package,
        origin: &str,
        mut files: Tree,
    ) -> Result<(Package, Container)> {
        add_lists(package, &mut files);
        let whole = Package {
            info: self.info(package, origin)?,
            files,
            scripts: scripts(package).collect(),
        };
        let container = whole.write()?;
        Ok((whole, container))
    }

    fn info(&self, package: &recipe::Package, origin: &str) -> Result<Info> {
        let field = |name: &str| package.field(name).to_owned();
        let version = package.field("Version");
        let mut depends = Vec::new();
        for word in package.depends(self.enabled)? {
            depends.push(dependency(&word)?);
        }
        let description = package.text("description").split_whitespace();
        Ok(Info {
            name: package.name.clone(),
            version: version.to_owned(),
            description: description.collect::<Vec<_>>().join(" "),
            arch: match package.field("Architecture") {
                "" => self.arch.to_owned(),
                "all" => "noarch".to_owned(),
                arch => arch.to_owned(),
            },
            license: field("License"),
            origin: origin.to_owned(),
            maintainer: field("Maintainer"),
            url: field("Url"),
            depends,
            provides: provides(&package.name, version, package.field("Provides"))?,
            tags: vec![format!("openwrt:section={}", package.field("Section"))],
            ..Info::default()
        })
    }
}

/// A dependency of a recipe: a name, or `name (=version)`.
fn dependency(word: &str) -> Result<Dependency> {
    let word: String = word
        .chars()
        .filter(|c| !matches!(c, ' ' | '(' | ')'))
        .collect();
    Ok(word.parse()?)
}

/// PROVIDES: a name has the package's version, unless `@` in front makes it a virtual one.
fn provides(package: &str, version: &str, names: &str) -> Result<Vec<Dependency>> {
    let names = names.split_whitespace().filter(|name| *name != package);
    let words: Vec<_> = names
        .map(|name| match name.strip_prefix('@') {
            Some(name) => name.to_owned(),
            None => format!("{name}={version}"),
        })
        .collect();
    Ok(depend::list(&words.join(" "))?)
}

/// Adds the lists of its files, of its configuration files, of these as delivered, and of what else is kept over an upgrade
/// of the system.
fn add_lists(package: &recipe::Package, files: &mut Tree) {
    let conffiles: Vec<_> = package.text("conffiles").split_whitespace().collect();
    let content = |files: &Tree, path: &str| match files.get(path.trim_start_matches('/')) {
        Some(Kind::File(_, content)) => Some(content.clone()),
        _ => None,
    };
    let kept = lines(conffiles.iter().filter(|c| content(files, c).is_none()));
    if !kept.is_empty() {
        tree::add(files, &format!("{KEPT}/{}", package.name), kept);
    }
    let place = |suffix: &str| format!("{LISTS}/{}.{suffix}", package.name);
    let names = files.iter().filter_map(|(path, kind)| match kind {
        Kind::Directory(_) => None,
        _ => Some(format!("/{path}")),
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    let delivered = conffiles.iter().filter_map(|path| {
        let digest = Sha256::digest(content(files, path)?);
        let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        Some(format!("{path} {digest}"))
    });
    let delivered = lines(delivered);
    tree::add(files, &place("list"), lines(names));
    if !conffiles.is_empty() {
        tree::add(files, &place("conffiles"), lines(conffiles));
    }
    if !delivered.is_empty() {
        tree::add(files, &place("conffiles_static"), delivered);
    }
}

fn lines<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|line| format!("{line}\n")).collect()
}

/// The package's own scripts within those that every package has. They do nothing where there is no OpenWrt.
fn scripts(package: &recipe::Package) -> impl Iterator<Item = (Script, String)> {
    let own = |name: &str| -> String {
        let text = package.text(name).lines();
        lines(text.filter(|l| !l.trim_start().starts_with("#!")))
    };
    let name = &package.name;
    let prelude = format!(
        "[ -s \"${{IPKG_INSTROOT}}/lib/functions.sh\" ] || exit 0\n. \"${{IPKG_INSTROOT}}/lib/functions.sh\"\n\
         export root=\"${{IPKG_INSTROOT}}\" pkgname=\"{name}\"\n"
    );
    let after = format!(
        "[ \"${{IPKG_NO_SCRIPT}}\" = 1 ] && exit 0\n{prelude}add_group_and_user\ndefault_postinst\n{}",
        own("postinst")
    );
    let before = format!("{prelude}default_prerm\n{}", own("prerm"));
    let upgrade = |text: &str| format!("export PKG_UPGRADE=1\n{text}");
    let all = [
        (Script::PreInstall, own("preinst")),
        (Script::PostInstall, after.clone()),
        (Script::PreDeinstall, before),
        (Script::PostDeinstall, own("postrm")),
        (
            Script::PreUpgrade,
            match own("preinst") {
                text if text.is_empty() => text,
                text => upgrade(&text),
            },
        ),
        (Script::PostUpgrade, upgrade(&after)),
    ];
    all.into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(script, text)| (script, format!("#!/bin/sh\n{text}")))
}

/// The files of packages in `feed`, by name.
pub fn files_of(feed: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(feed)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "apk"));
    files.sort();
    if files.is_empty() {
        bail!("there are no packages in {}", feed.display());
    }
    Ok(files)
}

/// Reads a package's file.
pub fn open(path: &Path) -> Result<Container> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Container::read(&bytes, adb::container::Schema::Package)
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Package {
        let field = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let package = recipe::Package {
            name: "p".to_owned(),
            fields: [
                ("Version", "1-r1"),
                ("Depends", "+a +X:b +!X:c"),
                ("Extra-Depends", "kernel (=6.12~0a-r1)"),
                ("Provides", "@p-any p @virtual q"),
                ("Section", "net"),
                ("Architecture", "all"),
            ]
            .map(field)
            .into(),
            texts: [
                ("description", "  One.\n  Two.\n"),
                ("conffiles", "/etc/keys/\n/etc/p.conf\n"),
                ("postinst", "#!/bin/sh\nown\n"),
            ]
            .map(field)
            .into(),
        };
        let mut files = Tree::from([(String::new(), Kind::Directory(0o755))]);
        tree::add(&mut files, "etc/p.conf", "x\n");
        let maker = Maker {
            arch: "mips_24kc",
            enabled: &["X"],
        };
        let (_, container) = maker.make(&package, "feed/p", files).unwrap();
        Package::read(&container).unwrap()
    }

    #[test]
    fn fields_are_those_of_package_pack() {
        let info = made().info;
        let words = |all: &[Dependency]| lines(all).replace('\n', " ");
        assert_eq!(words(&info.depends), "a b kernel=6.12~0a-r1 ");
        assert_eq!(words(&info.provides), "p-any q=1-r1 virtual ");
        assert_eq!(
            (info.arch.as_str(), info.description.as_str()),
            ("noarch", "One. Two.")
        );
        assert_eq!(info.tags, ["openwrt:section=net"]);
        assert_eq!(info.file_name(), "p-1-r1.apk");
    }

    #[test]
    fn lists_are_files_of_the_package() {
        let package = made();
        let text = |path: &str| match package.files.get(path) {
            Some(Kind::File(_, content)) => String::from_utf8(content.clone()).unwrap(),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(text("lib/upgrade/keep.d/p"), "/etc/keys/\n");
        assert_eq!(
            text("lib/apk/packages/p.list"),
            "/etc/p.conf\n/lib/upgrade/keep.d/p\n"
        );
        assert_eq!(
            text("lib/apk/packages/p.conffiles"),
            "/etc/keys/\n/etc/p.conf\n"
        );
        // sha256sum of "x\n".
        let digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac";
        assert_eq!(
            text("lib/apk/packages/p.conffiles_static"),
            format!("/etc/p.conf {digest}\n")
        );
    }

    #[test]
    fn scripts_are_wrapped() {
        let scripts = made().scripts;
        let kinds: Vec<_> = scripts.keys().copied().collect();
        assert_eq!(
            kinds,
            [
                Script::PostInstall,
                Script::PreDeinstall,
                Script::PostUpgrade
            ]
        );
        let install = &scripts[&Script::PostInstall];
        assert!(
            install.starts_with("#!/bin/sh\n[") && install.ends_with("default_postinst\nown\n")
        );
        assert_eq!(install.matches("#!").count(), 1);
        assert!(scripts[&Script::PostUpgrade].contains("PKG_UPGRADE=1"));
        assert!(scripts[&Script::PreDeinstall].ends_with("default_prerm\n"));
    }
}
