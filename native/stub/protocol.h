/*
 * The systrap protocol: memory that a stub shares with the sentry. The single truth for C (stub and native/host) and,
 * through sentry/platform/systrap/protocol.ts, TypeScript; test/unit/systrap-protocol.test.ts checks that they agree.
 *
 * Everything in a slot may be written by hostile guest code at any time. The sentry copies before it checks, and no
 * value in here may make it touch memory outside the slot.
 */
#ifndef TSSANDBOX_STUB_PROTOCOL_H
#define TSSANDBOX_STUB_PROTOCOL_H

#include <stdint.h>

/* End of the guest's part of the address space: from here on it is ours. */
#define ARENA_BASE 0x7fff80000000UL
/* One slot per thread of the process, each mapped when its thread is made. */
#define SLOT_SIZE 0x10000UL
#define ARENA_SLOTS 16384UL
#define ARENA_SIZE (SLOT_SIZE * ARENA_SLOTS)
/* For the whole sandbox, read-only in guests: struct stub_control, and struct stub_known from KNOWN_OFFSET on. */
#define CONTROL_ADDR 0x7fffe0000000UL
#define CONTROL_SIZE 0x43000UL
#define KNOWN_OFFSET 0x1000UL
#define STUB_TEXT 0x7ffff0000000UL
#define STUB_TEXT_SIZE 0x4000UL
/* Scratch of the ptrace driver, and of the set-up of both platforms. */
#define STUB_OPS 0x7ffff0004000UL
/* Entry points of stub.S. */
#define STUB_ONE 0x7ffff0000010UL
#define STUB_BATCH 0x7ffff0000020UL
#define STUB_RESTORER 0x7ffff0000060UL
#define STUB_HANDLER 0x7ffff0000070UL
#define STUB_ENTER 0x7ffff0000080UL
#define STUB_SITE 0x7ffff0000090UL

/*
 * Patched call sites (sentry/platform/systrap/amd64/patch.ts): one entry each, in a private page of the guest's low
 * memory, where a 32-bit absolute address reaches it. The first entry's first word is STUB_SITE. The third byte of these
 * addresses is 06, no instruction: a thread that stands in the middle of a patched site faults and is recognised.
 */
#define PATCH_BASE 0x60000UL
#define PATCH_SIZE 0x10000UL
#define PATCH_ENTRY_SIZE 64UL
/* Offsets in an entry: where the site's call returns to; the load that finds out whether GS is ours; the call itself. */
#define PATCH_RETURN 8
#define PATCH_GS_LOAD 26
#define PATCH_CALL 40

/* Descriptors in a stub process: a donated file while it is mapped, and the eventfd that wakes the sentry. */
#define DONATED_FD 5
#define WAKE_FD 6
/* Makes a running thread trap; any signal would do, guests see only the sentry's. */
#define INTERRUPT_SIGNAL 23

/*
 * slot->state, a futex word. The stub moves GUEST|COMMAND→TRAP→(ASLEEP), when a trap comes and after any command but those
 * that let guest code go on; the sentry TRAP|ASLEEP→COMMAND. TRAP and ASLEEP mean: the sentry's turn. A COMMAND whose order
 * is not obeyed yet: its thread waits for a CPU.
 */
#define STATE_GUEST 0
#define STATE_TRAP 1
#define STATE_ASLEEP 2
#define STATE_COMMAND 3

/* slot->command */
#define COMMAND_RESUME 1 /* run ops, if any, load regs, go on with guest code */
#define COMMAND_OPS 2	 /* run ops[0 … op_count) until one fails */
#define COMMAND_FORK 3	 /* clone a process: flags args[0]; its slot is at args[1] of descriptor DONATED_FD */
#define COMMAND_THREAD 4 /* clone a thread: flags args[0], its slot at address args[1] */
#define COMMAND_EXIT 5	 /* end this thread */
#define COMMAND_RETURN 6 /* the same from a patched site: of the registers only RAX = result is new */
#define COMMAND_FRAME 7	 /* from a patched site: make a signal frame, as if the call had trapped by SIGSYS */
#define COMMAND_REST 8	 /* the guest's thread has ended; the host's sleeps until it becomes another one, by COMMAND_RESUME */

