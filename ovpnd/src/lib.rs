// SPDX-License-Identifier: GPL-2.0-only
//! The parts of `ovpnd` and `ovpnctl`.

pub mod config;
pub mod keyfile;
pub mod keys;
pub mod state;
pub mod uci;
