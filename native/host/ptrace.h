/*
 * What the parts of the ptrace driver share: the table of guest threads.
 *
 * ptrace.c: set-up, the zygote, single threads. ptrace-orders.c: calls, operations and clones in a stopped thread.
 * ptrace-wait.c: the wait. One thread only: the sentry's.
 */
#ifndef TSSANDBOX_HOST_PTRACE_H
#define TSSANDBOX_HOST_PTRACE_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "stub/protocol.h"

#define SLOTS 32768

/* Mirrored by sentry/platform/ptrace/ptrace-platform.ts. */
struct slot {
	struct user_regs_struct regs; /* 27 × 8 = 216 bytes */
	uint32_t trap;		      /* 216 */
	int32_t signo;		      /* 220 */
	int32_t code;		      /* 224 */
	int32_t tid;		      /* 228 */
	uint64_t fault_addr;	      /* 232 */
	uint32_t zombie;	      /* 240: its end is no news */
	uint32_t at_entry;	      /* 244: stands at the seccomp stop of a call that has not been skipped yet */
};

extern struct tracer {
	struct slot *slots;
	int epfd, sigfd, listener;
	int rescan; /* a SIGCHLD was read while waiting for one thread: others may have stopped too */
} tracer;
/* slot + 1; pages are touched only where there are threads */
extern uint32_t tracer_slot_of_tid[1 << 22];

/* Slot s is thread `tid`'s; nobody's. */
void tracer_adopt(int s, pid_t tid);
void tracer_forget(struct slot *slot);
/* Waits for one thread to stop or end. Returns its wait status. */
int tracer_wait_tid(pid_t tid);
/* A thread ended while the stub ran in it. */
void tracer_gone(struct slot *slot);
void tracer_drain_sigfd(void);

struct expected;
/* Answers one notification of the filter: only what `exp` (NULL: nothing) expects of thread `tid` is let through. */
void tracer_take_notification(pid_t tid, struct expected *exp);

#endif
