// SPDX-License-Identifier: GPL-2.0-or-later
//! The certificate authority of a server on this router: a directory with its certificate and key, those of the server, a key
//! of tls-crypt-v2, the list of revoked certificates, and the certificates of clients.
//!
//! The key of a client is made here and given away with its profile; it is kept nowhere, so that a later reader of
//! this router's flash cannot pretend to be that client. A lost profile is made anew, and the old certificate revoked.
//!
//! A change holds a lock on the directory; each file changes whole or not at all.

mod export;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use openvpn_control::der::Certificate;
use openvpn_control::generate::{self, Made, Term};
use openvpn_control::keys::Role;
use openvpn_control::pem;
use openvpn_control::verify::Revoked;
use openvpn_control::wrap::text;
use ovpn_netlink::MAX_NAME;
use zeroize::Zeroizing;

use crate::api::save;
use crate::config::vpn::{build_date, unix_time};

pub use export::{Exported, Wish, export};

const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERT: &str = "server.crt";
const KEY: &str = "server.key";
const WRAP: &str = "tls-crypt-v2.key";
const CRL: &str = "crl.pem";
/// Directory of the clients' certificates.
const CLIENTS: &str = "clients";
/// Longest name of a client: a common name's (RFC 5280, ub-common-name).
const MAX_CLIENT: usize = 64;
/// Years for which a CA and its server's certificate are made.
pub const CA_YEARS: u16 = 20;
/// Years for which a client's certificate is made.
pub const CLIENT_YEARS: u16 = 5;

/// Why something is not done, and the argument that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The argument of the call.
    pub argument: &'static str,
    /// A sentence without key material.
    pub why: String,
}

impl Fault {
    fn new(argument: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { argument, why }
    }
}

/// The time for certificates, in seconds since 1970: a router without a battery begins in 1970, and no certificate may be of
/// a time before this program.
pub fn now() -> u64 {
    at(unix_time())
}

/// The same by a clock that shows `clock`.
fn at(clock: u64) -> u64 {
    clock.max(build_date())
}

/// A certificate, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its common name.
    pub name: String,
    /// Its number in hexadecimal.
    pub serial: String,
    /// Seconds since 1970 until which it is valid.
    pub not_after: i64,
    /// Days until then; negative when it has expired.
    pub days_left: i64,
    /// It is in the list of revoked ones.
    pub revoked: bool,
}

/// An authority with all that it has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Itself.
    pub ca: Shown,
    /// The server.
    pub server: Shown,
    /// Clients, by name.
    pub clients: Vec<Shown>,
}

/// The authority of one interface.
#[derive(Debug, Clone)]
pub struct Authority {
    name: String,
    dir: PathBuf,
}

/// Held while the directory changes.
type Lock = Flock<File>;

