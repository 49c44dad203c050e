// SPDX-License-Identifier: GPL-2.0-only
//! Peers over TCP: how packets stand in the stream, what stays with userspace, and how streams end.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{
    Cipher, Flow, Module, Outer, Ping, Soft, StreamTunnel, Tunnel, TunnelSpec, framed, iperf,
    patience, poll, wait_for,
};
use crate::nl::ovpn::{Event, Reason};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::{DATA_V1, DATA_V2};
use crate::{Ctx, check, check_eq, note};

const SOON: Duration = Duration::from_secs(5);

fn gone(lab: &StreamTunnel, reason: Reason) -> Event {
    Event::PeerDel {
        ifindex: lab.a.ifindex,
        id: lab.a.id,
        reason,
    }
}

/// A packet that is not data, as OpenVPN's control channel has them.
fn control(len: usize, seed: u8) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(seed)).collect();
    packet.splice(..1, [4 << 3 | 2]);
    packet
}

/// Packets of all kinds, cut where no packet begins, and many at once.
fn cut(cipher: Cipher, outer: Outer) -> Outcome {
    let mut lab = StreamTunnel::new(cipher, outer)?;
    let texts: Vec<Vec<u8>> = [1, 2, 100, 1300, 3, 999]
        .iter()
        .map(|n| (0..*n).map(|i| i as u8).collect())
        .collect();
    for step in [1, 2, 3, 7, 1448, usize::MAX] {
        let mut stream = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            stream.extend(lab.soft.data(&Soft::datagram(text))?);
            stream.extend(framed(&control(14 + n, 3)));
        }
        for piece in stream.chunks(step.min(stream.len())) {
            lab.soft.write(piece)?;
        }
        for (n, text) in texts.iter().enumerate() {
            lab.expect(text).during(format!("pieces of {step}"))?;
            let mut buffer = [0; 4096];
            let got = lab.user()?.read(&mut buffer)?;
            check_eq!(
                buffer.get(..got),
                Some(framed(&control(14 + n, 3)).as_slice()),
                "control packet {n}, pieces of {step}"
            );
        }
    }
    check_eq!(lab.a.dev()?.rx_dropped, 0, "packets dropped");
    lab.works()
}

/// Control packets: whole, one a call, announced by poll, and the other way in order with the data.
fn control_packets(outer: Outer) -> Outcome {
    let mut lab = StreamTunnel::new(Cipher::Aes256, outer)?;
    let user = lab.user()?.try_clone()?;
    let events = || poll(user.as_fd(), libc::POLLIN | libc::POLLOUT, Duration::ZERO);
    check_eq!(events()?, libc::POLLOUT, "poll of an idle stream");
    let data = lab.soft.data(&Soft::datagram(b"data"))?;
    lab.soft.write(&data)?;
    lab.expect(b"data")?;
    check_eq!(events()?, libc::POLLOUT, "poll after a data packet");
    for opcode in (0..32u8).filter(|o| ![DATA_V1, DATA_V2].contains(o)) {
        for len in [4, 50, 1400, 9000] {
            let mut packet = control(len, opcode.wrapping_add(1));
            packet.splice(..1, [opcode << 3 | 1]);
            let what = format!("opcode {opcode}, {len} bytes");
            lab.soft.write(&framed(&packet))?;
            check_eq!(
                poll(user.as_fd(), libc::POLLIN, SOON)?,
                libc::POLLIN,
                "poll: {what}"
            );
            let mut buffer = vec![0; 65536];
            let n = (&user).read(&mut buffer).during(&what)?;
            check_eq!(buffer.get(..n), Some(framed(&packet).as_slice()), "{what}");
            (&user).write_all(&framed(&packet)).during(&what)?;
            check_eq!(lab.soft.packet()?, Some(packet), "answer: {what}");
        }
    }
    user.set_nonblocking(true)?;
    let nothing = (&user).read(&mut [0; 10]).err().map(|e| e.kind());
    check_eq!(nothing, Some(ErrorKind::WouldBlock), "read of nothing");
    user.set_nonblocking(false)?;
    lab.works()
}