/* A row of `ops` that is no system call: copy args[1] bytes (at most 32) from args[2 … 5] to args[0]; 2 bytes at once. */
#define OP_STORE 0x10000

/* slot->trap; the same numbers as sentry/platform/platform.ts. */
#define TRAP_NONE 0
#define TRAP_SYSCALL 1
#define TRAP_FAULT 2
#define TRAP_INTERRUPT 3
#define TRAP_GONE 4
#define TRAP_FAILED 5 /* one of the operations that went with the answer: `result` says why */

#define MAX_STUB_OPS 60
/* struct user_regs_struct, in u64 */
#define REGS 27
/*
 * Stack of the stub's code behind a patched site; it ends where the signal stack begins. First on it are RSP, EFLAGS and
 * the registers that calls preserve, RBX to R15: the sentry rarely wants to know these, and they change all the time.
 */
#define SITE_STACK_OFFSET 0x2000UL
/* The kernel's signal frame, and the stub's own stack below it. */
#define SIGNAL_STACK_OFFSET 0x3000UL
#define SIGNAL_STACK_SIZE 0x5000UL
#define SITE_KEPT 6
#define SITE_FLAGS_OFFSET (SIGNAL_STACK_OFFSET - 24)
#define SITE_KEPT_OFFSET (SITE_FLAGS_OFFSET - 8 * SITE_KEPT)
/*
 * The copy window: what the call's arguments point at, taken by the stub before it publishes the call (two pieces at
 * most), and what the sentry wants written before the guest goes on.
 */
#define WINDOW_IN_OFFSET 0x8000UL
#define WINDOW_IN_SIZE 0x2000UL
#define WINDOW_OUT_OFFSET 0xc000UL
#define WINDOW_OUT_SIZE 0x2000UL
#define WINDOW_STRING 1024
#define MAX_WINDOW_OUT 8
/*
 * Answers that the stub remembers, struct stub_memo by the hash of a name, behind the window's second piece: as long as no
 * name has changed (control->names) and the thread is who it was (slot->memo_turn), the call is not made again.
 */
#define MEMO_OFFSET 0xb000UL
#define MEMOS 32
#define MEMO_NAME 104

/* What the file begins with that the thread opened last (struct stub_opened). */
#define OPENED_DATA_OFFSET 0xe000UL
#define OPENED_DATA_SIZE 0x2000UL
/*
 * slot->opened.put_off: what the thread has done with that file without the sentry, which makes up for it when the thread
 * traps next, or before anybody looks. Both sides change the word by exchanges only: nothing is done twice or lost.
 */
#define OPENED_POSITION 0x3fff	  /* its position, while OPENED_DATA is set */
#define OPENED_CLOSED 0x10000	  /* the descriptor is closed */
#define OPENED_DATA 0x20000	  /* reads may be answered from the data */
#define OPENED_WITHDRAWN 0x40000 /* the stub answers nothing */

#define SIGNALS 64
/* SA_* that rt_sigaction keeps. */
#define ACTION_FLAGS 0xdc000807UL

/* control->calls[number]: what the stub does with a call before the sentry sees it. */
#define CALL_COPY 0x0003	/* first piece: 0 none, 1 a string, 2 bytes counted by the next argument, 3 sixteen bytes */
#define CALL_COPY_ARG 0x001c	/* … of this argument, << 2 */
#define CALL_STRING_ARG 0x00e0	/* second piece, a string: the argument's index + 1, << 5 */
#define CALL_ANSWER 0x0700	/* answered by the stub itself with slot->answers[this − 1], << 8 */
#define CALL_MEMO 0x0800	/* its answer may be remembered by its first piece, a string */
#define CALL_DIRECT 0x8000	/* made with its own instruction: it runs natively, or needs a signal frame */
#define CALLS 512
/* struct stat */
#define STAT_SIZE 144

/*
 * Names of which all guests know something (struct stub_known): that there is nothing, or that it is no link. An entry
 * counts for threads with its root, while `names` is control->names: the sentry clears it before a call returns that makes
 * the name. KNOWN_WAYS neighbours may hold a name, found by its hash.
 */
