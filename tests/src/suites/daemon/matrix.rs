// SPDX-License-Identifier: GPL-2.0-only
//! ovpnd and OpenVPN of three releases, as client and as server: each pair of the values below meets in a case.
//!
//! ```text
//!   a: ovpnd, vpn0  --- 10.10.0.1 / 10.10.0.2, fd00:10::1 / fd00:10::2 ---  b: openvpn 2.7, 2.6 or 2.5, tun0
//! ```
//!
//! 2.5 makes its data keys by the PRF, the later ones by TLS's exporter.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::client::{WRAPS, certificates, files};
use super::router::{LATER, Router};
use super::server::users;
use crate::lab::{Cmd, Flow, Ns, Pair, Ping, iperf, wait_for};
use crate::suites::openvpn::daemon::{DEVICE, Daemon, Program, need_openvpn};
use crate::suites::openvpn::pki;
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

/// How the two sides know each other.
const AUTHS: [&str; 7] = [
    "p256",
    "p384",
    "rsa",
    "rsa4096",
    "ed25519",
    "fingerprint",
    "password",
];
const TLS: [&str; 2] = ["1.3", "1.2"];
const TRANSPORTS: [&str; 4] = ["udp4", "udp6", "tcp4", "tcp6"];
const ROLES: [&str; 2] = ["client", "server"];
const PROGRAMS: [Program; 3] = [Program::Root, Program::Older("2.6"), Program::Older("2.5")];
/// Options of ovpnd that are lists.
const LISTS: [&str; 3] = ["remote", "ovpnproto", "peer_fingerprint"];
/// How many values each place of a [`Row`] has.
const VALUES: [usize; 6] = [
    WRAPS.len(),
    AUTHS.len(),
    TLS.len(),
    TRANSPORTS.len(),
    ROLES.len(),
    PROGRAMS.len(),
];

/// A case: an index into each of WRAPS, AUTHS, TLS, TRANSPORTS, ROLES, PROGRAMS.
type Row = [usize; 6];
/// Two places of a row with their values.
type Couple = (usize, usize, usize, usize);

fn all_rows() -> Vec<Row> {
    let mut rows = vec![[0; 6]];
    for (place, count) in VALUES.into_iter().enumerate() {
        rows = (0..count)
            .flat_map(|value| {
                rows.iter().map(move |row| {
                    let mut row = *row;
                    row[place] = value;
                    row
                })
            })
            .collect();
    }
    rows
}

fn couples(row: &Row) -> impl Iterator<Item = Couple> {
    let row = *row;
    (0..row.len()).flat_map(move |a| (a + 1..row.len()).map(move |b| (a, row[a], b, row[b])))
}

/// Rows in which each couple of values is that `wanted` takes: always the row with the most that are not there yet.
fn covering(wanted: impl Fn(&Couple) -> bool) -> Vec<Row> {
    let all = all_rows();
    let mut open: std::collections::BTreeSet<Couple> =
        all.iter().flat_map(couples).filter(|c| wanted(c)).collect();
    let mut rows = Vec::new();
    while !open.is_empty() {
        let new = |row: &&Row| couples(row).filter(|c| open.contains(c)).count();
        // The last one of the best: reversed, so that it is the first.
        let Some(best) = all.iter().rev().max_by_key(new).copied() else {
            break;
        };
        couples(&best).for_each(|couple| {
            open.remove(&couple);
        });
        rows.push(best);
    }
    rows
}

/// One case in words.
fn name(row: &Row) -> String {
    let [wrap, auth, tls, transport, role, program] = *row;
    format!(
        "{} of openvpn {}: {}, {}, TLS {}, {}",
        ROLES[role],
        PROGRAMS[program].version(),
        WRAPS[wrap].name,
        AUTHS[auth],
        TLS[tls],
        TRANSPORTS[transport]
    )
}

/// Files that a row needs besides those of [`files`].
fn more_files(auth: &str) -> Outcome {
    files()?;
    match auth {
        "p384" => certificates(20, auth, "-newkey ec -pkeyopt ec_paramgen_curve:P-384")?,
        "rsa4096" => certificates(21, auth, "-newkey rsa:4096")?,
        _ => {}
    }
    for side in ["fp-server", "fp-client"] {
        pki::fingerprint(side)?;
    }
    let dir = pki::dir()?;
    fs::write(dir.join("up.txt"), "anna\nright\n")?;
    fs::write(
        dir.join("right.sh"),
        "#!/bin/sh\n{ read -r user; read -r word; } < \"$1\"\n[ \"$user $word\" = 'anna right' ]\n",
    )?;
    Cmd::new(None, "sh -c")
        .arg(format!(
            "cd {} && chmod 700 right.sh && chmod 600 up.txt fp-*.key",
            dir.display()
        ))
        .ok()
        .map(drop)
}

