// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's log from a moment on, searched for signs of trouble.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::tap::{During, Outcome};

/// Position in /dev/kmsg.
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// Everything logged from now on.
    pub fn from_now() -> Outcome<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .during("/dev/kmsg")?;
        file.seek(SeekFrom::End(0)).during("/dev/kmsg")?;
        Ok(Self { file })
    }

    /// Messages since the last call, without their prefix.
    pub fn drain(&mut self) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(n) => {
                    let text =
                        String::from_utf8_lossy(record.get(..n).unwrap_or_default()).into_owned();
                    // "priority,sequence,time,flags;message\n key=value..." (Documentation/ABI/testing/dev-kmsg)
                    let message = text.split_once(';').map_or(text.as_str(), |(_, m)| m);
                    lines.push(message.lines().next().unwrap_or_default().to_owned());
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(lines),
                // The ring went round: the next read continues at the oldest record left.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => lines.push("(messages lost)".into()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
