// SPDX-License-Identifier: GPL-2.0-only
//! What OpenWrt starts the daemon with: capabilities, netifd's protocol handler, procd's init script, hotplug.

use std::fs;

use serde_json::Value;

use super::router::{Dir, LATER, Router, SOON, Uci, genkey};
use crate::lab::{Module, Ns, Pair, wait_for};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

/// The shell of OpenWrt.
pub(super) const ASH: &str = "busybox ash";
const STAND_IN: &str = include_str!("netifd.sh");
pub(super) const INIT: &str = include_str!("../../../../openwrt-feed/ovpnd/files/ovpnd.init");
const HOTPLUG: &str = include_str!("../../../../openwrt-feed/ovpnd/files/ovpnd.hotplug");
const CAPABILITIES: &str =
    include_str!("../../../../openwrt-feed/ovpnd/files/ovpnd.capabilities.json");
const LOW_PORT: &str =
    include_str!("../../../../openwrt-feed/ovpnd/files/ovpnd-low-port.capabilities.json");

/// `setpriv` with the capabilities of one of the package's files, and no way to more.
fn confined(file: &str) -> Outcome<String> {
    let file: Value = serde_json::from_str(file).map_err(Failure::new)?;
    let list: Vec<String> = (file["bounding"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .map(|name| name.to_lowercase().replace("cap_", "+"))
        .collect();
    let list = list.join(",");
    Ok(format!(
        "setpriv --no-new-privs --inh-caps=-all,{list} --ambient-caps=-all,{list} --bounding-set=-all,{list}"
    ))
}

/// Everything works with the capabilities of the package; a low port needs one more and says so without it.
fn capabilities(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    let side = |own| Uci::side(own, false, &key);
    let low = side(1).with("local_port", "500").text();
    let a = Router::start_under(&confined(CAPABILITIES)?, a, &side(1).text(), true)?;
    let b = Router::start_under(&confined(LOW_PORT)?, b, &side(2).text(), true)?;
    a.reaches("10.8.0.2")?;
    check_eq!(
        a.daemon.status_line("CapEff")?,
        "CapEff:\t0000000000001000",
        "only CAP_NET_ADMIN"
    );
    check_eq!(
        a.daemon.status_line("NoNewPrivs")?,
        "NoNewPrivs:\t1",
        "no new privileges"
    );
    check!(
        a.ns.cmd("ip route get 192.168.2.7").ok()?.contains("vpn0"),
        "the route"
    );
    a.reload(&low)?;
    let error = a.interface("vpn0")?["error"].to_string();
    check!(
        error.contains("500") && error.to_lowercase().contains("permission denied"),
        "{error}"
    );
    b.reload(&side(2).with("local_port", "500").text())?;
    let interface = b.interface("vpn0")?;
    check_eq!(
        (&interface["error"], &interface["local_port"]),
        (&Value::Null, &500.into()),
        "a low port"
    );
    Ok(())
}

/// Runs one of the package's files in its stand-in; what it asks netifd or procd for. By busybox's ash, as OpenWrt does.
pub(super) fn asks(
    router: &Router,
    what: &str,
    text: &str,
    step: &str,
    interface: &str,
) -> Outcome<Vec<String>> {
    let dir = router.dir.path().display();
    router.dir.write("stand-in", STAND_IN)?;
    router.dir.write("file", text)?;
    let line =
        format!("{ASH} {dir}/stand-in {what} {dir}/file {dir}/ubus {dir} {step} {interface}");
    let done = router.ns.cmd(&line).run(LATER)?;
    check_eq!(done.err, "", "complaints of {what} {step}");
    Ok(done.out.lines().map(str::to_owned).collect())
}

/// The init script gives what is needed and no more; the hotplug script has names looked up again.
fn scripts(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let own = Uci::side(1, false, &key);
    let router = Router::start(Ns::new()?, &own.text(), true)?;
    for (port, capabilities) in [("1194", "ovpnd.json"), ("443", "ovpnd-low-port.json")] {
        router
            .dir
            .write("network", &own.clone().with("local_port", port).text())?;
        let said = asks(&router, "init", INIT, "", "")?;
        for line in [
            "procd_set_param command /usr/sbin/ovpnd --netifd --state-dir /var/run/ovpnd"
                .to_owned(),
            format!("procd_set_param capabilities /etc/capabilities/{capabilities}"),
            "procd_set_param no_new_privs 1".to_owned(),
            "procd_set_param respawn 3600 5 0".to_owned(),
            format!("procd_add_jail_mount {key}"),
            "procd_add_jail_mount_rw /sys/module/ovpn/parameters".to_owned(),
            "procd_add_reload_trigger network firewall ovpnd".to_owned(),
        ] {
            check!(said.contains(&line), "port {port}: {said:?} lacks {line:?}");
        }
    }
    // The port of a server, and not that of a client's servers.
    for (role, capabilities) in [
        ("server '10.9.0.0/24'", "ovpnd-low-port.json"),
        ("client '1'", "ovpnd.json"),
    ] {
        let text = format!(
            "config interface 'v'\n\toption proto 'openvpn_dco'\n\toption port '443'\n\toption {role}\n"
        );
        router.dir.write("network", &text)?;
        let said = asks(&router, "init", INIT, "", "")?;
        let line = format!("procd_set_param capabilities /etc/capabilities/{capabilities}");
        check!(said.contains(&line), "{role}: {said:?} lacks {line:?}");
    }
    router.dir.write("network", &own.text())?;
    // Only procd knows whether what is new needs another jail; what does not, ovpnd reads.
    check_eq!(
        asks(&router, "init", INIT, "reload", "")?,
        ["start", "call ovpnd reload"],
        "reload"
    );
    let again = [
        r#"call ovpnd reload {"resolve":true}"#,
        r#"call network.interface renew {"interface":"vpn0"}"#,
    ];
    for (step, interface, wanted) in [
        ("ifup", "wan", &again[..]),
        ("ifup", "wanb", &again),
        ("ifupdate", "wan6", &again),
        ("ifdown", "wan", &[]),
        ("ifup", "vpn0", &[]),
        ("ifup", "lan", &[]),
    ] {
        let said = asks(&router, "hotplug", HOTPLUG, step, interface)?;
        check_eq!(said, wanted, "{step} {interface}");
    }
    Ok(())
}

/// Key files are replaced by renaming: where the jail has their directory, none of them is a mount of its own.
fn key_files(_: &Ctx) -> Outcome {
    const KEYS: &str = "/etc/ovpn";
    let there = fs::exists(KEYS)?;
    fs::create_dir_all(KEYS)?;
    let inside = format!("{KEYS}/openwrt-test.key");
    let outcome = (|| {
        let key = genkey()?;
        fs::write(&inside, &key)?;
        let keys = Dir::new()?;
        let outside = keys.write("key", &key)?;
        for (file, wanted) in [(&inside, false), (&outside, true)] {
            let uci = Uci::side(1, false, file).text();
            let router = Router::start(Ns::new()?, &uci, false)?;
            let said = asks(&router, "init", INIT, "", "")?;
            let alone = said.iter().any(|line| line.ends_with(file.as_str()));
            check_eq!(alone, wanted, "a mount of {file} alone: {said:?}");
            let keys = format!("procd_add_jail_mount_rw {KEYS} /var/run/ovpnd /etc/config");
            check!(said.contains(&keys), "{said:?}");
        }
        Ok(())
    })();
    fs::remove_file(&inside).during(inside)?;
    if !there {
        fs::remove_dir(KEYS)?;
    }
    outcome
}

/// A broker that starts anew makes another socket, which the daemon in its jail finds.
fn bus_in_jail(_: &Ctx) -> Outcome {
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let own = Uci::side(1, false, &key).text();
    let said = asks(
        &Router::start(Ns::new()?, &own, false)?,
        "init",
        INIT,
        "",
        "",
    )?;
    // As ujail mounts: with "ubus" the socket itself (procd's jail/jail.c), else what is named. $3 is the directory that
    // stands for /var/run/ubus here, $5 the socket in it.
    let mut script = "set -e\nuntil [ -S \"$5\" ]; do sleep 0.1; done\n\
                      mount -t tmpfs tmpfs /mnt\nmkdir /mnt/ubus\n"
        .to_owned();
    for line in said {
        let mut words = line.split(' ');
        match words.next() {
            Some("procd_add_jail") if words.any(|word| word == "ubus") => {
                script += ": >/mnt/ubus/ubus\nmount --bind \"$5\" /mnt/ubus/ubus\n";
            }
            Some("procd_add_jail_mount") if words.any(|word| word == "/var/run/ubus") => {
                script += "mount -o bind,ro \"$3\" /mnt/ubus\n";
            }
            _ => {}
        }
    }
    script += "exec \"$@\" --ubus-socket /mnt/ubus/ubus\n";
    let by = format!("unshare --mount sh {}", keys.write("jail", &script)?);
    let mut router = Router::start_under(&by, Ns::new()?, &own, true)?;
    router.broker = None;
    router.start_broker()
}

/// In the jail /sys is read-only but for what the init script asks for, which is enough to choose a crypto driver.
fn jail(_: &Ctx) -> Outcome {
    if !Module::ours() {
        return Err(Failure::Skipped("mainline's driver has no choice".into()));
    }
    let keys = Dir::new()?;
    let key = keys.write("key", &genkey()?)?;
    let Pair { a, b } = Pair::new()?;
    let side = |own| {
        let uci = Uci::side(own, false, &key).with("cipher", "chacha20-poly1305");
        uci.with("hwcrypto", "on").text()
    };
    let b = Router::start(b, &side(2), false)?;
    // As ujail mounts: in the order of the names, so that what lies below /sys comes after it (procd's jail/fs.c).
    let mut script = "set -e\nmount -t sysfs -o ro sysfs /mnt\n".to_owned();
    for line in asks(&b, "init", INIT, "", "")? {
        if let Some(path) = line.strip_prefix("procd_add_jail_mount_rw /sys/") {
            script += &format!("mount --bind /sys/{path} /mnt/{path}\n");
        }
    }
    script += "mount --move /mnt /sys\nexec \"$@\"\n";
    let by = format!("unshare --mount sh {}", keys.write("jail", &script)?);
    let a = Router::start_under(&by, a, &side(1), true)?;
    a.reaches("10.8.0.2")?;
    let engine = a.peer("vpn0")?["engine"].take();
    check!(engine != "library", "hwcrypto 'on' gives {engine}");
    Ok(())
}

/// The WAN comes back with another address of the endpoint behind its name: the peer goes there.
fn another_address(_: &Ctx) -> Outcome {
    const HOSTS: &str = "/etc/hosts";
    let hosts = fs::read_to_string(HOSTS)?;
    let outcome = (|| {
        fs::write(HOSTS, format!("{hosts}\n10.10.0.9 far.example\n"))?;
        let keys = Dir::new()?;
        let key = keys.write("key", &genkey()?)?;
        let Pair { a, b } = Pair::new()?;
        // The other end comes last: heard from its address, it would be gone to without a lookup.
        let silent = |own| {
            let uci = Uci::side(own, false, &key).with("keepalive_timeout", "0");
            uci.with("keepalive_interval", "0")
        };
        let own = silent(1).with("endpoint_host", "far.example");
        let a = Router::start(a, &own.text(), true)?;
        a.wait_peer("at the old address", SOON, |peer| {
            peer["remote"] == "10.10.0.9:1194"
        })?;
        fs::write(HOSTS, format!("{hosts}\n10.10.0.2 far.example\n"))?;
        asks(&a, "hotplug", HOTPLUG, "ifup", "wan")?;
        a.wait_peer("at the new address", LATER, |peer| {
            peer["remote"] == "10.10.0.2:1194"
        })?;
        let _b = Router::start(b, &silent(2).text(), false)?;
        a.reaches("10.8.0.2")?;
        wait_for("no loss counted", SOON, || {
            Ok((a.peer("vpn0")?["losses"] == 0).then_some(()))
        })
    })();
    fs::write(HOSTS, hosts).during(HOSTS)?;
    outcome
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "openwrt: capabilities of the package are enough",
            capabilities,
        ),
        Case::new("openwrt: init script and hotplug", scripts),
        Case::new("openwrt: key files that can be replaced", key_files),
        Case::new("openwrt: the jail finds a new broker", bus_in_jail),
        Case::new("openwrt: the jail lets a crypto driver be chosen", jail),
        Case::new("openwrt: another way to the world", another_address),
    ]
}
