// SPDX-License-Identifier: GPL-2.0-only
//! Measurements and waits that several steps make.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Pair;
use crate::report::Notes;
use crate::vm::{COMMAND, Vm};

/// How long something between two emulated machines may take to happen: a
/// handshake needs 1 s there on an idle host.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that iperf3 writes and reads at once: less than its 128 KiB, so that a slow interval shows what moved.
pub(crate) const BLOCK: &str = "16K";

/// Seconds of each iperf3 measurement.
pub(crate) const FLOW: u32 = 3;

/// Runs a command, shows it and what it printed.
pub(crate) fn show(notes: &mut Notes, vm: &Vm, command: &str) -> Result<String> {
    notes.say(&format!("{} # {command}", vm.name()));
    let output = vm.run(command)?;
    notes.say(&output);
    Ok(output)
}

/// Five pings from `vm`, none of which may be lost.
pub(crate) fn ping(notes: &mut Notes, vm: &Vm, address: &str) -> Result<()> {
    let text = show(notes, vm, &format!("ping -n -q -c 5 -i 0.2 -W 5 {address}"))?;
    ensure!(answered(&text, 5), "pings to {address} are lost:\n{text}");
    Ok(())
}

/// The opposite: five pings, none of which may come back.
pub(crate) fn no_ping(notes: &mut Notes, vm: &Vm, address: &str) -> Result<()> {
    let command = format!("ping -n -q -c 5 -i 0.2 -W 1 {address}");
    notes.say(&format!("{} # {command}", vm.name()));
    let output = vm.exec(&command, COMMAND)?;
    notes.say(&output.stdout);
    ensure!(
        answered(&output.stdout, 0),
        "an answer from {address} where there must be none"
    );
    Ok(())
}

/// Whether ping counts this many answers; BusyBox's has another word there.
fn answered(text: &str, number: u32) -> bool {
    ["", "packets "]
        .iter()
        .any(|word| text.contains(&format!(" {number} {word}received")))
}

/// One TCP flow through the tunnel, in each direction, after `pair.b` was told
/// to serve. Returns Mbit/s from a to b and from b to a.
pub(crate) fn both_ways(notes: &mut Notes, pair: &Pair, address: &str) -> Result<(f64, f64)> {
    let there = flow(
        &pair.a,
        &format!("iperf3 -J -c {address} -t {FLOW} -i {FLOW} -l {BLOCK}"),
    )?;
    let back = flow(
        &pair.a,
        &format!("iperf3 -J -c {address} -t {FLOW} -i {FLOW} -l {BLOCK} -R"),
    )?;
    notes.say(&format!(
        "iperf3, {FLOW} s, one TCP flow: a to b {there:.1} Mbit/s, b to a {back:.1} Mbit/s"
    ));
    Ok((there, back))
}

fn flow(vm: &Vm, command: &str) -> Result<f64> {
    let report = vm.run(command)?;
    received(&report).with_context(|| format!("{}: `{command}` measured nothing", vm.name()))
}

/// The received rate, in Mbit/s, according to iperf3's JSON. A flow that stood
/// still for one of its intervals does not count as one.
pub(crate) fn received(report: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(report).context("iperf3 printed no JSON")?;
    let bits = report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .with_context(|| format!("no result: {}", report["error"]))?;
    let intervals = report["intervals"].as_array().context("no intervals")?;
    for interval in intervals {
        let sum = &interval["sum"];
        ensure!(
            sum["bytes"].as_f64().is_some_and(|bytes| bytes > 0.0),
            "nothing moved from second {} to {}",
            sum["start"],
            sum["end"]
        );
    }
    ensure!(bits > 0.0, "nothing arrived");
    Ok(bits / 1e6)
}

/// How many accesses to unaligned data each router's kernel had to do for its
/// CPU since boot; `None` where the CPU does them itself. Those of programs
/// count too: ours make none.
pub(crate) fn unaligned(pair: &Pair) -> Result<Option<[u64; 2]>> {
    let mut traps = [0; 2];
    for (vm, traps) in [&pair.a, &pair.b].into_iter().zip(&mut traps) {
        let Some(counter) = vm.machine().traps else {
            return Ok(None);
        };
        *traps = vm.run(&format!("cat {counter}"))?.trim().parse()?;
    }
    Ok(Some(traps))
}

/// Every process named `program` gets SIGTERM; waits until `interface` is gone.
pub(crate) fn terminate(vm: &Vm, program: &str, interface: &str) -> Result<()> {
    vm.run(&format!("killall -TERM {program}"))?;
    vm.wait(
        &format!("the end of {program}"),
        &format!("! pidof {program}"),
        PATIENCE,
    )?;
    let left = vm.run("ip -o link")?;
    ensure!(
        !left.contains(&format!(" {interface}:")),
        "{}: {program} left {interface} behind:\n{left}",
        vm.name()
    );
    Ok(())
}

/// Ends whatever an earlier, failed step may have left running.
pub(crate) fn clear(vm: &Vm) -> Result<()> {
    vm.run(
        "killall -q -KILL ovpnd openvpn iperf3; \
         for link in vpn0 tun0; do ip link delete $link 2>/dev/null; done; rm -f /run/openvpn.log",
    )?;
    Ok(())
}

/// The kernel has nothing to complain about.
pub(crate) fn clean_log(notes: &mut Notes, vm: &Vm) -> Result<()> {
    let log = vm.dmesg()?;
    let found: Vec<_> = kernel_log::trouble(&log).collect();
    ensure!(
        found.is_empty(),
        "{}: the kernel complains:\n{}",
        vm.name(),
        found.join("\n")
    );
    notes.say(&format!(
        "{}: {} lines of kernel log, no complaint",
        vm.name(),
        log.lines().count()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_flow_is_no_flow() {
        let report = |bytes: u32| {
            format!(
                r#"{{"intervals":[{{"sum":{{"start":0,"end":1,"bytes":{bytes}}}}}],
                "end":{{"sum_received":{{"bits_per_second":5e6}}}}}}"#
            )
        };
        assert!((received(&report(1)).unwrap() - 5.0).abs() < 1e-9);
        assert!(received(&report(0)).is_err());
        assert!(received(r#"{"error":"unable to connect"}"#).is_err());
        assert!(received("").is_err());
    }
}
