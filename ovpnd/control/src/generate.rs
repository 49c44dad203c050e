// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a CA and certificates for a server and clients, all with keys on P-256.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use zeroize::Zeroizing;

use crate::der::Certificate;
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

/// Longest common name (RFC 5280, ub-common-name).
const MAX_NAME: usize = 64;

fn params(
    name: &str,
    years: u16,
    now: u64,
    random: &mut dyn Random,
) -> Result<CertificateParams, String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err("a common name has 1 to 64 bytes and no control characters".into());
    }
    if !(1..=100).contains(&years) {
        return Err("a certificate is made for 1 to 100 years".into());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A positive, unpredictable number of 16 bytes (RFC 5280, 4.1.2.2).
    let mut serial = [0; 16];
    random.fill(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // From the year's start: clocks of peers may differ by hours.
    let year = i32::try_from(1970 + now / 31_556_952).map_err(|_| "the clock is not set")?;
    params.not_before = date_time_ymd(year, 1, 1);
    params.not_after = date_time_ymd(year + i32::from(years) + 1, 1, 1);
    Ok(params)
}

/// Makes a CA of this name. `now` is in seconds since 1970.
///
/// # Errors
/// The name or the number of years cannot be.
pub fn ca(name: &str, years: u16, now: u64, random: &mut dyn Random) -> Result<Made, String> {
    let mut params = params(name, years, now, random)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(|why| why.to_string())?;
    let cert = params.self_signed(&key).map_err(|why| why.to_string())?;
    Ok(Made {
        cert: cert.pem(),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

/// Makes a certificate for a server or a client, issued by `ca`.
///
/// # Errors
/// The name or the number of years cannot be, or the CA's files cannot be read.
pub fn issue(
    ca: &Made,
    role: Role,
    name: &str,
    years: u16,
    now: u64,
    random: &mut dyn Random,
) -> Result<Made, String> {
    let mut params = params(name, years, now, random)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let chain = pem::certificates(ca.cert.as_bytes()).map_err(|why| why.to_string())?;
    let ca_cert = chain.first().ok_or("there is no certificate of a CA")?;
    let read = Certificate::parse(ca_cert).map_err(|why| why.to_string())?;
    let ca_name = read.common_name.unwrap_or_default();
    if read.subject != format!("CN={ca_name}") {
        return Err("only a CA whose subject is one common name, as made here, can issue".into());
    }
    let ca_key = pem::private_key(ca.key.as_bytes(), None).map_err(|why| why.to_string())?;
    let ca_key = KeyPair::try_from(&ca_key).map_err(|why| why.to_string())?;
    let mut ca_params = CertificateParams::default();
    ca_params.distinguished_name = DistinguishedName::new();
    ca_params
        .distinguished_name
        .push(DnType::CommonName, ca_name);
    let issuer = Issuer::new(ca_params, ca_key);
    let key = KeyPair::generate().map_err(|why| why.to_string())?;
    let cert = params
        .signed_by(&key, &issuer)
        .map_err(|why| why.to_string())?;
    Ok(Made {
        cert: cert.pem(),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::ring::Identity;

    const NOW: u64 = 1_795_651_200;

    fn random() -> impl FnMut(&mut [u8]) {
        let mut next = 0u8;
        move |out: &mut [u8]| {
            for byte in out {
                next = next.wrapping_add(1);
                *byte = next;
            }
        }
    }

    #[test]
    fn made_certificates_are_what_they_say() {
        let mut random = random();
        let ca = ca("home", 10, NOW, &mut random).unwrap();
        for role in [Role::Server, Role::Client] {
            let made = issue(&ca, role, "node", 2, NOW, &mut random).unwrap();
            let identity = Identity::load(made.cert.as_bytes(), None, made.key.as_bytes(), None);
            let identity = identity.unwrap();
            let read = identity.certificate();
            assert_eq!(
                (read.subject.as_str(), read.issuer.as_str()),
                ("CN=node", "CN=home")
            );
            assert_eq!(read.for_servers, role == Role::Server);
            assert_eq!(read.for_clients, role == Role::Client);
            let rules = crate::verify::Rules {
                ca: pem::certificates(ca.cert.as_bytes()).unwrap(),
                purpose: true,
                ..Default::default()
            };
            let algorithms =
                rustls::crypto::ring::default_provider().signature_verification_algorithms;
            let verifier = crate::verify::Verifier::new(rules, role, false, 0, algorithms).unwrap();
            let leaf = pem::certificates(made.cert.as_bytes()).unwrap();
            assert_eq!(verifier.verify(&leaf[0], &[], NOW), Ok(()));
            assert!(read.key_usage && read.serial.len() == 16);
            assert!((2 * 365..4 * 366).contains(&read.days_left(NOW)));
        }
    }

    #[test]
    fn impossible_names_are_refused() {
        let mut random = random();
        for name in ["", "a\0b", "a\nb", &"x".repeat(65)] {
            assert!(ca(name, 10, NOW, &mut random).is_err(), "{name:?}");
        }
        assert!(ca("x", 0, NOW, &mut random).is_err());
        assert!(ca("x", 101, NOW, &mut random).is_err());
    }
}
