// SPDX-License-Identifier: GPL-2.0-or-later
//! Settings that keep OpenVPN from the kernel's data path, or make it slow there.
//!
//! The conditions are those of OpenVPN 2.7 (`src/openvpn/dco.c`, dco_check_option and
//! dco_check_startup_option; `options.c`); the ciphers those of the driver.

use super::file::{ConfigFile, Directive};
use super::together::Device;
use super::{Finding, Severity, remotes, together};

/// Ciphers the driver has, as OpenVPN calls them.
const CIPHERS: [&str; 4] = [
    "AES-128-GCM",
    "AES-192-GCM",
    "AES-256-GCM",
    "CHACHA20-POLY1305",
];
/// OpenVPN's own `data-ciphers`, all of which the driver has.
pub(super) const DEFAULT_CIPHERS: &str = "AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305";
/// Largest packet of a tunnel that fits a path of 1500 bytes over IPv4: 1500 - 20 (IP) - 8 (UDP) - 24 (OpenVPN).
const FITS: u32 = 1448;

/// The findings of one configuration. `kernel` is false when a finding of severity warning or worse keeps the
/// tunnel from the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The findings, in the order of the rules.
    pub findings: Vec<Finding>,
    /// Whether one of them keeps the tunnel from the kernel.
    pub excluded: bool,
}

impl Verdict {
    fn keeps_out(
        &mut self,
        code: &'static str,
        directive: Option<&Directive>,
        text: impl Into<String>,
        remedy: &str,
    ) {
        self.excluded = true;
        self.say(Severity::Warning, code, directive, text, remedy);
    }

    fn say(
        &mut self,
        severity: Severity,
        code: &'static str,
        directive: Option<&Directive>,
        text: impl Into<String>,
        remedy: &str,
    ) {
        self.findings.push(Finding {
            severity,
            code,
            line: directive.map(|d| d.line).filter(|line| *line > 0),
            text: text.into(),
            remedy: remedy.to_owned(),
        });
    }
}

/// Directives of the whole file that keep a tunnel from the kernel by being there, with the text and the remedy.
const EXCLUDING: [(&str, &str, &str); 2] = [
    (
        "disable-dco",
        "switches the kernel's data path off",
        "Take the line out.",
    ),
    (
        "management-query-proxy",
        "may lead through a proxy, which the kernel cannot",
        "Take the line out.",
    ),
];

/// Judges a configuration.
pub fn judge(file: &ConfigFile) -> Verdict {
    let mut verdict = Verdict::default();
    for (line, why) in &file.errors {
        let at = Directive {
            line: *line,
            ..Directive::default()
        };
        verdict.say(
            Severity::Error,
            "config-file",
            Some(&at),
            format!("Line {line} {why}."),
            "Correct the line: OpenVPN does not start with it.",
        );
    }
    for (name, text, remedy) in EXCLUDING {
        // A <connection> has settings of its own, of which this is none.
        let found = file
            .all(name)
            .filter(|found| found.connection.is_none())
            .last();
        if let Some(found) = found {
            verdict.keeps_out(name, Some(found), format!("{name} {text}."), remedy);
        }
    }
    ways(file, &mut verdict);
    control(file, &mut verdict);
    device(file, &mut verdict);
    compression(file, &mut verdict);
    ciphers(file, &mut verdict);
    topology(file, &mut verdict);
    locals(file, &mut verdict);
    sizes(file, &mut verdict);
    verdict
}

/// The ways to the server: one that the kernel cannot take keeps all of them out.
fn ways(file: &ConfigFile, verdict: &mut Verdict) {
    let ways = remotes::entries(file, together::serves(file));
    if ways.iter().any(|way| way.fragment) {
        verdict.keeps_out(
            "fragment",
            file.last("fragment"),
            "fragment has OpenVPN cut packets itself, which the kernel cannot.",
            "Take it out on both sides and set tun-mtu 1420 instead.",
        );
    }
    let http = ["http-proxy", "http-proxy-option", "http-proxy-user-pass"];
    for (there, names) in [
        (ways.iter().any(|way| way.http_proxy), &http[..]),
        (ways.iter().any(|way| way.socks_proxy), &["socks-proxy"]),
    ] {
        let at = names
            .iter()
            .find_map(|name| file.last(name))
            .filter(|_| there);
        if let Some(at) = at {
            verdict.keeps_out(
                "proxy",
                Some(at),
                format!("{} goes through a proxy, which the kernel cannot.", at.name),
                "Connect without the proxy, or accept the slow path.",
            );
        }
    }
}

/// Directives that bring a TLS control channel, each by itself.
const TLS: [&str; 6] = [
    "client",
    "server",
    "server-bridge",
    "server-ipv6",
    "tls-client",
    "tls-server",
];

