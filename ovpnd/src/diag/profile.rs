// SPDX-License-Identifier: GPL-2.0-or-later
//! A text by itself, before it is on a router: whether OpenVPN starts with it, and the programs that the router is to
//! run.

use super::file::{ConfigFile, Directive};
use super::{Finding, Severity, options, together};

/// As many directives of a kind are named.
const NAMED: usize = 4;
/// Longest name of a service that is repeated in a finding (RFC 6335, section 5.1: 15 letters).
const MAX_SERVICE: usize = 15;

/// Findings about the text: its directives one by one, together, and the programs in it.
pub fn judge(file: &ConfigFile) -> Vec<Finding> {
    let (mut findings, unknown) = options::judge(file);
    if unknown.len() == file.directives.len() {
        return vec![Finding::new(
            Severity::Error,
            "config-file",
            "There is no directive of OpenVPN in this text.",
            "Take the .ovpn file that the server's owner gave you, unpacked.",
        )];
    }
    if let Some(first) = unknown.first() {
        findings.push(Finding {
            line: Some(first.line),
            ..Finding::new(
                Severity::Error,
                "unknown",
                format!("OpenVPN does not know {}.", list(&unknown)),
                "Correct the word or take the line out: OpenVPN does not start with a word that it does not know.",
            )
        });
    }
    // Where a block has no end, nothing behind it was read.
    if file.errors.is_empty() {
        findings.extend(together::judge(file));
    }
    findings
}

/// A finding about the directives that have the router run programs.
pub fn programs(file: &ConfigFile) -> Option<Finding> {
    let runs: Vec<&Directive> = file.directives.iter().filter(|d| runs(d)).collect();
    let first = runs.first()?;
    Some(Finding {
        line: Some(first.line),
        ..Finding::new(
            Severity::Warning,
            "programs",
            format!(
                "The text has this router run programs or load code: {}.",
                list(&runs)
            ),
            "Take out those you do not know: whoever wrote the text would rule the router.",
        )
    })
}

/// A finding about ports that are no numbers of ports. OpenVPN starts with them, and asks the system in vain.
pub fn ports(file: &ConfigFile) -> Option<Finding> {
    let word = |directive: &Directive| {
        let at = match directive.name.as_str() {
            "remote" => 1,
            "port" | "rport" | "lport" => 0,
            _ => return None,
        };
        let word = directive.args.get(at)?;
        let least = u32::from(directive.name != "lport");
        let number = word
            .parse()
            .ok()
            .filter(|_| word.bytes().all(|b| b.is_ascii_digit()));
        let right = number.is_some_and(|number: u32| (least..=65_535).contains(&number));
        (!right).then(|| word.clone())
    };
    let (directive, word) = file
        .directives
        .iter()
        .find_map(|directive| Some((directive, word(directive)?)))?;
    // A word that is no name of a service may be anything.
    let service =
        word.len() <= MAX_SERVICE && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let port = match service {
        true => format!("the port {word}"),
        false => "a port".to_owned(),
    };
    Some(Finding {
        line: Some(directive.line),
        ..Finding::new(
            Severity::Warning,
            "port",
            format!(
                "{} names {port}, which is no number from 1 to 65535: OpenVPN starts and finds no such service.",
                directive.name
            ),
            "Write the number of the server's port, for instance 1194.",
        )
    })
}

/// Whether it brings a program or a library from outside OpenVPN.
pub fn runs(directive: &Directive) -> bool {
    let word = directive.args.first().map_or("", String::as_str);
    match directive.name.as_str() {
        // Its own script, or none.
        "dns-updown" => !matches!(word, "disable" | "force"),
        // Names without a path are those of OpenSSL's own.
        "engine" | "providers" => directive.args.iter().any(|arg| arg.contains('/')),
        // Of Windows or of a build with iproute2, and a path of a program all the same.
        "iproute" => true,
        name => options::known(name).is_some_and(|known| known.is('p')),
    }
}

