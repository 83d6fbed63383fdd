/*
 * Orders (native/host/systrap.h): what a stopped thread is told to do in its own process, memory operations, clones,
 * file mappings. The filter turns clones and file mappings into notifications, and only what was ordered is let through.
 *
 * In C for the reason that systrap.c has: a sequence of shared words and ioctls without JavaScript in between.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "systrap.h"

/* Far more than any order takes, populating all of the memory there is included. */
#define PATIENCE_S 20
/* A thread that has not come back is told once more. */
#define NUDGE_MS 50

#define CLONE_PROCESS_FLAGS (0x8000 | SIGCHLD)
#define CLONE_THREAD_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000)

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
void take_notification(struct order *order)
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
	} else if (d->nr == SYS_mmap) {
		fd = late_map_fd(req.pid, d);
		ok = fd >= 0 && donate(req.id, fd);
	}
	if (ok)
		answer(req.id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
	else
		answer(req.id, -EPERM, 0);
}

int await(int i, struct order *order)
{
	uint64_t start = __rdtsc(), last = start, second = 1000000 * cycles_per_us, spent = 0;
	/* A thread on our own CPU, and one that a notification's answer has just put there, run when we sleep. */
	uint64_t now, spin = threads[i].cpu == current_cpu() ? 0 : spin_max;
	unsigned turn = 0;

	for (;;) {
		if (is_stopped(i))
			return 0;
		/*
		 * Only a stub that was tampered with does not come back: its process must not hold up the others. A jump
		 * of the clock (all were frozen) counts little.
		 */
		now = __rdtsc();
		spent += now - last < second ? now - last : second;
		last = now;
		if (spent > PATIENCE_S * second) {
			kill(threads[i].pid, SIGKILL);
			spent = 0;
		}
		if (threads[i].dead)
			return -ESRCH;
		if (order != NULL || late_maps_due > 0) {
			struct pollfd fd = { listener, POLLIN, 0 };

			if (poll(&fd, 1, 0) > 0) {
				take_notification(order);
				if (order != NULL)
					spin = 0;
				continue;
			}
		}
		if (now - start < spin) {
			if (order == NULL || (++turn & 7) != 0)
				_mm_pause();
			continue;
		}
		__atomic_store_n(&control->sleeping, 1, __ATOMIC_SEQ_CST);
		if (!is_stopped(i)) {
			struct pollfd fds[3] = { { wake_pipe[0], POLLIN, 0 }, { sigfd, POLLIN, 0 }, { listener, POLLIN, 0 } };

			fetch_row(i);
			/* The word it sleeps on was written over: nobody has told it. */
			if (poll(fds, 3, NUDGE_MS) == 0)
				wake_stub(i);
			if (fds[0].revents & POLLIN)
				drain_wake_fd();
			if (fds[1].revents & POLLIN)
				drain_sigfd();
			if (fds[2].revents & POLLIN)
				take_notification(order);
		}
		__atomic_store_n(&control->sleeping, 0, __ATOMIC_SEQ_CST);
	}
}

/* The rows of sentry/platform/memory-ops.ts, as the stub reads them. Whether some name a file. */
static int put_ops(struct stub_op *ops, const double *rows, int count)
{
	int files = 0;

	for (int n = 0; n < count; n++) {
		const double *row = rows + 8 * n;

		ops[n].nr = row[0];
		for (int j = 0; j < 6; j++)
			ops[n].args[j] = row[1 + j] < 0 ? (uint64_t)(int64_t)row[1 + j] : (uint64_t)row[1 + j];
		if (row[7] >= 0) {
			ops[n].args[4] = DONATED_FD;
			files = 1;
		}
	}
	return files;
}

static void put_close(struct stub_op *op)
{
	memset(op, 0, sizeof(*op));
	op->nr = SYS_close;
	op->args[0] = DONATED_FD;
}

/* Has a stopped thread run `count` operations, given as the stub reads them, when it is resumed. 0 or -E2BIG. */
int st_run_later(int i, const struct stub_op *ops, int count)
{
	uint32_t late = threads[i].late_ops;

	if (count < 1 || late + count > MAX_STUB_OPS)
		return -E2BIG;
	memcpy(slot_of(i)->ops + late, ops, count * sizeof(*ops));
	threads[i].late_ops = late + count;
	return 0;
}

