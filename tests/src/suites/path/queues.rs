// SPDX-License-Identifier: GPL-2.0-only
//! The queue in front of the poll: threaded NAPI that is switched under traffic, a poll that gets no processor; keepalives
//! that cannot be sent.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::lab::{
    Cipher, DropReasons, Echo, Outer, Soft, SoftTunnel, Tunnel, before_polls, bind, burst,
    patience, receive_buffer, threaded, wait_for,
};
use crate::nl::ovpn::PRIMARY;
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::KEEPALIVE;
use crate::{Ctx, check, check_eq, note};

const LATER: Duration = Duration::from_secs(10);

fn switched(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let echo = Echo::new(Tunnel::inner(false, 2), 600).interval(2);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| echo.lossless(&tunnel.a.ns));
        let mut switches = 0;
        while !pings.is_finished() {
            for end in [&tunnel.a, &tunnel.b] {
                threaded(&end.ns, "tun", switches % 2 == 0)?;
            }
            switches += 1;
        }
        note!("switched {switches} times");
        check!(switches > 1, "the pings were over before");
        pings.join().unwrap_or_else(|_| Err(Failure::new("panic")))
    })
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
    threaded(&lab.a.ns, "tun", true)?;
    let mut packets = Vec::new();
    for _ in 0..SENT {
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(b"many"))?);
    }
    lab.soft.sock.connect(lab.soft.to)?;
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    before_polls("tun", || burst::send(&lab.soft.sock, &packets))?;
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

/// A sender that changes its processor all the time: its packets come to other queues, whose polls know no order.
fn moving(_: &Ctx) -> Outcome {
    const SENT: u32 = 3_000;
    // Fewer than wait in NAPI for others (net.core.gro_normal_batch).
    const AT_ONCE: u32 = 3;
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    receive_buffer(lab.inner.as_raw_fd(), 16 << 20)?;
    threaded(&lab.a.ns, "tun", true)?;
    // The stack takes its time for each packet, so that two polls would be at it at once.
    let rules = "udp dport 1\n".repeat(10_000);
    let chain = "type filter hook prerouting priority 0\niifname != tun accept";
    let rules = format!("table inet t {{\nchain c {{\n{chain}\n{rules}}}\n}}\n");
    lab.a.ns.cmd("nft -f -").input(rules).ok()?;
    let mut packets = Vec::new();
    for n in 0..SENT {
        let header = lab.soft.header();
        packets.push(lab.soft.seal(header, &Soft::datagram(&n.to_be_bytes()))?);
    }
    let (soft, to) = (lab.soft.sock.try_clone()?, lab.soft.to);
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Outcome {
            for (n, packet) in (0..).zip(&packets) {
                if n % AT_ONCE == 0 {
                    bind(0, (n / AT_ONCE % 2) as usize)?;
                }
                soft.send_to(packet, to)?;
            }
            Ok(())
        });
        let sent = sender.join();
        sent.unwrap_or_else(|_| Err(Failure::new("panic")))
    })?;
    for n in 0..SENT {
        lab.expect(&n.to_be_bytes()).during(format!("packet {n}"))?;
    }
    Ok(())
}

/// A processor without time left has another one open what comes to it, and takes it back; no packet is lost or overtaken.
fn spread(_: &Ctx) -> Outcome {
    const BURST: u32 = 50;
    const ENOUGH: u64 = 2000;
    let alone = std::thread::available_parallelism()?.get() == 1;
    let tunnel = Tunnel::simple()?;
    tunnel.works(5)?;
    let reasons = DropReasons::open(&tunnel.b.ns, "tun")?;
    if !reasons.known() {
        return Err(Failure::Skipped("the driver counts no reasons".into()));
    }
    let from = tunnel.a.ns.udp(false, 4100)?;
    let to = tunnel.b.ns.udp(false, 4100)?;
    from.connect((Tunnel::inner(false, 2), 4100))?;
    to.set_read_timeout(Some(Duration::from_secs(5) * patience()))?;
    let mut next = 0_u32;
    let mut bursts = |wanted: &str, end: &dyn Fn(u64) -> bool| {
        let start = reasons.spread()?;
        wait_for(wanted, LATER, || {
            for id in next..next + BURST {
                from.send(&id.to_be_bytes())?;
            }
            for id in next..next + BURST {
                let mut got = [0; 4];
                to.recv(&mut got).during(format!("datagram {id}"))?;
                check_eq!(u32::from_be_bytes(got), id, "order");
            }
            next += BURST;
            Ok(end(reasons.spread()? - start).then_some(()))
        })
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| -> Outcome {
            bind(0, 0)?;
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            Ok(())
        });
        let sender = scope.spawn(|| -> Outcome {
            bind(0, 0)?;
            let until = Instant::now() + Duration::from_secs(1);
            if alone {
                bursts("a second of packets", &|_| Instant::now() > until)?;
                return check_eq_spread(&reasons, 0);
            }
            bursts("packets opened by another processor", &|n| n > ENOUGH)?;
            let set = |word: &str| {
                let set = format!("ethtool --set-priv-flags tun rx-spread {word}");
                tunnel.b.ns.cmd(&set).ok().map(drop)
            };
            set("off")?;
            let before = reasons.spread()?;
            let until = Instant::now() + Duration::from_secs(1);
            bursts("a second of packets", &|_| Instant::now() > until)?;
            check_eq_spread(&reasons, before)?;
            set("on")?;
            bursts("packets opened by another processor again", &|n| n > ENOUGH)?;
            Ok(())
        });
        let sent = sender.join();
        done.store(true, Ordering::Relaxed);
        for end in [sent, load.join()] {
            end.unwrap_or_else(|_| Err(Failure::new("panic")))?;
        }
        Ok::<_, Failure>(())
    })?;
    note!(
        "{next} packets, {} opened by another processor",
        reasons.spread()?
    );
    let dev = tunnel.b.dev()?;
    check_eq!((dev.rx_dropped, dev.rx_errors), (0, 0), "packets lost");
    Ok(())
}

fn check_eq_spread(reasons: &DropReasons, wanted: u64) -> Outcome {
    check_eq!(
        reasons.spread()?,
        wanted,
        "packets opened by another processor"
    );
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
        Case::new("threaded NAPI: a sender that changes its processor", moving),
        Case::new("a processor without time left", spread),
        Case::new("keepalives that cannot be sent", keepalives),
    ]
}
