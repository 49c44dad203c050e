// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small certificate authority: itself, certificates for servers and clients, and its list of revoked ones (RFC 5280),
//! all with keys on P-256.

use std::net::IpAddr;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::der::writer::{bits, common_name, integer, octets, oid, sequence, time, value};
use crate::der::{
    BIT_STRING, BOOLEAN, Certificate, DerError, EXTENSIONS, INTEGER, OCTET_STRING, OID,
    OID_CLIENT_AUTH, OID_EC, OID_EXTENDED_KEY_USAGE, OID_KEY_USAGE, OID_P256, OID_SERVER_AUTH,
    Reader, SEQUENCE, VERSION,
};
use crate::env::Random;
use crate::keys::Role;
use crate::pem;

/// A certificate and its key in PEM.
pub struct Made {
    /// The certificate.
    pub cert: String,
    /// Its key: to be kept in a file that only its owner reads.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Made({} bytes)", self.cert.len())
    }
}

/// The time for which a certificate is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// 1 to 100. A certificate ends with its CA at the latest.
    pub years: u16,
    /// Seconds since 1970.
    pub now: u64,
}

/// Longest common name (RFC 5280, ub-common-name).
const MAX_NAME: usize = 64;
/// Clocks of peers may differ, and so may their ideas of local time: certificates begin a day ago.
const EARLIER: u64 = 86_400;
/// Seconds of a year of the Gregorian calendar on average.
const YEAR: u64 = 31_556_952;
/// ecdsa-with-SHA256 (RFC 5758).
const OID_ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const OID_SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 14];
const OID_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const OID_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const OID_CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
const OID_AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 35];
const TRUE: [u8; 3] = [BOOLEAN, 1, 0xff];
/// Key usages as bit strings: keyCertSign and cRLSign, and digitalSignature.
const USAGE_CA: [u8; 4] = [BIT_STRING, 2, 1, 0x06];
const USAGE_LEAF: [u8; 4] = [BIT_STRING, 2, 7, 0x80];

fn key_pair(pkcs8: &[u8]) -> Result<EcdsaKeyPair, String> {
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new())
        .map_err(|_| "the key is not one on P-256 in PKCS#8".into())
}

/// A new key in PKCS#8.
fn new_key() -> Result<Zeroizing<Vec<u8>>, String> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let made = made.map_err(|_| "no random bytes for a key")?;
    Ok(Zeroizing::new(made.as_ref().to_vec()))
}

/// Names a key: the start of a digest of its public half (RFC 7093, section 2, method 1).
fn key_id(public: &[u8]) -> Vec<u8> {
    Sha256::digest(public).into_iter().take(20).collect()
}

fn algorithm() -> Vec<u8> {
    sequence(&[&oid(OID_ECDSA_SHA256)])
}

fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &TRUE } else { &[] };
    sequence(&[&oid(id), critical, &octets(content)])
}

/// Content that `key` signs, with the signature.
fn signed(content: &[u8], key: &EcdsaKeyPair) -> Result<Vec<u8>, String> {
    let signature = key.sign(&SystemRandom::new(), content);
    let signature = signature.map_err(|_| "no random bytes for a signature")?;
    Ok(sequence(&[
        content,
        &algorithm(),
        &bits(signature.as_ref()),
    ]))
}

fn checked(name: &str, term: Term) -> Result<(u64, u64), String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err("a common name has 1 to 64 bytes and no control characters".into());
    }
    if !(1..=100).contains(&term.years) {
        return Err("a certificate is made for 1 to 100 years".into());
    }
    let from = term.now.saturating_sub(EARLIER);
    Ok((from, term.now.saturating_add(u64::from(term.years) * YEAR)))
}

