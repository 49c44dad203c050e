// SPDX-License-Identifier: GPL-2.0-only
//! Any bytes are refused or read, as a package and as an index: what is read stays in the root, is written as it was read,
//! and has the tests' signature only if it is what they signed.
#![no_main]

use adb::container::{Container, Schema};
use adb::index::Index;
use adb::package::{Kind, Package};
use adb::sign::{Private, Public};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use std::sync::LazyLock;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/golden/", $name))
    };
}

/// The containers that the tests' key has signed.
static SIGNED: LazyLock<[Container; 3]> = LazyLock::new(|| {
    let package = |bytes| Container::read(bytes, Schema::Package).expect("a package");
    [
        package(golden!(
            "ovpn-sample-1.2-r3.accepted-by-apk-tools-3.0.6.apk"
        )),
        package(golden!("ovpn-sample-1.2-r3.made-by-apk-tools-3.0.6.apk")),
        Container::read(
            golden!("packages.accepted-by-apk-tools-3.0.6.adb"),
            Schema::Index,
        )
        .expect("an index"),
    ]
});
static KEY: LazyLock<Public> = LazyLock::new(|| {
    let pem = include_str!("../../tests/golden/key-of-tests.pem");
    Private::from_pem(pem).expect("a key").public()
});

fn package(container: &Container) {
    let Ok(package) = Package::read(container) else {
        return;
    };
    for (path, kind) in &package.files {
        let root = path.is_empty() && matches!(kind, Kind::Directory(_));
        let inside = |part: &str| !matches!(part, "" | "." | "..");
        assert!(root || path.split('/').all(inside), "{path:?}");
    }
    // A package may be readable and lack what a package of ours has.
    let Ok(written) = package.write() else {
        return;
    };
    let again = Package::read(&written).expect("what was written is read");
    assert_eq!(again.files, package.files);
    assert_eq!(again.scripts, package.scripts);
}

fn index(container: &Container) {
    let Ok(index) = Index::read(container) else {
        return;
    };
    let Ok(written) = index.write() else {
        return;
    };
    let again = Index::read(&written).expect("what was written is read");
    assert_eq!(again.packages.len(), index.packages.len());
    assert_eq!(again.description, index.description);
}

fuzz_target!(|bytes: &[u8]| {
    for schema in [Schema::Package, Schema::Index] {
        let Ok(container) = Container::read(bytes, schema) else {
            continue;
        };
        let again = Container::read(container.bytes(), schema).expect("it is read plain, too");
        assert_eq!(again.bytes(), container.bytes());
        let is = |signed: &Container| {
            signed.schema() == schema && signed.database() == container.database()
        };
        assert!(KEY.verify(&container).is_err() || SIGNED.iter().any(is));
        match schema {
            Schema::Package => package(&container),
            Schema::Index => index(&container),
        }
    }
});

// One changed byte of a compressed container hardly ever leaves one that is read.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let plain = [Schema::Package, Schema::Index].map(|s| Container::read(&data[..size], s).ok());
    let mut size = size;
    // One in eight is left packed: the reader of these is to be tried as well.
    if let [Some(container), _] | [_, Some(container)] = &plain
        && container.bytes().len() <= max_size
        && seed % 8 != 0
    {
        size = container.bytes().len();
        data[..size].copy_from_slice(container.bytes());
    }
    fuzzer_mutate(data, size, max_size)
});
