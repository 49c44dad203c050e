// SPDX-License-Identifier: GPL-2.0-only
//! Which implementation carries a key, and asynchronous ones: nothing is reordered, nothing is lost but by a counter that
//! says so, and nothing stays behind, whatever is deleted while an engine has its packets.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{
    Cipher, DropReasons, End, Flow, Module, Outer, Param, Sniffer, Soft, SoftTunnel, Tunnel,
    TunnelSpec, iperf, wait_for,
};
use crate::nl::ovpn::{PRIMARY, SECONDARY, keyconf};
use crate::suites::p2p;
use crate::tap::{Case, During, Failure, Outcome};
use crate::wire::{self, Header};
use crate::{Ctx, check, check_eq, note};

/// The kernel's two templates that make any cipher asynchronous: by a queue for each CPU, by several CPUs at once.
const TEMPLATES: [&str; 2] = ["cryptd", "pcrypt"];
/// The module's parameter for a cipher.
fn parameter(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::ChaCha => "chacha20_poly1305",
        _ => "aes_gcm",
    }
}

/// Has keys to come carried by a template around the crypto API's synchronous driver.
fn prefer(template: &str, cipher: Cipher) -> Outcome<Param> {
    static DRIVERS: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());
    let param = Param::set(parameter(cipher), "!library")?;
    let mut drivers = DRIVERS.lock().map_err(Failure::new)?;
    if !drivers.iter().any(|(of, _)| *of == parameter(cipher)) {
        drivers.push((parameter(cipher), carried_by(cipher)?.0));
    }
    let driver = drivers.iter().find(|(of, _)| *of == parameter(cipher));
    let driver = driver.map_or("", |(_, name)| name);
    param.write(&format!("{template}({driver})"))?;
    Ok(param)
}

/// The implementation that carries a key: the driver's name, and whether it is asynchronous.
fn driver_of(end: &End, slot: u32) -> Outcome<(String, bool)> {
    let key = end.nl.key_get_extended(end.ifindex, end.id, slot)?;
    let name = key
        .text(keyconf::DRIVER)
        .ok_or_else(|| Failure::new("KEY_GET names no driver"))?;
    Ok((name, key.get(keyconf::ASYNC).is_some()))
}

/// Demands answers to pings, one after the other: several in one run are given up when the last takes much longer than
/// those before it, which is no loss, and an engine has its moods on a busy machine.
fn answers(tunnel: &Tunnel, count: u32) -> Outcome {
    (0..count).try_for_each(|_| tunnel.works(1))
}

/// An end with a key of this cipher, which tells what carries it.
fn carried_by(cipher: Cipher) -> Outcome<(String, bool)> {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        ..TunnelSpec::default()
    })?;
    answers(&tunnel, 3)?;
    driver_of(&tunnel.a, PRIMARY)
}

fn default_is_synchronous(_: &Ctx) -> Outcome {
    // Once they have been used, the templates' instances outrank what they are made of.
    for template in TEMPLATES {
        for cipher in [Cipher::Aes256, Cipher::ChaCha] {
            let _preference = prefer(template, cipher)?;
            check!(carried_by(cipher)?.1, "{template} is not asynchronous");
        }
    }
    for cipher in Cipher::ALL {
        let (name, is_async) = carried_by(cipher)?;
        note!("{}: {name}", cipher.name());
        check!(!is_async, "{} is asynchronous", cipher.name());
        check_eq!(
            name == "library",
            cipher == Cipher::ChaCha,
            "{} by the library",
            cipher.name()
        );
    }
    Ok(())
}

/// A caller that does not ask for them gets no attributes that mainline does not have.
fn plain_key_get(_: &Ctx) -> Outcome {
    let tunnel = Tunnel::simple()?;
    let (a, mainline) = (&tunnel.a, [1, 2, 3, 4]);
    let plain = a.nl.key_get(a.ifindex, a.id, PRIMARY)??;
    check_eq!(plain.kinds(), mainline, "attributes of a plain KEY_GET");
    let all = a.nl.key_get_extended(a.ifindex, a.id, PRIMARY)?.kinds();
    check_eq!(
        all,
        [&mainline[..], &[keyconf::DRIVER]].concat(),
        "attributes of an extended KEY_GET"
    );
    Ok(())
}

