// SPDX-License-Identifier: GPL-2.0
//! Why a packet was dropped: stable numbers and names for counters.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why a packet was dropped. The number is an array index and never changes its meaning.
        ///
        /// A keepalive is consumed and is no drop.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])+ $variant = $number,)+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: [DropReason; Self::COUNT] = [$(DropReason::$variant,)+];

            /// Number of reasons: the size of a counter array.
            pub const COUNT: usize = [$($number,)+].len();

            /// Name of the counter: ASCII, under 32 bytes (`ETH_GSTRING_LEN` with its NUL).
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// A datagram under 4 bytes: not even an opcode, key id and peer id.
    Short = 0, "rx_short";
    /// A DATA_V1 packet, which carries no peer id.
    DataV1 = 1, "rx_data_v1";
    /// No peer of the socket has that id, or that source address if the packet names none.
    UnknownPeer = 2, "rx_unknown_peer";
    /// A data packet with no room for packet id and tag: under 24 bytes, or 8 without a cipher.
    Runt = 3, "rx_runt";
    /// Neither key slot holds that key id.
    NoKey = 4, "rx_no_key";
    /// Packet id 0, seen before, or below the window.
    Replay = 5, "rx_replay";
    /// The tag does not match.
    AuthFailed = 6, "rx_auth_failed";
    /// Decrypted to something that is neither IPv4, IPv6 nor a keepalive.
    BadProtocol = 7, "rx_bad_protocol";
    /// The inner source address does not belong to the peer that sent it.
    ReversePath = 8, "rx_reverse_path";
    /// No memory on the receive path.
    RxNoMemory = 9, "rx_no_memory";
    /// The stack above did not take the decrypted packet.
    RxRefused = 10, "rx_refused";
    /// The peer or the device went away while the packet was under way.
    RxGone = 11, "rx_gone";
    /// No peer for that inner destination.
    TxNoPeer = 12, "tx_no_peer";
    /// The primary key slot is empty.
    TxNoKey = 13, "tx_no_key";
    /// The key has used up all its packet ids.
    TxExhausted = 14, "tx_exhausted";
    /// Not an IPv4 or IPv6 packet.
    TxBadProtocol = 15, "tx_bad_protocol";
    /// No route to the peer's transport address.
    TxNoRoute = 16, "tx_no_route";
    /// Does not fit the path MTU, a UDP datagram, or the length in front of a packet in a TCP stream.
    TxTooBig = 17, "tx_too_big";
    /// No memory on the transmit path.
    TxNoMemory = 18, "tx_no_memory";
    /// The cipher reported an error on encryption.
    TxCrypto = 19, "tx_crypto";
    /// The peer's transport socket is gone or has no remote address.
    TxNoTransport = 20, "tx_no_transport";
    /// The transmit queue is full, or too many packets of the peer wait for an asynchronous engine.
    TxQueueFull = 21, "tx_queue_full";
    /// Too many packets wait to be opened, or too many of the peer wait for an asynchronous engine.
    RxQueueFull = 22, "rx_queue_full";
    /// The inner source is an address of one link alone (fe80::/10, 169.254.0.0/16), or none: a client's search for
    /// routers and the like, which end here. Nothing is wrong with the peer.
    LinkLocal = 23, "rx_link_local";
    /// The outer header says that there was congestion, and the inner one that its sender does not know of ECN: no
    /// router marks such a packet (RFC 6040, 4.2).
    Ecn = 24, "rx_ecn";
}

impl DropReason {
    /// Index of the reason's counter, below [`DropReason::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}
