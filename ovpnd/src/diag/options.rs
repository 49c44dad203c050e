// SPDX-License-Identifier: GPL-2.0-or-later
//! Each directive by itself: whether OpenVPN 2.7.8 knows it, takes it where it stands, and takes its words.
//!
//! `options.txt` has a line for each: the name, marks, and a kind for each word.
//!
//! | mark | meaning |
//! |---|---|
//! | `.` | none of the others |
//! | `c` | may stand in `<connection>` |
//! | `b` | may be a block |
//! | `a` | is taken anywhere |
//! | `i` | is taken in a client's file on a server, or from a server, and not in a configuration |
//! | `v` | only for a server |
//! | `o` | is passed over with a warning |
//! | `p` | has OpenVPN run a program or load code |
//! | `q` | has OpenVPN print something and end |
//! | `r` | is not known on Linux or not any more |
//! | `R` | is refused by words of its own, even behind `ignore-unknown-option` |
//!
//! A kind that ends in `?` may be left out, one in `*` may come any number of times. `w` is any word; `=a|b` one of
//! these (a kind `n` or `ip4` among them, too); `5-10` and `1-` a number in bounds; [`fits`] has the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use super::ciphers;
use super::file::{ConfigFile, Directive};
use super::{Finding, Severity};

/// A line of the table.
#[derive(Debug)]
pub struct Known {
    marks: &'static str,
    kinds: Vec<&'static str>,
}

impl Known {
    /// Whether it has the mark.
    pub fn is(&self, mark: char) -> bool {
        self.marks.contains(mark)
    }

    /// Whether so many words are taken.
    fn takes(&self, count: usize) -> bool {
        let needed = self.kinds.iter().filter(|kind| !kind.ends_with(['?', '*']));
        let any = self.kinds.last().is_some_and(|kind| kind.ends_with('*'));
        count >= needed.count() && (any || count <= self.kinds.len())
    }
}

/// The table by name.
pub fn known(name: &str) -> Option<&'static Known> {
    static TABLE: OnceLock<BTreeMap<&'static str, Known>> = OnceLock::new();
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let (name, marks) = (words.next()?, words.next()?);
        let kinds = words.collect();
        (name != "#").then_some((name, Known { marks, kinds }))
    };
    let table = TABLE.get_or_init(|| {
        include_str!("options.txt")
            .lines()
            .filter_map(line)
            .collect()
    });
    table.get(name)
}

/// Largest value of C's int.
const INT_MAX: i64 = 0x7fff_ffff;

/// Reads a number as C's strtoll does; an empty word is 0.
fn integer(word: &str) -> Option<i64> {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if word.is_empty() {
        return Some(0);
    }
    let all = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
    // Larger ones are out of every bound here.
    all.then(|| {
        digits.parse().unwrap_or(if digits.starts_with('-') {
            i64::MIN
        } else {
            i64::MAX
        })
    })
}

