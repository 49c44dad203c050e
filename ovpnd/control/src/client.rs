// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client's side of a session.
