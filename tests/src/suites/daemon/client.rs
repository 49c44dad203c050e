// SPDX-License-Identifier: GPL-2.0-only
//! ovpnd as a client of stock OpenVPN: TLS in ovpnd, data in the kernel here and in tun there.
//!
//! ```text
//!   a: ovpnd, vpn0 10.8.0.2  --- 10.10.0.1 / 10.10.0.2 ---  b: openvpn --server, tun0 10.8.0.1
//! ```

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::netifd::{carry_out, handler};
use super::router::{LATER, Router, SOON};
use crate::lab::{Cmd, Ns, Pair, Ping, wait_for};
use crate::suites::openvpn::daemon::{DEVICE, Daemon, need_openvpn};
use crate::suites::openvpn::pki;
use crate::tap::{Case, During, Failure, Outcome};
use crate::{Ctx, check, check_eq};

/// The address of the server inside the tunnel.
const INSIDE: [u8; 4] = [10, 8, 0, 1];

/// ovpnd's options of one side, with the names of their files.
type Options = &'static [(&'static str, &'static str)];

/// A protection of the control channel.
pub(super) struct Wrap {
    pub(super) name: &'static str,
    client: Options,
    server: Options,
}

pub(super) const WRAPS: [Wrap; 4] = [
    Wrap {
        name: "none",
        client: &[],
        server: &[],
    },
    Wrap {
        name: "tls-auth",
        client: &[("tls_auth", "tls-auth.key"), (DIRECTION, "1")],
        server: &[("tls_auth", "tls-auth.key"), (DIRECTION, "0")],
    },
    Wrap {
        name: "tls-crypt",
        client: &[("tls_crypt", "tls-auth.key")],
        server: &[("tls_crypt", "tls-auth.key")],
    },
    Wrap {
        name: "tls-crypt-v2",
        client: &[("tls_crypt_v2", "v2-client.key")],
        server: &[("tls_crypt_v2", "v2-server.key")],
    },
];

/// The option whose value is no file.
const DIRECTION: &str = "key_direction";

impl Wrap {
    /// The options of a side, `client` or `server`.
    fn of(&self, side: &str) -> Options {
        match side {
            "client" => self.client,
            _ => self.server,
        }
    }

    /// The same with the paths of files.
    pub(super) fn options(&self, side: &str) -> Outcome<Vec<(&'static str, String)>> {
        let dir = pki::dir()?;
        let path = |(option, value): &(&'static str, &str)| match *option {
            DIRECTION => (DIRECTION, (*value).to_owned()),
            option => (option, dir.join(value).display().to_string()),
        };
        Ok(self.of(side).iter().map(path).collect())
    }

    /// The same as a directive of OpenVPN's, which has the direction behind the file.
    pub(super) fn directive(&self, side: &str) -> String {
        match self.of(side) {
            [] => String::new(),
            [(option, file)] => format!("{} {file}\n", option.replace('_', "-")),
            [(option, file), (_, direction), ..] => {
                format!("{} {file} {direction}\n", option.replace('_', "-"))
            }
        }
    }
}

/// Makes a CA, a certificate for each side by each algorithm, and the keys of [`WRAPS`], once.
pub(super) fn files() -> Outcome {
    static MADE: OnceLock<()> = OnceLock::new();
    if MADE.get().is_some() {
        return Ok(());
    }
    let dir = pki::dir()?;
    let run = |line: &str| {
        Cmd::new(None, "sh -c")
            .arg(format!("cd {} && {line}", dir.display()))
            .ok()
    };
    for (ca, name) in [("vpn-ca", "the CA"), ("vpn-other-ca", "another CA")] {
        run(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN={name}' -days 30 \
             -keyout {ca}.key -out {ca}.crt"
        ))?;
    }
    for (serial, (algorithm, key)) in (7..).zip(ALGORITHMS) {
        certificates(serial, algorithm, key)?;
    }
    run(
        "openvpn --genkey tls-auth tls-auth.key && openvpn --genkey tls-crypt-v2-server v2-server.key && \
         openvpn --tls-crypt-v2 v2-server.key --genkey tls-crypt-v2-client v2-client.key && \
         chmod 600 tls-auth.key v2-server.key v2-client.key",
    )?;
    let _ = MADE.set(());
    Ok(())
}

