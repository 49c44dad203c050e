// SPDX-License-Identifier: GPL-2.0

//! Formatting for `pr_info!` and friends on a kernel without `%pA`.
//!
//! Source of the specifier: `lib/vsprintf.c` handles `%pA` under CONFIG_RUST
//! only, elsewhere it prints `(%pA?)` and warns.

#![no_std]

use core::fmt::{self, Write};

/// Writes into a fixed buffer and drops what does not fit.
struct Cut<'a> {
    buf: &'a mut [u8],
    used: usize,
}

impl Write for Cut<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if let Some(free) = self.buf.get_mut(self.used..) {
            for (to, from) in free.iter_mut().zip(s.bytes()) {
                *to = from;
                self.used += 1;
            }
        }
        Ok(())
    }
}

/// Formats `*args` into `buf`; returns the number of bytes written, at most `len`.
///
/// # Safety
///
/// `args` points to a valid [`fmt::Arguments`], `buf` to `len` writable bytes.
#[no_mangle]
pub unsafe extern "C" fn ovpn_rust_format(
    args: *const fmt::Arguments<'_>,
    buf: *mut u8,
    len: usize,
) -> usize {
    // SAFETY: `buf` has `len` writable bytes by this function's contract; the only
    // caller, `ovpn_rust_printk`, has initialised them.
    let buf = unsafe { core::slice::from_raw_parts_mut(buf, len) };
    let mut out = Cut { buf, used: 0 };
    // SAFETY: `args` is valid by this function's contract.
    let _ = out.write_fmt(unsafe { *args });
    out.used
}
