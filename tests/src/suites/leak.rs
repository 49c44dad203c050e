// SPDX-License-Identifier: GPL-2.0-only
//! Nothing stays behind: the module is loaded, used and unloaded ten times, then kmemleak looks for orphans.

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{
    Cipher, Flow, Module, Outer, Ping, Server, Soft, SoftTunnel, StreamTunnel, Tunnel, TunnelSpec,
    framed, iperf,
};
use crate::nl::ovpn::SECONDARY;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
const ROUNDS: usize = 10;
/// kmemleak reports no object younger than this (MSECS_MIN_AGE in mm/kmemleak.c), so it has to be waited out.
const MIN_AGE: Duration = Duration::from_millis(5500);

/// Tells kmemleak to do something; skips the case where there is none.
pub(super) fn command(what: &str) -> Outcome {
    match fs::write(KMEMLEAK, what) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Failure::Skipped(
            "the kernel has no kmemleak, or debugfs is not mounted".into(),
        )),
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => Err(Failure::Skipped(
            "kmemleak is off: boot with kmemleak=on".into(),
        )),
        Err(e) => Err(e).during(format!("kmemleak: {what}")),
    }
}

/// kmemleak's findings about memory that was lost before now.
pub(super) fn scan() -> Outcome<String> {
    thread::sleep(MIN_AGE);
    command("scan")?;
    fs::read_to_string(KMEMLEAK).during("kmemleak report")
}

/// A tunnel's whole life with every kind of object in it: both slots, replaced keys, drops, notifications.
fn use_it(round: usize) -> Outcome<Tunnel> {
    let outer = Outer::BOTH[round % 2];
    let mut soft = SoftTunnel::new(Cipher::ALL[round % 4], outer)?;
    let packet = soft.soft.send(&Soft::datagram(b"leak"))?;
    soft.expect(b"leak")?;
    soft.soft.send_raw(&packet)?;
    for len in [3, 8, 23, packet.len() - 1] {
        soft.soft.send_raw(packet.get(..len).unwrap_or_default())?;
    }
    soft.soft.send_raw(&[0x38; 40])?;
    soft.fence()?;
    let mut stream = StreamTunnel::new(Cipher::ALL[round % 4], Outer::TCP[round % 2])?;
    stream.works()?;
    stream.soft.write(&framed(&[0x20; 40]))?;
    Server::new()?.crowd(0..300)?;
    let spec = TunnelSpec {
        cipher: Cipher::ALL[(round + 1) % 4],
        outer,
        mtu: None,
    };
    let tunnel = Tunnel::new(spec)?;
    for end in [&tunnel.a, &tunnel.b] {
        end.add_key(SECONDARY, spec.cipher, 2)?;
        end.add_key(SECONDARY, Cipher::Aes128, 3)?;
        end.nl.keepalive(end.ifindex, end.id, 1, 60)?;
    }
    let flow = Flow {
        mbit: 20,
        ..Flow::tcp(Tunnel::inner(false, 2), 1)
    };
    iperf(&flow, &tunnel.b.ns, &tunnel.a.ns)?;
    for end in [&tunnel.a, &tunnel.b] {
        end.nl.key_swap(end.ifindex, end.id)?;
        end.add_peer()?;
    }
    for end in [&tunnel.a, &tunnel.b] {
        end.add_key(crate::nl::ovpn::PRIMARY, spec.cipher, 4)?;
    }
    tunnel.works(20)?;
    Ok(tunnel)
}

fn ten_times(ctx: &Ctx) -> Outcome {
    command("clear")?;
    for round in 0..ROUNDS {
        ctx.module.reload().during(format!("round {round}"))?;
        let tunnel = use_it(round).during(format!("round {round}"))?;
        // Every other time the module goes while it is in use: devices, peers and packets go with it.
        let in_use = round % 2 == 1;
        let pings = Ping::new(Tunnel::inner(false, 2), 100_000)
            .interval(1)
            .spawn(&tunnel.a.ns)?;
        if in_use {
            Module::unload().during("under traffic")?;
            check_eq!(
                tunnel.a.ns.ifindex("tun")?,
                None,
                "device after the module has gone"
            );
        }
        drop((pings, tunnel));
        if !in_use {
            Module::unload()?;
        }
        check!(!Module::loaded(), "the module is still there");
    }
    for scan in 1..=2 {
        let since = Instant::now();
        let report = self::scan()?;
        note!(
            "scan {scan}: {} bytes of report, {:.1} s",
            report.len(),
            since.elapsed().as_secs_f64()
        );
        check!(report.is_empty(), "kmemleak found\n{report}");
    }
    ctx.module.load()
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("ten times loaded, used, unloaded", ten_times)]
}
