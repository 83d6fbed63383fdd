/*
 * The wait of the systrap driver (native/host/systrap.c): which thread has trapped, and what the host has to tell. In C for
 * the reason that systrap.c has: this is the sentry's innermost loop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "systrap.h"

#define HOT 16
/* While we spin, host descriptors are looked at so often. */
#define LOOK_US 4
/* More running rows than this are not all looked at each time. */
#define MANY 128
#define LOOK_ALL_NS 1000000
/* Reading the clock at each call would cost some 4 % of it. */
#define STALE_US 10
/* Long enough for a timeout: 11 days. */
#define MOST_NS 1e15
/* A guest's turn that is not longer is left alone. */
#define TURN_NS 500

/* Rows that ended and have to be reported. */
static int ended[THREADS], ended_count;

void note_end(int i)
{
	ended[ended_count++] = i;
}

/* Rows that say they woke us. Guests wrote this: it says where to look first, no more. */
#define HINTS 8192
static uint64_t hints[HINTS];
static int hint_count;

void drain_wake_fd(void)
{
	ssize_t n;

	/* What is forgotten here is found all the same: scan() comes by every row. */
	while ((n = read(wake_pipe[0], hints + hint_count, (HINTS - hint_count) * sizeof(hints[0]))) > 0) {
		hint_count += n / sizeof(hints[0]);
		if (hint_count == HINTS)
			hint_count = 0;
	}
}

/*
 * Counts the signals that a call's site has cost; collisions only make a site look hot too early. Patching costs about as
 * much as HOT of them.
 */
static void count_site(struct thread *t)
{
	static uint8_t heat[8192];
	uint64_t site = t->regs[RIP_INDEX];
	uint8_t *count = &heat[(site ^ site >> 13 ^ (uint64_t)t->pid * 31) % sizeof(heat)];

	if (++*count == HOT) {
		*count = 0;
		t->hot = 1;
	}
}

/* How long the thread's turn was, as it says: not longer than we would ever wait. */
static void note_turn(struct thread *t, uint64_t trapped_at)
{
	uint64_t turn = trapped_at - t->resumed_at, most = TURN_NS * cycles_per_us / 1000;

	t->own_turn = turn < most ? turn : most;
}

/* Copies a stopped row's registers and trap out of its slot. */
static int take(int i)
{
	struct thread *t = &threads[i];
	const volatile struct stub_slot *slot = slot_of(i);

	stop_running(i);
	/* The answer goes to the same cache line, which then is here already: the stub does not look at it for a moment. */
	__asm__ volatile("prefetchw %0" : : "m"(slot->state));
	/* What the call's handler looks at next. */
	__builtin_prefetch((const void *)slot->in_len);
	__builtin_prefetch((const uint8_t *)slot + WINDOW_IN_OFFSET);
	t->trap = slot->trap;
	t->framed = slot->entry == 0;
	t->partial = !t->framed;
	if (t->framed) {
		memcpy(t->regs, (const void *)slot->regs, sizeof(t->regs));
	} else {
		memcpy(&t->regs[R10_INDEX], (const void *)&slot->regs[R10_INDEX], 8 * (REGS - R10_INDEX));
		t->regs[RAX_INDEX] = -ENOSYS;
		t->regs[ORIG_RAX_INDEX] = slot->nr;
		t->flags = slot->flags;
		t->regs[R11_INDEX] = t->regs[EFLAGS_INDEX] = t->flags;
	}
	t->cpu = slot->cpu;
	note_turn(t, slot->trapped_at);
	note_trap(i, slot->trapped_at, slot->computed);
	t->hot = 0;
	if (t->trap == TRAP_SYSCALL) {
		if (t->framed)
			count_site(t);
	} else if (t->trap == TRAP_FAULT) {
		t->signo = slot->signo;
		t->code = slot->code;
		t->fault_addr = slot->fault_addr;
		t->trapno = slot->trapno;
		t->error_code = slot->error_code;
		if (t->signo != SIGSEGV && t->signo != SIGBUS && t->signo != SIGFPE && t->signo != SIGILL &&
		    t->signo != SIGTRAP)
			t->trap = TRAP_INTERRUPT;
	} else if (t->trap == TRAP_FAILED) {
		t->code = (int32_t)slot->result;
	} else {
		t->trap = TRAP_INTERRUPT;
	}
	return i;
}

/* The row that goes on with this turn. It is not looked at before its guest can have had its own. */
static int resting = -1;

/*
 * Waits until the row that was just sent on may have trapped again, as it did the last time: a look takes the line away from
 * the thread that is about to write it, twice 100 ns for nothing.
 */
static void let_rest(int i)
{
	const struct thread *t = &threads[i];

	while (__rdtsc() - t->resumed_at < t->own_turn)
		;
}

/* Looks at `count` running rows, starting where the last look ended. */
static int scan_some(int count)
{
	static int next;

	if (next >= running_count)
		next = 0;
	for (int n = 0, at = next; n < count && n < running_count; n++) {
		int i = running[at];

		if (++at >= running_count)
			at = 0;
		next = at;
		if (i != resting && is_stopped(i))
			return take(i);
	}
	return -1;
}

/*
 * A row that has trapped, or -1. Of many rows most sleep in native futexes: a look goes to those that woke us, to the ones
 * sent on last, and to some of the others.
 */