/* The same for the rows of sentry/platform/memory-ops.ts. -E2BIG: not so many, nor files at the moment. */
int st_batch_later(int i, const double *rows, int count)
{
	struct stub_op copy[MAX_STUB_OPS];

	if (count < 1 || threads[i].late_ops + count >= MAX_STUB_OPS)
		return -E2BIG;
	/* What is let through is what was ordered, not what a guest may write over it. */
	if (put_ops(copy, rows, count)) {
		for (int n = 0; n < count; n++)
			if (rows[8 * n + 7] >= 0 && late_map_add(i, &copy[n], rows[8 * n + 7]) < 0) {
				late_map_forget(i);
				return -E2BIG;
			}
		put_close(&copy[count++]);
		threads[i].late_maps = 1;
	}
	return st_run_later(i, copy, count);
}

/* Something else is to be done in the thread first. What cannot be done late fails early: the result is nobody's. */
static void run_late_ops(int i)
{
	if (threads[i].late_ops == 0)
		return;
	slot_of(i)->op_count = threads[i].late_ops;
	threads[i].late_ops = 0;
	command(i, COMMAND_OPS);
	await(i, NULL);
}

/* Runs `count` operations (rows of sentry/platform/memory-ops.ts) in a stopped thread. 0 or -errno. */
long st_batch(int i, const double *rows, int count)
{
	struct stub_slot *slot = slot_of(i);
	struct order order = { .row = i, .rows = rows, .count = count, .arena_fd = -1 };
	int files, n = count;
	long ret;

	if (threads[i].dead)
		return -ESRCH;
	if (count < 1 || count > MAX_STUB_OPS)
		return -E2BIG;
	run_late_ops(i);
	files = put_ops(slot->ops, rows, count);
	if (files)
		put_close(&slot->ops[n++]);
	slot->op_count = n;
	command(i, COMMAND_OPS);
	if (await(i, files ? &order : NULL) < 0)
		return -ESRCH;
	ret = (long)slot->result;
	if ((unsigned long)ret <= -4096UL)
		return 0;
	if (files) {
		put_close(&slot->ops[0]);
		slot->op_count = 1;
		command(i, COMMAND_OPS);
		await(i, NULL);
	}
	return ret;
}

/* Runs up to MAX_STUB_OPS operations that name no file, given as the stub reads them. 0 or -errno. */
long st_run(int i, const struct stub_op *ops, int count)
{
	struct stub_slot *slot = slot_of(i);
	long ret;

	if (threads[i].dead)
		return -ESRCH;
	if (count < 1 || count > MAX_STUB_OPS)
		return -E2BIG;
	run_late_ops(i);
	memcpy(slot->ops, ops, count * sizeof(*ops));
	slot->op_count = count;
	command(i, COMMAND_OPS);
	if (await(i, NULL) < 0)
		return -ESRCH;
	ret = (long)slot->result;
	return (unsigned long)ret > -4096UL ? ret : 0;
}

int need_frame(int i)
{
	if (threads[i].dead)
		return -ESRCH;
	if (threads[i].framed)
		return 0;
	st_whole(i);
	command(i, COMMAND_FRAME);
	if (await(i, NULL) < 0)
		return -ESRCH;
	threads[i].framed = 1;
	return 0;
}

/* One call in a stopped thread; the result is the guest's word. */
long st_call(int i, long nr, long a, long b, long c, long d, long e, long f)
{
	struct stub_slot *slot = slot_of(i);

	if (threads[i].dead)
		return -ESRCH;
	run_late_ops(i);
	slot->ops[0] = (struct stub_op){ nr, { a, b, c, d, e, f }, 0 };
	slot->op_count = 1;
	command(i, COMMAND_OPS);
	return await(i, NULL) < 0 ? -ESRCH : (long)slot->result;
}

#define SIGNAL_STACK_END (SIGNAL_STACK_OFFSET + SIGNAL_STACK_SIZE)