/// Whether the word is of the kind; if not, what would be.
fn fits(kind: &str, word: &str) -> Result<(), String> {
    let in_bounds = |low: i64, high: i64| match integer(word) {
        Some(number) if (low..=high).contains(&number) => Ok(()),
        _ if high >= INT_MAX => Err(format!("a number of {low} or more")),
        _ => Err(format!("a number from {low} to {high}")),
    };
    let want = |fits: bool, what: &str| if fits { Ok(()) } else { Err(what.to_owned()) };
    match kind {
        "w" => Ok(()),
        "n" => in_bounds(0, INT_MAX),
        "N" => in_bounds(0, i64::MAX),
        "i" => in_bounds(-INT_MAX - 1, INT_MAX),
        // Zero is off, and less than that has no room for the control channel.
        "mss" if integer(word) == Some(0) => Ok(()),
        "mss" => in_bounds(154, 65535).map_err(|_| "0 or a number from 154 to 65535".into()),
        "some" => want(!word.is_empty(), "a word"),
        "ip4" => want(word.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
        "ip6" => want(word.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
        "ip6/64-124" => {
            let (address, bits) = word.split_once('/').unwrap_or((word, "64"));
            let good = bits
                .parse()
                .is_ok_and(|bits| (64..=124).contains::<u8>(&bits));
            want(
                good && address.parse::<Ipv6Addr>().is_ok(),
                "an IPv6 address with a prefix of /64 to /124",
            )
        }
        "mac" => want(is_mac(word), "a MAC address"),
        "proto" => want(
            super::remotes::is_proto(word),
            "udp or tcp, in small letters, with 4 or 6 behind it for one family",
        ),
        "gateway" => fits(
            "=local|autolocal|def1|bypass-dhcp|bypass-dns|block-local|ipv6|!ipv4",
            word,
        ),
        "version" => want(
            is_version(word),
            "a version of three numbers, such as 2.4.0",
        ),
        "tls" => fits("=1.0|1.1|1.2|1.3", word),
        "print" => want(
            word == super::file::INLINE || is_print(word, 32),
            "32 bytes in hexadecimal, with colons between them",
        ),
        "digest" => want(ciphers::is_digest(word), "a digest, such as SHA256"),
        "suites" => want(ciphers::has_suite(word), "a list of TLS cipher suites"),
        "suites13" => want(
            ciphers::has_suite13(word),
            "a list of TLS 1.3 cipher suites",
        ),
        "groups" => want(
            ciphers::are_groups(word),
            "a list of groups, such as X25519:secp256r1",
        ),
        "field" => {
            let known = ["subjectAltName", "issuerAltName"];
            want(
                word.strip_prefix("ext:")
                    .is_none_or(|name| known.contains(&name)),
                "a field, or ext: with subjectAltName or issuerAltName",
            )
        }
        "label" => want(
            word.starts_with("EXPORTER") && word != "EXPORTER-OpenVPN-datakeys",
            "a label that starts with EXPORTER",
        ),
        kind => match kind.strip_prefix('=') {
            Some(words) => {
                let one = |one: &str| {
                    one == word || matches!(one, "n" | "ip4") && fits(one, word).is_ok()
                };
                let named = words
                    .replace("|ip4", "|an IPv4 address")
                    .replace("|n", "|a number");
                want(words.split('|').any(one), &named.replace('|', ", "))
            }
            None => {
                let (low, high) = kind.split_once('-').unwrap_or((kind, kind));
                in_bounds(low.parse().unwrap_or(0), high.parse().unwrap_or(INT_MAX))
            }
        },
    }
}

fn is_mac(word: &str) -> bool {
    let parts: Vec<&str> = word.split(':').collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|part| matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_version(word: &str) -> bool {
    let mut parts = word.splitn(3, '.');
    let whole = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let starts = |part: &str| part.bytes().next().is_some_and(|b| b.is_ascii_digit());
    parts.next().is_some_and(whole)
        && parts.next().is_some_and(whole)
        && parts.next().is_some_and(starts)
}

/// Whether it is a fingerprint of so many bytes.
fn is_print(word: &str, bytes: usize) -> bool {
    let hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    word.split(':').count() == bytes && word.split(':').all(hex)
}

/// Longest name that is repeated in a finding; the longest of OpenVPN has 39 letters.
const LONGEST: usize = 40;

/// A name as it may be shown: a line of a key that lost its tag looks like none.
pub fn shown(name: &str) -> Option<&str> {
    let bare = name
        .strip_prefix('<')
        .and_then(|name| name.strip_suffix('>'))
        .unwrap_or(name);
    let letters = bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let fits = !bare.is_empty() && !bare.starts_with('-') && bare.len() <= LONGEST;
    (letters && fits).then_some(name)
}

/// A fault of one directive; its text comes from `options.txt` and the line's name alone, except for a short word.
fn fault(directive: &Directive, code: &'static str, text: String, remedy: &str) -> Finding {
    Finding {
        line: Some(directive.line),
        ..Finding::new(Severity::Error, code, text, remedy)
    }
}

const TAKE_OUT: &str = "Take the line out.";

/// Findings about directives that are there for another version, place or use, or whose words are wrong. Returns the
/// directives that OpenVPN does not know, too.
pub fn judge(file: &ConfigFile) -> (Vec<Finding>, Vec<&Directive>) {
    let mut findings = Vec::new();
    let mut unknown = Vec::new();
    let mut ignored = BTreeSet::new();
    let mut forward = false;
    for directive in file
        .directives
        .iter()
        .filter(|directive| directive.line > 0)
    {
        let name = directive.name.as_str();
        // A <connection> is read with settings of its own, which have no list.
        let lenient = directive.lenient
            || directive.connection.is_none() && (forward || ignored.contains(name));
        let Some(known) = known(name) else {
            if !lenient {
                unknown.push(directive);
            }
            continue;
        };
        if let Some(finding) = one(directive, known, lenient) {
            findings.push(finding);
            continue;
        }
        match name {
            "ignore-unknown-option" => {
                let bare = |arg: &'_ String| arg.strip_prefix("--").unwrap_or(arg).to_owned();
                ignored.extend(directive.args.iter().map(bare));
            }
            "setenv" => forward |= directive.args == ["FORWARD_COMPATIBLE", "1"],
            _ => {}
        }
    }
    (findings, unknown)
}

fn one(directive: &Directive, known: &Known, lenient: bool) -> Option<Finding> {
    let name = directive.name.as_str();
    if known.is('R') || known.is('r') && !lenient {
        let text = format!("OpenVPN 2.7 on Linux has no {name} and does not start with it.");
        return Some(fault(directive, "removed", text, TAKE_OUT));
    }
    if known.is('r') {
        return None;
    }
    let count = directive.args.len();
    let script = known.is('p') && name != "plugin" && name != "pkcs11-providers";
    if !known.takes(count) || name == "server-bridge" && !bridges(directive) {
        // For one that is not taken at all, "unknown" is said and passed over; for a script it is not.
        if lenient && !(script && count > 0) {
            return None;
        }
        let bare = name == "setenv" && directive.args == ["opt"];
        let text = format!(
            "{name} does not take {}.",
            match count {
                0 => "no word".into(),
                1 => "one word".into(),
                count => format!("{count} words"),
            }
        );
        let finding = fault(
            directive,
            "value",
            text,
            "Correct the line: OpenVPN does not start with it.",
        );
        return (!bare).then_some(finding);
    }
    if let Some(finding) = place(directive, known) {
        return Some(finding);
    }
    if known.is('q') {
        let text = format!("{name} has OpenVPN print something and end: there is no tunnel.");
        return Some(fault(directive, "removed", text, TAKE_OUT));
    }
    value(directive, known)
}

/// Whether a server-bridge has the words of one of its three forms.
fn bridges(directive: &Directive) -> bool {
    match &directive.args[..] {
        [] => true,
        [one] => one == "nogw",
        args => args.len() == 4 && args.iter().all(|arg| fits("ip4", arg).is_ok()),
    }
}

fn place(directive: &Directive, known: &Known) -> Option<Finding> {
    let name = directive.name.as_str();
    if known.is('a') {
        return None;
    }
    let (text, remedy) = if directive.connection.is_some() && !known.is('c') {
        (
            format!("{name} may not stand in a <connection>."),
            "Put it outside.",
        )
    } else if known.is('i') {
        (
            format!(
                "{name} has no place in a configuration file: it is for one client, or comes from a server."
            ),
            TAKE_OUT,
        )
    } else if directive.inline && !known.is('b') {
        (
            format!("{name} may not be a block."),
            "Write it on one line, with its words behind it.",
        )
    } else {
        return None;
    };
    Some(fault(directive, "place", text, remedy))
}

fn value(directive: &Directive, known: &Known) -> Option<Finding> {
    let name = directive.name.as_str();
    if let Some(why) = special(directive) {
        return Some(fault(
            directive,
            "value",
            format!("{name} {why}."),
            "Correct the line: OpenVPN does not start with it.",
        ));
    }
    let last = known
        .kinds
        .last()
        .filter(|kind| kind.ends_with('*'))
        .copied();
    let kinds = known.kinds.iter().copied().chain(std::iter::repeat_n(
        last.unwrap_or("w"),
        directive.args.len(),
    ));
    for (kind, arg) in kinds.zip(&directive.args) {
        // The text of a block is none of the words.
        if directive.inline {
            continue;
        }
        // A version to come is asked for, and the highest there is will do.
        if *kind == *"tls"
            && directive
                .args
                .get(1)
                .is_some_and(|word| word == "or-highest")
        {
            continue;
        }
        if let Err(wanted) = fits(kind.trim_end_matches(['?', '*']), arg) {
            let text = format!("{name} takes {wanted}, and not {}.", quote(arg));
            return Some(fault(
                directive,
                "value",
                text,
                "Correct the line: OpenVPN does not start with it.",
            ));
        }
    }
    None
}

/// Rules of single directives beyond the kinds of their words.
fn special(directive: &Directive) -> Option<String> {
    let arg = |index: usize| directive.args.get(index).map(String::as_str);
    let first = arg(0).unwrap_or_default();
    match directive.name.as_str() {
        "setenv" | "setenv-safe" if first.len() < 2 && directive.name == "setenv" => {
            Some("needs a name of two letters or more".into())
        }
        "setenv" if first == "GENERIC_CONFIG" => {
            Some("GENERIC_CONFIG says that this file is not to be used as it is".into())
        }
        "setenv"
            if first == "SERVER_POLL_TIMEOUT"
                && arg(1).is_some_and(|arg| fits("n", arg).is_err()) =>
        {
            Some("SERVER_POLL_TIMEOUT takes a number".into())
        }
        "http-proxy-option"
            if matches!(first, "VERSION" | "AGENT") != (directive.args.len() == 2)
                && !(first.starts_with("EXT") || first == "CUSTOM-HEADER") =>
        {
            Some("takes VERSION or AGENT with one word, or CUSTOM-HEADER with one or two".into())
        }
        "tls-version-min" if arg(1) == Some("or-highest") => None,
        "verify-hash" | "peer-fingerprint" => {
            let sha1 =
                directive.name == "verify-hash" && !directive.inline && arg(1) != Some("SHA256");
            let bytes = if sha1 { 20 } else { 32 };
            let word = (!directive.inline).then(|| first.to_owned());
            let wrong = directive
                .body
                .iter()
                .chain(&word)
                .any(|print| !is_print(print, bytes));
            wrong.then(|| format!("takes {bytes} bytes in hexadecimal, with colons between them"))
        }
        "dns" => dns(directive),
        "dhcp-option" => {
            let address = fits("ip4", arg(1).unwrap_or_default()).is_err();
            match first {
                "DNS" | "DNS6" if arg(1).is_some_and(|arg| !arg.contains(':')) && address => {
                    Some(format!("{first} takes an address"))
                }
                "DOMAIN" | "ADAPTER_DOMAIN_SUFFIX" | "DOMAIN-SEARCH"
                    if arg(1).is_some_and(|arg| !is_domain(arg)) =>
                {
                    Some(format!("{first} takes a domain"))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn dns(directive: &Directive) -> Option<String> {
    let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
    let good = match &args[..] {
        ["search-domains", domains @ ..] => {
            !domains.is_empty() && domains.iter().all(|domain| is_domain(domain))
        }
        ["server", priority, what, values @ ..] => {
            let number = integer(priority).is_some_and(|number| (-128..=127).contains(&number));
            let known = match (*what, values) {
                (_, []) => false,
                ("address", values) => values.iter().all(|value| is_dns_address(value)),
                ("resolve-domains", values) => values.iter().all(|value| is_domain(value)),
                ("dnssec", [value]) => matches!(*value, "yes" | "no" | "optional"),
                ("transport", [value]) => matches!(*value, "plain" | "DoH" | "DoT"),
                ("sni", [value]) => is_domain(value),
                _ => false,
            };
            number && known
        }
        _ => false,
    };
    (!good).then(|| {
        "takes search-domains with domains, or server with a number and its address or settings"
            .into()
    })
}

fn is_domain(word: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_') || !c.is_ascii();
    !word.is_empty() && word.chars().all(letter)
}

fn is_dns_address(word: &str) -> bool {
    let port = |port: &str| port.parse().is_ok_and(|port: u16| port > 0);
    let four = |word: &str| word.parse::<Ipv4Addr>().is_ok();
    let plain = four(word) || word.parse::<Ipv6Addr>().is_ok();
    let six = |word: &str| {
        word.strip_prefix('[')
            .is_some_and(|word| word.parse::<Ipv6Addr>().is_ok())
    };
    plain
        || word
            .split_once("]:")
            .is_some_and(|(address, end)| six(address) && port(end))
        || word
            .split_once(':')
            .is_some_and(|(address, end)| four(address) && port(end))
}

/// A word in a message: short, and on one line.
fn quote(word: &str) -> String {
    let kept: String = word
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect();
    format!("'{kept}'")
}
