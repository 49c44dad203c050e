// SPDX-License-Identifier: GPL-2.0-or-later
//! Interfaces whose control channel is ovpnd's own: OpenVPN's options under their own names, with underscores.
//!
//! A section is one of these when it says `client` or `tls_client`, or, for a server, `server`, `server_ipv6` or
//! `tls_server`. Its `mode` is then OpenVPN's (`p2p` or `server`); without, `mode` stays the driver's (`p2p` or `mp`), as
//! static keys have it. Files are named by their paths; those with secrets must be readable by their owner alone.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openvpn_control::client::ClientWrap;
use openvpn_control::exchange::Credentials;
use openvpn_control::keys::{Cipher, Role};
use openvpn_control::push::{Filter, Verdict};
use openvpn_control::session::Timing;
use openvpn_control::tls::ring::{Factory, Identity, Settings, Version};
use openvpn_control::verify::{NameRule, Rules, parse_fingerprint};
use openvpn_control::wrap::{StaticKey, auth, text};
use openvpn_control::{pem, refusal::Refusal};
use ovpn_netlink::{Keepalive, MAX_NAME, Mode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::interface::{Interface, NETIFD, SocketSpec, Transport};
use super::reader::Reader;
use super::{Endpoint, Problem, Routing};
use crate::keyfile::{NotOpen, open_regular};
pub use login::{Asked, Question};
use login::{asks, credentials, question};
use refused::{CLIENT_REFUSED, NEEDLESS, REFUSED};

/// A bundle of CAs has 200 KiB.
const MAX_FILE: u64 = 1024 * 1024;
/// OpenVPN's registered port.
const PORT: u32 = 1194;

/// A server of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name and port.
    pub endpoint: Endpoint,
    /// The way to it.
    pub transport: Transport,
}

/// A client's configuration.
#[derive(Debug, Clone)]
pub struct ClientSpec {
    /// Its interface, without peers.
    pub interface: Interface,
    /// Servers, in their order.
    pub remotes: Vec<Remote>,
    /// `remote_random`
    pub random: bool,
    /// Makes TLS connections.
    pub tls: Arc<Factory>,
    /// Protection of control packets.
    pub wrap: ClientWrap,
    /// User name and password.
    pub credentials: Option<Credentials>,
    /// `auth_user_pass 'ask'`: the user is asked for what `credentials` lack.
    pub asks: Option<Asked>,
    /// `static_challenge`
    pub static_challenge: Option<Question>,
    /// Times of renegotiations.
    pub timing: Timing,
    /// Ciphers of the data channel, best first.
    pub ciphers: Vec<Cipher>,
    /// Options of the server that are not wanted.
    pub filter: Filter,
    /// `keepalive`, used unless the server pushes its own.
    pub keepalive: Option<Keepalive>,
    /// MTU of the interface, when it is not the server's choice.
    pub mtu: Option<u32>,
    /// The same for the same options and files.
    pub mark: [u8; 32],
}

/// The result of reading a section.
#[derive(Debug, Clone, Default)]
pub struct ClientEntry {
    /// The client, unless the section has a fault.
    pub spec: Option<Box<ClientSpec>>,
    /// Its faults.
    pub problems: Vec<Problem>,
    /// Remarks without a consequence.
    pub warnings: Vec<Problem>,
    /// Why it is to be down, although it is configured.
    pub stopped: Option<String>,
}

/// Whether a client takes an option that changes nothing here.
pub fn is_needless(option: &str) -> bool {
    NEEDLESS.contains(&option)
}

