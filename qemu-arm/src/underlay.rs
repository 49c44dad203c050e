// SPDX-License-Identifier: GPL-2.0-only
//! The first steps of every run: the routers, the link, the module.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::lab::{Bench, Pair};
use crate::probe::{ping, show};
use crate::report::Report;
use crate::vm::Vm;

/// Where its package puts our module.
pub(crate) const MODULE: &str = "/lib/modules/$(uname -r)/ovpn.ko";

/// Brings up the link and the module on both routers.
pub(crate) fn steps(report: &mut Report, bench: &Bench<'_>, pair: &Pair) -> Result<()> {
    report.must("two routers boot", |notes| {
        notes.say(&format!(
            "root file system {:.1} MiB",
            bench.base_size()? as f64 / f64::from(1 << 20)
        ));
        for vm in [&pair.a, &pair.b] {
            notes.say(&format!(
                "{} took commands after {:.1} s",
                vm.name(),
                vm.boot_time().as_secs_f32()
            ));
            show(notes, vm, "uname -srm")?;
        }
        Ok(())
    })?;

    report.step("the module needs no Rust of the kernel", |notes| {
        let config = pair
            .a
            .run("zcat /proc/config.gz 2>/dev/null || cat /lib/modules/$(uname -r)/config")?;
        ensure!(
            config.contains("CONFIG_MODULES=y"),
            "that is not a kernel configuration"
        );
        // An option whose dependencies are missing has no line at all, and
        // 6.12 has no Rust for ARM.
        notes.say(match config.lines().any(|line| line == "CONFIG_RUST=y") {
            true => "its configuration: CONFIG_RUST is set, and the module brings its own crates",
            false => "its configuration: CONFIG_RUST is not set",
        });
        let symbols = fs::read_to_string(bench.symbols())?;
        let rust = |s: &&str| s.starts_with("_R") || s.starts_with("rust_");
        let found: Vec<_> = symbols.lines().filter(rust).collect();
        ensure!(found.is_empty(), "this is not the embedded mode: {found:?}");
        ensure!(
            symbols.contains("skb_"),
            "that is not what the module needs"
        );
        Ok(())
    })?;

    report.must("the link carries packets", |notes| {
        for (vm, number) in [(&pair.a, 1), (&pair.b, 2)] {
            vm.run(&format!(
                "ip link set eth0 up && \
                 ip address add 192.0.2.{number}/24 dev eth0 && \
                 ip address add 2001:db8::{number}/64 dev eth0 nodad && \
                 modprobe dummy numdummies=0 && ip link add lan0 type dummy && ip link set lan0 up && \
                 ip address add 192.168.{number}.1/24 dev lan0 && \
                 echo 1 >/proc/sys/net/ipv4/ip_forward"
            ))?;
        }
        ping(notes, &pair.a, "192.0.2.2")?;
        ping(notes, &pair.a, "2001:db8::2")
    })?;

    report.must("the module loads", |notes| {
        for vm in [&pair.a, &pair.b] {
            load(vm)?;
        }
        notes.say(&format!(
            "ovpn.ko has {} bytes; in memory:",
            pair.a.run(&format!("stat -c %s {MODULE}"))?.trim()
        ));
        show(notes, &pair.a, "lsmod | grep -E '^(Module|ovpn)'")?;
        show(notes, &pair.a, "cat /sys/module/ovpn/version")?;
        Ok(())
    })
}

/// Loads the module with the parameters of its package, and sees that its
/// netlink family is there.
pub(crate) fn load(vm: &Vm) -> Result<()> {
    vm.run("modprobe $(cat /etc/modules.d/30-ovpn)")?;
    vm.run("ip link add probe0 type ovpn && ip link delete probe0")
        .context("the module is loaded, but there is no link kind ovpn")?;
    Ok(())
}
