// SPDX-License-Identifier: GPL-2.0
//! The configuration lock of an interface.

/// The value under the lock. A `&mut Config` proves that the caller holds the lock: functions that
/// add, change or delete peers and keys ask for it.
pub(crate) struct Config {
    /// The interface is being unregistered and takes no more peers.
    pub(crate) down: bool,
}
