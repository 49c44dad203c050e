// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that can be wrong with certificates, keys and TLS: one sentence each, and the remedy.

use std::fmt;

use rustls::AlertDescription;

use crate::der::{DerError, KeyKind, SignedWith};
use crate::tls::TlsError;

/// Why a certificate, a key or a TLS session is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The text holds no PEM certificate.
    NoCertificate,
    /// The text holds no private key.
    NoKey,
    /// A PEM block is not base64, or has no end.
    Pem,
    /// The bytes are a PKCS#12 container.
    Pkcs12,
    /// The key needs a passphrase, and none was given.
    PassphraseMissing,
    /// The passphrase does not fit.
    PassphraseWrong,
    /// The key is encrypted in a way that is not read: what it is.
    KeyEncryption(&'static str),
    /// The private key is not of a kind that can sign.
    UnusableKey,
    /// The private key does not belong to the certificate.
    KeyMismatch,
    /// The certificate's public key is of a kind or size that is not supported.
    Key(KeyKind),
    /// The certificate is X.509 version 1 or 2.
    Version(u8),
    /// The certificate cannot be read.
    Malformed(DerError),
    /// The certificate was issued with an algorithm that is not supported.
    SignedWith(SignedWith),
    /// The peer showed no certificate.
    NoPeerCertificate,
    /// No CA of ours issued the certificate; its issuer.
    UnknownIssuer(String),
    /// The CA's own certificate has expired.
    CaExpired(String),
    /// The certificate has expired: the subject, and the days since.
    Expired(String, i64),
    /// The certificate is not valid yet: the subject; whether our clock is set.
    NotYetValid(String, bool),
    /// The certificate is on the list of revoked ones: its subject, and its serial number in hexadecimal.
    Revoked(String, String),
    /// The list of revoked certificates cannot be read: why.
    CrlUnreadable(String),
    /// The list of revoked certificates is past its next update.
    CrlExpired,
    /// No list is of the CA that issued the certificate.
    CrlOfAnotherCa(String),
    /// `remote-cert-tls`: the certificate has no key usage.
    NoKeyUsage,
    /// The certificate is not one for a `server` or a `client`.
    Purpose(&'static str),
    /// The certificate is a CA's.
    IsCa,
    /// `verify-x509-name`: expected, and found.
    Name(String, String),
    /// The certificate has no common name.
    NoCommonName,
    /// `peer-fingerprint`: the certificate's, in hexadecimal.
    Fingerprint(String),
    /// A signature does not fit its key.
    BadSignature,
    /// Another limit of X.509: the verifier's words.
    Chain(String),
    /// The peer's certificate or common name is another one than before the renegotiation.
    IdentityChanged,
    /// The peer ended the handshake with this alert.
    Alert(AlertDescription),
    /// The peer has no TLS version or cipher suite in common with us.
    Incompatible(String),
    /// The peer broke TLS: the library's words.
    Protocol(String),
    /// The peer closed TLS.
    Closed,
    /// The handshake is not done.
    NotEstablished,
    /// A message is empty or longer than 2048 bytes.
    MessageLength,
    /// A server needs a certificate and a key.
    ServerWithoutCertificate,
    /// Neither a CA nor a fingerprint says who the peer may be.
    NoTrust,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("there is no PEM certificate in it"),
            Self::NoKey => f.write_str("there is no PEM private key in it"),
            Self::Pem => f.write_str("its PEM is damaged"),
            Self::Pkcs12 => f.write_str("it is a PKCS#12 container, which is not supported"),
            Self::PassphraseMissing => f.write_str("the private key is encrypted"),
            Self::PassphraseWrong => f.write_str("the passphrase does not fit the private key"),
            Self::KeyEncryption(how) => {
                write!(
                    f,
                    "the private key is encrypted with {how}, which is not supported"
                )
            }
            Self::UnusableKey => {
                f.write_str("the private key is damaged or of an unsupported kind")
            }
            Self::KeyMismatch => f.write_str("the private key does not belong to the certificate"),
            Self::Key(kind) => write!(f, "the certificate's key is {kind}, which is not supported"),
            Self::Version(version) => {
                write!(
                    f,
                    "the certificate is X.509 version {version}, which is not supported"
                )
            }
            Self::Malformed(why) => write!(f, "the certificate cannot be read: {why}"),
            Self::SignedWith(SignedWith::Weak) => {
                f.write_str("the certificate was signed with SHA-1 or MD5, which can be forged")
            }
            Self::SignedWith(SignedWith::EcdsaSha512) => f.write_str(
                "the certificate was signed by ECDSA with SHA-512, which is not supported",
            ),
            Self::SignedWith(SignedWith::RsaPss) => f.write_str(
                "the certificate was signed with RSA-PSS in a form that is not supported",
            ),
            Self::SignedWith(SignedWith::Other) => f.write_str(
                "the certificate was signed with an algorithm or a key size that is not supported",
            ),
            Self::NoPeerCertificate => f.write_str("the peer showed no certificate"),
            Self::UnknownIssuer(issuer) => {
                write!(
                    f,
                    "the peer's certificate was not issued by our CA but by \"{issuer}\""
                )
            }
            Self::CaExpired(ca) => write!(f, "the CA's certificate \"{ca}\" has expired"),
            Self::Expired(subject, 0) => {
                write!(f, "the certificate of \"{subject}\" expired today")
            }
            Self::Expired(subject, days) => {
                write!(
                    f,
                    "the certificate of \"{subject}\" expired {days} days ago"
                )
            }
            Self::NotYetValid(subject, true) => {
                write!(f, "the certificate of \"{subject}\" is not valid yet")
            }
            Self::NotYetValid(subject, false) => write!(
                f,
                "the certificate of \"{subject}\" seems not valid yet, but the clock of this router is not set"
            ),
            Self::Revoked(subject, serial) => write!(
                f,
                "the certificate of \"{subject}\" (serial number {serial}) has been revoked"
            ),
            Self::CrlUnreadable(why) => {
                write!(f, "the list of revoked certificates cannot be read: {why}")
            }
            Self::CrlExpired => f.write_str("the list of revoked certificates has expired"),
            Self::CrlOfAnotherCa(issuer) => {
                write!(
                    f,
                    "there is no list of revoked certificates of \"{issuer}\""
                )
            }
            Self::NoKeyUsage => f.write_str("the peer's certificate has no key usage"),
            Self::Purpose(role) => write!(f, "the peer's certificate is not one for a {role}"),
            Self::IsCa => f.write_str("the peer's certificate is one of a CA"),
            Self::Name(expected, found) => write!(
                f,
                "the peer's certificate is of \"{found}\", and \"{expected}\" is expected"
            ),
            Self::NoCommonName => f.write_str("the peer's certificate has no common name"),
            Self::Fingerprint(found) => {
                write!(
                    f,
                    "the fingerprint of the peer's certificate is not in the list: {found}"
                )
            }
            Self::BadSignature => {
                f.write_str("a signature of the peer does not fit its certificate")
            }
            Self::Chain(why) => write!(f, "the peer's certificate is refused: {why}"),
            Self::IdentityChanged => {
                f.write_str("the peer showed another certificate in a renegotiation than before")
            }
            Self::Alert(alert) => match alert_text(*alert) {
                Some((text, _)) => f.write_str(text),
                None => write!(f, "the peer ended the TLS handshake: {alert:?}"),
            },
            Self::Incompatible(why) => write!(f, "the peer's TLS does not fit ours: {why}"),
            Self::Protocol(why) => write!(f, "the peer broke the TLS protocol: {why}"),
            Self::Closed => f.write_str("the peer closed the TLS session"),
            Self::NotEstablished => f.write_str("the TLS handshake is not done"),
            Self::MessageLength => {
                f.write_str("a control message is empty or longer than 2048 bytes")
            }
            Self::ServerWithoutCertificate => {
                f.write_str("a server needs a certificate and its private key")
            }
            Self::NoTrust => {
                f.write_str("neither a CA nor a fingerprint tells which peers to trust")
            }
        }
    }
}