/// The part of a certificate that is signed.
fn to_be_signed(
    issuer: &[u8],
    subject: &str,
    (from, until): (u64, u64),
    public: &[u8],
    extensions: &[Vec<u8>],
    random: &mut dyn Random,
) -> Vec<u8> {
    // A positive, unpredictable number of 16 bytes (RFC 5280, 4.1.2.2).
    let mut serial = [0; 16];
    random.fill(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40;
    let kind = sequence(&[&oid(OID_EC), &oid(OID_P256)]);
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    sequence(&[
        &value(VERSION, &[&integer(2)]),
        &value(INTEGER, &[&serial]),
        &algorithm(),
        issuer,
        &sequence(&[&time(from), &time(until)]),
        &common_name(subject),
        &sequence(&[&kind, &bits(public)]),
        &value(EXTENSIONS, &[&sequence(&extensions)]),
    ])
}

fn made(cert: &[u8], key: &[u8]) -> Made {
    Made {
        cert: pem::write("CERTIFICATE", cert).to_string(),
        key: pem::write("PRIVATE KEY", key),
    }
}

/// Makes a CA of this name.
///
/// # Errors
/// The name or the number of years cannot be, or the system has no random bytes.
pub fn ca(name: &str, term: Term, random: &mut dyn Random) -> Result<Made, String> {
    let validity = checked(name, term)?;
    let key = new_key()?;
    let pair = key_pair(&key)?;
    let public = pair.public_key().as_ref();
    let extensions = [
        // It issues certificates and no further CAs.
        extension(OID_CONSTRAINTS, true, &sequence(&[&TRUE, &integer(0)])),
        extension(OID_KEY_USAGE, true, &USAGE_CA),
        extension(OID_SUBJECT_KEY, false, &octets(&key_id(public))),
    ];
    let content = to_be_signed(
        &common_name(name),
        name,
        validity,
        public,
        &extensions,
        random,
    );
    Ok(made(&signed(&content, &pair)?, &key))
}

/// A CA as far as it is needed to sign.
struct Issuer {
    /// Its name in DER.
    name: Vec<u8>,
    key: EcdsaKeyPair,
    /// The name of its key, if its certificate says one.
    key_id: Option<Vec<u8>>,
    not_after: u64,
}

impl Issuer {
    fn read(ca: &Made) -> Result<Self, String> {
        let chain = pem::certificates(ca.cert.as_bytes()).map_err(|why| why.to_string())?;
        let cert = chain.first().ok_or("there is no certificate of a CA")?;
        let read = Certificate::parse(cert).map_err(|why| why.to_string())?;
        let key = pem::private_key(ca.key.as_bytes(), None).map_err(|why| why.to_string())?;
        let key = key_pair(key.secret_der())?;
        let parts = Parts::read(cert).map_err(|why| why.to_string())?;
        if parts.public != key.public_key().as_ref() {
            return Err("the CA's key does not belong to its certificate".into());
        }
        Ok(Self {
            name: sequence(&[parts.subject]),
            key_id: parts.key_id.map(<[u8]>::to_vec),
            key,
            not_after: u64::try_from(read.not_after).unwrap_or(0),
        })
    }

    /// The extension that names the CA's key.
    fn authority_key(&self) -> Option<Vec<u8>> {
        let id = value(0x80, &[self.key_id.as_ref()?]);
        Some(extension(OID_AUTHORITY_KEY, false, &sequence(&[&id])))
    }
}

/// Pieces of a certificate as they are in it.
struct Parts<'a> {
    subject: &'a [u8],
    /// The point of its public key.
    public: &'a [u8],
    key_id: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(der: &'a [u8]) -> Result<Self, DerError> {
        let mut tbs = Reader(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
        tbs.enter_if(VERSION)?;
        tbs.take(INTEGER)?;
        for _ in ["algorithm", "issuer", "validity"] {
            tbs.take(SEQUENCE)?;
        }
        let subject = tbs.take(SEQUENCE)?;
        let mut key = tbs.enter(SEQUENCE)?;
        key.take(SEQUENCE)?;
        // One byte of unused bits, of which a key has none.
        let public = key.take(BIT_STRING)?.get(1..).unwrap_or_default();
        let mut key_id = None;
        while let Some((tag, mut content)) = tbs.next()? {
            if tag != EXTENSIONS {
                continue;
            }
            let mut list = content.enter(SEQUENCE)?;
            while let Some((_, mut extension)) = list.next()? {
                let id = extension.take(OID)?;
                extension.enter_if(BOOLEAN)?;
                if id == OID_SUBJECT_KEY {
                    key_id = Some(extension.enter(OCTET_STRING)?.take(OCTET_STRING)?);
                }
            }
        }
        Ok(Self {
            subject,
            public,
            key_id,
        })
    }
}

/// Makes a certificate for a server or a client, issued by `ca`. A server may have further names, each a host name or an
/// address; OpenVPN asks for none of them.
///
/// # Errors
/// The name or the number of years cannot be, the CA's files cannot be read, or the CA has expired.
pub fn issue(
    ca: &Made,
    role: Role,
    name: &str,
    names: &[&str],
    term: Term,
    random: &mut dyn Random,
) -> Result<Made, String> {
    let (from, until) = checked(name, term)?;
    let issuer = Issuer::read(ca)?;
    let until = until.min(issuer.not_after);
    if until <= term.now {
        return Err("the certificate of the CA has expired".into());
    }
    let key = new_key()?;
    let pair = key_pair(&key)?;
    let public = pair.public_key().as_ref();
    let purpose = match role {
        Role::Server => OID_SERVER_AUTH,
        Role::Client => OID_CLIENT_AUTH,
    };
    let mut extensions = vec![
        extension(OID_CONSTRAINTS, false, &sequence(&[])),
        extension(OID_KEY_USAGE, true, &USAGE_LEAF),
        extension(OID_EXTENDED_KEY_USAGE, false, &sequence(&[&oid(purpose)])),
        extension(OID_SUBJECT_KEY, false, &octets(&key_id(public))),
    ];
    extensions.extend(issuer.authority_key());
    if !names.is_empty() {
        let names: Vec<Vec<u8>> = names
            .iter()
            .map(|name| alt_name(name))
            .collect::<Result<_, _>>()?;
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        extensions.push(extension(OID_ALT_NAME, false, &sequence(&names)));
    }
    let validity = (from, until);
    let content = to_be_signed(&issuer.name, name, validity, public, &extensions, random);
    Ok(made(&signed(&content, &issuer.key)?, &key))
}

/// A host name or an address as a subjectAltName (RFC 5280, 4.2.1.6).
fn alt_name(name: &str) -> Result<Vec<u8>, String> {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Ok(value(0x87, &[&ip.octets()])),
        Ok(IpAddr::V6(ip)) => Ok(value(0x87, &[&ip.octets()])),
        Err(_) if is_host(name) => Ok(value(0x82, &[name.as_bytes()])),
        Err(_) => Err("must be host names or addresses".into()),
    }
}