/// The kernel's keys come from TLS. [`together`] says so of a text; options of UCI may lack what a program adds.
fn control(file: &ConfigFile, verdict: &mut Verdict) {
    if file.directives.is_empty() || TLS.iter().any(|name| file.has(name)) {
        return;
    }
    verdict.excluded = true;
    if is_text(file) {
        return;
    }
    let secret = file.last("secret");
    verdict.keeps_out(
        "secret-mode",
        secret,
        match secret {
            Some(_) => "secret uses one static key for all, without TLS.",
            None => "There is neither client nor server, tls-client nor tls-server: without TLS nothing goes through the kernel.",
        },
        "Use certificates or peer-fingerprint, with tls-server on one side and tls-client on the other.",
    );
}

/// Whether all directives are those of a text.
pub fn is_text(file: &ConfigFile) -> bool {
    file.directives.iter().all(|directive| directive.line > 0)
}

fn device(file: &ConfigFile, verdict: &mut Verdict) {
    let kind = file.last("dev-type").or_else(|| file.last("dev"));
    let Some(kind) = kind else {
        return;
    };
    let word = kind.args.first().map_or("", String::as_str);
    let null = if kind.name == "dev" {
        word.starts_with("null")
    } else {
        word == "null"
    };
    match together::device(file) {
        Device::Tun if null => verdict.keeps_out(
            "dev-null",
            Some(kind),
            "dev null takes no packets, so there is nothing for the kernel to carry.",
            "Use dev tun.",
        ),
        Device::Tun => {}
        Device::Tap => verdict.keeps_out(
            "tap",
            Some(kind),
            "dev tap carries Ethernet frames, and the kernel carries IP packets alone.",
            "Use dev tun and routes on both sides.",
        ),
        Device::Unsaid => verdict.keeps_out(
            "dev-type",
            Some(kind),
            format!("{} names a device of no kind: OpenVPN ends when it is to open it, unless the router adds dev-type tun.", say(kind)),
            "Add a line dev-type tun.",
        ),
    }
}

/// Compression, in the order of the lines: `compress migrate` takes back what stands above it.
fn compression(file: &ConfigFile, verdict: &mut Verdict) {
    let (mut framed, mut allowed) = (None, None);
    for directive in &file.directives {
        let word = directive.args.first().map_or("", String::as_str);
        match (directive.name.as_str(), word) {
            ("compress", "migrate") => (framed, allowed) = (None, None),
            ("compress" | "comp-lzo", _) => framed = Some(directive),
            ("allow-compression", "asym" | "yes") => allowed = Some(directive),
            _ => {}
        }
    }
    if let Some(found) = framed {
        verdict.keeps_out(
            "comp",
            Some(found),
            format!("{} asks for compression or its framing, which the kernel does not know.", say(found)),
            "Take it out on both sides; on a server, compress migrate lets old clients in without it.",
        );
    }
    if let Some(found) = allowed {
        verdict.keeps_out(
            "comp",
            Some(found),
            "allow-compression lets the other side switch compression on.",
            "Set allow-compression no.",
        );
    }
}

/// Before this version of OpenVPN `cipher` was among those offered.
const LISTED: (u32, u32, u32) = (2, 5, 0);

/// The version that `compat-mode` asks OpenVPN to act like.
pub(super) fn compatible(file: &ConfigFile) -> Option<(u32, u32, u32)> {
    let mut parts = file.word("compat-mode")?.splitn(3, '.');
    let mut number = || {
        let part = parts.next()?;
        let end = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part.get(..end)?.parse().ok()
    };
    let version = (number()?, number()?, number()?);
    // Nought is no wish.
    Some(version).filter(|version| *version != (0, 0, 0))
}