/// Reads a section; none when it is switched off.
pub(super) fn read(mut reader: Reader<'_>, netifd: bool) -> Option<(String, ClientEntry)> {
    if reader.boolean("disabled") == Some(true) {
        return None;
    }
    let name = reader.label.clone();
    let mut marks = begin(&mut reader, CLIENT_REFUSED);
    if let Some(mode) = reader.text("mode").filter(|mode| *mode != "p2p") {
        let why = format!("a client's mode is OpenVPN's p2p, not {mode:?}; remove it");
        reader.fault(Some("mode"), why);
    }
    for switch in ["client", "tls_client"] {
        reader.boolean(switch);
    }
    let remotes = remotes(&mut reader);
    let transport = remotes.first().map(|remote| remote.transport);
    let mark = reader.parsed::<super::interface::Mark>("fwmark");
    let port = reader.number("lport", 0..=65_535).unwrap_or(0);
    let interface = Interface {
        file: reader.file.to_owned(),
        port_line: reader.line("lport"),
        mode: Mode::P2p,
        socket: SocketSpec {
            // Each server has its own.
            transport: transport.unwrap_or(Transport::Udp),
            port: u16::try_from(port).unwrap_or(0),
            mark: mark.map_or(0, |mark| mark.0),
            local: None,
            both: false,
        },
        addresses: Vec::new(),
        mtu: 1500,
        mssfix: reader.parsed("mssfix").unwrap_or_default(),
        hwcrypto: reader.parsed("hwcrypto").unwrap_or_default(),
        cipher: ovpn_netlink::Cipher::Aes256Gcm,
        peers: Vec::new(),
        routing: Routing::read(&mut reader, netifd),
        killswitch: reader.boolean("killswitch").unwrap_or(false),
    };
    let random = reader.boolean("remote_random") == Some(true);
    let tls = tls(&mut reader, &mut marks, Role::Client, false);
    let wrap = wrap(&mut reader, &mut marks);
    let asks = asks(&mut reader);
    let credentials = match asks {
        Some(_) => None,
        None => credentials(&mut reader, &mut marks),
    };
    let login = asks.is_some() || credentials.is_some();
    let static_challenge = question(&mut reader, login);
    let timing = timing(&mut reader);
    let ciphers = ciphers(&mut reader);
    let filter = filter(&mut reader);
    let keepalive = keepalive(&mut reader);
    let mtu = reader.number("tun_mtu", 576..=65_451);
    let (problems, warnings) = reader.finish(&[NETIFD, NEEDLESS].concat());
    let (Some(tls), Some(wrap), true) = (tls, wrap, problems.is_empty()) else {
        return Some((
            name,
            ClientEntry {
                spec: None,
                problems,
                warnings,
                stopped: None,
            },
        ));
    };
    let spec = ClientSpec {
        interface,
        remotes,
        random,
        tls: Arc::new(tls),
        wrap,
        credentials,
        asks,
        static_challenge,
        timing,
        ciphers,
        filter,
        keepalive,
        mtu,
        mark: marks.0.finalize().into(),
    };
    Some((
        name,
        ClientEntry {
            spec: Some(Box::new(spec)),
            problems,
            warnings,
            stopped: None,
        },
    ))
}

/// Checks what both roles have in common: the name, options that are refused here, or because of the role by `more`, and
/// those that are there twice.
fn begin(reader: &mut Reader<'_>, more: &[(&'static str, &'static str)]) -> Marks {
    let name = reader.label.clone();
    if reader.section.name.is_none() {
        reader.fault(None, "needs a name, which becomes the interface's");
    } else if name.len() > MAX_NAME {
        let why = format!("has a name too long for an interface ({MAX_NAME} bytes at most)");
        reader.fault(None, why);
    }
    for (option, why) in REFUSED.iter().chain(more) {
        let there = reader.section.option(option).is_some();
        if there && reader.lines(option).iter().any(|value| *value != "0") {
            reader.fault(Some(option), *why);
        }
    }
    let repeated: Vec<String> = reader.section.repeated.to_vec();
    for option in repeated {
        reader.fault(Some(&option), "is there more than once");
    }
    if let Some(kind) = reader.text("dev_type").filter(|kind| *kind != "tun") {
        let why = format!("{kind:?} is not supported: use tun");
        reader.fault(Some("dev_type"), why);
    }
    let mut marks = Marks(Sha256::new());
    for option in &reader.section.options {
        marks.add(option.name.as_bytes());
        marks.add(format!("{:?}", option.value).as_bytes());
    }
    marks
}

/// A digest over everything that a tunnel is made from.
struct Marks(Sha256);

impl Marks {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes.len().to_be_bytes());
        self.0.update(bytes);
    }
}

