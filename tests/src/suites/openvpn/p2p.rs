// SPDX-License-Identifier: GPL-2.0-only
//! Two ends in TLS mode without a server: the module below one or below both, OpenVPN's own data channel at the other.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::daemon::{BUFFER, DEVICE, Daemon, need_openvpn};
use super::table::Transport;
use super::vpn::{device, kind_of};
use super::{pki, plain};
use crate::lab::{Cipher, Flow, Pair, Ping, Tunnel, iperf, large_buffers, wait_for};
use crate::nl::ovpn::Ovpn;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

/// Settings of two ends.
#[derive(Debug, Clone, Copy)]
struct Spec {
    cipher: Cipher,
    transport: Transport,
    /// Whether the server may use the driver; the client always does.
    both: bool,
    /// Seconds between renegotiations.
    reneg: u32,
}

/// Two OpenVPN processes; the client's namespace is `b`.
struct Vpn {
    pair: Pair,
    server: Daemon,
    client: Daemon,
    spec: Spec,
}

/// Names of both ends; ends of several ciphers run side by side.
fn names(cipher: Cipher) -> [String; 2] {
    ["server", "client"].map(|end| format!("p2p-{end}-{}", cipher.name()))
}

/// Starts one end.
fn openvpn(pair: &Pair, is_server: bool, spec: Spec) -> Outcome<Daemon> {
    let [server, client] = names(spec.cipher);
    let remote = Pair::outer(spec.transport.v6(), 1);
    let (ns, name, peer, role, n) = match is_server {
        true => (&pair.a, server, client, "tls-server\ndh none".into(), 1),
        false => (
            &pair.b,
            client,
            server,
            format!("tls-client\nremote {remote}"),
            2,
        ),
    };
    // With the keepalive in the kernel an end sleeps until its next TLS timer, and only when awake does it tell the
    // driver to swap keys: at the next renegotiation, when the other end gives up the older of its two keys. The status
    // timer wakes it every second.
    let mut config = format!(
        "verb 3\ndev {DEVICE}\ndev-type tun\nproto {}\n{role}\ndata-ciphers {}\nreneg-sec {}\nkeepalive 1 4\n\
         rcvbuf {BUFFER}\ntxqueuelen 1000\nifconfig 10.8.0.{n} 10.8.0.{}\nifconfig-ipv6 fd00:8::{n}/64 fd00:8::{}\n\
         status {name}.status 1\nconnect-retry 1 2\npeer-fingerprint {}\ncert {name}.crt\nkey {name}.key\n",
        spec.transport.proto(is_server),
        spec.cipher.name(),
        spec.reneg,
        3 - n,
        3 - n,
        pki::fingerprint(&peer)?,
    );
    pki::fingerprint(&name)?;
    if is_server && !spec.both {
        config += "disable-dco\n";
    }
    Daemon::start(ns, &name, &config)
}

impl Vpn {
    fn start(spec: Spec) -> Outcome<Self> {
        need_openvpn()?;
        large_buffers()?;
        let pair = Pair::new()?;
        let server = openvpn(&pair, true, spec)?;
        let client = openvpn(&pair, false, spec)?;
        let vpn = Self {
            pair,
            server,
            client,
            spec,
        };
        for end in [&vpn.client, &vpn.server] {
            end.connected(1)
                .map_err(|failure| failure.during(end.tail(40)))?;
        }
        vpn.offloaded()?;
        Ok(vpn)
    }

    /// Each device is of the right kind, and those of the driver have a peer.
    fn offloaded(&self) -> Outcome {
        for (ns, end, offload) in [
            (&self.pair.a, &self.server, self.spec.both),
            (&self.pair.b, &self.client, true),
        ] {
            let (kind, index) = device(ns)?;
            check_eq!(kind, kind_of(offload), "kind of the device");
            if offload {
                check!(
                    end.log().contains("ovpn-dco device"),
                    "the log does not tell of DCO"
                );
                check_eq!(Ovpn::open(ns)?.peer_dump(index)?.len(), 1, "peers");
            }
        }
        Ok(())
    }

