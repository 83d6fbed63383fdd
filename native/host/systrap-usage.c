/*
 * What processes had used when the host collected them (native/host/systrap.c). In C because it is the driver that collects
 * the host's children, and wait4(2) says this for nothing there; read from /proc at each exit it costs 40 µs.
 */
#include <sys/resource.h>
#include <time.h>

#include "systrap.h"

#define REPORTS 1024
#define SETTLE_NS 20000000

/* A ring; `count` counts all that there ever were. native/systrap.ts follows it. */
static struct {
	uint32_t count;
	struct {
		uint32_t pid, max_rss_kb, minor_faults, major_faults;
	} report[REPORTS];
} ends;

void report_end(int pid, const struct rusage *used)
{
	uint32_t at = ends.count++ % REPORTS;

	ends.report[at].pid = pid;
	ends.report[at].max_rss_kb = used->ru_maxrss;
	ends.report[at].minor_faults = used->ru_minflt;
	ends.report[at].major_faults = used->ru_majflt;
}

void *st_ends(void)
{
	return &ends;
}

/* Collects until `pid` was: 100 µs for a process that was killed. One that lingers is not waited for. */
void st_await_end(int pid)
{
	struct timespec pause = { 0, 20000 };
	uint32_t seen = ends.count;

	for (long waited = 0; waited < SETTLE_NS; waited += pause.tv_nsec) {
		reap();
		for (; seen != ends.count; seen++)
			if (ends.report[seen % REPORTS].pid == (uint32_t)pid)
				return;
		nanosleep(&pause, NULL);
	}
}
