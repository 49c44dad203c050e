// SPDX-License-Identifier: MIT OR Apache-2.0
//! OpenVPN's control channel, client and server, without sockets, clock, threads or randomness of its own: the
//! caller hands in packets, the time and a source of random bytes, and takes packets, deadlines and events.

#![forbid(unsafe_code)]

// The lower half: packets, their delivery and their protection, and the sessions over them.
pub mod client;
pub mod cookie;
pub mod env;
pub mod keystate;
pub mod listener;
pub mod messages;
pub mod packet;
pub mod reliable;
pub mod replay;
pub mod server;
pub mod session;
pub mod wrap;

// The upper half: TLS, certificates, and the messages that travel inside it.
pub mod der;
#[cfg(feature = "ecdsa-sha512")]
mod ecdsa512;
pub mod exchange;
pub mod generate;
pub mod keys;
pub mod negotiate;
pub mod passwords;
mod pbes2;
pub mod peerinfo;
pub mod pem;
pub mod prf;
pub mod push;
pub mod refusal;
pub mod tls;
pub mod token;
pub mod verify;
