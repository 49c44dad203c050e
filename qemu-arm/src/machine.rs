// SPDX-License-Identifier: GPL-2.0-only
//! The differences between the boards we emulate, in one table.
//!
//! Everything else in this crate is the same for every board: a new one is a
//! new row here and a kernel lane that builds for it.

use anyhow::{Context, Result};

/// How the board reaches its virtio devices; QEMU names them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Memory mapped, found through the device tree (`virtio-net-device`).
    Mmio,
    /// PCI (`virtio-net-pci`), in the slots that Malta has interrupt lines for
    /// (0x12 to 0x15, arch/mips/pci/fixup-malta.c).
    Pci,
}

impl Bus {
    /// The QEMU device name of virtio device `kind` on this bus.
    pub(crate) fn device(self, kind: &str) -> String {
        match self {
            Self::Mmio => format!("virtio-{kind}-device"),
            Self::Pci => match kind {
                "serial" => "virtio-serial-pci,addr=0x12".to_owned(),
                "rng" => "virtio-rng-pci,addr=0x13".to_owned(),
                // It would have a ROM to boot from.
                _ => format!("virtio-{kind}-pci,addr=0x14,romfile="),
            },
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
    /// The command that ends the machine. QEMU ends at a reset too, and that is
    /// all the Malta board can do.
    pub off: &'static str,
    /// File with the number of accesses to unaligned data that the kernel had
    /// to do for the CPU (arch/mips/kernel/unaligned.c).
    pub traps: Option<&'static str>,
    /// Whether the root file system has stock OpenVPN.
    pub openvpn: bool,
    /// Whether the suites of the test program run there: once for a processor.
    pub suites: bool,
    /// One line for people.
    pub description: &'static str,
}

/// Each CPU a thread of the host, the host's clock: as fast as it goes.
const FAST: &[&str] = &["-accel", "tcg,thread=multi"];

/// A clock that counts instructions, four nanoseconds each, and skips idle time. The machine then has the
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
    off: "poweroff -f",
    traps: None,
    openvpn: true,
    suites: true,
    description: "QEMU virt, 2 x Cortex-A7, 256 MiB, emulated (TCG)",
};

/// QEMU's `virt` board with two Cortex-A7, the CPU of ipq40xx routers: ARMv7
/// with NEON, without AES instructions.
static ARM: Machine = CORTEX_A7;

/// Nanoseconds that an instruction takes on [`ARM_COUNTED`]: two to the power of the shift in its clock.
pub(crate) const COUNTED_NS: u32 = 4;

/// QEMU's `virt` board with two Cortex-A53, the CPU of filogic and ipq807x
/// routers, with AES instructions.
const CORTEX_A53: Machine = Machine {
    lane: "arm64-6.12",
    qemu: "qemu-system-aarch64",
    board: &["-M", "virt", "-cpu", "cortex-a53"],
    multiarch: "aarch64-linux-gnu",
    description: "QEMU virt, 2 x Cortex-A53, 256 MiB, emulated (TCG)",
    ..CORTEX_A7
};

/// As the table has it.
static ARM64: Machine = CORTEX_A53;

/// The same two boards with Debian's kernels, which are larger.
static ARM_DEBIAN: Machine = Machine {
    lane: "armhf-debian",
    memory_mib: 512,
    suites: false,
    description: "QEMU virt, 2 x Cortex-A7, 512 MiB, emulated (TCG), Debian's kernel",
    ..CORTEX_A7
};

/// See above.
const CORTEX_A53_DEBIAN: Machine = Machine {
    lane: "arm64-debian",
    memory_mib: 512,
    description: "QEMU virt, 2 x Cortex-A53, 512 MiB, emulated (TCG), Debian's kernel",
    ..CORTEX_A53
};

/// As the table has it.
static ARM64_DEBIAN: Machine = CORTEX_A53_DEBIAN;

/// The same with PREEMPT_RT.
static ARM64_RT: Machine = Machine {
    lane: "arm64-debian-rt",
    ..CORTEX_A53_DEBIAN
};

/// The same with the newest one.
static ARM64_NEW: Machine = Machine {
    lane: "arm64-debian-7.3",
    ..CORTEX_A53_DEBIAN
};

/// QEMU's Malta board with a MIPS 24Kc, the CPU of ath79 routers: big-endian,
/// no FPU, one CPU. Debian has no packages for it.
const MIPS_24KC: Machine = Machine {
    lane: "mips-6.12",
    qemu: "qemu-system-mips",
    board: &["-M", "malta", "-cpu", "24Kc"],
    cpus: 1,
    clock: FAST,
    memory_mib: 128,
    console: "ttyS0",
    virtio: Bus::Pci,
    multiarch: "",
    off: "reboot -f",
    traps: Some("/sys/kernel/debug/mips/unaligned_instructions"),
    openvpn: false,
    suites: true,
    description: "QEMU Malta, MIPS 24Kc big-endian, 128 MiB, emulated (TCG)",
};

/// As the table has it.
static MIPS: Machine = MIPS_24KC;

/// The same in little-endian, as mt76x8's.
static MIPSEL: Machine = Machine {
    lane: "mipsel-6.12",
    qemu: "qemu-system-mipsel",
    description: "QEMU Malta, MIPS 24Kc little-endian, 128 MiB, emulated (TCG)",
    ..MIPS_24KC
};

/// The board whose kernel a lane builds.
///
/// # Errors
/// No board is emulated for that lane.
pub fn of_lane(lane: &str) -> Result<&'static Machine> {
    [
        &ARM,
        &ARM_DEBIAN,
        &ARM64,
        &ARM64_DEBIAN,
        &ARM64_RT,
        &ARM64_NEW,
        &MIPS,
        &MIPSEL,
    ]
    .into_iter()
    .find(|machine| machine.lane == lane)
    .with_context(|| format!("no board is emulated for {lane}"))
}

