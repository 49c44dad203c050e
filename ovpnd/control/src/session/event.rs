// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inputs and events of a session.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::exchange::Credentials;
use crate::keys::{Cipher, KeyMaterial};
use crate::keystate::{Failure, Phase};
use crate::packet::KeyId;
use crate::tls::PeerIdentity;

/// Times of a session, under OpenVPN's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `hand-window`: how long a negotiation may take.
    pub hand_window: Duration,
    /// `reneg-sec`: the age of a key at which this side renegotiates; `None` leaves it to the peer.
    pub renegotiate: Option<Duration>,
    /// `tran-window`: how long the old key lives after a renegotiation began.
    pub transition: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hand_window: Duration::from_secs(60),
            renegotiate: Some(Duration::from_secs(3600)),
            transition: Duration::from_secs(3600),
        }
    }
}

impl Timing {
    /// From a key's making until it is sent with. `pace` is the age of the old key when the peer renegotiated, which a peer
    /// with a shorter `reneg-sec` does first: it goes by its own, and lets go of the old key by then.
    pub fn switch_after(&self, pace: Option<Duration>) -> Duration {
        let reneg = [self.renegotiate, pace].into_iter().flatten().min();
        reneg.map_or(self.hand_window, |reneg| self.hand_window.min(reneg / 2))
    }
}

/// Agreement of the two sides; the same for all keys of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The data channel's cipher.
    pub cipher: Cipher,
    /// Keys come from TLS's exporter instead of OpenVPN's own derivation.
    pub tls_ekm: bool,
    /// Renegotiations are wrapped by keys of this session.
    pub dyn_tls_crypt: bool,
}

/// The place of a key, as the kernel has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySlot {
    /// Sent and received with.
    Primary,
    /// Received with only.
    Secondary,
}

/// A key for the data channel.
#[derive(Debug)]
pub struct DataKey {
    /// The place that it goes to; a key that is there is replaced.
    pub slot: KeySlot,
    /// Its number in data packets.
    pub key_id: KeyId,
    /// Its cipher.
    pub cipher: Cipher,
    /// Its bytes, for [`KeyMaterial::directions`].
    pub material: KeyMaterial,
}

/// A change of the data channel's keys, to be done in this order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is made once an hour")]
pub enum KeyChange {
    /// Install a key.
    Install(DataKey),
    /// Exchange primary and secondary key.
    Swap,
    /// Remove the secondary key.
    DropSecondary,
}

/// Facts about the peer from a key exchange.
#[derive(Debug, Clone)]
pub struct PeerHello {
    /// The negotiation.
    pub key_id: KeyId,
    /// The certificate; `None` when the peer showed none.
    pub identity: Option<PeerIdentity>,
    /// User name and password, from a client.
    pub credentials: Option<Credentials>,
    /// Lines of peer info.
    pub peer_info: String,
    /// The peer's options, which only a warning may depend on.
    pub options: String,
}

/// Something that happened in a session.
#[derive(Debug)]
pub enum Event {
    /// A negotiation came to this phase.
    Phase(KeyId, Phase),
    /// The peer's key exchange came. A server has to answer by [`Session::authorise`] or [`Session::fail`].
    Hello(PeerHello),
    /// A message of the peer, printable.
    Message(Zeroizing<String>),
    /// The data channel's keys change.
    Keys(KeyChange),
    /// A renegotiation failed; the old key goes on and another attempt is made.
    RenegotiationFailed(Failure),
    /// The session is over. Packets may still have to be sent.
    Failed(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_time_of_both_sides_decides_when_a_key_is_sent_with() {
        let seconds = Duration::from_secs;
        let timing = |renegotiate: Option<u64>| Timing {
            renegotiate: renegotiate.map(seconds),
            ..Timing::default()
        };
        for (own, pace, wanted) in [
            (None, None, 60),
            (Some(3600), None, 60),
            (Some(10), None, 5),
            (Some(3600), Some(10), 5),
            (None, Some(10), 5),
            (Some(10), Some(3600), 5),
            (Some(3600), Some(3600), 60),
        ] {
            let after = timing(own).switch_after(pace.map(seconds));
            assert_eq!(after, seconds(wanted), "{own:?} {pace:?}");
        }
    }
}
