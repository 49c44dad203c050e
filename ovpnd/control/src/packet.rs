// SPDX-License-Identifier: MIT OR Apache-2.0
//! Control packets on the wire.
