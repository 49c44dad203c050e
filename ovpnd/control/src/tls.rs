// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLS behind one small trait, so that a session knows no library and tests need no certificates.

pub mod ring;
#[cfg(test)]
mod tests;

use std::fmt;

/// A failure of TLS: one sentence, and what the user can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The sentence.
    pub reason: String,
    /// The remedy, when one is known.
    pub remedy: Option<String>,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TlsError {}

/// The peer's certificate, as far as a session locks it across renegotiations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerIdentity {
    /// The subject's common name.
    pub common_name: String,
    /// SHA-256 of the DER of each certificate that the peer sent, leaf first.
    pub chain: Vec<[u8; 32]>,
    /// The leaf's serial number, big-endian, as in the certificate.
    pub serial: Vec<u8>,
}

/// One TLS connection, fed with ciphertext and asked for it.
pub trait Tls {
    /// Takes ciphertext of the peer, in pieces of any size.
    ///
    /// # Errors
    /// The handshake or a record failed; [`Self::pull`] may still have an alert to send.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsError>;
    /// Appends the ciphertext that is to be sent.
    fn pull(&mut self, out: &mut Vec<u8>);
    /// Writes one control message as one record.
    ///
    /// # Errors
    /// The handshake is not done, or the message is longer than a record.
    fn write(&mut self, record: &[u8]) -> Result<(), TlsError>;
    /// The next record of the peer, if one is whole.
    ///
    /// # Errors
    /// The peer closed the connection or broke a rule.
    fn read(&mut self) -> Result<Option<Vec<u8>>, TlsError>;
    /// Whether the handshake is done and the peer's certificate verified.
    fn is_established(&self) -> bool;
    /// Fills `out` from the exporter of `label` without context (RFC 5705, RFC 8446 section 7.5).
    ///
    /// # Errors
    /// The handshake is not done.
    fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError>;
    /// The peer's certificate, once the handshake is done; `None` when the peer showed none.
    fn peer(&self) -> Option<PeerIdentity>;
}

/// Makes TLS connections with one configuration.
pub trait TlsFactory {
    /// The connections that it makes.
    type Tls: Tls;
    /// A connection in the client's role.
    ///
    /// # Errors
    /// The configuration cannot be used, such as a list of revoked certificates that cannot be read.
    fn client(&self) -> Result<Self::Tls, TlsError>;
    /// A connection in the server's role.
    ///
    /// # Errors
    /// As [`Self::client`].
    fn server(&self) -> Result<Self::Tls, TlsError>;
}
