/* A system call without libc: the result, or -errno. For the stub, which has none, and for TypeScript (native/host/host.c). */
#ifndef TSSANDBOX_STUB_RAW_CALL_H
#define TSSANDBOX_STUB_RAW_CALL_H

static inline long call6(long nr, long a, long b, long c, long d, long e, long f)
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

#endif
