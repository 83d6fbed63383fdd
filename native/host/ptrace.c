/*
 * The ptrace driver under sentry/platform/ptrace: one slot per guest thread, shared with TypeScript.
 *
 * In C because a stop needs several ptrace calls in a row (wait, registers, siginfo) and the zygote has to be cloned
 * and confined without running JavaScript. The tracer is the thread that calls pt_init: Node's main thread.
 *
 * Races: a thread may be killed by the host at any time. Then a ptrace call fails with ESRCH and the wait loop reports
 * the end; nothing here waits without also noticing that the thread it waits for is gone.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stub/protocol.h"
#include "zygote.h"

#define SLOTS 32768

/* Mirrored by sentry/platform/ptrace/thread.ts. */
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

static struct slot *slots;
static uint32_t slot_of_tid[1 << 22]; /* slot + 1; pages are touched only where there are threads */
static int epfd = -1, sigfd = -1, listener = -1;
/* A SIGCHLD was read while waiting for one thread: others may have stopped too. */
static int rescan = 1;

struct slot *pt_slots(void)
{
	return slots;
}

int pt_slot_count(void)
{
	return SLOTS;
}

/* Runs once in each other thread: the changed mask stays when the handler returns. */
static volatile int masked;

static void mask_sigchld(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGCHLD);
	__atomic_add_fetch(&masked, 1, __ATOMIC_SEQ_CST);
}

/* Node has threads that block everything; they need no help, and would never answer. */
static int blocks_sigchld(pid_t tid)
{
	char path[64], text[4096];
	const char *line;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	line = strstr(text, "SigBlk:");
	return line == NULL || (strtoull(line + 7, NULL, 16) >> (SIGCHLD - 1) & 1);
}

/*
 * Blocks SIGCHLD in every thread. Node resets the mask that it inherits, and its own threads would take (and ignore)
 * the signals that our signalfd waits for. Threads made later inherit the mask of their makers.
 */
static void block_sigchld_everywhere(void)
{
	struct sigaction act = { .sa_sigaction = mask_sigchld, .sa_flags = SA_SIGINFO | SA_RESTART }, old;
	int sig = SIGRTMAX - 2, sent = 0;
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;

	if (dir == NULL)
		return;
	sigaction(sig, &act, &old);
	while ((entry = readdir(dir)) != NULL) {
		pid_t tid = atoi(entry->d_name);

		if (tid > 0 && tid != (pid_t)syscall(SYS_gettid) && !blocks_sigchld(tid) &&
		    syscall(SYS_tgkill, getpid(), tid, sig) == 0)
			sent++;
	}
	closedir(dir);
	/* A thread that ends in between never answers: give up after a second. */
	for (int i = 0; masked < sent && i < 10000; i++)
		usleep(100);
	sigaction(sig, &old, NULL);
}

/* Host descriptors that the sentry watches. */
int watched_fds;

/* Makes the calling thread the tracer. Returns the epoll fd or -errno. */
int pt_init(void)
{
	sigset_t set;
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = UINT32_MAX };

	slots = mmap(NULL, sizeof(struct slot) * SLOTS, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slots == MAP_FAILED)
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	block_sigchld_everywhere();
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (sigfd < 0 || epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, sigfd, &ev) < 0)
		return -errno;
	return epfd;
}

int pt_watch(int op, int fd, unsigned events, unsigned data)
{
	struct epoll_event ev = { .events = events, .data.u32 = data };

	if (epoll_ctl(epfd, op, fd, &ev) < 0)
		return -errno;
	watched_fds += op == EPOLL_CTL_ADD ? 1 : op == EPOLL_CTL_DEL ? -1 : 0;
	return 0;
}

static void drain_sigfd(void)
{
	struct signalfd_siginfo info;

	while (read(sigfd, &info, sizeof(info)) == sizeof(info))
		;
	rescan = 1;
}

static void adopt(int s, pid_t tid)
{
	memset(&slots[s], 0, sizeof(struct slot));
	slots[s].tid = tid;
	slot_of_tid[tid] = s + 1;
}

static void forget(struct slot *slot)
{
	slot_of_tid[slot->tid] = 0;
	slot->tid = 0;
}

/* ---- zygote ----------------------------------------------------------------------------------------------------- */

#define OPTIONS                                                                                              \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |                \
	 PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD)