/// A receiver that does not read makes the sender wait; when it reads again, nothing is missing.
fn back_pressure(outer: Outer) -> Outcome {
    const PACKETS: u32 = 4000;
    let lab = StreamTunnel::new(Cipher::ChaCha, outer)?;
    let before = lab.a.dev()?.tx_dropped;
    let text = [7; 1200];
    let inner = lab.inner.try_clone()?;
    let sender = thread::spawn(move || -> Outcome {
        let to = std::net::SocketAddr::new(Tunnel::inner(false, 2), 4000);
        for _ in 0..PACKETS {
            inner.send_to(&text, to)?;
        }
        Ok(())
    });
    // It stops by itself when everything on the way is full.
    let mut last = (0, Instant::now());
    wait_for("the sender to be stopped", Duration::from_secs(20), || {
        let sent = lab.a.stats()?.vpn_tx_packets;
        if sent != last.0 {
            last = (sent, Instant::now());
        }
        Ok((sent > 0 && last.1.elapsed() > Duration::from_millis(300)).then_some(()))
    })?;
    check!(!sender.is_finished(), "nothing stopped the sender");
    for id in 1..=PACKETS {
        let (header, _) = lab.soft.recv().during(format!("packet {id}"))?;
        check_eq!(header.packet_id, id, "packet id");
    }
    sender
        .join()
        .unwrap_or_else(|_| Err(Failure::new("panic")))?;
    note!("the sender was stopped at packet {}", last.0);
    check_eq!(lab.a.dev()?.tx_dropped, before, "packets dropped");
    Ok(())
}

/// Content of a stream that cannot be followed any further, or not by us.
fn garbage(outer: Outer) -> Outcome {
    let rows: [(&str, &[u8]); 6] = [
        ("length 0", &[0, 0, 1, 2, 3]),
        ("length 1", &[0, 1, 0x48]),
        ("length 3", &[0, 3, 0x48, 1, 2]),
        ("DATA_V1", &[0, 5, DATA_V1 << 3, 1, 2, 3, 4]),
        ("DATA_V1, 4 bytes", &[0, 4, DATA_V1 << 3, 1, 2, 3]),
        ("length 2, byte by byte", &[0, 2]),
    ];
    for (what, bytes) in rows {
        let mut lab = StreamTunnel::new(Cipher::Aes128, outer)?;
        let events = lab.a.nl.listen(&lab.a.ns)?;
        lab.works()?;
        for byte in bytes {
            lab.soft.write(&[*byte])?;
        }
        if what.ends_with("byte by byte") {
            lab.soft.write(&[0x48, 0])?;
        }
        events
            .expect(&gone(&lab, Reason::TransportError), SOON)
            .during(what)?;
        events.expect_none().during(what)?;
        check_eq!(
            lab.a.nl.peer_dump(lab.a.ifindex)?.len(),
            0,
            "peers after {what}"
        );
    }
    Ok(())
}

/// Data packets that a stream may carry without harm: each is dropped, the stream goes on.
fn refused_packets(_: &Ctx) -> Outcome {
    let mut lab = StreamTunnel::new(Cipher::Aes256, Outer::Tcp4)?;
    let good = lab.soft.data(&Soft::datagram(b"good"))?;
    let mut forged = lab.soft.data(&Soft::datagram(b"forged"))?;
    forged
        .iter_mut()
        .last()
        .map(|b| *b ^= 1)
        .unwrap_or_default();
    let rows: [(&str, Vec<u8>); 5] = [
        ("replayed", good.clone()),
        ("forged", forged),
        (
            "a data packet of 4 bytes",
            framed(&[DATA_V2 << 3 | 1, 0, 0, 7]),
        ),
        (
            "another key",
            framed(&[&[DATA_V2 << 3 | 5, 0, 0, 7][..], &[0; 60]].concat()),
        ),
        (
            "65535 bytes",
            framed(&[&[DATA_V2 << 3 | 1, 0, 0, 7][..], &[1; 65531]].concat()),
        ),
    ];
    lab.soft.write(&good)?;
    lab.expect(b"good")?;
    for (n, (what, packet)) in rows.iter().enumerate() {
        lab.soft.write(packet)?;
        lab.works().during(*what)?;
        check_eq!(
            lab.a.dev()?.rx_dropped,
            n as u64 + 1,
            "dropped after {what}"
        );
    }
    Ok(())
}

