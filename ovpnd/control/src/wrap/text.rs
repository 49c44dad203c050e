// SPDX-License-Identifier: MIT OR Apache-2.0
//! Key files as `openvpn --genkey` writes them: hexadecimal for static keys, base64 for tls-crypt-v2, between a BEGIN
//! and an END line. Other lines, before and behind, are comments.

use zeroize::Zeroizing;

use super::v2::{ClientKey, SERVER_KEY_LEN, ServerKey};
use super::{STATIC_KEY_LEN, StaticKey};
use crate::env::Random;
use crate::pem;

const STATIC: &str = "OpenVPN Static key V1";
const CLIENT: &str = "OpenVPN tls-crypt-v2 client key";
const SERVER: &str = "OpenVPN tls-crypt-v2 server key";
/// The first byte of a note that is a time (tls_crypt.c, TLS_CRYPT_METADATA_TYPE_TIMESTAMP).
const TIME_OF_MAKING: u8 = 1;
/// The longest content: a client key with its wrapped key, with room to spare.
const MAX_BYTES: usize = 2048;

/// Reads a static key, of `openvpn --genkey secret`, for tls-auth and tls-crypt.
///
/// # Errors
/// A sentence without any of the content: the kind of key is another one, or it has another size.
pub fn static_key(text: &[u8]) -> Result<StaticKey, String> {
    let bytes = content(text, STATIC, hexadecimal)?;
    let bytes: &[u8; STATIC_KEY_LEN] = sized(&bytes)?;
    Ok(StaticKey::new(bytes))
}

/// Reads a key of `openvpn --genkey tls-crypt-v2-client`.
///
/// # Errors
/// As [`static_key`].
pub fn client_key(text: &[u8]) -> Result<ClientKey, String> {
    let bytes = content(text, CLIENT, base64)?;
    ClientKey::parse(&bytes).map_err(|why| why.to_string())
}

/// Reads a key of `openvpn --genkey tls-crypt-v2-server`.
///
/// # Errors
/// As [`static_key`].
pub fn server_key(text: &[u8]) -> Result<ServerKey, String> {
    let bytes = content(text, SERVER, base64)?;
    let bytes: &[u8; SERVER_KEY_LEN] = sized(&bytes)?;
    Ok(ServerKey::new(bytes))
}

/// Makes a key file as `openvpn --genkey tls-crypt-v2-server` does.
pub fn new_server_key(random: &mut dyn Random) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SERVER_KEY_LEN]);
    random.fill(bytes.as_mut_slice());
    pem::write(SERVER, bytes.as_slice())
}

/// Makes a client's key file as `openvpn --tls-crypt-v2 SERVER --genkey tls-crypt-v2-client` does: its note is the time of
/// its making, `now` in seconds since 1970.
///
/// # Errors
/// Never for a note of this size.
pub fn new_client_key(
    server: &ServerKey,
    now: u64,
    random: &mut dyn Random,
) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new([0; STATIC_KEY_LEN]);
    random.fill(bytes.as_mut_slice());
    let key = StaticKey::new(&bytes);
    let note = [&[TIME_OF_MAKING][..], &now.to_be_bytes()].concat();
    let wrapped = server.wrap(&key, &note).map_err(|why| why.to_string())?;
    let content = Zeroizing::new([key.bytes(), wrapped.bytes()].concat());
    Ok(pem::write(CLIENT, &content))
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], String> {
    let why = || format!("it has {} bytes instead of {N}", bytes.len());
    bytes.try_into().map_err(|_| why())
}

type Secret = Zeroizing<Vec<u8>>;

fn content(
    text: &[u8],
    kind: &str,
    decode: fn(&[u8], &mut Secret) -> Option<()>,
) -> Result<Secret, String> {
    let begin = format!("-----BEGIN {kind}-----");
    let end = format!("-----END {kind}-----");
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    if !lines.any(|line| line == begin.as_bytes()) {
        return Err(format!("it has no line \"{begin}\""));
    }
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    for line in lines {
        if line == end.as_bytes() {
            let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
            return match decode(&digits, &mut bytes) {
                Some(()) if bytes.len() <= MAX_BYTES => Ok(bytes),
                Some(()) => Err(format!("it has more than {MAX_BYTES} bytes")),
                None => Err("a character of it is no digit".into()),
            };
        }
        digits.extend_from_slice(line);
    }
    Err(format!("it has no line \"{end}\""))
}

fn hexadecimal(digits: &[u8], out: &mut Secret) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for pair in digits.chunks(2) {
        let &[high, low] = pair else { return None };
        out.push(u8::try_from(16 * digit(high)? + digit(low)?).ok()?);
    }
    Some(())
}

/// Decodes base64 (RFC 4648 section 4); `None` for anything else.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    base64(text.as_bytes(), &mut bytes)?;
    Some(bytes.to_vec())
}

