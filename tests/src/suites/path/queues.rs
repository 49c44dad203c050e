// SPDX-License-Identifier: GPL-2.0-only
//! The queue in front of the poll: threaded NAPI that is switched under traffic, a poll that gets no processor; keepalives
//! that cannot be sent.

use std::fs;
use std::time::Duration;

use crate::lab::{Cipher, DropReasons, Echo, Ns, Outer, Soft, SoftTunnel, Tunnel, burst, wait_for};
use crate::nl::ovpn::PRIMARY;
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::KEEPALIVE;
use crate::{Ctx, check, check_eq, note};

const LATER: Duration = Duration::from_secs(10);

/// Has `tun` polled by threads of its own, or by softirqs again. A namespace's sysfs is that of the mount's maker.
fn threaded(ns: &Ns, on: bool) -> Outcome {
    let write = format!(
        "mount -t sysfs s /sys && echo {} > /sys/class/net/tun/threaded",
        u8::from(on)
    );
    ns.cmd("unshare -m sh -c").arg(write).ok().map(drop)
}

fn switched(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let echo = Echo::new(Tunnel::inner(false, 2), 600).interval(2);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| echo.lossless(&tunnel.a.ns));
        let mut switches = 0;
        while !pings.is_finished() {
            for end in [&tunnel.a, &tunnel.b] {
                threaded(&end.ns, switches % 2 == 0)?;
            }
            switches += 1;
        }
        note!("switched {switches} times");
        check!(switches > 1, "the pings were over before");
        pings.join().unwrap_or_else(|_| Err(Failure::new("panic")))
    })
}

/// Ids of the threads that poll `tun`.
fn pollers() -> Outcome<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|n| n.to_str()?.parse().ok()) else {
            continue;
        };
        // A process may end meanwhile.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("napi/tun-") {
            found.push(id);
        }
    }
    Ok(found)
}

/// Binds a thread (0: this one) to the first processor.
fn bind(thread: i32) -> Outcome {
    // SAFETY: all-zero is a valid set, of the size given, and only read by the call.
    let ret = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &raw const set)
    };
    check_eq!(ret, 0, "sched_setaffinity of {thread}");
    Ok(())
}

/// Has this thread run before all others of its processor, or as usual.
fn urgent(on: bool) -> Outcome {
    let policy = if on {
        libc::SCHED_FIFO
    } else {
        libc::SCHED_OTHER
    };
    // The kernel's `struct sched_param` (uapi/linux/sched/types.h) is the priority alone; musl's is longer, and its
    // function refuses every call.
    let priority = libc::c_int::from(on);
    // SAFETY: the priority is only read.
    let ret =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    check_eq!(ret, 0, "sched_setscheduler");
    Ok(())
}

/// More datagrams than the queue holds while its poll cannot run: each is opened or counted, none both.
fn overflow(_: &Ctx) -> Outcome {
    const SENT: u64 = 10_000;
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    if !reasons.known() {
        return Err(Failure::Skipped("the driver counts no reasons".into()));
    }
    let before = reasons.read()?;
    threaded(&lab.a.ns, true)?;
    let mut packets = Vec::new();
    for _ in 0..SENT {
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(b"many"))?);
    }
    lab.soft.sock.connect(lab.soft.to)?;
    let threads = pollers()?;
    check!(!threads.is_empty(), "no thread polls the interface");
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> Outcome {
            for thread in [0].iter().chain(&threads) {
                bind(*thread)?;
            }
            let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            urgent(true)?;
            let sent = burst::send(&lab.soft.sock, &packets);
            urgent(false)?;
            sent
        });
        sender.join().unwrap_or_else(|_| Err(Failure::new("panic")))
    })?;
    let full = || -> Outcome<u64> {
        let lost = reasons.since(&before)?;
        check!(
            lost.iter().all(|(name, _)| name == "rx_queue_full"),
            "drops: {lost:?}"
        );
        Ok(lost.iter().map(|(_, n)| n).sum())
    };
    wait_for("every packet", LATER, || {
        Ok((lab.a.stats()?.link_rx_packets + full()? == SENT).then_some(()))
    })
    .map_err(|e| e.during(format!("{:?}, {:?}", reasons.since(&before), lab.a.stats())))?;
    let (full, stats) = (full()?, lab.a.stats()?);
    note!("{full} of {SENT} did not fit");
    check!(full > 0, "all fitted");
    check_eq!(lab.a.dev()?.rx_dropped, full, "rx_dropped");
    check_eq!(stats.vpn_rx_packets, SENT - full, "packets opened");
    Ok(())
}

/// Without a key a keepalive is counted as lost each time, and the first one after that leaves.
fn keepalives(_: &Ctx) -> Outcome {
    let lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let before = lab.a.dev()?.tx_dropped;
    lab.a.nl.key_del(lab.a.ifindex, lab.a.id, PRIMARY)?;
    lab.a.nl.keepalive(lab.a.ifindex, lab.a.id, 1, 60)?;
    wait_for("two keepalives that cannot be sent", LATER, || {
        Ok((lab.a.dev()?.tx_dropped - before >= 2).then_some(()))
    })?;
    check_eq!(lab.a.stats()?.link_tx_packets, 0, "packets sent");
    lab.a.add_key(PRIMARY, Cipher::ChaCha, 1)?;
    let (header, plain) = lab.soft.recv(1).during("keepalive")?;
    check_eq!(
        (header.packet_id, plain.as_slice()),
        (1, &KEEPALIVE[..]),
        "packet id and content"
    );
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("threaded NAPI: switched under pings", switched),
        Case::new("threaded NAPI: the queue overflows", overflow),
        Case::new("keepalives that cannot be sent", keepalives),
    ]
}
