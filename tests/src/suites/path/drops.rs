// SPDX-License-Identifier: GPL-2.0-only
//! Each reason for a drop that can be had without breaking memory or engines: counted once, and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::lab::{Cipher, DropReasons, Hub, Netdev, Outer, Pair, Param, Tunnel, wait_for};
use crate::nl::ovpn::PRIMARY;
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::{self, DATA_V1, DATA_V2, Header};
use crate::{Ctx, check, check_eq};

const SOON: Duration = Duration::from_secs(5);

/// The counters that one packet must change.
struct Row {
    /// The counter's name.
    reason: &'static str,
    /// The peer that has it in its own counters, too.
    peer: Option<u32>,
}

struct Lab {
    hub: Hub,
    reasons: DropReasons,
    seen: Vec<&'static str>,
}

/// The interface's totals, its reasons, and each peer's.
type Counts = (Netdev, Vec<(String, u64)>, Vec<(u32, Vec<(u16, u32)>)>);

impl Lab {
    fn counts(&self) -> Outcome<Counts> {
        let server = &self.hub.server;
        let peers = server.ids()?.into_iter();
        let drops = peers.map(|id| Ok((id, server.nl.peer_drops(server.ifindex, id)?)));
        Ok((
            server.ns.netdev("mp")?,
            self.reasons.read()?,
            drops.collect::<Outcome<_>>()?,
        ))
    }

    /// Does something that loses one packet, and demands that it is counted as this and as nothing else.
    fn lose(&mut self, row: Row, act: impl FnOnce(&mut Hub) -> Outcome) -> Outcome {
        let before = self.counts()?;
        act(&mut self.hub).during(row.reason)?;
        let lost = wait_for(row.reason, SOON, || {
            let lost = self.reasons.since(&before.1)?;
            Ok((!lost.is_empty()).then_some(lost))
        })?;
        check_eq!(lost, [(row.reason.to_owned(), 1)], "reasons");
        let after = self.counts()?;
        let totals = (
            after.0.rx_dropped - before.0.rx_dropped,
            after.0.tx_dropped - before.0.tx_dropped,
        );
        let expected = if row.reason.starts_with("rx_") {
            (1, 0)
        } else {
            (0, 1)
        };
        check_eq!(totals, expected, "{}: rx_dropped, tx_dropped", row.reason);
        let number = before.1.iter().position(|(name, _)| name == row.reason);
        let number = number.ok_or_else(|| Failure::new("no such counter"))? as u16;
        for ((id, old), (_, new)) in before.2.iter().zip(&after.2) {
            let of = |all: &[(u16, u32)], n| all.iter().find(|(at, _)| *at == n).map_or(0, |d| d.1);
            for (n, (name, _)) in (0..).zip(&before.1) {
                let more = of(new, n) - of(old, n);
                let expected = u32::from(n == number && row.peer == Some(*id));
                check_eq!(more, expected, "{}: {name} of peer {id}", row.reason);
            }
        }
        self.seen.push(row.reason);
        Ok(())
    }
}

/// A packet of the first peer, changed on its way, to the server.
fn sent(
    hub: &mut Hub,
    change: impl FnOnce(&mut Header),
    spoil: impl FnOnce(&mut Vec<u8>),
) -> Outcome {
    let plain = wire::ip_udp(
        Hub::inside(false, 0),
        Tunnel::inner(false, 1),
        4000,
        4000,
        b"lost",
    )?;
    let soft = hub
        .soft
        .first_mut()
        .ok_or_else(|| Failure::new("no peer"))?;
    let mut header = soft.header();
    change(&mut header);
    let mut packet = soft.seal(header, &plain)?;
    spoil(&mut packet);
    soft.send_raw(&packet)
}

fn table(_: &Ctx) -> Outcome {
    let hub = Hub::new(Cipher::ChaCha, Outer::V4, 2)?;
    let reasons = DropReasons::open(&hub.server.ns, "mp")?;
    if !reasons.known() {
        return Err(Failure::Skipped("the driver counts no reasons".into()));
    }
    let mut lab = Lab {
        hub,
        reasons,
        seen: Vec::new(),
    };
    received(&mut lab)?;
    to_send(&mut lab)?;
    crate::note!("{} reasons: {}", lab.seen.len(), lab.seen.join(" "));
    check!(lab.seen.len() >= 17, "only {} reasons", lab.seen.len());
    Ok(())
}

