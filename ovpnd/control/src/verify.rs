// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identity of a peer: its chain to a CA, its purpose, its name, its fingerprint, and whether it was revoked.
//!
//! OpenVPN compares no host names: any certificate of the CA is good that passes the other checks. A fingerprint
//! without a CA replaces the chain, not the signature of the handshake, which TLS verifies in every case.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use sha2::{Digest, Sha256};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::der::{Certificate, KeyKind, SignedWith};
use crate::keys::Role;
use crate::pem;
use crate::refusal::Refusal;
use crate::tls::PeerIdentity;

/// The time in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// The text of a PEM file with lists of revoked certificates, read anew for each handshake. The error is a reason.
pub type CrlSource = Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>;

/// A clock before this is not set: 2024-01-01. The build date moves it up.
const UNSET_CLOCK: u64 = 1_704_067_200;

/// `verify-x509-name`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRule {
    /// The whole subject, as OpenSSL prints it: `C=KG, ST=NA, CN=name`.
    Subject(String),
    /// The common name.
    Name(String),
    /// The start of the common name.
    NamePrefix(String),
}

/// Rules for the peer's certificate.
#[derive(Clone, Default)]
pub struct Rules {
    /// Certificates of CAs.
    pub ca: Vec<CertificateDer<'static>>,
    /// SHA-256 of certificates that are trusted. With CAs, too, both must agree.
    pub fingerprints: Vec<[u8; 32]>,
    /// `remote-cert-tls`: the certificate must have a key usage, and the purpose of the peer's role.
    pub purpose: bool,
    /// `verify-x509-name`
    pub name: Option<NameRule>,
    /// `crl-verify`
    pub crl: Option<CrlSource>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("ca", &self.ca.len())
            .field("fingerprints", &self.fingerprints.len())
            .field("purpose", &self.purpose)
            .field("name", &self.name)
            .field("crl", &self.crl.is_some())
            .finish()
    }
}

/// A CA, as far as the verifier needs it.
struct Authority {
    anchor: TrustAnchor<'static>,
    subject: String,
    not_after: i64,
}

/// Applies [`Rules`] in TLS handshakes.
pub(crate) struct Verifier {
    rules: Rules,
    authorities: Vec<Authority>,
    /// Whom the peer is: the other role.
    peer: Role,
    /// A client need not show a certificate.
    optional: bool,
    /// A clock that shows less is not set.
    build_date: u64,
    handshake: WebPkiSupportedAlgorithms,
    /// Algorithms that certificates may be signed with.
    chain: Vec<&'static dyn SignatureVerificationAlgorithm>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.rules)
    }
}

impl Verifier {
    /// A verifier of certificates of peers in the role of `peer`.
    ///
    /// # Errors
    /// A CA's certificate cannot be used, or there is no CA.
    pub(crate) fn new(
        rules: Rules,
        peer: Role,
        optional: bool,
        build_date: u64,
        handshake: WebPkiSupportedAlgorithms,
    ) -> Result<Self, Refusal> {
        if rules.ca.is_empty() && rules.fingerprints.is_empty() {
            return Err(Refusal::NoTrust);
        }
        let authorities = rules.ca.iter().map(|ca| {
            let read = Certificate::parse(ca)?;
            let anchor = webpki::anchor_from_trusted_cert(ca)
                .map_err(|why| Refusal::Chain(why.to_string()))?
                .to_owned();
            Ok(Authority {
                anchor,
                subject: read.subject,
                not_after: read.not_after,
            })
        });
        let chain = handshake.all.iter().copied();
        #[cfg(feature = "ecdsa-sha512")]
        let chain = chain.chain(crate::ecdsa512::ALGORITHMS.iter().copied());
        Ok(Self {
            authorities: authorities.collect::<Result<_, Refusal>>()?,
            rules,
            peer,
            optional,
            build_date,
            handshake,
            chain: chain.collect(),
        })
    }