    /// Inner address of the server.
    fn inner(v6: bool) -> IpAddr {
        Tunnel::inner(v6, 1)
    }

    /// Ends both; each must leave with status 0, no device and no complaint.
    fn stop(mut self) -> Outcome {
        if matches!(self.spec.transport, Transport::Tcp4 | Transport::Tcp6) {
            // The kernel gives up the server's peer when the client has closed the stream.
            self.server.may_expire();
        }
        self.client.stop(&self.pair.b)?;
        self.server.stop(&self.pair.a)
    }
}

/// Handshake, pings, iperf3 both ways, clean exit.
fn session(spec: Spec) -> Outcome {
    let vpn = Vpn::start(spec)?;
    let (server, client) = (&vpn.pair.a, &vpn.pair.b);
    for v6 in [false, true] {
        Ping::new(Vpn::inner(v6), 50).lossless(client)?;
        Ping::new(Tunnel::inner(v6, 2), 50).lossless(server)?;
    }
    Ping::new(Vpn::inner(false), 10)
        .size(1400)
        .lossless(client)?;
    for reverse in [false, true] {
        let flow = Flow {
            reverse,
            ..Flow::tcp(Vpn::inner(false), 2)
        };
        let rate = iperf(&flow, server, client)?;
        note!(
            "{}{}: {:.0} Mbit/s",
            spec.cipher.name(),
            if reverse { ", reverse" } else { "" },
            rate.mbit
        );
        Flow::at_least(&rate, 0.1)?;
    }
    vpn.stop()
}

/// Outcome of one cipher's renegotiations; `note` is printed by the case.
type Renegotiated = Outcome<String>;

/// Renegotiates every 10 s under load without losing a ping.
fn renegotiate(cipher: Cipher) -> Renegotiated {
    const INTERVAL: u32 = 10;
    const WANTED: usize = 3;
    /// Mbit/s each way.
    const LOAD: u32 = 2;
    const SECONDS: u32 = INTERVAL * 3 + 6;
    let vpn = Vpn::start(Spec {
        cipher,
        transport: Transport::Udp4,
        both: false,
        reneg: INTERVAL,
    })?;
    let (server, client) = (&vpn.pair.a, &vpn.pair.b);
    let up = Flow {
        mbit: LOAD,
        ..Flow::tcp(Vpn::inner(false), SECONDS)
    };
    let down = Flow {
        reverse: true,
        port: up.port + 1,
        dst: Vpn::inner(true),
        ..up
    };
    let (_up_server, up_client) = up.start(server, client)?;
    let (_down_server, down_client) = down.start(server, client)?;
    let ping = Ping::new(Vpn::inner(false), SECONDS * 20).interval(50);
    ping.echo()?
        .lossless(client)
        .during("pings over renegotiations")?;
    let rates = (up.result(up_client)?, down.result(down_client)?);
    // The first handshake is no renegotiation.
    let rounds = vpn.client.handshakes().saturating_sub(1);
    check!(
        rounds >= WANTED,
        "only {rounds} renegotiations in {SECONDS} s"
    );
    vpn.stop()?;
    Ok(format!(
        "{}: {rounds} renegotiations, {} pings, {:.1} and {:.1} Mbit/s",
        cipher.name(),
        ping.count,
        rates.0.mbit,
        rates.1.mbit
    ))
}

