/*
 * On which CPUs the sentry and its guests run (native/host/systrap.c).
 *
 * A call costs least where the sentry spins on a CPU of its own, and two guests that hand work to each other cost least on
 * one CPU together: the kernel then switches between them without an interrupt to another CPU (20 µs and more on a virtual
 * machine). The host's scheduler knows neither, and puts three threads that seem busy wherever there is room. In C for the
 * reason that systrap.c has. What a guest writes into its slot can spoil the placement of its own sandbox, no more.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "systrap.h"

/* So many traps on one CPU within so long, and the sentry moves; not more often than every MOVE_US. */
#define STREAK 6
#define STREAK_US 400
#define MOVE_US 500
/* A thread that makes others may do it again. */
#define STAY_US 2000
/* Who computes no longer than this between calls, so many times, lives from calls. */
#define BRIEF_US 10
#define BRIEF_CALLS 16
/* Two such threads that trap within this time work together. */
#define PARTNER_US 300
#define MAX_APART 32
/* On a busy machine a thread is drawn to our CPU not more often than this. */
#define DRAW_US 2000
/* Sent on longer ago, and a row computes, or sleeps in a native futex. */
#define ACTIVE_US 1000
/* The shortest slice that Linux grants. */
#define SLICE_NS 100000

/* Where the sandbox may run, and what the sentry is held to (apart_count > 0). */
static cpu_set_t allowed;
static int apart[MAX_APART], apart_count;

/*
 * Who asks for short slices of time gets his at once, also on a CPU where a guest computes or waits busily for him (Linux
 * 6.12; older ones ignore it). Lost is nothing: a turn of ours is shorter.
 */
static void take_short_slices(void)
{
	/* struct sched_attr, which Debian 12's C library has not and Linux's header cannot have beside <sched.h>. */
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr;

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0 || attr.policy != SCHED_OTHER)
		return;
	attr.runtime = SLICE_NS;
	syscall(SYS_sched_setattr, 0, &attr, 0);
}

void cpus_init(void)
{
	take_short_slices();
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		memset(&allowed, 0xff, sizeof(allowed));
}

/* All CPUs but one; 0: there is no other. */
static int others_than(uint32_t cpu, cpu_set_t *others)
{
	*others = allowed;
	if (cpu < CPU_SETSIZE)
		CPU_CLR(cpu, others);
	return CPU_COUNT(others);
}

void free_cpus(int tid)
{
	sched_setaffinity(tid, sizeof(allowed), &allowed);
}

/* Without wake-up preemption: who wakes another on the same CPU is let finish, and no interrupt is sent. */
static void set_batch(int tid, int policy)
{
	struct sched_param param = { 0 };

	sched_setscheduler(tid, policy, &param);
}

/* Moves this thread to another CPU; it may come back later. */
static void leave_cpu(uint32_t cpu)
{
	cpu_set_t others;

	if (others_than(cpu, &others) == 0 || sched_setaffinity(0, sizeof(others), &others) < 0)
		return;
	if (apart_count == 0)
		free_cpus(0);
	control->cpu = current_cpu();
	/* Who sleeps there at once is woken, and drawn back, by the next trap. */
	spin_again();
}

/* Last time that we moved, or would have had to stay. */
static uint64_t last_move;

uint32_t stay_on_cpu(void)
{
	last_move = __rdtsc() + STAY_US * cycles_per_us;
	return current_cpu();
}

/* CPUs that active rows have, by bit, and whether ours is one of them. */
static uint64_t taken;
static int shares;

int look_around(void)
{
	uint32_t cpu;
	uint64_t now = cycles_on(&cpu, control->together);
	int active = 0;

	/* Guests look at its cache line. */
	if (control->cpu != cpu)
		control->cpu = cpu;
	taken = 1UL << cpu % 64;
	shares = 0;
	/* Those sent on last. */
	for (int n = running_count - 1; n >= 0 && n >= running_count - 64; n--) {
		const struct thread *t = &threads[running[n]];

		if (now - t->resumed_at > ACTIVE_US * cycles_per_us)
			continue;
		active++;
		shares |= t->cpu == cpu;
		taken |= 1UL << t->cpu % 64;
	}
	return active;
}

/* The host leaves two that wake each other on one CPU even where another one idles; when that goes on, we move. */
int shares_cpu(int active)
{
	static unsigned streak;
	static uint64_t streak_began;
	uint64_t now;

	if (!shares) {
		streak = 0;
		return 0;
	}
	now = __rdtsc();
	if (streak++ == 0 || now - streak_began > STREAK_US * cycles_per_us) {
		streak = 1;
		streak_began = now;
	}
	if (streak >= STREAK && __builtin_popcountl(taken) < cpus && (int64_t)(now - last_move) > (int64_t)(MOVE_US * cycles_per_us) &&
	    !crowded(active)) {
		last_move = now;
		leave_cpu(current_cpu());
		streak = 0;
		return 0;
	}
	return 1;
}

