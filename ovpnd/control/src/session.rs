// SPDX-License-Identifier: MIT OR Apache-2.0
//! A session's key states and their renegotiation.
