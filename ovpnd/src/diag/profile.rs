// SPDX-License-Identifier: GPL-2.0-only
//! What only the text of an .ovpn file shows, before it is on a router: words that OpenVPN does not know, a server that
//! is not named, and programs that the router is to run.

use std::collections::BTreeSet;

use super::file::{ConfigFile, Directive};
use super::{Finding, Severity};

/// Directives of a configuration file: those of OpenVPN 2.7 (`openvpn --help`, its manual) on any system, and those
/// that older ones had, which today's pass over or refuse with words of their own.
const DIRECTIVES: &str = "\
    allow-compression allow-deprecated-insecure-static-crypto allow-nonadmin allow-pull-fqdn \
    allow-recursive-routing askpass auth auth-gen-token auth-gen-token-secret auth-nocache auth-retry auth-token \
    auth-token-user auth-user-pass auth-user-pass-optional auth-user-pass-verify bcast-buffers bind bind-dev \
    block-ipv6 block-outside-dns ca capath ccd-exclusive cd cert chroot cipher client client-cert-not-required \
    client-config-dir client-connect client-crresponse client-disconnect client-nat client-pf client-to-client \
    comp-lzo comp-noadapt compat-mode compress config connect-freq connect-freq-initial connect-retry \
    connect-retry-max connect-timeout connection crl-verify cryptoapicert daemon data-ciphers data-ciphers-fallback \
    dev dev-node dev-type dh dhcp-internal dhcp-option dhcp-pre-release dhcp-release dhcp-renew \
    disable-dco disable-occ dns dns-updown down down-pre duplicate-cn ecdh-curve echo engine errors-to-stderr \
    explicit-exit-notify extra-certs fast-io float force-key-material-export force-tls-key-material-export fragment \
    genkey gremlin group hand-window hash-size http-proxy http-proxy-option http-proxy-override http-proxy-retry \
    http-proxy-timeout http-proxy-user-pass ifconfig ifconfig-ipv6 ifconfig-ipv6-pool ifconfig-ipv6-push \
    ifconfig-noexec ifconfig-nowarn ifconfig-pool ifconfig-pool-persist ifconfig-push ifconfig-push-constraint \
    ignore-unknown-option inactive ip-remote-hint ip-win32 ipchange iproute iroute iroute-ipv6 keepalive key \
    key-derivation key-direction key-method keying-material-exporter keysize learn-address link-mtu lladdr \
    local log log-append lport machine-readable-output management management-client management-client-auth \
    management-client-group management-client-user management-external-cert management-external-key \
    management-forget-disconnect management-hold management-log-cache management-query-passwords \
    management-query-proxy management-query-remote management-signal management-up-down mark max-clients \
    max-packet-size max-routes max-routes-per-client mlock mode msg-channel mssfix mtu-disc mtu-dynamic \
    mtu-test multihome mute mute-replay-warnings ncp-ciphers ncp-disable nice no-iv no-name-remapping no-replay \
    nobind ns-cert-type opt-verify override-username parameter passtos pause-exit peer-fingerprint peer-id \
    persist-key persist-local-ip persist-remote-ip persist-tun ping ping-exit ping-restart ping-timer-rem \
    pkcs11-cert-private pkcs11-id pkcs11-id-management pkcs11-id-type pkcs11-pin-cache pkcs11-private-mode \
    pkcs11-protected-authentication pkcs11-providers pkcs11-sign-mode pkcs11-slot pkcs11-slot-type pkcs12 \
    plugin port port-share preresolve prng proto proto-force protocol-flags providers pull pull-filter push \
    push-continuation push-peer-info push-remove push-reset rcvbuf rdns-internal redirect-gateway redirect-private \
    register-dns remap-usr1 remote remote-cert-eku remote-cert-ku remote-cert-tls remote-ip-hint remote-random \
    remote-random-hostname reneg-bytes reneg-pkts reneg-sec replay-persist replay-window resolv-retry route \
    route-delay route-gateway route-ipv6 route-ipv6-gateway route-method route-metric route-noexec route-nopull \
    route-pre-down route-table route-up rport script-security secret server server-bridge server-ipv6 \
    server-poll-timeout service session-timeout setcon setenv setenv-safe shaper show-adapters show-ciphers \
    show-curves show-digests show-engines show-gateway show-groups show-net show-net-up show-pkcs11-ids \
    show-pkcs11-objects show-pkcs11-slots show-tls show-valid-subnets single-session sndbuf socket-flags \
    socks-proxy socks-proxy-retry stale-routes-check static-challenge status status-version suppress-timestamps \
    syslog tap-sleep tcp-nodelay tcp-queue-limit tls-auth tls-cert-profile tls-cipher tls-ciphersuites tls-client \
    tls-crypt tls-crypt-v2 tls-crypt-v2-client tls-crypt-v2-max-age tls-crypt-v2-verify tls-exit tls-export-cert \
    tls-groups tls-remote tls-server tls-timeout tls-verify tls-version-max tls-version-min tls1-prf-test tmp-dir \
    topology tran-window tun-ipv6 tun-mtu tun-mtu-extra tun-mtu-max txqueuelen udp-mtu up up-delay up-restart \
    use-prediction-resistance user username-as-common-name verb verify-client-cert verify-hash verify-x509-name \
    vlan-accept vlan-pvid vlan-tagging win-sys windows-driver writepid x509-track x509-username-field";

