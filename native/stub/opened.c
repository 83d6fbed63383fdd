/*
 * fstat, read and close of the file that a thread opened last (struct stub_opened): most programs open a file to look how
 * large it is, read its beginning and close it. Freestanding C as the rest of the stub, where no TypeScript can run.
 *
 * An answer is true at the moment of the look at control->changes. What the sentry has to make up for, a position that moved
 * and a descriptor that is gone, stands in one word: whoever exchanges it has seen all of it.
 */
#include "answers.h"

#define SYS_READ 0
#define SYS_CLOSE 3
#define SYS_FSTAT 5
#define SYS_PREAD64 17
#define SYS_NEWFSTATAT 262
#define AT_EMPTY_PATH 0x1000U
/* st_size */
#define STAT_ST_SIZE 48

/* Replaces the word, unless the sentry was faster: the call is its own then. */
static int put_off(struct stub_opened *opened, uint32_t old, uint32_t word)
{
	return __atomic_compare_exchange_n(&opened->put_off, &old, word, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static int answer_stat(struct stub_slot *slot, uint64_t to)
{
	if (to > ARENA_BASE - STAT_SIZE || copy_bytes((void *)to, slot->opened.stat, STAT_SIZE) < 0)
		return 0;
	slot->result = 0;
	return 1;
}

/* Bytes from `at` on that a read of `size` gets, or −1: they are not all here. */
static int64_t available(const struct stub_opened *opened, uint64_t at, uint64_t size)
{
	uint64_t len = opened->len, whole = *(const uint64_t *)(opened->stat + STAT_ST_SIZE);

	if (len > OPENED_DATA_SIZE || at > len)
		return -1;
	if (size <= len - at)
		return size;
	return len == whole ? (int64_t)(len - at) : -1;
}

static int answer_read(struct stub_slot *slot, uint32_t word, int own_position)
{
	uint64_t *r = slot->regs;
	uint64_t to = r[RSI], size = r[RDX], at = own_position ? word & OPENED_POSITION : r[R10];
	int64_t n;

	if (!(word & OPENED_DATA) || size == 0 || size > ARENA_BASE ||
	    to > ARENA_BASE - size)
		return 0;
	n = available(&slot->opened, at, size);
	if (n < 0 || copy_bytes((void *)to, (uint8_t *)slot + OPENED_DATA_OFFSET + at, n) < 0)
		return 0;
	if (own_position && !put_off(&slot->opened, word, word + n))
		return 0;
	slot->result = n;
	return 1;
}

int opened_answer(struct stub_slot *slot, uint64_t nr)
{
	const struct stub_control *control = (const void *)CONTROL_ADDR;
	struct stub_opened *opened = &slot->opened;
	uint64_t *r = slot->regs;
	uint32_t word;

	if (nr != SYS_READ && nr != SYS_CLOSE && nr != SYS_FSTAT && nr != SYS_PREAD64 && nr != SYS_NEWFSTATAT)
		return 0;
	if (opened->fd == 0 || (uint32_t)r[RDI] != opened->fd - 1 ||
	    __atomic_load_n(&control->changes, __ATOMIC_ACQUIRE) != opened->changes)
		return 0;
	word = __atomic_load_n(&opened->put_off, __ATOMIC_ACQUIRE);
	if (word & (OPENED_CLOSED | OPENED_WITHDRAWN))
		return 0;
	switch (nr) {
	case SYS_READ:
		return answer_read(slot, word, 1);
	case SYS_PREAD64:
		return answer_read(slot, word, 0);
	case SYS_CLOSE:
		if (!put_off(opened, word, word | OPENED_CLOSED))
			return 0;
		slot->result = 0;
		return 1;
	case SYS_FSTAT:
		return answer_stat(slot, r[RSI]);
	}
	/* The name is in the window: its NUL alone. */
	return (uint32_t)r[R10] == AT_EMPTY_PATH && slot->in_len[0] == 1 && answer_stat(slot, r[RDX]);
}
