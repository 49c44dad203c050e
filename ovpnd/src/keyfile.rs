// SPDX-License-Identifier: GPL-2.0-or-later
//! OpenVPN's static key files, as `openvpn --genkey secret` writes them: 256 bytes in hexadecimal between a
//! BEGIN and an END line.
//!
//! The bytes are two sets of [cipher key 64][HMAC key 64]. With `key_direction` 0 a side sends with set 0 and
//! receives with set 1, with 1 the other way round. AEAD ciphers take the first bytes of a set's cipher key
//! and, as the nonce's tail, the first 8 bytes of its HMAC key: the layout that OpenVPN gives the keys of its
//! TLS handshake.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use ovpn_netlink::{Cipher, KeyDir, NONCE_TAIL_LEN, ValueError};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_LEN: usize = 256;
const SET_LEN: usize = 128;
const HMAC_AT: usize = 64;
const BEGIN: &str = "-----BEGIN OpenVPN Static key V1-----";
const END: &str = "-----END OpenVPN Static key V1-----";
/// A key file is about 640 bytes; comments may make it longer.
const MAX_FILE: u64 = 16 * 1024;

/// Which of the two sets a side sends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// `0`: sends with set 0, as the client of a handshake does.
    Normal,
    /// `1`: sends with set 1.
    Inverse,
}

impl FromStr for Direction {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "0" => Ok(Self::Normal),
            "1" => Ok(Self::Inverse),
            _ => Err(ValueError(format!(
                "\"{}\" is no key direction (0 on one side, 1 on the other)",
                text.escape_debug()
            ))),
        }
    }
}

/// The content of a key file. Wiped when the last copy is dropped; never printed.
#[derive(Clone)]
pub struct StaticKey {
    bytes: Arc<Zeroizing<[u8; KEY_LEN]>>,
    /// Of `bytes`: a thousand peers are told apart by it.
    digest: [u8; 32],
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticKey({})", self.fingerprint())
    }
}