fn malformed(_: &Ctx) -> Outcome {
    let long = "x".repeat(256);
    for parameter in [Cipher::Aes256, Cipher::ChaCha].map(parameter) {
        let param = Param::set(parameter, "good,!bad,async")?;
        for text in [",", "a,", "!", "!async", "a b", "a(", "a)", "\u{e4}", &long] {
            let refused = param
                .write(text)
                .is_err_and(|e| e.kind() == ErrorKind::InvalidInput);
            check!(refused, "{parameter}: {text:?} was taken");
            check_eq!(Param::read(parameter)?, "good,!bad,async", "{parameter}");
        }
    }
    Ok(())
}

/// A tunnel is worth more than a preference.
fn missing(_: &Ctx) -> Outcome {
    for cipher in [Cipher::Aes256, Cipher::ChaCha] {
        let usual = carried_by(cipher)?;
        // One that is not there, one of another algorithm, and no other left.
        for wish in [
            "no-such-driver".to_owned(),
            "cryptd(no-such-thing(aes))".to_owned(),
            "ctr(aes)".to_owned(),
        ] {
            let _wish = Param::set(parameter(cipher), &wish)?;
            check_eq!(
                carried_by(cipher).during(&wish)?,
                usual,
                "{}, {wish}",
                cipher.name()
            );
        }
    }
    let (usual, _) = carried_by(Cipher::Aes256)?;
    let _wish = Param::set(parameter(Cipher::Aes256), &format!("!{usual}"))?;
    let (other, is_async) = carried_by(Cipher::Aes256)?;
    note!("without {usual}: {other}");
    check!(!is_async, "{other} is asynchronous");
    Ok(())
}

/// The second wish is taken when the first is not there; exclusion and rank.
fn chosen(_: &Ctx) -> Outcome {
    let (usual, _) = carried_by(Cipher::Aes256)?;
    let wish = Param::set(
        parameter(Cipher::Aes256),
        &format!("no-such-driver,cryptd({usual})"),
    )?;
    let (cryptd, is_async) = carried_by(Cipher::Aes256)?;
    check!(
        cryptd.starts_with("cryptd(") && is_async,
        "{cryptd}, asynchronous: {is_async}"
    );
    // By now it outranks what it is made of.
    wish.write("async")?;
    let (highest, is_async) = carried_by(Cipher::Aes256)?;
    check!(is_async, "async: {highest}");
    wish.write(&format!("async,!{highest}"))?;
    let (next, _) = carried_by(Cipher::Aes256)?;
    check!(next != highest, "{next}, which was excluded");
    let _library = Param::set(parameter(Cipher::ChaCha), "!library")?;
    let (api, is_async) = carried_by(Cipher::ChaCha)?;
    check!(
        api != "library" && !is_async,
        "!library: {api}, asynchronous: {is_async}"
    );
    Ok(())
}

/// Drops of a device so far, by reason, and its totals.
struct Drops<'a> {
    end: &'a End,
    reasons: DropReasons,
    before: Vec<(String, u64)>,
}

impl<'a> Drops<'a> {
    fn watch(end: &'a End) -> Outcome<Self> {
        let reasons = DropReasons::open(&end.ns, "tun")?;
        let before = reasons.read()?;
        Ok(Self {
            end,
            reasons,
            before,
        })
    }

    fn since(&self) -> Outcome<Vec<(String, u64)>> {
        self.reasons.since(&self.before)
    }

    fn none(&self) -> Outcome {
        check_eq!(self.since()?, [], "drops");
        let dev = self.end.dev()?;
        check_eq!((dev.rx_dropped, dev.tx_dropped), (0, 0), "dropped in all");
        Ok(())
    }
}

