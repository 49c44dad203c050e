// SPDX-License-Identifier: GPL-2.0-only
//! Peers whose address changes: followed by packets newer than all others, and by no others.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use crate::lab::{
    Cipher, DropReasons, Hub, Module, Outer, Soft, SoftTunnel, Tunnel, patience, wait_for,
};
use crate::nl::ovpn::{Event, Events, peer};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::PEER_ID_UNDEF;
use crate::{Ctx, check_eq};

const SOON: Duration = Duration::from_secs(5);
/// Longer than any pause that the driver makes between notifications.
const QUIET: Duration = Duration::from_millis(200);

/// A socket of the soft peer at another of its addresses, and what the driver sees of it.
fn elsewhere(lab: &SoftTunnel, address: SocketAddr) -> Outcome<UdpSocket> {
    let sock = lab
        .soft
        .ns
        .enter(|| Ok(UdpSocket::bind(address)?))
        .during(address)?;
    sock.set_read_timeout(Some(SOON * patience()))?;
    Ok(sock)
}

fn remote_of(lab: &SoftTunnel) -> Outcome<[Option<Vec<u8>>; 4]> {
    let attrs = lab.a.nl.peer_get(lab.a.ifindex, lab.a.id)??;
    let kinds = [
        peer::REMOTE_IPV4,
        peer::REMOTE_IPV6,
        peer::REMOTE_PORT,
        peer::REMOTE_IPV6_SCOPE_ID,
    ];
    Ok(kinds.map(|kind| attrs.get(kind).map(<[u8]>::to_vec)))
}

/// Packets that tell nothing of where the peer is now, wherever they come from.
struct Old {
    /// Sent before, and accepted then.
    replayed: Vec<u8>,
    /// With a new packet id, but sealed without the key.
    forged: Vec<u8>,
    /// Authentic and new, but overtaken.
    late: Vec<u8>,
}

impl Old {
    fn make(lab: &mut SoftTunnel, late: Vec<u8>) -> Outcome<Self> {
        let replayed = lab.soft.send(&Soft::datagram(b"once"))?;
        lab.expect(b"once")?;
        let header = lab.soft.header();
        let mut forged = lab.soft.seal(header, &Soft::datagram(b"forged"))?;
        forged
            .iter_mut()
            .last()
            .map(|b| *b ^= 1)
            .unwrap_or_default();
        Ok(Self {
            replayed,
            forged,
            late,
        })
    }

    /// Sends each and demands, as soon as the driver is done with it, that the peer is where it was, that no other place
    /// is told of within the pause between two notifications, and that packets to the peer go to where it is.
    fn stay_without_effect(
        &self,
        lab: &SoftTunnel,
        events: &Events,
        send: impl Fn(&[u8]) -> std::io::Result<()>,
    ) -> Outcome {
        let at = remote_of(lab)?;
        for (what, packet) in [
            ("a replayed packet", &self.replayed),
            ("a forged packet", &self.forged),
            ("a late packet", &self.late),
        ] {
            let late = what == "a late packet";
            // Mainline follows any authentic packet.
            if late && !Module::ours() {
                continue;
            }
            let dropped = lab.a.dev()?.rx_dropped;
            send(packet)?;
            if late {
                lab.expect(b"late")?;
            } else {
                wait_for(what, SOON, || {
                    Ok((lab.a.dev()?.rx_dropped == dropped + 1).then_some(()))
                })?;
            }
            check_eq!(remote_of(lab)?, at, "remote after {what} from elsewhere");
            check_eq!(events.next(QUIET)?, None, "notification after {what}");
            lab.push(b"still here")?;
            let (_, plain) = lab.soft.recv(1).during(what)?;
            check_eq!(plain.ends_with(b"still here"), true, "packet after {what}");
        }
        Ok(())
    }
}

fn moves(cipher: Cipher, outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(cipher, outer)?;
    let v6 = outer.is_v6();
    let places = if v6 {
        [
            "[fd00:10::3]:3003",
            "[fd00:10::4]:3004",
            "[fd00:10::3]:3005",
        ]
    } else {
        ["10.10.0.3:3003", "10.10.0.4:3004", "10.10.0.3:3005"]
    };
    // Deprecated, so that no packet takes them as its source by itself.
    lab.soft.ns.ip(
        "addr add 10.10.0.3/24 dev veth\naddr add 10.10.0.4/24 dev veth\n\
         addr add fd00:10::3/64 dev veth nodad preferred_lft 0\n\
         addr add fd00:10::4/64 dev veth nodad preferred_lft 0",
    )?;
    let events = lab.a.nl.listen(&lab.a.ns)?;
    lab.fence()?;
    events.expect_none().during("at home")?;

    let mut old = None;
    for text in places {
        let address: SocketAddr = text.parse()?;
        // A packet that will have been overtaken, made before and sent after.
        let header = lab.soft.header();
        let late = lab.soft.seal(header, &Soft::datagram(b"late"))?;
        let mut moved = elsewhere(&lab, address)?;
        std::mem::swap(&mut lab.soft.sock, &mut moved);
        lab.fence().during(text)?;
        let event = Event::Float {
            ifindex: lab.a.ifindex,
            id: lab.a.id,
            remote: Some(address),
        };
        events.expect(&event, SOON).during(text)?;
        lab.push(b"follow")?;
        let (_, plain) = lab.soft.recv(1).during("packet to the new address")?;
        check_eq!(
            plain.ends_with(b"follow"),
            true,
            "packet to the new address"
        );
        // From the former address: a packet that is not newer must not drag the peer back there. Nothing else is sent
        // before the look: any good packet from the new address would put things right again.
        let (old_packets, to) = (Old::make(&mut lab, late)?, lab.soft.to);
        let from_old = |packet: &[u8]| moved.send_to(packet, to).map(drop);
        old_packets
            .stay_without_effect(&lab, &events, from_old)
            .during(text)?;
        lab.fence()?;
        events
            .expect_none()
            .during("good packets from the new address")?;
        old = Some(moved);
    }
    drop(old);
    Ok(())
}

