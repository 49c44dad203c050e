// SPDX-License-Identifier: GPL-2.0-only
//! Packages and their index as opkg reads them.

use super::archive::{self, Entry, Kind};
use super::recipe::Package;
use crate::stamp;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a script of every package does: OpenWrt's own one where there is OpenWrt.
const DEFAULTS: [(&str, &str); 2] = [("postinst", "default_postinst"), ("prerm", "default_prerm")];

/// How packages of a feed are made.
pub struct Maker<'a> {
    /// OpenWrt's name of the processor.
    pub arch: &'a str,
    /// Options of OpenWrt's configuration that dependencies may name.
    pub enabled: &'a [&'a str],
    /// Time stamp of everything inside, seconds since 1970.
    pub time: u64,
}

impl Maker<'_> {
    /// Writes `package`, whose files are below `files`, into `feed`, and gives the package's path.
    pub fn write(&self, package: &Package, files: &Path, feed: &Path) -> Result<PathBuf> {
        let mut data = archive::tree(files)?;
        modes(package, &mut data)?;
        let (conffiles, kept) = conffiles(package, &data);
        if !kept.is_empty() {
            keep(package, &kept, &mut data);
        }
        let data = archive::write(&data, self.time)?;
        let arch = match package.field("Architecture") {
            "" => self.arch,
            arch => arch,
        };
        let control = self.control(package, arch, &data)?;
        let mut meta = vec![directory("")];
        // In the order of their names.
        if !conffiles.is_empty() {
            meta.push(file("conffiles", 0o644, lines(&conffiles)));
        }
        meta.push(file("control", 0o644, control));
        for script in [
            "postinst",
            "postinst-pkg",
            "postrm",
            "preinst",
            "prerm",
            "prerm-pkg",
        ] {
            let own = script.strip_suffix("-pkg");
            let default = DEFAULTS.iter().find(|(name, _)| *name == script);
            let text = match (default, own) {
                (Some((_, function)), _) => default_script(function),
                (None, Some(own)) => package.text(own).to_owned(),
                (None, None) => package.text(script).to_owned(),
            };
            if !text.is_empty() {
                meta.push(file(script, 0o755, text));
            }
        }
        let meta = archive::write(&meta, self.time)?;
        let whole = [
            file("debian-binary", 0o644, "2.0\n"),
            file("data.tar.gz", 0o644, data),
            file("control.tar.gz", 0o644, meta),
        ];
        let version = package.field("Version");
        let path = feed.join(format!("{}_{version}_{arch}.ipk", package.name));
        fs::write(&path, archive::write(&whole, self.time)?)?;
        Ok(path)
    }

    fn control(&self, package: &Package, arch: &str, data: &[u8]) -> Result<String> {
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(data), &mut unpacked)?;
        let fields = [
            ("Package", package.name.clone()),
            ("Version", package.field("Version").to_owned()),
            ("Depends", package.depends(self.enabled)?.join(", ")),
            ("Conflicts", commas(package.field("Conflicts"))),
            ("Provides", commas(package.field("Provides"))),
            ("License", package.field("License").to_owned()),
            ("Section", package.field("Section").to_owned()),
            ("SourceDateEpoch", self.time.to_string()),
            ("Architecture", arch.to_owned()),
            ("Installed-Size", unpacked.len().to_string()),
        ];
        let mut text = String::new();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            text += &format!("{name}: {value}\n");
        }
        let mut description = package.text("description").lines().map(str::trim);
        text += &format!("Description: {}\n", description.next().unwrap_or_default());
        text.extend(description.map(|line| format!(" {line}\n")));
        Ok(text)
    }
}

fn directory(path: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::Directory(0o755),
    }
}

fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
    Entry {
        path: path.into(),
        kind: Kind::File(mode, content.into()),
    }
}

fn lines(of: &[String]) -> String {
    of.iter().map(|l| format!("{l}\n")).collect()
}

fn commas(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(", ")
}

fn default_script(function: &str) -> String {
    format!(
        "#!/bin/sh\n[ \"$IPKG_NO_SCRIPT\" = 1 ] && exit 0\nfunctions=\"$IPKG_INSTROOT/lib/functions.sh\"\n\
         if [ -s \"$functions\" ]; then\n\t. \"$functions\"\n\t{function} \"$0\" \"$@\"\nfi\n"
    )
}

/// FILE_MODES: `/path:user:group:mode`, all of them root's here.
fn modes(package: &Package, data: &mut [Entry]) -> Result<()> {
    for word in package.field("File-Modes").split_whitespace() {
        let parts: Vec<_> = word.split(':').collect();
        let [path, "root", "root", mode] = parts[..] else {
            anyhow::bail!("{}: FILE_MODES {word}?", package.name);
        };
        let wanted = Path::new(path.trim_matches('/'));
        let entry = data.iter_mut().find(|e| e.path == wanted);
        let entry = entry.with_context(|| format!("{} has no {path}", package.name))?;
        match &mut entry.kind {
            Kind::Directory(bits) | Kind::File(bits, _) => *bits = u32::from_str_radix(mode, 8)?,
            Kind::Link(_) => anyhow::bail!("{path} is a link"),
        }
    }
    Ok(())
}

/// The configuration files among the package's own, and what else is kept over an upgrade of the system.
fn conffiles(package: &Package, data: &[Entry]) -> (Vec<String>, Vec<String>) {
    let mut all: Vec<_> = package
        .text("conffiles")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    all.sort();
    all.into_iter()
        .partition(|name| archive::file(data, name.trim_start_matches('/')).is_some())
}

