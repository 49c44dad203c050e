// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peer info: lines of `NAME=value` that tell a side of the other's version and abilities.

use std::fmt::Write;

/// More lines than these are not kept; OpenVPN sends about fifteen.
const MAX_LINES: usize = 64;

/// Peer info that was received. Its text is the peer's: printable, and not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerInfo(Vec<(String, String)>);

impl PeerInfo {
    /// Reads lines. Those without a name of capital letters, digits and `_` are left out, as are repeated names and
    /// lines after the 64th.
    pub fn parse(text: &str) -> Self {
        let mut found: Vec<(String, String)> = Vec::new();
        for line in text.lines().take(MAX_LINES) {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if !name.is_empty()
                && name.chars().all(allowed)
                && !found.iter().any(|(known, _)| known == name)
            {
                found.push((name.to_owned(), value.to_owned()));
            }
        }
        Self(found)
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All pairs, in the order in which they came.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `IV_PROTO`, zero when it is absent or no number.
    pub fn proto(&self) -> u32 {
        self.get("IV_PROTO")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// `IV_CIPHERS`; for a peer without, the two that `IV_NCP=2` stands for.
    pub fn ciphers(&self) -> Vec<&str> {
        match self.get("IV_CIPHERS") {
            Some(list) => list.split(':').collect(),
            None if self.get("IV_NCP") == Some("2") => vec!["AES-256-GCM", "AES-128-GCM"],
            None => Vec::new(),
        }
    }
}

/// Writes pairs as peer info.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_found() {
        let info = PeerInfo::parse(
            "IV_VER=2.7.8\nIV_PROTO=990\nIV_CIPHERS=A:B\nUV_x=1\n=2\nno\nIV_VER=9\n",
        );
        assert_eq!(info.get("IV_VER"), Some("2.7.8"));
        assert_eq!(info.proto(), 990);
        assert_eq!(info.ciphers(), ["A", "B"]);
        assert_eq!(info.pairs().count(), 3);
    }

    #[test]
    fn old_peers_have_two_ciphers() {
        assert_eq!(
            PeerInfo::parse("IV_NCP=2").ciphers(),
            ["AES-256-GCM", "AES-128-GCM"]
        );
        assert!(PeerInfo::parse("IV_NCP=1").ciphers().is_empty());
        for proto in ["", "-1", "x", "99999999999"] {
            assert_eq!(PeerInfo::parse(&format!("IV_PROTO={proto}")).proto(), 0);
        }
    }

    #[test]
    fn lines_are_bounded() {
        let text: String = (0..1000).map(|n| format!("N{n}=\n")).collect();
        assert_eq!(PeerInfo::parse(&text).pairs().count(), MAX_LINES);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            let info = PeerInfo::parse(&text);
            let written = encode(info.pairs().map(|(name, value)| (name, value.to_owned())));
            prop_assert_eq!(PeerInfo::parse(&written).proto(), info.proto());
            info.ciphers();
        }
    }
}
