// SPDX-License-Identifier: GPL-2.0
//! Whole data packets, sealed and opened by ciphers of the host: published vectors prove the
//! nonce and the ciphers used here, captured packets prove the layout.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, AeadCore, KeyInit, Payload};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use chacha20poly1305::ChaCha20Poly1305;
use ovpn_core::cipher::CipherAlg;
use ovpn_core::nonce::{nonce, NonceTail};
use ovpn_core::wire::*;

const VECTORS: &str = include_str!("../vectors/openvpn-2.7.8.txt");

#[derive(Clone, Copy)]
enum Way {
    Seal,
    Open,
}

/// Seals `msg`, or opens it; sealed bytes are `ciphertext | tag`, as with every AEAD but OpenVPN's.
/// `None` if the tag does not match.
fn aead(
    way: Way,
    alg: CipherAlg,
    key: &[u8],
    nonce: [u8; 12],
    aad: &[u8],
    msg: &[u8],
) -> Option<Vec<u8>> {
    fn with<A>(way: Way, key: &[u8], nonce: [u8; 12], payload: Payload<'_, '_>) -> Option<Vec<u8>>
    where
        A: Aead + KeyInit + AeadCore<NonceSize = U12>,
    {
        let cipher = A::new_from_slice(key).unwrap();
        match way {
            Way::Seal => cipher.encrypt(&nonce.into(), payload).ok(),
            Way::Open => cipher.decrypt(&nonce.into(), payload).ok(),
        }
    }
    assert!(alg.takes_key_len(key.len()));
    let payload = Payload { msg, aad };
    match (alg, key.len()) {
        (CipherAlg::AesGcm, 16) => with::<AesGcm<Aes128, U12>>(way, key, nonce, payload),
        (CipherAlg::AesGcm, 24) => with::<AesGcm<Aes192, U12>>(way, key, nonce, payload),
        (CipherAlg::AesGcm, _) => with::<AesGcm<Aes256, U12>>(way, key, nonce, payload),
        (CipherAlg::None, _) => None,
        (CipherAlg::ChaCha20Poly1305, _) => with::<ChaCha20Poly1305>(way, key, nonce, payload),
    }
}

/// A data packet.
fn seal(alg: CipherAlg, key: &[u8], tail: NonceTail, header: Header, payload: &[u8]) -> Vec<u8> {
    let aad = header.emit();
    let sealed = aead(
        Way::Seal,
        alg,
        key,
        nonce(header.packet_id, tail),
        &aad,
        payload,
    )
    .unwrap();
    let (ciphertext, tag) = sealed.split_at(payload.len());
    [aad.as_slice(), tag, ciphertext].concat()
}

/// Payload of a data packet, `None` if the tag does not match.
fn open(alg: CipherAlg, key: &[u8], tail: NonceTail, packet: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(packet, packet.len(), OVERHEAD).unwrap();
    let (aad, rest) = packet.split_at(HEADER_LEN);
    let (tag, ciphertext) = rest.split_at(TAG_LEN);
    let sealed = [ciphertext, tag].concat();
    aead(
        Way::Open,
        alg,
        key,
        nonce(header.packet_id, tail),
        aad,
        &sealed,
    )
}

fn hex(s: &str) -> Vec<u8> {
    assert!(s.len().is_multiple_of(2));
    let byte = |i| u8::from_str_radix(&s[i..i + 2], 16).unwrap();
    (0..s.len()).step_by(2).map(byte).collect()
}

/// A published AEAD vector whose nonce is cut into packet id and tail as OpenVPN does.
fn published(alg: CipherAlg, key: &str, iv: &str, aad: &str, msg: &str, sealed: &str) {
    let iv: [u8; 12] = hex(iv).try_into().unwrap();
    let id = u32::from_be_bytes(*iv.first_chunk().unwrap());
    let tail = NonceTail(*iv.last_chunk().unwrap());
    let nonce = nonce(PacketId::new(id).unwrap(), tail);
    assert_eq!(nonce, iv);
    let got = aead(Way::Seal, alg, &hex(key), nonce, &hex(aad), &hex(msg));
    assert_eq!(got, Some(hex(sealed)));
}