/// Makes a server's and a client's certificate of the CA of [`files`], unless they are there: `key` is openssl's options for
/// their keys.
pub(super) fn certificates(serial: u32, algorithm: &str, key: &str) -> Outcome {
    let dir = pki::dir()?;
    for (side, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let name = format!("{side}-{algorithm}");
        if dir.join(format!("{name}.crt")).exists() {
            continue;
        }
        Cmd::new(None, "sh -c")
            .arg(format!(
                "cd {} && openssl req {key} -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr && \
                 printf 'keyUsage=digitalSignature\\nextendedKeyUsage={usage}\\n' > {name}.ext && \
                 openssl x509 -req -in {name}.csr -CA vpn-ca.crt -CAkey vpn-ca.key -set_serial {serial} -days 20 \
                 -extfile {name}.ext -out {name}.crt && chmod 600 {name}.key",
                dir.display()
            ))
            .ok()?;
    }
    Ok(())
}

const ALGORITHMS: [(&str, &str); 3] = [
    ("p256", "-newkey ec -pkeyopt ec_paramgen_curve:P-256"),
    ("rsa", "-newkey rsa:2048"),
    ("ed25519", "-newkey ed25519"),
];

/// A server and a client of it.
struct Session {
    server: Daemon,
    router: Router,
    b: Ns,
}

pub(super) struct Setting {
    pub(super) algorithm: &'static str,
    /// Which of [`WRAPS`].
    pub(super) wrap: usize,
    /// The server's protocol.
    pub(super) proto: &'static str,
    /// Directives of the server.
    pub(super) server: &'static str,
    /// Options of the client that are added or replaced; a list of servers has bars between them.
    pub(super) client: &'static [(&'static str, &'static str)],
}

pub(super) const PLAIN: Setting = Setting {
    algorithm: "p256",
    wrap: 2,
    proto: "udp",
    server: "",
    client: &[],
};

impl Setting {
    pub(super) fn server_config(&self) -> String {
        let wrap = WRAPS[self.wrap].directive("server");
        let name = format!("server-{}", self.algorithm);
        let dir = pki::dir().map_or_else(|_| String::new(), |dir| dir.display().to_string());
        format!(
            "verb 3\ndev {DEVICE}\ndev-type tun\ndisable-dco\nproto {}\nserver 10.8.0.0 255.255.255.0\ntopology subnet\n\
             ca vpn-ca.crt\ncert {name}.crt\nkey {name}.key\ndh none\nkeepalive 1 5\npush \"route 10.99.0.0 255.255.255.0\"\n\
             push \"dhcp-option DNS 10.8.0.53\"\npush \"dhcp-option DOMAIN lan.example\"\n\
             {wrap}{}",
            self.proto,
            self.server.replace("DIR", &dir)
        )
    }

    pub(super) fn uci(&self) -> Outcome<String> {
        let dir = pki::dir()?;
        let wrap = WRAPS[self.wrap].client;
        let name = format!("client-{}", self.algorithm);
        let files = [
            "ca",
            "cert",
            "key",
            "tls_auth",
            "tls_crypt",
            "tls_crypt_v2",
            "auth_user_pass",
        ];
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        let mut options = vec![
            ("proto", "openvpn_dco"),
            ("client", "1"),
            ("remote", "10.10.0.2"),
            ("remote_cert_tls", "server"),
            ("ca", "vpn-ca.crt"),
            ("cert", &cert),
            ("key", &key),
        ];
        for (option, value) in wrap.iter().chain(self.client) {
            options.retain(|(known, _)| known != option);
            options.push((option, value));
        }
        let mut text = "config interface 'vpn0'\n".to_owned();
        for (option, value) in options {
            let path = match files.contains(&option) {
                true => format!("{}/{value}", dir.display()),
                false => value.to_owned(),
            };
            match option {
                "remote" => {
                    let servers = path.split('|');
                    text.extend(servers.map(|server| format!("\tlist remote '{server}'\n")));
                }
                _ => text.push_str(&format!("\toption {option} '{path}'\n")),
            }
        }
        Ok(text)
    }

    fn start(&self) -> Outcome<Session> {
        need_openvpn()?;
        files()?;
        let Pair { a, b } = Pair::new()?;
        let server = Daemon::start(&b, "vpn-server", &self.server_config())?;
        let router = Router::start(a, &self.uci()?, true)?;
        Ok(Session { server, router, b })
    }
}

impl Session {
    fn up(&self) -> Outcome {
        let up = self
            .router
            .wait_peer("up", LATER, |peer| peer["state"] == "up");
        up.during(self.server.tail(30))?;
        // A stock server makes its data keys up to a second after it pushed the options.
        self.router.reaches("10.8.0.1")
    }

