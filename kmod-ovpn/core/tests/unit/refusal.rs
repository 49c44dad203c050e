// SPDX-License-Identifier: GPL-2.0

use std::collections::HashSet;

use ovpn_core::refusal::*;

#[test]
fn every_refusal_has_one_sentence_of_its_own() {
    let mut texts = HashSet::new();
    for refusal in Refusal::ALL {
        let text = refusal.message().to_str().unwrap();
        let sentence = text.strip_prefix("ovpn: ").expect(text);
        assert!(sentence.is_ascii() && !sentence.ends_with('.'), "{text}");
        assert!(!sentence.contains(". "), "{text}: one sentence");
        // NETLINK_MAX_FMTMSG_LEN, so that the same texts may also pass through a format.
        assert!(text.len() < 80, "{text}: {} bytes", text.len());
        assert!(texts.insert(text), "{text}: used twice");
    }
    assert!(texts.len() > 50);
}

/// A refusal names the value that is missing or out of range; lists of `enum ovpn_*` say the numbers.
#[test]
fn blame_fits_the_error_number() {
    for refusal in Refusal::ALL {
        match (refusal.errno(), refusal.blame()) {
            (Errno::Range, blame) => assert!(matches!(blame, Blame::Bad(_)), "{refusal:?}"),
            (errno, Blame::Missing(_)) => assert_eq!(errno, Errno::Inval, "{refusal:?}"),
            _ => {}
        }
    }
}

#[test]
fn attribute_numbers() {
    let cases = [
        (Attr::Top(TopAttr::Ifindex), 1),
        (Attr::Top(TopAttr::Keyconf), 3),
        (Attr::Peer(PeerAttr::Socket), 6),
        (Attr::Peer(PeerAttr::VpnIpv4), 8),
        (Attr::Peer(PeerAttr::LocalIpv6), 11),
        (Attr::Peer(PeerAttr::KeepaliveInterval), 13),
        (Attr::Peer(PeerAttr::TxId), 24),
        (Attr::Key(KeyAttr::DecryptDir), 6),
        (Attr::EncryptDir(KeyDirAttr::CipherKey), 1),
        (Attr::DecryptDir(KeyDirAttr::NonceTail), 2),
    ];
    for (attr, number) in cases {
        assert_eq!(attr.number(), number);
    }
}
