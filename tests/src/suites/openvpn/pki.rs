// SPDX-License-Identifier: GPL-2.0-only
//! Certificates that sign themselves, known to the other end by their fingerprints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, fs};

use crate::lab::Cmd;
use crate::tap::{During, Failure, Outcome};

/// Fingerprints by name.
static MADE: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Directory of keys, configurations and everything else that OpenVPN reads and writes: in the guest's memory, gone
/// with it.
pub fn dir() -> Outcome<&'static Path> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir =
        DIR.get_or_init(|| env::temp_dir().join(format!("ovpn-tests-{}", std::process::id())));
    fs::create_dir_all(dir).during(dir.display())?;
    Ok(dir)
}

/// Fingerprint of a name's certificate; `NAME.key` and `NAME.crt` are made at the first time.
pub fn fingerprint(name: &str) -> Outcome<String> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = made.get(name) {
        return Ok(known.clone());
    }
    let dir = dir()?;
    let (key, cert) = (
        dir.join(format!("{name}.key")),
        dir.join(format!("{name}.crt")),
    );
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    Cmd::new(
        None,
        &format!("openssl req -x509 {curve} -subj /CN={name} -days 30 -keyout"),
    )
    .arg(&key)
    .arg("-out")
    .arg(&cert)
    .ok()?;
    let out = Cmd::new(None, "openssl x509 -noout -fingerprint -sha256 -in")
        .arg(&cert)
        .ok()?;
    let (_, value) = out
        .trim()
        .split_once('=')
        .ok_or_else(|| Failure::new(out.clone()))?;
    made.insert(name.to_owned(), value.to_owned());
    Ok(value.to_owned())
}