/// To a link-local address, which means something with its scope only.
fn link_local(_: &Ctx) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::Aes256, Outer::V6)?;
    for (ns, n) in [(&lab.a.ns, 1), (&*lab.soft.ns, 2)] {
        ns.ip(&format!("addr add fe80::{n}/64 dev veth nodad"))?;
    }
    let scope = |ns: &crate::lab::Ns| {
        ns.ifindex("veth")?
            .ok_or_else(|| Failure::new("there is no veth"))
    };
    let (here, there) = (scope(&lab.a.ns)?, scope(&lab.soft.ns)?);
    let address = |last: &str, port, scope| -> Outcome<SocketAddr> {
        Ok(SocketAddrV6::new(last.parse()?, port, 0, scope).into())
    };
    let events = lab.a.nl.listen(&lab.a.ns)?;
    lab.fence()?;
    lab.soft.sock = elsewhere(&lab, address("fe80::2", 3003, there)?)?;
    lab.soft.to = address("fe80::1", lab.soft.to.port(), there)?;
    lab.fence()?;
    let event = Event::Float {
        ifindex: lab.a.ifindex,
        id: lab.a.id,
        remote: Some(address("fe80::2", 3003, here)?),
    };
    events.expect(&event, SOON)?;
    let [_, _, _, seen] = remote_of(&lab)?;
    check_eq!(seen, Some(here.to_ne_bytes().to_vec()), "scope in PEER_GET");
    lab.push(b"near")?;
    let (_, plain) = lab.soft.recv(1)?;
    check_eq!(plain.ends_with(b"near"), true, "packet to the new address");
    Ok(())
}

/// A server goes by the new address at once when a packet names no peer, and knows the old one no more.
fn server(outer: Outer) -> Outcome {
    let mut hub = Hub::new(Cipher::ChaCha, outer, 3)?;
    let (server, v6) = (Tunnel::inner(false, 1), outer.is_v6());
    let events = hub.server.nl.listen(&hub.server.ns)?;
    for n in 0..3 {
        hub.fence(n)?;
    }
    let far = std::sync::Arc::clone(&hub.soft.first().ok_or_else(|| Failure::new("no peer"))?.ns);
    let mut sock = far.udp(v6, 3003)?;
    sock.set_read_timeout(Some(SOON * patience()))?;
    let swap = |hub: &mut Hub, sock: &mut UdpSocket| {
        hub.soft
            .iter_mut()
            .skip(1)
            .take(1)
            .for_each(|s| std::mem::swap(&mut s.sock, sock));
    };
    swap(&mut hub, &mut sock);
    hub.fence(1)?;
    let event = events.next(SOON)?;
    check_eq!(
        matches!(event, Some(Event::Float { id: 101, .. })),
        true,
        "notification {event:?}"
    );
    hub.reaches(Hub::inside(false, 1), 1)?;
    let set_id = |hub: &mut Hub, id| {
        hub.soft
            .iter_mut()
            .skip(1)
            .take(1)
            .for_each(|s| s.peer_id = id);
    };
    set_id(&mut hub, PEER_ID_UNDEF);
    hub.send(1, Hub::inside(false, 1), server, b"by source")?;
    hub.expect(false, b"by source")?;
    let reasons = DropReasons::open(&hub.server.ns, "mp")?;
    let before = reasons.read()?;
    swap(&mut hub, &mut sock);
    hub.send(1, Hub::inside(false, 1), server, b"from the old address")?;
    hub.fence(0)?;
    if reasons.known() {
        check_eq!(
            reasons.since(&before)?,
            [("rx_unknown_peer".to_owned(), 1)],
            "drops"
        );
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [(Cipher::Aes256, Outer::V4), (Cipher::ChaCha, Outer::V6)]
        .map(|(cipher, outer)| {
            Case::new(format!("float over {outer:?}"), move |_| {
                moves(cipher, outer)
            })
        })
        .into();
    cases.push(Case::new("float to a link-local address", link_local));
    cases.extend(Outer::BOTH.map(|outer| {
        Case::new(format!("float at a server over {outer:?}"), move |_| {
            server(outer)
        })
    }));
    cases
}