impl StaticKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// A sentence without the file's name: it cannot be read, others can read it, or it is no key file.
    pub fn load(path: &Path) -> Result<Self, String> {
        let (file, meta) = open_regular(path).map_err(|why| why.to_string())?;
        if meta.mode() & 0o077 != 0 {
            return Err(format!(
                "is readable by others (mode {:04o}): chmod 600 it",
                meta.mode() & 0o7777
            ));
        }
        if meta.len() > MAX_FILE {
            return Err(format!(
                "is no OpenVPN static key: longer than {MAX_FILE} bytes"
            ));
        }
        // Room for all of it from the start, and for the read that finds its end: a buffer that grows leaves copies
        // behind. No more than that, as all of it is wiped.
        let size = usize::try_from(meta.len()).unwrap_or(0);
        let mut text = Zeroizing::new(Vec::with_capacity(size.max(2 * KEY_LEN) + 64));
        file.take(meta.len())
            .read_to_end(&mut text)
            .map_err(|error| format!("cannot be read: {}", reason(&error)))?;
        Self::parse(&text).map_err(|why| format!("is no OpenVPN static key: {why}"))
    }

    /// Reads the content of a key file.
    ///
    /// # Errors
    /// The fault, without repeating any of the text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        let mut digits = 0;
        let mut lines = text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .enumerate();
        if !lines.any(|(_, line)| line == BEGIN.as_bytes()) {
            return Err("it has no line \"BEGIN OpenVPN Static key V1\"".into());
        }
        for (number, line) in lines {
            if line == END.as_bytes() {
                return match digits {
                    n if n == 2 * KEY_LEN => Ok(Self::new(bytes)),
                    n => Err(format!(
                        "it has {n} hexadecimal digits instead of {}",
                        2 * KEY_LEN
                    )),
                };
            }
            for byte in line {
                let value = char::from(*byte)
                    .to_digit(16)
                    .and_then(|value| u8::try_from(value).ok());
                let value =
                    value.ok_or_else(|| format!("line {} is not hexadecimal", number + 1))?;
                let Some(slot) = bytes.get_mut(digits / 2) else {
                    return Err(format!(
                        "it has more than {} hexadecimal digits",
                        2 * KEY_LEN
                    ));
                };
                *slot = *slot << 4 | value;
                digits += 1;
            }
        }
        Err("it is cut off: there is no line \"END OpenVPN Static key V1\"".into())
    }

    /// Makes a key of random bytes.
    ///
    /// # Errors
    /// When the system's random source cannot be read.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        File::open("/dev/urandom")?.read_exact(bytes.as_mut_slice())?;
        Ok(Self::new(bytes))
    }

    fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self {
            digest: Sha256::digest(bytes.as_slice()).into(),
            bytes: Arc::new(bytes),
        }
    }

    /// SHA-256 of the 256 bytes: equal when they are.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The content of a key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str("#\n# 2048 bit OpenVPN static key\n#\n");
        text.push_str(BEGIN);
        for (index, byte) in self.bytes.iter().enumerate() {
            if index % 16 == 0 {
                text.push('\n');
            }
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        text
    }

    /// SHA-256 of the 256 bytes, in hexadecimal. The bytes are random, so it gives nothing away.
    pub fn fingerprint(&self) -> String {
        let digits = self.digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut hex = String::with_capacity(2 * self.digest.len());
        hex.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
        hex
    }

    /// The secrets to (encrypt, decrypt) with.
    pub fn directions(&self, cipher: Cipher, direction: Direction) -> (KeyDir, KeyDir) {
        let (send, receive) = match direction {
            Direction::Normal => (0, SET_LEN),
            Direction::Inverse => (SET_LEN, 0),
        };
        (self.set(send, cipher), self.set(receive, cipher))
    }

    fn set(&self, at: usize, cipher: Cipher) -> KeyDir {
        let mut nonce_tail = Zeroizing::new([0; NONCE_TAIL_LEN]);
        for (to, from) in nonce_tail
            .iter_mut()
            .zip(self.bytes.iter().skip(at + HMAC_AT))
        {
            *to = *from;
        }
        let cipher_key = self
            .bytes
            .iter()
            .skip(at)
            .take(cipher.key_len())
            .copied()
            .collect();
        KeyDir {
            cipher_key: Zeroizing::new(cipher_key),
            nonce_tail,
        }
    }
}

/// Why a file that somebody named is not open.
#[derive(Debug)]
pub(crate) enum NotOpen {
    /// It is a directory, a device, a pipe.
    NotRegular,
    /// The error of the system.
    Failed(io::Error),
}

impl From<io::Error> for NotOpen {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for NotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::Failed(error) => write!(f, "cannot be read: {}", reason(error)),
        }
    }
}

/// Opens a regular file to read it. Never waits: opening a pipe would, until somebody writes into it.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), NotOpen> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    match meta.is_file() {
        true => Ok((file, meta)),
        false => Err(NotOpen::NotRegular),
    }
}

