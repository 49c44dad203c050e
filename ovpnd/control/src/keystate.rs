// SPDX-License-Identifier: MIT OR Apache-2.0
//! One negotiation of keys: its windows, its TLS and its exchange.
