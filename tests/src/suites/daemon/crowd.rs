// SPDX-License-Identifier: GPL-2.0-only
//! A hundred clients that come to ovpnd's server at once, all of them ovpnd's, too: how long ubus waits meanwhile, and the memory
//! that they take.
//!
//! ```text
//!   a: ovpnd, vpn0  --- 10.10.0.1 / 10.10.0.2 and 10.11.0.1 / 10.11.0.2 ---  b: ovpnd, c0 to c99
//! ```

use std::fs;
use std::time::Instant;

use serde_json::json;

use super::client::files;
use super::router::{LATER, Router};
use crate::lab::{Pair, patience, wait_for};
use crate::suites::openvpn::daemon::need_openvpn;
use crate::suites::openvpn::pki;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, note};

const CLIENTS: usize = 100;
/// Half of the clients come from each network: the server takes no more from one in ten seconds.
const SERVERS: [&str; 2] = ["10.10.0.1", "10.11.0.1"];
/// Longest answer of `status`, seconds, mean of [`CALLS`]: handshakes in the poll loop would take longer. How long it takes is told;
/// the aim is 20 ms on a machine of its own, and guests share their processors with both daemons and with other guests.
const LONGEST: f64 = 2.0;
const CALLS: usize = 5;
/// Most memory that the server takes for a client, KiB. An allocator of glibc's keeps more than it needs.
const MEMORY: u64 = 96;

/// An interface of UCI with the files of [`files`].
fn section(name: &str, side: &str, options: &[(&str, &str)]) -> Outcome<String> {
    let dir = pki::dir()?;
    let mut text = format!("config interface '{name}'\n\toption proto 'openvpn_dco'\n");
    for (option, file) in [
        ("ca", "vpn-ca.crt".to_owned()),
        ("cert", format!("{side}-p256.crt")),
        ("key", format!("{side}-p256.key")),
        ("tls_crypt", "tls-auth.key".to_owned()),
    ] {
        text += &format!("\toption {option} '{}/{file}'\n", dir.display());
    }
    for (option, value) in options {
        text += &format!("\toption {option} '{value}'\n");
    }
    Ok(text)
}

/// The memory of a daemon that is its own alone, KiB.
fn own_memory(router: &Router) -> Outcome<u64> {
    let line = router.daemon.status_line("RssAnon")?;
    let word = line.split_whitespace().nth(1);
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| Failure::new(line))
}

/// The processor time of a daemon's threads so far, ms: that of the poll loop, which answers ubus, and of all others.
fn busy(router: &Router) -> Outcome<(u64, u64)> {
    let main = router.daemon.id().to_string();
    let (mut loops, mut others) = (0, 0);
    for entry in fs::read_dir(format!("/proc/{main}/task"))? {
        let path = entry?.path();
        let stat = fs::read_to_string(path.join("stat"))?;
        // proc_pid_stat(5): fields 14 and 15, hundredths of a second; the name may have blanks.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ms: u64 = ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10;
        match path.file_name().is_some_and(|name| *name == *main) {
            true => loops += ms,
            false => others += ms,
        }
    }
    Ok((loops, others))
}

fn crowd(_: &Ctx) -> Outcome {
    need_openvpn()?;
    files()?;
    let Pair { a, b } = Pair::new()?;
    a.ip("addr add 10.11.0.1/24 dev veth")?;
    b.ip("addr add 10.11.0.2/24 dev veth")?;
    let options = [("server", "10.8.0.0/24"), ("duplicate_cn", "1")];
    let server = Router::start(a, &section("vpn0", "server", &options)?, true)?;
    let before = own_memory(&server)?;
    let mut text = String::new();
    for n in 0..CLIENTS {
        let remote = SERVERS[n % SERVERS.len()];
        let options = [("client", "1"), ("remote", remote)];
        text += &section(&format!("c{n}"), "client", &options)?;
    }
    let since = Instant::now();
    let clients = Router::start(b, &text, false)?;
    let mut longest = 0f64;
    wait_for("a hundred clients", LATER, || {
        let status = server.time("status", &json!({}), CALLS)?;
        longest = longest.max(status);
        let told = server.call_with("interfaces", &json!({"interface": "vpn0"}))?;
        Ok((told["interfaces"][0]["peers_up"] == CLIENTS).then_some(()))
    })
    .during(server.daemon.stderr())
    .during(clients.daemon.stderr())?;
    let each = own_memory(&server)?.saturating_sub(before) / CLIENTS as u64;
    let (loops, others) = busy(&server)?;
    note!(
        "{CLIENTS} clients at once: up after {:.1} s; status took at most {:.1} ms meanwhile; {each} KiB for each; \
         the poll loop ran for {loops} ms, the control channel for {others} ms",
        since.elapsed().as_secs_f64(),
        longest * 1e3
    );
    check!(
        longest < LONGEST * f64::from(patience()),
        "status took {longest} s"
    );
    check!(each <= MEMORY, "{each} KiB for each client");
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("a hundred clients come at once", crowd)]
}