/// An error's text without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    /// Bytes 0, 1, 2, ... 255.
    fn counting() -> String {
        let hex: String = (0..=255u8)
            .map(|byte| format!("{byte:02x}{}", if byte % 16 == 15 { "\n" } else { "" }))
            .collect();
        format!("#\n# comment\n#\n{BEGIN}\n{hex}{END}\n")
    }

    fn key() -> StaticKey {
        StaticKey::parse(counting().as_bytes()).unwrap()
    }

    #[test]
    fn the_sides_use_each_others_sets() {
        let (encrypt, decrypt) = key().directions(Cipher::Aes128Gcm, Direction::Normal);
        assert_eq!(*encrypt.cipher_key, (0..16).collect::<Vec<u8>>());
        assert_eq!(*encrypt.nonce_tail, [64, 65, 66, 67, 68, 69, 70, 71]);
        assert_eq!(*decrypt.cipher_key, (128..144).collect::<Vec<u8>>());
        assert_eq!(
            *decrypt.nonce_tail,
            [192, 193, 194, 195, 196, 197, 198, 199]
        );
        let (other_encrypt, other_decrypt) =
            key().directions(Cipher::Aes128Gcm, Direction::Inverse);
        assert_eq!(
            (other_encrypt.cipher_key, other_encrypt.nonce_tail),
            (decrypt.cipher_key, decrypt.nonce_tail)
        );
        assert_eq!(
            (other_decrypt.cipher_key, other_decrypt.nonce_tail),
            (encrypt.cipher_key, encrypt.nonce_tail)
        );
    }

    #[test]
    fn key_lengths_follow_the_cipher() {
        for (cipher, len) in [
            (Cipher::Aes128Gcm, 16),
            (Cipher::Aes192Gcm, 24),
            (Cipher::Aes256Gcm, 32),
            (Cipher::Chacha20Poly1305, 32),
        ] {
            assert_eq!(
                key()
                    .directions(cipher, Direction::Normal)
                    .0
                    .cipher_key
                    .len(),
                len
            );
        }
    }

    #[test]
    fn fingerprint_is_sha256_of_the_bytes() {
        // printf of bytes 0 to 255 | sha256sum
        let expected = "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880";
        assert_eq!(key().fingerprint(), expected);
        assert_eq!(format!("{:?}", key()), format!("StaticKey({expected})"));
    }

    #[test]
    fn broken_files_are_told_apart() {
        let whole = counting();
        for (text, why) in [
            (String::new(), "no line \"BEGIN"),
            (whole.replace("BEGIN", "BEGUN"), "no line \"BEGIN"),
            (whole.replace(END, ""), "cut off"),
            (whole.get(..400).unwrap().to_owned(), "cut off"),
            (whole.replace("00010203", ""), "504 hexadecimal digits"),
            (
                whole.replace("00010203", "0001020"),
                "511 hexadecimal digits",
            ),
            (whole.replace("00010203", "0001020300"), "more than 512"),
            (
                whole.replace("00010203", "0001020g"),
                "line 5 is not hexadecimal",
            ),
        ] {
            let error = StaticKey::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error:?} does not say {why:?}");
        }
    }

    #[test]
    fn files_others_can_read_are_refused() {
        let dir = std::env::temp_dir().join(format!("ovpnd-keyfile-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("key");
        assert_eq!(
            StaticKey::load(&path).unwrap_err(),
            "cannot be read: no such file"
        );
        assert_eq!(StaticKey::load(&dir).unwrap_err(), "is not a regular file");
        let pipe = dir.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        // A thread of its own: who opens a pipe may wait for ever.
        std::thread::spawn(move || tell.send(StaticKey::load(&pipe)));
        let loaded = told.recv_timeout(Duration::from_secs(20)).expect("waits");
        assert_eq!(loaded.unwrap_err(), "is not a regular file");
        fs::write(&path, counting()).unwrap();
        for (mode, refused) in [
            (0o600, false),
            (0o400, false),
            (0o640, true),
            (0o604, true),
            (0o644, true),
            (0o620, true),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = StaticKey::load(&path).err();
            assert_eq!(
                error.is_some_and(|why| why.contains("readable by others")),
                refused,
                "{mode:o}"
            );
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn generated_keys_differ() {
        let keys = [
            StaticKey::generate().unwrap(),
            StaticKey::generate().unwrap(),
        ];
        assert_ne!(keys[0].fingerprint(), keys[1].fingerprint());
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes in prop::collection::vec(any::<u8>(), KEY_LEN)) {
            let bytes: [u8; KEY_LEN] = bytes.try_into().unwrap();
            let key = StaticKey::new(Zeroizing::new(bytes));
            let read = StaticKey::parse(key.to_text().as_bytes()).unwrap();
            prop_assert_eq!(read.bytes.as_slice(), &bytes);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = format!("{BEGIN}\n").into_bytes();
            text.extend(&bytes);
            let _ = (StaticKey::parse(&bytes), StaticKey::parse(&text));
        }
    }
}