const DATAGRAMS: u32 = 4000;

/// Numbers, as texts of inner datagrams.
fn text(number: u32) -> [u8; 64] {
    let mut text = [0x5a; 64];
    if let Some(head) = text.first_chunk_mut() {
        *head = number.to_be_bytes();
    }
    text
}

fn number(text: &[u8]) -> Option<u32> {
    text.first_chunk().copied().map(u32::from_be_bytes)
}

/// One datagram after the other, in through the engine and out through it: all come, in order, and packet ids too.
fn datagrams_in_order(template: &str, cipher: Cipher) -> Outcome {
    let _preference = prefer(template, cipher)?;
    let mut lab = SoftTunnel::new(cipher, Outer::V4)?;
    let (name, is_async) = driver_of(&lab.a, PRIMARY)?;
    check!(
        is_async && name.starts_with(template),
        "{name}, asynchronous: {is_async}"
    );
    let drops = Drops::watch(&lab.a)?;
    let mut expected_id = 1;
    for batch in 0..DATAGRAMS / 100 {
        // As many as the buffers on the way hold without doubt.
        for n in batch * 100..(batch + 1) * 100 {
            lab.push(&text(n))?;
        }
        for n in batch * 100..(batch + 1) * 100 {
            let (header, plain) = lab.soft.recv(1)?;
            check_eq!(header.packet_id, expected_id, "packet id");
            expected_id += 1;
            check_eq!(
                plain.get(28..).and_then(number),
                Some(n),
                "number of the datagram sent"
            );
        }
    }
    for batch in 0..DATAGRAMS / 100 {
        for n in batch * 100..(batch + 1) * 100 {
            lab.soft.send(&Soft::datagram(&text(n)))?;
        }
        for n in batch * 100..(batch + 1) * 100 {
            lab.expect(&text(n)).during(format!("datagram {n}"))?;
        }
    }
    drops.none()
}

/// Takes what a device sends until told to stop; says how many packets it saw, and of how many keys.
fn ids_in_order(sniffer: &Sniffer, stop: &AtomicBool) -> Outcome<(usize, usize)> {
    let (mut last, mut seen) = (HashMap::new(), 0);
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        for packet in sniffer.udp_sent()? {
            let Some(header) = Header::parse(&packet).filter(|h| h.opcode == wire::DATA_V2) else {
                continue;
            };
            let before = last.insert(header.key_id, header.packet_id).unwrap_or(0);
            check!(
                header.packet_id > before,
                "packet id {} of key {} came after {before}",
                header.packet_id,
                header.key_id
            );
            seen += 1;
        }
        if stopping {
            return Ok((seen, last.len()));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs traffic while the wires of both ends are watched for packet ids that go back.
fn watched(tunnel: &Tunnel, traffic: impl FnOnce() -> Outcome) -> Outcome<usize> {
    let sniffers = (
        Sniffer::open(&tunnel.a.ns, "veth")?,
        Sniffer::open(&tunnel.b.ns, "veth")?,
    );
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers =
            [&sniffers.0, &sniffers.1].map(|s| scope.spawn(move || ids_in_order(s, stop)));
        let outcome = traffic();
        stop.store(true, Ordering::Relaxed);
        let mut all = 0;
        for watcher in watchers {
            let panic = |_| Err(Failure::new("panic"));
            all += watcher.join().unwrap_or_else(panic)?.0;
        }
        outcome?;
        Ok(all)
    })
}

