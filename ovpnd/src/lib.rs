// SPDX-License-Identifier: GPL-2.0-only
//! The parts of `ovpnd` and `ovpnctl`.

pub mod config;
pub mod ctl;
pub mod json;
pub mod keyfile;
pub mod keys;
pub mod net;
pub mod state;
pub mod uci;
