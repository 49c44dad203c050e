// SPDX-License-Identifier: GPL-2.0-only
//! The daemon's cost: many peers, many reloads, nothing to do.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::json;

use super::Routers;
use super::bus::server_uci;
use super::router::{Dir, LATER, Router, Uci, genkey};
use crate::lab::{Cmd, Pair, patience};
use crate::tap::{Case, Failure, Outcome};
use crate::{Ctx, check, check_eq, note};

/// Most memory that a router's daemon with a hundred peers may have in use, KiB. The code of MIPS is larger by half.
const MEMORY: u64 = if cfg!(target_arch = "mips") {
    2048
} else {
    1536
};

/// A server with this many peers, all in the kernel, the first of which is there.
fn many(keys: &Dir, count: u32) -> Outcome<(Router, Router)> {
    let key = keys.write("key", &genkey()?)?;
    let mut text = server_uci(&key).text();
    for n in 2..=count {
        let (high, low) = (n / 250, n % 250);
        let lines: String = (0..16)
            .map(|line| format!("{n:016x}{line:016x}\n"))
            .collect();
        let file = keys.write(
            &format!("k{n}"),
            &format!("-----BEGIN OpenVPN Static key V1-----\n{lines}-----END OpenVPN Static key V1-----\n"),
        )?;
        text += &format!(
            "config openvpn_dco_vpn0 'p{n}'\n\toption peer_id '{n}'\n\toption endpoint_host '10.10.1.{low}'\n\
             \toption endpoint_port '{}'\n\toption vpn_ip '10.9.{high}.{low}'\n\toption key_file '{file}'\n\
             \toption key_direction '0'\n\toption insecure_static_key '1'\n\toption keepalive_interval '0'\n\
             \toption keepalive_timeout '0'\n",
            2000 + n
        );
    }
    let Pair { a, b } = Pair::new()?;
    let server = Router::start(a, &text, true)?;
    let client = Router::start(b, &Uci::side(2, false, &key).text(), false)?;
    server.reaches("10.8.0.2")?;
    check_eq!(server.interface("vpn0")?["peers_up"], count, "peers");
    Ok((server, client))
}

/// The number in a line of /proc/PID/status.
fn number(router: &Router, key: &str) -> Outcome<u64> {
    let line = router.daemon.status_line(key)?;
    let word = line.split_whitespace().nth(1);
    let number = word.and_then(|word| word.parse().ok());
    number.ok_or_else(|| Failure::new(line))
}

/// Memory of a daemon with so many peers that has answered for all of them.
fn memory(count: u32) -> Outcome {
    let keys = Dir::new()?;
    let (server, _client) = many(&keys, count)?;
    let all = server.call_with("peers", &json!({"limit": 100}))?;
    let listed = all["peers"].as_array().map_or(0, Vec::len);
    check_eq!(listed, count as usize, "peers");
    let (all, own) = (number(&server, "VmRSS")?, number(&server, "RssAnon")?);
    note!("{count} peers: {all} KiB in memory, {own} KiB of it not shared with the program's file");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.daemon.id()))?;
    // As routers have it the program is one piece; elsewhere there are libraries, one of them a roomy allocator.
    let (counted, most) = match maps.contains("libc.so") {
        true => (own, 2 * MEMORY),
        false => (all, MEMORY),
    };
    check!(counted < most, "{counted} KiB, not below {most}");
    Ok(())
}

/// A thousand peers: how long answers take.
fn thousand(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let (server, _client) = many(&keys, 1000)?;
    for (method, args) in [
        ("status", json!({})),
        ("interfaces", json!({})),
        ("peers", json!({"peer": "p500"})),
        ("peers", json!({})),
        ("peers", json!({"limit": 500})),
        ("diag", json!({})),
        ("reload", json!({})),
        (
            "peer_set",
            json!({"interface": "vpn0", "peer": "p500", "options": {"keepalive_interval": 0}}),
        ),
    ] {
        // The best of several rounds: the others show what else the machine does.
        let (mut whole, mut own) = (f64::MAX, f64::MAX);
        for _ in 0..3 {
            let before = server.daemon.cpu_time()?;
            whole = whole.min(server.time(method, &args, 5)?);
            own = own.min((server.daemon.cpu_time()? - before).as_secs_f64() / 5.0);
        }
        note!(
            "1,000 peers: {method} {args} takes ovpnd {:.1} ms, with broker and caller {:.1} ms",
            own * 1e3,
            whole * 1e3
        );
        // How long it takes is told and not judged here, where other guests may run; each with each would be longer.
        check!(
            own < 0.250 * f64::from(patience()),
            "{method} {args} takes ovpnd {own} s"
        );
    }
    let second = server.call_with("peers", &json!({"offset": 990}))?;
    check_eq!(
        (
            &second["total"],
            &second["next"],
            second["peers"].as_array().map(Vec::len)
        ),
        (&json!(1000), &json!(null), Some(10)),
        "the last page"
    );
    let rss = server.daemon.status_line("VmRSS")?;
    note!("1,000 peers: {rss}");
    Ok(())
}

/// A thousand reloads in a row under iperf3, each with a change of another interface.
fn reloads(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    let base = routers.uci[0].clone();
    let both = base.text() + &base.clone().second().text();
    let index = routers.a.ns.ifindex("vpn0")?;
    let flow = crate::lab::Flow::udp(IpAddr::from([10, 8, 0, 2]), 12, 5);
    let (_listener, client) = flow.start(&routers.b.ns, &routers.a.ns)?;
    let line = format!(
        "{}\n",
        json!({"command": "call", "object": "ovpnd", "method": "reload"})
    );
    let since = Instant::now();
    for round in 0..20 {
        let text = if round % 2 == 0 { &both } else { &base.text() };
        routers.a.dir.write("network", text)?;
        let done = routers.a.bus("batch").input(line.repeat(50)).run(LATER)?;
        check_eq!(done.out.matches("\"ok\":true").count(), 100, "{}", done.out);
    }
    note!("1,000 reloads took {:.1} s", since.elapsed().as_secs_f64());
    let rate = flow.result(client)?;
    check_eq!(rate.lost_percent, 0.0, "percent of datagrams lost");
    check_eq!(
        routers.a.ns.ifindex("vpn0")?,
        index,
        "index of the interface"
    );
    check_eq!(routers.a.peer("vpn0")?["losses"], 0, "losses");
    note!(
        "after 1,000 reloads: {}",
        routers.a.daemon.status_line("VmRSS")?
    );
    Ok(())
}

/// An idle daemon sleeps. Late news of interfaces that have just come up wake it once, and not in
/// each of three stretches of time.
fn idle(_: &Ctx) -> Outcome {
    let routers = Routers::new(false, |uci| uci)?;
    let switches = || number(&routers.a, "voluntary_ctxt_switches");
    let mut wakes = Vec::new();
    while wakes.len() < 3 && wakes.last() != Some(&0) {
        let before = switches()?;
        // Time itself is what is waited for.
        Cmd::new(None, "sleep 6").ok()?;
        wakes.push(switches()? - before);
    }
    note!(
        "wake-ups in stretches of 6 s: {wakes:?}; {}",
        routers.a.daemon.status_line("VmRSS")?
    );
    check_eq!(wakes.last(), Some(&0), "wake-ups of an idle daemon");
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("memory with one peer", |_| memory(1)),
        Case::new("memory with a hundred peers", |_| memory(100)),
        Case::new("a thousand peers", thousand),
        Case::new("a thousand reloads under traffic", reloads),
        Case::new("an idle daemon sleeps", idle),
    ]
}
