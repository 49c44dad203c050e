// SPDX-License-Identifier: GPL-2.0
/*
 * Functions the Rust crates of 6.12 call and the kernel has but does not
 * export. Linux 7.2 exports its own.
 * The link drops what the module does not reach.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

/*
 * VVec and VBox. kvrealloc() hands memory of vmalloc on to the kernel's own
 * vrealloc() (mm/util.c), so only the first allocation is done here.
 */
void *vrealloc_noprof(const void *p, size_t size, gfp_t flags)
{
	return p ? kvrealloc_noprof(p, size, flags) :
		   __vmalloc_noprof(size, flags);
}
