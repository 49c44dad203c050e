// SPDX-License-Identifier: GPL-2.0-only
//! The script of the package ovpnd that runs at each boot, on roots of this machine with another kernel's name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNEL: &str = "6.12.80";

/// Boots a root with modules in the directories of `kernels`; gives the note, the log and whether the script is kept.
fn boot(root: &Path, kernels: &[&str], mainline: bool) -> (String, String, bool) {
    let _ = fs::remove_dir_all(root.join("lib"));
    let _ = fs::remove_dir_all(root.join("sys"));
    for kernel in kernels {
        let dir = root.join("lib/modules").join(kernel);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("ovpn.ko"), "").unwrap();
    }
    if mainline {
        fs::create_dir_all(root.join("sys/module/ovpn")).unwrap();
    }
    let bin = root.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let log = root.join("log");
    let _ = fs::remove_file(&log);
    for (name, text) in [
        ("uname", format!("#!/bin/sh\necho {KERNEL}\n")),
        (
            "logger",
            format!("#!/bin/sh\necho \"$*\" >>{}\n", log.display()),
        ),
    ] {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../openwrt-feed/ovpnd/files/ovpnd.module");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // OpenWrt's boot deletes a script that ends well.
    let kept = Command::new("sh")
        .args(["-c", "set -u; . \"$0\""])
        .arg(script)
        .env("PATH", path)
        .env("OVPN_ROOT", root)
        .status()
        .unwrap();
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    (
        read(root.join("var/run/ovpnd/.module")),
        read(log),
        !kept.success(),
    )
}

#[test]
fn a_kernel_without_the_module_is_named() {
    let root = std::env::temp_dir().join(format!("lane-hook-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let remedy = "Run \"apk update && apk add kmod-ovpn ovpnd\".";
    for (kernels, mainline, text) in [
        (
            &["6.12.71"][..],
            false,
            "The module ovpn is for Linux 6.12.71, and Linux 6.12.80 runs: the tunnels wait for kmod-ovpn of this release.",
        ),
        (
            &[],
            false,
            "There is no module ovpn for Linux 6.12.80: the tunnels wait for kmod-ovpn of this release.",
        ),
        (
            &[],
            true,
            "There is no module ovpn for Linux 6.12.80: the kernel's own driver is used meanwhile.",
        ),
    ] {
        let (note, log, kept) = boot(&root, kernels, mainline);
        assert_eq!(note, format!("{text}\n{remedy}\n"));
        assert_eq!(log, format!("-t ovpnd -p daemon.err {text} {remedy}\n"));
        assert!(kept);
    }
    // Mended, with the old one still there.
    for kernels in [&["6.12.71", "6.12.80"][..], &["6.12.80", "6.12.90"]] {
        let nothing = (String::new(), String::new(), true);
        assert_eq!(boot(&root, kernels, false), nothing);
    }
    fs::remove_dir_all(root).unwrap();
}
