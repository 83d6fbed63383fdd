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
/* One page for the whole sandbox, read-only in guests. */
#define CONTROL_ADDR 0x7fffe0000000UL
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

/* Descriptors in a stub process: a donated file while it is mapped, and the eventfd that wakes the sentry. */
#define DONATED_FD 5
#define WAKE_FD 6
/* Makes a running thread trap; any signal would do, guests see only the sentry's. */
#define INTERRUPT_SIGNAL 23

/*
 * slot->state, a futex word. The stub moves GUEST→TRAP→(ASLEEP), the sentry TRAP|ASLEEP→COMMAND, the stub
 * COMMAND→GUEST (resume) or →TRAP (anything else). TRAP and ASLEEP mean: the sentry's turn.
 */
#define STATE_GUEST 0
#define STATE_TRAP 1
#define STATE_ASLEEP 2
#define STATE_COMMAND 3

/* slot->command */
#define COMMAND_RESUME 1 /* load regs, go on with guest code */
#define COMMAND_OPS 2	 /* run ops[0 … op_count) until one fails */
#define COMMAND_FORK 3	 /* clone a process: flags args[0]; its slot is at args[1] of descriptor DONATED_FD */
#define COMMAND_THREAD 4 /* clone a thread: flags args[0], its slot at address args[1] */
#define COMMAND_EXIT 5	 /* end this thread */

/* slot->trap; the same numbers as sentry/platform/platform.ts. */
#define TRAP_NONE 0
#define TRAP_SYSCALL 1
#define TRAP_FAULT 2
#define TRAP_INTERRUPT 3
#define TRAP_GONE 4

#define MAX_STUB_OPS 60
/* struct user_regs_struct, in u64 */
#define REGS 27
/* The kernel's signal frame and the stub's own stack share the rest of the slot. */
#define SIGNAL_STACK_OFFSET 0x2000UL
#define SIGNAL_STACK_SIZE (SLOT_SIZE - SIGNAL_STACK_OFFSET)

struct stub_op {
	uint64_t nr;
	uint64_t args[6];
	uint64_t result;
};

struct stub_slot {
	uint32_t state;		/* 0 */
	uint32_t command;	/* 4 */
	uint32_t trap;		/* 8 */
	int32_t signo;		/* 12 */
	int32_t code;		/* 16 */
	uint32_t trapno;	/* 20 */
	uint32_t error_code;	/* 24 */
	uint32_t op_count;	/* 28 */
	uint64_t fault_addr;	/* 32 */
	uint64_t context;	/* 40: address of the ucontext in the signal frame */
	uint64_t stack;		/* 48: stack pointer for the stub's own code, below the frame */
	uint64_t result;	/* 56: of the last operation or clone */
	uint64_t args[4];	/* 64 */
	uint64_t regs[REGS];	/* 96 */
	uint8_t pad[0x1000 - 96 - 8 * REGS];
	struct stub_op ops[MAX_STUB_OPS + 2]; /* 0x1000 */
};

struct stub_control {
	/* The sentry sleeps, or is about to: write to WAKE_FD after publishing a trap. */
	uint32_t sleeping;
	/* Cycles of the time-stamp counter to wait for an answer before sleeping. */
	uint32_t spin;
};

#endif
