// SPDX-License-Identifier: GPL-2.0
//! The atomics of this crate: `core`'s, or those of the loom model checker under `--cfg loom`.
//!
//! Only 32 bits wide: MIPS32 has no 64-bit atomics, and ARMv6 has none of 8 bits.

#[cfg(not(loom))]
pub(super) use core::sync::atomic::{fence, AtomicU32, Ordering};
#[cfg(loom)]
pub(super) use loom::sync::atomic::{fence, AtomicU32, Ordering};
