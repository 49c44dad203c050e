// SPDX-License-Identifier: GPL-2.0-only
//! Cipher none between the driver and OpenVPN.
//!
//! OpenVPN never asks the driver for it, so the control channel ends in a second OpenVPN process, which lends its peer
//! ids to the driver: what stands between both passes control packets on, and the driver takes the data packets.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::daemon::{BUFFER, DEVICE, Daemon, HANDSHAKE, need_openvpn};
use super::net::PORT;
use super::pki;
use crate::lab::{End, Flow, Ns, Outer, Pair, Param, Ping, Tunnel, iperf, large_buffers, wait_for};
use crate::nl::ovpn::{KeyDir, KeySpec, PRIMARY};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check_eq, note};

/// CIPHER_ALG of cipher none.
const NONE: u32 = 0;
/// Where the second process listens.
const CONTROL_PORT: u16 = 1195;
/// Opcode of data packets with a peer id, in the upper five bits of the first byte.
const DATA_V2: u8 = 9;
/// Milliseconds after which the thread looks whether it is wanted any longer.
const PATROL: i32 = 20;

/// Peer ids as they stand in the first four bytes of data packets, 0 before the first one.
#[derive(Default)]
struct Seen {
    from_client: AtomicU32,
    to_client: AtomicU32,
    end: AtomicBool,
}

/// The first four bytes of a data packet.
fn data(packet: &[u8]) -> Option<u32> {
    let head = u32::from_be_bytes(packet.first_chunk().copied()?);
    (packet.first()? >> 3 == DATA_V2).then_some(head)
}

/// Between the client and the process that speaks TLS with it, which cannot send it data.
struct Split {
    seen: Arc<Seen>,
}

impl Split {
    fn start(ns: &Ns, front: UdpSocket) -> Outcome<Self> {
        let back = ns.udp(false, 0)?;
        back.connect(SocketAddr::from(([127, 0, 0, 1], CONTROL_PORT)))?;
        for socket in [&front, &back] {
            socket.set_nonblocking(true)?;
        }
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        thread::spawn(move || split(&front, &back, &shared));
        Ok(Self { seen })
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        self.seen.end.store(true, Ordering::Relaxed);
    }
}

fn split(front: &UdpSocket, back: &UdpSocket, seen: &Seen) {
    let mut client = None;
    let mut packet = [0; 65536];
    while !seen.end.load(Ordering::Relaxed) {
        let mut wait = [front, back].map(|socket| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: the array is as long as said and outlives the call; both sockets are open.
        unsafe { libc::poll(wait.as_mut_ptr(), wait.len() as libc::nfds_t, PATROL) };
        while let Ok((len, from)) = front.recv_from(&mut packet) {
            let packet = packet.get(..len).unwrap_or_default();
            client = Some(from);
            if let Some(head) = data(packet) {
                seen.from_client.store(head, Ordering::Relaxed);
            }
            let _ = back.send(packet);
        }
        while let Ok(len) = back.recv(&mut packet) {
            let packet = packet.get(..len).unwrap_or_default();
            match (data(packet), client) {
                // The client would take the driver's first packets for copies of these.
                (Some(head), _) => seen.to_client.store(head, Ordering::Relaxed),
                (None, Some(client)) => drop(front.send_to(packet, client)),
                (None, None) => (),
            }
        }
    }
}

fn openvpn(ns: &Ns, own: &str, other: &str, role: &str) -> Outcome<Daemon> {
    pki::fingerprint(own)?;
    let config = format!(
        "verb 3\ndev-type tun\nproto udp4\n{role}\ndata-ciphers none\nauth none\ndisable-dco\nping 1\nreneg-sec 3600\nrcvbuf {BUFFER}\n\
         peer-fingerprint {}\ncert {own}.crt\nkey {own}.key\n",
        pki::fingerprint(other)?
    );
    Daemon::start(ns, own, &config)
}

/// Peer ids on each side as OpenVPN agreed upon them, pings both ways, iperf3 both ways, nothing lost.
fn session(_: &Ctx) -> Outcome {
    need_openvpn()?;
    large_buffers()?;
    let _allowed = Param::set("allow_insecure_none", "Y")?;
    let Pair { a, b } = Pair::new()?;
    let (server, client) = ("plain-server", "plain-client");
    let mut end = End::new(a, true, Outer::V4)?;
    let front = end.sock.as_ref().map(UdpSocket::try_clone).transpose()?;
    let front = front.ok_or_else(|| Failure::new("no transport socket"))?;
    let split = Split::start(&end.ns, front)?;
    let role = format!(
        "mode server\ntls-server\ndh none\ndev control\nifconfig-noexec\nlocal 127.0.0.1\nlport {CONTROL_PORT}\ntopology subnet\n\
         push \"topology subnet\"\nifconfig 10.8.0.1 255.255.255.0\nifconfig-pool 10.8.0.2 10.8.0.9 255.255.255.0\n\
         ifconfig-ipv6 fd00:8::1/64 fd00:8::2\nifconfig-ipv6-pool fd00:8::2/64"
    );
    let mut server_process = openvpn(&end.ns, server, client, &role)?;
    let role = format!(
        "client\ndev {DEVICE}\nremote {}\nlport {PORT}",
        Pair::outer(false, 1)
    );
    let mut client_process = openvpn(&b, client, server, &role)?;
    let heads = wait_for("data packets of both", HANDSHAKE, || {
        let heads = [&split.seen.from_client, &split.seen.to_client];
        let heads = heads.map(|head| head.load(Ordering::Relaxed));
        Ok((!heads.contains(&0)).then_some(heads))
    })
    .during(server_process.tail(30))
    .during(client_process.tail(30))?;
    let [rx, tx] = heads.map(|head| (head & 0xff_ffff, head >> 24 & 7));
    check_eq!(rx.1, tx.1, "key ids");
    (end.id, end.tx_id) = (rx.0, tx.0);

    end.add_peer()?;
    let plain = || KeyDir {
        key: Vec::new(),
        tail: [0; 8],
    };
    let key = KeySpec {
        key_id: rx.1,
        alg: NONE,
        encrypt: plain(),
        decrypt: plain(),
    };
    end.nl.key_new(end.ifindex, end.id, PRIMARY, &key)?;
    end.up(None)?;
    for v6 in [false, true] {
        Ping::new(Tunnel::inner(v6, 1), 50).lossless(&b)?;
        Ping::new(Tunnel::inner(v6, 2), 50).lossless(&end.ns)?;
    }
    for reverse in [false, true] {
        let flow = Flow {
            reverse,
            ..Flow::tcp(Tunnel::inner(false, 1), 3)
        };
        let rate = iperf(&flow, &end.ns, &b)?;
        note!("{:.0} Mbit/s", rate.mbit);
        Flow::at_least(&rate, 0.1)?;
    }
    client_process.stop(&b)?;
    server_process.stop(&end.ns)
}

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("cipher none, both directions", session)]
}
