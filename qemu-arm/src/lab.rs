// SPDX-License-Identifier: GPL-2.0-only
//! The test bed: images, the link, and machines on it.
//!
//! ```text
//!   lan0 192.168.1.1/24                               lan0 192.168.2.1/24
//!   +----------+  eth0 192.0.2.1   eth0 192.0.2.2  +----------+
//!   | router a |-----------------------------------| router b |
//!   +----------+  2001:db8::1        2001:db8::2   +----------+
//!        vpn0 10.8.0.1, fd08::1       vpn0 10.8.0.2, fd08::2
//! ```
//! eth0 is a QEMU link: Ethernet frames as UDP datagrams on 127.0.0.1.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};

use crate::image::{self, Put};
use crate::machine::Machine;
use crate::vm::{self, Spec, Vm};
use crate::{Inputs, progress};

/// Inputs of every machine of a run.
pub(crate) struct Bench<'a> {
    inputs: &'a Inputs,
    machine: &'static Machine,
    base: PathBuf,
    modules: PathBuf,
    /// A directory whose content every machine gets as well.
    pub(crate) tree: Option<PathBuf>,
    logs: PathBuf,
    /// Held while a run uses the directories above; another one waits.
    _lock: File,
}

/// Two routers on a link.
pub(crate) struct Pair {
    pub(crate) a: Vm,
    pub(crate) b: Vm,
}

impl<'a> Bench<'a> {
    /// Fetches and builds what is missing of the image.
    pub(crate) fn new(inputs: &'a Inputs) -> Result<Self> {
        let machine = inputs.machine;
        let logs = inputs.cache.join("logs").join(machine.lane);
        fs::create_dir_all(&logs)?;
        let lock = File::create(logs.join("lock"))?;
        if lock.try_lock().is_err() {
            progress("waiting for another run to end");
            lock.lock()?;
        }
        let base = image::base(&inputs.cache, &inputs.root, machine)?;
        let modules = inputs
            .cache
            .join("roots")
            .join(machine.lane)
            .join("modules");
        image::modules(&inputs.kernel_build, &inputs.installed, &modules)?;
        Ok(Self {
            inputs,
            machine,
            base,
            modules,
            tree: None,
            logs,
            _lock: lock,
        })
    }

    /// Boots a machine with `files` beside the packages and programs every router has.
    pub(crate) fn boot(
        &self,
        name: &str,
        mac: u8,
        link: Option<UdpSocket>,
        files: Vec<Put>,
    ) -> Result<Vm> {
        let inputs = self.inputs;
        let mut files = files;
        for (program, source) in [
            ("ubusd", &inputs.ubusd),
            ("ubus", &inputs.ubus_client),
            ("ovpn-tests", &inputs.tests),
        ] {
            files.push(Put::program(program, source)?);
        }
        let initramfs = self.logs.join(format!("{name}.cpio"));
        let mut trees = vec![self.modules.as_path(), inputs.installed.as_path()];
        trees.extend(self.tree.as_deref());
        image::initramfs(&initramfs, &self.base, &trees, &files)?;
        let vm = Vm::boot(Spec {
            name,
            machine: self.machine,
            kernel: &inputs.kernel,
            initramfs: &initramfs,
            logs: &self.logs,
            link,
            mac,
        })?;
        // QEMU has read it; it is large.
        fs::remove_file(&initramfs)?;
        Ok(vm)
    }

    /// Boots two routers on a link, both at once.
    pub(crate) fn pair(&self, a: Vec<Put>, b: Vec<Put>) -> Result<Pair> {
        progress(&format!(
            "booting two routers: {}",
            self.machine.description
        ));
        let (one, two) = vm::link()?;
        let (a, b) = thread::scope(|scope| {
            let a = scope.spawn(|| self.boot("router-a", 1, Some(one), a));
            let b = self.boot("router-b", 2, Some(two), b);
            (a.join(), b)
        });
        let a = a.ok().context("the thread that boots router-a died")?;
        Ok(Pair { a: a?, b: b? })
    }

    /// Whether the kernel has a driver of its own to compare with.
    pub(crate) fn has_mainline(&self) -> bool {
        self.modules.join(image::MAINLINE).is_file()
    }

    /// The list of the kernel's symbols that our module needs, one a line.
    pub(crate) fn symbols(&self) -> PathBuf {
        let module = self.inputs.kernel_build.with_file_name("module");
        module.join("undefined-symbols.txt")
    }

    /// A directory for files of a moment.
    pub(crate) fn scratch(&self) -> &Path {
        &self.logs
    }

    /// Size in bytes of the root file system every router starts from.
    pub(crate) fn base_size(&self) -> Result<u64> {
        Ok(fs::metadata(&self.base)?.len())
    }
}
