// SPDX-License-Identifier: GPL-2.0-only
//! Allocations that fail (Documentation/fault-injection/fault-injection.rst): in requests one after the other, in the
//! path of packets at random.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::figure;
use super::tcp::Listener;
use crate::lab::{
    Cipher, DropReasons, Flow, Module, Ns, Outer, Pair, Ping, Sniffer, Soft, SoftTunnel, Tunnel,
    TunnelSpec, pollers, threaded, wait_for,
};
use crate::nl::link::{IFLA_OVPN_MODE, Links};
use crate::nl::ovpn::{KeySpec, Ovpn, PRIMARY, cmd, keyconf, peer, put_dir, put_remote, top};
use crate::nl::{Msg, Refusal, Sock};
use crate::tap::{During, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

const FAILSLAB: &str = "/sys/kernel/debug/failslab";
/// More allocations than any request makes.
const MOST: u32 = 2000;

/// Sets a knob of failslab; skips the case where the kernel has none.
fn knob(name: &str, value: &str) -> Outcome {
    match fs::write(format!("{FAILSLAB}/{name}"), value) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Failure::Skipped("the kernel has no failslab".into()))
        }
        other => other.during(name),
    }
}

/// Makes the n-th allocation of threads from now on fail, for the first time of each value of n.
struct FailNth(Vec<File>);

impl FailNth {
    /// For this thread.
    fn new() -> Outcome<Self> {
        Self::of(&["thread-self".to_owned()])
    }

    /// For each of these threads alone; of the first that gets so far, `around` speaks.
    fn of(threads: &[String]) -> Outcome<Self> {
        // Silent, and also where the kernel could wait for memory.
        knob("verbose", "0")?;
        knob("ignore-gfp-wait", "N")?;
        let open = |thread| -> Outcome<File> {
            let path = format!("/proc/{thread}/fail-nth");
            let file = File::options().read(true).write(true).open(&path);
            file.during(path)
        };
        Ok(Self(threads.iter().map(open).collect::<Outcome<_>>()?))
    }

    /// Runs something; says whether an allocation of it failed.
    fn around<T>(&self, n: u32, run: impl FnOnce() -> Outcome<T>) -> Outcome<(T, bool)> {
        for file in &self.0 {
            file.write_at(n.to_string().as_bytes(), 0)
                .during("fail-nth")?;
        }
        let result = run();
        let mut failed = false;
        for file in &self.0 {
            let mut left = [0; 16];
            let len = file.read_at(&mut left, 0).during("fail-nth")?;
            file.write_at(b"0", 0).during("fail-nth")?;
            failed |= left.get(..len).unwrap_or_default().trim_ascii() == b"0";
        }
        Ok((result?, failed))
    }
}

/// The fate of a request: the kernel's verdict, if it found the memory to send one.
type Verdict = Option<Result<(), Refusal>>;

/// A device, a socket of each kind and what is needed to ask about them.
struct Lab {
    ns: Pair,
    nl: Ovpn,
    raw: Sock,
    link: Sock,
    links: Links,
    udp: UdpSocket,
    stream: (TcpStream, TcpStream),
    mode: u8,
    ifindex: u32,
}

const REMOTE: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 10, 0, 2)),
    1194,
);

impl Lab {
    fn new(mode: u8) -> Outcome<Self> {
        let ns = Pair::new()?;
        let links = Links::open(&ns.a)?;
        links
            .create("tun", Some((IFLA_OVPN_MODE, &[mode])))?
            .during("RTM_NEWLINK")?;
        let ifindex =
            ns.a.ifindex("tun")?
                .ok_or_else(|| Failure::new("no device"))?;
        ns.a.ip("link set tun addrgenmode none\nlink set tun up")?;
        let stream = Listener::new(&ns.a, false)?.connect(&ns.b)?;
        Ok(Self {
            nl: Ovpn::open(&ns.a)?,
            raw: Sock::open(&ns.a, libc::NETLINK_GENERIC)?,
            link: Sock::open(&ns.a, libc::NETLINK_ROUTE)?,
            links,
            udp: ns.a.udp(false, 1194)?,
            ns,
            stream,
            mode,
            ifindex,
        })
    }

