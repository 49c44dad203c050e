// SPDX-License-Identifier: MIT OR Apache-2.0
//! One side of an OpenVPN session without a tunnel: control channel by this crate, data channel as far as OpenVPN's
//! pings, which prove that both sides have the same keys. `run.sh` beside this file runs it against stock OpenVPN.
//!
//! Arguments are `NAME=VALUE`: `role` (client, server), `proto` (udp, tcp), `addr` (of the server), `wrap` (none, auth,
//! crypt, v2), `wrap-key` (file), `direction` (0, 1), `ca`, `cert`, `key` (files), `tls` (1.2, 1.3), `ekm` and `dyn`
//! (1, 0), `reneg`, `window` and `seconds`. The last line on standard output has the counts.

mod data;
mod link;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use openvpn_control::client::{self, Client, ClientConfig, ClientWrap};
use openvpn_control::env::Env;
use openvpn_control::exchange::options_string;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::listener::{ResetLimits, ServerWrap};
use openvpn_control::negotiate::Abilities;
use openvpn_control::pem;
use openvpn_control::server::{self, Admission, Handle, Path, Server, ServerConfig};
use openvpn_control::session::{KeyChange, Timing};
use openvpn_control::tls::ring::{Factory, Identity, Settings, Version};
use openvpn_control::verify::Rules;
use openvpn_control::wrap::auth::{Digest, Direction};
use openvpn_control::wrap::text;

use data::Data;
use link::Link;

type Failure = Box<dyn std::error::Error>;

struct Arguments(BTreeMap<String, String>);

impl Arguments {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.get(name);
        std::fs::read(path).map_err(|why| format!("{name}={path}: {why}").into())
    }

    fn seconds(&self, name: &str, default: u64) -> Duration {
        Duration::from_secs(self.get(name).parse().unwrap_or(default))
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            request_push: true,
            tls_key_export: self.get("ekm") != "0",
            auth_pending: true,
            exit_notify: true,
            auth_fail_temp: true,
            dyn_tls_crypt: self.get("dyn") != "0",
            dns: true,
            push_update: false,
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            hand_window: self.seconds("window", 60),
            renegotiate: Some(self.seconds("reneg", 3600)).filter(|age| !age.is_zero()),
            transition: Duration::from_secs(3600),
        }
    }

    fn factory(&self) -> Result<Arc<Factory>, Failure> {
        let version = |text| match text {
            "1.2" => Version::Tls12,
            _ => Version::Tls13,
        };
        let only = version(self.get("tls"));
        let settings = Settings {
            identity: Some(Identity::load(
                &self.file("cert")?,
                None,
                &self.file("key")?,
                None,
            )?),
            rules: Rules {
                ca: pem::certificates(&self.file("ca")?)?,
                ..Rules::default()
            },
            optional: false,
            min: only,
            max: only,
            clock: Arc::new(unix),
            build_date: 0,
        };
        Ok(Arc::new(Factory::new(&settings)?))
    }

    fn direction(&self) -> Direction {
        match self.get("direction") {
            "0" => Direction::Normal,
            "1" => Direction::Inverse,
            _ => Direction::Both,
        }
    }
}

fn unix() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.as_secs())
}

/// Runs `f` in the world of now.
fn now<R>(f: impl FnOnce(&mut Env<'_>) -> R) -> R {
    let mut random = |out: &mut [u8]| {
        use ring::rand::SecureRandom;
        ring::rand::SystemRandom::new()
            .fill(out)
            .expect("random bytes");
    };
    f(&mut Env {
        now: Instant::now(),
        unix: unix(),
        random: &mut random,
    })
}

fn main() -> Result<(), Failure> {
    let pairs = std::env::args()
        .skip(1)
        .map(|arg| match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (arg, String::new()),
        });
    let arguments = Arguments(pairs.collect());
    match arguments.get("role") {
        "server" => serve(&arguments),
        _ => connect(&arguments),
    }
}

