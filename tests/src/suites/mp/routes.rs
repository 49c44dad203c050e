// SPDX-License-Identifier: GPL-2.0-only
//! Lookup by destination, by the gateway of the route, and the reverse path.

use std::net::IpAddr;

use crate::lab::{Cipher, DropReasons, Hub, Module, Ns, Outer, Tunnel};
use crate::nl::ovpn::cmd;
use crate::tap::{Case, During, Outcome};
use crate::wire::PEER_ID_UNDEF;
use crate::{Ctx, check_eq};

/// LANs behind peers: peer 1 has 192.168.1.0/24 and fd00:c1::/64, peer 2 has 192.168.2.0/24, which its IPv6 address is
/// the gateway of.
const LANS: &str = "route add 192.168.1.0/24 via 10.8.0.11 dev mp\n\
     route add fd00:c1::/64 via fd00:8::b dev mp\n\
     route add 192.168.2.0/24 via inet6 fd00:8::c dev mp\n\
     route add 192.168.66.0/24 via 10.8.0.66 dev mp onlink";

/// Losses since then by the counters of the device, with the reason if this driver tells it.
struct Lost {
    reasons: DropReasons,
    before: (u64, u64, Vec<(String, u64)>),
}

impl Lost {
    fn begin(ns: &Ns) -> Outcome<Self> {
        let (reasons, dev) = (DropReasons::open(ns, "mp")?, ns.netdev("mp")?);
        let before = (dev.rx_dropped, dev.tx_dropped, reasons.read()?);
        Ok(Self { reasons, before })
    }

    /// Demands so many packets lost on receive and on transmit, all for one reason.
    fn expect(&self, ns: &Ns, rx: u64, tx: u64, reason: &str) -> Outcome {
        let dev = ns.netdev("mp")?;
        let (was_rx, was_tx, reasons) = &self.before;
        check_eq!(
            (dev.rx_dropped - was_rx, dev.tx_dropped - was_tx),
            (rx, tx),
            "packets dropped (received, sent)"
        );
        if self.reasons.known() {
            let expected = match rx + tx {
                0 => Vec::new(),
                lost => vec![(reason.to_owned(), lost)],
            };
            check_eq!(self.reasons.since(reasons)?, expected, "drop counters");
        }
        Ok(())
    }
}

fn ip(text: &str) -> Outcome<IpAddr> {
    text.parse().during(text)
}

/// Where the server's packets go.
fn lookup(cipher: Cipher, outer: Outer) -> Outcome {
    let mut hub = Hub::new(cipher, outer, 3)?;
    hub.server.ns.ip(LANS)?;
    for n in 0..3 {
        for v6 in [false, true] {
            hub.reaches(Hub::inside(v6, n), n)?;
        }
    }
    // Mainline knows gateways of the packet's own family only.
    let lans = [
        ("192.168.1.77", 1, true),
        ("fd00:c1::5", 1, true),
        ("192.168.2.3", 2, Module::ours()),
    ];
    for (to, n, _) in lans.into_iter().filter(|(_, _, known)| *known) {
        hub.reaches(ip(to)?, n).during(to)?;
    }
    // A route that changes takes the packets along at once.
    hub.server
        .ns
        .ip("route replace 192.168.1.0/24 via 10.8.0.10 dev mp")?;
    hub.reaches(ip("192.168.1.77")?, 0)
        .during("after the route changed")?;

    let lost = Lost::begin(&hub.server.ns)?;
    for nobody in ["10.8.0.200", "fd00:8::200", "192.168.66.1"] {
        hub.push(ip(nobody)?, b"lost")?;
    }
    lost.expect(&hub.server.ns, 0, 3, "tx_no_peer")?;
    for n in 0..3 {
        hub.fence(n)?;
    }
    Ok(())
}