    fn ping(&self, count: u32) -> Ping {
        Ping::new(IpAddr::from(INSIDE), count)
    }
}

/// From nothing to pings, and back to nothing.
fn whole(setting: &Setting) -> Outcome {
    let session = setting.start()?;
    session.up()?;
    session
        .ping(20)
        .lossless(&session.router.ns)
        .during(session.server.tail(30))?;
    let peer = session.router.peer("vpn0")?;
    check_eq!(
        json!(["control", "error", "has_key", "endpoint", "losses"].map(|key| &peer[key])),
        json!(["tls", null, true, "10.10.0.2:1194", 0]),
        "peer"
    );
    check!(peer["vpn"]["rx_packets"].as_u64() >= Some(20), "{peer}");
    let route = session.router.ns.cmd("ip route get 10.99.0.7").ok()?;
    check!(route.contains("dev vpn0"), "pushed route: {route}");
    let interface = json!({"interface": "vpn0"});
    let offer = session.router.call_with("up", &interface)?;
    check_eq!(
        (&offer["dns"], &offer["dns_search"]),
        (&json!(["10.8.0.53"]), &json!(["lan.example"])),
        "DNS for netifd"
    );
    let Session {
        mut server,
        router,
        b,
    } = session;
    let (ns, said) = router.end(libc::SIGTERM)?;
    check_eq!(
        ns.ifindex("vpn0")?,
        None,
        "interface after the end; ovpnd said\n{said}"
    );
    server.stop(&b)
}

fn case(name: &str, setting: Setting) -> Case {
    Case::new(format!("client of openvpn: {name}"), move |_: &Ctx| {
        whole(&setting)
    })
}

/// The server renegotiates every 10 s and changes to a new key after 5, and so does the client, which is told nothing of
/// that: a series of pings over several keys loses none.
fn renegotiation(setting: Setting, count: u32) -> Outcome {
    let setting = Setting {
        server: "reneg-sec 10 10\n",
        ..setting
    };
    let session = setting.start()?;
    session.up()?;
    let mut ping = session.ping(count);
    ping.interval = 10;
    let pings = ping.echo()?.start(&session.router.ns)?;
    let first = session.router.peer("vpn0")?["key_id"].as_u64();
    session.router.wait_peer("another key", LATER, |peer| {
        peer["key_id"].as_u64() != first
    })?;
    let lossless = pings.lossless();
    lossless.during(session.server.tail(40))?;
    check!(
        session.server.handshakes() >= 2 + (count / 3600) as usize,
        "{}",
        session.server.tail(40)
    );
    Ok(())
}

/// A server that ends and comes back is connected to again.
fn restart(_: &Ctx) -> Outcome {
    let mut session = PLAIN.start()?;
    session.up()?;
    session.server.kill()?;
    session
        .router
        .wait_peer("gone", LATER, |peer| peer["state"] != "up")?;
    session.server = Daemon::start(&session.b, "vpn-server", &PLAIN.server_config())?;
    session.up()?;
    session.ping(20).lossless(&session.router.ns)
}

/// Over TCP the first server of a list refuses, and the second one, over IPv6, is connected to again when it has ended, which
/// is known at once.
fn restart_over_tcp(_: &Ctx) -> Outcome {
    let setting = Setting {
        proto: "tcp6-server",
        client: &[("remote", "10.10.0.2 1195 tcp|fd00:10::2 1194 tcp6")],
        ..PLAIN
    };
    let mut session = setting.start()?;
    session.up()?;
    let peer = session.router.peer("vpn0")?;
    check_eq!(
        json!(["endpoint", "remote"].map(|key| &peer[key])),
        json!(["[fd00:10::2]:1194", "[fd00:10::2]:1194"]),
        "peer"
    );
    session.server.kill()?;
    let why = "the server closed the connection";
    wait_for(why, SOON, || {
        Ok(session.router.daemon.stderr().contains(why).then_some(()))
    })
    .during(session.router.daemon.stderr())?;
    session.server = Daemon::start(&session.b, "vpn-server", &setting.server_config())?;
    session.up()?;
    session.ping(20).lossless(&session.router.ns)
}