#define KNOWN 2048
#define KNOWN_WAYS 4
#define KNOWN_NAME 108

/* control->checks[number]: what a call says of a name that is known. The argument's index, and what it has to be like << 3. */
#define CHECK_ARG 0x07
#define CHECK_ANY 1    /* anything */
#define CHECK_OPEN 2   /* flags of open that make nothing */
#define CHECK_AT 3     /* flags of fstatat */
#define CHECK_MODE 4   /* mode of access */
#define CHECK_ACCESS 5 /* the same, followed by flags of faccessat2 */
#define CHECK_STATX 6  /* flags of fstatat, followed by the mask of statx */
#define CHECK_SIZE 7   /* a positive size, of readlink: it has answers for directories, too */

struct stub_op {
	uint64_t nr;
	uint64_t args[6];
	uint64_t result;
};

/* One piece of the window that is to be written to guest memory. */
struct stub_copy {
	uint64_t addr;
	uint32_t offset; /* from WINDOW_OUT_OFFSET */
	uint32_t len;
};

struct stub_memo {
	uint32_t names; /* control->names at that time; 0: nothing */
	uint32_t turn;
	uint32_t nr;
	uint32_t len;
	uint64_t result;
	uint8_t name[MEMO_NAME];
};

struct stub_name {
	uint32_t names; /* control->names while it counts; 0: it does not */
	uint32_t turn;	/* moves whenever the rest is written */
	uint32_t root;	/* slot->root of those for whom it counts */
	uint32_t len;	/* without NUL */
	uint32_t result; /* ENOENT for every call, or EINVAL for readlink */
	uint8_t name[KNOWN_NAME];
};

struct stub_known {
	uint32_t hashes[KNOWN]; /* of each entry's name */
	struct stub_name entries[KNOWN];
};

/* The file that the thread opened last, for reading; the stub answers fstat, read and close (opened.c). */
struct stub_opened {
	uint32_t fd;	  /* 1 + the descriptor; 0: none */
	uint32_t changes; /* control->changes while the rest is true */
	uint32_t put_off; /* OPENED_* */
	uint32_t len;	  /* bytes at OPENED_DATA_OFFSET; all of the file where it is st_size */
	uint8_t stat[STAT_SIZE]; /* struct stat */
};

/* struct kernel_sigaction */
struct stub_action {
	uint64_t handler;
	uint64_t flags;
	uint64_t restorer;
	uint64_t mask;
};

/* Signal actions of a process whose only thread has this slot: the stub answers rt_sigaction (actions.c). */
struct stub_actions {
	uint32_t told; /* it may; the sentry clears this before a signal is queued */
	uint32_t pad;
	uint64_t changed; /* the actions that the sentry has to take over, bit signal − 1 */
	struct stub_action action[SIGNALS]; /* index = signal − 1 */
};

/*
 * Cache lines decide what a call costs: one that each side has written travels twice, 100 ns and more each way. A call from
 * a patched site whose arguments are numbers needs the first line only: what differs from call to call is in it, what is
 * rarely written elsewhere, and a store that changes nothing is left out.
 */
