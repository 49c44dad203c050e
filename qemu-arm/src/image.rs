// SPDX-License-Identifier: GPL-2.0-only
//! The root file system of a router, as an initramfs.
//!
//! It is two archives, one after the other, as the kernel allows: a base made
//! once from Debian packages, and an overlay of a few MiB with what this
//! project builds, made for each run. Neither is compressed: QEMU places it in
//! memory at once, while an emulated CPU would take seconds to inflate it.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::host;
use crate::machine::Machine;
use crate::progress;

const INIT: &[u8] = include_bytes!("../guest/init");

/// Change it when the rules below do, so that an older base is made anew.
const RULES: &str = "5";

/// The list of packages, one a line, in an unpacked root.
const PACKAGES: &str = "etc/packages";

/// The kernel's own driver, where it has one.
pub(crate) const MAINLINE: &str = "usr/lib/mainline/ovpn.ko";

/// A file put into the overlay.
pub(crate) struct Put {
    /// Path in the guest, without a leading slash.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

impl Put {
    /// A file for all to read.
    pub(crate) fn text(path: &str, content: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o644,
            content: content.as_bytes().to_vec(),
        }
    }

    /// A file for root alone.
    pub(crate) fn secret(path: &str, content: &str) -> Self {
        Self {
            mode: 0o600,
            ..Self::text(path, content)
        }
    }

    /// A host's program as /usr/sbin/`name` of the guest.
    pub(crate) fn program(name: &str, source: &Path) -> Result<Self> {
        Ok(Self {
            path: format!("usr/sbin/{name}"),
            mode: 0o755,
            content: fs::read(source)
                .with_context(|| format!("{name} for the guest: {}", source.display()))?,
        })
    }
}

/// Makes the base archive of `machine` from the unpacked Debian packages in
/// `root`, unless it is there already.
pub(crate) fn base(cache: &Path, root: &Path, machine: &Machine) -> Result<PathBuf> {
    let home = cache.join("roots").join(machine.lane);
    let archive = home.join("base.cpio");
    let stamp = home.join("base.packages");
    let packages = fs::read_to_string(root.join(PACKAGES))
        .with_context(|| format!("the routers' packages: {}", root.display()))?;
    let recipe = format!("{RULES}\n{packages}");
    if archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(archive);
    }
    progress(&format!(
        "root file system from {} packages",
        packages.lines().count()
    ));
    fs::create_dir_all(&home)?;
    let mut out = Archive::new(BufWriter::new(File::create(&archive)?));
    out.tree(root, &|path| !superfluous(path, machine))?;
    for directory in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "root",
        "usr/lib/busybox",
    ] {
        out.directory(Path::new(directory))?;
    }
    out.symlink(Path::new("var/run"), Path::new("../run"))?;
    out.finish()?;
    fs::write(stamp, recipe)?;
    Ok(archive)
}

/// Files of packages that no router of ours looks at: it would only cost
/// memory and boot time.
fn superfluous(path: &Path, machine: &Machine) -> bool {
    let libraries = Path::new("usr/lib").join(machine.multiarch);
    path.starts_with("usr/share")
        || path.starts_with("var")
        || path.starts_with("usr/lib/systemd")
        // To link programs for the guest against.
        || path.starts_with("usr/include")
        || path.extension().is_some_and(|extension| extension == "a")
        || ["gconv", "security", "engines-3", "ossl-modules"]
            .iter()
            .any(|directory| path.starts_with(libraries.join(directory)))
}

/// Writes the initramfs of one router to `target`: `base`, all that lies below
/// each of `trees`, `files`, and PID 1.
pub(crate) fn initramfs(target: &Path, base: &Path, trees: &[&Path], files: &[Put]) -> Result<()> {
    let mut out = BufWriter::new(File::create(target)?);
    io::copy(&mut File::open(base)?, &mut out)?;
    let mut overlay = Archive::new(out);
    for tree in trees {
        overlay.tree(tree, &|_| true)?;
    }
    for put in files {
        overlay.file(Path::new(&put.path), put.mode, &put.content)?;
    }
    overlay.file(Path::new("init"), 0o755, INIT)?;
    overlay.finish()?;
    Ok(())
}

/// Lays out the modules of the kernel built in `kernel`, and ours from where
/// its package put it, as modprobe expects them (usr/lib/modules/RELEASE) below
/// the new directory `target`.
pub(crate) fn modules(kernel: &Path, installed: &Path, target: &Path) -> Result<()> {
    let release = fs::read_to_string(kernel.join("include/config/kernel.release"))
        .context("the kernel is not built")?;
    let release = release.trim();
    let home = target.join("usr/lib/modules").join(release);
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    let order = fs::read_to_string(kernel.join("modules.order"))?;
    for object in order.lines() {
        let module = Path::new(object).with_extension("ko");
        // The kernel's own driver of that name would be found before ours.
        let placed = match module.ends_with("ovpn.ko") {
            true => target.join(MAINLINE),
            false => home.join("kernel").join(&module),
        };
        fs::create_dir_all(placed.parent().unwrap_or(&home))?;
        fs::copy(kernel.join(&module), placed)
            .with_context(|| format!("kernel module {}", module.display()))?;
    }
    let ours = installed
        .join("usr/lib/modules")
        .join(release)
        .join("ovpn.ko");
    fs::copy(&ours, home.join("ovpn.ko"))
        .with_context(|| format!("our module {}", ours.display()))?;
    // The last one: of a kernel that does not tell its configuration itself.
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
        "config",
    ] {
        if kernel.join(list).is_file() {
            fs::copy(kernel.join(list), home.join(list))?;
        }
    }
    host::run(
        Command::new("/usr/sbin/depmod")
            .arg("-b")
            .arg(target.join("usr"))
            .arg(release),
    )?;
    Ok(())
}
