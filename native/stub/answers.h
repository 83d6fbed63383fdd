/*
 * What the stub answers without the sentry, and where a call's arguments are.
 */
#ifndef TSSANDBOX_STUB_ANSWERS_H
#define TSSANDBOX_STUB_ANSWERS_H

#include "protocol.h"

#define EFAULT 14

/* stub.S: 0, or -1 when memory is not there. */
extern long copy_bytes(void *to, const void *from, uint64_t count);

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

/* fstat, read and close of the file that the thread opened last. 1: done, the result is in RAX; 0: the sentry has to. */
int opened_answer(struct stub_slot *slot, uint64_t nr);

/* rt_sigaction, in a process with one thread. */
int action_answer(struct stub_slot *slot, uint64_t nr);

#endif
