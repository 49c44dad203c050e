// SPDX-License-Identifier: GPL-2.0-only
//! The texts that no kernel log may have: one list for the harness, the emulated machines and the tests in guests.
#![forbid(unsafe_code)]

/// Each begins a word, so that "DEBUG" is no "BUG".
const TROUBLE: [&str; 26] = [
    // WARN_ON and its kin, lockdep, BUG_ON, SLUB ("BUG kmalloc-64"), KASAN, KCSAN, KFENCE.
    "WARNING",
    "BUG:",
    "BUG ",
    "Oops",
    "Kernel panic",
    "Call Trace",
    "Call trace",
    // lib/refcount.c, and lib/ref_tracker.c when a namespace or device is held for ever.
    "refcount",
    "ref_tracker",
    "unregister_netdevice",
    // Hung tasks, RCU stalls, lockdep's own end.
    "INFO: ",
    "blocked for more than",
    "detected stall",
    "self-detected stall",
    "soft lockup",
    "hard LOCKUP",
    // Page faults: x86 and ARM write it differently.
    "unable to handle",
    "Unable to handle",
    "general protection fault",
    // MIPS and ARM.
    "Unhandled kernel unaligned",
    "Unhandled fault",
    "Internal error",
    "UBSAN",
    "KASAN",
    // Rust: a panic, and its formatting in the mouth of a printk that does not know it, so that the content is lost.
    "panicked at",
    "(%pA?)",
];

/// The tracker of references misses an entry (lib/ref_tracker.c): it had no memory for it, as when allocations fail on purpose.
const NO_ENTRY: &str = "ref_tracker: memory allocation failure";

/// Whether a line of a kernel log tells of a defect.
pub fn is_trouble(line: &str) -> bool {
    !line.contains(NO_ENTRY)
        && TROUBLE.iter().any(|text| {
            line.match_indices(text)
                .any(|(at, _)| starts_word(line, at))
        })
}

fn starts_word(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|l| l.chars().next_back());
    before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
}

/// The lines of a log that tell of a defect.
pub fn trouble(log: &str) -> impl Iterator<Item = &str> {
    log.lines().map(str::trim).filter(|line| is_trouble(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_without_memory_is_no_defect() {
        let missed = "ref_tracker: memory allocation failure, unreliable refcount tracker.";
        assert_eq!(trouble(missed).count(), 0);
    }

    #[test]
    fn defects_are_seen() {
        for line in [
            "[ 1.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1",
            "BUG: sleeping function called from invalid context",
            "[ 1.0] BUG: KASAN: slab-use-after-free in ovpn_recv",
            "BUG kmalloc-64 (Tainted: G O): Right Redzone overwritten",
            "kernel BUG at mm/slub.c:1!",
            "[ 1.0] Internal error: Oops: 17 [#1] SMP ARM",
            "[ 1.0] ovpn: (%pA?)",
            "refcount_t: underflow; use-after-free.",
            "ref_tracker: netns@00000000 has 1/1 users at",
            "INFO: task ip:77 blocked for more than 120 seconds.",
            "rcu: INFO: rcu_sched self-detected stall on CPU",
            "8<--- cut here --- Unable to handle kernel paging request",
            "BUG: unable to handle page fault for address: ffff",
            "unregister_netdevice: waiting for tun0 to become free. Usage count = 2",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
            "UBSAN: shift-out-of-bounds in a.c:1:2",
            "rust_kernel: panicked at src/rx.rs:1:2:",
            "Unhandled kernel unaligned access[#1]:",
            "Call Trace:",
            "Kernel panic - not syncing: Fatal exception in interrupt",
        ] {
            assert!(is_trouble(line), "{line}");
        }
    }

    #[test]
    fn an_ordinary_start_is_none() {
        for line in [
            "[ 0.0] Linux version 7.2.12",
            "SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=2, Nodes=1",
            "DEBUG: the console is ttyS0",
            "kasan: KernelAddressSanitizer initialized",
            "rcu: Hierarchical RCU implementation.",
            "ovpn: loaded",
        ] {
            assert!(!is_trouble(line), "{line}");
        }
        assert_eq!(
            trouble("a\n  WARNING: b \nc\nOops\n").collect::<Vec<_>>(),
            ["WARNING: b", "Oops"]
        );
    }
}
