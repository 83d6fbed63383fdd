/*
 * How long systrap spins: the policy under st_wait (native/host/systrap-wait.c); systrap-cpus.c says where.
 *
 * To wake a thread on another CPU costs 20 µs and more, to meet it spinning 50 ns. But who spins keeps others from
 * running: nobody does on a busy machine, nor for a thread that shares its CPU. In C for the reason that systrap.c has.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "systrap.h"

/* The sentry's spinning adapts between 0 and spin_max, which is spin_limit on an idle machine. */
uint64_t spin_max, cycles_per_us;
static uint64_t spin_now, spin_limit;
static int loadavg_fd = -1;
int cpus;
/* Both sides' budget when other work wants the CPUs: a spinning thread then only keeps its partner from running. */
#define BUSY_SPIN_US 2
#define LOAD_CHECK_US 5000
#define SPIN_STEP_US 4
/* How much longer than we for them guests spin for us on a machine with CPUs to spare. */
#define GUEST_PATIENCE 4
/* How long a thread that had to wake the sentry waits busily: as long as both wake-ups take, ours and then its own. */
#define WAKE_US 100
/* Few calls are answered sooner. */
#define FIRST_LOOK_NS 500
/* Checks in a row that make the machine a busy one: some thread of the host's always wants a CPU for a moment. */
#define STRIKES 3

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
	/* Guests wait for our own waiting for files, too. */
	control->spin = budget == spin_limit ? budget * GUEST_PATIENCE : budget;
	control->spin_woken = budget == spin_limit && budget != 0 ? WAKE_US * cycles_per_us : 0;
}

/*
 * More threads than CPUs want to run, says the host. Two guests that hand work to each other through us are no crowd, though
 * there may be three of us for a moment: where one waits for the other, they take turns on one CPU while we keep ours. Nor is
 * the thread that compiles our JavaScript.
 */
int crowded(int active)
{
	int ours = 2 + (active < cpus ? active : cpus);
	char text[128], *at;
	ssize_t n = pread(loadavg_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 1;
	text[n] = 0;
	/* "0.20 0.18 0.12 RUNNING/TOTAL LAST" */
	at = strchr(text, '/');
	while (at > text && at[-1] != ' ')
		at--;
	/* On a busy machine the guest sleeps while we look, so that one fewer of us is counted: or we would take it for a quiet one. */
	return at == NULL || atoi(at) > (ours > cpus ? ours : cpus) - !is_quiet();
}

/*
 * On a busy machine nobody spins: it keeps others from running, and uses up the share that would let a thread that was
 * woken run at once.
 */
void check_load(int active)
{
	static uint64_t last_check;
	static unsigned strikes;
	uint64_t now = __rdtsc();

	if (now - last_check < LOAD_CHECK_US * cycles_per_us || spin_limit == 0)
		return;
	last_check = now;
	strikes = crowded(active) ? strikes + 1 : 0;
	if (strikes >= STRIKES && spin_max == spin_limit) {
		set_spin(BUSY_SPIN_US * cycles_per_us);
		share_cpus();
	} else if (strikes == 0 && spin_max != spin_limit)
		set_spin(spin_limit);
}

/* The kernel puts the CPU's number where rdtscp finds it, if there is one: cpuid 0x80000001, edx. */
static int tells_cpu(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (d & 1 << 27) != 0;
}

/* `spin_us` 0: never spin (one CPU). Preconditions: `control` is there. */
void spin_init(int spin_us)
{
	measure_tsc();
	loadavg_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	control->together = tells_cpu();
	control->first_look = cycles_per_us * FIRST_LOOK_NS / 1000;
	spin_limit = spin_us * cycles_per_us;
	set_spin(spin_limit);
}

uint64_t spin_budget(void)
{
	return spin_now;
}

/* Nobody else wants the CPUs, as far as we know. */
int is_quiet(void)
{
	return spin_limit != 0 && spin_max == spin_limit;
}

void spin_again(void)
{
	spin_now = spin_max;
}

void spin_learn(int met)
{
	spin_now = met ? spin_now * 2 + SPIN_STEP_US * cycles_per_us : spin_now / 2;
	if (spin_now > spin_max)
		spin_now = spin_max;
}
