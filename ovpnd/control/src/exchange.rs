// SPDX-License-Identifier: MIT OR Apache-2.0
//! Key method 2.
