/*
 * The copy window (protocol.h): what a call's arguments point at goes to the sentry with the call, what it writes comes with
 * the answer. Addresses are the guest's: what is not there is the sentry's to miss.
 */
#include "answers.h"

void copy_in(struct stub_slot *slot, uint32_t how)
{
	uint8_t *window = (uint8_t *)slot + WINDOW_IN_OFFSET;
	const uint64_t *r = slot->regs;
	uint64_t from;
	long got;

	keep(slot->in_len[0], 0);
	keep(slot->in_len[1], 0);
	if (how & CALL_COPY) {
		uint32_t arg = (how & CALL_COPY_ARG) >> 2;
		uint64_t len = (how & CALL_COPY) == 3 ? 16 : r[argument_order[(arg + 1) & 7]];

		from = r[argument_order[arg]];
		slot->in_addr[0] = from;
		if ((how & CALL_COPY) == 1) {
			got = copy_string(window, (void *)from, WINDOW_STRING);
			slot->in_len[0] = got > 0 ? got : 0;
		} else if (len <= WINDOW_IN_SIZE && from < ARENA_BASE) {
			slot->in_len[0] = copy_bytes(window, (void *)from, len) < 0 ? 0 : len;
		}
	}
	if (how & CALL_STRING_ARG) {
		from = r[argument_order[(((how & CALL_STRING_ARG) >> 5) - 1) & 7]];
		slot->in_addr[1] = from;
		got = copy_string(window + WINDOW_IN_SIZE, (void *)from, WINDOW_STRING);
		slot->in_len[1] = got > 0 ? got : 0;
	}
}

long copy_out(struct stub_slot *slot)
{
	uint32_t count = slot->out_count;
	long ret = 0;

	for (uint32_t i = 0; i < count && i < MAX_WINDOW_OUT; i++)
		if (copy_bytes((void *)slot->out[i].addr, (uint8_t *)slot + WINDOW_OUT_OFFSET + slot->out[i].offset,
			       slot->out[i].len) < 0)
			ret = -EFAULT;
	slot->out_count = 0;
	return ret;
}
