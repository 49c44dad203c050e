// SPDX-License-Identifier: GPL-2.0-only
//! Key rotation as OpenVPN does it, under traffic, without a packet lost.

use std::time::Duration;

use crate::lab::{Cipher, Flow, Ping, Tunnel, patience, wait_for};
use crate::nl::ovpn::SECONDARY;
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

/// membarrier(2): returns after a grace period of RCU, so after every reader that had looked up a key has done with it.
const MEMBARRIER_CMD_GLOBAL: i32 = 1;

/// Waits until nothing under the former key is under way: all packets begun before now are counted as such after a grace
/// period, and each end has received what the other has begun to send, which holds exactly as long as nothing is lost. An
/// asynchronous engine may still have some of them after the grace period.
fn settled(tunnel: &Tunnel) -> Outcome {
    // SAFETY: membarrier takes plain numbers.
    let ret = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    check_eq!(ret, 0, "membarrier");
    let sent = (
        tunnel.a.stats()?.vpn_tx_packets,
        tunnel.b.stats()?.vpn_tx_packets,
    );
    wait_for(
        "both ends to have received everything",
        Duration::from_secs(5),
        || {
            let received = (
                tunnel.b.stats()?.link_rx_packets,
                tunnel.a.stats()?.link_rx_packets,
            );
            Ok((received.0 >= sent.0 && received.1 >= sent.1).then_some(()))
        },
    )
    .map_err(|e| {
        let now = [&tunnel.a, &tunnel.b].map(|end| (end.stats().ok(), end.dev().ok()));
        e.during(format!("sent {sent:?}, now {now:?}"))
    })
}

/// One renegotiation: the new key is known to both before either sends with it.
fn rotate(tunnel: &Tunnel, cipher: Cipher, n: u8) -> Outcome {
    let ends = [&tunnel.a, &tunnel.b];
    for end in ends {
        end.add_key(SECONDARY, cipher, n)?;
    }
    for end in ends {
        end.nl.key_swap(end.ifindex, end.id)?;
    }
    settled(tunnel)?;
    for end in ends {
        end.nl.key_del(end.ifindex, end.id, SECONDARY)?;
    }
    Ok(())
}

fn under_load(_: &Ctx) -> Outcome {
    const PINGS: u32 = 1000;
    let tunnel = Tunnel::simple()?;
    let flow = Flow {
        mbit: 40,
        ..Flow::tcp(Tunnel::inner(false, 2), 2)
    };
    let ping = Ping::new(Tunnel::inner(true, 2), PINGS).interval(2);
    let (_server, client) = flow.start(&tunnel.b.ns, &tunnel.a.ns)?;
    let mut pings = ping.spawn(&tunnel.a.ns)?;
    let mut rotations = 0u32;
    // Every cipher in turn: the two slots may hold different ones.
    for cipher in Cipher::ALL.into_iter().cycle() {
        if !pings.running() {
            break;
        }
        rotations += 1;
        rotate(&tunnel, cipher, (rotations + 1) as u8).during(format!("rotation {rotations}"))?;
    }
    let stats = Ping::stats(&pings.finish(ping.limit())?)?;
    let rate = flow.result(client)?;
    crate::note!("{rotations} rotations, TCP at {:.0} Mbit/s", rate.mbit);
    check!(
        rotations >= 10 / patience(),
        "only {rotations} rotations while traffic ran"
    );
    check_eq!(
        (stats.sent, stats.received),
        (PINGS, PINGS),
        "pings sent and answered"
    );
    for (name, end) in [("a", &tunnel.a), ("b", &tunnel.b)] {
        let dev = end.dev()?;
        check_eq!(
            (dev.rx_dropped, dev.tx_dropped),
            (0, 0),
            "packets dropped by {name}"
        );
    }
    Ok(())
}

/// Each end swaps at a time of its own; either side's new key is accepted at once.
fn one_sided(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    for end in [&tunnel.a, &tunnel.b] {
        end.add_key(SECONDARY, Cipher::ChaCha, 2)?;
    }
    for end in [&tunnel.a, &tunnel.b, &tunnel.a, &tunnel.b] {
        end.nl.key_swap(end.ifindex, end.id)?;
        tunnel.works(20)?;
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("keys: rotation under ping and iperf3", under_load),
        Case::new("keys: ends swap one after the other", one_sided),
    ]
}