/// `remote 'host [port [proto]]'`, as an option or a list, with `port` and `ovpnproto` for those that say none.
fn remotes(reader: &mut Reader<'_>) -> Vec<Remote> {
    let port = reader.number("port", 1..=65_535).unwrap_or(PORT);
    let mut usual = Transport::Udp;
    if let Some(proto) = reader.text("ovpnproto") {
        match proto_of(proto, Role::Client) {
            Ok(found) => usual = found,
            Err(why) => reader.fault(Some("ovpnproto"), why),
        }
    }
    let lines = reader.lines("remote");
    if lines.is_empty() {
        reader.fault(Some("remote"), "is missing: a client needs a server");
    }
    let mut remotes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (host, port, proto) = match words[..] {
            [host] => (host, Some(port), None),
            [host, port] => (host, port.parse().ok(), None),
            [host, port, proto] => (host, port.parse().ok(), Some(proto)),
            _ => {
                reader.fault(Some("remote"), "must be a host, a port and a protocol");
                continue;
            }
        };
        let Some(port) = port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|p| *p != 0)
        else {
            reader.fault(Some("remote"), format!("{line:?} has no valid port"));
            continue;
        };
        let transport = match proto.map(|proto| proto_of(proto, Role::Client)) {
            Some(Err(why)) => {
                reader.fault(Some("remote"), why);
                continue;
            }
            Some(Ok(found)) => found,
            None => usual,
        };
        let host = host.to_owned();
        remotes.push(Remote {
            endpoint: Endpoint { host, port },
            transport,
        });
    }
    remotes
}

/// A protocol in OpenVPN's words, of the end that `role` is. Without a family it is IPv4.
fn proto_of(text: &str, role: Role) -> Result<Transport, String> {
    let (word, end) = match text.split_once('-') {
        None => (text, None),
        Some((word, end)) => (word, Some(end)),
    };
    let transport = match word {
        "udp" | "udp4" => Some(Transport::Udp),
        "udp6" => Some(Transport::Udp6),
        "tcp" | "tcp4" => Some(Transport::Tcp),
        "tcp6" => Some(Transport::Tcp6),
        _ => None,
    };
    let unknown = || {
        format!(
            "\"{}\" is no protocol (udp, udp6, tcp, tcp6)",
            text.escape_debug()
        )
    };
    let transport = transport.ok_or_else(unknown)?;
    let other = match role {
        Role::Client => "server",
        Role::Server => "client",
    };
    match end {
        None => Ok(transport),
        Some("client" | "server") if !transport.is_tcp() => {
            Err(format!("\"{text}\" is no protocol: use {transport}"))
        }
        Some(end) if end == other => Err(format!("\"{text}\" is the other end's: use {transport}")),
        Some("client" | "server") => Ok(transport),
        Some(_) => Err(unknown()),
    }
}

/// The content of the file that `option` names.
fn file(
    reader: &mut Reader<'_>,
    marks: &mut Marks,
    option: &'static str,
    secret: bool,
) -> Option<Zeroizing<Vec<u8>>> {
    let path = reader.text(option)?;
    match load(Path::new(path), secret) {
        Ok(bytes) => {
            marks.add(&bytes);
            Some(bytes)
        }
        Err(why) => {
            reader.fault(Some(option), format!("{path}: {why}"));
            None
        }
    }
}

/// Reads a regular file, which others cannot read if it is a `secret`.
///
/// # Errors
/// A sentence without the file's name.
pub(crate) fn load(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, String> {
    let (file, meta) = open_regular(path).map_err(|why| why.to_string())?;
    if secret && meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(format!(
            "is readable by others (mode {mode:04o}): chmod 600 it"
        ));
    }
    if meta.len() > MAX_FILE {
        return Err(format!("is longer than {MAX_FILE} bytes"));
    }
    let size = usize::try_from(meta.len()).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(size + 64));
    file.take(MAX_FILE)
        .read_to_end(&mut text)
        .map_err(|error| NotOpen::Failed(error).to_string())?;
    Ok(text)
}

/// A refusal as a fault: the sentence, and the remedy.
fn refused(refusal: &Refusal) -> String {
    match refusal.remedy() {
        Some(remedy) => format!("{refusal} ({remedy})"),
        None => refusal.to_string(),
    }
}