    fn peer_new(&self, tcp: bool) -> Msg {
        let mut msg = self.nl.msg(cmd::PEER_NEW, self.ifindex);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, 1);
            if tcp {
                m.u32(peer::SOCKET, self.stream.0.as_raw_fd() as u32);
            } else {
                m.u32(peer::SOCKET, self.udp.as_raw_fd() as u32);
                put_remote(m, REMOTE);
            }
            if self.mode == 1 {
                m.put(peer::VPN_IPV4, &[10, 8, 0, 2]);
                m.put(
                    peer::VPN_IPV6,
                    &[0xfd, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
                );
            }
        });
        msg
    }

    fn key_new(&self, key: &KeySpec) -> Msg {
        let mut msg = self.nl.msg(cmd::KEY_NEW, self.ifindex);
        msg.nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, 1).u32(keyconf::SLOT, PRIMARY);
            m.u32(keyconf::KEY_ID, key.key_id)
                .u32(keyconf::CIPHER_ALG, key.alg);
            put_dir(m, keyconf::ENCRYPT_DIR, &key.encrypt);
            put_dir(m, keyconf::DECRYPT_DIR, &key.decrypt);
        });
        msg
    }

    fn about_peer(&self, command: u8) -> Msg {
        let mut msg = self.nl.msg(command, self.ifindex);
        msg.nest(top::PEER, |m| {
            m.u32(peer::ID, 1);
            if command == cmd::PEER_SET {
                put_remote(m, SocketAddr::new(REMOTE.ip(), 1195));
                if self.mode == 1 {
                    m.put(peer::VPN_IPV4, &[10, 8, 0, 3]);
                    m.put(
                        peer::VPN_IPV6,
                        &[0xfd, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
                    );
                }
            }
        });
        msg
    }

    fn about_key(&self, command: u8) -> Msg {
        let mut msg = self.nl.msg(command, self.ifindex);
        msg.nest(top::KEYCONF, |m| {
            m.u32(keyconf::PEER_ID, 1);
            if command != cmd::KEY_SWAP {
                m.u32(keyconf::SLOT, PRIMARY);
            }
        });
        msg
    }

    /// All that the driver tells about the device, but for what changes by itself.
    fn state(&self) -> Outcome<String> {
        let mut state = String::new();
        for attrs in self.nl.peer_dump(self.ifindex)? {
            let still = attrs
                .0
                .iter()
                .filter(|(kind, _)| !(peer::VPN_RX_BYTES..=peer::LINK_TX_PACKETS).contains(kind));
            state += &format!("{:?}\n", still.collect::<Vec<_>>());
            for slot in 0..2 {
                let id = attrs.u32(peer::ID).unwrap_or(0);
                state += &format!("{:?}\n", self.nl.key_get(self.ifindex, id, slot)?.ok());
            }
        }
        Ok(state)
    }

    /// No peer, or one with a key.
    fn prepare(&self, peer: bool, tcp: bool) -> Outcome {
        let _ = self.nl.request(&self.about_peer(cmd::PEER_DEL))?;
        if peer {
            self.nl.request(&self.peer_new(tcp))?.during("PEER_NEW")?;
            let key = self.key_new(&Cipher::Aes256.key(1, true));
            self.nl.request(&key)?.during("KEY_NEW")?;
        }
        Ok(())
    }
}

/// A request that is repeated until none of its allocations fails.
struct Row {
    name: &'static str,
    /// Whether it is about a peer that is there.
    peer: bool,
    tcp: bool,
    msg: Msg,
    /// Whether it may end in two ways without an answer: nothing done, all done.
    changes: bool,
}

fn rows(lab: &Lab) -> Vec<Row> {
    let row = |name, peer, tcp, msg, changes| Row {
        name,
        peer,
        tcp,
        msg,
        changes,
    };
    let mut dump = lab.nl.bare(cmd::PEER_GET, libc::NLM_F_DUMP);
    dump.u32(top::IFINDEX, lab.ifindex);
    vec![
        row("PEER_NEW, UDP", false, false, lab.peer_new(false), true),
        row("PEER_NEW, TCP", false, true, lab.peer_new(true), true),
        row("PEER_SET", true, false, lab.about_peer(cmd::PEER_SET), true),
        row(
            "PEER_GET",
            true,
            false,
            lab.about_peer(cmd::PEER_GET),
            false,
        ),
        row("PEER_GET, dump", true, false, dump, false),
        row(
            "KEY_NEW, AES",
            true,
            false,
            lab.key_new(&Cipher::Aes128.key(2, true)),
            true,
        ),
        row(
            "KEY_NEW, ChaCha20",
            true,
            true,
            lab.key_new(&Cipher::ChaCha.key(3, true)),
            true,
        ),
        row("KEY_GET", true, false, lab.about_key(cmd::KEY_GET), false),
        row("KEY_SWAP", true, false, lab.about_key(cmd::KEY_SWAP), true),
        row("KEY_DEL", true, false, lab.about_key(cmd::KEY_DEL), true),
        row(
            "PEER_DEL, UDP",
            true,
            false,
            lab.about_peer(cmd::PEER_DEL),
            true,
        ),
        row(
            "PEER_DEL, TCP",
            true,
            true,
            lab.about_peer(cmd::PEER_DEL),
            true,
        ),
    ]
}

