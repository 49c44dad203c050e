// SPDX-License-Identifier: GPL-2.0-only
//! The tunnel made by ovpnd from a UCI file, with static keys.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::image::Put;
use crate::lab::Pair;
use crate::probe::{PATIENCE, both_ways, ping, show, terminate};
use crate::report::Report;
use crate::vm::Vm;

/// The tunnel's interface, as guest/router-*/network names it.
pub(crate) const INTERFACE: &str = "vpn0";

/// Where guest/router-*/network expects the key.
const KEY: &str = "/etc/ovpn/vpn0/tunnel.key";

/// The ciphers of the tunnel: UCI's name, and that of the kernel's family. The
/// routers start with the first.
const CIPHERS: [(&str, &str); 2] = [
    ("aes-256-gcm", "aes-gcm"),
    ("chacha20-poly1305", "chacha20-poly1305"),
];

/// Files for the routers' images: the UCI files of a and b.
pub(crate) fn files() -> (Vec<Put>, Vec<Put>) {
    let network = |text| vec![Put::text("etc/config/network", text)];
    (
        network(include_str!("../guest/router-a/network")),
        network(include_str!("../guest/router-b/network")),
    )
}

/// The tunnel from start to end.
pub(crate) fn steps(report: &mut Report, pair: &Pair) -> Result<()> {
    report.step("a UCI file describes the tunnel", |notes| {
        share_key(pair)?;
        show(notes, &pair.a, "cat /etc/config/network")?;
        Ok(())
    })?;

    report.step("ovpnd brings the interface up", |notes| {
        for vm in [&pair.a, &pair.b] {
            start(vm)?;
            show(
                notes,
                vm,
                &format!("ip -d address show {INTERFACE} | cut -c 1-76"),
            )?;
        }
        Ok(())
    })?;

    report.step("ping through the tunnel", |notes| {
        ping(notes, &pair.a, "10.8.0.2")?;
        ping(notes, &pair.b, "10.8.0.1")
    })?;
    report.step("ping6 through the tunnel", |notes| {
        ping(notes, &pair.a, "fd08::2")?;
        ping(notes, &pair.b, "fd08::1")
    })?;
    report.step("ping between the networks behind the routers", |notes| {
        ping(notes, &pair.a, "-I 192.168.1.1 192.168.2.1")
    })?;

    for (cipher, family) in CIPHERS {
        report.step(&format!("iperf3 both ways, {cipher}"), |notes| {
            for vm in [&pair.a, &pair.b] {
                use_cipher(vm, cipher, family)?;
            }
            serve(&pair.b)?;
            both_ways(notes, pair, "10.8.0.2")?;
            Ok(())
        })?;
    }

    report.step("the same tunnel over IPv6", |notes| {
        for vm in [&pair.a, &pair.b] {
            edit(
                vm,
                "s/option transport .*/option transport 'udp6'/; \
                 s/option endpoint_host '192.0.2.\\(.\\)'/option endpoint_host '2001:db8::\\1'/",
            )?;
        }
        // The two are of one mind only after the second has read its file.
        pair.a
            .wait("an answer over IPv6", "ping -c 1 -W 1 10.8.0.2", PATIENCE)?;
        show(notes, &pair.a, "ovpnctl show")?;
        ping(notes, &pair.a, "10.8.0.2")?;
        ping(notes, &pair.b, "fd08::1")
    })?;

    report.step("ubus call ovpnd status", |notes| {
        for vm in [&pair.a, &pair.b] {
            show(notes, vm, "ubus -p call ovpnd status")?;
            let status = status(vm)?;
            for (place, wanted) in [
                ("/interfaces/0/name", INTERFACE),
                ("/interfaces/0/state", "up"),
                ("/kernel/driver", "kmod-ovpn"),
            ] {
                ensure!(
                    status.pointer(place).and_then(Value::as_str) == Some(wanted),
                    "{}: {place} is not {wanted}",
                    vm.name()
                );
            }
            let up = status.pointer("/interfaces/0/peers_up");
            ensure!(
                up.and_then(Value::as_u64) == Some(1),
                "{}: the peer is not up",
                vm.name()
            );
        }
        Ok(())
    })
}

/// Ends the daemons, after which nothing of the tunnel may be left.
pub(crate) fn end(report: &mut Report, pair: &Pair) -> Result<()> {
    report.step("ovpnd leaves nothing behind on SIGTERM", |notes| {
        for vm in [&pair.a, &pair.b] {
            terminate(vm, "ovpnd", INTERFACE)?;
        }
        show(notes, &pair.a, "ip -br link")?;
        Ok(())
    })
}

/// One key for both routers, for root's eyes only.
pub(crate) fn share_key(pair: &Pair) -> Result<()> {
    let key = pair.a.run("ovpnctl genkey")?;
    for vm in [&pair.a, &pair.b] {
        vm.write(KEY, 0o600, &key)?;
    }
    Ok(())
}

/// Gives one router a key of its own, which fits no other.
pub(crate) fn wrong_key(vm: &Vm) -> Result<()> {
    let key = vm.run("ovpnctl genkey")?;
    vm.write(KEY, 0o600, &key)
}

/// Starts broker and daemon, and waits for the interface.
pub(crate) fn start(vm: &Vm) -> Result<()> {
    vm.run(
        "mkdir -p /run/ubus && \
         { pidof ubusd || ubusd --socket=/run/ubus/ubus.sock >/run/ubusd.log 2>&1 & } && \
         { ovpnd >/run/ovpnd.log 2>&1 & }",
    )?;
    vm.wait(
        "ovpnd on ubus",
        "ubus -t 1 wait_for ovpnd || { cat /run/ubusd.log /run/ovpnd.log; false; }",
        PATIENCE,
    )?;
    vm.wait(
        "the interface",
        &format!(
            "ip link show up dev {INTERFACE} | grep -q UP || {{ cat /run/ovpnd.log; false; }}"
        ),
        PATIENCE,
    )?;
    Ok(())
}

/// The daemon's own status.
pub(crate) fn status(vm: &Vm) -> Result<Value> {
    let text = vm.run("ubus call ovpnd status")?;
    serde_json::from_str(&text).context("ovpnd's status is not JSON")
}

/// Names another cipher in the UCI file and has the daemon read it.
fn use_cipher(vm: &Vm, cipher: &str, family: &str) -> Result<()> {
    edit(vm, &format!("s/option cipher .*/option cipher '{cipher}'/"))?;
    vm.wait(
        &format!("the change to {cipher}"),
        &format!("ovpnctl show | grep -q {family}"),
        PATIENCE,
    )?;
    Ok(())
}

/// Changes the UCI file by a script of sed and has the daemon read it.
fn edit(vm: &Vm, script: &str) -> Result<()> {
    vm.run(&format!(
        "sed -i \"{script}\" /etc/config/network && ubus call ovpnd reload"
    ))?;
    Ok(())
}

/// Has an iperf3 server running.
pub(crate) fn serve(vm: &Vm) -> Result<()> {
    vm.run("pidof iperf3 >/dev/null || iperf3 -s -D")?;
    vm.wait(
        "iperf3's server",
        "grep -q ':1451 ' /proc/net/tcp /proc/net/tcp6",
        PATIENCE,
    )?;
    Ok(())
}
