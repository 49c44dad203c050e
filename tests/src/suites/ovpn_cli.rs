// SPDX-License-Identifier: GPL-2.0-only
//! The kernel selftests' own ovpn-cli (tools/testing/selftests/net/ovpn, Linux 7.2) drives the module, both ends P2P.
//!
//! Its `listen` and `connect` speak TCP, and `listen` names VPN addresses, which P2P refuses: they belong to MP mode.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::lab::{Cmd, Done, Flow, Ns, Pair, Ping, Proc, Tunnel, iperf, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

const LIMIT: Duration = Duration::from_secs(10);
const COMM: &str = "ovpn-cli";
/// 96 bytes in base 64: 32 of one direction's key, 32 of the other's, 8 of nonce tail, and some to spare.
const KEY_FILE: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/\
                        zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA9876543210+/";

/// How a tunnel is made.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    alg: &'static str,
    cipher: &'static str,
    v6: bool,
    /// Both ends use the same peer id, and no TX id.
    symmetric: bool,
    mtu: u32,
}

struct Lab {
    cli: PathBuf,
    key: PathBuf,
    kind: Kind,
    ns: Pair,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.ns.a, &self.ns.b] {
            let _ = ns.kill(COMM, &[]);
        }
        let _ = fs::remove_file(&self.key);
    }
}

impl Lab {
    fn new(ctx: &Ctx, kind: Kind) -> Outcome<Self> {
        let cli = ctx
            .cli
            .clone()
            .ok_or_else(|| Failure::Skipped("ovpn-cli was not found".into()))?;
        let key = std::env::temp_dir().join(format!("ovpn-cli-{}.key", std::process::id()));
        fs::write(&key, KEY_FILE)?;
        Ok(Self {
            cli,
            key,
            kind,
            ns: Pair::new()?,
        })
    }

    /// Namespace of side 1 or 2.
    fn side(&self, n: u8) -> &Ns {
        if n == 1 { &self.ns.a } else { &self.ns.b }
    }

    fn cli(&self, n: u8, line: &str) -> Cmd {
        let cmd = self.side(n).cmd(&self.cli.to_string_lossy());
        line.split_whitespace().fold(cmd, |cmd, arg| cmd.arg(arg))
    }

    fn ok(&self, n: u8, line: &str) -> Outcome<Done> {
        let done = self.cli(n, line).run(LIMIT)?;
        check!(
            done.status.success(),
            "ovpn-cli {line}: {}\n{}{}",
            done.status,
            done.out,
            done.err
        );
        Ok(done)
    }

    /// Peer id of side `n`, and the id that it sends to the other.
    fn ids(&self, n: u8) -> (u32, String) {
        match (self.kind.symmetric, n) {
            (true, _) => (3, "none".into()),
            (false, 1) => (1, "10".into()),
            (false, _) => (10, "1".into()),
        }
    }

    fn new_peer(&self, n: u8) -> Outcome {
        let (id, tx_id) = self.ids(n);
        let remote = Pair::outer(self.kind.v6, 3 - n);
        self.ok(
            n,
            &format!(
                "new_peer tun {id} {tx_id} {} {remote} {}",
                1000 + u32::from(n),
                1003 - u32::from(n)
            ),
        )?;
        Ok(())
    }

    fn new_key(&self, n: u8, slot: u8, key_id: u8) -> Outcome {
        let key = self.key.display();
        let line = format!(
            "new_key tun {} {slot} {key_id} {} {} {key}",
            self.ids(n).0,
            self.kind.alg,
            n - 1
        );
        self.ok(n, &line).map(drop)
    }