fn connect(arguments: &Arguments) -> Result<(), Failure> {
    let wrap = match arguments.get("wrap") {
        "auth" => ClientWrap::Auth(
            text::static_key(&arguments.file("wrap-key")?)?,
            arguments.direction(),
            Digest::Sha1,
        ),
        "crypt" => ClientWrap::Crypt(text::static_key(&arguments.file("wrap-key")?)?),
        "v2" => ClientWrap::CryptV2(text::client_key(&arguments.file("wrap-key")?)?),
        _ => ClientWrap::None,
    };
    let config = ClientConfig {
        tls: arguments.factory()?,
        timing: arguments.timing(),
        wrap,
        options: options_string(Role::Client, "UDPv4", 1500),
        credentials: None,
        token: false,
        version: env!("CARGO_PKG_VERSION").into(),
        mtu: 1500,
        abilities: arguments.abilities(),
        ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        filter: Default::default(),
    };
    let mut link = Link::connect(arguments.get("proto"), arguments.get("addr"))?;
    let mut client = now(|env| Client::connect(config, env)).map_err(|why| why.reason)?;
    let mut data = Data::new(Role::Client);
    let (mut ups, mut rejected, mut failure) = (0, 0, String::new());
    let end = Instant::now() + arguments.seconds("seconds", 10);
    let mut ping_at = Instant::now();
    while Instant::now() < end && failure.is_empty() {
        now(|env| client.advance(env));
        while let Some(packet) = now(|env| client.transmit(env)) {
            link.send(&packet)?;
        }
        while let Some(event) = client.event() {
            match event {
                client::Event::Keys(change) => data.apply(change),
                client::Event::Pushed(options, agreed) => {
                    println!("pushed {options:?} {agreed:?}");
                    data.peer_id = options.peer_id.unwrap_or(0);
                }
                client::Event::State(state) => {
                    println!("state {state:?}");
                    ups += usize::from(state == client::State::Up);
                }
                client::Event::Failed(why, end) => failure = format!("{why} ({end:?})"),
                other => println!("event {other:?}"),
            }
        }
        if ping_at <= Instant::now() {
            ping_at = Instant::now() + Duration::from_millis(200);
            if let Some(packet) = data.ping() {
                link.send(&packet)?;
            }
        }
        let Some((_, packet)) = link.receive(Duration::from_millis(50))? else {
            continue;
        };
        if !data.receive(&packet) {
            rejected += usize::from(now(|env| client.receive(&packet, env)).is_err());
        }
    }
    now(|env| client.exit(env));
    while let Some(packet) = now(|env| client.transmit(env)) {
        link.send(&packet)?;
    }
    println!(
        "RESULT up={ups} {} rejected={rejected} failure={failure:?}",
        data.counts()
    );
    Ok(())
}

fn serve(arguments: &Arguments) -> Result<(), Failure> {
    let wrap = match arguments.get("wrap") {
        "auth" => ServerWrap::Auth(
            text::static_key(&arguments.file("wrap-key")?)?,
            arguments.direction(),
            Digest::Sha1,
        ),
        "crypt" => ServerWrap::Crypt(text::static_key(&arguments.file("wrap-key")?)?),
        "v2" => ServerWrap::CryptV2 {
            key: text::server_key(&arguments.file("wrap-key")?)?,
            allow_noncookie: arguments.get("noncookie") == "1",
        },
        _ => ServerWrap::None,
    };
    let config = ServerConfig {
        tls: arguments.factory()?,
        timing: arguments.timing(),
        wrap,
        options: options_string(Role::Server, "UDPv4", 1500),
        stream_options: String::new(),
        abilities: arguments.abilities(),
        ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        max_sessions: 100,
        max_pending: 20,
        resets: ResetLimits::default(),
    };
    let mut link = Link::listen(arguments.get("proto"), arguments.get("addr"))?;
    let mut server = now(|env| Server::new(config, env));
    let mut peers: BTreeMap<Handle, Data> = BTreeMap::new();
    let (mut ups, mut rejected, mut failure) = (0, 0, String::new());
    let mut gone = Vec::new();
    let end = Instant::now() + arguments.seconds("seconds", 10);
    let mut ping_at = Instant::now();
    while Instant::now() < end {
        now(|env| server.advance(env));
        while let Some((_, packet)) = now(|env| server.transmit(env)) {
            link.send(&packet)?;
        }
        while let Some(event) = server.event() {
            match event {
                server::Event::Authenticate(who) if who.again => {
                    now(|env| server.admit_again(who.handle, who.hello.key_id, env));
                }
                server::Event::Authenticate(who) => {
                    println!("client {:?} {:?}", who.hello, who.metadata);
                    let id = u32::try_from(peers.len())?;
                    let mut data = Data::new(Role::Server);
                    data.peer_id = id;
                    peers.insert(who.handle, data);
                    let options = [
                        "topology subnet",
                        "ifconfig 10.9.0.2 255.255.255.0",
                        "ping 1",
                        "ping-exit 6",
                    ];
                    let admission = Admission {
                        peer_id: id,
                        options: options.map(str::to_owned).to_vec(),
                    };
                    now(|env| server.admit(who.handle, &admission, env)).map_err(|why| why.0)?;
                }
                server::Event::Keys(handle, change) => {
                    let first = matches!(&change, KeyChange::Install(key) if key.key_id.get() == 0);
                    if let Some(data) = peers.get_mut(&handle) {
                        data.apply(change);
                    }
                    if first {
                        ups += 1;
                        now(|env| server.installed(handle, env));
                    }
                }
                server::Event::Closed(handle, _, why) => {
                    failure = why.to_string();
                    gone.extend(peers.remove(&handle).map(|data| data.counts()));
                }
                other => println!("event {other:?}"),
            }
        }
        if ping_at <= Instant::now() {
            ping_at = Instant::now() + Duration::from_millis(200);
            for data in peers.values_mut() {
                if let Some(packet) = data.ping() {
                    link.send(&packet)?;
                }
            }
        }
        let Some((from, packet)) = link.receive(Duration::from_millis(50))? else {
            continue;
        };
        if peers.values_mut().any(|data| data.receive(&packet)) {
            continue;
        }
        let path = Path {
            socket: 0,
            remote: from,
            stream: false,
        };
        if let Err(why) = now(|env| server.receive(path, &packet, env)) {
            println!("rejected {why:?}");
            rejected += 1;
        }
    }
    gone.extend(peers.values().map(Data::counts));
    println!(
        "RESULT up={ups} {} rejected={rejected} failure={failure:?}",
        gone.join(" ")
    );
    Ok(())
}
