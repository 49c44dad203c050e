// SPDX-License-Identifier: GPL-2.0-only
//! Signatures: ECDSA over P-256 with SHA-512 of the schema, the signature's header and the database's own SHA-512; keys in
//! the PEM files that OpenWrt makes with openssl (SEC 1 or PKCS #8, and SubjectPublicKeyInfo).

use crate::container::{Container, Schema};
use crate::{Error, Result};
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::ecdsa::{DerSignature, Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::rand_core::OsRng;
use p256::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
};
use p256::{PublicKey, SecretKey};
use sha2::{Digest, Sha512};

/// Begins a signature: the version of its layout, and SHA-512 as apk numbers it.
const HEAD: [u8; 2] = [0, 4];
/// Bytes that tell keys apart.
const ID: usize = 16;

/// A key that signs.
pub struct Private(SecretKey);

/// A key that verifies.
#[derive(Debug, Clone, PartialEq)]
pub struct Public(PublicKey);

impl Private {
    /// Makes one of the system's random numbers.
    pub fn random() -> Self {
        Self(SecretKey::random(&mut OsRng))
    }

    /// Reads one; parameters of the curve before it, which openssl writes, are passed over.
    pub fn from_pem(pem: &str) -> Result<Self> {
        const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----";
        let key = match pem.find(SEC1).and_then(|at| pem.get(at..)) {
            Some(pem) => SecretKey::from_sec1_pem(pem).ok(),
            None => SecretKey::from_pkcs8_pem(pem).ok(),
        };
        key.map(Self).ok_or(Error::Key("it is no private one"))
    }

    /// The file, which only its owner may read.
    pub fn to_pem(&self) -> Result<String> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(|_| Error::Key("it cannot be written"))?;
        Ok(pem.to_string())
    }

    /// The public half.
    pub fn public(&self) -> Public {
        Public(self.0.public_key())
    }

    /// Adds a signature. The same key and container give the same bytes (RFC 6979).
    pub fn sign(&self, container: &mut Container) -> Result<()> {
        let id = self.public().id();
        let digest = digest(container.schema(), &id, container.database());
        let signature: Signature = SigningKey::from(&self.0)
            .sign_prehash(&digest)
            .map_err(|_| Error::Signature("it cannot be signed"))?;
        let mut block = HEAD.to_vec();
        block.extend(id);
        block.extend(signature.to_der().as_bytes());
        container.add_signature(&block)
    }
}

impl Public {
    /// Reads one.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let key = PublicKey::from_public_key_pem(pem.trim());
        key.map(Self).map_err(|_| Error::Key("it is no public one"))
    }

    /// The file that goes to /etc/apk/keys.
    pub fn to_pem(&self) -> Result<String> {
        let pem = self.0.to_public_key_pem(LineEnding::LF);
        pem.map_err(|_| Error::Key("it cannot be written"))
    }

    /// Refuses a container without a signature of this key, or with one of another database.
    pub fn verify(&self, container: &Container) -> Result<()> {
        let id = self.id();
        let digest = digest(container.schema(), &id, container.database());
        let mut by_us = false;
        for block in container.signatures() {
            let Some((head, rest)) = block.split_first_chunk::<2>() else {
                continue;
            };
            let Some((signed_by, signature)) = rest.split_first_chunk::<ID>() else {
                continue;
            };
            if *head != HEAD || *signed_by != id {
                continue;
            }
            by_us = true;
            let fits = DerSignature::from_bytes(signature)
                .and_then(|s| VerifyingKey::from(&self.0).verify_prehash(&digest, &s));
            if fits.is_ok() {
                return Ok(());
            }
        }
        Err(Error::Signature(match by_us {
            true => "the signature does not fit",
            false => "it was not signed by this key",
        }))
    }

    /// SHA-512 of the point, uncompressed: its first bytes.
    fn id(&self) -> [u8; ID] {
        let point = VerifyingKey::from(&self.0).to_encoded_point(false);
        let mut id = [0; ID];
        for (to, from) in id.iter_mut().zip(Sha512::digest(point.as_bytes())) {
            *to = from;
        }
        id
    }
}

fn digest(schema: Schema, id: &[u8; ID], database: &[u8]) -> [u8; 64] {
    Sha512::new()
        .chain_update(schema.bytes())
        .chain_update(HEAD)
        .chain_update(id)
        .chain_update(Sha512::digest(database))
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(key: &Private, database: &[u8]) -> Container {
        let mut all = Container::new(Schema::Index, database).unwrap();
        key.sign(&mut all).unwrap();
        all
    }

    #[test]
    fn keys_last_and_signatures_bind() {
        let key = Private::random();
        let again = Private::from_pem(&key.to_pem().unwrap()).unwrap();
        let public = Public::from_pem(&again.public().to_pem().unwrap()).unwrap();
        assert_eq!(public, key.public());
        let all = signed(&key, b"index");
        assert_eq!(all.bytes(), signed(&again, b"index").bytes());
        public.verify(&all).unwrap();
        let changed: Vec<u8> = all
            .bytes()
            .iter()
            .map(|b| if *b == b'x' { b'X' } else { *b })
            .collect();
        let changed = Container::read(&changed, Schema::Index);
        if let Ok(changed) = changed {
            assert!(public.verify(&changed).is_err());
        }
        let err = Private::random().public().verify(&all).unwrap_err();
        assert_eq!(err.to_string(), "it was not signed by this key");
    }

    #[test]
    fn another_database_or_schema_is_refused() {
        let key = Private::random();
        let all = signed(&key, b"index");
        let signature = all.signatures().next().unwrap();
        for (schema, database) in [(Schema::Index, b"other"), (Schema::Package, b"index")] {
            let mut other = Container::new(schema, database).unwrap();
            other.add_signature(signature).unwrap();
            let err = key.public().verify(&other).unwrap_err();
            assert_eq!(err.to_string(), "the signature does not fit");
        }
    }

    #[test]
    fn what_is_no_key() {
        let key = Private::random();
        let public = key.public().to_pem().unwrap();
        assert!(Private::from_pem(&public).is_err());
        assert!(Public::from_pem(&key.to_pem().unwrap()).is_err());
        assert!(Private::from_pem("").is_err());
    }
}