    /// Devices, peers, keys, addresses, keepalive.
    fn bring_up(&self) -> Outcome {
        for n in [1, 2] {
            self.ok(n, "new_iface tun P2P")?;
            self.side(n).ip(&format!(
                "link set tun mtu {}\naddr add 10.8.0.{n}/24 dev tun\nlink set tun up",
                self.kind.mtu
            ))?;
            self.new_peer(n)?;
            self.new_key(n, 1, 0)?;
        }
        for n in [1, 2] {
            self.ok(n, &format!("set_peer tun {} 60 120", self.ids(n).0))?;
        }
        Ok(())
    }

    fn ping(&self, size: u32) -> Outcome {
        Ping::new(Tunnel::inner(false, 2), 100)
            .interval(2)
            .size(size)
            .lossless(self.side(1))
    }

    fn fails(&self, n: u8, line: &str) -> Outcome {
        let done = self.cli(n, line).run(LIMIT)?;
        check!(!done.status.success(), "ovpn-cli {line} succeeded");
        check!(
            done.err.contains("kernel error: ovpn: "),
            "ovpn-cli {line}: no text of the kernel's: {}",
            done.err
        );
        Ok(())
    }

    /// Starts a listener and waits until it has joined the group.
    fn listen(&self, n: u8) -> Outcome<Proc> {
        let listener = self.cli(n, "listen_mcast").spawn()?;
        wait_for("listen_mcast to join the group", LIMIT, || {
            let text = self
                .side(n)
                .enter(|| Ok(fs::read_to_string("/proc/thread-self/net/netlink")?))?;
            let mut rows = text
                .lines()
                .map(|l| l.split_whitespace().collect::<Vec<_>>());
            // Columns: sk, protocol, port, groups; 16 is NETLINK_GENERIC.
            Ok(rows
                .any(|r| r.get(1) == Some(&"16") && r.get(3).is_some_and(|g| *g != "00000000"))
                .then_some(()))
        })?;
        Ok(listener)
    }
}

/// Waits until a listener has reported so many notifications. Its standard output is buffered, standard error is not.
fn heard(listener: &Proc, count: usize) -> Outcome {
    wait_for(&format!("{count} notifications"), LIMIT, || {
        Ok((listener.stderr().matches("received message from").count() >= count).then_some(()))
    })?;
    let text = listener.stderr();
    check!(
        !text.contains("bogus") && !text.contains("unknown"),
        "ovpn-cli listen_mcast: {text}"
    );
    Ok(())
}

/// What `get_peer` must print, in any order.
fn shows(done: &Done, expected: &[String]) -> Outcome {
    for text in expected {
        check!(
            done.err.contains(text.as_str()),
            "ovpn-cli does not show \"{text}\":\n{}",
            done.err
        );
    }
    Ok(())
}

/// The stages of the kernel's test.sh as far as two P2P ends have them.
fn stages(ctx: &Ctx, kind: Kind) -> Outcome {
    let lab = Lab::new(ctx, kind)?;
    lab.bring_up()?;
    lab.ping(56)?;
    lab.ping(3000).during("large payload")?;
    let flow = Flow {
        zerocopy: true,
        ..Flow::tcp(Tunnel::inner(false, 1), 1)
    };
    iperf(&flow, lab.side(1), lab.side(2))?;

    for n in [1, 2] {
        lab.new_key(n, 2, 1)?;
    }
    lab.ok(2, &format!("swap_keys tun {}", lab.ids(2).0))?;
    lab.ping(56).during("one end has swapped its keys")?;
    lab.ok(1, &format!("swap_keys tun {}", lab.ids(1).0))?;
    lab.ping(56).during("both ends have swapped their keys")?;

    let (id, tx_id) = lab.ids(1);
    let tx_id = if kind.symmetric {
        id.to_string()
    } else {
        tx_id
    };
    let expected = [
        format!("* Peer {id}\n"),
        format!("TX peer ID {tx_id}\n"),
        format!("Remote: {}:1002", Pair::outer(kind.v6, 2)),
        "Keepalive interval: 60 sec".into(),
        "Keepalive timeout: 120 sec".into(),
    ];
    shows(&lab.ok(1, "get_peer tun")?, &expected).during("get_peer, all")?;
    shows(&lab.ok(1, &format!("get_peer tun {id}"))?, &expected).during("get_peer, one")?;
    lab.fails(1, "get_peer tun 20")?;
    for (slot, name, key_id) in [(1, "primary", 1), (2, "secondary", 0)] {
        let done = lab.ok(1, &format!("get_key tun {id} {slot}"))?;
        let cipher = format!("Cipher: {}", kind.cipher);
        shows(
            &done,
            &[
                format!("* Peer {id}"),
                format!("Slot: {name}"),
                format!("Key ID: {key_id}"),
                cipher,
            ],
        )?;
    }
    for slot in [1, 2] {
        lab.ok(1, &format!("del_key tun {id} {slot}"))?;
        lab.fails(1, &format!("get_key tun {id} {slot}"))?;
    }
    Ok(())
}

