/*
 * Answers about names that all guests know (struct stub_known): no such file, or no link. Most of what compilers, linkers and
 * interpreters ask along their search paths.
 *
 * An answer is true at the moment of the last look at the entry, which the sentry clears before anybody can know better.
 */
#include "answers.h"

#define ENOENT 2
#define EINVAL 22

/* O_ACCMODE, NOCTTY, APPEND, NONBLOCK, DSYNC, LARGEFILE, DIRECTORY, NOFOLLOW, CLOEXEC, PATH: none of them makes a file. */
#define OPEN_FLAGS 0x2b9d03U
/* AT_SYMLINK_NOFOLLOW, NO_AUTOMOUNT, EMPTY_PATH */
#define AT_FLAGS 0x1900U
/* AT_SYMLINK_NOFOLLOW, EACCESS, EMPTY_PATH */
#define ACCESS_FLAGS 0x1300U
#define STATX_RESERVED 0x80000000U

/* Whether the call would look at the name at all: nothing is wrong with the arguments that Linux looks at before. */
static int in_order(const uint64_t *r, uint32_t check)
{
	uint32_t arg = check & CHECK_ARG;
	uint32_t value = r[argument_order[arg]], next = r[argument_order[(arg + 1) & 7]];

	switch (check >> 3) {
	case CHECK_ANY:
		return 1;
	case CHECK_OPEN:
		return (value & ~OPEN_FLAGS) == 0;
	case CHECK_AT:
		return (value & ~AT_FLAGS) == 0;
	case CHECK_MODE:
		return (value & ~7U) == 0;
	case CHECK_ACCESS:
		return (value & ~7U) == 0 && (next & ~ACCESS_FLAGS) == 0;
	case CHECK_STATX:
		return (value & ~AT_FLAGS) == 0 && (next & STATX_RESERVED) == 0;
	case CHECK_SIZE:
		return (int32_t)value > 0;
	}
	return 0;
}

/* Entry `e` is about `name`, and counts for `slot`: its result, or 0. The sentry may be rewriting it. */
static uint32_t answer_of(const struct stub_slot *slot, const struct stub_name *e, const uint8_t *name, uint32_t len)
{
	const struct stub_control *control = (const void *)CONTROL_ADDR;
	uint32_t turn = __atomic_load_n(&e->turn, __ATOMIC_ACQUIRE);
	uint32_t names = __atomic_load_n(&e->names, __ATOMIC_ACQUIRE);
	uint32_t result = e->result;

	if (names == 0 || e->len != len || e->root != slot->root)
		return 0;
	for (uint32_t i = 0; i < len; i++)
		if (e->name[i] != name[i])
			return 0;
	/* Whoever changes a root moves control->roots before names of another root can be published. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&control->roots, __ATOMIC_ACQUIRE) != slot->root_turn ||
	    __atomic_load_n(&e->turn, __ATOMIC_ACQUIRE) != turn ||
	    __atomic_load_n(&e->names, __ATOMIC_ACQUIRE) != names ||
	    __atomic_load_n(&control->names, __ATOMIC_ACQUIRE) != names)
		return 0;
	return result;
}

long known_answer(const struct stub_slot *slot, uint32_t check)
{
	const struct stub_known *known = (const void *)(CONTROL_ADDR + KNOWN_OFFSET);
	const uint8_t *name = (const uint8_t *)slot + WINDOW_IN_OFFSET;
	/* With its NUL, which the table does without. */
	uint32_t len = slot->in_len[0] - 1, hash = 2166136261, first;

	if (slot->root == 0 || len - 1 >= KNOWN_NAME || name[0] != '/' || !in_order(slot->regs, check))
		return 0;
	for (uint32_t i = 0; i < len; i++)
		hash = (hash ^ name[i]) * 16777619;
	first = (hash ^ hash >> 16) % KNOWN & ~(KNOWN_WAYS - 1U);
	for (uint32_t i = first; i < first + KNOWN_WAYS; i++) {
		uint32_t result;

		if (known->hashes[i] != hash || (result = answer_of(slot, &known->entries[i], name, len)) == 0)
			continue;
		if (result == ENOENT || check >> 3 == CHECK_SIZE)
			return -(long)result;
	}
	return 0;
}