/// The one-CPU machine whose clock counts, for a lane.
///
/// # Errors
/// None is emulated for that lane.
pub fn counted(lane: &str) -> Result<&'static Machine> {
    let name = format!("{lane}-counted");
    [
        &ARM_COUNTED,
        &ARM64_COUNTED,
        &ARM64_DEBIAN_COUNTED,
        &ARM64_NEW_COUNTED,
    ]
    .into_iter()
    .find(|machine| machine.lane == name)
    .with_context(|| format!("no machine with a counting clock is emulated for {lane}"))
}

/// The first with room for Python, and with a clock that fixed waits can be measured by. On that clock a CPU that spins
/// for another holds it up for a tenth of a second (QEMU 7.2), so there is only one.
static ARM_COUNTED: Machine = Machine {
    lane: "arm-6.12-counted",
    cpus: 1,
    clock: COUNTED,
    memory_mib: 768,
    description: "QEMU virt, Cortex-A7, 768 MiB, emulated (TCG), 4 ns an instruction",
    ..CORTEX_A7
};

/// The same for ARM64.
const CORTEX_A53_COUNTED: Machine = Machine {
    lane: "arm64-6.12-counted",
    cpus: 1,
    clock: COUNTED,
    memory_mib: 768,
    description: "QEMU virt, Cortex-A53, 768 MiB, emulated (TCG), 4 ns an instruction",
    ..CORTEX_A53
};

/// As the table has it.
static ARM64_COUNTED: Machine = CORTEX_A53_COUNTED;

/// The same with a kernel that has more drivers to compare with.
static ARM64_NEW_COUNTED: Machine = Machine {
    lane: "arm64-debian-7.3-counted",
    ..CORTEX_A53_COUNTED
};

/// The same with Debian's kernel for routers of today.
static ARM64_DEBIAN_COUNTED: Machine = Machine {
    lane: "arm64-debian-counted",
    ..CORTEX_A53_COUNTED
};