/// Fails each allocation in turn; gives the number of those that failed.
fn each(fail: &FailNth, lab: &Lab, row: &Row) -> Outcome<u32> {
    lab.raw.timeout(Duration::from_secs(10))?;
    for n in 1..MOST {
        lab.prepare(row.peer, row.tcp)?;
        let before = lab.state()?;
        let (verdict, failed): (Verdict, bool) = fail.around(n, || lab.raw.attempt(&row.msg))?;
        let after = lab.state()?;
        match (&verdict, failed) {
            (Some(Ok(())), false) => return Ok(n - 1),
            (_, false) => {
                return Err(Failure::new(format!(
                    "{}: {verdict:?}, although no allocation failed",
                    row.name
                )));
            }
            // Refused: as if it had never been asked.
            (Some(Err(refusal)), _) => {
                check_eq!(after, before, "{}, allocation {n}: {refusal}", row.name);
            }
            // Done without that memory, or without the memory to say so.
            (Some(Ok(())) | None, _) => {
                check!(
                    row.changes || after == before,
                    "{}: it changed something",
                    row.name
                );
            }
        }
    }
    Err(Failure::new(format!("{} has no end", row.name)))
}

/// Fails each allocation of making and deleting a device; most are the core's, and every device takes its time, so for
/// mainline's driver only some of them. Gives the number of those that failed.
fn devices(fail: &FailNth, lab: &Lab, mode: u8) -> Outcome<u32> {
    let step = if Module::ours() { 1 } else { 10 };
    let mut failures = 0;
    for n in (1..MOST).step_by(step) {
        let request = Links::creation("fault", Some((IFLA_OVPN_MODE, &[mode])));
        let (verdict, failed) = fail.around(n, || lab.link.attempt(&request))?;
        let there = lab.ns.a.ifindex("fault")?;
        if let Some(Err(_)) = &verdict {
            check_eq!(there, None, "device after {verdict:?}, allocation {n}");
        }
        let Some(index) = there else {
            check!(failed, "no device, although no allocation failed");
            failures += 1;
            continue;
        };
        let request = Links::deletion(index);
        let (verdict, gone_wrong) = fail.around(n, || lab.link.attempt(&request))?;
        if lab.ns.a.ifindex("fault")?.is_some() {
            check!(gone_wrong, "{verdict:?}: the device is still there");
            lab.links.delete(index)?.during("RTM_DELLINK")?;
        }
        if !failed {
            return Ok(failures);
        }
        failures += 1;
    }
    Err(Failure::new("RTM_NEWLINK has no end"))
}

pub fn requests(_: &Ctx) -> Outcome {
    let fail = FailNth::new()?;
    let mut injected = 0;
    for mode in [0, 1] {
        let lab = Lab::new(mode)?;
        let mut counts = Vec::new();
        for row in rows(&lab) {
            let n = each(&fail, &lab, &row).during(format!("mode {mode}"))?;
            counts.push(format!("{} {n}", row.name));
            injected += n;
        }
        // A server's has all that a client's has, and more.
        if mode == 1 {
            let n = devices(&fail, &lab, mode)?;
            counts.push(format!("RTM_NEWLINK {n}"));
            injected += n;
        }
        note!("mode {mode}: {}", counts.join(", "));
        lab.prepare(false, false)?;
    }
    figure(
        "no memory for requests: allocations failed, each alone",
        injected,
    );
    Tunnel::simple()?.works(20)
}

/// Traffic while one allocation in 20 fails where the kernel cannot wait; then traffic that loses nothing.
fn starve(near: &Ns, far: &Ns) -> Outcome {
    knob("verbose", "0")?;
    knob("ignore-gfp-wait", "Y")?;
    knob("times", "-1")?;
    let before = near.netdev("tun")?.rx_packets;
    let pings = Ping::new(Tunnel::inner(false, 2), 1_000_000)
        .interval(2)
        .spawn(near)?;
    // Its own socket has to be there first.
    wait_for("the first replies", Duration::from_secs(5), || {
        Ok((near.netdev("tun")?.rx_packets > before).then_some(()))
    })?;
    knob("probability", "5")?;
    // Its own connections may fail as well: what it achieves says nothing.
    let flow = Flow::tcp(Tunnel::inner(false, 2), 3).start(far, near);
    std::thread::sleep(Duration::from_secs(3));
    knob("probability", "0")?;
    drop(flow);
    pings.signal(libc::SIGINT);
    let pinged = Ping::stats(&pings.finish(Duration::from_secs(10))?)?;
    note!(
        "{} of {} pings answered meanwhile",
        pinged.received,
        pinged.sent
    );
    check!(pinged.received > 0, "nothing got through");
    check!(pinged.received < pinged.sent, "no allocation failed");
    Ok(())
}

