/*
 * Clones of the systrap driver (native/host/systrap.h): processes and threads that begin as copies of a stopped thread, and host
 * threads that rest between two threads of the guest.
 *
 * In C for the reason that systrap.c has. What is let through the filter is what was ordered (systrap-orders.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "systrap.h"

#define CLONE_PROCESS_FLAGS (0x8000 | SIGCHLD)
#define CLONE_THREAD_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000)

#define SIGNAL_STACK_END (SIGNAL_STACK_OFFSET + SIGNAL_STACK_SIZE)

/* Copies the parent's frame and stub state into the child's slot, moved to where that lies in its process. 0 or -EFAULT. */
static int copy_frame(int parent, int child)
{
	struct stub_slot *from = slot_of(parent), *to = slot_of(child);
	uint64_t base = threads[parent].guest_slot, delta = threads[child].guest_slot - base;
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
	if (threads[c].guest_slot != threads[i].guest_slot || copy_frame(i, c) < 0)
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
	if (copy_frame(i, c) < 0)
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
	if (copy_frame(i, c) < 0)
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