/// Whether a text has the form of a host name, 253 bytes at most.
pub fn is_host(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    name.len() <= 253
        && name.bytes().all(fits)
        && edge(name.bytes().next())
        && edge(name.bytes().next_back())
}

/// Makes the CA's list of revoked certificates anew: those of the `old` list (PEM), and the one with the number `add`
/// ([`Certificate::serial`]). It is valid as long as the CA, so that it never keeps clients out by its age.
///
/// # Errors
/// The CA's files or the old list cannot be read.
pub fn revocation_list(
    ca: &Made,
    old: Option<&[u8]>,
    add: Option<&[u8]>,
    now: u64,
) -> Result<String, String> {
    let issuer = Issuer::read(ca)?;
    let mut entries = match old {
        None => Vec::new(),
        Some(text) => {
            let lists = pem::revocation_lists(text).map_err(|why| why.to_string())?;
            let list = lists
                .first()
                .ok_or("there is no list of revoked certificates")?;
            entries(list).map_err(|why| why.to_string())?
        }
    };
    if let Some(serial) = add {
        entries.push(sequence(&[&value(INTEGER, &[serial]), &time(now)]));
    }
    let number = u64::try_from(entries.len()).unwrap_or(0) + 1;
    let mut extensions = issuer.authority_key().unwrap_or_default();
    extensions.extend(extension(OID_CRL_NUMBER, false, &integer(number)));
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    // An empty list must be absent (RFC 5280, 5.1.2.6).
    let entries = match entries.is_empty() {
        true => Vec::new(),
        false => sequence(&entries),
    };
    let content = sequence(&[
        &integer(1),
        &algorithm(),
        &issuer.name,
        &time(now.saturating_sub(EARLIER)),
        &time(issuer.not_after),
        &entries,
        &value(VERSION, &[&sequence(&[&extensions])]),
    ]);
    Ok(pem::write("X509 CRL", &signed(&content, &issuer.key)?).to_string())
}

