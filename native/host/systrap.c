/*
 * The systrap driver under sentry/platform/systrap (DESIGN §6, native/stub/protocol.h).
 *
 * In C because a turn of the sentry (spin on shared words, copy registers, wake) is too short to be taken apart into
 * foreign calls, and because atomics on the slots have to pair with the stub's.
 *
 * Threads are rows of a table that TypeScript sees; their slots are mapped side by side, so that row i's slot is at
 * slots + i * SLOT_SIZE. What is read from a slot is copied once and then checked: guest code can write it at any time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "systrap.h"

struct thread *threads;
uint8_t *slots;
struct stub_control *control;
int wake_pipe[2] = { -1, -1 }, listener = -1, sigfd = -1;
static int control_fd = -1;
int epfd = -1;
int running[THREADS], running_count;
int high;
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, uint64_t)
#endif
#define NOTIF_SYNC_WAKE_UP 1UL

struct thread *st_threads(void)
{
	return threads;
}

/* The slots, row by row; those without a thread must not be touched. */
uint8_t *st_slots(void)
{
	return slots;
}

struct stub_control *st_control(void)
{
	return control;
}

/* What the stub does with a call before the sentry sees it: CALL_* and CHECK_*. */
void st_set_call(int nr, int how, int check)
{
	control->calls[nr] = how;
	control->checks[nr] = check;
}

/*
 * Takes over epoll and signalfd of the ptrace driver, which sets up the zygote. `spin_us` 0: never spin (one CPU).
 * Returns 0 or -errno.
 */