struct stub_slot {
	uint32_t state;		/* 0 */
	uint32_t command;	/* 4 */
	uint32_t trap;		/* 8 */
	uint32_t op_count;	/* 12 */
	uint64_t result;	/* 16: of the last operation or clone; behind a patched site RAX as the guest will see it */
	uint64_t nr;		/* 24: RAX at a patched site */
	uint64_t trapped_at;	/* 32: time-stamp counter when the trap was published: would spinning have met it? */
	uint32_t computed;	/* 40: cycles that guest code ran since it went on: a thread that does little but call? */
	uint32_t cpu;		/* 44: where the trap was published; two that share a CPU must not spin for each other */
	uint32_t entry;		/* 48: of the patched site that the call came through; 0: trapped by a signal */
	uint32_t order;		/* 52: moves with each command */
	uint64_t flags;		/* 56: EFLAGS, and R11, at a patched site */
	uint64_t self;		/* 64: this slot's address in the guest: GS leads here */
	int32_t signo;		/* 72 */
	int32_t code;		/* 76 */
	uint32_t trapno;	/* 80 */
	uint32_t error_code;	/* 84 */
	uint32_t in_len[2];	/* 88: bytes of each piece in the window; 0 = none */
	uint64_t in_addr[2];	/* 96: where they are from */
	uint64_t fault_addr;	/* 112 */
	uint64_t context;	/* 120: address of the ucontext in the signal frame */
	uint32_t interrupted;	/* 128: the interrupt came while the stub ran; it traps before guest code goes on */
	uint32_t answered;	/* 132: `answers` may be used */
	uint32_t answers[6];	/* 136 */
	uint64_t stack;		/* 160: stack pointer for the stub's own code, below the frame */
	uint64_t row;		/* 168: what to write to WAKE_FD: the sentry looks at this row first */
	uint64_t used;		/* 176: ns of CPU time that the host's thread had used before it became this one */
	uint64_t unused2;	/* 184 */
	uint64_t regs[REGS];	/* 192: at a patched site not RAX, ORIG_RAX, R11, EFLAGS, R15 … RBX */
	uint32_t out_count;	/* 408: pieces of the window to write */
	uint32_t unused3;	/* 412 */
	struct stub_copy out[MAX_WINDOW_OUT]; /* 416 */
	uint32_t memo;		/* 544: the answer to the call in progress holds at this control->names; 0: it may change */
	uint32_t memo_turn;	/* 548: moves when the thread's rights change */
	uint32_t root;		/* 552: whose names the thread sees; 0: nobody's that are known */
	uint32_t root_turn;	/* 556: control->roots at that time */
	struct stub_opened opened; /* 560 */
	struct stub_actions actions; /* 720 */
	uint64_t args[4];	/* 2784 */
	uint32_t obeyed;	/* 2816: `order` as soon as the thread runs */
	uint32_t resumed_at;	/* 2820: time-stamp counter, its low half, when guest code went on */
	uint32_t waited;	/* 2824: cycles from the last trap to its answer, or to the look that met it */
	uint8_t pad[0x1000 - 2828];
	struct stub_op ops[MAX_STUB_OPS + 2]; /* 0x1000 */
};

/* The CPU of the calling thread, without a call: Linux keeps it as the limit of this segment (what the vDSO reads). */
static inline uint32_t current_cpu(void)
{
	uint32_t limit;

	__asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"(0x7b) : "cc");
	return limit & 0xfff;
}

/* The time-stamp counter, and the CPU. */
static inline uint64_t cycles_on(uint32_t *cpu, uint32_t together)
{
	uint32_t lo, hi, aux;

	if (together) {
		__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
		*cpu = aux & 0xfff;
	} else {
		__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
		*cpu = current_cpu();
	}
	return lo | (uint64_t)hi << 32;
}

struct stub_control {
	/* The sentry sleeps, or is about to: write slot->row to WAKE_FD after publishing a trap. */
	uint32_t sleeping;
	/* Cycles of the time-stamp counter to wait for an answer before sleeping. */
	uint32_t spin;
	/* The CPU on which the sentry was last seen. */
	uint32_t cpu;
	/* `spin`, after waking the sentry, which then need not wake the thread in its turn. */
	uint32_t spin_woken;
	/* rdtscp tells the CPU with the time: virtual machines may take 60 ns for the segment's limit. */
	uint32_t together;
	/*
	 * A stub looks for the answer a little earlier than the last one came, but so many cycles after its trap at the
	 * latest: each look takes the answer's cache line away from the sentry, which has got it ready.
	 */
	uint32_t first_look;
	/* What follows is written more often, in a cache line of its own. */
	uint32_t unused[10];
	/* Moves with every change that can make a name lead elsewhere (sentry/vfs/dentry.ts). */
	uint32_t names;
	/* Moves with every change of anybody's root. */
	uint32_t roots;
	/* Moves before any call is handled that may change a file, its attributes, or what a descriptor stands for. */
	uint32_t changes;
	uint32_t unused2[13];
	/* CALL_* by number. */
	uint16_t calls[CALLS];
	/* CHECK_* by number. */
	uint8_t checks[CALLS];
};

#endif