/// Base64 (RFC 4648 section 4).
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap_or(0);
            let digit = DIGITS.get(digit).filter(|_| at as usize <= group.len());
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

fn base64(digits: &[u8], out: &mut Secret) -> Option<()> {
    let mut pairs = digits.len();
    while pairs > 0 && digits.len() - pairs < 2 && digits.get(pairs - 1) == Some(&b'=') {
        pairs -= 1;
    }
    if digits.len() % 4 != 0 {
        return None;
    }
    for group in digits.get(..pairs)?.chunks(4) {
        let mut bits = 0u32;
        for byte in group {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = (bits << 6) | u32::from(value);
        }
        let missing = 4 - group.len();
        bits <<= 6 * missing;
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.extend_from_slice(bytes.get(..3usize.checked_sub(missing)?)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::static_key as key;
    use super::*;
    use proptest::prelude::*;

    fn encoded(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = group.iter().enumerate().fold(0u32, |bits, (at, byte)| {
                bits | u32::from(*byte) << (16 - 8 * at)
            });
            for at in 0..4 {
                match at <= group.len() {
                    true => text.push(char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63])),
                    false => text.push('='),
                }
            }
        }
        text
    }

    fn file(kind: &str, body: &str) -> Vec<u8> {
        let lines: Vec<_> = body
            .as_bytes()
            .chunks(64)
            .map(|l| String::from_utf8_lossy(l))
            .collect();
        format!(
            "# comment\r\n-----BEGIN {kind}-----\r\n{}\r\n-----END {kind}-----\n",
            lines.join("\n")
        )
        .into_bytes()
    }

    #[test]
    fn a_static_key_is_256_bytes_of_hexadecimal() {
        let hex: String = key(1).bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            static_key(&file(STATIC, &hex)).unwrap().bytes(),
            key(1).bytes()
        );
        let why = |text: &[u8]| static_key(text).unwrap_err();
        assert_eq!(
            why(&file(STATIC, &hex[2..])),
            "it has 255 bytes instead of 256"
        );
        assert_eq!(
            why(&file(STATIC, &hex[1..])),
            "a character of it is no digit"
        );
        assert_eq!(
            why(&file(STATIC, &format!("g{}", &hex[1..]))),
            "a character of it is no digit"
        );
        assert!(why(&file(SERVER, &hex)).contains("BEGIN OpenVPN Static key V1"));
        let whole = file(STATIC, &hex);
        assert!(why(&whole[..whole.len() - 10]).contains("END"));
    }

    #[test]
    fn keys_of_tls_crypt_v2_are_base64() {
        let bytes: [u8; SERVER_KEY_LEN] = std::array::from_fn(|at| at as u8);
        let server = server_key(&file(SERVER, &encoded(&bytes))).unwrap();
        let wrapped = server.wrap(&key(3), b"\0me").unwrap();
        let client = [key(3).bytes(), wrapped.bytes()].concat();
        let client = client_key(&file(CLIENT, &encoded(&client))).unwrap();
        assert_eq!(client.wrapped, wrapped);
        assert!(server_key(&file(SERVER, &encoded(&bytes[..127]))).is_err());
        assert!(server_key(&file(SERVER, "AAA")).is_err());
        assert!(server_key(&file(SERVER, "AA=A")).is_err());
        assert!(server_key(&file(SERVER, "A===")).is_err());
    }

    #[test]
    fn made_keys_fit_together_and_differ() {
        let mut next = 0u8;
        let mut random = |out: &mut [u8]| {
            for byte in out {
                next = next.wrapping_mul(5).wrapping_add(1);
                *byte = next;
            }
            next = next.wrapping_add(1);
        };
        let server = server_key(new_server_key(&mut random).as_bytes()).unwrap();
        let mut client = || {
            let text = new_client_key(&server, 0x0102, &mut random).unwrap();
            client_key(text.as_bytes()).unwrap()
        };
        let (one, two) = (client(), client());
        let open = server.unwrap(&one.wrapped).unwrap();
        assert_eq!(open.key.bytes(), one.key.bytes());
        assert_eq!(open.metadata, [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_ne!(one.key.bytes(), two.key.bytes());
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(encode_base64(&bytes), encoded(&bytes));
            let mut out = Zeroizing::new(Vec::new());
            prop_assert_eq!(base64(encoded(&bytes).as_bytes(), &mut out), Some(()));
            prop_assert_eq!(&out[..], &bytes[..]);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "[A-Za-z0-9=\n]{0,200}") {
            for kind in [STATIC, CLIENT, SERVER] {
                let text = file(kind, &text);
                let _ = (static_key(&text), client_key(&text), server_key(&text));
            }
        }
    }
}