/// The entries of a list of revoked certificates, each in DER.
fn entries(der: &[u8]) -> Result<Vec<Vec<u8>>, DerError> {
    let mut tbs = Reader(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
    tbs.enter_if(INTEGER)?;
    for _ in ["algorithm", "issuer"] {
        tbs.take(SEQUENCE)?;
    }
    // This update, and the next one.
    tbs.next()?;
    tbs.next()?;
    let mut list = Vec::new();
    if let Some(mut all) = tbs.enter_if(SEQUENCE)? {
        while let Some((tag, entry)) = all.next()? {
            list.push(value(tag, &[entry.0]));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::ring::Identity;
    use crate::verify::{Revoked, Rules, Verifier};
    use std::process::Command;
    use std::sync::Arc;

    const NOW: u64 = 1_795_651_200;
    const TERM: Term = Term {
        years: 10,
        now: NOW,
    };

    fn random() -> impl FnMut(&mut [u8]) {
        let mut next = 0u8;
        move |out: &mut [u8]| {
            for byte in out {
                next = next.wrapping_add(1);
                *byte = next;
            }
        }
    }

    fn leaf(made: &Made) -> Certificate {
        let chain = pem::certificates(made.cert.as_bytes()).unwrap();
        Certificate::parse(&chain[0]).unwrap()
    }

    fn verdict(ca: &Made, role: Role, made: &Made, crl: Option<String>) -> bool {
        let rules = Rules {
            ca: pem::certificates(ca.cert.as_bytes()).unwrap(),
            purpose: true,
            crl: crl.map(|text| -> crate::verify::CrlSource {
                Arc::new(move || Ok(text.clone().into_bytes()))
            }),
            ..Default::default()
        };
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let verifier = Verifier::new(rules, role, false, 0, algorithms).unwrap();
        let chain = pem::certificates(made.cert.as_bytes()).unwrap();
        verifier.verify(&chain[0], &[], NOW).is_ok()
    }

    #[test]
    fn made_certificates_are_what_they_say() {
        let mut random = random();
        let ca = ca("home", TERM, &mut random).unwrap();
        for role in [Role::Server, Role::Client] {
            let term = Term { years: 2, ..TERM };
            let made = issue(
                &ca,
                role,
                "node",
                &["vpn.example", "fd00::1"],
                term,
                &mut random,
            );
            let made = made.unwrap();
            let identity = Identity::load(made.cert.as_bytes(), None, made.key.as_bytes(), None);
            let identity = identity.unwrap();
            let read = identity.certificate();
            assert_eq!(
                (read.subject.as_str(), read.issuer.as_str()),
                ("CN=node", "CN=home")
            );
            assert_eq!(read.for_servers, role == Role::Server);
            assert_eq!(read.for_clients, role == Role::Client);
            assert!(verdict(&ca, role, &made, None));
            assert!(read.key_usage && read.serial.len() == 16);
            assert_eq!(read.days_left(NOW), 730);
        }
        // None outlives its CA.
        let term = Term { years: 20, ..TERM };
        let made = issue(&ca, Role::Client, "old", &[], term, &mut random).unwrap();
        assert_eq!(leaf(&made).not_after, leaf(&ca).not_after);
        let late = Term {
            years: 1,
            now: NOW + 10 * YEAR + 1,
        };
        let why = issue(&ca, Role::Client, "late", &[], late, &mut random).unwrap_err();
        assert!(why.contains("expired"), "{why}");
    }

    #[test]
    fn a_list_keeps_those_that_were_revoked_before() {
        let mut random = random();
        let ca = ca("home", TERM, &mut random).unwrap();
        let client = |name: &str, random: &mut dyn Random| {
            issue(&ca, Role::Client, name, &[], TERM, random).unwrap()
        };
        let (one, two, three) = (
            client("one", &mut random),
            client("two", &mut random),
            client("three", &mut random),
        );
        let mut list = revocation_list(&ca, None, None, NOW).unwrap();
        assert!(verdict(&ca, Role::Client, &one, Some(list.clone())));
        for gone in [&one, &two] {
            let serial = leaf(gone).serial;
            list = revocation_list(&ca, Some(list.as_bytes()), Some(&serial), NOW).unwrap();
        }
        for (made, good) in [(&one, false), (&two, false), (&three, true)] {
            assert_eq!(verdict(&ca, Role::Client, made, Some(list.clone())), good);
            let read = Revoked::read(list.as_bytes()).unwrap();
            assert_eq!(read.has(&leaf(made).serial), !good);
        }
        // A list of another CA's is no list of this one's.
        let other = super::ca("home", TERM, &mut random).unwrap();
        let foreign = revocation_list(&other, None, None, NOW).unwrap();
        assert!(!verdict(&ca, Role::Client, &three, Some(foreign)));
    }

    #[test]
    fn a_key_of_another_certificate_signs_nothing() {
        let mut random = random();
        let first = ca("home", TERM, &mut random).unwrap();
        let second = ca("home", TERM, &mut random).unwrap();
        let mixed = Made {
            cert: first.cert,
            key: second.key,
        };
        let why = issue(&mixed, Role::Client, "x", &[], TERM, &mut random).unwrap_err();
        assert!(why.contains("does not belong"), "{why}");
    }

    #[test]
    fn impossible_names_are_refused() {
        let mut random = random();
        for name in ["", "a\0b", "a\nb", &"x".repeat(65)] {
            assert!(ca(name, TERM, &mut random).is_err(), "{name:?}");
        }
        for years in [0, 101] {
            assert!(ca("x", Term { years, ..TERM }, &mut random).is_err());
        }
        let ca = ca("x", TERM, &mut random).unwrap();
        for name in ["a b", "-a", "a\n", "", "ä"] {
            let made = issue(&ca, Role::Server, "x", &[name], TERM, &mut random);
            assert!(made.is_err(), "{name:?}");
        }
    }

    /// The openssl program reads all of it and agrees; it is a part of each machine that builds this.
    #[test]
    fn openssl_agrees() {
        let dir = std::env::temp_dir().join(format!("ovpn-generate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut random = random();
        let ca = ca("home", TERM, &mut random).unwrap();
        let server = issue(
            &ca,
            Role::Server,
            "home-server",
            &["vpn.example.org", "192.0.2.1"],
            TERM,
            &mut random,
        )
        .unwrap();
        let client = issue(&ca, Role::Client, "anna", &[], TERM, &mut random).unwrap();
        let empty = revocation_list(&ca, None, None, NOW).unwrap();
        let serial = leaf(&client).serial;
        let list = revocation_list(&ca, Some(empty.as_bytes()), Some(&serial), NOW).unwrap();
        for (name, text) in [
            ("ca.crt", ca.cert.as_str()),
            ("server.crt", &server.cert),
            ("server.key", &server.key),
            ("client.crt", &client.cert),
            ("empty.pem", &empty),
            ("list.pem", &list),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let run = |line: &str| {
            let out = Command::new("openssl")
                .args(line.split(' '))
                .current_dir(&dir)
                .output()
                .unwrap();
            let text = [out.stdout, out.stderr].concat();
            (out.status.success(), String::from_utf8(text).unwrap())
        };
        let verify = |more: &str| {
            run(&format!(
                "verify -x509_strict -attime {NOW} -CAfile ca.crt {more}"
            ))
        };
        for good in [
            "-purpose sslserver server.crt",
            "-purpose sslclient -crl_check -CRLfile empty.pem client.crt",
            "-crl_check -CRLfile list.pem server.crt",
        ] {
            let (success, text) = verify(good);
            assert!(success, "{good}: {text}");
        }
        for (bad, words) in [
            ("-purpose sslclient server.crt", "purpose"),
            ("-crl_check -CRLfile list.pem client.crt", "revoked"),
        ] {
            let (success, text) = verify(bad);
            assert!(!success && text.contains(words), "{bad}: {text}");
        }
        let (_, text) = run("x509 -in server.crt -noout -text");
        for part in [
            "DNS:vpn.example.org, IP Address:192.0.2.1",
            "TLS Web Server Authentication",
            "CN = home-server",
        ] {
            let spaced = text.replace("CN=", "CN = ");
            assert!(spaced.contains(part), "{part}: {text}");
        }
        let key = run("pkey -in server.key -pubout").1;
        assert_eq!(key, run("x509 -in server.crt -noout -pubkey").1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
