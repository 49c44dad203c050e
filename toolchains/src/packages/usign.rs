// SPDX-License-Identifier: GPL-2.0-only
//! Keys and signatures of OpenWrt's usign, which are those of OpenBSD's signify: Ed25519 (RFC 8032) over the file, and
//! a comment line before the base64 of a fixed structure.

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha512};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Begins every structure: the algorithm.
const ED25519: &[u8; 2] = b"Ed";
/// The secret key's next field: how a password is stretched. Zero rounds follow: there is none.
const BCRYPT: &[u8; 2] = b"BK";
/// Bytes of the number that tells keys apart.
const NUMBER: usize = 8;

/// A key that signs.
pub struct Key {
    number: [u8; NUMBER],
    signing: SigningKey,
}

impl Key {
    /// Reads the secret key at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no secret key", path.display()))
    }

    /// Reads the secret key at `path`, or makes one there, readable by its owner alone.
    pub fn load_or_make(path: &Path) -> Result<Self> {
        if path.exists() {
            return Self::load(path);
        }
        let mut random = [0; 40];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let (number, seed) = random.split_first_chunk().context("not enough")?;
        let key = Self {
            number: *number,
            signing: SigningKey::try_from(seed)?,
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        file.write_all(key.secret().as_bytes())?;
        Ok(key)
    }

    fn parse(text: &str) -> Result<Self> {
        let data = decode(text, 104)?;
        let (head, rest) = data.split_at(8);
        ensure!(head.starts_with(ED25519), "it is not for Ed25519");
        ensure!(head.ends_with(&[0; 4]), "it is locked with a password");
        // After 16 bytes of salt.
        let (checksum, rest) = rest.split_at(16).1.split_at(8);
        let (number, pair) = rest.split_at(NUMBER);
        ensure!(
            Sha512::digest(pair).starts_with(checksum),
            "its checksum is another"
        );
        Ok(Self {
            number: number.try_into()?,
            signing: SigningKey::from_keypair_bytes(pair.try_into()?)?,
        })
    }

    fn secret(&self) -> String {
        let pair = self.signing.to_keypair_bytes();
        let salt_and_rounds = [0; 20];
        let checksum: Vec<u8> = Sha512::digest(pair).into_iter().take(8).collect();
        let parts: [&[u8]; 6] = [
            ED25519,
            BCRYPT,
            &salt_and_rounds,
            &checksum,
            &self.number,
            &pair,
        ];
        encode("private key", &parts.concat())
    }

    /// The public key's file.
    pub fn public(&self) -> String {
        let key = self.signing.verifying_key();
        let parts: [&[u8]; 3] = [ED25519, &self.number, key.as_bytes()];
        encode(&format!("public key {}", self.name()), &parts.concat())
    }

    /// What opkg calls the public key's file in /etc/opkg/keys.
    pub fn name(&self) -> String {
        self.number.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The signature's file.
    pub fn sign(&self, data: &[u8]) -> String {
        let signature = self.signing.sign(data).to_bytes();
        let parts: [&[u8]; 3] = [ED25519, &self.number, &signature];
        encode(&format!("signed by key {}", self.name()), &parts.concat())
    }
}

/// Refuses data that the signature is not of, and a signature by another key.
pub fn verify(public: &str, signature: &str, data: &[u8]) -> Result<()> {
    let public = decode(public, 42).context("the public key")?;
    let signature = decode(signature, 74).context("the signature")?;
    let (head, key) = public.split_at(2 + NUMBER);
    let (signed_by, signature) = signature.split_at(2 + NUMBER);
    ensure!(head == signed_by, "it was signed by another key");
    let key = VerifyingKey::from_bytes(key.try_into()?)?;
    let signature = Signature::from_slice(signature)?;
    key.verify_strict(data, &signature)
        .context("the signature does not fit")
}

fn encode(comment: &str, data: &[u8]) -> String {
    format!(
        "untrusted comment: {comment}\n{}\n",
        BASE64_STANDARD.encode(data)
    )
}

fn decode(text: &str, bytes: usize) -> Result<Vec<u8>> {
    let line = text.lines().nth(1).context("it has no second line")?;
    let data = BASE64_STANDARD.decode(line.trim())?;
    ensure!(
        data.len() == bytes && data.starts_with(ED25519),
        "it is not of {bytes} bytes for Ed25519"
    );
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::Command;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("lane-usign-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn keys_last_and_signatures_bind() {
        let dir = scratch("bind");
        let path = dir.join("keys/secret");
        let key = Key::load_or_make(&path).unwrap();
        let again = Key::load_or_make(&path).unwrap();
        assert_eq!(key.public(), again.public());
        let signature = key.sign(b"index");
        assert_eq!(signature, again.sign(b"index"));
        verify(&key.public(), &signature, b"index").unwrap();
        assert!(verify(&key.public(), &signature, b"Index").is_err());
        let other = Key::load_or_make(&dir.join("other")).unwrap();
        let err = verify(&other.public(), &signature, b"index").unwrap_err();
        assert_eq!(err.to_string(), "it was signed by another key");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn broken_keys_are_refused() {
        let dir = scratch("broken");
        let path = dir.join("secret");
        Key::load_or_make(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let (comment, data) = good.split_once('\n').unwrap();
        let mut bytes = BASE64_STANDARD.decode(data.trim()).unwrap();
        for (at, text) in [
            (7, "it is locked with a password"),
            (103, "its checksum is another"),
        ] {
            bytes[at] ^= 1;
            fs::write(
                &path,
                format!("{comment}\n{}\n", BASE64_STANDARD.encode(&bytes)),
            )
            .unwrap();
            let err = Key::load_or_make(&path).err().unwrap();
            assert_eq!(err.root_cause().to_string(), text);
            bytes[at] ^= 1;
        }
        fs::remove_dir_all(dir).unwrap();
    }

    /// OpenSSL, which shares no code with us, takes the signature.
    #[test]
    fn openssl_agrees() {
        let dir = scratch("openssl");
        let key = Key::load_or_make(&dir.join("secret")).unwrap();
        // SubjectPublicKeyInfo of an Ed25519 key, RFC 8410.
        let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
        der.extend(&decode(&key.public(), 42).unwrap()[10..]);
        fs::write(dir.join("key"), der).unwrap();
        fs::write(dir.join("data"), "index").unwrap();
        fs::write(
            dir.join("signature"),
            &decode(&key.sign(b"index"), 74).unwrap()[10..],
        )
        .unwrap();
        let done = Command::new("openssl")
            .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER"])
            .args(["-inkey", "key", "-in", "data", "-sigfile", "signature"])
            .current_dir(&dir)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        fs::remove_dir_all(dir).unwrap();
    }
}
