// SPDX-License-Identifier: GPL-2.0
/*
 * How busy the CPUs are, and which of them is to open a peer's packets. The CPU
 * that a peer's packets come to opens them itself, which costs least, until it
 * has no time left; then one that has does it.
 *
 * Busy is the time that the kernel accounts for in /proc/stat, over a window of
 * a tenth of a second: at HZ=100 that is ten ticks. A CPU that is idle does not
 * keep this account up to date, but then nothing is added to it either.
 */

#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/kernel_stat.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/spinlock.h>

#include "internal.h"

#define LOAD_WINDOW	max(HZ / 10, 1)
/* Percent of a window. From the first on a CPU has no time left. */
#define LOAD_FULL	90
/* Up to here a CPU has time for what another one has not. */
#define LOAD_ROOM	60
/* Below, a CPU takes back what it gave away. */
#define LOAD_LOW	40

struct ovpn_load {
	/* Nanoseconds, modulo 2^32: windows are shorter than that. */
	u32 busy;
	u32 percent;
};

static DEFINE_PER_CPU(struct ovpn_load, ovpn_load);
/* Guards the writes of all that, and the time of the last ones, in jiffies. */
static DEFINE_SPINLOCK(load_lock);
static unsigned long load_since;

/* The low half of the sum: a reader on 32 bit may meet a write of the other. */
static u32 load_busy(int cpu)
{
	static const u8 at[] = {
		CPUTIME_USER, CPUTIME_NICE, CPUTIME_SYSTEM, CPUTIME_SOFTIRQ,
		CPUTIME_IRQ, CPUTIME_STEAL,
	};
	u32 sum = 0;
	int n;

	for (n = 0; n < ARRAY_SIZE(at); n++)
		sum += (u32)kcpustat_cpu(cpu).cpustat[at[n]];
	return sum;
}

/* [bottom halves off] Begin a new window if the last one is over. */
static void load_look(void)
{
	unsigned long window = jiffies - READ_ONCE(load_since);
	u32 busy, us;
	int cpu;

	if (likely(window < LOAD_WINDOW) || !spin_trylock(&load_lock))
		return;
	window = jiffies - load_since;
	us = jiffies_to_usecs(min_t(unsigned long, window, HZ));
	if (window >= LOAD_WINDOW) {
		for_each_online_cpu(cpu) {
			struct ovpn_load *load = per_cpu_ptr(&ovpn_load, cpu);

			busy = load_busy(cpu);
			/* Of a longer time nothing can be told. */
			WRITE_ONCE(load->percent, window > HZ ? 0 :
				   (busy - load->busy) / (us * 10));
			load->busy = busy;
		}
		WRITE_ONCE(load_since, jiffies);
	}
	spin_unlock(&load_lock);
}

static u32 load_of(int cpu)
{
	return READ_ONCE(per_cpu_ptr(&ovpn_load, cpu)->percent);
}

int ovpn_load_pick(int last)
{
	int here = smp_processor_id(), best = here, cpu;

	if (num_online_cpus() == 1)
		return here;
	load_look();
	if (last != here && cpu_online(last) && load_of(here) >= LOAD_LOW)
		return last;
	if (likely(load_of(here) < LOAD_FULL))
		return here;
	for_each_online_cpu(cpu)
		if (load_of(cpu) < load_of(best))
			best = cpu;
	return load_of(best) <= LOAD_ROOM ? best : here;
}
