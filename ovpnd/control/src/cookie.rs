// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's stateless answer to a reset.
