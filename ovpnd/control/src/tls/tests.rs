// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handshakes of the two roles with each other, and each refusal of a certificate. rcgen makes the certificates with
//! curves, the openssl program the others.

mod openssl;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use sha2::{Digest, Sha256};

use super::ring::{Factory, Identity, Session, Settings, Version};
use super::{Tls, TlsError, TlsFactory};
use crate::der::KeyKind;
use crate::keys::{Cipher, KeyMaterial, Role};
use crate::pem;
use crate::refusal::Refusal;
use crate::verify::{NameRule, Rules, parse_fingerprint, same_peer};

/// 2026-11-26, within the years of the certificates below.
const NOW: u64 = 1_795_651_200;

struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf's PEM.
struct Leaf {
    cert: String,
    key: String,
}

fn ca(name: &str) -> Pki {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    let key = KeyPair::generate().unwrap();
    Pki {
        ca: CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

fn leaf_params(role: Role, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "KG");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    params.serial_number = Some(SerialNumber::from(7u64));
    params
}

impl Pki {
    fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let cert = params.clone().signed_by(&key, &self.ca).unwrap();
        Leaf {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    fn leaf(&self, role: Role, name: &str) -> Leaf {
        self.sign(&leaf_params(role, name))
    }

    fn crl(&self, revoked: &[u64], next_update: i32) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(next_update, 2, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.ca)
        .unwrap()
        .pem()
        .unwrap()
    }

    fn rules(&self) -> Rules {
        Rules {
            ca: pem::certificates(self.ca.pem().as_bytes()).unwrap(),
            ..Rules::default()
        }
    }
}

fn settings(rules: Rules, leaf: &Leaf) -> Settings {
    let identity = Identity::load(leaf.cert.as_bytes(), None, leaf.key.as_bytes(), None);
    Settings {
        identity: Some(identity.unwrap()),
        rules,
        optional: false,
        min: Version::Tls12,
        max: Version::Tls13,
        clock: Arc::new(|| NOW),
        build_date: 0,
    }
}

fn digest(leaf: &Leaf) -> [u8; 32] {
    let chain = pem::certificates(leaf.cert.as_bytes()).unwrap();
    Sha256::digest(&chain[0]).into()
}

/// Carries ciphertext both ways, in pieces of `piece` bytes, until neither side has any. The first failure, client's
/// first, and both ends.
fn run(
    client: &mut Session,
    server: &mut Session,
    piece: usize,
) -> (Option<TlsError>, Option<TlsError>) {
    let mut failed = (None, None);
    loop {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        client.pull(&mut up);
        server.pull(&mut down);
        if up.is_empty() && down.is_empty() {
            return failed;
        }
        for piece in up.chunks(piece) {
            failed.1 = server.feed(piece).err().or(failed.1.take());
        }
        for piece in down.chunks(piece) {
            failed.0 = client.feed(piece).err().or(failed.0.take());
        }
    }
}

fn connect(
    client: &Settings,
    server: &Settings,
) -> Result<(Session, Session), (Option<TlsError>, Option<TlsError>)> {
    let mut c = Factory::new(client).unwrap().client().unwrap();
    let mut s = Factory::new(server).unwrap().server().unwrap();
    match run(&mut c, &mut s, 100_000) {
        (None, None) => Ok((c, s)),
        failed => Err(failed),
    }
}

/// A CA, and both sides with certificates of it.
fn pair() -> (Pki, Settings, Settings) {
    let pki = ca("test CA");
    let (client, server) = (
        pki.leaf(Role::Client, "laptop"),
        pki.leaf(Role::Server, "gate"),
    );
    let (client, server) = (
        settings(pki.rules(), &client),
        settings(pki.rules(), &server),
    );
    (pki, client, server)
}

/// The sentence with which the client refuses a server.
fn refused_by_client(client: &Settings, server: &Settings) -> String {
    match connect(client, server) {
        Err((Some(error), _)) => error.reason,
        Err((None, server)) => panic!("only the server refuses: {server:?}"),
        Ok(_) => panic!("accepted"),
    }
}

/// The sentence with which the server refuses a client.
fn refused_by_server(client: &Settings, server: &Settings) -> String {
    match connect(client, server) {
        Err((_, Some(error))) => error.reason,
        Err((client, None)) => panic!("only the client refuses: {client:?}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn both_versions_carry_records_and_export_the_same_keys() {
    for version in [Version::Tls12, Version::Tls13] {
        for piece in [1, 7, 100_000] {
            let (_, mut client, mut server) = pair();
            (client.max, server.max) = (version, version);
            (client.min, server.min) = (version, version);
            let mut c = Factory::new(&client).unwrap().client().unwrap();
            let mut s = Factory::new(&server).unwrap().server().unwrap();
            assert!(c.write(b"early").is_err() && c.peer().is_none());
            assert_eq!(run(&mut c, &mut s, piece), (None, None));
            assert!(c.is_established() && s.is_established());
            assert_eq!(c.peer().unwrap().common_name, "gate");
            assert_eq!(s.peer().unwrap().common_name, "laptop");
            assert_eq!(s.peer().unwrap().serial, [7]);
            // Two records in one flight stay two.
            s.write(b"key exchange").unwrap();
            s.write(&[7; 2048]).unwrap();
            c.write(b"PUSH_REQUEST\0").unwrap();
            assert_eq!(run(&mut c, &mut s, piece), (None, None));
            assert_eq!(c.read().unwrap().as_deref(), Some(&b"key exchange"[..]));
            assert_eq!(c.read().unwrap().as_deref(), Some(&[7; 2048][..]));
            assert_eq!(c.read(), Ok(None));
            assert_eq!(s.read().unwrap().as_deref(), Some(&b"PUSH_REQUEST\0"[..]));
            let keys = [(&c, Role::Client), (&s, Role::Server)].map(|(tls, role)| {
                let material = KeyMaterial::export(tls).unwrap();
                material.directions(role, Cipher::Aes256Gcm)
            });
            assert_eq!(keys[0].0.cipher_key, keys[1].1.cipher_key);
            assert_eq!(keys[0].1.nonce_tail, keys[1].0.nonce_tail);
            assert_ne!(keys[0].0.cipher_key, keys[0].1.cipher_key);
            let summary = c.summary().unwrap();
            let name = if version == Version::Tls12 {
                "TLSv1_2"
            } else {
                "TLSv1_3"
            };
            assert!(summary.starts_with(name), "{summary}");
        }
    }
}

#[test]
fn an_empty_context_is_another_key_in_tls_1_2() {
    let (_, mut client, server) = pair();
    client.max = Version::Tls12;
    let (c, s) = connect(&client, &server).unwrap();
    let (mut none, mut other) = ([0; 32], [0; 32]);
    c.export("EXPORTER-OpenVPN-datakeys", &mut none).unwrap();
    s.export("EXPORTER-OpenVPN-datakeys", &mut other).unwrap();
    assert_eq!(none, other);
    s.export("EXPORTER-another", &mut other).unwrap();
    assert_ne!(none, other);
}

#[test]
fn lengths_of_messages_are_bounded() {
    let (_, client, server) = pair();
    let (mut c, _) = connect(&client, &server).unwrap();
    assert!(c.write(&[]).is_err());
    assert!(c.write(&[1; 2049]).is_err());
    assert!(c.write(&[1; 2048]).is_ok());
}

#[test]
fn versions_are_limited() {
    let (_, mut client, mut server) = pair();
    (client.max, server.min) = (Version::Tls12, Version::Tls13);
    let sentence = refused_by_server(&client, &server);
    assert!(sentence.contains("TLS does not fit"), "{sentence}");
}

#[test]
fn a_flood_of_records_is_refused() {
    let (_, client, server) = pair();
    let (mut c, mut s) = connect(&client, &server).unwrap();
    for _ in 0..40 {
        c.write(b"x").unwrap();
    }
    let failed = run(&mut c, &mut s, 100_000).1.unwrap();
    assert!(failed.reason.contains("faster than is read"), "{failed}");
    assert!(!s.is_established());
}

#[test]
fn another_ca_is_refused() {
    let (_, client, mut server) = pair();
    let other = ca("other CA");
    server.identity = settings(other.rules(), &other.leaf(Role::Server, "gate")).identity;
    let sentence = refused_by_client(&client, &server);
    assert_eq!(
        sentence,
        "the peer's certificate was not issued by our CA but by \"CN=other CA\""
    );
    // Of the same name, but another key.
    let twin = ca("test CA");
    server.identity = settings(twin.rules(), &twin.leaf(Role::Server, "gate")).identity;
    let sentence = refused_by_client(&client, &server);
    assert!(
        sentence.contains("does not fit its certificate"),
        "{sentence}"
    );
    let (_, mut client, server) = pair();
    client.identity = settings(other.rules(), &other.leaf(Role::Client, "laptop")).identity;
    client.rules = server.rules.clone();
    assert!(refused_by_server(&client, &server).contains("not issued by our CA"));
}

#[test]
fn times_are_checked() {
    let (pki, mut client, server) = pair();
    client.clock = Arc::new(|| NOW + 3 * 366 * 86_400);
    let sentence = refused_by_client(&client, &server);
    assert!(
        sentence.contains("of \"C=KG, CN=gate\" expired"),
        "{sentence}"
    );
    // A clock at 1970 is the build's date.
    client.clock = Arc::new(|| 60);
    client.build_date = NOW;
    assert!(connect(&client, &server).is_ok());
    client.build_date = 0;
    let sentence = refused_by_client(&client, &server);
    assert!(
        sentence.contains("clock of this router is not set"),
        "{sentence}"
    );
    // Not valid before 2025, with a clock that is set.
    client.clock = Arc::new(|| 1_730_000_000);
    let sentence = refused_by_client(&client, &server);
    assert!(sentence.ends_with("is not valid yet"), "{sentence}");
    // A CA that has expired before its certificates.
    let mut params = leaf_params(Role::Server, "gate");
    params.not_after = date_time_ymd(2040, 1, 1);
    let server = settings(pki.rules(), &pki.sign(&params));
    client.clock = Arc::new(|| 1_900_000_000);
    let sentence = refused_by_client(&client, &server);
    assert_eq!(sentence, "the CA's certificate \"CN=test CA\" has expired");
}

#[test]
fn the_purpose_is_checked() {
    let (pki, mut client, mut server) = pair();
    (client.rules.purpose, server.rules.purpose) = (true, true);
    assert!(connect(&client, &server).is_ok());
    // A client's certificate is no server's, even without `remote-cert-tls`.
    let thief = settings(pki.rules(), &pki.leaf(Role::Client, "gate"));
    let expected = "the peer's certificate is not one for a server";
    assert_eq!(refused_by_client(&client, &thief), expected);
    let mut lax = client.clone();
    lax.rules.purpose = false;
    assert_eq!(refused_by_client(&lax, &thief), expected);
    let mut thief = settings(pki.rules(), &pki.leaf(Role::Server, "laptop"));
    thief.rules.purpose = false;
    let expected = "the peer's certificate is not one for a client";
    assert_eq!(refused_by_server(&thief, &server), expected);
    // Without any purpose only `remote-cert-tls` refuses.
    let mut params = leaf_params(Role::Server, "gate");
    params.extended_key_usages.clear();
    let plain = settings(pki.rules(), &pki.sign(&params));
    assert!(connect(&lax, &plain).is_ok());
    assert_eq!(
        refused_by_client(&client, &plain),
        "the peer's certificate is not one for a server"
    );
    let mut params = leaf_params(Role::Server, "gate");
    params.key_usages.clear();
    let plain = settings(pki.rules(), &pki.sign(&params));
    assert!(connect(&lax, &plain).is_ok());
    assert_eq!(
        refused_by_client(&client, &plain),
        "the peer's certificate has no key usage"
    );
}

#[test]
fn the_name_is_checked() {
    let (pki, mut client, server) = pair();
    for (rule, good) in [
        (NameRule::Name("gate".into()), true),
        (NameRule::Name("gat".into()), false),
        (NameRule::Name("Gate".into()), false),
        (NameRule::NamePrefix("ga".into()), true),
        (NameRule::NamePrefix("ate".into()), false),
        (NameRule::Subject("C=KG, CN=gate".into()), true),
        (NameRule::Subject("CN=gate".into()), false),
    ] {
        client.rules.name = Some(rule.clone());
        match good {
            true => assert!(connect(&client, &server).is_ok(), "{rule:?}"),
            false => {
                let sentence = refused_by_client(&client, &server);
                assert!(sentence.contains("is expected"), "{rule:?}: {sentence}");
            }
        }
    }
    client.rules.name = None;
    let nameless = leaf_params(Role::Server, "");
    let server = settings(pki.rules(), &pki.sign(&nameless));
    assert_eq!(
        refused_by_client(&client, &server),
        "the peer's certificate has no common name"
    );
}

#[test]
fn control_characters_in_names_are_refused() {
    let (pki, client, _) = pair();
    for name in ["ga\nte", "gate\0.evil"] {
        let leaf = pki.leaf(Role::Server, name);
        let refused = Identity::load(leaf.cert.as_bytes(), None, leaf.key.as_bytes(), None);
        let sentence = refused.unwrap_err().to_string();
        assert!(sentence.contains("control character"), "{sentence}");
        let der = pem::certificates(leaf.cert.as_bytes()).unwrap();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let verifier =
            crate::verify::Verifier::new(client.rules.clone(), Role::Server, false, 0, algorithms);
        let refused = verifier.unwrap().verify(&der[0], &[], NOW).unwrap_err();
        assert!(
            refused.to_string().contains("control character"),
            "{refused}"
        );
    }
}

#[test]
fn fingerprints_replace_a_ca_and_add_to_one() {
    let (pki, mut client, _) = pair();
    let leaf = pki.leaf(Role::Server, "gate");
    let server = settings(pki.rules(), &leaf);
    let other = [9; 32];
    for (with_ca, list, good) in [
        (true, vec![digest(&leaf)], true),
        (true, vec![other], false),
        (false, vec![other, digest(&leaf)], true),
        (false, vec![other], false),
    ] {
        client.rules.fingerprints = list;
        client.rules.ca = if with_ca { pki.rules().ca } else { Vec::new() };
        match good {
            true => assert!(connect(&client, &server).is_ok()),
            false => assert!(refused_by_client(&client, &server).contains("fingerprint")),
        }
    }
    client.rules.fingerprints.clear();
    client.rules.ca.clear();
    assert_eq!(Factory::new(&client).unwrap_err(), Refusal::NoTrust);
    let text = crate::verify::fingerprint_text(&digest(&leaf));
    assert_eq!(parse_fingerprint(&text), Some(digest(&leaf)));
    assert_eq!(
        parse_fingerprint(&text.replace(':', "").to_lowercase()),
        Some(digest(&leaf))
    );
    for text in [
        "",
        "AA",
        "AA:BB",
        &text[1..],
        &format!("{text}:00"),
        &text.replacen('A', "+", 1),
    ] {
        assert_eq!(
            parse_fingerprint(text).filter(|d| *d == digest(&leaf)),
            None,
            "{text}"
        );
    }
}

#[test]
fn a_fingerprint_does_not_replace_the_signature() {
    // A server that shows a certificate without having its key: rustls would not let it be configured.
    let (pki, mut client, server) = pair();
    let leaf = pki.leaf(Role::Server, "gate");
    client.rules.ca.clear();
    client.rules.fingerprints = vec![digest(&leaf)];
    client.max = Version::Tls12;
    let provider = rustls::crypto::ring::default_provider();
    let stolen = pem::certificates(leaf.cert.as_bytes()).unwrap();
    let own = KeyPair::generate().unwrap();
    let own = rustls::pki_types::PrivateKeyDer::Pkcs8(own.serialize_der().into());
    let key = provider.key_provider.load_private_key(own).unwrap();
    #[derive(Debug)]
    struct Thief(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Thief {
        fn resolve(
            &self,
            _: rustls::server::ClientHello<'_>,
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    for version in [Version::Tls12, Version::Tls13] {
        client.max = version;
        let thief = Thief(Arc::new(rustls::sign::CertifiedKey::new(
            stolen.clone(),
            Arc::clone(&key),
        )));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(thief));
        let mut s = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut c = Factory::new(&client).unwrap().client().unwrap();
        let mut hello = Vec::new();
        c.pull(&mut hello);
        s.read_tls(&mut hello.as_slice()).unwrap();
        s.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while s.wants_write() {
            s.write_tls(&mut flight).unwrap();
        }
        let error = c.feed(&flight).unwrap_err();
        assert!(error.reason.contains("signature"), "{error}");
    }
    drop(server);
}

#[test]
fn revoked_certificates_are_refused() {
    let (pki, mut client, server) = pair();
    let list = |text: String| -> crate::verify::CrlSource {
        Arc::new(move || Ok(text.clone().into_bytes()))
    };
    client.rules.crl = Some(list(pki.crl(&[8], 2028)));
    assert!(connect(&client, &server).is_ok());
    client.rules.crl = Some(list(pki.crl(&[8, 7], 2028)));
    let sentence = refused_by_client(&client, &server);
    assert_eq!(
        sentence,
        "the certificate of \"C=KG, CN=gate\" (serial number 07) has been revoked"
    );
    client.rules.crl = Some(list(pki.crl(&[], 2026)));
    let sentence = refused_by_client(&client, &server);
    assert_eq!(sentence, "the list of revoked certificates has expired");
    client.rules.crl = Some(list(ca("other CA").crl(&[7], 2028)));
    let sentence = refused_by_client(&client, &server);
    assert_eq!(
        sentence,
        "there is no list of revoked certificates of \"CN=test CA\""
    );
    // A forged one: the name is right, the key is not.
    client.rules.crl = Some(list(ca("test CA").crl(&[], 2028)));
    let sentence = refused_by_client(&client, &server);
    assert!(
        sentence.contains("list of revoked certificates cannot be read"),
        "{sentence}"
    );
    client.rules.crl = Some(list("no PEM".into()));
    assert!(refused_by_client(&client, &server).contains("no PEM block"));
    client.rules.crl = Some(Arc::new(|| Err("no such file".into())));
    let sentence = refused_by_client(&client, &server);
    assert_eq!(
        sentence,
        "the list of revoked certificates cannot be read: no such file"
    );
}

/// Each side's sentence when the one refuses the certificate of the other, in both versions and both roles.
#[test]
fn a_refused_certificate_is_named_on_both_sides() {
    let pki = ca("test CA");
    let other = ca("other CA");
    let with = |change: &dyn Fn(&mut CertificateParams), role: Role| {
        let mut params = leaf_params(role, "bad");
        change(&mut params);
        settings(pki.rules(), &pki.sign(&params))
    };
    let crl = pki.crl(&[7], 2028);
    type Case<'a> = (
        &'a str,
        &'a dyn Fn(Role) -> Settings,
        &'a dyn Fn(&mut Settings),
        &'a str,
        &'a str,
    );
    let good = |role| with(&|_| {}, role);
    let cases: [Case<'_>; 7] = [
        (
            "revoked",
            &good,
            &|judge| {
                let crl = crl.clone();
                judge.rules.crl = Some(Arc::new(move || Ok(crl.clone().into_bytes())));
            },
            "of \"C=KG, CN=bad\" (serial number 07) has been revoked",
            "our certificate: it has been revoked",
        ),
        (
            "expired",
            &|role| {
                with(
                    &|params| params.not_after = date_time_ymd(2026, 11, 1),
                    role,
                )
            },
            &|_| {},
            "of \"C=KG, CN=bad\" expired 24 days ago",
            "our certificate: it has expired",
        ),
        (
            "not yet valid",
            &|role| {
                with(
                    &|params| params.not_before = date_time_ymd(2027, 1, 1),
                    role,
                )
            },
            &|_| {},
            "of \"C=KG, CN=bad\" is not valid yet",
            "not valid yet by the peer's clock",
        ),
        (
            "with a clock at 1970",
            &good,
            &|judge| judge.clock = Arc::new(|| 60),
            "the clock of this router is not set",
            "not valid yet by the peer's clock",
        ),
        (
            "of another CA",
            &|role| settings(pki.rules(), &other.leaf(role, "bad")),
            &|_| {},
            "was not issued by our CA but by \"CN=other CA\"",
            "not issued by a CA that the peer knows",
        ),
        (
            "of the wrong purpose",
            &|role| {
                let turned = match role {
                    Role::Client => Role::Server,
                    Role::Server => Role::Client,
                };
                settings(pki.rules(), &pki.leaf(turned, "bad"))
            },
            &|_| {},
            "is not one for a ",
            "its purpose or its kind of key",
        ),
        (
            "of another name",
            &good,
            &|judge| judge.rules.name = Some(NameRule::Name("good".into())),
            "is of \"bad\", and \"good\" is expected",
            "its name or fingerprint",
        ),
    ];
    for (what, bad, rule, judges, its_own) in cases {
        for version in [Version::Tls12, Version::Tls13] {
            for role in [Role::Client, Role::Server] {
                let mut bad = bad(role);
                (bad.min, bad.max) = (version, version);
                let mut judge = settings(
                    pki.rules(),
                    &pki.leaf(
                        match role {
                            Role::Client => Role::Server,
                            Role::Server => Role::Client,
                        },
                        "judge",
                    ),
                );
                rule(&mut judge);
                let ends = match role {
                    Role::Client => connect(&bad, &judge),
                    Role::Server => {
                        connect(&judge, &bad).map_err(|(client, server)| (server, client))
                    }
                };
                let Err((Some(told), Some(refusal))) = ends else {
                    panic!("{what}, {version:?}, {role:?}: {ends:?}");
                };
                assert!(refusal.reason.contains(judges), "{what}: {refusal}");
                assert!(
                    told.reason.contains(its_own),
                    "{what}, {version:?}, {role:?}: {told}"
                );
                assert!(
                    refusal.remedy.is_some() && told.remedy.is_some(),
                    "{what}: {refusal} {told}"
                );
            }
        }
    }
}

#[test]
fn the_list_of_revoked_certificates_is_read_for_each_handshake() {
    let (pki, mut client, server) = pair();
    let text = Arc::new(std::sync::Mutex::new(pki.crl(&[], 2028)));
    let source = Arc::clone(&text);
    client.rules.crl = Some(Arc::new(move || {
        Ok(source.lock().unwrap().clone().into_bytes())
    }));
    let factory = Factory::new(&client).unwrap();
    let servers = Factory::new(&server).unwrap();
    let attempt = || {
        let (mut c, mut s) = (factory.client().unwrap(), servers.server().unwrap());
        run(&mut c, &mut s, 100_000).0.map(|error| error.reason)
    };
    assert_eq!(attempt(), None);
    *text.lock().unwrap() = pki.crl(&[7], 2028);
    assert!(attempt().unwrap().contains("revoked"));
}

#[test]
fn a_client_without_certificate_is_refused_unless_that_is_allowed() {
    let (_, mut client, mut server) = pair();
    client.identity = None;
    assert_eq!(
        refused_by_server(&client, &server),
        "the peer showed no certificate"
    );
    server.optional = true;
    let (_, s) = connect(&client, &server).unwrap();
    assert_eq!(s.peer(), None);
    let without = Factory::new(&client).unwrap().server();
    assert_eq!(
        without.unwrap_err().reason,
        "a server needs a certificate and its private key"
    );
    // One that is shown is verified all the same.
    let other = ca("other CA");
    client.identity = settings(other.rules(), &other.leaf(Role::Client, "laptop")).identity;
    assert!(refused_by_server(&client, &server).contains("not issued by our CA"));
}

#[test]
fn a_peer_stays_the_same() {
    let (pki, client, server) = pair();
    let peer = |server| connect(&client, server).unwrap().0.peer();
    let first = peer(&server);
    assert_eq!(same_peer(first.as_ref(), peer(&server).as_ref()), Ok(()));
    // The same name in another certificate.
    let other = settings(pki.rules(), &pki.leaf(Role::Server, "gate"));
    let changed = Err(Refusal::IdentityChanged);
    assert_eq!(same_peer(first.as_ref(), peer(&other).as_ref()), changed);
    assert_eq!(same_peer(first.as_ref(), None), changed);
    assert_eq!(same_peer(None, first.as_ref()), changed);
}

#[test]
fn a_closed_session_says_so_after_its_last_message() {
    let (_, client, server) = pair();
    let (mut c, mut s) = connect(&client, &server).unwrap();
    s.write(b"EXIT\0").unwrap();
    s.close();
    run(&mut c, &mut s, 100_000);
    assert_eq!(c.read().unwrap().as_deref(), Some(&b"EXIT\0"[..]));
    assert_eq!(
        c.read().unwrap_err().reason,
        "the peer closed the TLS session"
    );
}

#[test]
fn hostile_bytes_are_an_error_and_no_panic() {
    let (_, client, server) = pair();
    let mut c = Factory::new(&client).unwrap().client().unwrap();
    let mut s = Factory::new(&server).unwrap().server().unwrap();
    assert!(c.feed(&[0x16, 3, 3, 0xff, 0xff]).is_err());
    // A session that failed stays failed.
    assert!(c.feed(&[]).is_err());
    assert!(s.feed(b"GET / HTTP/1.0\r\n\r\n").is_err());
}

#[test]
fn keys_that_do_not_belong_to_the_certificate_are_refused() {
    let (pki, ..) = pair();
    let (one, other) = (pki.leaf(Role::Client, "a"), pki.leaf(Role::Client, "a"));
    let load = |cert: &str, key: &str| {
        Identity::load(cert.as_bytes(), None, key.as_bytes(), None).unwrap_err()
    };
    assert_eq!(load(&one.cert, &other.key), Refusal::KeyMismatch);
    assert_eq!(load(&one.key, &one.key), Refusal::NoCertificate);
    assert_eq!(load(&one.cert, &one.cert), Refusal::NoKey);
}
