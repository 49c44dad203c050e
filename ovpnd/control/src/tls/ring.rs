// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLS by rustls over ring.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, Error, InconsistentKeys,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::{PeerIdentity, Tls, TlsError, TlsFactory};
use crate::der::{Certificate, KeyKind};
use crate::exchange::MAX_MESSAGE;
use crate::keys::Role;
use crate::pem;
use crate::refusal::Refusal;
use crate::verify::{self, Clock, Rules, Verifier};

/// Messages that may wait for [`Tls::read`]; each is a record of at most 16 KiB.
const MAX_WAITING: usize = 32;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// Our certificate and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    leaf: Certificate,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.leaf.subject)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            leaf: self.leaf.clone(),
        }
    }
}

impl Identity {
    /// Reads the PEM of `cert` and `key`. Certificates of `extra` (`extra-certs`) and further ones in `cert` are sent
    /// after ours.
    ///
    /// # Errors
    /// One of them cannot be used, or they do not belong together.
    pub fn load(
        cert: &[u8],
        extra: Option<&[u8]>,
        key: &[u8],
        passphrase: Option<&[u8]>,
    ) -> Result<Self, Refusal> {
        let mut chain = pem::certificates(cert)?;
        if let Some(extra) = extra {
            chain.extend(pem::certificates(extra)?);
        }
        let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
        let leaf = Certificate::parse(leaf)?;
        match leaf.key {
            // ring signs with no longer ones.
            KeyKind::Rsa(2048..=4096) | KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => {}
            kind => return Err(Refusal::Key(kind)),
        }
        if leaf.version != 3 {
            return Err(Refusal::Version(leaf.version));
        }
        let key = pem::private_key(key, passphrase)?;
        let matching = rustls::sign::CertifiedKey::from_der(
            chain.clone(),
            key.clone_key(),
            &ring::default_provider(),
        );
        match matching {
            Ok(_) => Ok(Self { chain, key, leaf }),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(Refusal::KeyMismatch)
            }
            Err(_) => Err(Refusal::UnusableKey),
        }
    }

    /// The fields of our certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.leaf
    }
}

/// All that TLS connections are made from.
#[derive(Clone)]
pub struct Settings {
    /// Our certificate; a client that logs in with a password needs none.
    pub identity: Option<Identity>,
    /// Rules for the peer's certificate.
    pub rules: Rules,
    /// `verify-client-cert none` or `optional`: a server asks for a certificate and takes a client without.
    pub optional: bool,
    /// `tls-version-min`
    pub min: Version,
    /// `tls-version-max`
    pub max: Version,
    /// The time in seconds since 1970.
    pub clock: Clock,
    /// The time from which on the clock is believed, in seconds since 1970: the build's. A router without a battery
    /// starts in 1970.
    pub build_date: u64,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("identity", &self.identity)
            .field("rules", &self.rules)
            .field("optional", &self.optional)
            .field("versions", &(self.min, self.max))
            .finish_non_exhaustive()
    }
}

/// The clock that rustls asks.
struct NotBefore {
    clock: Clock,
    build_date: u64,
}

impl fmt::Debug for NotBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotBefore({})", self.build_date)
    }
}

impl TimeProvider for NotBefore {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = (self.clock)().max(self.build_date);
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            seconds,
        )))
    }
}

/// Makes connections.
#[derive(Debug, Clone)]
pub struct Factory {
    client: Arc<ClientConfig>,
    /// None without a certificate of ours.
    server: Option<Arc<ServerConfig>>,
}

impl Factory {
    /// Checks `settings` and keeps them in rustls' form.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, Refusal> {
        let provider = Arc::new(ring::default_provider());
        let versions: Vec<&'static SupportedProtocolVersion> = [
            (Version::Tls13, &rustls::version::TLS13),
            (Version::Tls12, &rustls::version::TLS12),
        ]
        .into_iter()
        .filter(|(version, _)| (settings.min..=settings.max).contains(version))
        .map(|(_, version)| version)
        .collect();
        let time = Arc::new(NotBefore {
            clock: Arc::clone(&settings.clock),
            build_date: settings.build_date,
        });
        Ok(Self {
            client: Arc::new(client_config(settings, &provider, &versions, time.clone())?),
            server: settings
                .identity
                .as_ref()
                .map(|identity| {
                    server_config(settings, identity, &provider, &versions, time).map(Arc::new)
                })
                .transpose()?,
        })
    }
}

fn verifier(
    settings: &Settings,
    peer: Role,
    provider: &CryptoProvider,
) -> Result<Arc<Verifier>, Refusal> {
    let algorithms = provider.signature_verification_algorithms;
    let rules = settings.rules.clone();
    Verifier::new(
        rules,
        peer,
        settings.optional,
        settings.build_date,
        algorithms,
    )
    .map(Arc::new)
}

