// SPDX-License-Identifier: GPL-2.0-only
//! Certificates that live as long as a run: each router signs its own, and
//! knows the other by its fingerprint.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::run;

/// The certificate that one router shows, and the fingerprint that the other must know.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// SHA-256 of the certificate, as `peer-fingerprint` takes it.
    pub(crate) fingerprint: String,
}

/// Makes a P-256 key and a certificate for `name`, valid for a day. `scratch`
/// is a directory for openssl's files; nothing is left in it.
pub(crate) fn identity(name: &str, scratch: &Path) -> Result<Identity> {
    let key = scratch.join(format!("{name}.key"));
    let certificate = scratch.join(format!("{name}.crt"));
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"])
        .args(["-subj", &format!("/CN={name}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate))?;
    let print = run(Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&certificate))?;
    let (_, fingerprint) = print
        .trim()
        .split_once('=')
        .context("openssl prints no fingerprint")?;
    let identity = Identity {
        certificate: fs::read_to_string(&certificate)?,
        key: fs::read_to_string(&key)?,
        fingerprint: fingerprint.to_owned(),
    };
    fs::remove_file(key)?;
    fs::remove_file(certificate)?;
    Ok(identity)
}
