// SPDX-License-Identifier: GPL-2.0-or-later
//! The parts of `ovpnd` and `ovpnctl`.

pub mod answer;
mod answers;
pub mod api;
#[cfg(feature = "tls")]
pub mod authority;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod diag;
pub mod engines;
#[cfg(feature = "tls")]
pub mod jobs;
pub mod json;
pub mod kernel;
pub mod keyfile;
pub mod keys;
pub mod killswitch;
pub mod net;
pub mod reconcile;
pub mod resolver;
pub mod retry;
pub mod state;
pub mod switches;
pub mod tunnel;
pub mod ubus;
pub mod uci;
#[cfg(feature = "tls")]
pub mod vpn;
