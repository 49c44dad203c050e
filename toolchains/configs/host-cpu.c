// SPDX-License-Identifier: GPL-2.0-only
/*
 * The processor time that the host has spent on this user-mode kernel, in
 * nanoseconds: /sys/module/host_cpu/parameters/ns. The guest's own clocks do not
 * know when the host runs something else meanwhile. Processes of the guest are
 * processes of the host, too, and are not counted.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/time64.h>
#include <uapi/linux/time.h>
#include <asm/unistd.h>

static int ns_get(char *buffer, const struct kernel_param *param)
{
	struct timespec64 time = { };
	long ret = __NR_clock_gettime;

	/* A system call of the kernel's own program is one of the host's. */
	asm volatile("syscall"
		     : "+a" (ret)
		     : "D" (CLOCK_PROCESS_CPUTIME_ID), "S" (&time)
		     : "rcx", "r11", "memory");
	if (ret)
		return ret;
	return sysfs_emit(buffer, "%lld\n", timespec64_to_ns(&time));
}

static const struct kernel_param_ops ns_ops = { .get = ns_get };
module_param_cb(ns, &ns_ops, NULL, 0444);

MODULE_DESCRIPTION("Processor time that the host has spent on a user-mode kernel");
MODULE_LICENSE("GPL");