struct Setting {
    wrap: usize,
    auth: &'static str,
    tls: &'static str,
    transport: &'static str,
    /// ovpnd's.
    role: &'static str,
    program: Program,
}

impl Setting {
    fn new(row: &Row) -> Self {
        let [wrap, auth, tls, transport, role, program] = *row;
        Self {
            wrap,
            auth: AUTHS[auth],
            tls: TLS[tls],
            transport: TRANSPORTS[transport],
            role: ROLES[role],
            program: PROGRAMS[program],
        }
    }

    /// Stock OpenVPN's role.
    fn other(&self) -> &'static str {
        match self.role {
            "client" => "server",
            _ => "client",
        }
    }

    /// The address of a side outside of the tunnel, 1 or 2.
    fn outer(&self, side: u8) -> String {
        match self.transport.ends_with('6') {
            true => format!("fd00:10::{side}"),
            false => format!("10.10.0.{side}"),
        }
    }

    /// ovpnd's options.
    fn uci(&self) -> Outcome<String> {
        let dir = pki::dir()?.display().to_string();
        let file = |name: &str| format!("{dir}/{name}");
        let mut lines = vec!["option proto 'openvpn_dco'".to_owned()];
        let mut option = |name: &str, value: String| {
            let kind = match LISTS.contains(&name) {
                true => "list",
                false => "option",
            };
            lines.push(format!("{kind} {name} '{value}'"));
        };
        let (side, other) = (self.role, self.other());
        match side {
            "client" => {
                option("client", "1".into());
                option(
                    "remote",
                    format!("{} 1194 {}", self.outer(2), self.transport),
                );
            }
            _ => {
                option("server", "10.8.0.0 255.255.255.0".into());
                option("ovpnproto", self.transport.into());
                option("keepalive", "2 20".into());
            }
        }
        match self.auth {
            "fingerprint" => {
                option(
                    "peer_fingerprint",
                    pki::fingerprint(&format!("fp-{other}"))?,
                );
                option("cert", file(&format!("fp-{side}.crt")));
                option("key", file(&format!("fp-{side}.key")));
            }
            "password" if side == "client" => {
                option("ca", file("vpn-ca.crt"));
                option("username", "anna".into());
                option("password", "right".into());
            }
            auth => {
                let algorithm = if auth == "password" { "p256" } else { auth };
                option("ca", file("vpn-ca.crt"));
                option("cert", file(&format!("{side}-{algorithm}.crt")));
                option("key", file(&format!("{side}-{algorithm}.key")));
                if auth == "password" {
                    option("user_file", users("right")?);
                    option("verify_client_cert", "none".into());
                }
            }
        }
        for (name, value) in WRAPS[self.wrap].options(side)? {
            option(name, value);
        }
        let text: String = lines.iter().map(|line| format!("\t{line}\n")).collect();
        Ok(format!("config interface 'vpn0'\n{text}"))
    }

    /// OpenVPN's directives.
    fn config(&self) -> Outcome<String> {
        let side = self.other();
        let mut text = format!(
            "verb 3\ndev {DEVICE}\ndev-type tun\nproto {}\ntls-version-min {2}\ntls-version-max {2}\n{1}",
            match self.transport.starts_with("tcp") {
                true => format!("{}-{side}", self.transport),
                false => self.transport.to_owned(),
            },
            // 2.5 has no kernel path to switch off.
            match self.program {
                Program::Older("2.5") => "",
                _ => "disable-dco\n",
            },
            self.tls
        );
        text += &match side {
            "server" => "server 10.8.0.0 255.255.255.0\ntopology subnet\ndh none\nkeepalive 2 20\n"
                .to_owned(),
            _ => format!(
                "client\nremote {} 1194\nnobind\nconnect-retry 1 2\n",
                self.outer(1)
            ),
        };
        text += &match self.auth {
            "fingerprint" => {
                let other = format!("fp-{}", self.role);
                let known = match self.program {
                    // Before 2.6 a certificate that signs itself is known as its own CA.
                    Program::Older("2.5") => format!("ca {other}.crt\n"),
                    _ => format!("peer-fingerprint {}\n", pki::fingerprint(&other)?),
                };
                format!("{known}cert fp-{side}.crt\nkey fp-{side}.key\n")
            }
            "password" if side == "client" => "ca vpn-ca.crt\nauth-user-pass up.txt\n".to_owned(),
            auth => {
                let more = match auth {
                    "password" => {
                        "verify-client-cert none\nscript-security 2\nauth-user-pass-verify ./right.sh via-file\n"
                    }
                    _ => "",
                };
                let algorithm = if auth == "password" { "p256" } else { auth };
                format!(
                    "ca vpn-ca.crt\ncert {side}-{algorithm}.crt\nkey {side}-{algorithm}.key\n{more}"
                )
            }
        };
        text += &WRAPS[self.wrap].directive(side);
        Ok(text)
    }
}

