/*
 * The wait of the ptrace driver (native/host/ptrace.h): which thread has stopped or ended, and what the host has to tell. In C
 * for the reason that ptrace.c has.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptrace.h"

void tracer_drain_sigfd(void)
{
	struct signalfd_siginfo info;

	while (read(tracer.sigfd, &info, sizeof(info)) == sizeof(info))
		;
	tracer.rescan = 1;
}

/* Threads that ended while the stub ran in them: their wait status is spent, so pt_wait has to tell. */
static struct {
	int slot;
	pid_t tid;
} ended[SLOTS];
static int ended_count;

void tracer_gone(struct slot *slot)
{
	slot->trap = TRAP_GONE;
	if (ended_count < SLOTS) {
		ended[ended_count].slot = slot - tracer.slots;
		ended[ended_count++].tid = slot->tid;
	}
}

/* The next of them that still is the thread of its slot, or -1. */
static int report_ended(void)
{
	while (ended_count > 0) {
		int s = ended[--ended_count].slot;

		if (tracer.slots[s].tid == ended[ended_count].tid && tracer.slots[s].trap == TRAP_GONE && !tracer.slots[s].zombie)
			return s;
	}
	return -1;
}

/* Turns a wait status into a trap. Returns the slot, or -1 when it is no news. */
static int take_status(pid_t tid, int status)
{
	uint32_t index = tracer_slot_of_tid[tid];
	struct slot *slot;
	int event = status >> 16, sig;
	siginfo_t info;

	if (index == 0) {
		if (WIFSTOPPED(status))
			ptrace(PTRACE_CONT, tid, 0, 0);
		return -1;
	}
	slot = &tracer.slots[index - 1];
	if (!WIFSTOPPED(status)) {
		slot->trap = TRAP_GONE;
		if (slot->zombie) {
			tracer_forget(slot);
			return -1;
		}
		return index - 1;
	}
	if (slot->zombie) {
		ptrace(PTRACE_CONT, tid, 0, 0);
		return -1;
	}
	sig = WSTOPSIG(status);
	if (ptrace(PTRACE_GETREGS, tid, 0, &slot->regs) < 0)
		return -1; /* killed in between: its end is next */
	slot->trap = TRAP_INTERRUPT;
	if (event == PTRACE_EVENT_SECCOMP) {
		slot->trap = TRAP_SYSCALL;
		slot->at_entry = 1;
	} else if (event == 0 && (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP) &&
		   ptrace(PTRACE_GETSIGINFO, tid, 0, &info) == 0 && info.si_code > 0) {
		slot->trap = TRAP_FAULT;
		slot->signo = sig;
		slot->code = info.si_code;
		slot->fault_addr = (uint64_t)info.si_addr;
	}
	return index - 1;
}

/* Sees to what is for the driver itself, and keeps the rest: how many. */
static int sort_events(struct epoll_event *evs, int n)
{
	int kept = 0;

	for (int i = 0; i < n; i++) {
		if (evs[i].data.u32 == UINT32_MAX)
			tracer_drain_sigfd();
		else if (evs[i].data.u32 == UINT32_MAX - 1)
			tracer_take_notification(0, NULL);
		else
			evs[kept++] = evs[i];
	}
	return kept;
}

/*
 * Waits for a stop or a host event. timeout in ns, < 0 for ever. Returns a slot or -1; *nevents says how many entries
 * of evs are filled.
 */
int pt_wait(long timeout_ns, struct epoll_event *evs, int max, int *nevents)
{
	struct timespec ts = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	static unsigned turns;
	int n, status;

	*nevents = 0;
	n = report_ended();
	if (n >= 0)
		return n;
	for (;;) {
		if (tracer.rescan) {
			pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);

			if (tid > 0) {
				int s = take_status(tid, status);

				if (s < 0)
					continue;
				/* Busy guests must not starve host descriptors. */
				if ((++turns & 31) != 0)
					return s;
				n = epoll_wait(tracer.epfd, evs, max, 0);
				*nevents = sort_events(evs, n);
				return s;
			}
			tracer.rescan = 0;
		}
		n = epoll_pwait2(tracer.epfd, evs, max, timeout_ns < 0 ? NULL : &ts, NULL);
		if (n <= 0)
			return -1;
		*nevents = sort_events(evs, n);
		if (*nevents > 0 || !tracer.rescan)
			return -1;
	}
}
