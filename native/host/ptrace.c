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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptrace.h"
#include "zygote.h"

uint32_t tracer_slot_of_tid[1 << 22];
struct tracer tracer = { .epfd = -1, .sigfd = -1, .listener = -1, .rescan = 1 };

struct slot *pt_slots(void)
{
	return tracer.slots;
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

	tracer.slots = mmap(NULL, sizeof(struct slot) * SLOTS, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (tracer.slots == MAP_FAILED)
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	block_sigchld_everywhere();
	tracer.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	tracer.epfd = epoll_create1(EPOLL_CLOEXEC);
	if (tracer.sigfd < 0 || tracer.epfd < 0 || epoll_ctl(tracer.epfd, EPOLL_CTL_ADD, tracer.sigfd, &ev) < 0)
		return -errno;
	return tracer.epfd;
}

int pt_watch(int op, int fd, unsigned events, unsigned data)
{
	struct epoll_event ev = { .events = events, .data.u32 = data };

	if (epoll_ctl(tracer.epfd, op, fd, &ev) < 0)
		return -errno;
	watched_fds += op == EPOLL_CTL_ADD ? 1 : op == EPOLL_CTL_DEL ? -1 : 0;
	return 0;
}

void tracer_adopt(int s, pid_t tid)
{
	memset(&tracer.slots[s], 0, sizeof(struct slot));
	tracer.slots[s].tid = tid;
	tracer_slot_of_tid[tid] = s + 1;
}

void tracer_forget(struct slot *slot)
{
	tracer_slot_of_tid[slot->tid] = 0;
	slot->tid = 0;
}

/* ---- zygote ----------------------------------------------------------------------------------------------------- */

#define OPTIONS                                                                                              \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |                \
	 PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD)

int tracer_wait_tid(pid_t tid)
{
	int status;

	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return status;
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
	status = tracer_wait_tid(pid);
	if (!WIFSTOPPED(status))
		return -ECHILD;
	tracer_adopt(s, pid);
	ptrace(PTRACE_GETREGS, pid, 0, &tracer.slots[s].regs);
	tracer.slots[s].regs.orig_rax = -1;
	return 0;
}

int pt_resume(int s)
{
	struct slot *slot = &tracer.slots[s];

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
	struct user_regs_struct regs = tracer.slots[s].regs;
	pid_t tid = tracer.slots[s].tid;

	regs.rip = rip;
	regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, tid, 0, &regs) < 0 || ptrace(PTRACE_DETACH, tid, 0, 0) < 0)
		return -errno;
	tracer_forget(&tracer.slots[s]);
	return 0;
}

int pt_sigfd(void)
{
	return tracer.sigfd;
}

int pt_interrupt(int s)
{
	return ptrace(PTRACE_INTERRUPT, tracer.slots[s].tid, 0, 0) < 0 ? -errno : 0;
}

/* Ends one stopped thread; its slot is free when its end was collected. */
void pt_exit_thread(int s)
{
	struct slot *slot = &tracer.slots[s];
	struct user_regs_struct regs = slot->regs;

	slot->zombie = 1;
	if (slot->trap == TRAP_GONE) {
		tracer_forget(slot);
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
	struct slot *slot = &tracer.slots[s];

	slot->zombie = 1;
	if (slot->trap == TRAP_GONE)
		tracer_forget(slot);
}

int pt_slot_tid(int s)
{
	return tracer.slots[s].tid;
}

int pt_slot_free(int s)
{
	return tracer.slots[s].tid == 0;
}

long pt_get_fpu(int s, void *buf, unsigned long len)
{
	struct iovec iov = { buf, len };

	if (ptrace(PTRACE_GETREGSET, tracer.slots[s].tid, NT_X86_XSTATE, &iov) < 0)
		return -errno;
	return iov.iov_len;
}

long pt_set_fpu(int s, void *buf, unsigned long len)
{
	struct iovec iov = { buf, len };

	return ptrace(PTRACE_SETREGSET, tracer.slots[s].tid, NT_X86_XSTATE, &iov) < 0 ? -errno : 0;
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
	tracer.listener = fd;
	return pt_watch(EPOLL_CTL_ADD, fd, EPOLLIN, UINT32_MAX - 1);
}
