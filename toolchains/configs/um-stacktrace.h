/* SPDX-License-Identifier: GPL-2.0-only */
/* Before each stacktrace.c of the debug kernel, which the compiler includes.
 *
 * KASAN and kmemleak keep a stack trace of each allocation. User-mode Linux
 * makes one by asking of each word on the stack whether it points into code,
 * and for most words that question takes the RCU read lock, which under
 * lockdep costs several calls of the host: 20 ms a packet. Modules are in the
 * vmalloc area, so words that point elsewhere need not be asked about.
 */
#include <linux/extable.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>

static inline int um_text_address(unsigned long addr)
{
	if (core_kernel_text(addr))
		return 1;
	return addr >= VMALLOC_START && addr < VMALLOC_END &&
	       is_module_text_address(addr);
}

#define __kernel_text_address um_text_address