static int scan(void)
{
	static unsigned turn;

	while (hint_count > 0) {
		uint64_t i = hints[--hint_count];

		if (i < THREADS && threads[i].running != 0 && is_stopped(i))
			return take(i);
	}
	/* Not always, or these could keep us from the others. */
	if (running_count > MANY && (++turn & 3) != 0)
		for (int n = running_count - 1; n >= running_count - MANY / 2; n--)
			if (is_stopped(running[n]))
				return take(running[n]);
	return scan_some(running_count > MANY ? MANY / 2 : MANY);
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

/* A thread that maps a file as it goes on waits for its answer: it must not wait for an idle moment of ours. */
static void look_for_notification(void)
{
	struct pollfd fd = { listener, POLLIN, 0 };

	if (poll(&fd, 1, 0) > 0)
		take_notification(NULL);
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

static struct turn turn;

/* The time-stamp counter at turn.now. */
static uint64_t now_at;

static void read_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	turn.now = ts.tv_sec * 1e9 + ts.tv_nsec;
	now_at = __rdtsc();
}

void *st_turn(void)
{
	read_clock();
	return &turn;
}

/* What is left of turn.timeout, in ns; < 0: for ever. */
static long time_left(void)
{
	double then = turn.now, timeout = turn.timeout < MOST_NS ? turn.timeout : MOST_NS;
	uint64_t since;
	long left;

	if (turn.timeout <= 0)
		return turn.timeout < 0 ? -1 : 0;
	since = __rdtsc() - now_at;
	if (since > STALE_US * cycles_per_us) {
		read_clock();
		left = timeout - (turn.now - then);
	} else {
		left = timeout - since * 1000 / cycles_per_us;
	}
	return left > 0 ? left : 0;
}

/* Until a trap or a host event comes, or the time is over: the row, or -1. */
static int next_row(long timeout_ns)
{
	struct epoll_event *evs = turn.events;
	int *nevents = &turn.count;
	const int max = MAX_EVENTS;
	struct timespec ts;
	static unsigned turns;
	uint64_t start, looked, now, slept, budget;
	int i, n, active, shared;

	if (late_maps_due > 0)
		look_for_notification();
	i = report_ended();
	resting = turn.resume;
	if (i < 0)
		i = scan();
	resting = -1;
	/* Busy guests must not starve host descriptors and timers. */
	if (i >= 0 && (++turns & 63) != 0)
		return i;
	if (i >= 0 || timeout_ns == 0) {
		n = epoll_wait(epfd, evs, max, 0);
		*nevents = n > 0 ? sort_events(evs, n) : 0;
		return i >= 0 ? i : scan();
	}
	active = look_around();
	check_load(active);
	shared = shares_cpu(active);
	budget = shared || active == 0 ? 0 : spin_budget();
	if (budget > 0) {
		if (timeout_ns > 0 && (uint64_t)timeout_ns * cycles_per_us / 1000 < budget)
			budget = (uint64_t)timeout_ns * cycles_per_us / 1000;
		start = __rdtsc();
		looked = start;
		if (turn.resume >= 0)
			let_rest(turn.resume);
		do {
			i = scan();
			if (i >= 0)
				return i;
			now = __rdtsc();
			/* What one guest sends another through a socket of the host's is news of the host's. */
			if ((watched_fds > 0 || late_maps_due > 0) && now - looked > LOOK_US * cycles_per_us) {
				n = epoll_wait(epfd, evs, max, 0);
				*nevents = n > 0 ? sort_events(evs, n) : 0;
				if (*nevents > 0)
					return scan();
				looked = now = __rdtsc();
			}
		} while (now - start < budget);
	}
	offer_cpu();
	__atomic_store_n(&control->sleeping, 1, __ATOMIC_SEQ_CST);
	i = scan();
	if (i >= 0) {
		__atomic_store_n(&control->sleeping, 0, __ATOMIC_SEQ_CST);
		return i;
	}
	kill_late_leavers();
	timeout_ns = leavers_timeout(timeout_ns);
	ts = (struct timespec){ timeout_ns / 1000000000, timeout_ns % 1000000000 };
	/* The latest first. */
	for (n = running_count - 1; n >= 0 && n >= running_count - MANY && !fetch_row(running[n]); n--)
		;
	slept = __rdtsc();
	n = 0;
	if (running_count > MANY && (timeout_ns < 0 || timeout_ns > LOOK_ALL_NS)) {
		static const struct timespec soon = { 0, LOOK_ALL_NS };

		/* Who trapped just before we went to sleep, and was not looked at, did not wake us. */
		n = epoll_pwait2(epfd, evs, max, &soon, NULL);
		if (n == 0)
			i = scan_some(running_count);
	}
	if (i < 0 && n <= 0)
		n = epoll_pwait2(epfd, evs, max, timeout_ns < 0 ? NULL : &ts, NULL);
	__atomic_store_n(&control->sleeping, 0, __ATOMIC_SEQ_CST);
	*nevents = n > 0 ? sort_events(evs, n) : 0;
	if (i < 0)
		i = report_ended();
	if (i < 0)
		i = scan();
	if (!shared)
		spin_learn(i >= 0 && (int64_t)(slot_of(i)->trapped_at - slept) < (int64_t)spin_max);
	return i;
}

/*
 * One turn of the sentry: turn.resume goes on, then waits for a trap or a host event.
 *
 * Spins while guest code runs, as long as spinning pays: a budget that ends without an event is halved, a trap that was
 * published soon after falling asleep doubles it. With nobody running it sleeps at once.
 */
void st_wait(void)
{
	turn.count = 0;
	if (turn.resume >= 0)
		st_resume(turn.resume);
	turn.row = next_row(time_left());
	if (turn.row < 0 || __rdtsc() - now_at > STALE_US * cycles_per_us)
		read_clock();
}