/// Directives that have OpenVPN run a program or load a library, whatever their words (`openvpn --help`).
const PROGRAMS: [&str; 15] = [
    "auth-user-pass-verify",
    "client-connect",
    "client-crresponse",
    "client-disconnect",
    "down",
    "ipchange",
    "iproute",
    "learn-address",
    "pkcs11-providers",
    "plugin",
    "route-pre-down",
    "route-up",
    "tls-crypt-v2-verify",
    "tls-verify",
    "up",
];

/// As many directives of a kind are named.
const NAMED: usize = 4;

/// Findings beyond those of [`super::rules::judge`].
pub fn judge(file: &ConfigFile) -> Vec<Finding> {
    let ignored: BTreeSet<&str> = file
        .all("ignore-unknown-option")
        .flat_map(|directive| &directive.args)
        .map(String::as_str)
        .collect();
    let known: BTreeSet<&str> = DIRECTIVES.split(' ').collect();
    let unknown: Vec<&Directive> = file
        .directives
        .iter()
        .filter(|directive| !known.contains(directive.name.as_str()))
        .filter(|directive| !ignored.contains(directive.name.as_str()))
        .collect();
    if unknown.len() == file.directives.len() {
        return vec![Finding::new(
            Severity::Error,
            "config-file",
            "There is no directive of OpenVPN in this text.",
            "Take the .ovpn file that the server's owner gave you, unpacked.",
        )];
    }
    let mut findings = Vec::new();
    if let Some(first) = unknown.first() {
        findings.push(Finding {
            line: Some(first.line),
            ..Finding::new(
                Severity::Warning,
                "unknown",
                format!("OpenVPN does not know {}.", list(&unknown)),
                "Correct or take out what is misspelt: OpenVPN ends at a word that it does not know.",
            )
        });
    }
    let runs: Vec<&Directive> = file.directives.iter().filter(|d| runs(d)).collect();
    if let Some(first) = runs.first() {
        findings.push(Finding {
            line: Some(first.line),
            ..Finding::new(
                Severity::Warning,
                "programs",
                format!(
                    "The text has this router run programs or load code: {}.",
                    list(&runs)
                ),
                "Take out what you do not know: who wrote the text would rule the router.",
            )
        });
    }
    let serves = [
        "server",
        "server-bridge",
        "server-ipv6",
        "tls-server",
        "secret",
    ];
    if !file.has("remote")
        && !serves.iter().any(|name| file.has(name))
        && file.word("mode") != Some("server")
    {
        findings.push(Finding::new(
            Severity::Error,
            "remote",
            "The text names no server: it has no directive remote.",
            "Add a line like remote vpn.example.org 1194, or take the whole file.",
        ));
    }
    findings
}