int hold_on(int tid, uint32_t cpu)
{
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	return sched_setaffinity(tid, sizeof(only), &only);
}

static void keep_apart(int i)
{
	uint32_t cpu = current_cpu();
	cpu_set_t others;

	if (apart_count == MAX_APART || others_than(cpu, &others) == 0)
		return;
	if (apart_count == 0 && hold_on(0, cpu) < 0)
		return;
	if (sched_setaffinity(threads[i].tid, sizeof(others), &others) < 0)
		return;
	set_batch(threads[i].tid, SCHED_BATCH);
	apart[apart_count++] = i;
	threads[i].apart = apart_count;
	spin_again();
}

void forget_cpu(int i)
{
	int at = threads[i].apart - 1;

	if (at < 0)
		return;
	apart[at] = apart[--apart_count];
	threads[apart[at]].apart = at + 1;
	threads[i].apart = 0;
	if (apart_count == 0)
		free_cpus(0);
}

void anywhere(int i)
{
	if (threads[i].apart != 0)
		set_batch(threads[i].tid, SCHED_OTHER);
	forget_cpu(i);
	free_cpus(threads[i].tid);
}

void share_cpus(void)
{
	while (apart_count > 0) {
		int i = apart[apart_count - 1];

		threads[i].brief = 0;
		anywhere(i);
	}
}

/* Several that we keep off our CPU are at work, and now we have none for it. */
void offer_cpu(void)
{
	int busy = 0;

	for (int n = 0; n < apart_count; n++)
		busy += threads[apart[n]].running != 0;
	if (busy > 1)
		share_cpus();
}

static int is_ordered(int i)
{
	return __atomic_load_n(&slot_of(i)->state, __ATOMIC_RELAXED) == STATE_COMMAND;
}

static int obeys(int i)
{
	return __atomic_load_n(&slot_of(i)->obeyed, __ATOMIC_RELAXED) == slot_of(i)->order;
}

/* Row i was sent on and has not run since, because another row has its CPU. */
static int waits_for_cpu(int i)
{
	const struct thread *t = &threads[i];
	uint64_t now = __rdtsc();

	if (!is_ordered(i) || obeys(i) || t->apart || t->cpu == current_cpu())
		return 0;
	for (int n = 0; n < running_count; n++) {
		const struct thread *other = &threads[running[n]];

		if (running[n] == i || other->cpu != t->cpu || !is_ordered(running[n]) || !obeys(running[n]))
			continue;
		if (!is_quiet() || now - other->resumed_at < ACTIVE_US * cycles_per_us)
			return 1;
	}
	return 0;
}

int fetch_row(int i)
{
	if (!waits_for_cpu(i) || hold_on(threads[i].tid, current_cpu()) < 0)
		return 0;
	free_cpus(threads[i].tid);
	threads[i].cpu = current_cpu();
	return 1;
}

static int draw(struct thread *t, uint32_t cpu)
{
	if (hold_on(t->tid, cpu) < 0)
		return -1;
	t->drawn = 1;
	return 0;
}

/*
 * On a busy machine nobody spins, and a call is two wake-ups: 4 µs in all on one CPU, 24 across two, and the host leaves the
 * two of us where we are. So who lives from calls is woken on our CPU, and may go from there.
 */
static void draw_near(struct thread *t)
{
	static uint64_t last;
	uint64_t now = __rdtsc();

	if (now - last < DRAW_US * cycles_per_us || draw(t, current_cpu()) < 0)
		return;
	last = now;
}

void wake_near(int i)
{
	draw(&threads[i], stay_on_cpu());
}

void let_go(struct thread *t)
{
	t->drawn = 0;
	free_cpus(t->tid);
}

void note_trap(int i, uint64_t at, uint32_t computed)
{
	static int last_row;
	static uint64_t last_at;
	struct thread *t = &threads[i];
	int partner;

	if (computed > BRIEF_US * cycles_per_us) {
		t->brief = 0;
		return;
	}
	if (t->brief < BRIEF_CALLS) {
		t->brief++;
		return;
	}
	partner = last_row != i && at - last_at < PARTNER_US * cycles_per_us;
	last_row = i;
	last_at = at;
	if (partner && !t->apart && is_quiet())
		keep_apart(i);
	else if (!t->apart && !is_quiet() && cpus > 1 && t->cpu != current_cpu())
		draw_near(t);
}