/// The other end closes, or sends no more: its process hears it, and while it does nothing the peer stays.
fn ended(outer: Outer) -> Outcome {
    for all in [false, true] {
        let mut lab = StreamTunnel::new(Cipher::Aes256, outer)?;
        let events = lab.a.nl.listen(&lab.a.ns)?;
        lab.works()?;
        // Packets sent before the end still count.
        let last = lab.soft.data(&Soft::datagram(b"last"))?;
        lab.soft.write(&last)?;
        lab.soft
            .stream
            .shutdown(if all { Shutdown::Both } else { Shutdown::Write })?;
        lab.expect(b"last")?;
        let seen = poll(lab.user()?.as_fd(), libc::POLLIN | libc::POLLRDHUP, SOON)?;
        check!(
            seen & (libc::POLLIN | libc::POLLRDHUP) == libc::POLLIN | libc::POLLRDHUP,
            "poll says {seen:#x} at the end of the stream"
        );
        check_eq!(lab.user()?.read(&mut [0; 10])?, 0, "read at the end");
        events.expect_none()?;
        if !all {
            // Half a stream is enough for the other direction.
            for n in 0..20u8 {
                lab.push(&[n])?;
                let (_, plain) = lab.soft.recv().during("half-closed stream")?;
                check_eq!(plain.last(), Some(&n), "packet in a half-closed stream");
            }
        }
        let event = gone(&lab, Reason::TransportDisconnect);
        lab.a.close();
        events.expect(&event, SOON)?;
        events.expect_none()?;
    }
    Ok(())
}

/// A reset is heard by the process; the next packet sent ends the peer.
fn reset(outer: Outer) -> Outcome {
    let mut lab = StreamTunnel::new(Cipher::Aes256, outer)?;
    let events = lab.a.nl.listen(&lab.a.ns)?;
    lab.works()?;
    let event = gone(&lab, Reason::TransportError);
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value is a linger of the size given, and outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            lab.soft.stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    check_eq!(ret, 0, "SO_LINGER");
    let StreamTunnel { a, soft, inner, .. } = lab;
    drop(soft);
    let user = a
        .stream
        .as_ref()
        .ok_or_else(|| Failure::new("the stream is closed"))?;
    let seen = poll(user.as_fd(), libc::POLLIN, SOON)?;
    check!(
        seen & (libc::POLLHUP | libc::POLLERR) != 0,
        "poll says {seen:#x} after a reset"
    );
    let to = std::net::SocketAddr::new(Tunnel::inner(false, 2), 4000);
    wait_for("the peer to go", SOON, || {
        // The first may still have been queued before the reset came.
        let _ = inner.send_to(b"into the void", to);
        Ok((a.nl.peer_dump(a.ifindex)?.is_empty()).then_some(()))
    })?;
    events.expect(&event, SOON)?;
    events.expect_none()
}

/// A process that waits in a call on the socket when the peer goes does not wait for ever, and has a plain socket then.
fn given_back(outer: Outer) -> Outcome {
    let mut lab = StreamTunnel::new(Cipher::Aes256, outer)?;
    lab.works()?;
    let user = lab.user()?.try_clone()?;
    user.set_read_timeout(None)?;
    let start = Instant::now();
    let reader = thread::spawn(move || (&user).read(&mut [0; 100]).map_err(|e| e.to_string()));
    wait_for("the reader to wait", SOON, || {
        // It is in the call when it does nothing any more; that it is not yet there would be no error, only no test.
        Ok((start.elapsed() > Duration::from_millis(100)).then_some(()))
    })?;
    check!(!reader.is_finished(), "the read has ended by itself");
    lab.a.nl.peer_del(lab.a.ifindex, lab.a.id)?;
    wait_for("the reader to return", SOON, || {
        Ok(reader.is_finished().then_some(()))
    })?;
    let got = reader.join().map_err(|_| Failure::new("panic"))?;
    check!(got.is_err(), "the read returned {got:?}");
    for (from, to) in [
        (lab.user()?, &lab.soft.stream),
        (&lab.soft.stream, lab.user()?),
    ] {
        let (mut from, mut to) = (from, to);
        from.write_all(b"plain")?;
        let mut buffer = [0; 5];
        to.read_exact(&mut buffer).during("plain socket")?;
        check_eq!(&buffer, b"plain", "bytes over the plain socket");
    }
    // And it can be taken over again.
    lab.a.add_peer()?;
    lab.a.add_key(crate::nl::ovpn::PRIMARY, Cipher::Aes256, 1)?;
    let data = lab.soft.data(&Soft::datagram(b"again"))?;
    lab.soft.write(&data)?;
    lab.expect(b"again")
}