/* Copies the parent's frame and stub state into the child's slot, moved by `delta` bytes. 0 or -EFAULT. */
static int copy_frame(int parent, int child, int64_t delta)
{
	struct stub_slot *from = slot_of(parent), *to = slot_of(child);
	uint64_t base = threads[parent].guest_slot;
	uint64_t context, stack;
	uint64_t *fpstate;

	if (need_frame(parent) < 0)
		return -EFAULT;
	context = from->context;
	stack = from->stack;
	if (context < base + SIGNAL_STACK_OFFSET + 0x400 || context > base + SIGNAL_STACK_END - 0x400 || (context & 7) != 0 ||
	    stack > context || stack < base + SIGNAL_STACK_OFFSET)
		return -EFAULT;
	memcpy((uint8_t *)to + (context - base) - 8, (uint8_t *)from + (context - base) - 8,
	       base + SIGNAL_STACK_END - (context - 8));
	to->context = context + delta;
	to->stack = stack + delta;
	/* An earlier thread may have left it. */
	to->out_count = 0;
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

/*
 * Keeps row i on one CPU while it clones, so that the child begins there as soon as its parent sleeps: the host would put
 * it on another one, where it is woken slowly or waits for other work's time to be over. 0 when `saved` was filled.
 */
static int hold_cpu(int i, uint32_t cpu, cpu_set_t *saved)
{
	if (cpu >= CPU_SETSIZE || sched_getaffinity(threads[i].tid, sizeof(*saved), saved) < 0)
		return -1;
	return hold_on(threads[i].tid, cpu);
}

/* Row c is stopped, with the registers of row i. */
static void begin_like(int i, int c)
{
	memcpy(threads[c].regs, threads[i].regs, sizeof(threads[c].regs));
	threads[c].trap = TRAP_INTERRUPT;
}

/* fork: row c (mapped, slot `local` of arena_fd) becomes a copy of row i. 0 or -errno. */
static int fork_row(int i, int c, int arena_fd)
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
	slot_of(c)->state = STATE_GUEST;
	slot->args[0] = CLONE_PROCESS_FLAGS;
	slot->args[1] = order.slot_offset;
	command(i, COMMAND_FORK);
	ret = await(i, &order);
	if (ret < 0)
		return ret;
	/* The child wants a CPU now, and its parent has nothing to wait busily for. */
	st_park(i);
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
	begin_like(i, c);
	return 0;
}

/* A thread beside row i in row c (mapped), whose slot gets mapped in the process too. 0 or -errno. */
static int thread_row(int i, int c, int arena_fd)
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
	slot_of(c)->state = STATE_GUEST;
	order.clone_stack = slot_of(c)->stack;
	slot->args[0] = CLONE_THREAD_FLAGS;
	slot->args[1] = addr;
	command(i, COMMAND_THREAD);
	ret = await(i, &order);
	if (ret < 0)
		return (int)ret;
	st_park(i);
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
	begin_like(i, c);
	return 0;
}

/* Runs one of the two above; parent and child may go everywhere afterwards. */
static int clone_row(int i, int c, int arena_fd, uint32_t cpu, int (*how)(int, int, int))
{
	cpu_set_t saved;
	int held = hold_cpu(i, cpu, &saved), ret;

	run_late_ops(i);
	ret = how(i, c, arena_fd);

	if (held == 0) {
		sched_setaffinity(threads[i].tid, sizeof(saved), &saved);
		if (ret == 0)
			free_cpus(threads[c].tid);
	}
	return ret;
}

int st_fork(int i, int c, int arena_fd)
{
	return clone_row(i, c, arena_fd, threads[i].cpu, fork_row);
}

/* Whether row c, told to rest, does so. */
int st_rests(int c)
{
	return !threads[c].dead && is_stopped(c);
}

/* A thread beside row i: row c, which rests, becomes one. 0 or -errno. */
int st_rise(int i, int c)
{
	int pid = threads[c].pid, tid = threads[c].tid;

	if (threads[i].dead)
		return -ESRCH;
	run_late_ops(i);
	begin_row(c, threads[c].guest_slot);
	threads[c].pid = pid;
	threads[c].tid = tid;
	if (copy_frame(i, c, (int64_t)(threads[c].guest_slot - threads[i].guest_slot)) < 0)
		return -EFAULT;
	begin_like(i, c);
	wake_near(c);
	return 0;
}

/* On our CPU: the answers to the filter's questions, and the new thread's first trap, are near. */
int st_thread(int i, int c, int arena_fd)
{
	return clone_row(i, c, arena_fd, stay_on_cpu(), thread_row);
}