fn load_in_order(template: &str, cipher: Cipher) -> Outcome {
    let _preference = prefer(template, cipher)?;
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        ..TunnelSpec::default()
    })?;
    let drops = [Drops::watch(&tunnel.a)?, Drops::watch(&tunnel.b)?];
    answers(&tunnel, 30)?;
    let dst = Tunnel::inner(false, 2);
    // With a limit the windows are small, and four of them are less than the queues hold: while the machine does other
    // work, TCP must not fill a queue up.
    let tcp = |dst| Flow {
        mbit: 1000,
        ..Flow::tcp(dst, 1)
    };
    let flows = [
        tcp(dst),
        Flow {
            reverse: true,
            streams: 4,
            ..tcp(Tunnel::inner(true, 2))
        },
        Flow::udp(dst, 1, 20),
    ];
    let seen = watched(&tunnel, || {
        let mut all = 0.0;
        for flow in &flows {
            let rate = iperf(flow, &tunnel.b.ns, &tunnel.a.ns)?;
            note!(
                "{template}, {}: {:.0} Mbit/s, {:.2} % lost, {} out of order",
                cipher.name(),
                rate.mbit,
                rate.lost_percent,
                rate.out_of_order
            );
            all += rate.mbit;
            check_eq!(
                (rate.lost_percent > 0.0, rate.out_of_order),
                (false, 0),
                "datagrams lost, and out of order"
            );
        }
        check!(all >= 1.0, "only {all:.2} Mbit/s by all flows");
        Ok(())
    })?;
    check!(seen > 100, "only {seen} packets were seen on the wire");
    drops.iter().try_for_each(Drops::none)
}

/// The primary key changes between one of an engine and one that needs none: what the CPU is done with at once must not
/// overtake what the engine still has.
fn mixed_keys(template: &str) -> Outcome {
    let _preference = prefer(template, Cipher::Aes256)?;
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    lab.a.add_key(SECONDARY, Cipher::ChaCha, 2)?;
    check!(driver_of(&lab.a, PRIMARY)?.1, "AES is not asynchronous");
    check!(!driver_of(&lab.a, SECONDARY)?.1, "ChaCha is asynchronous");
    let drops = Drops::watch(&lab.a)?;
    // Not the other end's socket: packets that leave on different CPUs need not reach it in order.
    let wire_of_a = Sniffer::open(&lab.a.ns, "veth")?;
    let mut by_key = [0, 0];
    for batch in 0..DATAGRAMS / 50 {
        for n in batch * 50..(batch + 1) * 50 {
            if n % 7 == 0 {
                lab.a.nl.key_swap(lab.a.ifindex, lab.a.id)?;
            }
            lab.push(&text(n))?;
        }
        let mut sent = Vec::new();
        wait_for("fifty packets", Duration::from_secs(5), || {
            sent.extend(wire_of_a.udp_sent()?);
            Ok((sent.len() >= 50).then_some(()))
        })?;
        for (n, packet) in (batch * 50..).zip(sent) {
            let key_id = Header::parse(&packet).map(|h| h.key_id);
            let (cipher, key) = match key_id {
                Some(1) => (Cipher::Aes256, 1),
                _ => (Cipher::ChaCha, 2),
            };
            let (_, plain) = wire::open(cipher, &cipher.dir(key, true), &packet)?;
            check_eq!(plain.get(28..).and_then(number), Some(n), "number");
            if let Some(count) = by_key.get_mut(usize::from(key) - 1) {
                *count += 1;
            }
        }
    }
    check!(
        by_key.iter().all(|n| *n > DATAGRAMS / 4),
        "packets by key: {by_key:?}"
    );
    drops.none()
}

