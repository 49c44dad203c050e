// SPDX-License-Identifier: GPL-2.0
//! Seconds since boot, in 32 bits that may wrap.

/// A point in time: seconds of the boottime clock (it runs on during suspend), modulo 2^32.
///
/// Two points are compared as if they were less than 2^31 seconds (68 years) apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootSecs(pub u32);

impl BootSecs {
    /// Seconds from `earlier` to `self`; 0 if `earlier` is in the future.
    ///
    /// The future happens: one CPU reads the clock, another one stores a later reading first.
    #[inline]
    pub const fn since(self, earlier: BootSecs) -> u32 {
        let d = self.0.wrapping_sub(earlier.0);
        if d > i32::MAX as u32 {
            0
        } else {
            d
        }
    }

    /// The later one of two points.
    #[inline]
    pub const fn later(self, other: BootSecs) -> BootSecs {
        if self.0.wrapping_sub(other.0) > i32::MAX as u32 {
            other
        } else {
            self
        }
    }
}