/// Our certificate and the rules for the peer's. `optional` lets a server take a client without one.
fn tls(reader: &mut Reader<'_>, marks: &mut Marks, role: Role, optional: bool) -> Option<Factory> {
    let faults = reader.problems.len();
    let ca = file(reader, marks, "ca", false).map(|text| pem::certificates(&text));
    let ca = match ca {
        Some(Err(why)) => {
            reader.fault(Some("ca"), refused(&why));
            Vec::new()
        }
        Some(Ok(ca)) => ca,
        None => Vec::new(),
    };
    let rules = Rules {
        ca,
        fingerprints: fingerprints(reader),
        purpose: remote_cert_tls(reader, role),
        name: name_rule(reader),
        crl: reader.text("crl_verify").map(|path| {
            let path = PathBuf::from(path);
            let source: openvpn_control::verify::CrlSource = Arc::new(move || {
                let text = fs::read(&path).map_err(|error| error.to_string())?;
                Ok(text)
            });
            source
        }),
    };
    let identity = identity(reader, marks);
    if role == Role::Server && reader.section.option("cert").is_none() {
        reader.fault(Some("cert"), "is missing: a server needs a certificate");
    }
    let (min, max) = (
        version(reader, "tls_version_min"),
        version(reader, "tls_version_max"),
    );
    let (min, max) = (min.unwrap_or(Version::Tls12), max.unwrap_or(Version::Tls13));
    if min > max {
        reader.fault(Some("tls_version_max"), "is lower than tls_version_min");
    }
    if reader.problems.len() != faults {
        return None;
    }
    let made = Factory::new(&Settings {
        identity,
        rules,
        optional,
        min,
        max,
        clock: Arc::new(unix_time),
        build_date: build_date(),
    });
    match made {
        Ok(factory) => Some(factory),
        Err(why) => {
            reader.fault(None, refused(&why));
            None
        }
    }
}

/// Seconds since 1970, by the system's clock.
pub(crate) fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The time of the sources in seconds since 1970, as reproducible builds name it; a clock before it is not set.
pub(crate) fn build_date() -> u64 {
    // 2026-11-01, for builds that do not say.
    const OLDEST: u64 = 1_793_491_200;
    option_env!("SOURCE_DATE_EPOCH")
        .and_then(|text| text.parse().ok())
        .unwrap_or(OLDEST)
}

fn identity(reader: &mut Reader<'_>, marks: &mut Marks) -> Option<Identity> {
    let cert = file(reader, marks, "cert", false);
    let key = file(reader, marks, "key", true);
    let extra = file(reader, marks, "extra_certs", false);
    let passphrase = file(reader, marks, "askpass", true);
    let passphrase = passphrase.as_ref().map(|text| first_line(text));
    let present = |option| reader.section.option(option).is_some();
    match (present("cert"), present("key")) {
        (true, false) => reader.fault(Some("key"), "is missing: cert is there"),
        (false, true) => reader.fault(Some("cert"), "is missing: key is there"),
        _ => {}
    }
    let (cert, key) = cert.zip(key)?;
    let loaded = Identity::load(
        &cert,
        extra.as_ref().map(|e| e.as_slice()),
        &key,
        passphrase,
    );
    match loaded {
        Ok(identity) => Some(identity),
        Err(why) => {
            let option = match why {
                Refusal::NoKey
                | Refusal::UnusableKey
                | Refusal::KeyMismatch
                | Refusal::PassphraseMissing
                | Refusal::PassphraseWrong
                | Refusal::KeyEncryption(_) => "key",
                _ => "cert",
            };
            reader.fault(Some(option), refused(&why));
            None
        }
    }
}

