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
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "stub/protocol.h"

#define THREADS 16384
#define RIP_INDEX 16
#define RAX_INDEX 10
#define ORIG_RAX_INDEX 15

#define CLONE_PROCESS_FLAGS (0x8000 | SIGCHLD)
#define CLONE_THREAD_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000)

/*
 * Populated: a thread that traps when its memory cgroup is full must still find its signal stack, or the kernel kills it
 * with a SIGSEGV that is nobody's fault.
 */
#define SLOT_MAP_FLAGS (MAP_SHARED | MAP_FIXED | MAP_POPULATE)

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, uint64_t)
#endif
#define NOTIF_SYNC_WAKE_UP 1UL

/* Mirrored by sentry/platform/systrap/systrap-platform.ts. */
struct thread {
	uint64_t regs[REGS];	/* 0: private copy, valid while stopped */
	uint32_t trap;		/* 216 */
	int32_t signo;		/* 220 */
	int32_t code;		/* 224 */
	int32_t tid;		/* 228 */
	uint64_t fault_addr;	/* 232 */
	uint32_t trapno;	/* 240 */
	uint32_t error_code;	/* 244 */
	int32_t pid;		/* 248: host process; 0 = free */
	uint32_t running;	/* 252: index in `running` + 1 */
	uint64_t guest_slot;	/* 256: address of the slot in its process */
	uint32_t zombie;	/* 264: its end is no news */
	uint32_t dead;		/* 268: the process is gone */
};

static struct thread *threads;
static uint8_t *slots;
static struct stub_control *control;
static int wake_pipe[2] = { -1, -1 };
static int control_fd = -1, epfd = -1, sigfd = -1, listener = -1;
/* Rows whose threads run guest code. */
static int running[THREADS], running_count;
/* Set when SIGCHLD was seen: some process ended. */
static int children_changed;
/* Rows that ended and have to be reported. */
static int ended[THREADS], ended_count;
/* No row from here on was ever used. */
static int high;
/* How long the sentry spins before it sleeps, in cycles; adapts between 0 and spin_max, which is spin_limit on an idle machine. */
static uint64_t spin_now, spin_max, spin_limit, cycles_per_us;
/* Where the kernel says how long this thread was ready to run and did not: the measure of a busy machine. */
static int schedstat_fd = -1;
/* Both sides' budget when other work wants the CPUs: a spinning thread then only keeps its partner from running. */
#define BUSY_SPIN_US 2
#define LOAD_CHECK_US 5000

static struct stub_slot *slot_of(int i)
{
	return (struct stub_slot *)(slots + (size_t)i * SLOT_SIZE);
}

struct thread *st_threads(void)
{
	return threads;
}

static void measure_tsc(void)
{
	struct timespec a, b;
	uint64_t t0 = __rdtsc(), t1;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &a);
	do {
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec;
	} while (ns < 200000);
	t1 = __rdtsc();
	cycles_per_us = (t1 - t0) * 1000 / ns;
}

static void set_spin(uint64_t budget)
{
	spin_max = budget;
	spin_now = budget;
	control->spin = budget;
}