/// RFC 8439, section 2.8.2.
#[test]
fn rfc_8439() {
    published(
        CipherAlg::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        "4c616469657320616e642047656e746c656d656e206f662074686520636c6173\
         73206f66202739393a204966204920636f756c64206f6666657220796f75206f\
         6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73\
         637265656e20776f756c642062652069742e",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
         3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
         92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
         3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    );
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", submission to NIST, appendix B:
/// test cases 4, 10 and 16 (one for each key length).
#[test]
fn nist_gcm() {
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let cases = [
        (
            32,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091\
             5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            48,
            "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c\
             7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710\
             2519498e80f1478f37ba55bd6d27618c",
        ),
        (
            64,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
             76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (digits, sealed) in cases {
        published(
            CipherAlg::AesGcm,
            &key[..digits],
            "cafebabefacedbaddecaf888",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            sealed,
        );
    }
}

struct Captured {
    alg: CipherAlg,
    key: Vec<u8>,
    tail: NonceTail,
    key_id: u8,
    kind: &'static str,
    packet: Vec<u8>,
}

fn captured() -> Vec<Captured> {
    let mut alg = CipherAlg::AesGcm;
    let mut keys = Vec::new();
    let mut out = Vec::new();
    for line in VECTORS.lines() {
        match *line.split_whitespace().collect::<Vec<_>>() {
            ["cipher", "CHACHA20-POLY1305"] => (alg, keys) = (CipherAlg::ChaCha20Poly1305, vec![]),
            ["cipher", _] => (alg, keys) = (CipherAlg::AesGcm, vec![]),
            ["key", side, id, key, tail] => keys.push((side, id, hex(key), hex(tail))),
            ["packet", side, id, kind, bytes] => {
                let key = keys.iter().find(|k| (k.0, k.1) == (side, id)).unwrap();
                out.push(Captured {
                    alg,
                    key: key.2.clone(),
                    tail: NonceTail(key.3.as_slice().try_into().unwrap()),
                    key_id: id.parse().unwrap(),
                    kind,
                    packet: hex(bytes),
                });
            }
            _ => assert!(line.is_empty() || line.starts_with('#') || line.starts_with("control")),
        }
    }
    out
}

/// Every packet opens to what it should, and sealing that gives the captured bytes again.
#[test]
fn openvpn_packets() {
    let all = captured();
    let mut seen = std::collections::BTreeMap::new();
    for c in &all {
        let header = Header::parse(&c.packet, c.packet.len(), OVERHEAD).unwrap();
        assert_eq!(header.key_id.get(), c.key_id);
        let verdict = classify(&c.packet, c.packet.len());
        assert_eq!(verdict, Verdict::Data(header.peer_id, header.key_id));

        let payload = open(c.alg, &c.key, c.tail, &c.packet).expect("the tag matches");
        assert_eq!(payload.len() + OVERHEAD, c.packet.len());
        assert_eq!(seal(c.alg, &c.key, c.tail, header, &payload), c.packet);
        assert_eq!(is_keepalive(&payload), c.kind == "keepalive");
        let inner = match inner_protocol(&payload, payload.len()) {
            Some(InnerProtocol::V4) => {
                assert_eq!(
                    u16::from_be_bytes([payload[2], payload[3]]) as usize,
                    payload.len()
                );
                "ipv4"
            }
            Some(InnerProtocol::V6) => {
                let len = u16::from_be_bytes([payload[4], payload[5]]) as usize;
                assert_eq!(len + 40, payload.len());
                "ipv6"
            }
            None => "keepalive",
        };
        assert_eq!(inner, c.kind);
        *seen.entry((c.key.len(), c.alg as u32, c.kind)).or_insert(0) += 1;
    }
    // Three sizes of AES key and ChaCha20-Poly1305, each with all three kinds of payload.
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert_eq!(all.len(), 83);
}

/// One flipped bit anywhere, another key or another tail: the packet does not open.
#[test]
fn changed_packets_do_not_open() {
    for kind in ["keepalive", "ipv4"] {
        for alg in [CipherAlg::AesGcm, CipherAlg::ChaCha20Poly1305] {
            let all = captured();
            let c = all.iter().find(|c| c.kind == kind && c.alg == alg).unwrap();
            for bit in 0..c.packet.len() * 8 {
                let mut packet = c.packet.clone();
                packet[bit / 8] ^= 1 << (bit % 8);
                if Header::parse(&packet, packet.len(), OVERHEAD).is_ok() {
                    assert_eq!(open(c.alg, &c.key, c.tail, &packet), None, "bit {bit}");
                }
            }
            let mut key = c.key.clone();
            key[0] ^= 1;
            assert_eq!(open(c.alg, &key, c.tail, &c.packet), None);
            let mut tail = c.tail;
            tail.0[7] ^= 1;
            assert_eq!(open(c.alg, &c.key, tail, &c.packet), None);
        }
    }
}

#[test]
fn openvpn_control_packets_are_left_to_userspace() {
    let mut opcodes = Vec::new();
    for line in VECTORS.lines() {
        let Some(rest) = line.strip_prefix("control ") else {
            continue;
        };
        let (opcode, bytes) = rest.split_once(' ').unwrap();
        let packet = hex(bytes);
        assert_eq!(classify(&packet, packet.len()), Verdict::Userspace);
        opcodes.push(opcode);
    }
    assert_eq!(opcodes, ["3", "4", "5", "7", "8"]);
}

/// An empty payload is a valid packet of 24 bytes.
#[test]
fn shortest_packet() {
    let header = Header {
        key_id: KeyId::new(1).unwrap(),
        peer_id: PeerId::new(2).unwrap(),
        packet_id: PacketId::FIRST,
    };
    let tail = NonceTail([9; 8]);
    for (alg, len) in [(CipherAlg::AesGcm, 16), (CipherAlg::ChaCha20Poly1305, 32)] {
        let packet = seal(alg, &vec![7; len], tail, header, &[]);
        assert_eq!(packet.len(), OVERHEAD);
        assert_eq!(HEADER_LEN + TAG_LEN, OVERHEAD);
        assert_eq!(open(alg, &vec![7; len], tail, &packet), Some(vec![]));
    }
}