/* Waits for one thread to stop or end. Returns its wait status. */
static int wait_tid(pid_t tid)
{
	int status;

	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static int is_event_stop(int status)
{
	return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_STOP;
}

/*
 * Starts the zygote in slot s, stopped. For systrap it has the given descriptors as WAKE_FD, 7 and 8; else they are -1.
 * 0 or -errno.
 */
int pt_zygote(int s, int stub_fd, int wake_fd, int control_fd, int arena_fd, int nice)
{
	pid_t pid = zygote_start(stub_fd, wake_fd, control_fd, arena_fd, nice);
	int status;

	if (pid < 0)
		return pid;
	if (ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0) {
		int err = errno;

		kill(pid, SIGKILL);
		waitpid(pid, &status, __WALL);
		return -err;
	}
	status = wait_tid(pid);
	if (!WIFSTOPPED(status))
		return -ECHILD;
	adopt(s, pid);
	ptrace(PTRACE_GETREGS, pid, 0, &slots[s].regs);
	slots[s].regs.orig_rax = -1;
	return 0;
}

/* ---- running the stub in a stopped thread ------------------------------------------------------------------------ */

struct expected {
	const double *rows;
	int count;
	int next;
};

static void answer(const struct seccomp_notif *req, int error, unsigned flags)
{
	struct seccomp_notif_resp resp = { .id = req->id, .error = error, .flags = flags };

	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/*
 * One seccomp notification: a file mapping. Continued only if it is the one that was ordered for this thread, with
 * exactly those arguments; register arguments cannot change after the check. `donated` says whether fd 5 was filled.
 */
static void take_notification(pid_t tid, struct expected *exp)
{
	struct seccomp_notif req;
	const double *row = NULL;

	memset(&req, 0, sizeof(req));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
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

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) == DONATED_FD) {
			answer(&req, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
			return;
		}
	}
	answer(&req, -EPERM, 0);
}

/* Threads that ended while the stub ran in them: their wait status is spent, so pt_wait has to tell. */
static struct {
	int slot;
	pid_t tid;
} ended[SLOTS];
static int ended_count;

static void gone(struct slot *slot)
{
	slot->trap = TRAP_GONE;
	if (ended_count < SLOTS) {
		ended[ended_count].slot = slot - slots;
		ended[ended_count++].tid = slot->tid;
	}
}