impl std::error::Error for Refusal {}

const OTHER_LOG: &str = "look into the log of the other side";

/// The sentence and the remedy for an alert by which the peer refuses our certificate or our TLS (RFC 8446, section 6.2).
fn alert_text(alert: AlertDescription) -> Option<(&'static str, &'static str)> {
    use AlertDescription as A;
    Some(match alert {
        A::CertificateRevoked => (
            "the peer refuses our certificate: it has been revoked",
            "ask for a new certificate",
        ),
        A::CertificateExpired => (
            "the peer refuses our certificate: it has expired, or is not valid yet by the peer's clock",
            "renew the certificate, or compare the clocks of both sides",
        ),
        A::UnknownCA => (
            "the peer refuses our certificate: it was not issued by a CA that the peer knows",
            "compare the CA file of both sides",
        ),
        A::UnsupportedCertificate => (
            "the peer refuses our certificate: its purpose or its kind of key is another one than the peer wants",
            "issue it with its purpose (easyrsa build-server-full, build-client-full)",
        ),
        // OpenSSL's for a certificate that is not valid yet.
        A::BadCertificate => (
            "the peer refuses our certificate: it cannot be used, or is not valid yet by the peer's clock",
            "compare the clocks of both sides, and look into the log of the other side",
        ),
        A::AccessDenied => (
            "the peer refuses our certificate: its name or fingerprint is none that the peer expects",
            "correct verify_x509_name or peer_fingerprint at the other side",
        ),
        A::CertificateUnknown => ("the peer refuses our certificate", OTHER_LOG),
        A::CertificateRequired | A::NoCertificate => {
            ("the peer wants a certificate of us", "set cert and key")
        }
        A::DecryptError => (
            "the peer refuses a signature of our certificate or our key",
            "compare the CA file of both sides",
        ),
        A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => (
            "the peer has no TLS version, cipher suite or kind of certificate in common with us",
            "allow TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305 there",
        ),
        _ => return None,
    })
}

