// SPDX-License-Identifier: GPL-2.0-only
//! The same link once more, with stock OpenVPN and our module as its data
//! channel offload on both routers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::serve;
use crate::image::Put;
use crate::lab::Pair;
use crate::pki::Identity;
use crate::probe::{BLOCK, PATIENCE, clear, ping, received, show, terminate};
use crate::report::Report;
use crate::vm::Vm;

/// The tunnel's interface, as guest/openvpn.conf names it.
const INTERFACE: &str = "tun0";

/// Seconds between renegotiations, asked for by router b alone so that the two
/// do not meet.
const RENEGOTIATION: u32 = 8;

/// Seconds iperf3 runs: more than one renegotiation.
const FLOW: u32 = 14;

/// The line OpenVPN logs when a key's time is up.
const RENEGOTIATES: &str = "TLS: soft reset";

/// The line that ends each handshake, the first and every later one.
const HANDSHAKE: &str = "Control Channel: ";

/// Files for the image of the router whose identity this is.
pub(crate) fn files(own: &Identity) -> Vec<Put> {
    vec![
        Put::text(
            "etc/openvpn/tunnel.conf",
            include_str!("../guest/openvpn.conf"),
        ),
        Put::text("etc/openvpn/router.crt", &own.certificate),
        Put::secret("etc/openvpn/router.key", &own.key),
    ]
}

/// The tunnel from start to end. `a` and `b` are what the routers show.
pub(crate) fn steps(report: &mut Report, pair: &Pair, a: &Identity, b: &Identity) -> Result<()> {
    report.step("stock OpenVPN connects through the module", |notes| {
        for vm in [&pair.a, &pair.b] {
            clear(vm)?;
        }
        show(notes, &pair.a, "openvpn --version | sed -n '1p;3p'")?;
        pair.a.run(&format!(
            "openvpn --config /etc/openvpn/tunnel.conf --daemon --tls-server --reneg-sec 0 \
             --ifconfig 10.8.0.1 10.8.0.2 --ifconfig-ipv6 fd08::1/64 fd08::2 \
             --peer-fingerprint {}",
            b.fingerprint
        ))?;
        pair.b.run(&format!(
            "openvpn --config /etc/openvpn/tunnel.conf --daemon --tls-client \
             --reneg-sec {RENEGOTIATION} --remote 192.0.2.1 \
             --ifconfig 10.8.0.2 10.8.0.1 --ifconfig-ipv6 fd08::2/64 fd08::1 \
             --peer-fingerprint {}",
            a.fingerprint
        ))?;
        for vm in [&pair.a, &pair.b] {
            vm.wait(
                "OpenVPN's handshake",
                "grep 'Initialization Sequence Completed' /run/openvpn.log || \
                 { cat /run/openvpn.log; false; }",
                PATIENCE,
            )?;
            offloaded(vm)?;
            show(notes, vm, "grep -i 'dco device' /run/openvpn.log")?;
            show(
                notes,
                vm,
                &format!("ip -d link show {INTERFACE} | cut -c 1-76"),
            )?;
        }
        Ok(())
    })?;

    report.step("ping through OpenVPN's tunnel", |notes| {
        ping(notes, &pair.a, "10.8.0.2")
    })?;
    report.step("ping6 through OpenVPN's tunnel", |notes| {
        ping(notes, &pair.a, "fd08::2")
    })?;

    report.step("OpenVPN renegotiates while iperf3 runs", |notes| {
        serve(&pair.b)?;
        let before = count(&pair.b, HANDSHAKE)?;
        let flow = pair.a.start(&format!(
            "iperf3 -J -c 10.8.0.2 -t {FLOW} -i {} -l {BLOCK}",
            FLOW / 2
        ))?;
        pair.b.wait(
            "a renegotiation",
            &format!("grep -q '{RENEGOTIATES}' /run/openvpn.log"),
            PATIENCE,
        )?;
        let report = flow
            .wait(PATIENCE + Duration::from_secs(FLOW.into()))?
            .success("iperf3")?;
        let speed = received(&report).context("iperf3 during a renegotiation")?;
        let handshakes = count(&pair.b, HANDSHAKE)? - before;
        ensure!(handshakes > 0, "the renegotiation did not come to an end");
        notes.say(&format!(
            "iperf3, {FLOW} s: {speed:.1} Mbit/s, {handshakes} renegotiation(s) meanwhile"
        ));
        show(
            notes,
            &pair.b,
            &format!("grep '{RENEGOTIATES}' /run/openvpn.log"),
        )?;
        for vm in [&pair.a, &pair.b] {
            // Key ids count handshakes: the first key has 0.
            vm.wait(
                "a later key in use",
                "ovpnctl show | grep 'primary key' | grep -vq 'id 0,'",
                PATIENCE,
            )?;
            show(notes, vm, "ovpnctl show | grep key:")?;
        }
        ping(notes, &pair.a, "10.8.0.2")
    })?;

    report.step("OpenVPN leaves nothing behind", |notes| {
        for vm in [&pair.b, &pair.a] {
            terminate(vm, "openvpn", INTERFACE)?;
        }
        show(notes, &pair.a, "ip -br link")?;
        Ok(())
    })
}

/// Whether the packets really go through the module: OpenVPN falls back to
/// its own data channel with no more than a line in its log.
fn offloaded(vm: &Vm) -> Result<()> {
    let link = vm.run(&format!("ip -d link show {INTERFACE}"))?;
    ensure!(
        link.lines()
            .any(|line| line.trim_start().starts_with("ovpn")),
        "{}: {INTERFACE} is not of kind ovpn:\n{link}\n{}",
        vm.name(),
        vm.run("cat /run/openvpn.log")?
    );
    Ok(())
}

/// Number of lines of OpenVPN's log that have `text`.
fn count(vm: &Vm, text: &str) -> Result<usize> {
    Ok(vm
        .run("cat /run/openvpn.log")?
        .lines()
        .filter(|line| line.contains(text))
        .count())
}
