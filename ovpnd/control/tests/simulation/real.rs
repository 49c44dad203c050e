// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLS as it is used, with certificates made for the test.

use std::sync::Arc;

use openvpn_control::pem;
use openvpn_control::tls::ring::{Factory, Identity, Settings, Version};
use openvpn_control::verify::Rules;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// 2026-11-26.
const NOW: u64 = 1_795_651_200;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

/// Of a client and a server that trust the same CA.
pub(crate) fn factories() -> [Arc<Factory>; 2] {
    let mut root = params("ca");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let purposes = [
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    purposes.map(|purpose| {
        let mut leaf = params("me");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let cert = leaf.signed_by(&key, &ca).unwrap();
        let settings = Settings {
            identity: Some(
                Identity::load(
                    cert.pem().as_bytes(),
                    None,
                    key.serialize_pem().as_bytes(),
                    None,
                )
                .unwrap(),
            ),
            rules: Rules {
                ca: pem::certificates(ca.pem().as_bytes()).unwrap(),
                purpose: true,
                ..Rules::default()
            },
            optional: false,
            min: Version::Tls12,
            max: Version::Tls13,
            clock: Arc::new(|| NOW),
            build_date: 0,
        };
        Arc::new(Factory::new(&settings).unwrap())
    })
}
