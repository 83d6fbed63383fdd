/*
 * Processes that end (native/host/systrap.c): a thread that waits for its command is told to exit and does so by itself. To
 * kill it would take the sentry 40 µs, an interrupt to its CPU, and the same again to be told. In C for the reason that
 * systrap.c has.
 *
 * Only a stub that was tampered with stays: who has not ended after a while is killed. A number stays the process's until the
 * host has told us of its end and we have collected it (reap()), which is when it is forgotten here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <x86intrin.h>

#include "systrap.h"

#define LEAVING 64
#define PATIENCE_US 5000

static struct {
	int pid;
	uint64_t since;
} leaving[LEAVING];
static int leaving_count;

/* Ends the process of row i, its only thread. 0, or -EAGAIN: it is not waiting for a command, and has to be killed. */
int st_end_process(int i)
{
	if (threads[i].dead || !is_stopped(i) || leaving_count == LEAVING)
		return -EAGAIN;
	leaving[leaving_count].pid = threads[i].pid;
	leaving[leaving_count++].since = __rdtsc();
	command(i, COMMAND_EXIT);
	return 0;
}

/* Process `pid` has been collected. */
void forget_leaving(int pid)
{
	for (int n = 0; n < leaving_count; n++)
		if (leaving[n].pid == pid) {
			leaving[n] = leaving[--leaving_count];
			return;
		}
}

/* Kills who should be gone. */
void kill_late_leavers(void)
{
	uint64_t now = __rdtsc();

	for (int n = 0; n < leaving_count; n++) {
		if (now - leaving[n].since < PATIENCE_US * cycles_per_us)
			continue;
		kill(leaving[n].pid, SIGKILL);
		leaving[n].since = now;
	}
}

/* How long the sentry may sleep, at most: `timeout_ns`, < 0 for ever, or less. */
long leavers_timeout(long timeout_ns)
{
	const long patience_ns = PATIENCE_US * 1000L;

	return leaving_count > 0 && (timeout_ns < 0 || timeout_ns > patience_ns) ? patience_ns : timeout_ns;
}
