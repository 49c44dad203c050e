// SPDX-License-Identifier: GPL-2.0-only
//! ovpnd as a server of stock OpenVPN: TLS in ovpnd, data in the kernel here, and in the kernel or in tun there.
//!
//! ```text
//!   a: ovpnd, vpn0 10.8.0.1  --- 10.10.0.1 / 10.10.0.2 ---  b: openvpn --client, tun0 10.8.0.2
//!                            --- 10.11.0.1 / 10.11.0.2 ---  c: another one
//! ```

use std::fs;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::client::{WRAPS, files};
use super::router::{LATER, Router, SOON};
use crate::lab::{Cmd, Module, Ns, Pair, Ping, wait_for};
use crate::suites::openvpn::daemon::{DEVICE, Daemon, need_openvpn};
use crate::suites::openvpn::pki;
use crate::tap::{Case, During, Outcome};
use crate::{Ctx, check, check_eq};

/// The address of the server inside the tunnel.
const INSIDE: [u8; 4] = [10, 8, 0, 1];

/// A directive of the control channel's protection, and the options for the other side of ovpnd.
struct Setting {
    algorithm: &'static str,
    wrap: usize,
    /// Whether the client's data are in its kernel, too.
    dco: bool,
    /// Directives of the client.
    client: &'static str,
    /// Options of the server that are added or replaced; protocols have bars between them.
    server: &'static [(&'static str, &'static str)],
}

const PLAIN: Setting = Setting {
    algorithm: "p256",
    wrap: 2,
    dco: true,
    client: "",
    server: &[],
};

/// A path of a file of [`files`].
fn path(name: &str) -> Outcome<String> {
    Ok(pki::dir()?.join(name).display().to_string())
}

impl Setting {
    fn uci(&self) -> Outcome<String> {
        let name = format!("server-{}", self.algorithm);
        let mut options = vec![
            ("proto", "openvpn_dco".to_owned()),
            ("server", "10.8.0.0 255.255.255.0".to_owned()),
            ("ca", path("vpn-ca.crt")?),
            ("cert", path(&format!("{name}.crt"))?),
            ("key", path(&format!("{name}.key"))?),
            ("keepalive", "1 5".to_owned()),
            ("push", "route 10.99.0.0 255.255.255.0".to_owned()),
        ];
        options.extend(WRAPS[self.wrap].options("server")?);
        for (option, value) in self.server {
            options.retain(|(known, _)| known != option);
            options.push((option, (*value).to_owned()));
        }
        let mut text = "config interface 'vpn0'\n".to_owned();
        for (option, value) in options.iter().filter(|(_, value)| !value.is_empty()) {
            match *option {
                "ovpnproto" => {
                    let protos = value.split('|');
                    text.extend(protos.map(|proto| format!("\tlist {option} '{proto}'\n")));
                }
                _ => text.push_str(&format!("\toption {option} '{value}'\n")),
            }
        }
        Ok(text)
    }

    fn client_config(&self, server: &str) -> String {
        let wrap = WRAPS[self.wrap].directive("client");
        let name = format!("client-{}", self.algorithm);
        let dco = if self.dco { "" } else { "disable-dco\n" };
        format!(
            "verb 3\ndev {DEVICE}\ndev-type tun\n{dco}client\nproto udp\nremote {server} 1194\nnobind\nconnect-retry 1 2\nexplicit-exit-notify 1\n\
             remote-cert-tls server\nca vpn-ca.crt\ncert {name}.crt\nkey {name}.key\n{wrap}{}",
            self.client
        )
    }

    /// A server, and a client of it.
    fn start(&self) -> Outcome<Session> {
        need_openvpn()?;
        files()?;
        let Pair { a, b } = Pair::new()?;
        let router = Router::start(a, &self.uci()?, true)?;
        let client = Daemon::start(&b, "vpn-client", &self.client_config("10.10.0.1"))?;
        Ok(Session { router, client, b })
    }
}

struct Session {
    router: Router,
    client: Daemon,
    b: Ns,
}

