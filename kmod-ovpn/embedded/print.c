// SPDX-License-Identifier: GPL-2.0
/*
 * The Rust crates call this instead of _printk() in embedded mode.
 *
 * Their formats end in %pA, a pointer to Rust's format arguments, and this
 * kernel's vsprintf does not know it.
 */
#include <linux/printk.h>
#include <linux/stdarg.h>
#include <linux/string.h>
#include <linux/types.h>

/* A longer line is cut: the buffer is on the stack of the caller. */
#define OVPN_PRINT_MAX 256

size_t ovpn_rust_format(const void *args, char *buf, size_t len);
int ovpn_rust_printk(const char *fmt, ...);

/*
 * fmt is a KERN_ level (two bytes) and then "%s: %pA", or "%pA" to continue a
 * line (rust/kernel/print.rs, format_strings).
 */
int ovpn_rust_printk(const char *fmt, ...)
{
	char line[OVPN_PRINT_MAX] = "";
	const char *prefix = "", *colon = "";
	va_list ap;

	va_start(ap, fmt);
	if (!strcmp(fmt + 2, "%s: %pA")) {
		prefix = va_arg(ap, const char *);
		colon = ": ";
	}
	ovpn_rust_format(va_arg(ap, const void *), line, sizeof(line) - 1);
	va_end(ap);

	return _printk("%.2s%s%s%s", fmt, prefix, colon, line);
}
