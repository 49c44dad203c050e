// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delivery in order over a network that loses packets.
