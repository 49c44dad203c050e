// SPDX-License-Identifier: GPL-2.0-only
//! Faults in the configuration: one sentence each, on stderr and in the status, and nothing else disturbed.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use crate::lab::{Echo, Pair, wait_for};
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

use super::router::{Dir, LATER, Router, Uci, genkey};

/// A fault: what it is, an option of the second interface with its wrong value, and what is said of it.
struct Fault {
    option: &'static str,
    value: &'static str,
    says: &'static str,
}

const fn fault(option: &'static str, value: &'static str, says: &'static str) -> Fault {
    Fault {
        option,
        value,
        says,
    }
}

/// `$` stands for the directory of the key files.
const FAULTS: &[Fault] = &[
    fault(
        "mtu",
        "big",
        "section 'vpn1', option 'mtu': must be a number from 68 to 65451, not \"big\"",
    ),
    fault(
        "mode",
        "tap",
        "section 'vpn1', option 'mode': \"tap\" is no mode (p2p, mp)",
    ),
    fault(
        "transport",
        "sctp",
        "section 'vpn1', option 'transport': \"sctp\" is no transport (udp, udp6, tcp, tcp6)",
    ),
    fault(
        "addresses",
        "10.9.0.1/33",
        "section 'vpn1', option 'addresses': \"10.9.0.1/33\" is no IP address",
    ),
    fault(
        "local_port",
        "1194",
        "section 'vpn1', option 'local_port': udp port 1194 is taken by interface 'vpn0'",
    ),
    fault(
        "peer_id",
        "-1",
        "section 'vpn1_peer', option 'peer_id': \"-1\" is no peer id",
    ),
    fault(
        "endpoint_host",
        "",
        "section 'vpn1_peer', option 'endpoint_host': is missing",
    ),
    fault(
        "key_direction",
        "2",
        "section 'vpn1_peer', option 'key_direction': \"2\" is no key direction",
    ),
    fault(
        "insecure_static_key",
        "0",
        "section 'vpn1_peer', option 'insecure_static_key': must be '1' to use a static key, whose nonces repeat",
    ),
    fault(
        "key_file",
        "$/none",
        "section 'vpn1_peer', option 'key_file': $/none cannot be read: no such file",
    ),
    fault(
        "key_file",
        "$/open",
        "section 'vpn1_peer', option 'key_file': $/open is readable by others (mode 0644)",
    ),
    fault(
        "key_file",
        "$/cut",
        "section 'vpn1_peer', option 'key_file': $/cut is no OpenVPN static key: it is cut off",
    ),
    fault(
        "key_file",
        "$/short",
        "section 'vpn1_peer', option 'key_file': $/short is no OpenVPN static key: it has 480 hexadecimal digits instead of 512",
    ),
    fault(
        "key_file",
        "$/text",
        "section 'vpn1_peer', option 'key_file': $/text is no OpenVPN static key: it has no line",
    ),
    fault(
        "description",
        "a' 'b",
        "section 'vpn1': option 'description' has more than one value; quote it",
    ),
];

/// A daemon with a faultless interface, which is pinged all the time, and a faulty one.
fn table(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = genkey()?;
    let good = keys.write("good", &key)?;
    let other = keys.write("other", &genkey()?)?;
    keys.write("open", &key)?;
    fs::set_permissions(keys.path().join("open"), Permissions::from_mode(0o644))?;
    keys.write("cut", key.get(..400).unwrap_or_default())?;
    let lines: Vec<&str> = key.lines().collect();
    // Line 5 is the first of the key itself.
    keys.write(
        "short",
        &[lines.get(..4), lines.get(5..)]
            .map(|l| l.unwrap_or_default().join("\n"))
            .join("\n"),
    )?;
    keys.write("text", "secret\n")?;

    let Pair { a, b } = Pair::new()?;
    let first = Uci::side(1, false, &good).text();
    let second = Uci::side(1, false, &other)
        .second()
        .with("endpoint_host", "10.10.0.9");
    let a = Router::start(a, &first, true)?;
    let _b = Router::start(b, &Uci::side(2, false, &good).text(), true)?;
    a.reaches("10.8.0.2")?;
    let pings = Echo::new(IpAddr::from([10, 8, 0, 2]), 600).start(&a.ns)?;
    let dir = keys.path().display().to_string();
    for fault in FAULTS {
        let says = fault.says.replace('$', &dir);
        let text = first.clone()
            + &second
                .clone()
                .with(fault.option, &fault.value.replace('$', &dir))
                .text();
        one(&a, &text, &says).during(format!("option {} '{}'", fault.option, fault.value))?;
        // Away with it, so that the next fault does not leave this one's interface running.
        a.reload(&first)?;
    }
    pings
        .lossless()
        .during("pings through the faultless interface")?;
    check_eq!(
        a.peer("vpn0")?["losses"],
        0,
        "losses of the faultless interface"
    );
    Ok(())
}

fn one(router: &Router, text: &str, says: &str) -> Outcome {
    let answer = router.reload(text)?;
    let told = answer["problems"].to_string().replace("\\\"", "\"");
    check!(told.contains(says), "reload says {told}, not {says}");
    check_eq!(answer["ok"], false, "ok");
    let said = router.daemon.stderr();
    check!(
        said.lines()
            .any(|line| line.starts_with("ovpnd: error: ") && line.contains(says)),
        "stderr lacks {says}:\n{said}"
    );
    let status = router.interface("vpn1")?;
    let told = status.to_string().replace("\\\"", "\"");
    check!(told.contains(says), "the status lacks {says}: {told}");
    let of_peer = says.contains("'vpn1_peer'");
    let faulty = if of_peer {
        &status["peers"][0]
    } else {
        &status
    };
    check_eq!(faulty["state"], "error", "state in {told}");
    // A faulty peer leaves its interface without peers; a faulty interface is not made.
    check_eq!(
        router.ns.ifindex("vpn1")?.is_some(),
        of_peer,
        "interface is there"
    );
    check_eq!(
        router.interface("vpn0")?["state"],
        "up",
        "the other interface"
    );
    Ok(())
}