fn ciphers(file: &ConfigFile, verdict: &mut Verdict) {
    let of = |names: [&str; 2]| {
        let mut all = file.directives.iter().rev();
        all.find(|directive| names.contains(&directive.name.as_str()))
    };
    let list = of(["data-ciphers", "ncp-ciphers"]);
    let names = list.and_then(|d| d.args.first());
    let names = names.map_or(DEFAULT_CIPHERS, String::as_str);
    // An optional one that OpenVPN does not have is left out by it.
    let offered = names
        .split(':')
        .filter_map(|name| match name.strip_prefix('?') {
            Some(name) => (name == "none" || super::ciphers::is_cipher(name)).then_some(name),
            None => Some(name).filter(|name| !matches!(*name, "" | "DEFAULT")),
        });
    let unknown: Vec<&str> = offered.filter(|name| !is_known(name)).collect();
    if !unknown.is_empty() {
        verdict.keeps_out(
            "cipher",
            list,
            format!(
                "data-ciphers offers {}, which the kernel does not have.",
                unknown.join(", ")
            ),
            "Offer AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305 alone.",
        );
    }
    let Some(found) = of(["cipher", "data-ciphers-fallback"]) else {
        return;
    };
    let cipher = found.args.first().map_or("", String::as_str);
    let old = compatible(file).is_some_and(|old| old < LISTED);
    let negotiates = together::serves(file) || file.has("client") || file.has("pull");
    let fallback = file.has("data-ciphers-fallback") || !negotiates;
    // OpenVPN turns the names of a list into its own spelling, but not this one.
    let exact = CIPHERS.contains(&cipher);
    if exact || is_known(cipher) && !fallback {
        return;
    }
    if fallback {
        verdict.keeps_out(
            "cipher",
            Some(found),
            format!(
                "{} is for peers that negotiate no cipher, and the kernel does not have it.",
                say(found)
            ),
            "Take it out: all peers since OpenVPN 2.4 negotiate.",
        );
    } else if old {
        verdict.keeps_out(
            "cipher",
            Some(found),
            format!(
                "{} is offered because of compat-mode, and the kernel does not have it.",
                say(found)
            ),
            "Take both lines out: all peers since OpenVPN 2.4 negotiate.",
        );
    } else {
        verdict.say(
            Severity::Info,
            "cipher",
            Some(found),
            format!(
                "{} is not used any more since data-ciphers is negotiated.",
                say(found)
            ),
            "Take the line out.",
        );
    }
}

fn is_known(cipher: &str) -> bool {
    CIPHERS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(cipher))
}

fn topology(file: &ConfigFile, verdict: &mut Verdict) {
    let serves = together::serves(file);
    let found = file.last("topology");
    let named = found.and_then(|d| d.args.first()).map(String::as_str);
    if serves && matches!(named, Some("net30" | "p2p")) {
        verdict.keeps_out(
            "topology",
            found,
            format!(
                "A server with topology {} has no address per client that the kernel could go by.",
                named.unwrap_or("")
            ),
            "Set topology subnet.",
        );
    }
}

fn locals(file: &ConfigFile, verdict: &mut Verdict) {
    let locals: Vec<&Directive> = file.all("local").collect();
    if locals.len() > 1 {
        verdict.say(
            Severity::Info,
            "multi-local",
            locals.last().copied(),
            format!(
                "local is there {} times, which only OpenVPN since 2.7 takes.",
                locals.len()
            ),
            "With an older one keep one, or run an instance for each.",
        );
    }
    if let Some(found) = file.last("client-to-client") {
        verdict.say(
            Severity::Info,
            "client-to-client",
            Some(found),
            "client-to-client has no effect: in the kernel packets between clients pass the interface, where routes and firewall decide.",
            "Take it out, and allow forwarding inside the interface's zone where clients shall reach each other.",
        );
    }
    if let Some(found) = file.last("shaper") {
        verdict.say(
            Severity::Warning,
            "shaper",
            Some(found),
            "shaper limits the rate inside OpenVPN, where packets in the kernel do not come by: it has no effect.",
            "Take it out and limit the rate with tc or SQM on the interface.",
        );
    }
    if let Some(found) = file
        .last("dev-node")
        .filter(|d| d.args.first().is_some_and(|a| a.starts_with("unix:")))
    {
        verdict.keeps_out(
            "dev-node",
            Some(found),
            "dev-node unix: hands packets to a program of yours, which the kernel cannot.",
            "Take the line out.",
        );
    }
}

fn sizes(file: &ConfigFile, verdict: &mut Verdict) {
    if let Some(found) = file.last("mssfix") {
        if found.args.first().is_some_and(|arg| arg != "0") {
            verdict.say(
                Severity::Info,
                "mssfix",
                Some(found),
                "mssfix is done inside OpenVPN, where packets in the kernel do not come by; the driver fits segments to the path itself.",
                "Take the line out, or set tun-mtu if large transfers stall.",
            );
        }
    }
    let Some(found) = file.last("tun-mtu") else {
        return;
    };
    let mtu = found.args.first().and_then(|arg| arg.parse::<u32>().ok());
    match mtu {
        // No number is a fault of its own.
        None if found.line > 0 => {}
        Some(mtu) if mtu > FITS => verdict.say(
            Severity::Info,
            "mtu",
            Some(found),
            format!("tun-mtu {mtu} does not fit a path of 1500 bytes: the largest that does is {FITS} over IPv4, 1428 over IPv6."),
            "Set tun-mtu 1420 on both sides.",
        ),
        Some(1280..) => {}
        _ => verdict.say(
            Severity::Warning,
            "mtu",
            Some(found),
            format!("{} is too small for IPv6, which needs 1280.", say(found)),
            "Set tun-mtu 1420 on both sides.",
        ),
    }
}

