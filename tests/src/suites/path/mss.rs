// SPDX-License-Identifier: GPL-2.0-only
//! The MSS that both ends of a TCP connection through the tunnel are told.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::lab::{
    Cipher, Flow, Module, Ns, Outer, Sniffer, SoftTunnel, StreamTunnel, Tunnel, TunnelSpec, iperf,
    wait_for,
};
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::{self, offered_mss};
use crate::{Ctx, check, check_eq, note};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const SOON: Duration = Duration::from_secs(5);
/// MSS that ends with an MTU of 1500 offer: 40 and 60 bytes of headers.
const UNTOUCHED: [u16; 2] = [1460, 1440];

fn mss_of(room: u16, v6: bool) -> u16 {
    room - if v6 { 60 } else { 40 }
}

/// The MSS of the SYN or SYN-ACK that the soft end gets next, past anything that is none.
fn received(lab: &SoftTunnel) -> Outcome<u16> {
    wait_for("a SYN", SOON, || offered_mss(&lab.soft.recv(1)?.1))
}

/// MSS in the connection attempt of a process on the driver's end.
fn connecting(lab: &SoftTunnel, v6: bool) -> Outcome<u16> {
    let to = SocketAddr::new(Tunnel::inner(v6, 2), 80);
    // No host answers: the case needs only the SYN that left.
    let result = lab
        .a
        .ns
        .enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_millis(1)).is_ok()))?;
    check!(!result, "somebody answered");
    received(lab)
}

/// MSS in the answer of a process on the driver's end to a connection attempt.
fn accepting(lab: &mut SoftTunnel, v6: bool, port: u16) -> Outcome<u16> {
    let (local, remote) = (Tunnel::inner(v6, 1), Tunnel::inner(v6, 2));
    let at = SocketAddr::new(local, 81);
    let _listener = lab.a.ns.enter(|| Ok(TcpListener::bind(at)?))?;
    let [hi, lo] = 536u16.to_be_bytes();
    let syn = wire::ip_tcp(remote, local, (port, 81), SYN, &[2, 4, hi, lo])?;
    lab.soft.send(&syn)?;
    received(lab)
}

/// MSS behind the driver when the other side sends a segment with an MSS of 1460 or 1440.
fn incoming(ns: &Ns, v6: bool, flags: u8, send: impl FnOnce(&[u8]) -> Outcome) -> Outcome<u16> {
    let sniffer = Sniffer::open(ns, "tun")?;
    let [hi, lo] = UNTOUCHED[usize::from(v6)].to_be_bytes();
    let (from, to) = (Tunnel::inner(v6, 2), Tunnel::inner(v6, 1));
    // With more options behind it.
    let options = [2, 4, hi, lo, 4, 2, 1, 1];
    send(&wire::ip_tcp(from, to, (4444, 9), flags, &options)?)?;
    wait_for("the segment", SOON, || {
        let seen = sniffer.packets()?.into_iter().filter(|(out, _)| !out);
        let mut offered = seen.map(|(_, packet)| offered_mss(&packet));
        offered.find_map(Outcome::transpose).transpose()
    })
}

/// The same, sent by the soft end of a UDP tunnel.
fn incoming_soft(lab: &mut SoftTunnel, v6: bool, flags: u8) -> Outcome<u16> {
    let SoftTunnel { a, soft, .. } = lab;
    incoming(&a.ns, v6, flags, |segment| soft.send(segment).map(drop))
}

/// Demands what every kind of segment offers, on both families.
fn all(lab: &mut SoftTunnel, expected: [u16; 2], port: u16) -> Outcome {
    for v6 in [false, true] {
        let expected = expected[usize::from(v6)];
        let offers = [
            ("connecting", connecting(lab, v6)?),
            ("accepting", accepting(lab, v6, port)?),
            ("being connected to", incoming_soft(lab, v6, SYN)?),
            ("being accepted", incoming_soft(lab, v6, SYN | ACK)?),
        ];
        for (what, mss) in offers {
            check_eq!(mss, expected, "IPv6 {v6}, MSS when {what}");
        }
    }
    Ok(())
}