/// Whether it brings a program or a library from outside OpenVPN.
fn runs(directive: &Directive) -> bool {
    let word = directive.args.first().map_or("", String::as_str);
    match directive.name.as_str() {
        // Its own script, or none.
        "dns-updown" => !matches!(word, "disable" | "force"),
        // Names without a path are those of OpenSSL's own.
        "engine" | "providers" => directive.args.iter().any(|arg| arg.contains('/')),
        name => PROGRAMS.contains(&name),
    }
}

/// The first few of them with their lines.
fn list(directives: &[&Directive]) -> String {
    let mut named: Vec<String> = directives
        .iter()
        .take(NAMED)
        .map(|directive| {
            // One message stays one line, and a short one.
            let name = directive.name.chars().filter(|c| !c.is_control());
            format!(
                "{} (line {})",
                name.take(40).collect::<String>(),
                directive.line
            )
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

    fn found(text: &str) -> Vec<(&'static str, Severity, Option<usize>)> {
        judge(&ConfigFile::parse(text))
            .into_iter()
            .map(|finding| (finding.code, finding.severity, finding.line))
            .collect()
    }

    #[test]
    fn a_client_and_a_server_are_clean() {
        for text in [
            "client\nremote a\n<ca>\nx\n</ca>\n",
            "server 10.8.0.0 255.255.255.0\n",
            "mode server\n",
            "client\n<connection>\nremote a\n</connection>\nignore-unknown-option x-y z\nx-y 1\n",
            "--client\nremote a\nregister-dns\n",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn programs_are_named() {
        for line in [
            "up /etc/openvpn/x",
            "plugin x.so",
            "tls-verify x",
            "ipchange x",
            "learn-address x",
            "client-connect x",
            "auth-user-pass-verify x via-env",
            "down x",
            "--route-up x",
            "route-pre-down x",
            "dns-updown /tmp/x",
            "engine /tmp/x",
            "providers default /tmp/x",
            "pkcs11-providers x",
            "<connection>\nup x\n</connection>",
        ] {
            let text = format!("client\nremote a\n{line}\n");
            let at = Some(2 + text.lines().skip(2).position(|l| l.contains('x')).unwrap() + 1);
            assert_eq!(
                found(&text),
                [("programs", Severity::Warning, at)],
                "{line}"
            );
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
            assert_eq!(found(&format!("client\nremote a\n{line}\n")), [], "{line}");
        }
        let findings = judge(&ConfigFile::parse(
            "client\nremote a\nup \"/bin/sh -c x\"\ndown y\n",
        ));
        assert_eq!(
            findings[0].text,
            "The text has this router run programs or load code: up (line 3) and down (line 4)."
        );
    }

    #[test]
    fn what_is_missing_or_misspelt_is_named() {
        assert_eq!(found("client\n"), [("remote", Severity::Error, None)]);
        assert_eq!(
            found("client\nremte a\nremote a"),
            [("unknown", Severity::Warning, Some(2))]
        );
        for text in ["", "PK\u{3}\u{4}\nword", "<html>\n</html>"] {
            assert_eq!(
                found(text),
                [("config-file", Severity::Error, None)],
                "{text}"
            );
        }
    }

    /// Seconds to judge the directives, the least of some attempts.
    fn seconds(file: &ConfigFile) -> f64 {
        let once = |_| {
            let start = std::time::Instant::now();
            judge(file);
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
        let lines: String = (0..50).map(|n| format!("wrong{n} \u{7}x\n")).collect();
        let findings = judge(&ConfigFile::parse(&format!("client\nremote a\n{lines}")));
        let [finding] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(
            finding.text,
            "OpenVPN does not know wrong0 (line 3), wrong1 (line 4), wrong2 (line 5), wrong3 (line 6) and 46 more."
        );
    }
}
