// SPDX-License-Identifier: GPL-2.0-only
//! Key rotation as OpenVPN does it, under traffic, without a packet lost.

use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::{Cipher, DropReasons, Echo, Flow, Param, Tunnel, patience, wait_for};
use crate::nl::ovpn::{Event, PRIMARY, SECONDARY};
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
    const PINGS: u16 = 1000;
    let tunnel = Tunnel::simple()?;
    let flow = Flow {
        mbit: 40,
        ..Flow::tcp(Tunnel::inner(false, 2), 2)
    };
    let ping = Echo::new(Tunnel::inner(true, 2), PINGS).interval(2);
    let (_server, client) = flow.start(&tunnel.b.ns, &tunnel.a.ns)?;
    let pings = ping.start(&tunnel.a.ns)?;
    let mut rotations = 0u32;
    // Every cipher in turn: the two slots may hold different ones.
    for cipher in Cipher::ALL.into_iter().cycle() {
        if !pings.running() {
            break;
        }
        rotations += 1;
        rotate(&tunnel, cipher, (rotations + 1) as u8).during(format!("rotation {rotations}"))?;
    }
    pings.lossless()?;
    let rate = flow.result(client)?;
    crate::note!("{rotations} rotations, TCP at {:.0} Mbit/s", rate.mbit);
    check!(
        rotations >= 10 / patience(),
        "only {rotations} rotations while traffic ran"
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

/// The fault class "packet ids used up with one slot empty": a key's last packet id is sent, nothing after it, userspace
/// is asked for a key once, and the next key carries on, whether it was there already or comes later.
fn used_up(ready: bool) -> Outcome {
    const LEFT: u16 = 10;
    let tunnel = {
        let first = u32::MAX - u32::from(LEFT) + 1;
        let _param = Param::set("first_packet_id", &first.to_string())?;
        Tunnel::simple()?
    };
    let a = &tunnel.a;
    let next = |when: &str| -> Outcome {
        for end in [&tunnel.a, &tunnel.b] {
            end.add_key(SECONDARY, Cipher::ChaCha, 2).during(when)?;
        }
        Ok(())
    };
    if ready {
        next("before the end")?;
    }
    let (events, reasons) = (a.nl.listen(&a.ns)?, DropReasons::open(&a.ns, "tun")?);
    let before = reasons.read()?;
    // As many packets each way as there are ids.
    tunnel.works(LEFT)?;
    events.expect_none()?;
    check_eq!(reasons.since(&before)?, [], "drops while there are ids");
    let sent = a.stats()?.link_tx_packets;
    let sock = a.ns.udp(false, 0)?;
    for _ in 0..5 {
        sock.send_to(b"no id", SocketAddr::new(Tunnel::inner(false, 2), 4000))?;
    }
    check_eq!(
        a.stats()?.link_tx_packets,
        sent,
        "packets sent without an id"
    );
    let asked = Event::KeySwap {
        ifindex: a.ifindex,
        id: a.id,
        key_id: 1,
    };
    events.expect(&asked, Duration::from_secs(1))?;
    check_eq!(
        events.next(Duration::from_millis(200))?,
        None,
        "second notification"
    );
    let lost = reasons.since(&before)?;
    check!(
        lost.iter()
            .all(|(name, _)| ["tx_exhausted", "tx_no_key"].contains(&name.as_str()))
            && lost.iter().map(|(_, n)| n).sum::<u64>() == 5
            && lost
                .iter()
                .any(|(name, n)| name == "tx_exhausted" && *n > 0),
        "drops {lost:?}"
    );
    wait_for("the key to leave its slot", Duration::from_secs(5), || {
        Ok(a.nl
            .key_get(a.ifindex, a.id, PRIMARY)?
            .is_err()
            .then_some(()))
    })?;
    if !ready {
        next("after the end")?;
    }
    for end in [&tunnel.a, &tunnel.b] {
        end.nl.key_swap(end.ifindex, end.id)?;
    }
    tunnel.works(20).during("with the next key")
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("keys: packet ids used up, no other key", |_| used_up(false)),
        Case::new("keys: packet ids used up, the next key is there", |_| {
            used_up(true)
        }),
        Case::new("keys: rotation under ping and iperf3", under_load),
        Case::new("keys: ends swap one after the other", one_sided),
    ]
}