impl Refusal {
    /// A remedy, when there is one that helps.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoCertificate => {
                "name a PEM file; openssl x509 -inform DER -in FILE converts one in DER"
            }
            Self::NoKey | Self::UnusableKey => {
                "openssl pkey -in FILE -out NEW.pem converts most keys"
            }
            Self::Pem => "copy the whole block, from its BEGIN line to its END line",
            Self::Pkcs12 => {
                "openssl pkcs12 -in FILE -nodes -out NEW.pem writes certificate, key and CA as PEM"
            }
            Self::PassphraseMissing => {
                "name a file with the passphrase in askpass, or decrypt it: openssl pkey -in FILE -out NEW.pem"
            }
            Self::KeyEncryption(_) => "decrypt it: openssl pkey -in FILE -out NEW.pem",
            Self::KeyMismatch => "name the key that the certificate was requested with",
            Self::Key(KeyKind::Rsa(bits)) if *bits < 2048 => {
                "issue a new certificate with P-256 or RSA of 2048 bits"
            }
            Self::Key(_) => {
                "issue a new certificate with P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits"
            }
            Self::Version(_) => {
                "issue it again with extensions, as EasyRSA does; openssl x509 -req needs -extfile"
            }
            Self::SignedWith(_) => "issue the certificate again with SHA-256",
            Self::UnknownIssuer(_) | Self::BadSignature => "compare the CA file of both sides",
            Self::CaExpired(_) => {
                "make a new CA certificate with the same key, and give it to all peers"
            }
            Self::Expired(..) => "issue a new certificate",
            Self::NotYetValid(_, true) => "compare the clocks of both sides",
            Self::NotYetValid(_, false) => {
                "let NTP set the clock; the connection is tried again then"
            }
            Self::CrlUnreadable(_) | Self::CrlExpired => "make a new list: easyrsa gen-crl",
            Self::CrlOfAnotherCa(_) => "append that CA's list to the file",
            Self::NoKeyUsage | Self::Purpose(_) => {
                "issue the certificate with its purpose (easyrsa build-server-full, build-client-full)"
            }
            Self::IsCa => "issue the peer a certificate of its own",
            Self::Name(..) => "correct verify_x509_name, if that is the right peer",
            Self::NoCommonName => "issue the certificate with a common name",
            Self::Fingerprint(_) => "add it to peer_fingerprint, if that is the right peer",
            Self::Alert(alert) => match alert_text(*alert) {
                Some((_, remedy)) => remedy,
                None => OTHER_LOG,
            },
            Self::Revoked(..) => "if it should come in, issue a new certificate",
            Self::Incompatible(_) => "allow TLS 1.2 or 1.3 with AES-GCM or ChaCha20-Poly1305 there",
            Self::NoTrust => "set ca, or peer_fingerprint",
            Self::ServerWithoutCertificate => "set cert and key",
            _ => return None,
        })
    }
}

impl From<Refusal> for TlsError {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.to_string(),
            remedy: refusal.remedy().map(Into::into),
        }
    }
}

impl From<DerError> for Refusal {
    fn from(error: DerError) -> Self {
        Self::Malformed(error)
    }
}
