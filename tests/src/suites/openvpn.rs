// SPDX-License-Identifier: GPL-2.0-only
//! OpenVPN 2.7 with the module as its data channel offload, against OpenVPN 2.7 without offload: p2p TLS mode, both ends
//! know the other's certificate by its fingerprint.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use crate::lab::{
    Cipher, Cmd, Flow, Ns, Outer, Pair, Ping, PingStats, Proc, Tunnel, iperf, large_buffers,
    wait_for,
};
use crate::nl::link::Links;
use crate::nl::ovpn::Ovpn;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

const HANDSHAKE: Duration = Duration::from_secs(40);
const COMPLETED: &str = "Initialization Sequence Completed";
const DEVICE: &str = "tun0";
/// Bytes of receive buffer of the transport sockets: the end in user space may have to wait for its turn on a busy
/// machine, and what then overflows would look like packets lost by a renegotiation.
const BUFFER: u32 = 4 << 20;

/// Certificates and keys of both ends in a directory of their own, and their fingerprints.
struct Pki {
    dir: PathBuf,
    fingerprints: [String; 2],
}

impl Pki {
    /// Made once per run by openssl; the directory is in the guest's memory and goes with it.
    fn get() -> Outcome<&'static Self> {
        static PKI: OnceLock<Result<Pki, String>> = OnceLock::new();
        PKI.get_or_init(|| Self::make().map_err(|e| format!("{e:?}")))
            .as_ref()
            .map_err(Failure::new)
    }

    fn make() -> Outcome<Self> {
        let dir = env::temp_dir().join(format!("ovpn-tests-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let mut fingerprints = [String::new(), String::new()];
        for (name, fingerprint) in ["server", "client"].iter().zip(&mut fingerprints) {
            let (key, cert) = (
                dir.join(format!("{name}.key")),
                dir.join(format!("{name}.crt")),
            );
            let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
            Cmd::new(
                None,
                &format!("openssl req -x509 {curve} -subj /CN={name} -days 30 -keyout"),
            )
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .ok()?;
            let out = Cmd::new(None, "openssl x509 -noout -fingerprint -sha256 -in")
                .arg(&cert)
                .ok()?;
            let (_, value) = out
                .trim()
                .split_once('=')
                .ok_or_else(|| Failure::new(out.clone()))?;
            *fingerprint = value.to_owned();
        }
        Ok(Self { dir, fingerprints })
    }
}

/// Two OpenVPN processes; the client's namespace is `b`.
struct Vpn {
    pair: Pair,
    server: Proc,
    client: Proc,
    cipher: Cipher,
    outer: Outer,
    reneg: u32,
}

fn need_openvpn() -> Outcome {
    // Its exit status is 1 even when it only tells its version.
    let version = Cmd::new(None, "openvpn --version").run(Duration::from_secs(10));
    let version = version
        .map_err(|_| Failure::Skipped("openvpn is not installed".into()))?
        .out;
    match version.starts_with("OpenVPN 2.7") {
        true => Ok(()),
        false => Err(Failure::Skipped(format!(
            "not OpenVPN 2.7: {}",
            version.lines().next().unwrap_or_default()
        ))),
    }
}

/// Starts one end.
fn openvpn(ns: &Ns, is_server: bool, cipher: Cipher, outer: Outer, reneg: u32) -> Outcome<Proc> {
    let pki = Pki::get()?;
    let [server, client] = &pki.fingerprints;
    let (name, role, peer, n) = match is_server {
        true => (
            "server",
            "--tls-server --dh none --disable-dco".into(),
            client,
            1,
        ),
        // With the keepalive in the kernel the client sleeps until its next TLS timer, and only when awake does it tell
        // the driver to swap keys: at the next renegotiation, when the other end gives up the older of its two keys.
        // The status timer wakes it every second.
        false => {
            let remote = Pair::outer(outer.is_v6(), 1);
            (
                "client",
                format!(
                    "--tls-client --status client-{}.status 1 --remote {remote}",
                    cipher.name()
                ),
                server,
                2,
            )
        }
    };
    let proto = if outer.is_v6() { "udp6" } else { "udp4" };
    ns.cmd(&format!(
        "openvpn --verb 3 --dev {DEVICE} --dev-type tun --proto {proto} {role} --data-ciphers {} --reneg-sec {reneg} \
         --keepalive 1 4 --rcvbuf {BUFFER} --txqueuelen 1000 --ifconfig 10.8.0.{n} 10.8.0.{} --ifconfig-ipv6 fd00:8::{n}/64 fd00:8::{} \
         --peer-fingerprint {peer} --cert {name}.crt --key {name}.key --cd",
        cipher.name(),
        3 - n,
        3 - n,
    ))
    .arg(&pki.dir)
    .spawn()
}

impl Vpn {
    fn start(cipher: Cipher, outer: Outer, reneg: u32) -> Outcome<Self> {
        need_openvpn()?;
        large_buffers()?;
        let pair = Pair::new()?;
        let server = openvpn(&pair.a, true, cipher, outer, reneg)?;
        let client = openvpn(&pair.b, false, cipher, outer, reneg)?;
        let mut vpn = Self {
            pair,
            server,
            client,
            cipher,
            outer,
            reneg,
        };
        vpn.client
            .wait_output(COMPLETED, HANDSHAKE)
            .during("client")?;
        vpn.server
            .wait_output(COMPLETED, HANDSHAKE)
            .during("server")?;
        vpn.offloaded()?;
        Ok(vpn)
    }

    /// The client's device is the driver's, with a peer; the server's is not.
    fn offloaded(&self) -> Outcome {
        let kind = |ns: &Ns| -> Outcome<Option<String>> {
            let index = ns
                .ifindex(DEVICE)?
                .ok_or_else(|| Failure::new(format!("no {DEVICE}")))?;
            Ok(Links::open(ns)?.get(index)?.info_kind())
        };
        check_eq!(
            kind(&self.pair.b)?.as_deref(),
            Some("ovpn"),
            "kind of the client's device"
        );
        check_eq!(
            kind(&self.pair.a)?.as_deref(),
            Some("tun"),
            "kind of the server's device"
        );
        check!(
            self.client.stdout().contains("ovpn-dco device"),
            "the client's log does not tell of DCO"
        );
        let index = self.pair.b.ifindex(DEVICE)?.unwrap_or_default();
        check_eq!(
            Ovpn::open(&self.pair.b)?.peer_dump(index)?.len(),
            1,
            "peers"
        );
        Ok(())
    }

    /// Inner address of the server.
    fn inner(v6: bool) -> IpAddr {
        Tunnel::inner(v6, 1)
    }

    /// Renegotiations that the client has completed: handshakes after the first.
    fn renegotiations(&self) -> usize {
        self.client
            .stdout()
            .matches("Control Channel: TLS")
            .count()
            .saturating_sub(1)
    }

    /// Ends both; each must leave with status 0, no device and no complaint.
    fn stop(self) -> Outcome {
        for (name, ns, process) in [
            ("client", &self.pair.b, self.client),
            ("server", &self.pair.a, self.server),
        ] {
            process.signal(libc::SIGTERM);
            let done = process.finish(Duration::from_secs(15)).during(name)?;
            check_eq!(
                done.status.code(),
                Some(0),
                "exit status of the {name}\n{}",
                done.out
            );
            check_eq!(ns.ifindex(DEVICE)?, None, "device of the {name}");
            let log = done.out.to_lowercase();
            for complaint in [
                "fatal",
                "netlink reports",
                "failed to",
                "cannot",
                "out of sync",
            ] {
                check!(
                    !log.contains(complaint),
                    "the {name} complains: \"{complaint}\"\n{}",
                    done.out
                );
            }
        }
        Ok(())
    }
}

/// Handshake, pings, iperf3 both ways, clean exit.
fn session(cipher: Cipher, outer: Outer) -> Outcome {
    let vpn = Vpn::start(cipher, outer, 3600)?;
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
            cipher.name(),
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
    let vpn = Vpn::start(cipher, Outer::V4, INTERVAL)?;
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
    let stats = ping.run(client)?;
    let rates = (up.result(up_client)?, down.result(down_client)?);
    let rounds = vpn.renegotiations();
    check!(
        rounds >= WANTED,
        "only {rounds} renegotiations in {SECONDS} s"
    );
    check_eq!(
        stats,
        PingStats {
            sent: ping.count,
            received: ping.count
        },
        "pings over {rounds} renegotiations"
    );
    vpn.stop()?;
    Ok(format!(
        "{}: {rounds} renegotiations, {} pings, {:.1} and {:.1} Mbit/s",
        cipher.name(),
        stats.received,
        rates.0.mbit,
        rates.1.mbit
    ))
}

/// All ciphers at the same time, because most of it is waiting; each cipher's case reports its own.
fn renegotiated(cipher: Cipher) -> Outcome {
    static ALL: OnceLock<Vec<(Cipher, Result<String, String>)>> = OnceLock::new();
    need_openvpn()?;
    Pki::get()?;
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

/// The server dies without a word; the client's driver notices, OpenVPN restarts, and both find each other again.
fn server_lost(_: &Ctx) -> Outcome {
    let mut vpn = Vpn::start(Cipher::Aes256, Outer::V4, 3600)?;
    vpn.server.signal(libc::SIGKILL);
    wait_for("the client to restart", Duration::from_secs(15), || {
        let log = vpn.client.stdout();
        Ok((log.contains("restarting") || log.contains("ovpn-dco: ping expired")).then_some(()))
    })
    .during(vpn.client.stdout())?;
    vpn.server = openvpn(&vpn.pair.a, true, vpn.cipher, vpn.outer, vpn.reneg)?;
    wait_for("the client to be back", HANDSHAKE, || {
        Ok((vpn.client.stdout().matches(COMPLETED).count() >= 2).then_some(()))
    })
    .during(vpn.client.stdout())?;
    vpn.server.wait_output(COMPLETED, HANDSHAKE)?;
    vpn.offloaded()?;
    Ping::new(Vpn::inner(false), 50).lossless(&vpn.pair.b)?;
    vpn.stop()
}

/// SIGUSR1 makes the client connect anew by itself.
fn client_restarted(_: &Ctx) -> Outcome {
    let vpn = Vpn::start(Cipher::ChaCha, Outer::V6, 3600)?;
    for round in 2..=3 {
        vpn.client.signal(libc::SIGUSR1);
        wait_for("the client to be back", HANDSHAKE, || {
            Ok((vpn.client.stdout().matches(COMPLETED).count() >= round).then_some(()))
        })
        .during(vpn.client.stdout())?;
        vpn.offloaded()?;
        Ping::new(Vpn::inner(true), 50).lossless(&vpn.pair.b)?;
    }
    vpn.stop()
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        (Cipher::Aes128, Outer::V4),
        (Cipher::Aes192, Outer::V6),
        (Cipher::Aes256, Outer::V4),
        (Cipher::ChaCha, Outer::V6),
    ]
    .map(|(cipher, outer)| {
        Case::new(
            format!("session: {} over {outer:?}", cipher.name()),
            move |_: &Ctx| session(cipher, outer),
        )
    })
    .into();
    cases.push(Case::new("server lost and back", server_lost));
    cases.push(Case::new("client restarted", client_restarted));
    cases.extend(Cipher::ALL.map(|cipher| {
        let name = format!("renegotiation under load: {}", cipher.name());
        Case::new(name, move |_: &Ctx| renegotiated(cipher))
    }));
    cases
}