/// MSS by the path, by another MTU of the path, and untouched when it is switched off.
fn clamped(outer: Outer) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::Aes256, outer)?;
    lab.a.ns.ip("link set tun mtu 1500")?;
    let ours = Module::ours();
    let (overhead, host) = match outer.is_v6() {
        false => (52, "10.10.0.2/32"),
        true => (72, "fd00:10::2/128"),
    };
    let by_mtu = |mtu: u16| [false, true].map(|v6| mss_of(mtu - overhead, v6));
    let expected = |mtu| if ours { by_mtu(mtu) } else { UNTOUCHED };
    all(&mut lab, expected(1500), 5000).during("MTU 1500")?;
    // The route's MTU counts from the moment it changes.
    lab.a
        .ns
        .ip(&format!("route replace {host} dev veth mtu 1300"))?;
    all(&mut lab, expected(1300), 5001).during("MTU 1300")?;
    if !ours {
        return Ok(());
    }
    let flag = |value: &str| {
        let line = format!("ethtool --set-priv-flags tun mss-clamp {value}");
        lab.a.ns.cmd(&line).ok().map(drop)
    };
    flag("off")?;
    all(&mut lab, UNTOUCHED, 5002).during("switched off")?;
    let line = "ethtool --set-priv-flags tun mss-clamp on";
    lab.a.ns.cmd(line).ok()?;
    all(&mut lab, by_mtu(1300), 5003).during("switched on again")?;
    // A tunnel narrower than its path.
    lab.a.ns.ip("link set tun mtu 1280")?;
    let narrow = incoming_soft(&mut lab, false, SYN)?;
    check_eq!(
        narrow,
        1240.min(mss_of(1300 - overhead, false)),
        "MSS in a tunnel of MTU 1280"
    );
    Ok(())
}

/// Over a stream no path limits a packet: the tunnel's own MTU does.
fn over_stream(_: &Ctx) -> Outcome {
    let mut lab = StreamTunnel::new(Cipher::Aes256, Outer::Tcp4)?;
    for mtu in [1500, 1280] {
        lab.a.ns.ip(&format!("link set tun mtu {mtu}"))?;
        for v6 in [false, true] {
            let soft = &mut lab.soft;
            let mss = incoming(&lab.a.ns, v6, SYN, |segment| {
                let packet = soft.data(segment)?;
                soft.write(&packet)
            })?;
            let offered = UNTOUCHED[usize::from(v6)];
            let expected = match Module::ours() {
                true => mss_of(mtu, v6).min(offered),
                false => offered,
            };
            check_eq!(mss, expected, "IPv6 {v6}, MSS in a tunnel of MTU {mtu}");
        }
    }
    Ok(())
}

/// TCP through a tunnel as wide as its path: nothing is fragmented, where mainline fragments every packet.
fn no_fragments(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::new(TunnelSpec {
        mtu: Some(1500),
        cipher: Cipher::ChaCha,
        ..TunnelSpec::default()
    })?;
    let before = tunnel.a.ns.fragmented()?;
    for v6 in [false, true] {
        let rate = iperf(
            &Flow::tcp(Tunnel::inner(v6, 2), 1),
            &tunnel.b.ns,
            &tunnel.a.ns,
        )?;
        note!("IPv6 {v6}: {:.0} Mbit/s", rate.mbit);
    }
    let fragmented = tunnel.a.ns.fragmented()? - before;
    note!("{fragmented} packets fragmented");
    if Module::ours() {
        check_eq!(fragmented, 0, "packets fragmented");
        Ok(())
    } else if fragmented == 0 {
        Err(Failure::new(
            "mainline fragmented nothing: this case proves nothing",
        ))
    } else {
        Ok(())
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Outer::BOTH
        .map(|outer| Case::new(format!("MSS over {outer:?}"), move |_| clamped(outer)))
        .into();
    cases.push(Case::new("MSS over TCP", over_stream));
    cases.push(Case::new("TCP through an MTU of 1500", no_fragments));
    cases
}