pub fn packets(_: &Ctx) -> Outcome {
    let kinds = [
        (Cipher::Aes256, Outer::V4),
        (Cipher::ChaCha, Outer::V6),
        (Cipher::Aes256, Outer::Tcp4),
    ];
    for (cipher, outer) in kinds {
        let tunnel = Tunnel::new(TunnelSpec {
            cipher,
            outer,
            mtu: None,
        })?;
        starve(&tunnel.a.ns, &tunnel.b.ns)?;
        tunnel.works(200).during(format!("{outer:?}, afterwards"))?;
    }
    figure(
        "no memory for packets: tunnels that lost nothing afterwards",
        format!("{0} of {0}", kinds.len()),
    );
    Ok(())
}

/// One allocation of one packet's way out fails: the packet is through, or counted once as lost for want of memory.
pub fn exactly(_: &Ctx) -> Outcome {
    let fail = FailNth::new()?;
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    if !reasons.known() {
        return Err(Failure::Skipped("the driver counts no reasons".into()));
    }
    // A packet that another one sees is copied before it is encrypted.
    let _tap = Sniffer::open(&lab.a.ns, "tun")?;
    let mut lost = 0;
    for n in 1..MOST {
        let (before, dropped) = (reasons.read()?, lab.a.dev()?.tx_dropped);
        let (_, failed) = fail.around(n, || Ok(lab.push(b"out").is_ok()))?;
        let now = reasons.since(&before)?;
        let count = only("tx_no_memory", &now).during(format!("allocation {n}"))?;
        check_eq!(lab.a.dev()?.tx_dropped - dropped, count, "tx_dropped");
        lost += count;
        if !failed {
            break;
        }
    }
    note!("tx_no_memory: {lost}");
    check!(lost > 0, "no packet was lost for want of memory");
    Ok(())
}

/// The same on the way in, whose packets a thread opens: one allocation of it fails for each packet.
pub fn exactly_in(_: &Ctx) -> Outcome {
    let mut lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    if !reasons.known() {
        return Err(Failure::Skipped("the driver counts no reasons".into()));
    }
    threaded(&lab.a.ns, "tun", true)?;
    let pollers: Vec<_> = pollers("tun")?.iter().map(i32::to_string).collect();
    let fail = FailNth::of(&pollers)?;
    let asleep = || -> Outcome<Option<()>> {
        for poller in &pollers {
            let stat = fs::read_to_string(format!("/proc/{poller}/stat"))?;
            if !stat.contains(") S ") {
                return Ok(None);
            }
        }
        Ok(Some(()))
    };
    // A packet that another one sees is copied before it is decrypted.
    let _tap = Sniffer::open(&lab.a.ns, "veth")?;
    let (mut lost, mut came) = (0, lab.a.stats()?.link_rx_packets);
    for n in 1..MOST {
        let (before, dropped) = (reasons.read()?, lab.a.dev()?.rx_dropped);
        let (_, failed) = fail.around(n, || {
            lab.soft.send(&Soft::datagram(b"in"))?;
            wait_for("the packet", Duration::from_secs(10), || {
                let count: u64 = reasons.since(&before)?.iter().map(|(_, n)| n).sum();
                Ok((lab.a.stats()?.link_rx_packets + count > came).then_some(()))
            })?;
            wait_for("the end of the poll", Duration::from_secs(10), asleep)
        })?;
        let now = reasons.since(&before)?;
        let count = only("rx_no_memory", &now).during(format!("allocation {n}"))?;
        check_eq!(lab.a.dev()?.rx_dropped - dropped, count, "rx_dropped");
        check_eq!(
            lab.a.stats()?.link_rx_packets,
            came + 1 - count,
            "packets opened"
        );
        came += 1 - count;
        lost += count;
        if !failed {
            break;
        }
    }
    note!("rx_no_memory: {lost}");
    check!(lost > 0, "no packet was lost for want of memory");
    Ok(())
}

/// At most one packet was lost, and for this reason.
fn only(reason: &str, lost: &[(String, u64)]) -> Outcome<u64> {
    match lost {
        [] => Ok(0),
        [(name, 1)] if name == reason => Ok(1),
        other => Err(Failure::new(format!("lost: {other:?}"))),
    }
}