/* Did this thread wait for a CPU for more than a tenth of the time since the last check? */
static void check_load(void)
{
	static uint64_t last_check, last_delay;
	uint64_t now = __rdtsc(), delay, wanted;
	char text[128], *end;
	ssize_t n;

	if (now - last_check < LOAD_CHECK_US * cycles_per_us || spin_limit == 0)
		return;
	n = pread(schedstat_fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return;
	text[n] = 0;
	strtoull(text, &end, 10);
	delay = strtoull(end, NULL, 10);
	wanted = (delay - last_delay) * 10 > (now - last_check) * 1000 / cycles_per_us ? BUSY_SPIN_US * cycles_per_us : spin_limit;
	last_check = now;
	last_delay = delay;
	if (wanted != spin_max)
		set_spin(wanted);
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
	measure_tsc();
	threads = mmap(NULL, sizeof(struct thread) * THREADS, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	slots = mmap(NULL, THREADS * SLOT_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (threads == MAP_FAILED || slots == MAP_FAILED)
		return -ENOMEM;
	control_fd = memfd_create("tssandbox-control", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (control_fd < 0 || ftruncate(control_fd, 4096) < 0)
		return -errno;
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	control = map;
	/* Guests get the page read-only: no later mapping of this file can be writable. */
	if (fcntl(control_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	spin_limit = spin_us * cycles_per_us;
	set_spin(spin_limit);
	schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
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

/* Maps slot `local` of an arena as row i. 0 or -errno. */
int st_map_slot(int i, int arena_fd, int local)
{
	void *at = mmap(slot_of(i), SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, arena_fd,
			(off_t)local * SLOT_SIZE);

	if (at == MAP_FAILED)
		return -errno;
	if (i >= high)
		high = i + 1;
	memset(&threads[i], 0, sizeof(threads[i]));
	threads[i].guest_slot = ARENA_BASE + (uint64_t)local * SLOT_SIZE;
	return 0;
}

/* Frees row i. */
void st_unmap_slot(int i)
{
	mmap(slot_of(i), SLOT_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
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

static void command(int i, uint32_t what)
{
	struct stub_slot *slot = slot_of(i);

	slot->command = what;
	if (__atomic_exchange_n(&slot->state, STATE_COMMAND, __ATOMIC_SEQ_CST) == STATE_ASLEEP)
		syscall(SYS_futex, &slot->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int is_stopped(int i)
{
	uint32_t state = __atomic_load_n(&slot_of(i)->state, __ATOMIC_ACQUIRE);

	return state == STATE_TRAP || state == STATE_ASLEEP;
}

static void start_running(int i)
{
	running[running_count++] = i;
	threads[i].running = running_count;
}

static void stop_running(int i)
{
	int at = threads[i].running - 1;

	if (at < 0)
		return;
	running[at] = running[--running_count];
	threads[running[at]].running = at + 1;
	threads[i].running = 0;
}

/* Collects ended children: their rows are reported as gone. */
static void reap(void)
{
	int status;
	pid_t pid;

	children_changed = 0;
	while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
		for (int i = 0; i < high; i++) {
			if (threads[i].pid != pid)
				continue;
			threads[i].dead = 1;
			threads[i].trap = TRAP_GONE;
			stop_running(i);
			if (!threads[i].zombie)
				ended[ended_count++] = i;
		}
}

static void drain_sigfd(void)
{
	struct signalfd_siginfo info;

	while (read(sigfd, &info, sizeof(info)) == sizeof(info))
		;
	reap();
}

static void drain_wake_fd(void)
{
	char bytes[4096];

	while (read(wake_pipe[0], bytes, sizeof(bytes)) == sizeof(bytes))
		;
}

/* ---- notifications: clones and file mappings, checked against what was ordered ------------------------------------ */

struct order {
	int row;		/* the thread that was ordered */
	const double *rows;	/* COMMAND_OPS */
	int count, next;
	uint64_t clone_flags, clone_stack; /* a clone is due */
	int clone_due;
	int arena_fd;		/* the fork child's slot, due after the clone */
	uint64_t slot_addr, slot_offset;
	int child_pid;		/* out */
};

static int known_tid(int tid)
{
	for (int i = 0; i < high; i++)
		if (threads[i].pid != 0 && threads[i].tid == tid)
			return 1;
	return 0;
}

static void answer(uint64_t id, int error, unsigned flags)
{
	struct seccomp_notif_resp resp = { .id = id, .error = error, .flags = flags };

	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

static int donate(uint64_t id, int fd)
{
	struct seccomp_notif_addfd add = {
		.id = id, .srcfd = fd, .newfd = DONATED_FD, .flags = SECCOMP_ADDFD_FLAG_SETFD, .newfd_flags = O_CLOEXEC
	};

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) == DONATED_FD;
}

static int ordered_mapping(struct order *order, const struct seccomp_data *d)
{
	while (order->next < order->count) {
		const double *row = order->rows + 8 * order->next++;

		if (row[7] < 0)
			continue;
		if (d->args[0] == (uint64_t)row[1] && d->args[1] == (uint64_t)row[2] && d->args[2] == (uint64_t)row[3] &&
		    d->args[3] == (uint64_t)row[4] && d->args[4] == DONATED_FD && d->args[5] == (uint64_t)row[6])
			return (int)row[7];
		return -1;
	}
	return -1;
}

/* Register arguments are the kernel's copy: they cannot change after the check. */
static void take_notification(struct order *order)
{
	struct seccomp_notif req;
	const struct seccomp_data *d = &req.data;
	int fd = -1, ok = 0;

	memset(&req, 0, sizeof(req));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
		return;
	if (order != NULL && (int)req.pid == threads[order->row].tid) {
		if (d->nr == SYS_clone && order->clone_due) {
			ok = d->args[0] == order->clone_flags && d->args[1] == order->clone_stack && d->args[2] == 0 &&
			     d->args[3] == 0;
			order->clone_due = 0;
		} else if (d->nr == SYS_mmap) {
			fd = ordered_mapping(order, d);
			ok = fd >= 0 && donate(req.id, fd);
		}
	} else if (order != NULL && order->arena_fd >= 0 && !order->clone_due && d->nr == SYS_mmap &&
		   order->child_pid == 0 && d->args[0] == order->slot_addr && d->args[1] == SLOT_SIZE &&
		   d->args[2] == (PROT_READ | PROT_WRITE) && d->args[3] == SLOT_MAP_FLAGS &&
		   d->args[4] == DONATED_FD && d->args[5] == order->slot_offset && !known_tid(req.pid)) {
		/* Only the child of the clone that was just let through has a tid that is nobody's. */
		ok = donate(req.id, order->arena_fd);
		if (ok)
			order->child_pid = req.pid;
	}
	if (ok)
		answer(req.id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
	else
		answer(req.id, -EPERM, 0);
}

/* Waits until row i is stopped again. `order` NULL: no notification is due. 0, or -ESRCH when it ended. */
static int await(int i, struct order *order)
{
	uint64_t start = __rdtsc();
	unsigned turn = 0;

	for (;;) {
		if (is_stopped(i))
			return 0;
		if (threads[i].dead)
			return -ESRCH;
		if (order != NULL) {
			struct pollfd fd = { listener, POLLIN, 0 };

			if (poll(&fd, 1, 0) > 0) {
				take_notification(order);
				start = __rdtsc();
				continue;
			}
		}
		if (__rdtsc() - start < spin_max) {
			if (order == NULL || (++turn & 7) != 0)
				_mm_pause();
			continue;
		}
		__atomic_store_n(&control->sleeping, 1, __ATOMIC_SEQ_CST);
		if (!is_stopped(i)) {
			struct pollfd fds[3] = { { wake_pipe[0], POLLIN, 0 }, { sigfd, POLLIN, 0 }, { listener, POLLIN, 0 } };

			poll(fds, 3, -1);
			if (fds[0].revents & POLLIN)
				drain_wake_fd();
			if (fds[1].revents & POLLIN)
				drain_sigfd();
			if (fds[2].revents & POLLIN)
				take_notification(order);
		}
		__atomic_store_n(&control->sleeping, 0, __ATOMIC_SEQ_CST);
		start = __rdtsc();
	}
}

/* Runs `count` operations (rows of sentry/platform/memory-ops.ts) in a stopped thread. 0 or -errno. */
long st_batch(int i, const double *rows, int count)
{
	struct stub_slot *slot = slot_of(i);
	struct order order = { .row = i, .rows = rows, .count = count, .arena_fd = -1 };
	int files = 0, n = 0;
	long ret;

	if (threads[i].dead)
		return -ESRCH;
	if (count < 1 || count > MAX_STUB_OPS)
		return -E2BIG;
	for (; n < count; n++) {
		const double *row = rows + 8 * n;

		slot->ops[n].nr = row[0];
		for (int j = 0; j < 6; j++)
			slot->ops[n].args[j] = row[1 + j] < 0 ? (uint64_t)(int64_t)row[1 + j] : (uint64_t)row[1 + j];
		if (row[7] >= 0) {
			slot->ops[n].args[4] = DONATED_FD;
			files = 1;
		}
	}
	if (files) {
		memset(&slot->ops[n], 0, sizeof(slot->ops[n]));
		slot->ops[n].nr = SYS_close;
		slot->ops[n].args[0] = DONATED_FD;
		n++;
	}
	slot->op_count = n;
	command(i, COMMAND_OPS);
	if (await(i, files ? &order : NULL) < 0)
		return -ESRCH;
	ret = (long)slot->result;
	if ((unsigned long)ret <= -4096UL)
		return 0;
	if (files) {
		slot->ops[0].nr = SYS_close;
		slot->ops[0].args[0] = DONATED_FD;
		slot->op_count = 1;
		command(i, COMMAND_OPS);
		await(i, NULL);
	}
	return ret;
}

/* One call in a stopped thread; the result is the guest's word. */
long st_call(int i, long nr, long a, long b, long c, long d, long e, long f)
{
	struct stub_slot *slot = slot_of(i);

	if (threads[i].dead)
		return -ESRCH;
	slot->ops[0] = (struct stub_op){ nr, { a, b, c, d, e, f }, 0 };
	slot->op_count = 1;
	command(i, COMMAND_OPS);
	return await(i, NULL) < 0 ? -ESRCH : (long)slot->result;
}

/* Copies the parent's frame and stub state into the child's slot, moved by `delta` bytes. 0 or -EFAULT. */
static int copy_frame(int parent, int child, int64_t delta)
{
	struct stub_slot *from = slot_of(parent), *to = slot_of(child);
	uint64_t base = threads[parent].guest_slot;
	uint64_t context = from->context, stack = from->stack;
	uint64_t *fpstate;

	if (context < base + SIGNAL_STACK_OFFSET + 0x400 || context > base + SLOT_SIZE - 0x400 || (context & 7) != 0 ||
	    stack > context || stack < base + SIGNAL_STACK_OFFSET)
		return -EFAULT;
	memcpy(to, from, 96);
	memcpy((uint8_t *)to + (context - base) - 8, (uint8_t *)from + (context - base) - 8,
	       base + SLOT_SIZE - (context - 8));
	to->context = context + delta;
	to->stack = stack + delta;
	to->state = STATE_GUEST;
	if (delta != 0) {
		/* ucontext: uc_stack.ss_sp at 16, fpstate at 40 + 184 (sigcontext). */
		uint8_t *uc = (uint8_t *)to + (context - base);

		*(uint64_t *)(uc + 16) = threads[child].guest_slot + SIGNAL_STACK_OFFSET;
		fpstate = (uint64_t *)(uc + 40 + 184);
		if (*fpstate != 0)
			*fpstate += delta;
	}
	return 0;
}

/* fork: row c (mapped, slot `local` of arena_fd) becomes a copy of row i. 0 or -errno. */
int st_fork(int i, int c, int arena_fd)
{
	struct stub_slot *slot = slot_of(i);
	struct order order = { .row = i,
			       .clone_flags = CLONE_PROCESS_FLAGS,
			       .clone_due = 1,
			       .arena_fd = arena_fd,
			       .slot_addr = threads[c].guest_slot,
			       .slot_offset = threads[c].guest_slot - ARENA_BASE };
	int ret;

	if (threads[i].dead)
		return -ESRCH;
	if (threads[c].guest_slot != threads[i].guest_slot || copy_frame(i, c, 0) < 0)
		return -EFAULT;
	slot->args[0] = CLONE_PROCESS_FLAGS;
	slot->args[1] = order.slot_offset;
	command(i, COMMAND_FORK);
	ret = await(i, &order);
	if (ret < 0)
		return ret;
	if ((long)slot->result < 0 && order.child_pid == 0)
		return (int)slot->result;
	/* The child's number comes from the kernel's notification, not from the guest. */
	if (order.child_pid == 0) {
		uint64_t start = __rdtsc();

		while (order.child_pid == 0 && __rdtsc() - start < cycles_per_us * 1000000) {
			struct pollfd fd = { listener, POLLIN, 0 };

			if (poll(&fd, 1, 100) > 0)
				take_notification(&order);
		}
		if (order.child_pid == 0)
			return -EAGAIN;
	}
	threads[c].pid = threads[c].tid = order.child_pid;
	ret = await(c, &order);
	if (ret < 0)
		return -EAGAIN;
	memcpy(threads[c].regs, threads[i].regs, sizeof(threads[c].regs));
	threads[c].trap = TRAP_INTERRUPT;
	return 0;
}

/* A thread beside row i in row c (mapped), whose slot gets mapped in the process too. 0 or -errno. */
int st_thread(int i, int c, int arena_fd)
{
	struct stub_slot *slot = slot_of(i);
	uint64_t addr = threads[c].guest_slot;
	double map[8] = { SYS_mmap, addr, SLOT_SIZE, PROT_READ | PROT_WRITE, SLOT_MAP_FLAGS, DONATED_FD,
			  addr - ARENA_BASE, arena_fd };
	struct order order = { .row = i, .clone_flags = CLONE_THREAD_FLAGS, .clone_due = 1, .arena_fd = -1 };
	long ret;
	int tid;

	ret = st_batch(i, map, 1);
	if (ret < 0)
		return (int)ret;
	if (copy_frame(i, c, (int64_t)(addr - threads[i].guest_slot)) < 0)
		return -EFAULT;
	order.clone_stack = slot_of(c)->stack;
	slot->args[0] = CLONE_THREAD_FLAGS;
	slot->args[1] = addr;
	command(i, COMMAND_THREAD);
	ret = await(i, &order);
	if (ret < 0)
		return (int)ret;
	tid = (int)slot->result;
	if (tid < 0)
		return tid;
	/* The number is the guest's word: believe it only if it is a thread of that process and nobody's yet. */
	if (tid == 0 || known_tid(tid) || syscall(SYS_tgkill, threads[i].pid, tid, 0) < 0)
		return -EAGAIN;
	threads[c].pid = threads[i].pid;
	threads[c].tid = tid;
	ret = await(c, NULL);
	if (ret < 0)
		return -EAGAIN;
	memcpy(threads[c].regs, threads[i].regs, sizeof(threads[c].regs));
	threads[c].trap = TRAP_INTERRUPT;
	return 0;
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
	memcpy(slot->regs, t->regs, sizeof(t->regs));
	t->trap = TRAP_NONE;
	start_running(i);
	command(i, COMMAND_RESUME);
	return 0;
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

/* The whole process of row i was killed: its rows are no news any more. */
void st_abandon(int i)
{
	threads[i].zombie = 1;
	stop_running(i);
}

/* ---- FPU: the XSAVE area of the signal frame, in the form of ptrace's NT_X86_XSTATE -------------------------------- */

static uint8_t *fpu_area(int i, uint32_t *size)
{
	struct stub_slot *slot = slot_of(i);
	uint64_t base = threads[i].guest_slot, context = slot->context, area;
	uint8_t *p;

	if (context < base + SIGNAL_STACK_OFFSET || context > base + SLOT_SIZE - 0x200)
		return NULL;
	area = *(volatile uint64_t *)((uint8_t *)slot + (context - base) + 40 + 184);
	if (area < base + SIGNAL_STACK_OFFSET || area > base + SLOT_SIZE - 576 || (area & 63) != 0)
		return NULL;
	p = (uint8_t *)slot + (area - base);
	*size = *(volatile uint32_t *)(p + 464 + 16);
	if (*(volatile uint32_t *)(p + 464) != 0x46505853 || *size < 576 || *size > base + SLOT_SIZE - area - 4)
		return NULL;
	return p;
}

long st_get_fpu(int i, uint8_t *buf, unsigned long len)
{
	uint32_t size;
	uint8_t *p = fpu_area(i, &size);
	uint64_t features;

	if (p == NULL || size > len)
		return -EFAULT;
	memcpy(buf, p, size);
	memcpy(&features, buf + 464 + 8, 8);
	memset(buf + 464, 0, 48);
	memcpy(buf + 464, &features, 8);
	return size;
}

long st_set_fpu(int i, const uint8_t *buf, unsigned long len)
{
	uint32_t size;
	uint8_t *p = fpu_area(i, &size);

	if (p == NULL || len < 576)
		return -EFAULT;
	if (len > size)
		len = size;
	memcpy(p, buf, 464);
	memcpy(p + 512, buf + 512, len - 512);
	/* Features the kernel did not put into the frame cannot be restored from it. */
	*(uint64_t *)(p + 512) &= *(uint64_t *)(p + 464 + 8);
	memset(p + 520, 0, 56);
	return 0;
}

/* ---- the wait ---------------------------------------------------------------------------------------------------- */

/* Copies a stopped row's registers and trap out of its slot. */
static int take(int i)
{
	struct thread *t = &threads[i];
	const volatile struct stub_slot *slot = slot_of(i);

	stop_running(i);
	memcpy(t->regs, (const void *)slot->regs, sizeof(t->regs));
	t->trap = slot->trap;
	if (t->trap == TRAP_FAULT) {
		t->signo = slot->signo;
		t->code = slot->code;
		t->fault_addr = slot->fault_addr;
		t->trapno = slot->trapno;
		t->error_code = slot->error_code;
		if (t->signo != SIGSEGV && t->signo != SIGBUS && t->signo != SIGFPE && t->signo != SIGILL &&
		    t->signo != SIGTRAP)
			t->trap = TRAP_INTERRUPT;
	} else if (t->trap != TRAP_SYSCALL) {
		t->trap = TRAP_INTERRUPT;
	}
	return i;
}

static int scan(void)
{
	static int next;

	if (running_count == 0)
		return -1;
	if (next >= running_count)
		next = 0;
	for (int n = 0, at = next; n < running_count; n++) {
		if (is_stopped(running[at])) {
			next = at + 1;
			return take(running[at]);
		}
		if (++at == running_count)
			at = 0;
	}
	return -1;
}

static int sort_events(struct epoll_event *evs, int n)
{
	int kept = 0;

	for (int k = 0; k < n; k++) {
		if (evs[k].data.u32 == UINT32_MAX)
			drain_sigfd();
		else if (evs[k].data.u32 == UINT32_MAX - 1)
			take_notification(NULL);
		else if (evs[k].data.u32 == UINT32_MAX - 2)
			drain_wake_fd();
		else
			evs[kept++] = evs[k];
	}
	return kept;
}

static int report_ended(void)
{
	while (ended_count > 0) {
		int i = ended[--ended_count];

		if (threads[i].dead && !threads[i].zombie)
			return i;
	}
	return -1;
}

/*
 * Waits for a trap or a host event. timeout in ns, < 0 for ever. Returns a row or -1; *nevents says how many entries of
 * evs are filled.
 *
 * Spins while guest code runs, as long as spinning pays: a budget that ends without an event is halved, an event that
 * comes soon after falling asleep doubles it. With nobody running it sleeps at once.
 */
int st_wait(long timeout_ns, struct epoll_event *evs, int max, int *nevents)
{
	struct timespec ts = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	static unsigned turns;
	uint64_t start, slept;
	int i, n;

	*nevents = 0;
	i = report_ended();
	if (i < 0)
		i = scan();
	/* Busy guests must not starve host descriptors and timers. */
	if (i >= 0 && (++turns & 63) != 0)
		return i;
	if (i >= 0 || timeout_ns == 0) {
		n = epoll_wait(epfd, evs, max, 0);
		*nevents = n > 0 ? sort_events(evs, n) : 0;
		return i >= 0 ? i : scan();
	}
	check_load();
	if (running_count > 0 && spin_now > 0) {
		uint64_t budget = spin_now;

		if (timeout_ns > 0 && (uint64_t)timeout_ns * cycles_per_us / 1000 < budget)
			budget = (uint64_t)timeout_ns * cycles_per_us / 1000;
		start = __rdtsc();
		do {
			i = scan();
			if (i >= 0)
				return i;
			_mm_pause();
		} while (__rdtsc() - start < budget);
	}
	__atomic_store_n(&control->sleeping, 1, __ATOMIC_SEQ_CST);
	i = scan();
	if (i >= 0) {
		__atomic_store_n(&control->sleeping, 0, __ATOMIC_SEQ_CST);
		return i;
	}
	slept = __rdtsc();
	n = epoll_pwait2(epfd, evs, max, timeout_ns < 0 ? NULL : &ts, NULL);
	__atomic_store_n(&control->sleeping, 0, __ATOMIC_SEQ_CST);
	*nevents = n > 0 ? sort_events(evs, n) : 0;
	i = report_ended();
	if (i < 0)
		i = scan();
	if (spin_max > 0) {
		if (i >= 0 && __rdtsc() - slept < 2 * spin_max)
			spin_now = spin_now * 2 < spin_max ? spin_now * 2 + cycles_per_us : spin_max;
		else
			spin_now /= 2;
	}
	return i;
}