/* The next of them that still is the thread of its slot, or -1. */
static int report_ended(void)
{
	while (ended_count > 0) {
		int s = ended[--ended_count].slot;

		if (slots[s].tid == ended[ended_count].tid && slots[s].trap == TRAP_GONE && !slots[s].zombie)
			return s;
	}
	return -1;
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
			status = wait_tid(tid);
		} else {
			pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

			if (got == 0) {
				struct pollfd fds[2] = { { listener, POLLIN, 0 }, { sigfd, POLLIN, 0 } };

				poll(fds, 2, -1);
				if (fds[0].revents & POLLIN)
					take_notification(tid, exp);
				if (fds[1].revents & POLLIN)
					drain_sigfd();
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
	rescan = 1;
	if (interrupted)
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	return ret;
lost:
	gone(slot);
	return -ESRCH;
}

/* One host call in a stopped thread. Its own registers stay as they are in the slot. */
long pt_call(int s, long nr, long a, long b, long c, long d, long e, long f)
{
	struct user_regs_struct regs = slots[s].regs;

	regs.rip = STUB_ONE;
	regs.rax = nr;
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	regs.r10 = d;
	regs.r8 = e;
	regs.r9 = f;
	if (run_stub(&slots[s], &regs, NULL) < 0)
		return -ESRCH;
	return (long)regs.rax;
}

/* Runs `count` operations (rows of sentry/platform/memory-ops.ts). 0 or -errno of the first that failed. */
long pt_batch(int s, const double *rows, int count)
{
	struct slot *slot = &slots[s];
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

/* ---- threads ----------------------------------------------------------------------------------------------------- */

/*
 * Clones a stopped thread; the child lands in slot c, stopped, with the registers of the parent. If the parent stands at
 * a seccomp stop, its call becomes the clone; else the stub makes it. 0 or -errno.
 */
int pt_clone(int s, int c, unsigned long flags)
{
	struct slot *slot = &slots[s];
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

		status = wait_tid(tid);
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
	rescan = 1;
	ptrace(PTRACE_GETREGS, tid, 0, &regs);
	if (interrupted)
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	if (child == 0)
		return (long)regs.rax < 0 ? (int)regs.rax : -EAGAIN;
	status = wait_tid(child);
	if (!WIFSTOPPED(status))
		return -EAGAIN;
	adopt(c, child);
	slots[c].regs = slot->regs;
	slots[c].regs.orig_rax = -1;
	return 0;
lost:
	gone(slot);
	return -ESRCH;
}

int pt_resume(int s)
{
	struct slot *slot = &slots[s];

	if (slot->trap == TRAP_GONE)
		return -ESRCH;
	slot->trap = TRAP_NONE;
	slot->at_entry = 0;
	if (ptrace(PTRACE_SETREGS, slot->tid, 0, &slot->regs) < 0 || ptrace(PTRACE_CONT, slot->tid, 0, 0) < 0)
		return -errno;
	return 0;
}

/* Lets the zygote run from `rip` without a tracer. */
int pt_detach(int s, unsigned long rip)
{
	struct user_regs_struct regs = slots[s].regs;
	pid_t tid = slots[s].tid;

	regs.rip = rip;
	regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0 || ptrace(PTRACE_DETACH, tid, 0, 0) < 0)
		return -errno;
	forget(&slots[s]);
	return 0;
}

int pt_sigfd(void)
{
	return sigfd;
}

int pt_interrupt(int s)
{
	return ptrace(PTRACE_INTERRUPT, slots[s].tid, 0, 0) < 0 ? -errno : 0;
}

/* Ends one stopped thread; its slot is free when its end was collected. */
void pt_exit_thread(int s)
{
	struct slot *slot = &slots[s];
	struct user_regs_struct regs = slot->regs;

	slot->zombie = 1;
	if (slot->trap == TRAP_GONE) {
		forget(slot);
		return;
	}
	regs.orig_rax = -1;
	regs.rip = STUB_ONE;
	regs.rax = SYS_exit;
	regs.rdi = 0;
	if (ptrace(PTRACE_SETREGS, slot->tid, 0, &regs) == 0)
		ptrace(PTRACE_CONT, slot->tid, 0, 0);
}

/* The end of this thread, expected or past, is no news any more. */
void pt_abandon(int s)
{
	struct slot *slot = &slots[s];

	slot->zombie = 1;
	if (slot->trap == TRAP_GONE)
		forget(slot);
}

int pt_slot_tid(int s)
{
	return slots[s].tid;
}

int pt_slot_free(int s)
{
	return slots[s].tid == 0;
}

long pt_get_fpu(int s, void *buf, unsigned long len)
{
	struct iovec iov = { buf, len };

	if (ptrace(PTRACE_GETREGSET, slots[s].tid, NT_X86_XSTATE, &iov) < 0)
		return -errno;
	return iov.iov_len;
}

long pt_set_fpu(int s, void *buf, unsigned long len)
{
	struct iovec iov = { buf, len };

	return ptrace(PTRACE_SETREGSET, slots[s].tid, NT_X86_XSTATE, &iov) < 0 ? -errno : 0;
}

long pt_vm_read(int pid, unsigned long addr, char *buf, unsigned long at, unsigned long len)
{
	struct iovec local = { buf + at, len }, remote = { (void *)addr, len };
	ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	return n < 0 ? 0 : n;
}

long pt_vm_write(int pid, unsigned long addr, const char *buf, unsigned long at, unsigned long len)
{
	struct iovec local = { (char *)buf + at, len }, remote = { (void *)addr, len };
	ssize_t n = process_vm_writev(pid, &local, 1, &remote, 1, 0);

	return n < 0 ? 0 : n;
}

int pt_set_listener(int fd)
{
	listener = fd;
	return pt_watch(EPOLL_CTL_ADD, fd, EPOLLIN, UINT32_MAX - 1);
}

/* ---- the wait ---------------------------------------------------------------------------------------------------- */

/* Turns a wait status into a trap. Returns the slot, or -1 when it is no news. */
static int take_status(pid_t tid, int status)
{
	uint32_t index = slot_of_tid[tid];
	struct slot *slot;
	int event = status >> 16, sig;
	siginfo_t info;

	if (index == 0) {
		if (WIFSTOPPED(status))
			ptrace(PTRACE_CONT, tid, 0, 0);
		return -1;
	}
	slot = &slots[index - 1];
	if (!WIFSTOPPED(status)) {
		slot->trap = TRAP_GONE;
		if (slot->zombie) {
			forget(slot);
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

/*
 * Waits for a stop or a host event. timeout in ns, < 0 for ever. Returns a slot or -1; *nevents says how many entries
 * of evs are filled.
 */
int pt_wait(long timeout_ns, struct epoll_event *evs, int max, int *nevents)
{
	struct timespec ts = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	static unsigned turns;
	int n, kept = 0, status;

	*nevents = 0;
	n = report_ended();
	if (n >= 0)
		return n;
	for (;;) {
		if (rescan) {
			pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);

			if (tid > 0) {
				int s = take_status(tid, status);

				if (s < 0)
					continue;
				/* Busy guests must not starve host descriptors. */
				if ((++turns & 31) != 0)
					return s;
				n = epoll_wait(epfd, evs, max, 0);
				for (int i = 0; i < n; i++) {
					if (evs[i].data.u32 == UINT32_MAX)
						drain_sigfd();
					else if (evs[i].data.u32 == UINT32_MAX - 1)
						take_notification(0, NULL);
					else
						evs[kept++] = evs[i];
				}
				*nevents = kept;
				return s;
			}
			rescan = 0;
		}
		n = epoll_pwait2(epfd, evs, max, timeout_ns < 0 ? NULL : &ts, NULL);
		if (n <= 0)
			return -1;
		for (int i = 0; i < n; i++) {
			if (evs[i].data.u32 == UINT32_MAX)
				drain_sigfd();
			else if (evs[i].data.u32 == UINT32_MAX - 1)
				take_notification(0, NULL);
			else
				evs[kept++] = evs[i];
		}
		if (kept > 0) {
			*nevents = kept;
			return -1;
		}
		if (!rescan)
			return -1;
	}
}
