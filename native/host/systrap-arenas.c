/*
 * Arenas of ended processes that the next forks get (native/host/systrap.c): to make one takes 40 µs, to unmap it 40. In C
 * because it is the driver, which collects the host's children, that knows when one may be used again: those of processes
 * that were killed wait until the host has reaped them, since until then they may still write.
 */
#include <errno.h>
#include <string.h>

#include "systrap.h"

#define SPARES 8

static struct spare {
	int pid, row, arena_fd;
} parting[SPARES], ready[SPARES];
static int parting_count, ready_count;

/* Row i, the only one that its process ever had, with its arena, is kept for another. 0, or -EAGAIN: not this one. */
int st_keep_arena(int i, int arena_fd)
{
	if (parting_count + ready_count >= SPARES)
		return -EAGAIN;
	parting[parting_count++] = (struct spare){ threads[i].pid, i, arena_fd };
	forget_cpu(i);
	threads[i].pid = 0;
	threads[i].tid = 0;
	return 0;
}

/* Process `pid` is gone for good; what it left in its slot is nobody else's to see. */
void part_arena(int pid)
{
	for (int n = 0; n < parting_count; n++) {
		struct spare spare = parting[n];

		if (spare.pid != pid)
			continue;
		parting[n] = parting[--parting_count];
		memset(slot_of(spare.row), 0, SLOT_SIZE);
		begin_row(spare.row, threads[spare.row].guest_slot);
		ready[ready_count++] = spare;
		return;
	}
}

/* A row with an arena whose slot it has mapped, at the place that `like` has in its arena, or -1. */
int st_take_arena(int like)
{
	if (ready_count == 0 || threads[ready[ready_count - 1].row].guest_slot != threads[like].guest_slot)
		return -1;
	return ready[--ready_count].row;
}

/* The arena of the row that st_take_arena has just returned. */
int st_taken_arena(void)
{
	return ready[ready_count].arena_fd;
}