/// A server's program that takes anna with the answer 4711 to its own question, or to one that comes with her password, and
/// counts how often it is asked.
const PROGRAM: &str = "#!/bin/sh
cd DIR
{ read -r user; read -r password; } < \"$1\"
echo \"$user\" >> asked
case \"$password\" in
CRV1::st::4711 | SCRV1:c2VjcmV0:NDcxMQ==) exit 0 ;;
SCRV1:*) echo 'no such PIN' > \"$auth_failed_reason_file\" ;;
*) echo 'CRV1:R,E:st:YW5uYQ==:PIN please' > \"$auth_failed_reason_file\" ;;
esac
exit 1
";

/// A server that asks that program, and how often it did.
const ASKING: Setting = Setting {
    server: "script-security 2\nauth-user-pass-verify DIR/program.sh via-file\nauth-gen-token 0 150\n\
             auth-gen-token-secret token.key\nreneg-sec 9 9\n",
    client: &[("username", "anna"), ("password", "secret")],
    ..PLAIN
};

impl Setting {
    fn start_asking(&self) -> Outcome<Session> {
        need_openvpn()?;
        files()?;
        let dir = pki::dir()?;
        let text = PROGRAM.replace("DIR", &dir.display().to_string());
        fs::write(dir.join("program.sh"), text)?;
        fs::write(dir.join("asked"), "")?;
        Cmd::new(None, "sh -c")
            .arg(format!(
                "cd {} && chmod 700 program.sh && openvpn --genkey auth-token token.key",
                dir.display()
            ))
            .ok()?;
        self.start()
    }
}

fn asked() -> Outcome<usize> {
    Ok(fs::read_to_string(pki::dir()?.join("asked"))?
        .lines()
        .count())
}

impl Session {
    /// Waits for a question, and answers it by ovpnctl.
    fn answer(&self, question: &Value, answer: &str) -> Outcome {
        let asks = |peer: &Value| peer["state"] == "asking" && peer["question"] == *question;
        self.router
            .wait_peer("asking", LATER, asks)
            .during(self.server.tail(30))?;
        let command = self.router.ctl("answer vpn0");
        command.input(format!("{answer}\n")).ok().map(drop)
    }
}

/// The server's question is answered by ubus. From then on its token stands for password and answer, in a renegotiation and
/// when the server was away.
fn questions_and_tokens(_: &Ctx) -> Outcome {
    let mut session = ASKING.start_asking()?;
    let question = json!({"text": "PIN please", "echo": true, "user": false});
    session.answer(&question, "4711")?;
    session.up()?;
    check_eq!(asked()?, 2, "questions of the program");
    let first = session.router.peer("vpn0")?["key_id"].as_u64();
    session
        .router
        .wait_peer("another key", LATER, |peer| {
            peer["key_id"].as_u64() != first
        })
        .during(session.server.tail(40))?;
    session.server.kill()?;
    session
        .router
        .wait_peer("gone", LATER, |peer| peer["state"] != "up")?;
    session.server = Daemon::start(&session.b, "vpn-server", &ASKING.server_config())?;
    session.up()?;
    session.ping(20).lossless(&session.router.ns)?;
    check_eq!(asked()?, 2, "questions of the program");
    Ok(())
}

/// The configuration's question comes before the connection, and again after a wrong answer, with the server's reason.
fn static_challenge(_: &Ctx) -> Outcome {
    let setting = Setting {
        client: &[
            ("username", "anna"),
            ("password", "secret"),
            ("static_challenge", "Your PIN 0"),
        ],
        ..ASKING
    };
    let session = setting.start_asking()?;
    let question = json!({"text": "Your PIN", "echo": false, "user": false});
    session.answer(&question, "0815")?;
    session
        .router
        .wait_peer("refused", LATER, |peer| {
            let error = peer["error"].as_str().unwrap_or_default();
            peer["state"] == "asking" && error.contains("no such PIN")
        })
        .during(session.server.tail(30))?;
    session.answer(&question, "4711")?;
    session.up()?;
    session.ping(20).lossless(&session.router.ns)
}

/// Taken down by a call, the session ends and its interface goes, also for the next daemon; a call brings it back.
fn switch(_: &Ctx) -> Outcome {
    let mut session = PLAIN.start()?;
    session.up()?;
    let router = &mut session.router;
    let of = json!({"interface": "vpn0", "reason": "by hand"});
    router.call_with("down", &of)?;
    for _ in 0..2 {
        let interface = router.interface("vpn0")?;
        check_eq!(
            json!([interface["state"], interface["stopped"]]),
            json!(["stopped", "by hand"]),
            "the interface"
        );
        check_eq!(router.ns.ifindex("vpn0")?, None, "vpn0 in the kernel");
        router.crash()?;
        router.start_again()?;
    }
    router.call_with("up", &json!({"interface": "vpn0"}))?;
    session.up()?;
    session.ping(20).lossless(&session.router.ns)?;
    let offer = session
        .router
        .call_with("up", &json!({"interface": "vpn0"}))?;
    check_eq!(
        json!([offer["addresses"], offer["routes"], offer["endpoints"]]),
        json!([["10.8.0.2/24"], ["10.99.0.0/24"], ["10.10.0.2"]]),
        "offer"
    );
    Ok(())
}