/// More than the engine can take, from a sender that does not wait: what is lost is counted, and nothing else is lost.
fn overload(template: &str) -> Outcome {
    const BURST: u32 = 30_000;
    let _preference = prefer(template, Cipher::Aes256)?;
    let tunnel = Tunnel::simple()?;
    let drops = Drops::watch(&tunnel.a)?;
    let before = tunnel.a.stats()?;
    let dst = (Tunnel::inner(false, 2), 9);
    // Unprivileged sockets wait for their buffer; these have too much of it.
    let burst = || -> Outcome {
        let sock = tunnel.a.ns.udp(false, 0)?;
        crate::lab::huge_send_buffer(&sock)?;
        for n in 0..BURST / 2 {
            sock.send_to(&text(n), dst)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(burst), scope.spawn(burst)];
        let panic = |_| Err(Failure::new("panic"));
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(panic))
    })?;
    let full = wait_for(
        "every packet to be sent or counted",
        Duration::from_secs(10),
        || {
            let now = tunnel.a.stats()?;
            let lost: u64 = drops.since()?.iter().map(|(_, n)| n).sum();
            let taken = now.vpn_tx_packets - before.vpn_tx_packets;
            let sent = now.link_tx_packets - before.link_tx_packets;
            Ok((taken >= u64::from(BURST) && sent + lost == taken).then_some(lost))
        },
    )
    .map_err(|e| e.during(format!("{:?}, {:?}", drops.since(), tunnel.a.stats())))?;
    note!("{template}: {full} of {BURST} did not fit");
    let others = drops.since()?;
    check!(
        others.iter().all(|(name, _)| name == "tx_queue_full"),
        "drops: {others:?}"
    );
    answers(&tunnel, 10)
}

/// An engine that takes no work: pcrypt without a processor to work on (kernel/padata.c). Each packet is counted, and the
/// tunnel works as soon as the engine does.
fn refused(_: &Ctx) -> Outcome {
    let _preference = prefer("pcrypt", Cipher::Aes256)?;
    let lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    let drops = Drops::watch(&lab.a)?;
    let processors = "/sys/kernel/pcrypt/pencrypt/parallel_cpumask";
    let usual = fs::read_to_string(processors).during(processors)?;
    fs::write(processors, "0").during(processors)?;
    let pushed = (0..5).try_for_each(|n| lab.push(&text(n)));
    let lost = pushed.and_then(|()| {
        wait_for("the packets to be counted", Duration::from_secs(5), || {
            let lost = drops.since()?;
            let all: u64 = lost.iter().map(|(_, n)| n).sum();
            Ok((all >= 5).then_some(lost))
        })
    });
    fs::write(processors, usual.trim()).during(processors)?;
    check_eq!(lost?, [("tx_crypto".to_owned(), 5)], "drops");
    check_eq!(lab.a.dev()?.tx_dropped, 5, "tx_dropped");
    lab.push(&text(5))?;
    let (_, plain) = lab.soft.recv(1)?;
    check_eq!(
        plain.get(28..).and_then(number),
        Some(5),
        "number of the datagram sent"
    );
    Ok(())
}

/// The peer goes while the engine has packets of both directions: each is counted as lost with it, or was through.
fn peer_gone(template: &str) -> Outcome {
    const BURST: u32 = 20;
    let _preference = prefer(template, Cipher::Aes256)?;
    let mut lab = SoftTunnel::new(Cipher::Aes256, Outer::V4)?;
    let reasons = DropReasons::open(&lab.a.ns, "tun")?;
    let before = (reasons.read()?, lab.a.dev()?);
    let lost = |name: &str| -> Outcome<u64> {
        let all = reasons.since(&before.0)?;
        Ok(all.iter().find(|(n, _)| n == name).map_or(0, |(_, n)| *n))
    };
    let mut sent = 0;
    // Which of them are in the engine at that moment is the scheduler's affair.
    for round in 0..300 {
        lab.a.add_peer()?;
        lab.a.add_key(PRIMARY, Cipher::Aes256, 1)?;
        lab.soft.next_id = 1;
        for n in 0..BURST {
            lab.push(&text(n))?;
            lab.soft.send(&Soft::datagram(&text(n)))?;
        }
        sent += u64::from(BURST);
        lab.a.nl.peer_del(lab.a.ifindex, lab.a.id)?;
        if lost("rx_gone")? > 0 && lost("tx_no_transport")? > 0 {
            note!("{template}: both directions by round {round}");
            break;
        }
    }
    wait_for(
        "every packet to be counted",
        Duration::from_secs(10),
        || {
            let through = lab.a.dev()?.rx_packets - before.1.rx_packets;
            let lost = lost("rx_gone")? + lost("rx_unknown_peer")?;
            Ok((through + lost == sent).then_some(()))
        },
    )
    .map_err(|e| e.during(format!("{sent} sent, {:?}", reasons.since(&before.0))))?;
    let all = reasons.since(&before.0)?;
    note!("{template}: {all:?}");
    let expected = ["rx_unknown_peer", "rx_gone", "tx_no_transport"];
    check!(
        all.iter()
            .all(|(name, _)| expected.contains(&name.as_str())),
        "drops: {all:?}"
    );
    let dev = lab.a.dev()?;
    let sum = |prefix| -> u64 {
        let of = all.iter().filter(|(name, _)| name.starts_with(prefix));
        of.map(|(_, n)| n).sum()
    };
    check_eq!(
        (
            dev.rx_dropped - before.1.rx_dropped,
            dev.tx_dropped - before.1.tx_dropped
        ),
        (sum("rx_"), sum("tx_")),
        "rx_dropped, tx_dropped"
    );
    check!(
        lost("rx_gone")? > 0 && lost("tx_no_transport")? > 0,
        "the engine never had packets of both directions: {all:?}"
    );
    Ok(())
}

