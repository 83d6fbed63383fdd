/*
 * What the parts of the systrap driver share: the table of guest threads, and how one is commanded.
 *
 * systrap.c: set-up and commands. systrap-wait.c: the wait. systrap-orders.c: operations and file mappings in a
 * stopped thread. systrap-clones.c: processes and threads that begin.
 * systrap-maps.c: file mappings that go with an answer. systrap-frame.c: the FPU state in the signal frame. systrap-spin.c: how long to spin. systrap-cpus.c: who runs where.
 * systrap-arenas.c: arenas for the next forks; systrap-usage.c: what ended processes had used; systrap-exits.c: how they end. One thread only: the sentry's.
 */
#ifndef TSSANDBOX_HOST_SYSTRAP_H
#define TSSANDBOX_HOST_SYSTRAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "stub/protocol.h"

#define THREADS 16384
#define R11_INDEX 6
#define R10_INDEX 7
#define RAX_INDEX 10
#define ORIG_RAX_INDEX 15
#define RIP_INDEX 16
#define EFLAGS_INDEX 18

#define SLOT_MAP_FLAGS (MAP_SHARED | MAP_FIXED)

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
	uint32_t framed;	/* 272: it waits in the signal handler; 0: behind a patched site, without a signal frame */
	uint32_t hot;		/* 276: the call's site has trapped by signal often enough to be patched */
	uint32_t cpu;		/* 280: where it trapped last, as the guest says */
	uint16_t brief;		/* 284: so many calls in a row came right after the answer to the last */
	uint16_t apart;		/* 286: kept off the sentry's CPU: place in systrap-cpus.c's list + 1 */
	uint64_t resumed_at;	/* 288: time-stamp counter when it was last sent on */
	uint32_t late_ops;	/* 296: operations in its slot that it runs before it goes on */
	uint32_t late_maps;	/* 300: some of them map files: systrap-maps.c has entries */
	uint32_t partial;	/* 304: of a call from a patched site; R15 … RBX are not in `regs` yet */
	uint32_t flags;		/* 308: of a call from a patched site, what EFLAGS and R11 were */
	uint32_t drawn;		/* 312: held to our CPU until it has been woken there */
	uint32_t own_turn;	/* 316: cycles from when it was sent on to its trap, the last time; TURN_NS at most */
};

#define MAX_EVENTS 64

/*
 * What goes into a wait (systrap-wait.c) and comes out of it; mirrored by native/systrap.ts. In memory, not as arguments:
 * these cost 25 ns of Node-API for each call of a guest.
 */
struct turn {
	double timeout; /* in: ns after `now`; < 0: for ever */
	double now;	/* out: CLOCK_MONOTONIC in ns, some µs before the wait ended at most */
	int32_t resume; /* in: the row that goes on, or -1 */
	int32_t row;	/* out: the row that has trapped, or -1 */
	int32_t count;	/* out: host events */
	struct epoll_event events[MAX_EVENTS]; /* packed: 12 bytes each */
};

extern struct thread *threads;
extern uint8_t *slots;
extern struct stub_control *control;
extern int listener, sigfd, wake_pipe[2];
/* Rows whose threads run guest code. */
extern int running[], running_count;
/* All that the sentry waits for. */
extern int epfd;
/* No row from here on was ever used. */
extern int high;
/* How long both sides spin before they sleep, at most, in cycles: 0 to tens of µs, by how busy the machine is. */
extern uint64_t spin_max, cycles_per_us;
extern int cpus;
/* ptrace.c */
extern int watched_fds;

static inline struct stub_slot *slot_of(int i)
{
	return (struct stub_slot *)(slots + (size_t)i * SLOT_SIZE);
}

static inline int is_stopped(int i)
{
	uint32_t state = __atomic_load_n(&slot_of(i)->state, __ATOMIC_ACQUIRE);

	return state == STATE_TRAP || state == STATE_ASLEEP;
}