    /// Applies all rules but that of the handshake's signature. `now` is the clock's or the build's time, whichever
    /// is later.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), Refusal> {
        let read = Certificate::parse(leaf)?;
        if read.version != 3 {
            return Err(Refusal::Version(read.version));
        }
        match read.key {
            KeyKind::Rsa(2048..=8192) | KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => {}
            kind => return Err(Refusal::Key(kind)),
        }
        if !self.rules.fingerprints.is_empty() {
            let found: [u8; 32] = Sha256::digest(leaf).into();
            if !self.rules.fingerprints.contains(&found) {
                return Err(Refusal::Fingerprint(fingerprint_text(&found)));
            }
        }
        if !self.rules.ca.is_empty() {
            self.chain(&read, leaf, intermediates, now)?;
        }
        if self.rules.purpose {
            if !read.key_usage {
                return Err(Refusal::NoKeyUsage);
            }
            match self.peer {
                Role::Server if !read.for_servers => return Err(Refusal::Purpose("server")),
                Role::Client if !read.for_clients => return Err(Refusal::Purpose("client")),
                _ => {}
            }
        }
        let name = read.common_name.filter(|name| !name.is_empty());
        let name = name.ok_or(Refusal::NoCommonName)?;
        match &self.rules.name {
            Some(NameRule::Subject(wanted)) if *wanted != read.subject => {
                Err(Refusal::Name(wanted.clone(), read.subject))
            }
            Some(NameRule::Name(wanted)) if *wanted != name => {
                Err(Refusal::Name(wanted.clone(), name))
            }
            Some(NameRule::NamePrefix(wanted)) if !name.starts_with(wanted) => {
                Err(Refusal::Name(format!("{wanted}..."), name))
            }
            _ => Ok(()),
        }
    }

    fn chain(
        &self,
        read: &Certificate,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Result<(), Refusal> {
        let time = i64::try_from(now).unwrap_or(i64::MAX);
        let alive = |ca: &&Authority| ca.not_after >= time;
        let anchors: Vec<TrustAnchor<'_>> = self
            .authorities
            .iter()
            .filter(alive)
            .map(|ca| ca.anchor.clone())
            .collect();
        let explain = |error| self.explain(error, read, intermediates, now);
        let certificate = EndEntityCert::try_from(leaf).map_err(explain)?;
        let usage = match self.peer {
            Role::Server => KeyUsage::server_auth(),
            Role::Client => KeyUsage::client_auth(),
        };
        let lists = self.revocation_lists()?;
        let issuer = certificate.issuer();
        if self.rules.crl.is_some() && !lists.iter().any(|list| list.issuer() == issuer) {
            return Err(Refusal::CrlOfAnotherCa(read.issuer.clone()));
        }
        let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
        // Intermediates need no list of their own, as in stock OpenVPN; the leaf's was demanded above.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let verified = certificate.verify_for_usage(
            &self.chain,
            &anchors,
            intermediates,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)),
            usage,
            revocation,
            None,
        );
        verified.map(drop).map_err(explain)
    }

    fn revocation_lists(&self) -> Result<Vec<CertRevocationList<'static>>, Refusal> {
        let Some(source) = &self.rules.crl else {
            return Ok(Vec::new());
        };
        let text = source().map_err(Refusal::CrlUnreadable)?;
        Ok(Revoked::read(&text)?.0)
    }

    /// The sentence for an error of the chain. Webpki reports the error of the path that came furthest.
    fn explain(
        &self,
        error: webpki::Error,
        leaf: &Certificate,
        intermediates: &[CertificateDer<'_>],
        now: u64,
    ) -> Refusal {
        use webpki::Error as E;
        let subject = || leaf.subject.clone();
        match error {
            E::CertExpired { .. } => {
                let chain = intermediates.iter().flat_map(|der| Certificate::parse(der));
                let expired = std::iter::once(leaf.clone())
                    .chain(chain)
                    .find(|certificate| certificate.days_left(now) < 0);
                let expired = expired.unwrap_or_else(|| leaf.clone());
                let days = (-expired.days_left(now)).saturating_sub(1).max(0);
                Refusal::Expired(expired.subject, days)
            }
            E::CertNotValidYet { .. } => {
                Refusal::NotYetValid(subject(), now > self.build_date.max(UNSET_CLOCK))
            }
            E::CertRevoked => {
                let serial = leaf.serial.iter();
                let serial = serial.map(|byte| format!("{byte:02x}")).collect();
                Refusal::Revoked(subject(), serial)
            }
            E::CrlExpired { .. } => Refusal::CrlExpired,
            E::UnknownIssuer => {
                let time = i64::try_from(now).unwrap_or(i64::MAX);
                match self.authorities.iter().find(|ca| ca.not_after < time) {
                    Some(ca) if ca.subject == leaf.issuer => Refusal::CaExpired(ca.subject.clone()),
                    _ => Refusal::UnknownIssuer(leaf.issuer.clone()),
                }
            }
            E::CaUsedAsEndEntity => Refusal::IsCa,
            E::RequiredEkuNotFoundContext(_) => Refusal::Purpose(match self.peer {
                Role::Server => "server",
                Role::Client => "client",
            }),
            E::UnsupportedCertVersion => Refusal::Version(leaf.version),
            E::InvalidSignatureForPublicKey => Refusal::BadSignature,
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                let chain = intermediates.iter().flat_map(|der| Certificate::parse(der));
                let kinds = std::iter::once(leaf.signed_with).chain(chain.map(|c| c.signed_with));
                let known = kinds.into_iter().find(|kind| *kind != SignedWith::Other);
                Refusal::SignedWith(known.unwrap_or(SignedWith::Other))
            }
            E::UnsupportedCrlSignatureAlgorithmContext(_)
            | E::UnsupportedCrlVersion
            | E::InvalidCrlSignatureForPublicKey
            | E::IssuerNotCrlSigner => Refusal::CrlUnreadable(error.to_string()),
            other => Refusal::Chain(other.to_string()),
        }
    }
}