/// Both ends in the driver.
fn traffic(cipher: Cipher, outer: Outer) -> Outcome {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        outer,
        mtu: None,
    })?;
    for v6 in [false, true] {
        for size in [0, 1, 1300, 1372, 8000] {
            Ping::new(Tunnel::inner(v6, 2), 10)
                .size(size)
                .lossless(&tunnel.a.ns)?;
        }
    }
    for reverse in [false, true] {
        let flow = Flow {
            reverse,
            streams: 4,
            ..Flow::tcp(Tunnel::inner(false, 2), 1)
        };
        let rate = iperf(&flow, &tunnel.b.ns, &tunnel.a.ns)?;
        note!("{:.0} Mbit/s", rate.mbit);
        // Four flows over one TCP stream on a busy machine: not stalled is what can be told.
        Flow::at_least(&rate, 1.0)?;
    }
    let udp = Flow::udp(Tunnel::inner(false, 2), 1, 20);
    iperf(&udp, &tunnel.b.ns, &tunnel.a.ns)?;
    for end in [&tunnel.a, &tunnel.b] {
        let dev = end.dev()?;
        check_eq!((dev.rx_dropped, dev.tx_dropped), (0, 0), "packets dropped");
    }
    tunnel.works(20)
}

/// The module goes under traffic, with processes that wait in calls on its sockets.
fn unload(ctx: &Ctx) -> Outcome {
    for round in 0..3 {
        let tunnel = Tunnel::new(TunnelSpec {
            outer: Outer::TCP[round % 2],
            ..TunnelSpec::default()
        })?;
        let flow = Flow::tcp(Tunnel::inner(false, 2), 30);
        let traffic = flow.start(&tunnel.b.ns, &tunnel.a.ns)?;
        wait_for("traffic", SOON, || {
            Ok((tunnel.b.stats()?.vpn_rx_packets > 500).then_some(()))
        })?;
        let readers: Vec<_> = [&tunnel.a, &tunnel.b]
            .into_iter()
            .filter_map(|end| end.stream.as_ref()?.try_clone().ok())
            .map(|stream| thread::spawn(move || (&stream).read(&mut [0; 100]).is_ok()))
            .collect();
        let start = Instant::now();
        Module::unload().during(format!("round {round}"))?;
        check!(
            start.elapsed() < Duration::from_secs(5) * patience(),
            "unloading took {:?}",
            start.elapsed()
        );
        drop((traffic, tunnel));
        for reader in readers {
            reader.join().map_err(|_| Failure::new("panic"))?;
        }
        ctx.module.load()?;
    }
    Tunnel::simple()?.works(20)
}

/// A case for each family.
type Body = fn(Outer) -> Outcome;

/// All cases.
pub fn cases() -> Vec<Case> {
    let bodies: [(&str, Body); 6] = [
        ("control packets", control_packets),
        ("back-pressure", back_pressure),
        ("garbage ends the peer", garbage),
        ("end of the stream", ended),
        ("reset", reset),
        ("socket given back", given_back),
    ];
    let mut cases = Vec::new();
    for (cipher, outer) in [(Cipher::Aes256, Outer::Tcp4), (Cipher::ChaCha, Outer::Tcp6)] {
        let name = format!("{} over {outer:?}", cipher.name());
        cases.push(Case::new(
            format!("stream cut anywhere: {name}"),
            move |_| cut(cipher, outer),
        ));
        cases.push(Case::new(format!("traffic: {name}"), move |_| {
            traffic(cipher, outer)
        }));
        cases.extend(
            bodies.map(|(name, body)| {
                Case::new(format!("{name} over {outer:?}"), move |_| body(outer))
            }),
        );
    }
    cases.push(Case::new("packets refused in a stream", refused_packets));
    cases.extend(super::p2p::tcp_cases());
    cases.extend(super::socket::cases());
    cases.push(Case::new("module unloaded under traffic", unload));
    cases
}