/// Has the server change its clients' options by its management socket.
fn push(options: &str) -> Outcome {
    let mut stream = UnixStream::connect(pki::dir()?.join("management"))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(format!("push-update-broad \"{options}\"\n").as_bytes())?;
    let mut said = Vec::new();
    for line in BufReader::new(stream).lines() {
        said.push(line.during(options)?);
        match said.last() {
            Some(line) if line.contains("push-update command succeeded") => return Ok(()),
            Some(line) if line.starts_with("ERROR") => break,
            _ => {}
        }
    }
    Err(Failure::new(format!("{options}: {}", said.join("; "))))
}

/// Routes and DNS that the server changes are changed in place: the session goes on, and no ping is lost. An update that
/// cannot be carried out ends the session with a sentence, and another one begins.
fn updates(_: &Ctx) -> Outcome {
    let setting = Setting {
        server: "management DIR/management unix\n",
        ..PLAIN
    };
    let session = setting.start()?;
    session.up()?;
    let router = &session.router;
    let index = router.ns.ifindex("vpn0")?;
    let routes = || router.ns.cmd("ip route show dev vpn0").ok();
    check!(routes()?.contains("10.99.0.0/24"), "routes: {}", routes()?);
    let pings = session.ping(200).echo()?.start(&router.ns)?;
    push(
        "route 10.98.0.0 255.255.255.0, -dhcp-option, dns search-domains corp.example, ?route-metric 7",
    )?;
    wait_for("another route", LATER, || {
        let routes = routes()?;
        Ok((routes.contains("10.98.0.0/24") && !routes.contains("10.99.0.0")).then_some(()))
    })
    .during(session.server.tail(30))
    .during(router.daemon.stderr())?;
    let offer = router.call_with("up", &json!({"interface": "vpn0"}))?;
    check_eq!(
        json!(["routes", "dns", "dns_search", "addresses"].map(|key| &offer[key])),
        json!([["10.98.0.0/24"], [], ["corp.example"], ["10.8.0.2/24"]]),
        "offer"
    );
    push("-route, dhcp-option DNS 10.8.0.54")?;
    wait_for("no route", LATER, || {
        Ok((!routes()?.contains("10.98.0.0")).then_some(()))
    })?;
    let offer = router.call_with("up", &json!({"interface": "vpn0"}))?;
    check_eq!(
        json!(["routes", "dns", "dns_search"].map(|key| &offer[key])),
        json!([[], ["10.8.0.54"], ["corp.example"]]),
        "offer"
    );
    pings.lossless().during(session.server.tail(30))?;
    check_eq!(router.ns.ifindex("vpn0")?, index, "index of the interface");
    check_eq!(session.server.handshakes(), 1, "handshakes");
    push("cipher AES-128-GCM")?;
    let why =
        "the server pushes \"cipher AES-128-GCM\": it cannot be changed while the session is up";
    wait_for(why, LATER, || {
        Ok(router.daemon.stderr().contains(why).then_some(()))
    })
    .during(router.daemon.stderr())?;
    wait_for("another session", LATER, || {
        Ok((session.server.handshakes() >= 2).then_some(()))
    })?;
    session.up()?;
    check!(routes()?.contains("10.99.0.0/24"), "routes: {}", routes()?);
    Ok(())
}