/// The list of the second kind is a file of the package, as package-pack.mk makes it.
fn keep(package: &Package, kept: &[String], data: &mut Vec<Entry>) {
    for path in ["lib", "lib/upgrade", "lib/upgrade/keep.d"] {
        if !data.iter().any(|e| e.path == Path::new(path)) {
            data.push(directory(path));
        }
    }
    let path = format!("lib/upgrade/keep.d/{}", package.name);
    data.push(file(&path, 0o644, lines(kept)));
    // By components: a directory's content stays together.
    data.sort_by(|a, b| a.path.cmp(&b.path));
}

/// The fields of a control file or of a paragraph of an index.
pub fn fields(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A package taken apart.
pub struct Parts {
    /// control, conffiles and scripts.
    pub control: Vec<Entry>,
    /// Its files.
    pub data: Vec<Entry>,
}

impl Parts {
    /// Reads a package.
    pub fn read(ipk: &[u8]) -> Result<Self> {
        let whole = archive::read(ipk)?;
        let part = |name: &str| -> Result<&[u8]> {
            archive::file(&whole, name).with_context(|| format!("it has no {name}"))
        };
        ensure!(
            part("debian-binary")? == b"2.0\n",
            "it is of another format"
        );
        Ok(Self {
            control: archive::read(part("control.tar.gz")?)?,
            data: archive::read(part("data.tar.gz")?)?,
        })
    }

    /// A file of its control part, as text.
    pub fn text(&self, name: &str) -> Result<&str> {
        let content = archive::file(&self.control, name);
        let content = content.with_context(|| format!("it has no file {name}"))?;
        Ok(std::str::from_utf8(content)?)
    }
}

/// The index of the packages in `feed`.
pub fn index(feed: &Path) -> Result<String> {
    let mut files: Vec<_> = fs::read_dir(feed)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "ipk"));
    files.sort();
    let mut text = String::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ipk = fs::read(&path)?;
        let parts = Parts::read(&ipk).with_context(|| name.clone().into_owned())?;
        let control = parts.text("control")?;
        let (before, after) = control
            .split_once("Description:")
            .context("a control file without a description")?;
        text += &format!(
            "{before}Filename: {name}\nSize: {}\nSHA256sum: {}\nDescription:{after}\n",
            ipk.len(),
            stamp::sha256(&path)?
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Package {
        let field = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Package {
            name: "p".to_owned(),
            fields: [
                ("Version", "1-r1"),
                ("Depends", "+a +b"),
                ("Provides", "q"),
                ("Section", "net"),
                ("File-Modes", "/etc/keys:root:root:0700"),
            ]
            .map(field)
            .into(),
            texts: [
                ("description", "  One.\n  Two.\n"),
                ("conffiles", "/etc/keys/\n/etc/p.conf\n"),
                ("postinst", "#!/bin/sh\ntrue\n"),
            ]
            .map(field)
            .into(),
        }
    }

    fn made(name: &str) -> (PathBuf, PathBuf) {
        let dir = std::env::temp_dir().join(format!("lane-ipk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("files/etc/keys")).unwrap();
        fs::create_dir_all(dir.join("feed")).unwrap();
        fs::write(dir.join("files/etc/p.conf"), "x\n").unwrap();
        let maker = Maker {
            arch: "mips_24kc",
            enabled: &[],
            time: 5,
        };
        let path = maker
            .write(&package(), &dir.join("files"), &dir.join("feed"))
            .unwrap();
        (dir, path)
    }

    #[test]
    fn a_package_has_what_opkg_wants() {
        let (dir, path) = made("parts");
        assert!(path.ends_with("p_1-r1_mips_24kc.ipk"));
        let parts = Parts::read(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(parts.text("conffiles").unwrap(), "/etc/p.conf\n");
        assert_eq!(parts.text("postinst-pkg").unwrap(), "#!/bin/sh\ntrue\n");
        assert!(parts.text("postinst").unwrap().contains("default_postinst"));
        let control = parts.text("control").unwrap();
        assert!(control.ends_with("Description: One.\n Two.\n"), "{control}");
        let fields = fields(control);
        for (name, value) in [
            ("Package", "p"),
            ("Depends", "a, b"),
            ("Provides", "q"),
            ("SourceDateEpoch", "5"),
            ("Architecture", "mips_24kc"),
        ] {
            assert_eq!(fields.get(name).map(String::as_str), Some(value));
        }
        let names: Vec<_> = parts
            .data
            .iter()
            .map(|e| e.path.display().to_string())
            .collect();
        let want =
            " etc etc/keys etc/p.conf lib lib/upgrade lib/upgrade/keep.d lib/upgrade/keep.d/p";
        assert_eq!(names.join(" "), want);
        assert_eq!(parts.data[2].kind, Kind::Directory(0o700));
        let kept = archive::file(&parts.data, "lib/upgrade/keep.d/p");
        assert_eq!(kept, Some(&b"/etc/keys/\n"[..]));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_index_describes_them() {
        let (dir, path) = made("index");
        let text = index(&dir.join("feed")).unwrap();
        let fields = fields(&text);
        let size = fs::metadata(&path).unwrap().len().to_string();
        assert_eq!(fields.get("Size"), Some(&size));
        assert_eq!(
            fields.get("SHA256sum"),
            Some(&stamp::sha256(&path).unwrap())
        );
        assert!(text.ends_with("Description: One.\n Two.\n\n"), "{text}");
        fs::remove_dir_all(dir).unwrap();
    }
}
