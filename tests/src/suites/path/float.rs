// SPDX-License-Identifier: GPL-2.0-only
//! Peers that move, by the thousand: what a listener hears of it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::lab::{Cipher, Hub, Module, Outer, Pair, Soft, SoftTunnel, Tunnel};
use crate::nl::ovpn::{Event, Events, Reason};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire;
use crate::{Ctx, check, check_eq, note};

/// Longer than any pause the driver makes between notifications.
const QUIET: Duration = Duration::from_millis(200);

/// Sends the next packet of a soft peer from another socket.
fn send_from(sock: &UdpSocket, soft: &mut Soft, plain: &[u8]) -> Outcome {
    let header = soft.header();
    let packet = soft.seal(header, plain)?;
    sock.send_to(&packet, soft.to)?;
    Ok(())
}

fn address(outer: Outer, port: u16) -> SocketAddr {
    SocketAddr::new(Pair::outer(outer == Outer::V6, 2), port)
}

/// All that waits for a listener, and the error that told it of a loss.
fn heard(events: &Events) -> (Vec<Event>, Option<Failure>) {
    let mut all = Vec::new();
    loop {
        match events.next(QUIET) {
            Ok(Some(event)) => all.push(event),
            Ok(None) => return (all, None),
            Err(failure) => return (all, Some(failure)),
        }
    }
}

/// A peer that comes from two addresses in turns, thousands of times, while its listener sleeps: that one is not
/// overrun, and knows the last address when it wakes up. Mainline's overruns it, which shows that this is a storm.
fn storm(outer: Outer) -> Outcome {
    const FLOATS: u32 = 4000;
    let mut lab = SoftTunnel::new(Cipher::ChaCha, outer)?;
    let other = lab.soft.ns.udp(outer == Outer::V6, 1195)?;
    let events = lab.a.nl.listen(&lab.a.ns)?;
    events.usual_buffer()?;
    for round in 0..FLOATS / 2 {
        send_from(&other, &mut lab.soft, &Soft::datagram(b"elsewhere"))?;
        lab.expect(b"elsewhere")?;
        lab.fence().during(format!("round {round}"))?;
    }
    send_from(&other, &mut lab.soft, &Soft::datagram(b"the last"))?;
    lab.expect(b"the last")?;
    let (told, overrun) = heard(&events);
    note!(
        "{FLOATS} floats, {} notifications, overrun {}",
        told.len(),
        overrun.is_some()
    );
    if !Module::ours() {
        check!(overrun.is_some(), "mainline did not overrun its listener");
        return Ok(());
    }
    check!(overrun.is_none(), "the listener was overrun");
    let last = Event::Float {
        ifindex: lab.a.ifindex,
        id: lab.a.id,
        remote: Some(address(outer, 1195)),
    };
    check_eq!(told.last(), Some(&last), "last notification");
    check!(
        told.len() as u32 * 4 < FLOATS,
        "{} notifications",
        told.len()
    );
    Ok(())
}

/// A hundred peers move at the same moment: each is told of, with where it is now.
fn crowd(_: &Ctx) -> Outcome {
    const PEERS: u8 = 100;
    const MOVED: u16 = 3000;
    let mut hub = Hub::new(Cipher::ChaCha, Outer::V4, PEERS)?;
    let events = hub.server.nl.listen(&hub.server.ns)?;
    events.usual_buffer()?;
    let far = hub
        .soft
        .first()
        .ok_or_else(|| Failure::new("no peer"))?
        .ns
        .clone();
    let (mut expected, mut socks) = (BTreeMap::new(), Vec::new());
    for (n, soft) in hub.soft.iter_mut().enumerate() {
        let sock = far.udp(false, MOVED + n as u16)?;
        let (src, dst) = (Hub::inside(false, n as u8), Tunnel::inner(false, 1));
        send_from(&sock, soft, &wire::ip_udp(src, dst, 4000, 4000, b"moved")?)?;
        expected.insert(soft.peer_id, Some(address(Outer::V4, MOVED + n as u16)));
        socks.push(sock);
    }
    let (told, overrun) = heard(&events);
    check!(
        overrun.is_none(),
        "overrun after {} notifications",
        told.len()
    );
    let floats = told.iter().map(|event| match event {
        Event::Float { id, remote, .. } => Ok((*id, *remote)),
        other => Err(Failure::new(format!("{other:?}"))),
    });
    let floats: BTreeMap<_, _> = floats.collect::<Outcome<_>>()?;
    check_eq!(floats, expected, "peers and where they are");
    Ok(())
}

/// The end of a peer is the last that is heard of it, also when it has just moved.
fn deleted_after(_: &Ctx) -> Outcome {
    for _ in 0..4 {
        let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
        let other = lab.soft.ns.udp(false, 1195)?;
        let events = lab.a.nl.listen(&lab.a.ns)?;
        for _ in 0..3 {
            send_from(&other, &mut lab.soft, &Soft::datagram(b"elsewhere"))?;
            lab.expect(b"elsewhere")?;
            lab.fence()?;
        }
        lab.a.nl.peer_del(lab.a.ifindex, lab.a.id)?;
        let (told, _) = heard(&events);
        let end = Event::PeerDel {
            ifindex: lab.a.ifindex,
            id: lab.a.id,
            reason: Reason::Userspace,
        };
        check_eq!(
            told.last(),
            Some(&end),
            "last of {} notifications",
            told.len()
        );
    }
    Ok(())
}

/// One float is told of at once.
fn prompt(_: &Ctx) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::ChaCha, Outer::V4)?;
    let other = lab.soft.ns.udp(false, 1195)?;
    let events = lab.a.nl.listen(&lab.a.ns)?;
    send_from(&other, &mut lab.soft, &Soft::datagram(b"elsewhere"))?;
    let float = Event::Float {
        ifindex: lab.a.ifindex,
        id: lab.a.id,
        remote: Some(address(Outer::V4, 1195)),
    };
    // Without any pause on an idle machine; what counts is that it comes without another float behind it.
    events.expect(&float, Duration::from_secs(1))
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Outer::BOTH
        .map(|outer| Case::new(format!("float storm over {outer:?}"), move |_| storm(outer)))
        .into();
    cases.push(Case::new("100 peers float at once", crowd));
    cases.push(Case::new("float before deletion", deleted_after));
    cases.push(Case::new("float is told at once", prompt));
    cases
}
