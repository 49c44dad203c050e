// SPDX-License-Identifier: GPL-2.0
//! Which implementation carries a key: the administrator's preference, applied to what there is.

use core::ffi::CStr;

use kernel::prelude::*;

use crate::proto::attrs::ValidKey;
use crate::proto::cipher::CipherAlg;
use crate::proto::engine::{Attempt, Preference, Rank, LIBRARY};
use crate::sys::crypto::{Aead, AsyncAead, ChaChaPoly, Cipher, DriverName, Plain};
use crate::sys::params::PreferenceText;

/// The back end that carries a key.
pub(crate) enum Backend {
    None(Plain),
    Library(ChaChaPoly),
    Api(Aead),
}

impl Backend {
    /// The cipher to call; there is none if packets come back later.
    pub(crate) fn cipher(&self) -> Option<&dyn Cipher> {
        match self {
            Backend::None(cipher) => Some(cipher),
            Backend::Library(cipher) => Some(cipher),
            Backend::Api(Aead::Sync(cipher)) => Some(cipher),
            Backend::Api(Aead::Async(_)) => None,
        }
    }

    /// The engine, if packets come back later.
    pub(crate) fn engine(&self) -> Option<&AsyncAead> {
        match self {
            Backend::Api(Aead::Async(engine)) => Some(engine),
            _ => None,
        }
    }

    /// What KEY_GET tells.
    pub(crate) fn driver(&self) -> DriverName {
        match self {
            Backend::None(_) => DriverName::new(b"none"),
            Backend::Library(_) => DriverName::new(LIBRARY),
            Backend::Api(aead) => aead.driver(),
        }
    }
}

/// A back end, and whether it is what the administrator wished for.
pub(crate) struct Choice {
    pub(crate) backend: Backend,
    pub(crate) as_wished: bool,
}

impl Choice {
    /// Tries what the preference names, in its order, and what it leaves to us. Never fails for a
    /// preference alone. `ENOMEM`, or the errno of the crypto API. May sleep.
    pub(crate) fn make(config: &ValidKey<'_>) -> Result<Choice> {
        let alg = match config.alg {
            CipherAlg::None => {
                return Ok(Choice {
                    backend: Backend::None(Plain),
                    as_wished: true,
                })
            }
            CipherAlg::AesGcm => c"gcm(aes)",
            CipherAlg::ChaCha20Poly1305 => c"rfc7539(chacha20,poly1305)",
        };
        let text = PreferenceText::of(config.alg);
        let preference = text.get();
        let mut last = ENOENT;
        for attempt in preference.attempts(config.alg == CipherAlg::ChaCha20Poly1305) {
            match run(attempt, alg, preference, config) {
                Ok(backend) => {
                    let as_wished = preference.is_met_by(attempt);
                    return Ok(Choice { backend, as_wished });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn run(
    attempt: Attempt<'_>,
    alg: &CStr,
    preference: Preference<'_>,
    config: &ValidKey<'_>,
) -> Result<Backend> {
    match attempt {
        Attempt::Named(name) => Aead::named(name, alg, config),
        Attempt::Library => return Ok(Backend::Library(ChaChaPoly::new(config)?)),
        Attempt::Ranked(rank) => Aead::ranked(rank, alg, config).and_then(|aead| {
            let unwanted = preference.excludes(aead.driver().as_bytes());
            (!unwanted).then_some(aead).ok_or(ENOENT)
        }),
        Attempt::Default if config.alg == CipherAlg::ChaCha20Poly1305 => {
            return Ok(Backend::Library(ChaChaPoly::new(config)?))
        }
        Attempt::Default => Aead::ranked(Rank::Sync, alg, config),
    }
    .map(Backend::Api)
}
