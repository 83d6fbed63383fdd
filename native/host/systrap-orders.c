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
void run_late_ops(int i)
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