/// The module goes while engines have packets of several peers.
fn unloaded(ctx: &Ctx, template: &str) -> Outcome {
    for round in 0..3 {
        let _preferences = (
            prefer(template, Cipher::Aes256)?,
            prefer(template, Cipher::ChaCha)?,
        );
        let tunnels = [Cipher::Aes128, Cipher::ChaCha].map(|cipher| {
            Tunnel::new(TunnelSpec {
                cipher,
                ..TunnelSpec::default()
            })
        });
        let mut traffic = Vec::new();
        for tunnel in tunnels.iter().flatten() {
            traffic.extend(p2p::busy(tunnel)?);
        }
        check_eq!(traffic.len(), 6, "processes");
        let start = Instant::now();
        Module::unload().during(format!("round {round}"))?;
        note!("{template}: unloaded within {:?}", start.elapsed());
        drop((traffic, tunnels));
        ctx.module.load()?;
    }
    Tunnel::simple()?.works(20)
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("default: synchronous", default_is_synchronous),
        Case::new("KEY_GET: driver, for those who ask", plain_key_get),
        Case::new("preference: malformed", malformed),
        Case::new("preference: nothing fits", missing),
        Case::new("preference: second choice, rank, exclusion", chosen),
        Case::new("pcrypt: refuses every packet", refused),
    ];
    for template in TEMPLATES {
        for cipher in [Cipher::Aes256, Cipher::ChaCha] {
            let of = format!("{template}, {}", cipher.name());
            cases.push(Case::new(format!("{of}: datagrams in order"), move |_| {
                datagrams_in_order(template, cipher)
            }));
            cases.push(Case::new(
                format!("{of}: iperf3 in order, idle without loss"),
                move |_| load_in_order(template, cipher),
            ));
        }
        cases.push(Case::new(
            format!("{template}: keys of engine and CPU in turns"),
            move |_| mixed_keys(template),
        ));
        cases.push(Case::new(format!("{template}: overload"), move |_| {
            overload(template)
        }));
        cases.push(Case::new(
            format!("{template}: the peer goes while the engine has its packets"),
            move |_| peer_gone(template),
        ));
        // The changes that synchronous keys see under load, applied to these.
        cases.extend(p2p::cases_under_load().into_iter().map(|case| {
            Case::new(format!("{template}: {}", case.name), move |ctx| {
                let _preferences = (
                    prefer(template, Cipher::Aes256)?,
                    prefer(template, Cipher::ChaCha)?,
                );
                (case.run)(ctx)
            })
        }));
        cases.push(Case::new(
            format!("{template}: module unloaded under traffic"),
            move |ctx| unloaded(ctx, template),
        ));
    }
    cases
}