/* A row begins, at an address of its process. */
void begin_row(int i, uint64_t guest_slot);
/* systrap-arenas.c: process `pid` has been reaped. */
void part_arena(int pid);
/* systrap-exits.c: the same; who should have ended by now is killed; how long we may sleep while somebody should. */
void forget_leaving(int pid);
void kill_late_leavers(void);
long leavers_timeout(long timeout_ns);
/* The word that a stopped thread sleeps on has changed. */
void wake_stub(int i);
/* Gives a stopped thread its next command. */
void command(int i, uint32_t what);
/* systrap-usage.c: the same, for what it had used. */
struct rusage;
void report_end(int pid, const struct rusage *used);
/* Collects ended children: their rows are reported as gone. */
void reap(void);
/* Collects ended children and what woke the sentry. */
void drain_sigfd(void);
void drain_wake_fd(void);
/* A row runs no guest code any more; one has ended, which is to be told. */
void stop_running(int i);
void note_end(int i);

/* systrap-spin.c: the sentry's budget, whether the last sleep was one that spinning would have spared, a look at the load. */
void spin_init(int spin_us);
uint64_t spin_budget(void);
void spin_learn(int met);
void spin_again(void);
void check_load(int active);
int is_quiet(void);
int crowded(int active);

/* systrap-cpus.c */
void cpus_init(void);
/* Rows that were sent on so lately that they are likely to run: who computes or sleeps natively for long is none of these. */
int look_around(void);
/* Whether one of them has our CPU, so that spinning would only keep it from running. May move us away. */
int shares_cpu(int active);
/* Our CPU, which we do not leave for a while. */
uint32_t stay_on_cpu(void);
/* The sentry goes to sleep. */
void offer_cpu(void);
/*
 * The same: takes row i to our CPU if it waits for its own, which the host would not do before its next balancing, long
 * after. Whether it did.
 */
int fetch_row(int i);
/* A thread that sleeps is woken on our CPU, and may go from there. */
void wake_near(int i);
/* One that was drawn to our CPU has been woken. */
void let_go(struct thread *t);
/* A row trapped, `computed` cycles after it went on: may give it and us CPUs apart. */
void note_trap(int i, uint64_t at, uint32_t computed);
/* Guests may run everywhere again; for one row: it ends. */
void share_cpus(void);
void forget_cpu(int i);
/* A row's thread may run everywhere, whoever held it where. */
void anywhere(int i);
/* Moves a thread (tid 0: us) to a CPU, and holds it there. 0 or -1. */
int hold_on(int tid, uint32_t cpu);
/* A clone runs where the sandbox may, wherever its parent is held. */
void free_cpus(int tid);

/* systrap-maps.c: mappings of files that threads make as they go on. So many are still to be asked for. */
extern int late_maps_due;
struct seccomp_data;
int late_map_add(int i, const struct stub_op *op, int fd);
int late_map_fd(int tid, const struct seccomp_data *d);
void late_map_forget(int i);

/* What is due while a thread does what it was told. */
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

/* Answers one notification of the filter: only what `order` (NULL: nothing) expects is let through. */
void take_notification(struct order *order);
/* Whether a thread of the host's is some row's. */
int known_tid(int tid);
/* Runs `count` operations (rows of sentry/platform/memory-ops.ts) in a stopped thread. 0 or -errno. */
long st_batch(int i, const double *rows, int count);
/* What row i was to do as it goes on, it does now. */
void run_late_ops(int i);
/* Waits until row i is stopped again. `order` NULL: no notification is due. 0, or -ESRCH when it ended. */
int await(int i, struct order *order);
/* Lets a stopped thread go on. 0 or -ESRCH. */
int st_resume(int i);
/* R15 … RBX of a stopped thread, whose `regs` are whole then. */
void st_whole(int i);
/* A stopped thread will not go on soon. */
void st_park(int i);
/* Makes sure that a stopped thread has a signal frame, which holds its FPU state. 0 or -ESRCH. */
int need_frame(int i);

#endif
