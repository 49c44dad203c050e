// SPDX-License-Identifier: MIT OR Apache-2.0
//! A peer's lost packets by reason: this project's driver tells them, mainline's does not.

use std::borrow::Cow;

use crate::error::Result;
use crate::wire::Attrs;

/// kmod-ovpn/uapi/ovpn-ext.yaml, attribute set "drops"; the first has number 1.
const NAMES: [&str; 25] = [
    "rx_short",
    "rx_data_v1",
    "rx_unknown_peer",
    "rx_runt",
    "rx_no_key",
    "rx_replay",
    "rx_auth_failed",
    "rx_bad_protocol",
    "rx_reverse_path",
    "rx_no_memory",
    "rx_refused",
    "rx_gone",
    "tx_no_peer",
    "tx_no_key",
    "tx_exhausted",
    "tx_bad_protocol",
    "tx_no_route",
    "tx_too_big",
    "tx_no_memory",
    "tx_crypto",
    "tx_no_transport",
    "tx_queue_full",
    "rx_queue_full",
    LINK_LOCAL,
    "rx_ecn",
];
/// Packets that healthy peers send and no tunnel carries: searches for routers and the like.
const LINK_LOCAL: &str = "rx_link_local";

/// Packets lost for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    reason: u16,
    /// How many; the driver's counter wraps at 2^32.
    pub packets: u32,
}

impl Dropped {
    /// Name of the reason, as `ethtool -S` has it; of a reason this library does not know, its number.
    pub fn reason(&self) -> Cow<'static, str> {
        let name = usize::from(self.reason)
            .checked_sub(1)
            .and_then(|n| NAMES.get(n));
        match name {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("reason_{}", self.reason)),
        }
    }

    /// Whether nothing was lost that should have arrived: healthy peers have such drops.
    pub fn is_harmless(&self) -> bool {
        self.reason() == LINK_LOCAL
    }

    /// Reads the nest; reasons without drops are not in it.
    pub(crate) fn parse(nest: Attrs<'_>) -> Result<Vec<Self>> {
        nest.map(|attr| {
            let attr = attr?;
            Ok(Self {
                reason: attr.kind,
                packets: attr.u32()?,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    #[test]
    fn names_are_the_documented_ones() {
        let yaml = include_str!("../../../kmod-ovpn/uapi/ovpn-ext.yaml");
        let documented: Vec<&str> = yaml
            .lines()
            .filter_map(|line| line.trim().strip_prefix("name: "))
            .filter(|name| name.starts_with("rx_") || name.starts_with("tx_"))
            .collect();
        assert_eq!(documented, NAMES);
    }

    #[test]
    fn known_and_unknown_reasons_are_read() {
        let mut w = Writer::new();
        w.put_u32(1, 4).put_u32(22, u32::MAX).put_u32(99, 1);
        let drops = Dropped::parse(Attrs::new(w.as_bytes())).unwrap();
        let named: Vec<_> = drops.iter().map(|d| (d.reason(), d.packets)).collect();
        let expected = [
            ("rx_short", 4),
            ("tx_queue_full", u32::MAX),
            ("reason_99", 1),
        ];
        assert!(!drops.iter().any(Dropped::is_harmless));
        assert_eq!(named, expected.map(|(name, n)| (Cow::from(name), n)));
        let mut w = Writer::new();
        w.put_u32(24, 2);
        let drops = Dropped::parse(Attrs::new(w.as_bytes())).unwrap();
        assert!(drops[0].is_harmless());
        let mut w = Writer::new();
        w.put(1, &[1, 2]);
        assert!(Dropped::parse(Attrs::new(w.as_bytes())).is_err());
    }
}
