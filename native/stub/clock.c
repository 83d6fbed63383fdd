/*
 * The thread's own CPU clock: the host's, less what its thread had used when it was another one of the guest's
 * (COMMAND_REST). All other clocks the guest reads by itself.
 */
#include "answers.h"

#define SYS_CLOCK_GETTIME 228
#define CLOCK_THREAD_CPUTIME_ID 3
#define NS_PER_S 1000000000UL

uint64_t used_cpu(void)
{
	long time[2];

	call6(SYS_CLOCK_GETTIME, CLOCK_THREAD_CPUTIME_ID, (long)time, 0, 0, 0, 0);
	return time[0] * NS_PER_S + time[1];
}

int clock_answer(struct stub_slot *slot, uint64_t nr)
{
	uint64_t now, time[2];

	if (nr != SYS_CLOCK_GETTIME || (uint32_t)slot->regs[RDI] != CLOCK_THREAD_CPUTIME_ID)
		return 0;
	now = used_cpu() - slot->used;
	time[0] = now / NS_PER_S;
	time[1] = now % NS_PER_S;
	slot->result = copy_bytes((void *)slot->regs[RSI], time, sizeof(time)) < 0 ? -EFAULT : 0;
	return 1;
}
