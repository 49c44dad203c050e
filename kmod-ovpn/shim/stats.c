// SPDX-License-Identifier: GPL-2.0
/* Per-CPU 64-bit counters, cheap on CPUs without 64-bit atomics. */

#include <linux/percpu.h>
#include <linux/timekeeping.h>
#include <linux/u64_stats_sync.h>

#include "internal.h"

/* The packets counter of a bytes counter is two places behind it. */
#define OVPN_PACKETS_OF(bytes)	((bytes) + 2)
static_assert(OVPN_PACKETS_OF(OVPN_STAT_VPN_RX_BYTES) == OVPN_STAT_VPN_RX_PACKETS);
static_assert(OVPN_PACKETS_OF(OVPN_STAT_LINK_TX_BYTES) == OVPN_STAT_LINK_TX_PACKETS);

struct ovpn_stats_cpu {
	u64_stats_t value[OVPN_STAT_COUNT];
	struct u64_stats_sync sync;
};

/* Opaque to Rust, which holds a plain pointer to it. */
struct ovpn_stats {
	struct ovpn_stats_cpu __percpu *cpu;
};

static struct ovpn_stats_cpu __percpu *ovpn_stats_cpu_alloc(void)
{
	struct ovpn_stats_cpu __percpu *all = alloc_percpu(struct ovpn_stats_cpu);
	int i;

	if (all)
		for_each_possible_cpu(i)
			u64_stats_init(&per_cpu_ptr(all, i)->sync);
	return all;
}

struct ovpn_stats *ovpn_stats_new(void)
{
	struct ovpn_stats *stats = kzalloc(sizeof(*stats), GFP_KERNEL);

	if (!stats)
		return NULL;
	stats->cpu = ovpn_stats_cpu_alloc();
	if (!stats->cpu) {
		kfree(stats);
		return NULL;
	}
	return stats;
}

void ovpn_stats_free(struct ovpn_stats *stats)
{
	free_percpu(stats->cpu);
	kfree(stats);
}

void ovpn_stats_add(struct ovpn_stats *stats, enum ovpn_stat bytes_of,
		    u32 packets, u32 bytes)
{
	struct ovpn_stats_cpu *cpu;

	local_bh_disable();
	cpu = this_cpu_ptr(stats->cpu);
	u64_stats_update_begin(&cpu->sync);
	u64_stats_add(&cpu->value[bytes_of], bytes);
	u64_stats_add(&cpu->value[OVPN_PACKETS_OF(bytes_of)], packets);
	u64_stats_update_end(&cpu->sync);
	local_bh_enable();
}

void ovpn_stats_read(const struct ovpn_stats *stats, u64 out[OVPN_STAT_COUNT])
{
	int i, n;

	memset(out, 0, sizeof(u64) * OVPN_STAT_COUNT);
	for_each_possible_cpu(i) {
		const struct ovpn_stats_cpu *cpu = per_cpu_ptr(stats->cpu, i);
		u64 seen[OVPN_STAT_COUNT];
		unsigned int start;

		do {
			start = u64_stats_fetch_begin(&cpu->sync);
			for (n = 0; n < OVPN_STAT_COUNT; n++)
				seen[n] = u64_stats_read(&cpu->value[n]);
		} while (u64_stats_fetch_retry(&cpu->sync, start));
		for (n = 0; n < OVPN_STAT_COUNT; n++)
			out[n] += seen[n];
	}
}

u32 ovpn_now(void)
{
	return ktime_get_boottime_seconds();
}
