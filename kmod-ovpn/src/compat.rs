// SPDX-License-Identifier: GPL-2.0
//! The only Rust file that asks for the kernel's version, beside `module!`'s own field names.

/// 6.13 began to move the parts of `kernel::sync` that the driver uses; this is their one address.
pub(crate) use kernel::sync::{new_mutex, new_spinlock, Arc, Mutex, SpinLock};
