/*
 * Orders of the ptrace driver (native/host/ptrace.h): what a stopped thread does in its own process, calls, memory operations,
 * clones. In C for the reason that ptrace.c has: several ptrace calls in a row, and notifications of the filter in between.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "ptrace.h"

static int is_event_stop(int status)
{
	return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
}

/* File mappings that are due: rows of sentry/platform/memory-ops.ts. */
struct expected {
	const double *rows;
	int count;
	int next;
};

static void answer(const struct seccomp_notif *req, int error, unsigned flags)
{
	struct seccomp_notif_resp resp = { .id = req->id, .error = error, .flags = flags };

	ioctl(tracer.listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/*
 * One seccomp notification: a file mapping. Continued only if it is the one that was ordered for this thread, with
 * exactly those arguments; register arguments cannot change after the check. `donated` says whether fd 5 was filled.
 */
void tracer_take_notification(pid_t tid, struct expected *exp)
{
	struct seccomp_notif req;
	const double *row = NULL;

	memset(&req, 0, sizeof(req));
	if (ioctl(tracer.listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
		return;
	if (exp != NULL && (pid_t)req.pid == tid)
		while (exp->next < exp->count && row == NULL) {
			row = exp->rows + 8 * exp->next++;
			if (row[7] < 0)
				row = NULL;
		}
	if (row != NULL && req.data.nr == SYS_mmap && req.data.args[0] == (uint64_t)row[1] &&
	    req.data.args[1] == (uint64_t)row[2] && req.data.args[2] == (uint64_t)row[3] &&
	    req.data.args[3] == (uint64_t)row[4] && req.data.args[4] == DONATED_FD && req.data.args[5] == (uint64_t)row[6]) {
		struct seccomp_notif_addfd add = { .id = req.id,
						   .srcfd = (unsigned)row[7],
						   .newfd = DONATED_FD,
						   .flags = SECCOMP_ADDFD_FLAG_SETFD,
						   .newfd_flags = O_CLOEXEC };

		if (ioctl(tracer.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) == DONATED_FD) {
			answer(&req, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
			return;
		}
	}
	answer(&req, -EPERM, 0);
}

/*
 * Continues a thread whose registers point into the stub until its int3. Other stops on the way are dropped: an
 * interrupt is asked for again. Returns 0, or -ESRCH when the thread ended.
 */
static int run_stub(struct slot *slot, struct user_regs_struct *regs, struct expected *exp)
{
	pid_t tid = slot->tid;
	int interrupted = 0, status, ret = 0;

	slot->at_entry = 0;
	regs->orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, tid, 0, regs) < 0 || ptrace(PTRACE_CONT, tid, 0, 0) < 0)
		goto lost;
	for (;;) {
		if (exp == NULL) {
			status = tracer_wait_tid(tid);
		} else {
			pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

			if (got == 0) {
				struct pollfd fds[2] = { { tracer.listener, POLLIN, 0 }, { tracer.sigfd, POLLIN, 0 } };

				poll(fds, 2, -1);
				if (fds[0].revents & POLLIN)
					tracer_take_notification(tid, exp);
				if (fds[1].revents & POLLIN)
					tracer_drain_sigfd();
				continue;
			}
			if (got < 0)
				goto lost;
		}
		if (!WIFSTOPPED(status))
			goto lost;
		if (is_event_stop(status)) {
			interrupted = 1;
		} else if (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0) {
			break;
		} else if (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGBUS || WSTOPSIG(status) == SIGILL) {
			/* The guest unmapped or overwrote its stub: the process cannot go on. */
			kill(tid, SIGKILL);
		}
		ptrace(PTRACE_CONT, tid, 0, 0);
	}
	if (ptrace(PTRACE_GETREGS, tid, 0, regs) < 0)
		goto lost;
	tracer.rescan = 1;
	if (interrupted)
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	return ret;
lost:
	tracer_gone(slot);
	return -ESRCH;
}

/* One host call in a stopped thread. Its own registers stay as they are in the slot. */
long pt_call(int s, long nr, long a, long b, long c, long d, long e, long f)
{
	struct user_regs_struct regs = tracer.slots[s].regs;

	regs.rip = STUB_ONE;
	regs.rax = nr;
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	regs.r10 = d;
	regs.r8 = e;
	regs.r9 = f;
	if (run_stub(&tracer.slots[s], &regs, NULL) < 0)
		return -ESRCH;
	return (long)regs.rax;
}

/* Runs `count` operations (rows of sentry/platform/memory-ops.ts). 0 or -errno of the first that failed. */
long pt_batch(int s, const double *rows, int count)
{
	struct slot *slot = &tracer.slots[s];
	struct user_regs_struct regs = slot->regs;
	struct expected exp = { rows, count, 0 };
	uint64_t ops[64][8];
	struct iovec local, remote;
	int files = 0, n = 0;

	if (count < 1 || count > 60)
		return -E2BIG;
	for (int i = 0; i < count; i++) {
		const double *row = rows + 8 * i;

		for (int j = 0; j < 7; j++)
			ops[n][j] = row[j] < 0 ? (uint64_t)(int64_t)row[j] : (uint64_t)row[j];
		if (row[7] >= 0) {
			ops[n][5] = DONATED_FD;
			files = 1;
		}
		n++;
	}
	if (files) {
		memset(ops[n], 0, sizeof(ops[n]));
		ops[n][0] = SYS_close;
		ops[n][1] = DONATED_FD;
		n++;
	}
	if (n == 1) {
		long ret = pt_call(s, ops[0][0], ops[0][1], ops[0][2], ops[0][3], ops[0][4], ops[0][5], ops[0][6]);

		return (unsigned long)ret > -4096UL ? ret : 0;
	}
	local = (struct iovec){ ops, n * sizeof(ops[0]) };
	remote = (struct iovec){ (void *)STUB_OPS, n * sizeof(ops[0]) };
	if (process_vm_writev(slot->tid, &local, 1, &remote, 1, 0) != (ssize_t)local.iov_len)
		return -EFAULT;
	regs.rip = STUB_BATCH;
	regs.r12 = STUB_OPS;
	regs.r13 = n;
	if (run_stub(slot, &regs, files ? &exp : NULL) < 0)
		return -ESRCH;
	if (regs.rax > -4096UL) {
		if (files)
			pt_call(s, SYS_close, DONATED_FD, 0, 0, 0, 0, 0);
		return (long)regs.rax;
	}
	return 0;
}

/*
 * Clones a stopped thread; the child lands in slot c, stopped, with the registers of the parent. If the parent stands at
 * a seccomp stop, its call becomes the clone; else the stub makes it. 0 or -errno.
 */
int pt_clone(int s, int c, unsigned long flags)
{
	struct slot *slot = &tracer.slots[s];
	struct user_regs_struct regs = slot->regs;
	pid_t tid = slot->tid, child = 0;
	int direct = slot->at_entry, status, started = direct, interrupted = 0;

	slot->at_entry = 0;

	regs.rdi = flags;
	regs.rsi = regs.rdx = regs.r10 = regs.r8 = 0;
	if (direct) {
		regs.orig_rax = SYS_clone;
	} else {
		regs.orig_rax = -1;
		regs.rax = SYS_clone;
		regs.rip = STUB_ONE;
	}
	if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0 || ptrace(direct ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, 0) < 0)
		goto lost;
	for (;;) {
		int event;

		status = tracer_wait_tid(tid);
		if (!WIFSTOPPED(status))
			goto lost;
		event = status >> 16;
		if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
			unsigned long msg = 0;

			ptrace(PTRACE_GETEVENTMSG, tid, 0, &msg);
			child = msg;
		} else if (event == PTRACE_EVENT_SECCOMP) {
			started = 1;
		} else if (event == PTRACE_EVENT_STOP) {
			interrupted = 1;
		} else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			break;
		}
		if (ptrace(started ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, 0) < 0)
			goto lost;
	}
	tracer.rescan = 1;
	ptrace(PTRACE_GETREGS, tid, 0, &regs);
	if (interrupted)
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	if (child == 0)
		return (long)regs.rax < 0 ? (int)regs.rax : -EAGAIN;
	status = tracer_wait_tid(child);
	if (!WIFSTOPPED(status))
		return -EAGAIN;
	tracer_adopt(c, child);
	tracer.slots[c].regs = slot->regs;
	tracer.slots[c].regs.orig_rax = -1;
	return 0;
lost:
	tracer_gone(slot);
	return -ESRCH;
}