/// All ciphers at the same time, because most of it is waiting; each cipher's case reports its own.
fn renegotiated(cipher: Cipher) -> Outcome {
    static ALL: OnceLock<Vec<(Cipher, Result<String, String>)>> = OnceLock::new();
    need_openvpn()?;
    let all = ALL.get_or_init(|| {
        thread::scope(|scope| {
            let workers =
                Cipher::ALL.map(|cipher| (cipher, scope.spawn(move || renegotiate(cipher))));
            let result = |worker: thread::ScopedJoinHandle<'_, Renegotiated>| match worker.join() {
                Ok(Ok(text)) => Ok(text),
                Ok(Err(Failure::Failed(why) | Failure::Skipped(why))) => Err(why),
                Err(_) => Err("panic".to_owned()),
            };
            workers
                .into_iter()
                .map(|(cipher, worker)| (cipher, result(worker)))
                .collect()
        })
    });
    let own = all
        .iter()
        .find(|(c, _)| *c == cipher)
        .map(|(_, result)| result);
    let text = own
        .ok_or_else(|| Failure::new("did not run"))?
        .as_ref()
        .map_err(Failure::new)?;
    note!("{text}");
    Ok(())
}

/// After a restart the other end may still send with keys of the session before, until it hears of the new one; from the
/// first reply on nothing is lost.
fn found_again(vpn: &Vpn, v6: bool) -> Outcome {
    let (to, ns) = (Vpn::inner(v6), &vpn.pair.b);
    wait_for("a reply", Duration::from_secs(5), || {
        Ok((Ping::new(to, 1).run(ns)?.received == 1).then_some(()))
    })?;
    Ping::new(to, 50).lossless(ns)
}

/// The server dies without a word; the client's driver notices, OpenVPN restarts, and both find each other again.
fn server_lost(_: &Ctx) -> Outcome {
    let mut vpn = Vpn::start(Spec {
        cipher: Cipher::Aes256,
        transport: Transport::Udp4,
        both: false,
        reneg: 3600,
    })?;
    vpn.server.kill()?;
    wait_for("the client to restart", Duration::from_secs(15), || {
        let log = vpn.client.log();
        Ok((log.contains("restarting") || log.contains("ovpn-dco: ping expired")).then_some(()))
    })
    .during(vpn.client.log())?;
    vpn.server = openvpn(&vpn.pair, true, vpn.spec)?;
    vpn.client.connected(2)?;
    vpn.server.connected(1)?;
    vpn.offloaded()?;
    found_again(&vpn, false)?;
    vpn.stop()
}

/// SIGUSR1 makes the client connect anew by itself.
fn client_restarted(_: &Ctx) -> Outcome {
    let vpn = Vpn::start(Spec {
        cipher: Cipher::ChaCha,
        transport: Transport::Udp6,
        both: false,
        reneg: 3600,
    })?;
    for round in 2..=3 {
        vpn.client.signal(libc::SIGUSR1);
        vpn.client.connected(round)?;
        vpn.offloaded()?;
        found_again(&vpn, true)?;
    }
    vpn.stop()
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let one = [
        (Cipher::Aes128, Transport::Udp4),
        (Cipher::Aes192, Transport::Udp6),
        (Cipher::Aes256, Transport::Udp4),
        (Cipher::ChaCha, Transport::Udp6),
        (Cipher::Aes256, Transport::Tcp4),
        (Cipher::ChaCha, Transport::Tcp6),
    ]
    .map(|row| (row, false));
    let both = [
        (Cipher::Aes192, Transport::Udp4),
        (Cipher::ChaCha, Transport::Udp6),
        (Cipher::Aes128, Transport::Tcp4),
        (Cipher::Aes256, Transport::Tcp6),
    ]
    .map(|row| (row, true));
    let mut cases: Vec<Case> = one
        .into_iter()
        .chain(both)
        .map(|((cipher, transport), both)| {
            let spec = Spec {
                cipher,
                transport,
                both,
                reneg: 3600,
            };
            let ends = if both { ", both offloaded" } else { "" };
            let name = format!("session: {} over {transport:?}{ends}", cipher.name());
            Case::new(name, move |_: &Ctx| session(spec))
        })
        .collect();
    cases.push(Case::new("server lost and back", server_lost));
    cases.push(Case::new("client restarted", client_restarted));
    cases.extend(Cipher::ALL.map(|cipher| {
        let name = format!("renegotiation under load: {}", cipher.name());
        Case::new(name, move |_: &Ctx| renegotiated(cipher))
    }));
    cases.extend(plain::cases());
    cases
}