/// From nothing to pings and a TCP flow, by the TLS version that was asked for.
fn whole(row: &Row) -> Outcome {
    need_openvpn()?;
    let setting = Setting::new(row);
    more_files(setting.auth)?;
    let Pair { a, b } = Pair::new()?;
    let stock = |ns: &Ns| Daemon::start_program(setting.program, ns, "matrix", &setting.config()?);
    // A server listens before its client calls: the client's next attempt would be seconds later.
    let (router, mut stock) = match setting.role {
        "client" => {
            let stock = stock(&b)?;
            wait_for("openvpn to listen", LATER, || {
                Ok(stock.is_listening().then_some(()))
            })
            .during(stock.tail(20))?;
            (Router::start(a, &setting.uci()?, true)?, stock)
        }
        _ => {
            let router = Router::start(a, &setting.uci()?, true)?;
            (router, stock(&b)?)
        }
    };
    wait_for("peer: up", LATER, || {
        // A server has none until its client is let in.
        let interface = router.interface("vpn0")?;
        let peer = interface["peers"].get(0);
        Ok(peer.is_some_and(|peer| peer["state"] == "up").then_some(()))
    })
    .during(router.daemon.stderr())
    .during(stock.tail(30))?;
    let (ours, theirs) = match setting.role {
        "client" => (Ipv4Addr::new(10, 8, 0, 2), Ipv4Addr::new(10, 8, 0, 1)),
        _ => (Ipv4Addr::new(10, 8, 0, 1), Ipv4Addr::new(10, 8, 0, 2)),
    };
    router.reaches(&theirs.to_string()).during(stock.tail(30))?;
    Ping::new(IpAddr::from(theirs), 20)
        .echo()?
        .start(&router.ns)?
        .lossless()
        .during(stock.tail(30))?;
    let rate = iperf(&Flow::tcp(IpAddr::from(ours), 1), &router.ns, &b)
        .during(stock.tail(30))
        .during(router.daemon.stderr())?;
    check!(rate.mbit > 0.0, "nothing went through");
    let peer = router.peer("vpn0")?;
    check_eq!(
        json!(["control", "error", "has_key"].map(|key| &peer[key])),
        json!(["tls", null, true]),
        "peer"
    );
    let version = format!("Control Channel: TLSv{}", setting.tls);
    check!(stock.log().contains(&version), "{}", stock.tail(40));
    stock.signal(libc::SIGTERM);
    stock.ended().during(stock.tail(20))?;
    router.end(libc::SIGTERM).map(drop)
}

fn case(row: Row) -> Case {
    Case::new(name(&row), move |_: &Ctx| whole(&row))
}

/// All couples of values.
pub(super) fn cases() -> Vec<Case> {
    covering(|_| true).into_iter().map(case).collect()
}

/// Places of the roles, the wraps and the releases, whose couples are the short set.
const SHORT: [usize; 3] = [0, 4, 5];

/// Each release with each wrap and in each role; the other values as they come.
pub(super) fn short() -> Vec<Case> {
    let rows = covering(|(a, _, b, _)| SHORT.contains(a) && SHORT.contains(b));
    rows.into_iter()
        .enumerate()
        .map(|(n, row)| case(varied(n, row)))
        .collect()
}

/// The row with other values in the places that the short set does not pair: each of them has its turn.
fn varied(n: usize, mut row: Row) -> Row {
    for (place, count) in VALUES.into_iter().enumerate() {
        if !SHORT.contains(&place) {
            // Not in step with the places that are paired.
            row[place] = (n + n / count) % count;
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_couple_of_values_is_in_a_row() {
        let rows = covering(|_| true);
        let seen: BTreeSet<Couple> = rows.iter().flat_map(couples).collect();
        let mut wanted = 0;
        for (a, count) in VALUES.into_iter().enumerate() {
            wanted += VALUES
                .iter()
                .skip(a + 1)
                .map(|other| count * other)
                .sum::<usize>();
        }
        assert_eq!(seen.len(), wanted);
        assert!(rows.len() <= 40, "{}", rows.len());
    }

    #[test]
    fn the_short_set_has_each_value() {
        let rows = covering(|(a, _, b, _)| SHORT.contains(a) && SHORT.contains(b));
        let rows: Vec<Row> = rows
            .into_iter()
            .enumerate()
            .map(|(n, row)| varied(n, row))
            .collect();
        for (place, count) in VALUES.into_iter().enumerate() {
            let seen: BTreeSet<usize> = rows.iter().map(|row| row[place]).collect();
            assert_eq!(seen.len(), count, "place {place}: {rows:?}");
        }
        assert!(rows.len() <= 14, "{}", rows.len());
    }
}
