// SPDX-License-Identifier: GPL-2.0-only
//! The processor's own counter of instructions (perf_event_open(2)).

use std::fs::File;
use std::io::{Error, Read};
use std::os::fd::{FromRawFd, OwnedFd};

use crate::tap::{During, Outcome};

/// `struct perf_event_attr` of include/uapi/linux/perf_event.h, in its first version.
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_COUNT_HW_INSTRUCTIONS: u64 = 1;
/// Bits of the flags: always on the hardware or an error, and without programs' own instructions.
const PINNED: u64 = 1 << 2;
const EXCLUDE_USER: u64 = 1 << 4;

/// Instructions that the kernel has executed on the first CPU since the counter was opened, interrupts included.
///
/// QEMU's processors count them exactly where its clock does, too (`-icount` with a fixed shift).
pub struct Instructions(File);

impl Instructions {
    /// Starts counting.
    pub fn open() -> Outcome<Self> {
        let attr = Attr {
            kind: PERF_TYPE_HARDWARE,
            size: size_of::<Attr>() as u32,
            config: PERF_COUNT_HW_INSTRUCTIONS,
            flags: PINNED | EXCLUDE_USER,
            ..Attr::default()
        };
        // SAFETY: `attr` is readable and of the size that it says; the call keeps no pointer to it.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
        let Some(fd) = fd else {
            return Err(Error::last_os_error()).during("perf_event_open of instructions");
        };
        // SAFETY: `fd` is a fresh descriptor that nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }.into()))
    }

    /// Their number.
    pub fn count(&self) -> Outcome<u64> {
        let mut bytes = [0; 8];
        (&self.0).read_exact(&mut bytes).during("instructions")?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
