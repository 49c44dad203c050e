// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verifies certificates that a P-256 or P-384 key signed with SHA-512, as EasyRSA does with `digest sha512`. ring has
//! these curves with SHA-256 and SHA-384 only.

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use sha2::{Digest, Sha512};

/// Both algorithms, for chains.
pub(crate) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[&P256, &P384];

#[derive(Debug)]
struct P256;

#[derive(Debug)]
struct P384;

impl SignatureVerificationAlgorithm for P256 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(public_key);
        let signature = p256::ecdsa::Signature::from_der(signature);
        key.and_then(|key| key.verify_prehash(&Sha512::digest(message), &signature?))
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

impl SignatureVerificationAlgorithm for P384 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(public_key);
        let signature = p384::ecdsa::Signature::from_der(signature);
        key.and_then(|key| key.verify_prehash(&Sha512::digest(message), &signature?))
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P384
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}
