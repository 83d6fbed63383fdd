/*
 * Raw system calls for koffi. TypeScript declares one prototype per shape of arguments (native/host.ts) over this one
 * function, so that a new host call needs no new C. Errors come back as -errno in the result, without errno's detour.
 */
#include <stdint.h>
#include <time.h>

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
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