/// Packets that peers may send: from their own addresses and from the LANs routed to them, and nothing else.
fn reverse_path(cipher: Cipher, outer: Outer) -> Outcome {
    let mut hub = Hub::new(cipher, outer, 3)?;
    hub.server.ns.ip(LANS)?;
    let rows: [(u8, &str, bool); 14] = [
        (0, "10.8.0.10", true),
        (0, "10.8.0.11", false),
        (0, "10.8.0.1", false),
        (0, "10.8.0.99", false),
        (0, "203.0.113.1", false),
        (0, "192.168.1.5", false),
        (1, "192.168.1.5", true),
        (2, "192.168.2.200", Module::ours()),
        (1, "192.168.2.200", false),
        (0, "fd00:8::a", true),
        (0, "fd00:8::b", false),
        (0, "2001:db8::1", false),
        (1, "fd00:c1::5", true),
        (2, "fd00:c1::5", false),
    ];
    for (n, src, accepted) in rows {
        let src_ip = ip(src)?;
        let v6 = src_ip.is_ipv6();
        let before = hub
            .server
            .nl
            .stats(hub.server.ifindex, 100 + u32::from(n))?;
        let text = format!("from {src} by {n}");
        hub.send(n, src_ip, Tunnel::inner(v6, 1), text.as_bytes())?;
        if accepted {
            hub.expect(v6, text.as_bytes()).during(&text)?;
        }
        hub.fence(n).during(&text)?;
        let after = hub
            .server
            .nl
            .stats(hub.server.ifindex, 100 + u32::from(n))?;
        check_eq!(
            (
                after.link_rx_packets - before.link_rx_packets,
                after.vpn_rx_packets - before.vpn_rx_packets
            ),
            (2, 1 + u64::from(accepted)),
            "{text}: packets of the link and of the tunnel, with one good one"
        );
    }
    // All that was refused, and nothing else, is what the counters have.
    let refused = rows.iter().filter(|(_, _, accepted)| !accepted).count() as u64;
    let lost = Lost {
        reasons: DropReasons::open(&hub.server.ns, "mp")?,
        before: (0, 0, DropReasons::open(&hub.server.ns, "mp")?.zeros()),
    };
    lost.expect(&hub.server.ns, refused, 0, "rx_reverse_path")?;
    // A client's searches on its link end here as well, and do no harm.
    let lost = Lost::begin(&hub.server.ns)?;
    let link = ["fe80::1", "fe80::a", "::", "169.254.1.5", "0.0.0.0"];
    for (src, n) in link.into_iter().zip(0..) {
        let src = ip(src)?;
        hub.send(0, src, Tunnel::inner(src.is_ipv6(), 1), b"who is there")?;
        hub.fence(n % 3).during(src)?;
    }
    lost.expect(&hub.server.ns, link.len() as u64, 0, "rx_link_local")
}

/// From one client to another through the server.
fn client_to_client(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, 3)?;
    hub.server.ns.enable_forwarding()?;
    for v6 in [false, true] {
        let text = format!("client to client, IPv6: {v6}");
        let (src, dst) = (Hub::inside(v6, 0), Hub::inside(v6, 2));
        hub.send(0, src, dst, text.as_bytes())?;
        hub.receives(2, text.as_bytes()).during(&text)?;
    }
    Ok(())
}

/// PEER_SET moves an inner address; the old one leads nowhere from then on, and may belong to another.
fn readdressed(_: &Ctx) -> Outcome {
    let mut hub = Hub::new(Cipher::Aes256, Outer::V4, 2)?;
    let (new, old) = (Hub::vpn(7), Hub::inside(false, 0));
    hub.server.peer(cmd::PEER_SET, 100, None, new)??;
    for v6 in [false, true] {
        hub.reaches(Hub::inside(v6, 7), 0)?;
    }
    let lost = Lost::begin(&hub.server.ns)?;
    hub.push(old, b"lost")?;
    lost.expect(&hub.server.ns, 0, 1, "tx_no_peer")?;
    let lost = Lost::begin(&hub.server.ns)?;
    hub.send(0, old, Tunnel::inner(false, 1), b"not mine any more")?;
    hub.fence(1)?;
    lost.expect(&hub.server.ns, 1, 0, "rx_reverse_path")?;
    hub.server.peer(cmd::PEER_SET, 101, None, Hub::vpn(0))??;
    hub.reaches(old, 1)
}

/// A packet that names no peer is its whose address it comes from.
fn by_source(outer: Outer) -> Outcome {
    let mut hub = Hub::new(Cipher::Aes128, outer, 3)?;
    for n in 0..3u8 {
        let text = format!("no peer id, by {n}");
        let id = hub.soft.get(usize::from(n)).map_or(0, |s| s.peer_id);
        let set = |hub: &mut Hub, id| {
            hub.soft
                .iter_mut()
                .skip(n.into())
                .take(1)
                .for_each(|s| s.peer_id = id);
        };
        set(&mut hub, PEER_ID_UNDEF);
        hub.send(
            n,
            Hub::inside(false, n),
            Tunnel::inner(false, 1),
            text.as_bytes(),
        )?;
        hub.expect(false, text.as_bytes()).during(&text)?;
        set(&mut hub, id);
        hub.fence(n)?;
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let variants = [(Cipher::Aes256, Outer::V4), (Cipher::ChaCha, Outer::V6)];
    let mut cases = Vec::new();
    for (cipher, outer) in variants {
        let name = format!("{} over {outer:?}", cipher.name());
        cases.push(Case::new(format!("lookup: {name}"), move |_| {
            lookup(cipher, outer)
        }));
        cases.push(Case::new(format!("reverse path: {name}"), move |_| {
            reverse_path(cipher, outer)
        }));
    }
    cases.push(Case::new("client to client", client_to_client));
    cases.push(Case::new("inner addresses changed", readdressed));
    cases.extend(Outer::BOTH.map(|outer| {
        Case::new(format!("no peer id, over {outer:?}"), move |_| {
            by_source(outer)
        })
    }));
    cases
}
