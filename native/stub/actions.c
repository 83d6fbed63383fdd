/*
 * rt_sigaction of a process with one thread, from the actions in its slot (struct stub_actions): shells and compilers set
 * dozens for each program that they run. Freestanding C as the rest of the stub, where no TypeScript can run.
 *
 * The sentry takes over what has changed when the thread traps next, or before it sends the process a signal; and it stops
 * this before a signal is queued, whose fate a change would have to decide at once.
 */
#include "answers.h"

#define SYS_RT_SIGACTION 13
#define SIGKILL 9
#define SIGSTOP 19

int action_answer(struct stub_slot *slot, uint64_t nr)
{
	struct stub_actions *actions = &slot->actions;
	uint64_t *r = slot->regs;
	uint32_t sig = r[RDI];
	uint64_t set = r[RSI], old = r[RDX];
	struct stub_action action;

	if (nr != SYS_RT_SIGACTION || !__atomic_load_n(&actions->told, __ATOMIC_ACQUIRE))
		return 0;
	if (r[R10] != sizeof(action.mask) || sig - 1 >= SIGNALS || set > ARENA_BASE - sizeof(action) ||
	    old > ARENA_BASE - sizeof(action))
		return 0;
	if (set != 0 && (sig == SIGKILL || sig == SIGSTOP || copy_bytes(&action, (void *)set, sizeof(action)) < 0))
		return 0;
	/* Where this fails the sentry makes the whole call: Linux has changed the action by then. */
	if (old != 0 && copy_bytes((void *)old, &actions->action[sig - 1], sizeof(action)) < 0)
		return 0;
	if (set != 0) {
		action.flags &= ACTION_FLAGS;
		action.mask &= ~(1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1));
		actions->action[sig - 1] = action;
		__atomic_fetch_or(&actions->changed, 1UL << (sig - 1), __ATOMIC_RELEASE);
	}
	slot->result = 0;
	return 1;
}
