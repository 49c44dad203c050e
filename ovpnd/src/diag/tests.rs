// SPDX-License-Identifier: GPL-2.0-or-later
use super::gather::Driver;
use super::*;

const OFFICE: &str = "client\nremote a\ndev ovpn3\ndev-type tun\nauth-user-pass x\nca y\n";

fn facts() -> Facts {
    Facts {
        driver: Driver {
            error: None,
            version: Some(env!("CARGO_PKG_VERSION").into()),
            misfit: None,
        },
        clock: WRITTEN + 1,
        ours: vec![Ours {
            name: "vpn0".into(),
            up: true,
            error: None,
            problems: Vec::new(),
            mtu: Some(1416),
            transport: Some(Transport::Udp),
            mssfix: Some("auto".into()),
            hwcrypto: Some("auto".into()),
            engines: Vec::new(),
            refused: Vec::new(),
        }],
        observed: vec!["tun7".into()],
        instances: vec![Instance {
            name: "office".into(),
            file: ConfigFile::parse(OFFICE),
            unreadable: None,
            device: Some("ovpn3".into()),
            device_kind: Some(DeviceKind::Ovpn),
        }],
        zones: Some(["vpn0", "office", "tun7"].map(str::to_owned).into()),
    }
}

/// (subject, code, severity) of all findings.
fn found(facts: &Facts) -> Vec<(String, &'static str, Severity)> {
    let subjects = diagnose(facts);
    for finding in subjects.iter().flat_map(|subject| &subject.findings) {
        for text in [&finding.text, &finding.remedy] {
            assert!(text.ends_with('.') && !text.contains('\n'), "{text:?}");
        }
    }
    let of = |subject: Subject| {
        let name = subject.name;
        let findings = subject.findings.into_iter();
        findings
            .map(move |f| (name.clone(), f.code, f.severity))
            .collect::<Vec<_>>()
    };
    subjects.into_iter().flat_map(of).collect()
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = facts();
    change(&mut facts);
    facts
}

/// One sentence instead of two about the same, and none once kmod-ovpn is loaded.
#[test]
fn a_module_for_another_kernel_is_named() {
    let misfit = Some(("It is for Linux 1.".to_owned(), "Run apk.".to_owned()));
    let codes = |error: Option<&str>, version: Option<&str>| {
        let facts = with(|f| {
            f.driver = Driver {
                error: error.map(str::to_owned),
                version: version.map(str::to_owned),
                misfit: misfit.clone(),
            };
        });
        let system = found(&facts)
            .into_iter()
            .filter(|(name, ..)| name == "system");
        system
            .map(|(_, code, severity)| (code, severity))
            .collect::<Vec<_>>()
    };
    let (error, warning) = (Severity::Error, Severity::Warning);
    assert_eq!(codes(Some("no family"), None), [("module-misfit", error)]);
    let mainline = [
        ("module-misfit", warning),
        ("module-mainline", Severity::Info),
    ];
    assert_eq!(codes(None, None), mainline);
    assert_eq!(codes(None, Some(env!("CARGO_PKG_VERSION"))), []);
}

fn refused(option: &'static str, forbidden: bool) -> Refused {
    Refused {
        option,
        why: "x has no effect: no".into(),
        parameter: "aes_gcm=async".into(),
        forbidden,
    }
}

#[test]
fn what_a_jail_forbids_is_to_be_written_where_the_module_is_loaded() {
    let facts = with(|f| f.ours[0].refused = vec![refused("hwcrypto", true)]);
    let remedy = &diagnose(&facts)[1].findings[0].remedy;
    assert!(
        remedy.contains("write ovpn aes_gcm=async into /etc/modules.d/30-ovpn"),
        "{remedy}"
    );
}

#[test]
fn what_is_well_has_no_findings() {
    assert_eq!(found(&facts()), []);
    let paths: Vec<_> = diagnose(&facts())
        .into_iter()
        .map(|subject| (subject.name, subject.kernel_path))
        .collect();
    let expected = [
        ("system", None),
        ("vpn0", Some(true)),
        ("office", Some(true)),
        ("tun7", Some(true)),
    ];
    assert_eq!(paths, expected.map(|(name, path)| (name.to_owned(), path)));
}