int st_init(int epoll_fd, int sigchld_fd, int spin_us)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = UINT32_MAX - 2 };
	struct stub_control *map;

	epfd = epoll_fd;
	sigfd = sigchld_fd;
	threads = mmap(NULL, sizeof(struct thread) * THREADS, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	slots = mmap(NULL, THREADS * SLOT_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (threads == MAP_FAILED || slots == MAP_FAILED)
		return -ENOMEM;
	control_fd = memfd_create("tssandbox-control", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (control_fd < 0 || ftruncate(control_fd, CONTROL_SIZE) < 0)
		return -errno;
	map = mmap(NULL, CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	control = map;
	/* Guests get the pages read-only: no later mapping of this file can be writable. */
	if (fcntl(control_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	spin_init(spin_us);
	cpus_init();
	/* A pipe, not an eventfd: the kernel wakes a pipe's reader on the writer's CPU, which is about to go to sleep. */
	if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, wake_pipe[0], &ev) < 0)
		return -errno;
	return 0;
}

int st_control_fd(void)
{
	return control_fd;
}

int st_wake_fd(void)
{
	return wake_pipe[1];
}

/* An arena for a new address space: a sparse memory file. Returns its descriptor. */
int st_new_arena(void)
{
	int fd = memfd_create("tssandbox-arena", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, ARENA_SIZE) < 0) {
		close(fd);
		return -ENOMEM;
	}
	return fd < 0 ? -errno : fd;
}

void begin_row(int i, uint64_t guest_slot)
{
	memset(&threads[i], 0, sizeof(threads[i]));
	threads[i].guest_slot = guest_slot;
	threads[i].framed = 1;
	slot_of(i)->self = guest_slot;
	slot_of(i)->row = i;
}

/* Maps slot `local` of an arena as row i. 0 or -errno. */
int st_map_slot(int i, int arena_fd, int local)
{
	/* The end of the stack of patched sites, and where frames and the stub's stack below them lie. */
	static const uint32_t needed[] = { SIGNAL_STACK_OFFSET - 1, SIGNAL_STACK_OFFSET + SIGNAL_STACK_SIZE - 0x2001,
					   SIGNAL_STACK_OFFSET + SIGNAL_STACK_SIZE - 0x1001,
					   SIGNAL_STACK_OFFSET + SIGNAL_STACK_SIZE - 1 };
	void *at = mmap(slot_of(i), SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, arena_fd,
			(off_t)local * SLOT_SIZE);

	if (at == MAP_FAILED)
		return -errno;
	if (i >= high)
		high = i + 1;
	begin_row(i, ARENA_BASE + (uint64_t)local * SLOT_SIZE);
	slot_of(i)->used = 0;
	/*
	 * A thread that traps when its memory cgroup is full must still find its stacks, or the kernel kills it with a
	 * SIGSEGV that is nobody's fault: these pages are there from now on.
	 */
	for (size_t n = 0; n < sizeof(needed) / sizeof(needed[0]); n++)
		((volatile uint8_t *)slot_of(i))[needed[n]] = 0;
	return 0;
}

int known_tid(int tid)
{
	for (int i = 0; i < high; i++)
		if (threads[i].pid != 0 && threads[i].tid == tid)
			return 1;
	return 0;
}

/* Frees row i. */
void st_unmap_slot(int i)
{
	mmap(slot_of(i), SLOT_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	forget_cpu(i);
	threads[i].pid = 0;
	threads[i].tid = 0;
}

void st_set_ids(int i, int pid, int tid)
{
	threads[i].pid = pid;
	threads[i].tid = tid;
}

int st_set_listener(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = UINT32_MAX - 1 };

	listener = fd;
	/* Best effort: wake the notified thread on this CPU. */
	ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, NOTIF_SYNC_WAKE_UP);
	return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

void wake_stub(int i)
{
	syscall(SYS_futex, &slot_of(i)->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void command(int i, uint32_t what)
{
	struct stub_slot *slot = slot_of(i);

	slot->command = what;
	slot->order++;
	if (__atomic_exchange_n(&slot->state, STATE_COMMAND, __ATOMIC_SEQ_CST) == STATE_ASLEEP)
		wake_stub(i);
}

static void start_running(int i)
{
	running[running_count++] = i;
	threads[i].running = running_count;
	threads[i].resumed_at = __rdtsc();
	if (threads[i].drawn)
		let_go(&threads[i]);
}

void stop_running(int i)
{
	int at = threads[i].running - 1;

	if (threads[i].late_maps) {
		threads[i].late_maps = 0;
		late_map_forget(i);
	}
	if (at < 0)
		return;
	running[at] = running[--running_count];
	threads[running[at]].running = at + 1;
	threads[i].running = 0;
}

/* Collects ended children: their rows are reported as gone. */
void reap(void)
{
	struct rusage used;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, __WALL | WNOHANG, &used)) > 0) {
		part_arena(pid);
		forget_leaving(pid);
		report_end(pid, &used);
		for (int i = 0; i < high; i++) {
			if (threads[i].pid != pid)
				continue;
			threads[i].dead = 1;
			threads[i].trap = TRAP_GONE;
			stop_running(i);
			if (!threads[i].zombie)
				note_end(i);
		}
	}
}

void drain_sigfd(void)
{
	struct signalfd_siginfo info;

	while (read(sigfd, &info, sizeof(info)) == sizeof(info))
		;
	reap();
}

/* ---- resume, interrupt, end ------------------------------------------------------------------------------------------ */

static const uint8_t *kept_regs(const struct stub_slot *slot)
{
	return (const uint8_t *)slot + SITE_KEPT_OFFSET;
}

void st_whole(int i)
{
	struct thread *t = &threads[i];

	if (t->partial)
		memcpy(t->regs, kept_regs(slot_of(i)), 8 * SITE_KEPT);
	t->partial = 0;
}

/* Inline, so that it becomes a few wide instructions: this is done for every call. */
static inline __attribute__((always_inline)) int same(const struct thread *t, const struct stub_slot *slot, int from, int end)
{
	uint64_t differs = 0;

	for (int r = from; r < end; r++)
		differs |= t->regs[r] ^ slot->regs[r];
	return differs == 0;
}

/* Everything but RAX and the number is as it was when the thread called from a patched site. */
static int only_result(const struct thread *t, const struct stub_slot *slot)
{
	return same(t, slot, R10_INDEX, RAX_INDEX) && same(t, slot, RAX_INDEX + 1, ORIG_RAX_INDEX) &&
	       same(t, slot, RIP_INDEX, EFLAGS_INDEX) && same(t, slot, EFLAGS_INDEX + 1, REGS) &&
	       t->regs[EFLAGS_INDEX] == t->flags && t->regs[R11_INDEX] == t->flags &&
	       (t->partial || memcmp(t->regs, kept_regs(slot), 8 * SITE_KEPT) == 0);
}

int st_resume(int i)
{
	struct thread *t = &threads[i];
	struct stub_slot *slot = slot_of(i);
	int64_t rax = (int64_t)t->regs[RAX_INDEX];

	if (t->dead)
		return -ESRCH;
	/* A native call that was interrupted and that no handler saw: again. */
	if ((int64_t)t->regs[ORIG_RAX_INDEX] >= 0 && rax <= -512 && rax >= -516) {
		t->regs[RAX_INDEX] = t->regs[ORIG_RAX_INDEX];
		t->regs[RIP_INDEX] -= 2;
	}
	t->trap = TRAP_NONE;
	slot->op_count = t->late_ops;
	t->late_ops = 0;
	if (!t->framed && only_result(t, slot)) {
		slot->result = t->regs[RAX_INDEX];
		command(i, COMMAND_RETURN);
		start_running(i);
		return 0;
	}
	if (need_frame(i) < 0)
		return -ESRCH;
	memcpy(slot->regs, t->regs, sizeof(t->regs));
	command(i, COMMAND_RESUME);
	start_running(i);
	return 0;
}

/* A stopped thread will not go on soon: it need not spin for it. */
void st_park(int i)
{
	uint32_t state = STATE_TRAP;

	__atomic_compare_exchange_n(&slot_of(i)->state, &state, STATE_ASLEEP, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* The same for a blocked call: where CPUs are left over, spinning answers it sooner. */
void st_block(int i)
{
	if (look_around() >= cpus - 1)
		st_park(i);
}

/* The zygote has entered the protocol. */
int st_await(int i)
{
	int ret = await(i, NULL);

	if (ret == 0)
		memcpy(threads[i].regs, slot_of(i)->regs, sizeof(threads[i].regs));
	return ret;
}

/* Whether host thread `tid` of process `pid` is gone, so that its slot may be used again. */
int st_thread_gone(int pid, int tid)
{
	return syscall(SYS_tgkill, pid, tid, 0) < 0 && errno == ESRCH;
}

int st_interrupt(int i)
{
	if (threads[i].running == 0)
		return 0;
	return syscall(SYS_tgkill, threads[i].pid, threads[i].tid, INTERRUPT_SIGNAL) < 0 ? -errno : 0;
}

/* Ends a stopped thread alone. */
void st_exit_thread(int i)
{
	if (!threads[i].dead)
		command(i, COMMAND_EXIT);
}

/* The same, but the host's thread stays, for st_rise(). */
void st_rest(int i)
{
	if (threads[i].dead)
		return;
	anywhere(i);
	command(i, COMMAND_REST);
}

/* The whole process of row i was killed: its rows are no news any more. */
void st_abandon(int i)
{
	threads[i].zombie = 1;
	stop_running(i);
}