fn random(out: &mut [u8]) {
    if getrandom::getrandom(out).is_err() {
        // Keys that somebody could guess are worse than none.
        std::process::abort();
    }
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Fault {
    Fault::new("interface", format!("{}: {why}", path.display()))
}

impl Authority {
    /// The authority of the interface `name`, in a directory of this name below `keys`.
    ///
    /// # Errors
    /// The name is none of an interface.
    pub fn of(keys: &Path, name: &str) -> Result<Self, Fault> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_word) {
            let why = format!("must have up to {MAX_NAME} letters, digits and _");
            return Err(Fault::new("interface", why));
        }
        Ok(Self {
            name: name.to_owned(),
            dir: keys.join(name),
        })
    }

    /// Options of UCI and the files that they are to name.
    pub fn options(&self) -> [(&'static str, PathBuf); 5] {
        [
            ("ca", CA),
            ("cert", CERT),
            ("key", KEY),
            ("tls_crypt_v2", WRAP),
            ("crl_verify", CRL),
        ]
        .map(|(option, file)| (option, self.dir.join(file)))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the authority, a certificate for the server with further `names`, a key of tls-crypt-v2 and an empty list of
    /// revoked certificates. All of it is there afterwards, or nothing.
    ///
    /// # Errors
    /// There is one already, a name cannot be, or a file cannot be written.
    pub fn init(&self, names: &[&str], years: u16, now: u64) -> Result<(), Fault> {
        let term = Term { years, now };
        let ca = generate::ca(&format!("{}-ca", self.name), term, &mut random)
            .map_err(|why| Fault::new("years", why))?;
        let server = format!("{}-server", self.name);
        let server = generate::issue(&ca, Role::Server, &server, names, term, &mut random)
            .map_err(|why| Fault::new("names", why))?;
        let list = generate::revocation_list(&ca, None, None, now)
            .map_err(|why| Fault::new("interface", why))?;
        let wrap = text::new_server_key(&mut random);
        let new = self
            .dir
            .with_file_name(format!(".{}.new.{}", self.name, std::process::id()));
        let _ = fs::remove_dir_all(&new);
        let write = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(new.join(CLIENTS))?;
            for (name, text) in [
                (CA, ca.cert.as_str()),
                (CA_KEY, &ca.key),
                (CERT, &server.cert),
                (KEY, &server.key),
                (WRAP, &wrap),
                (CRL, &list),
            ] {
                save(&new.join(name), text.as_bytes(), false)?;
            }
            fs::rename(&new, &self.dir)
        };
        write().map_err(|error: std::io::Error| {
            let _ = fs::remove_dir_all(&new);
            failed(
                &self.dir,
                match self.dir.exists() {
                    true => "is there already: delete it to begin anew".to_owned(),
                    false => format!("cannot be written: {error}"),
                },
            )
        })
    }

    fn lock(&self) -> Result<Lock, Fault> {
        let dir = File::open(self.dir.join(CA_KEY)).and_then(|_| File::open(&self.dir));
        let dir = dir.map_err(|error| {
            failed(
                &self.dir,
                match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        "has no certificate authority made here".to_owned()
                    }
                    _ => error.to_string(),
                },
            )
        })?;
        Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, error)| failed(&self.dir, error))
    }

    fn read(&self, name: &str) -> Result<Zeroizing<String>, Fault> {
        let path = self.dir.join(name);
        let text = fs::read_to_string(&path);
        text.map(Zeroizing::new)
            .map_err(|error| failed(&path, error))
    }

    fn ca(&self) -> Result<Made, Fault> {
        Ok(Made {
            cert: self.read(CA)?.to_string(),
            key: self.read(CA_KEY)?,
        })
    }

    fn revoked(&self) -> Result<Revoked, Fault> {
        let text = self.read(CRL)?;
        Revoked::read(text.as_bytes()).map_err(|why| failed(&self.dir.join(CRL), why))
    }

    fn certificate(&self, name: &str) -> Result<Certificate, Fault> {
        let path = self.dir.join(name);
        certificate(&self.read(name)?).map_err(|why| failed(&path, why))
    }

    /// The certificate of a client, if it has one.
    fn client(&self, name: &str) -> Result<Option<Certificate>, Fault> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
        if name.is_empty()
            || name.len() > MAX_CLIENT
            || name.starts_with(['.', '-'])
            || !name.bytes().all(fits)
        {
            let why = format!(
                "must have up to {MAX_CLIENT} letters, digits, '.', '_', '-' and '@', and begin with one of the first three"
            );
            return Err(Fault::new("client", why));
        }
        let file = client_file(name);
        match self.dir.join(&file).exists() {
            true => self.certificate(&file).map(Some),
            false => Ok(None),
        }
    }

    /// Makes a certificate and a key for a client; the key is not kept. With `renew` a certificate that it has is revoked.
    ///
    /// # Errors
    /// The name cannot be or has a certificate, or a file cannot be read or written.
    pub fn issue(&self, client: &str, years: u16, renew: bool, now: u64) -> Result<Made, Fault> {
        let _lock = self.lock()?;
        let old = self.client(client)?;
        let revoked = self.revoked()?;
        let old = old.filter(|old| !revoked.has(&old.serial) && old.days_left(now) >= 0);
        if old.is_some() && !renew {
            let why = "has a certificate already: ask to renew it, which revokes that one";
            return Err(Fault::new("client", why));
        }
        let ca = self.ca()?;
        let term = Term { years, now };
        let made = generate::issue(&ca, Role::Client, client, &[], term, &mut random)
            .map_err(|why| Fault::new("client", why))?;
        if let Some(old) = old {
            self.add_to_list(&ca, &old.serial, now)?;
        }
        let path = self.dir.join(client_file(client));
        save(&path, made.cert.as_bytes(), true).map_err(|error| failed(&path, error))?;
        Ok(made)
    }

    fn add_to_list(&self, ca: &Made, serial: &[u8], now: u64) -> Result<(), Fault> {
        let path = self.dir.join(CRL);
        let old = self.read(CRL)?;
        let list = generate::revocation_list(ca, Some(old.as_bytes()), Some(serial), now)
            .map_err(|why| failed(&path, why))?;
        save(&path, list.as_bytes(), true).map_err(|error| failed(&path, error))
    }

    /// Revokes the certificate of a client.
    ///
    /// # Errors
    /// The client has none or it was revoked before, or a file cannot be read or written.
    pub fn revoke(&self, client: &str, now: u64) -> Result<(), Fault> {
        let _lock = self.lock()?;
        let found = self.client(client)?;
        let found = found.ok_or_else(|| Fault::new("client", "has no certificate"))?;
        if self.revoked()?.has(&found.serial) {
            return Err(Fault::new("client", "was revoked before"));
        }
        self.add_to_list(&self.ca()?, &found.serial, now)
    }

    /// All that was issued.
    ///
    /// # Errors
    /// There is no authority, or a file cannot be read.
    pub fn list(&self, now: u64) -> Result<Listing, Fault> {
        let _lock = self.lock()?;
        let revoked = self.revoked()?;
        let shown = |file: &str| {
            let read = self.certificate(file)?;
            Ok(Shown {
                serial: read.serial.iter().map(|b| format!("{b:02x}")).collect(),
                not_after: read.not_after,
                days_left: read.days_left(now),
                revoked: revoked.has(&read.serial),
                name: read.common_name.unwrap_or_default(),
            })
        };
        let dir = self.dir.join(CLIENTS);
        let entries = fs::read_dir(&dir).map_err(|error| failed(&dir, error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".crt")).collect();
        names.sort();
        let clients = names.iter().map(|name| shown(&format!("{CLIENTS}/{name}")));
        Ok(Listing {
            ca: shown(CA)?,
            server: shown(CERT)?,
            clients: clients.collect::<Result<_, Fault>>()?,
        })
    }
}

fn client_file(name: &str) -> String {
    format!("{CLIENTS}/{name}.crt")
}

fn certificate(text: &str) -> Result<Certificate, String> {
    let chain = pem::certificates(text.as_bytes()).map_err(|why| why.to_string())?;
    let first = chain.first().ok_or("has no certificate")?;
    Certificate::parse(first).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests;
