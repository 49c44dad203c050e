// SPDX-License-Identifier: GPL-2.0-only
//! What differs between the boards we emulate, in one table.
//!
//! Everything else in this crate is the same for every board: a new one is a
//! new row here and a kernel lane that builds for it.

/// How the board reaches its virtio devices; QEMU names them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Memory mapped, found through the device tree (`virtio-net-device`).
    Mmio,
}

impl Bus {
    /// The QEMU device name of virtio device `kind` on this bus.
    pub(crate) fn device(self, kind: &str) -> String {
        match self {
            Self::Mmio => format!("virtio-{kind}-device"),
        }
    }
}

/// One emulated board.
#[derive(Debug)]
pub struct Machine {
    /// Name of the lane that builds its kernel, and of its directories in the cache.
    pub lane: &'static str,
    /// QEMU's program for its CPU family.
    pub qemu: &'static str,
    /// Board and CPU, as QEMU arguments.
    pub board: &'static [&'static str],
    /// Number of CPUs.
    pub cpus: u32,
    /// How QEMU runs its CPUs, as arguments.
    pub clock: &'static [&'static str],
    /// RAM in MiB: what a small router has, plus the initramfs.
    pub memory_mib: u32,
    /// Kernel console.
    pub console: &'static str,
    /// Bus of the virtio devices.
    pub virtio: Bus,
    /// Debian's multiarch library directory.
    pub multiarch: &'static str,
    /// One line for people.
    pub description: &'static str,
}

/// Each CPU a thread of the host, the host's clock: as fast as it goes.
const FAST: &[&str] = &["-accel", "tcg,thread=multi"];

/// A clock that counts instructions, four nanoseconds each, and skips what nobody waits for. The machine then has the
/// CPU of a slow router whatever the host does beside it, and half a second is as long for it as for a real one.
const COUNTED: &[&str] = &[
    "-accel",
    "tcg,thread=single",
    "-icount",
    "shift=2,sleep=off",
];

const CORTEX_A7: Machine = Machine {
    lane: "arm-6.12",
    qemu: "qemu-system-arm",
    board: &["-M", "virt", "-cpu", "cortex-a7"],
    cpus: 2,
    clock: FAST,
    memory_mib: 256,
    console: "ttyAMA0",
    virtio: Bus::Mmio,
    multiarch: "arm-linux-gnueabihf",
    description: "QEMU virt, 2 x Cortex-A7, 256 MiB, emulated (TCG)",
};

/// QEMU's `virt` board with two Cortex-A7, the CPU of ipq40xx routers: ARMv7
/// with NEON, without AES instructions.
pub static ARM: Machine = CORTEX_A7;

/// Nanoseconds that an instruction takes on [`ARM_COUNTED`]: two to the power of the shift in its clock.
pub(crate) const COUNTED_NS: u32 = 4;

/// The same with room for Python, and with a clock that fixed waits can be measured by. On that clock a CPU that spins
/// for another holds it up for a tenth of a second (QEMU 7.2), so there is only one.
pub static ARM_COUNTED: Machine = Machine {
    lane: "arm-6.12-counted",
    cpus: 1,
    clock: COUNTED,
    memory_mib: 768,
    description: "QEMU virt, Cortex-A7, 768 MiB, emulated (TCG), 4 ns an instruction",
    ..CORTEX_A7
};
