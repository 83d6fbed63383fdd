/*
 * Names of which all guests know something (protocol.h, struct stub_known), and where a call's arguments are. The sentry
 * alone writes the table, while guests read it: sentry/platform/systrap/known-names.ts.
 */
#ifndef TSSANDBOX_STUB_KNOWN_H
#define TSSANDBOX_STUB_KNOWN_H

#include "protocol.h"

#define EFAULT 14

/* stub.S: 0, or -1 when memory is not there. */
extern long copy_bytes(void *to, const void *from, uint64_t count);

/* Order of struct user_regs_struct. */
enum { R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP, CS, EFLAGS, RSP, SS,
       FS_BASE, GS_BASE, DS, ES, FS, GS };

/* The register of each argument; there is no seventh. */
static const uint8_t argument_order[8] = { RDI, RSI, RDX, R10, R8, R9, R9, R9 };

/* The answer to a call with the name in the window and its other arguments in the slot; 0: the sentry has to say. */
long known_answer(const struct stub_slot *slot, uint32_t check);

/* fstat of what the thread opened last, from the sentry's answer to that open. 1: done; 0: the sentry has to. */
int known_stat(const struct stub_slot *slot, uint64_t nr);

#endif
