// SPDX-License-Identifier: GPL-2.0
/* Module parameters. Rust's module! has none in 6.12. */

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "internal.h"

/* Preferences of the ciphers, under the module's parameter lock. */
static char aes_gcm[OVPN_PREFERENCE_LEN + 1];
static char chacha20_poly1305[OVPN_PREFERENCE_LEN + 1];

static bool allow_insecure_none;

static int preference_set(const char *text, const struct kernel_param *kp)
{
	/* echo writes a newline. */
	size_t len = strcspn(text, "\n");
	const char *fault = ovpn_rs_check_preference(text, len);

	if (fault) {
		pr_err("ovpn: parameter %s: %s\n", kp->name, fault);
		return -EINVAL;
	}
	strscpy((char *)kp->arg, text, len + 1);
	return 0;
}

static int preference_get(char *out, const struct kernel_param *kp)
{
	return sysfs_emit(out, "%s\n", (const char *)kp->arg);
}

static const struct kernel_param_ops preference_ops = {
	.set = preference_set,
	.get = preference_get,
};

module_param_cb(aes_gcm, &preference_ops, aes_gcm, 0644);
MODULE_PARM_DESC(aes_gcm, "Implementation of AES-GCM for keys to come, a list of: NAME (a driver or template of the crypto API), !NAME (not this one), async (the highest-ranked one, asynchronous or not). Default: the highest-ranked synchronous one");

module_param_cb(chacha20_poly1305, &preference_ops, chacha20_poly1305, 0644);
MODULE_PARM_DESC(chacha20_poly1305, "The same for ChaCha20-Poly1305. Default: library (the kernel's library functions)");

module_param(allow_insecure_none, bool, 0644);
MODULE_PARM_DESC(allow_insecure_none, "Accept keys of cipher none, whose packets anybody can read and forge. For laboratories. Default: N");

static unsigned int first_packet_id = 1;
module_param(first_packet_id, uint, 0644);
MODULE_PARM_DESC(first_packet_id, "Packet id that keys to come send first, for tests of their end at 4294967295. Default: 1");

u32 ovpn_params_first_packet_id(void)
{
	return READ_ONCE(first_packet_id);
}

u32 ovpn_params_preference(u32 cipher, u8 out[OVPN_PREFERENCE_LEN])
{
	/* enum ovpn_cipher_alg */
	const char *text = cipher == 1 ? aes_gcm : chacha20_poly1305;
	u32 len;

	kernel_param_lock(THIS_MODULE);
	len = strlen(text);
	memcpy(out, text, len);
	kernel_param_unlock(THIS_MODULE);
	return len;
}

bool ovpn_params_allow_none(void)
{
	return READ_ONCE(allow_insecure_none);
}
