// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys and certificates as OpenSSL writes them.

use super::*;

/// A directory for files of the openssl program, removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("openvpn-control-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn openssl(&self, args: &str) {
        let done = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(&self.0)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "openssl {args}: {text}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn keys_of_openssl_are_read() {
    let files = Files::new("keys");
    for (name, algorithm) in [
        ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("p256", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "EC -pkeyopt ec_paramgen_curve:P-384"),
        ("ed", "ED25519"),
    ] {
        files.openssl(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
        files.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -out {name}.crt"
        ));
        let cert = files.read(&format!("{name}.crt"));
        let key = files.read(&format!("{name}.key"));
        let identity = Identity::load(&cert, None, &key, None).unwrap();
        assert_eq!(identity.certificate().common_name.as_deref(), Some(name));
        // Encrypted, by each cipher and hash of OpenSSL's that is read.
        for (cipher, hash) in [
            ("aes-128-cbc", "hmacWithSHA1"),
            ("aes-192-cbc", "hmacWithSHA384"),
            ("aes-256-cbc", "hmacWithSHA256"),
            ("aes-256-cbc", "hmacWithSHA512"),
        ] {
            files.openssl(&format!(
                "pkcs8 -topk8 -in {name}.key -out {name}.enc -passout pass:secret -v2 {cipher} -v2prf {hash}"
            ));
            let key = files.read(&format!("{name}.enc"));
            Identity::load(&cert, None, &key, Some(b"secret")).unwrap();
            let load = |pass: Option<&[u8]>| Identity::load(&cert, None, &key, pass).unwrap_err();
            assert_eq!(load(Some(b"Secret")), Refusal::PassphraseWrong);
            assert_eq!(load(None), Refusal::PassphraseMissing);
        }
    }
    // The old forms without PKCS#8.
    for (name, command) in [("rsa", "rsa -traditional"), ("p256", "ec"), ("p384", "ec")] {
        files.openssl(&format!("{command} -in {name}.key -out {name}.old"));
        let (cert, key) = (
            files.read(&format!("{name}.crt")),
            files.read(&format!("{name}.old")),
        );
        let old = if name == "rsa" {
            "RSA PRIVATE KEY"
        } else {
            "EC PRIVATE KEY"
        };
        assert!(String::from_utf8_lossy(&key).contains(old));
        Identity::load(&cert, None, &key, None).unwrap();
    }
    files.openssl("pkcs8 -topk8 -in ed.key -out ed.des -passout pass:secret -v2 des3");
    let refused = Identity::load(
        &files.read("ed.crt"),
        None,
        &files.read("ed.des"),
        Some(b"secret"),
    );
    assert_eq!(
        refused.unwrap_err(),
        Refusal::KeyEncryption("another cipher than AES-CBC")
    );
    files.openssl("pkcs8 -topk8 -in ed.key -out ed.scrypt -passout pass:secret -scrypt");
    let refused = Identity::load(
        &files.read("ed.crt"),
        None,
        &files.read("ed.scrypt"),
        Some(b"secret"),
    );
    assert!(matches!(refused.unwrap_err(), Refusal::KeyEncryption(how) if how.contains("scrypt")));
    files.openssl("pkcs12 -export -in ed.crt -inkey ed.key -out ed.p12 -passout pass:");
    let refused = Identity::load(&files.read("ed.p12"), None, &files.read("ed.p12"), None);
    assert_eq!(refused.unwrap_err(), Refusal::Pkcs12);
}

