// SPDX-License-Identifier: GPL-2.0-only
//! Verdicts of apk-tools, kept: files written here that its version in their names accepted (`apk verify`, `apk add`), and one
//! that it made itself of the same files. By hand, with `apk` at hand: `ADB_GOLDEN=DIR cargo test -p adb` writes them anew.

use adb::container::{Container, Schema};
use adb::index::Index;
use adb::info::Info;
use adb::package::{Kind, Package, Script};
use adb::sign::{Private, Public};
use std::fs;
use std::path::{Path, PathBuf};

const PACKAGE: &str = "ovpn-sample-1.2-r3.accepted-by-apk-tools-3.0.6.apk";
const INDEX: &str = "packages.accepted-by-apk-tools-3.0.6.adb";
const THEIRS: &str = "ovpn-sample-1.2-r3.made-by-apk-tools-3.0.6.apk";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn key() -> Private {
    Private::from_pem(&fs::read_to_string(golden().join("key-of-tests.pem")).unwrap()).unwrap()
}

/// One of everything that a package of OpenWrt has.
fn sample() -> Package {
    let file = |text: &str| Kind::File(0o644, text.into());
    let long = "0123456789abcdef".repeat(20);
    Package {
        info: Info {
            name: "ovpn-sample".into(),
            version: "1.2-r3".into(),
            description: "A sample.".into(),
            arch: "noarch".into(),
            license: "GPL-2.0-only".into(),
            origin: "feeds/ovpn/sample".into(),
            maintainer: "A B <a@b.example>".into(),
            url: "https://b.example".into(),
            depends: adb::depend::list("!enemy kernel=6.12.71~0a1b-r1 libc").unwrap(),
            provides: adb::depend::list("ovpn-sample-any versioned=2").unwrap(),
            tags: vec!["openwrt:section=net".into()],
            ..Info::default()
        },
        files: [
            ("", Kind::Directory(0o755)),
            ("etc", Kind::Directory(0o755)),
            ("etc/config", Kind::Directory(0o755)),
            ("etc/config/ovpn", Kind::File(0o600, b"config\n".to_vec())),
            ("usr", Kind::Directory(0o755)),
            ("usr/sbin", Kind::Directory(0o755)),
            ("usr/sbin/empty", file("")),
            ("usr/sbin/link", Kind::Link("ovpnd".into())),
            ("usr/sbin/ovpnd", Kind::File(0o755, long.into_bytes())),
        ]
        .map(|(path, kind)| (path.to_owned(), kind))
        .into(),
        scripts: [
            (
                Script::PostInstall,
                "#!/bin/sh\necho installed\n".to_owned(),
            ),
            (Script::PreDeinstall, "#!/bin/sh\necho going\n".to_owned()),
        ]
        .into(),
    }
}

fn package() -> Container {
    let mut container = sample().write().unwrap();
    key().sign(&mut container).unwrap();
    container
}

fn index() -> Container {
    let mut index = Index {
        description: "sample".into(),
        packages: Vec::new(),
    };
    let size = package().deflated().unwrap().len();
    index.add(&package(), size.try_into().unwrap()).unwrap();
    let mut container = index.write().unwrap();
    key().sign(&mut container).unwrap();
    container
}

fn read(name: &str, schema: Schema) -> Container {
    let bytes = fs::read(golden().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    Container::read(&bytes, schema).unwrap()
}

#[test]
fn what_is_written_is_what_it_accepted() {
    if let Some(dir) = std::env::var_os("ADB_GOLDEN") {
        let dir = PathBuf::from(dir);
        fs::write(
            dir.join("ovpn-sample-1.2-r3.apk"),
            package().deflated().unwrap(),
        )
        .unwrap();
        fs::write(dir.join("packages.adb"), index().deflated().unwrap()).unwrap();
        fs::write(dir.join("key.pub.pem"), key().public().to_pem().unwrap()).unwrap();
    }
    // Without compression, which may get better; the size in the index is that of the compressed file.
    assert_eq!(read(PACKAGE, Schema::Package).bytes(), package().bytes());
    let (accepted, ours) = (read(INDEX, Schema::Index), index());
    for container in [&accepted, &ours] {
        key().public().verify(container).unwrap();
    }
    let sizeless = |container: &Container| {
        let mut index = Index::read(container).unwrap();
        index.packages.iter_mut().for_each(|p| p.file_size = 0);
        index
    };
    assert_eq!(sizeless(&accepted), sizeless(&ours));
}

#[test]
fn what_it_makes_is_read() {
    let theirs = Package::read(&read(THEIRS, Schema::Package)).unwrap();
    let ours = Package::read(&package()).unwrap();
    assert_eq!(theirs.files, ours.files);
    assert_eq!(theirs.scripts, ours.scripts);
    let hashless = |package: &Package| Info {
        hashes: Vec::new(),
        ..package.info.clone()
    };
    assert_eq!(hashless(&theirs), hashless(&ours));
    let pem = key().public().to_pem().unwrap();
    let signed = Public::from_pem(&pem).unwrap();
    signed.verify(&read(THEIRS, Schema::Package)).unwrap();
}
