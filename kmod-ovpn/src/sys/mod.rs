// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers over the C shim, one file for each of its files.
//!
//! All `unsafe` code of the driver is below this folder. Each wrapper is as narrow as the shim
//! function it stands for; the contexts named in `shim/shim.h` are kept by the types: what needs
//! the RCU read lock takes an [`rcu::Rcu`], what may sleep is reached only from entry points that
//! may.

pub(crate) mod crypto;
pub(crate) mod drops;
pub(crate) mod engine;
mod entry;
mod ffi;
pub(crate) mod frame;
pub(crate) mod genl;
pub(crate) mod netdev;
pub(crate) mod params;
pub(crate) mod path;
pub(crate) mod rcu;
pub(crate) mod route;
pub(crate) mod skb;
pub(crate) mod socket;
pub(crate) mod stats;
pub(crate) mod table;
