// SPDX-License-Identifier: MIT OR Apache-2.0
//! The TLS 1.0 PRF.
