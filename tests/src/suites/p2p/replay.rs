// SPDX-License-Identifier: GPL-2.0-only
//! The replay window, driven packet by packet, and a captured packet sent again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::{Cipher, Outer, Ping, Sniffer, Soft, SoftTunnel, Tunnel, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::Header;
use crate::{Ctx, check, check_eq};

/// Packets that may arrive late, in packet ids (drivers/net/ovpn/pktid.h).
const WINDOW: u32 = 2048;

impl SoftTunnel {
    /// Sends a packet of this id; tells whether the driver let it through.
    fn offer(&mut self, packet_id: u32) -> Outcome<bool> {
        let header = Header {
            packet_id,
            ..self.soft.header()
        };
        let before = (self.a.stats()?.vpn_rx_packets, self.a.dev()?.rx_dropped);
        let packet = self
            .soft
            .seal(header, &Soft::datagram(&packet_id.to_be_bytes()))?;
        self.soft.send_raw(&packet)?;
        let change = wait_for("the packet to be counted", Duration::from_secs(2), || {
            let after = (self.a.stats()?.vpn_rx_packets, self.a.dev()?.rx_dropped);
            Ok(Some((after.0 - before.0, after.1 - before.1)).filter(|change| *change != (0, 0)))
        })?;
        match change {
            (1, 0) => self.expect(&packet_id.to_be_bytes()).map(|()| true),
            (0, 1) => Ok(false),
            odd => Err(Failure::new(format!(
                "packet id {packet_id}: (let through, dropped) {odd:?}"
            ))),
        }
    }
}

fn window(_: &Ctx) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let top = 10_000;
    let steps: [(u32, bool); 24] = [
        (0, false),
        (1, true),
        (1, false),
        (3, true),
        (2, true),
        (2, false),
        (top, true),
        (top, false),
        // Both edges of the window.
        (top - WINDOW, false),
        (top - WINDOW + 1, true),
        (top - WINDOW + 1, false),
        (top - 1, true),
        (3, false),
        // A jump by one less than the window keeps what is left of it, by the window forgets all.
        (top + WINDOW - 1, true),
        (top, false),
        (top + 1, true),
        (top + 2 * WINDOW - 1, true),
        (top + WINDOW - 1, false),
        (top + WINDOW, true),
        // The end of the number space.
        (u32::MAX - 1, true),
        (u32::MAX, true),
        (u32::MAX, false),
        (u32::MAX - 2, true),
        (1, false),
    ];
    for (n, (packet_id, expected)) in steps.into_iter().enumerate() {
        check_eq!(
            lab.offer(packet_id)?,
            expected,
            "step {n}, packet id {packet_id}, let through"
        );
    }
    Ok(())
}

/// Arrivals out of order, against a plain reference: a set of what was seen.
fn out_of_order(_: &Ctx) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let (mut seen, mut top, mut state) = (BTreeSet::new(), 0u32, 0x2545_f491_4f6c_dd1du64);
    for _ in 0..500 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let reach = if state & 0xf == 0 { 5000 } else { 40 };
        let packet_id = (top + 20)
            .saturating_sub((state >> 8) as u32 % reach)
            .max(1);
        let fresh = packet_id > top || (top - packet_id < WINDOW && !seen.contains(&packet_id));
        check_eq!(
            lab.offer(packet_id)?,
            fresh,
            "packet id {packet_id} after {top}, let through"
        );
        seen.insert(packet_id);
        top = top.max(packet_id);
    }
    Ok(())
}

/// Packets of a real tunnel, captured on the wire and sent again from the true source.
fn captured(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let sniffer = Sniffer::open(&tunnel.a.ns, "veth")?;
    tunnel.works(20)?;
    let packets = sniffer.udp_sent()?;
    check!(
        packets.len() >= 20,
        "captured only {} packets",
        packets.len()
    );
    let before = (tunnel.b.stats()?.vpn_rx_packets, tunnel.b.dev()?.rx_dropped);
    let sock = tunnel
        .a
        .sock
        .as_ref()
        .ok_or_else(|| Failure::new("no socket"))?;
    for packet in &packets {
        sock.send_to(
            packet,
            SocketAddr::new(tunnel.a.remote.ip(), tunnel.a.remote.port()),
        )?;
    }
    let ping = Ping::new(Tunnel::inner(false, 2), 20);
    ping.lossless(&tunnel.a.ns).during("after the replay")?;
    let after = (tunnel.b.stats()?.vpn_rx_packets, tunnel.b.dev()?.rx_dropped);
    check_eq!(
        after,
        (before.0 + 20, before.1 + packets.len() as u64),
        "(let through, dropped)"
    );
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("replay: window", window),
        Case::new("replay: out of order", out_of_order),
        Case::new("replay: captured packets", captured),
    ]
}