#[test]
fn each_fact_has_its_finding() {
    use Severity::{Error, Info, Warning};
    type Change = fn(&mut Facts);
    let cases: &[(Change, &str, &'static str, Severity)] = &[
        (
            |f| f.driver.error = Some("no family".into()),
            "system",
            "module-missing",
            Error,
        ),
        (
            |f| f.driver.version = None,
            "system",
            "module-mainline",
            Info,
        ),
        (
            |f| f.driver.version = Some("0.0.1".into()),
            "system",
            "module-old",
            Info,
        ),
        (|f| f.clock = 100, "system", "clock", Warning),
        (|f| f.ours[0].mtu = Some(1449), "vpn0", "mtu", Warning),
        (|f| f.ours[0].mtu = Some(1000), "vpn0", "mtu", Warning),
        (
            |f| {
                f.ours[0].mtu = Some(1430);
                f.ours[0].transport = Some(Transport::Udp6);
            },
            "vpn0",
            "mtu",
            Warning,
        ),
        (
            |f| f.ours[0].mssfix = Some("1300".into()),
            "vpn0",
            "mssfix",
            Info,
        ),
        (
            |f| f.ours[0].engines = vec![("alice".into(), "eip93".into(), true)],
            "vpn0",
            "engine-async",
            Info,
        ),
        (
            |f| {
                f.ours[0].hwcrypto = Some("eip93".into());
                f.ours[0].engines = vec![
                    ("alice".into(), "eip93".into(), false),
                    ("bob".into(), "library".into(), false),
                ];
            },
            "vpn0",
            "hwcrypto",
            Warning,
        ),
        (
            // One finding, although the driver that was wanted does not carry the key either.
            |f| {
                f.ours[0].hwcrypto = Some("eip93".into());
                f.ours[0].engines = vec![("alice".into(), "library".into(), false)];
                f.ours[0].refused = vec![refused("hwcrypto", true)];
            },
            "vpn0",
            "hwcrypto",
            Warning,
        ),
        (
            |f| f.ours[0].refused = vec![refused("mssfix", false)],
            "vpn0",
            "mssfix",
            Warning,
        ),
        (
            |f| f.ours[0].error = Some("gone".into()),
            "vpn0",
            "interface",
            Error,
        ),
        (
            |f| f.ours[0].problems = vec![Problem::of_call(None, "bad")],
            "vpn0",
            "config",
            Error,
        ),
        (
            |f| {
                f.zones = Some(["office", "tun7"].map(str::to_owned).into());
            },
            "vpn0",
            "firewall-zone",
            Warning,
        ),
        (
            |f| f.instances[0].device_kind = Some(DeviceKind::Tun),
            "office",
            "running-userspace",
            Warning,
        ),
        (
            |f| f.instances[0].unreadable = Some(Unreadable::Faulty("x is a pipe".into())),
            "office",
            "config-file",
            Error,
        ),
        (
            |f| f.instances[0].unreadable = Some(Unreadable::Unseen("x is not there".into())),
            "office",
            "config-file",
            Warning,
        ),
        (
            |f| f.instances[0].file = ConfigFile::parse(&format!("{OFFICE}comp-lzo")),
            "office",
            "comp",
            Warning,
        ),
    ];
    for (change, subject, code, severity) in cases {
        assert_eq!(
            found(&with(change)),
            [((*subject).to_owned(), *code, *severity)],
            "{code}"
        );
    }
    let both = found(&with(|f| {
        f.driver.version = None;
        f.ours[0].hwcrypto = Some("on".into());
    }));
    assert!(
        both.contains(&("vpn0".into(), "hwcrypto", Info)),
        "{both:?}"
    );
}

#[test]
fn the_kernel_path_is_told_only_when_it_is_known() {
    let path = |change: fn(&mut Facts)| diagnose(&with(change))[2].kernel_path;
    assert_eq!(
        path(|f| f.instances[0].device_kind = Some(DeviceKind::Tun)),
        Some(false)
    );
    assert_eq!(path(|f| f.instances[0].device_kind = None), None);
    let excluded: fn(&mut Facts) = |f| {
        f.instances[0].device_kind = None;
        f.instances[0].file = ConfigFile::parse("dev tap0");
    };
    assert_eq!(path(excluded), Some(false));
}

#[test]
fn a_file_to_import_is_looked_through() {
    let text = "client\nremote vpn.example 1195\nremote b 443 tcp\nproto udp\nauth-user-pass\ndisable-dco\n<ca>\nx\n</ca>\n";
    let said = lint(text);
    assert_eq!(
        (&said["verdict"], &said["kernel_path"]),
        (&json!("userspace"), &json!(false))
    );
    assert_eq!(
        said["remotes"],
        json!(["vpn.example:1195 udp", "b:443 tcp-client"])
    );
    assert_eq!(said["inline"], json!(["ca"]));
    assert_eq!(
        (&said["findings"][0]["code"], &said["findings"][0]["line"]),
        (&json!("disable-dco"), &json!(6))
    );
    let verdict = |text: &str| lint(text)["verdict"].clone();
    assert_eq!(verdict(&text.replace("disable-dco\n", "")), "kernel");
    assert_eq!(verdict(&text.replace("client\n", "")), "refused");
}