#[test]
fn kinds_of_certificates_that_are_not_supported_say_so() {
    let files = Files::new("kinds");
    for (name, algorithm, kind) in [
        (
            "small",
            "RSA -pkeyopt rsa_keygen_bits:1024",
            KeyKind::Rsa(1024),
        ),
        ("p521", "EC -pkeyopt ec_paramgen_curve:P-521", KeyKind::P521),
        (
            "k1",
            "EC -pkeyopt ec_paramgen_curve:secp256k1",
            KeyKind::OtherCurve,
        ),
        (
            "pss",
            "RSA-PSS -pkeyopt rsa_keygen_bits:2048",
            KeyKind::RsaPss,
        ),
    ] {
        files.openssl(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
        files.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -out {name}.crt"
        ));
        let (cert, key) = (
            files.read(&format!("{name}.crt")),
            files.read(&format!("{name}.key")),
        );
        let refused = Identity::load(&cert, None, &key, None).unwrap_err();
        assert_eq!(refused, Refusal::Key(kind), "{name}");
        assert!(refused.remedy().unwrap().contains("P-256"));
        // By fingerprint, too: it is told before the handshake's signature fails.
        let der = pem::certificates(&cert).unwrap();
        let rules = Rules {
            fingerprints: vec![Sha256::digest(&der[0]).into()],
            ..Rules::default()
        };
        assert_eq!(
            verify(rules, Role::Server, &der[0]),
            Err(Refusal::Key(kind))
        );
    }
    // Version 1: signed without extensions by a CA.
    files.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key");
    files.openssl("req -x509 -new -key ca.key -subj /CN=ca -out ca.crt");
    files.openssl("req -new -key ca.key -subj /CN=old -out old.csr");
    files.openssl("x509 -req -in old.csr -CA ca.crt -CAkey ca.key -set_serial 5 -out v3.crt");
    files.openssl(
        "x509 -req -in old.csr -CA ca.crt -CAkey ca.key -set_serial 5 -sha512 -out 512.crt",
    );
    let der = |name: &str| pem::certificates(&files.read(name)).unwrap().remove(0);
    let ca = der("ca.crt");
    let rules = Rules {
        ca: vec![ca],
        ..Rules::default()
    };
    let old = der("v3.crt");
    if crate::der::Certificate::parse(&old).unwrap().version == 1 {
        assert_eq!(
            verify(rules.clone(), Role::Server, &old),
            Err(Refusal::Version(1))
        );
    }
}

fn verify(
    rules: Rules,
    peer: Role,
    leaf: &rustls::pki_types::CertificateDer<'_>,
) -> Result<(), Refusal> {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    // The openssl program gives its certificates 30 days from now on.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    crate::verify::Verifier::new(rules, peer, false, 0, algorithms)?.verify(leaf, &[], now + 60)
}

#[test]
fn algorithms_of_signatures_that_are_not_supported_say_so() {
    use crate::der::SignedWith;
    let files = Files::new("signatures");
    std::fs::write(files.0.join("v3"), "keyUsage=digitalSignature\n").unwrap();
    let issue = |key: &str, hash: &str| {
        files.openssl(&format!("genpkey -algorithm {key} -out ca.key"));
        files.openssl("req -x509 -new -key ca.key -subj /CN=ca -out ca.crt");
        files.openssl(
            "req -new -newkey ed25519 -nodes -keyout leaf.key -subj /CN=leaf -out leaf.csr",
        );
        files.openssl(&format!(
            "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -set_serial 5 -extfile v3 {hash} -out leaf.crt"
        ));
        let der = |name: &str| pem::certificates(&files.read(name)).unwrap().remove(0);
        let rules = Rules {
            ca: vec![der("ca.crt")],
            ..Rules::default()
        };
        let mut damaged = der("leaf.crt").to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let damaged = verify(rules.clone(), Role::Server, &damaged.into());
        assert!(damaged.is_err());
        verify(rules, Role::Server, &der("leaf.crt"))
    };
    let (p256, p384) = (
        "EC -pkeyopt ec_paramgen_curve:P-256",
        "EC -pkeyopt ec_paramgen_curve:P-384",
    );
    assert_eq!(issue(p256, "-sha256"), Ok(()));
    assert_eq!(issue(p384, "-sha384"), Ok(()));
    let sha512 = match cfg!(feature = "ecdsa-sha512") {
        true => Ok(()),
        false => Err(Refusal::SignedWith(SignedWith::EcdsaSha512)),
    };
    assert_eq!(issue(p256, "-sha512"), sha512);
    assert_eq!(issue(p384, "-sha512"), sha512);
    let rsa = "RSA -pkeyopt rsa_keygen_bits:2048";
    assert_eq!(issue(rsa, "-sha512"), Ok(()));
    assert_eq!(
        issue(rsa, "-sha1"),
        Err(Refusal::SignedWith(SignedWith::Weak))
    );
}