impl Session {
    fn up(&self) -> Outcome {
        self.connected(1)
    }

    fn connected(&self, times: usize) -> Outcome {
        let up = self.client.connected(times);
        up.during(self.client.tail(30))
            .during(self.router.daemon.stderr())?;
        reaches(&self.b, "10.8.0.1").during(self.router.daemon.stderr())
    }

    fn ping(&self, count: u32) -> Ping {
        Ping::new(IpAddr::from(INSIDE), count)
    }

    fn peers(&self) -> Outcome<Vec<Value>> {
        let told = self
            .router
            .call_with("peers", &json!({"interface": "vpn0"}))?;
        Ok(told["peers"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the server has as many clients.
    fn count(&self, wanted: usize) -> Outcome {
        wait_for(&format!("{wanted} clients"), LATER, || {
            Ok((self.peers()?.len() == wanted).then_some(()))
        })
        .during(self.router.daemon.stderr())
    }

    fn says(&self, text: &str) -> Outcome {
        wait_for(&format!("ovpnd to say \"{text}\""), LATER, || {
            Ok(self.router.daemon.stderr().contains(text).then_some(()))
        })
        .during(self.router.daemon.stderr())
    }
}

/// Waits until a ping from a namespace is answered.
fn reaches(ns: &Ns, dst: &str) -> Outcome {
    let ping = format!("ping -n -q -c 1 -W 1 {dst}");
    wait_for(&ping, LATER, || {
        let done = ns.cmd(&ping).run(SOON)?;
        Ok(done.status.success().then_some(()))
    })
}

/// From nothing to pings, and back to nothing.
fn whole(setting: &Setting) -> Outcome {
    let session = setting.start()?;
    session.up()?;
    let lossless = session.ping(20).lossless(&session.b);
    lossless.during(session.client.tail(30))?;
    let peers = session.peers()?;
    let peer = &peers[0];
    let name = format!("client-{}", setting.algorithm);
    check_eq!(
        json!(["control", "name", "state", "has_key", "vpn_ips"].map(|key| &peer[key])),
        json!(["tls", name, "up", true, ["10.8.0.2"]]),
        "peer"
    );
    check!(peer["vpn"]["rx_packets"].as_u64() >= Some(20), "{peer}");
    let remote = peer["remote"].as_str().unwrap_or_default();
    check!(remote.starts_with("10.10.0.2:"), "remote: {remote}");
    let route = session.b.cmd("ip route get 10.99.0.7").ok()?;
    check!(route.contains(DEVICE), "pushed route: {route}");
    let Session {
        mut client,
        router,
        b,
    } = session;
    // A client that says goodbye is gone at once.
    client.stop(&b)?;
    wait_for("no clients", LATER, || {
        let told = router.call_with("interfaces", &json!({"interface": "vpn0"}))?;
        Ok((told["interfaces"][0]["peers"] == 0).then_some(()))
    })
    .during(router.daemon.stderr())?;
    let (ns, said) = router.end(libc::SIGTERM)?;
    check_eq!(
        ns.ifindex("vpn0")?,
        None,
        "interface after the end; ovpnd said\n{said}"
    );
    Ok(())
}

fn case(name: &str, setting: Setting) -> Case {
    Case::new(format!("server of openvpn: {name}"), move |_: &Ctx| {
        whole(&setting)
    })
}

/// Certificates that sign themselves, known by their fingerprints.
fn fingerprints(_: &Ctx) -> Outcome {
    need_openvpn()?;
    files()?;
    let (ours, theirs) = (
        pki::fingerprint("fp-server")?,
        pki::fingerprint("fp-client")?,
    );
    Cmd::new(None, "chmod 600")
        .arg(path("fp-server.key")?)
        .ok()?;
    let Pair { a, b } = Pair::new()?;
    let uci = format!(
        "config interface 'vpn0'\n\toption proto 'openvpn_dco'\n\toption server '10.8.0.0/24'\n\toption cert '{}'\n\
         \toption key '{}'\n\tlist peer_fingerprint '{theirs}'\n",
        path("fp-server.crt")?,
        path("fp-server.key")?
    );
    let router = Router::start(a, &uci, true)?;
    let client = Daemon::start(
        &b,
        "vpn-client",
        &format!(
            "verb 3\ndev {DEVICE}\ndev-type tun\ndisable-dco\nclient\nproto udp\nremote 10.10.0.1 1194\nnobind\n\
             connect-retry 1 2\npeer-fingerprint {ours}\ncert fp-client.crt\nkey fp-client.key\n"
        ),
    )?;
    let session = Session { router, client, b };
    session.up()?;
    session.ping(20).lossless(&session.b)?;
    check_eq!(session.peers()?[0]["name"], "fp-client", "name");
    Ok(())
}

/// A second client, with a fixed address and a network behind it, and the first one reach each other through the server.
fn two_clients(_: &Ctx) -> Outcome {
    let session = PLAIN.start()?;
    session.up()?;
    let a = &session.router.ns;
    let c = Ns::new()?;
    a.ip(&format!(
        "link add veth2 type veth peer name veth netns {}",
        c.path()
    ))?;
    a.ip("addr add 10.11.0.1/24 dev veth2\nlink set veth2 up")?;
    c.ip("addr add 10.11.0.2/24 dev veth\nlink set veth up\nlink set lo up\naddr add 10.77.0.1/24 dev lo")?;
    a.enable_forwarding()?;
    let section = "config openvpn_dco_vpn0 'rsa'\n\toption common_name 'client-rsa'\n\
                   \toption ifconfig_push '10.8.0.77 255.255.255.0'\n\toption iroute '10.77.0.0 255.255.255.0'\n\
                   \tlist push 'route 10.98.0.0 255.255.255.0'\n";
    let before = session.peers()?;
    let answer = session.router.reload(&(PLAIN.uci()? + section))?;
    check_eq!(answer["ok"], true, "reload: {answer}");
    let setting = Setting {
        algorithm: "rsa",
        dco: false,
        ..PLAIN
    };
    let second = Daemon::start(&c, "vpn-client-2", &setting.client_config("10.11.0.1"))?;
    second
        .connected(1)
        .during(second.tail(30))
        .during(session.router.daemon.stderr())?;
    reaches(&session.b, "10.8.0.77")?;
    reaches(&c, "10.8.0.2")?;
    let route = a.cmd("ip route get 10.77.0.1").ok()?;
    check!(route.contains("via 10.8.0.77 dev vpn0"), "iroute: {route}");
    session
        .b
        .ip(&format!("route add 10.77.0.0/24 dev {DEVICE}"))?;
    reaches(&session.b, "10.77.0.1")?;
    let route = c.cmd("ip route get 10.98.0.7").ok()?;
    check!(route.contains(DEVICE), "pushed route: {route}");
    let ping = Ping::new(IpAddr::from([10, 8, 0, 77]), 20);
    ping.lossless(&session.b)?;
    let after = session.peers()?;
    let first = after.iter().find(|peer| peer["name"] == "client-p256");
    check_eq!(
        first.map(|peer| &peer["peer_id"]),
        Some(&before[0]["peer_id"]),
        "the first client stayed"
    );
    check_eq!(after.len(), 2, "clients");
    Ok(())
}

/// A client of another CA is refused, and the log says why.
fn refused(_: &Ctx) -> Outcome {
    let setting = Setting {
        server: &[("ca", "/nonexistent")],
        ..PLAIN
    };
    need_openvpn()?;
    files()?;
    let other = path("vpn-other-ca.crt")?;
    let uci = setting.uci()?.replace("/nonexistent", &other);
    let Pair { a, b } = Pair::new()?;
    let router = Router::start(a, &uci, true)?;
    let client = Daemon::start(&b, "vpn-client", &setting.client_config("10.10.0.1"))?;
    let session = Session { router, client, b };
    session.says("was not issued by our CA but by \"CN=the CA\"")?;
    check_eq!(session.client.connections(), 0, "connections");
    check_eq!(session.peers()?.len(), 0, "clients");
    Ok(())
}

/// The server renegotiates every 10 s, and both sides change to a new key after 5: a series of pings over several keys
/// loses none.
fn renegotiation(setting: Setting) -> Outcome {
    let session = setting.start()?;
    session.up()?;
    let key = || -> Outcome<Option<u64>> { Ok(session.peers()?[0]["key_id"].as_u64()) };
    let first = key()?;
    let mut ping = session.ping(1500);
    ping.interval = 10;
    let pings = ping.echo()?.start(&session.b)?;
    wait_for("another key", LATER, || Ok((key()? != first).then_some(())))?;
    let lossless = pings.lossless();
    lossless.during(session.client.tail(40))?;
    check!(
        session.client.handshakes() >= 2,
        "{}",
        session.client.tail(40)
    );
    Ok(())
}

/// One server for UDP and TCP of both families: the end of a connection is known at once, and its client comes back another way.
fn both_protocols(_: &Ctx) -> Outcome {
    let setting = Setting {
        server: &[("ovpnproto", "udp6|tcp6")],
        client: "proto tcp6-client\n",
        ..PLAIN
    };
    need_openvpn()?;
    files()?;
    let Pair { a, b } = Pair::new()?;
    let router = Router::start(a, &setting.uci()?, true)?;
    let config = setting.client_config("fd00:10::1");
    let client = Daemon::start(&b, "vpn-client", &config)?;
    let mut session = Session { router, client, b };
    session.up()?;
    session
        .ping(20)
        .lossless(&session.b)
        .during(session.client.tail(30))?;
    let remote = session.peers()?[0]["remote"].clone();
    check!(
        remote
            .as_str()
            .is_some_and(|r| r.starts_with("[fd00:10::2]:")),
        "remote: {remote}"
    );
    session.client.kill()?;
    session.b.ip(&format!("link del {DEVICE}")).ok();
    session.says("down: the client closed the connection")?;
    session.count(0)?;
    session.client = Daemon::start(&session.b, "vpn-client", &PLAIN.client_config("10.10.0.1"))?;
    session.up()?;
    session.ping(20).lossless(&session.b)
}

/// The options of a server whose clients have passwords instead of certificates, and a client's directives for them.
const BY_PASSWORD: Setting = Setting {
    client: "auth-user-pass up.txt\nhand-window 5\n",
    server: &[
        ("user_file", "USERS"),
        ("verify_client_cert", "none"),
        ("auth_gen_token", "3600"),
        ("reneg_sec", "10"),
    ],
    ..PLAIN
};

/// Writes the server's users with this password of anna's.
pub(super) fn users(password: &str) -> Outcome<String> {
    let hash = Cmd::new(None, "openssl passwd -6").arg(password).ok()?;
    let file = path("users")?;
    fs::write(&file, format!("anna:{}\n", hash.trim()))?;
    Cmd::new(None, "chmod 600").arg(&file).ok()?;
    Ok(file)
}

/// A server whose users have one password, and a client that comes with another or the same.
fn by_password(right: &str, brought: &str) -> Outcome<Session> {
    need_openvpn()?;
    files()?;
    let uci = BY_PASSWORD.uci()?.replace("USERS", &users(right)?);
    fs::write(pki::dir()?.join("up.txt"), format!("anna\n{brought}\n"))?;
    let Pair { a, b } = Pair::new()?;
    let router = Router::start(a, &uci, true)?;
    let config = BY_PASSWORD.client_config("10.10.0.1");
    let config = config.lines().filter(|line| {
        let word = line.split(' ').next().unwrap_or_default();
        !["cert", "key"].contains(&word)
    });
    let config: String = config.map(|line| format!("{line}\n")).collect();
    let client = Daemon::start(&b, "vpn-client", &config)?;
    Ok(Session { router, client, b })
}

/// A client without a certificate logs in by its password, and renegotiates by the token that it got then: its password is
/// another one by that time.
fn password_and_token(_: &Ctx) -> Outcome {
    let session = by_password("right", "right")?;
    session.up()?;
    let peer = session.peers()?[0].clone();
    check_eq!(peer["name"], "anna", "{peer}");
    users("changed")?;
    let key = || -> Outcome<Option<u64>> { Ok(session.peers()?[0]["key_id"].as_u64()) };
    let first = key()?;
    wait_for("another key", LATER, || Ok((key()? != first).then_some(())))
        .during(session.client.tail(30))
        .during(session.router.daemon.stderr())?;
    session.ping(20).lossless(&session.b)?;
    check_eq!(session.client.connections(), 1, "connections");
    check_eq!(session.peers()?[0]["peer_id"], peer["peer_id"], "peer id");
    Ok(())
}

/// A wrong password is refused with a sentence, after which the client ends.
fn wrong_password(_: &Ctx) -> Outcome {
    let mut session = by_password("right", "wrong")?;
    let why = "user name or password is wrong";
    session
        .client
        .says(why, 1, LATER)
        .during(session.client.tail(30))
        .during(session.router.daemon.stderr())?;
    session.says(why)?;
    session.client.stopped(&session.b).ok();
    check_eq!(session.client.connections(), 0, "connections");
    check_eq!(session.peers()?.len(), 0, "clients");
    Ok(())
}

/// A client that was killed comes back at once, to its old address.
fn client_restarts(_: &Ctx) -> Outcome {
    let mut session = PLAIN.start()?;
    session.up()?;
    let before = session.peers()?;
    session.client.kill()?;
    session.b.ip(&format!("link del {DEVICE}")).ok();
    session.client = Daemon::start(&session.b, "vpn-client", &PLAIN.client_config("10.10.0.1"))?;
    session.up()?;
    session.ping(20).lossless(&session.b)?;
    let after = session.peers()?;
    check_eq!(after.len(), 1, "clients: {after:?}");
    check_eq!(&after[0]["vpn_ips"], &before[0]["vpn_ips"], "address");
    check!(
        after[0]["peer_id"] != before[0]["peer_id"],
        "the number of a peer came again: {after:?}"
    );
    Ok(())
}

/// A list of revoked certificates with these serial numbers.
fn revoke(serials: &[u8]) -> Outcome {
    let dir = pki::dir()?;
    let lines: String = serials
        .iter()
        .map(|serial| format!("R\t400101000000Z\t260101000000Z\t{serial:02X}\tunknown\t/CN=x\n"))
        .collect();
    fs::write(dir.join("index.txt"), lines)?;
    fs::write(dir.join("crlnumber"), "01\n")?;
    fs::write(
        dir.join("crl.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n",
    )?;
    Cmd::new(None, "sh -c")
        .arg(format!(
            "cd {} && openssl ca -gencrl -config crl.cnf -keyfile vpn-ca.key -cert vpn-ca.crt -crldays 20 -out crl.pem",
            dir.display()
        ))
        .ok()
        .map(drop)
}

/// A reload ends the sessions of clients that were switched off or revoked, and keeps them out; ubus ends one once.
fn kicks(_: &Ctx) -> Outcome {
    need_openvpn()?;
    files()?;
    revoke(&[])?;
    let crl = path("crl.pem")?;
    let text = PLAIN.uci()? + &format!("\toption crl_verify '{crl}'\n");
    let Pair { a, b } = Pair::new()?;
    let router = Router::start(a, &text, true)?;
    let config = PLAIN.client_config("10.10.0.1");
    let client = Daemon::start(&b, "vpn-client", &config)?;
    let mut session = Session { router, client, b };
    session.up()?;
    // The same configuration ends nothing.
    let answer = session.router.reload(&text)?;
    check_eq!(answer["ok"], true, "reload: {answer}");
    session.ping(20).lossless(&session.b)?;
    let off =
        "config openvpn_dco_vpn0 'off'\n\toption common_name 'client-p256'\n\toption disable '1'\n";
    for (what, reason) in [
        (off, "this client is switched off"),
        ("", "its certificate was revoked"),
    ] {
        if what.is_empty() {
            revoke(&[7])?;
        }
        session.router.reload(&format!("{text}{what}"))?;
        session.count(0)?;
        session.says(&format!("client-p256: down: {reason}"))?;
        // The client is told, and gives up.
        session
            .client
            .says(reason, 1, LATER)
            .during(session.client.tail(20))?;
        session.client.stopped(&session.b).ok();
        if !what.is_empty() {
            session.router.reload(&text)?;
            session.client = Daemon::start(&session.b, "vpn-client", &config)?;
            session.up()?;
        }
    }
    // A client on the list comes no further than the handshake.
    session.client = Daemon::start(&session.b, "vpn-client", &config)?;
    let why = "\"CN=client-p256\" (serial number 07) has been revoked";
    session.says(why)?;
    let interface = session.router.interface("vpn0")?;
    let refusal = &interface["last_refusal"];
    let told = refusal["why"].as_str().unwrap_or_default();
    check!(told.contains(why), "{refusal}");
    // The alert of that name reaches the client.
    session
        .client
        .says("certificate revoked", 1, LATER)
        .during(session.client.tail(30))?;
    check_eq!(session.peers()?.len(), 0, "clients");
    Ok(())
}

/// A client is told other options while it is there, and takes them; one with its data in the kernel takes none. The counters of a
/// session that is over are told.
fn updates(_: &Ctx) -> Outcome {
    let setting = Setting {
        dco: false,
        ..PLAIN
    };
    let mut session = setting.start()?;
    session.up()?;
    let push = |options: Value| {
        let args = json!({"interface": "vpn0", "options": options});
        session.router.call_with("push_update", &args)
    };
    let options = json!([
        "route 10.98.0.0 255.255.255.0",
        "?dhcp-option DNS 10.8.0.53"
    ]);
    let answer = push(options)?;
    check_eq!(
        answer,
        json!({"ok": true, "sent": ["client-p256"], "unable": []}),
        "answer"
    );
    wait_for("another route", LATER, || {
        let routes = session.b.cmd(&format!("ip route show dev {DEVICE}")).ok();
        // The device goes and comes.
        let routes = routes.unwrap_or_default();
        Ok((routes.contains("10.98.0.0/24") && !routes.contains("10.99.0.0")).then_some(()))
    })
    .during(session.client.tail(30))?;
    reaches(&session.b, "10.8.0.1")?;
    check_eq!(session.client.handshakes(), 1, "handshakes");
    for options in [
        json!(["ifconfig 10.8.0.9 255.255.255.0"]),
        json!(["up x"]),
        json!([]),
    ] {
        let refused = push(options.clone());
        check!(refused.is_err(), "{options}: {refused:?}");
    }
    let Session {
        mut client,
        router,
        b,
    } = session;
    client.stop(&b)?;
    if Module::ours() {
        let past = wait_for("the counters", LATER, || {
            let past = router.interface("vpn0")?["past"].take();
            Ok((past["sessions"] == 1).then_some(past))
        })
        .during(router.daemon.stderr())?;
        check!(past["vpn"]["rx_packets"].as_u64() >= Some(1), "{past}");
        check!(
            router
                .daemon
                .stderr()
                .contains("client client-p256: in all "),
            "{}",
            router.daemon.stderr()
        );
    }
    let client = Daemon::start(&b, "vpn-client", &PLAIN.client_config("10.10.0.1"))?;
    session = Session { router, client, b };
    session.up()?;
    let ctl = |words: &str| session.router.ctl(&format!("push-update vpn0 {words}"));
    check_eq!(
        ctl("client client-p256 -route").ok()?,
        "unable to take it: client-p256\n",
        "ovpnctl"
    );
    let refused = ctl("client eva -route").run(SOON)?;
    check!(
        refused.status.code() == Some(1) && refused.err.contains("eva"),
        "ovpnctl: {}",
        refused.err
    );
    Ok(())
}

/// ovpnd on both sides, a server on one socket for both families, and a client of each.
fn ours_on_both_sides(_: &Ctx) -> Outcome {
    files()?;
    let setting = Setting {
        server: &[("ovpnproto", "udp6"), ("server_ipv6", "fd00:8::/64")],
        wrap: 3,
        ..PLAIN
    };
    let client = |remote: &str, proto: &str| -> Outcome<String> {
        let files = [
            ("ca", "vpn-ca.crt"),
            ("cert", "client-p256.crt"),
            ("key", "client-p256.key"),
            ("tls_crypt_v2", "v2-client.key"),
        ];
        let mut text = format!(
            "config interface 'vpn0'\n\toption proto 'openvpn_dco'\n\toption client '1'\n\toption remote_cert_tls 'server'\n\
             \toption remote '{remote}'\n\toption ovpnproto '{proto}'\n"
        );
        for (option, file) in files {
            text.push_str(&format!("\toption {option} '{}'\n", path(file)?));
        }
        Ok(text)
    };
    let Pair { a, b } = Pair::new()?;
    let server = Router::start(a, &setting.uci()?, true)?;
    let router = Router::start(b, &client("fd00:10::1", "udp6")?, true)?;
    let up = |name: &str| -> Outcome {
        router
            .reaches("10.8.0.1")
            .during(name.to_owned())
            .during(server.daemon.stderr())?;
        router.reaches("fd00:8::1")?;
        Ping::new(IpAddr::from(INSIDE), 20).lossless(&router.ns)
    };
    up("over IPv6")?;
    let route = router.ns.cmd("ip route get 10.99.0.7").ok()?;
    check!(route.contains("dev vpn0"), "pushed route: {route}");
    router.reload(&client("10.10.0.1", "udp")?)?;
    up("over IPv4")?;
    let remote = server.peer("vpn0")?["remote"].clone();
    check!(
        remote.as_str().is_some_and(|r| r.starts_with("10.10.0.2:")),
        "remote: {remote}"
    );
    let (_, said) = server.end(libc::SIGTERM)?;
    // The server says goodbye, and the client waits for it to come back.
    router
        .wait_peer("told", LATER, |peer| {
            let error = peer["error"].as_str().unwrap_or_default();
            error.contains("server") && peer["state"] != "up"
        })
        .during(said)?;
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "no wrap, P-256, data in its kernel",
            Setting { wrap: 0, ..PLAIN },
        ),
        case(
            "tls-auth, RSA, TLS 1.2",
            Setting {
                algorithm: "rsa",
                wrap: 1,
                dco: false,
                client: "tls-version-max 1.2\n",
                ..PLAIN
            },
        ),
        case(
            "tls-crypt, Ed25519",
            Setting {
                algorithm: "ed25519",
                dco: false,
                ..PLAIN
            },
        ),
        case(
            "tls-crypt-v2, ChaCha20, data in its kernel",
            Setting {
                wrap: 3,
                server: &[("data_ciphers", "CHACHA20-POLY1305")],
                ..PLAIN
            },
        ),
        Case::new("server of openvpn: fingerprints", fingerprints),
        Case::new("server of openvpn: two clients", two_clients),
        Case::new("server of openvpn: another CA", refused),
        Case::new(
            "server of openvpn: renegotiations lose nothing",
            |_: &Ctx| {
                renegotiation(Setting {
                    client: "hand-window 5\n",
                    server: &[("reneg_sec", "10")],
                    ..PLAIN
                })
            },
        ),
        Case::new(
            "server of openvpn: renegotiations over TCP lose nothing",
            |_: &Ctx| {
                renegotiation(Setting {
                    wrap: 3,
                    dco: false,
                    client: "proto tcp-client\nhand-window 5\n",
                    server: &[("reneg_sec", "10"), ("ovpnproto", "tcp-server")],
                    ..PLAIN
                })
            },
        ),
        Case::new("server of openvpn: UDP and TCP", both_protocols),
        Case::new("server of openvpn: password and token", password_and_token),
        Case::new("server of openvpn: wrong password", wrong_password),
        Case::new("server of openvpn: the client restarts", client_restarts),
        Case::new("server of openvpn: reloads end sessions", kicks),
        Case::new("server of openvpn: updates of options", updates),
        Case::new("server of ovpnd, over both families", ours_on_both_sides),
    ]
}
