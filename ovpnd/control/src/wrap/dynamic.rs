// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys of tls-crypt for renegotiations.
