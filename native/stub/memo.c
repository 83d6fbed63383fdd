/*
 * Answers that the stub remembers for its thread, by the call's number and a name (struct stub_memo): those that hold as long
 * as no name has changed, as the sentry said when it gave them.
 */
#include "answers.h"

/* Where the answer to a call with the name in the window is remembered, or would be. NULL: the name is too long. */
static struct stub_memo *memo_of(struct stub_slot *slot, uint32_t len)
{
	const uint8_t *name = (uint8_t *)slot + WINDOW_IN_OFFSET;
	uint32_t hash = 2166136261;

	if (len == 0 || len > MEMO_NAME)
		return 0;
	for (uint32_t i = 0; i < len; i++)
		hash = (hash ^ name[i]) * 16777619;
	return (struct stub_memo *)((uint8_t *)slot + MEMO_OFFSET) + (hash ^ hash >> 16) % MEMOS;
}

void memo_keep(struct stub_slot *slot, uint64_t nr)
{
	uint32_t len = slot->in_len[0];
	struct stub_memo *memo = memo_of(slot, len);

	if (memo == 0)
		return;
	memo->names = slot->memo;
	memo->turn = slot->memo_turn;
	memo->nr = nr;
	memo->result = slot->result;
	memo->len = len;
	copy_bytes(memo->name, (uint8_t *)slot + WINDOW_IN_OFFSET, len);
}

int memo_answer(struct stub_slot *slot, uint64_t nr)
{
	const volatile struct stub_control *control = (const void *)CONTROL_ADDR;
	const uint8_t *name = (uint8_t *)slot + WINDOW_IN_OFFSET;
	uint32_t len = slot->in_len[0];
	const struct stub_memo *memo = memo_of(slot, len);

	if (memo == 0 || memo->names == 0 || memo->names != control->names || memo->turn != slot->memo_turn ||
	    memo->nr != nr || memo->len != len)
		return 0;
	for (uint32_t i = 0; i < len; i++)
		if (memo->name[i] != name[i])
			return 0;
	slot->result = memo->result;
	return 1;
}