fn first_line(text: &[u8]) -> &[u8] {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn fingerprints(reader: &mut Reader<'_>) -> Vec<[u8; 32]> {
    let mut digests = Vec::new();
    for text in reader.list::<String>("peer_fingerprint") {
        match parse_fingerprint(&text) {
            Some(digest) => digests.push(digest),
            None => {
                let why = format!("{text:?} is no SHA-256 fingerprint (32 hexadecimal pairs)");
                reader.fault(Some("peer_fingerprint"), why);
            }
        }
    }
    digests
}

fn remote_cert_tls(reader: &mut Reader<'_>, role: Role) -> bool {
    let (other, why) = match role {
        Role::Client => ("server", "must be server: this is a client"),
        Role::Server => ("client", "must be client: this is a server"),
    };
    match reader.text("remote_cert_tls") {
        None => false,
        Some(text) if text == other => true,
        Some(_) => {
            reader.fault(Some("remote_cert_tls"), why);
            false
        }
    }
}

fn name_rule(reader: &mut Reader<'_>) -> Option<NameRule> {
    let kind = reader.text("verify_x509_type").map(str::to_owned);
    let line = reader.lines("verify_x509_name").into_iter().next()?;
    let line = line.trim().to_owned();
    // OpenVPN's two words, or the name alone with its kind beside it.
    let (name, kind) = match (kind, line.rsplit_once(' ')) {
        (Some(kind), _) => (line.clone(), kind),
        (None, Some((name, kind @ ("subject" | "name" | "name-prefix")))) => {
            (name.to_owned(), kind.to_owned())
        }
        (None, _) => (line.clone(), "subject".to_owned()),
    };
    let name = name.trim_matches(['"', '\'']).to_owned();
    match kind.as_str() {
        "subject" => Some(NameRule::Subject(name)),
        "name" => Some(NameRule::Name(name)),
        "name-prefix" => Some(NameRule::NamePrefix(name)),
        _ => {
            let why = format!("{kind:?} is no kind of name (subject, name, name-prefix)");
            reader.fault(Some("verify_x509_name"), why);
            None
        }
    }
}

fn version(reader: &mut Reader<'_>, option: &'static str) -> Option<Version> {
    match reader.text(option)? {
        "1.2" => Some(Version::Tls12),
        "1.3" => Some(Version::Tls13),
        text => {
            let why = format!("must be 1.2 or 1.3, not \"{}\"", text.escape_debug());
            reader.fault(Some(option), why);
            None
        }
    }
}

/// A protection of control packets, before the role decides about the rest.
enum Wrapping {
    None,
    Auth(StaticKey, auth::Direction, auth::Digest),
    Crypt(StaticKey),
    /// The content of a key file of tls-crypt-v2.
    CryptV2(Zeroizing<Vec<u8>>),
}

fn wrap(reader: &mut Reader<'_>, marks: &mut Marks) -> Option<ClientWrap> {
    Some(match wrapping(reader, marks)? {
        Wrapping::None => ClientWrap::None,
        Wrapping::Auth(key, direction, digest) => ClientWrap::Auth(key, direction, digest),
        Wrapping::Crypt(key) => ClientWrap::Crypt(key),
        Wrapping::CryptV2(content) => match text::client_key(&content) {
            Ok(key) => ClientWrap::CryptV2(key),
            Err(why) => {
                reader.fault(Some("tls_crypt_v2"), why);
                return None;
            }
        },
    })
}

fn wrapping(reader: &mut Reader<'_>, marks: &mut Marks) -> Option<Wrapping> {
    let digest = match reader.text("auth") {
        None => Some(auth::Digest::default()),
        Some(name) => {
            let digest = auth::Digest::named(name);
            if digest.is_none() && reader.section.option("tls_auth").is_some() {
                let why = format!("{name:?} is not supported (SHA1, SHA256, SHA384, SHA512)");
                reader.fault(Some("auth"), why);
            }
            digest.or(Some(auth::Digest::default()))
        }
    };
    let direction = match reader.text("key_direction") {
        None => auth::Direction::Both,
        Some("0") => auth::Direction::Normal,
        Some("1") => auth::Direction::Inverse,
        Some(_) => {
            reader.fault(Some("key_direction"), "must be 0 or 1");
            return None;
        }
    };
    let options = ["tls_auth", "tls_crypt", "tls_crypt_v2"];
    let named: Vec<&str> = options
        .into_iter()
        .filter(|option| reader.section.option(option).is_some())
        .collect();
    if let [first, second, ..] = named[..] {
        reader.fault(
            Some(second),
            format!("contradicts {first}: use one of them"),
        );
        return None;
    }
    let read = match named.first() {
        None => return Some(Wrapping::None),
        Some(&"tls_auth") => file(reader, marks, "tls_auth", true).map(|content| {
            text::static_key(&content)
                .map(|key| Wrapping::Auth(key, direction, digest.unwrap_or_default()))
        }),
        Some(&"tls_crypt") => file(reader, marks, "tls_crypt", true)
            .map(|content| text::static_key(&content).map(Wrapping::Crypt)),
        Some(_) => {
            file(reader, marks, "tls_crypt_v2", true).map(|content| Ok(Wrapping::CryptV2(content)))
        }
    };
    match read? {
        Ok(wrap) => Some(wrap),
        Err(why) => {
            reader.fault(named.first().copied(), why);
            None
        }
    }
}

fn timing(reader: &mut Reader<'_>) -> Timing {
    let mut timing = Timing::default();
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    // OpenVPN takes a second number, the least time, which a client has no use for.
    let reneg = reader.lines("reneg_sec").into_iter().next();
    if let Some(text) = reneg {
        match text.split_ascii_whitespace().next().map(str::parse) {
            Some(Ok(0u32)) => timing.renegotiate = None,
            Some(Ok(time)) if time >= 5 => timing.renegotiate = Some(seconds(time)),
            _ => reader.fault(
                Some("reneg_sec"),
                "must be 0 (the server's choice), or at least 5",
            ),
        }
    }
    if let Some(time) = reader.number("hand_window", 5..=3600) {
        timing.hand_window = seconds(time);
    }
    if let Some(time) = reader.number("tran_window", 5..=86_400) {
        timing.transition = seconds(time);
    }
    timing
}

fn ciphers(reader: &mut Reader<'_>) -> Vec<Cipher> {
    let Some(text) = reader.text("data_ciphers") else {
        return vec![
            Cipher::Aes256Gcm,
            Cipher::Aes128Gcm,
            Cipher::ChaCha20Poly1305,
        ];
    };
    let mut ciphers = Vec::new();
    for name in text.split([':', ' ']).filter(|name| !name.is_empty()) {
        // OpenVPN leaves out the optional ones that it has not.
        let (name, optional) = match name.strip_prefix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        match Cipher::from_name(name) {
            Some(cipher) if !ciphers.contains(&cipher) => ciphers.push(cipher),
            Some(_) => {}
            None if optional || name == "DEFAULT" => {}
            None => {
                let known = Cipher::ALL.map(Cipher::name).join(", ");
                let why = format!("{name:?} is not supported ({known})");
                reader.fault(Some("data_ciphers"), why);
            }
        }
    }
    if ciphers.is_empty() {
        reader.fault(Some("data_ciphers"), "names no cipher that is supported");
    }
    ciphers
}

fn filter(reader: &mut Reader<'_>) -> Filter {
    let mut filter = Filter {
        rules: Vec::new(),
        no_routes: reader.boolean("route_nopull") == Some(true),
    };
    for line in reader.lines("pull_filter") {
        let rule = line.split_once(' ').and_then(|(verdict, start)| {
            let verdict = match verdict {
                "accept" => Verdict::Accept,
                "ignore" => Verdict::Ignore,
                "reject" => Verdict::Reject,
                _ => return None,
            };
            Some((verdict, start.trim().trim_matches(['"', '\'']).to_owned()))
        });
        match rule {
            Some(rule) => filter.rules.push(rule),
            None => {
                let why = format!("{line:?} must be accept, ignore or reject, and a text");
                reader.fault(Some("pull_filter"), why);
            }
        }
    }
    filter
}

fn keepalive(reader: &mut Reader<'_>) -> Option<Keepalive> {
    let line = reader.lines("keepalive").into_iter().next()?;
    let numbers: Vec<u32> = line.split_ascii_whitespace().flat_map(str::parse).collect();
    match numbers[..] {
        [interval, timeout] if timeout >= interval.saturating_mul(2) => {
            Some(Keepalive { interval, timeout })
        }
        _ => {
            let why = "must be two numbers of seconds, the second at least twice the first";
            reader.fault(Some("keepalive"), why);
            None
        }
    }
}

mod login;
mod refused;
pub mod server;
#[cfg(test)]
mod tests;
