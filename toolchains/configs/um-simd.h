/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In front of the kernel's cipher code for x86 when it becomes part of a
 * user-mode kernel, which lacks three things that the code asks for: the
 * processor's table, its model, and whether its wide registers are switched on.
 * The host's kernel has switched them on where it names the instructions in
 * /proc/cpuinfo, from which boot_cpu_has() is filled.
 */
#include <linux/mod_devicetable.h>
#include <asm/cpufeature.h>

/* The header of the processor's table. */
#define _ASM_X86_CPU_DEVICE_ID
#define X86_MATCH_FEATURE(bit, data)	{ .feature = (bit) }
#define x86_match_cpu(table)		boot_cpu_has((table)->feature)

#define cpu_has_xfeatures(mask, name)	true

/* Only compared with the model below, which no processor then is. */
#define x86_vfm				cache_alignment
#define INTEL_SKYLAKE_X			(-1)
