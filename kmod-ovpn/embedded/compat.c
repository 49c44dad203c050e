// SPDX-License-Identifier: GPL-2.0
/*
 * Functions the Rust crates call and the kernel has but does not export.
 * The link drops what the module does not reach.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

/*
 * VVec and VBox. kvrealloc() hands memory of vmalloc on to the kernel's own
 * vrealloc() (mm/util.c), so only the first allocation is done here.
 */
/* Linux 7.2 exports its own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
void *vrealloc_noprof(const void *p, size_t size, gfp_t flags)
{
	return p ? kvrealloc_noprof(p, size, flags) :
		   __vmalloc_noprof(size, flags);
}
#endif
