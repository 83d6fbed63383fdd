/*
 * What the stub answers without the sentry, and where a call's arguments are.
 */
#ifndef TSSANDBOX_STUB_ANSWERS_H
#define TSSANDBOX_STUB_ANSWERS_H

#include "protocol.h"
#include "raw-call.h"

#define EFAULT 14

/* A store that changes nothing would take the cache line from the CPU of the sentry, which reads it. */
#define keep(at, value)                                                                                                \
	do {                                                                                                           \
		if ((at) != (value))                                                                                   \
			(at) = (value);                                                                                \
	} while (0)

/* stub.S: 0, or -1 when memory is not there. */
extern long copy_bytes(void *to, const void *from, uint64_t count);
/* Bytes with the NUL; 0 when it does not fit; -1 when memory is not there. */
extern long copy_string(void *to, const void *from, uint64_t size);

/* Order of struct user_regs_struct. */
enum { R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP, CS, EFLAGS, RSP, SS,
       FS_BASE, GS_BASE, DS, ES, FS, GS };

/* The register of each argument; there is no seventh. */
static const uint8_t argument_order[8] = { RDI, RSI, RDX, R10, R8, R9, R9, R9 };

/*
 * From the names of which all guests know something (struct stub_known): the answer to a call with the name in the window
 * and its other arguments in the slot; 0: the sentry has to say.
 */
long known_answer(const struct stub_slot *slot, uint32_t check);

/* fstat, read and close of the file that the thread opened last. 1: done, the result is in `result`; 0: the sentry has to. */
int opened_answer(struct stub_slot *slot, uint64_t nr);

/* The answer to a call with the name in the window that was remembered. 1: it is in `result`. And remembers one. */
int memo_answer(struct stub_slot *slot, uint64_t nr);
void memo_keep(struct stub_slot *slot, uint64_t nr);

/* What the call's arguments point at, by CALL_*. */
void copy_in(struct stub_slot *slot, uint32_t how);
/* What the sentry wants written. 0 or -EFAULT: it looked first, so that only a race or an attack comes here. */
long copy_out(struct stub_slot *slot);

/* rt_sigaction, in a process with one thread. */
int action_answer(struct stub_slot *slot, uint64_t nr);

/* CPU time of the host's thread in ns; clock_gettime of the guest's. */
uint64_t used_cpu(void);
int clock_answer(struct stub_slot *slot, uint64_t nr);

#endif