/// A name that cannot be resolved is an error of its peer, tried again without end.
fn unresolvable(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let file = keys.write("key", &genkey()?)?;
    let Pair { a, b: _b } = Pair::new()?;
    let network = Uci::side(1, false, &file)
        .with("endpoint_host", "host.invalid")
        .text();
    let a = Router::start(a, &network, true)?;
    let says = "cannot resolve host 'host.invalid': ";
    let peer = a.wait_peer("error", LATER, |peer| peer["state"] == "error")?;
    check!(
        peer["error"]
            .as_str()
            .is_some_and(|error| error.starts_with(says)),
        "error: {}",
        peer["error"]
    );
    check_eq!(a.interface("vpn0")?["state"], "up", "interface");
    // The same once more is told on the lowest level alone, and that it is tried again is seen there.
    a.dir
        .write("ovpnd", "config ovpnd\n\toption log_level 'debug'\n")?;
    a.reload(&network)?;
    let again = format!("ovpnd: debug: vpn0: peer vpn0_peer: {says}");
    wait_for("a second attempt", LATER, || {
        Ok(a.daemon.stderr().contains(&again).then_some(()))
    })?;
    // A reload with a good address ends it.
    a.reload(&Uci::side(1, false, &file).text())?;
    a.wait_peer("up", LATER, |peer| {
        peer["state"] == "up" && peer["error"].is_null()
    })
    .map(drop)
}

/// A fault in a reload leaves what ran as it was.
fn keeps_running(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let file = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    let uci = Uci::side(1, false, &file);
    let a = Router::start(a, &uci.text(), true)?;
    let _b = Router::start(b, &Uci::side(2, false, &file).text(), true)?;
    for (option, value) in [("mtu", "x"), ("peer_id", "x"), ("key_file", "/nonexistent")] {
        let answer = a.reload(&uci.clone().with(option, value).text())?;
        check_eq!(answer["ok"], false, "{option}: {answer}");
        a.reaches("10.8.0.2").during(option)?;
        check_eq!(a.peer("vpn0")?["losses"], 0, "{option}: losses");
        let status = a.interface("vpn0")?.to_string();
        check!(
            status.contains(&format!("option '{option}'")),
            "{option}: not in the status {status}"
        );
    }
    let answer = a.reload(&uci.text())?;
    check_eq!(answer["ok"], true, "{answer}");
    Ok(())
}

/// `ovpnd --check` names all faults of all sections.
fn check_option(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let file = keys.write("key", &genkey()?)?;
    let uci = Uci::side(1, false, &file);
    let dir = Dir::new()?;
    let run = |text: String| {
        dir.write("network", &text)?;
        crate::lab::Cmd::new(
            None,
            &format!("ovpnd --check --config-dir {}", dir.path().display()),
        )
        .run(LATER)
    };
    let good = run(uci.text())?;
    check!(
        good.status.success() && good.err.is_empty(),
        "{}: {}",
        good.status,
        good.err
    );
    let bad = run(uci
        .with("mtu", "x")
        .with("cipher", "x")
        .with("peer_id", "x")
        .with("route_allowed_ips", "x")
        .text())?;
    check_eq!(bad.status.code(), Some(1), "status");
    check_eq!(
        bad.err.matches("ovpnd: error: ").count(),
        4,
        "faults in\n{}",
        bad.err
    );
    Ok(())
}

/// No key material in anything that is said.
fn secrets(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = genkey()?;
    let file = keys.write("key", &key)?;
    let Pair { a, b: _b } = Pair::new()?;
    let router = Router::start(a, &Uci::side(1, false, &file).text(), true)?;
    router.dir.write(
        "ovpnd",
        "config ovpnd 'globals'\n\toption log_level 'trace'\n\toption stats_interval '1'\n",
    )?;
    router.reload(
        &Uci::side(1, false, &file)
            .with("keepalive_interval", "2")
            .text(),
    )?;
    wait_for("counters in the log", LATER, || {
        Ok(router
            .daemon
            .stderr()
            .contains("tunnel 0 B in")
            .then_some(()))
    })?;
    let mut status = String::new();
    for method in ["status", "interfaces", "peers", "diag", "reload"] {
        status += &router.call(method)?.to_string();
    }
    let shown = router.ns.cmd("ovpnctl show --json").ok()?;
    let (_, said) = router.end(libc::SIGTERM)?;
    check!(status.contains("sha256:"), "no fingerprint in {status}");
    let lines: Vec<&str> = key.lines().filter(|line| line.len() == 32).collect();
    check_eq!(lines.len(), 16, "lines of the key");
    for text in [&status, &shown, &said] {
        // Eight digits of any line would be a leak.
        let leaks = |line: &&str| {
            line.as_bytes()
                .chunks(8)
                .any(|part| text.contains(&String::from_utf8_lossy(part).into_owned()))
        };
        check!(!lines.iter().any(leaks), "key material in {text}");
    }
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("faults are named and stay where they are", table),
        Case::new("a host that cannot be resolved", unresolvable),
        Case::new("a faulty reload keeps what ran", keeps_running),
        Case::new("--check names all faults", check_option),
        Case::new("secrets are not shown", secrets),
    ]
}
