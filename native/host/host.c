/*
 * Raw system calls for koffi. TypeScript declares one prototype per shape of arguments (native/host.ts) over this one
 * function, so that a new host call needs no new C. Errors come back as -errno in the result, without errno's detour.
 */
#include <stdint.h>
#include <time.h>

#include "stub/raw-call.h"

/*
 * A clock in ns, CLOCK_MONOTONIC or CLOCK_BOOTTIME, whose numbers a double holds. Through the vDSO, which a raw call goes
 * past: the sentry looks at the clock in most system calls of its guests.
 */
long host_clock(int clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

long host_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	return call6(nr, a, b, c, d, e, f);
}
