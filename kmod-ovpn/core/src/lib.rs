// SPDX-License-Identifier: GPL-2.0
//! The part of the `ovpn` driver that does not touch the kernel.
//!
//! Everything here is a pure function or a state machine over plain data: no allocation, no I/O,
//! no clock, no lock. The driver brings those; host tests bring plain substitutes.
//!
//! The same files are compiled twice: as the host crate `ovpn_core`, and as a module of the
//! driver's crate (`#[path = "../core/src/lib.rs"] mod ...` under `--cfg ovpn_kmod`). So files
//! name each other by `super::`, never by `crate::`, and use nothing outside `core`.
//!
//! No function of this crate panics, whatever it is given; `tests/kernel_form.rs` looks for
//! panic calls in the generated code.
//!
//! | file | noun |
//! |---|---|
//! | [`wire`] | data packet header, demultiplexing, inner protocol |
//! | [`nonce`] | AEAD nonce, transmit packet ids |
//! | [`replay`] | receive window |
//! | [`slots`] | the two keys of a peer and their roles |
//! | [`cipher`] | algorithms, key lengths, usage limits |
//! | [`engine`] | which implementation of a cipher is taken |
//! | [`early`] | packets that come before their key |
//! | [`keepalive`] | the two timers of a peer |
//! | [`clock`] | seconds since boot |
//! | [`attrs`] | checks of netlink requests |
//! | [`refusal`] | answers to refused requests |
//! | [`framing`] | packets in a TCP stream |
//! | [`mss`] | TCP segment size, clamped to the tunnel |
//! | [`runs`] | which packets leave as one |
//! | [`ecn`] | congestion marks between inner and outer header |
//! | [`counters`] | reasons of packet drops |
//! | [`del_reason`] | reasons of a peer's end |
#![cfg_attr(not(ovpn_kmod), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Inside the driver's crate nothing is reachable from outside, and not every item is used.
#![cfg_attr(not(ovpn_kmod), deny(unreachable_pub))]
#![cfg_attr(ovpn_kmod, allow(dead_code, unreachable_pub))]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![deny(clippy::arithmetic_side_effects, clippy::integer_division)]

pub mod attrs;
pub mod cipher;
pub mod clock;
pub mod counters;
pub mod del_reason;
pub mod early;
pub mod ecn;
pub mod engine;
pub mod framing;
pub mod keepalive;
pub mod mss;
pub mod nonce;
pub mod refusal;
pub mod replay;
pub mod runs;
pub mod slots;
mod sync;
pub mod wire;