/// The same where netifd owns addresses and routes: its handler fetches an update by a renewal, which loses no ping.
fn updates_under_netifd(_: &Ctx) -> Outcome {
    need_openvpn()?;
    files()?;
    let setting = Setting {
        server: "management DIR/management unix\n",
        ..PLAIN
    };
    let Pair { a, b } = Pair::new()?;
    let server = Daemon::start(&b, "vpn-server", &setting.server_config())?;
    let router = Router::with_netifd(a, &setting.uci()?)?;
    carry_out(&router)?;
    let session = Session { server, router, b };
    let router = &session.router;
    // Only the server's address is known yet, whose way netifd watches; the rest comes by a renewal.
    let said = handler(router, "setup", "vpn0")?;
    let dependency = "proto_add_host_dependency vpn0 10.10.0.2 ";
    check_eq!(said.first().map(String::as_str), Some(dependency), "setup");
    let up = router.wait_peer("up", LATER, |peer| peer["state"] == "up");
    up.during(session.server.tail(30))?;
    handler(router, "renew", "vpn0")?;
    session.up()?;
    let routes = || router.ns.cmd("ip route show dev vpn0").ok();
    check!(routes()?.contains("10.99.0.0/24"), "routes: {}", routes()?);
    let index = router.ns.ifindex("vpn0")?;
    let pings = session.ping(200).echo()?.start(&router.ns)?;
    push("route 10.98.0.0 255.255.255.0, dhcp-option DNS 10.8.0.54")?;
    let of = json!({"interface": "vpn0"});
    wait_for("the update", LATER, || {
        let offer = router.call_with("up", &of)?;
        Ok((offer["dns"] == json!(["10.8.0.54"])).then_some(()))
    })
    .during(session.server.tail(30))?;
    // ovpnd leaves them to netifd.
    check!(!routes()?.contains("10.98.0.0"), "routes: {}", routes()?);
    let said = handler(router, "renew", "vpn0")?;
    let update = [
        "proto_init_update vpn0 1",
        "proto_add_ipv4_address 10.8.0.2 24",
        "proto_add_ipv4_route 10.98.0.0 24 ",
        "proto_add_dns_server 10.8.0.54",
        "proto_send_update vpn0",
    ];
    check_eq!(said.get(1..).unwrap_or_default(), update, "renew");
    let left = routes()?;
    check!(
        left.contains("10.98.0.0/24") && !left.contains("10.99.0.0"),
        "routes: {left}"
    );
    pings.lossless().during(session.server.tail(30))?;
    check_eq!(router.ns.ifindex("vpn0")?, index, "index of the interface");
    check_eq!(session.server.handshakes(), 1, "handshakes");
    Ok(())
}

/// A server of another CA is refused with a sentence, and so is a wrong key of tls-crypt.
fn refused(_: &Ctx) -> Outcome {
    let setting = Setting {
        client: &[("ca", "vpn-other-ca.crt")],
        ..PLAIN
    };
    let session = setting.start()?;
    let why = "was not issued by our CA but by \"CN=the CA\"";
    session.router.wait_peer(why, LATER, |peer| {
        peer["error"]
            .as_str()
            .is_some_and(|error| error.contains(why))
    })?;
    check_eq!(
        session.router.peer("vpn0")?["peer_id"],
        json!(null),
        "peer id"
    );
    Ok(())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("no wrap, P-256", Setting { wrap: 0, ..PLAIN }),
        case(
            "tls-auth, RSA, TLS 1.2",
            Setting {
                algorithm: "rsa",
                wrap: 1,
                client: &[("tls_version_max", "1.2")],
                ..PLAIN
            },
        ),
        case(
            "tls-crypt, Ed25519",
            Setting {
                algorithm: "ed25519",
                ..PLAIN
            },
        ),
        case(
            "tls-crypt-v2, ChaCha20",
            Setting {
                wrap: 3,
                client: &[("data_ciphers", "CHACHA20-POLY1305")],
                ..PLAIN
            },
        ),
        Case::new(
            "client of openvpn: renegotiations lose nothing",
            |_: &Ctx| renegotiation(PLAIN, 3600),
        ),
        Case::new(
            "client of openvpn: renegotiations over TCP lose nothing",
            |_: &Ctx| {
                let setting = Setting {
                    wrap: 3,
                    proto: "tcp-server",
                    client: &[("ovpnproto", "tcp-client")],
                    ..PLAIN
                };
                renegotiation(setting, 1500)
            },
        ),
        Case::new(
            "client of openvpn: over TCP and IPv6 the server restarts",
            restart_over_tcp,
        ),
        Case::new(
            "client of openvpn: questions and tokens",
            questions_and_tokens,
        ),
        Case::new("client of openvpn: static challenge", static_challenge),
        Case::new("client of openvpn: the server restarts", restart),
        Case::new("client of openvpn: down and up by a call", switch),
        Case::new("client of openvpn: updates of options", updates),
        Case::new(
            "client of openvpn: updates under netifd",
            updates_under_netifd,
        ),
        Case::new("client of openvpn: another CA", refused),
    ]
}
