// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window of packet ids that tells a replay.
