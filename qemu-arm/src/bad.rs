// SPDX-License-Identifier: GPL-2.0-only
//! Faults that must do no harm: wrong keys, and a module that goes away in use.

use anyhow::{Result, ensure};

use crate::daemon::{self, INTERFACE};
use crate::lab::Pair;
use crate::probe::{self, PATIENCE, no_ping, ping};
use crate::report::Report;
use crate::underlay::load;

/// Seconds iperf3 would run: longer than a slow machine takes to load, unload and look. It is killed before.
const FLOW: u64 = 600;

/// Each case clears away what one before may have left.
pub(crate) fn steps(report: &mut Report, pair: &Pair) -> Result<()> {
    report.step("a wrong key carries nothing and hurts nobody", |notes| {
        clear(pair)?;
        daemon::share_key(pair)?;
        daemon::wrong_key(&pair.b)?;
        start(pair)?;
        no_ping(notes, &pair.a, "10.8.0.2")?;
        no_ping(notes, &pair.b, "10.8.0.1")?;
        for vm in [&pair.a, &pair.b] {
            daemon::status(vm)?;
        }
        stop(pair)?;
        daemon::share_key(pair)?;
        start(pair)?;
        ping(notes, &pair.a, "10.8.0.2")?;
        stop(pair)
    })?;

    report.step("the module can be unloaded under traffic", |notes| {
        clear(pair)?;
        daemon::share_key(pair)?;
        start(pair)?;
        daemon::serve(&pair.b)?;
        let flow = pair.a.start(&format!(
            "iperf3 -c 10.8.0.2 -t {FLOW} --connect-timeout 5000"
        ))?;
        pair.a.wait(
            "traffic in the tunnel",
            &format!("test $(cat /sys/class/net/{INTERFACE}/statistics/tx_packets) -gt 1000"),
            PATIENCE,
        )?;
        // The daemon sleeps meanwhile, or it would have the interface back, and
        // with it the module, before anyone looks.
        pair.a.run("killall -STOP ovpnd")?;
        pair.a.run("rmmod ovpn")?;
        let links = pair.a.run("ip -o link")?;
        ensure!(
            !links.contains(&format!(" {INTERFACE}:")),
            "the module is gone, and yet the links are:\n{links}"
        );
        notes.say("rmmod ovpn: the module and its interface are gone");
        pair.a.run("killall -CONT ovpnd")?;
        pair.a.run("killall -KILL iperf3")?;
        drop(flow.wait(PATIENCE)?);
        stop(pair)?;
        load(&pair.a)?;
        start(pair)?;
        ping(notes, &pair.a, "10.8.0.2")?;
        stop(pair)
    })
}

fn clear(pair: &Pair) -> Result<()> {
    probe::clear(&pair.a)?;
    probe::clear(&pair.b)
}

fn start(pair: &Pair) -> Result<()> {
    daemon::start(&pair.a)?;
    daemon::start(&pair.b)
}

fn stop(pair: &Pair) -> Result<()> {
    for vm in [&pair.a, &pair.b] {
        probe::terminate(vm, "ovpnd", INTERFACE)?;
    }
    Ok(())
}
