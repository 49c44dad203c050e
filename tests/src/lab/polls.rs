// SPDX-License-Identifier: GPL-2.0-only
//! Polls of a device by threads of its own, which have to wait while something else runs on their processor: packets that
//! are sent meanwhile are found by one poll.

use std::fs;

use crate::check_eq;
use crate::lab::Ns;
use crate::tap::{Failure, Outcome};

/// Has a device polled by threads of its own, or by softirqs again. A namespace's sysfs is that of the mount's maker.
pub fn threaded(ns: &Ns, device: &str, on: bool) -> Outcome {
    let write = format!(
        "mount -t sysfs s /sys && echo {} > /sys/class/net/{device}/threaded",
        u8::from(on)
    );
    ns.cmd("unshare -m sh -c").arg(write).ok().map(drop)
}

/// Does something on the first processor before the threads that poll a device can run there.
pub fn before_polls(device: &str, work: impl FnOnce() -> Outcome + Send) -> Outcome {
    let threads = pollers(device)?;
    if threads.is_empty() {
        return Err(Failure::new(format!("no thread polls {device}")));
    }
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| -> Outcome {
            for thread in [0].iter().chain(&threads) {
                bind(*thread, 0)?;
            }
            urgent(true)?;
            let done = work();
            urgent(false)?;
            done
        });
        worker.join().unwrap_or_else(|_| Err(Failure::new("panic")))
    })
}

/// Ids of the threads that poll a device.
pub fn pollers(device: &str) -> Outcome<Vec<i32>> {
    let name_of = format!("napi/{device}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|n| n.to_str()?.parse().ok()) else {
            continue;
        };
        // A process may end meanwhile.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with(&name_of) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Binds a thread (0: this one) to a processor.
pub fn bind(thread: i32, cpu: usize) -> Outcome {
    // SAFETY: all-zero is a valid set, of the size given, and only read by the call.
    let ret = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &raw const set)
    };
    check_eq!(ret, 0, "sched_setaffinity of {thread}");
    Ok(())
}

/// Has this thread run before all others of its processor, or as usual.
fn urgent(on: bool) -> Outcome {
    let policy = if on {
        libc::SCHED_FIFO
    } else {
        libc::SCHED_OTHER
    };
    // The kernel's `struct sched_param` (uapi/linux/sched/types.h) is the priority alone; musl's is longer, and its
    // function refuses every call.
    let priority = libc::c_int::from(on);
    // SAFETY: the priority is only read.
    let ret =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    check_eq!(ret, 0, "sched_setscheduler");
    Ok(())
}