fn received(lab: &mut Lab) -> Outcome {
    let nobody = |reason| Row { reason, peer: None };
    let first = |reason| Row {
        reason,
        peer: Some(100),
    };
    let same = |_: &mut Header| ();
    lab.lose(nobody("rx_short"), |hub| sent(hub, same, |p| p.truncate(3)))?;
    lab.lose(nobody("rx_data_v1"), |hub| {
        sent(hub, |h| h.opcode = DATA_V1, |_| ())
    })?;
    lab.lose(nobody("rx_unknown_peer"), |hub| {
        sent(hub, |h| h.peer_id = 4711, |_| ())
    })?;
    lab.lose(first("rx_runt"), |hub| sent(hub, same, |p| p.truncate(23)))?;
    lab.lose(first("rx_no_key"), |hub| {
        sent(hub, |h| h.key_id = 5, |_| ())
    })?;
    lab.lose(first("rx_auth_failed"), |hub| {
        sent(hub, same, |p| p.iter_mut().skip(30).for_each(|b| *b ^= 1))
    })?;
    lab.lose(first("rx_replay"), |hub| {
        sent(hub, |h| h.packet_id = 0, |_| ())
    })?;
    let inner = |hub: &mut Hub, plain: &[u8]| -> Outcome {
        let soft = hub
            .soft
            .first_mut()
            .ok_or_else(|| Failure::new("no peer"))?;
        soft.send(plain).map(drop)
    };
    lab.lose(first("rx_bad_protocol"), |hub| inner(hub, &[0x15; 40]))?;
    let from = |src: &str| -> Outcome<Vec<u8>> {
        let src: IpAddr = src.parse()?;
        wire::ip_udp(src, Tunnel::inner(src.is_ipv6(), 1), 4000, 4000, b"lost")
    };
    let (strange, near) = (from("203.0.113.5")?, from("fe80::5")?);
    lab.lose(first("rx_reverse_path"), |hub| inner(hub, &strange))?;
    lab.lose(first("rx_link_local"), |hub| inner(hub, &near))?;
    // Packets for a stack that is not there.
    lab.hub.server.ns.ip("link set mp down")?;
    lab.lose(first("rx_refused"), |hub| sent(hub, same, |_| ()))?;
    lab.hub.server.ns.ip("link set mp up")?;
    check_eq!(DATA_V2, 9, "opcode");
    Ok(())
}

fn to_send(lab: &mut Lab) -> Outcome {
    let nobody = |reason| Row { reason, peer: None };
    let second = |reason| Row {
        reason,
        peer: Some(200),
    };
    let to: IpAddr = Ipv4Addr::new(10, 8, 0, 200).into();
    lab.lose(nobody("tx_no_peer"), |hub| hub.push(to, b"lost"))?;
    lab.lose(nobody("tx_bad_protocol"), |hub| {
        // An ethertype for experiments (IEEE 802).
        crate::suites::socket::inject_raw(&hub.server.ns, "mp", 0x88b5, &[0; 60])
    })?;
    let ip = match to {
        IpAddr::V4(ip) => (Some(ip), None),
        IpAddr::V6(ip) => (None, Some(ip)),
    };
    let server = &lab.hub.server;
    // A place that no route leads to.
    let nowhere = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 1194);
    server.peer_new(200, nowhere, ip)??;
    lab.lose(second("tx_no_key"), |hub| hub.push(to, b"lost"))?;
    let key = |lab: &Lab, n| -> Outcome {
        let server = &lab.hub.server;
        server
            .nl
            .key_new(server.ifindex, 200, PRIMARY, &Cipher::ChaCha.key(n, true))
    };
    key(lab, 9)?;
    lab.lose(second("tx_no_route"), |hub| hub.push(to, b"lost"))?;
    lab.hub.server.ns.ip(&format!(
        "route add 198.51.100.0/24 via {} dev veth",
        Pair::outer(false, 2)
    ))?;
    lab.lose(second("tx_too_big"), |hub| {
        super::super::socket::inject_large(&hub.server.ns, "mp", [10, 8, 0, 200], 65_495)
    })?;
    {
        let _last = Param::set("first_packet_id", &u32::MAX.to_string())?;
        key(lab, 10)?;
    }
    lab.hub.push(to, b"the last")?;
    lab.lose(second("tx_exhausted"), |hub| hub.push(to, b"lost"))?;
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("each reason for a drop is counted once", table)]
}
