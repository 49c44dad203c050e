// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protection of control packets.

pub mod auth;
pub mod crypt;
pub mod dynamic;
pub mod none;
pub mod v2;