thread_local! {
    /// The last refusal of a verifier in this thread. A verifier is shared by all connections of its configuration, and errors
    /// of rustls that have an alert of their own carry no sentence; its caller runs in the same thread and takes it at once.
    static LAST: RefCell<Option<Refusal>> = const { RefCell::new(None) };
}

/// Takes the last refusal of a verifier in this thread.
pub(crate) fn take_refusal() -> Option<Refusal> {
    LAST.with_borrow_mut(Option::take)
}

/// Keeps a refusal for [`take_refusal`]. Gives the error whose alert tells the peer the kind of it.
fn refuse(refusal: Refusal) -> Error {
    use CertificateError as E;
    let kind = match &refusal {
        Refusal::Revoked(..) => E::Revoked,
        Refusal::Expired(..) | Refusal::NotYetValid(..) | Refusal::CaExpired(_) => E::Expired,
        Refusal::UnknownIssuer(_) => E::UnknownIssuer,
        Refusal::Purpose(_)
        | Refusal::NoKeyUsage
        | Refusal::IsCa
        | Refusal::Key(_)
        | Refusal::Version(_)
        | Refusal::SignedWith(_) => E::InvalidPurpose,
        Refusal::Name(..) | Refusal::Fingerprint(_) | Refusal::NoCommonName => {
            E::ApplicationVerificationFailure
        }
        Refusal::Malformed(_) => E::BadEncoding,
        Refusal::BadSignature => E::BadSignature,
        // The fault is ours, such as a list of revoked certificates that cannot be read.
        _ => E::Other(OtherError(Arc::new(refusal.clone()))),
    };
    LAST.set(Some(refusal));
    Error::InvalidCertificate(kind)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, now.as_secs())
            .map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.handshake)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.handshake)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.handshake.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Names of CAs help browsers to choose a certificate; OpenVPN's clients have one.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.optional
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates, now.as_secs())
            .map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.handshake)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.handshake)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.handshake.supported_schemes()
    }
}

/// The identity in certificates that a handshake verified, leaf first.
pub(crate) fn identity(chain: &[CertificateDer<'_>]) -> Option<PeerIdentity> {
    let read = Certificate::parse(chain.first()?).ok()?;
    Some(PeerIdentity {
        common_name: read.common_name.unwrap_or_default(),
        chain: chain.iter().map(|der| Sha256::digest(der).into()).collect(),
        serial: read.serial,
    })
}

/// Compares the peer of a renegotiation with that of the first handshake.
///
/// # Errors
/// Another certificate, or one where there was none, or the other way round.
pub fn same_peer(first: Option<&PeerIdentity>, now: Option<&PeerIdentity>) -> Result<(), Refusal> {
    match first == now {
        true => Ok(()),
        false => Err(Refusal::IdentityChanged),
    }
}

/// Lists of revoked certificates, for a look at sessions that are up; handshakes read the lists themselves.
pub struct Revoked(Vec<CertRevocationList<'static>>);

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revoked({} lists)", self.0.len())
    }
}

impl Revoked {
    /// Reads the lists of a PEM file.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read(text: &[u8]) -> Result<Self, Refusal> {
        let lists = pem::revocation_lists(text)?;
        let lists = lists.iter().map(|der| {
            OwnedCertRevocationList::from_der(der)
                .map(Into::into)
                .map_err(|why| Refusal::CrlUnreadable(why.to_string()))
        });
        Ok(Self(lists.collect::<Result<_, _>>()?))
    }

    /// Whether a certificate with this serial number ([`PeerIdentity::serial`]) was revoked, by whichever CA.
    pub fn has(&self, serial: &[u8]) -> bool {
        let mut lists = self.0.iter();
        lists.any(|list| matches!(list.find_serial(serial), Ok(Some(_)) | Err(_)))
    }
}

/// A fingerprint as OpenVPN and OpenSSL write it: pairs of capital hexadecimal digits with colons.
pub fn fingerprint_text(digest: &[u8; 32]) -> String {
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// Reads a fingerprint of 32 pairs of hexadecimal digits, with colons or without.
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let pairs: Vec<&str> = match text.contains(':') {
        true => text.split(':').collect(),
        false => (0..text.len())
            .step_by(2)
            .map(|at| text.get(at..at + 2))
            .collect::<Option<_>>()?,
    };
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let hexadecimal = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(pair, 16).ok().filter(|_| hexadecimal)?;
    }
    Some(digest)
}
