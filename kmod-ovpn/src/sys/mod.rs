// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers over the C shim.
//!
//! All `unsafe` code of the driver is below this folder, which knows nothing of the layers above:
//! C calls [`entry`], and [`driver::Driver`] is the trait by which `entry` calls the driver. The
//! types keep the contexts that `shim/shim.h` names: a function that needs the RCU read lock takes
//! an [`rcu::Rcu`]; a function that may sleep says so, and its callers are entry points that may.

pub(crate) mod cells;
pub(crate) mod crypto;
pub(crate) mod driver;
pub(crate) mod drops;
pub(crate) mod entry;
mod ffi;
pub(crate) mod frame;
pub(crate) mod genl;
pub(crate) mod netdev;
pub(crate) mod order;
pub(crate) mod params;
pub(crate) mod path;
pub(crate) mod rcu;
pub(crate) mod route;
pub(crate) mod skb;
pub(crate) mod socket;
pub(crate) mod stats;
pub(crate) mod table;
