// SPDX-License-Identifier: GPL-2.0
//! Unit tests of the driver's core, one module for each of its files.

mod attrs;
mod cipher;
mod clock;
mod counters;
mod early;
mod ecn;
mod engine;
mod framing;
mod keepalive;
mod key_attrs;
mod mss;
mod nonce;
mod packets;
mod refusal;
mod replay;
mod replay_model;
mod runs;
mod runs_model;
mod slots;
mod wire;