fn unusable(error: Error) -> Refusal {
    match error {
        Error::InconsistentKeys(_) => Refusal::KeyMismatch,
        other => Refusal::Protocol(other.to_string()),
    }
}

fn client_config(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    time: Arc<NotBefore>,
) -> Result<ClientConfig, Refusal> {
    let verifier = verifier(settings, Role::Server, provider)?;
    let builder = ClientConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(unusable)?,
    };
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn server_config(
    settings: &Settings,
    identity: &Identity,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    time: Arc<NotBefore>,
) -> Result<ServerConfig, Refusal> {
    let verifier = verifier(settings, Role::Client, provider)?;
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

impl TlsFactory for Factory {
    type Tls = Session;

    fn client(&self) -> Result<Session, TlsError> {
        // rustls wants a name, though neither the server nor the verifier is told it.
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
        let connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(unusable)?;
        Ok(Session::new(connection.into()))
    }

    fn server(&self) -> Result<Session, TlsError> {
        let config = self.server.as_ref();
        let config = config.ok_or(Refusal::ServerWithoutCertificate)?;
        let connection = ServerConnection::new(Arc::clone(config)).map_err(unusable)?;
        Ok(Session::new(connection.into()))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// Messages of the peer, one a record.
    records: VecDeque<Vec<u8>>,
    closed: bool,
    failed: Option<Refusal>,
}

impl Session {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            records: VecDeque::new(),
            closed: false,
            failed: None,
        }
    }

    /// Version, cipher suite and key exchange, for people: `TLSv1_3 TLS13_AES_256_GCM_SHA384 X25519`.
    pub fn summary(&self) -> Option<String> {
        let version = self.connection.protocol_version()?;
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        let group = self.connection.negotiated_key_exchange_group()?.name();
        Some(format!("{version:?} {suite:?} {group:?}"))
    }

    /// Tells the peer that nothing follows.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            self.connection
                .read_tls(&mut bytes)
                .map_err(|error| Refusal::Protocol(error.to_string()))?;
            // One of a connection before this one.
            verify::take_refusal();
            let state = self.connection.process_new_packets().map_err(refusal)?;
            self.closed |= state.peer_has_closed();
            loop {
                let mut reader = self.connection.reader();
                // An error here only says that there is nothing to read yet.
                let Ok(record) = reader.fill_buf() else { break };
                let (record, len) = (record.to_vec(), record.len());
                reader.consume(len);
                if len == 0 {
                    break;
                }
                if self.records.len() >= MAX_WAITING || len > 8 * MAX_MESSAGE {
                    return Err(Refusal::Protocol("it sends faster than is read".into()));
                }
                self.records.push_back(record);
            }
        }
        Ok(())
    }
}

impl Tls for Session {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        if let Some(refusal) = &self.failed {
            return Err(refusal.clone().into());
        }
        self.take(bytes).map_err(|refusal| {
            self.failed = Some(refusal.clone());
            refusal.into()
        })
    }

    fn pull(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // Writing into a vector cannot fail.
            if self.connection.write_tls(out).is_err() {
                break;
            }
        }
    }

    fn write(&mut self, record: &[u8]) -> Result<(), TlsError> {
        if !self.is_established() {
            return Err(Refusal::NotEstablished.into());
        }
        if record.is_empty() || record.len() > MAX_MESSAGE {
            return Err(Refusal::MessageLength.into());
        }
        let written = self.connection.writer().write(record);
        match written {
            Ok(len) if len == record.len() => Ok(()),
            _ => Err(Refusal::Protocol("the send buffer is full".into()).into()),
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, TlsError> {
        match self.records.pop_front() {
            None if self.closed => Err(Refusal::Closed.into()),
            record => Ok(record),
        }
    }

    fn is_established(&self) -> bool {
        !self.connection.is_handshaking() && self.failed.is_none()
    }

    fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        if !self.is_established() {
            return Err(Refusal::NotEstablished.into());
        }
        // No context: in TLS 1.2 an empty one gives other bytes.
        self.connection
            .export_keying_material(out, label.as_bytes(), None)
            .map(drop)
            .map_err(|error| refusal(error).into())
    }

    fn peer(&self) -> Option<PeerIdentity> {
        if !self.is_established() {
            return None;
        }
        verify::identity(self.connection.peer_certificates()?)
    }
}

/// The sentence for an error of rustls.
fn refusal(error: Error) -> Refusal {
    match error {
        Error::InvalidCertificate(kind) => match (verify::take_refusal(), kind) {
            (Some(refusal), _) => refusal,
            (None, CertificateError::BadSignature) => Refusal::BadSignature,
            (None, other) => Refusal::Chain(format!("{other:?}")),
        },
        Error::NoCertificatesPresented => Refusal::NoPeerCertificate,
        Error::AlertReceived(alert) => Refusal::Alert(alert),
        Error::PeerIncompatible(why) => Refusal::Incompatible(format!("{why:?}")),
        other => Refusal::Protocol(other.to_string()),
    }
}