/// A peer deleted by hand while traffic runs is announced and gone.
fn deleted(ctx: &Ctx, kind: Kind) -> Outcome {
    let lab = Lab::new(ctx, kind)?;
    lab.bring_up()?;
    let listener = lab.listen(1)?;
    let _pings = Ping::new(Tunnel::inner(false, 2), 100_000)
        .interval(1)
        .spawn(lab.side(1))?;
    lab.ping(56).during("before")?;
    let id = lab.ids(1).0;
    lab.ok(1, &format!("del_peer tun {id}"))?;
    heard(&listener, 1)?;
    lab.fails(1, &format!("get_peer tun {id}"))?;
    lab.fails(1, &format!("del_peer tun {id}"))
}

/// A peer goes by its timeout, another with its socket, devices by del_iface.
fn endings(ctx: &Ctx, kind: Kind) -> Outcome {
    let lab = Lab::new(ctx, kind)?;
    lab.bring_up()?;
    let listeners = (lab.listen(1)?, lab.listen(2)?);
    lab.ok(2, &format!("set_peer tun {} 0 0", lab.ids(2).0))?;
    lab.ok(1, &format!("set_peer tun {} 1 1", lab.ids(1).0))?;
    heard(&listeners.0, 1).during("timeout")?;
    lab.fails(1, &format!("get_peer tun {}", lab.ids(1).0))?;
    drop(listeners.0);
    lab.side(2).kill(COMM, &[listeners.1.id()])?;
    heard(&listeners.1, 1).during("closed socket")?;
    lab.fails(2, &format!("get_peer tun {}", lab.ids(2).0))?;
    for n in [1, 2] {
        lab.ok(n, "del_iface tun")?;
        check_eq!(lab.side(n).ifindex("tun")?, None, "device after del_iface");
    }
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let base = Kind {
        name: "",
        alg: "aes",
        cipher: "aes-gcm",
        v6: false,
        symmetric: false,
        mtu: 1400,
    };
    let chacha = Kind {
        alg: "chachapoly",
        cipher: "chacha20poly1305",
        ..base
    };
    let kinds = [
        Kind {
            name: "aes, IPv4",
            ..base
        },
        Kind {
            name: "chachapoly, IPv6",
            v6: true,
            ..chacha
        },
        Kind {
            name: "aes, symmetric ids, IPv6",
            v6: true,
            symmetric: true,
            ..base
        },
        Kind {
            name: "aes, large MTU",
            mtu: 1500,
            ..base
        },
    ];
    let mut cases: Vec<Case> = kinds
        .map(|kind| Case::new(kind.name, move |ctx: &Ctx| stages(ctx, kind)))
        .into_iter()
        .collect();
    cases.push(Case::new("peer deleted under traffic", move |ctx: &Ctx| {
        deleted(ctx, base)
    }));
    cases.push(Case::new(
        "timeout, closed socket, deleted device",
        move |ctx: &Ctx| endings(ctx, base),
    ));
    cases
}