/// The first few of them with their lines.
fn list(directives: &[&Directive]) -> String {
    let mut named: Vec<String> = directives
        .iter()
        .take(NAMED)
        .map(|directive| {
            // A word that is no name may be a line of a key.
            let name = options::shown(&directive.name).unwrap_or("a word");
            format!("{name} (line {})", directive.line)
        })
        .collect();
    if directives.len() > NAMED {
        named.push(format!("{} more", directives.len() - NAMED));
    }
    let last = named.pop().unwrap_or_default();
    match named.is_empty() {
        true => last,
        false => format!("{} and {last}", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "client\nremote a\nauth-user-pass\n<ca>\nx\n</ca>\n";

    fn found(text: &str) -> Vec<(&'static str, Severity, Option<usize>)> {
        let file = ConfigFile::parse(text);
        judge(&file)
            .into_iter()
            .chain(programs(&file))
            .map(|finding| (finding.code, finding.severity, finding.line))
            .collect()
    }

    #[test]
    fn a_client_and_a_server_are_clean() {
        let server = "ca a\ncert b\nkey c\nserver 10.8.0.0 255.255.255.0\n";
        assert_eq!(found(server), []);
        for more in [
            "",
            "ignore-unknown-option x-y z\nx-y 1\n",
            "setenv opt block-outside-dns\n",
            "<connection>\nremote a\n</connection>\n",
        ] {
            assert_eq!(found(&format!("{CLIENT}{more}")), [], "{more}");
        }
    }

    #[test]
    fn programs_are_named() {
        for line in [
            "up /etc/openvpn/x",
            "plugin x.so",
            "tls-verify x",
            "ipchange x",
            "down x",
            "--route-up x",
            "route-pre-down x",
            "dns-updown /tmp/x",
            "engine /tmp/x",
            "providers default /tmp/x",
            "tls-crypt-v2-verify x",
        ] {
            let program = ("programs", Severity::Warning, Some(7));
            assert_eq!(found(&format!("{CLIENT}{line}\n")), [program], "{line}");
        }
        // Those that OpenVPN refuses here are named all the same.
        for line in [
            "learn-address x",
            "client-connect x",
            "auth-user-pass-verify x via-env",
            "pkcs11-providers x",
            "iproute x",
            "setenv opt up x y",
        ] {
            let codes = found(&format!("{CLIENT}{line}\n"));
            assert!(codes.iter().any(|(code, ..)| *code == "programs"), "{line}");
        }
        for line in [
            "dns-updown disable",
            "dns-updown force",
            "engine dynamic",
            "providers legacy default",
            "script-security 2",
            "up-delay",
            "# up x",
        ] {
            assert_eq!(found(&format!("{CLIENT}{line}\n")), [], "{line}");
        }
        let text = "client\nremote a\nup \"/bin/sh -c x\"\ndown y\n";
        assert_eq!(
            programs(&ConfigFile::parse(text)).unwrap().text,
            "The text has this router run programs or load code: up (line 3) and down (line 4)."
        );
    }

    #[test]
    fn missing_and_misspelt_directives_are_named() {
        let text = CLIENT.replace("remote a", "verb 3");
        assert_eq!(found(&text), [("remote", Severity::Error, None)]);
        assert_eq!(
            found(&format!("{CLIENT}remte a\n")),
            [("unknown", Severity::Error, Some(7))]
        );
        assert_eq!(
            found(&format!("{CLIENT}key-method 2\n")),
            [("removed", Severity::Error, Some(7))]
        );
        for text in ["", "PK\u{3}\u{4}\nword", "<html>\n</html>"] {
            assert_eq!(
                found(text),
                [("config-file", Severity::Error, None)],
                "{text}"
            );
        }
    }

    #[test]
    fn no_line_of_a_key_is_repeated() {
        let hex = "a".repeat(32);
        for key in [
            "<key> x\n-----BEGIN PRIVATE KEY-----\nSECRETLINEOFTHEKEY\n</key>\n",
            "<unknown>\nSECRETLINEOFTHEKEY\n</unknown>\n",
            "<connection>\nremote b\n<unknown>\nSECRETLINEOFTHEKEY\n</unknown>\n</connection>\n",
            "<key>\nSECRETLINEOFTHEKEY\n",
            "key\nSECRETLINEOFTHEKEY/+= b c\n",
        ] {
            for text in [
                format!("{CLIENT}{key}"),
                key.to_owned(),
                key.replace("SECRETLINEOFTHEKEY", &format!("{hex}1")),
            ] {
                let said = crate::diag::lint(&text).to_string();
                assert!(
                    !said.contains("SECRET") && !said.contains(&hex) && !said.contains("BEGIN"),
                    "{text}: {said}"
                );
            }
        }
    }

    /// Seconds to judge the directives, the least of some attempts.
    fn seconds(file: &ConfigFile) -> f64 {
        let once = |_| {
            let start = std::time::Instant::now();
            options::judge(file);
            start.elapsed().as_secs_f64()
        };
        (0..3).map(once).fold(f64::MAX, f64::min)
    }

    #[test]
    fn many_words_to_ignore_are_not_searched_for_each_misspelt_one() {
        // Together the most that fits into a call.
        let ignored: Vec<String> = (0..20_000).map(|n| format!("x{n}")).collect();
        let ignored = ignored.chunks(30).map(|words| words.join(" "));
        let ignored: String = ignored
            .map(|words| format!("ignore-unknown-option {words}\n"))
            .collect();
        let misspelt: String = (0..9_000).map(|n| format!("y{n}\n")).collect();
        let [ignored, misspelt, both] = [&ignored, &misspelt, &format!("{ignored}{misspelt}")]
            .map(|text| ConfigFile::parse(text));
        assert!(both.errors.is_empty() && both.directives.len() == 9_667);
        let (apart, together) = (seconds(&ignored) + seconds(&misspelt), seconds(&both));
        assert!(together < 5.0 * apart, "{together} s, apart {apart} s");
    }

    #[test]
    fn many_misspelt_words_are_one_short_sentence() {
        let lines = "wrong \u{7}x\nWRONG x\n".repeat(25);
        let findings = judge(&ConfigFile::parse(&format!("{CLIENT}{lines}")));
        let [finding] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(
            finding.text,
            "OpenVPN does not know wrong (line 7), a word (line 8), wrong (line 9), a word (line 10) and 46 more."
        );
    }

    #[test]
    fn a_port_is_a_number() {
        let said = |line: &str| {
            let file = ConfigFile::parse(&format!("client\n{line}\n"));
            ports(&file).map(|finding| (finding.line, finding.text))
        };
        for line in ["remote a", "remote a 1194", "port 65535", "lport 0"] {
            assert_eq!(said(line), None, "{line}");
        }
        for line in [
            "remote a abc",
            "remote a 0",
            "rport 65536",
            "port +5",
            "remote a http udp",
        ] {
            assert_eq!(said(line).unwrap().0, Some(2), "{line}");
        }
        assert!(said("remote a abc").unwrap().1.contains("the port abc"));
        // A line of a key that lost its tag is not repeated.
        let key = "MIIEvQIBADANBgkqhkiG9w0";
        assert!(!said(&format!("remote a {key}")).unwrap().1.contains(key));
    }
}