fn say(directive: &Directive) -> String {
    let mut text = directive.name.clone();
    let args = directive.args.iter().filter(|_| !directive.inline);
    for arg in args {
        text.push(' ');
        // Configuration is the owner's text, but one message stays one line.
        text.extend(arg.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> (Vec<&'static str>, bool) {
        let verdict = judge(&ConfigFile::parse(text));
        let codes = verdict
            .findings
            .iter()
            .map(|finding| finding.code)
            .collect();
        (codes, verdict.excluded)
    }

    #[test]
    fn an_ordinary_client_and_server_are_clean() {
        for text in [
            "client\ndev tun\nproto udp\nremote vpn.example 1194\n<ca>\n</ca>\ncipher AES-256-GCM\n",
            "server 10.8.0.0 255.255.255.0\ndev tun0\ntopology subnet\ndata-ciphers AES-256-GCM:CHACHA20-POLY1305\nallow-compression no\n",
            "client\ndev tun\ncompress migrate\ndata-ciphers DEFAULT:?aes-128-gcm\nmssfix 0\ntun-mtu 1420",
        ] {
            assert_eq!(codes(text), (vec![], false), "{text}");
        }
    }

    #[test]
    fn each_obstacle_is_named_by_its_code_with_a_remedy() {
        for (line, code) in [
            ("disable-dco", "disable-dco"),
            ("fragment 1300", "fragment"),
            ("http-proxy p 8080", "proxy"),
            ("socks-proxy p", "proxy"),
            ("management-query-proxy", "management-query-proxy"),
            ("dev-node unix:/bin/x", "dev-node"),
            ("dev tap0", "tap"),
            ("dev null", "dev-null"),
            ("dev-type tap", "tap"),
            ("comp-lzo", "comp"),
            ("comp-lzo no", "comp"),
            ("compress lz4-v2", "comp"),
            ("compress", "comp"),
            ("allow-compression asym", "comp"),
            ("data-ciphers AES-256-CBC", "cipher"),
            ("data-ciphers AES-256-GCM:BF-CBC", "cipher"),
            ("ncp-ciphers AES-256-CBC", "cipher"),
            ("data-ciphers-fallback BF-CBC", "cipher"),
            ("compat-mode 2.4.0\ncipher BF-CBC", "cipher"),
            ("server 10.8.0.0 255.255.255.0\ntopology net30", "topology"),
        ] {
            let verdict = judge(&ConfigFile::parse(&format!("tls-client\n{line}\n")));
            let [finding] = &verdict.findings[..] else {
                panic!("{line}: {:?}", verdict.findings)
            };
            assert!(verdict.excluded, "{line}");
            assert_eq!(
                (finding.code, finding.severity),
                (code, Severity::Warning),
                "{line}"
            );
            let lines = line.lines().count();
            assert_eq!(finding.line, Some(1 + lines), "{line}");
            for text in [&finding.text, &finding.remedy] {
                assert!(text.ends_with('.') && !text.contains('\n'), "{text:?}");
            }
        }
    }

    #[test]
    fn without_tls_there_is_no_kernel_path() {
        assert_eq!(codes("dev tun\nsecret k"), (vec![], true));
        // Options of UCI are no text, of which the rest is said elsewhere.
        let mut file = ConfigFile::parse("dev tun\nsecret k");
        file.directives
            .iter_mut()
            .for_each(|directive| directive.line = 0);
        let verdict = judge(&file);
        assert_eq!(
            (verdict.findings[0].code, verdict.excluded),
            ("secret-mode", true)
        );
        assert_eq!(codes(""), (vec![], false));
        for tls in TLS {
            assert_eq!(codes(tls), (vec![], false), "{tls}");
        }
    }

    #[test]
    fn what_only_slows_or_misleads_excludes_nothing() {
        for (line, code, severity) in [
            ("local a\nlocal b", "multi-local", Severity::Info),
            ("shaper 1000", "shaper", Severity::Warning),
            ("mssfix 1400", "mssfix", Severity::Info),
            ("tun-mtu 1500", "mtu", Severity::Info),
            ("tun-mtu 1000", "mtu", Severity::Warning),
            ("client\ncipher BF-CBC", "cipher", Severity::Info),
            ("client-to-client", "client-to-client", Severity::Info),
            ("remote 'open", "config-file", Severity::Error),
        ] {
            let verdict = judge(&ConfigFile::parse(&format!("tls-client\n{line}")));
            let found: Vec<_> = verdict
                .findings
                .iter()
                .map(|f| (f.code, f.severity))
                .collect();
            assert_eq!(
                (&found[..], verdict.excluded),
                (&[(code, severity)][..], false),
                "{line}"
            );
        }
        // A client's topology is the server's business.
        assert_eq!(codes("client\ntopology net30"), (vec![], false));
    }
}
